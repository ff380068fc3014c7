"""One room's sender: SGLang's ``BaseKVSender``, on NIXL. It initiates WRITEs."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from kvsender_nixl.chunks import misfit
from kvsender_nixl.initiator import Initiator
from kvsender_nixl.making import PeerUnusable, make_chunk
from kvsender_nixl.side import KVTransferMetric, SenderOptions
from kvsender_spec.contract import DlistT, HandleT

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kvsender_nixl.chunks import Announcement, Route
    from kvsender_nixl.exchange import TransferInfo
    from kvsender_nixl.making import Chunk, Refusal
    from kvsender_nixl.transfers import Transfer

__all__ = ["KVSender", "KVTransferMetric", "PeerUnusable", "SenderOptions"]


class KVSender(Initiator[DlistT, HandleT]):
    """Sends one room's pages to all its peers. Made by ``Prefill.sender``; ``Initiator`` says what it promises."""

    hands_over: ClassVar[str] = "send"
    tells_chunks: ClassVar[bool] = True

    @staticmethod
    def should_send_kv_chunk(num_pages: int, last_chunk: bool) -> bool:
        """A last chunk is sent even when it has no pages, because it concludes the room (KS-3.2)."""
        return num_pages > 0 or last_chunk

    def send(self, kv_indices: NDArray[np.int32] | NDArray[np.int64]) -> None:
        """Post the next chunk: the page ids that hold it, int32 or int64 of shape ``(num_pages,)``.

        The chunk that reaches the announced number is the last one and takes the aux data along. Returns when the
        transport has accepted the transfers, not when they are complete; does nothing after the end of the room.
        Raises KVUsageError (KS-8.1).
        """
        self._hand_over(kv_indices)

    def _misfit(self, info: TransferInfo, announced: Announcement) -> str | None:
        return misfit(info, announced)

    def _make(self, made: list[Transfer[HandleT]], routes: list[Route[DlistT]], chunk: Chunk) -> Refusal | None:
        return make_chunk(made, self._side, routes, chunk)
