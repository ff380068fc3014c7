"""A program's own error may leave the call in which the transport has answered it, and no later one."""

from __future__ import annotations

from tests.foreign import right_kinds
from tests.mutants.inline import InlineAdapter, InlineSender

from kvsender_spec.contract import KVPoll
from kvsender_spec.faults import Fault, Kind, Point
from kvsender_spec.kit.run.execute import run_trace
from kvsender_spec.trace import Call, Setup, Step, Trace

CHECK = Step(Call.POLL, fault=Fault(Point.CHECK, Kind.KEY_ERROR))
OPEN, SEND, POLL, ABORT = (Step(call) for call in (Call.OPEN, Call.SEND, Call.POLL, Call.ABORT))


class RaisesItLater(InlineSender):
    """Keeps the error, and lets the next poll() raise it."""

    def poll(self) -> KVPoll:
        if isinstance(self.cause, KeyError):
            raise self.cause
        return super().poll()


def test_one_that_is_raised_by_a_later_call_escapes() -> None:
    run = run_trace(InlineAdapter(RaisesItLater), Trace(Setup(((1,),)), (OPEN, SEND, CHECK, POLL)))
    assert [violation.clause for violation in run.observer.findings.violations][:1] == ["KS-1.1"]


def test_one_at_another_rooms_transfer_goes_through() -> None:
    other = [Step(step.call, room=1) for step in (OPEN, SEND, POLL, ABORT)]
    run = run_trace(right_kinds.pump, Trace(Setup(((1,), (1,))), (OPEN, *other, ABORT, CHECK)))
    assert run.observer.findings.violations == []
