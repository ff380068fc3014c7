"""The kill matrix: ``python -m tests.mutants.matrix`` hunts every broken sender and reader, and prints which clause is
blamed; ``... matrix readers`` hunts the readers alone.

The sweep is the same on every seed: it is run once a mutant, and each seed goes on from there with a walk of its own.

Exit codes: 0 for every mutant its own clause is blamed on every seed within the budget, for every reader within the
sweep, and every clause has a broken sender that no other clause catches before it; 1 not so; 2 the command was used
wrongly.
"""

from __future__ import annotations

import sys
from collections import Counter
from functools import partial
from typing import Annotated, Final

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from tests.mutants.cells import reached, wanted
from tests.mutants.hunt import Campaign, campaign
from tests.mutants.pool import CORES, chosen, each
from tests.mutants.registry import CORRECT, CORRECT_READERS, EVERY

from kvsender_spec.clauses import CLAUSES
from kvsender_spec.kit.adapter import Adapter
from kvsender_spec.kit.check import Budget

MOST_STEPS: Final = 8
"""What the shortest trace of nine mutants of ten must not exceed."""
WIDTH: Final = 160


def render(found: list[Campaign], seeds: int, console: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0), title="mutant x clause", title_justify="left")
    table.add_column("mutant", no_wrap=True)
    for clause in CLAUSES:
        group, number = clause.id.removeprefix("KS-").split(".")
        table.add_column(f"{group}\n{number}", justify="center", min_width=2)
    table.add_column("killed", justify="right", no_wrap=True)
    table.add_column(" most\n runs", justify="right")
    table.add_column(" short\n trace", justify="right")
    for row in found:
        mutant = EVERY[row.mutant]
        marks = [
            "[bold red]K[/]"
            if clause.id == mutant.breaks and row.killed
            else "[bold yellow]?[/]"
            if clause.id == mutant.breaks
            else "x"
            if clause.id in row.broke
            else "[dim].[/]"
            for clause in CLAUSES
        ]
        most = str(max(row.runs)) if row.runs else "-"
        steps = "-" if row.steps is None else str(row.steps)
        name = f"{mutant.name}{' *' if mutant.threads else ' r' if mutant.reads else ''}"
        table.add_row(name, *marks, f"{len(row.killed)}/{seeds}", most, steps)
    console.print(table)
    console.print(
        "K: the clause it is meant to break is blamed; ?: it is not; x: this one was broken first in some room as well"
    )
    console.print("*: written with worker threads; r: a reader")


def unguarded(found: list[Campaign], seeds: int) -> list[str]:
    """The clauses without a broken sender that they catch before any other does, on half of the seeds or more."""
    guarded = {EVERY[row.mutant].breaks for row in found if 2 * row.firsts >= seeds and not EVERY[row.mutant].reads}
    return [clause.id for clause in CLAUSES if clause.id not in guarded]


def quick(found: list[Campaign]) -> str:
    """How many are killed within the quick budget, seed by seed."""
    walks = Budget.QUICK.examples
    kills = Counter({seed: 0 for row in found for seed in (*row.killed, *row.survived)})
    for row in found:
        kills.update(seed for seed, run in zip(row.killed, row.runs, strict=True) if run <= row.sweep + walks)
    return ", ".join(f"seed {seed} {count}" for seed, count in sorted(kills.items()))


def by_the_sweep(found: list[Campaign], console: Console) -> bool:
    """Print how many the sweep alone kills, of the senders and of the readers; True if all of the readers."""
    good = True
    for reads, who in ((False, "senders"), (True, "readers")):
        rows = [row for row in found if EVERY[row.mutant].reads is reads]
        left = [row for row in rows if row.survived or max(row.runs) > row.sweep]
        if rows:
            traces = "/".join(map(str, sorted({row.sweep for row in rows})))
            killed = len(rows) - len(left)
            console.print(
                f"{who}: the {traces} traces of the sweep, run once a mutant, alone kill {killed} of {len(rows)}"
            )
        for row in left if reads else ():
            good = False
            console.print(f"[red]{EVERY[row.mutant].name} is not killed by the sweep[/]")
    return good


