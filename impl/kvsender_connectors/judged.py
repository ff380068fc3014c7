"""A fail beside what is known of it: explained, new, or stale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from kvsender_connectors.connectors import Connector
from kvsender_connectors.findings import Findings, Shown, Verdict
from kvsender_connectors.known import KNOWN, Known
from kvsender_connectors.witnesses import WITNESSES
from kvsender_spec.clauses import CLAUSES
from kvsender_spec.kit.check import Outcome

NO_VERDICT: Final = Verdict(Outcome.ERROR, 0, "the check did not say")


@dataclass(frozen=True, slots=True)
class Judged:
    """One connector's results, with what the table of known fails says about them."""

    connector: Connector
    findings: Findings
    known: Mapping[tuple[str, str], Known]

    @property
    def fails(self) -> dict[str, tuple[Verdict, Known | None]]:
        """Each clause that fails, with what is known of it."""
        return {
            clause: (verdict, self.known.get((self.connector.key, clause)))
            for clause, verdict in self.findings.verdicts.items()
            if verdict.outcome is Outcome.FAIL
        }

    @property
    def news(self) -> list[str]:
        """The clauses that fail and have no entry."""
        return [clause for clause, (_, known) in self.fails.items() if known is None]

    @property
    def stale(self) -> list[str]:
        """The entries that no fail needs, apart from those that not every exploration draws."""
        return [
            clause
            for (key, clause), known in self.known.items()
            if key == self.connector.key and clause not in self.fails and not known.drawn
        ]

    @property
    def errors(self) -> list[str]:
        """The clauses about which the adapter or the kit broke."""
        return [clause for clause, verdict in self.findings.verdicts.items() if verdict.outcome is Outcome.ERROR]

    @property
    def surprises(self) -> list[Shown]:
        """The witnesses that came out otherwise than they are known to."""
        return [shown for shown in self.findings.witnesses if shown.shown is not self.expects(shown)]

    def expects(self, shown: Shown) -> bool:
        return any(shown.what == witness.what and self.connector.key in witness.shows for witness in WITNESSES)

    @property
    def as_known(self) -> bool:
        return not (self.news or self.stale or self.errors or self.surprises)


def judge(connector: Connector, findings: Findings, known: Mapping[tuple[str, str], Known] = KNOWN) -> Judged:
    return Judged(connector, findings, known)


def complaints(results: Sequence[Judged]) -> list[str]:
    """What is not as the tables say, a sentence each."""
    found: list[str] = []
    for result in results:
        key = result.connector.key
        found += [f"{key} {clause}: fails, and `known.py` does not say why" for clause in result.news]
        found += [f"{key} {clause}: `known.py` explains a fail that did not come" for clause in result.stale]
        found += [f"{key} {clause}: no verdict, {result.findings.verdicts[clause].note}" for clause in result.errors]
        for shown in result.surprises:
            came = "shown, which is new" if shown.shown else "not shown, although it is known"
            found.append(f"{key}: “{shown.what}” was {came}" + (f" ({shown.observed})" if shown.observed else ""))
    return found


def rows(results: Sequence[Judged]) -> list[tuple[str, list[Verdict]]]:
    """The matrix: every clause, in order, with each connector's verdict."""
    return [
        (clause.id, [result.findings.verdicts.get(clause.id, NO_VERDICT) for result in results]) for clause in CLAUSES
    ]
