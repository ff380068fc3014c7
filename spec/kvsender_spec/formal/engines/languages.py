"""Terms and changes of ``model.terms`` in TLA+ and in Promela."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Final, assert_never

from kvsender_spec.formal.engines import lowering as low
from kvsender_spec.formal.model.state import Cause, Told
from kvsender_spec.formal.model.terms import (
    CONTROL,
    TRUE,
    Atom,
    Both,
    Change,
    Demand,
    Is,
    Map,
    NoneOf,
    Same,
    Scope,
    Set,
    Term,
    Text,
    Var,
    bare,
)
from kvsender_spec.machine import Reply, State

# ------------------------------------------------------------------------------------------------------------ TLA+


def camel(word: str) -> str:
    return "".join(part.capitalize() for part in word.split("_"))


def tla_value(value: object) -> str:
    match value:
        case bool():
            return str(value).upper()
        case State():
            return f'"{value.value}"'
        case Reply():
            return f'"{value.value}"'
        case Cause() | Told():
            return f'"{value.name}"'.lower()
        case _:
            return str(value)


class Tla(Text):
    """A term about the variables, or about the record of a call. What only a call knows is always in its record."""

    BOTH, EITHER, NOT, IFF, TRUE, FALSE = "/\\", "\\/", "~", "<=>", "TRUE", "FALSE"

    def __init__(self, *, in_call: bool) -> None:
        self._in_call: Final = in_call

    def variable(self, which: Var) -> str:
        return f"r.{which}" if self._in_call or which not in CONTROL else which.value

    def atom(self, atom: Atom, before: bool) -> str:
        assert not before, atom
        match atom:
            case Is(which, (bool() as value,)):
                return self.variable(which) if value else f"~{self.variable(which)}"
            case Is(which, (value,)):
                return f"{self.variable(which)} = {tla_value(value)}"
            case Is(which, values):
                return f"{self.variable(which)} \\in {{{', '.join(map(tla_value, values))}}}"
            case Same(left, right):
                return f"{self.variable(left)} = {self.variable(right)}"
            case NoneOf(scope, kind):
                place = "Own" if scope is Scope.OWN else "Handles"
                return f"(\\A h \\in {place} : handles[h] \\notin {camel(kind.name.lower())})"
            case _:
                raise TypeError(f"{atom} is not about a state")

    def implies(self, premise: str, conclusion: str) -> str:
        return self._infix("=>", [premise, conclusion])

    def lines(self, term: Term) -> list[str]:
        """A definition's body: a conjunction is a list."""
        if isinstance(term, Both):
            return [f"/\\ {self.of(one)}" for one in term.terms]
        return [bare(self.of(term))]


OF_STATE: Final = Tla(in_call=False)
OF_CALL: Final = Tla(in_call=True)


def tla_record(changes: Iterable[Change]) -> list[str]:
    """The record ``r`` after the changes."""
    updates: list[str] = []
    demands: list[Demand] = []
    for change in changes:
        match change:
            case Demand():
                demands.append(change)
            case Set(which, value, when):
                new = OF_CALL.variable(value) if isinstance(value, Var) else tla_value(value)
                updates.append(_update(which, new, when))
            case Map(op, scope, when):
                updates.append(
                    _update(
                        "handles", f"{'Each' if scope is Scope.OWN else 'Every'}({camel(op.name.lower())}, @)", when
                    )
                )
            case _:
                assert_never(change)
    lines = low.listed("  [r EXCEPT", updates, ("", "]"))
    for demand in demands:
        lines = [f"  IF {OF_CALL.of(demand.term)} THEN", *(f"  {line}" for line in lines)]
        lines[-1] += f' ELSE Broken(r, "{demand.clause}")'
    return lines


def _update(field: str, new: str, when: Term) -> str:
    return f"!.{field} = {new if when is TRUE else f'IF {OF_CALL.of(when)} THEN {new} ELSE @'}"


# --------------------------------------------------------------------------------------------------------- Promela


def identifier(clause: str) -> str:
    """A clause as a name: KS-6.1 is KS_6_1."""
    return clause.replace("-", "_").replace(".", "_")


def among(subject: str, words: Iterable[str]) -> str:
    found = [f"{subject} == {word}" for word in words]
    return "(" + " || ".join(found) + ")" if found else "false"


_PREFIXES: Final[Mapping[type[Enum], str]] = {State: "", Cause: "CAUSE_", Told: "WORD_", Reply: "REPLY_"}
"""What tells the names of one enum from those of another: all of them are macros."""


def promela_value(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case State() | Cause() | Told() | Reply():
            return f"{_PREFIXES[type(value)]}{value.name}"
        case _:
            return str(value)


class Promela(Text):
    """A term about the variables, and the handle of number ``i``."""

    BOTH, EITHER, NOT, IFF, TRUE, FALSE = "&&", "||", "!", "==", "true", "false"

    def atom(self, atom: Atom, before: bool) -> str:
        assert not before, atom
        match atom:
            case Is(which, (bool() as value,)):
                return f"{'' if value else '!'}{which}"
            case Is(which, values):
                return among(which, map(promela_value, values))
            case Same(left, right):
                return f"({left} == {right})"
            case NoneOf(scope, kind):
                other = "i < OWN || " if scope is Scope.OWN else ""
                return f"({other}!IS_{kind.name}(handles[i]))"
            case _:
                raise TypeError(f"{atom} is not about a state")


PROMELA: Final = Promela()


def asserted(name: str, condition: str) -> str:
    return f"{name} = {condition}; assert({name})"


def promela_step(change: Change) -> str:
    match change:
        case Set(which, value, when):
            new = value if isinstance(value, Var) else promela_value(value)
            return f"{which} = {new if when is TRUE else f'({bare(PROMELA.of(when))} -> {new} : {which})'}"
        case Map(op, scope, when):
            first = "OWN" if scope is Scope.OWN else "0"
            loop = f"for (i : {first} .. HANDLES - 1) {{ handles[i] = {op.name}(handles[i]) }}"
            return loop if when is TRUE else f"if :: {bare(PROMELA.of(when))} -> {loop} :: else fi"
        case Demand(term, breaks):
            return asserted(identifier(breaks), PROMELA.of(term))
        case _:
            assert_never(change)
