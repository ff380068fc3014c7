"""The scenarios of the real layer: what happens in each, and which clauses it is there for.

A scenario that does not come out as it plans is an error. ``clauses`` are those that it is there for: one of them
that it did not observe makes the scenario an error, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from kvsender_nixl.lab import actions, actions_read
from kvsender_nixl.lab.real_world import RealWorld
from kvsender_nixl.lab.scenario_run import ScenarioRun
from kvsender_nixl.side import SenderOptions
from kvsender_spec.contract import Operation

PATIENT: Final = SenderOptions()
SILENCE: Final = SenderOptions(transfer_timeout_s=0.5, drain_timeout_s=0.3)
"""For peers that are silent on purpose. What works works well within it."""


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    about: str
    clauses: tuple[str, ...]
    run: Callable[[ScenarioRun, RealWorld], None]
    options: SenderOptions = PATIENT


_ALWAYS: Final = ("KS-2.1", "KS-3.1", "KS-3.4", "KS-4.2", "KS-4.3", "KS-6.1")
_WELL: Final = ("KS-2.1", "KS-2.7", "KS-3.1", "KS-3.4", "KS-4.1", "KS-4.2", "KS-4.3", "KS-5.1", "KS-5.2", "KS-6.1")
_FAILS: Final = ("KS-1.1", "KS-1.2", "KS-2.1", "KS-2.2", "KS-2.3", "KS-2.4", "KS-2.6", "KS-2.8", "KS-4.1", "KS-4.3")

_SENDER: Final[tuple[Scenario, ...]] = (
    Scenario(
        "one-peer-contiguous",
        "rooms of 1, 7, 64 and 512 pages at once, in order",
        (*_WELL, "KS-3.3"),
        partial(actions.one_peer, scattered=False),
    ),
    Scenario(
        "one-peer-scattered",
        "the same, page ids permuted on both sides",
        _WELL,
        partial(actions.one_peer, scattered=True),
    ),
    Scenario(
        "three-peers-contiguous",
        "the same to three peers and a dummy",
        _WELL,
        partial(actions.three_peers, scattered=False),
    ),
    Scenario(
        "three-peers-scattered", "the same, page ids permuted", _WELL, partial(actions.three_peers, scattered=True)
    ),
    Scenario("no-pages", "rooms without pages", ("KS-3.2", "KS-3.3", *_ALWAYS), actions.no_pages),
    Scenario("out-of-order", "the peer served first finishes last", ("KS-3.6", *_ALWAYS), actions.out_of_order),
    Scenario("misuse", "the caller's mistakes", ("KS-8.1", *_ALWAYS), actions.misuse),
    Scenario(
        "killed-before-post",
        "SIGKILL before the first post",
        (*_FAILS, "KS-2.5", "KS-4.4", "KS-5.4", "KS-6.1", "KS-6.2"),
        actions.killed_before_post,
    ),
    Scenario(
        "killed-between-chunks", "SIGKILL between chunks", (*_FAILS, "KS-2.5", "KS-4.4"), actions.killed_between_chunks
    ),
    Scenario("killed-in-flight", "SIGKILL when some bytes have landed", _FAILS, actions.killed_in_flight),
    Scenario(
        "one-of-three-killed",
        "SIGKILL of one of three peers",
        (*_FAILS, "KS-5.4", "KS-6.1", "KS-6.2"),
        actions.one_of_three_killed,
    ),
    Scenario(
        "unreachable",
        "dead before the first connection",
        ("KS-1.1", "KS-2.3", "KS-2.4", "KS-2.5", "KS-6.2"),
        actions.unreachable,
    ),
    Scenario(
        "stopped",
        "SIGSTOP until the deadline, then SIGCONT: the bytes land late",
        ("KS-2.1", "KS-2.3", "KS-2.4", "KS-2.8", "KS-3.4", "KS-4.1", "KS-4.4", "KS-5.4", "KS-6.1", "KS-6.2"),
        actions.stopped,
        SILENCE,
    ),
    Scenario(
        "aborted-in-flight",
        "abort() in flight; the transfers settle in time",
        ("KS-2.2", "KS-2.3", "KS-2.4", "KS-2.5", "KS-2.8", "KS-4.1", "KS-5.1", "KS-5.4", "KS-6.1"),
        actions.aborted_in_flight,
    ),
    Scenario(
        "aborted-and-silent",
        "abort() in flight; they do not, until the report",
        ("KS-2.2", "KS-2.3", "KS-2.5", "KS-4.1", "KS-4.4", "KS-5.1", "KS-6.1"),
        actions.aborted_and_silent,
        SILENCE,
    ),
    Scenario(
        "cleared-in-flight",
        "clear() in flight, and the same room id again",
        ("KS-4.3", "KS-5.2", "KS-5.3", "KS-5.4", "KS-6.1"),
        actions.cleared_in_flight,
    ),
    Scenario(
        "restarted",
        "SIGKILL, and a new process under the old name",
        (*_FAILS, "KS-5.4", "KS-6.2", "KS-6.3"),
        actions.restarted,
    ),
    Scenario(
        "restarted-unnoticed",
        "the same, registered before it was noticed",
        (
            *(clause for clause in _FAILS if clause != "KS-2.8"),
            "KS-6.3",
        ),  # nixlNotFoundError alone says not whose it is
        actions.restarted_unnoticed,
    ),
)

_SENDER_ALONE: Final = ("one-peer-contiguous", "killed-before-post")
"""What these show of a reader others show as well."""


def _of_a_reader() -> Iterator[Scenario]:
    """What is done to decode sides is done to holders, too."""
    for scenario in _SENDER:
        if scenario.name not in _SENDER_ALONE:
            yield replace(scenario, name=f"read-{scenario.name}")


_READER: Final[tuple[Scenario, ...]] = (
    *_of_a_reader(),
    Scenario(
        "read-longer-grant",
        "the last pages of a longer grant are meant",
        ("KS-3.1", "KS-3.2", *_ALWAYS),
        actions_read.longer_grant,
    ),
    Scenario(
        "read-refilled-before",
        "the holder refills its pages before they are read",
        ("KS-2.3", "KS-2.4", "KS-2.8", "KS-3.1", "KS-5.4", *_ALWAYS),
        actions_read.refilled_before,
    ),
    Scenario(
        "read-refilled-in-flight",
        "the holder refills them while they are read",
        ("KS-2.3", "KS-2.4", "KS-2.8", *_ALWAYS),
        actions_read.refilled_in_flight,
    ),
    Scenario(
        "read-stopped-and-refilled",
        "SIGSTOP until the deadline, then SIGCONT and a refill: another request's bytes land late",
        ("KS-2.8", "KS-4.4", "KS-5.4", "KS-6.2", *_ALWAYS),
        actions_read.stopped_and_refilled,
        SILENCE,
    ),
)

SCENARIOS: Final[Mapping[Operation, tuple[Scenario, ...]]] = {"WRITE": _SENDER, "READ": _READER}
"""By what the subject initiates."""
