"""What a holder is set up with, what it counts, and what it keeps beside its rooms."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, replace
from enum import Enum
from math import inf
from typing import TYPE_CHECKING, Final

from kvsender_nixl.buffers import Layout
from kvsender_nixl.peers import Peers
from kvsender_nixl.side import READER_DEADLINE_S
from kvsender_spec.contract import DlistT, HandleT, KVUsageError

if TYPE_CHECKING:
    from kvsender_nixl.exchange import PeerMetadata
    from kvsender_nixl.held import EndNotice

MOST_EARLY: Final = 1024
"""How many end notices of rooms that are not held yet are kept: more, and the oldest are dropped."""
MOST_OVER: Final = 4096
"""Of how many incarnations that are gone it is known that they were there."""


class Evidence(Enum):
    """Why nothing of a process can read a holder's memory any more. Nothing else was seen to prove it.

    That a holder has deregistered its memory or removed the reader's agent proves nothing, on any transport. That a
    holder has destroyed its own agent proves it on tcp, and not where readers copy by themselves (shared memory).
    """

    PROCESS_REAPED = "its process has ended and was reaped, and our sockets are drained"
    HOST_GONE = "its host is off, or is cut off from ours for good"
    MAPPING_TAKEN = "other memory is mapped over the addresses that it knows, and stays there"


@dataclass(frozen=True, slots=True)
class HolderOptions:
    """How a holder behaves. Times are seconds. Raises KVUsageError."""

    lease_s: float = 30.0
    """How long a room is kept after its grant, and after each renewal."""
    reader_deadline_s: float = READER_DEADLINE_S
    """How long a transfer of a reader may be in flight that does not tell: its ``SenderOptions.transfer_timeout_s``."""
    most_rooms: int = 65536
    """How many rooms may be there that are not cleared, or have readers that may still read."""

    def __post_init__(self) -> None:
        if self.most_rooms < 1:
            raise KVUsageError(f"most_rooms is {self.most_rooms}")
        self.duration(None, None)

    def duration(self, lease_s: float | None, reader_deadline_s: float | None) -> float:
        """The duration of a lease. Raises KVUsageError where it is not longer than its readers may take."""
        lease = self.lease_s if lease_s is None else lease_s
        deadline = self.reader_deadline_s if reader_deadline_s is None else reader_deadline_s
        if not (0 < lease < inf and 0 <= deadline < inf):
            raise KVUsageError(f"a lease of {lease} s for readers that may take {deadline} s: these are no times")
        if lease <= deadline:
            raise KVUsageError(
                f"a lease of {lease} s is not longer than its readers may take, which is {deadline} s:"
                " it would end under READs that are in time"
            )
        return lease


@dataclass(slots=True)
class HolderCounts:
    """What ``drain`` has taken so far."""

    messages: int = 0
    malformed: int = 0
    """Not a message to a holder, or one that fits no reader."""
    ends: int = 0
    """End notices that meant something."""
    stray: int = 0
    """End notices that meant nothing: late, told twice, of a stranger, of another incarnation."""
    early_dropped: int = 0
    """End notices of rooms that were not held in time to be kept for them."""
    renewed: int = 0
    lapsed: int = 0
    """Renewals, room by room, that went on with a lease, and that found none."""
    lost: int = 0
    """How often what had arrived was lost by NIXL's binding."""


def incarnation_of(metadata: PeerMetadata) -> str:
    """A name for one process of an agent: 16 hexadecimal digits of what NIXL says about it."""
    return hashlib.sha256(metadata.agent_metadata).hexdigest()[:16]


class Contacts(Peers[DlistT, HandleT]):
    """The readers of a holder, and the connections over which it tells them of ends. It posts nothing to them."""

    def _prepare(self, name: str, layout: Layout) -> DlistT:
        # One item stands for the list, which would have one for each page of the reader's pool and is never used.
        return super()._prepare(name, replace(layout, regions=(replace(layout.regions[0], num_items=1),)))


class Early:
    """End notices that have come before their room, and the tokens of rooms that are gone. Nothing is thread-safe."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, list[tuple[str, EndNotice]]] = OrderedDict()
        self._count = 0
        self._over: OrderedDict[str, None] = OrderedDict()

    def keep(self, reader: str, notice: EndNotice) -> int:
        """Keep a notice for its room. Returns how many were dropped because of it."""
        self._kept.setdefault(notice.token, []).append((reader, notice))
        self._count += 1
        before = self._count
        while self._count > MOST_EARLY:
            self._count -= len(self._kept.popitem(last=False)[1])
        return before - self._count

    def claim(self, token: str) -> list[tuple[str, EndNotice]]:
        """What was kept for this incarnation, in order."""
        found = self._kept.pop(token, [])
        self._count -= len(found)
        return found

    def remember(self, token: str) -> None:
        """This incarnation is gone: notices of it come late from now on, and no other one may have its token."""
        self._over[token] = None
        if len(self._over) > MOST_OVER:
            self._over.popitem(last=False)

    def over(self, token: str) -> bool:
        return token in self._over
