"""Notifications of ends that the transport has refused: they are sent again when the connection is back (KS-6.1)."""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic

from kvsender_spec.contract import DlistT, HandleT, Transport

if TYPE_CHECKING:
    from kvsender_nixl.exchange import PeerMetadata
    from kvsender_nixl.peers import Peers

logger = logging.getLogger(__name__)

MOST_UNSENT: Final = 1024
"""More than this many peers-and-rooms are not waited for: the oldest are given up."""


@dataclass(frozen=True, slots=True)
class _Word:
    """What a peer is still to be told. ``registration`` is the process that it is meant for."""

    peer: str
    registration: PeerMetadata
    message: bytes


class Unsent(Generic[DlistT, HandleT]):
    """Nothing happens to them but in ``sweep``, which the caller's loop calls. Every method may be called from any
    thread."""

    def __init__(
        self,
        transport: Transport[DlistT, HandleT],
        peers: Peers[DlistT, HandleT],
        errors: tuple[type[Exception], ...],
    ) -> None:
        self._transport: Final = transport
        self._peers: Final = peers
        self._errors: Final = errors
        self._words: deque[_Word] = deque(maxlen=MOST_UNSENT)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._words)

    def keep(self, peer: str, registration: PeerMetadata, message: bytes) -> None:
        with self._lock:
            self._words.append(_Word(peer, registration, message))

    def sweep(self, limit: int) -> None:
        """Try at most ``limit`` of them. One whose peer has started over means nothing to anybody, and is dropped."""
        with self._lock:
            for _ in range(min(limit, len(self._words))):
                word = self._words.popleft()
                peer = self._peers.get(word.peer)
                if peer is None or not peer.metadata.same_process(word.registration):
                    continue
                if peer.connection is None or peer.connection.lost or not self._sent(word):
                    self._words.append(word)

    def _sent(self, word: _Word) -> bool:
        try:
            self._transport.send_notif(word.peer, word.message)
        except self._errors as error:
            logger.info("peer %r could not be told again: %r", word.peer, error)
            return False
        return True
