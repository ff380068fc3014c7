"""What a check runs, in order: given traces, the sweep, then the random walk. All clauses are observed in one pass."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from random import Random
from typing import Final, TypeAlias

from kvsender_spec.kit.adapter import Adapter, role_of
from kvsender_spec.kit.parts import parts_of
from kvsender_spec.kit.run.calls import AdapterError
from kvsender_spec.kit.run.execute import AnyRun, have_made, new_run
from kvsender_spec.kit.run.garbage import another_run
from kvsender_spec.kit.search.processes import in_processes
from kvsender_spec.kit.search.sweep import given_time
from kvsender_spec.kit.search.walk import wander
from kvsender_spec.kit.search.whole import sweep_of
from kvsender_spec.kit.targets.walk import wander_target
from kvsender_spec.observe.attribution import Tally
from kvsender_spec.observe.verdict import Breakdown, Findings
from kvsender_spec.trace import Setup, Trace

MOST_WAITS: Final = 3
"""So many runs with a call that does not come back end it as well."""
MOST_ERRORS: Final = 5
"""So many runs that an adapter broke in end the exploration: each may have cost a call's whole time limit."""
_BATCH: Final = 20
"""So many runs another process makes before it hands them over."""


def cut_short(tally: Tally) -> bool:
    """The adapter broke, or calls did not come back, so often that the exploration has ended."""
    return len(tally.errors) >= MOST_ERRORS or tally.waits >= MOST_WAITS


def explore(
    adapter: Adapter,
    tally: Tally,
    *,
    seed: int,
    examples: int,
    first: Iterable[Trace] | None = None,
    enough: Callable[[Tally], bool] = lambda _: False,
    on_run: Callable[[Tally], None] = lambda _: None,
    jobs: int = 1,
    load: Callable[[], Adapter] | None = None,
) -> None:
    """Run the traces of ``first``, by default the whole sweep, then ``examples`` runs of the walk, until it is
    ``enough``; add all to ``tally``.

    The same seed walks the same, in however many processes (``jobs``), since the runs are added in their order. A
    process gets the adapter from ``load``, which is pickled, or pickled itself. An error of the adapter's own ends its
    run, and too many of them the exploration.
    """
    parts = parts_of(adapter)
    swept = sweep_of(parts.operation, parts.role) if first is None else first
    played = (given_time(t, parts.posts_in) for t in swept if parts.plays(t))
    plans: Iterator[_Plan] = chain(played, (f"{seed} {number}" for number in range(examples)))
    source = load or partial(_itself, adapter)
    runs = (_made(adapter, plan) for plan in plans) if jobs == 1 else _made_elsewhere(source, plans, jobs)
    with closing(runs):
        while True:
            run = None if enough(tally) or cut_short(tally) else next(runs, None)
            if run is None:
                return
            _add(tally, run)
            on_run(tally)


_Plan: TypeAlias = Trace | str
"""What to run: a trace, or what seeds the random numbers of a walk."""


@dataclass(frozen=True, slots=True)
class _Made:
    """One run that was made: its findings, or the error that the adapter made of it."""

    trace: Trace
    findings: Findings
    error: Breakdown | None = None
    waited: bool = False
    """A call did not come back."""


def _add(tally: Tally, run: _Made) -> None:
    tally.waits += run.waited
    if run.error is None:
        tally.add(run.trace, run.findings)
    else:
        tally.errors.append(run.error)


def _made(adapter: Adapter, plan: _Plan) -> _Made:
    """Have one run made."""
    runs: list[AnyRun] = []  # it is in there as soon as there is one
    try:
        have_made(partial(_run, adapter, plan, runs), runs)
        run = runs[0]
        made = _Made(Trace(run.setup, tuple(run.steps)), run.observer.findings, waited=run.waited_s > 0)
        run.forget()
        another_run()
        return made
    except AdapterError as error:
        trace = Trace(runs[0].setup, tuple(runs[0].steps)) if runs else Trace(Setup(), ())
        return _Made(trace, Findings(), Breakdown(str(error), trace, error.frames))


def _run(adapter: Adapter, plan: _Plan, runs: list[AnyRun]) -> None:
    if isinstance(plan, str):
        walk = wander_target if role_of(adapter) == "target" else wander
        walk(adapter, Random(plan), runs)
    else:
        runs.append(new_run(adapter, plan.setup))
        runs[0].take(plan.steps)


def _itself(adapter: Adapter) -> Adapter:
    return adapter


def _made_elsewhere(load: Callable[[], Adapter], plans: Iterator[_Plan], jobs: int) -> Generator[_Made]:
    batches = iter(lambda: tuple(islice(plans, _BATCH)), ())
    for runs in in_processes(partial(_made_here, load), batches, jobs):
        yield from runs


def _made_here(load: Callable[[], Adapter], plans: Iterable[_Plan]) -> list[_Made]:
    """In one of several processes: some runs, but none after so many errors that they end the exploration."""
    adapter, runs, errors, waits = load(), list[_Made](), 0, 0
    for plan in plans:
        runs.append(_made(adapter, plan))
        errors += runs[-1].error is not None
        waits += runs[-1].waited
        if errors == MOST_ERRORS or waits == MOST_WAITS:
            break
    return runs
