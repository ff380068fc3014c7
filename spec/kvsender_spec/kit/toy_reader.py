"""A reader and its adapter: what to write is what stands here, with your own reader where a comment says YOURS.

The toy claims the latch profile (clauses KS-1 to KS-3): it releases nothing, quarantines nothing and tells no holder.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import NoReturn

from kvsender_spec.contract import INIT_AGENT, KVPoll, KVUsageError, Operation, TransferTimeout
from kvsender_spec.faults import STAND_INS
from kvsender_spec.kit.adapter import NUM_PAGES, Destination, Memory, RoomPlan, World
from kvsender_spec.kit.scripted.fabric import ScriptedDlist, ScriptedHandle
from kvsender_spec.machine import Profile

TRANSPORT_ERRORS: tuple[type[Exception], ...] = (*STAND_INS.values(), RuntimeError)  # YOURS: what your reader catches
STAMP = Memory.STAMP_BYTES


class ToyReader:
    """YOURS: delete the class and import your reader."""

    def __init__(self, system: ToyDecode, plan: RoomPlan) -> None:
        self.system, self.plan = system, plan
        self.holders = [target for target in plan.destinations if not target.dummy]
        self.pages: list[int] = []
        self.begun = False
        self.asked_for_stamps = False
        self.flying: dict[ScriptedHandle, float] = {}  # since when, in seconds
        self.landed: list[ScriptedHandle] = []  # kept, because dropping the last reference releases a handle
        self.cause: Exception | None = None
        self.done = False

    def read(self, kv_indices: Sequence[int]) -> None:
        if self.cause is not None:
            return
        pages, first = [*self.pages, *kv_indices], len(self.pages)
        known = set(pages) <= set(range(NUM_PAGES))
        if not known or len(pages) > self.plan.num_pages or len(set(pages)) < len(pages):
            raise KVUsageError(f"{list(kv_indices)}: not the ids of pages that are announced and still to be read")
        self.pages, self.begun = pages, True
        if kv_indices:
            self.post([self.system.data(holder, self.plan, pages, first) for holder in self.holders])

    def post(self, lists: Sequence[tuple[ScriptedDlist, list[int], ScriptedDlist, list[int]]]) -> None:
        agent = self.system.world.transport
        try:
            for mine, here, theirs, there in lists:
                handle = agent.make_prepped_xfer("READ", mine, here, theirs, there)
                self.flying[handle] = self.system.world.clock()
                self.take(handle, agent.transfer(handle))
        except TRANSPORT_ERRORS as error:
            self.cause = error

    def take(self, handle: ScriptedHandle, answer: str) -> None:
        if answer not in ("PROC", "DONE"):
            raise RuntimeError(f"the transport answered {answer}")
        if answer == "DONE":
            del self.flying[handle]
            self.landed.append(handle)

    def poll(self) -> KVPoll:
        if self.cause is None and not self.done:
            self.look()
        if self.cause is not None:
            return KVPoll.Failed
        if self.done:
            return KVPoll.Success
        return KVPoll.Transferring if self.begun else KVPoll.WaitingForInput

    def look(self) -> None:
        world = self.system.world
        try:
            for handle in list(self.flying):
                self.take(handle, world.transport.check_xfer_state(handle))
        except TRANSPORT_ERRORS as error:
            self.cause = error
            return
        if any(world.clock() - since_s >= world.transfer_timeout_s for since_s in self.flying.values()):
            self.cause = TransferTimeout(f"a holder was silent for {world.transfer_timeout_s} s")
        elif self.begun and len(self.pages) == self.plan.num_pages and not self.flying:
            self.finish()

    def finish(self) -> None:
        """The data are here: read the stamps. The stamps are here as well: compare them."""
        if self.pages and not self.asked_for_stamps:
            self.asked_for_stamps = True
            self.post([self.system.stamps(number, holder, self.pages) for number, holder in enumerate(self.holders)])
        elif all(self.system.holds(number, holder, self.pages) for number, holder in enumerate(self.holders)):
            self.done = True
        else:
            self.cause = ConnectionError(f"room {self.plan.room}: a holder has refilled what it granted")

    def failure_exception(self) -> NoReturn:
        raise self.cause or KVUsageError(f"room {self.plan.room} has not failed")


class ToyDecode:
    """One decode side. The kit makes a new one for every run."""

    def __init__(self, world: World) -> None:  # YOURS: build your decode side on this transport, clock and memory
        self.world = world
        memory, agent = world.memory, world.transport
        self.scratch = bytearray(STAMP * NUM_PAGES * len(world.peers))
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.scratch))
        regions = [(memory.address(r), len(r), 0, "") for r in memory.kv]
        agent.register_memory([*regions, (self.address, len(self.scratch), 0, "")], "DRAM")
        self.mine = agent.prep_xfer_dlist(INIT_AGENT, self.blocks(memory), "DRAM")
        stamps = [(self.address + at, STAMP, 0) for at in range(0, len(self.scratch), STAMP)]
        self.my_stamps = agent.prep_xfer_dlist(INIT_AGENT, stamps, "DRAM")
        self.theirs: dict[str, tuple[ScriptedDlist, ScriptedDlist]] = {}
        for peer in world.peers:
            agent.add_remote_agent(peer.agent.get_agent_metadata())
            first = peer.memory.address(peer.memory.stamps)
            stamps = [(first + page * STAMP, STAMP, 0) for page in range(NUM_PAGES)]
            data = agent.prep_xfer_dlist(peer.name, self.blocks(peer.memory), "DRAM")
            self.theirs[peer.name] = data, agent.prep_xfer_dlist(peer.name, stamps, "DRAM")

    def reader(self, plan: RoomPlan) -> ToyReader:  # YOURS: a reader on which init() was called
        return ToyReader(self, plan)

    def blocks(self, memory: Memory) -> list[tuple[int, int, int]]:
        """Every page of every region, as (address, bytes, device)."""
        regions = zip(memory.kv, memory.PAGE_BYTES, strict=True)
        return [(memory.address(r) + at, size, 0) for r, size in regions for at in range(0, len(r), size)]

    def data(
        self, holder: Destination, plan: RoomPlan, pages: Sequence[int], first: int
    ) -> tuple[ScriptedDlist, list[int], ScriptedDlist, list[int]]:
        """What reads the pages from the ``first`` on, of this holder's regions."""
        wanted = holder.pages[len(holder.pages) - plan.num_pages :][first : len(pages)]
        here = [region * NUM_PAGES + page for region in holder.regions for page in pages[first:]]
        there = [region * NUM_PAGES + page for region in holder.regions for page in wanted]
        return self.mine, here, self.theirs[holder.peer.name][0], there

    def stamps(
        self, number: int, holder: Destination, pages: Sequence[int]
    ) -> tuple[ScriptedDlist, list[int], ScriptedDlist, list[int]]:
        """What reads the stamps of all these pages."""
        there = list(holder.pages[len(holder.pages) - len(pages) :])
        return self.my_stamps, self.slots(number, pages), self.theirs[holder.peer.name][1], there

    def holds(self, number: int, holder: Destination, pages: Sequence[int]) -> bool:
        found = [int.from_bytes(self.scratch[slot * STAMP :][:STAMP], "little") for slot in self.slots(number, pages)]
        return found == list(holder.stamps[len(holder.stamps) - len(pages) :])

    def slots(self, number: int, pages: Sequence[int]) -> list[int]:
        return [number * NUM_PAGES + page for page in pages]


class ToyReaderAdapter:
    name = "toy"
    profile = Profile.LATCH  # YOURS: what your reader claims; QUIESCENT adds KS-4, FULL adds KS-5 to KS-8
    operation: Operation = "READ"
    errors: Mapping[str, type[Exception]] = STAND_INS  # YOURS: NIXL's error classes by name, if it knows them
    usage_errors: tuple[type[Exception], ...] = (KVUsageError,)  # YOURS: what it raises for a mistake of its caller

    def open(self, world: World) -> ToyDecode:
        return ToyDecode(world)


adapter = ToyReaderAdapter()
