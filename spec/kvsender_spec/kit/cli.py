"""The command ``kvsender``. A thin front over ``kvsender_spec.kit.check``.

Exit codes: 0 every MUST clause that applies passes, 1 one fails, 2 the command was used wrongly, 3 none fails but one
could not be judged.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from kvsender_spec.clauses import CLAUSES
from kvsender_spec.kit.check import EXAMPLES, LoadError, UnknownClause, check, load_adapter, select
from kvsender_spec.kit.explore import Exploration
from kvsender_spec.kit.report import render, to_json

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

_USAGE = 2


def _refuse(message: str) -> typer.Exit:
    Console(stderr=True, highlight=False).print(f"kvsender: {message}", markup=False, soft_wrap=True)
    return typer.Exit(_USAGE)


def _writable(path: Path) -> None:
    """Refuse a report path now rather than after the work is done."""
    try:
        with path.open("a", encoding="utf-8"):
            pass
    except OSError as error:
        raise _refuse(f"cannot write the report to {path}: {error.strerror}; choose another --json path") from error


@app.callback()
def about() -> None:
    """Check KV-cache senders against the sender contract."""


@app.command("check")
def check_command(
    adapter_name: Annotated[str, typer.Argument(metavar="MODULE:ADAPTER", help="the adapter to check")],
    clauses: Annotated[list[str] | None, typer.Argument(metavar="[KS-ID]...", help="only these clauses")] = None,
    seed: Annotated[int, typer.Option(help="the same command with the same seed explores the same")] = 0,
    examples: Annotated[int, typer.Option(min=1, max=1_000_000, help="how many runs to try")] = EXAMPLES,
    json_path: Annotated[Path | None, typer.Option("--json", help="write the report there as well")] = None,
    verbose: Annotated[bool, typer.Option(help="show what the sender logs")] = False,
) -> None:
    """Explore a sender on the scripted transport and print a verdict for each clause."""
    console = Console(highlight=False)
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # an adapter beside the caller is importable, as with python -m
    if not verbose:
        logging.disable(logging.CRITICAL)  # injected faults make a careful sender log thousands of times
    try:
        adapter = load_adapter(adapter_name)
        wanted = select(clauses or ())
    except (LoadError, UnknownClause) as error:
        raise _refuse(str(error)) from error
    if json_path is not None:
        _writable(json_path)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("exploring", total=examples)

        def show(found: Exploration) -> None:
            if found.runs == examples:
                progress.update(task, description="shortening what broke" if found.broken else "concluding")
            progress.update(task, completed=min(found.runs, examples))

        try:
            report = check(adapter, seed=seed, examples=examples, clauses=wanted, on_run=show)
        except LoadError as error:
            raise _refuse(str(error)) from error
    render(report, console)
    if json_path is not None:
        json_path.write_text(to_json(report), encoding="utf-8")
    raise typer.Exit(report.exit_code)


@app.command("list")
def list_command() -> None:
    """List the clauses of the contract."""
    table = Table(show_lines=True)
    for heading in ("clause", "level", "profile", "text", "source"):
        table.add_column(heading, overflow="fold", no_wrap=heading in ("level", "profile"))
    for clause in CLAUSES:
        table.add_row(
            f"{clause.id} {clause.name}", clause.level.value, clause.profile.value, clause.text, clause.source
        )
    Console(highlight=False).print(table)


def main() -> None:
    """The console script."""
    app()
