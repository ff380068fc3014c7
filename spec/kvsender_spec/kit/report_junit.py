"""A report as JUnit XML, for the CI systems that show it.

One test case a clause, one for the complete suite where it was asked for, and one for an adapter that broke. It agrees
with the exit code: only a verdict that decides the exit code is a failure (exit code 1) or an error (3: inconclusive,
or the adapter broke). Everything else that is not a pass is skipped, with its reason: a clause that does not apply, and
a SHOULD that fails where nobody asked for ``--strict``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final
from xml.etree import ElementTree

from kvsender_spec.kit.check import ClauseVerdict, Outcome, Report
from kvsender_spec.kit.markup import printable
from kvsender_spec.kit.narrative import narrate
from kvsender_spec.kit.report import suite_lines

_DECIDES: Final = {Outcome.FAIL: "failure", Outcome.ERROR: "error", Outcome.INCONCLUSIVE: "error"}


def to_junit(reports: Sequence[Report]) -> str:
    """Each report as one test suite."""
    root = ElementTree.Element("testsuites")
    totals: Counter[str] = Counter()
    for report in reports:
        totals.update(_add_suite(root, report))
    _set_counts(root, totals)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _set_counts(element: ElementTree.Element, counts: Counter[str]) -> None:
    for name in ("tests", "failures", "errors", "skipped"):
        element.set(name, str(counts[name]))


def _add_suite(root: ElementTree.Element, report: Report) -> Counter[str]:
    suite = ElementTree.SubElement(root, "testsuite", name=printable(f"kvsender check {report.adapter}"))
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in (
        ("profile", report.profile.value),
        ("seed", str(report.seed)),
        ("runs", str(report.runs)),
        ("steps", str(report.steps)),
        ("strict", str(report.strict).lower()),
    ):
        ElementTree.SubElement(properties, "property", name=name, value=value)
    counts: Counter[str] = Counter()
    who = printable(report.adapter)
    for verdict in report.verdicts:
        clause = verdict.clause
        case = ElementTree.SubElement(suite, "testcase", classname=who, name=f"{clause.id} {clause.name}")
        counts["tests"] += 1
        outcome = verdict.outcome.value
        if verdict.outcome is Outcome.PASS:
            continue
        kind = _DECIDES[verdict.outcome] if report.counts(verdict) else "skipped"
        counts[kind if kind == "skipped" else f"{kind}s"] += 1
        said = ElementTree.SubElement(case, kind, type=outcome, message=printable(_message(verdict)))
        said.text = printable(_body(verdict))
    if report.suite is not None:
        _add_complete_suite(suite, report, counts)
    if report.errors:
        # Every clause may have been judged all the same, by the runs in which the adapter did not break.
        case = ElementTree.SubElement(suite, "testcase", classname=who, name="the adapter")
        said = ElementTree.SubElement(case, "error", type="error", message=printable(report.errors[0].message))
        said.text = printable("\n".join([*(e.message for e in report.errors), report.errors[0].trace.dump()]))
        counts.update(tests=1, errors=1)
    _set_counts(suite, counts)
    return counts


def _add_complete_suite(suite: ElementTree.Element, report: Report, counts: Counter[str]) -> None:
    """The suite as one more test case."""
    case = ElementTree.SubElement(suite, "testcase", classname=printable(report.adapter), name="the complete suite")
    counts["tests"] += 1
    outcome = report.suite_outcome.value
    if report.suite_outcome is Outcome.PASS:
        ElementTree.SubElement(case, "system-out").text = printable("\n".join(suite_lines(report)))
        return
    kind = _DECIDES.get(report.suite_outcome, "skipped")
    counts[kind if kind == "skipped" else f"{kind}s"] += 1
    lines = suite_lines(report)
    said = ElementTree.SubElement(case, kind, type=outcome, message=printable(lines[0]))
    said.text = printable("\n".join(lines))


def _message(verdict: ClauseVerdict) -> str:
    level = verdict.clause.level.value
    if verdict.counterexample is None:
        return f"{level}, {verdict.outcome.value}: {verdict.note}"
    violation = verdict.counterexample.violation
    return f"{level}, {verdict.outcome.value}: expected {violation.expected}; observed: {violation.observed}"


def _body(verdict: ClauseVerdict) -> str:
    clause, example = verdict.clause, verdict.counterexample
    lines = [clause.text, f"source: {clause.source}"]
    if example is not None and example.trace.steps:
        lines += [f"scene: {example.trace.scene}", "shortest trace found:", *narrate(example.moments)]
        lines += ["", "for kvsender replay:", example.trace.dump()]
    return "\n".join(lines)
