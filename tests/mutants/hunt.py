"""How soon a mutant is killed: walk until its clause is shown, then ask attribution whether that clause is blamed."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Final

from tests.mutants.registry import EVERY, Mutant

from kvsender_spec.clauses import claimed
from kvsender_spec.kit.adapter import Adapter
from kvsender_spec.kit.blame import attribute
from kvsender_spec.kit.check import Budget, check
from kvsender_spec.kit.parts import parts_of
from kvsender_spec.kit.search.explore import explore
from kvsender_spec.kit.search.shrink import show, shrink
from kvsender_spec.kit.search.whole import sweep_of
from kvsender_spec.observe.attribution import NAMING, OWN_ERROR, Example, Tally
from kvsender_spec.trace import Trace

IMPORT_CLAUSE: Final = "KS-1.5"
"""It is judged by an import and not by exploring."""
CIRCUMSTANCES: Final = frozenset(clause for clause, _ in NAMING)
"""What broke before such a clause did may still be its own: attribution says so."""
WAIT_RUNS: Final = 16
"""So many more runs often show that the clause needs no circumstance, and cost less than the shortening of a trace."""


@dataclass(frozen=True, slots=True)
class Hunt:
    """One mutant and one seed."""

    mutant: Mutant
    seed: int
    runs: int
    cpu_s: float
    first_run: dict[str, int]
    """Each clause that has caught it, with the number of the first run that shows it. A rule that attribution explains
    by the mutant's own clause is that one's."""
    example: Example | None
    """A run for which the mutant's own clause is blamed; None where it never is."""
    shortest: bool
    """Attribution has shortened the example."""

    @property
    def killed(self) -> bool:
        return self.example is not None

    @property
    def first(self) -> bool:
        """No other clause had caught the mutant before its own did."""
        return self.killed and self.first_run[self.mutant.breaks] == min(self.first_run.values())

    @property
    def alone(self) -> bool:
        """No other clause had caught it before, nor in the same run."""
        own = self.first_run.get(self.mutant.breaks)
        others = [run for clause, run in self.first_run.items() if clause != self.mutant.breaks]
        return self.killed and own is not None and all(own < other for other in others)


@dataclass(slots=True)
class _Pursuit:
    """What a walk has shown of one mutant so far, and whether its own clause is blamed for it."""

    mutant: Mutant
    to_the_end: bool
    first_run: dict[str, int] = field(default_factory=dict)
    example: Example | None = None
    shortest: bool = False
    next_try: int = 0
    """The run after which attribution is asked next; 0 before the clause is shown."""

    def note(self, tally: Tally) -> None:
        """Note the rules that the last run has broken first."""
        for rule in tally.first:
            self.first_run.setdefault(rule, tally.runs)

    def enough(self, tally: Tally) -> bool:
        """Whether the clause is blamed by now. Attribution is asked seldom: it runs a trace many times."""
        own = self.mutant.breaks
        if self.to_the_end or not tally.shows({own}):
            return False
        if own in tally.first and not tally.candidates[own]:
            # It is broken first, and in no particular circumstance: no shortening can name another clause.
            return self.conclude(tally)
        if not self.next_try:
            self.next_try = tally.runs + WAIT_RUNS
        elif tally.runs >= self.next_try:
            self.next_try = 2 * tally.runs
            return self.conclude(tally)
        return False

    def conclude(self, tally: Tally) -> bool:
        """Find out whether the mutant's own clause is blamed, by the means that the kit's check has."""
        own = self.mutant.breaks
        if self.example is not None or not tally.shows({own}):
            return self.example is not None
        earliest = self.first_run.get(own) == min(self.first_run.values())
        if own in tally.first and not tally.candidates[own] and (earliest or own not in CIRCUMSTANCES):
            if show(self.mutant.adapter, tally.first[own].trace, own) is not None:
                self.example = tally.first[own]
            return self.example is not None
        blame = attribute(self.mutant.adapter, tally, frozenset({own}))
        found = blame.evidence.get(own)
        if found is None or found.trace is None or own in blame.after:
            return False
        self.example, self.shortest = Example(found.violation, found.trace), True
        explained = {rule for rule, clause in blame.after.items() if clause == own}
        explained |= {OWN_ERROR} if own in tally.candidates.get(OWN_ERROR, ()) else set()
        runs = [self.first_run.pop(clause) for clause in (explained | {own}) & self.first_run.keys()]
        self.first_run[own] = min(runs, default=tally.runs)
        return True


def played(adapter: Adapter) -> list[Trace]:
    """The traces of the sweep that say something of the adapter's system."""
    parts = parts_of(adapter)
    return [trace for trace in sweep_of(parts.operation) if parts.plays(trace)]


@dataclass(slots=True)
class Swept:
    """What the sweep shows of a mutant. It is the same on every seed, so that one sweep does for all hunts."""

    pursuit: _Pursuit
    tally: Tally
    cpu_s: float


