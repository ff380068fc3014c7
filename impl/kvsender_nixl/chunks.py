"""Which pages of a room were announced and sent, and whether what a peer offers fits them."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, SupportsIndex

import numpy as np

from kvsender_spec.contract import DlistT, KVUsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kvsender_nixl.buffers import Layout
    from kvsender_nixl.exchange import PeerMetadata, TransferInfo
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
        self._sent: set[int] = set()
        """The pages of the chunks so far; those of the last chunk are not added."""

    @property
    def exhausted(self) -> bool:
        return self.cursor == self.num_kv_indices

    def accept(self, kv_indices: NDArray[np.int32] | NDArray[np.int64]) -> NDArray[np.int32]:
        """A copy of the chunk's page ids, shape ``(n,)``; from now on they count as sent.

        Raises KVUsageError and changes nothing when they are not new pages of the pool within the announced number.
        This is on the path of every send, where chunks are short and caches cold. Sets of ints beat numpy there: a
        reduction over sixteen pages costs as much as one over a thousand.
        """
        _require_ids(kv_indices)
        pages = kv_indices.tolist()
        total = self.cursor + len(pages)
        if total > self.num_kv_indices:
            raise KVUsageError(f"{len(pages)} pages after {self.cursor}, but {self.num_kv_indices} were announced")
        if pages:
            if min(pages) < 0 or max(pages) >= self._num_pages:
                stray = next(page for page in pages if not 0 <= page < self._num_pages)
                raise KVUsageError(f"page {stray} is not in the pool, which has {self._num_pages}")
            new = set(pages)
            if len(new) != len(pages):
                twice = next(page for page in pages if pages.count(page) > 1)
                raise KVUsageError(f"page {twice} is named twice in one chunk")
            if not self._sent.isdisjoint(new):
                raise KVUsageError(f"page {min(self._sent & new)} was sent before in this room")
            if total < self.num_kv_indices:
                self._sent |= new
        self.cursor = total
        return kv_indices.astype(np.int32)


@dataclass(frozen=True, slots=True)
class Route(Generic[DlistT]):
    """Where one peer wants the room, and the connection that leads there: the same one for all chunks."""

    info: TransferInfo
    connection: Connection[DlistT]


def misfit(info: TransferInfo, announced: Announcement) -> str | None:
    """Why what a peer offers is not what the room needs, or None."""
    count = len(info.dst_kv_indices)
    if count != announced.num_kv_indices:
        return f"offers {count} pages for {announced.num_kv_indices}"
    if announced.aux_index is not None and info.dst_aux_index is None:
        return "offers no aux slot"
    return None


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
