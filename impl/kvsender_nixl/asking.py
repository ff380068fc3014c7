"""When a room is asked about: not before nothing was heard of it for a while, and less and less often."""

from __future__ import annotations

import heapq
import threading
from typing import Final

MOST_AT_ONCE: Final = 64
"""How many rooms are asked about in one call."""
LONGEST_WAIT_S: Final = 60.0


class Asking:
    """The tokens of rooms by the time of their next question. Every method may be called from any thread."""

    def __init__(self, every_s: float) -> None:
        self._every_s: Final = every_s
        self._queue: list[tuple[float, str, float]] = []
        self._waits: dict[str, float] = {}
        """By token: the time that is in force; what the queue has beside it is old."""
        self._lock: Final = threading.Lock()

    def ask(self, token: str, now: float, *, after_s: float | None = None) -> None:
        """The next question is due after ``after_s``, or after the usual time. An earlier plan for it is void."""
        wait = self._every_s if after_s is None else min(after_s, max(LONGEST_WAIT_S, self._every_s))
        with self._lock:
            self._waits[token] = now + wait
            heapq.heappush(self._queue, (now + wait, token, wait))

    def forget(self, token: str) -> None:
        with self._lock:
            self._waits.pop(token, None)

    def due(self, now: float) -> list[tuple[str, float]]:
        """At most MOST_AT_ONCE tokens whose time has come, each with how long that was. They are planned no more."""
        found: list[tuple[str, float]] = []
        with self._lock:
            while self._queue and self._queue[0][0] <= now and len(found) < MOST_AT_ONCE:
                at, token, wait = heapq.heappop(self._queue)
                if self._waits.get(token) == at:
                    del self._waits[token]
                    found.append((token, wait))
        return found
