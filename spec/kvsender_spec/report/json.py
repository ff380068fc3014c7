"""A report as JSON: one writer, and a typed reader of what it wrote.

Every field that is written always has no default below; the others are left out where they say nothing. Traces are
lists of lines in the format of ``kvsender_spec.trace``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import msgspec

from kvsender_spec.clauses import BY_ID, Level
from kvsender_spec.machine import Profile
from kvsender_spec.observe.verdict import (
    Breakdown,
    Evidence,
    Outcome,
    Provenance,
    Report,
    Verdict,
    Violation,
    worst_exit_code,
)
from kvsender_spec.trace import Trace, TraceError, load

SCHEMA: Final = "kvsender-report/2"
"""One report."""
COLLECTION_SCHEMA: Final = "kvsender-reports/2"
"""Several: their worst exit code, and each of them as it would be alone."""


class ReportError(ValueError):
    """A report that cannot be read, or that lacks what was asked for; the message names the field or the value."""


class ErrorDocument(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The adapter broke."""

    message: str
    trace: tuple[str, ...]
    frames: tuple[str, ...] = ()


class ClauseDocument(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The verdict on one clause."""

    id: str
    name: str
    level: Level
    verdict: Outcome
    observations: int
    broken: int
    """How many of the observations do not hold."""
    after: str
    """For "fail after": the clause that broke first; otherwise empty."""
    contexts: tuple[str, ...]
    """Clauses about circumstances that were there and may be why, sorted."""
    note: str
    text: str = ""
    """What the clause says."""
    known: str = ""
    """Why a failure is expected, where a deviation expects it."""
    expected: str | None = None
    observed: str | None = None
    where: str = ""
    """The scenario or the file that shows it; empty for a run of the kit."""
    first_event: int | None = None
    """The ``seq`` of the event that shows it, in the history of the trace."""
    frames: tuple[str, ...] = ()
    """The last frames of an error of the sender's or the adapter's own."""
    trace: tuple[str, ...] | None = None

    def load_trace(self) -> Trace:
        """The shortest trace that breaks the clause. Raises ReportError where there is none, or none to be read."""
        if self.trace is None:
            raise ReportError(f"{self.id} has no trace: its verdict is {self.verdict.value!r}")
        try:
            return load(self.trace)
        except TraceError as error:
            raise ReportError(f"the trace of {self.id}: {error}") from error

    def restored(self) -> Verdict:
        """The verdict that was written, without its history. Raises ReportError for a clause that does not exist, and
        for a trace that cannot be read."""
        if self.id not in BY_ID:
            raise ReportError(f"there is no clause {self.id!r}")
        evidence = None
        if self.expected is not None:
            seq = -1 if self.first_event is None else self.first_event
            contexts = frozenset(self.contexts)
            violation = Violation(
                self.id,
                self.expected,
                self.observed or "",
                seq,
                after=self.after,
                contexts=contexts,
                frames=self.frames,
            )
            evidence = Evidence(violation, self.where, None if self.trace is None else self.load_trace())
        clause = BY_ID[self.id]
        return Verdict(
            clause, self.verdict, self.observations, self.broken, self.after, self.note, evidence, known=self.known
        )


class ReportDocument(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="schema", tag=SCHEMA):
    """One check of one adapter."""

    adapter: str
    profile: Profile
    claims: Profile
    """What the adapter claims; mostly the profile."""
    strict: bool
    seed: int
    runs: int
    steps: int
    exit_code: int
    errors: tuple[ErrorDocument, ...]
    clauses: tuple[ClauseDocument, ...]
    suite: dict[str, object] | None = None
    """The complete suite, where it was asked for."""
    stale: tuple[str, ...] = ()
    """Clauses that a deviation expects to fail, and that do not."""
    cut_off: bool = False
    """The check was interrupted."""
    made_by: Provenance | None = None

    def clause(self, clause: str) -> ClauseDocument:
        """The verdict on one clause, by id. Raises ReportError for a clause that the report is not about."""
        for document in self.clauses:
            if document.id == clause:
                return document
        known = ", ".join(document.id for document in self.clauses) or "no clause"
        raise ReportError(f"the report on {self.adapter} is about {known}, not {clause!r}")

    def restored(self) -> Report:
        """The report that was written, without its histories and the complete suite. Raises ReportError for what cannot
        be read."""
        try:
            errors = tuple(Breakdown(error.message, load(error.trace), error.frames) for error in self.errors)
        except TraceError as error:
            raise ReportError(f"the trace of an error: {error}") from error
        return Report(
            self.adapter,
            self.profile,
            self.seed,
            self.runs,
            self.steps,
            tuple(clause.restored() for clause in self.clauses),
            self.strict,
            claims=None if self.claims is self.profile else self.claims,
            errors=errors,
            stale=self.stale,
            cut_off=self.cut_off,
            made_by=self.made_by,
        )


class CollectionDocument(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="schema", tag=COLLECTION_SCHEMA
):
    """The checks of several adapters."""

    exit_code: int
    reports: tuple[ReportDocument, ...]


class _Head(msgspec.Struct):
    schema: str


def load_report(text: str | bytes) -> tuple[ReportDocument, ...]:
    """Read what ``to_json`` wrote: one report, or several. Raises ReportError for anything else."""
    try:
        schema = msgspec.json.decode(text, type=_Head).schema
        if schema == SCHEMA:
            return (msgspec.json.decode(text, type=ReportDocument),)
        if schema == COLLECTION_SCHEMA:
            return msgspec.json.decode(text, type=CollectionDocument).reports
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ReportError(f"not a report: {error}") from error
    raise ReportError(f"the schema of a report is {SCHEMA} or {COLLECTION_SCHEMA}, not {schema!r}")


def to_json(reports: Sequence[Report]) -> str:
    """One report as an object of ``SCHEMA``, several as one of ``COLLECTION_SCHEMA`` that has them in a list.

    Lone surrogates, which UTF-8 does not have, are spelt out.
    """
    documents = tuple(document(report) for report in reports)
    collection = CollectionDocument(exit_code=worst_exit_code(reports), reports=documents)
    written = msgspec.json.encode(documents[0] if len(documents) == 1 else collection)
    return msgspec.json.format(written, indent=2).decode() + "\n"


def document(report: Report) -> ReportDocument:
    """The report as it is written, for programs that embed it."""
    return ReportDocument(
        adapter=_utf8(report.adapter),
        profile=report.profile,
        claims=report.claims or report.profile,
        strict=report.strict,
        seed=report.seed,
        runs=report.runs,
        steps=report.steps,
        exit_code=report.exit_code,
        errors=tuple(_error(error) for error in report.errors),
        clauses=tuple(_clause(verdict) for verdict in report.verdicts),
        stale=report.stale,
        cut_off=report.cut_off,
        made_by=_made_by(report.made_by),
        suite=None if report.suite is None else {_utf8(key): _clean(v) for key, v in report.suite.facts.items()},
    )


def _made_by(made: Provenance | None) -> Provenance | None:
    return None if made is None else replace(made, command=_utf8(made.command), adapter=_utf8(made.adapter))


def _error(error: Breakdown) -> ErrorDocument:
    return ErrorDocument(message=_utf8(error.message), trace=_lines(error.trace), frames=_all_utf8(error.frames))


def _clause(verdict: Verdict) -> ClauseDocument:
    clause = verdict.clause
    told = ClauseDocument(
        id=clause.id,
        name=clause.name,
        level=clause.level,
        verdict=verdict.outcome,
        observations=verdict.observations,
        broken=verdict.broken,
        after=verdict.after,
        contexts=(),
        note=_utf8(verdict.note),
        text=clause.text,
        known=_utf8(verdict.known),
    )
    evidence = verdict.evidence
    if evidence is None:
        return told
    violation = evidence.violation
    contexts: tuple[str, ...] = tuple(sorted(violation.contexts))
    trace = None if evidence.trace is None else _lines(evidence.trace)
    return msgspec.structs.replace(
        told,
        contexts=contexts,
        expected=_utf8(violation.expected),
        observed=_utf8(violation.observed),
        where=_utf8(evidence.where),
        first_event=violation.seq if violation.seq >= 0 else None,
        frames=_all_utf8(violation.frames),
        trace=trace,
    )


def _lines(trace: Trace) -> tuple[str, ...]:
    return tuple(trace.dump().splitlines())


def _utf8(words: str) -> str:
    return words.encode("utf-8", "backslashreplace").decode()


def _all_utf8(lines: Sequence[str]) -> tuple[str, ...]:
    return tuple(_utf8(line) for line in lines)


def _clean(value: object) -> object:
    """The same value, with texts that UTF-8 can hold."""
    match value:
        case str():
            return _utf8(value)
        case dict():
            return {_utf8(str(key)): _clean(item) for key, item in value.items()}
        case [*items]:
            return [_clean(item) for item in items]
        case _:
            return value
