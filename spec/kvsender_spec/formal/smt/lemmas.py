"""What is proved about the relation of ``relation``: lemmas about states and about steps.

The lemmas about states are proved together by induction: each holds at the beginning, and each transition that starts
where all hold ends where it holds. A lemma about steps is proved of each transition that starts where all hold. Every
pair of lemma and transition is one obligation.

Most are terms of ``model.predicates``, or in its language. What only counters can say is said in z3's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, NamedTuple, TypeVar

import z3

from kvsender_spec.formal.model.effects import IS_LATCHED, SILENT
from kvsender_spec.formal.model.handles import DONE, IN_FLIGHT, UNSETTLED, Kind
from kvsender_spec.formal.model.predicates import (
    FAILED_IS_STICKY,
    FAULTED,
    FIRST_CAUSE,
    LIVE,
    NO_STRAY,
    NOTHING_RELEASED_IN_FLIGHT,
    PEERS_ARE_TOLD,
    PROPERTIES,
    SUCCESS_IS_DONE,
    Predicate,
    none_of,
)
from kvsender_spec.formal.model.state import Act, Cause, Told
from kvsender_spec.formal.model.terms import (
    CONTROL,
    Atom,
    Iff,
    Implies,
    Is,
    Not,
    Same,
    Scope,
    Term,
    Var,
    both,
    either,
    reduce,
    var,
)
from kvsender_spec.formal.smt import abstract
from kvsender_spec.formal.smt.abstract import YES, Abstract, Counters, Formula, Known, Transition, about, count, total
from kvsender_spec.formal.smt.relation import Relation
from kvsender_spec.machine import Reply, State

_S = TypeVar("_S", Abstract, Transition)


class Lemma(NamedTuple, Generic[_S]):
    """``holds(relation, state)``, or of steps ``holds(relation, transition)``."""

    name: str
    text: str
    holds: Callable[[Relation, _S], z3.BoolRef]


def _of_states(name: str, text: str, *terms: Term) -> Lemma[Abstract]:
    return Lemma(name, text, lambda _relation, state: about(state).of(both(*terms)))


def _holds(relation: Relation, step: Transition, term: Term) -> z3.BoolRef:
    """A property of steps, of one transition: what is known of that is decided before z3 is asked."""
    decided: dict[Var, Act | Reply | bool] = {Var.ACT: step.act, Var.REPLY: step.reply, Var.ASKS: step.asks}
    facts: dict[Var, Known] = {Var.LATE: relation.choice.late, Var.TROUBLED: step.troubled}

    def known(atom: Atom, _before: bool) -> bool | None:
        return decided[atom.var] in atom.values if isinstance(atom, Is) and atom.var in decided else None

    def after(which: Var) -> Known:
        return step.after.value(which) if which in CONTROL else facts[which]

    def counted(scope: Scope) -> tuple[Counters, ...]:
        """The properties of steps speak of the handles before the step and at the reply."""
        seen = () if step.seen is None else (step.seen,)
        return seen if scope is Scope.REPLY else (relation.before.own,)

    return Formula(after, relation.before.value, counted).of(reduce(term, known))


# ---------------------------------------------------------------------------------------------------------- states


def _numbers(relation: Relation, state: Abstract) -> z3.BoolRef:
    counters = [*state.own.values(), *state.old.values()]
    some = [relation.chunks >= 1, relation.peers >= 1, state.base >= 0, state.base <= state.posted]
    return abstract.both([*some, state.posted <= relation.chunks, *(n >= 0 for n in counters)])


def _accounts(_relation: Relation, state: Abstract) -> z3.BoolRef:
    return z3.And(total(state.own.values()) == state.made, total(state.old.values()) == state.made_before)


def _every_chunk(_relation: Relation, state: Abstract) -> z3.BoolRef:
    own, before = state.posted - state.base, state.base
    counted = [state.made >= own, state.made_before >= before]
    return abstract.both(
        [*counted, z3.Implies(own == 0, state.made == 0), z3.Implies(before == 0, state.made_before == 0)]
    )


def _open(relation: Relation, state: Abstract) -> z3.BoolRef:
    return z3.Implies(about(state).of(both(LIVE, Not(var(Var.CLOSED)))), state.posted < relation.chunks)


def _quiesced(_relation: Relation, state: Abstract) -> z3.BoolRef:
    own = about(state).of(Implies(either(Not(SILENT), var(Var.QUARANTINED)), none_of(Kind.IN_FLIGHT, Scope.OWN)))
    return z3.And(own, abstract.none_of(state.old, Kind.IN_FLIGHT))


def _well(_relation: Relation, state: Abstract) -> z3.BoolRef:
    wrong = (code for code in state.own if code not in IN_FLIGHT + DONE)
    return z3.Implies(about(state).of(LIVE), count(state.own, wrong) == 0)


_IDLE: Final = var(Var.LOGICAL, State.IDLE)
_DONE: Final = var(Var.LOGICAL, State.DONE)
_SENT: Final = var(Var.LOGICAL, State.SENDING, State.DONE)
_CLOSED: Final = var(Var.CLOSED)
_NOTHING_POSTED: Final = Same(Var.POSTED, Var.BASE)

LEMMAS: Final[tuple[Lemma[Abstract], ...]] = (
    Lemma("numbers", "0 <= base <= posted <= chunks, and no counter is below zero", _numbers),
    Lemma("accounts", "every handle that was made is counted once, in one place", _accounts),
    Lemma("every chunk", "every posted chunk has handles, and nothing else has", _every_chunk),
    _of_states(
        "idle",
        "in idle nothing is posted; in sending and done something is",
        Implies(_IDLE, _NOTHING_POSTED),
        Implies(_SENT, Not(_NOTHING_POSTED)),
    ),
    _of_states(
        "closed",
        "only a room that is sending or done is closed, and every done one is",
        Implies(_CLOSED, _SENT),
        Implies(_DONE, _CLOSED),
    ),
    Lemma("open", "while no chunk was the last, a chunk is left", _open),
    _of_states(
        "cleared", "a room that is cleared is over: the system may sweep its handles", Not(both(var(Var.CLEARED), LIVE))
    ),
    _of_states(
        "first cause",
        "a room is faulted exactly in the latched states, and its cause is the first",
        Iff(IS_LATCHED, FAULTED),
        Iff(FIRST_CAUSE, FAULTED),
        Iff(var(Var.CAUSE, Cause.NONE), Not(FAULTED)),
    ),
    _of_states(
        "said",
        "done is Success said, sticky_failed is Failed said, and nothing else is either",
        SUCCESS_IS_DONE,
        FAILED_IS_STICKY,
    ),
    _of_states("told", "the peers were told what the caller was told", PEERS_ARE_TOLD),
    _of_states("no stray", "no handle is lost, and none is used after its release", NO_STRAY),
    _of_states("released late", "no handle is released before it has settled", NOTHING_RELEASED_IN_FLIGHT),
    Lemma(
        "quiesced", "nothing is in flight in a room that has answered, is quarantined or is an earlier one", _quiesced
    ),
    _of_states(
        "quarantined",
        "pages are quarantined exactly once Failed is said",
        Iff(var(Var.QUARANTINED), var(Var.SAID, Told.FAILURE)),
    ),
    _of_states(
        "in doubt",
        "a room's handles are given up only when it is quarantined",
        either(var(Var.QUARANTINED), none_of(Kind.IN_DOUBT, Scope.OWN)),
    ),
    _of_states(
        "done",
        "in done every handle of every chunk to every peer is DONE",
        Implies(_DONE, none_of(Kind.UNDONE, Scope.OWN)),
    ),
    _of_states(
        "no leak", "a room that has answered holds no settled handle", either(SILENT, none_of(Kind.SETTLED, Scope.OWN))
    ),
    Lemma("well", "in idle and sending every handle that was made is in flight or DONE", _well),
)

# ----------------------------------------------------------------------------------------------------------- steps


def _success(relation: Relation, step: Transition) -> z3.BoolRef:
    if step.reply is not Reply.SUCCESS or step.seen is None:
        return YES
    return z3.Implies(about(relation.before).of(SILENT), count(step.seen, DONE) == step.after.made)


def _posts(relation: Relation, step: Transition) -> z3.BoolRef:
    before = relation.before
    if step.act not in (Act.SEND, Act.SEND_LAST):
        return step.after.posted == before.posted
    return z3.And(about(before).of(SILENT), step.after.posted == before.posted + 1)


def _reports(relation: Relation, step: Transition) -> z3.BoolRef:
    if step.act is not Act.POLL or step.seen is None:
        return YES
    reports = z3.And(about(relation.before).of(SILENT), z3.Not(about(step.after).of(SILENT)))
    return z3.Implies(reports, z3.Or(relation.choice.drained, count(step.seen, UNSETTLED) == 0))


def _fresh(relation: Relation, step: Transition) -> z3.BoolRef:
    before, after = relation.before, step.after
    if step.act is not Act.OPEN:
        return z3.And(after.base == before.base, after.made_before == before.made_before)
    handed_over = z3.And(after.made == 0, after.made_before == before.made + before.made_before)
    return z3.And(handed_over, total(after.own.values()) == 0)


def _of_steps(rule: Predicate) -> Lemma[Transition]:
    """A property of steps. Of two for one clause the second has a number, so that each can be named."""
    same = [one for one in PROPERTIES if one.name == rule.name]
    name = rule.name if rule is same[0] else f"{rule.name} ({same.index(rule) + 1})"
    return Lemma(name, rule.text, lambda relation, step: _holds(relation, step, rule.term))


STEP_LEMMAS: Final[tuple[Lemma[Transition], ...]] = (
    *map(_of_steps, PROPERTIES),
    Lemma("success", "a first Success comes when every handle of every chunk is DONE", _success),
    Lemma("posts", "nothing is posted but by a send(), and nothing after the answer", _posts),
    Lemma("allowed", "no forbidden input, and no second word to the peers", lambda _, step: z3.Not(step.broken)),
    Lemma("reports", "at the report all has settled or had its time", _reports),
    Lemma("room isolation", "a room id that is opened again has no handles yet; nothing else begins one", _fresh),
)
