"""Shrinks a trace: steps, faults, overlaps, rooms, peers and chunks are left out while the same rule breaks first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from kvsender_spec.history.events import History
from kvsender_spec.history.words import How
from kvsender_spec.kit.adapter import Adapter
from kvsender_spec.kit.run.calls import AdapterError
from kvsender_spec.kit.run.execute import AnyRun, run_trace
from kvsender_spec.observe.attribution import Example, contexts_of
from kvsender_spec.observe.verdict import Violation
from kvsender_spec.trace import Progress, Setup, Step, Trace

MOST_STEPS: Final = 12_000
"""For one trace, of all its runs together. One that is not the shortest yet is still a trace that breaks the rule."""


WAIT_STEPS: Final = 3000
"""What a run costs in which a call does not come back: it takes the whole of its time limit."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A run of a trace that breaks the rule."""

    violation: Violation
    trace: Trace
    history: History
    violations: tuple[Violation, ...]
    """Everything that this run breaks."""


class _Shrinker:
    def __init__(self, adapter: Adapter, rule: str, contexts: frozenset[str], *, first: bool) -> None:
        self._adapter: Final = adapter
        self._rule: Final = rule
        self._contexts: Final = contexts
        self._first: Final = first
        self._left = MOST_STEPS
        self._tried: Final[set[Trace]] = set()

    def begin(self, trace: Trace) -> Shown | None:
        """Run the trace of the example again, until it shows again what it has shown."""
        for _ in tries(trace):
            self._tried.discard(trace)
            shown = self.run(trace)
            if shown is not None:
                return shown
        return None

    def run(self, trace: Trace) -> Shown | None:
        """Run a trace as it is; None unless it breaks the rule, first, and with no new circumstances."""
        if trace in self._tried or self._left <= 0:
            return None
        self._tried.add(trace)
        self._left -= len(trace.steps) + 1
        run = _run(self._adapter, trace)
        if run is None:
            return None
        self._left -= WAIT_STEPS if run.waited_s else 0
        return _shown(run, self._rule, self._contexts, first=self._first)

    def shrink(self, best: Shown) -> Shown:
        """The shortest that is found. Ends when no single omission still breaks the rule, or the runs are used up."""
        better: Shown | None = best
        while better is not None:
            best = self._without_chunks(better)
            better = next((shown for trace in _simpler(best.trace) if (shown := self.run(trace)) is not None), None)
        return best

    def _without_chunks(self, best: Shown) -> Shown:
        """Leave out runs of steps, from half of the trace down to single ones."""
        best = self._cut_after(best)
        size = max(1, len(best.trace.steps) // 2)
        while True:
            start = len(best.trace.steps) - size
            while start >= 0:
                steps = best.trace.steps
                shown = self.run(Trace(best.trace.setup, steps[:start] + steps[start + size :]))
                if shown is not None:
                    best = shown
                start -= size if shown is None else 1
                start = min(start, len(best.trace.steps) - size)
            if size == 1:
                return best
            size = max(1, size // 2)

    def _cut_after(self, best: Shown) -> Shown:
        """Without the steps after the one that shows the violation."""
        shown = self.run(Trace(best.trace.setup, best.trace.steps[: best.violation.step]))
        return best if shown is None else shown


_TRIES: Final = 6


def show(
    adapter: Adapter, trace: Trace, rule: str, *, contexts: frozenset[str] | None = None, first: bool = True
) -> Shown | None:
    """Run a trace as it is. None where it does not break the rule, or where the adapter breaks."""
    run = _run(adapter, trace)
    if run is None:
        return None
    shown = _shown(run, rule, contexts, first=first)
    run.forget()
    return shown


def _run(adapter: Adapter, trace: Trace) -> AnyRun | None:
    try:
        return run_trace(adapter, trace, as_it_is=True)
    except AdapterError:
        return None


def _shown(run: AnyRun, rule: str, contexts: frozenset[str] | None, *, first: bool) -> Shown | None:
    found = run.observer.findings.violations
    for violation in found:
        if violation.clause != rule or (first and violation.after):
            continue
        if contexts is None or contexts_of(violation) <= contexts:
            return Shown(violation, Trace(run.setup, tuple(run.steps)), run.history, tuple(found))
    return None


def shrink(adapter: Adapter, example: Example, *, first: bool = True) -> Shown | None:
    """The shortest trace that can be made of an example; None where the example does not repeat."""
    rule = example.violation.clause
    shrinker = _Shrinker(adapter, rule, contexts_of(example.violation), first=first)
    shown = shrinker.begin(example.trace)
    return None if shown is None else shrinker.shrink(shown)


def tries(trace: Trace) -> range:
    """How often to run a trace until it shows again what it has shown once.

    Where two threads call, it may be up to the sender's locks, and to the machine, which of them goes on first.
    """
    return range(_TRIES if any(step.overlap is not None for step in trace.steps) else 1)


def _simpler(trace: Trace) -> Iterator[Trace]:
    """Every trace that is one simplification of a step or of the setup away."""
    setup, steps = trace.setup, trace.steps
    for number, step in enumerate(steps):
        for simpler in _simpler_steps(step):
            yield Trace(setup, (*steps[:number], *simpler, *steps[number + 1 :]))
    yield from (Trace(other, steps) for other in _simpler_setups(setup) if other != setup)


def _simpler_steps(step: Step) -> Iterator[Sequence[Step]]:
    if step.overlap is not None:
        # With one thread, in both orders: only what neither shows takes two.
        alone = replace(step, overlap=None)
        second = Step(step.overlap.call, step.room, opening=step.opening)
        yield from ([alone], [second, alone], [alone, second])
    if step.progress is not Progress.NONE:
        yield [replace(step, progress=Progress.NONE)]
    if step.fault is not None:
        yield [replace(step, fault=None)]
        if step.fault.nth:
            yield [replace(step, fault=replace(step.fault, nth=0))]
    if step.how is not How.PROPER:
        yield [replace(step, how=How.PROPER)]
    if step.peer:
        yield [replace(step, peer=0)]
    if step.opening:
        yield [replace(step, opening=0)]


def _simpler_setups(setup: Setup) -> Iterator[Setup]:
    plain = Setup()
    yield replace(setup, chunks=setup.chunks[:1])
    yield replace(setup, chunks=tuple((chunks[0],) for chunks in setup.chunks))
    yield replace(setup, chunks=tuple(tuple(min(n, 1) for n in chunks) for chunks in setup.chunks))
    # A room without pages is a circumstance (KS-3.2): only what a room with a page does not show takes one.
    yield replace(setup, chunks=tuple((1,) if chunks == (0,) else chunks for chunks in setup.chunks))
    yield replace(setup, peers=1)
    yield replace(setup, dummies=plain.dummies)
    yield replace(setup, shared=plain.shared)
    yield replace(setup, done_at_post=plain.done_at_post)
    yield replace(setup, drops_metadata=plain.drops_metadata)
    yield replace(setup, silent=plain.silent)
    yield replace(setup, renames=plain.renames)
    yield replace(setup, cached=plain.cached)
    yield replace(setup, churn=plain.churn)
