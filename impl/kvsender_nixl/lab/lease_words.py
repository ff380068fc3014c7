"""How the holder process of ``lab.leases`` is asked, and what both of its sides know. See ``lab.remote`` for why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from kvsender_nixl.exchange import PeerMetadata

PAGE_BYTES: Final = 64 * 1024
NUM_PAGES: Final = 256
"""Of each pool."""
ASIDE_PAGES: Final = 16
"""The last ones of a holder are granted for long, and are nobody else's meanwhile."""


class Means(Enum):
    """What a holder does with the pages of a lease that has ended under a READ."""

    HOLD = "hold"
    """It keeps them until the reader is finished, and asks to refill them all the time."""
    STAMPS = "stamps"
    """It believes wrongly that the reader's process is gone, and refills them: the stamps are all that is left."""
    REMAP = "remap"
    """It takes their addresses away, and refills them."""


@dataclass(frozen=True, slots=True)
class Start:
    """Make a holder with this agent name. The first request; answers ``PeerMetadata``."""

    name: str
    means: Means
    seed: int


@dataclass(frozen=True, slots=True)
class Open:
    """Grant so many pages, chosen at random, to this reader. Answers ``Granted``. ``aside``: of those that are granted
    for long."""

    room: int
    reader: PeerMetadata
    pages: int
    lease_s: float
    aside: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """Answers ``Counts``."""


@dataclass(frozen=True, slots=True)
class Granted:
    """``grant`` as it is on the wire, and the number of which each of its pages is full."""

    grant: bytes
    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Counts:
    """What the holder has done so far: ``open`` rooms have readers that may still read."""

    open: int
    ended: int
    """How many leases were over before their readers were finished."""
    refilled: int
    refused: int
    """How many pages were refilled after that, and how often a refill was refused."""


Request: TypeAlias = Start | Open | Look
