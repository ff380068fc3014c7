"""A sender and its adapter: what to write is what stands here, with your own sender where a comment says YOURS.

The toy claims the latch profile (clauses KS-1 to KS-3): it releases nothing, quarantines nothing and tells no peer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn

from kvsender_spec.contract import INIT_AGENT, KVPoll, KVUsageError, TransferTimeout
from kvsender_spec.faults import STAND_INS
from kvsender_spec.kit.adapter import NUM_PAGES, Destination, Memory, RoomPlan, World
from kvsender_spec.kit.scripted.fabric import ScriptedDlist, ScriptedHandle
from kvsender_spec.machine import Profile

TRANSPORT_ERRORS: tuple[type[Exception], ...] = (*STAND_INS.values(), RuntimeError)  # YOURS: what your sender catches


class ToySender:
    """YOURS: delete the class and import your sender."""

    def __init__(self, system: ToySystem, plan: RoomPlan) -> None:
        self.system, self.plan = system, plan
        self.sent: list[int] = []
        self.posted = 0
        self.flying: dict[ScriptedHandle, float] = {}  # since when, in seconds
        self.landed: list[ScriptedHandle] = []  # kept, because dropping the last reference releases a handle
        self.cause: Exception | None = None

    def send(self, kv_indices: Sequence[int]) -> None:
        if self.cause is not None:
            return
        pages, first = [*self.sent, *kv_indices], len(self.sent)
        known = set(pages) <= set(range(NUM_PAGES))
        if not known or len(pages) > self.plan.num_pages or len(set(pages)) < len(pages):
            raise KVUsageError(f"{list(kv_indices)}: not the ids of pages that are announced and still to be sent")
        self.sent = pages
        self.post(pages, first)

    def post(self, pages: Sequence[int], first: int) -> None:
        try:
            for target in self.plan.destinations:
                if not target.dummy:
                    handle = self.system.make(self.plan, target, pages, first)
                    self.flying[handle] = self.system.world.clock()
                    self.take(handle, self.system.world.transport.transfer(handle))
            self.posted = len(pages)
        except TRANSPORT_ERRORS as error:
            self.cause = error

    def take(self, handle: ScriptedHandle, answer: str) -> None:
        if answer not in ("PROC", "DONE"):
            raise RuntimeError(f"the transport answered {answer}")
        if answer == "DONE":
            del self.flying[handle]
            self.landed.append(handle)

    def poll(self) -> KVPoll:
        if self.cause is None:
            self.look()
        return self.answer()

    def answer(self) -> KVPoll:
        if self.cause is not None:
            return KVPoll.Failed
        if self.flying or not self.landed or self.posted < self.plan.num_pages:
            return KVPoll.Transferring if self.flying else KVPoll.WaitingForInput
        return KVPoll.Success

    def look(self) -> None:
        world = self.system.world
        try:
            for handle in list(self.flying):
                self.take(handle, world.transport.check_xfer_state(handle))
        except TRANSPORT_ERRORS as error:
            self.cause = error
            return
        if any(world.clock() - since_s >= world.transfer_timeout_s for since_s in self.flying.values()):
            self.cause = TransferTimeout(f"a peer was silent for {world.transfer_timeout_s} s")

    def failure_exception(self) -> NoReturn:
        raise self.cause or KVUsageError(f"room {self.plan.room} has not failed")


class ToySystem:
    """One prefill side: what the senders of a process share. The kit makes a new one for every run."""

    def __init__(self, world: World) -> None:  # YOURS: build your prefill side on this transport, clock and memory
        self.world = world
        memory, agent = world.memory, world.transport
        agent.register_memory([(memory.address(r), len(r), 0, "") for r in memory.kv + memory.aux], "DRAM")
        self.local = agent.prep_xfer_dlist(INIT_AGENT, self.blocks(memory), "DRAM")
        self.remote: dict[str, ScriptedDlist] = {}
        for peer in world.peers:
            agent.add_remote_agent(peer.agent.get_agent_metadata())
            self.remote[peer.name] = agent.prep_xfer_dlist(peer.name, self.blocks(peer.memory), "DRAM")

    def sender(self, plan: RoomPlan) -> ToySender:  # YOURS: a sender on which init() was called
        return ToySender(self, plan)

    def blocks(self, memory: Memory) -> list[tuple[int, int, int]]:
        """Every page of every region, then every aux slot, as (address, bytes, device)."""
        regions = zip(memory.kv + memory.aux, [*memory.PAGE_BYTES, *memory.AUX_BYTES], strict=True)
        return [(memory.address(r) + at, size, 0) for r, size in regions for at in range(0, len(r), size)]

    def make(self, plan: RoomPlan, target: Destination, pages: Sequence[int], first: int) -> ScriptedHandle:
        """The transfer of the pages from the ``first`` on; with the last one goes the aux slot."""
        regions = range(len(Memory.PAGE_BYTES))
        mine = [r * NUM_PAGES + page for r in regions for page in pages[first:]]
        theirs = [r * NUM_PAGES + page for r in regions for page in target.pages[first : len(pages)]]
        if len(pages) == plan.num_pages:
            mine.append(len(regions) * NUM_PAGES + plan.aux_index)
            theirs.append(len(regions) * NUM_PAGES + target.aux_index)
        return self.world.transport.make_prepped_xfer("WRITE", self.local, mine, self.remote[target.peer.name], theirs)


class ToyAdapter:
    name = "toy"
    profile = Profile.LATCH  # YOURS: what your sender claims; QUIESCENT adds KS-4, FULL adds KS-5 to KS-8
    errors: Mapping[str, type[Exception]] = STAND_INS  # YOURS: NIXL's error classes by name, if it knows them
    usage_errors: tuple[type[Exception], ...] = (KVUsageError,)  # YOURS: what it raises for a mistake of its caller

    def open(self, world: World) -> ToySystem:
        return ToySystem(world)


adapter = ToyAdapter()
