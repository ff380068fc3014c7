"""A room in the middle of a call of the caller: what inputs and changes make of it, as terms of z3."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import assert_never

import z3

from kvsender_spec.formal.model.effects import ARRIVE, EFFECTS
from kvsender_spec.formal.model.handles import STRAY, HandleOps, Op
from kvsender_spec.formal.model.terms import CONTROL, TRUE, Change, Demand, Map, Scope, Set, Var
from kvsender_spec.formal.rules import Rules
from kvsender_spec.formal.smt.abstract import (
    LOGICAL,
    NO,
    YES,
    Abstract,
    Counters,
    Formula,
    Term,
    both,
    choose,
    literal,
    total,
    translate,
)
from kvsender_spec.machine import Input, Reply, State


@dataclass(frozen=True)
class Call:
    """The logical state and the reply are known, all else is a term."""

    ops: HandleOps
    logical: State
    state: Abstract
    known: Mapping[Var, Term]
    """What only the call knows."""
    fresh: Counters = field(default_factory=dict)
    """Handles that this call has made, and not yet adopted when it began."""
    reply: Reply = Reply.NOTHING
    broken: z3.BoolRef = NO

    def value(self, which: Var) -> Term | State | Reply:
        if which is Var.LOGICAL:
            return self.logical
        if which is Var.REPLY:
            return self.reply
        return self.state.value(which) if which in CONTROL else self.known[which]

    def having(self, which: Var, value: Term | State) -> Call:
        """The same call with another value of one variable."""
        if isinstance(value, State):
            return replace(self, logical=value)
        if which in CONTROL:
            return replace(self, state=self.state.having(which, value))
        return replace(self, known={**self.known, which: value})

    @property
    def formula(self) -> Formula:
        return Formula(self.value)

    def seen(self) -> Counters:
        """The room's own handles, those that this call has made among them."""
        own = self.state.own
        return {code: n + self.fresh[code] for code, n in own.items()} if self.fresh else own

    def frozen(self) -> Abstract:
        """The state that the call leaves: what it has not adopted is lost."""
        own = self.seen()
        if self.fresh and self.known[Var.ADOPTED] is not YES:
            own = {**self.state.own, STRAY: self.state.own[STRAY] + total(self.fresh.values())}
        return replace(self.state, logical=LOGICAL(self.logical), own=own)

    def taken(self, rules: Rules, what: Input) -> Iterator[Taken]:
        """Every way in which an input can be decided: the first row whose guard holds."""
        source = self.logical
        if rules.breaks(source, what) is not None:
            yield Taken(YES, replace(self, broken=YES, reply=Reply.NOTHING), "forbidden")
            return
        earlier: list[z3.BoolRef] = []
        for row in rules.rows_for(source, what):
            here = YES
            if row.guard is not None:
                fact = self.value(Var(row.guard.value))
                assert isinstance(fact, z3.BoolRef), fact
                here = fact
            call = self
            for effect in row.effects:
                call = call.changed(EFFECTS[effect])
            dest = rules.destination(source, row.event)
            assert dest is not None, row  # the tables are well-formed
            call = replace(call, logical=dest, reply=row.reply).changed(ARRIVE)
            when = both([*(z3.Not(guard) for guard in earlier), here])
            words = "otherwise" if row.guard is None and earlier else "" if row.guard is None else row.guard.value
            yield Taken(when, call, words)
            earlier.append(here)

    def changed(self, changes: Iterable[Change], where: z3.BoolRef = YES) -> Call:
        """The changes, one after the other, each of what the one before has left; none of them where not ``where``."""
        call = self
        for change in changes:
            match change:
                case Set(which, value, when):
                    new = call.value(value) if isinstance(value, Var) else value
                    if isinstance(new, State):
                        assert when is TRUE, change
                        assert where is YES, change
                        call = replace(call, logical=new)
                    else:
                        old = call.value(which)
                        assert isinstance(old, z3.ExprRef), change
                        term = new if isinstance(new, z3.ExprRef) else literal(new)
                        here = call.formula.both([where, call.formula.of(when)])
                        call = call.having(which, choose(here, term, old))
                case Map(op, scope, when):
                    state, here = call.state, call.formula.both([where, call.formula.of(when)])
                    state = replace(state, own=self._mapped(state.own, op, here))
                    if scope is Scope.ALL:
                        state = replace(state, old=self._mapped(state.old, op, here))
                    call = replace(call, state=state, fresh=self._mapped(call.fresh, op, here))
                case Demand(term):
                    call = replace(call, broken=z3.Or(call.broken, z3.Not(call.formula.of(term))))
                case _:
                    assert_never(change)
        return call

    def _mapped(self, counters: Counters, op: Op, when: z3.BoolRef) -> Counters:
        mapped = translate(counters, self.ops[op])
        return {code: z3.If(when, n, counters[code]) if when is not YES else n for code, n in mapped.items()}


@dataclass(frozen=True)
class Taken:
    """An input, taken one way."""

    when: z3.BoolRef
    call: Call
    row: str
    """The row that decided it, in words."""
