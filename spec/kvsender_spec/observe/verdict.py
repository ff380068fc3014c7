"""Violations, verdicts, and the one rule by which they are merged and become an exit code.

Kit, lab, connectors and ``kvsender trace check`` use these types and no others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

from kvsender_spec.clauses import Clause, Level
from kvsender_spec.history.events import History
from kvsender_spec.machine import Profile
from kvsender_spec.trace import Trace


class Outcome(Enum):
    """What is known of a clause, the worst first."""

    FAIL = "fail"
    """Some run breaks it before anything else in that room."""
    FAIL_AFTER = "fail after"
    """It is only ever broken after another clause, which the verdict names. It counts as a failure."""
    ERROR = "error"
    """The adapter or the source of the events broke."""
    INCONCLUSIVE = "inconclusive"
    PASS = "pass"
    NOT_CLAIMED = "not claimed"
    """The profile does not claim it. It was watched all the same: the verdict says how often it was broken."""
    NOT_APPLICABLE = "not applicable"
    """The subject lacks what the clause is about, or nothing that ran is about it."""

    @property
    def failed(self) -> bool:
        return self in (Outcome.FAIL, Outcome.FAIL_AFTER)


class Reason(Enum):
    """Why a clause is inconclusive: a closed list."""

    NEVER_OBSERVED = "never observed"
    NOT_RECORDED = "the source does not record what it needs"
    LOST = "events were lost"
    CUT_OFF = "the history ends before it can be told"


@dataclass(frozen=True, slots=True)
class Violation:
    """One observation that does not hold."""

    clause: str
    expected: str
    observed: str
    seq: int = -1
    """The event of the history that shows it; -1 where there is none."""
    room: int | None = None
    """The key of the room."""
    after: str = ""
    """The clause that broke first in this room; empty where this one did."""
    contexts: frozenset[str] = frozenset()
    """Clauses about circumstances that were there and may be why, such as KS-5.2 after a clear()."""
    frames: tuple[str, ...] = ()
    """The last frames of an error of the sender's or the adapter's own."""
    step: int = 0
    """How many steps of the trace had begun when it was seen."""


@dataclass(slots=True)
class Findings:
    """How often each clause was observed to hold, and what broke."""

    held: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)
    handled: set[str] = field(default_factory=set)
    """The classes of errors that were raised, and turned into the failure of a room."""
    reasons: dict[str, tuple[Reason, str]] = field(default_factory=dict)
    """Why a clause could not be told where it came up: the reason, and which kind of event is missing."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What shows that a clause is broken, readable alone."""

    violation: Violation
    where: str = ""
    """A scenario, a file; empty for the kit's own runs."""
    trace: Trace | None = None
    """The shortest trace of the kit that breaks it."""
    history: History | None = None
    """What was seen when that very trace was run."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One clause's."""

    clause: Clause
    outcome: Outcome
    observations: int = 0
    broken: int = 0
    """How many of the observations do not hold."""
    after: str = ""
    """For FAIL_AFTER: the clause that broke first."""
    note: str = ""
    evidence: Evidence | None = None
    alongside: frozenset[str] = frozenset()
    """The clauses that the same answers broke, whenever this one broke first."""
    known: str = ""
    """Of a failure that a deviation expects: the reason that it gives."""

    @property
    def text(self) -> str:
        """The outcome in a few words."""
        word = self.outcome.value
        if self.outcome is Outcome.FAIL_AFTER:
            word = f"{word} {self.after}"
        if self.known:
            return f"{word} (known)"
        broken = self.outcome is Outcome.NOT_CLAIMED and self.broken
        return f"{word}; broken {self.broken} of {self.observations}" if broken else word

    def counts(self, *, strict: bool) -> bool:
        """Whether it decides the exit code."""
        deciding = self.outcome.failed or self.outcome in (Outcome.ERROR, Outcome.INCONCLUSIVE)
        return deciding and not self.known and (strict or self.clause.level is Level.MUST)


INTERRUPTED: Final = 130
"""The exit code of a command that SIGINT has ended: 128 and the number of the signal."""
_ORDER: Final = tuple(Outcome)


def _badness(verdict: Verdict) -> int:
    return _ORDER.index(verdict.outcome)


