"""The holder process of ``lab.leases``: it grants pages for a short time, and gives them away when that is over.

Every page is filled with one number, repeated, that no page has had before. So whoever reads can tell for each byte
whether it is what was granted, another prompt's, or the zeros of a withdrawn page.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

if __name__ == "__main__":
    # NIXL imports torch only to learn about CUDA, and that would be most of the start-up time of this process.
    sys.modules["torch"] = None  # type: ignore[assignment]

import numpy as np

from kvsender_nixl.agent import create_agent
from kvsender_nixl.holder import Holder
from kvsender_nixl.holding import Evidence, HolderOptions
from kvsender_nixl.lab.lease_words import (
    ASIDE_PAGES,
    NUM_PAGES,
    PAGE_BYTES,
    Counts,
    Granted,
    Means,
    Open,
    Request,
    Start,
)
from kvsender_nixl.lab.memory import ids
from kvsender_nixl.lab.process import serve
from kvsender_nixl.remapped import RemappedBuffers
from kvsender_spec.contract import KVPoll, KVUsageError

if TYPE_CHECKING:
    from nixl._api import nixl_prepped_dlist_handle, nixl_xfer_handle

    from kvsender_nixl.held import HeldRoom
    from kvsender_nixl.lab.memory import Ids

_PAGES_A_CALL: Final = 8
"""How many pages are refilled between two calls of NIXL: a refill takes its time, as the next prompt's does."""
_MOST_TRIES: Final = 100


class LeaseHolder:
    """One holder. Its reader is believed to be slow, never to be malicious."""

    def __init__(self, start: Start) -> None:
        self._means: Final = start.means
        self._random: Final = np.random.default_rng(start.seed)
        self._pool: Final = RemappedBuffers((PAGE_BYTES,), NUM_PAGES)
        self._words: Final = self._pool.arrays[0].view(np.uint64)
        self._numbers: Final = np.zeros(NUM_PAGES, np.uint64)
        self._next = 1
        self._holder: Final[Holder[nixl_prepped_dlist_handle, nixl_xfer_handle]] = Holder(
            create_agent(start.name),
            self._pool,
            HolderOptions(lease_s=30.0, reader_deadline_s=0.0),
            exports=self._pool if start.means is Means.REMAP else None,
        )
        self._ended: dict[str, tuple[HeldRoom, list[int]]] = {}
        self._rooms: dict[str, tuple[HeldRoom, Ids]] = {}
        self._leases_ended = self._refilled = self._refused = 0
        self._refill(np.arange(NUM_PAGES, dtype=np.int32))
        self.metadata = self._holder.metadata()

    def open(self, wanted: Open) -> Granted:
        """Hold pages that no other room has, and say what is in them."""
        self._holder.register_reader(wanted.reader)
        first, last = (NUM_PAGES - ASIDE_PAGES, NUM_PAGES) if wanted.aside else (0, NUM_PAGES - ASIDE_PAGES)
        for _ in range(_MOST_TRIES):
            taken = self._holder.held_pages() | self._holder.quarantined_pages() | self._holder.withdrawn_pages()
            free = [page for page in range(first, last) if page not in taken]
            pages = ids(self._random.permutation(free)[: wanted.pages].tolist())
            held = self._holder.hold(wanted.room, pages, (wanted.reader.agent_name,), lease_s=wanted.lease_s)
            grant = held.grant(wanted.reader.agent_name)
            if grant is not None:
                self._rooms[held.token] = held, pages
                return Granted(grant.to_bytes(), tuple(self._numbers[pages].tolist()))
            held.clear()  # so short a lease may be over before anything is granted
        raise RuntimeError(f"nothing was granted in {_MOST_TRIES} leases of {wanted.lease_s} s")

    def counts(self) -> Counts:
        return Counts(len(self._rooms), self._leases_ended, self._refilled, self._refused)

    def idle(self) -> None:
        """One turn of a holder's loop."""
        self._holder.drain()
        self._holder.sweep()
        for token, (held, pages) in tuple(self._rooms.items()):
            if held.poll() is KVPoll.Failed and not held.drained and token not in self._ended:
                self._leases_ended += 1
                self._ended[token] = held, self._random.permutation(pages).tolist()
            if held.drained and token not in self._ended:
                held.clear()
                del self._rooms[token]
        for token, (held, left) in tuple(self._ended.items()):
            self._give_away(held, left)
            if held.drained and (not left or self._means is Means.HOLD):
                del self._ended[token]

    def _give_away(self, held: HeldRoom, pages: list[int]) -> None:
        """The next request wants the pages of a lease that is over."""
        if self._means is Means.STAMPS:
            reader = held.readers[0]
            process = self._holder.incarnation(reader)
            assert process is not None
            self._holder.fence(reader, process, Evidence.PROCESS_REAPED)  # it is not
        for _ in range(min(_PAGES_A_CALL, len(pages))):
            try:
                self._refill(ids(pages[-1:]))
            except KVUsageError:
                self._refused += 1
                return
            self._refilled += 1
            pages.pop()

    def _refill(self, pages: Ids) -> None:
        with self._holder.refilling(pages):
            for page in pages.tolist():
                self._words[page] = self._numbers[page] = self._next
                self._next += 1


class Program:
    """What ``serve`` runs: nothing until it is started."""

    def __init__(self) -> None:
        self._holder: LeaseHolder | None = None

    def answer(self, request: Request) -> object:
        if isinstance(request, Start):
            self._holder = LeaseHolder(request)
            return self._holder.metadata
        if self._holder is None:
            raise ValueError(f"not started: {request!r}")
        if isinstance(request, Open):
            return self._holder.open(request)
        self._holder.idle()  # who asks again and again leaves no time between the requests
        return self._holder.counts()

    def idle(self) -> None:
        if self._holder is not None:
            self._holder.idle()


if __name__ == "__main__":
    program = Program()
    serve(program.answer, program.idle, 0.0002)
