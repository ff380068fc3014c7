"""Every broken sender is killed by the clause that it is meant to break; the correct ones pass.

One seed each: ``make kill-matrix`` hunts with ten, and says which clause catches which mutant.
"""

from __future__ import annotations

import re

import pytest
from tests.budget import RUNS
from tests.mutants.hunt import hunt, sweep
from tests.mutants.needs_nixl import adapter as needs_nixl
from tests.mutants.registry import CORRECT, MUTANTS, Mutant
from tests.mutants.seed import AfterTheFix, SeedAdapter

from kvsender_spec.clauses import CLAUSES
from kvsender_spec.faults import Fault, Kind, Point
from kvsender_spec.history.header import Ability
from kvsender_spec.kit.adapter import Adapter
from kvsender_spec.kit.check import Outcome, check
from kvsender_spec.kit.parts import abilities
from kvsender_spec.kit.run.execute import run_trace
from kvsender_spec.kit.search.sweep import SWEEP
from kvsender_spec.trace import Call, Progress, Setup, Step, Trace

SEED = 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # one whose worker is ended
@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_the_clause_that_a_broken_sender_breaks_is_blamed(mutant: Mutant) -> None:
    found = hunt(mutant, seed=SEED)
    assert found.killed, f"{mutant.name} survived {found.runs} runs; broken first: {sorted(found.first_run)}"


def test_hunts_that_share_one_sweep_find_what_each_finds_alone() -> None:
    (mutant,) = (mutant for mutant in MUTANTS if mutant.name == "ClearForgets")
    shared = sweep(mutant, to_the_end=True)
    hunts = [hunt(mutant, seed=seed, examples=20, to_the_end=True, swept=shared) for seed in (SEED, SEED, SEED + 1)]
    alone = hunt(mutant, seed=SEED, examples=20, to_the_end=True)
    facts = [(found.runs, found.first_run, found.example) for found in (*hunts, alone)]
    assert facts[0] == facts[1] == facts[3]
    assert hunts[2].runs == alone.runs
    assert shared.tally.runs == len(SWEEP)


def test_every_clause_has_a_mutant_and_there_are_enough_of_both_styles() -> None:
    assert {mutant.breaks for mutant in MUTANTS} == {clause.id for clause in CLAUSES}
    assert len(MUTANTS) >= 40
    assert sum(mutant.threads for mutant in MUTANTS) >= 15
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_a_mutant_says_whose_bug_it_was(mutant: Mutant) -> None:
    assert re.search(r"Bugs? B\d\d|of the (field )?catalogue", mutant.story), mutant.story


def test_a_module_that_needs_nixl_is_caught() -> None:
    (verdict,) = check(needs_nixl, examples=1, sweep=(), clauses=["KS-1.5"]).verdicts
    assert verdict.outcome is Outcome.FAIL
    assert verdict.evidence is not None
    assert "nixl" in verdict.evidence.violation.observed


@pytest.mark.parametrize("adapter", CORRECT, ids=[adapter.name for adapter in CORRECT])
def test_a_correct_sender_passes_everything(adapter: Adapter) -> None:
    report = check(adapter, examples=RUNS)
    assert report.with_outcome(Outcome.FAIL, Outcome.FAIL_AFTER) == ()
    assert report.exit_code == 0
    can = abilities(adapter)
    lacks = {"KS-1.4"} if Ability.WORKERS in can else {"KS-7.1"}
    lacks |= {"KS-1.3", "KS-1.4", "KS-7.2"} if Ability.BACKGROUND in can else set()
    lacks |= {"KS-6.4"} if Ability.TARGET_ABORTS not in can else set()
    beside = {verdict.clause.id for verdict in report.verdicts if verdict.outcome is not Outcome.PASS}
    assert beside == lacks


def test_a_caller_that_goes_on_after_the_escape_gets_success_with_a_chunk_missing() -> None:
    """The seed's second hole: its page count has moved on, so the room completes without the lost chunk."""
    steps = (
        Step(Call.OPEN),
        Step(Call.SEND, fault=Fault(Point.POST, Kind.NOT_FOUND)),
        Step(Call.SEND),
        Step(Call.POLL, progress=Progress.ALL),
    )
    run = run_trace(SeedAdapter(AfterTheFix), Trace(Setup(chunks=((1, 1),)), steps))
    after: dict[str, str] = {}
    for violation in run.observer.findings.violations:
        after.setdefault(violation.clause, violation.after)
    assert (after["KS-1.1"], after["KS-1.2"]) == ("", "")
    assert after["KS-3.1"] in ("KS-1.1", "KS-1.2")
