"""The state of a room with its handles counted, and the terms of ``model.terms`` as formulas of z3 about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from enum import Enum
from typing import Final, Generic, TypeAlias, TypeVar, assert_never

import z3

from kvsender_spec.formal.model.handles import Kind, name_of
from kvsender_spec.formal.model.state import Act, Cause, Told
from kvsender_spec.formal.model.terms import CONTROL, Atom, Is, Kept, Logic, NoneOf, Same, Scope, Var, combined
from kvsender_spec.machine import Reply, State

_E = TypeVar("_E", bound=Enum)


class Words(Generic[_E]):
    """A Python enum as a finite sort, with a constant for each member."""

    def __init__(self, enum: type[_E]) -> None:
        members = list(enum)
        self.sort, constants = z3.EnumSort(enum.__name__, [f"{enum.__name__}.{member.name}" for member in members])
        self._constants: Final = dict(zip(members, constants, strict=True))

    def __call__(self, member: _E) -> z3.DatatypeRef:
        return self._constants[member]


YES: Final = z3.BoolVal(True)
NO: Final = z3.BoolVal(False)


def both(terms: Iterable[z3.BoolRef]) -> z3.BoolRef:
    return z3.And(YES, *terms)


def either(terms: Iterable[z3.BoolRef]) -> z3.BoolRef:
    return z3.Or(NO, *terms)


def total(terms: Iterable[z3.ArithRef]) -> z3.ArithRef:
    return z3.Sum([z3.IntVal(0), *terms])


LOGICAL: Final = Words(State)
CAUSE: Final = Words(Cause)
TOLD: Final = Words(Told)

Counters: TypeAlias = Mapping[int, z3.ArithRef]
"""How many handles there are, by code. NONE counts those whose place is free again."""
Term: TypeAlias = z3.BoolRef | z3.ArithRef | z3.DatatypeRef


@dataclass(frozen=True)
class Abstract:
    """``ModelState``, with counters for its handles and, for each of the two, how many have been made in all."""

    logical: z3.DatatypeRef
    cause: z3.DatatypeRef
    faulted: z3.BoolRef
    closed: z3.BoolRef
    cleared: z3.BoolRef
    quarantined: z3.BoolRef
    base: z3.ArithRef
    posted: z3.ArithRef
    said: z3.DatatypeRef
    told: z3.DatatypeRef
    made: z3.ArithRef
    """Own handles: the model's ``(posted - base) * peers``."""
    made_before: z3.ArithRef
    """The earlier incarnations': the model's ``base * peers``."""
    own: Counters
    old: Counters

    def terms(self) -> Iterator[tuple[str, Term]]:
        """Every component with its name, always in the same order."""
        yield from ((name, self.value(name)) for name in CONTROL)
        yield "made", self.made
        yield "made_before", self.made_before
        yield from ((f"own {name_of(code)}", n) for code, n in self.own.items())
        yield from ((f"old {name_of(code)}", n) for code, n in self.old.items())

    def value(self, which: Var) -> Term:
        value: Term = getattr(self, which)
        return value

    def having(self, which: Var, value: Term) -> Abstract:
        """The same state with another value of one variable."""
        state = copy(self)
        object.__setattr__(state, which, value)
        return state

    @property
    def over(self) -> z3.BoolRef:
        """The system looks after the room's handles now."""
        return z3.Or(self.cleared, self.said != TOLD(Told.NOTHING))


def count(counters: Counters, codes: Iterable[int]) -> z3.ArithRef:
    """How many handles have one of these codes."""
    return total(counters[code] for code in codes if code in counters)


def translate(counters: Counters, table: bytes) -> Counters:
    """What ``bytes.translate`` does to listed handles."""
    return {code: total(n for source, n in counters.items() if table[source] == code) for code in counters}


@dataclass(frozen=True)
class Choice:
    """What the world decides within one step."""

    accepting: z3.ArithRef
    """The peers that accept before one rejects."""
    late: z3.BoolRef
    drained: z3.BoolRef
    raising: Counters
    """How many own handles raise, by the code that they have before. Only silent ones do."""
    raising_old: Counters


