"""The command ``python -m kvsender_nixl.lab.verify``: the reference sender against the specification, in two layers.

The scripted layer explores it on the kit's scripted transport; the real layer runs it on NIXL against processes that
are killed, stopped and restarted. Exit codes: 0 every MUST clause passes in every layer that judges it, 1 one fails, 2
the command was used wrongly or something is not installed, 3 none fails but something could not be judged.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from kvsender_nixl.lab.process import NIXL_ENV
from kvsender_spec.clauses import CLAUSES
from kvsender_spec.front import refuse, require_writable
from kvsender_spec.history.ndjson import write
from kvsender_spec.kit.check import check
from kvsender_spec.observe.attribution import Tally
from kvsender_spec.observe.verdict import Outcome, Report, Verdict, Violation, worst_exit_code
from kvsender_spec.report.json import ReportDocument, document
from kvsender_spec.report.text import causes, counterexample, style, title

if TYPE_CHECKING:
    from kvsender_nixl.lab.layer import RealReport, ScenarioResult
    from kvsender_nixl.lab.scenarios import Scenario

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

SCHEMA: Final = "kvsender-verify/2"
SCRIPTED: Final = "scripted"
"""The name of the scripted layer among the scenarios."""
RUNS: Final = 500
"""Of the scripted check, which is one half of a job of less than a minute; `kvsender check` tries more."""
INSTALL: Final = "pip install torch, then pip install --no-deps nixl==1.5.1 nixl-cu13==1.5.1 (or: make install)"
_COMMAND: Final = "verify"


def _require_nixl_and_torch() -> None:
    for module in ("torch", "nixl"):
        if importlib.util.find_spec(module) is None:
            raise refuse(f"{module} is not installed; {INSTALL}", _COMMAND)
    os.environ.update(NIXL_ENV)  # before the first import of nixl, which reads some of it
    from kvsender_nixl.agent import ERROR_CLASSES

    if not ERROR_CLASSES:
        raise refuse(f"nixl is installed, but its backend cannot be imported; {INSTALL}", _COMMAND)


def _terminated(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


@app.command()
def verify(
    seed: Annotated[int, typer.Option(help="fixes the scripted exploration, and the bytes")] = 0,
    json_path: Annotated[Path | None, typer.Option("--json", help="write the report there as well")] = None,
    histories: Annotated[Path | None, typer.Option(help="keep the history of each scenario in this folder")] = None,
    only: Annotated[list[str] | None, typer.Option(metavar="SCENARIO", help="only this one; repeatable")] = None,
    list_them: Annotated[bool, typer.Option("--list", help="list the scenarios and stop")] = False,
) -> None:
    """Check the reference sender on the scripted transport, and on real NIXL between processes."""
    began = time.monotonic()
    _require_nixl_and_torch()
    from kvsender_nixl.lab.scenarios import SCENARIOS

    if list_them:
        _list(SCENARIOS)
        raise typer.Exit
    names = {SCRIPTED, *(scenario.name for scenario in SCENARIOS)}
    wanted = set(only) if only else names
    if wanted - names:
        raise refuse(f"no such scenario: {', '.join(sorted(wanted - names))}; --list shows them all", _COMMAND)
    require_writable(json_path, "--json", _COMMAND)
    _make_folder(histories)
    logging.disable(logging.CRITICAL)  # a careful sender logs every fault, and here there are thousands
    signal.signal(signal.SIGTERM, _terminated)  # so that no stopped process is left behind
    chosen = [scenario for scenario in SCENARIOS if scenario.name in wanted]
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as progress:
        scripted, real = _run(seed, SCRIPTED in wanted, chosen, progress)
    seconds = time.monotonic() - began
    code = worst_exit_code(_reports(scripted, real))
    _render(scripted, real, seconds, code)
    if json_path is not None:
        json_path.write_bytes(as_json(scripted, real, seed, seconds, code))
    if histories is not None and real is not None:
        for result in real.results:
            if result.history is not None:
                write(result.history, histories / f"{result.scenario.name}.ndjson")
    raise typer.Exit(code)


def _make_folder(path: Path | None) -> None:
    if path is not None:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise refuse(f"cannot make {path}: {error.strerror}; choose another --histories path", _COMMAND) from error
        require_writable(path / "history.ndjson", "--histories", _COMMAND)


def _reports(scripted: Report | None, real: RealReport | None) -> list[Report]:
    return [report for report in (scripted, None if real is None else real.report) if report is not None]


def _run(
    seed: int, with_scripted: bool, chosen: list[Scenario], progress: Progress
) -> tuple[Report | None, RealReport | None]:
    from kvsender_nixl.adapter import adapter
    from kvsender_nixl.lab import layer
    from kvsender_nixl.lab.real_world import RealWorld

    scripted: Report | None = None
    real: RealReport | None = None
    world: RealWorld | None = None
    try:
        if chosen:
            world = RealWorld(seed)  # its processes start while the scripted check runs
        if with_scripted:
            task = progress.add_task("scripted transport", total=RUNS)

            def show(found: Tally) -> None:
                progress.update(task, completed=min(found.runs, RUNS))

            scripted = check(adapter, seed=seed, examples=RUNS, on_run=show)
        if world is not None:
            real = layer.run(world, _shown(progress, chosen))
    finally:
        if world is not None:
            world.close()
    return scripted, real


def _shown(progress: Progress, scenarios: Sequence[Scenario]) -> Iterator[Scenario]:
    task = progress.add_task("real NIXL", total=len(scenarios))
    for scenario in progress.track(scenarios, task_id=task):
        progress.update(task, description=f"real NIXL: {scenario.name}")
        yield scenario


def _list(scenarios: Iterable[Scenario]) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("scenario", "what happens", "clauses"):
        table.add_column(heading, no_wrap=heading == "scenario")
    table.add_row(SCRIPTED, "the scripted check, with the kit's faults", "all that it can observe")
    for scenario in scenarios:
        table.add_row(scenario.name, scenario.about, ", ".join(sorted(set(scenario.clauses))))
    Console(highlight=False).print(table)


# -------------------------------------------------------------------------------------------------------- the report


def _cell(verdict: Verdict | None) -> Text:
    if verdict is None or verdict.outcome is Outcome.NOT_APPLICABLE:
        return Text("-", style="dim")
    observations = f" {verdict.observations:>6}" if verdict.observations else ""
    return Text(f"{verdict.text}{observations}", style=style(verdict.outcome))


def _render(scripted: Report | None, real: RealReport | None, seconds: float, code: int) -> None:
    console = Console(highlight=False)
    table = Table(title="the reference sender against the specification", title_justify="left")
    table.add_column("clause", no_wrap=True)
    table.add_column("level", no_wrap=True)
    columns = (("scripted transport", scripted), ("real NIXL", None if real is None else real.report))
    for heading, _ in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for clause in CLAUSES:
        found = (
            None if report is None else next(v for v in report.verdicts if v.clause is clause) for _, report in columns
        )
        table.add_row(title(clause), clause.level.value, *map(_cell, found))
    console.print(table)
    for report in _reports(scripted, real):
        for group in causes(report):
            console.print(counterexample(group.cause, group.consequences), soft_wrap=True)
        for error in report.errors:
            console.print(f"[bold red]error[/]: {escape(error.message.rstrip())}", soft_wrap=True)
    if real is not None:
        console.print(f"errors of the real agent: {errors_seen(real)}", soft_wrap=True)
        shown = ", ".join(f"{name} {count}" for name, count in sorted(real.causes.items()))
        console.print(f"first causes that the sender showed: {shown or 'none'}", soft_wrap=True)
    for where, judged in columns:
        # A clause that a layer should have judged and could not.
        for verdict in () if judged is None else judged.with_outcome(Outcome.ERROR, Outcome.INCONCLUSIVE):
            line = f"{verdict.clause.id} on {where}: {verdict.note}"
            console.print(f"[yellow]not judged[/]: {escape(line)}", soft_wrap=True)
    console.print(_summary(scripted, real, seconds, code), soft_wrap=True)


def errors_seen(real: RealReport) -> str:
    """Each class with how often it was raised, and by which calls."""
    shown = (
        f"{name} {calls.total()} ({', '.join(f'{call} {count}' for call, count in sorted(calls.items()))})"
        for name, calls in sorted(real.raised.items())
    )
    return "; ".join(shown) or "none"


def _summary(scripted: Report | None, real: RealReport | None, seconds: float, code: int) -> str:
    word = {0: "[green]pass[/]", 1: "[bold red]fail[/]"}.get(code, "[yellow]not everything could be judged[/]")
    parts = [f"verify: {word}"]
    if scripted is not None:
        parts.append(f"scripted {len(scripted.with_outcome(Outcome.PASS))} clauses pass in {scripted.runs} runs")
    if real is not None:
        passed = len(real.report.with_outcome(Outcome.PASS))
        well = sum(result.outcome is Outcome.PASS for result in real.results)
        parts.append(
            f"real {passed} clauses pass in {well} of {len(real.results)} scenarios, {real.processes} peer processes"
        )
    return "; ".join([*parts, f"{seconds:.1f} s"])


class ScenarioDocument(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    about: str
    outcome: Outcome
    seconds: float
    note: str
    observations: dict[str, int]
    """How often each clause was observed to hold."""
    violations: tuple[Violation, ...]
    """Their ``seq`` is of the scenario's history."""


