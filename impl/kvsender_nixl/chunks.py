"""Which pages of a room were announced and sent, and whether what a peer offers fits them."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, SupportsIndex

import numpy as np

from kvsender_nixl.exchange import Grant, TransferInfo
from kvsender_spec.contract import DlistT, KVUsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kvsender_nixl.buffers import Layout
    from kvsender_nixl.exchange import PeerMetadata
    from kvsender_nixl.peers import Connection

INDEX_DTYPES: Final = (np.dtype(np.int32), np.dtype(np.int64))


class Announcement:
    """What ``init`` has announced: ``num_kv_indices`` pages of a pool, each of them once, and perhaps an aux slot.

    Raises KVUsageError for numbers that the pool or the aux buffers cannot have (KS-8.1).
    """

    __slots__ = ("_num_pages", "_sent", "aux_index", "cursor", "num_kv_indices")

    def __init__(self, num_kv_indices: SupportsIndex, aux_index: SupportsIndex | None, kv: Layout, aux: Layout | None):
        count = _index("num_kv_indices", num_kv_indices)
        if not 0 <= count <= kv.num_items:
            raise KVUsageError(f"num_kv_indices is {count}: the pool has {kv.num_items} pages")
        slot = None if aux_index is None else _index("aux_index", aux_index)
        num_slots = 0 if aux is None else aux.num_items
        if slot is not None and not 0 <= slot < num_slots:
            raise KVUsageError(f"aux_index is {slot}: there are {num_slots} aux slots")
        self.num_kv_indices = count
        self.aux_index = slot
        self.cursor = 0
        """How many pages were accepted."""
        self._num_pages = kv.num_items
        self._sent: NDArray[np.bool_] | None = None
        """Which pages of the pool have been sent; made when a chunk follows another, and lazily backed by memory."""

    @property
    def exhausted(self) -> bool:
        return self.cursor == self.num_kv_indices

    def accept(self, kv_indices: NDArray[np.int32] | NDArray[np.int64]) -> NDArray[np.int32]:
        """A copy of the chunk's page ids, shape ``(n,)``; from now on they count as sent.

        Raises KVUsageError and changes nothing when they are not new pages of the pool within the announced number.
        Nothing here loops over pages in Python: this is on the path of every send, and chunks may have thousands.
        """
        _require_ids(kv_indices)
        count = len(kv_indices)
        total = self.cursor + count
        if total > self.num_kv_indices:
            raise KVUsageError(f"{count} pages after {self.cursor}, but {self.num_kv_indices} were announced")
        if count:
            self._require_new(kv_indices)
            if total < self.num_kv_indices:
                if self._sent is None:
                    self._sent = np.zeros(self._num_pages, np.bool_)
                self._sent[kv_indices] = True
        self.cursor = total
        return kv_indices.astype(np.int32)

    def _require_new(self, kv_indices: NDArray[np.int32] | NDArray[np.int64]) -> None:
        ordered = kv_indices.copy()
        ordered.sort()
        if ordered[0] < 0 or ordered[-1] >= self._num_pages:
            stray = ordered[0] if ordered[0] < 0 else ordered[-1]
            raise KVUsageError(f"page {stray} is not in the pool, which has {self._num_pages}")
        if np.count_nonzero(ordered[1:] == ordered[:-1]):
            twice = ordered[1:][ordered[1:] == ordered[:-1]][0]
            raise KVUsageError(f"page {twice} is named twice in one chunk")
        if self._sent is not None and np.count_nonzero(self._sent[kv_indices]):
            again = kv_indices[self._sent[kv_indices]][0]
            raise KVUsageError(f"page {again} was sent before in this room")


@dataclass(frozen=True, slots=True)
class Route(Generic[DlistT]):
    """Where one peer wants the room, and the connection that leads there: the same one for all chunks."""

    info: TransferInfo
    connection: Connection[DlistT]


def misfit(info: TransferInfo, announced: Announcement) -> str | None:
    """Why what a peer offers is not what the room needs, or None."""
    count = info.num_cached + len(info.dst_kv_indices)
    if count != announced.num_kv_indices:
        cached = f" beside the {info.num_cached} that it has" if info.num_cached else ""
        return f"offers {len(info.dst_kv_indices)} pages{cached} for {announced.num_kv_indices}"
    if announced.aux_index is not None and info.dst_aux_index is None:
        return "offers no aux slot"
    return None


def grant_misfit(info: TransferInfo, announced: Announcement, regions: int) -> str | None:
    """Why what a holder grants is not what a room of a pool with so many regions reads, or None."""
    if not isinstance(info, Grant):
        return "asks for pages, and grants none"
    count = len(info.dst_kv_indices)
    if count < announced.num_kv_indices:
        return f"grants {count} pages for {announced.num_kv_indices}"
    last = max(info.regions, default=0)
    return f"grants region {last}, and there are {regions}" if last >= regions else None


def out_of_range(info: TransferInfo, remote: PeerMetadata) -> str | None:
    """Which page or slot of ``info`` the peer does not have, or None."""
    pages = info.dst_kv_indices
    if len(pages) and not 0 <= pages.min() <= pages.max() < remote.num_pages:
        return f"offers pages {pages.min()} to {pages.max()}, and has {remote.num_pages}"
    if info.dst_aux_index is not None and not 0 <= info.dst_aux_index < remote.num_aux_slots:
        return f"offers aux slot {info.dst_aux_index}, and has {remote.num_aux_slots}"
    return None


def _index(name: str, value: SupportsIndex) -> int:
    if isinstance(value, bool):
        raise KVUsageError(f"{name} is {value}")
    try:
        return operator.index(value)
    except TypeError:
        raise KVUsageError(f"{name} is {value!r}, not an integer") from None


def _require_ids(value: object) -> None:
    if not isinstance(value, np.ndarray):
        raise KVUsageError(f"kv_indices must be a numpy array of int32 or int64, not {type(value).__name__}")
    if value.dtype not in INDEX_DTYPES or value.ndim != 1:
        raise KVUsageError(f"kv_indices must be int32 or int64 of shape (n,), not {value.dtype} of {value.shape}")
