"""What a check runs, in order: given traces, the sweep, then the random walk. All clauses are observed in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from random import Random
from typing import Final

from kvsender_spec.history.header import Ability
from kvsender_spec.kit.adapter import Adapter
from kvsender_spec.kit.parts import abilities
from kvsender_spec.kit.run.calls import AdapterError
from kvsender_spec.kit.run.execute import Run, have_made
from kvsender_spec.kit.search.sweep import SWEEP
from kvsender_spec.kit.search.walk import wander
from kvsender_spec.observe.attribution import Tally
from kvsender_spec.observe.verdict import Breakdown
from kvsender_spec.trace import Setup, Trace

MOST_WAITS: Final = 3
"""So many runs with a call that does not come back end it as well."""
MOST_ERRORS: Final = 5
"""So many runs that an adapter broke in end the exploration: each may have cost a call's whole time limit."""


def cut_short(tally: Tally) -> bool:
    """The adapter broke, or calls did not come back, so often that the exploration has ended."""
    return len(tally.errors) >= MOST_ERRORS or tally.waits >= MOST_WAITS


def explore(
    adapter: Adapter,
    tally: Tally,
    *,
    seed: int,
    examples: int,
    first: Iterable[Trace] = SWEEP,
    enough: Callable[[Tally], bool] = lambda _: False,
    on_run: Callable[[Tally], None] = lambda _: None,
) -> None:
    """Run the traces of ``first``, then ``examples`` runs of the walk, until it is ``enough``; add all to ``tally``.

    The same seed walks the same. An error of the adapter's own ends its run, and too many of them the exploration.
    """
    can = abilities(adapter)
    for trace in first:
        if trace.setup.cached and Ability.PARTS not in can:
            continue
        if enough(tally) or cut_short(tally):
            return
        _made(tally, partial(_traced, adapter, trace))
        on_run(tally)
    for number in range(examples):
        if enough(tally) or cut_short(tally):
            return
        _made(tally, partial(wander, adapter, Random(f"{seed} {number}")))
        on_run(tally)


def _traced(adapter: Adapter, trace: Trace, runs: list[Run]) -> None:
    runs.append(Run(adapter, trace.setup))
    runs[0].take(trace.steps)


def _made(tally: Tally, work: Callable[[list[Run]], None]) -> None:
    """Have one run made, which ``work`` hands out as soon as there is one; take its findings, or its error."""
    runs: list[Run] = []
    try:
        have_made(lambda: work(runs), runs)
        tally.waits += runs[0].waited_s > 0
        tally.add(Trace(runs[0].setup, tuple(runs[0].steps)), runs[0].observer.findings)
    except AdapterError as error:
        trace = Trace(runs[0].setup, tuple(runs[0].steps)) if runs else Trace(Setup(), ())
        tally.errors.append(Breakdown(str(error), trace, error.frames))
