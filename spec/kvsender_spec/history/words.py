"""The fixed words of a history: what an error is, which call it was, what a notification says, where a room goes."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec


class Origin(StrEnum):
    """What an error is, by its class and by how it came about."""

    TRANSPORT = "transport"
    """One of the transport's classes, or a plain RuntimeError of its bindings."""
    REFUSED = "refused"
    """The transport refused the arguments of a call, or an earlier call of the subject's own has brought it about: it
    has removed the agent of a peer that was well, or uses what it had kept from before a reconnection."""
    RELEASED = "released"
    """A released handle or descriptor list was used. The real library may crash here."""
    USAGE = "usage"
    """The caller misused the sender."""
    BASE = "base"
    """KeyboardInterrupt, SystemExit: nobody may swallow it."""
    OTHER = "other"
    """Anything else: an error of the sender's own, or of the adapter."""


class CallName(StrEnum):
    """A call of the caller."""

    INIT = "init"
    SEND = "send"
    READ = "read"
    """What send() is to a sender: the next chunk is read into the pages that the call names."""
    POLL = "poll"
    FAILURE_EXCEPTION = "failure_exception"
    ABORT = "abort"
    CLEAR = "clear"
    METRICS = "metrics"
    RECONNECT = "reconnect"
    TARGET_ABORTS = "target_aborts"
    """A peer gives the room up: its message has arrived."""
    SWEEP = "sweep"
    """Background work of the subject's gets its time."""


HANDS_OVER: Final = frozenset({CallName.SEND, CallName.READ})
"""The calls with which a caller hands over a chunk."""


class Says(StrEnum):
    """What a notification says to the peer about a room."""

    PROGRESS = "progress"
    SUCCESS = "success"
    FAILURE = "failure"
    QUIESCED = "quiesced"
    """Nothing of the room can touch the peer's pages any more."""
    RENEW = "renew"
    """A reader asks its holder for a longer lease."""
    ANNOUNCE = "announce"
    """A target tells where its pages are."""
    ABORT = "abort"
    """A target gives a room up."""
    LOST = "lost"
    """A holder answers a renewal: the lease is over."""
    ASK = "ask"
    """A target asks how a room stands."""


class How(StrEnum):
    """What is unusual about what an initiator says."""

    PROPER = ""
    AGAIN = "again"
    """It has been said before, and arrives a second time."""
    NEWEST = "newest first"
    """The part that landed last is told before the ones that landed earlier."""
    LOST = "lost on the way"
    """The initiator has said it, and it never arrives."""
    STRANGER = "by a stranger"
    """An agent says it to which the room was not announced."""
    EARLIER = "of an earlier incarnation"
    """It is about the opening of that room id before this one, which is over."""
    UNKNOWN = "of an unknown room"
    TRUNCATED = "truncated"
    GARBAGE = "garbage"
    NOT_UTF8 = "not UTF-8"


MALFORMED: Final = frozenset({How.TRUNCATED, How.GARBAGE, How.NOT_UTF8})
NOT_OURS: Final = frozenset({How.STRANGER, How.EARLIER, How.UNKNOWN, How.AGAIN}) | MALFORMED
"""What changes nothing, whatever it says."""


class Destination(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where one peer wants one room, or from where it grants it. A dummy peer takes part and receives nothing."""

    peer: str
    pages: tuple[int, ...] = ()
    """Page ids at the peer, in the order of the room's pages. Where the two sides name different numbers of pages, the
    longer list's last ones are meant."""
    aux: int | None = None
    """The aux slot at the peer."""
    generation: int = 0
    """Which process of that name: it counts restarts."""
    dummy: bool = False
    unseen: bool = False
    """The source does not know the pages: none are named here, and that does not mean that there are none."""
