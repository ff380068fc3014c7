"""A deadline counts time in which the transport had a chance to move, and without a progress thread it has none while
nobody looks. So whoever was away when a deadline passed looks once more before it is judged, a second later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

AWAY_S: Final = 1.0
"""Whoever did not look for longer was away."""
LAST_CHANCE_S: Final = 1.0
LAST_LOOKS: Final = 1


@dataclass(slots=True)
class LastChance:
    """From the first look after the absence on, at ``since``: so many looks more, and so much time."""

    since: float
    looks: int = 0

    def over(self, now: float) -> bool:
        """Asked once at each look. A clock that stands still, as it may in tests, measures no time: then the looks
        count alone."""
        self.looks += 1
        return self.looks > LAST_LOOKS and (now == self.since or now >= self.since + LAST_CHANCE_S)
