"""The decode side, which reads what prefill sides hold and have granted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from kvsender_nixl.agent import TRANSPORT_ERRORS
from kvsender_nixl.buffers import Stamps
from kvsender_nixl.evidence import Look
from kvsender_nixl.front import Front
from kvsender_nixl.peers import Spawn, spawn_daemon
from kvsender_nixl.reader import KVReader
from kvsender_nixl.side import SenderOptions
from kvsender_nixl.witness import gone
from kvsender_spec.contract import Clock, DlistT, HandleT, KVUsageError, Transport

if TYPE_CHECKING:
    from kvsender_nixl.buffers import Buffers
    from kvsender_nixl.exchange import TransferInfo

MOST_HOLDERS: Final = 8
"""How many holders a room may have: each has slots of its own for its stamps."""


class PullDecode(Front[DlistT, HandleT]):
    """Makes a reader for each room. ``Front`` says what it takes, and what else it offers.

    A holder registers with ``PeerMetadata`` whose ``aux`` are its stamps (``Stamps``), and grants a room with a
    ``Grant``.
    """

    def __init__(
        self,
        agent: Transport[DlistT, HandleT],
        pool: Buffers,
        options: SenderOptions | None = None,
        *,
        clock: Clock = time.monotonic,
        transport_errors: tuple[type[Exception], ...] = TRANSPORT_ERRORS,
        spawn: Spawn = spawn_daemon,
        look: Look = gone,
    ) -> None:
        self._stamps: Final = Stamps(MOST_HOLDERS * pool.layout.num_items)
        super().__init__(
            agent, pool, self._stamps, options, clock=clock, transport_errors=transport_errors, spawn=spawn, look=look
        )

    def add_transfer_info(self, info: TransferInfo) -> None:
        """A holder grants a room. Raises KVUsageError, as ``Front`` does, and for more holders than MOST_HOLDERS."""
        if info.required_dst_info_num > MOST_HOLDERS:
            raise KVUsageError(f"room {info.room} has {info.required_dst_info_num} holders, of at most {MOST_HOLDERS}")
        super().add_transfer_info(info)

    def reader(self, room: int) -> KVReader[DlistT, HandleT]:
        """The reader of a room, before or after it is granted. Sweeps a little.

        Raises KVUsageError while an earlier reader of this room is neither over nor cleared, and after ``close``.
        """
        return self._bind(room, lambda entry: KVReader(self._side, entry, self._stamps))
