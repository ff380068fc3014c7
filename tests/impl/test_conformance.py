"""The reference sender passes every clause that the scripted layer can judge. ``make soak`` tries more seeds."""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile

import pytest
from tests.budget import RUNS

from kvsender_nixl.adapter import ReferenceSystem, adapter, latch
from kvsender_nixl.quarantine import Quarantine
from kvsender_spec.clauses import CLAUSES, Level, claimed
from kvsender_spec.kit.adapter import RoomPlan
from kvsender_spec.kit.check import Outcome, check
from kvsender_spec.machine import Profile


@pytest.mark.parametrize("seed", range(2))
def test_the_reference_sender_passes_everything_that_can_be_judged(seed: int) -> None:
    report = check(adapter, seed=seed, examples=RUNS)
    assert report.with_outcome(Outcome.FAIL, Outcome.FAIL_AFTER) == ()
    passed = {verdict.clause.id for verdict in report.with_outcome(Outcome.PASS)}
    assert passed == {clause.id for clause in CLAUSES} - {"KS-7.1"}, "it has no workers"
    assert sum(verdict.clause.level is Level.MUST for verdict in report.with_outcome(Outcome.PASS)) >= 24
    assert report.exit_code == 0


@pytest.mark.parametrize("seed", range(1))
def test_the_latch_profile_passes_what_it_claims(seed: int) -> None:
    report = check(latch, seed=seed, examples=RUNS)
    assert report.with_outcome(Outcome.FAIL, Outcome.FAIL_AFTER) == ()
    passed = {verdict.clause.id for verdict in report.with_outcome(Outcome.PASS)}
    assert passed == {clause.id for clause in claimed(Profile.LATCH)}


def test_a_quarantine_that_keeps_what_is_done_is_a_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Quarantine, "free", lambda *_: None)
    (verdict,) = check(adapter, examples=200, clauses=["KS-4.3"]).verdicts
    assert verdict.outcome is Outcome.FAIL
    assert verdict.evidence is not None
    assert "quarantined" in verdict.evidence.violation.expected


def test_peers_that_come_after_a_dummy_are_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    def up_to_the_first_dummy(plan: RoomPlan) -> RoomPlan:
        taken = tuple(takewhile(lambda target: not target.dummy, plan.destinations))
        return replace(plan, destinations=taken or plan.destinations[:1])

    bound = ReferenceSystem.sender
    monkeypatch.setattr(ReferenceSystem, "sender", lambda self, plan: bound(self, up_to_the_first_dummy(plan)))
    (verdict,) = check(adapter, examples=200, clauses=["KS-3.1"]).verdicts
    assert verdict.outcome is Outcome.FAIL
