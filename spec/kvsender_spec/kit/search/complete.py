"""The complete suite: every sequence of an HSI suite is run against a sender and compared with the specification.

A sequence that is answered otherwise is run again for the observer, which says which clause it breaks; the reported
trace is the shortest that still breaks it. What differs and breaks no clause is reported as well, as itself, and
decides nothing: the sender is another machine than the specification read strictly, and the clauses leave it that
freedom (a deadline may be noticed late) or have a hole. What a pass would have promised does not hold then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from kvsender_spec.clauses import BY_ID
from kvsender_spec.contract import Operation
from kvsender_spec.formal.suite.hsi import suite
from kvsender_spec.formal.suite.letters import PEERS, CallSequence, Letter, Reading
from kvsender_spec.formal.suite.sender import extract
from kvsender_spec.history.header import Ability
from kvsender_spec.kit.adapter import Adapter, operation_of
from kvsender_spec.kit.blame import attribute
from kvsender_spec.kit.run.calls import AdapterError
from kvsender_spec.kit.run.execute import run_trace
from kvsender_spec.kit.search.sequences import (
    EVERY_CLAUSE,
    Mismatch,
    SequenceRun,
    compare,
    counting,
    lacking,
    not_judged,
    reading_of,
    run_sequence,
    spell,
    unsuited,
)
from kvsender_spec.machine import Profile
from kvsender_spec.observe.attribution import Tally
from kvsender_spec.observe.verdict import Evidence, Findings, Outcome, SuiteSummary
from kvsender_spec.trace import Trace

MOST_EXTRA: Final = 3
"""Each extra state multiplies the sequences by the number of letters."""
MOST_DIFFERENCES: Final = 8
"""So many sequences that break a clause end the suite: the sender is known to be another machine."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A sequence that the sender answers otherwise than the specification."""

    sequence: CallSequence
    mismatch: Mismatch | None
    """None where every letter is answered as it should be, and only the observer saw what is wrong."""
    clauses: tuple[str, ...]
    """What the observer says that it breaks; empty where it finds nothing."""
    trace: Trace

    def __str__(self) -> str:
        if self.mismatch is None:
            return f"{spell(self.sequence)}: answered as it should be, but it breaks {', '.join(self.clauses)}"
        shown = spell(self.sequence[: self.mismatch.at + 1])
        return f"{shown}: the specification {self.mismatch.expected.value}, the sender {self.mismatch.observed.value}"


@dataclass(slots=True)
class SuiteReport:
    """What the suite has come to."""

    extra: int
    operation: Operation = "WRITE"
    reading: Reading = Reading.PATIENT
    states: int = 0
    letters: int = 0
    dropped: tuple[Letter, ...] = ()
    """The letters that the sender has no call for."""
    planned: int = 0
    sequences: int = 0
    """How many of the planned sequences were run."""
    calls: int = 0
    differences: list[Difference] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    """What the observer has seen in the sequences that are answered otherwise."""
    broken: dict[str, Evidence] = field(default_factory=dict)
    """By clause, the shortest trace found."""
    not_applicable: str = ""
    error: str = ""
    """How the adapter broke."""

    @property
    def known(self) -> list[CallSequence]:
        """How each sequence that differs begins, up to the letter at which it does."""
        return [d.sequence if d.mismatch is None else d.sequence[: d.mismatch.at + 1] for d in self.differences]

    @property
    def failed(self) -> bool:
        """A sequence has broken a clause."""
        return any(difference.clauses for difference in self.differences)

    @property
    def passed(self) -> bool:
        """Every sequence was answered as the specification answers it, so that what the fault domain promises holds."""
        return not (self.not_applicable or self.error or self.differences) and self.sequences == self.planned

    @property
    def shown(self) -> list[Difference]:
        """The differences worth reading: those that break a clause first, the shortest first, and not too many."""
        lengths = [len(sequence) for sequence in self.known]
        order = sorted((not d.clauses, lengths[n], n) for n, d in enumerate(self.differences))
        return [self.differences[number] for _, _, number in order[:MOST_DIFFERENCES]]

    @property
    def domain(self) -> str:
        """What a pass means, in a sentence."""
        without = f" (without {', '.join(self.dropped)}: the sender has no such call)" if self.dropped else ""
        initiators = "readers" if self.operation == "READ" else "senders"
        return (
            f"complete for deterministic {initiators} with at most {self.states}+{self.extra} states under this"
            f" alphabet of {self.letters} inputs{without}, one room, {PEERS} peers,"
            f" that report a failure {self.reading.value}"
        )

    @property
    def summary(self) -> str:
        """How much was run, and what came of it."""
        if self.not_applicable:
            return f"not applicable: {self.not_applicable}"
        done = (
            f"{self.sequences} of {self.planned} sequences"
            if self.sequences < self.planned
            else f"{self.sequences} sequences"
        )
        text = f"{done}, {self.calls} calls, k={self.extra}, {self.states} states"
        if self.error:
            return f"{text}; the adapter broke: {self.error}"
        if not self.differences:
            return f"{text}; every sequence is answered as the specification answers it"
        broken = sum(1 for difference in self.differences if difference.clauses)
        free = len(self.differences) - broken
        counts = [f"{broken} break a clause"] * (broken > 0) + [f"{free} differ and break no clause"] * (free > 0)
        return f"{text}; of these {' and '.join(counts)}"

    @property
    def outcome(self) -> Outcome:
        """Sequences that are answered otherwise and break no clause leave it inconclusive: the sender conforms as far
        as anybody knows, and is not the machine for which the suite is complete."""
        if self.not_applicable:
            return Outcome.NOT_APPLICABLE
        if self.failed:
            return Outcome.FAIL
        if self.error:
            return Outcome.ERROR
        return Outcome.PASS if self.passed else Outcome.INCONCLUSIVE

    def summarised(self) -> SuiteSummary:
        """For a report: in words, and for programs."""
        return SuiteSummary(self.outcome, tuple(self._lines()), self._facts())

    def _lines(self) -> Iterator[str]:
        if self.not_applicable:
            yield f"complete suite: {self.summary}"
            return
        yield f"complete suite: {self.outcome.value}: {self.summary}"
        yield self.domain
        for difference in self.shown:
            named = ", ".join(difference.clauses) or "no clause is broken: a freedom of the contract, or a hole in it"
            yield f"{difference} [{named}]"
        for clause, evidence in sorted(self.broken.items()):
            yield f"{clause} {BY_ID[clause].name}: expected {evidence.violation.expected};"
            if evidence.trace is not None:
                yield f"  observed: {evidence.violation.observed}; shortest trace found, {evidence.trace.setup}:"
                yield from (f"  {number}. {step}" for number, step in enumerate(evidence.trace.told, 1))

    def _facts(self) -> dict[str, object]:
        return {
            "schema": "kvsender-suite/1",
            "verdict": self.outcome.value,
            "k": self.extra,
            "states": self.states,
            "inputs": self.letters,
            "dropped_inputs": list(self.dropped),
            "reports_failure": self.reading.value,
            "sequences": self.sequences,
            "sequences_planned": self.planned,
            "calls": self.calls,
            "fault_domain": "" if self.not_applicable else self.domain,
            "note": self.not_applicable or self.error,
            "differences": [
                {
                    "sequence": list(difference.sequence),
                    "says": str(difference),
                    "clauses": list(difference.clauses),
                    "trace": difference.trace.dump().splitlines(),
                }
                for difference in self.shown
            ],
            "broken": {
                clause: [] if evidence.trace is None else evidence.trace.dump().splitlines()
                for clause, evidence in sorted(self.broken.items())
            },
        }


