"""One room's reader: what vLLM's pull connector is to one request, on NIXL. It initiates READs.

What the sender promises of the pages that it reads, the reader promises of those that it writes: a READ in flight is a
writer into this side's own pages, and only DONE ends it (KS-4.1).

DONE says that all bytes are here, and not that they are those that were granted: the holder may have refilled its pages
meanwhile. So the reader reads the stamps of what it was granted after its data, in READs of their own, and Success
needs both (KS-3.1). A stamp that is read before the data, or with them in one list, proves nothing: NIXL promises no
order of the descriptors of one transfer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from kvsender_nixl.chunks import grant_misfit
from kvsender_nixl.initiator import Initiator
from kvsender_nixl.making import granted, make_reads, make_stamp_reads, stamp_slots
from kvsender_spec.contract import Attribution, DlistT, HandleT, KVPoll

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kvsender_nixl.buffers import Stamps
    from kvsender_nixl.chunks import Announcement, Route
    from kvsender_nixl.exchange import TransferInfo
    from kvsender_nixl.making import Chunk, Refusal
    from kvsender_nixl.rooms import Room
    from kvsender_nixl.side import Side
    from kvsender_nixl.transfers import Transfer


class GrantEnded(Exception):
    """A holder has given pages that it had granted to another request; the message names it and a page."""


class KVReader(Initiator[DlistT, HandleT]):
    """Reads one room's pages from all its holders. Made by ``PullDecode.reader``; ``Initiator`` says what it promises.

    The pages that were read are valid when poll() has answered Success, and only then.
    """

    hands_over: ClassVar[str] = "read"
    tells_chunks: ClassVar[bool] = False

    def __init__(self, side: Side[DlistT, HandleT], room: Room, stamps: Stamps) -> None:
        super().__init__(side, room)
        self._stamps: Final = stamps  # where this side keeps the stamps that it reads
        self._read: list[NDArray[np.int32]] = []
        self._looked = False  # the stamps are asked for

    def read(self, kv_indices: NDArray[np.int32] | NDArray[np.int64]) -> None:
        """Read the next chunk into these page ids, int32 or int64 of shape ``(num_pages,)``.

        The chunk that reaches the announced number is the last one. Returns when the transport has accepted the READs,
        not when they are complete; does nothing after the end of the room. Raises KVUsageError (KS-8.1).
        """
        self._hand_over(kv_indices)

    def _misfit(self, info: TransferInfo, announced: Announcement) -> str | None:
        return grant_misfit(info, announced, len(self._side.kv.regions))

    def _make(self, made: list[Transfer[HandleT]], routes: list[Route[DlistT]], chunk: Chunk) -> Refusal | None:
        announced = self._announced
        assert announced is not None
        self._read.append(chunk.pages)
        return make_reads(made, self._side, routes, chunk, announced.num_kv_indices)

    def _concluded(self) -> KVPoll:
        """The data are here: ask for the stamps. The stamps are here: compare them with the grants."""
        routes, pages = self._routes or [], np.concatenate(self._read or [np.empty(0, np.int32)])
        if len(pages) and not self._looked:
            self._looked = True
            if not self._make_and_post(routes, lambda made: make_stamp_reads(made, self._side, routes, pages)):
                return self._poll_failed()
            if self._in_flight:
                return KVPoll.Transferring
            self._release_settled()  # over shared memory the post itself may answer DONE
        why = self._refilled(routes, pages)
        if why is None:
            return self._complete()
        self._fault(GrantEnded(why), Attribution.PEER)
        return self._poll_failed()

    def _refilled(self, routes: list[Route[DlistT]], pages: NDArray[np.int32]) -> str | None:
        """Which holder has refilled which page, or None."""
        for number, route in enumerate(routes):
            grant = granted(route)
            first = len(grant.stamps) - len(pages)
            other = np.flatnonzero(self._stamps.values[stamp_slots(self._side, number, pages)] != grant.stamps[first:])
            if len(other):
                return f"{grant.agent_name!r} has refilled its page {grant.dst_kv_indices[first + other[0]]}"
        return None
