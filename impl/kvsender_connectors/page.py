"""The page about the published senders, ``docs/connectors.md``, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from kvsender_connectors.findings import Verdict
from kvsender_connectors.judged import Judged, rows
from kvsender_connectors.known import Kind, Known
from kvsender_connectors.witnesses import WITNESSES
from kvsender_spec.clauses import BY_ID
from kvsender_spec.kit.check import Outcome

_WORDS: Final = {
    Outcome.FAIL: "**fail**",
    Outcome.ERROR: "**error**",
    Outcome.INCONCLUSIVE: "not seen",
    Outcome.PASS: "pass",
    Outcome.NOT_APPLICABLE: "n/a",
}
_MARKS: Final = {Kind.PUBLIC: "¹", Kind.FOUND_HERE: "²", Kind.OURS: "³"}

_INTRODUCTION: Final = """\
What published senders do, judged by the clauses of this specification. The senders are the releases' own, from their
wheels, unmodified; under them are the kit's scripted agent, its clock and its memory. `make connectors` makes this page
again: it installs the releases, checks each in a process of its own, and replays each history below.

Every release is judged against the profile **full**, so that each clause has a verdict. That is more than any of them
promises: where a clause is this project's own, the table says so, and a fail there is no bug of theirs.

Where a sender breaks a clause about something that its owner does (failure_exception() too early, abort(), a mistake),
the check explores a second time without it, so that it hides nothing."""

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


def write(edition: Edition, results: Sequence[Judged]) -> str:
    """The whole page."""
    versions = ", ".join(f"{name} {version}" for name, version in edition.versions)
    parts = [
        "# Published senders",
        "<!-- Written by `make connectors`; do not edit. -->",
        f"*{edition.date}; seed {edition.seed}, {edition.examples} runs for each release; {versions}.*",
        _INTRODUCTION,
        "## The matrix",
        _matrix(results),
        _legend(results),
        "## Histories",
        "Behaviour that was known or suspected before, each with one short history. The owner's calls are those of one"
        " room; the end of the run follows.",
        _histories(results),
        *(_fails(result) for result in results),
        _LIMITS,
    ]
    return "\n\n".join(parts) + "\n"


def _matrix(results: Sequence[Judged]) -> str:
    lines = [_row(["clause", *(result.connector.title for result in results)]), _row(["---"] * (len(results) + 1))]
    for clause, verdicts in rows(results):
        cells = [_cell(clause, verdict, result) for verdict, result in zip(verdicts, results, strict=True)]
        lines.append(_row([f"{clause} {BY_ID[clause].name}", *cells]))
    return "\n".join(lines)


def _cell(clause: str, verdict: Verdict, result: Judged) -> str:
    known = result.known.get((result.connector.key, clause))
    mark = _MARKS[known.kind] if known is not None and verdict.outcome is Outcome.FAIL else ""
    return _WORDS[verdict.outcome] + mark


def _legend(results: Sequence[Judged]) -> str:
    lines = [f"{_MARKS[kind]} {kind.value}." for kind in Kind]
    effort = ", ".join(f"{result.connector.title}: {result.findings.runs} runs" for result in results)
    return "\n".join([*(f"{line}  " for line in lines), "", f"{effort}."])


def _histories(results: Sequence[Judged]) -> str:
    titles = [result.connector.title for result in results]
    lines = [_row(["what", "history", *titles]), _row(["---"] * (len(results) + 2))]
    for number, witness in enumerate(WITNESSES):
        steps = ", ".join(f"`{step}`" for step in witness.trace.steps)
        cells = ["**yes**" if result.findings.witnesses[number].shown else "no" for result in results]
        lines.append(_row([witness.what, steps, *cells]))
    return "\n".join(lines)


def _fails(result: Judged) -> str:
    parts = [f"## {result.connector.title}"]
    if not result.fails:
        parts.append("No clause failed.")
    for clause, (verdict, known) in result.fails.items():
        parts.append(_fail(clause, verdict, known))
    return "\n\n".join(parts)


def _fail(clause: str, verdict: Verdict, known: Known | None) -> str:
    about = BY_ID[clause]
    lines = [
        f"<details><summary>{clause} {about.name} ({about.level.value}): {_escape(_why(known))}</summary>",
        "",
        f"{_escape(about.text)}",
        "",
        f"* expected: {_escape(verdict.expected)}",
        f"* observed: {_escape(verdict.observed)}",
        f"* {_kind(known)}",
    ]
    if verdict.trace is not None and verdict.trace.steps:
        lines += ["", "```", f"scene: {verdict.trace.scene}"]
        lines += [f"{number}. {step}" for number, step in enumerate(verdict.trace.steps, 1)]
        lines += ["then the end of the run", "```"]
    return "\n".join([*lines, "", "</details>"])


def _why(known: Known | None) -> str:
    return "not explained yet" if known is None else known.why


def _kind(known: Known | None) -> str:
    if known is None:
        return "not classified"
    links = ", ".join(f"[{reference}]({_address(reference)})" for reference in known.references)
    return known.kind.value + (f": {links}" if links else "")


def _address(reference: str) -> str:
    repository, _, number = reference.partition("#")
    return f"https://github.com/{repository}/issues/{number}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _escape(text: str) -> str:
    """What a sender's error says is text, never Markdown or HTML."""
    for character, entity in (
        ("&", "&amp;"),
        ("<", "&lt;"),
        (">", "&gt;"),
        ("*", "&#42;"),
        ("_", "&#95;"),
        ("`", "&#96;"),
    ):
        text = text.replace(character, entity)
    return " ".join(text.split())