def run_suite(
    adapter: Adapter,
    can: frozenset[Ability],
    extra: int,
    *,
    profile: Profile | None = None,
    strict: bool = False,
    most_differences: int = MOST_DIFFERENCES,
    on_sequence: Callable[[SuiteReport], None] = lambda _: None,
) -> SuiteReport:
    """Run the suite with ``extra`` states against an adapter whose system and sender ``can`` do so much.

    Raises ValueError for a number of extra states that is out of range.
    """
    if not 0 <= extra <= MOST_EXTRA:
        raise ValueError(f"the suite takes 0 to {MOST_EXTRA} extra states, not {extra}")
    report = SuiteReport(extra, operation_of(adapter), not_applicable=unsuited(can))
    if report.not_applicable:
        return report
    ignoring = not_judged(profile or adapter.profile, strict=strict)
    try:
        dropped = lacking(can)
        report.dropped = tuple(letter for letter in Letter if letter in dropped)
        report.reading = reading_of(adapter)
        machine = extract(report.reading, dropped)
        sequences = suite(machine, extra)
        report.states, report.letters, report.planned = machine.size, len(machine.inputs), len(sequences)
        for sequence in sequences:
            if any(sequence[: len(known)] == known for known in report.known):
                continue  # it would show the same once more
            _take(adapter, report, run_sequence(adapter, sequence, ignoring=ignoring), ignoring)
            on_sequence(report)
            if sum(1 for difference in report.differences if difference.clauses) >= most_differences:
                break
    except AdapterError as error:
        report.error = str(error)
        return report
    report.broken = attribute(adapter, report.tally, EVERY_CLAUSE - ignoring).evidence
    return report


def _take(adapter: Adapter, report: SuiteReport, done: SequenceRun, ignoring: frozenset[str]) -> None:
    report.sequences += 1
    report.calls += done.calls
    mismatch = compare(done, report.reading)
    if mismatch is None and not done.ending and not any(letter.violations for letter in done.seen):
        return
    clauses = examine(adapter, done.sequence, mismatch, ignoring, report.tally)
    report.differences.append(Difference(done.sequence, mismatch, clauses, done.trace))


def examine(
    adapter: Adapter, sequence: CallSequence, mismatch: Mismatch | None, ignoring: frozenset[str], tally: Tally
) -> tuple[str, ...]:
    """The clauses that a sequence which is answered otherwise breaks first; adds what was seen to the tally.

    The sequence is run as it is; then with an end in which only deadlines help; then with such an end right before the
    letter that is answered otherwise, because that letter may have made good what was missing.
    """
    whole = run_sequence(adapter, sequence, ignoring=EVERY_CLAUSE, to_the_end=False).trace
    asked = [whole, Trace(replace(whole.setup, silent=True), whole.steps)]
    if mismatch is not None:
        before = run_sequence(adapter, sequence[: mismatch.at], ignoring=EVERY_CLAUSE, to_the_end=False).trace
        asked.append(Trace(replace(before.setup, silent=True), before.steps))
    for trace in asked:
        run = run_trace(adapter, trace)
        found = [violation for violation in run.observer.findings.violations if violation.clause not in ignoring]
        if counting(found, ignoring):
            tally.add(Trace(trace.setup, tuple(run.steps)), Findings(violations=found))
            return tuple(sorted({violation.clause for violation in counting(found, ignoring)}))
    return ()
