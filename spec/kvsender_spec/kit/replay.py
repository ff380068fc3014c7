"""Runs a trace from a file and tells what happens: a counterexample of one sender is a question to every other one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kvsender_spec.kit.adapter import Adapter
from kvsender_spec.kit.calls import AdapterError
from kvsender_spec.kit.check import require_methods
from kvsender_spec.kit.drive import Run
from kvsender_spec.kit.judge import Violation
from kvsender_spec.kit.record import Moment
from kvsender_spec.kit.stage import unplayable
from kvsender_spec.trace import Step, Trace, TraceError, load


@dataclass(frozen=True, slots=True)
class Replay:
    """What came of a trace."""

    moments: Sequence[Moment]
    violations: Sequence[Violation]
    left_out: tuple[Step, ...]
    """Steps that made no sense where they stood, or that came after the run was over."""
    error: AdapterError | None = None
    """The adapter broke; the moments are those before it."""

    @property
    def exit_code(self) -> int:
        """0 nothing broke, 1 the sender broke a clause, 3 the adapter broke."""
        return 3 if self.error is not None else 1 if self.violations else 0


def read_trace(path: Path) -> Trace:
    """Raises TraceError with the reason for whatever is not a trace that can be played."""
    try:
        with path.open(encoding="utf-8") as lines:
            trace = load(lines)
    except OSError as error:
        raise TraceError(f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TraceError(f"not UTF-8: {error.reason} at byte {error.start}") from error
    reason = unplayable(trace.scene)
    if reason:
        raise TraceError(f"line 1: {reason}")
    return trace


def replay(adapter: Adapter, trace: Trace) -> Replay:
    """Run the trace with its end. Raises LoadError for an adapter whose system or sender lacks a method."""
    run: Run | None = None
    left_out: list[Step] = []
    try:
        require_methods(adapter)
        run = Run(adapter, trace.scene)
        for step in trace.steps:
            if not run.applicable(step):
                left_out.append(step)
            run.apply(step)
        run.finish()
    except AdapterError as error:
        moments = [] if run is None else run.record.moments
        return Replay(moments, [] if run is None else run.findings.violations, tuple(left_out), error)
    return Replay(run.record.moments, run.findings.violations, tuple(left_out))
