"""Whom the kit blames: ``python -m tests.mutants.blame`` checks every mutant and prints what its report says;
``... blame readers`` checks the readers alone.

For each mutant: its own clause, where that stands in the report, what else fails, which clauses about circumstances are
blamed although the mutant is about none, and which histories do not show what they were kept for. Exit codes: 0 the
bars hold, 1 one does not, 2 wrong use.
"""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Final

import typer
from rich.console import Console
from tests.mutants.kept import disagreeing
from tests.mutants.pool import CORES, chosen, each
from tests.mutants.registry import EVERY

from kvsender_spec.kit.check import Budget, check
from kvsender_spec.observe.verdict import Outcome

CONTEXTS: Final = frozenset({"KS-2.7", "KS-5.1", "KS-5.2", "KS-5.3", "KS-5.4", "KS-6.2", "KS-6.3", "KS-7.2", "KS-8.1"})
"""Clauses about circumstances."""
EXPLAINED: Final = {
    ("OneRoomAtATime", "KS-6.2"): "its worker stays with a silent peer's room, and rooms of other peers wait meanwhile",
    ("PostsAfterFailure", "KS-7.2"): "a failed room is sending for the time of a send(), and other threads see it",
    (
        "WorkerAsksForEver",
        "KS-5.1",
    ): "nobody stores the error that its worker was given, so an abort is the first cause",
    (
        "WorkerAsksForEver",
        "KS-5.4",
    ): "its worker goes on asking about a room that is cleared, and the next room of that id waits for it",
}
"""Clauses about circumstances that a mutant breaks besides its own, and why they are blamed rightly."""
MOST_FIRST_MISSED: Final = 16
"""Own clause first in the report: for all but one in so many, of the senders and of the readers."""


@dataclass(frozen=True, slots=True)
class Blamed:
    """What the report of one mutant says."""

    mutant: int
    failed: tuple[str, ...]
    """The clauses that fail, in the order of the report: causes first, each with what the same trace breaks."""
    after: tuple[str, ...]
    """Those that are only ever broken after another one."""
    traces: tuple[str, ...]
    errors: tuple[str, ...]
    disagreeing: tuple[str, ...]
    """Clauses that the history which was kept for them does not show."""
    cpu_s: float

    @property
    def own(self) -> str:
        return EVERY[self.mutant].breaks

    @property
    def caught(self) -> bool:
        return self.own in self.failed or self.own in self.after

    @property
    def first(self) -> bool:
        """No other cause stands before it in the report."""
        return self.failed[:1] == (self.own,)

    @property
    def wrongly(self) -> tuple[str, ...]:
        """Clauses about circumstances that are blamed at a mutant which is about none."""
        if self.own in CONTEXTS:
            return ()
        name = EVERY[self.mutant].name
        return tuple(clause for clause in self.failed if clause in CONTEXTS and (name, clause) not in EXPLAINED)


def _has(row: Blamed, name: str, clause: str) -> bool:
    return EVERY[row.mutant].name == name and clause in row.failed


def blamed(number: int, seed: int, examples: int) -> Blamed:
    """Check one mutant of the registry."""
    logging.disable(logging.CRITICAL)
    began = time.process_time()
    report = check(EVERY[number].adapter, seed=seed, examples=examples)
    order = [verdict for group in report.groups for verdict in (group.cause, *group.consequences)]
    failed = [verdict for verdict in order if verdict.outcome is Outcome.FAIL]
    traces = [
        f"{verdict.clause.id} {verdict.text}: {verdict.evidence.violation.observed} | {verdict.evidence.trace.setup}: "
        + "; ".join(verdict.evidence.trace.told)
        for verdict in order
        if verdict.evidence is not None and verdict.evidence.trace is not None
    ]
    return Blamed(
        number,
        tuple(verdict.clause.id for verdict in failed),
        tuple(verdict.clause.id for verdict in order if verdict.outcome is Outcome.FAIL_AFTER),
        tuple(traces),
        tuple(dict.fromkeys(error.message for error in report.errors)),
        disagreeing(report),
        time.process_time() - began,
    )


def main(
    only: Annotated[list[str] | None, typer.Argument(help="Mutants, clauses, senders or readers; else all.")] = None,
    seed: Annotated[int, typer.Option(help="The seed of every check.")] = 0,
    budget: Annotated[Budget, typer.Option(help="How many runs a check may take.")] = Budget.QUICK,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = CORES,
    traces: Annotated[bool, typer.Option(help="Print the shortest traces as well.")] = False,
) -> None:
    """Check every mutant, and print whom the report blames."""
    console = Console(highlight=False, soft_wrap=True)
    work = partial(blamed, seed=seed, examples=budget.examples)
    found = list(each(work, chosen(only or []), jobs=jobs))
    for row in found:
        mark = "first" if row.first else "caught" if row.caught else "MISSED"
        words = [f"{EVERY[row.mutant].name} {row.own} {mark}:", *row.failed]
        words += [f"(after: {' '.join(row.after)})"] * bool(row.after)
        words += [f"WRONGLY {' '.join(row.wrongly)}"] * bool(row.wrongly)
        words += [f"ERROR {message}" for message in row.errors]
        words += [f"NOT IN ITS HISTORY {clause}" for clause in row.disagreeing]
        console.print(*words, f"{row.cpu_s:.1f} s", markup=False)
        for trace in row.traces if traces else ():
            console.print(f"    {trace}", markup=False)
    fails = sum(len(row.failed) for row in found) / len(found)
    after = sum(len(row.after) for row in found) / len(found)
    caught = sum(row.caught for row in found)
    seldom = False
    wrong = sum(len(row.wrongly) for row in found)
    for reads, who in ((False, "senders"), (True, "readers")):
        rows = [row for row in found if EVERY[row.mutant].reads is reads]
        first, own = sum(row.first for row in rows), sum(row.caught for row in rows)
        seldom = seldom or (len(rows) - first) * MOST_FIRST_MISSED > len(rows)
        if rows:
            head = f"{budget.value}, seed {seed}: {own} of {len(rows)} {who}"
            console.print(f"{head} caught by their own clause, {first} first")
    console.print(f"fails a mutant {fails:.2f}, fails after another clause {after:.2f}")
    explained = [(names, why) for names, why in EXPLAINED.items() if any(_has(row, *names) for row in found)]
    for (name, clause), why in explained:
        console.print(f"{clause} at {name}: {why}", markup=False)
    told = f", {len(explained)} explained" if explained else ""
    console.print(f"clauses about circumstances blamed wrongly at mutants that are about none: {wrong}{told}")
    unseen = sum(len(row.disagreeing) for row in found)
    console.print(f"clauses that the history which was kept for them does not show: {unseen}")
    sys.exit(0 if caught == len(found) and wrong + unseen == 0 and not seldom else 1)


if __name__ == "__main__":
    typer.run(main)
