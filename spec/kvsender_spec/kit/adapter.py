"""What the kit gives to an adapter, and what it wants back.

An adapter builds a *system*: one prefill side with its shared tables, on the kit's transport, clock and memory. The
system then makes a sender for each room. What a system can do beyond that it shows by defining the method of one of
the small protocols below; a clause that needs a method nobody defined is "not applicable", never passed.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from threading import Thread
from typing import Final, Protocol, TypeAlias, runtime_checkable

from kvsender_spec.contract import Attribution, Initiator, Operation, Reader, Sender
from kvsender_spec.kit.scripted.fabric import Fabric, ScriptedAgent
from kvsender_spec.machine import Profile

MOST_ROOMS: Final = 3
"""How many rooms a setup can have."""
MOST_REOPENINGS: Final = 2
"""How often room ids come back in one run."""
ROOM_PAGES: Final = 8
"""How many pages a room can have."""
NUM_PAGES: Final = (MOST_ROOMS + MOST_REOPENINGS) * ROOM_PAGES
NUM_AUX_SLOTS: Final = MOST_ROOMS + MOST_REOPENINGS + 1
"""Each room that is opened has pages and an aux slot of its own at the peers, so that whose transfer it is shows."""


class Memory:
    """One side's KV pool and aux buffers, owned by the kit so that it can compare bytes.

    ``kv`` holds one bytearray per region (K and V of each layer in turn), each NUM_PAGES pages of the region's own page
    size; ``aux`` one bytearray of NUM_AUX_SLOTS slots. Real addresses: ``address(region)``.

    ``stamps`` is what a holder of granted pages keeps beside them, registered like them: for each page a little-endian
    integer of STAMP_BYTES. The holder raises a page's stamp before it puts other content there, and again when that is
    done. So a reader that finds the granted stamp after its data has the granted data.
    """

    PAGE_BYTES: Final = (16, 16, 24, 24)
    AUX_BYTES: Final = (8,)
    STAMP_BYTES: Final = 8

    def __init__(self, filled: bool) -> None:
        self.kv = tuple(bytearray(size * NUM_PAGES) for size in self.PAGE_BYTES)
        self.aux = tuple(bytearray(size * NUM_AUX_SLOTS) for size in self.AUX_BYTES)
        self.stamps = bytearray(self.STAMP_BYTES * NUM_PAGES)
        if filled:
            for region, content in zip(self.kv + self.aux, _CONTENTS, strict=True):
                region[:] = content
        every = (*self.kv, *self.aux, self.stamps)
        self._addresses = {id(r): ctypes.addressof(ctypes.c_char.from_buffer(r)) for r in every}

    def address(self, region: bytearray) -> int:
        return self._addresses[id(region)]

    def page(self, region: int, page: int) -> bytes:
        size = self.PAGE_BYTES[region]
        return bytes(self.kv[region][page * size : (page + 1) * size])

    def stamp(self, page: int) -> int:
        """The stamp that the page has now."""
        return int.from_bytes(self._stamp_bytes(page), "little")

    def _stamp_bytes(self, page: int) -> bytes:
        first = page * self.STAMP_BYTES
        return bytes(self.stamps[first : first + self.STAMP_BYTES])

    def set_stamp(self, page: int, stamp: int) -> None:
        first = page * self.STAMP_BYTES
        self.stamps[first : first + self.STAMP_BYTES] = stamp.to_bytes(self.STAMP_BYTES, "little")

    def refill(self, page: int, *, whole: bool = True) -> None:
        """Give the page to another request, as a holder does; not ``whole``: it stops in the middle."""
        self.set_stamp(page, self.stamp(page) + 1)
        for region, size in zip(self.kv, self.PAGE_BYTES, strict=True):
            first, count = page * size, size if whole else size // 2
            region[first : first + count] = bytes(byte ^ 0xFF for byte in region[first : first + count])
        if whole:
            self.set_stamp(page, self.stamp(page) + 1)

    def slot(self, index: int) -> bytes:
        size = self.AUX_BYTES[0]
        return bytes(self.aux[0][index * size : (index + 1) * size])


def _contents() -> tuple[bytes, ...]:
    """Bytes that are never zero, random so that no page or slot looks like another one, and the same each time."""
    generator = Random(24296)
    lengths = [size * NUM_PAGES for size in Memory.PAGE_BYTES] + [size * NUM_AUX_SLOTS for size in Memory.AUX_BYTES]
    return tuple(bytes(generator.randrange(1, 256) for _ in range(length)) for length in lengths)


_CONTENTS: Final = _contents()


class ManualClock:
    """Seconds that pass only when the kit says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass(slots=True)
class Peer:
    """One decode side, or with READs one prefill side. ``agent`` changes when it restarts; ``generation`` counts them.

    One that comes back under another name (``TakesNewNames``) is another Peer.
    """

    name: str
    agent: ScriptedAgent
    memory: Memory
    generation: int = 0


@dataclass(frozen=True, slots=True)
class Destination:
    """Where one peer wants one room. A dummy peer takes part and receives nothing.

    Where the system takes parts (``TakesParts``) a peer may name fewer pages than the room has: it has the first ones
    already, and wants the last.

    Of a reader's room it is a *grant*: the pages in which the peer holds the room's content, and the stamp that each of
    them had then (``Memory.stamps``). A holder holds its ``regions`` only, as a rank of pipeline parallelism its
    layers. There are no aux data. Where the system takes parts it may grant more pages than the room has: the reader
    has the content of the first ones already, and wants the last.
    """

    peer: Peer
    pages: tuple[int, ...]
    aux_index: int
    dummy: bool
    regions: tuple[int, ...] = tuple(range(len(Memory.PAGE_BYTES)))
    stamps: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class RoomPlan:
    """One room to open. ``incarnation`` is unique in a run, ``room`` is not: ids are reused."""

    room: int
    incarnation: int
    num_pages: int
    aux_index: int
    destinations: tuple[Destination, ...]


@dataclass(frozen=True, slots=True)
class World:
    """What a system is built on."""

    fabric: Fabric
    transport: ScriptedAgent
    clock: ManualClock
    memory: Memory
    peers: tuple[Peer, ...]
    transfer_timeout_s: float = 30.0
    drain_timeout_s: float = 5.0


class System(Protocol):
    """One prefill side under test."""

    def sender(self, plan: RoomPlan) -> Sender:
        """A sender on which the caller has called init() and which knows its destinations."""


class ReaderSystem(Protocol):
    """One decode side under test, whose readers initiate READs."""

    def reader(self, plan: RoomPlan) -> Reader:
        """A reader on which the caller has called init() and which knows what it was granted."""


AnySystem: TypeAlias = System | ReaderSystem


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
