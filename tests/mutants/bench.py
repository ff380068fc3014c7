"""What the kit costs: steps a second for each correct sender, and the time to kill each mutant.

``python -m tests.mutants.bench``. Time is CPU time of this process, all threads together, because the machines that run
this are shared. Nothing is compared with a bar: the exit code is 0 unless the command was used wrongly.
"""

from __future__ import annotations

import statistics
import time
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from tests.mutants.hunt import hunt
from tests.mutants.registry import CORRECT, MUTANTS

from kvsender_spec.kit.adapter import Adapter
from kvsender_spec.kit.check import Budget, load_adapter
from kvsender_spec.kit.search.explore import explore
from kvsender_spec.observe.attribution import Tally

REFERENCE = "kvsender_nixl.adapter:adapter"


def speed(adapter: Adapter, runs: int) -> tuple[int, float]:
    """How many steps a number of runs took, and for how long."""
    explore(adapter, Tally(), seed=0, examples=5, first=())  # what happens once only is not what is measured
    began = time.process_time()
    tally = Tally()
    explore(adapter, tally, seed=1, examples=runs, first=())
    return tally.steps, time.process_time() - began


def senders(runs: int, console: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD, title=f"{runs} runs each", title_justify="left")
    for column in ("sender", "steps", "CPU s", "steps/s"):
        table.add_column(column, justify="left" if column == "sender" else "right", no_wrap=True)
    for adapter in (load_adapter(REFERENCE), *CORRECT):
        steps, seconds = speed(adapter, runs)
        table.add_row(adapter.name, str(steps), f"{seconds:.1f}", f"{steps / seconds:.0f}")
    console.print(table)


def mutants(seeds: int, budget: Budget, console: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD, title=f"to the kill, median of {seeds} seeds", title_justify="left")
    for column in ("mutant", "clause", "runs", "CPU s", "killed"):
        table.add_column(column, justify="left" if column in ("mutant", "clause") else "right", no_wrap=True)
    for mutant in track(MUTANTS, console=Console(stderr=True), transient=True):
        hunts = [hunt(mutant, seed=seed, examples=budget.examples) for seed in range(seeds)]
        kills = [hunt for hunt in hunts if hunt.killed]
        runs = f"{statistics.median(hunt.first_run[mutant.breaks] for hunt in kills):.0f}" if kills else "-"
        seconds = f"{statistics.median(hunt.cpu_s for hunt in hunts):.2f}"
        table.add_row(mutant.name, mutant.breaks, runs, seconds, f"{len(kills)}/{seeds}")
    console.print(table)


def main(
    runs: Annotated[int, typer.Option(min=1, help="Runs of each correct sender.")] = 200,
    seeds: Annotated[int, typer.Option(min=1, help="Hunts for each mutant.")] = 3,
    budget: Annotated[Budget, typer.Option(help="How many runs a hunt may take.")] = Budget.CI,
) -> None:
    """Print steps/s for each correct sender, and runs and CPU time to the kill for each mutant."""
    console = Console()
    senders(runs, console)
    mutants(seeds, budget, console)


if __name__ == "__main__":
    typer.run(main)
