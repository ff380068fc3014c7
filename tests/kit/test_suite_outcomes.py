"""The pytest class: how each verdict becomes the outcome of a test, and where the story of a bug is told."""

from __future__ import annotations

import pytest

from kvsender_spec.clauses import BY_ID
from kvsender_spec.kit import suite
from kvsender_spec.kit.suite import SenderConformance
from kvsender_spec.kit.toy import ToyAdapter
from kvsender_spec.machine import Profile
from kvsender_spec.observe.verdict import Evidence, Outcome, Report, Verdict, Violation
from kvsender_spec.trace import Call, Setup, Step, Trace

TRACE = Trace(Setup(), (Step(Call.OPEN),))


def given(
    clause: str, outcome: Outcome, note: str = "", *, after: str = "", seq: int = 3, trace: Trace = TRACE
) -> Verdict:
    evidence = Evidence(Violation(clause, "this", "that", seq, after=after), trace=trace) if outcome.failed else None
    return Verdict(BY_ID[clause], outcome, 0, after=after, note=note, evidence=evidence)


def conclude(verdict: Verdict, monkeypatch: pytest.MonkeyPatch, *beside: Verdict, **settings: object) -> None:
    """Run one test of a class whose check came out with this verdict, and with others beside it."""
    members: dict[str, object] = {"adapter": ToyAdapter(), "__module__": __name__, **settings}
    cls: type[SenderConformance] = type("TestFabricated", (SenderConformance,), members)
    report = Report("fabricated", Profile.FULL, 0, 1, 1, (*beside, verdict))
    monkeypatch.setattr(suite, "_REPORTS", {cls: report})
    cls().test_clause(verdict.clause.id)


def test_a_pass_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    conclude(given("KS-2.3", Outcome.PASS), monkeypatch)


@pytest.mark.parametrize("clause", ["KS-2.3", "KS-2.6"])
@pytest.mark.parametrize("outcome", [Outcome.INCONCLUSIVE, Outcome.ERROR])
def test_a_clause_that_was_not_judged_fails(clause: str, outcome: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(pytest.fail.Exception, match=f"{clause} .*: {outcome.value}, never observed"):
        conclude(given(clause, outcome, "never observed"), monkeypatch)
    with pytest.raises(pytest.fail.Exception, match=f"declared as a deviation .* its verdict is {outcome.value}"):
        conclude(given(clause, outcome, "never observed"), monkeypatch, deviations={clause: "a reason"})


def test_a_should_that_is_not_met_is_skipped_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = given("KS-2.6", Outcome.FAIL)
    with pytest.raises(pytest.skip.Exception, match=r"SHOULD not met: KS-2.6 NO-REQUERY: expected this, saw that"):
        conclude(broken, monkeypatch)
    with pytest.raises(pytest.fail.Exception, match=r"KS-2.6 NO-REQUERY \(SHOULD\)"):
        conclude(broken, monkeypatch, strict=True)
    with pytest.raises(pytest.xfail.Exception, match="a reason"):
        conclude(broken, monkeypatch, deviations={"KS-2.6": "a reason"})


def test_a_must_fails_whatever_strict_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for strict in (False, True):
        with pytest.raises(pytest.fail.Exception, match=r"KS-2.3 FIRST-CAUSE \(MUST\)"):
            conclude(given("KS-2.3", Outcome.FAIL), monkeypatch, strict=strict)


def test_under_runxfail_a_deviation_is_reported_as_any_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytest, "xfail", lambda reason: None)  # which is what that option does
    with pytest.raises(pytest.fail.Exception, match=r"KS-2.3 FIRST-CAUSE \(MUST\)"):
        conclude(given("KS-2.3", Outcome.FAIL), monkeypatch, deviations={"KS-2.3": "a reason"})


def said(verdict: Verdict, monkeypatch: pytest.MonkeyPatch, *beside: Verdict) -> str:
    with pytest.raises(pytest.fail.Exception) as caught:
        conclude(verdict, monkeypatch, *beside)
    return str(caught.value)


def test_a_bug_is_one_story_told_by_the_test_of_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    cause = given("KS-2.2", Outcome.FAIL)
    with_it, after = given("KS-3.1", Outcome.FAIL, seq=4), given("KS-2.1", Outcome.FAIL_AFTER, after="KS-2.2")
    told = said(cause, monkeypatch, with_it, after)
    assert "shortest trace found:" in told
    assert "1. open(0)" in told
    assert "with it   KS-3.1 NO-FALSE-SUCCESS (MUST), broken by the same trace as KS-2.2" in told
    assert "with it   KS-2.1 STICKY (MUST), broken only after KS-2.2" in told
    for verdict, relation in ((with_it, "broken by the same trace as KS-2.2"), (after, "broken only after KS-2.2")):
        others = [other for other in (cause, with_it, after) if other is not verdict]
        pointed = said(verdict, monkeypatch, *others)
        assert f"{relation}, which tells it in full (test_clause[KS-2.2]): expected this; observed: that" in pointed
        assert "shortest trace found:" not in pointed


def test_two_bugs_are_two_stories(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: clauses that break in traces of their own are each told in full."""
    other = given("KS-3.1", Outcome.FAIL, trace=Trace(Setup(), (Step(Call.OPEN), Step(Call.POLL))))
    for verdict, beside in ((given("KS-2.2", Outcome.FAIL), other), (other, given("KS-2.2", Outcome.FAIL))):
        told = said(verdict, monkeypatch, beside)
        assert "shortest trace found:" in told
        assert "which tells it in full" not in told
        assert "with it" not in told


def test_what_is_broken_only_after_another_clause_fails_and_can_be_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    after = given("KS-2.1", Outcome.FAIL_AFTER, after="KS-2.2")
    with pytest.raises(pytest.fail.Exception, match=r"KS-2.1 STICKY \(MUST\)"):
        conclude(after, monkeypatch, given("KS-2.2", Outcome.FAIL))
    with pytest.raises(pytest.xfail.Exception, match="a reason"):
        conclude(after, monkeypatch, given("KS-2.2", Outcome.FAIL), deviations={"KS-2.1": "a reason"})


def test_what_is_not_claimed_is_skipped_although_it_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(pytest.skip.Exception, match=r"KS-4\.1 .*: not claimed, not claimed by profile latch"):
        conclude(given("KS-4.1", Outcome.NOT_CLAIMED, "not claimed by profile latch"), monkeypatch)
