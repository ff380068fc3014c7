"""What is advised about one clause."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Advice:
    """For one clause."""

    breaks: str
    """What is seen where it breaks."""
    repair: str
    """What has mended it in senders of the field."""
    example: str
    """A setup and steps that show it, in the words of a report; empty where no call of the sender does."""
    seen: str
    """What they show."""
