"""Host memory whose exported addresses can be taken away page by page, while its owner goes on using it.

The memory is a memfd that is mapped twice: the exported addresses are registered with the agent, and the owner uses the
second mapping. To *withdraw* items, other pages (of zeros) are mapped over their exported addresses: whoever reads them
there finds zeros, and what anybody writes there is lost. The connection, and all other items, go on as before.

Where this holds. Measured with nixl 1.5.1 between two processes (``python -m kvsender_nixl.lab.leases``): over tcp,
where the owner's process copies, and over shared memory (process_vm_readv), where the reader's does: no byte of a later
refill reached a reader. It is for host memory alone: there is no such thing for CUDA memory. It is unknown for RDMA: a
registration there pins the pages that were mapped when it was made, so that withdrawing is expected to change nothing
that the network card sees, and restoring after ``renew`` to leave it with the old pages. Do not use it there.

Why ``renew``: the kernel pins the pages that it is copying, up to 4 MiB of them at a time, and a copy that has begun
ends on the old pages although others are mapped by then. So an owner does not write to the old pages of withdrawn
items: their memory is given back first, which leaves a copy that has begun the old content, and the owner new pages.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from kvsender_nixl.buffers import Layout, Region
from kvsender_spec.contract import KVUsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_READ_WRITE: Final = mmap.PROT_READ | mmap.PROT_WRITE
_MAP_FIXED: Final = 0x10
_MAP_NORESERVE: Final = 0x4000
_KEEP_SIZE: Final = 0x01
_PUNCH_HOLE: Final = 0x02
# Linux's numbers, which Python's mmap and os do not have.


class RemappedBuffers:
    """Regions of ``num_items`` items each, of ``item_bytes[r]`` bytes in region ``r``, all zeros in the beginning.

    ``item_bytes`` are whole pages of the system, or with ``huge`` whole huge pages, of which the system must have been
    given enough. ``arrays`` is the owner's view, uint8 of shape ``(num_items, item_bytes[r])`` for each region;
    ``layout`` describes the exported addresses. Both live as long as this object, which must outlive the agent's use.

    Raises KVUsageError for sizes that cannot be, and OSError where the system has no such memory. Linux only. Nothing
    here is thread-safe: ``Holder`` calls it under its lock.
    """

    def __init__(self, item_bytes: Sequence[int], num_items: int, *, huge: bool = False) -> None:
        unit = _huge_page_bytes() if huge else mmap.PAGESIZE
        if not item_bytes or num_items < 1:
            raise KVUsageError(f"{len(item_bytes)} regions of {num_items} items: there must be some")
        for region, size in enumerate(item_bytes):
            if size < 1 or size % unit:
                raise KVUsageError(f"region {region} has items of {size} bytes, which are not whole pages of {unit}")
        self._item_bytes: Final = tuple(item_bytes)
        self._num_items: Final = num_items
        self._starts: Final = [num_items * sum(item_bytes[:region]) for region in range(len(item_bytes))]
        total = num_items * sum(item_bytes)
        self._libc: Final = _libc()
        self._fd: Final = os.memfd_create("kvsender", os.MFD_CLOEXEC | (os.MFD_HUGETLB if huge else 0))
        closing = weakref.finalize(self, os.close, self._fd)
        closing.atexit = False
        os.ftruncate(self._fd, total)
        owned = np.frombuffer(mmap.mmap(self._fd, total, mmap.MAP_SHARED, _READ_WRITE), np.uint8)
        self.arrays: Final[tuple[NDArray[np.uint8], ...]] = tuple(
            owned[start : start + num_items * size].reshape(num_items, size)
            for start, size in zip(self._starts, item_bytes, strict=True)
        )
        self._address: Final = self._map(None, total, mmap.MAP_SHARED, self._fd, 0)
        unmapping = weakref.finalize(self, self._libc.munmap, ctypes.c_void_p(self._address), ctypes.c_size_t(total))
        unmapping.atexit = False  # an agent of this process may still be serving reads when the interpreter ends
        self._layout: Final = Layout(
            tuple(
                Region(self._address + start, size, num_items)
                for start, size in zip(self._starts, item_bytes, strict=True)
            )
        )

    @property
    def layout(self) -> Layout:
        """The exported addresses."""
        return self._layout

    def withdraw(self, items: NDArray[np.int32]) -> None:
        """Whoever reads these items, int32 of shape ``(n,)``, at their exported addresses finds zeros from now on.

        What the owner sees is unchanged. Raises OSError, and some of them may be withdrawn then.
        """
        for start, size in self._spans(items):
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED | _MAP_NORESERVE
            self._map(self._address + start, size, flags, -1, 0)

    def renew(self, items: NDArray[np.int32]) -> None:
        """Give these withdrawn items fresh memory, in which their owner finds zeros. Raises OSError."""
        for start, size in self._spans(items):
            mode = _PUNCH_HOLE | _KEEP_SIZE
            if self._libc.fallocate(self._fd, mode, ctypes.c_longlong(start), ctypes.c_longlong(size)) != 0:
                raise _error(f"fallocate of {size} bytes")

    def restore(self, items: NDArray[np.int32]) -> None:
        """Export these items again, with what their owner sees. Raises OSError, and some may be exported then."""
        for start, size in self._spans(items):
            self._map(self._address + start, size, mmap.MAP_SHARED | _MAP_FIXED, self._fd, start)

    def _spans(self, items: NDArray[np.int32]) -> Iterator[tuple[int, int]]:
        """The offset and the bytes of each run of items that follow each other, in every region: each run is one call
        of the system, and one mapping of which a process may have 65530."""
        ordered = np.unique(items).astype(np.int64)
        if len(ordered) and not 0 <= ordered[0] <= ordered[-1] < self._num_items:
            raise KVUsageError(f"items {ordered[0]} to {ordered[-1]}: there are {self._num_items}")
        runs = np.split(ordered, np.flatnonzero(np.diff(ordered) != 1) + 1) if len(ordered) else []
        for base, size in zip(self._starts, self._item_bytes, strict=True):
            for run in runs:
                yield base + int(run[0]) * size, len(run) * size

    def _map(self, address: int | None, size: int, flags: int, fd: int, offset: int) -> int:
        found = self._libc.mmap(
            ctypes.c_void_p(address), ctypes.c_size_t(size), _READ_WRITE, flags, fd, ctypes.c_longlong(offset)
        )
        mapped: int | None = found
        if mapped is None or mapped == ctypes.c_void_p(-1).value:
            raise _error(f"mmap of {size} bytes")
        return mapped


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    return libc


def _error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")


def _huge_page_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("Hugepagesize:"):
            return int(line.split()[1]) * 1024
    raise KVUsageError("this system has no huge pages")
