"""A report as text for people and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final, assert_never

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from kvsender_spec.clauses import BY_ID
from kvsender_spec.kit.check import ClauseVerdict, Outcome, Report
from kvsender_spec.kit.complete import SuiteReport
from kvsender_spec.kit.narrative import broken, narrate
from kvsender_spec.kit.replay import Replay
from kvsender_spec.trace import Trace

SCHEMA: Final = "kvsender-report/1"
"""One report as JSON."""
COLLECTION_SCHEMA: Final = "kvsender-reports/1"
"""Several: their worst exit code, and each of them as it would be alone."""
SUITE_SCHEMA: Final = "kvsender-suite/1"
"""The complete suite within a report, where it was asked for."""


def style(outcome: Outcome) -> str:
    """The colour of an outcome."""
    match outcome:
        case Outcome.FAIL | Outcome.ERROR:
            return "bold red"
        case Outcome.INCONCLUSIVE:
            return "yellow"
        case Outcome.PASS:
            return "green"
        case Outcome.NOT_APPLICABLE:
            return "dim"
        case _:
            assert_never(outcome)


def counterexample(verdict: ClauseVerdict) -> RenderableType:
    """One failed clause, readable alone: the rule, what was expected and seen, and the shortest trace found."""
    example = verdict.counterexample
    clause = verdict.clause
    lines = [f"[bold red]{clause.id} {clause.name}[/] ({clause.level.value}) {escape(clause.text)}"]
    lines.append(f"  source    {escape(clause.source)}")
    if example is not None:
        lines.append(f"  expected  {escape(example.violation.expected)}")
        lines.append(f"  observed  {escape(example.violation.observed)}")
        if example.trace.steps:
            lines.append(f"  scene     {escape(str(example.trace.scene))}")
            lines.append("  shortest trace found, then the end of the run:")
            lines += [f"    {number}. {escape(str(step))}" for number, step in enumerate(example.trace.steps, 1)]
    return Text.from_markup("\n".join(lines))


def render(report: Report, console: Console) -> None:
    """The verdict table, the counterexamples, and one line that sums up."""
    claims = "" if report.claims is None else f" (the adapter claims {report.claims.value})"
    title = f"{report.adapter}, profile {report.profile.value}{claims}, seed {report.seed}"
    table = Table(title=title, title_justify="left")
    table.add_column("clause", no_wrap=True)
    table.add_column("level", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("observations", justify="right", no_wrap=True)
    for verdict in report.verdicts:
        clause = verdict.clause
        table.add_row(
            f"{clause.id} {clause.name}",
            clause.level.value,
            Text(verdict.outcome.value, style=style(verdict.outcome)),
            str(verdict.observations),
        )
    failed = report.with_outcome(Outcome.FAIL)
    console.print(Group(table, *_notes(report), *(counterexample(verdict) for verdict in failed)))
    for line in suite_lines(report):
        console.print(line, markup=False, soft_wrap=True)
    console.print(summary(report))


def suite_lines(report: Report) -> list[str]:
    """The complete suite in words: what was played, what a pass means, and every difference worth reading."""
    suite = report.suite
    if suite is None:
        return []
    lines = [f"complete suite: {report.suite_outcome.value}: {suite.summary}"]
    if suite.not_applicable:
        return lines
    lines.append(f"  {suite.domain}")
    for difference in suite.shown:
        named = ", ".join(difference.clauses) or "no clause is broken: a freedom of the contract, or a hole in it"
        lines.append(f"  {difference} [{named}]")
    for clause, example in sorted(suite.broken.items()):
        lines.append(f"  {clause} {BY_ID[clause].name}: expected {example.violation.expected};")
        lines.append(f"    observed: {example.violation.observed}; shortest trace found, {example.trace.scene}:")
        lines += [f"    {number}. {step}" for number, step in enumerate(example.trace.steps, 1)]
    return lines


def conclusion(report: Report) -> str:
    """The verdict on a sender, in a sentence."""
    which = "clause" if report.strict else "MUST clause"
    match report.exit_code:
        case 0:
            return f"Conforms: every {which} that applies passes."
        case 1:
            failed = sum(1 for verdict in report.with_outcome(Outcome.FAIL) if report.counts(verdict))
            if not failed:
                return "Does not conform: the complete suite failed."
            return f"Does not conform: {failed} {which}{'' if failed == 1 else 's'} failed."
        case _:
            return f"Undecided: no {which} failed, but at least one could not be judged, or the adapter broke."


def breakdowns(report: Report) -> list[str]:
    """How the adapter broke, each way once."""
    messages: list[str] = []
    for error in report.errors:
        if error.message not in messages:
            messages.append(error.message)
    return messages


def worst_exit_code(reports: Sequence[Report]) -> int:
    """That of all reports together: 1 where a clause fails anywhere, 3 where one could not be judged."""
    codes = {report.exit_code for report in reports}
    return next((code for code in (1, 3) if code in codes), 0)


def render_matrix(reports: Sequence[Report], console: Console) -> None:
    """Clause by clause what each sender came to, and the verdict on each; ``-`` where a clause does not apply.

    The reports are of one command, and so about the same clauses.
    """
    table = Table(title="all adapters", title_justify="left", show_footer=True)
    table.add_column("clause", footer="verdict", no_wrap=True)
    for report in reports:
        word = conclusion(report).partition(":")[0].lower()
        table.add_column(escape(report.adapter), footer=word, overflow="fold")
    for number, verdict in enumerate(reports[0].verdicts):
        outcomes = [report.verdicts[number].outcome for report in reports]
        table.add_row(f"{verdict.clause.id} {verdict.clause.name}", *(_cell(outcome) for outcome in outcomes))
    console.print(table)


def _cell(outcome: Outcome) -> Text:
    words = {Outcome.NOT_APPLICABLE: "-"}
    return Text(words.get(outcome, outcome.value), style=style(outcome))


def _notes(report: Report) -> list[Text]:
    """Why clauses were not judged, each reason once."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for verdict in report.verdicts:
        if verdict.note:
            reasons.setdefault((verdict.outcome.value, verdict.note), []).append(verdict.clause.id)
    notes = [f"{', '.join(ids)}: {outcome}, {note}" for (outcome, note), ids in reasons.items()]
    notes += [f"the adapter broke: {message}" for message in breakdowns(report)]
    return [Text(note) for note in notes]


