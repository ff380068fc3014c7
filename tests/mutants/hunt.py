"""How soon a mutant is killed: explore until its clause is broken, and note what else broke on the way."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Final

from kvsender_spec.kit.explore import Counterexample, Exploration, explore, shorten
from tests.mutants.registry import MUTANTS, Mutant

from kvsender_spec.clauses import claimed
from kvsender_spec.kit.check import Budget, check

IMPORT_CLAUSE: Final = "KS-1.5"
"""It is judged by an import and not by exploring."""


@dataclass(frozen=True, slots=True)
class Hunt:
    """One mutant and one seed."""

    mutant: Mutant
    seed: int
    runs: int
    cpu_s: float
    first_run: dict[str, int]
    """Each clause that was broken, with the number of the first run that broke it."""
    example: Counterexample | None
    """The shortest run that broke the mutant's clause, as it was found."""

    @property
    def killed(self) -> bool:
        return self.mutant.breaks in self.first_run

    @property
    def first(self) -> bool:
        """No other clause had caught the mutant before its own did."""
        return self.killed and self.first_run[self.mutant.breaks] == min(self.first_run.values())

    @property
    def alone(self) -> bool:
        """No other clause had caught it before, nor in the same run."""
        own = self.first_run.get(self.mutant.breaks)
        others = [run for clause, run in self.first_run.items() if clause != self.mutant.breaks]
        return own is not None and all(own < other for other in others)


def hunt(mutant: Mutant, *, seed: int, examples: int = Budget.CI.examples, to_the_end: bool = False) -> Hunt:
    """Explore until the mutant's clause is broken; ``to_the_end``: all the runs, to see what else breaks."""
    began = time.process_time()
    if mutant.breaks == IMPORT_CLAUSE:
        (verdict,) = check(mutant.adapter, seed=seed, examples=1, clauses=[IMPORT_CLAUSE]).verdicts
        found = {IMPORT_CLAUSE: 1} if verdict.counterexample is not None else {}
        return Hunt(mutant, seed, 1, time.process_time() - began, found, verdict.counterexample)
    first_run: dict[str, int] = {}
    judged = {clause.id for clause in claimed(mutant.adapter.profile)}

    def note(exploration: Exploration) -> None:
        for clause in exploration.broken.keys() & judged:
            first_run.setdefault(clause, exploration.runs)

    wanted = frozenset[str]() if to_the_end else frozenset({mutant.breaks})
    seen = explore(mutant.adapter, seed_number=seed, examples=examples, wanted=wanted, on_run=note)
    return Hunt(mutant, seed, seen.runs, time.process_time() - began, first_run, seen.broken.get(mutant.breaks))


def shortest(hunts: Iterable[Hunt]) -> Counterexample | None:
    """The shortest trace that can be made of what the hunts of one mutant have found."""
    found = [(hunt.mutant, hunt.example) for hunt in hunts if hunt.example is not None]
    if not found:
        return None
    mutant, example = min(found, key=lambda pair: len(pair[1].trace.steps))
    return shorten(mutant.adapter, example) if example.trace.steps else example


@dataclass(frozen=True, slots=True)
class Campaign:
    """Every hunt for one mutant, in values that can be sent from one process to another."""

    mutant: int
    """Its number in the registry."""
    killed: tuple[int, ...]
    """The seeds on which its own clause has caught it."""
    survived: tuple[int, ...]
    runs: tuple[int, ...]
    """To each kill."""
    cpu_s: float
    """To each kill or survival, on average."""
    firsts: int
    """On how many seeds no other clause had caught it in an earlier run."""
    alone: int
    """On how many of them none had in the same run either."""
    broke: frozenset[str]
    """Every clause that any of the hunts has seen broken."""
    steps: int | None
    """Of the shortest trace."""
    trace: str
    """The shortest trace, in words."""


def campaign(number: int, seeds: tuple[int, ...], examples: int, breadth: int) -> Campaign:
    """Everything about one mutant of the registry, by its number there."""
    mutant = MUTANTS[number]
    hunts = [hunt(mutant, seed=seed, examples=examples) for seed in seeds]
    broad = hunt(mutant, seed=seeds[0], examples=breadth, to_the_end=True) if breadth else hunts[0]
    short = shortest(hunts)
    return Campaign(
        number,
        tuple(hunt.seed for hunt in hunts if hunt.killed),
        tuple(hunt.seed for hunt in hunts if not hunt.killed),
        tuple(hunt.first_run[mutant.breaks] for hunt in hunts if hunt.killed),
        sum(hunt.cpu_s for hunt in hunts) / len(hunts),
        sum(hunt.first for hunt in hunts),
        sum(hunt.alone for hunt in hunts),
        frozenset().union(*(hunt.first_run for hunt in (*hunts, broad))),
        None if short is None else len(short.trace.steps),
        "" if short is None else "; ".join([str(short.trace.scene), *map(str, short.trace.steps)]),
    )


def campaigns(
    numbers: Iterable[int], *, seeds: tuple[int, ...], examples: int, breadth: int, jobs: int
) -> Iterator[Campaign]:
    """One process for each core: a mutant's threads and hypothesis' own state stay apart from the next one's."""
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(campaign, number, seeds, examples, breadth) for number in numbers]
        for done in waiting:
            yield done.result()
