"""Reports as Markdown, for the summary of a CI job: the result, what broke, and how to go on from there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from kvsender_spec.history.plain import one_line
from kvsender_spec.observe.verdict import Outcome, Report
from kvsender_spec.report.text import (
    all_known,
    breakdowns,
    causes,
    conclusion,
    heading,
    made_by,
    notes,
    observed_line,
    summary,
)

_MOST: Final = 300
"""So many characters are shown of what a report quotes."""


def to_markdown(reports: Sequence[Report]) -> str:
    """Each report as a section."""
    return "\n".join(line for report in reports for line in _section(report))


def _section(report: Report) -> Iterator[str]:
    sign = {0: "✅", 1: "❌"}.get(report.exit_code, "⚠️")
    yield f"## {sign} {_quoted(report.adapter)}"
    yield ""
    yield f"{conclusion(report)} {summary(report)}."
    yield ""
    for group in causes(report):
        known = f" — known: {_quoted(group.cause.known)}" if all_known(group) else ""
        yield f"- **{heading(group)}**{known}"
        if known:
            continue
        yield f"  {_quoted(group.cause.clause.text)}"
        yield f"  {_quoted(observed_line(group.cause))}"
        evidence = group.cause.evidence
        if evidence is not None and evidence.trace is not None and evidence.trace.steps:
            yield ""
            yield "  ```"
            yield f"  {evidence.trace.setup}"
            yield from (f"  {number}. {step}" for number, step in enumerate(evidence.trace.told, 1))
            yield "  ```"
    for clause in report.stale:
        yield f"- **{clause}** does not fail any more: take it out of the known failures"
    for error in breakdowns(report):
        yield f"- the adapter broke: {_quoted(error.message)}"
    if any(verdict.outcome in (Outcome.INCONCLUSIVE, Outcome.ERROR) for verdict in report.verdicts):
        yield from (f"- {_quoted(note)}" for note in notes(report))
    yield ""
    yield f"<sub>{_quoted(made_by(report))}</sub>"
    yield ""


def _quoted(words: str) -> str:
    """In one line, with nothing in it that Markdown or HTML would take for its own."""
    line = one_line(words, _MOST)
    return "".join(
        f"\\{letter}" if letter in "\\`*_[]|#<>~" else "&amp;" if letter == "&" else letter for letter in line
    )
