"""A report as text for people: what broke first, then the verdict on every clause."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, assert_never

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kvsender_spec.clauses import BY_ID, Clause
from kvsender_spec.history.events import History
from kvsender_spec.history.plain import count, one_line, printable, short
from kvsender_spec.history.telling import Line, Teller
from kvsender_spec.observe.verdict import Breakdown, Group, Outcome, Report, Verdict, Violation

LIMIT: Final = 2000
"""Characters of what was expected, observed or said by an error. JSON has all of it."""
_BAD: Final = "bold red"


def style(outcome: Outcome) -> str:
    """The colour of an outcome."""
    match outcome:
        case Outcome.FAIL | Outcome.FAIL_AFTER | Outcome.ERROR:
            return _BAD
        case Outcome.INCONCLUSIVE:
            return "yellow"
        case Outcome.PASS:
            return "green"
        case Outcome.NOT_CLAIMED | Outcome.NOT_APPLICABLE:
            return "dim"
        case _:
            assert_never(outcome)


# ------------------------------------------------------------------------------------------------ what is reported


def heading(group: Group) -> str:
    """The clauses of a group: "KS-2.2 NO-SUCCESS-AFTER-FAIL (MUST); with it KS-1.2, KS-2.1"."""
    cause = group.cause
    others = ", ".join(verdict.clause.id for verdict in group.consequences)
    after = f", only after {cause.after}" if cause.outcome is Outcome.FAIL_AFTER else ""
    return f"{title(cause.clause)} ({cause.clause.level.value}){after}" + (f"; with it {others}" if others else "")


def title(clause: Clause) -> str:
    """The id and the name of a clause."""
    return f"{clause.id} {clause.name}"


def relation(cause: Verdict, verdict: Verdict) -> str:
    """What a clause that fails has to do with the cause of its group."""
    if verdict.outcome is Outcome.FAIL_AFTER:
        return f"broken only after {verdict.after}"
    return f"broken by the same trace as {cause.clause.id}"


def causes(report: Report) -> list[Group]:
    """What failed, by trace; what is only ever broken after a clause that did not fail itself comes later, and what is
    known comes last."""
    return sorted(report.groups, key=_order)


def _order(group: Group) -> tuple[bool, bool]:
    return all_known(group), group.cause.outcome is not Outcome.FAIL


def members(group: Group) -> tuple[Verdict, ...]:
    """All verdicts of a group, the cause first."""
    return (group.cause, *group.consequences)


def of_one_trace(group: Group) -> tuple[Verdict, ...]:
    """The verdicts of a group that the trace of its cause shows, the cause first."""
    mine = group.cause.evidence
    if mine is None or mine.trace is None:
        return (group.cause,)
    others = [v for v in group.consequences if v.evidence is not None and v.evidence.trace == mine.trace]
    return (group.cause, *others)


def conclusion(report: Report) -> str:
    """The result for a sender, in a sentence."""
    which = "clause" if report.strict else "MUST clause"
    failed = [verdict for verdict in report.verdicts if verdict.outcome.failed]
    counted = sum(1 for verdict in failed if verdict.counts(strict=report.strict))
    known = sum(1 for verdict in failed if verdict.known)
    match report.exit_code:
        case 0 if known:
            return f"Conforms but for {count(known, 'failure')} that are known: every other {which} passes."
        case 0:
            return f"Conforms: every {which} that applies passes."
        case 1 if counted:
            return f"Does not conform: {count(counted, which)} failed."
        case 1 if report.stale:
            return f"Stale: known failures that do not come any more: {', '.join(report.stale)}."
        case 1:
            return "Does not conform: the complete suite failed."
        case 130:
            return f"Cut off: the check was interrupted; {count(counted, which)} had failed by then."
        case _:
            return f"Undecided: no {which} failed, but at least one could not be decided, or the adapter broke."


def subject(report: Report) -> str:
    """What was checked: the adapter, the profile and the seed."""
    claims = "" if report.claims is None else f" (the adapter claims {report.claims.value})"
    budget = "" if report.made_by is None else f", budget {report.made_by.budget}"
    return f"{one_line(report.adapter, LIMIT)}, profile {report.profile.value}{claims}, seed {report.seed}{budget}"


def summary(report: Report) -> str:
    """How many clauses have which verdict, the worst first."""
    counts = [(outcome, len(report.with_outcome(outcome))) for outcome in Outcome]
    words = ", ".join(f"{number} {outcome.value}" for outcome, number in counts if number)
    return f"{words}; {count(report.runs, 'run')}, {count(report.steps, 'step')}"


def all_known(group: Group) -> bool:
    """Whether every failure of the group is one that a deviation expects."""
    return all(verdict.known for verdict in members(group))


def made_by(report: Report) -> str:
    """What made the report, in a line; empty where nobody noted it."""
    made = report.made_by
    if made is None:
        return ""
    package = f", adapter of {made.package}" if made.package else ""
    versions = f"kvsender-spec {made.kit}, contract {made.contract}, hypothesis {made.hypothesis}, Python {made.python}"
    return f"{versions}{package}; budget {made.budget}, seed {report.seed}; {made.date}; {made.command}"


def next_steps(reports: Sequence[Report], names: Sequence[str], options: str, json_path: str) -> list[str]:
    """After a failure: how to see it told, what it means, and how to repeat it. ``names`` are those of the adapters on
    the command line, ``json_path`` is where the report is, if anywhere."""
    for report, name in zip(reports, names, strict=False):
        fresh = [group for group in causes(report) if not all_known(group)]
        if fresh:
            clause = fresh[0].cause.clause.id
            kept = json_path if json_path not in ("", "-") else ""
            report_path = kept or "report.json"
            lines = [
                f"  to repeat it:  kvsender check {name} {clause} {options}"
                + ("" if kept else f" --json {report_path}")
            ]
            lines.append(f"  to see it told:  kvsender replay {report_path} {clause} {name}")
            lines.append(f"  what it means:  kvsender explain {kept or clause}")
            return lines
    return []


def breakdowns(report: Report) -> list[Breakdown]:
    """How the adapter broke, each way once."""
    found: dict[tuple[str, tuple[str, ...]], Breakdown] = {}
    for error in report.errors:
        found.setdefault((error.message, error.frames), error)
    return list(found.values())


def notes(report: Report) -> list[str]:
    """Why clauses were not decided, each reason once."""
    reasons: dict[str, list[str]] = {}
    for verdict in report.verdicts:
        if verdict.note and not (verdict.outcome is Outcome.NOT_CLAIMED and verdict.broken):
            reasons.setdefault(reason(verdict), []).append(verdict.clause.id)
    return [f"{', '.join(ids)}: {said}" for said, ids in reasons.items()]


def reason(verdict: Verdict) -> str:
    """The note of a verdict, in one line that begins with the outcome."""
    outcome, note = verdict.outcome.value, one_line(verdict.note, LIMIT)
    return note if note.startswith(outcome) else f"{outcome}: {note}"


def broken_unclaimed(report: Report) -> list[Verdict]:
    """What the profile does not claim and was seen broken."""
    return [verdict for verdict in report.with_outcome(Outcome.NOT_CLAIMED) if verdict.broken]


def unclaimed_line(verdict: Verdict) -> str:
    """A broken clause that is not claimed, with its first trace, in one line."""
    line = f"{title(verdict.clause)}: {verdict.text}"
    evidence = verdict.evidence
    if evidence is None:
        return line
    where = evidence.where
    if evidence.trace is not None and evidence.trace.steps:
        where = f"{evidence.trace.setup}: {'; '.join(evidence.trace.told)}"
    return f"{line}; first by {one_line(where, LIMIT)}" if where else line


def observed_line(verdict: Verdict) -> str:
    """What was expected and observed, in one line; the note where there is no evidence."""
    evidence = verdict.evidence
    if evidence is None:
        return one_line(verdict.note, LIMIT)
    expected, observed = evidence.violation.expected, evidence.violation.observed
    return f"expected {one_line(expected, LIMIT)}; observed: {one_line(observed, LIMIT)}"


def broken(violation: Violation) -> str:
    """The clause of a violation, as a heading; after which clause, where another one broke first."""
    clause = BY_ID.get(violation.clause)
    name = violation.clause if clause is None else f"{title(clause)} ({clause.level.value})"
    return f"{name}, after {violation.after}" if violation.after else name


def tell(history: History, violations: Sequence[Violation] = ()) -> Iterator[Line]:
    """The history in words. A violation follows the event that shows it, or stands at the end if none does.

    Lines that start with an exclamation mark tell what broke.
    """
    waiting = [Line("broken", f"!      breaks {broken(violation)}", violation.seq) for violation in violations]
    for line in Teller(history).lines():
        yield line
        shown = [one for one in waiting if 0 <= one.seq <= line.seq]
        waiting = [one for one in waiting if one not in shown]
        yield from shown
    yield from waiting


def narrate(history: History, violations: Sequence[Violation] = ()) -> list[str]:
    """The same as plain text."""
    return [line.text for line in tell(history, violations)]


# --------------------------------------------------------------------------------------------------- for a terminal


def _lines(*parts: tuple[str, str]) -> Text:
    """Lines, each with a style. What they quote cannot leave its line, and no control character gets through."""
    said = Text()
    for number, (words, look) in enumerate(parts):
        said.append("\n" * (number > 0) + printable(words).replace("\r", "\\r"), look)
    return said


def _field(name: str, words: str) -> tuple[str, str]:
    return f"  {name:<9} {short(words, LIMIT)}".replace("\n", f"\n{'':12}"), ""


def counterexample(verdict: Verdict, consequences: Sequence[Verdict] = ()) -> Text:
    """One clause that failed, readable alone, and in a line each what else broke with it."""
    clause, evidence = verdict.clause, verdict.evidence
    group = Group(verdict, tuple(consequences))
    lines = [(heading(group), _BAD), _field("rule", clause.text), _field("source", clause.source)]
    if evidence is not None:
        violation = evidence.violation
        lines += [_field("expected", violation.expected), _field("observed", violation.observed)]
        if evidence.where:
            lines.append(_field("where", evidence.where))
        if violation.contexts:
            lines.append(_field("contexts", f"{', '.join(sorted(violation.contexts))} may be why"))
        lines += _frames(violation.frames)
        if evidence.trace is not None and evidence.trace.steps:
            lines += [_field("setup", str(evidence.trace.setup)), ("  shortest trace found:", "")]
            lines += [(f"    {number}. {step}", "") for number, step in enumerate(evidence.trace.told, 1)]
    elif verdict.note:
        lines.append(_field("note", verdict.note))
    for other in consequences:
        says = f"{title(other.clause)} ({other.clause.level.value}), {relation(verdict, other)}"
        lines.append(_field("with it", f"{says}: {observed_line(other)}"))
    return _lines(*lines)


def _frames(frames: Sequence[str]) -> list[tuple[str, str]]:
    lines = [(f"    {one_line(frame, LIMIT)}", "") for frame in frames]
    return [("  last frames of the error:", ""), *lines] if lines else []


def render(report: Report, console: Console) -> None:
    """The result, what broke, the verdict on every clause, why some have none, and one line that sums up."""

    def say(words: str, look: str = "") -> None:
        console.print(_lines((words, look)), soft_wrap=True)

    say(subject(report), "bold")
    say(conclusion(report), style(_overall(report)))
    for error in breakdowns(report):
        say(f"the adapter broke: {one_line(error.message, LIMIT)}", _BAD)
        for frame, _ in _frames(error.frames):
            say(frame)
    for group in causes(report):
        console.print()
        if all_known(group):
            say(f"{heading(group)}: known: {one_line(group.cause.known, LIMIT)}", "yellow")
        else:
            console.print(counterexample(group.cause, group.consequences), soft_wrap=True)
    for clause in report.stale:
        say(f"{clause} is among the known failures, and does not fail: take it out", _BAD)
    console.print()
    console.print(_table(report), soft_wrap=False)
    unclaimed = broken_unclaimed(report)
    for number, verdict in enumerate(unclaimed):
        if not number:
            say("not claimed, and broken:")
        say(f"  {unclaimed_line(verdict)}", "yellow")
    for note in notes(report):
        say(note)
    if report.suite is not None:
        for line in report.suite.lines:
            say(one_line(line, LIMIT))
    say(summary(report))


def _overall(report: Report) -> Outcome:
    return {0: Outcome.PASS, 1: Outcome.FAIL}.get(report.exit_code, Outcome.INCONCLUSIVE)


def _table(report: Report) -> Table:
    table = Table()
    table.add_column("clause", no_wrap=True)
    table.add_column("level", no_wrap=True)
    table.add_column("verdict", overflow="fold")
    table.add_column("observations", justify="right", no_wrap=True)
    for verdict in report.verdicts:
        clause = verdict.clause
        look = Text(verdict.text, style=style(verdict.outcome))
        table.add_row(title(clause), clause.level.value, look, str(verdict.observations))
    return table


def render_matrix(reports: Sequence[Report], console: Console) -> None:
    """Clause by clause what each sender came to, and the result for each; ``-`` where a clause does not apply."""
    table = Table(title="all adapters", title_justify="left", show_footer=True)
    table.add_column("clause", footer="result", no_wrap=True)
    for report in reports:
        word = conclusion(report).partition(":")[0].lower()
        table.add_column(_lines((one_line(report.adapter, LIMIT), "")), footer=word, overflow="fold")
    for clause, row in matrix(reports):
        cells = [Text() if v is None else Text(_cell(v), style=style(v.outcome)) for v in row]
        table.add_row(title(clause), *cells)
    console.print(table, soft_wrap=False)


def matrix(reports: Sequence[Report]) -> list[tuple[Clause, list[Verdict | None]]]:
    """The clauses that any report is about, and what each report says of them."""
    clauses = {verdict.clause.id: verdict.clause for report in reports for verdict in report.verdicts}
    columns = [{verdict.clause.id: verdict for verdict in report.verdicts} for report in reports]
    return [(clause, [column.get(name) for column in columns]) for name, clause in clauses.items()]


def _cell(verdict: Verdict) -> str:
    return "-" if verdict.outcome is Outcome.NOT_APPLICABLE else verdict.text


def render_run(history: History, violations: Sequence[Violation], console: Console) -> None:
    """One run in words, then what it broke: for ``kvsender replay`` and for traces."""
    looks = {"step": "bold", "event": "", "broken": _BAD}
    for line in tell(history, violations):
        console.print(_lines((line.text, looks[line.kind])), soft_wrap=True)
    for violation in violations:
        lines = [(broken(violation), _BAD), _field("expected", violation.expected)]
        lines += [_field("observed", violation.observed), *_frames(violation.frames)]
        console.print(_lines(*lines), soft_wrap=True)
    if not violations:
        console.print("no clause was broken", style="green")
