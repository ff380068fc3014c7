"""Rankings: proofs that something happens in the end, for any number of chunks and peers.

A ranking gives each state short of the goal a rank, a row of natural numbers that is compared like a word, and it says
for each such state which action helps there. That action is possible and leads to a lower rank or to the goal; every
other step leads to a lower rank or to the goal too, or keeps the rank and leaves the same action the helpful one. So a
run that misses the goal would put an action off for ever that is possible all the time: it is not fair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import z3

from kvsender_spec.formal.model.effects import SILENT as IS_SILENT
from kvsender_spec.formal.model.handles import HELD, IN_FLIGHT, SILENT, STRAY
from kvsender_spec.formal.model.predicates import LIVE
from kvsender_spec.formal.model.state import Act
from kvsender_spec.formal.smt.abstract import Abstract, Transition, about, both, count, either, total
from kvsender_spec.formal.smt.relation import Relation

_FLYING: Final = bytes(set(SILENT) & set(IN_FLIGHT))


def _alive(state: Abstract) -> z3.BoolRef:
    return about(state).of(LIVE)


def _silent(state: Abstract) -> z3.BoolRef:
    return about(state).of(IS_SILENT)


class Helpful(NamedTuple):
    """An action that is not put off for ever, and the states in which it helps."""

    name: str
    helps: z3.BoolRef
    is_done_by: Callable[[Transition], z3.BoolRef]
    """Of the steps, which are this action; it may depend on what the world chooses."""


@dataclass(frozen=True)
class Ranking:
    name: str
    text: str
    short: Callable[[Abstract], z3.BoolRef]
    """The goal is not reached, and is owed."""
    rank: Callable[[Relation, Abstract], Sequence[z3.ArithRef]]
    helpful: Callable[[Relation, Abstract], Sequence[Helpful]]
    ends: frozenset[Act]
    """Steps after which nothing is owed any more."""
    ignores: frozenset[Act] = frozenset()
    """Steps that do not happen."""


def _phase(state: Abstract) -> z3.ArithRef:
    return z3.If(_alive(state), z3.IntVal(2), z3.IntVal(1))


def _left(relation: Relation, state: Abstract) -> z3.ArithRef:
    return relation.chunks - state.posted


def _sends(state: Abstract) -> z3.BoolRef:
    return z3.And(_alive(state), z3.Not(state.closed))


def _acts(*acts: Act) -> Callable[[Transition], z3.BoolRef]:
    return lambda step: z3.BoolVal(step.act in acts)


def _answering_rank(relation: Relation, state: Abstract) -> Sequence[z3.ArithRef]:
    return (_phase(state), _left(relation, state), count(state.own, _FLYING))


def _answering_helpful(_relation: Relation, state: Abstract) -> Sequence[Helpful]:
    flying = count(state.own, _FLYING) > 0
    waits = z3.Not(_sends(state))
    return (
        Helpful("send", _sends(state), _acts(Act.SEND, Act.SEND_LAST)),
        Helpful("finish", z3.And(waits, flying), lambda step: z3.BoolVal(step.act is Act.FINISH and step.own)),
        Helpful("poll", z3.And(waits, z3.Not(flying)), _acts(Act.POLL)),
    )


def _silent_helpful(relation: Relation, state: Abstract) -> Sequence[Helpful]:
    flying = count(relation.before.own, _FLYING) > 0
    choice = relation.choice
    raised = total(choice.raising.values()) > 0
    # Where nothing flies, or the room has failed already, there is no transfer deadline to wait for.
    in_time = either([choice.late, raised, z3.Not(flying), z3.Not(_alive(relation.before))])
    return (
        Helpful("send", _sends(state), _acts(Act.SEND, Act.SEND_LAST)),
        Helpful(
            "poll after the deadlines",
            z3.Not(_sends(state)),
            lambda step: both([z3.BoolVal(step.act is Act.POLL), choice.drained, in_time]),
        ),
    )


def _swept(state: Abstract, which: Iterable[int]) -> z3.ArithRef:
    """How many of the handles are the system's business and have one of these codes."""
    which = tuple(which)
    return count(state.old, which) + z3.If(state.over, count(state.own, which), z3.IntVal(0))


def _sweeping_rank(relation: Relation, state: Abstract) -> Sequence[z3.ArithRef]:
    # A room that ends hands its handles over: they are counted until then, so that this is no step back.
    kept = z3.If(state.over, z3.IntVal(0), state.made)
    return (_left(relation, state), kept, _swept(state, SILENT))


def _sweeping_helpful(_relation: Relation, state: Abstract) -> Sequence[Helpful]:
    flying = _swept(state, SILENT) > 0
    return (
        Helpful(
            "finish",
            flying,
            lambda step: z3.And(z3.BoolVal(step.act is Act.FINISH), z3.Or(z3.BoolVal(not step.own), step.after.over)),
        ),
        Helpful("sweep", z3.Not(flying), _acts(Act.SWEEP)),
    )


RANKINGS: Final = (
    Ranking(
        "answers",
        "where every handle settles, poll() ends in Success or Failed: (phase, chunks left, handles in flight)",
        _silent,
        _answering_rank,
        _answering_helpful,
        ends=frozenset({Act.OPEN}),
    ),
    Ranking(
        "answers in time",
        "where no handle ever finishes, the deadlines end poll() in Failed: (phase, chunks left)",
        _silent,
        lambda relation, state: (_phase(state), _left(relation, state)),
        _silent_helpful,
        ends=frozenset({Act.OPEN}),
        ignores=frozenset({Act.FINISH}),
    ),
    Ranking(
        "leaves nothing",
        "what a room leaves behind is released: (chunks left, handles not yet left behind, in flight)",
        lambda state: _swept(state, (*HELD, STRAY)) > 0,
        _sweeping_rank,
        _sweeping_helpful,
        ends=frozenset(),
    ),
)
