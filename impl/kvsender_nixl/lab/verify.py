"""The command ``python -m kvsender_nixl.lab.verify``: the reference sender and reader against the specification.

Each is judged in two layers. The scripted layer explores it on the kit's scripted transport; the real layer runs it on
NIXL against processes that are killed, stopped and restarted. Exit codes: 0 every MUST clause passes in every layer
that judges it, 1 one fails, 2 the command was used wrongly or something is not installed, 3 none fails but something
could not be judged.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
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
from kvsender_nixl.lab.words import INITIATORS
from kvsender_spec.clauses import CLAUSES
from kvsender_spec.contract import Operation
from kvsender_spec.front import refuse, require_writable
from kvsender_spec.history.ndjson import write
from kvsender_spec.kit.check import check
from kvsender_spec.observe.attribution import Tally
from kvsender_spec.observe.verdict import Outcome, Report, Verdict, Violation, worst_exit_code
from kvsender_spec.report.json import ReportDocument, document
from kvsender_spec.report.text import causes, counterexample, style, title

if TYPE_CHECKING:
    from kvsender_nixl.lab.layer import RealReport, ScenarioResult
    from kvsender_nixl.lab.real_world import RealWorld
    from kvsender_nixl.lab.scenarios import Scenario

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

SCHEMA: Final = "kvsender-verify/3"
SCRIPTED: Final[Mapping[Operation, str]] = {"WRITE": "scripted", "READ": "read-scripted"}
"""The name of each scripted layer among the scenarios."""
RUNS: Final = 500
"""Of each scripted check, which is a part of a job of a minute; `kvsender check` tries more."""
WIDTH: Final = 120
INSTALL: Final = "pip install torch, then pip install --no-deps nixl==1.5.1 nixl-cu13==1.5.1 (or: make install)"
_COMMAND: Final = "verify"


@dataclass(frozen=True, slots=True)
class Judged:
    """The sender or the reader; a layer that was not asked for is None."""

    operation: Operation
    scripted: Report | None
    real: RealReport | None

    @property
    def word(self) -> str:
        return INITIATORS[self.operation]

    @property
    def layers(self) -> tuple[tuple[str, Report | None], ...]:
        """The report of each layer, with its name."""
        return ("scripted", self.scripted), ("real", None if self.real is None else self.real.report)


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
    """Check the reference sender and reader on the scripted transport, and on real NIXL between processes."""
    began = time.monotonic()
    _require_nixl_and_torch()
    from kvsender_nixl.lab.scenarios import SCENARIOS

    if list_them:
        _list(SCENARIOS)
        raise typer.Exit
    names = {*SCRIPTED.values(), *(scenario.name for scenarios in SCENARIOS.values() for scenario in scenarios)}
    wanted = set(only) if only else names
    if wanted - names:
        raise refuse(f"no such scenario: {', '.join(sorted(wanted - names))}; --list shows them all", _COMMAND)
    require_writable(json_path, "--json", _COMMAND)
    _make_folder(histories)
    logging.disable(logging.CRITICAL)  # a careful sender logs every fault, and here there are thousands
    signal.signal(signal.SIGTERM, _terminated)  # so that no stopped process is left behind
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as progress:
        found = [_run(seed, operation, scenarios, wanted, progress) for operation, scenarios in SCENARIOS.items()]
    seconds = time.monotonic() - began
    code = worst_exit_code([report for judged in found for _, report in judged.layers if report is not None])
    _render(found, seconds, code)
    if json_path is not None:
        json_path.write_bytes(as_json(found, seed, seconds, code))
    if histories is not None:
        for result in _results(found):
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


def _results(found: Sequence[Judged]) -> list[ScenarioResult]:
    return [result for judged in found if judged.real is not None for result in judged.real.results]


def _run(
    seed: int, operation: Operation, scenarios: Sequence[Scenario], wanted: set[str], progress: Progress
) -> Judged:
    from kvsender_nixl.lab.real_world import RealWorld

    chosen = [scenario for scenario in scenarios if scenario.name in wanted]
    with_scripted = SCRIPTED[operation] in wanted
    if not chosen:
        return Judged(operation, _scripted(seed, operation, progress) if with_scripted else None, None)
    with closing(RealWorld(seed, operation)) as world:  # its processes start while the scripted check runs
        scripted = _scripted(seed, operation, progress) if with_scripted else None
        return Judged(operation, scripted, _real_layer(world, chosen, progress))


def _scripted(seed: int, operation: Operation, progress: Progress) -> Report:
    from kvsender_nixl import adapter, reader_adapter

    task = progress.add_task(f"{INITIATORS[operation]}, scripted transport", total=RUNS)

    def show(found: Tally) -> None:
        progress.update(task, completed=min(found.runs, RUNS))

    subject = adapter.adapter if operation == "WRITE" else reader_adapter.adapter
    return check(subject, seed=seed, examples=RUNS, on_run=show)


def _real_layer(world: RealWorld, chosen: Sequence[Scenario], progress: Progress) -> RealReport:
    from kvsender_nixl.lab import layer

    what = f"{INITIATORS[world.operation]}, real NIXL"
    task = progress.add_task(what, total=len(chosen))

    def shown() -> Iterator[Scenario]:
        for scenario in progress.track(chosen, task_id=task):
            progress.update(task, description=f"{what}: {scenario.name}")
            yield scenario

    return layer.run(world, shown())


def _list(found: Mapping[Operation, Sequence[Scenario]]) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("scenario", "what happens", "clauses"):
        table.add_column(heading, no_wrap=heading == "scenario")
    for operation, scenarios in found.items():
        about = f"the scripted check of the {INITIATORS[operation]}, with the kit's faults"
        table.add_row(SCRIPTED[operation], about, "all that it can observe")
        for scenario in scenarios:
            table.add_row(scenario.name, scenario.about, ", ".join(sorted(set(scenario.clauses))))
    Console(highlight=False).print(table)


# -------------------------------------------------------------------------------------------------------- the report


def _cell(verdict: Verdict | None) -> Text:
    if verdict is None or verdict.outcome is Outcome.NOT_APPLICABLE:
        return Text("-", style="dim")
    observations = f" {verdict.observations:>6}" if verdict.observations else ""
    return Text(f"{verdict.text}{observations}", style=style(verdict.outcome))


def _render(found: Sequence[Judged], seconds: float, code: int) -> None:
    console = Console(highlight=False)
    console.width = max(console.width, WIDTH)  # of a pipe it is 80, and a cut number is worse than a long line
    table = Table(title="the reference sender and reader against the specification", title_justify="left")
    table.add_column("clause", no_wrap=True)
    table.add_column("level", no_wrap=True)
    columns = [(f"{judged.word}\n{layer}", report) for judged in found for layer, report in judged.layers]
    for heading, _ in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for clause in CLAUSES:
        verdicts = (
            None if report is None else next(v for v in report.verdicts if v.clause is clause) for _, report in columns
        )
        table.add_row(title(clause), clause.level.value, *map(_cell, verdicts))
    console.print(table)
    for _, report in columns:
        if report is None:
            continue
        for group in causes(report):
            console.print(counterexample(group.cause, group.consequences), soft_wrap=True)
        for error in report.errors:
            console.print(f"[bold red]error[/]: {escape(error.message.rstrip())}", soft_wrap=True)
    real = [judged.real for judged in found if judged.real is not None]
    if real:
        console.print(f"errors of the real agents: {errors_seen(real)}", soft_wrap=True)
        shown = sum((each.causes for each in real), Counter[str]())
        words = ", ".join(f"{name} {count}" for name, count in sorted(shown.items()))
        console.print(f"first causes that they showed: {words or 'none'}", soft_wrap=True)
    for heading, report in columns:
        # A clause that a layer should have judged and could not.
        for verdict in () if report is None else report.with_outcome(Outcome.ERROR, Outcome.INCONCLUSIVE):
            line = f"{verdict.clause.id}, {heading.replace(chr(10), ' ')}: {verdict.note}"
            console.print(f"[yellow]not judged[/]: {escape(line)}", soft_wrap=True)
    console.print(_summary(found, seconds, code), soft_wrap=True)


def errors_seen(real: Sequence[RealReport]) -> str:
    """Each class with how often it was raised, and by which calls."""
    raised: dict[str, Counter[str]] = {}
    for report in real:
        for name, calls in report.raised.items():
            raised.setdefault(name, Counter()).update(calls)
    shown = (
        f"{name} {calls.total()} ({', '.join(f'{call} {count}' for call, count in sorted(calls.items()))})"
        for name, calls in sorted(raised.items())
    )
    return "; ".join(shown) or "none"


def _summary(found: Sequence[Judged], seconds: float, code: int) -> str:
    word = {0: "[green]pass[/]", 1: "[bold red]fail[/]"}.get(code, "[yellow]not everything could be judged[/]")
    parts = [f"verify: {word}"]
    for judged in found:
        scripted, real, said = judged.scripted, judged.real, []
        if scripted is not None:
            said.append(f"scripted {len(scripted.with_outcome(Outcome.PASS))} clauses pass in {scripted.runs} runs")
        if real is not None:
            passed = len(real.report.with_outcome(Outcome.PASS))
            well = sum(result.outcome is Outcome.PASS for result in real.results)
            said.append(
                f"real {passed} pass in {well} of {len(real.results)} scenarios, {real.processes} peer processes"
            )
        if said:
            parts.append(f"{judged.word}: {', '.join(said)}")
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


class JudgedDocument(msgspec.Struct, frozen=True, kw_only=True):
    """Both layers, each as the report that ``kvsender check`` would write."""

    scripted: ReportDocument | None
    real: RealDocument | None


class VerifyDocument(msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag=SCHEMA):
    seed: int
    seconds: float
    exit_code: int
    sender: JudgedDocument
    reader: JudgedDocument


def as_json(found: Sequence[Judged], seed: int, seconds: float, code: int) -> bytes:
    """Everything, for programs."""
    sender, reader = (
        JudgedDocument(
            scripted=None if judged.scripted is None else document(judged.scripted),
            real=None if judged.real is None else _real(judged.real),
        )
        for judged in found
    )
    whole = VerifyDocument(seed=seed, seconds=round(seconds, 1), exit_code=code, sender=sender, reader=reader)
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