def conclude(found: list[Campaign], seeds: int, console: Console) -> bool:
    """Say what is missing; True if nothing is."""
    good = by_the_sweep(found, console)
    console.print(f"with the {Budget.QUICK.examples} walks of the quick budget: {quick(found)}")
    for row in found:
        if row.survived:
            good = False
            console.print(f"[red]{EVERY[row.mutant].name} survives seeds {', '.join(map(str, row.survived))}[/]")
    long = [row for row in found if row.steps is not None and row.steps > MOST_STEPS]
    console.print(f"{len(found) - len(long)} of {len(found)} shortest traces have at most {MOST_STEPS} steps")
    for row in long:
        console.print(f"  {EVERY[row.mutant].name}, {row.steps}: {row.trace}", highlight=False)
    good = good and 10 * len(long) <= len(found)
    hunted = {row.mutant for row in found}
    senders = {number for number, mutant in enumerate(EVERY) if not mutant.reads}
    if hunted - senders == set(range(len(EVERY))) - senders:
        good = _reached("readers", CORRECT_READERS[0], console) and good
        first = {EVERY[row.mutant].breaks for row in found if EVERY[row.mutant].reads and 2 * row.firsts >= seeds}
        named = ", ".join(clause.id for clause in CLAUSES if clause.id in first)
        console.print(f"{len(first)} of the {len(CLAUSES)} clauses catch a broken reader before any other: {named}")
    if senders <= hunted:
        good = _reached("senders", CORRECT[0], console) and good
        missing = unguarded(found, seeds)
        good = good and not missing
        console.print(
            f"[red]no mutant is caught first by {', '.join(missing)}[/]"
            if missing
            else f"each of the {len(CLAUSES)} clauses catches a mutant before any other clause does"
        )
    return good


def _reached(who: str, right: Adapter, console: Console) -> bool:
    """Print which cells of the table the sweep reaches with a right sender or reader; True if all."""
    cells, there = wanted(), reached(right)
    missing = [cell for cell in cells if not there[cell]]
    console.print(
        f"{who}: the sweep reaches {len(cells) - len(missing)} of {len(cells)} cells (state x call x point x kind)"
    )
    for cell in missing:
        console.print("  not reached: " + ", ".join(part.value for part in cell if part is not None), highlight=False)
    return not missing


def main(
    only: Annotated[list[str] | None, typer.Argument(help="Mutants, clauses, senders or readers; else all.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds each mutant is hunted with.")] = 10,
    first_seed: Annotated[int, typer.Option(help="The first of them.")] = 0,
    budget: Annotated[Budget, typer.Option(help="How many runs a hunt may take.")] = Budget.CI,
    breadth: Annotated[int, typer.Option(min=0, help="Runs that look for whatever else a mutant breaks.")] = 150,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = CORES,
) -> None:
    """Hunt every mutant with several seeds, and print mutant x clause."""
    numbers = chosen(only or [])
    console = Console(width=WIDTH)
    found: list[Campaign] = []
    span = tuple(range(first_seed, first_seed + seeds))
    progress = Console(stderr=True, highlight=False, soft_wrap=True)
    work = partial(campaign, seeds=span, examples=budget.examples, breadth=breadth)
    for row in each(work, numbers, jobs=jobs):
        found.append(row)
        mutant = EVERY[row.mutant]
        progress.print(
            f"{len(found)}/{len(numbers)} {mutant.name} {mutant.breaks}: killed {len(row.killed)}/{seeds},"
            f" first {row.firsts}, alone {row.alone}, runs {sorted(row.runs)}, {row.cpu_s:.1f} CPU s"
        )
    render(found, seeds, console)
    good = conclude(found, seeds, console)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    typer.run(main)
