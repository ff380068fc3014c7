"""The language of predicates and effects: terms over a fixed set of variables, and changes of these variables.

A term is data. Each engine renders it in a ``Logic`` of its own: the explorers decide it, TLA+ and Promela write it
down, z3 makes a formula of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Generic, TypeAlias, TypeVar, assert_never

from kvsender_spec.formal.model.handles import Kind, Op
from kvsender_spec.formal.model.state import Act, Cause, Control, Told
from kvsender_spec.machine import Reply, State


class Var(StrEnum):
    """The fields of ``Control``; then what is known only while a call runs, the guards among it; then a step."""

    LOGICAL = "logical"
    CAUSE = "cause"
    FAULTED = "faulted"
    CLOSED = "closed"
    CLEARED = "cleared"
    QUARANTINED = "quarantined"
    BASE = "base"
    POSTED = "posted"
    SAID = "said"
    TOLD = "told"

    CAUSE_NOW = "cause_now"
    """What a LATCH of this call latches."""
    ADOPTED = "adopted"
    """The handles that this call has made are kept. Nobody asks again about those that are not."""
    ERROR_SEEN = "error_seen"
    ALL_DONE = "all_done"
    DEADLINE_PASSED = "deadline_passed"
    MAY_REPORT = "may_report"
    REPLY = "reply"

    ACT = "act"
    LATE = "late"
    ASKS = "asks"
    """It is a poll that asks the handles, if there are any in flight."""
    TROUBLED = "troubled"
    """Something raised or was rejected."""


CONTROL: Final = tuple(map(Var, Control._fields))
Value: TypeAlias = bool | State | Cause | Told | Reply | Act


class Scope(StrEnum):
    """Which handles a term is about."""

    OWN = "own"
    """Those of this incarnation of the room id."""
    ALL = "all"
    REPLY = "reply"
    """The room's own at the time of the reply."""


# ----------------------------------------------------------------------------------------------------------- terms


@dataclass(frozen=True, slots=True)
class Is:
    """The variable has one of these values."""

    var: Var
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Same:
    """Two variables have the same value."""

    left: Var
    right: Var


@dataclass(frozen=True, slots=True)
class Kept:
    """The step has not changed the variable."""

    var: Var


@dataclass(frozen=True, slots=True)
class NoneOf:
    """No handle is of this kind."""

    scope: Scope
    kind: Kind


@dataclass(frozen=True, slots=True)
class Before:
    """The term holds of the state before the step; all others are about the state after it."""

    term: Term


@dataclass(frozen=True, slots=True)
class Not:
    term: Term


@dataclass(frozen=True, slots=True)
class Both:
    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Either:
    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Implies:
    premise: Term
    conclusion: Term


@dataclass(frozen=True, slots=True)
class Iff:
    left: Term
    right: Term


Atom: TypeAlias = Is | Same | Kept | NoneOf
Term: TypeAlias = Atom | Before | Not | Both | Either | Implies | Iff
TRUE: Final = Both(())
FALSE: Final = Either(())


def var(which: Var, *values: Value) -> Is:
    """The variable has one of these values; without any, it is true."""
    return Is(which, values or (True,))


def both(*terms: Term) -> Both:
    return Both(terms)


def either(*terms: Term) -> Either:
    return Either(terms)


T = TypeVar("T")


class Logic(ABC, Generic[T]):
    """What an engine makes of a term."""

    @abstractmethod
    def atom(self, atom: Atom, before: bool) -> T: ...

    @abstractmethod
    def negation(self, term: T) -> T: ...

    @abstractmethod
    def both(self, terms: Sequence[T]) -> T: ...

    @abstractmethod
    def either(self, terms: Sequence[T]) -> T: ...

    @abstractmethod
    def iff(self, left: T, right: T) -> T: ...

    def implies(self, premise: T, conclusion: T) -> T:
        return self.either([self.negation(premise), conclusion])

    def of(self, term: Term, before: bool = False) -> T:
        match term:
            case Before():
                return self.of(term.term, True)
            case Not():
                return self.negation(self.of(term.term, before))
            case Both():
                return self.both([self.of(one, before) for one in term.terms])
            case Either():
                return self.either([self.of(one, before) for one in term.terms])
            case Implies():
                return self.implies(self.of(term.premise, before), self.of(term.conclusion, before))
            case Iff():
                return self.iff(self.of(term.left, before), self.of(term.right, before))
            case Is() | Same() | Kept() | NoneOf():
                return self.atom(term, before)
            case _:
                assert_never(term)