def sweep(mutant: Mutant, *, to_the_end: bool = False) -> Swept:
    """Run the sweep until the mutant's clause is blamed; ``to_the_end``: all of it."""
    began = time.process_time()
    judged = frozenset(clause.id for clause in claimed(mutant.adapter.profile))
    pursuit, tally = _Pursuit(mutant, to_the_end), Tally(claimed=judged)
    explore(mutant.adapter, tally, seed=0, examples=0, enough=pursuit.enough, on_run=pursuit.note)
    return Swept(pursuit, tally, time.process_time() - began)


def hunt(
    mutant: Mutant,
    *,
    seed: int,
    examples: int = Budget.CI.examples,
    to_the_end: bool = False,
    swept: Swept | None = None,
) -> Hunt:
    """Sweep, then walk until the mutant's clause is blamed; ``to_the_end``: all the runs, to see what else breaks.

    What was ``swept`` already is not swept again.
    """
    began = time.process_time()
    if mutant.breaks == IMPORT_CLAUSE:
        (verdict,) = check(mutant.adapter, seed=seed, examples=1, sweep=(), clauses=[IMPORT_CLAUSE]).verdicts
        found = verdict.evidence
        example = None if found is None or found.trace is None else Example(found.violation, found.trace)
        caught = {} if example is None else {IMPORT_CLAUSE: 1}
        return Hunt(mutant, seed, 1, time.process_time() - began, caught, example, True)
    swept = swept or sweep(mutant, to_the_end=to_the_end)
    pursuit, tally = replace(swept.pursuit, first_run=dict(swept.pursuit.first_run)), deepcopy(swept.tally)
    if to_the_end or pursuit.example is None:
        explore(
            mutant.adapter,
            tally,
            seed=seed,
            examples=examples,
            first=(),
            enough=pursuit.enough,
            on_run=pursuit.note,
        )
    pursuit.conclude(tally)
    first_run = {clause: run for clause, run in pursuit.first_run.items() if clause in tally.claimed}
    return Hunt(mutant, seed, tally.runs, time.process_time() - began, first_run, pursuit.example, pursuit.shortest)


def shortest(hunts: Iterable[Hunt]) -> Trace | None:
    """The shortest trace that can be made of what the hunts of one mutant have found."""
    found = [(hunt, hunt.example) for hunt in hunts if hunt.example is not None]
    if not found:
        return None
    short = [example.trace for hunt, example in found if hunt.shortest]
    if short:
        return min(short, key=lambda trace: len(trace.steps))
    hunt, example = min(found, key=lambda pair: len(pair[1].trace.steps))
    shown = shrink(hunt.mutant.adapter, example)
    return example.trace if shown is None else shown.trace


@dataclass(frozen=True, slots=True)
class Campaign:
    """Every hunt for one mutant, in values that can be sent from one process to another."""

    mutant: int
    """Its number in the registry."""
    killed: tuple[int, ...]
    """The seeds on which its own clause is blamed."""
    survived: tuple[int, ...]
    sweep: int
    """How many traces the sweep has for it."""
    runs: tuple[int, ...]
    """To the first run that shows it."""
    cpu_s: float
    """Of the sweep, and of the walks of all hunts."""
    firsts: int
    """On how many seeds no other clause had caught it in an earlier run."""
    alone: int
    """On how many of them none had in the same run either."""
    broke: frozenset[str]
    """Every clause that any of the hunts has seen broken before anything else in its room."""
    steps: int | None
    """Of the shortest trace."""
    trace: str
    """The shortest trace, in words."""


def campaign(number: int, seeds: tuple[int, ...], examples: int, breadth: int) -> Campaign:
    """Everything about one mutant of the registry, by its number there."""
    logging.disable(logging.CRITICAL)
    mutant = EVERY[number]
    swept = None if mutant.breaks == IMPORT_CLAUSE else sweep(mutant)
    hunts = [hunt(mutant, seed=seed, examples=examples, swept=swept) for seed in seeds]
    broad = hunt(mutant, seed=seeds[0], examples=breadth, to_the_end=True) if breadth else hunts[0]
    short = shortest(hunts)
    return Campaign(
        number,
        tuple(hunt.seed for hunt in hunts if hunt.killed),
        tuple(hunt.seed for hunt in hunts if not hunt.killed),
        len(played(mutant.adapter)),
        tuple(hunt.first_run[mutant.breaks] for hunt in hunts if hunt.killed),
        sum(hunt.cpu_s for hunt in hunts) + (0.0 if swept is None else swept.cpu_s),
        sum(hunt.first for hunt in hunts),
        sum(hunt.alone for hunt in hunts),
        frozenset().union(*(hunt.first_run for hunt in (*hunts, broad))),
        None if short is None else len(short.steps),
        "" if short is None else "; ".join([str(short.setup), *short.told]),
    )
