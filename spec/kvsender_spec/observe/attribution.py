"""Which clause a wrong answer is blamed on, from all runs of a check together.

Every violation has a rule, the clause that the answer itself contradicts; it does not depend on what else happened. A
circumstance (another room, a clear(), two calls at once) is a candidate only if the rule never broke in any run without
it. The trace is then shortened as long as the same rule breaks first, so that what is left in it is necessary; and one
table names the clause about the circumstance that is still there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from kvsender_spec.clauses import BY_ID
from kvsender_spec.observe.checkers.base import AS_WELL, OWN_ERROR
from kvsender_spec.observe.verdict import Breakdown, Findings, Violation
from kvsender_spec.trace import Trace

NAMING: Final = (
    ("KS-7.2", "two calls of one room overlapped"),
    ("KS-6.2", "a peer of other rooms was not healthy"),
    ("KS-6.3", "the room's own peer had come back"),
    ("KS-5.4", "another room had a fault or was given up, or there was an earlier one of the same id"),
    ("KS-8.1", "the caller had made a mistake"),
    ("KS-5.3", "a transfer of the cleared room had finished late"),
    ("KS-5.2", "clear() was called"),
    ("KS-5.1", "abort() was called"),
    ("KS-2.7", "failure_exception() was called in a room that may not have failed"),
    ("KS-3.2", "the room has no pages"),
    ("KS-2.8", "the sender says of no error who caused it, or says the same of all"),
    ("KS-3.6", "its transfers finished in another order than they were posted"),
    ("KS-9.12", "a fence was told, and it was not about all of the room's initiators"),
    ("KS-9.11", "something malformed had arrived"),
    ("KS-9.10", "the announcement had raised"),
    ("KS-9.6", "something of another incarnation, of an unknown room or after the end had arrived"),
    ("KS-9.5", "something came twice, from a stranger, or from one of several initiators"),
    ("KS-9.3", "the lease was renewed"),
)
"""Read from the top: the first circumstance that the shortest trace still needs names the clause."""
_OF_FAILURE: Final = frozenset({"KS-5.1"})
_OF_PAGES: Final = frozenset({"KS-5.1", "KS-5.2", "KS-5.3", "KS-5.4", "KS-6.2", "KS-6.3"})
_OF_OUTCOMES: Final = frozenset({"KS-3.2", "KS-3.6"})
"""They explain an outcome that is wrong, and nothing else."""
FALSELY: Final = "KS-3.5"
OF_FALSE_FAILURES: Final = ("KS-2.7", "KS-2.8", "KS-8.1")
"""A room that fails for no reason has a cause to show and somebody whom it holds responsible, and refuses no send()."""
ENDS: Final = "KS-3.4"
SPECIAL_CASES: Final = {
    ENDS: frozenset({"KS-3.2", "KS-3.6", "KS-6.2"}),
    "KS-3.1": frozenset({"KS-3.2"}),
}
"""By rule, those that the same answer breaks where it is about them. The rule may be broken for another reason too."""
_OF_THE_CAUSE: Final = frozenset({"KS-1.3", "KS-2.3", "KS-2.4"})
"""They are about one fact, the cause that is kept: where one breaks without an abort() or a clear(), none needs it."""
CALLER: Final = frozenset({"KS-7.2", "KS-8.1"})
"""What a profile that does not claim these clauses forbids its caller: calls at the same time, and mistakes. What the
sender does then is not specified; it is counted apart."""
SPEAKS_OF: Final[dict[str, frozenset[str]]] = {
    "KS-1.4": _OF_FAILURE,
    "KS-2.2": _OF_FAILURE,
    "KS-2.4": frozenset({"KS-2.7"}),
    "KS-2.6": frozenset({"KS-5.1", "KS-5.2", "KS-5.3"}),
    "KS-2.8": _OF_FAILURE,
    "KS-3.4": _OF_FAILURE,
    "KS-4.1": _OF_PAGES,
    "KS-4.2": _OF_PAGES,
    "KS-4.3": _OF_PAGES,
    "KS-4.4": _OF_PAGES,
    "KS-6.1": _OF_FAILURE | {"KS-5.2"},
    "KS-6.4": _OF_FAILURE | {"KS-5.2", "KS-5.3"},
    "KS-9.3": frozenset({"KS-9.6"}),
}
"""The circumstances that a rule is itself about, which therefore explain nothing: an abort is a failure like others,
and pages and notifications are looked at after clear() as before."""


def contexts_of(violation: Violation) -> frozenset[str]:
    """The circumstances that may explain a violation, without those that its rule is about."""
    rule = violation.clause
    others = frozenset[str]() if rule.startswith("KS-3") else _OF_OUTCOMES
    return violation.contexts - SPEAKS_OF.get(rule, frozenset()) - others - {rule}


def excused(violation: Violation, claimed: frozenset[str]) -> bool:
    """The caller had done what a profile that claims these clauses does not allow it."""
    return bool((CALLER - claimed) & contexts_of(violation))


@dataclass(slots=True)
class Example:
    """The shortest run seen so far that breaks a rule."""

    violation: Violation
    trace: Trace


@dataclass(slots=True)
class Tally:
    """What all runs of a check have shown together."""

    runs: int = 0
    steps: int = 0
    held: Counter[str] = field(default_factory=Counter)
    alongside: dict[str, frozenset[str]] = field(default_factory=dict)
    """By rule: the rules that the same answers broke, whenever it broke first."""
    broken: Counter[str] = field(default_factory=Counter)
    """How often each rule was broken."""
    first: dict[str, Example] = field(default_factory=dict)
    """By rule: the shortest run in which it broke before anything else in its room."""
    candidates: dict[str, frozenset[str]] = field(default_factory=dict)
    """By rule: the circumstances without which it never broke first."""
    seen_in: dict[str, frozenset[str]] = field(default_factory=dict)
    """By rule: the circumstances without which it never broke at all, neither first nor after another rule."""
    later: dict[str, Example] = field(default_factory=dict)
    """By rule: the shortest run in which it broke after another one."""
    own: set[str] = field(default_factory=set)
    """The errors of the sender's or the adapter's own that no circumstance explains, as "raised ..."."""
    handled: set[str] = field(default_factory=set)
    """The classes of errors that some run has shown to be turned into a failure."""
    reasons: Findings = field(default_factory=Findings)
    errors: list[Breakdown] = field(default_factory=list)
    waits: int = 0
    """In how many runs a call was waited for that did not come back."""
    claimed: frozenset[str] = frozenset(BY_ID)
    """The clauses of the profile."""
    excused: Counter[str] = field(default_factory=Counter)
    """How often each rule was broken where the caller had done what the profile does not allow it."""

    def add(self, trace: Trace, findings: Findings) -> None:
        """Take the findings of one run."""
        self.runs += 1
        self.steps += len(trace.steps)
        self.held += findings.held
        self.handled |= findings.handled
        for clause, why in findings.reasons.items():
            self.reasons.reasons.setdefault(clause, why)
        for violation in findings.violations:
            self._note_own(violation)
        for violation in self._unspoilt(findings.violations):
            self._take(violation, trace, _beside(violation, findings.violations))

    def _note_own(self, violation: Violation) -> None:
        """An error that comes although nothing had gone wrong is no clause's where it comes after a fault either."""
        _, raised, error = violation.observed.partition("raised ")
        words = raised + error
        if violation.clause != OWN_ERROR or violation.after or contexts_of(violation) or words in {"", *self.own}:
            return
        self.own.add(words)
        gone = {r for r, e in self.first.items() if r != OWN_ERROR and words in e.violation.observed}
        for rule in gone:
            self.forget_first(rule)
        late = {r for r, e in self.later.items() if e.violation.after in gone}
        for rule in late:
            del self.later[rule]

    def _unspoilt(self, violations: Sequence[Violation]) -> Iterator[Violation]:
        """Without what a room shows from such an error on, but for the first of these errors itself."""
        spoilt: dict[int | None, int] = {}
        for violation in violations:
            if any(words in violation.observed for words in self.own):
                spoilt.setdefault(violation.room, violation.seq)
        for violation in violations:
            since = spoilt.get(violation.room)
            first = violation.clause == OWN_ERROR and not violation.after
            if since is None or violation.seq < since or first:
                yield violation

    def _take(self, violation: Violation, trace: Trace, same: frozenset[str]) -> None:
        rule, contexts = violation.clause, contexts_of(violation)
        if excused(violation, self.claimed):
            self.excused[rule] += 1
            return
        self.broken[rule] += 1
        if violation.after == rule:
            return  # an echo
        self.seen_in[rule] = self.seen_in.get(rule, contexts) & contexts
        if violation.after:
            _keep(self.later, violation, trace)
            return
        known = self.candidates.get(rule)
        self.candidates[rule] = contexts if known is None else known & contexts
        self.alongside[rule] = self.alongside.get(rule, same) & same
        _keep(self.first, violation, trace)

    def forget_first(self, rule: str) -> None:
        """No run has shown it first after all."""
        del self.first[rule], self.candidates[rule], self.alongside[rule]

    def met_first(self, trace: Trace, violation: Violation, violations: Iterable[Violation]) -> None:
        """A shortened trace shows a rule first that no run had shown first."""
        self._take(violation, trace, _beside(violation, violations))

    def met_afterwards(self, trace: Trace, violations: Iterable[Violation]) -> None:
        """What is broken after another rule in the run of a shortened trace, where nothing else has shown it yet."""
        for violation in self._unspoilt(tuple(violations)):
            rule = violation.clause
            shown = rule in self.first or not violation.after or violation.after == rule
            if not shown and not excused(violation, self.claimed):
                self.broken[rule] += rule not in self.later
                _keep(self.later, violation, trace)

    def name(self, violation: Violation, rooms: int = 2) -> str:
        """The clause to blame for a violation in the shortest trace: the first candidate still there, or the rule.

        ``rooms`` are opened in that trace. One other room is enough for a fault to reach this one (KS-5.4), or an
        earlier one of its id; where it takes three or more, it is what all of them together have kept (KS-4.3).

        An answer that breaks another rule as well, and that one in no particular circumstance, needs no explanation.
        """
        rule = violation.clause
        left = contexts_of(violation) & self.candidates[rule] & self.claimed
        if "KS-2.8" not in self.first:
            left -= {"KS-2.8"}
        if rule in _OF_THE_CAUSE:
            for given_up in ("KS-5.1", "KS-5.2"):
                if any(given_up not in self.candidates.get(other, {given_up}) for other in _OF_THE_CAUSE):
                    left -= {given_up}
        if self.established(rule) or (rule in OF_FALSE_FAILURES and not self.candidates.get(FALSELY, {FALSELY})):
            return rule
        named = next((clause for clause, _ in NAMING if clause in left), rule)
        return "KS-4.3" if named == "KS-5.4" and rooms > 3 and "KS-4.3" in self.claimed else named

    def explaining(self, rule: str) -> frozenset[str]:
        """The clauses that may turn out to be what the rule is broken for, once its trace is short."""
        found = self.candidates[rule]
        return found | {"KS-4.3"} if "KS-5.4" in found else found

    def needs(self, rule: str, circumstance: str) -> bool:
        """Whether the rule never broke without the circumstance, neither first nor after another rule."""
        return circumstance in self.seen_in[rule]

    def with_it(self, rule: str) -> frozenset[str]:
        """The rules that come before this one where the same answer breaks both.

        A sender that turns some errors into a failure and lets others escape has an incomplete set of errors to catch
        (KS-1.2); one that lets all of them escape catches none (KS-1.1).
        """
        first, then = ("KS-1.2", "KS-1.1") if self.handled else ("KS-1.1", "KS-1.2")
        found = self.alongside.get(rule, frozenset())
        return found - {then} if rule == first else found | {first} if rule == then else found

    def established(self, rule: str) -> str:
        """A rule that every answer breaks which breaks this one, and that needs no circumstance; empty if none."""
        left = self.candidates[rule]
        beside = self.alongside[rule] - left - ({ENDS} if rule in SPECIAL_CASES[ENDS] else frozenset())
        others = sorted(other for other in beside if not self.candidates.get(other, {other}))
        return next(iter(others), "")

    def shows(self, clauses: Iterable[str]) -> bool:
        """Whether each of the clauses is broken first somewhere, or may be what explains a rule."""
        explaining = frozenset[str]().union(*map(self.explaining, self.candidates))
        return all(clause in self.first or clause in explaining for clause in clauses)


def _beside(violation: Violation, violations: Iterable[Violation]) -> frozenset[str]:
    """The other rules that the same answer breaks."""
    return frozenset(other.clause for other in violations if other.seq == violation.seq) - {violation.clause}


def _keep(examples: dict[str, Example], violation: Violation, trace: Trace) -> None:
    """The example with the fewest circumstances; of those the one that shows it first."""
    known = examples.get(violation.clause)
    if known is None or _size(violation, trace) < _size(known.violation, known.trace):
        examples[violation.clause] = Example(violation, trace)


def _size(violation: Violation, trace: Trace) -> tuple[int, int, int]:
    return len(contexts_of(violation)), violation.step, len(trace.steps)


__all__ = ["AS_WELL", "NAMING", "OWN_ERROR", "SPEAKS_OF", "Example", "Tally", "contexts_of"]