class Text(Logic[str]):
    """A term in a language with infix operators, by default Python's; what is not an atom stands in parentheses."""

    BOTH, EITHER, NOT, IFF, TRUE, FALSE = "and", "or", "not ", "==", "True", "False"

    def negation(self, term: str) -> str:
        plain = term.startswith("(") or term.replace(".", "").isidentifier()
        return f"{self.NOT}{term}" if plain else f"{self.NOT}({term})"

    def both(self, terms: Sequence[str]) -> str:
        return self._infix(self.BOTH, terms) or self.TRUE

    def either(self, terms: Sequence[str]) -> str:
        return self._infix(self.EITHER, terms) or self.FALSE

    def iff(self, left: str, right: str) -> str:
        return f"(({bare(left)}) {self.IFF} ({bare(right)}))"

    def _infix(self, operator: str, terms: Sequence[str]) -> str:
        return f"({f' {operator} '.join(terms)})" if len(terms) > 1 else "".join(terms)


def bare(text: str) -> str:
    """A text without the parentheses around all of it."""
    depth = 0
    for place, sign in enumerate(text, 1):
        depth += (sign == "(") - (sign == ")")
        if not depth:
            return text[1:-1] if text.startswith("(") and place == len(text) else text
    return text


Known: TypeAlias = Callable[[Atom, bool], bool | None]
"""Whether an atom holds, of the state after the step or before it; None where that is open."""


def combined(terms: Iterable[T], neutral: T, decisive: T, combine: Callable[[Sequence[T]], T]) -> T:
    """Several terms as one, without those that are ``neutral``; ``decisive`` if one of them is that."""
    left = [term for term in terms if term is not neutral]
    if any(term is decisive for term in left):
        return decisive
    return combine(left) if len(left) > 1 else left[0] if left else neutral


class _Reduced(Logic[Term]):
    """A term as what is left of it."""

    def __init__(self, known: Known) -> None:
        self._known: Final = known

    def atom(self, atom: Atom, before: bool) -> Term:
        holds = self._known(atom, before)
        if holds is None:
            return Before(atom) if before else atom
        return TRUE if holds else FALSE

    def negation(self, term: Term) -> Term:
        return FALSE if term is TRUE else TRUE if term is FALSE else Not(term)

    def both(self, terms: Sequence[Term]) -> Term:
        return combined(terms, TRUE, FALSE, lambda left: both(*left))

    def either(self, terms: Sequence[Term]) -> Term:
        return combined(terms, FALSE, TRUE, lambda left: either(*left))

    def iff(self, left: Term, right: Term) -> Term:
        return self.both([self.implies(left, right), self.implies(right, left)])


def reduce(term: Term, known: Known) -> Term:
    """What is left of a term: TRUE, FALSE, or a term over the atoms that are open."""
    return _Reduced(known).of(term)


# --------------------------------------------------------------------------------------------------------- changes


@dataclass(frozen=True, slots=True)
class Set:
    """The variable gets the value, or that of the other variable, where ``when`` holds."""

    var: Var
    value: Value | Var
    when: Term = TRUE


@dataclass(frozen=True, slots=True)
class Map:
    """Something befalls each handle of the scope, where ``when`` holds."""

    op: Op
    scope: Scope = Scope.OWN
    when: Term = TRUE


@dataclass(frozen=True, slots=True)
class Demand:
    """Where the term does not hold, this breaks the clause."""

    term: Term
    clause: str


Change: TypeAlias = Set | Map | Demand
