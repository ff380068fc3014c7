"""What a peer process of either kind does when it is asked (see ``lab.remote``).

Its agent has no progress thread, so it moves bytes only while it is called: every millisecond, unless it is held. That
makes "in the middle of a transfer" a place where a scenario can wait.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final

from kvsender_nixl.agent import create_agent
from kvsender_nixl.exchange import PeerMetadata
from kvsender_nixl.lab.remote import Start
from kvsender_spec.contract import DlistT, HandleT
from kvsender_spec.history.recording_agent import Through


class Ear(Through[DlistT, HandleT]):
    """The agent; what it receives is kept as it came, beside what its user makes of it."""

    heard: list[tuple[str, bytes]]

    def get_new_notifs(self) -> dict[str, list[bytes]]:
        arrived = super().get_new_notifs()
        for sender, messages in arrived.items():
            self.heard += ((sender, message) for message in messages)
        return arrived


class Played(ABC):
    """One peer, once it is started. Other processes call it through ``LabPeer``."""

    metadata: PeerMetadata

    def __init__(self, start: Start) -> None:
        self._ear: Final = Ear(create_agent(start.name))
        self._ear.heard = []
        self._held = False

    @abstractmethod
    def _call_nixl(self) -> None:
        """Take what has arrived, which also moves the bytes of transfers."""

    @abstractmethod
    def reset(self) -> None:
        """Forget every room, and make the memory what it was in the beginning."""
        self._held = False

    def idle(self) -> None:
        if not self._held:
            self._call_nixl()

    def take_notifications(self) -> list[tuple[str, bytes]]:
        """Every notification since the last time, in order: sender and message."""
        heard, self._ear.heard = self._ear.heard, []
        return heard

    def hold(self, held: bool) -> None:
        """While held, the process does not call NIXL, and moves nothing through its sockets."""
        self._held = held

    def progress(self, calls: int) -> None:
        """Call NIXL so many times, held or not."""
        for _ in range(calls):
            self._call_nixl()
