"""The relation of ``smt.relation`` at one bound, run as Python, beside the explicit model with its handles counted.

The Python is printed from z3's own terms, so it is the same lowering: a test lets z3 evaluate some of it as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Final, NamedTuple, TypeAlias

import z3
from tests.formal.interpreted import Model

from kvsender_spec.formal.model.handles import NONE, SILENT, name_of
from kvsender_spec.formal.model.state import Act, Bounds, Cause, ModelState, Told, initial
from kvsender_spec.formal.smt.abstract import CAUSE, LOGICAL, TOLD, Abstract, Transition
from kvsender_spec.formal.smt.relation import Relation
from kvsender_spec.machine import State as Logical

Value: TypeAlias = int | str
Values: TypeAlias = Mapping[str, Value]
"""By the name of a z3 constant. A word of a finite sort is its constructor's name, a Boolean 0 or 1."""
State: TypeAlias = tuple[Value, ...]
"""In the order of ``Abstract.terms``."""


class Edge(NamedTuple):
    act: Act
    reply: str
    broken: bool
    seen: tuple[int, ...]
    """The room's own handles at the reply, counted; empty where nobody is answered."""
    after: State


_INFIX: Final = {
    z3.Z3_OP_EQ: "==",
    z3.Z3_OP_DISTINCT: "!=",
    z3.Z3_OP_LE: "<=",
    z3.Z3_OP_GE: ">=",
    z3.Z3_OP_LT: "<",
    z3.Z3_OP_GT: ">",
    z3.Z3_OP_ADD: "+",
    z3.Z3_OP_SUB: "-",
    z3.Z3_OP_AND: "and",
    z3.Z3_OP_OR: "or",
}


def python_of(term: z3.ExprRef) -> str:
    """A term as a Python expression over the mapping ``v``; raises KeyError for an operator that it does not know."""
    if isinstance(term, z3.IntNumRef):
        return str(term.as_long())
    kind, parts = term.decl().kind(), [python_of(child) for child in term.children()]
    if kind == z3.Z3_OP_UNINTERPRETED:
        return f"v[{term.decl().name()!r}]"
    if kind == z3.Z3_OP_DT_CONSTRUCTOR:
        return repr(term.decl().name())
    if kind in (z3.Z3_OP_TRUE, z3.Z3_OP_FALSE):
        return "1" if kind == z3.Z3_OP_TRUE else "0"
    if kind == z3.Z3_OP_NOT:
        return f"(not {parts[0]})"
    if kind == z3.Z3_OP_IMPLIES:
        return f"(not {parts[0]} or {parts[1]})"
    if kind == z3.Z3_OP_ITE:
        return f"({parts[1]} if {parts[0]} else {parts[2]})"
    return "(" + f" {_INFIX[kind]} ".join(parts) + ")"


def _compiled(*terms: z3.ExprRef) -> Callable[[Values], tuple[Value, ...]]:
    """A function that evaluates the terms; Booleans as 0 and 1."""
    parts = [f"int({python_of(term)})" if isinstance(term, z3.BoolRef) else python_of(term) for term in terms]
    code = compile("(" + "".join(f"{part}, " for part in parts) + ")", "<z3>", "eval")

    def evaluated(values: Values) -> tuple[Value, ...]:
        result: tuple[Value, ...] = eval(code, {"__builtins__": {"int": int}, "v": values})
        return result

    return evaluated


_WORDS: Final = {
    str(constant.decl().name()): constant
    for constant in (
        *(LOGICAL(state) for state in Logical),
        *(CAUSE(cause) for cause in Cause),
        *(TOLD(told) for told in Told),
    )
}


def _literal(constant: z3.ExprRef, value: Value) -> z3.ExprRef:
    """The value as a term of the constant's sort."""
    if isinstance(value, str):
        return _WORDS[value]
    return z3.BoolVal(bool(value)) if isinstance(constant, z3.BoolRef) else z3.IntVal(value)


