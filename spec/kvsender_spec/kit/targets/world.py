"""The world of a target: its memory and clock, and the initiators, whom the kit plays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from kvsender_spec.history.words import How, Says
from kvsender_spec.kit.scripted.fabric import Fabric
from kvsender_spec.kit.targets.adapter import Notice, TargetPlan
from kvsender_spec.kit.world import NUM_PAGES, ManualClock, Memory, Peer, World
from kvsender_spec.trace import Setup

RECEIVER_SIDE: Final = "decode"
HOLDER_SIDE: Final = "prefill"
ROOM_IDS: Final = (7, 11, 13)
"""The id of each room of a setup. Ids come back with later incarnations."""
UNKNOWN_ROOM: Final = 99
UNKNOWN_INCARNATION: Final = 999
STRANGER: Final = "stranger"


@dataclass(slots=True)
class Initiating:
    """What one initiator does in one room: the kit's own state, which the target learns from notices alone."""

    peer: Peer
    generation: int
    parts: int
    landed: int = 0
    """So many parts are in place, or were read."""
    told: set[int] = field(default_factory=set)
    """The parts that it has said, or believes to have said."""
    ended: Notice | None = None
    """How it has ended the room, where it has."""
    quiesced: bool = False
    heard: set[tuple[Says, int]] = field(default_factory=set)
    """What of it has arrived: what it says, and which part."""

    @property
    def may_land(self) -> bool:
        """Bytes of it may still move."""
        return not self.quiesced and self.landed < self.parts and self.peer.generation == self.generation

    def notice(self, says: Says, how: How) -> Notice | None:
        """What it says now; None where it would be a lie, or means nothing."""
        if self.peer.generation != self.generation:
            return None
        untold = [part for part in range(self.landed) if part not in self.told]
        match says:
            case Says.PROGRESS:
                if how is How.AGAIN:
                    return Notice(says, max(self.told), self.parts) if self.told else None
                part = (untold[-1] if how is How.NEWEST else untold[0]) if untold else None
                return None if part is None else Notice(says, part, self.parts)
            case Says.SUCCESS:
                if how is How.AGAIN:
                    return self.ended
                good = self.landed == self.parts and not self.quiesced and self.ended is None
                return Notice(says, parts=self.parts) if good else None
            case Says.FAILURE:
                if how is How.AGAIN:
                    return self.ended
                return None if self.ended is not None else Notice(says, parts=self.parts, reason="the post failed")
            case Says.QUIESCED:
                if self.quiesced or (self.ended is not None and self.ended.says is Says.SUCCESS):
                    return self.ended if how is How.AGAIN else None
                if self.ended is None:
                    return Notice(Says.FAILURE, parts=self.parts, quiesced=True, reason="given up")
                return Notice(says, parts=self.parts)
            case Says.RENEW:
                return Notice(says, parts=self.parts) if self.ended is None else None
            case _:
                return None

    def has_said(self, notice: Notice) -> None:
        """It believes that this has been told."""
        if notice.says is Says.PROGRESS:
            self.told.add(notice.part)
        elif notice.says is not Says.RENEW:
            self.ended = notice
            self.quiesced = self.quiesced or notice.quiesced or notice.says is not Says.FAILURE


class TargetWorld:
    """What there is around a target. Peers are the initiators, each with an agent on the fabric, as the target has."""

    def __init__(self, setup: Setup, errors: Mapping[str, type[Exception]]) -> None:
        self.setup: Final = setup
        self.reads: Final = setup.operation == "READ"
        self.fabric: Final = Fabric(errors, automatic=False)
        names = HOLDER_SIDE if not self.reads else RECEIVER_SIDE
        self.side: Final = HOLDER_SIDE if self.reads else RECEIVER_SIDE
        self.peers: Final = [self._start(f"{names}{number}") for number in range(setup.peers)]
        self.stranger: Final = self._start(STRANGER)
        memory = Memory(filled=self.reads)
        if self.reads:
            for page in range(NUM_PAGES):
                memory.set_stamp(page, 1000 + 2 * page)
        clock, agent = ManualClock(), self.fabric.agent(self.side, scripted=True)
        self.world: Final = World(self.fabric, agent, clock, memory, (*self.peers, self.stranger))

    def _start(self, name: str) -> Peer:
        memory, agent = Memory(filled=not self.reads), self.fabric.agent(name)
        agent.register_memory([(memory.address(r), len(r), 0, "") for r in (*memory.kv, *memory.aux)], "DRAM")
        return Peer(name, agent, memory)

    def connect(self) -> None:
        """The initiators know the target's agent: they can send it notifications."""
        for peer in (*self.peers, self.stranger):
            self.acquaint(peer)

    def acquaint(self, peer: Peer) -> None:
        peer.agent.add_remote_agent(self.world.transport.get_agent_metadata())

    def restart(self, number: int) -> Peer:
        """The initiator is a new process under its name."""
        peer = self.peers[number]
        fresh = self._start(peer.name)
        peer.agent, peer.memory, peer.generation = fresh.agent, fresh.memory, peer.generation + 1
        self.acquaint(peer)
        return peer

    def initiators_of(self, slot: int) -> tuple[Peer, ...]:
        """Those of the room of a slot."""
        return tuple(self.peers) if self.setup.shared else (self.peers[slot % len(self.peers)],)

    def plan(self, slot: int, incarnation: int, taken: frozenset[int]) -> TargetPlan | None:
        """The next opening of a slot, at the lowest pages that are not taken; None where there are too few."""
        count = sum(self.setup.chunks[slot])
        free = [page for page in range(NUM_PAGES) if page not in taken]
        if len(free) < count:
            return None
        return TargetPlan(
            room=ROOM_IDS[slot],
            incarnation=incarnation,
            pages=tuple(free[:count]),
            aux_index=1 + incarnation % 4,
            initiators=self.initiators_of(slot),
            parts=len(self.setup.chunks[slot]),
            timeout_s=self.world.transfer_timeout_s,
        )

    def unknown(self, plan: TargetPlan) -> TargetPlan:
        """A room that nobody has opened."""
        return replace(plan, room=UNKNOWN_ROOM, incarnation=UNKNOWN_INCARNATION)

    def land(self, slot: int, plan: TargetPlan, initiator: Initiating) -> int:
        """The bytes of the initiator's next part move. Returns how many."""
        chunks = self.setup.chunks[slot]
        first = sum(chunks[: initiator.landed])
        pages = plan.pages[first : first + chunks[initiator.landed]]
        initiator.landed += 1
        here, there = self.world.memory, initiator.peer.memory
        source, sink = (here, there) if self.reads else (there, here)
        moved = 0
        for number, size in enumerate(Memory.PAGE_BYTES):
            if number % len(plan.initiators) != plan.initiators.index(initiator.peer):
                continue  # each initiator has its share of the layers
            for page in pages:
                at = page * size
                sink.kv[number][at : at + size] = source.kv[number][at : at + size]
                moved += size
        return moved
