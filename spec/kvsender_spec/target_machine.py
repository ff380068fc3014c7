"""The target as two state machines: the side whose memory a peer writes or reads. Its rules are these tables.

A *receiver* is the target of a WRITE, a *holder* the target of a READ. NIXL gives a target no event, no error and no
state: what an initiator has in flight shows only in what the initiator says. So a room has one *request* (what may its
owner be told?) and one *hold* for each initiator (may its pages be given to somebody else?)::

    held           the pages are taken, and this initiator was told nothing
    exposed        it may know the addresses, from before the announcement is sent, and the request goes on
    quarantined    the request has ended, and it may still touch the pages
    drained        something has shown that it touches them no more, or it was never told of them
    free           the pages may have another owner

``HOLD_NEXT`` and ``REQUEST_NEXT`` say where an event leads; ``TARGET_TABLE`` says when an event happens: what the owner
calls, what has arrived from one initiator, what time does. Only ``PROVED`` leads from exposed or quarantined to
drained, and only drained leads to free: no deadline, no abort, no lost heartbeat and no call of NIXL is a proof
(measured: after deregister_memory and remove_remote_agent the pages are written and read as before).

A row is about one initiator where the input names one (``OF_ONE``), and about each hold of the room otherwise. What it
does comes in this order: the hold's event, the effects, the request's event, and when that ends the request, ``ENDED``
for each of its holds. So whoever has just proved that it is finished is not told that the room is given up. A guard is
asked with what the row itself confirms. The first row whose guard holds applies; the last one of a pair has no guard.
Where ``HOLD_NEXT`` says never, a target does not do it: ``HOLD_BREAKS`` names the clause. ``formal/targets`` puts the
tables together with initiators and a network, and ``live_target`` builds machines from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, assert_never

from kvsender_spec.machine import Reply, Word

# ------------------------------------------------------------------------------- physical: one per room and initiator


class Hold(Word):
    HELD = "held"
    EXPOSED = "exposed"
    QUARANTINED = "quarantined"
    DRAINED = "drained"
    FREE = "free"


class HoldEvent(Word):
    ANNOUNCED = "announced"
    """The addresses were told to the initiator, or telling it raised: what was sent may have arrived."""
    PROVED = "proved"
    """Its end of this incarnation, its word that nothing of it can touch the pages any more, or a fence."""
    ENDED = "ended"
    """The request has ended."""
    FREED = "freed"
    """The pages were given back, and may have another owner from now on."""


_HH, _HX, _HQ, _HD, _HF = Hold
HOLD_NEXT: Final[Mapping[Hold, Mapping[HoldEvent, Hold | None]]] = {
    #    state          announced                  proved                  ended                  freed
    _HH: {HoldEvent.ANNOUNCED: _HX, HoldEvent.PROVED: _HH, HoldEvent.ENDED: _HD, HoldEvent.FREED: None},
    _HX: {HoldEvent.ANNOUNCED: _HX, HoldEvent.PROVED: _HD, HoldEvent.ENDED: _HQ, HoldEvent.FREED: None},
    _HQ: {HoldEvent.ANNOUNCED: None, HoldEvent.PROVED: _HD, HoldEvent.ENDED: _HQ, HoldEvent.FREED: None},
    _HD: {HoldEvent.ANNOUNCED: None, HoldEvent.PROVED: _HD, HoldEvent.ENDED: _HD, HoldEvent.FREED: _HF},
    _HF: {HoldEvent.ANNOUNCED: None, HoldEvent.PROVED: _HF, HoldEvent.ENDED: _HF, HoldEvent.FREED: None},
}

TOUCHABLE: Final = frozenset({_HX, _HQ})
"""An initiator may still write these pages, or read them: nobody else may have them (KS-9.1)."""
HOLD_BREAKS: Final[Mapping[HoldEvent, str]] = {HoldEvent.ANNOUNCED: "KS-9.10", HoldEvent.FREED: "KS-9.1"}
"""The clause that a target breaks which lets an event happen to a hold where ``HOLD_NEXT`` says never."""


# ------------------------------------------------------------------------------------------- logical: one per room


class Request(Word):
    WAITING = "waiting"
    DONE = "done"
    """Every part of every initiator of the room is confirmed in this incarnation, of those not yet announced too."""
    FAILED = "failed"


class RequestEvent(Word):
    CONFIRMED = "confirmed"
    ENDED = "ended"


_W, _D, _F = Request
REQUEST_NEXT: Final[Mapping[Request, Mapping[RequestEvent, Request | None]]] = {
    _W: {RequestEvent.CONFIRMED: _D, RequestEvent.ENDED: _F},
    _D: {RequestEvent.CONFIRMED: _D, RequestEvent.ENDED: _D},
    _F: {RequestEvent.CONFIRMED: _F, RequestEvent.ENDED: _F},
}


# -------------------------------------------------------------------------------------------------------- when


class TargetInput(Word):
    ANNOUNCE = "announce"
    """The initiator is told where the room's pages are."""
    PART = "part"
    """Its notification arrives that came with a transfer: the bytes of that one are in place, or were read."""
    END = "end"
    """Its success arrives: all that it does in this room is done."""
    FAILURE = "failure"
    """Its failure arrives, and does not say that nothing of it is under way."""
    QUIESCED = "quiesced"
    """Its word arrives that nothing of it can touch the pages any more: alone, or with its failure."""
    FOREIGN = "foreign"
    """What arrives is said again, of another incarnation, of an unknown room, of a stranger, or malformed."""
    RENEW = "renew"
    """Its renewal of the lease arrives."""
    TIME = "time"
    """The deadline has passed, or the lease is over."""
    LOST = "lost"
    """The initiator seems to be gone: no heartbeat, a refused message, an error elsewhere."""
    FENCE = "fence"
    """Evidence that nothing of this incarnation of the initiator can touch the pages any more, by name."""
    ABORT = "abort"
    CLEAR = "clear"
    ANSWER = "answer"
    """poll()"""
    FAILURE_EXCEPTION = "failure_exception"
    REUSE = "reuse"
    """The pages are wanted for another request."""


