"""The sender as two state machines. Every rule about states is in this file, as a table.

One room has one *logical* machine (may the caller be told Success or Failed?) and one *physical* machine per transfer
handle (may the pages be reused?). They are apart because a failure that is decided is not a write that has stopped.

The logical machine has five states::

    idle           nothing is posted
    sending        at least one chunk is posted
    done           the last chunk is posted and every handle of every chunk to every peer is DONE
    failed         the first cause is latched and the caller has not been told yet; work may still be owed
    sticky_failed  the caller has been told; nothing changes any more

It is written at two levels. ``NEXT`` says *where* an event leads, and is the heart: five states by four events, every
pair decided, ``None`` where a sender that lets it happen violates the contract. ``TABLE`` says *when* an event
happens: which call of the caller, with which answer of the transport, is which event, and what else it does. A row has
no destination of its own: it is looked up in ``NEXT``, so the two levels cannot disagree.

A ``poll()`` is two inputs, one after the other: ``OBSERVE`` (what the handles say) and ``ANSWER`` (what the caller is
told in the state that this led to). That is how one poll can both find the fault and report it.

Where a pair is decided by several rows, the first row whose guard holds applies, and the last one has no guard.
``live_machines`` builds machines that run from these tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, assert_never

# --------------------------------------------------------------------------------------------- logical: where


class Word(Enum):
    """A word of the tables. Its identity is its hash: Enum hashes the name, in Python, whenever a table is asked."""

    __hash__ = object.__hash__


class State(Word):
    IDLE = "idle"
    SENDING = "sending"
    DONE = "done"
    FAILED = "failed"
    STICKY_FAILED = "sticky_failed"


class Event(Enum):
    CHUNK_POSTED = "chunk_posted"
    """The transport accepted every transfer of a chunk."""
    COMPLETED = "completed"
    """The last chunk is posted and every handle of every chunk to every peer is DONE."""
    FAULTED = "faulted"
    """The transport raised or returned an error, a post was rejected, the caller aborted, or a deadline passed."""
    REPORTED = "reported"
    """poll() returned Failed."""


_I, _S, _D, _F, _X = State
NEXT: Final[Mapping[State, Mapping[Event, State | None]]] = {
    #   state      chunk_posted            completed            faulted            reported
    _I: {Event.CHUNK_POSTED: _S, Event.COMPLETED: None, Event.FAULTED: _F, Event.REPORTED: None},
    _S: {Event.CHUNK_POSTED: _S, Event.COMPLETED: _D, Event.FAULTED: _F, Event.REPORTED: None},
    _D: {Event.CHUNK_POSTED: None, Event.COMPLETED: _D, Event.FAULTED: _D, Event.REPORTED: None},
    _F: {Event.CHUNK_POSTED: None, Event.COMPLETED: _F, Event.FAULTED: _F, Event.REPORTED: _X},
    _X: {Event.CHUNK_POSTED: None, Event.COMPLETED: _X, Event.FAULTED: _X, Event.REPORTED: _X},
}

TERMINAL: Final = frozenset({State.DONE, State.STICKY_FAILED})
"""The states whose poll() value is the last one (KS-2.1)."""
LATCHED: Final = frozenset({State.FAILED, State.STICKY_FAILED})
"""The states in which a first cause is kept (KS-2.3)."""


# ---------------------------------------------------------------------------------------------- logical: when


class Input(Word):
    """A call of the caller together with what the transport answered while it ran."""

    SEND_ACCEPTED = "send_accepted"
    """send(), not the last chunk: every transfer of the chunk was accepted."""
    SEND_LAST_ACCEPTED = "send_last_accepted"
    """send(), the last chunk (it may have no pages) with the aux data: every transfer was accepted."""
    SEND_REJECTED = "send_rejected"
    """send(): creating or posting a transfer raised or returned an error; what was accepted before stays in flight."""
    SEND_NOTHING = "send_nothing"
    """send() returned without asking the transport for anything."""
    OBSERVE = "observe"
    """poll(), first half: the handles were asked."""
    ANSWER = "answer"
    """poll(), second half: the caller is told."""
    FAILURE_EXCEPTION = "failure_exception"
    ABORT = "abort"
    CLEAR = "clear"


class Guard(Word):
    """What a row depends on besides the state. Each is a fact about the room at the time of the input."""

    ERROR_SEEN = "error_seen"
    """A check raised, returned ERR, or returned a string that is neither PROC nor DONE."""
    ALL_DONE = "all_done"
    """The last chunk is posted and every handle is DONE. It is asked before the deadline: KS-3.5."""
    DEADLINE_PASSED = "deadline_passed"
    """A handle has been in flight for the whole transfer timeout."""
    MAY_REPORT = "may_report"
    """Latch profile, or every handle has settled, or the drain deadline has passed."""


class Effect(Enum):
    """What a row does besides moving. The effects of a row happen in the order written, before the state moves."""

    ADOPT = "adopt"
    """Keep the accepted handles until they have settled."""
    CLOSE = "close"
    """No chunk follows: the last one is posted."""
    LATCH = "latch"
    """Keep the cause, unless one is kept already."""
    RELEASE = "release"
    """Release the handles that have settled, each exactly once."""
    QUARANTINE = "quarantine"
    """Report the pages of handles that nothing has shown to be quiesced, so that the caller does not reuse them."""
    TELL_SUCCESS = "tell_success"
    """Tell every peer, once, that the room is complete."""
    TELL_FAILURE = "tell_failure"
    """Tell every peer that is still reachable, once, that the room has failed, and why."""
    FORGET = "forget"
    """Drop the room's entries; the latch, the cause and the unsettled handles outlive them."""


