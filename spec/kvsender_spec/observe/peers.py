"""What is known of the peers and of the subject itself: what all rooms share, and what it means for each of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from kvsender_spec.history.events import (
    ErrorSeen,
    LinkCut,
    PeerAdded,
    PeerLost,
    PeerResumed,
    PeerReturned,
    PeerSilent,
)
from kvsender_spec.observe.room import RoomView
from kvsender_spec.oracle import Cause, CauseKind


@dataclass(slots=True)
class PeerView:
    """One peer, by name, over all its processes."""

    name: str
    silent: bool = False
    lost: bool = False
    """Its process, or the connection to it, is gone, as far as anybody knows."""
    ever_unhealthy: bool = False
    returned: bool = False
    """A new process has come back under its name."""
    now: str = ""
    """The name under which a new process has taken its place; empty where none has."""
    unreachable: bool = False
    """A notification towards it has failed: nobody can ask that it knows."""
    added_since: int | None = None
    """How often it was added since it returned; None if it has not, is gone again, or was added too often."""
    added_once: bool = False
    """That it was added once has been seen."""
    connect_error: Cause | None = None
    """What connecting to it has raised last, until it was connected."""

    @property
    def healthy(self) -> bool:
        return not (self.silent or self.lost)

    @property
    def reachable(self) -> bool:
        """It has been well, and could be told, all the time."""
        return not (self.ever_unhealthy or self.unreachable)

    def fall(self, *, lost: bool) -> None:
        """It is gone, cut off, or stopped."""
        self.ever_unhealthy = True
        self.silent = self.silent or not lost
        self.lost = self.lost or lost
        self.added_since = None if lost else self.added_since

    def come_back(self) -> None:
        """A new process has its name."""
        self.silent = self.lost = False
        self.ever_unhealthy = self.returned = True
        self.added_since, self.added_once = 0, False
        self.connect_error = None  # that was about the process that is gone


@dataclass(slots=True)
class SubjectView:
    """The sender's side as a whole."""

    peers: dict[str, PeerView] = field(default_factory=dict)
    returned: bool = False
    """Some peer has come back as a new process."""
    faulted: set[int] = field(default_factory=set)
    """The keys of the rooms that had a fault, or were given up."""
    raised: dict[int, int | None] = field(default_factory=dict)
    """The errors that the transport has answered, each with the call during which it did."""
    ended_workers: list[str] = field(default_factory=list)
    tried_workers: bool = False
    """Something has happened since the last look that ends a careless worker."""
    sends: int = 0
    over_since: float | None = None
    """When the faults were over."""
    settles: bool = True
    lossy: bool = False
    """Events were lost: what rests on absence cannot be told any more."""
    strays: set[int] = field(default_factory=set)
    """Calls of senders that no room was opened for, as one that is made for a mistake of the caller's."""
    mark: str = ""
    """The clause that broke for all rooms together, such as KS-7.1 when a worker ended."""

    def peer(self, name: str) -> PeerView:
        found = self.peers.get(name)
        if found is None:
            found = self.peers[name] = PeerView(name)
        return found


def opened_to(room: RoomView, peers: Sequence[PeerView]) -> None:
    """A room was opened to these peers, as they are."""
    room.recovered = any(peer.returned for peer in peers)
    room.unhealthy = any(not peer.healthy for peer in peers)
    if any(peer.lost for peer in peers):
        room.peer_lost()
    for peer in peers:
        if peer.connect_error is not None:
            room.oracle.may_fault(peer.connect_error, from_now_on=True)


def peer_changed(
    event: PeerLost | LinkCut | PeerSilent | PeerResumed | PeerReturned | PeerAdded,
    peer: PeerView,
    rooms: Iterable[RoomView],
    errors: Mapping[int, ErrorSeen],
) -> None:
    """Something happened to a peer; ``rooms`` are all that were opened."""
    match event:
        case PeerLost() | LinkCut() | PeerSilent():
            peer.fall(lost=not isinstance(event, PeerSilent))
            for room in rooms:
                room.unhealthy = room.unhealthy or peer.name in room.targets
        case PeerResumed():
            peer.silent = False
        case PeerReturned() if event.was:
            peer.come_back()
        case PeerReturned():
            disconnected(peer, rooms)
            peer.come_back()
        case PeerAdded(error=None):
            peer.connect_error = None
            peer.added_since = None if peer.added_since is None else peer.added_since + 1
        case PeerAdded(error=int(ref)) if ref in errors:
            # Connecting raised; the sender may take that for the cause of each of the peer's rooms, at any time.
            cause = peer.connect_error = Cause(CauseKind.RAISED, errors[ref])
            for room in rooms:
                if peer.name in room.targets:
                    room.oracle.may_fault(cause, from_now_on=True)
        case PeerAdded():
            pass


def disconnected(peer: PeerView, rooms: Iterable[RoomView], told: RoomView | None = None) -> None:
    """The subject knows that the peer is lost. The room that was ``told`` has the error itself for a cause."""
    peer.fall(lost=True)
    for room in rooms:
        if peer.name in room.targets:
            room.unhealthy = True
            if room is not told:
                room.peer_lost()