OF_ONE: Final = frozenset(
    {
        TargetInput.ANNOUNCE,
        TargetInput.PART,
        TargetInput.END,
        TargetInput.FAILURE,
        TargetInput.QUIESCED,
        TargetInput.FOREIGN,
        TargetInput.RENEW,
        TargetInput.LOST,
        TargetInput.FENCE,
    }
)
"""The inputs that name an initiator."""


class TargetGuard(Word):
    ALL_CONFIRMED = "all_confirmed"
    ALL_DRAINED = "all_drained"


class TargetEffect(Enum):
    """What a row does besides moving, in the order written."""

    CONFIRM = "confirm"
    """Count the part for the initiator that has said it, once."""
    LATCH = "latch"
    """Keep the cause, unless one is kept already."""
    TELL_ABORT = "tell_abort"
    """Tell each initiator that may be exposed, once, that the room is given up, with its incarnation.

    What is lost on the way is told again: who never hears it may never say that it is quiet, and the pages never
    come back.
    """
    ASK = "ask"
    """Tell the same to the initiator that the input names, and to no other, unless it was told."""
    EXTEND = "extend"
    """The lease ends later, by this side's clock; never earlier."""
    ANSWER_LOST = "answer_lost"
    """Tell the initiator that the lease is over."""
    COUNT = "count"
    """Count it for who looks for the fault, and nothing else."""
    FORGET = "forget"
    """Drop the room's entries; what is held outlives them."""


@dataclass(frozen=True, slots=True)
class TargetRow:
    """While the request is in one of ``sources`` and ``guard`` holds: the hold's and the request's events happen."""

    input: TargetInput
    sources: tuple[Request, ...]
    hold: HoldEvent | None = None
    request: RequestEvent | None = None
    guard: TargetGuard | None = None
    effects: tuple[TargetEffect, ...] = ()
    reply: Reply = Reply.NOTHING


@dataclass(frozen=True, slots=True)
class TargetNever:
    """A target that lets this happen breaks the clause ``breaks``."""

    input: TargetInput
    sources: tuple[Request, ...]
    breaks: str


