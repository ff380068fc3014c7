"""A holder process: the prefill side of pull, whose filled pages a reader reads once they are granted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from kvsender_nixl.buffers import Stamps
from kvsender_nixl.exchange import Grant, PeerMetadata
from kvsender_nixl.lab.memory import REQUEST, Arrays, Memory, ids, touched_bytes
from kvsender_nixl.lab.played import Played
from kvsender_nixl.lab.remote import Start

_FIRST_STAMP: Final = 10_000
"""The stamps of a process begin at a multiple of this, so that those of two processes, and of two pages, differ."""


class HolderProcess(Played):
    """One holder. No two of a run hold the same content in a page."""

    def __init__(self, start: Start) -> None:
        super().__init__(start)
        self._before: Final = Memory.filled(start.seed, REQUEST, start.num_pages).turned(start.number)
        self._memory: Final = self._before.copy()
        self._stamps: Final = Stamps(start.num_pages)
        self._stamps.values[:] = np.arange(start.num_pages, dtype=np.uint64) + np.uint64(_FIRST_STAMP * start.number)
        pool, stamps = Arrays(self._memory.regions).layout, self._stamps.layout
        for layout in (pool, stamps):
            self._ear.register_memory(layout.registrations(), layout.mem_type)
        self.metadata = PeerMetadata(start.name, self._ear.get_agent_metadata(), pool, stamps)

    def _call_nixl(self) -> None:
        self._ear.get_new_notifs()

    def grant(
        self, room: int, token: str, pages: Sequence[int], *, is_dummy: bool, required: int, regions: Sequence[int]
    ) -> Grant:
        """What a reader must be told to read the room from these pages, as they are now."""
        return Grant(
            room=room,
            token=token,
            agent_name=self.metadata.agent_name,
            dst_kv_indices=ids(pages),
            is_dummy=is_dummy,
            required_dst_info_num=required,
            stamps=self._stamps.values[ids(pages)],
            regions=tuple(regions),
        )

    def refill(self, pages: Sequence[int]) -> None:
        """Give these pages to the next request."""
        with self._stamps.refilling(ids(pages)):
            self._memory.reuse(pages)

    def touched(self, pages: Sequence[int]) -> int:
        """How many bytes outside these pages have changed."""
        return touched_bytes(self._before.regions, self._memory.regions, ids(pages))

    def reset(self) -> None:
        super().reset()
        with self._stamps.refilling(np.arange(len(self._stamps.values), dtype=np.int32)):
            self._memory.restore(self._before)
