"""The properties, decided of one step of the explicit model as far as its control decides them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final, NamedTuple

from kvsender_spec.formal.model.predicates import PROPERTIES, STATE_PROPERTIES, Predicate
from kvsender_spec.formal.model.state import Act, Action, Control
from kvsender_spec.formal.model.steps import decided
from kvsender_spec.formal.model.terms import CONTROL, TRUE, Atom, Is, Kept, Known, NoneOf, Var, reduce
from kvsender_spec.formal.rules import Rules
from kvsender_spec.machine import Reply


class Step(NamedTuple):
    """One step, without the handles. The names are those of ``Var``."""

    before: Control
    after: Control
    act: Act
    reply: Reply
    late: bool
    asks: bool
    troubled: bool

    @classmethod
    def of(cls, rules: Rules, before: Control, action: Action, reply: Reply, after: Control) -> Step:
        asks = action.act is Act.POLL and rules.asks(before.logical)
        return cls(before, after, action.act, reply, action.late, asks, action.at is not None)

    def known(self, atom: Atom, before: bool) -> bool | None:
        """Whether an atom holds; None where that depends on handles."""
        match atom:
            case NoneOf():
                return None
            case Kept(which):
                first: object = getattr(self.before, which)
                second: object = getattr(self.after, which)
                return first == second
            case Is(which) if which not in CONTROL:
                return decided(atom, self)
            case _:
                return decided(atom, self.before if before else self.after)


def _left(rules: Iterable[Predicate], known: Known) -> tuple[Predicate, ...]:
    reduced = (replace(rule, term=reduce(rule.term, known)) for rule in rules)
    return tuple(rule for rule in reduced if rule.term is not TRUE)


def _of_act(act: Act) -> tuple[Predicate, ...]:
    def known(atom: Atom, _before: bool) -> bool | None:
        return act in atom.values if isinstance(atom, Is) and atom.var is Var.ACT else None

    return _left(PROPERTIES, known)


_PROPERTIES_OF: Final = {act: _of_act(act) for act in Act}
"""What is left of the properties once the act is known."""


_OWED: Final[dict[Step, tuple[Predicate, ...]]] = {}
_MOST_OWED: Final = 65536


def owed(step: Step) -> tuple[Predicate, ...]:
    """What is left of the properties of a step, about its handles; what holds whatever these are is left out."""
    if step not in _OWED:
        if len(_OWED) >= _MOST_OWED:
            _OWED.clear()
        _OWED[step] = _left(_PROPERTIES_OF[step.act], step.known)
    return _OWED[step]


NEVER_REACHED: Final = tuple((rule, rule.term.kind.value) for rule in STATE_PROPERTIES if isinstance(rule.term, NoneOf))
"""The properties of every reachable state, with the codes that no handle has there."""