class Counted:
    """The relation at a bound."""

    def __init__(self, relation: Relation, bounds: Bounds) -> None:
        self.relation: Final = relation
        self.bounds: Final = bounds
        self.names: Final = [name for name, _ in relation.before.terms()]
        self._steps: Final = [(step, _compiled(step.guard), self._effects(step)) for step in relation.transitions]

    def _effects(self, step: Transition) -> Callable[[Values], tuple[Value, ...]]:
        after = [term for _, term in step.after.terms()]
        return _compiled(step.broken, *after, *([] if step.seen is None else step.seen.values()))

    def initial(self) -> State:
        return _compiled(*(term for _, term in self.relation.initial.terms()))({})

    def values(self, state: State) -> dict[str, Value]:
        return dict(zip(self.names, state, strict=True)) | {
            "chunks": self.bounds.chunks,
            "peers": self.bounds.peers,
        }

    def taken(self, state: State) -> Iterator[tuple[Transition, Values, Edge]]:
        """Every transition that is possible, with the values before it and what the world chooses."""
        values = self.values(state)
        for step, guard, effects in self._steps:
            for choice in self.choices(step, values):
                chosen = values | choice
                if guard(chosen)[0]:
                    broken, *rest = effects(chosen)
                    after, seen = rest[: len(state)], [n for n in rest[len(state) :] if isinstance(n, int)]
                    yield step, chosen, Edge(step.act, step.reply.value, bool(broken), tuple(seen), tuple(after))

    def edges(self, state: State) -> Iterator[Edge]:
        return (edge for _, _, edge in self.taken(state))

    def by_z3(self, values: Values, *terms: z3.ExprRef) -> tuple[Value, ...]:
        """What z3 computes for the terms."""
        choice = self.relation.choice
        raising = (*choice.raising.values(), *choice.raising_old.values())
        chosen = (choice.accepting, choice.late, choice.drained, *raising, self.relation.chunks, self.relation.peers)
        constants = (*(term for _, term in self.relation.before.terms()), *chosen)
        known = [(constant, _literal(constant, values[constant.decl().name()])) for constant in constants]
        return _compiled(*(z3.simplify(z3.substitute(term, *known)) for term in terms))({})

    def choices(self, step: Transition, values: Values) -> Iterator[dict[str, Value]]:
        """What the explicit model lets the world choose: of those that raise, one handle, one peer's, or all."""
        faultless: dict[str, Value] = {"accepting": 0, "late": 0, "drained": 0}
        names = {"own": [], "old": []} if step.act not in (Act.POLL, Act.SWEEP) else self._silent(step)
        faultless |= {f"raising {side} {name_of(code)}": 0 for side in names for code in SILENT}
        if step.act in (Act.SEND, Act.SEND_LAST):
            yield from (faultless | {"accepting": peer} for peer in range(self.bounds.peers))
            return
        limits = [n for name in (*names["own"], *names["old"]) if isinstance(n := values[name], int)]
        posted, base = values["posted"], values["base"]
        assert isinstance(posted, int)
        assert isinstance(base, int)
        split = len(names["own"])
        for raising in product(*(range(limit + 1) for limit in limits)):
            peer = self._of_one_peer(raising[:split], limits[:split], posted - base)
            peer = peer and self._of_one_peer(raising[split:], limits[split:], base)
            if not (sum(raising) <= 1 or list(raising) == limits or peer):
                continue
            raised = {f"raising {name}": n for name, n in zip((*names["own"], *names["old"]), raising, strict=True)}
            deadlines = product((0, 1), repeat=2) if step.act is Act.POLL else [(0, 0)]
            for late, drained in deadlines:
                yield faultless | raised | {"late": late, "drained": drained}

    def _of_one_peer(self, raising: Sequence[int], silent: Sequence[int], chunks: int) -> bool:
        """One peer has at most one handle of each chunk, and the other peers have those that do not raise."""
        return sum(raising) <= chunks and sum(silent) - sum(raising) <= chunks * (self.bounds.peers - 1)

    def _silent(self, step: Transition) -> dict[str, list[str]]:
        """The counters of the handles that are looked at and may raise."""
        before = self.relation.before
        names: dict[str, list[str]] = {"own": [], "old": []}
        if step.act is Act.POLL or step.path != "earlier handles":
            names["own"] = [f"own {name_of(code)}" for code in before.own if code in SILENT]
        if step.act is Act.SWEEP:
            names["old"] = [f"old {name_of(code)}" for code in before.old if code in SILENT]
        return names

    def graph(self) -> dict[State, set[Edge]]:
        """Every reachable state with its edges."""
        found: dict[State, set[Edge]] = {}
        waiting = [self.initial()]
        while waiting:
            state = waiting.pop()
            if state not in found:
                found[state] = set(self.edges(state))
                waiting += [edge.after for edge in found[state]]
        return found


def counted(relation: Relation, bounds: Bounds, state: ModelState) -> State:
    """A state of the explicit model with its handles counted."""
    control = state.control
    first, made = control.base * bounds.peers, control.posted * bounds.peers
    before: Abstract = relation.before
    old, own = state.handles[:first], state.handles[first:made]
    assert not state.handles[made:].strip(bytes([NONE])), state
    words = [f"{type(word).__name__}.{word.name}" for word in (control.logical, control.cause)]
    said = [f"{type(word).__name__}.{word.name}" for word in (control.said, control.told)]
    flags = [int(flag) for flag in (control.faulted, control.closed, control.cleared, control.quarantined)]
    counts = [*(own.count(code) for code in before.own), *(old.count(code) for code in before.old)]
    assert sum(counts) == made, "a handle has a code that the relation does not know"
    return (*words, *flags, control.base, control.posted, *said, len(own), len(old), *counts)


def explicit_graph(model: Model, relation: Relation) -> dict[State, set[Edge]]:
    """The reachable graph of the explicit model, with handles counted."""
    bounds, start = model.bounds, initial(model.bounds)
    found: dict[State, set[Edge]] = {}
    seen, waiting = {start}, [start]
    while waiting:
        state = waiting.pop()
        edges = found.setdefault(counted(relation, bounds, state), set())
        for action in model.actions(state):
            outcome = model.step(state, action)
            made = (outcome.after.control.posted - outcome.after.control.base) * bounds.peers
            answered = action.act not in (Act.FINISH, Act.OPEN, Act.SWEEP)
            handles = outcome.seen[:made]
            counts = tuple(handles.count(code) for code in relation.before.own) if answered else ()
            after = counted(relation, bounds, outcome.after)
            edges.add(Edge(action.act, outcome.reply.value, bool(outcome.broken), counts, after))
            if outcome.after not in seen:
                seen.add(outcome.after)
                waiting.append(outcome.after)
    return found
