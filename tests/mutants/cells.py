"""Which cells of the table the sweep reaches: state x call, and state x call x point x kind of fault.

A cell counts where the room was in exactly one state before the step, and where the fault struck.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final, TypeAlias

from tests.mutants.hunt import played

from kvsender_spec.faults import NONSENSE, RAISED_BY_TRANSPORT, TRANSPORT_KINDS, Fault, Kind, Point
from kvsender_spec.history.events import AnyEvent, ErrorSeen, TransferChecked, TransferPosted
from kvsender_spec.kit.adapter import Adapter
from kvsender_spec.kit.run.execute import Run
from kvsender_spec.machine import Input, State, rows_for
from kvsender_spec.trace import Call

Cell: TypeAlias = tuple[State, Call, Point | None, Kind | None]
INPUTS: Final = {
    Call.SEND: Input.SEND_NOTHING,
    Call.POLL: Input.OBSERVE,
    Call.FAILURE_EXCEPTION: Input.FAILURE_EXCEPTION,
    Call.ABORT: Input.ABORT,
    Call.CLEAR: Input.CLEAR,
}
"""A call of the caller, and an input of the table that it always is, whatever the transport answers."""


def wanted() -> list[Cell]:
    """Every pair of a state and a call that the table decides, and every fault that can strike in it."""
    calls = [(state, call) for state in State for call, what in INPUTS.items() if rows_for(state, what)]
    calls.remove((State.DONE, Call.SEND))  # no chunk is left
    faults: list[Cell] = [(State.SENDING, Call.POLL, Point.CHECK, kind) for kind in TRANSPORT_KINDS]
    for state in (State.IDLE, State.SENDING):
        faults += [(state, Call.SEND, Point.MAKE, kind) for kind in RAISED_BY_TRANSPORT]
        faults += [(state, Call.SEND, Point.POST, kind) for kind in TRANSPORT_KINDS]
    return [*((state, call, None, None) for state, call in calls), *faults]


def reached(adapter: Adapter) -> Counter[Cell]:
    """How often the sweep reaches each cell with a sender, or a reader."""
    found: Counter[Cell] = Counter()
    for trace in played(adapter):
        run = Run(adapter, trace.setup)
        for step in trace.steps:
            room = run.room_of(step.room, step.opening) if step.call in INPUTS else None
            states = {possible.state for possible in room.view.oracle.possible} if room is not None else set()
            taken, seen = len(run.steps), len(run.history.events)
            run.apply(step)
            if len(run.steps) == taken or len(states) != 1 or step.misuse is not None:
                continue
            (state,) = states
            if step.fault is None:
                found[state, step.call, None, None] += 1
            elif _struck(step.fault, run.history.events[seen:]):
                found[state, step.call, step.fault.point, step.fault.kind] += 1
        run.finish()
    return found


def _struck(fault: Fault, events: Iterable[AnyEvent]) -> bool:
    """The sender was given what the fault injects."""
    answer = {Kind.RETURNS_ERR: "ERR", Kind.RETURNS_NONSENSE: NONSENSE}.get(fault.kind)
    for event in events:
        if isinstance(event, ErrorSeen) and event.type == fault.kind.value:
            return True
        if answer is not None and isinstance(event, (TransferPosted, TransferChecked)) and event.answer == answer:
            return True
    return False
