"""Readers that were written from the documentation alone, by somebody who had not seen the kit.

Right ones, which no verdict may fail; wrong ones, each with one bug, of which the report has to name the clause.
``python -m tests.foreign.blame`` prints what the reports say of all of them.
"""

from __future__ import annotations

import pytest
from tests.budget import share
from tests.foreign import RIGHT, RIGHT_READERS, WRONG, WRONG_READERS

from kvsender_spec.clauses import CLAUSES
from kvsender_spec.faults import Fault, Kind, Point
from kvsender_spec.kit.adapter import Adapter
from kvsender_spec.kit.check import Budget, check
from kvsender_spec.kit.run.execute import run_trace
from kvsender_spec.kit.search.whole import sweep_of
from kvsender_spec.observe.verdict import Outcome
from kvsender_spec.trace import Call, Setup, Step, Trace

SWEEP = sweep_of("READ")
IN_SHORT = ("restless_last", "resurrects", "lease_lost_is_fine", "handshake_once")
"""A few, for every test run; the command takes all."""


def short(adapter: Adapter) -> str:
    """Its name without the prefix that all have."""
    return adapter.name.removeprefix("foreign-read-")


READERS = {short(adapter): adapter for adapter in (*RIGHT_READERS, *(adapter for adapter, _ in WRONG_READERS))}


@pytest.mark.parametrize(("number", "adapter"), list(enumerate(RIGHT_READERS)), ids=[a.name for a in RIGHT_READERS])
def test_a_right_reader_is_failed_by_no_clause(number: int, adapter: Adapter) -> None:
    traces, runs = share(number, SWEEP, 8)
    report = check(adapter, sweep=traces, examples=runs)
    assert [(v.clause.id, v.text, v.evidence) for v in report.verdicts if v.outcome.failed] == []
    assert report.errors == ()
    unseen = {v.clause.id for v in report.verdicts if v.outcome is Outcome.INCONCLUSIVE}
    assert not unseen or len(traces) < len(SWEEP)


@pytest.mark.parametrize(("adapter", "own"), [pair for pair in WRONG_READERS if short(pair[0]) in IN_SHORT])
def test_a_wrong_reader_is_blamed_on_its_clause(adapter: Adapter, own: str) -> None:
    report = check(adapter, examples=Budget.QUICK.examples)
    assert own in {verdict.clause.id for verdict in report.verdicts if verdict.outcome.failed}
    assert report.exit_code == 1


def test_each_has_a_name_of_its_own_and_a_clause() -> None:
    names = [
        adapter.name for adapter in (*RIGHT, *RIGHT_READERS, *(adapter for adapter, _ in (*WRONG, *WRONG_READERS)))
    ]
    assert len(set(names)) == len(names)
    assert {own for _, own in WRONG_READERS} <= {clause.id for clause in CLAUSES}
    assert set(IN_SHORT) <= set(READERS)


def test_an_error_of_the_transport_may_be_raised_from_the_first_one() -> None:
    """The transport has raised both, and the first one became the other's cause only afterwards (KS-2.3)."""
    cut = Step(Call.SEND, 1, fault=Fault(Point.POST, Kind.REMOTE_DISCONNECT, 1))
    setup = Setup(((1,), (1,)), peers=2, drops_metadata=True, operation="READ")
    steps = (Step(Call.OPEN), Step(Call.OPEN, 1), cut, Step(Call.SEND), Step(Call.FAILURE_EXCEPTION))
    assert run_trace(READERS["restless_chain"], Trace(setup, steps)).observer.findings.violations == []
    last, *_ = run_trace(READERS["restless_last"], Trace(setup, steps)).observer.findings.violations
    assert last.clause == "KS-2.3"
    assert last.expected.removeprefix("the first cause, ") in last.observed, "their words are the same"
    assert last.observed.endswith("which is another object, and no __cause__ leads to the first")
