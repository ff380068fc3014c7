"""One incarnation of a room, as a run keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from kvsender_spec.contract import Sender
from kvsender_spec.kit.adapter import NUM_PAGES, ROOM_PAGES
from kvsender_spec.kit.judge import RoomJudge


class Room:
    """Its sender, its judge, and what the owner has still to send."""

    def __init__(self, slot: int, chunks: Sequence[int], sender: Sender, judge: RoomJudge) -> None:
        self.memories: Final = {d.peer.name: d.peer.memory for d in judge.plan.destinations}
        """Each peer's memory as of now: a peer that restarts has another one, which this room never wrote to."""
        self.slot: Final = slot
        self.sender: Final = sender
        self.judge: Final = judge
        self.chunks: Final = list(chunks)
        self.sent_pages: list[int] = []
        self.ill = False
        """A peer of its own was unwell when it was opened, or has been since. What was before does not concern it."""

    def next_pages(self) -> list[int]:
        """The pages of the next chunk: from the top of the pool downwards, so that they are not the peer's page ids."""
        first = self.judge.plan.incarnation * ROOM_PAGES + len(self.sent_pages)
        return [NUM_PAGES - 1 - first - n for n in range(self.chunks[0])]
