"""Failures that are known: which clause, why, and where that is written down.

They stand in ``[[tool.kvsender.deviations]]`` of a project file, or in a baseline, a file of their own that
``kvsender baseline`` writes. A failure that one of them expects decides no exit code; one that does not come is stale,
and is an error, because the entry would excuse the next failure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec

from kvsender_spec.choosing import UnknownClause, clauses_of
from kvsender_spec.clauses import BY_ID
from kvsender_spec.observe.verdict import Outcome, Report, Verdict

_HEAD: Final = """\
# Failures of the sender contract that are known. Written by `kvsender baseline`; reason and reference are yours to
# edit, and stay. A failure that is not listed here, and an entry whose clause does not fail any more, turn a check red.

"""
_KEPT: Final = (Outcome.PASS, Outcome.NOT_APPLICABLE, Outcome.NOT_CLAIMED)
"""A clause that an entry expects to fail has one of these: the entry is stale."""


class DeviationError(ValueError):
    """An entry, or a file of entries, that cannot be what was meant; the message names it."""


class Deviation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One clause that a sender is known to break."""

    clause: str
    """Its id: KS-2.3."""
    reason: str
    reference: str = ""
    """Where more is said of it: an issue, a pull request."""
    adapter: str = ""
    """The name of the adapter whose sender breaks it; empty: of every adapter that is checked."""

    def __str__(self) -> str:
        return f"{self.reason} ({self.reference})" if self.reference else self.reason


class Baseline(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a baseline holds."""

    deviations: tuple[Deviation, ...] = ()


def read_baseline(path: Path) -> tuple[Deviation, ...]:
    """The entries of a baseline. Raises DeviationError for a file that cannot be read, or that says what cannot be."""
    try:
        found = msgspec.toml.decode(path.read_bytes(), type=Baseline)
    except (OSError, UnicodeError, msgspec.DecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        raise DeviationError(f"{path}: {said}") from error
    require_sense(found.deviations, str(path))
    return found.deviations


def write_baseline(path: Path, deviations: Iterable[Deviation]) -> None:
    """Write them as a baseline. Raises OSError."""
    path.write_bytes(_HEAD.encode() + msgspec.toml.encode(Baseline(tuple(deviations))))


def require_sense(deviations: Sequence[Deviation], where: str) -> None:
    """Raises DeviationError for a clause that does not exist, an empty reason, and two entries for one clause."""
    known: set[tuple[str, str]] = set()
    for entry in deviations:
        try:
            clauses = clauses_of(entry.clause)
        except UnknownClause as error:
            raise DeviationError(f"{where}: {error}") from error
        if [clause.id for clause in clauses] != [entry.clause]:
            ids = ", ".join(clause.id for clause in clauses)
            raise DeviationError(f"{where}: {entry.clause!r} is the id of no clause: write one of {ids}")
        if not entry.reason.strip():
            raise DeviationError(f"{where}: there is no reason for {entry.clause}; say why it is broken")
        if (entry.adapter, entry.clause) in known:
            raise DeviationError(f"{where}: there are two entries for {entry.clause}{_of(entry)}")
        known.add((entry.adapter, entry.clause))


def _of(entry: Deviation) -> str:
    return f" of {entry.adapter}" if entry.adapter else ""


def concerning(deviations: Iterable[Deviation], adapter: str) -> dict[str, Deviation]:
    """By clause, the entries for one adapter. One that names it comes before one that is for all."""
    mine = [entry for entry in deviations if entry.adapter in ("", adapter)]
    for_all = {entry.clause: entry for entry in mine if not entry.adapter}
    return for_all | {entry.clause: entry for entry in mine if entry.adapter}


def excused(verdict: Verdict, mine: dict[str, Deviation]) -> Deviation | None:
    """The entry that expects this failure, if any does. What is only ever broken after a clause goes with that one."""
    if not verdict.outcome.failed:
        return None
    return mine.get(verdict.clause.id) or mine.get(verdict.after)


def with_deviations(report: Report, deviations: Iterable[Deviation]) -> Report:
    """The report, in which failures that are known say so, and entries that are stale are named."""
    mine = concerning(deviations, report.adapter)
    verdicts = tuple(
        verdict if entry is None else replace(verdict, known=str(entry))
        for verdict in report.verdicts
        for entry in (excused(verdict, mine),)
    )
    stale = tuple(v.clause.id for v in verdicts if v.clause.id in mine and v.outcome in _KEPT)
    return replace(report, verdicts=verdicts, stale=() if report.cut_off else stale)


def to_write(reports: Sequence[Report], before: Sequence[Deviation], *, reason: str, reference: str) -> list[Deviation]:
    """The entries of a baseline in which nothing that fails in these reports is new and nothing is stale.

    Entries that were there ``before`` keep their reasons. What was not judged (other clauses, other adapters) stays.
    """
    found: list[Deviation] = []
    for report in reports:
        mine = concerning(before, report.adapter)
        judged = {verdict.clause.id: verdict for verdict in report.verdicts}
        for clause in BY_ID:
            verdict, entry = judged.get(clause), mine.get(clause)
            if verdict is None:
                found += [entry] if entry is not None else []
            elif verdict.outcome is Outcome.FAIL or (verdict.outcome.failed and verdict.after not in judged):
                found.append(entry or _new(report, verdict, reason, reference))
            elif entry is not None and verdict.outcome not in _KEPT:
                found.append(entry)  # nothing has shown that it is stale
    names = {report.adapter for report in reports}
    found += [entry for entry in before if entry.adapter and entry.adapter not in names]
    return [entry for number, entry in enumerate(found) if entry not in found[:number]]


def _new(report: Report, verdict: Verdict, reason: str, reference: str) -> Deviation:
    evidence = verdict.evidence
    observed = "" if evidence is None else f": {evidence.violation.observed}"
    said = reason or f"not looked into yet{observed}"
    return Deviation(clause=verdict.clause.id, reason=said, reference=reference, adapter=report.adapter)
