"""What an initiator answers to a peer that asks how a room stands, or that gives one up which is not here."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, Generic

from kvsender_nixl.notifications import StateNotification
from kvsender_nixl.status import AbortRequest, StatusRequest
from kvsender_spec.contract import Clock, DlistT, HandleT, Transport

if TYPE_CHECKING:
    from kvsender_nixl.ends import Ends
    from kvsender_nixl.peers import Peers
    from kvsender_nixl.rooms import Rooms

logger = logging.getLogger(__name__)


class Answers(Generic[DlistT, HandleT]):
    """Nothing is kept of what could not be answered: whoever asked asks again. No method raises an Exception."""

    def __init__(
        self,
        transport: Transport[DlistT, HandleT],
        errors: tuple[type[Exception], ...],
        clock: Clock,
        peers: Peers[DlistT, HandleT],
        rooms: Rooms,
        ends: Ends,
        *,
        incarnation: str,
        refused_for_s: float,
    ) -> None:
        self._transport: Final = transport
        self._errors: Final = errors
        self._clock: Final = clock
        self._peers: Final = peers
        self._rooms: Final = rooms
        self._ends: Final = ends
        self._incarnation: Final = incarnation
        self._refused_for_s: Final = refused_for_s

    def status(self, request: StatusRequest) -> None:
        """Repeat how the room has ended, or say that it goes on, or that it is unknown."""
        peer, token = request.agent_name, request.token
        if self._rooms.goes_on(peer, token):
            self._send(peer, StateNotification(request.room, token, self._incarnation, True).to_bytes())
        elif (end := self._ends.of(peer, token)) is None:
            self._unknown(request.abort, given_up=request.given_up)
        else:
            for message in end.messages():
                if not self._send(peer, message):
                    return

    def given_up(self, request: AbortRequest) -> None:
        """A peer gives up a room. One that is here answers by its end, and one that has ended has told it."""
        peer, token = request.agent_name, request.token
        if not self._rooms.goes_on(peer, token) and self._ends.of(peer, token) is None:
            self._unknown(request, given_up=True)

    def _unknown(self, request: AbortRequest, *, given_up: bool) -> None:
        """Said of a room that the peer has given up only where it can be kept from being opened later."""
        peer, token = request.agent_name, request.token
        if given_up and not self._ends.refuse(peer, token, self._clock(), self._refused_for_s):
            logger.warning("too many unknown rooms were given up: peer %r is not answered about %d", peer, request.room)
            return
        if self._rooms.goes_on(peer, token):
            return  # it was opened meanwhile, and whoever opens one looks whether it is refused
        self._send(peer, StateNotification(request.room, token, self._incarnation, False).to_bytes())

    def _send(self, peer: str, message: bytes) -> bool:
        try:
            self._transport.send_notif(peer, message)
        except Exception as error:
            if isinstance(error, self._errors):
                self._peers.blame(error, peer, None)
                logger.info("peer %r could not be answered: %r", peer, error)
            else:
                logger.exception("answering peer %r", peer)
            return False
        return True
