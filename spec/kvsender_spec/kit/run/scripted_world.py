"""The world of one setup: the scripted agents, the memory on both sides, who is healthy, what the kit can do to it."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

from kvsender_spec.faults import RETURNED_BY_TRANSPORT, Point
from kvsender_spec.kit.adapter import (
    MOST_ROOMS,
    NUM_AUX_SLOTS,
    NUM_PAGES,
    ROOM_PAGES,
    Destination,
    ManualClock,
    Memory,
    Peer,
    RoomPlan,
    World,
)
from kvsender_spec.kit.scripted.fabric import Fabric, ScriptedHandle
from kvsender_spec.trace import WORLD_CALLS, Call, Granted, Progress, Refilled, Setup, Trace

SENDER_SIDE: Final = "prefill"
READER_SIDE: Final = "decode"
ROOM_IDS: Final = (7, 11, 13)
"""The id of each room of a setup. Ids come back with later incarnations."""
STRAY_ROOM: Final = 17
"""A room beside those of the setup, for mistakes that need one of their own."""

_MOST_PEERS: Final = 4
_FIRST_STAMP: Final = 1000
"""Stamps of a process begin at a multiple of this, so that those of two processes and of two pages differ."""

Content: TypeAlias = Mapping[tuple[str, int, int], bytes]
"""The bytes of pages, by the name of the peer that holds them, the region and the page id."""


def unrunnable(trace: Trace) -> str:
    """Why a trace cannot be run; empty if it can. A trace from a file may say anything."""
    opened: set[int] = set()
    for number, step in enumerate(trace.steps, 2):
        if step.call is Call.OPEN:
            opened.add(step.room)
        elif step.call not in WORLD_CALLS and step.room not in opened:
            return f"line {number}: {step}: room {step.room} was not opened before"
        if step.call in (Call.KILL, Call.STOP, Call.RESTART) and step.room >= trace.setup.peers:
            return f"line {number}: {step}: the setup has {trace.setup.peers} peers"
        if step.call is Call.OPEN and step.room >= len(trace.setup.chunks):
            return f"line {number}: {step}: the setup has {len(trace.setup.chunks)} rooms"
        fault = step.fault
        if fault is not None and fault.kind in RETURNED_BY_TRANSPORT and fault.point not in (Point.POST, Point.CHECK):
            return f"line {number}: {step}: {fault.point} raises or succeeds, and returns no state"
    reason = unrunnable_setup(trace.setup)
    return f"line 1: {reason}" if reason else ""


def unrunnable_setup(setup: Setup) -> str:
    """What the setup has more of than the kit can make; empty if it can be run."""
    for what, count, least, most in (
        ("rooms", len(setup.chunks), 1, MOST_ROOMS),
        ("peers", setup.peers, 1, _MOST_PEERS),
        ("dummies", setup.dummies, 0, _MOST_PEERS),
        ("cached pages", setup.cached, 0, min(sum(chunks) for chunks in setup.chunks)),
        ("pages in a room", max(sum(chunks) for chunks in setup.chunks), 0, 1 if setup.churn else ROOM_PAGES),
    ):
        if not least <= count <= most:
            return f"the setup has {count} {what}; the kit runs {least} to {most}"
    for chunks in setup.chunks:
        if len(chunks) > 1 and chunks[-1] == 0:
            return f"a room of {'+'.join(map(str, chunks))} pages has an empty chunk after its last page"
    return ""


def _misgrant(
    how: Granted, pages: tuple[int, ...], stamps: tuple[int, ...], memory: Memory
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A grant and its stamps, or what they are where they cannot be."""
    match how:
        case Granted.GOOD:
            return pages, stamps
        case Granted.OUT_OF_RANGE | Granted.NEGATIVE:
            # The stamp is that of the page which whoever takes the number modulo the pool finds.
            last = NUM_PAGES if how is Granted.OUT_OF_RANGE else -1
            return (*pages[:-1], last), (*stamps[:-1], memory.stamp(last % NUM_PAGES))
        case Granted.SHORT:
            return pages[:-1], stamps[:-1]
        case Granted.FEW_STAMPS:
            return pages, stamps[:-1]


