"""What the kit gives to an adapter, and what it wants back.

An adapter builds a *system*: one prefill side with its shared tables, on the kit's transport, clock and memory. The
system then makes a sender for each room. What a system can do beyond that it shows by defining the method of one of
the small protocols below; a clause that needs a method nobody defined is "not applicable", never passed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from threading import Thread
from typing import Protocol, TypeAlias, runtime_checkable

from kvsender_spec.contract import Attribution, Initiator, Operation, Reader, Role, Sender
from kvsender_spec.kit.targets.adapter import TargetSystem
from kvsender_spec.kit.world import MOST_REOPENINGS as MOST_REOPENINGS
from kvsender_spec.kit.world import MOST_ROOMS as MOST_ROOMS
from kvsender_spec.kit.world import NUM_AUX_SLOTS as NUM_AUX_SLOTS
from kvsender_spec.kit.world import NUM_PAGES as NUM_PAGES
from kvsender_spec.kit.world import ROOM_PAGES as ROOM_PAGES
from kvsender_spec.kit.world import Destination as Destination
from kvsender_spec.kit.world import ManualClock as ManualClock
from kvsender_spec.kit.world import Memory as Memory
from kvsender_spec.kit.world import Peer as Peer
from kvsender_spec.kit.world import RoomPlan as RoomPlan
from kvsender_spec.kit.world import World as World
from kvsender_spec.machine import Profile


class System(Protocol):
    """One prefill side under test."""

    def sender(self, plan: RoomPlan) -> Sender:
        """A sender on which the caller has called init() and which knows its destinations."""


class ReaderSystem(Protocol):
    """One decode side under test, whose readers initiate READs."""

    def reader(self, plan: RoomPlan) -> Reader:
        """A reader on which the caller has called init() and which knows what it was granted."""


AnySystem: TypeAlias = System | ReaderSystem | TargetSystem
"""What an adapter opens: a target's is in ``kit.targets.adapter``."""


@runtime_checkable
class Adapter(Protocol):
    """Connects somebody's sender to the kit. ``kvsender check module:attribute`` names one."""

    @property
    def name(self) -> str: ...

    @property
    def profile(self) -> Profile: ...

    @property
    def errors(self) -> Mapping[str, type[Exception]]:
        """The transport's error classes by NIXL's names, as this sender knows them."""

    @property
    def usage_errors(self) -> tuple[type[Exception], ...]:
        """What the sender raises for a mistake of its caller."""

    def open(self, world: World) -> AnySystem: ...


@runtime_checkable
class Initiates(Protocol):
    """An adapter that says what its system initiates: READ, where it makes readers. Without it, it is WRITE."""

    @property
    def operation(self) -> Operation: ...


def operation_of(adapter: Adapter) -> Operation:
    """What the adapter's system initiates."""
    return adapter.operation if isinstance(adapter, Initiates) else "WRITE"


@runtime_checkable
class IsTarget(Protocol):
    """An adapter that says which role its system has. Without it, it is an initiator."""

    @property
    def role(self) -> Role: ...


def role_of(adapter: Adapter) -> Role:
    """Which role the adapter's system has."""
    return adapter.role if isinstance(adapter, IsTarget) else "initiator"


@runtime_checkable
class Reconnects(Protocol):
    def reconnect(self, peer: Peer) -> None:
        """The peer is back, as a new process, and has registered again."""


@runtime_checkable
class TakesNewNames(Protocol):
    """A system whose peers may come back under another name, as those of an engine do that names each process anew.
    reconnect() gets a Peer of that name. Rooms that are opened later name it; nobody has the old name again."""

    @property
    def takes_new_names(self) -> bool: ...


@runtime_checkable
class Settles(Protocol):
    def settle(self) -> None:
        """Give the system's background work the time that it needs; bounded."""


@runtime_checkable
class Quarantines(Protocol):
    def quarantined_pages(self) -> frozenset[int]:
        """The pages on this side that the caller must not reuse: a WRITE reads them, a READ writes into them."""


@runtime_checkable
class TakesParts(Protocol):
    """A system whose peers may have a room's first pages already: they name pages for the others only, and the caller
    sends all of them. Where the caller leaves out what a peer has, as SGLang's does, nothing is to be declared. A
    reader's holders may grant more pages than the room has, whose first ones the reader has already."""

    @property
    def takes_parts(self) -> bool: ...


@runtime_checkable
class CountsResidue(Protocol):
    def residue(self) -> int:
        """How many entries about rooms the system keeps."""


@runtime_checkable
class Attributes(Protocol):
    def attribution(self, error: BaseException) -> Attribution | None:
        """Who caused what failure_exception() has raised."""


@runtime_checkable
class OpensUninitialised(Protocol):
    def uninitialised(self, plan: RoomPlan) -> Initiator:
        """A sender or reader on which init() has not been called."""


@runtime_checkable
class Works(Protocol):
    """A system with worker threads.

    The kit lets the workers go on until each of them either waits for work or stands in the fabric: a worker's second
    check of a transfer that is still PROC does not return before the kit has made its next move, so a loop that waits
    for a transfer goes round once for each call of the caller. Time is the clock of the world; nothing may sleep.
    """

    def workers(self) -> Sequence[Thread]:
        """The threads that must live as long as the system (KS-7.1)."""

    def busy(self) -> int:
        """How many workers have work. Work that is queued counts for the worker that will take it; a worker that waits
        for work does not count. Called from the caller's thread while the workers run."""

    def close(self) -> None:
        """The run is over: end the workers. The transport lets everybody go and answers with errors from now on."""


@runtime_checkable
class TakesControl(Protocol):
    """A system with a control thread, which reads what peers send over a socket of the system's own."""

    def control(self, message: bytes) -> None:
        """A peer's control message arrives, well-formed or not. Must not raise."""


@runtime_checkable
class TakesAborts(Protocol):
    """A system whose peers can say that they give a room up, and are told when nothing of it can touch their pages."""

    def target_aborts(self, plan: RoomPlan, peer: Peer) -> None:
        """The peer's message has arrived; ``plan`` is the room that it is about, which may be over. Must not raise."""


@runtime_checkable
class HidesErrors(Protocol):
    """A system whose transport answers numbers: an adapter's own fake takes an error and answers, say, -1."""

    def shown_as(self, error: BaseException) -> str:
        """The words in which the sender's failure can show this error; empty where nothing of it gets through."""


class NotificationKind(StrEnum):
    PROGRESS = "progress"
    SUCCESS = "success"
    FAILURE = "failure"
    QUIESCED = "quiesced"
    """Nothing of the room can touch the peer's pages any more."""


@dataclass(frozen=True, slots=True)
class Notification:
    """What a notification says to the peer. ``incarnation`` is None where the message does not tell."""

    kind: NotificationKind
    room: int
    incarnation: int | None = None
    reason: str = ""
    quiesced: bool = False
    """A failure that says as well that nothing of the room can touch the peer's pages any more."""


@runtime_checkable
class Notifies(Protocol):
    def read_notification(self, message: bytes) -> Notification | None:
        """Read a notification as the system's own decode side would; None for one that is about no room."""
