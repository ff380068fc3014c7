"""One incarnation of a room, as a run keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from kvsender_spec.contract import Initiator
from kvsender_spec.kit.adapter import NUM_PAGES, Peer, RoomPlan
from kvsender_spec.kit.run.scripted_world import Content
from kvsender_spec.observe.room import RoomView


class Room:
    """Its sender or reader, what the observer knows of it, and what the caller has still to send."""

    def __init__(
        self,
        slot: int,
        plan: RoomPlan,
        chunks: Sequence[int],
        first_page: int,
        view: RoomView,
        sender: Initiator,
        granted: Content,
    ) -> None:
        self.slot: Final = slot
        self.plan: Final = plan
        self.view: Final = view
        self.key: Final = plan.incarnation
        self.memories: Final = {d.peer.name: d.peer.memory for d in plan.destinations}
        """Each peer's memory as of now: a peer that restarts has another one, which this room never wrote to."""
        self.plan_chunks: Final = tuple(chunks)
        self.chunks: Final = list(chunks)
        """Those that are still to be sent."""
        self.sent_pages: Final[list[int]] = []
        self.sender: Final = sender
        self.granted: Final = granted
        """What it reads, as it was when the room was opened; empty where it writes."""
        self.compared = False
        self.asked = False
        """The system was asked for its quarantine since the room has ended."""
        self._first_page: Final = first_page

    @property
    def target(self) -> Peer | None:
        """The first peer that is no dummy."""
        return next((d.peer for d in self.plan.destinations if not d.dummy), None)

    def next_pages(self) -> list[int]:
        """The pages of the next chunk."""
        return pages_after(self._first_page + len(self.sent_pages), self.chunks[0])


def pages_after(first: int, count: int) -> list[int]:
    """So many of the sender's pages: from the top of the pool downwards, so that they are not the peer's page ids."""
    return [NUM_PAGES - 1 - first - n for n in range(count)]
