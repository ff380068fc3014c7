"""A report as JUnit XML, for the CI systems that show it.

One test case a clause, one for the complete suite where it was asked for, and one for an adapter that broke. It agrees
with the exit code: only a verdict that decides the exit code is a failure (exit code 1) or an error (3: inconclusive,
or the adapter broke). Everything else that is not a pass is skipped, with its reason: a clause that is not claimed or
does not apply, a SHOULD that fails where nobody asked for ``--strict``, and a failure that is known. A known failure
that does not come is a failure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

from kvsender_spec.history.plain import printable
from kvsender_spec.observe.verdict import Group, Outcome, Report, Verdict
from kvsender_spec.report.text import (
    LIMIT,
    breakdowns,
    causes,
    made_by,
    members,
    narrate,
    observed_line,
    of_one_trace,
    relation,
    title,
)


def to_junit(reports: Sequence[Report]) -> str:
    """Each report as one test suite."""
    root = ElementTree.Element("testsuites")
    totals: Counter[str] = Counter()
    for report in reports:
        suite = ElementTree.SubElement(root, "testsuite", name=printable(f"kvsender check {report.adapter}"))
        totals.update(_fill(suite, report))
    _set_counts(root, totals)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _set_counts(element: ElementTree.Element, counts: Counter[str]) -> None:
    for name in ("tests", "failures", "errors", "skipped"):
        element.set(name, str(counts[name]))


def _fill(suite: ElementTree.Element, report: Report) -> Counter[str]:
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in (
        ("profile", report.profile.value),
        ("seed", str(report.seed)),
        ("runs", str(report.runs)),
        ("steps", str(report.steps)),
        ("strict", str(report.strict).lower()),
        ("cut off", str(report.cut_off).lower()),
        ("made by", made_by(report)),
    ):
        ElementTree.SubElement(properties, "property", name=name, value=printable(value))
    counts: Counter[str] = Counter()
    groups = {verdict.clause.id: group for group in causes(report) for verdict in members(group)}
    for verdict in report.verdicts:
        kind = _kind(verdict.outcome) if verdict.counts(strict=report.strict) else "skipped"
        case = _case(suite, report, title(verdict.clause), counts)
        if verdict.clause.id in report.stale:
            message = "it is among the known failures, and does not fail: take it out"
            _say(case, "failure", verdict.outcome, message, message, counts)
        elif verdict.outcome is not Outcome.PASS:
            _say(case, kind, verdict.outcome, _message(verdict, groups), _body(verdict, groups), counts)
    if report.suite is not None:
        case = _case(suite, report, "the complete suite", counts)
        lines, outcome = "\n".join(report.suite.lines), report.suite.outcome
        if outcome is Outcome.PASS:
            ElementTree.SubElement(case, "system-out").text = printable(lines)
        else:
            _say(case, _kind(outcome), outcome, lines.partition("\n")[0], lines, counts)
    if report.errors:
        # Every clause may have its verdict all the same, by the runs in which the adapter did not break.
        case = _case(suite, report, "the adapter", counts)
        told = ["\n".join([error.message, *error.frames, error.trace.dump()]) for error in breakdowns(report)]
        _say(case, "error", Outcome.ERROR, report.errors[0].message, "\n".join(told), counts)
    _set_counts(suite, counts)
    return counts


def _case(suite: ElementTree.Element, report: Report, name: str, counts: Counter[str]) -> ElementTree.Element:
    counts["tests"] += 1
    return ElementTree.SubElement(suite, "testcase", classname=printable(report.adapter), name=name)


def _kind(outcome: Outcome) -> str:
    """The element for an outcome that decides the exit code."""
    if outcome.failed:
        return "failure"
    return "error" if outcome in (Outcome.ERROR, Outcome.INCONCLUSIVE) else "skipped"


def _say(case: ElementTree.Element, kind: str, outcome: Outcome, message: str, body: str, counts: Counter[str]) -> None:
    counts[kind if kind == "skipped" else f"{kind}s"] += 1
    # CI systems show the message in one line of a list; the body has all of it.
    element = ElementTree.SubElement(case, kind, type=outcome.value, message=printable(message[:LIMIT]))
    element.text = printable(body)


def _message(verdict: Verdict, groups: Mapping[str, Group]) -> str:
    """The level, the verdict, what was observed; for a consequence also its cause."""
    message = f"{verdict.clause.level.value}, {verdict.text}" + (f" {verdict.known}" if verdict.known else "")
    group = groups.get(verdict.clause.id)
    if group is not None and group.cause is not verdict:
        message += f" ({relation(group.cause, verdict)})"
    observed = observed_line(verdict)
    return f"{message}: {observed}" if observed else message


def _body(verdict: Verdict, groups: Mapping[str, Group]) -> str:
    clause, evidence = verdict.clause, verdict.evidence
    lines = [clause.text, f"source: {clause.source}"]
    if evidence is None:
        return "\n".join(lines)
    violation = evidence.violation
    lines += [f"expected: {violation.expected}", f"observed: {violation.observed}", *violation.frames]
    lines += [f"where: {evidence.where}"] if evidence.where else []
    group = groups.get(clause.id, Group(verdict))
    of_cause = of_one_trace(group)
    if verdict is not group.cause and verdict in of_cause:
        lines.append(f"what was seen: in the test case of {title(group.cause.clause)}")
    else:
        shown = of_cause if verdict is group.cause else (verdict,)
        if evidence.trace is not None and evidence.trace.steps:
            lines += [f"setup: {evidence.trace.setup}", "shortest trace found:"]
            lines += [f"  {number}. {step}" for number, step in enumerate(evidence.trace.told, 1)]
        if evidence.history is not None:
            violations = [other.evidence.violation for other in shown if other.evidence is not None]
            lines += ["what was seen:", *narrate(evidence.history, violations)]
    if evidence.trace is not None:
        lines += ["", "for kvsender replay:", evidence.trace.dump()]
    return "\n".join(lines)
