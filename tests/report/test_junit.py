"""JUnit XML: it agrees with the exit code, and the message of a consequence points to its cause."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from tests.report.made import OTHER_TRACE, TRACE, breaking, evidence, failing, hostile, passing, undecided
from tests.report.made import broken as failed

from kvsender_spec.clauses import CLAUSES, Level
from kvsender_spec.observe.verdict import Outcome, Report, SuiteSummary
from kvsender_spec.report.junit import to_junit
from kvsender_spec.trace import load


def cases(report: Report) -> dict[str, ElementTree.Element]:
    return {case.get("name", ""): case for case in ElementTree.fromstring(to_junit([report])).iter("testcase")}


def only(case: ElementTree.Element) -> ElementTree.Element:
    (said,) = case
    return said


@pytest.mark.parametrize("make", [failing, passing, undecided, breaking, hostile])
def test_it_agrees_with_the_exit_code(make: Callable[[], Report]) -> None:
    report = make()
    root = ElementTree.fromstring(to_junit([report]))
    found = list(root.iter("testcase"))
    names = [f"{verdict.clause.id} {verdict.clause.name}" for verdict in report.verdicts]
    assert [case.get("name") for case in found][: len(names)] == names
    children = Counter(child.tag for case in found for child in case)
    for element in (root, root[0]):
        totals = {name: int(element.get(name, "-1")) for name in ("tests", "failures", "errors", "skipped")}
        assert totals == {
            "tests": len(found),
            "failures": children["failure"],
            "errors": children["error"],
            "skipped": children["skipped"],
        }
    assert report.exit_code == (1 if children["failure"] else 3 if children["error"] else 0)
    assert children.total() == len(found) - len(report.with_outcome(Outcome.PASS))


def test_a_consequence_points_to_its_cause() -> None:
    found = cases(failing())
    cause = only(found["KS-2.2 NO-SUCCESS-AFTER-FAIL"])
    assert (cause.tag, cause.get("type")) == ("failure", "fail")
    assert cause.get("message") == (
        "MUST, fail: expected Failed, because handle 2 was refused; observed: Success after injected nixlBackendError"
    )
    body = cause.text or ""
    assert "source: SGLang 0.5.10" in body
    assert "   16   0.000000  poll() answered Success\n" in body
    for clause in ("KS-2.2 NO-SUCCESS-AFTER-FAIL", "KS-1.2 CATCH-SET", "KS-3.1 NO-FALSE-SUCCESS"):
        assert f"!      breaks {clause} (MUST)" in body
    same = only(found["KS-1.2 CATCH-SET"])
    assert (same.get("message") or "").startswith("MUST, fail (broken by the same trace as KS-2.2): expected")
    assert "what was seen: in the test case of KS-2.2 NO-SUCCESS-AFTER-FAIL" in (same.text or "")
    assert "poll() answered" not in (same.text or "")
    after = only(found["KS-3.1 NO-FALSE-SUCCESS"])
    assert after.get("type") == "fail after"
    assert (after.get("message") or "").startswith("MUST, fail after KS-2.2 (broken only after KS-2.2): expected")


def test_a_consequence_with_a_trace_of_its_own_tells_it() -> None:
    report = failing()
    own = failed("KS-3.1", evidence("KS-3.1", -1, None, OTHER_TRACE, after="KS-2.2"))
    report = replace(report, verdicts=tuple(own if v.clause is own.clause else v for v in report.verdicts))
    body = only(cases(report)["KS-3.1 NO-FALSE-SUCCESS"]).text or ""
    assert "  5. poll(0)" in body
    assert load(body.partition("for kvsender replay:\n")[2].splitlines()) == OTHER_TRACE


def test_every_failure_reads_alone_and_its_trace_can_be_loaded() -> None:
    failures = [case[0] for case in cases(failing()).values() if len(case) and case[0].tag == "failure"]
    assert len(failures) == 4
    for failure in failures:
        assert "observed: " in failure.get("message", "")
        assert "source: " in (failure.text or "")
        assert load((failure.text or "").partition("for kvsender replay:\n")[2].splitlines()).steps
    assert load((failures[0].text or "").partition("for kvsender replay:\n")[2].splitlines()) == TRACE


def test_what_is_not_claimed_is_skipped_although_it_is_broken() -> None:
    skipped = only(cases(failing())["KS-8.1 BAD-INPUT"])
    assert (skipped.tag, skipped.get("type")) == ("skipped", "not claimed")
    assert (skipped.get("message") or "").startswith("MUST, not claimed; broken 2 of 4: expected")


def test_a_should_is_a_failure_only_when_strict() -> None:
    should = next(clause for clause in CLAUSES if clause.level is Level.SHOULD)
    report = replace(passing(), verdicts=(failed(should.id, evidence(should.id, -1, None)),))
    assert only(cases(report)[f"{should.id} {should.name}"]).tag == "skipped"
    assert only(cases(replace(report, strict=True))[f"{should.id} {should.name}"]).tag == "failure"


@pytest.mark.parametrize(
    ("outcome", "tag"),
    [
        (Outcome.FAIL, "failure"),
        (Outcome.INCONCLUSIVE, "error"),
        (Outcome.PASS, "system-out"),
        (Outcome.NOT_APPLICABLE, "skipped"),
    ],
)
def test_the_complete_suite_is_a_test_case(outcome: Outcome, tag: str) -> None:
    report = replace(passing(), suite=SuiteSummary(outcome, ("complete suite: 3 sequences", "  poll"), {}))
    said = only(cases(report)["the complete suite"])
    assert said.tag == tag
    assert "complete suite: 3 sequences\n  poll" in (said.text or "")


def test_an_adapter_that_breaks_is_a_test_case() -> None:
    said = only(cases(breaking())["the adapter"])
    assert (said.tag, said.get("message")) == ("error", "open raised OSError: no such device")
    assert (said.text or "").count("adapter.py:12 in open") == 1
    assert "sender raised KeyError: 3" in (said.text or "")


def test_it_holds_what_xml_cannot() -> None:
    text = to_junit([hostile()])
    said = "".join(node.text or "" for node in ElementTree.fromstring(text.encode("utf-8")).iter("failure"))
    assert "</svg><script" in said
    assert r"\x00\x1b[31m]]>&amp;\ud800😀" in said
    assert all(len(node.get("message", "")) < 3000 for node in ElementTree.fromstring(text).iter())


def test_several_reports_are_several_suites() -> None:
    root = ElementTree.fromstring(to_junit([passing(), failing()]))
    assert [suite.get("name") for suite in root] == ["kvsender check good", "kvsender check swallows"]
    assert root.get("tests") == str(2 * len(CLAUSES))
    assert [suite.get("failures") for suite in root] == ["0", "4"]
