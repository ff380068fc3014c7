"""The state of the composed model, its bounds, and the actions that change it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

from kvsender_spec.formal.model.handles import SILENT
from kvsender_spec.machine import Reply, State

MOST_HANDLES: Final = 24


@dataclass(frozen=True, slots=True)
class Bounds:
    """``chunks`` is how many chunks all incarnations of the room id have together. Every chunk goes to every peer."""

    chunks: int = 2
    peers: int = 2

    def __post_init__(self) -> None:
        if self.chunks < 1 or self.peers < 1:
            raise ValueError(f"chunks and peers are numbers from 1, not {self.chunks} and {self.peers}")
        if self.handles > MOST_HANDLES:
            raise ValueError(f"{self}: at most {MOST_HANDLES} handles can be told apart, not {self.handles}")

    def __str__(self) -> str:
        return f"{self.chunks}x{self.peers}"

    @property
    def handles(self) -> int:
        return self.chunks * self.peers


class TooLarge(ValueError):
    """A bound with more states than fit into memory."""


class Cause(IntEnum):
    """What is latched. Of a cause it matters only which one it is: whose it is (KS-2.8) it carries itself."""

    NONE = 0
    FIRST = 1
    """The first thing that went wrong, as far as the sender was told."""
    LATER = 2


class Told(IntEnum):
    """A word that is said once: to the owner by poll(), or to the peers."""

    NOTHING = 0
    SUCCESS = 1
    FAILURE = 2


class ModelState(NamedTuple):
    """Everything about one room id. No row depends on ``faulted``, ``said`` and ``told``: they are to judge by."""

    logical: State
    cause: Cause
    faulted: bool
    """Something went wrong, and the sender was told of it, before the room was over."""
    closed: bool
    """The last chunk is posted. It is forgotten with the failure, since nothing depends on it any more."""
    cleared: bool
    quarantined: bool
    base: int
    """Chunks of earlier incarnations."""
    posted: int
    """Chunks, those of earlier incarnations among them."""
    said: Told
    """The first terminal value that poll() answered."""
    told: Told
    """What the peers were told."""
    handles: bytes
    """A code for each chunk and peer, chunk by chunk."""


def initial(bounds: Bounds) -> ModelState:
    nothing = bytes(bounds.handles)
    return ModelState(State.IDLE, Cause.NONE, False, False, False, False, 0, 0, Told.NOTHING, Told.NOTHING, nothing)


class Act(IntEnum):
    FINISH = 0
    SEND = 1
    SEND_LAST = 2
    SEND_NOTHING = 3
    POLL = 4
    FAILURE_EXCEPTION = 5
    ABORT = 6
    CLEAR = 7
    OPEN = 8
    SWEEP = 9


NOBODY: Final = -1
EVERYBODY: Final = 1000


class Action(NamedTuple):
    """One step of the owner, the transport or the system.

    ``at`` says where: for FINISH the handle; for a send the peer that rejects; for POLL and SWEEP what raises: a handle
    (some other error), or a peer, as ``lost_peer`` numbers it, or EVERYBODY (a disconnect); NOBODY otherwise.
    """

    act: Act
    at: int = NOBODY
    late: bool = False
    """A handle has been in flight for the whole transfer timeout."""
    drained: bool = False
    """The drain deadline has passed."""

    def __str__(self) -> str:
        words = self.act.name.lower()
        if self.act is Act.FINISH:
            return f"{words}({self.at})"
        if self.at == EVERYBODY:
            words += ", every peer disconnects"
        elif self.at <= lost_peer(0):
            words += f", peer {lost_peer(0) - self.at} disconnects"
        elif self.at != NOBODY:
            words += (
                f", rejected at {self.at}" if self.act in (Act.SEND, Act.SEND_LAST) else f", handle {self.at} raises"
            )
        return words + (", late" if self.late else "") + (", drained" if self.drained else "")


def lost_peer(peer: int) -> int:
    """How ``Action.at`` names a peer that disconnects, so that it is not taken for a handle."""
    return -2 - peer


class Outcome(NamedTuple):
    """What one action came to."""

    reply: Reply
    posted: int
    asked: int
    """Handles that were asked by the owner's call."""
    after: ModelState
    seen: bytes = b""
    """The room's own handles at the time of the reply."""
    broken: str = ""
    """A clause that the step itself breaks: a forbidden input, or a second word to the peers."""


def victims(handles: Sequence[int], first: int, at: int, peers: int) -> frozenset[int]:
    """The places among ``handles`` (whose first one has the number ``first``) that raise when they are asked."""
    silent = {place for place, code in enumerate(handles) if code in SILENT}
    if at == EVERYBODY:
        return frozenset(silent)
    if at <= lost_peer(0):
        return frozenset(place for place in silent if (first + place) % peers == lost_peer(0) - at)
    return frozenset(place for place in silent if first + place == at)


def troubles(handles: Sequence[int], first: int, peers: int) -> tuple[int, ...]:
    """What may raise in one look at these handles: nothing, one handle, all of a peer's, all of every peer's."""
    silent = [first + place for place, code in enumerate(handles) if code in SILENT]
    lost = sorted({number % peers for number in silent})
    every = (EVERYBODY,) if len(lost) > 1 else ()
    return (NOBODY, *silent, *(lost_peer(peer) for peer in lost), *every)
