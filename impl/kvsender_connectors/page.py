"""The page about the published senders, ``docs/records/connectors.md``, as Markdown."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from kvsender_connectors.findings import Result
from kvsender_connectors.known import KNOWN, Kind, Known
from kvsender_spec.observe.verdict import Group, Outcome, Verdict
from kvsender_spec.report.text import causes, matrix, relation, title

_WORDS: Final = {Outcome.INCONCLUSIVE: "not seen", Outcome.NOT_APPLICABLE: "n/a"}
_MARKS: Final = {Kind.PUBLIC: "¹", Kind.FOUND_HERE: "²", Kind.OURS: "³"}

_MARKDOWN: Final = str.maketrans({character: f"&#{ord(character)};" for character in "*_`"})

_INTRODUCTION: Final = """\
What published senders do, judged by the clauses of this specification. The senders are the releases' own, from their
wheels, unmodified; under them are the kit's scripted agent, its clock and its memory. `make connectors` makes this page
again: it installs the releases, checks each in a process of its own, and runs each known trace below.

Every release is judged against the profile **full**, so that each clause has a verdict. That is more than any of them
promises: where a clause is this project's own, the table says so, and a fail there is no bug of theirs.

A run goes on after something broke. **fail** is a clause that some run breaks first; **fail after** another clause is
one that is only ever broken after that one, by a caller that goes on."""

_LIMITS: Final = """\
## What this does not show

* Two layers of K and V, eight pages, one prefill rank; no state pools, no staging buffer, no other degree of
  parallelism on the decode side. What goes wrong only there is not seen.
* A decode side that restarts comes back under a new name in SGLang; the kit's peers keep their names. KS-6.3 is not
  applicable for that reason.
* SGLang keeps no list of quarantined pages (KS-4.4 is not applicable), and its failures do not say whose fault they
  were in the specification's terms (KS-2.8).
* The seed's sender is our transcription of its rules; everything that is not about them (tables of rooms, abort, clear)
  it does not have.
* Mooncake's engine is a library in C++. Here it is a class of this project over the scripted agent, under SGLang's own
  wrapper; a failure is -1 there, without an exception that the sender could show.
* “not seen” means that no run came to where the clause can be judged, not that it holds."""


@dataclass(frozen=True, slots=True)
class Edition:
    """When and with what a page was made."""

    date: str
    seed: int
    examples: int
    versions: Sequence[tuple[str, str]]


def write(edition: Edition, results: Sequence[Result]) -> str:
    """The whole page."""
    versions = ", ".join(f"{name} {version}" for name, version in edition.versions)
    parts = [
        "# Published senders",
        "<!-- Written by `make connectors`; do not edit. -->",
        f"*{edition.date}; seed {edition.seed}, the sweep and {edition.examples} random runs for each; {versions}.*",
        _INTRODUCTION,
        "## The matrix",
        _matrix(results),
        _legend(results),
        "## Known traces",
        "Behaviour that is known, each with one short trace.",
        _traces(results),
        *(_fails(result) for result in results),
        _LIMITS,
    ]
    return "\n\n".join(parts) + "\n"


def _matrix(results: Sequence[Result]) -> str:
    lines = [_row(["clause", *(result.connector.title for result in results)]), _row(["---"] * (len(results) + 1))]
    for clause, verdicts in matrix([result.report for result in results]):
        lines.append(_row([title(clause), *(_cell(*pair) for pair in zip(verdicts, results, strict=True))]))
    return "\n".join(lines)


def _cell(verdict: Verdict | None, result: Result) -> str:
    if verdict is None:
        return "-"
    if verdict.outcome.failed or verdict.outcome is Outcome.ERROR:
        return f"**{verdict.text}**" + "".join(_MARKS[entry.kind] for entry in result.why(verdict.clause.id)[:1])
    return _WORDS.get(verdict.outcome, verdict.text)


def _legend(results: Sequence[Result]) -> str:
    lines = [f"{_MARKS[kind]} {kind.value}." for kind in Kind]
    effort = ", ".join(f"{result.connector.title}: {result.report.runs} runs" for result in results)
    return "\n".join([*(f"{line}  " for line in lines), "", f"{effort}."])


def _traces(results: Sequence[Result]) -> str:
    titles = [result.connector.title for result in results]
    lines = [_row(["what", "trace", *titles]), _row(["---"] * (len(results) + 2))]
    for entry in KNOWN:
        if entry.trace is not None:
            steps = ", ".join(f"`{step}`" for step in entry.trace.told)
            shown = [result.shown(entry) for result in results]
            cells = ["**yes**" if found is not None and found.shown else "no" for found in shown]
            lines.append(_row([f"{', '.join(entry.clauses)}: {entry.why}", steps, *cells]))
    return "\n".join(lines)


def _fails(result: Result) -> str:
    groups = causes(result.report)
    parts = [f"## {result.connector.title}"]
    parts += [_group(group, result) for group in groups] or ["No clause failed."]
    return "\n\n".join(parts)


def _group(group: Group, result: Result) -> str:
    """One trace and what it breaks: the cause, then what else."""
    clause, known = group.cause.clause, result.why(group.cause.clause.id)
    others = ", ".join(verdict.clause.id for verdict in group.consequences)
    head = f"{title(clause)} ({clause.level.value})" + (f"; with it {others}" if others else "")
    lines = [
        f"<details><summary>{head}: {_escape(known[0].why if known else 'not explained yet')}</summary>",
        "",
        _escape(clause.text),
        "",
        *_verdict(group.cause, known),
    ]
    trace = None if group.cause.evidence is None else group.cause.evidence.trace
    if trace is not None and trace.steps:
        lines += ["", "```", f"setup: {trace.setup}"]
        lines += [f"{number}. {step}" for number, step in enumerate(trace.told, 1)]
        lines.append("```")
    for verdict in group.consequences:
        lines += ["", f"{title(verdict.clause)}, {relation(group.cause, verdict)}:", ""]
        lines += _verdict(verdict, result.why(verdict.clause.id))
        other = None if verdict.evidence is None else verdict.evidence.trace
        if other is not None and other != trace:
            lines.append(f"* trace: {other.setup}: {', '.join(f'`{step}`' for step in other.steps)}")
    return "\n".join([*lines, "", "</details>"])


def _verdict(verdict: Verdict, known: Sequence[Known]) -> list[str]:
    violation = None if verdict.evidence is None else verdict.evidence.violation
    lines: list[str] = []
    if violation is not None:
        lines += [f"* expected: {_escape(violation.expected)}", f"* observed: {_escape(violation.observed)}"]
    for entry in known:
        links = ", ".join(f"[{reference}]({_address(reference)})" for reference in entry.references)
        lines.append(f"* {_escape(entry.why)}: {entry.kind.value}" + (f", {links}" if links else ""))
    return lines


def _address(reference: str) -> str:
    repository, _, number = reference.partition("#")
    return f"https://github.com/{repository}/issues/{number}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _escape(text: str) -> str:
    """What a sender's error says is text, never Markdown or HTML."""
    return " ".join(html.escape(text, quote=False).translate(_MARKDOWN).split())
