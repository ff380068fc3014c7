"""What one connector's check comes to: made in a process of its own, carried as JSON, and put beside what is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from kvsender_connectors.connectors import Connector
from kvsender_connectors.known import KNOWN, Kind, Known
from kvsender_spec.clauses import BY_ID
from kvsender_spec.history.events import RoomOpened
from kvsender_spec.kit.adapter import Adapter
from kvsender_spec.kit.check import check
from kvsender_spec.kit.replay import Replay, replay
from kvsender_spec.machine import Profile
from kvsender_spec.observe.attribution import contexts_of
from kvsender_spec.observe.verdict import Evidence, Outcome, Report, Verdict, Violation, merge
from kvsender_spec.report.json import ReportDocument, ReportError, document
from kvsender_spec.trace import Trace

SCHEMA: Final = "kvsender-connector/2"
_KINDS: Final = tuple(Kind)


class Shown(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one known trace."""

    what: str
    """The ``why`` of the entry."""
    shown: bool
    observed: str = ""
    """What was seen where it was shown; otherwise what broke instead, or nothing."""


class Findings(msgspec.Struct, frozen=True, tag_field="schema", tag=SCHEMA):
    """One connector's check, as it travels from its process to the one that prints."""

    report: ReportDocument
    shown: tuple[Shown, ...]


# ------------------------------------------------------------------------------------- in the process of one connector


def examine(adapter: Adapter, *, seed: int, examples: int, known: Sequence[Known] = KNOWN) -> Findings:
    """Check a connector against the whole specification, and replay what is known of any connector.

    The known traces are runs of the check like all others. One whose clause is about a circumstance, and is shown, is
    evidence for that clause also where the exploration has found the rule broken in other circumstances too.
    """
    entries = [(entry, entry.trace) for entry in known if entry.trace is not None]
    traces = [trace for _, trace in entries]
    report = check(adapter, seed=seed, examples=examples, profile=Profile.FULL, traces=traces)
    shown: list[Shown] = []
    verdicts = {verdict.clause.id: verdict for verdict in report.verdicts}
    for entry, trace in entries:
        done = replay(adapter, trace, profile=Profile.FULL)
        seen = _broken(entry, done, trace)
        # What is left of a trace that does not fit this sender asks another question.
        found = None if done.left_out else _shows(adapter, entry, trace, seen)
        if found is None:
            instead = "; ".join(f"{violation.clause}: {violation.observed}" for violation in seen)
            shown.append(Shown(entry.why, False, instead if done.error is None else str(done.error)))
            continue
        clause, violation = found
        shown.append(Shown(entry.why, True, f"{violation.clause}: {violation.observed}"))
        if clause != violation.clause:
            evidence = Evidence(replace(violation, clause=clause), trace=trace)
            outcome = Outcome.FAIL_AFTER if violation.after else Outcome.FAIL
            verdict = Verdict(BY_ID[clause], outcome, 1, 1, violation.after, evidence=evidence)
            verdicts[clause] = merge([verdicts[clause], verdict])
    return Findings(document(replace(report, verdicts=tuple(verdicts.values()))), tuple(shown))


def _shows(adapter: Adapter, entry: Known, trace: Trace, seen: Sequence[Violation]) -> tuple[str, Violation] | None:
    """The first of the entry's clauses that its trace shows here, and how; None where it shows none.

    It shows a clause that it breaks. It shows a clause about a circumstance if it breaks a rule there and needs the
    circumstance: with any one step left out, the rule never breaks for the same room without it.
    """
    for clause in entry.clauses:
        for violation in seen:
            if violation.clause == clause:
                return clause, violation
            if clause in contexts_of(violation):
                alike = [
                    other
                    for fewer in _shorter(trace)
                    for other in _broken(entry, replay(adapter, fewer, profile=Profile.FULL), fewer)
                    if (other.clause, other.room) == (violation.clause, violation.room)
                ]
                if all(clause in contexts_of(other) for other in alike):
                    return clause, violation
    return None


def _broken(entry: Known, done: Replay, trace: Trace) -> list[Violation]:
    """What a trace breaks, with room numbers in place of keys. The end of the run counts only for an entry about it."""
    steps, history = len(trace.steps) - len(done.left_out), done.history
    if history is None:
        return []
    ids = {event.room: event.id for event in history.events if isinstance(event, RoomOpened)}
    seen = [found for found in done.violations if entry.at_end or found.step <= steps]
    return [found if found.room is None else replace(found, room=ids[found.room]) for found in seen]


def _shorter(trace: Trace) -> Iterator[Trace]:
    for number in range(len(trace.steps)):
        yield Trace(trace.setup, trace.steps[:number] + trace.steps[number + 1 :])


# -------------------------------------------------------------------------------------------- beside what is known


@dataclass(frozen=True, slots=True)
class Result:
    """One connector's findings, with what the table of known behaviour says about them."""

    connector: Connector
    report: Report
    traces: tuple[Shown, ...]
    known: Sequence[Known] = KNOWN

    @classmethod
    def read(cls, connector: Connector, text: str | bytes, known: Sequence[Known] = KNOWN) -> Result:
        """Raises ReportError for what is no JSON of ``Findings``, and for findings that name what does not exist."""
        try:
            findings = msgspec.json.decode(text, type=Findings)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise ReportError(f"not the findings of a connector: {error}") from error
        return cls(connector, findings.report.restored(), findings.shown, known)

    def why(self, clause: str) -> list[Known]:
        """What is known to break the clause here, public issues first."""
        mine = (entry for entry in self.known if self.connector.key in entry.connectors and clause in entry.clauses)
        return sorted(mine, key=lambda entry: _KINDS.index(entry.kind))

    def shown(self, entry: Known) -> Shown | None:
        """What became of the entry's trace; None where it has none."""
        if entry.trace is None:
            return None
        found = next((shown for shown in self.traces if shown.what == entry.why), None)
        return found or Shown(entry.why, False, "it was not run")

    @property
    def complaints(self) -> list[str]:
        """What is not as the table says, a sentence each. A fail after another clause is explained by that one."""
        key, failed = self.connector.key, {v.clause.id for v in self.report.verdicts if v.outcome.failed}
        first = [verdict.clause.id for verdict in self.report.with_outcome(Outcome.FAIL)]
        entries = [(entry, clause) for entry in self.known if key in entry.connectors for clause in entry.clauses]
        found = [f"{clause} fails, and `known.py` does not say why" for clause in first if not self.why(clause)]
        found += [
            f"{clause} does not fail, and `known.py` says that it does: {entry.why}"
            for entry, clause in entries
            if clause not in failed
        ]
        found += [f"{verdict.clause.id}: {verdict.note}" for verdict in self.report.with_outcome(Outcome.ERROR)]
        found += [f"a run broke: {error.message}" for error in self.report.errors]
        for entry in self.known:
            shown = self.shown(entry)
            if shown is not None and shown.shown is not (key in entry.connectors):
                came = "shown, which is new" if shown.shown else "not shown, although it is known"
                found.append(f"“{shown.what}” was {came}" + (f" ({shown.observed})" if shown.observed else ""))
        return [f"{key}: {line}" for line in found]
