"""The first line of a history: who wrote it, of what, and which kinds of events the source records completely."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal

import msgspec

from kvsender_spec.contract import Operation, Role

FORMAT: Final = "kvsender-history/1"


class Source(StrEnum):
    """Who wrote a history."""

    SCRIPTED = "scripted"
    """The conformance kit, on its scripted transport."""
    REAL = "real"
    """The lab: real NIXL between real processes."""
    LIVE = "live"
    """A recorder inside a running system."""
    FOREIGN = "foreign"
    """Another program, which need not be Python."""


class Ability(StrEnum):
    """What the subject can do beyond ``send``, ``poll`` and ``failure_exception``."""

    ABORT = "abort"
    CLEAR = "clear"
    METRICS = "metrics"
    NOTIFY = "notify"
    TELLS_SUCCESS = "tells success"
    """A notification of its own tells each peer of Success. Without it the peers know from those of the transfers."""
    PARTS = "parts"
    """A peer that has a room's first pages already may name pages for the others only."""
    QUARANTINE = "quarantine"
    ATTRIBUTION = "attribution"
    RECONNECT = "reconnect"
    NEW_NAMES = "new names"
    """A peer that restarts may come back under another name."""
    TARGET_ABORTS = "target aborts"
    """It takes a peer's word that it gives a room up."""
    WORKERS = "workers"
    BACKGROUND = "background"
    """No call of the caller asks the transport: its background work does."""
    CONTROL = "control"
    COUNTS = "counts"
    """It can say how many entries about rooms it keeps."""
    UNINITIALISED = "uninitialised"
    HIDES_ERRORS = "hides errors"
    """Its transport answers numbers instead of raising."""
    HOLDS = "holds"
    """It is a holder: its rooms are read, under a lease."""
    ANNOUNCES = "announces"
    """What it tells its initiators can be read, and announcements are among it."""
    TELLS = "tells"
    """What a target tells its initiators can be read."""
    FENCES = "fences"
    REFILLS = "refills"
    """A holder that gives granted pages other content says so."""
    PUBLISHES = "publishes"
    """A target that says which pages others may use."""
    ASKS = "asks"
    """A target that asks how a room stands."""


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Times are seconds of the history's clock."""

    transfer_timeout_s: float = 30.0
    drain_timeout_s: float = 5.0
    settle_s: float = 0.0
    """How long after ``faults.over`` the source gives what is in flight to finish; 0 where it finishes at once."""


class Header(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="format", tag=FORMAT):
    """The first line. ``vantage`` names the kinds of events that the source records completely.

    A clause that needs a kind outside the vantage is inconclusive, with that as the reason. The format is a tag and no
    field, so that it is always written.
    """

    source: Source
    vantage: tuple[str, ...]
    subject: str = ""
    """Which sender or reader."""
    role: Role = "initiator"
    operation: Operation = "WRITE"
    """What a sender or receiver is about is a WRITE, what a reader or holder is about a READ."""
    profile: Literal["latch", "quiescent", "full"] = "full"
    """What the subject claims."""
    can: tuple[Ability, ...] = ()
    limits: Limits = Limits()
    named: dict[str, str] = {}
    """In the shortest run that a check has kept: the clause that explains a rule, by the rule. Attribution over many
    runs has shown that the rule breaks in this circumstance only; whoever checks the file looks for it again."""
    versions: dict[str, str] = {}
    wall: str = ""
    """When the clock of the history stood at 0, in ISO 8601; empty where nobody knows."""


_PARTIES: Final = {
    ("initiator", "WRITE"): "sender",
    ("initiator", "READ"): "reader",
    ("target", "WRITE"): "receiver",
    ("target", "READ"): "holder",
}


def party(role: Role, operation: Operation) -> str:
    """What the subject is called."""
    return _PARTIES[role, operation]
