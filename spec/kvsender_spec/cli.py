"""The command ``kvsender``. Each command has a module of its own, which says what its exit codes mean."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from kvsender_spec.front import refuse

app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]}
)
COMMANDS: Final = ("check", "baseline", "replay", "explain", "learn", "list", "init-adapter", "prove", "trace")
"""In the order of the help."""


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        Console(highlight=False).print(f"kvsender-spec {version('kvsender-spec')}")
        raise typer.Exit


@app.callback()
def about(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Check KV-cache senders against the sender contract."""


def list_command() -> None:
    """List the clauses of the contract, a line each."""
    from kvsender_spec.clauses import EVERY_CLAUSE

    console = Console(highlight=False, markup=False, soft_wrap=True)
    for clause in EVERY_CLAUSE:
        rank = f"{clause.level.value:<6} {clause.profile.value:<9}"
        console.print(f"{clause.id} {clause.name:<21} {rank} {clause.text}")


def init_adapter_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="the module to write, e.g. my_adapter")],
    directory: Annotated[Path, typer.Option(help="where to write it")] = Path("."),
    reader: Annotated[bool, typer.Option("--reader", help="of a side that reads instead of one that sends")] = False,
) -> None:
    """Write an adapter that runs at once, and the pytest file that asks for every clause."""
    from kvsender_spec.kit.template import write_template

    try:
        written = write_template(directory, name, reader=reader)
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
        case "baseline":
            from kvsender_spec.baseline_command import baseline_command

            app.command(name)(baseline_command)
        case "replay":
            from kvsender_spec.replay_command import replay_command

            app.command(name)(replay_command)
        case "explain":
            from kvsender_spec.explain_command import explain_command

            app.command(name)(explain_command)
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
    try:
        for name in named or COMMANDS:
            _add(name)
        app()
    except KeyboardInterrupt:  # before or after what a command does about it
        sys.exit(130)  # 128 and the number of the signal, as in kvsender_spec.observe.verdict
