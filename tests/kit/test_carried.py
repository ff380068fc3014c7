"""A fault at a post strikes a sender that posts later than in send(), too."""

from __future__ import annotations

import pytest
from tests.foreign import right_kinds
from tests.mutants.inline import adapter as inline

from kvsender_spec.faults import Fault, Kind, Point
from kvsender_spec.history.events import CallEnded, ErrorSeen, History, TransferMade, TransferPosted
from kvsender_spec.kit.adapter import Adapter
from kvsender_spec.kit.run.execute import run_trace
from kvsender_spec.trace import Call, Progress, Setup, Step, Trace

OPEN, SEND, POLL, CLEAR = (Step(call) for call in (Call.OPEN, Call.SEND, Call.POLL, Call.CLEAR))
LATER = right_kinds.deferred
"""It posts in the poll() that comes next."""


def refused(point: Point) -> Step:
    return Step(Call.SEND, fault=Fault(point, Kind.BACKEND))


def errors_within(history: History) -> list[str]:
    """The calls of the caller during which the transport has raised."""
    calls = {event.of: event for event in history.events if isinstance(event, CallEnded)}
    assert calls
    whose = {event.seq: str(getattr(event, "what", "")) for event in history.events}
    raised = [e for e in history.events if isinstance(e, (TransferMade, TransferPosted)) and e.error is not None]
    return [whose[event.call] for event in raised if event.call is not None]


@pytest.mark.parametrize("point", [Point.MAKE, Point.POST])
@pytest.mark.parametrize(("adapter", "within"), [(inline, "send"), (LATER, "poll")], ids=["in send()", "in poll()"])
def test_it_strikes_where_the_chunk_is_posted(adapter: Adapter, within: str, point: Point) -> None:
    history = run_trace(adapter, Trace(Setup(((1,),)), (OPEN, refused(point), POLL, POLL))).history
    assert errors_within(history) == [within]


def test_it_strikes_once_and_only_its_own_room() -> None:
    setup = Setup(((1, 1),))
    ended = (OPEN, refused(Point.POST), CLEAR, OPEN, SEND, SEND, Step(Call.POLL, progress=Progress.ALL))
    history = run_trace(LATER, Trace(setup, ended)).history
    assert errors_within(history) == [], "its room was over before anything was posted"
    twice = run_trace(LATER, Trace(setup, (OPEN, refused(Point.MAKE), POLL, SEND, POLL))).history
    assert errors_within(twice) == ["poll"]


def test_a_call_meets_one_fault_at_a_time() -> None:
    check = Step(Call.POLL, fault=Fault(Point.CHECK, Kind.TYPE_ERROR))
    steps = (OPEN, SEND, POLL, refused(Point.POST), check, POLL)
    history = run_trace(LATER, Trace(Setup(((1, 1),)), steps)).history
    seen = [event.type for event in history.events if isinstance(event, ErrorSeen)]
    assert seen[:1] in (["TypeError"], ["nixlBackendError"])
    calls = [event.call for event in history.events if isinstance(event, ErrorSeen)]
    assert len(set(calls)) == len(calls)
