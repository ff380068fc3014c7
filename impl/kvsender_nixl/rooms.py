"""The table of rooms: which peers take part in which incarnation of a room, and which senders are still at work.

A room id is reused, and what belongs to the next incarnation may arrive while the last one is still here. So an id
names its newest incarnation only; a sender keeps its own ``Room`` and never looks an id up again (KS-5.4).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from kvsender_nixl.exchange import PeerMetadata, TransferInfo
from kvsender_nixl.status import AbortRequest
from kvsender_spec.contract import KVUsageError


class RoomSender(Protocol):
    """What the table knows of the sender of a room."""

    @property
    def over(self) -> bool:
        """poll() has answered its terminal value."""

    @property
    def live(self) -> bool:
        """It has neither completed nor failed."""

    def sweep(self) -> int:
        """Poll a room that nobody polls any more. Returns how many questions that may have cost."""

    def clear(self) -> None: ...

    def target_aborted(self, request: AbortRequest) -> bool:
        """A peer gives the room up. False where it is another room's word."""

    def concerns(self, peer: str, token: str) -> bool:
        """Whether this is the room that the peer calls by this token."""

    def joined_late(self, info: TransferInfo) -> None:
        """A peer has registered for the room, perhaps after its end."""


@dataclass(slots=True, eq=False)
class Room:
    """One incarnation of a room. ``required`` is 0 until the first peer has said how many there are.

    ``registrations`` keeps, for each peer that is no dummy, what it had registered with when it asked for the room: the
    pages that it named are those of that process, and no page of the one that may have taken its place.
    """

    id: int
    opened_at: float
    required: int = 0
    infos: dict[str, TransferInfo] = field(default_factory=dict)
    registrations: dict[str, PeerMetadata] = field(default_factory=dict)
    sender: RoomSender | None = None
    given_up: list[AbortRequest] = field(default_factory=list)
    """By whom, before it had a sender."""

    @property
    def complete(self) -> bool:
        return 0 < self.required <= len(self.infos)


class Rooms:
    """Every method may be called from any thread. No method calls a sender while it holds the table's lock."""

    def __init__(self) -> None:
        self._rooms: dict[int, Room] = {}
        self._draining: dict[RoomSender, None] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._rooms) + len(self._draining)

    def add(self, info: TransferInfo, registration: PeerMetadata | None, now: float) -> Room:
        """Enter a peer into the incarnation that it belongs to, opening a new one where the current one is taken.

        Raises KVUsageError when the peers of a room contradict each other.
        """
        with self._lock:
            room = self._rooms.get(info.room)
            if room is not None and self._belongs_to_next(info, room):
                self._drain(room.sender)
                room = None
            if room is None:
                room = self._rooms[info.room] = Room(info.room, now)
            known = room.infos.get(info.agent_name)
            if room.required not in (0, info.required_dst_info_num):
                raise KVUsageError(
                    f"room {info.room} has {room.required} peers, or {info.required_dst_info_num},"
                    f" according to {info.agent_name!r}"
                )
            if known is None and room.complete:
                raise KVUsageError(f"room {info.room} has its {room.required} peers; {info.agent_name!r} is one more")
            room.required = info.required_dst_info_num
            if known is None or known.token != info.token:
                # Not on a repetition: the room's sender may have begun with the first.
                if registration is not None:
                    room.registrations[info.agent_name] = registration
                room.infos[info.agent_name] = info
            return room

    @staticmethod
    def _belongs_to_next(info: TransferInfo, room: Room) -> bool:
        """A peer that comes again with another token, or one too many, means the room that follows this one."""
        known = room.infos.get(info.agent_name)
        if room.sender is None:
            return False
        return room.complete if known is None else known.token != info.token

    def bind(self, room_id: int, now: float, make: Callable[[Room], RoomSender]) -> Room:
        """Give the room its sender. Returns the entry.

        Raises KVUsageError while an earlier sender of the id is live and not cleared.
        """
        with self._lock:
            room = self._rooms.get(room_id)
            if room is not None and room.sender is not None:
                if not room.sender.over:
                    raise KVUsageError(f"room {room_id} has a sender that is neither over nor cleared")
                room = None
            if room is None:
                room = self._rooms[room_id] = Room(room_id, now)
            room.sender = make(room)
            return room

    def given_up(self, request: AbortRequest) -> None:
        """A peer gives up a room that has no sender yet. No effect where there is no such room."""
        with self._lock:
            room = self._rooms.get(request.room)
            info = None if room is None else room.infos.get(request.agent_name)
            if room is not None and room.sender is None and info is not None and info.token == request.token:
                room.given_up.append(request)

    def goes_on(self, peer: str, token: str) -> bool:
        """Whether the room that the peer calls so is here and has not ended. One that the peer gave up before a sender
        came for it does not go on: nothing will be posted for it."""
        for sender in self.senders():
            if sender.concerns(peer, token):
                return not sender.over
        with self._lock:
            waiting = [room for room in self._rooms.values() if room.sender is None and peer in room.infos]
        for room in waiting:
            if room.infos[peer].token == token:
                return all((request.agent_name, request.token) != (peer, token) for request in room.given_up)
        return False

    def forget(self, room: Room) -> None:
        """Drop the room's entry. A sender that is not over stays known as draining, so that ``sweep`` can end it and
        nothing drops its handles in flight."""
        with self._lock:
            if self._rooms.get(room.id) is room:
                del self._rooms[room.id]
                self._drain(room.sender)

    def ended(self, sender: RoomSender) -> None:
        with self._lock:
            self._draining.pop(sender, None)

    def entries(self) -> tuple[Room, ...]:
        """The rooms that are not cleared, each in its newest incarnation."""
        with self._lock:
            return tuple(self._rooms.values())

    @property
    def num_draining(self) -> int:
        return len(self._draining)

    def sweep(self, limit: int) -> int:
        """Poll the rooms that were cleared while they were live, each in its turn, until that may have cost ``limit``
        questions. Returns how many it may have cost."""
        asked = 0
        for _ in range(len(self._draining)):
            if asked >= limit:
                break
            with self._lock:
                sender = next(iter(self._draining), None)
                if sender is None:
                    break
                del self._draining[sender]
                self._draining[sender] = None
            asked += sender.sweep()
        return asked

    def senders(self) -> tuple[RoomSender, ...]:
        with self._lock:
            bound = [room.sender for room in self._rooms.values() if room.sender is not None]
            return (*bound, *self._draining)

    def expire(self, opened_before: float) -> tuple[Room, ...]:
        """Take out the rooms for which no sender has come."""
        with self._lock:
            old = tuple(room for room in self._rooms.values() if room.sender is None and room.opened_at < opened_before)
            for room in old:
                del self._rooms[room.id]
            return old

    def _drain(self, sender: RoomSender | None) -> None:
        if sender is not None and not sender.over:
            self._draining[sender] = None
