"""Runs a trace from a file and tells what happens: a counterexample of one sender is a question to every other one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kvsender_spec.clauses import BY_ID, Level, claimed
from kvsender_spec.history.events import History
from kvsender_spec.kit.adapter import Adapter, role_of
from kvsender_spec.kit.parts import LoadError, claiming, parts_of
from kvsender_spec.kit.run.calls import AdapterError
from kvsender_spec.kit.run.execute import AnyRun, new_run
from kvsender_spec.kit.run.scripted_world import unrunnable
from kvsender_spec.machine import Profile
from kvsender_spec.observe.attribution import OWN_ERROR, contexts_of, excused
from kvsender_spec.observe.verdict import Violation
from kvsender_spec.report.json import ReportError, load_report
from kvsender_spec.trace import Step, Trace, TraceError, load


@dataclass(frozen=True, slots=True)
class Replay:
    """What came of a trace."""

    history: History | None
    """None where the run could not begin."""
    violations: tuple[Violation, ...]
    """Of clauses that the profile claims."""
    unclaimed: tuple[Violation, ...]
    """Of the others."""
    left_out: tuple[Step, ...]
    """Steps that made no sense where they stood."""
    strict: bool = False
    error: AdapterError | None = None
    """The adapter broke; the history ends there."""

    def shows(self, clause: str) -> bool:
        """Whether the clause is broken, or is about a circumstance of what is."""
        return any(
            clause == found.clause or clause in contexts_of(found) for found in (*self.violations, *self.unclaimed)
        )

    @property
    def exit_code(self) -> int:
        """0 nothing broke, 1 the sender broke a clause that the check counts, 3 the adapter broke."""
        if self.error is not None or any(found.clause == OWN_ERROR for found in self.violations):
            return 3
        return 1 if any(_counts(found, strict=self.strict) for found in self.violations) else 0


def _counts(found: Violation, *, strict: bool) -> bool:
    return found.clause in BY_ID and (strict or BY_ID[found.clause].level is Level.MUST)


def read_trace(path: Path, clause: str | None = None) -> tuple[Trace, str | None, Profile | None]:
    """A trace, the clause that it is said to break, and the profile that it was judged against: from a trace's file,
    which says neither, or from a report in JSON.

    Raises TraceError with the reason for whatever is not a trace that can be run.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise TraceError(f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TraceError(f"not UTF-8: {error.reason} at byte {error.start}") from error
    if '"schema"' in text[:200]:
        trace, clause, profile = _from_report(text, clause)
    elif '"kvsender-history/' in text[:200]:
        raise TraceError(
            "a history, which was recorded: `kvsender trace show` tells it, `kvsender trace check` judges it"
        )
    else:
        trace, profile = load(text.splitlines()), None
    reason = unrunnable(trace)
    if reason:
        raise TraceError(reason)
    return trace, clause, profile


def _from_report(text: str, clause: str | None) -> tuple[Trace, str, Profile]:
    try:
        reports = load_report(text)
        rows = [(row, report.profile) for report in reports for row in report.clauses if row.trace is not None]
        names = sorted({row.id for row, _ in rows})
        if clause is None and len(names) != 1:
            raise TraceError(f"a report with traces of {', '.join(names) or 'no clause'}: say of which one, as KS-2.2")
        chosen = [(row, profile) for row, profile in rows if clause in (None, row.id)]
        if not chosen:
            raise TraceError(f"the report has no trace of {clause}, only of {', '.join(names) or 'no clause'}")
        row, profile = chosen[0]
        return row.load_trace(), row.id, profile
    except ReportError as error:
        raise TraceError(str(error)) from error


def replay(adapter: Adapter, trace: Trace, *, profile: Profile | None = None, strict: bool = False) -> Replay:
    """Run the trace, with its end.

    Raises LoadError for an adapter whose system or sender lacks a method, or what the setup of the trace asks for.
    """
    run: AnyRun | None = None
    left_out: list[Step] = []
    broke: AdapterError | None = None
    try:
        adapter = claiming(adapter, profile)
        lacks = parts_of(adapter).lacks(trace.setup)
        if lacks:
            raise LoadError(f"adapter {adapter.name}: a setup with {trace.setup} is for systems that declare {lacks}")
        run = new_run(adapter, trace.setup)
        for step in trace.steps:
            if not run.applicable(step):
                left_out.append(step)
            run.apply(step)
        run.finish()
    except AdapterError as error:
        broke = error
    ids = frozenset(clause.id for clause in claimed(adapter.profile, role_of(adapter))) | {OWN_ERROR}
    found = () if run is None else tuple(v for v in run.observer.findings.violations if not excused(v, ids))
    return Replay(
        None if run is None else run.history,
        tuple(violation for violation in found if violation.clause in ids),
        tuple(violation for violation in found if violation.clause not in ids),
        tuple(left_out),
        strict,
        broke,
    )