def summary(report: Report) -> str:
    """How many clauses have which verdict, the worst first."""
    counts = [(outcome, len(report.with_outcome(outcome))) for outcome in Outcome]
    words = ", ".join(f"{count} {outcome.value}" for outcome, count in counts if count)
    return f"{words}; {report.runs} runs, {report.steps} steps"


def render_replay(trace: Trace, done: Replay, console: Console) -> None:
    """The run in words, then what it broke."""

    def say(words: str, style: str = "") -> None:
        console.print(words, style=style or None, markup=False, soft_wrap=True)

    say(f"scene: {trace.scene}")
    for line in narrate(done.moments):
        say(line, "bold red" if line.startswith("!") else "" if line.startswith("    ") else "bold")
    if done.left_out:
        say(f"left out, as they made no sense here or came too late: {', '.join(map(str, done.left_out))}", "yellow")
    for violation in done.violations:
        say(f"{broken(violation)} {BY_ID[violation.clause].text}", "bold red")
        say(f"  expected  {violation.expected}")
        say(f"  observed  {violation.observed}")
    if done.error is not None:
        say(f"stopped: {done.error}", "bold red")
    elif not done.violations:
        say("no clause was broken", "green")


def to_json(reports: Sequence[Report]) -> str:
    """One report as an object of ``SCHEMA``, several as one of ``COLLECTION_SCHEMA`` that has them in a list."""
    documents = [_document(report) for report in reports]
    if len(documents) == 1:
        return json.dumps(documents[0], indent=2) + "\n"
    collection = {"schema": COLLECTION_SCHEMA, "exit_code": worst_exit_code(reports), "reports": documents}
    return json.dumps(collection, indent=2) + "\n"


def _document(report: Report) -> dict[str, object]:
    """A report with its schema version. Traces are in the format of ``kvsender_spec.trace``."""
    clauses: list[dict[str, object]] = []
    for verdict in report.verdicts:
        example = verdict.counterexample
        row: dict[str, object] = {
            "id": verdict.clause.id,
            "name": verdict.clause.name,
            "level": verdict.clause.level.value,
            "verdict": verdict.outcome.value,
            "observations": verdict.observations,
            "note": verdict.note,
        }
        if example is not None:
            row["expected"] = example.violation.expected
            row["observed"] = example.violation.observed
            row["trace"] = example.trace.dump().splitlines()
        clauses.append(row)
    suite: dict[str, object] = {} if report.suite is None else {"suite": _suite_document(report, report.suite)}
    return {
        "schema": SCHEMA,
        "adapter": report.adapter,
        "profile": report.profile.value,
        "claims": (report.claims or report.profile).value,
        "strict": report.strict,
        "seed": report.seed,
        "runs": report.runs,
        "steps": report.steps,
        "exit_code": report.exit_code,
        "errors": [{"message": e.message, "trace": e.trace.dump().splitlines()} for e in report.errors],
        "clauses": clauses,
        **suite,
    }


def _suite_document(report: Report, suite: SuiteReport) -> dict[str, object]:
    return {
        "schema": SUITE_SCHEMA,
        "verdict": report.suite_outcome.value,
        "k": suite.extra,
        "states": suite.states,
        "inputs": suite.letters,
        "dropped_inputs": list(suite.dropped),
        "reports_failure": suite.reading.value,
        "words": suite.words,
        "words_planned": suite.planned,
        "calls": suite.calls,
        "fault_domain": "" if suite.not_applicable else suite.domain,
        "note": suite.not_applicable or suite.error,
        "differences": [
            {
                "word": list(difference.word),
                "says": str(difference),
                "clauses": list(difference.clauses),
                "trace": difference.trace.dump().splitlines(),
            }
            for difference in suite.shown
        ],
        "broken": {clause: example.trace.dump().splitlines() for clause, example in sorted(suite.broken.items())},
    }
