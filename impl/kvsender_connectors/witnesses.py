"""Findings that were known before, each with the shortest history that shows it. A check replays them one by one.

The exploration finds the shortest trace of a clause, which is often another one; these say of a certain behaviour
whether a release has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kvsender_spec.faults import Fault, Kind, Point
from kvsender_spec.trace import Call, Progress, Scene, Step, Trace


@dataclass(frozen=True, slots=True)
class Witness:
    what: str
    clauses: tuple[str, ...]
    """It has been shown when one of these breaks."""
    trace: Trace
    shows: frozenset[str]
    """The connectors that are known to do it; every other one is expected not to."""
    at_end: bool = False
    """It shows only in the end of the run."""


def _history(*steps: Step, scene: Scene | None = None) -> Trace:
    return Trace(scene or Scene(), steps)


_OPEN: Final = Step(Call.OPEN)
_SEND: Final = Step(Call.SEND)
_ABORT: Final = Step(Call.ABORT)
_CLEAR: Final = Step(Call.CLEAR)
_POLL: Final = Step(Call.POLL)
_FAILURE: Final = Step(Call.FAILURE_EXCEPTION)
_DONE: Final = Step(Call.POLL, progress=Progress.ALL)
"""Twice where a sender may post a chunk in two transfers, one after the other."""
_CUT: Final = Step(Call.SEND, fault=Fault(Point.POST, Kind.REMOTE_DISCONNECT))
_CUT_LATER: Final = Step(Call.POLL, fault=Fault(Point.CHECK, Kind.REMOTE_DISCONNECT))

WITNESSES: Final = (
    Witness(
        "a disconnect at the post leaves send() as an exception",
        ("KS-1.1",),
        _history(_OPEN, _CUT),
        frozenset({"sglang-0.5.11"}),
    ),
    Witness(
        "a disconnect at a check leaves poll() as an exception",
        ("KS-1.1",),
        _history(_OPEN, _SEND, _CUT_LATER),
        frozenset({"sglang-0.5.11"}),
    ),
    Witness(
        "a peer that is not found leaves send() as an exception",
        ("KS-1.1",),
        _history(_OPEN, Step(Call.SEND, fault=Fault(Point.MAKE, Kind.NOT_FOUND))),
        frozenset({"sglang-0.5.11", "seed"}),
    ),
    Witness(
        "Success is reported after an abort",
        ("KS-2.2",),
        _history(_OPEN, _SEND, _ABORT, _DONE),
        frozenset({"sglang-0.5.11", "sglang-0.5.12"}),
    ),
    Witness(
        "a peer that stays silent keeps the room open for ever",
        ("KS-3.4",),
        _history(_OPEN, _SEND, scene=Scene(silent=True)),
        frozenset({"sglang-0.5.11", "seed", "sglang-0.5.12", "sglang-0.5.23"}),
        at_end=True,
    ),
    Witness(
        "a peer that stays silent keeps a room of another peer from being posted",
        ("KS-6.2",),
        _history(
            _OPEN,
            Step(Call.OPEN, 1),
            _SEND,
            Step(Call.STOP),
            Step(Call.SEND, 1),
            scene=Scene(chunks=((1,), (1,)), peers=2, shared=False),
        ),
        frozenset({"sglang-0.5.12", "sglang-0.5.23"}),
        at_end=True,
    ),
    Witness(
        "the last chunk of a dense model takes no aux data along",
        ("KS-3.1",),
        _history(_OPEN, _SEND, _DONE),
        frozenset({"sglang-0.5.12"}),
    ),
    Witness(
        "the first cause is lost",
        ("KS-2.3",),
        _history(_OPEN, _SEND, _CUT_LATER, _FAILURE),
        frozenset({"sglang-0.5.23"}),
    ),
    Witness(
        "a later abort() takes the place of the first cause",
        ("KS-5.1",),
        _history(_OPEN, _SEND, _CUT_LATER, _ABORT, _FAILURE),
        frozenset({"sglang-0.5.23", "mooncake-0.5.23"}),
    ),
    Witness(
        "the second failure_exception() blames another rank",
        ("KS-2.4",),
        _history(_OPEN, _ABORT, _POLL, _FAILURE, _FAILURE),
        frozenset({"sglang-0.5.23", "mooncake-0.5.23"}),
    ),
    Witness(
        "a late abort() turns Success into Failed",
        ("KS-5.1", "KS-2.1"),
        _history(_OPEN, _SEND, _DONE, _DONE, _ABORT, _POLL),
        frozenset({"sglang-0.5.23", "mooncake-0.5.23"}),
    ),
    Witness(
        "the failure of a cleared room fails the next room of its number",
        ("KS-5.4",),
        _history(_OPEN, _ABORT, _CLEAR, _OPEN, _SEND, _DONE, _DONE),
        frozenset({"sglang-0.5.23", "mooncake-0.5.23"}),
    ),
)