class RealDocument(msgspec.Struct, frozen=True, kw_only=True):
    report: ReportDocument
    processes: int
    scenarios: tuple[ScenarioDocument, ...]
    errors: dict[str, dict[str, int]]
    """How often each class was raised by which call of the real agent."""
    causes: dict[str, int]


class VerifyDocument(msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag=SCHEMA):
    """Both layers, each as the report that ``kvsender check`` would write."""

    seed: int
    seconds: float
    exit_code: int
    scripted: ReportDocument | None
    real: RealDocument | None


def as_json(scripted: Report | None, real: RealReport | None, seed: int, seconds: float, code: int) -> bytes:
    """Both layers, for programs."""
    whole = VerifyDocument(
        seed=seed,
        seconds=round(seconds, 1),
        exit_code=code,
        scripted=None if scripted is None else document(scripted),
        real=None if real is None else _real(real),
    )
    return msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n"


def _real(real: RealReport) -> RealDocument:
    return RealDocument(
        report=document(real.report),
        processes=real.processes,
        scenarios=tuple(_scenario(result) for result in real.results),
        errors={name: dict(calls) for name, calls in real.raised.items()},
        causes=dict(real.causes),
    )


def _scenario(result: ScenarioResult) -> ScenarioDocument:
    return ScenarioDocument(
        name=result.scenario.name,
        about=result.scenario.about,
        outcome=result.outcome,
        seconds=round(result.seconds, 2),
        note=result.note,
        observations=dict(sorted(result.findings.held.items())),
        violations=tuple(result.violations),
    )


if __name__ == "__main__":
    app()