class ScriptedWorld:
    """What there is around a system under test. Peers lie in real memory, and bytes are really copied."""

    def __init__(self, setup: Setup, errors: Mapping[str, type[Exception]]) -> None:
        self.setup: Final = setup
        self.reads: Final = setup.operation == "READ"
        self.side: Final = READER_SIDE if self.reads else SENDER_SIDE
        """The name of the initiator's agent."""
        self.fabric: Final = Fabric(errors, drops_metadata=setup.drops_metadata, automatic=False)
        self.fabric.done_at_post = setup.done_at_post
        self._started = 0
        """How many processes of peers there were."""
        memory = Memory(filled=not self.reads)
        peers = tuple(self._start(self._name(n)) for n in range(setup.peers + setup.dummies))
        self.world: Final = World(
            self.fabric, self.fabric.agent(self.side, scripted=True), ManualClock(), memory, peers
        )
        self.peers: Final = list(peers)
        """As they are now: one that has come back under another name is another one than in the world."""
        self._spans: Final = [
            (memory.address(region), size, len(region) // size)
            for region, size in zip(memory.kv, memory.PAGE_BYTES, strict=True)
        ]

    # -- peers

    def _name(self, number: int) -> str:
        return f"{SENDER_SIDE if self.reads else READER_SIDE}{number}"

    def _start(self, name: str) -> Peer:
        memory = Memory(filled=self.reads)
        self._started += 1
        agent = self.fabric.agent(name)
        regions = [*memory.kv, *memory.aux]
        if self.reads:
            regions.append(memory.stamps)
            for page in range(NUM_PAGES):
                memory.set_stamp(page, _FIRST_STAMP * self._started + page)
            for region in memory.kv:  # no two processes hold the same content
                region[:] = region[self._started :] + region[: self._started]
        agent.register_memory([(memory.address(r), len(r), 0, "") for r in regions], "DRAM")
        return Peer(name, agent, memory)

    def restart(self, number: int) -> Peer:
        """The peer is a new process, with memory of its own, under its name or, where the setup has it, a new one."""
        peer = self.peers[number]
        generation = peer.generation + 1
        if self.setup.renames:
            self.fabric.kill(peer.name)
            name = f"{self._name(number)}.{generation}"
            fresh = self.peers[number] = replace(self._start(name), generation=generation)
            return fresh
        fresh = self._start(peer.name)
        peer.agent, peer.memory, peer.generation = fresh.agent, fresh.memory, generation
        return peer

    # -- rooms

    def peers_of(self, slot: int) -> frozenset[int]:
        """The numbers of the peers, without the dummies, that the room of a slot writes to."""
        return frozenset(range(self.setup.peers) if self.setup.shared else (slot % self.setup.peers,))

    def first_page(self, incarnation: int) -> int:
        """The first page of an incarnation at its peers. At the sender its pages lie in the opposite order."""
        return incarnation % NUM_PAGES if self.setup.churn else incarnation * ROOM_PAGES

    def plan(self, slot: int, incarnation: int) -> RoomPlan:
        """Where the room of a slot goes: to pages and an aux slot at the peers that no other incarnation has, unless it
        is long gone.
        """
        pages = sum(self.setup.chunks[slot])
        targets = tuple(self.first_page(incarnation) + n for n in range(pages))
        real = [self.peers[number] for number in sorted(self.peers_of(slot))]
        if self.reads:
            return self._granted(slot, incarnation, pages, real)
        # The dummies come first: a sender that ends its list of peers at one of them misses those that follow.
        destinations = [Destination(peer, (), 0, dummy=True) for peer in self.peers[self.setup.peers :]]
        aux = 1 + incarnation % (NUM_AUX_SLOTS - 1)
        destinations += [
            Destination(peer, targets[self.setup.cached * (peer is self.peers[0]) :], aux, dummy=False) for peer in real
        ]
        return RoomPlan(ROOM_IDS[slot], incarnation, pages, incarnation % NUM_AUX_SLOTS, tuple(destinations))

    def _granted(self, slot: int, incarnation: int, pages: int, holders: Sequence[Peer]) -> RoomPlan:
        """What a room reads: of each holder its share of the regions, in the order of the layers.

        Where parts are played the first holder grants pages of which the reader has the content already.
        """
        share = len(Memory.PAGE_BYTES) / len(holders)
        destinations = [Destination(peer, (), 0, dummy=True) for peer in self.peers[self.setup.peers :]]
        for number, peer in enumerate(holders):
            known = min(self.setup.cached, ROOM_PAGES - pages) if peer is self.peers[0] else 0
            held = tuple(self.first_page(incarnation) + n for n in range(known + pages))
            regions = tuple(range(round(share * number), round(share * (number + 1))))
            stamps = tuple(peer.memory.stamp(page) for page in held)
            if slot == 0 and pages and peer is holders[-1]:
                held, stamps = _misgrant(self.setup.granted, held, stamps, peer.memory)
            destinations.append(Destination(peer, held, 0, dummy=False, regions=regions, stamps=stamps))
        return RoomPlan(ROOM_IDS[slot], incarnation, pages, incarnation % NUM_AUX_SLOTS, tuple(destinations))

    def misgranted(self, slot: int, plan: RoomPlan) -> list[tuple[str, tuple[int, ...]]]:
        """The name and pages of whom grants the room of a slot what cannot be."""
        if not self.reads or slot or not plan.num_pages or self.setup.granted is Granted.GOOD:
            return []
        last = plan.destinations[-1]
        return [(last.peer.name, last.pages)]

    def addresses(self, plan: RoomPlan) -> list[int]:
        """Where at its peers each page, slot and stamp of the room begins: a transfer to it is this room's."""
        found: list[int] = []
        for destination in plan.destinations:
            if destination.dummy:
                continue
            memory = destination.peer.memory
            for region, size in zip(memory.kv, memory.PAGE_BYTES, strict=True):
                found += [memory.address(region) + page * size for page in destination.pages]
            if self.reads:
                found += [memory.address(memory.stamps) + page * memory.STAMP_BYTES for page in destination.pages]
                continue
            for region, size in zip(memory.aux, memory.AUX_BYTES, strict=True):
                found.append(memory.address(region) + destination.aux_index * size)
        return found

    def granted(self, plan: RoomPlan) -> Content:
        """What a room reads, as it is now: the content of each granted page of each region, by the peer's name."""
        return {
            (target.peer.name, region, page): target.peer.memory.page(region, page)
            for target in plan.destinations
            if self.reads and not target.dummy
            for region in target.regions
            for page in target.pages
        }

    def refill(self, plan: RoomPlan, memories: Mapping[str, Memory]) -> list[tuple[str, tuple[int, ...]]]:
        """The room's holders give what they granted to another request. Returns the name and pages of those that do."""
        known = range(NUM_PAGES)
        granted = [
            (target.peer.name, tuple(page for page in target.pages if page in known))
            for target in plan.destinations
            if not target.dummy
        ]
        name, pages = granted[0 if self.setup.refilled is Refilled.FIRST else -1]
        wanted = pages[len(pages) - plan.num_pages :]
        if self.setup.refilled is Refilled.FIRST:
            granted = [(name, wanted[:1])]
        elif self.setup.refilled is Refilled.LAST:
            granted = [(name, wanted[-1:])]
        for name, pages in granted:
            for page in pages:
                memories[name].refill(page, whole=self.setup.refilled is not Refilled.BEGUN)
        return granted

    def foreign(self, plan: RoomPlan, granted: Content, read_pages: Sequence[int]) -> str:
        """Where what was read differs from what was granted; empty if nowhere."""
        if len(read_pages) < plan.num_pages:
            return f"only {len(read_pages)} of {plan.num_pages} pages were read"
        for target in plan.destinations:
            wanted = target.pages[len(target.pages) - plan.num_pages :]
            if not target.dummy and (len(wanted) < plan.num_pages or not set(wanted) <= set(range(NUM_PAGES))):
                return f"{target.peer.name} has granted pages {list(target.pages)}, of which the room cannot be read"
            for mine, theirs in zip(read_pages, wanted, strict=False):
                for region in () if target.dummy else target.regions:
                    if self.world.memory.page(region, mine) != granted[target.peer.name, region, theirs]:
                        name = target.peer.name
                        return f"page {mine} of region {region} differs from what {name} granted in page {theirs}"
        return ""

    def difference(self, plan: RoomPlan, memories: Mapping[str, Memory], sent_pages: Sequence[int]) -> str:
        """Where a peer's memory differs from the caller's; empty if nowhere."""
        source = self.world.memory
        for destination in plan.destinations:
            if destination.dummy:
                continue
            name = destination.peer.name
            target = memories[name]
            first = plan.num_pages - len(destination.pages)
            for mine, theirs in zip(sent_pages[first:], destination.pages, strict=False):
                for region in range(len(source.kv)):
                    if source.page(region, mine) != target.page(region, theirs):
                        return f"page {mine} of region {region} differs from page {theirs} of {name}"
            if len(sent_pages) < plan.num_pages:
                return f"only {len(sent_pages)} of {plan.num_pages} pages were sent"
            if source.slot(plan.aux_index) != target.slot(destination.aux_index):
                return f"aux slot {plan.aux_index} differs from slot {destination.aux_index} of {name}"
        return ""

    # -- handles

    def pages_of(self, handle: ScriptedHandle) -> frozenset[int]:
        """The pages at the initiator that a handle reads or writes; aux slots and stamps are not pages."""
        pages: set[int] = set()
        for address, length in handle.local:
            for base, size, count in self._spans:
                if base <= address < base + size * count:
                    pages.update(range((address - base) // size, (address + length - 1 - base) // size + 1))
        return frozenset(pages)

    def let_progress(self, numbers: Container[int] | None, progress: Progress) -> None:
        """Let handles in flight finish, of those with the given numbers, or of all."""
        if progress is Progress.NONE or not self.fabric.copies_in_flight:
            return
        flying = self.fabric.in_flight(self.side)
        if numbers is not None:
            flying = [handle for handle in flying if handle.number in numbers]
        chosen: list[ScriptedHandle] = []
        match progress:
            case Progress.BEGUN | Progress.LANDED:
                for handle in flying:
                    self.fabric.begin(handle, 1.0 if progress is Progress.LANDED else 0.5)
            case Progress.ALL:
                chosen = flying
            case Progress.NEWEST:
                chosen = flying[-1:]
            case Progress.HALF:
                chosen = flying[::2]
            case Progress.PEER_0 | Progress.PEER_1:
                number = 0 if progress is Progress.PEER_0 else 1
                names = [peer.name for peer in self.peers[number : number + 1]]  # a setup may have one peer only
                chosen = [handle for handle in flying if handle.peer in names]
        for handle in chosen:
            self.fabric.finish(handle)
