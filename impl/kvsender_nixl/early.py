"""Notifications of rooms that no receiver was made for yet, kept for it; and what becomes of the others, counted."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from kvsender_nixl.notifications import Notification

MOST_EARLY: Final = 1024
"""More notifications than this are not kept: the oldest are dropped. They are told again when the room asks."""
MOST_ENDED: Final = 4096


@dataclass(slots=True)
class NotificationCounts:
    """What ``drain`` has taken so far. Stray notifications belong to no room that is waiting for one; early ones were
    strays until their room came."""

    notifications: int = 0
    malformed: int = 0
    stray: int = 0
    early: int = 0
    lost: int = 0
    """How often the transport could not hand over what had arrived, and lost it."""


class Early:
    """Not thread-safe: whoever owns it holds a lock."""

    def __init__(self) -> None:
        self._words: OrderedDict[int, tuple[str, Notification]] = OrderedDict()
        self._next = 0
        self._ended: OrderedDict[str, None] = OrderedDict()

    def keep(self, agent_name: str, notification: Notification) -> None:
        """No effect for a room that was here and is cleared."""
        if notification.token in self._ended:
            return
        self._words[self._next] = (agent_name, notification)
        self._next += 1
        if len(self._words) > MOST_EARLY:
            self._words.popitem(last=False)

    def take(self, token: str) -> list[tuple[str, Notification]]:
        """What has come for the room of this token, in order. A receiver was made for it."""
        self._ended.pop(token, None)
        if not self._words:
            return []
        found = [number for number, (_, notification) in self._words.items() if notification.token == token]
        return [self._words.pop(number) for number in found]

    def ended(self, token: str) -> None:
        self._ended[token] = None
        if len(self._ended) > MOST_ENDED:
            self._ended.popitem(last=False)
