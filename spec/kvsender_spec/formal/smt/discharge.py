"""The obligations, put to z3: each lemma and each ranking against each transition."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import z3

from kvsender_spec.formal.smt.abstract import Abstract, Term, Transition, both, either
from kvsender_spec.formal.smt.lemmas import LEMMAS, STEP_LEMMAS
from kvsender_spec.formal.smt.rankings import RANKINGS, Ranking
from kvsender_spec.formal.smt.relation import Relation

TIMEOUT_MS: Final = 2000
"""For one question to z3. What it cannot answer in this time is not proved."""


class Failure(NamedTuple):
    """One obligation that is not proved."""

    lemma: str
    action: str
    """The transition that does not keep the lemma, or ``init``; for a ranking also what it owes in general."""
    text: str
    """z3's counterexample in words: the state before and after. It need not be reachable."""


@dataclass(frozen=True, slots=True)
class SmtResult:
    obligations: int
    proved: int
    failures: tuple[Failure, ...]
    seconds: float
    """CPU time."""


def _lower(after: Sequence[z3.ArithRef], before: Sequence[z3.ArithRef]) -> z3.BoolRef:
    """Compared like words: the first number that differs decides."""
    if not after:
        return z3.BoolVal(False)
    return z3.Or(after[0] < before[0], z3.And(after[0] == before[0], _lower(after[1:], before[1:])))


def _equal(after: Sequence[z3.ArithRef], before: Sequence[z3.ArithRef]) -> z3.BoolRef:
    return both(left == right for left, right in zip(after, before, strict=True))


class _Owed(NamedTuple):
    """An obligation: under what is assumed of the step, ``claim``."""

    lemma: str
    action: str
    claim: z3.BoolRef


def discharge(relation: Relation, *, lemmas: bool = True, rankings: Sequence[Ranking] = RANKINGS) -> SmtResult:
    """Ask z3 for every obligation. Without ``lemmas`` these are taken for granted; that is for planting faults."""
    start = time.process_time()
    return _Proof(relation, lemmas, rankings).result(start)