@dataclass(frozen=True)
class Transition:
    """One way through one action."""

    act: Act
    path: str
    """The rows, in words."""
    guard: z3.BoolRef
    after: Abstract
    reply: Reply = Reply.NOTHING
    seen: Counters | None = None
    """The room's own handles at the time of the reply; None where the caller gets none."""
    broken: z3.BoolRef = NO
    """The step itself breaks a clause: a forbidden input, or a second word to the peers."""
    asks: bool = False
    """It is a poll that asks the handles."""
    troubled: z3.BoolRef = NO
    """Something raises or is rejected."""
    own: bool = False
    """It happens to the room's own handles (FINISH only)."""

    def __str__(self) -> str:
        return f"{self.act.name.lower()}: {self.path}" if self.path else self.act.name.lower()


def literal(value: object) -> Term:
    """A value of Python's as a constant."""
    match value:
        case bool():
            return YES if value else NO
        case State():
            return LOGICAL(value)
        case Cause():
            return CAUSE(value)
        case Told():
            return TOLD(value)
        case int():
            return z3.IntVal(value)
        case _:
            raise TypeError(f"{value} is no value of a state")


def equal(left: Term, right: Term) -> z3.BoolRef:
    """Two terms of one sort are the same."""
    if isinstance(left, z3.BoolRef) and isinstance(right, z3.BoolRef):
        return left == right
    if isinstance(left, z3.ArithRef) and isinstance(right, z3.ArithRef):
        return left == right
    assert isinstance(left, z3.DatatypeRef), left
    assert isinstance(right, z3.DatatypeRef), right
    return left == right


def choose(when: z3.BoolRef, then: Term, otherwise: Term) -> Term:
    """``If``, without a question whose answer is known."""
    if when is YES:
        return then
    if when is NO:
        return otherwise
    return z3.If(when, then, otherwise)


Known: TypeAlias = Term | State | Reply | Act
"""What a variable is: a term, or a value of Python's where that is known."""


class Formula(Logic[z3.BoolRef]):
    """A term as a formula: what the variables are before the step and after it, and whose handles a scope is about."""

    def __init__(
        self,
        after: Callable[[Var], Known],
        before: Callable[[Var], Known] | None = None,
        counted: Callable[[Scope], Sequence[Counters]] | None = None,
    ) -> None:
        self._after: Final = after
        self._before: Final = before
        self._counted: Final = counted

    def _lookup(self, which: Var, before: bool) -> Known:
        if not before:
            return self._after(which)
        assert self._before is not None, which
        return self._before(which)

    def atom(self, atom: Atom, before: bool) -> z3.BoolRef:
        match atom:
            case Is(which, values):
                value = self._lookup(which, before)
                if isinstance(value, (State, Reply, Act)):
                    return YES if value in values else NO
                return self.either([equal(value, literal(one)) for one in values])
            case Same(left, right):
                return equal(self._term(left, before), self._term(right, before))
            case Kept(which):
                return equal(self._term(which, False), self._term(which, True))
            case NoneOf(scope, kind):
                assert self._counted is not None, atom
                return self.both([none_of(counters, kind) for counters in self._counted(scope)])
            case _:
                assert_never(atom)

    def _term(self, which: Var, before: bool) -> Term:
        value = self._lookup(which, before)
        return literal(value) if isinstance(value, (State, Reply, Act)) else value

    # A formula that is known to hold, or not to hold, is YES or NO itself: z3 is spared what Python can decide.

    def negation(self, term: z3.BoolRef) -> z3.BoolRef:
        return NO if term is YES else YES if term is NO else z3.Not(term)

    def both(self, terms: Sequence[z3.BoolRef]) -> z3.BoolRef:
        return combined(terms, YES, NO, lambda left: z3.And(*left))

    def either(self, terms: Sequence[z3.BoolRef]) -> z3.BoolRef:
        return combined(terms, NO, YES, lambda left: z3.Or(*left))

    def iff(self, left: z3.BoolRef, right: z3.BoolRef) -> z3.BoolRef:
        return left == right


def none_of(counters: Counters, kind: Kind) -> z3.BoolRef:
    return count(counters, kind.value) == 0


def about(state: Abstract) -> Formula:
    """Terms about one state."""
    return Formula(state.value, counted=lambda scope: (state.own,) if scope is Scope.OWN else (state.own, state.old))
