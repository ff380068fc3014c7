"""How rooms have ended at each peer, kept beyond the rooms, so that a peer that heard nothing of it can ask.

What can be said of a room that is not here rests on one rule: an end that says that bytes may still land is never
dropped while its peer's process is in force; the others are, from the oldest on. So a room that is neither under way
nor here has nothing on its way, whether it has ended long ago or never was.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from kvsender_nixl.notifications import AuxNotification, ChunkNotification, FailureNotification, SuccessNotification

MOST_ENDS: Final = 4096
"""More ends of which nothing is on its way are not kept."""
MOST_REFUSED: Final = 4096

_Key: TypeAlias = tuple[str, str]
"""A peer's name, and a room's token."""


@dataclass(frozen=True, slots=True)
class End:
    """What a peer was told. The parts of a success are the chunks from ``first_chunk`` on; None where none are told."""

    incarnation: str
    told: SuccessNotification | FailureNotification
    first_chunk: int | None = None

    def messages(self) -> list[bytes]:
        """All that was told of the room, again; each of it is true by now."""
        told, parts = self.told, list[bytes]()
        if isinstance(told, SuccessNotification) and self.first_chunk is not None:
            chunks = range(self.first_chunk, self.first_chunk + told.num_chunks)
            parts = [ChunkNotification(told.room, told.token, chunk).to_bytes() for chunk in chunks]
            parts += [AuxNotification(told.room, told.token).to_bytes()] if told.has_aux else []
        return [*parts, told.to_bytes()]


class Ends:
    """Every method may be called from any thread."""

    def __init__(self) -> None:
        self._open: dict[_Key, End] = {}
        self._over: OrderedDict[_Key, End] = OrderedDict()
        self._refused: OrderedDict[_Key, float] = OrderedDict()
        self._lock: Final = threading.Lock()

    def record(self, peer: str, end: End) -> None:
        key = (peer, end.told.token)
        with self._lock:
            if isinstance(end.told, FailureNotification) and not end.told.quiesced:
                self._open[key] = end
            else:
                self._close(key, end)

    def drained(self, peer: str, token: str) -> None:
        """Nothing of a failed room can land at the peer any more."""
        with self._lock:
            end = self._open.pop((peer, token), None)
            if end is not None and isinstance(end.told, FailureNotification):
                self._close((peer, token), replace(end, told=replace(end.told, quiesced=True)))

    def _close(self, key: _Key, end: End) -> None:
        self._over[key] = end
        self._over.move_to_end(key)
        while len(self._over) > MOST_ENDS:
            self._over.popitem(last=False)

    def of(self, peer: str, token: str) -> End | None:
        with self._lock:
            return self._open.get((peer, token)) or self._over.get((peer, token))

    def forget_others(self, peer: str, incarnation: str) -> None:
        """A new process of the name has registered: nobody can ask for the rooms of the one before it."""
        with self._lock:
            for ends in (self._open, self._over):
                for key in [key for key, end in ends.items() if key[0] == peer and end.incarnation != incarnation]:
                    del ends[key]

    def refuse(self, peer: str, token: str, now: float, kept_s: float) -> bool:
        """The peer has given up a room that is not here: it is not opened later. False where no more can be kept."""
        with self._lock:
            while self._refused and next(iter(self._refused.values())) < now - kept_s:
                self._refused.popitem(last=False)
            if len(self._refused) >= MOST_REFUSED and (peer, token) not in self._refused:
                return False
            self._refused[peer, token] = now
            self._refused.move_to_end((peer, token))
            return True

    def refuses(self, peer: str, token: str) -> bool:
        with self._lock:
            return (peer, token) in self._refused
