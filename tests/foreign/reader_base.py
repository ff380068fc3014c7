"""What a reader's engine keeps: connections to holders, what a request was granted, jobs to post, and flights."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import RLock
from typing import ClassVar, Final, Literal, TypeAlias

from kvsender_spec.contract import INIT_AGENT, Attribution, KVPoll, KVUsageError, Operation
from kvsender_spec.faults import STAND_INS
from kvsender_spec.kit.adapter import NUM_PAGES, Destination, Memory, Peer, ReaderSystem, RoomPlan, World
from kvsender_spec.kit.scripted.fabric import ScriptedDlist, ScriptedHandle
from kvsender_spec.machine import Profile

log = logging.getLogger(__name__)
TRANSPORT: Final[tuple[type[Exception], ...]] = (*STAND_INS.values(), RuntimeError)
STAMP: Final = Memory.STAMP_BYTES

Row: TypeAlias = tuple[int, int, int]
"""(address, bytes, device)"""


@dataclass(frozen=True)
class Kind:
    """An adapter: a name and how to open a system."""

    name: str
    opens: Callable[[World], ReaderSystem]
    profile: Profile = Profile.FULL
    operation: Operation = "READ"
    errors: Mapping[str, type[Exception]] = field(default_factory=lambda: STAND_INS)
    usage_errors: tuple[type[Exception], ...] = (KVUsageError,)

    def open(self, world: World) -> ReaderSystem:
        return self.opens(world)


class StaleGrant(ConnectionError):
    """A holder has started over, or has given what it granted to another request."""


REFUSED: Final[tuple[type[Exception], ...]] = (*TRANSPORT, StaleGrant)


def blame(error: Exception) -> Attribution:
    """Who caused what the transport has raised, or a stale grant."""
    peer = isinstance(error, StaleGrant | STAND_INS["nixlRemoteDisconnectError"])
    return Attribution.PEER if peer else Attribution.LOCAL


@dataclass(eq=False)
class Conn:
    """One connection to one process of a holder."""

    name: str
    generation: int
    data: ScriptedDlist
    stamps: ScriptedDlist


class Holder:
    """What one prefill rank granted to one request."""

    def __init__(self, number: int, dest: Destination, num_pages: int) -> None:
        self.number, self.peer, self.generation = number, dest.peer, dest.peer.generation
        skip = len(dest.pages) - num_pages
        self.misfit = skip < 0 or len(dest.stamps) != len(dest.pages)
        self.pages, self.stamps, self.regions = dest.pages[skip:], dest.stamps[skip:], dest.regions


@dataclass(eq=False)
class Job:
    """A READ to be posted: rows here and at the holder, the pages here that it is about, and those of the grant."""

    kind: Literal["data", "stamp"]
    holder: Holder
    here: list[int]
    there: list[int]
    pages: list[int]
    granted: list[int]
    handle: ScriptedHandle | None = None
    """Where it was made before it is posted."""


@dataclass(eq=False)
class Flight:
    """A READ that was posted."""

    handle: ScriptedHandle | None
    req: Request
    job: Job
    since: float

    @property
    def pages(self) -> list[int]:
        return self.job.pages


class Request:
    """One room."""

    def __init__(self, plan: RoomPlan) -> None:
        self.plan, self.room, self.incarnation, self.total = plan, plan.room, plan.incarnation, plan.num_pages
        live = [dest for dest in plan.destinations if not dest.dummy]
        self.holders = [Holder(number, dest, plan.num_pages) for number, dest in enumerate(live)]
        self.pages: list[int] = []
        self.begun = self.asked = False
        self.jobs: list[Job] = []
        self.flights: list[Flight] = []
        self.cause: Exception | None = None
        self.who = Attribution.INTERNAL
        self.drain_since = 0.0
        self.over: KVPoll | None = None
        self.untold: list[Holder] = []
        self.cleared = False

    @property
    def failed(self) -> bool:
        return self.cause is not None

    @property
    def complete(self) -> bool:
        return self.begun and len(self.pages) == self.total


class Connections:
    """The decode side's memory, and its connections to holders."""

    STAMP_SLOTS: ClassVar = NUM_PAGES * 2

    def __init__(self, world: World) -> None:
        self.world, self.agent, self.lock = world, world.transport, RLock()
        self.conns: dict[str, Conn] = {}
        memory = world.memory
        self.scratch = bytearray(STAMP * self.STAMP_SLOTS)
        self.scratch_at = ctypes.addressof(ctypes.c_char.from_buffer(self.scratch))
        regions = [(memory.address(region), len(region), 0, "") for region in memory.kv]
        self.agent.register_memory([*regions, (self.scratch_at, len(self.scratch), 0, "")], "DRAM")
        self.mine = self.agent.prep_xfer_dlist(INIT_AGENT, self.blocks(memory), "DRAM")
        slots = [(self.scratch_at + slot * STAMP, STAMP, 0) for slot in range(self.STAMP_SLOTS)]
        self.my_stamps = self.agent.prep_xfer_dlist(INIT_AGENT, slots, "DRAM")
        self.first_contact()

    def first_contact(self) -> None:
        for peer in self.world.peers:
            self.reconnect(peer)

    @staticmethod
    def blocks(memory: Memory) -> list[Row]:
        regions = list(zip(memory.kv, memory.PAGE_BYTES, strict=True))
        return [(memory.address(r) + page * size, size, 0) for r, size in regions for page in range(NUM_PAGES)]

    @staticmethod
    def stamp_blocks(memory: Memory) -> list[Row]:
        at = memory.address(memory.stamps)
        return [(at + page * STAMP, STAMP, 0) for page in range(NUM_PAGES)]

    def reconnect(self, peer: Peer) -> None:
        with self.lock:
            known = self.conns.get(peer.name)
            if known is not None and known.generation == peer.generation:
                return  # a request that needed it was faster
            try:
                self.connect(peer)
            except TRANSPORT as error:
                log.warning("no connection to %s yet: %s", peer.name, error)

    def connect(self, peer: Peer) -> None:
        old = self.conns.pop(peer.name, None)
        if old is not None:
            self.disconnect(old)
        self.agent.add_remote_agent(peer.agent.get_agent_metadata())
        try:
            data = self.agent.prep_xfer_dlist(peer.name, self.blocks(peer.memory), "DRAM")
            stamps = self.agent.prep_xfer_dlist(peer.name, self.stamp_blocks(peer.memory), "DRAM")
        except TRANSPORT:
            self.agent.remove_remote_agent(peer.name)
            raise
        self.conns[peer.name] = Conn(peer.name, peer.generation, data, stamps)

    def disconnect(self, conn: Conn) -> None:
        self.agent.remove_remote_agent(conn.name)
        self.agent.release_dlist_handle(conn.data)
        self.agent.release_dlist_handle(conn.stamps)

    def conn(self, holder: Holder) -> Conn:
        if holder.generation != holder.peer.generation:
            raise StaleGrant(f"{holder.peer.name} has started over since it granted")
        conn = self.conns.get(holder.peer.name)
        if conn is None or conn.generation != holder.generation:
            self.connect(holder.peer)
            conn = self.conns[holder.peer.name]
        return conn

    def slots(self, holder: Holder, pages: Sequence[int]) -> list[int]:
        return [holder.number * NUM_PAGES + page for page in pages]

    def found(self, holder: Holder, pages: Sequence[int]) -> list[int]:
        """The stamps that were read for these pages."""
        slots = self.slots(holder, pages)
        return [int.from_bytes(self.scratch[slot * STAMP :][:STAMP], "little") for slot in slots]
