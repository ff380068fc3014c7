"""The command ``python -m kvsender_connectors``: install the releases, check one, or check all and write the page.

Exit codes of ``matrix``: 0 everything came out as it is known to, 1 something did not, 2 the command was used wrongly
or a release is not installed. A known fail is no error: what is checked is that the page tells the truth.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console

from kvsender_connectors.connectors import BY_KEY, CONNECTORS, Connector
from kvsender_connectors.findings import Result, examine
from kvsender_connectors.page import Edition, write
from kvsender_connectors.wheels import InstallError, install, missing
from kvsender_spec.front import refuse
from kvsender_spec.kit.check import EXAMPLES
from kvsender_spec.kit.loading import load_adapter
from kvsender_spec.kit.parts import LoadError
from kvsender_spec.report.json import ReportError
from kvsender_spec.report.text import causes, counterexample, members, render_matrix

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

CHECK_TIMEOUT_S: Final = 3600.0
_COMMAND: Final = "connectors"


def _chosen(keys: Sequence[str]) -> list[Connector]:
    unknown = sorted(set(keys) - BY_KEY.keys())
    if unknown:
        raise refuse(f"no such connector: {', '.join(unknown)}; there are: {', '.join(BY_KEY)}", _COMMAND)
    return [connector for connector in CONNECTORS if not keys or connector.key in keys]


@app.callback()
def about() -> None:
    """Check published KV-cache senders against the sender contract."""


@app.command("install")
def install_command() -> None:
    """Install the releases into .connectors, each into a folder of its own."""
    try:
        install(lambda what: Console(highlight=False).print(what, markup=False))
    except InstallError as error:
        raise refuse(str(error), _COMMAND) from error


@app.command("check")
def check_command(
    key: Annotated[str, typer.Argument(metavar="CONNECTOR")],
    json_path: Annotated[Path, typer.Option("--json", help="write the findings there")],
    seed: Annotated[int, typer.Option(help="the same seed explores the same")] = 0,
    examples: Annotated[int, typer.Option(min=1, help="how many random runs")] = EXAMPLES,
) -> None:
    """Check one connector in this process, which then can check no other."""
    (connector,) = _chosen([key])
    logging.disable(logging.CRITICAL)  # injected faults make a careful sender log thousands of times
    try:
        adapter = load_adapter(connector.adapter)
    except LoadError as error:
        raise refuse(str(error), _COMMAND) from error
    findings = examine(adapter, seed=seed, examples=examples)
    json_path.write_bytes(msgspec.json.format(msgspec.json.encode(findings), indent=1))
    # Threads of a release that are still there, such as a worker that waits for a peer, are not waited for.
    sys.stdout.flush()
    os._exit(0)


@app.command("matrix")
def matrix_command(
    keys: Annotated[list[str] | None, typer.Argument(metavar="[CONNECTOR]...", help="only these")] = None,
    seed: Annotated[int, typer.Option(help="the same seed explores the same")] = 0,
    examples: Annotated[int, typer.Option(min=1, help="how many random runs for each")] = EXAMPLES,
    page_path: Annotated[Path | None, typer.Option("--page", help="write the page there, as Markdown")] = None,
    kept: Annotated[
        Path | None, typer.Option("--findings", help="keep findings in this folder; what is there is not checked again")
    ] = None,
) -> None:
    """Check the connectors, each in a process of its own; print the matrix of clauses and releases, and each fail."""
    console = Console(highlight=False)
    chosen = _chosen(keys or ())
    lacking = {connector.release for connector in chosen} & set(missing())
    if lacking:
        raise refuse(
            f"not installed: {', '.join(sorted(map(str, lacking)))}; run the command `install` first", _COMMAND
        )
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as scratch:
        for connector in chosen:
            console.print(f"check {connector.title}", markup=False)
            results.append(_check_apart(connector, seed, examples, (kept or Path(scratch)) / f"{connector.key}.json"))
    _print(results, console)
    if page_path is not None:
        edition = Edition(datetime.now(UTC).date().isoformat(), seed, examples, _versions())
        page_path.write_text(write(edition, results), encoding="utf-8")
    found = [complaint for result in results for complaint in result.complaints]
    for complaint in found:
        console.print(complaint, style="bold red", markup=False, soft_wrap=True)
    raise typer.Exit(1 if found else 0)


def _check_apart(connector: Connector, seed: int, examples: int, path: Path) -> Result:
    if not path.is_file():
        _check_into(connector, seed, examples, path)
    try:
        return Result.read(connector, path.read_bytes())
    except ReportError as error:
        raise refuse(f"{connector.key}: {error}", _COMMAND) from error


def _check_into(connector: Connector, seed: int, examples: int, path: Path) -> None:
    command = (sys.executable, "-m", "kvsender_connectors", "check", connector.key, "--json", str(path))
    options = ("--seed", str(seed), "--examples", str(examples))
    done = subprocess.run((*command, *options), capture_output=True, text=True, timeout=CHECK_TIMEOUT_S, check=False)
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()
        raise refuse(f"{connector.key}: {last[-1] if last else f'exit code {done.returncode}'}", _COMMAND)


def _print(results: Sequence[Result], console: Console) -> None:
    """What broke, by connector and cause, then the matrix."""
    for result in results:
        console.print(f"\n{result.connector.title}", style="bold", markup=False)
        for group in causes(result.report):
            console.print(counterexample(group.cause, group.consequences), soft_wrap=True)
            for entry in (entry for verdict in members(group) for entry in result.why(verdict.clause.id)):
                known = f"{entry.kind.value} {' '.join(entry.references)}".rstrip()
                console.print(f"  {known}: {entry.why}", markup=False, soft_wrap=True)
    render_matrix([result.report for result in results], console)


def _versions() -> list[tuple[str, str]]:
    found = [("Python", python_version())]
    for package in ("kvsender-spec", "hypothesis", "torch", "numpy", "msgspec"):
        try:
            found.append((package, version(package)))
        except PackageNotFoundError:
            continue
    return [*found, ("NIXL's error classes", "stand-ins of the same names")]
