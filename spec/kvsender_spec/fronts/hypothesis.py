"""A sender as a state machine of hypothesis, which draws, shrinks, remembers and prints by itself.

    from kvsender_spec.fronts.hypothesis import state_machine

    TestMySender = state_machine(adapter).TestCase

The rules are the caller's calls, the faults that the transport can have, and what peers and transfers do. The first
clause that is broken ends an example with ``ClauseBroken``, whose class carries the clause's id, so that hypothesis
shrinks each clause for itself. A clause about a circumstance is not named here: ``kvsender check`` compares many runs
for that. A rule that makes no sense where the run stands does nothing.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from kvsender_spec.clauses import claimed
from kvsender_spec.faults import BASE_KINDS, PROGRAMMING_KINDS, RAISED_BY_TRANSPORT, TRANSPORT_KINDS, Fault, Kind, Point
from kvsender_spec.kit.adapter import Adapter, operation_of
from kvsender_spec.kit.parts import parts_of
from kvsender_spec.kit.run.execute import OVERLAP_CALLS, Run
from kvsender_spec.kit.search.walk import ROOMS, WORLDS
from kvsender_spec.observe.attribution import excused
from kvsender_spec.trace import Call, Misuse, Overlap, Progress, Refilled, Setup, Step

_NTHS: Final = st.integers(0, 2)


class ClauseBroken(AssertionError):
    """The sender breaks a clause of the contract. The message says which, what was expected and what was observed."""


@cache
def broken(clause: str) -> type[ClauseBroken]:
    """The class of the error for one clause; hypothesis tells failures apart by their class."""
    return type(f"{clause.replace('-', '').replace('.', '_')}Broken", (ClauseBroken,), {"__doc__": clause})


def setups(*, reads: bool = False) -> st.SearchStrategy[Setup]:
    """What there is before the first step: one or two rooms, one or two peers."""

    def of(world: tuple[int, int, bool]) -> st.SearchStrategy[Setup]:
        rooms, peers, shared = world
        return st.builds(
            Setup,
            chunks=st.lists(st.sampled_from(ROOMS), min_size=rooms, max_size=rooms).map(tuple),
            peers=st.just(peers),
            dummies=st.integers(0, 1),
            shared=st.just(shared),
            done_at_post=st.booleans(),
            drops_metadata=st.booleans(),
            silent=st.booleans(),
            renames=st.booleans(),
            refilled=st.sampled_from(tuple(Refilled)) if reads else st.just(Refilled.ALL),
        )

    return st.sampled_from(WORLDS).flatmap(of)


def _faults(*points: tuple[Point, tuple[Kind, ...]]) -> st.SearchStrategy[Fault | None]:
    strikes = [st.builds(Fault, st.just(point), st.sampled_from(kinds), _NTHS) for point, kinds in points]
    return st.none() | st.one_of(strikes)


_OWN: Final = PROGRAMMING_KINDS + BASE_KINDS
_SEND_FAULTS: Final = _faults((Point.MAKE, RAISED_BY_TRANSPORT + _OWN), (Point.POST, TRANSPORT_KINDS + _OWN))
_POLL_FAULTS: Final = _faults(
    (Point.CHECK, TRANSPORT_KINDS + _OWN),
    (Point.RELEASE, (Kind.REPOST_ACTIVE, Kind.BACKEND)),
    (Point.NOTIFY, (Kind.REMOTE_DISCONNECT, Kind.NOT_FOUND, Kind.BACKEND)),
)
_SLOTS: Final = st.integers(0, 1)
_PROGRESS: Final = st.sampled_from(tuple(Progress))


def _overlaps(call: Call, *points: Point) -> st.SearchStrategy[Overlap]:
    return st.builds(Overlap, st.sampled_from(OVERLAP_CALLS[call]), st.sampled_from(points), st.integers(0, 1))


def state_machine(adapter: Adapter) -> type[RuleBasedStateMachine]:
    """A state machine class for the adapter's sender; its ``TestCase`` is what pytest and unittest run.

    Raises LoadError, when it runs, for an adapter whose system or sender lacks a method.
    """
    ids = frozenset(clause.id for clause in claimed(adapter.profile))
    reads = operation_of(adapter) == "READ"

    class SenderMachine(RuleBasedStateMachine):
        run: Run | None = None
        seen = 0

        @initialize(setup=setups(reads=reads))
        def begin(self, setup: Setup) -> None:
            # Which worlds a system can be in is known when it has been opened, and not when the class is made.
            self.run = Run(adapter, replace(setup, renames=False) if parts_of(adapter).lacks(setup) else setup)
            for room in range(len(setup.chunks)):
                self.apply(Step(Call.OPEN, room))

        @rule(room=_SLOTS)
        def open(self, room: int) -> None:
            self.apply(Step(Call.OPEN, room))

        @rule(room=_SLOTS, fault=_SEND_FAULTS)
        def send(self, room: int, fault: Fault | None) -> None:
            self.apply(Step(Call.SEND, room, fault=fault))

        @rule(room=_SLOTS, misuse=st.sampled_from(tuple(Misuse)))
        def misuse(self, room: int, misuse: Misuse) -> None:
            self.apply(Step(Call.SEND, room, misuse=misuse))

        @rule(room=_SLOTS, progress=_PROGRESS, fault=_POLL_FAULTS)
        def poll(self, room: int, progress: Progress, fault: Fault | None) -> None:
            self.apply(Step(Call.POLL, room, progress, fault))

        @rule(room=_SLOTS, overlap=_overlaps(Call.SEND, Point.MAKE, Point.POST))
        def send_while_another_thread_calls(self, room: int, overlap: Overlap) -> None:
            self.apply(Step(Call.SEND, room, overlap=overlap))

        @rule(room=_SLOTS, progress=_PROGRESS, overlap=_overlaps(Call.POLL, Point.CHECK, Point.RELEASE, Point.NOTIFY))
        def poll_while_another_thread_calls(self, room: int, progress: Progress, overlap: Overlap) -> None:
            self.apply(Step(Call.POLL, room, progress, overlap=overlap))

        @rule(room=_SLOTS)
        def failure_exception(self, room: int) -> None:
            self.apply(Step(Call.FAILURE_EXCEPTION, room))

        @rule(room=_SLOTS)
        def abort(self, room: int) -> None:
            self.apply(Step(Call.ABORT, room))

        @rule(room=_SLOTS)
        def clear(self, room: int) -> None:
            self.apply(Step(Call.CLEAR, room))

        @rule(call=st.sampled_from((Call.KILL, Call.STOP, Call.RESTART)), peer=_SLOTS)
        def peer(self, call: Call, peer: int) -> None:
            self.apply(Step(call, peer))

        @rule(call=st.sampled_from((Call.WAIT, Call.WAIT_LONG)))
        def time_passes(self, call: Call) -> None:
            self.apply(Step(call))

        def apply(self, step: Step) -> None:
            if self.run is not None:
                self.run.apply(step)
                self.look()

        def look(self) -> None:
            """Raise for the first clause that is broken and claimed."""
            if self.run is None:
                return
            found = self.run.observer.findings.violations
            new, self.seen = found[self.seen :], len(found)
            for violation in new:
                if violation.clause in ids and not violation.after and not excused(violation, ids):
                    said = f"{violation.clause}: expected {violation.expected}; observed {violation.observed}"
                    raise broken(violation.clause)(said)

        def teardown(self) -> None:
            if self.run is not None:
                self.run.finish()
                self.look()

    class ReaderMachine(SenderMachine):
        @rule(room=_SLOTS, progress=_PROGRESS)
        def refill(self, room: int, progress: Progress) -> None:
            self.apply(Step(Call.REFILL, room, progress))

    machine = ReaderMachine if reads else SenderMachine
    machine.__name__ = machine.__qualname__ = f"{type(adapter).__name__}Machine"
    return machine


__all__: Final = ["ClauseBroken", "setups", "state_machine"]
