"""The heartbeats of a reading side: it tells each holder which of its rooms it still wants, so that their leases go on.

A heartbeat that is lost is followed by the next one, so none is kept or repeated. A holder that has no such lease any
more answers ``LeaseLost``.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final, Generic

from kvsender_nixl.exchange import Grant
from kvsender_nixl.notifications import MOST_RENEWED, RenewNotification
from kvsender_nixl.side import NEVER
from kvsender_spec.contract import Clock, DlistT, HandleT, Transport

if TYPE_CHECKING:
    from kvsender_nixl.peers import Peers
    from kvsender_nixl.rooms import Rooms

logger = logging.getLogger(__name__)

RENEWALS_PER_LEASE: Final = 6
"""So that a lease outlives several heartbeats that do not arrive."""


class Renewals(Generic[DlistT, HandleT]):
    """Every method may be called from any thread. Nothing is sent but in ``sweep``."""

    def __init__(
        self,
        transport: Transport[DlistT, HandleT],
        errors: tuple[type[Exception], ...],
        clock: Clock,
        rooms: Rooms,
        peers: Peers[DlistT, HandleT],
    ) -> None:
        self._transport: Final = transport
        self._errors: Final = errors
        self._clock: Final = clock
        self._rooms: Final = rooms
        self._peers: Final = peers
        self._lock = threading.Lock()
        self._due = NEVER

    def granted(self, grant: Grant) -> None:
        """A room has a lease from now on: the next heartbeat must come in time for it."""
        if grant.lease_s is not None:
            with self._lock:
                self._due = min(self._due, self._clock() + grant.lease_s / RENEWALS_PER_LEASE)

    def sweep(self) -> None:
        """When it is time, tell each holder about all live rooms that it has granted: one message for each
        ``MOST_RENEWED`` of them. Never raises an error of the transport."""
        now = self._clock()
        with self._lock:
            if now < self._due:
                return
            wanted: dict[str, list[tuple[int, str]]] = {}
            shortest = NEVER
            for grant in self._leased():
                assert grant.lease_s is not None
                wanted.setdefault(grant.agent_name, []).append((grant.room, grant.token))
                shortest = min(shortest, grant.lease_s)
            self._due = now + shortest / RENEWALS_PER_LEASE
        for holder, rooms in wanted.items():
            for first in range(0, len(rooms), MOST_RENEWED):
                self._tell(holder, RenewNotification(tuple(rooms[first : first + MOST_RENEWED])))

    def _leased(self) -> list[Grant]:
        return [
            info
            for room in self._rooms.entries()
            if room.sender is None or room.sender.live
            for info in tuple(room.infos.values())
            if isinstance(info, Grant) and info.lease_s is not None and not info.is_dummy
        ]

    def _tell(self, holder: str, renewal: RenewNotification) -> None:
        try:
            self._transport.send_notif(holder, renewal.to_bytes())
        except self._errors as error:
            self._peers.blame(error, holder, None)
            logger.info("the leases of %d rooms could not be renewed at %r: %r", len(renewal.rooms), holder, error)
