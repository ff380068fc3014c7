"""What the senders of one prefill side share, how they are set up, and what they count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic

from kvsender_spec.contract import Clock, DlistT, HandleT, KVUsageError, Transport
from kvsender_spec.machine import Profile

if TYPE_CHECKING:
    from kvsender_nixl.buffers import Layout
    from kvsender_nixl.ends import Ends
    from kvsender_nixl.peers import Peers
    from kvsender_nixl.quarantine import Quarantine
    from kvsender_nixl.rooms import Rooms
    from kvsender_nixl.transfers import Unsettled
    from kvsender_nixl.unsent import Unsent

NEVER: Final = float("inf")
"""A deadline that does not come."""
READER_DEADLINE_S: Final = 20.0
"""How long a reader's transfer may be in flight where nothing else is said; a holder's lease is longer."""


@dataclass(frozen=True, slots=True)
class SenderOptions:
    """How senders behave. Times are seconds on the prefill side's clock. Raises KVUsageError."""

    profile: Profile = Profile.FULL
    """LATCH reports a failure at once; the others report it when the room's transfers have settled."""
    transfer_timeout_s: float = 30.0
    """How long one transfer may be in flight. NIXL has no timeout of its own: a stopped peer is silent for ever."""
    drain_timeout_s: float = 5.0
    """How long a failed room waits for its transfers to settle before it reports and quarantines their pages."""
    bootstrap_timeout_s: float = 300.0
    """How long a room waits, after init(), for its peers; and how long peers wait for a sender of their room."""
    error_ends_reads: bool = False
    """The lab has shown that on this fabric an error of a transfer ends the reading of its source pages."""

    def __post_init__(self) -> None:
        for name in ("transfer_timeout_s", "drain_timeout_s", "bootstrap_timeout_s"):
            value: float = getattr(self, name)
            if not value >= 0:
                raise KVUsageError(f"{name} is {value}: not a time")


@dataclass(slots=True)
class KVTransferMetric:
    """What a room has cost; of a failed room, what was posted until then."""

    transfer_latency_s: float | None = None
    """From the first post to the poll that found everything DONE; None for a room that is not done."""
    transfer_total_bytes: int = 0
    chunks: int = 0
    transfers: int = 0
    notifications_lost: int = 0
    """Notifications of the end that the transport refused to send. Success stands all the same: the bytes are there.
    They are sent again when the connection is back."""


@dataclass(frozen=True, slots=True)
class Side(Generic[DlistT, HandleT]):
    """What the senders of one prefill side share."""

    transport: Transport[DlistT, HandleT]
    errors: tuple[type[Exception], ...]
    options: SenderOptions
    clock: Clock
    kv: Layout
    aux: Layout | None
    local_kv: DlistT
    local_aux: DlistT | None
    peers: Peers[DlistT, HandleT]
    rooms: Rooms
    quarantine: Quarantine
    unsettled: Unsettled[HandleT]
    unsent: Unsent[DlistT, HandleT]
    ends: Ends
