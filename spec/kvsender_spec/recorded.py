"""A recorded history and what it comes to: for ``kvsender trace check``, and for tests that record their own sender."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from rich.text import Text

from kvsender_spec.clauses import EVERY_CLAUSE
from kvsender_spec.history.events import History, RunEnded
from kvsender_spec.history.plain import one_line
from kvsender_spec.history.telling import Teller
from kvsender_spec.machine import Profile
from kvsender_spec.observe.observer import observer_of
from kvsender_spec.observe.verdict import Verdict, merge
from kvsender_spec.report.text import LIMIT, style


@dataclass(frozen=True, slots=True)
class Recorded:
    """A history, and the name of its file."""

    name: str
    history: History

    def verdicts(self, profile: Profile | None) -> tuple[Verdict, ...]:
        """One for each clause; the evidence says which file it is from, and which event shows it first."""
        observer = observer_of(self.history.header)
        for event in self.history.events:
            observer.see(event)
        return tuple(map(self.located, observer.verdicts(profile)))

    def located(self, verdict: Verdict) -> Verdict:
        """A verdict on this history, whose evidence says where it is."""
        evidence = verdict.evidence
        if evidence is None:
            return verdict
        teller = Teller(self.history)
        seq, key = evidence.violation.seq, evidence.violation.room
        room = "" if key is None else f", {teller.room(key)}"
        where = f"{self.name}{room}: the whole of it, no single event"
        if 0 <= seq < len(self.history.events):
            event = self.history.events[seq]
            where = f"{self.name}, event {seq} at {event.t:.6f} s{room}: {teller.words(event)}"
        return replace(verdict, evidence=replace(evidence, where=where))


def merged(all_of_them: Sequence[Sequence[Verdict]]) -> tuple[Verdict, ...]:
    """The verdicts on several histories, clause by clause, in the order of the contract."""
    found = [[one for verdicts in all_of_them for one in verdicts if one.clause is clause] for clause in EVERY_CLAUSE]
    return tuple(merge(same) for same in found if same)


def rows(verdicts: Sequence[Verdict]) -> Iterator[Text]:
    """A line a clause. No table: a note is long, and a column of a table is as narrow as the terminal leaves it."""
    widest = max((len(verdict.text) for verdict in verdicts), default=0)
    for verdict in verdicts:
        note = f"  {one_line(verdict.note, LIMIT)}" if verdict.note else ""
        yield Text.assemble(
            f"{verdict.clause.id} {verdict.clause.name:<22} {verdict.clause.level.value:<6}  ",
            (f"{verdict.text:<{widest}}", style(verdict.outcome)),
            f" {verdict.observations:6}{note}",
        )


def incomplete(recorded: Iterable[Recorded]) -> Iterator[str]:
    """A line for each history that does not come to its own end."""
    for one in recorded:
        last = one.history.events[-1] if one.history.events else None
        if not isinstance(last, RunEnded):
            yield f"{one_line(one.name, LIMIT)} is incomplete: it does not say how the run ended."
        elif not last.complete:
            yield f"{one_line(one.name, LIMIT)} is incomplete: {Teller(one.history).words(last)}."