class _Proof:
    def __init__(self, relation: Relation, lemmas: bool, rankings: Sequence[Ranking]) -> None:
        self.relation: Final = relation
        self.lemmas: Final = LEMMAS if lemmas else ()
        self.step_lemmas: Final = STEP_LEMMAS if lemmas else ()
        self.rankings: Final = rankings
        self.obligations = 0
        self.failures: list[Failure] = []

    def result(self, start: float) -> SmtResult:
        relation = self.relation
        begins = [z3.And(relation.chunks >= 1, relation.peers >= 1)]
        self._ask(
            begins, [_Owed(lemma.name, "init", lemma.holds(relation, relation.initial)) for lemma in self.lemmas], None
        )
        assumed = [lemma.holds(relation, relation.before) for lemma in LEMMAS]
        self._ask(assumed, list(self._in_general()), None)
        for step in relation.transitions:
            self._ask([*assumed, step.guard], list(self._of_step(step)), step)
        failed = tuple(self.failures)
        return SmtResult(self.obligations, self.obligations - len(failed), failed, time.process_time() - start)

    def _of_step(self, step: Transition) -> Iterator[_Owed]:
        relation = self.relation
        for lemma in self.lemmas:
            yield _Owed(lemma.name, str(step), lemma.holds(relation, step.after))
        for about in self.step_lemmas:
            yield _Owed(about.name, str(step), about.holds(relation, step))
        for ranking in self.rankings:
            if step.act not in ranking.ends | ranking.ignores:
                yield from self._ranked(ranking, step)

    def _ranked(self, ranking: Ranking, step: Transition) -> Iterator[_Owed]:
        relation = self.relation
        before, after = ranking.rank(relation, relation.before), ranking.rank(relation, step.after)
        better = z3.Or(z3.Not(ranking.short(step.after)), _lower(after, before))
        helpful = zip(ranking.helpful(relation, relation.before), ranking.helpful(relation, step.after), strict=True)
        for action, still in helpful:
            helps = z3.And(ranking.short(relation.before), action.helps)
            waits = z3.And(_equal(after, before), still.helps)
            step_helps = action.is_done_by(step)
            claim = z3.Or(better, z3.And(waits, z3.Not(step_helps)))
            yield _Owed(f"{ranking.name}: {action.name}", str(step), z3.Implies(helps, claim))

    def _in_general(self) -> Iterator[_Owed]:
        """A ranking is of natural numbers, some action helps everywhere, and it is possible there."""
        relation = self.relation
        for ranking in self.rankings:
            short = ranking.short(relation.before)
            natural = both(n >= 0 for n in ranking.rank(relation, relation.before))
            yield _Owed(ranking.name, "every rank is natural", z3.Implies(short, natural))
            helpful = ranking.helpful(relation, relation.before)
            yield _Owed(
                ranking.name, "some action helps", z3.Implies(short, either(action.helps for action in helpful))
            )
            for action in helpful:
                possible = either(
                    self._can(z3.And(step.guard, action.is_done_by(step)))
                    for step in relation.transitions
                    if step.act not in ranking.ignores
                )
                claim = z3.Implies(z3.And(short, action.helps), possible)
                yield _Owed(f"{ranking.name}: {action.name}", "is possible", claim)

    def _can(self, when: z3.BoolRef) -> z3.BoolRef:
        """The world can choose so: it can if nothing raises, with the deadlines passed or not."""
        choice = self.relation.choice
        raising = (*choice.raising.values(), *choice.raising_old.values())
        faultless: list[tuple[z3.ExprRef, z3.ExprRef]] = [(n, z3.IntVal(0)) for n in raising]
        faultless += [(choice.accepting, z3.IntVal(0)), (choice.drained, z3.BoolVal(True))]
        return either(z3.substitute(when, *faultless, (choice.late, z3.BoolVal(late))) for late in (False, True))

    def _ask(self, assumed: Iterable[z3.BoolRef], owed: Sequence[_Owed], step: Transition | None) -> None:
        """All at once, and each by itself only where they do not all hold: the answer is the same, and sooner there."""
        solver = z3.Solver()
        solver.set("timeout", TIMEOUT_MS)
        solver.add(*assumed)
        self.obligations += len(owed)
        if self._refuted(solver, both(one.claim for one in owed), step) is None:
            return
        for one in owed:
            text = self._refuted(solver, one.claim, step)
            if text is not None:
                self.failures.append(Failure(one.lemma, one.action, text))

    def _refuted(self, solver: z3.Solver, claim: z3.BoolRef, step: Transition | None) -> str | None:
        """Why the claim does not follow, in words; None where it does."""
        solver.push()
        solver.add(z3.Not(claim))
        answer = solver.check()
        if answer == z3.unsat:
            text = None
        elif answer == z3.sat:
            text = self._in_words(solver.model(), step)
        else:
            text = f"z3 has no answer: {solver.reason_unknown()}"
        solver.pop()
        return text

    def _in_words(self, model: z3.ModelRef, step: Transition | None) -> str:
        """A counterexample: the bounds, the state before, and what the step changes."""
        relation = self.relation
        before = _values(model, relation.before)
        bounds = [f"{_value(model, relation.chunks)} chunks", f"{_value(model, relation.peers)} peers"]
        words = [", ".join([*bounds, *(_word(name, value) for name, value in before.items() if value not in _DULL)])]
        if step is not None:
            after = _values(model, step.after)
            words += [", ".join(_word(name, value) for name, value in after.items() if value != before[name])]
        return " -> ".join(words)


_DULL: Final = ("0", "no", "NONE", "NOTHING")
"""What goes without saying."""


def _values(model: z3.ModelRef, state: Abstract) -> dict[str, str]:
    return {name: _value(model, term) for name, term in state.terms()}


def _value(model: z3.ModelRef, term: Term) -> str:
    value = model.eval(term, model_completion=True)
    if isinstance(value, z3.BoolRef):
        return "yes" if z3.is_true(value) else "no"
    return str(value.as_long()) if isinstance(value, z3.IntNumRef) else value.decl().name().partition(".")[2]


def _word(name: str, value: str) -> str:
    if value == "yes":
        return name
    return f"not {name}" if value == "no" else f"{name} {value}"
