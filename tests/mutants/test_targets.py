"""Each broken target is caught by its own clause, by the sweep alone; right ones conform."""

from __future__ import annotations

from collections import Counter

import pytest
from tests.mutants.inline_target import InlineTargetAdapter
from tests.mutants.targets import RIGHT_TARGETS, TARGET_MUTANTS, TargetMutant

from kvsender_spec.clauses import TARGET_CLAUSES, claimed
from kvsender_spec.kit.check import check
from kvsender_spec.machine import Profile
from kvsender_spec.observe.verdict import Outcome, Report

NOT_FIRST = {"DropsTheBatch": "KS-9.15: what is lost beside a bad notification includes the proof of a room"}
"""Mutants whose own clause comes second, with the reason."""


def failing(report: Report) -> list[str]:
    return [verdict.clause.id for verdict in report.verdicts if verdict.outcome.failed]


@pytest.mark.parametrize("mutant", TARGET_MUTANTS, ids=lambda mutant: f"{mutant.name}-{mutant.adapter.operation}")
def test_the_sweep_alone_blames_the_right_clause(mutant: TargetMutant) -> None:
    report = check(mutant.adapter, examples=0)
    assert mutant.breaks in failing(report)
    assert report.errors == ()
    if mutant.name not in NOT_FIRST:
        assert report.groups[0].cause.clause.id == mutant.breaks


@pytest.mark.parametrize("adapter", RIGHT_TARGETS, ids=lambda adapter: adapter.name)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_right_target_conforms(adapter: InlineTargetAdapter, seed: int) -> None:
    report = check(adapter, seed=seed, examples=100)
    assert failing(report) == []
    assert report.exit_code == 0
    left = {verdict.clause.id for verdict in report.verdicts if verdict.outcome is Outcome.NOT_APPLICABLE}
    lacking = {"KS-9.3"} if adapter.operation == "WRITE" else set()
    assert left == lacking | (set() if adapter.side.asks_again else {"KS-9.16"})


def test_every_clause_of_a_target_has_a_mutant() -> None:
    broken = Counter(mutant.breaks for mutant in TARGET_MUTANTS)
    assert set(broken) == {clause.id for clause in TARGET_CLAUSES}
    assert len(TARGET_MUTANTS) >= 16


def test_a_smaller_profile_claims_less() -> None:
    latch, quiescent, full = ({clause.id for clause in claimed(profile, "target")} for profile in Profile)
    assert latch < quiescent < full == {clause.id for clause in TARGET_CLAUSES}
