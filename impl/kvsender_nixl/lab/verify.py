"""The command ``python -m kvsender_nixl.lab.verify``: the reference sender against the specification, in two layers.

The scripted layer explores it on the kit's scripted transport; the real layer runs it on NIXL against processes that
are killed, stopped and restarted. Exit codes: 0 every MUST clause passes in every layer that judges it, 1 one fails, 2
the command was used wrongly or something is not installed, 3 none fails but something could not be judged.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from kvsender_nixl.lab.process import NIXL_ENV
from kvsender_spec.clauses import CLAUSES, Clause, Layer, Level
from kvsender_spec.front import refuse, require_writable
from kvsender_spec.kit.check import Outcome, Report, check
from kvsender_spec.kit.explore import Exploration
from kvsender_spec.kit.report import counterexample, style, to_json

if TYPE_CHECKING:
    from kvsender_nixl.lab.layer import RealReport, ScenarioResult
    from kvsender_nixl.lab.scenarios import Scenario

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

SCHEMA: Final = "kvsender-verify/1"
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
    code = exit_code(scripted, real)
    _render(scripted, real, seconds, code)
    if json_path is not None:
        json_path.write_text(as_json(scripted, real, seed, seconds, code), encoding="utf-8")
    raise typer.Exit(code)


def _run(
    seed: int, with_scripted: bool, chosen: list[Scenario], progress: Progress
) -> tuple[Report | None, RealReport | None]:
    from kvsender_nixl.adapter import adapter
    from kvsender_nixl.lab import layer
    from kvsender_nixl.lab.stage import Stage

    scripted: Report | None = None
    real: RealReport | None = None
    stage: Stage | None = None
    try:
        if chosen:
            stage = Stage(seed)  # its processes start while the scripted check runs
        if with_scripted:
            task = progress.add_task("scripted transport", total=RUNS)

            def show(found: Exploration) -> None:
                progress.update(task, completed=min(found.runs, RUNS))

            scripted = check(adapter, seed=seed, examples=RUNS, on_run=show)
        if stage is not None:
            task = progress.add_task("real NIXL", total=len(chosen))
            real = layer.run(stage, chosen, _shower(progress, len(chosen)))
    finally:
        if stage is not None:
            stage.close()
    return scripted, real


def _shower(progress: Progress, total: int) -> Callable[[Scenario], None]:
    task = progress.task_ids[-1]
    started = 0

    def show(scenario: Scenario) -> None:
        nonlocal started
        progress.update(task, description=f"real NIXL: {scenario.name}", completed=started, total=total)
        started += 1

    return show


def _list(scenarios: Iterable[Scenario]) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("scenario", "what happens", "clauses"):
        table.add_column(heading, no_wrap=heading == "scenario")
    table.add_row(SCRIPTED, "the scripted check, with the kit's faults", "all that it can observe")
    for scenario in scenarios:
        table.add_row(scenario.name, scenario.about, ", ".join(sorted(set(scenario.judges))))
    Console(highlight=False).print(table)


# ------------------------------------------------------------------------------------------------------- the verdict


def exit_code(scripted: Report | None, real: RealReport | None) -> int:
    """0 pass, 1 a MUST clause fails in some layer, 3 none fails but a scenario or a MUST clause could not be judged."""
    outcomes: list[Outcome] = []
    for clause in CLAUSES:
        if clause.level is Level.MUST:
            outcomes += [
                outcome
                for layer, outcome in ((Layer.SCRIPTED, _scripted(scripted, clause)), (Layer.REAL, _real(real, clause)))
                if outcome is Outcome.FAIL or layer in clause.layers
            ]
    if Outcome.FAIL in outcomes:
        return 1
    errors = real is not None and any(result.outcome is Outcome.ERROR for result in real.results)
    return 3 if errors or Outcome.ERROR in outcomes or Outcome.INCONCLUSIVE in outcomes else 0


def _scripted(report: Report | None, clause: Clause) -> Outcome:
    if report is None:
        return Outcome.NOT_APPLICABLE
    return next(verdict.outcome for verdict in report.verdicts if verdict.clause is clause)


def _real(report: RealReport | None, clause: Clause) -> Outcome:
    return Outcome.NOT_APPLICABLE if report is None else report.verdict(clause.id).outcome


# -------------------------------------------------------------------------------------------------------- the report


def _cell(outcome: Outcome, observations: int) -> Text:
    if outcome is Outcome.NOT_APPLICABLE or (outcome is Outcome.INCONCLUSIVE and not observations):
        return Text("-" if outcome is Outcome.NOT_APPLICABLE else outcome.value, style=style(outcome))
    return Text(f"{outcome.value} {observations:>6}", style=style(outcome))


def _render(scripted: Report | None, real: RealReport | None, seconds: float, code: int) -> None:
    console = Console(highlight=False)
    table = Table(title="the reference sender against the specification", title_justify="left")
    table.add_column("clause", no_wrap=True)
    table.add_column("level", no_wrap=True)
    for heading in ("scripted transport", "real NIXL"):
        table.add_column(heading, justify="right", no_wrap=True)
    for clause in CLAUSES:
        here = None if scripted is None else next(v for v in scripted.verdicts if v.clause is clause)
        there = None if real is None else real.verdict(clause.id)
        table.add_row(
            f"{clause.id} {clause.name}",
            clause.level.value,
            Text("-", style="dim") if here is None else _cell(here.outcome, here.observations),
            Text("-", style="dim") if there is None else _cell(there.outcome, there.observations),
        )
    console.print(table)
    for verdict in () if scripted is None else scripted.with_outcome(Outcome.FAIL):
        console.print(counterexample(verdict))
    if real is not None:
        _render_real(real, console)
    for line in _unjudged(scripted, real):
        console.print(f"[yellow]not judged[/]: {escape(line)}", soft_wrap=True)
    console.print(_summary(scripted, real, seconds, code), soft_wrap=True)


def _unjudged(scripted: Report | None, real: RealReport | None) -> list[str]:
    """The clauses that a layer should have judged and could not, and why."""
    open_ended = (Outcome.ERROR, Outcome.INCONCLUSIVE)
    lines = [
        f"{verdict.clause.id} on the scripted transport: {verdict.note}"
        for verdict in (() if scripted is None else scripted.verdicts)
        if verdict.outcome in open_ended
    ]
    return lines + [
        f"{verdict.clause.id} on real NIXL: {verdict.note}"
        for verdict in (() if real is None else real.verdicts)
        if verdict.outcome in open_ended
    ]


def _render_real(real: RealReport, console: Console) -> None:
    for result in real.results:
        for violation in result.violations:
            console.print(
                f"[bold red]{violation.clause}[/] in scenario {result.scenario.name}\n"
                f"  expected  {escape(_short(violation.expected))}\n"
                f"  observed  {escape(_short(violation.observed))}"
            )
        if result.outcome is Outcome.ERROR:
            console.print(f"[bold red]error[/] in scenario {result.scenario.name}: {escape(result.note.rstrip())}")
    console.print(f"errors of the real agent: {errors_seen(real)}", soft_wrap=True)
    shown = ", ".join(f"{name} {count}" for name, count in sorted(real.causes.items()))
    console.print(f"first causes that the sender showed: {shown or 'none'}", soft_wrap=True)


def _short(text: str, limit: int = 400) -> str:
    return text if len(text) <= limit else f"{text[:limit]} ..."


def errors_seen(real: RealReport) -> str:
    """Each class with how often it was raised, and by which calls."""
    by_class: dict[str, Counter[str]] = {}
    for (name, call), count in real.raised.items():
        by_class.setdefault(name, Counter())[call] += count
    return (
        "; ".join(
            f"{name} {calls.total()} ({', '.join(f'{call} {count}' for call, count in sorted(calls.items()))})"
            for name, calls in sorted(by_class.items())
        )
        or "none"
    )


def _summary(scripted: Report | None, real: RealReport | None, seconds: float, code: int) -> str:
    word = {0: "[green]pass[/]", 1: "[bold red]fail[/]"}.get(code, "[yellow]not everything could be judged[/]")
    parts = [f"verify: {word}"]
    if scripted is not None:
        parts.append(f"scripted {len(scripted.with_outcome(Outcome.PASS))} clauses pass in {scripted.runs} runs")
    if real is not None:
        passed = sum(verdict.outcome is Outcome.PASS for verdict in real.verdicts)
        well = sum(result.outcome is Outcome.PASS for result in real.results)
        parts.append(
            f"real {passed} clauses pass in {well} of {len(real.results)} scenarios, {real.processes} peer processes"
        )
    return "; ".join([*parts, f"{seconds:.1f} s"])


def as_json(scripted: Report | None, real: RealReport | None, seed: int, seconds: float, code: int) -> str:
    """Both layers; the scripted one is the report of ``kvsender check`` as it is."""
    document: dict[str, object] = {
        "schema": SCHEMA,
        "seed": seed,
        "seconds": round(seconds, 1),
        "exit_code": code,
        "scripted": None if scripted is None else json.loads(to_json([scripted])),
        "real": None if real is None else _real_as_json(real),
    }
    return json.dumps(document, indent=2) + "\n"


def _real_as_json(real: RealReport) -> dict[str, object]:
    return {
        "processes": real.processes,
        "clauses": [
            {
                "id": verdict.clause.id,
                "name": verdict.clause.name,
                "level": verdict.clause.level.value,
                "verdict": verdict.outcome.value,
                "observations": verdict.observations,
                "note": verdict.note,
                "violations": [
                    {"scenario": name, "expected": violation.expected, "observed": violation.observed}
                    for name, violation in verdict.violations
                ],
            }
            for verdict in real.verdicts
        ],
        "scenarios": [_result_as_json(result) for result in real.results],
        "errors": [{"class": name, "call": call, "count": count} for (name, call), count in real.raised.items()],
        "causes": dict(real.causes),
    }


def _result_as_json(result: ScenarioResult) -> dict[str, object]:
    return {
        "name": result.scenario.name,
        "about": result.scenario.about,
        "outcome": result.outcome.value,
        "seconds": round(result.seconds, 2),
        "note": result.note,
        "observations": dict(sorted(result.held.items())),
    }


if __name__ == "__main__":
    app()
