"""``kvsender trace``: shows recorded histories, and says what each clause comes to in them.

Exit codes of ``check``: 0 nothing failed and everything was observed, 1 a MUST clause failed, 2 a file is not a history
or the command was used wrongly, 3 nothing failed, but a clause could not be decided.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Protocol

import typer
from rich.console import Console
from rich.text import Text

from kvsender_spec.clauses import CLAUSES
from kvsender_spec.front import refuse, require_writable
from kvsender_spec.history.events import AnyEvent, Header, History, RunEnded
from kvsender_spec.history.export import to_perfetto
from kvsender_spec.history.ndjson import HistoryError, read
from kvsender_spec.history.schema import schema_page
from kvsender_spec.history.telling import Teller, plain, tell
from kvsender_spec.machine import Profile
from kvsender_spec.observe.verdict import Evidence, Outcome, Verdict, exit_code, merge

COMMAND = "kvsender trace"
STANDARD_INPUT = "-"

trace_app = typer.Typer(no_args_is_help=True, help="Show recorded histories, and check them against the clauses.")


class Observing(Protocol):
    """What is used of ``kvsender_spec.observe.observer.Observer``."""

    def see(self, event: AnyEvent) -> object:
        """Take the next event."""

    def verdicts(self, profile: Profile | None = None) -> tuple[Verdict, ...]:
        """One for each clause."""


def new_observer(header: Header) -> Observing:
    """An observer of one history."""
    from kvsender_spec.observe.observer import Observer

    made: Observing = Observer(header)
    return made


@dataclass(frozen=True, slots=True)
class Recorded:
    """A history, and the name of its file."""

    name: str
    history: History

    def verdicts(self, profile: Profile | None) -> tuple[Verdict, ...]:
        """One for each clause; the evidence says which file it is from."""
        observer = new_observer(self.history.header)
        for event in self.history.events:
            observer.see(event)
        return tuple(map(self._named, observer.verdicts(profile)))

    def _named(self, verdict: Verdict) -> Verdict:
        if verdict.evidence is None:
            return verdict
        return replace(verdict, evidence=replace(verdict.evidence, where=self.name, history=self.history))


def _read(name: str) -> Recorded:
    try:
        if name == STANDARD_INPUT:
            return Recorded("standard input", read(sys.stdin.buffer))
        return Recorded(name, read(Path(name)))
    except HistoryError as error:
        raise refuse(f"{plain(name)}: {error}", COMMAND) from error
    except OSError as error:
        raise refuse(f"cannot read {plain(name)}: {error.strerror}", COMMAND) from error


@trace_app.command("show")
def show_command(
    name: Annotated[str, typer.Argument(metavar="FILE", help="a history as NDJSON; - reads standard input")],
    perfetto: Annotated[
        Path | None, typer.Option("--perfetto", help="write it there for https://ui.perfetto.dev instead")
    ] = None,
) -> None:
    """Tell a history in words, one line an event, or write it for a viewer of traces."""
    require_writable(perfetto, "--perfetto", COMMAND)
    recorded = _read(name)
    if perfetto is None:
        for line in tell(recorded.history):
            typer.echo(line)
    else:
        perfetto.write_text(to_perfetto(recorded.history), encoding="utf-8")
        typer.echo(f"wrote {perfetto}")


@trace_app.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of a line of a history."""
    typer.echo(schema_page(), nl=False)


@trace_app.command("check")
def check_command(
    names: Annotated[list[str], typer.Argument(metavar="FILE...", help="histories; - reads standard input")],
    profile: Annotated[
        Profile | None, typer.Option(help="check against this profile instead of the one each history claims")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="a SHOULD that fails counts as a MUST")] = False,
) -> None:
    """Say for each clause whether recorded histories keep it; all are read before the first is checked."""
    for number, name in enumerate(names):
        if name in names[:number]:
            raise refuse(f"{plain(name)} is named twice", COMMAND)
    recorded = [_read(name) for name in names]
    verdicts = merged([one.verdicts(profile) for one in recorded])
    code = exit_code(verdicts, strict=strict)
    console = Console(highlight=False)
    for row in _rows(verdicts):
        console.print(row, soft_wrap=True)
    lines = (*_incomplete(recorded), *(line for one in verdicts for line in explained(one)), _conclusion(code, strict))
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)
    raise typer.Exit(code)


def merged(all_of_them: Sequence[Sequence[Verdict]]) -> tuple[Verdict, ...]:
    """The verdicts on several histories, clause by clause, in the order of the contract."""
    found = [[one for verdicts in all_of_them for one in verdicts if one.clause is clause] for clause in CLAUSES]
    return tuple(merge(same) for same in found if same)


def _rows(verdicts: Sequence[Verdict]) -> Iterator[Text]:
    """A line a clause. No table: a note is long, and a column of a table is as narrow as the terminal leaves it."""
    styles = {Outcome.PASS: "green", Outcome.INCONCLUSIVE: "yellow", Outcome.ERROR: "bold red"}
    widest = max((len(verdict.text) for verdict in verdicts), default=0)
    for verdict in verdicts:
        clause = verdict.clause
        style = "bold red" if verdict.outcome.failed else styles.get(verdict.outcome, "dim")
        note = f"  {plain(verdict.note)}" if verdict.note else ""
        yield Text.assemble(
            f"{clause.id} {clause.name:<22} {clause.level.value:<6}  ",
            (f"{verdict.text:<{widest}}", style),
            f" {verdict.observations:6}{note}",
        )


def _incomplete(recorded: Iterable[Recorded]) -> Iterator[str]:
    for one in recorded:
        last = one.history.events[-1] if one.history.events else None
        if not isinstance(last, RunEnded):
            yield f"{plain(one.name)} is incomplete: it does not say how the run ended."
        elif not last.complete:
            yield f"{plain(one.name)} is incomplete: {Teller(one.history).words(last)}."


def explained(verdict: Verdict) -> Iterator[str]:
    """A failed clause: the rule, what was expected and observed, and the first event that shows it."""
    if not verdict.outcome.failed:
        return
    clause, evidence = verdict.clause, verdict.evidence
    yield f"{clause.id} {clause.name} ({clause.level.value}): {verdict.text}. {clause.text}"
    if evidence is None:
        return
    violation = evidence.violation
    yield f"  expected  {plain(violation.expected)}"
    yield f"  observed  {plain(violation.observed)}"
    yield f"  shown by  {_event(evidence)}"
    yield from (f"            {plain(frame)}" for frame in violation.frames)
    if violation.contexts:
        yield f"  in view   {', '.join(sorted(violation.contexts))}: their circumstances were there, and may be why"


def _event(evidence: Evidence) -> str:
    seq, history, file = evidence.violation.seq, evidence.history, plain(evidence.where)
    room = "" if evidence.violation.room is None else f", room {evidence.violation.room}"
    if history is None or not 0 <= seq < len(history.events):
        return f"{file}{room}: the whole of it, no single event"
    event = history.events[seq]
    return f"{file}, event {seq} at {event.t:.6f} s{room}: {Teller(history).words(event)}"


def _conclusion(code: int, strict: bool) -> str:
    which = "clause" if strict else "MUST clause"
    words = {
        0: f"No {which} failed, and all that apply were observed.",
        1: f"At least one {which} failed.",
        3: f"Undecided: no {which} failed, but at least one could not be decided.",
    }
    return words[code]