_GIVES_UP: Final = (TargetEffect.LATCH, TargetEffect.TELL_ABORT)
TARGET_TABLE: Final[tuple[TargetRow, ...]] = (
    TargetRow(TargetInput.ANNOUNCE, (_W,), HoldEvent.ANNOUNCED),
    TargetRow(
        TargetInput.PART, (_W,), None, RequestEvent.CONFIRMED, TargetGuard.ALL_CONFIRMED, (TargetEffect.CONFIRM,)
    ),
    TargetRow(TargetInput.PART, (_W,), effects=(TargetEffect.CONFIRM,)),
    # A part says nothing of the others, and a late one nothing of the answer.
    TargetRow(TargetInput.PART, (_D, _F)),
    TargetRow(
        TargetInput.END,
        (_W,),
        HoldEvent.PROVED,
        RequestEvent.CONFIRMED,
        TargetGuard.ALL_CONFIRMED,
        (TargetEffect.CONFIRM,),
    ),
    TargetRow(TargetInput.END, (_W,), HoldEvent.PROVED, effects=(TargetEffect.CONFIRM,)),
    TargetRow(TargetInput.END, (_D, _F), HoldEvent.PROVED),
    TargetRow(TargetInput.FAILURE, (_W,), None, RequestEvent.ENDED, effects=_GIVES_UP),
    # Its parts are here, and it has failed: it will not say its end, and nobody has asked it for more. Without its word
    # the pages would never come back. The others are not to fail for it.
    TargetRow(TargetInput.FAILURE, (_D,), effects=(TargetEffect.ASK,)),
    TargetRow(TargetInput.FAILURE, (_F,)),
    TargetRow(TargetInput.QUIESCED, (_W,), HoldEvent.PROVED, RequestEvent.ENDED, effects=_GIVES_UP),
    TargetRow(TargetInput.QUIESCED, (_D, _F), HoldEvent.PROVED),
    TargetRow(TargetInput.FOREIGN, (_W, _D, _F), effects=(TargetEffect.COUNT,)),
    TargetRow(TargetInput.RENEW, (_W,), effects=(TargetEffect.EXTEND,)),
    TargetRow(TargetInput.RENEW, (_D, _F), effects=(TargetEffect.ANSWER_LOST,)),
    # What is there already beats the deadline.
    TargetRow(TargetInput.TIME, (_W,), None, RequestEvent.CONFIRMED, TargetGuard.ALL_CONFIRMED),
    TargetRow(TargetInput.TIME, (_W,), None, RequestEvent.ENDED, effects=_GIVES_UP),
    TargetRow(TargetInput.TIME, (_D, _F)),
    TargetRow(TargetInput.LOST, (_W,), None, RequestEvent.ENDED, effects=_GIVES_UP),
    TargetRow(TargetInput.LOST, (_D, _F)),
    TargetRow(TargetInput.FENCE, (_W,), HoldEvent.PROVED, RequestEvent.ENDED, effects=_GIVES_UP),
    TargetRow(TargetInput.FENCE, (_D, _F), HoldEvent.PROVED),
    TargetRow(TargetInput.ABORT, (_W,), None, RequestEvent.ENDED, effects=_GIVES_UP),
    TargetRow(TargetInput.ABORT, (_D, _F)),
    TargetRow(TargetInput.CLEAR, (_W,), None, RequestEvent.ENDED, effects=(*_GIVES_UP, TargetEffect.FORGET)),
    TargetRow(TargetInput.CLEAR, (_D, _F), effects=(TargetEffect.FORGET,)),
    TargetRow(TargetInput.ANSWER, (_W,), reply=Reply.TRANSFERRING),
    TargetRow(TargetInput.ANSWER, (_D,), reply=Reply.SUCCESS),
    TargetRow(TargetInput.ANSWER, (_F,), reply=Reply.FAILED),
    TargetRow(TargetInput.FAILURE_EXCEPTION, (_F,), reply=Reply.RAISES_CAUSE),
    TargetRow(TargetInput.FAILURE_EXCEPTION, (_W, _D), reply=Reply.RAISES_USAGE),
    TargetRow(TargetInput.REUSE, (_D, _F), HoldEvent.FREED, guard=TargetGuard.ALL_DRAINED),
    TargetRow(TargetInput.REUSE, (_D, _F), reply=Reply.RAISES_USAGE),
)

TARGET_NEVER: Final[tuple[TargetNever, ...]] = (
    TargetNever(TargetInput.ANNOUNCE, (_D, _F), "KS-9.10"),
    TargetNever(TargetInput.REUSE, (_W,), "KS-9.1"),
)


def target_rows(source: Request, what: TargetInput) -> tuple[TargetRow, ...]:
    """The rows that decide a pair, in the order in which their guards are tried; empty where it is in TARGET_NEVER."""
    return tuple(row for row in TARGET_TABLE if row.input is what and source in row.sources)


def request_after(source: Request, event: RequestEvent | None) -> Request | None:
    """Where an event leads a request; no event leads nowhere else."""
    return source if event is None else REQUEST_NEXT[source][event]


def describe_target(guard: TargetGuard) -> str:
    """A guard in words, for the generated page. A new guard without words is a type error."""
    match guard:
        case TargetGuard.ALL_CONFIRMED:
            return "with what has arrived, every part of every initiator of the room is confirmed"
        case TargetGuard.ALL_DRAINED:
            return "every hold of the room is drained"
        case _:
            assert_never(guard)
