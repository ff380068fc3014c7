"""Which room an event belongs to; decided here and nowhere else.

By the handle; for a new handle by the pages at the peer; else by the call that encloses it. What a recorder wrote
because it knows is believed.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from kvsender_spec.history.events import (
    BytesLanded,
    NotificationHeard,
    NotificationSent,
    TransferChecked,
    TransferMade,
    TransferPosted,
)
from kvsender_spec.observe.room import RoomView


class Routing:
    """The rooms of one history, and what leads to them. Every answer is None where no room is known."""

    def __init__(self, strays: Collection[int]) -> None:
        """``strays`` are calls that are about no room that was opened."""
        self.rooms: Final[dict[int, RoomView]] = {}
        """By key, oldest first."""
        self.by_handle: Final[dict[int, RoomView]] = {}
        self.by_call: Final[dict[int, RoomView | None]] = {}
        """The room of each call that runs."""
        self._strays: Final = strays
        self._by_place: Final[dict[tuple[str, str, int], RoomView]] = {}
        """Whose page or slot lies at a peer: the newest room that was given it."""

    def add(self, room: RoomView) -> None:
        """A room was opened."""
        self.rooms[room.key] = room
        for destination in room.targets.values():
            for page in destination.pages:
                self._by_place[destination.peer, "page", page] = room
            if destination.aux is not None:
                self._by_place[destination.peer, "aux", destination.aux] = room

    def of_key(self, key: int | None) -> RoomView | None:
        return None if key is None else self.rooms.get(key)

    def of_transfer(self, event: TransferMade | TransferPosted | TransferChecked) -> RoomView | None:
        if isinstance(event, TransferMade) and event.call in self._strays:
            return None
        if event.room is not None:
            return self.rooms.get(event.room)
        if not isinstance(event, TransferMade):
            return self.by_handle.get(event.handle)
        for what, numbers in (("page", event.target), ("aux", () if event.aux is None else (event.aux,))):
            for number in numbers:
                room = self._by_place.get((event.peer, what, number))
                if room is not None:
                    return room
        return self._of_call(event.call)

    def of_landed(self, event: BytesLanded) -> RoomView | None:
        return self.of_key(event.room) if event.handle is None else self.by_handle.get(event.handle)

    def of_sent(self, event: NotificationSent) -> RoomView | None:
        room = self.of_key(event.room)
        return self._of_call(event.call) if room is None else room

    def of_heard(self, event: NotificationHeard) -> RoomView | None:
        if event.incarnation is not None:
            return self.rooms.get(event.incarnation)
        newest = next((room for room in reversed(self.rooms.values()) if room.opened.id == event.id), None)
        # A newer room of that id may be one of which nothing was seen.
        return None if newest is None or newest.untracked else newest

    def _of_call(self, call: int | None) -> RoomView | None:
        return None if call is None else self.by_call.get(call)
