"""What the composed model must satisfy, written once: the clauses of sections 1 to 6 that a model of one room states.

``INVARIANTS`` are about a state and ``ANSWERS`` about what a call answers: TLC and SPIN check these. ``PROPERTIES`` are
about a step: the state before, the action, what came of it. The explorers decide them at a bound, z3 for every bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kvsender_spec.formal.model.effects import IS_LATCHED, SILENT, SPOKEN
from kvsender_spec.formal.model.handles import Kind
from kvsender_spec.formal.model.state import Act, Cause, Told
from kvsender_spec.formal.model.terms import (
    CONTROL,
    Before,
    Iff,
    Implies,
    Is,
    Kept,
    NoneOf,
    Not,
    Same,
    Scope,
    Term,
    Var,
    both,
    either,
    var,
)
from kvsender_spec.machine import Reply, State


@dataclass(frozen=True, slots=True)
class Predicate:
    """A term with the clause that it states, or a name of its own, and what it says."""

    name: str
    text: str
    term: Term


def none_of(kind: Kind, scope: Scope = Scope.REPLY) -> NoneOf:
    return NoneOf(scope, kind)


def _act(*acts: Act) -> Is:
    return Is(Var.ACT, acts)


def _says(reply: Reply) -> Is:
    return var(Var.REPLY, reply)


FAULTED: Final = var(Var.FAULTED)
FIRST_CAUSE: Final = var(Var.CAUSE, Cause.FIRST)
LIVE: Final = var(Var.LOGICAL, State.IDLE, State.SENDING)
SUCCESS_IS_DONE: Final = Iff(var(Var.LOGICAL, State.DONE), var(Var.SAID, Told.SUCCESS))
FAILED_IS_STICKY: Final = Iff(var(Var.LOGICAL, State.STICKY_FAILED), var(Var.SAID, Told.FAILURE))
PEERS_ARE_TOLD: Final = Same(Var.TOLD, Var.SAID)
NOTHING_RELEASED_IN_FLIGHT: Final = none_of(Kind.RELEASED_EARLY, Scope.ALL)
NO_STRAY: Final = none_of(Kind.STRAY, Scope.ALL)

INVARIANTS: Final = (
    Predicate(
        "NoSuccessAfterFault",
        "KS-2.2: what went wrong before the end of the room is not hidden by Success",
        Implies(FAULTED, Not(var(Var.SAID, Told.SUCCESS))),
    ),
    Predicate(
        "FirstCause",
        "KS-2.3: a failure keeps the first thing that went wrong, and nothing else is a failure",
        both(Implies(IS_LATCHED, both(FAULTED, FIRST_CAUSE)), either(IS_LATCHED, var(Var.CAUSE, Cause.NONE))),
    ),
    Predicate("FailedIsSticky", "sticky_failed is the failure that the caller has been told of", FAILED_IS_STICKY),
    Predicate("SuccessIsDone", "done is the success that the caller has been told of", SUCCESS_IS_DONE),
    Predicate("PeersAreTold", "KS-6.1: caller and peers are told the same", PEERS_ARE_TOLD),
    Predicate(
        "Quiesced",
        "KS-4.1: after the last word nothing of the room is in flight",
        either(SILENT, none_of(Kind.IN_FLIGHT, Scope.OWN)),
    ),
    Predicate(
        "Quarantined",
        "KS-4.4: what a room leaves behind is reported with its pages",
        either(SILENT, var(Var.QUARANTINED), none_of(Kind.PLACED, Scope.OWN)),
    ),
    Predicate(
        "NothingReleasedInFlight",
        "KS-4.2: a handle is released when the transport has said its last word on it",
        NOTHING_RELEASED_IN_FLIGHT,
    ),
    Predicate("NoStray", "KS-4.3: a handle that was posted is kept until it has settled", NO_STRAY),
)

_WORD: Final = both(*(Iff(var(Var.SAID, word), _says(reply)) for reply, word in SPOKEN.items()))
STICKY: Final = Predicate(
    "Sticky", "KS-2.1: the last word is the last one, until the room id is opened again", either(SILENT, _WORD)
)
"""Of poll(), with ``said`` as it was before."""
CAUSE_IS_RAISED: Final = Predicate(
    "CauseIsRaised",
    "KS-2.4, KS-2.7: failure_exception() raises the cause of a room that has failed, and of no other",
    Iff(_says(Reply.RAISES_CAUSE), IS_LATCHED),
)
ANSWERS: Final = (STICKY, CAUSE_IS_RAISED)

# ----------------------------------------------------------------------------------------------------------- steps

_WAS_OVER: Final = Before(either(Not(SILENT), FAULTED))
_REPORTS: Final = both(Before(SILENT), Not(SILENT))
"""This poll answers the room's first terminal value."""
_UNCHANGED: Final = both(*map(Kept, CONTROL))
_CLEARED: Final = both(var(Var.CLEARED), *(Kept(one) for one in CONTROL if one is not Var.CLEARED))
_COMPLETES: Final = Not(
    both(
        _act(Act.POLL),
        Before(both(SILENT, Not(FAULTED), var(Var.CLOSED))),
        Not(_says(Reply.SUCCESS)),
        Before(none_of(Kind.UNANSWERED, Scope.OWN)),
    )
)
"""Everything has finished, whether the sender has asked or not: this poll answers Success."""

