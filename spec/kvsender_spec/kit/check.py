"""Checks an adapter: explores its sender, attributes what broke, and makes the report."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Final

from kvsender_spec.choosing import UnknownClause, select
from kvsender_spec.clauses import Clause, claimed, clauses_for
from kvsender_spec.history.events import KINDS, History
from kvsender_spec.history.header import Ability, Header, Source
from kvsender_spec.kit.adapter import Adapter, operation_of, role_of
from kvsender_spec.kit.blame import Blame, attribute, outermost
from kvsender_spec.kit.loading import load_adapter
from kvsender_spec.kit.parts import abilities, claiming
from kvsender_spec.kit.probe import probe_import
from kvsender_spec.kit.run.calls import AdapterError
from kvsender_spec.kit.search.churn import LONG, churn
from kvsender_spec.kit.search.explore import cut_short, explore
from kvsender_spec.kit.search.whole import sweep_of
from kvsender_spec.machine import Profile
from kvsender_spec.observe.attribution import Tally
from kvsender_spec.observe.observer import observe
from kvsender_spec.observe.verdict import Breakdown, Evidence, Findings, Outcome, Report, SuiteSummary, Verdict
from kvsender_spec.observe.verdicts import lacking, verdict_of
from kvsender_spec.trace import Setup, Trace

if TYPE_CHECKING:
    from kvsender_spec.kit.search.complete import SuiteReport

__all__ = ["EXAMPLES", "Budget", "Outcome", "Report", "UnknownClause", "check", "load_adapter"]


class Budget(StrEnum):
    """How much a check may try."""

    QUICK = "quick"
    CI = "ci"
    NIGHTLY = "nightly"

    @property
    def examples(self) -> int:
        match self:
            case Budget.QUICK:
                return 100
            case Budget.CI:
                return 1000
            case Budget.NIGHTLY:
                return 10_000


EXAMPLES: Final = Budget.CI.examples
_IMPORT: Final = "KS-1.5"


def check(
    adapter: Adapter,
    *,
    seed: int = 0,
    examples: int = EXAMPLES,
    clauses: Iterable[str] = (),
    profile: Profile | None = None,
    strict: bool = False,
    suite: int | None = None,
    traces: Iterable[Trace] = (),
    sweep: Iterable[Trace] | None = None,
    jobs: int = 1,
    load: Callable[[], Adapter] | None = None,
    on_run: Callable[[Tally], None] = lambda _: None,
    on_sequence: Callable[[SuiteReport], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> Report:
    """Explore the adapter's sender, then shorten and attribute what broke.

    ``traces`` and the ``sweep``, by default the whole one, are run first, then ``examples`` runs are drawn. ``clauses``
    limits the verdicts to some ids, ``profile`` judges against another one than the adapter claims, and with ``strict``
    a SHOULD counts as a MUST. ``suite`` adds the complete suite for so many extra states, which is about all the
    clauses that are claimed.

    ``jobs`` is the number of processes that make the runs; it changes nothing in the report. They get the adapter from
    ``load``, or pickled where that is None.

    A run in which the adapter breaks judges nothing, and the next one goes on. Where it breaks in too many, the walk
    ends, and every clause that had not failed by then has the outcome ERROR.

    Where ``stop`` says so, the exploration ends after the run that is being made, and the report is cut off.

    Raises UnknownClause for an id that does not exist, and LoadError for an adapter whose system or sender lacks a
    method.
    """
    chosen = frozenset(clauses)
    wanted = select(chosen)
    judged = profile or adapter.profile
    can: frozenset[Ability] | None = None
    own, adapter = adapter, claiming(adapter, profile)
    role = role_of(adapter)
    ids = frozenset(clause.id for clause in claimed(judged, role))
    tally = Tally(claimed=ids)
    broken = _enough(chosen)
    swept = sweep_of(operation_of(adapter), role) if sweep is None else sweep
    first: tuple[Trace, ...] = (
        *traces,
        *swept,
        *(churn(LONG) if examples >= Budget.CI.examples and role == "initiator" else ()),
    )
    if wanted == {_IMPORT} and role == "initiator":
        first, examples = (), 0  # no run has anything to do with it
    try:
        can = abilities(adapter)
        explore(
            adapter,
            tally,
            seed=seed,
            examples=examples,
            first=first,
            enough=lambda found: stop() or broken(found),
            on_run=on_run,
            jobs=jobs,
            load=None if load is None else partial(_loaded, load, profile),
        )
    except AdapterError as error:
        tally.errors.append(Breakdown(str(error), Trace(Setup(), ()), error.frames))
    probed = probe_import(own) if can is not None and _IMPORT in wanted and role == "initiator" else None
    blame = attribute(adapter, tally, ids & wanted)
    _note_import(tally, probed, blame)
    verdicts = tuple(_verdict(clause, judged, can, tally, blame) for clause in clauses_for(role) if clause.id in wanted)
    summary: SuiteSummary | None = None
    if suite is not None:
        from kvsender_spec.kit.search.complete import SuiteReport, run_suite

        suite_report = SuiteReport(suite, error="the adapter could not be opened")
        if can is not None:
            suite_report = run_suite(adapter, can, suite, profile=judged, strict=strict, on_sequence=on_sequence)
        summary = suite_report.summarised()
    return Report(
        adapter.name,
        judged,
        seed,
        tally.runs,
        tally.steps,
        verdicts,
        strict,
        claims=None if judged is own.profile else own.profile,
        errors=(*tally.errors, *blame.errors),
        suite=summary,
        cut_off=stop(),
    )


def _loaded(load: Callable[[], Adapter], profile: Profile | None) -> Adapter:
    return claiming(load(), profile)


def _enough(chosen: frozenset[str]) -> Callable[[Tally], bool]:
    """More runs cannot change the verdicts: each clause is broken first, and needs no circumstance."""
    return lambda tally: bool(chosen) and all(tally.candidates.get(clause) == frozenset() for clause in chosen)


def _note_import(tally: Tally, probed: History | None, blame: Blame) -> None:
    if probed is None:
        return
    findings = observe(probed).findings
    tally.held += findings.held
    for violation in findings.violations:
        tally.broken[_IMPORT] += 1
        blame.evidence[_IMPORT] = Evidence(violation, trace=Trace(Setup(), ()), history=probed)


def _verdict(clause: Clause, profile: Profile, can: frozenset[Ability] | None, tally: Tally, blame: Blame) -> Verdict:
    """``can`` is None where the adapter could not be opened."""
    broken = tally.broken[clause.id]
    seen = tally.held[clause.id] + broken + tally.excused[clause.id]
    lack = "" if can is None else lacking(clause, can)
    if lack:
        return Verdict(clause, Outcome.NOT_APPLICABLE, seen, note=lack)
    if clause not in claimed(profile, clause.role):
        example = tally.first.get(clause.id) or tally.later.get(clause.id)
        evidence = None if example is None else Evidence(example.violation, trace=example.trace)
        note = f"not claimed by profile {profile.value}"
        return Verdict(clause, Outcome.NOT_CLAIMED, seen, broken, note=note, evidence=evidence)
    found = blame.evidence.get(clause.id)
    if found is not None:
        after = outermost(clause.id, blame)
        outcome = Outcome.FAIL_AFTER if after else Outcome.FAIL
        with_it = tally.with_it(clause.id)
        return Verdict(clause, outcome, max(seen, 1), max(broken, 1), after, evidence=found, alongside=with_it)
    if cut_short(tally) or (tally.errors and seen == 0):
        note = tally.errors[0].message if tally.errors else "the check ended early: calls did not come back (KS-3.7)"
        return Verdict(clause, Outcome.ERROR, seen, note=note)
    header = Header(source=Source.SCRIPTED, vantage=tuple(KINDS), can=tuple(sorted(can or ())))
    verdict = verdict_of(clause, profile, [header], Findings(tally.held, reasons=tally.reasons.reasons))
    excused = tally.excused[clause.id]
    note = f"broken only where the caller did what profile {profile.value} does not allow it" if excused else ""
    return replace(verdict, note=note) if note and verdict.outcome is Outcome.PASS else verdict
