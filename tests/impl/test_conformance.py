"""The reference sender passes every clause that the scripted layer can judge. ``make soak`` tries more seeds."""

from __future__ import annotations

import pytest

from kvsender_nixl.adapter import adapter, latch
from kvsender_spec.clauses import CLAUSES, Level, claimed
from kvsender_spec.kit.check import Outcome, check
from kvsender_spec.machine import Profile


@pytest.mark.parametrize("seed", range(2))
def test_the_reference_sender_passes_everything_that_can_be_judged(seed: int) -> None:
    report = check(adapter, seed=seed)
    assert report.with_outcome(Outcome.FAIL) == ()
    passed = {verdict.clause.id for verdict in report.with_outcome(Outcome.PASS)}
    assert passed == {clause.id for clause in CLAUSES} - {"KS-7.1"}, "it has no workers"
    assert sum(verdict.clause.level is Level.MUST for verdict in report.with_outcome(Outcome.PASS)) >= 24
    assert report.exit_code == 0


@pytest.mark.parametrize("seed", range(1))
def test_the_latch_profile_passes_what_it_claims(seed: int) -> None:
    report = check(latch, seed=seed)
    assert report.with_outcome(Outcome.FAIL) == ()
    passed = {verdict.clause.id for verdict in report.with_outcome(Outcome.PASS)}
    assert passed == {clause.id for clause in claimed(Profile.LATCH)}