PROPERTIES: Final = (
    Predicate(
        "KS-1.2",
        "an error answered to a post or a check leads to failed or sticky_failed",
        either(_act(Act.FINISH, Act.SWEEP), Not(var(Var.TROUBLED)), IS_LATCHED),
    ),
    Predicate(
        "KS-2.1",
        "the first terminal poll() is the last one; sticky_failed is failed and told, done is told",
        both(
            FAILED_IS_STICKY,
            SUCCESS_IS_DONE,
            Implies(_act(Act.POLL), _WORD),
            either(_act(Act.OPEN), Before(SILENT), Kept(Var.SAID)),
        ),
    ),
    Predicate("KS-2.2", "no Success after a fault", Not(both(_says(Reply.SUCCESS), FAULTED))),
    Predicate(
        "KS-2.3",
        "in failed and sticky_failed the first cause is latched",
        Implies(IS_LATCHED, both(FIRST_CAUSE, FAULTED)),
    ),
    Predicate(
        "KS-2.4",
        "a latched cause stays until the room id is opened again",
        either(_act(Act.OPEN), Before(var(Var.CAUSE, Cause.NONE)), Kept(Var.CAUSE)),
    ),
    Predicate(
        "KS-2.5",
        "nothing is posted after a fault or after the last chunk",
        Implies(_act(Act.SEND, Act.SEND_LAST), Not(Before(either(FAULTED, var(Var.CLOSED))))),
    ),
    Predicate(
        "KS-2.6",
        "poll() in sticky_failed asks nothing",
        Not(both(_act(Act.POLL), var(Var.ASKS), Before(var(Var.SAID, Told.FAILURE)))),
    ),
    Predicate(
        "KS-2.7",
        "failure_exception() raises the cause after a fault, a usage error otherwise",
        Implies(
            _act(Act.FAILURE_EXCEPTION),
            both(
                _UNCHANGED,
                Iff(Before(FAULTED), _says(Reply.RAISES_CAUSE)),
                either(Before(FAULTED), _says(Reply.RAISES_USAGE)),
            ),
        ),
    ),
    Predicate("KS-3.1", "Success only when every handle is DONE", Implies(_says(Reply.SUCCESS), none_of(Kind.UNDONE))),
    Predicate("KS-3.3", "Success only after the last chunk", Implies(_says(Reply.SUCCESS), Before(var(Var.CLOSED)))),
    Predicate(
        "KS-3.3",
        "a room is in idle until its first chunk is posted, and in sending from then on",
        Implies(LIVE, Iff(var(Var.LOGICAL, State.IDLE), Same(Var.POSTED, Var.BASE))),
    ),
    Predicate(
        "KS-3.4",
        "poll() is terminal once the room is closed or faulted and every handle has settled",
        Not(both(_act(Act.POLL), SILENT, either(Before(var(Var.CLOSED)), FAULTED), none_of(Kind.OPEN))),
    ),
    Predicate(
        "KS-3.5",
        "Failed only after a fault, and a completion that is there beats a deadline",
        both(Implies(_says(Reply.FAILED), FAULTED), Implies(var(Var.LATE), _COMPLETES)),
    ),
    Predicate(
        "KS-3.6",
        "once everything has finished, in whatever order, poll() answers Success",
        either(var(Var.LATE), _COMPLETES),
    ),
    Predicate(
        "KS-4.1",
        "at a terminal poll() nothing is in flight, and what is not quiesced is quarantined",
        Implies(_REPORTS, both(none_of(Kind.IN_FLIGHT), either(var(Var.QUARANTINED), none_of(Kind.UNQUIESCED)))),
    ),
    Predicate(
        "KS-4.3",
        "a poll() that asks releases what has settled",
        Implies(both(_act(Act.POLL), var(Var.ASKS)), none_of(Kind.HELD_SETTLED)),
    ),
    Predicate(
        "KS-4.4",
        "a rejected post or an unsettled handle at the report is quarantined",
        Implies(both(_REPORTS, Not(var(Var.QUARANTINED))), none_of(Kind.DOUBTFUL)),
    ),
    Predicate(
        "KS-5.1",
        "abort() fails a live room and changes no other",
        Implies(_act(Act.ABORT), both(Implies(_WAS_OVER, _UNCHANGED), either(_WAS_OVER, IS_LATCHED))),
    ),
    Predicate(
        "KS-5.2",
        "clear() fails a live room and changes no other",
        Implies(_act(Act.CLEAR), both(var(Var.CLEARED), Implies(_WAS_OVER, _CLEARED), either(_WAS_OVER, IS_LATCHED))),
    ),
    Predicate("KS-5.3", "late events change nothing but handles", Implies(_act(Act.FINISH, Act.SWEEP), _UNCHANGED)),
    Predicate(
        "KS-5.4",
        "a room id that is opened again begins as if it had never been used",
        Implies(
            _act(Act.OPEN),
            both(
                var(Var.LOGICAL, State.IDLE),
                var(Var.CAUSE, Cause.NONE),
                *(var(flag, False) for flag in (Var.FAULTED, Var.CLOSED, Var.CLEARED, Var.QUARANTINED)),
                Kept(Var.POSTED),
                Same(Var.BASE, Var.POSTED),
                var(Var.SAID, Told.NOTHING),
                var(Var.TOLD, Told.NOTHING),
            ),
        ),
    ),
    Predicate("KS-6.1", "peers are told what the caller is told, once", PEERS_ARE_TOLD),
)
STATE_PROPERTIES: Final = (
    Predicate("KS-4.2", "no handle is released before it has settled", NOTHING_RELEASED_IN_FLIGHT),
    Predicate("KS-4.3", "no handle is lost, and none is used after its release", NO_STRAY),
)
"""Of every reachable state: the kinds that no handle is of."""
UNDECIDED: Final = "every input is decided, and every word to a peer is said once"
"""The text for a step that breaks a clause by itself."""
