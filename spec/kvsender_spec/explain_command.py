"""``kvsender explain``: what a clause says, how it looks when it breaks, and what to do about a report.

Exit codes: 0, or 2 where the command was used wrongly.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from kvsender_spec.adapter_arguments import plain_console, refusing
from kvsender_spec.advice import ADVICE
from kvsender_spec.choosing import UnknownClause, clauses_of
from kvsender_spec.clauses import Clause
from kvsender_spec.front import refuse
from kvsender_spec.history.plain import one_line
from kvsender_spec.observe.verdict import Report
from kvsender_spec.report.json import ReportError, load_report
from kvsender_spec.report.text import all_known, causes

_MOST: Final = 300
"""So many characters are printed of what a report quotes."""


def explain_command(
    what: Annotated[
        list[str], typer.Argument(metavar="CLAUSE... | REPORT.json", help="KS-2.3, KS-2 or STICKY; or a report in JSON")
    ],
) -> None:
    """Explain clauses, or the failures of a report: what they mean, and how they are usually repaired."""
    console = plain_console()
    paths = [Path(word) for word in what if word.endswith(".json") or os.sep in word]
    if paths and len(what) > 1:
        raise refuse(f"explain takes clauses, or one report, not {' '.join(what)}")
    if paths:
        text = "\n".join(line for report in _read(paths[0]) for line in _of_report(report, paths[0]))
    else:
        with refusing(UnknownClause):
            text = "\n\n".join("\n".join(_of_clause(clause)) for word in what for clause in clauses_of(word))
    console.print(text)


def _read(path: Path) -> Sequence[Report]:
    try:
        return [document.restored() for document in load_report(path.read_bytes())]
    except OSError as error:
        raise refuse(f"{path}: cannot be read: {error.strerror}") from error
    except ReportError as error:
        raise refuse(f"{path}: {error}") from error


def _of_clause(clause: Clause) -> list[str]:
    advice = ADVICE[clause.id]
    return [
        f"{clause.id} {clause.name} ({clause.level.value}, profile {clause.profile.value})",
        f"  {clause.text}",
        f"  why:       {clause.source}",
        f"  observed:  {clause.observation}",
        f"  broken:    {advice.breaks}",
        *([f"  example:   {advice.example}"] if advice.example else []),
        f"  {'shows:' if advice.example else 'example:':<9}  {advice.seen}",
        f"  repaired:  {advice.repair}",
    ]


def _named(report: Report) -> str:
    """How the command that made the report named the adapter."""
    return "MODULE:ADAPTER" if report.made_by is None else one_line(report.made_by.adapter, _MOST)


def _of_report(report: Report, path: Path) -> list[str]:
    groups = causes(report)
    known = sum(map(all_known, groups))
    lines = [
        f"{one_line(report.adapter, _MOST)}: to repair: {len(groups) - known}" + (f", known: {known}" if known else "")
    ]
    for number, group in enumerate(groups, 1):
        clause, evidence = group.cause.clause, group.cause.evidence
        lines += ["", f"{number}. {clause.id} {clause.name} ({clause.level.value}): {clause.text}"]
        if evidence is not None:
            lines.append(f"   expected:  {one_line(evidence.violation.expected, _MOST)}")
            lines.append(f"   observed:  {one_line(evidence.violation.observed, _MOST)}")
            if evidence.trace is not None:
                lines.append(f"   shortest:  {evidence.trace.setup}: {'; '.join(evidence.trace.told)}")
        lines.append(f"   means:     {ADVICE[clause.id].breaks}")
        lines.append(f"   repaired:  {ADVICE[clause.id].repair}")
        if group.consequences:
            lines.append(f"   follows:   {', '.join(verdict.clause.id for verdict in group.consequences)}")
        if all_known(group):
            lines.append(f"   known:     {one_line(group.cause.known, _MOST)}")
        lines.append(f"   next:      kvsender replay {path} {clause.id} {_named(report)}")
    for error in report.errors:
        lines += ["", f"error: {one_line(error.message, _MOST)}"]
    return lines