def merge(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst of several verdicts on one clause; what was observed adds up. Raises ValueError for none at all.

    One that simply never came up says nothing beside one that did.
    """
    found = sorted(verdicts, key=_badness)
    if not found:
        raise ValueError("there is no verdict to merge")
    found = [one for one in found if one.note != Reason.NEVER_OBSERVED.value] or found
    return replace(
        found[0],
        observations=sum(verdict.observations for verdict in found),
        broken=sum(verdict.broken for verdict in found),
    )


def exit_code(verdicts: Iterable[Verdict], *, strict: bool = False, errors: bool = False) -> int:
    """0 nothing failed and everything was judged; 1 something failed; 3 nothing failed, not everything was judged."""
    deciding = [verdict.outcome for verdict in verdicts if verdict.counts(strict=strict)]
    if any(outcome.failed for outcome in deciding):
        return 1
    return 3 if deciding or errors else 0


@dataclass(frozen=True, slots=True)
class Group:
    """What one trace breaks: the cause first, then what else the same run shows."""

    cause: Verdict
    consequences: tuple[Verdict, ...] = ()


def grouped(verdicts: Sequence[Verdict]) -> list[Group]:
    """The failed verdicts by cause, each clause once, in the order of the causes.

    A clause belongs to the group of the clause that it is broken after; two that fail with the same trace are one
    group, under the one that the trace breaks first.
    """
    failed = [verdict for verdict in verdicts if verdict.outcome.failed]
    causes = [verdict for verdict in failed if verdict.outcome is Outcome.FAIL]
    groups: list[tuple[Verdict, list[Verdict]]] = []
    order = sorted(range(len(causes)), key=[_first_shown(verdict, failed) for verdict in causes].__getitem__)
    for verdict in (causes[number] for number in order):
        trace = None if verdict.evidence is None else verdict.evidence.trace
        same = [g for g in groups if trace is not None and g[0].evidence is not None and g[0].evidence.trace == trace]
        if same:
            same[0][1].append(verdict)
        else:
            groups.append((verdict, []))
    by_clause = {verdict.clause.id: group for group in groups for verdict in (group[0], *group[1])}
    for verdict in failed:
        if verdict.outcome is Outcome.FAIL_AFTER:
            group = by_clause.get(verdict.after)
            if group is None:
                groups.append((verdict, []))
            else:
                group[1].append(verdict)
    return [Group(cause, tuple(rest)) for cause, rest in groups]


def _first_shown(verdict: Verdict, failed: Sequence[Verdict]) -> tuple[bool, int, int, int]:
    """MUST before SHOULD, short traces first, within a trace what is shown first, and then what says more.

    A clause that is never broken without another one, which is broken without it, comes after that one.
    """
    mine = verdict.clause.id
    depends = sum(other.clause.id in verdict.alongside and mine not in other.alongside for other in failed)
    evidence = verdict.evidence
    steps = 0 if evidence is None or evidence.trace is None else len(evidence.trace.steps)
    seq = -1 if evidence is None else evidence.violation.seq
    return verdict.clause.level is not Level.MUST, steps, seq, depends


@dataclass(frozen=True, slots=True)
class Breakdown:
    """The adapter broke, or the kit did; the sender is not judged by this run."""

    message: str
    trace: Trace
    frames: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SuiteSummary:
    """What the complete suite came to, where it was asked for."""

    outcome: Outcome
    lines: tuple[str, ...]
    """In words: the result first, then where sender and specification part."""
    facts: dict[str, object]
    """For programs."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """What made a report."""

    kit: str
    """The version of kvsender-spec."""
    contract: str
    """The first digits of the SHA-256 of all clauses: two reports with the same ones were judged by the same words."""
    hypothesis: str
    python: str
    package: str
    """What holds the adapter, with its version; empty where that is no installed package."""
    budget: str
    command: str
    adapter: str
    """How the command named the adapter: ``module:attribute``."""
    date: str
    """When the check began, in UTC (ISO 8601)."""


@dataclass(frozen=True, slots=True)
class Report:
    """One check of one adapter."""

    adapter: str
    profile: Profile
    """The one that it was judged against."""
    seed: int
    runs: int
    steps: int
    verdicts: tuple[Verdict, ...]
    strict: bool = False
    """SHOULD clauses decide the exit code as MUST clauses do."""
    claims: Profile | None = None
    """What the adapter claims, where it was judged against another profile."""
    errors: tuple[Breakdown, ...] = ()
    """Where the adapter broke; those runs judge nothing."""
    suite: SuiteSummary | None = None
    stale: tuple[str, ...] = ()
    """Clauses that a deviation expects to fail, and that do not."""
    cut_off: bool = False
    """The check was interrupted: what it had not seen by then is not judged."""
    made_by: Provenance | None = None

    def with_outcome(self, *outcomes: Outcome) -> tuple[Verdict, ...]:
        return tuple(verdict for verdict in self.verdicts if verdict.outcome in outcomes)

    @property
    def groups(self) -> list[Group]:
        return grouped(self.verdicts)

    @property
    def exit_code(self) -> int:
        """0: every MUST clause that applies passes. 1: one fails, or a deviation is stale. 2: the adapter broke in all
        runs. 3: none fails, but one could not be judged, or the adapter broke. 130: interrupted."""
        if self.cut_off:
            return INTERRUPTED
        if self.errors and not self.runs:
            return 2
        if self.stale:
            return 1
        code = exit_code(self.verdicts, strict=self.strict, errors=bool(self.errors))
        if self.suite is None or self.suite.outcome in (Outcome.PASS, Outcome.NOT_APPLICABLE):
            return code
        return 1 if code == 1 or self.suite.outcome.failed else 3


def worst_exit_code(reports: Iterable[Report]) -> int:
    """The code of several reports: an interruption outweighs a failure, an adapter that never ran, what could not be
    judged, a pass."""
    codes = {report.exit_code for report in reports}
    return next((code for code in (INTERRUPTED, 1, 2, 3) if code in codes), 0)
