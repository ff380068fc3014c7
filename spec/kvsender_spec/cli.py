"""The command ``kvsender``. Each command has a module of its own, which says what its exit codes mean."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from kvsender_spec.front import refuse

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
COMMANDS: Final = ("check", "replay", "learn", "list", "init-adapter", "prove", "trace")
"""In the order of the help."""


@app.callback()
def about() -> None:
    """Check KV-cache senders against the sender contract."""


def list_command() -> None:
    """List the clauses of the contract."""
    from rich.table import Table

    from kvsender_spec.clauses import CLAUSES

    table = Table(show_lines=True)
    for heading in ("clause", "level", "profile", "text", "source"):
        table.add_column(heading, overflow="fold", no_wrap=heading in ("level", "profile"))
    for clause in CLAUSES:
        table.add_row(
            f"{clause.id} {clause.name}", clause.level.value, clause.profile.value, clause.text, clause.source
        )
    Console(highlight=False, markup=False).print(table)


def init_adapter_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="the module to write, e.g. my_adapter")],
    directory: Annotated[Path, typer.Option(help="where to write it")] = Path("."),
) -> None:
    """Write an adapter that runs at once, and the pytest file that asks for every clause."""
    from kvsender_spec.kit.template import write_template

    try:
        written = write_template(directory, name)
    except ValueError as error:
        raise refuse(str(error)) from error
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(*(f"wrote {path}" for path in written), sep="\n")


def _add(name: str) -> None:
    """Add a command to the app. The others are not imported: that may take longer than the work of this one."""
    match name:
        case "check":
            from kvsender_spec.check_command import check_command

            app.command(name)(check_command)
        case "replay":
            from kvsender_spec.replay_command import replay_command

            app.command(name)(replay_command)
        case "learn":
            from kvsender_spec.learn_command import learn_command

            app.command(name)(learn_command)
        case "list":
            app.command(name)(list_command)
        case "init-adapter":
            app.command(name)(init_adapter_command)
        case "prove":
            from kvsender_spec.formal.command import prove_command

            app.command(name)(prove_command)
        case _:
            from kvsender_spec.trace_command import trace_app

            app.add_typer(trace_app, name="trace")


def main() -> None:
    """The console script. Where no command is named, the help or the refusal shows them all."""
    named = [name for name in COMMANDS if sys.argv[1:2] == [name]]
    for name in named or COMMANDS:
        _add(name)
    app()
