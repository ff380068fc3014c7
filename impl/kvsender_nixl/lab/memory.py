"""The bytes that travel in the lab, so that every one of them can be told apart. Needs no torch.

Both sides make the caller's bytes from a seed, so nothing has to be sent to be compared with. Three kinds of bytes
never look alike: the data of one request, that of the next request which reuses the page, and what a peer's memory held
before. So a late write shows not only that bytes landed, but whose they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from kvsender_nixl.buffers import Layout, Region

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes: TypeAlias = NDArray[np.uint8]
    Ids: TypeAlias = NDArray[np.int32]

LAYERS: Final = 2
K_BYTES: Final = 10 * 1024
V_BYTES: Final = 6 * 1024
PAGE_BYTES: Final = LAYERS * (K_BYTES + V_BYTES)
"""32 KiB, so that 512 pages are more than the sockets between two processes hold."""
NUM_PAGES: Final = 1024
NUM_SLOTS: Final = 16
AUX_BYTES: Final = (96, 8)

REQUEST: Final = 0
NEXT_REQUEST: Final = 64
BEFORE: Final = 128
"""The lowest byte of each kind; each kind has 64 values."""
SHAPES: Final = (*(K_BYTES,) * LAYERS, *(V_BYTES,) * LAYERS)


class Memory:
    """One side's pool and aux buffers: ``regions`` and ``slots`` are arrays of shape (items, bytes)."""

    def __init__(self, regions: Sequence[Bytes], slots: Sequence[Bytes]) -> None:
        self.regions: Final = tuple(regions)
        self.slots: Final = tuple(slots)

    @staticmethod
    def filled(seed: int, kind: int, num_pages: int = NUM_PAGES) -> Memory:
        """Filled with bytes of one kind, the same for the same seed."""
        random = np.random.default_rng((seed, kind))

        def items(count: int, size: int) -> Bytes:
            return random.integers(kind, kind + 64, size=(count, size), dtype=np.uint8)

        return Memory([items(num_pages, size) for size in SHAPES], [items(NUM_SLOTS, size) for size in AUX_BYTES])

    def turned(self, by: int) -> Memory:
        """A copy whose page ``n`` has the content of page ``n + by``, and the last ones that of the first ones."""
        return Memory([np.roll(region, -by, axis=0) for region in self.regions], [slot.copy() for slot in self.slots])

    def copy(self) -> Memory:
        return Memory([region.copy() for region in self.regions], [slot.copy() for slot in self.slots])

    def restore(self, other: Memory) -> None:
        for mine, theirs in zip((*self.regions, *self.slots), (*other.regions, *other.slots), strict=True):
            mine[:] = theirs

    def reuse(self, pages: Sequence[int]) -> None:
        """What the owner does to pages that it believes to be free: the next request's data goes into them."""
        for region in self.regions:
            region[np.array(pages, np.int64)] |= NEXT_REQUEST


class Arrays:
    """Buffers of plain arrays, one for each region."""

    def __init__(self, arrays: Sequence[Bytes]) -> None:
        self._arrays: Final = tuple(arrays)
        self.layout: Final = Layout(tuple(Region(a.ctypes.data, a.shape[1], a.shape[0]) for a in arrays))


@dataclass(frozen=True, slots=True)
class Tally:
    """How many bytes of some pages are of which kind."""

    request: int
    next_request: int
    before: int

    @property
    def landed(self) -> int:
        return self.request + self.next_request


def tally(memory: Memory, pages: Ids, regions: Sequence[int] = ()) -> Tally:
    """Count the bytes of these pages in every region, or in some."""
    request = next_request = total = 0
    for region in [memory.regions[number] for number in regions] or memory.regions:
        # A copy: the bytes may change while they are counted, and the three counts are to add up.
        rows = region[pages]
        request += int(np.count_nonzero(rows < NEXT_REQUEST))
        next_request += int(np.count_nonzero((rows >= NEXT_REQUEST) & (rows < BEFORE)))
        total += rows.size
    return Tally(request, next_request, total - request - next_request)


def wrong_bytes(ours: Sequence[Bytes], theirs: Sequence[Bytes], source: Ids, target: Ids) -> int:
    """How many bytes of the target items, in ``theirs``, differ from those of the source items that they come from."""
    return sum(int(np.count_nonzero(a[source] != b[target])) for a, b in zip(ours, theirs, strict=True))


def ids(values: Sequence[int]) -> Ids:
    return np.array(values, np.int32)


def touched_bytes(before: Sequence[Bytes], now: Sequence[Bytes], written: Ids) -> int:
    """How many bytes outside the items that may have been written are not what they were."""
    spared = np.ones(len(now[0]), dtype=np.bool_)
    spared[written] = False
    return sum(int(np.count_nonzero(a[spared] != b[spared])) for a, b in zip(before, now, strict=True))
