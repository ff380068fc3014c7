"""One incarnation of a room in a run: where it goes, and how far it has come. ``watched`` adds its calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from kvsender_nixl.lab.peer import LabPeer
from kvsender_spec.observe.room import RoomView


class OpenedRoom:
    """``view`` is what the observer knows of it."""

    def __init__(
        self, view: RoomView, chunks: Sequence[int], source: Sequence[int], peers: Mapping[str, LabPeer]
    ) -> None:
        self.view: Final = view
        self.key: Final = view.key
        self.number: Final = view.opened.id
        self.chunks: Final = list(chunks)
        self.source: Final = tuple(source)
        self.peers: Final = peers
        """The processes as they were when the room was opened, without dummies: one that restarts is another one."""
        self.handed_over: Final[list[int]] = []
        """The pages that were sent, or read into, so far."""
        self.refilled: Final[dict[str, tuple[int, ...]]] = {}
        """The pages that a holder has granted and given to another request since, by its name."""

    def target(self, peer: LabPeer) -> tuple[int, ...]:
        """The pages that a peer has named for this room."""
        return self.view.targets[peer.name].pages

    def wanted(self, peer: LabPeer) -> tuple[int, ...]:
        """The last ones of them, as many as the room has."""
        named = self.target(peer)
        return named[len(named) - self.view.opened.pages :]
