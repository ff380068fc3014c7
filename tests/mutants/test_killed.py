"""Every broken sender is killed on ten of ten seeds, by the clause it is meant to break; the correct one passes."""

from __future__ import annotations

import pytest
from tests.mutants.broken import BROKEN
from tests.mutants.clause_by_clause import ADAPTERS, ONE_FOR_EACH
from tests.mutants.inline import InlineAdapter, InlineSender
from tests.mutants.needs_nixl import adapter as needs_nixl
from tests.mutants.seed import AfterTheFix, BeforeTheFix, SeedAdapter

from kvsender_spec.clauses import CLAUSES
from kvsender_spec.faults import Fault, Kind, Point
from kvsender_spec.kit.adapter import Adapter
from kvsender_spec.kit.check import Outcome, check
from kvsender_spec.kit.drive import Run
from kvsender_spec.trace import Call, Progress, Scene, Step

SEEDS = range(10)
PATIENCE = 2000
"""Runs to try. A check of some clauses ends as soon as they are broken, so only a survivor costs all of them."""
MUTANTS: list[tuple[Adapter, str]] = [
    (SeedAdapter(BeforeTheFix), BeforeTheFix.breaks),
    (SeedAdapter(AfterTheFix), AfterTheFix.breaks),
    *((InlineAdapter(mutant), str(vars(mutant)["breaks"])) for mutant in BROKEN),
]


@pytest.mark.parametrize(("adapter", "clause"), MUTANTS, ids=[adapter.name for adapter, _ in MUTANTS])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_broken_sender_is_killed_by_the_clause_it_breaks(adapter: Adapter, clause: str, seed: int) -> None:
    report = check(adapter, seed=seed, examples=PATIENCE, clauses=[clause])
    (verdict,) = report.verdicts
    assert verdict.outcome is Outcome.FAIL, f"{adapter.name} survived seed {seed}: {verdict}"
    assert verdict.counterexample is not None
    assert len(verdict.counterexample.trace.steps) <= 8
    assert report.exit_code == 1


@pytest.mark.parametrize("adapter", ADAPTERS, ids=[adapter.name for adapter in ADAPTERS])
@pytest.mark.parametrize("seed", range(3))
def test_each_clause_catches_the_sender_that_breaks_it(adapter: InlineAdapter, seed: int) -> None:
    clause = str(vars(adapter.sender_class)["breaks"])
    (verdict,) = check(adapter, seed=seed, examples=PATIENCE, clauses=[clause]).verdicts
    assert verdict.outcome is Outcome.FAIL, f"{adapter.name} survived seed {seed}: {verdict}"


def test_a_module_that_needs_nixl_is_caught() -> None:
    (verdict,) = check(needs_nixl, examples=1, clauses=["KS-1.5"]).verdicts
    assert verdict.outcome is Outcome.FAIL
    assert verdict.counterexample is not None
    assert "nixl" in verdict.counterexample.violation.observed


def test_every_clause_that_is_judged_has_a_sender_that_it_catches() -> None:
    caught = {clause for _, clause in MUTANTS} | {str(vars(mutant)["breaks"]) for mutant in ONE_FOR_EACH} | {"KS-1.5"}
    assert caught == {clause.id for clause in CLAUSES} - {"KS-7.1", "KS-7.2"}


def test_the_small_sender_passes_everything() -> None:
    report = check(InlineAdapter(InlineSender))
    assert report.with_outcome(Outcome.FAIL) == ()
    assert report.exit_code == 0
    assert len(report.with_outcome(Outcome.PASS)) == 32


def test_a_caller_that_goes_on_after_the_escape_gets_success_with_a_chunk_missing() -> None:
    """The seed's second hole: its page count has moved on, so the room completes without the lost chunk."""
    run = Run(SeedAdapter(AfterTheFix), Scene(chunks=((1, 1),)))
    run.apply(Step(Call.OPEN))
    run.apply(Step(Call.SEND, fault=Fault(Point.POST, Kind.NOT_FOUND)))
    assert {violation.clause for violation in run.findings.violations} == {"KS-1.1", "KS-1.2"}
    run.findings.violations.clear()
    run.over = False
    run.apply(Step(Call.SEND))
    run.apply(Step(Call.POLL, progress=Progress.ALL))
    assert "KS-3.1" in {violation.clause for violation in run.findings.violations}
