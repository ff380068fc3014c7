"""The table of a holder's rooms by their tokens: whose word an arrived one is, and which leases are over."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from kvsender_nixl.held import HeldRoom
from kvsender_nixl.holding import Early, Evidence, HolderCounts
from kvsender_nixl.notifications import (
    AuxNotification,
    ChunkNotification,
    Notification,
    RenewNotification,
    StateNotification,
)
from kvsender_nixl.status import LeaseLost
from kvsender_spec.contract import KVUsageError

if TYPE_CHECKING:
    from kvsender_spec.contract import Clock


class Leases:
    """Nothing here is thread-safe: whoever owns it holds a lock."""

    def __init__(self, holder_name: str, clock: Clock, most_rooms: int) -> None:
        self._holder_name: Final = holder_name
        self._clock: Final = clock
        self._most_rooms: Final = most_rooms
        self._rooms: dict[str, HeldRoom] = {}
        self._cleared: set[HeldRoom] = set()
        self._ends: list[tuple[float, str]] = []
        # A heap of the ends of leases. An end may be later by now, and is never earlier.
        self._early: Final = Early()
        self.counts: Final = HolderCounts()

    def __len__(self) -> int:
        """How many rooms are not cleared, or have readers that may still read."""
        return len(self._rooms)

    def add(self, token: str, make: Callable[[], HeldRoom]) -> HeldRoom:
        """Make the room of this token, which then takes the end notices that have come before it.

        Raises KVUsageError for a token that is or was in use, and where the table is full, before anything is made.
        """
        if token in self._rooms or self._early.over(token):
            raise KVUsageError(f"token {token!r} is in use, or was")
        if len(self._rooms) >= self._most_rooms:
            raise KVUsageError(f"{len(self._rooms)} rooms are not cleared and finished, which is the most")
        held = self._rooms[token] = make()
        heapq.heappush(self._ends, (held.lease_end, token))
        for reader, notice in self._early.claim(token):
            self._count(held.take(reader, notice))
        return held

    def rooms(self) -> tuple[HeldRoom, ...]:
        return tuple(self._rooms.values())

    def forget(self, held: HeldRoom) -> None:
        """Its caller has done with a room. It stays while readers may still read for it."""
        self._cleared.add(held)
        if held.drained:
            self.drained(held)

    def drained(self, held: HeldRoom) -> None:
        """All readers of a room are finished. It stays while its caller may still ask about it."""
        if held not in self._cleared:
            return
        self._cleared.discard(held)
        if self._rooms.pop(held.token, None) is not None:
            self._early.remember(held.token)

    # ------------------------------------------------------------------------------------------------------- words

    def renew(self, reader: str, renewal: RenewNotification) -> list[LeaseLost]:
        """Prolong the leases that a reader names. Returns the answers to those that are none."""
        lost: list[LeaseLost] = []
        for room, token in renewal.rooms:
            held = self._rooms.get(token)
            if held is None or not held.renew(reader, room):
                lost.append(LeaseLost(room, token, self._holder_name))
        self.counts.renewed += len(renewal.rooms) - len(lost)
        self.counts.lapsed += len(lost)
        return lost

    def take(self, reader: str, notice: Notification) -> None:
        """A reader says that a room has ended for it. One that comes before its room is kept for it."""
        held = self._rooms.get(notice.token)
        if isinstance(notice, (ChunkNotification, AuxNotification, StateNotification)):
            self.counts.stray += 1  # nobody tells a holder of these
        elif held is not None:
            self._count(held.take(reader, notice))
        elif self._early.over(notice.token):
            self.counts.stray += 1
        else:
            self.counts.early_dropped += self._early.keep(reader, notice)

    def _count(self, meant_something: bool) -> None:
        if meant_something:
            self.counts.ends += 1
        else:
            self.counts.stray += 1

    def fence(self, reader: str, incarnation: str, evidence: Evidence) -> int:
        """End what is held because of one process. Returns in how many rooms something was."""
        return sum(held.fence(reader, incarnation, evidence.value) for held in self.rooms())

    # --------------------------------------------------------------------------------------------------------- time

    def some_due(self) -> bool:
        """Some lease may be over."""
        return bool(self._ends) and self._ends[0][0] <= self._clock()

    def due(self, limit: int) -> list[HeldRoom]:
        """The rooms whose lease is over, found by looking at ``limit`` at most, in the order of their ends.

        One that was renewed goes to its new place: it hides no other.
        """
        due: list[HeldRoom] = []
        now = self._clock()
        for _ in range(limit):
            if not self._ends or self._ends[0][0] > now:
                break
            _, token = heapq.heappop(self._ends)
            held = self._rooms.get(token)
            if held is None or held.over:
                continue
            if held.lease_end <= now:
                due.append(held)
            else:
                heapq.heappush(self._ends, (held.lease_end, token))
        return due