class Reply(Enum):
    """What the caller gets back."""

    NOTHING = "nothing"
    WAITING = "waiting"
    """KVPoll.Bootstrapping or KVPoll.WaitingForInput."""
    TRANSFERRING = "transferring"
    SUCCESS = "success"
    FAILED = "failed"
    RAISES_CAUSE = "raises the cause"
    RAISES_USAGE = "raises a usage error"


@dataclass(frozen=True, slots=True)
class Row:
    """In each of ``sources``, when ``guard`` holds: ``event`` happens (or none), after ``effects``; then ``reply``."""

    input: Input
    sources: tuple[State, ...]
    event: Event | None = None
    guard: Guard | None = None
    effects: tuple[Effect, ...] = ()
    reply: Reply = Reply.NOTHING


@dataclass(frozen=True, slots=True)
class Never:
    """In each of ``sources`` this input does not happen: a sender that lets it happen breaks the clause ``breaks``."""

    input: Input
    sources: tuple[State, ...]
    breaks: str


TABLE: Final[tuple[Row, ...]] = (
    Row(Input.SEND_ACCEPTED, (_I, _S), Event.CHUNK_POSTED, effects=(Effect.ADOPT,)),
    Row(Input.SEND_LAST_ACCEPTED, (_I, _S), Event.CHUNK_POSTED, effects=(Effect.ADOPT, Effect.CLOSE)),
    Row(Input.SEND_REJECTED, (_I, _S), Event.FAULTED, effects=(Effect.ADOPT, Effect.LATCH)),
    # A chunk without pages that is not the last one asks for nothing; after the end of the room send() is a no-op.
    Row(Input.SEND_NOTHING, (_I, _S, _D, _F, _X)),
    Row(Input.OBSERVE, (_I,)),
    Row(Input.OBSERVE, (_S,), Event.FAULTED, Guard.ERROR_SEEN, (Effect.LATCH, Effect.RELEASE)),
    Row(Input.OBSERVE, (_S,), Event.COMPLETED, Guard.ALL_DONE, (Effect.RELEASE, Effect.TELL_SUCCESS)),
    Row(Input.OBSERVE, (_S,), Event.FAULTED, Guard.DEADLINE_PASSED, (Effect.LATCH, Effect.RELEASE)),
    Row(Input.OBSERVE, (_S,), effects=(Effect.RELEASE,)),
    # Late answers: they settle handles, and change neither the outcome nor the cause.
    Row(Input.OBSERVE, (_F,), effects=(Effect.RELEASE,)),
    Row(Input.OBSERVE, (_D, _X)),
    Row(Input.ANSWER, (_I,), reply=Reply.WAITING),
    Row(Input.ANSWER, (_S,), reply=Reply.TRANSFERRING),
    Row(Input.ANSWER, (_D,), reply=Reply.SUCCESS),
    Row(
        Input.ANSWER,
        (_F,),
        Event.REPORTED,
        Guard.MAY_REPORT,
        (Effect.QUARANTINE, Effect.TELL_FAILURE),
        Reply.FAILED,
    ),
    Row(Input.ANSWER, (_F,), reply=Reply.TRANSFERRING),
    Row(Input.ANSWER, (_X,), Event.REPORTED, reply=Reply.FAILED),
    Row(Input.FAILURE_EXCEPTION, (_F, _X), reply=Reply.RAISES_CAUSE),
    Row(Input.FAILURE_EXCEPTION, (_I, _S, _D), reply=Reply.RAISES_USAGE),
    Row(Input.ABORT, (_I, _S), Event.FAULTED, effects=(Effect.LATCH,)),
    Row(Input.ABORT, (_D, _F, _X)),
    Row(Input.CLEAR, (_I, _S), Event.FAULTED, effects=(Effect.LATCH, Effect.FORGET)),
    Row(Input.CLEAR, (_D, _F, _X), effects=(Effect.FORGET,)),
)

NEVER: Final[tuple[Never, ...]] = (
    Never(Input.SEND_ACCEPTED, (_D,), "KS-8.1"),
    Never(Input.SEND_LAST_ACCEPTED, (_D,), "KS-8.1"),
    Never(Input.SEND_REJECTED, (_D,), "KS-8.1"),
    Never(Input.SEND_ACCEPTED, (_F, _X), "KS-2.5"),
    Never(Input.SEND_LAST_ACCEPTED, (_F, _X), "KS-2.5"),
    Never(Input.SEND_REJECTED, (_F, _X), "KS-2.5"),
)


