"""Which finds the mutants sooner, the walk or hypothesis: ``python -m tests.kit.front_race``.

Each inline mutant is run until any clause is broken, once by the walk without the sweep before it, once by the state
machine of ``fronts.hypothesis`` (which generates only and shrinks nothing). Times are CPU seconds.
"""

from __future__ import annotations

import logging
import time
from typing import Annotated, Final

import typer
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from tests.mutants.registry import MUTANTS
from tests.mutants.waiting import SENDERS as WAITING

from kvsender_spec.fronts.hypothesis import ClauseBroken, state_machine
from kvsender_spec.kit.adapter import Adapter
from kvsender_spec.kit.search.explore import explore
from kvsender_spec.observe.attribution import Tally

_WAITS: Final = {sender.__name__ for sender in WAITING}
"""Their time is that of the limit on a call."""


def walk(adapter: Adapter, runs: int, number: int) -> tuple[bool, float]:
    """Whether anything breaks within so many runs, and the CPU seconds until it does."""
    began, tally = time.process_time(), Tally()
    explore(adapter, tally, seed=number, examples=runs, first=(), enough=lambda tally: bool(tally.broken))
    return bool(tally.broken), time.process_time() - began


def hypothesis(adapter: Adapter, runs: int, number: int) -> tuple[bool, float]:
    """The same with hypothesis."""
    began, machine = time.process_time(), state_machine(adapter)
    seed(number)(machine)
    drawn = settings(
        max_examples=runs,
        stateful_step_count=25,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        print_blob=False,
        report_multiple_bugs=False,
    )
    try:
        run_state_machine_as_test(machine, settings=drawn)
    except ClauseBroken:
        return True, time.process_time() - began
    return False, time.process_time() - began


def main(
    runs: Annotated[int, typer.Option(min=1, help="The most runs for each mutant.")] = 300,
    seeds: Annotated[int, typer.Option(min=1, help="So many seeds.")] = 1,
) -> None:
    """Print for each mutant which of the two has found it, and when; then the sums."""
    logging.disable(logging.CRITICAL)
    mutants = [mutant for mutant in MUTANTS if not mutant.threads and mutant.name not in _WAITS]
    found, spent = [0, 0], [0.0, 0.0]
    for mutant in mutants:
        for number in range(seeds):
            results = [race(mutant.adapter, runs, number) for race in (walk, hypothesis)]
            for at, (broken, seconds) in enumerate(results):
                found[at] += broken
                spent[at] += seconds
            print(mutant.name, *(f"{'found' if broken else 'not found'} {s:.2f}" for broken, s in results), flush=True)
    total = len(mutants) * seeds
    print(f"of {total}: the walk {found[0]} in {spent[0]:.0f} CPU s, hypothesis {found[1]} in {spent[1]:.0f} CPU s")


if __name__ == "__main__":
    typer.run(main)
