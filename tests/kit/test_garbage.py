"""A handle that only a reference cycle holds is released at the same step of every run."""

from __future__ import annotations

import gc

from tests.mutants.inline import InlineAdapter, InlineSender

from kvsender_spec.history.events import TransferReleased
from kvsender_spec.kit.run.execute import run_trace
from kvsender_spec.kit.run.garbage import collect, stepwise
from kvsender_spec.trace import Call, Setup, Step, Trace


class LeavesACycle(InlineSender):
    """abort() forgets its transfers in a list that holds itself."""

    def abort(self) -> None:
        super().abort()
        forgotten: list[object] = [part.handle for part in self.parts]
        forgotten.append(forgotten)
        for part in self.parts:
            part.handle = None
            part.state = "done"


def test_a_cycle_is_found_where_a_room_is_given_up() -> None:
    trace = Trace(Setup(((1,),)), (Step(Call.OPEN), Step(Call.SEND), Step(Call.ABORT), Step(Call.POLL)))
    for _ in range(5):
        run = run_trace(InlineAdapter(LeavesACycle), trace)
        assert [v.clause for v in run.observer.findings.violations][:1] == ["KS-4.2"]
        (released,) = (event for event in run.history.events if isinstance(event, TransferReleased))
        assert released.how == "last reference"


def test_the_collector_is_as_it_was() -> None:
    frozen = gc.get_freeze_count()
    with stepwise():
        assert not gc.isenabled()
        with stepwise():
            collect()
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() == frozen