# ------------------------------------------------------------------------------------------ physical: one per handle


class HandleState(Word):
    CREATED = "created"
    """Made, not posted. Nothing is on the wire."""
    NEVER_SUBMITTED = "never_submitted"
    """Released without having been posted."""
    IN_FLIGHT = "in_flight"
    """Posted; all, some or none of the bytes may have landed."""
    DONE = "done"
    """All bytes are in the peer's memory."""
    ERRORED = "errored"
    """A check raised. That proves nothing about the bytes: they may land later."""
    REJECTED = "rejected"
    """The post itself raised: nothing, some or all of it may be on the wire. The transport follows it no further."""
    IN_DOUBT = "in_doubt"
    """Released in flight, or in flight when the drain deadline passed: the bytes may land at any time."""


class HandleEvent(Word):
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    FINISHED = "finished"
    RAISED = "raised"
    OVERDUE = "overdue"
    RELEASED = "released"


_HC, _HN, _HF, _HD, _HE, _HR, _HU = HandleState
HANDLE_NEXT: Final[Mapping[HandleState, Mapping[HandleEvent, HandleState | None]]] = {
    _HC: {
        HandleEvent.ACCEPTED: _HF,
        HandleEvent.REJECTED: _HR,
        HandleEvent.FINISHED: _HD,
        HandleEvent.RAISED: _HC,  # nixlNotPostedError: the question was wrong, the handle is as it was
        HandleEvent.OVERDUE: _HC,
        HandleEvent.RELEASED: _HN,
    },
    _HN: {event: None for event in HandleEvent},  # use after release crashes the real library
    _HF: {
        HandleEvent.ACCEPTED: None,
        HandleEvent.REJECTED: _HF,  # nixlRepostActiveError: the transfer goes on
        HandleEvent.FINISHED: _HD,
        HandleEvent.RAISED: _HE,
        HandleEvent.OVERDUE: _HU,
        HandleEvent.RELEASED: _HU,  # and KS-4.2 is broken
    },
    _HD: {
        HandleEvent.ACCEPTED: None,  # NIXL would run it again; a sender has no reason to
        HandleEvent.REJECTED: _HD,
        HandleEvent.FINISHED: _HD,
        HandleEvent.RAISED: _HD,  # the peer went away later
        HandleEvent.OVERDUE: _HD,
        HandleEvent.RELEASED: _HD,
    },
    _HE: {
        HandleEvent.ACCEPTED: None,
        HandleEvent.REJECTED: _HE,
        HandleEvent.FINISHED: _HE,  # an error was answered first, and answers do not heal
        HandleEvent.RAISED: _HE,
        HandleEvent.OVERDUE: _HE,
        HandleEvent.RELEASED: _HE,
    },
    _HR: {
        HandleEvent.ACCEPTED: None,
        HandleEvent.REJECTED: _HR,
        HandleEvent.FINISHED: None,
        HandleEvent.RAISED: _HR,
        HandleEvent.OVERDUE: _HR,
        HandleEvent.RELEASED: _HR,
    },
    _HU: {
        HandleEvent.ACCEPTED: None,
        HandleEvent.REJECTED: _HU,
        HandleEvent.FINISHED: _HD,
        HandleEvent.RAISED: _HE,
        HandleEvent.OVERDUE: _HU,
        HandleEvent.RELEASED: _HU,
    },
}

RELEASABLE: Final = frozenset({_HC, _HD, _HE, _HR})
"""Settled: the transport has said its last word on the handle, so releasing it hides nothing (KS-4.2)."""
QUIESCED: Final = frozenset({_HC, _HN, _HD})
"""The source pages are free. ERRORED joins only on a fabric where it has been shown that an error ends the reads."""


# ---------------------------------------------------------------------------- profiles; questions to the tables


class Profile(Enum):
    """How much of the contract a sender claims."""

    LATCH = "latch"
    """The seed's contract: Failed is reported at once."""
    QUIESCENT = "quiescent"
    """Latch, and Failed is reported only when the handles have settled or their pages are quarantined."""
    FULL = "full"
    """Quiescent, and everything about rooms, peers and threads."""


def rows_for(source: State, what: Input) -> tuple[Row, ...]:
    """The rows that decide a pair, in the order in which their guards are tried; empty where the pair is in NEVER."""
    return tuple(row for row in TABLE if row.input is what and source in row.sources)


def destination(source: State, event: Event | None) -> State | None:
    """Where an event leads; no event leads nowhere else; None is a violation."""
    return source if event is None else NEXT[source][event]


def describe(guard: Guard) -> str:
    """A guard in words, for the generated page. A new guard without words is a type error."""
    match guard:
        case Guard.ERROR_SEEN:
            return "a check raised or answered an error"
        case Guard.ALL_DONE:
            return "the last chunk is posted and every handle is DONE"
        case Guard.DEADLINE_PASSED:
            return "a handle has been in flight for the whole transfer timeout"
        case Guard.MAY_REPORT:
            return "latch profile, or every handle has settled, or the drain deadline has passed"
        case _:
            assert_never(guard)
