"""What a system under test is built on: memory with real addresses, a clock, peers, and where a room goes."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from random import Random
from typing import Final

from kvsender_spec.kit.scripted.fabric import Fabric, ScriptedAgent

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
