"""The reference reader, as the conformance kit sees it: ``kvsender check kvsender_nixl.reader_adapter:adapter``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from kvsender_nixl.adapter import InKitsWords, SystemOf, incarnation, kv_pool, options_of, pages
from kvsender_nixl.agent import ERROR_CLASSES
from kvsender_nixl.buffers import Layout, Region
from kvsender_nixl.exchange import Grant, PeerMetadata
from kvsender_nixl.pull import PullDecode
from kvsender_nixl.reader import KVReader
from kvsender_nixl.side import SenderOptions
from kvsender_spec.contract import KVUsageError, Operation
from kvsender_spec.faults import STAND_INS
from kvsender_spec.kit.adapter import NUM_PAGES, Destination, Memory, Peer, RoomPlan, World
from kvsender_spec.kit.scripted.fabric import ScriptedDlist, ScriptedHandle
from kvsender_spec.machine import Profile


def _metadata(peer: Peer) -> PeerMetadata:
    memory = peer.memory
    stamps = Layout((Region(memory.address(memory.stamps), Memory.STAMP_BYTES, NUM_PAGES),))
    return PeerMetadata(peer.name, peer.agent.get_agent_metadata(), kv_pool(memory).layout, stamps, incarnation(peer))


def _in_the_pool(regions: Sequence[int]) -> tuple[int, ...]:
    """The kit's regions are K and V of each layer in turn, the pool's are every K and then every V."""
    layers = len(Memory.PAGE_BYTES) // 2
    return tuple(region // 2 + layers * (region % 2) for region in regions)


def _grant(plan: RoomPlan, holder: Destination) -> Grant:
    """Raises KVUsageError where it cannot be: what a holder says over a wire is refused when it is read."""
    try:
        return Grant(
            room=plan.room,
            token=str(plan.incarnation),
            agent_name=holder.peer.name,
            dst_kv_indices=np.array(holder.pages, dtype=np.int32),
            is_dummy=holder.dummy,
            required_dst_info_num=len(plan.destinations),
            stamps=np.array(holder.stamps, dtype=np.uint64),
            regions=_in_the_pool(holder.regions),
            incarnation=incarnation(holder.peer),
        )
    except ValueError as error:
        raise KVUsageError(str(error)) from error


class ListReader(InKitsWords):
    """A reader that takes the kit's plain lists of page ids."""

    def __init__(self, reader: KVReader[ScriptedDlist, ScriptedHandle]) -> None:
        super().__init__(reader)
        self._reader: Final = reader

    def read(self, kv_indices: Sequence[int]) -> None:
        self._reader.read(pages(kv_indices))


class ReadingSystem(SystemOf[PullDecode[ScriptedDlist, ScriptedHandle]]):
    """One decode side of the reference reader."""

    takes_parts: Final = True

    def __init__(self, world: World, options: SenderOptions, errors: Mapping[str, type[Exception]]) -> None:
        super().__init__(
            PullDecode(
                world.transport,
                kv_pool(world.memory),
                options,
                clock=world.clock,
                transport_errors=(*errors.values(), RuntimeError),
                spawn=lambda work: work(),
            )
        )
        for peer in world.peers:
            self.reconnect(peer)

    def reader(self, plan: RoomPlan) -> ListReader:
        reader = self._bound(plan)
        reader.init(plan.num_pages)
        return ListReader(reader)

    def uninitialised(self, plan: RoomPlan) -> ListReader:
        return ListReader(self._bound(plan))

    def _bound(self, plan: RoomPlan) -> KVReader[ScriptedDlist, ScriptedHandle]:
        try:
            for holder in plan.destinations:
                self._front.add_transfer_info(_grant(plan, holder))
        except KVUsageError:
            self._front.reader(plan.room).clear()  # what other holders have granted is not wanted any more
            raise
        return self._front.reader(plan.room)

    def reconnect(self, peer: Peer) -> None:
        self._front.register_peer(_metadata(peer))


class ReaderAdapter:
    """The reference reader. Without nixl it runs on stand-ins for NIXL's error classes."""

    name: Final = "kvsender_nixl reader"
    profile: Final = Profile.FULL
    operation: Final[Operation] = "READ"
    errors: Final[Mapping[str, type[Exception]]] = ERROR_CLASSES or STAND_INS
    usage_errors: Final[tuple[type[Exception], ...]] = (KVUsageError,)

    def open(self, world: World) -> ReadingSystem:
        return ReadingSystem(world, options_of(world, self.profile), self.errors)


adapter: Final = ReaderAdapter()
