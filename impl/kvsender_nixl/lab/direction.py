"""What differs between the directions, and nothing else: a sender WRITEs to decode sides, a reader READs from holders.

A direction has the memory of the lab's own side, and the front that registers it. What it answers about rooms and their
bytes a run writes down; it judges nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

import torch

from kvsender_nixl.buffers import AuxBuffers, KVPool
from kvsender_nixl.lab.memory import LAYERS, NUM_PAGES, NUM_SLOTS, SHAPES, ids, tally, touched_bytes, wrong_bytes
from kvsender_nixl.prefill import Prefill
from kvsender_nixl.pull import PullDecode
from kvsender_spec.contract import Clock, KVPoll, Operation
from kvsender_spec.history.record import Place
from kvsender_spec.history.words import CallName, Destination, Says

if TYPE_CHECKING:
    from kvsender_nixl.exchange import TransferInfo
    from kvsender_nixl.lab.memory import Ids, Memory, Tally
    from kvsender_nixl.lab.opened import OpenedRoom
    from kvsender_nixl.lab.peer import LabPeer
    from kvsender_nixl.lab.real_world import RealFront, RealInitiator, RealWorld, Wire
    from kvsender_nixl.side import SenderOptions
    from kvsender_nixl.witness import ProcessIdentity
    from kvsender_spec.history.recording_agent import Transfer


def _no_look(_: ProcessIdentity) -> None:
    """The scenarios say themselves when a process has ended, so that pages are held until then."""


@dataclass(frozen=True, slots=True)
class Bound:
    """The initiator of one room, and its call that hands over a chunk."""

    initiator: RealInitiator
    hand_over: Callable[[Ids], None]


class Direction(ABC):
    """One side that initiates transfers, as a run uses it."""

    call: ClassVar[CallName]
    has_aux: ClassVar[bool]

    front: RealFront
    memory: Memory

    @abstractmethod
    def bind(self, room: int) -> Bound:
        """Make the initiator of a room."""

    def place(self, transfer: Transfer, generation: int) -> Place:
        """What a transfer reads and writes. Descriptors are numbered region by region, so the remainder is the item."""
        if len(transfer.remote.rows) == len(SHAPES):
            return Place(_pages(transfer.local_indices), _pages(transfer.remote_indices), generation=generation)
        return self._beside_pages(transfer, generation)

    @abstractmethod
    def _beside_pages(self, transfer: Transfer, generation: int) -> Place: ...

    @abstractmethod
    def ask(self, number: int, key: int, peers: Sequence[LabPeer], wanted: Sequence[Destination]) -> list[TransferInfo]:
        """What each of these peers tells this side about a room: where it wants it, or from where it grants it."""

    @abstractmethod
    def size(self, room: OpenedRoom, peer: LabPeer) -> int:
        """How many bytes of the pages that were handed over so far travel between this side and the peer."""

    @abstractmethod
    def landed(self, room: OpenedRoom, peer: LabPeer) -> Tally:
        """The bytes where these pages go."""

    @abstractmethod
    def foreign(self, room: OpenedRoom, peer: LabPeer, reused: Sequence[int]) -> int:
        """How many bytes have gone wrong since ``reused`` pages of this side went to its next request."""

    @abstractmethod
    def differ(self, room: OpenedRoom, answering: Mapping[str, LabPeer]) -> str:
        """Where what has arrived differs from what was to be transferred; empty if nowhere, as far as peers answer."""

    @abstractmethod
    def outside(self, rooms: Sequence[OpenedRoom], answering: Mapping[str, LabPeer]) -> Iterator[str]:
        """For each memory that can be looked at: what has changed in it that no room was given; empty if nothing."""

    @abstractmethod
    def told(self, room: OpenedRoom, peer: LabPeer) -> tuple[KVPoll | None, str]:
        """How the room ended as the peer knows it, and why it failed."""


class Sending(Direction):
    """A prefill side, full of the caller's bytes. Its peers have a receiver of their own for each room."""

    call = CallName.SEND
    has_aux = True

    def __init__(self, wire: Wire, name: str, world: RealWorld, options: SenderOptions, clock: Clock) -> None:
        self._name: Final = name
        self.memory = world.pristine.copy()
        aux = AuxBuffers([torch.from_numpy(slots) for slots in self.memory.slots])
        self.front = self._prefill = Prefill(wire, _pool(self.memory), aux, options, clock=clock, look=_no_look)

    def bind(self, room: int) -> Bound:
        sender = self._prefill.sender(room)
        return Bound(sender, sender.send)

    def _beside_pages(self, transfer: Transfer, generation: int) -> Place:
        return Place(aux=int(transfer.remote_indices[0]) % NUM_SLOTS, generation=generation)

    def ask(self, number: int, key: int, peers: Sequence[LabPeer], wanted: Sequence[Destination]) -> list[TransferInfo]:
        return [
            peer.decode.open(
                number, str(key), self._name, target.pages, target.aux, is_dummy=target.dummy, required=len(wanted)
            )
            for peer, target in zip(peers, wanted, strict=True)
        ]

    def size(self, room: OpenedRoom, peer: LabPeer) -> int:  # noqa: ARG002 - each peer gets all
        return sum(SHAPES) * len(room.handed_over)

    def landed(self, room: OpenedRoom, peer: LabPeer) -> Tally:
        return peer.decode.count(room.target(peer)[: len(room.handed_over)])

    def foreign(self, room: OpenedRoom, peer: LabPeer, reused: Sequence[int]) -> int:  # noqa: ARG002 - it shows there
        return self.landed(room, peer).next_request

    def differ(self, room: OpenedRoom, answering: Mapping[str, LabPeer]) -> str:
        for name, peer in answering.items():
            place = room.view.targets[name]
            slots = [] if place.aux is None else [place.aux]
            wrong = peer.decode.compare(room.handed_over, place.pages, [room.view.opened.aux], slots)
            if wrong:
                return f"{wrong} bytes at {name} differ from the sender's"
        return ""

    def outside(self, rooms: Sequence[OpenedRoom], answering: Mapping[str, LabPeer]) -> Iterator[str]:
        for name, peer in answering.items():
            mine = [room.view.targets[name] for room in rooms if room.peers.get(name) is peer]
            slots = [place.aux for place in mine if place.aux is not None]
            touched = peer.decode.touched([page for place in mine for page in place.pages], slots)
            yield f"{touched} bytes at {name} changed" if touched else ""

    def told(self, room: OpenedRoom, peer: LabPeer) -> tuple[KVPoll | None, str]:
        standing = peer.decode.look(str(room.key))
        return standing.poll, standing.reason


