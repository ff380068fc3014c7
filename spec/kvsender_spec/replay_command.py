"""``kvsender replay``: runs one trace again.

Exit codes: 0 nothing broke, 1 a clause did, 2 wrong use, 3 the adapter broke.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from kvsender_spec.adapter_arguments import load, plain_console, refusing
from kvsender_spec.choosing import UnknownClause, clauses_of, is_clause
from kvsender_spec.front import refuse
from kvsender_spec.history.plain import one_line
from kvsender_spec.kit.parts import LoadError
from kvsender_spec.kit.replay import Replay, read_trace, replay
from kvsender_spec.machine import Profile
from kvsender_spec.report.text import LIMIT, render_run
from kvsender_spec.trace import Trace, TraceError


def replay_command(
    path: Annotated[Path, typer.Argument(metavar="TRACE|REPORT", help="a trace (NDJSON), or a report (JSON)")],
    names: Annotated[
        list[str], typer.Argument(metavar="[KS-ID] MODULE:ADAPTER", help="of a report: which clause; then the adapter")
    ],
    profile: Annotated[
        Profile | None,
        typer.Option(help="judge against this profile instead of the report's, or of the one the adapter claims"),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="a SHOULD that fails counts as a MUST")] = False,
    verbose: Annotated[bool, typer.Option(help="show what the sender logs")] = False,
) -> None:
    """Run one trace on a sender, and tell step by step what was asked, answered and broken."""
    adapters = [name for name in names if not is_clause(name)]
    with refusing(UnknownClause):
        clauses = [clause.id for name in names if is_clause(name) for clause in clauses_of(name)]
    if len(adapters) != 1 or len(clauses) > 1:
        raise refuse(f"replay takes one adapter and at most one clause, not {' '.join(names)}")
    with refusing(TraceError, about=f"{path}: "):
        trace, clause, judged = read_trace(path, *clauses)
    with refusing(LoadError):
        done = replay(load(adapters[0], verbose=verbose), trace, profile=profile or judged, strict=strict)
    _render_replay(trace, done, clause, plain_console())
    raise typer.Exit(done.exit_code)


def _render_replay(trace: Trace, done: Replay, clause: str | None, console: Console) -> None:
    console.print(f"setup: {trace.setup}")
    if done.history is not None:
        render_run(done.history, done.violations, console)
    if done.left_out:
        console.print(
            f"left out, as they made no sense where they stood: {', '.join(map(str, done.left_out))}", style="yellow"
        )
    for found in done.unclaimed:
        console.print(f"not claimed, and broken: {found.clause}: {one_line(found.observed, LIMIT)}", style="yellow")
    if done.error is not None:
        console.print(f"stopped: {one_line(str(done.error), LIMIT)}", style="bold red")
        for frame in done.error.frames:
            console.print(f"  {one_line(frame, LIMIT)}")
    if clause is not None:
        broken = done.shows(clause)
        console.print(
            f"{clause} {'still breaks' if broken else 'does not break any more'}",
            style="bold red" if broken else "green",
        )
