"""``kvsender trace``: shows recorded histories, and says what each clause comes to in them.

Exit codes of ``check``: 0 nothing failed and everything was observed, 1 a MUST clause failed, 2 a file is not a history
or the command was used wrongly, 3 nothing failed, but a clause could not be decided.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from kvsender_spec.front import refuse, require_writable
from kvsender_spec.history.export import to_perfetto
from kvsender_spec.history.ndjson import HistoryError, read
from kvsender_spec.history.plain import one_line
from kvsender_spec.history.schema import schema_page
from kvsender_spec.history.telling import tell
from kvsender_spec.machine import Profile
from kvsender_spec.observe.verdict import exit_code
from kvsender_spec.recorded import Recorded, incomplete, merged, rows
from kvsender_spec.report.text import LIMIT, counterexample

COMMAND = "kvsender trace"
STANDARD_INPUT = "-"

trace_app = typer.Typer(no_args_is_help=True, help="Show recorded histories, and check them against the clauses.")


def _read(name: str) -> Recorded:
    try:
        if name == STANDARD_INPUT:
            return Recorded("standard input", read(sys.stdin.buffer))
        return Recorded(name, read(Path(name)))
    except HistoryError as error:
        if name != STANDARD_INPUT and _is_report(Path(name)):
            said = "a report, not a history: `kvsender explain` explains it, `kvsender replay` runs its traces"
            raise refuse(f"{one_line(name, LIMIT)}: {said}", COMMAND) from error
        raise refuse(f"{one_line(name, LIMIT)}: {error}", COMMAND) from error
    except OSError as error:
        raise refuse(f"cannot read {one_line(name, LIMIT)}: {error.strerror}", COMMAND) from error


def _is_report(path: Path) -> bool:
    with path.open("rb") as file:
        return b'"kvsender-report' in file.read(200)


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
            raise refuse(f"{one_line(name, LIMIT)} is named twice", COMMAND)
    recorded = [_read(name) for name in names]
    verdicts = merged([one.verdicts(profile) for one in recorded])
    code = exit_code(verdicts, strict=strict)
    failed = [counterexample(verdict) for verdict in verdicts if verdict.outcome.failed]
    lines = (*rows(verdicts), *incomplete(recorded), *failed, _conclusion(code, strict))
    Console(highlight=False, markup=False, soft_wrap=True).print(*lines, sep="\n")
    raise typer.Exit(code)


def _conclusion(code: int, strict: bool) -> str:
    which = "clause" if strict else "MUST clause"
    words = {
        0: f"No {which} failed, and all that apply were observed.",
        1: f"At least one {which} failed.",
        3: f"Undecided: no {which} failed, but at least one could not be decided.",
    }
    return words[code]