class Reading(Direction):
    """A decode side that pulls. Of several holders of a room each has some of the regions, in their order."""

    call = CallName.READ
    has_aux = False

    def __init__(self, wire: Wire, name: str, world: RealWorld, options: SenderOptions, clock: Clock) -> None:  # noqa: ARG002
        self._before: Final = world.empty
        self._source: Final = world.pristine
        self.memory = world.empty.copy()
        self.front = self._decode = PullDecode(wire, _pool(self.memory), options, clock=clock, look=_no_look)
        self._regions: Final[dict[tuple[int, str], tuple[int, ...]]] = {}
        """By the key of a room and the name of a holder."""

    def bind(self, room: int) -> Bound:
        reader = self._decode.reader(room)
        return Bound(reader, reader.read)

    def _beside_pages(self, transfer: Transfer, generation: int) -> Place:
        """The stamps of pages: where they are put is no page."""
        return Place(target=_pages(transfer.remote_indices), generation=generation)

    def ask(self, number: int, key: int, peers: Sequence[LabPeer], wanted: Sequence[Destination]) -> list[TransferInfo]:
        share = len(SHAPES) / max(1, sum(not target.dummy for target in wanted))
        infos: list[TransferInfo] = []
        for place, (peer, target) in enumerate(zip(peers, wanted, strict=True)):
            regions = () if target.dummy else tuple(range(round(share * place), round(share * (place + 1))))
            self._regions[key, peer.name] = regions
            named = regions if len(regions) < len(SHAPES) else ()  # which stands for all
            infos.append(
                peer.holder.grant(
                    number, str(key), target.pages, is_dummy=target.dummy, required=len(wanted), regions=named
                )
            )
        return infos

    def size(self, room: OpenedRoom, peer: LabPeer) -> int:
        return sum(SHAPES[region] for region in self._regions[room.key, peer.name]) * len(room.handed_over)

    def landed(self, room: OpenedRoom, peer: LabPeer) -> Tally:
        return tally(self.memory, ids(room.handed_over), self._regions[room.key, peer.name])

    def foreign(self, room: OpenedRoom, peer: LabPeer, reused: Sequence[int]) -> int:
        """What lands in a reused page overwrites the next request's bytes."""
        return tally(self.memory, ids(reused), self._regions[room.key, peer.name]).request

    def differ(self, room: OpenedRoom, answering: Mapping[str, LabPeer]) -> str:  # noqa: ARG002 - all is here
        for name, peer in room.peers.items():
            regions, granted = self._regions[room.key, name], ids(room.wanted(peer))
            source = (granted + peer.number) % NUM_PAGES  # how a holder's memory is filled
            theirs, ours = ([side.regions[region] for region in regions] for side in (self._source, self.memory))
            wrong = wrong_bytes(theirs, ours, source, ids(room.handed_over))
            if wrong:
                return f"{wrong} bytes differ from what {name} granted"
        return ""

    def outside(self, rooms: Sequence[OpenedRoom], answering: Mapping[str, LabPeer]) -> Iterator[str]:
        given = ids([page for room in rooms for page in room.handed_over])
        touched = touched_bytes(self._before.regions, self.memory.regions, given)
        yield f"{touched} bytes at the reader changed" if touched else ""
        for name, peer in answering.items():
            touched = peer.holder.touched([page for room in rooms for page in room.refilled.get(name, ())])
            yield f"{touched} bytes at {name} changed" if touched else ""

    def told(self, room: OpenedRoom, peer: LabPeer) -> tuple[KVPoll | None, str]:
        ends = [heard for heard in room.view.heard.get(peer.name, []) if heard.says is not Says.PROGRESS]
        if not ends:
            return None, "it has heard nothing"
        return (KVPoll.Success if ends[0].says is Says.SUCCESS else KVPoll.Failed), ends[0].reason


DIRECTIONS: Final[Mapping[Operation, type[Sending] | type[Reading]]] = {"WRITE": Sending, "READ": Reading}


def _pool(memory: Memory) -> KVPool:
    tensors = [torch.from_numpy(region) for region in memory.regions]
    return KVPool(tensors[:LAYERS], tensors[LAYERS:])


def _pages(indices: Ids) -> tuple[int, ...]:
    return tuple(dict.fromkeys((indices % NUM_PAGES).tolist()))
