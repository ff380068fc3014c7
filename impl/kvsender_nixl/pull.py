"""The decode side, which reads what prefill sides hold and have granted."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

from kvsender_nixl.agent import TRANSPORT_ERRORS
from kvsender_nixl.buffers import Stamps
from kvsender_nixl.evidence import Look
from kvsender_nixl.exchange import Grant, PeerMetadata
from kvsender_nixl.front import SWEEP_LIMIT, Front
from kvsender_nixl.notifications import FailureNotification
from kvsender_nixl.peers import Spawn, spawn_daemon
from kvsender_nixl.reader import KVReader
from kvsender_nixl.renewing import Renewals
from kvsender_nixl.side import READER_DEADLINE_S, SenderOptions
from kvsender_nixl.witness import gone
from kvsender_spec.contract import Clock, DlistT, HandleT, KVUsageError, Transport

if TYPE_CHECKING:
    from kvsender_nixl.buffers import Buffers
    from kvsender_nixl.exchange import TransferInfo

logger = logging.getLogger(__name__)

MOST_HOLDERS: Final = 8
"""How many holders a room may have: each has slots of its own for its stamps."""


class PullDecode(Front[DlistT, HandleT]):
    """Makes a reader for each room. ``Front`` says what it takes, and what else it offers.

    A holder registers with ``PeerMetadata`` whose ``aux`` are its stamps (``Stamps``), and grants a room with a
    ``Grant``. It has to be sent ``metadata()``, before anything else, where it is to say that a lease has ended.
    Where no ``options`` are given, a transfer may be in flight for ``READER_DEADLINE_S``.
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
        options = SenderOptions(transfer_timeout_s=READER_DEADLINE_S) if options is None else options
        super().__init__(
            agent, pool, self._stamps, options, clock=clock, transport_errors=transport_errors, spawn=spawn, look=look
        )
        self._renewals: Final[Renewals[DlistT, HandleT]] = Renewals(
            agent, transport_errors, clock, self._rooms, self._peers
        )

    def metadata(self) -> PeerMetadata:
        """What a holder needs in order to reach this side; the same until something else is registered."""
        return PeerMetadata(self._agent.name, self._agent.get_agent_metadata(), self._side.kv, self._side.aux)

    def add_transfer_info(self, info: TransferInfo) -> None:
        """A holder grants a room.

        Raises KVUsageError, as ``Front`` does, for more holders than MOST_HOLDERS, and for a lease that is not longer
        than a transfer of this side may be in flight. A holder whose lease is refused is told that the room is over.
        """
        if info.required_dst_info_num > MOST_HOLDERS:
            raise KVUsageError(f"room {info.room} has {info.required_dst_info_num} holders, of at most {MOST_HOLDERS}")
        limit_s = self._options.transfer_timeout_s
        if isinstance(info, Grant) and info.lease_s is not None and not info.lease_s > limit_s:
            why = f"a lease of {info.lease_s} s is not longer than the {limit_s} s that a transfer may take here"
            self._refuse(info, why)
            raise KVUsageError(f"room {info.room}: {why}")
        super().add_transfer_info(info)
        if isinstance(info, Grant):
            self._renewals.granted(info)

    def _refuse(self, grant: Grant, why: str) -> None:
        """Nothing of the room is read, so its holder must not wait for an end."""
        try:
            self._agent.send_notif(grant.agent_name, FailureNotification(grant.room, grant.token, True, why).to_bytes())
        except self._errors as error:
            logger.warning("holder %r could not be told that %s: %r", grant.agent_name, why, error)

    def sweep(self, limit: int = SWEEP_LIMIT) -> int:
        """What ``Front.sweep`` does; and renew the leases of the live rooms when it is time. So it has to be called
        several times during the shortest lease."""
        left = super().sweep(limit)
        self._renewals.sweep()
        return left

    def reader(self, room: int) -> KVReader[DlistT, HandleT]:
        """The reader of a room, before or after it is granted. Sweeps a little.

        Raises KVUsageError while an earlier reader of this room is neither over nor cleared, and after ``close``.
        """
        return self._bind(room, lambda entry: KVReader(self._side, entry, self._stamps))
