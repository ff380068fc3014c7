"""The state of the composed model, its bounds, and the actions that change it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final, NamedTuple, TypeAlias, assert_never

from kvsender_spec.machine import State

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
    """A word that is said once: to the caller by poll(), or to the peers."""

    NOTHING = 0
    SUCCESS = 1
    FAILURE = 2


class Control(NamedTuple):
    """A state without its handles. No row depends on ``faulted``, ``said`` and ``told``: only predicates do."""

    logical: State = State.IDLE
    cause: Cause = Cause.NONE
    faulted: bool = False
    """Something went wrong, and the sender was told of it, before the room was over."""
    closed: bool = False
    """The last chunk is posted. It is forgotten with the failure, since nothing depends on it any more."""
    cleared: bool = False
    quarantined: bool = False
    base: int = 0
    """Chunks of earlier incarnations."""
    posted: int = 0
    """Chunks, those of earlier incarnations among them."""
    said: Told = Told.NOTHING
    """The first terminal value that poll() answered."""
    told: Told = Told.NOTHING
    """What the peers were told."""

    @property
    def swept(self) -> int:
        """The chunks whose handles the system looks after, those of rooms that are over: these come first."""
        return self.posted if self.cleared or self.said is not Told.NOTHING else self.base


class ModelState(NamedTuple):
    """Everything about one room id."""

    control: Control
    handles: bytes
    """A code for each chunk and peer, chunk by chunk."""


def initial(bounds: Bounds) -> ModelState:
    return ModelState(Control(), bytes(bounds.handles))


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


@dataclass(frozen=True, slots=True)
class AtHandle:
    """The handle with this place in ``ModelState.handles``: it finishes, or it raises some other error."""

    place: int


@dataclass(frozen=True, slots=True)
class AtPeer:
    """The peer with this number, from 0: it rejects a post, or disconnects."""

    peer: int


class Everybody(Enum):
    PEERS = "every peer disconnects"


EVERYBODY: Final = Everybody.PEERS
At: TypeAlias = AtHandle | AtPeer | Everybody | None
"""Where something happens; None where nothing raises and nobody rejects."""


class Action(NamedTuple):
    """One step of the caller, the transport or the system.

    ``at`` is the handle that finishes, the peer that rejects a post, or what raises in a poll or a sweep.
    """

    act: Act
    at: At = None
    late: bool = False
    """A handle has been in flight for the whole transfer timeout."""
    drained: bool = False
    """The drain deadline has passed."""

    def __str__(self) -> str:
        words = self.act.name.lower()
        match self.at:
            case None:
                pass
            case AtHandle(place):
                words += f"({place})" if self.act is Act.FINISH else f", handle {place} raises"
            case AtPeer(peer):
                sends = self.act in (Act.SEND, Act.SEND_LAST)
                words += f", rejected at {peer}" if sends else f", peer {peer} disconnects"
            case Everybody():
                words += f", {self.at.value}"
            case _:
                assert_never(self.at)
        return words + (", late" if self.late else "") + (", drained" if self.drained else "")
