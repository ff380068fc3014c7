"""A small right receiver and a small right holder, in one file each needs: the base of the targets' mutants.

Both keep one record a room. Their protocol is a line of words; what an initiator says is read in ``take``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from kvsender_spec.contract import (
    Attribution,
    KVPoll,
    KVTransferError,
    KVUsageError,
    Operation,
    Role,
    TransferAborted,
    TransferTimeout,
)
from kvsender_spec.faults import STAND_INS
from kvsender_spec.history.words import Says
from kvsender_spec.kit.adapter import Peer, World
from kvsender_spec.kit.targets.adapter import Notice, TargetPlan
from kvsender_spec.machine import Profile

TRANSPORT_ERRORS: tuple[type[Exception], ...] = (*STAND_INS.values(), RuntimeError)
MAGIC = "tgt"


class InitiatorFailed(Exception):
    """What an initiator has told of its failure."""


@dataclass(frozen=True)
class Word:
    """One notification, read. ``name`` is the agent that has sent it."""

    name: str
    room: int
    incarnation: int
    generation: int
    says: Says
    part: int
    parts: int
    quiesced: bool


@dataclass
class Exposure:
    """What one initiator may still do to a room's pages, and what it has said."""

    generation: int
    parts: set[int] = field(default_factory=set)
    total: int | None = None
    quiet: bool = False
    failed: bool = False
    told: bool = False


class InlineTarget:
    """One room."""

    def __init__(self, side: InlineTargetSide, plan: TargetPlan) -> None:
        self.side, self.plan = side, plan
        self.exposed = {peer.name: Exposure(peer.generation) for peer in plan.initiators}
        self.deadline = side.world.clock() + plan.timeout_s
        self.heard_at = side.world.clock()
        self.cause: Exception | None = None
        self.whose = Attribution.INTERNAL
        self.answer: KVPoll | None = None
        self.cleared = False

    # -- what the owner calls

    def poll(self) -> KVPoll:
        self.side.drain()
        self.look()
        if self.answer is not None:
            return self.answer
        begun = any(exposure.parts for exposure in self.exposed.values())
        return KVPoll.Transferring if begun else KVPoll.WaitingForInput

    def failure_exception(self) -> NoReturn:
        if self.cause is None:
            raise KVUsageError(f"room {self.plan.room} has not failed")
        said = f"{type(self.cause).__name__}: {self.cause}"
        raise KVTransferError(self.plan.room, said, self.whose) from self.cause

    def abort(self) -> None:
        self.fail(TransferAborted("aborted by its owner"), Attribution.CALLER)

    def clear(self) -> None:
        self.fail(TransferAborted("cleared by its owner"), Attribution.CALLER)
        self.cleared = True
        self.side.forget(self)

    # -- what happens

    def look(self) -> None:
        """Everything that is there first, time afterwards."""
        if self.answer is None and self.complete():
            self.answer = KVPoll.Success
        if self.answer is None and self.side.world.clock() >= self.deadline:
            self.fail(TransferTimeout(f"not complete after {self.plan.timeout_s} s"), Attribution.DEADLINE)

    def complete(self) -> bool:
        return all(
            exposure.total is not None and len(exposure.parts) >= exposure.total for exposure in self.exposed.values()
        )

    def fail(self, cause: Exception, whose: Attribution) -> None:
        if self.answer is None:
            self.cause, self.whose, self.answer = cause, whose, KVPoll.Failed
            self.side.give_up(self)

    def take(self, word: Word) -> None:
        exposure = self.exposed.get(word.name)
        if exposure is None or exposure.generation != word.generation:
            return
        self.heard_at = self.side.world.clock()
        match word.says:
            case Says.PROGRESS:
                exposure.parts.add(word.part)
            case Says.SUCCESS:
                exposure.total, exposure.quiet = word.parts, True
            case Says.FAILURE:
                exposure.failed = True
                exposure.quiet = exposure.quiet or word.quiesced
                self.fail(InitiatorFailed(f"{word.name} failed"), Attribution.PEER)
            case Says.QUIESCED:
                exposure.quiet = True
                self.fail(InitiatorFailed(f"{word.name} gave up"), Attribution.PEER)
            case Says.RENEW:
                self.renew(word.name)
            case _:
                return
        self.side.settle_pages(self)

    def renew(self, name: str) -> None:
        now = self.side.world.clock()
        if self.answer is None and now < self.deadline:
            self.deadline = max(self.deadline, now + self.plan.timeout_s)
        else:
            self.side.tell(name, Says.LOST, self.plan)

    def holds(self) -> bool:
        """Whether somebody may still use its pages although it has ended."""
        return self.answer is not None and not all(exposure.quiet for exposure in self.exposed.values())


class InlineTargetSide:
    """One decode or prefill side. The kit makes a new one for every run."""

    asks_again = True

    def __init__(self, world: World, make: Callable[[InlineTargetSide, TargetPlan], InlineTarget]) -> None:
        self.world, self.make = world, make
        self.rooms: dict[int, InlineTarget] = {}
        self.held: dict[int, InlineTarget] = {}
        self.unsent: list[tuple[str, bytes]] = []
        self.asked: dict[int, float] = {}
        memory = world.memory
        regions = (*memory.kv, *memory.aux, memory.stamps)
        world.transport.register_memory([(memory.address(r), len(r), 0, "") for r in regions], "DRAM")
        for peer in world.peers:
            world.transport.add_remote_agent(peer.agent.get_agent_metadata())

    # -- what the kit asks

    def target(self, plan: TargetPlan) -> InlineTarget:
        made = self.make(self, plan)
        self.rooms[plan.incarnation] = made
        for peer in plan.initiators:
            self.send_once(peer.name, self.words(Says.ANNOUNCE, plan))
        return made

    def held_pages(self) -> frozenset[int]:
        return frozenset(page for room in self.held.values() for page in room.plan.pages)

    def message(self, plan: TargetPlan, peer: Peer, notice: Notice) -> bytes | None:
        words = (MAGIC, plan.room, plan.incarnation, peer.generation, notice.says.value)
        return " ".join(map(str, (*words, notice.part, notice.parts, int(notice.quiesced)))).encode()

    def read_message(self, message: bytes) -> Notice | None:
        _, room, incarnation, _, says, *_ = message.decode().split()
        return Notice(Says(says), room=int(room), incarnation=int(incarnation))

    def settle(self) -> None:
        self.drain()
        for room in tuple(self.rooms.values()):
            room.look()
            self.ask(room)
        for name, message in [self.unsent.pop(0) for _ in range(len(self.unsent))]:
            self.send(name, message)

    def fence(self, peer: Peer, generation: int) -> None:
        for room in (*self.rooms.values(), *self.held.values()):
            exposure = room.exposed.get(peer.name)
            if exposure is not None and exposure.generation == generation:
                exposure.quiet = True
                room.fail(InitiatorFailed(f"{peer.name} is gone"), Attribution.PEER)
                self.settle_pages(room)

    def reconnect(self, peer: Peer) -> None:
        self.world.transport.remove_remote_agent(peer.name)
        self.world.transport.add_remote_agent(peer.agent.get_agent_metadata())

    def refill(self, pages: Sequence[int], write: Callable[[], None]) -> None:
        if self.held_pages() & frozenset(pages):
            raise KVUsageError(f"pages {sorted(pages)} are held")
        memory = self.world.memory
        for page in pages:
            memory.set_stamp(page, memory.stamp(page) + 1)
        write()
        for page in pages:
            memory.set_stamp(page, memory.stamp(page) + 1)

    def published_pages(self) -> frozenset[int]:
        done = (room for room in self.rooms.values() if room.answer is KVPoll.Success)
        return frozenset(page for room in done for page in room.plan.pages)

    def residue(self) -> int:
        return len(self.rooms) + len(self.held)

    def attribution(self, error: BaseException) -> Attribution | None:
        return error.attribution if isinstance(error, KVTransferError) else None

    # -- the protocol

    def drain(self) -> None:
        for name, messages in self.world.transport.get_new_notifs().items():
            for message in messages:
                word = self.read(name, message)
                if word is not None:
                    self.deliver(word)

    def read(self, name: str, message: bytes) -> Word | None:
        try:
            magic, room, incarnation, generation, says, part, parts, quiesced = message.decode().split()
            about = int(room), int(incarnation), int(generation)
            word = Word(name, *about, Says(says), int(part), int(parts), bool(int(quiesced)))
        except ValueError:
            return None
        return word if magic == MAGIC else None

    def deliver(self, word: Word) -> None:
        room = self.rooms.get(word.incarnation) or self.held.get(word.incarnation)
        if room is not None:
            room.take(word)
        elif word.says is Says.RENEW:
            self.tell(word.name, Says.LOST, TargetPlan(word.room, word.incarnation, (), 0, (), 0, 0.0))

    def tell(self, name: str, says: Says, plan: TargetPlan) -> None:
        self.send(name, self.words(says, plan))

    def words(self, says: Says, plan: TargetPlan) -> bytes:
        return f"{MAGIC} {plan.room} {plan.incarnation} 0 {says.value}".encode()

    def send(self, name: str, message: bytes) -> None:
        try:
            self.world.transport.send_notif(name, message)
        except TRANSPORT_ERRORS:
            self.unsent.append((name, message))

    def ask(self, room: InlineTarget) -> None:
        """A room that has heard nothing for a while."""
        now = self.world.clock()
        if room.answer is None and now - max(room.heard_at, self.asked.get(room.plan.incarnation, 0.0)) >= 5.0:
            self.asked[room.plan.incarnation] = now
            for name in room.exposed:
                self.send_once(name, self.words(Says.ASK, room.plan))

    def send_once(self, name: str, message: bytes) -> None:
        try:
            self.world.transport.send_notif(name, message)
        except TRANSPORT_ERRORS:
            return

    def give_up(self, room: InlineTarget) -> None:
        for name, exposure in room.exposed.items():
            if not (exposure.quiet or exposure.failed or exposure.told):
                exposure.told = True
                self.tell(name, Says.ABORT, room.plan)
        self.settle_pages(room)

    def settle_pages(self, room: InlineTarget) -> None:
        if room.holds():
            self.held[room.plan.incarnation] = room
        else:
            self.held.pop(room.plan.incarnation, None)

    def forget(self, room: InlineTarget) -> None:
        self.rooms.pop(room.plan.incarnation, None)
        self.asked.pop(room.plan.incarnation, None)
        self.settle_pages(room)


class InlineTargetAdapter:
    role: Role = "target"
    errors: Mapping[str, type[Exception]] = STAND_INS
    usage_errors: tuple[type[Exception], ...] = (KVUsageError,)
    profile = Profile.FULL

    def __init__(
        self,
        name: str,
        operation: Operation = "WRITE",
        side: type[InlineTargetSide] = InlineTargetSide,
        target: type[InlineTarget] = InlineTarget,
    ) -> None:
        self.name, self.operation, self.side, self.made = name, operation, side, target

    def open(self, world: World) -> InlineTargetSide:
        return self.side(world, self.made)


receiver = InlineTargetAdapter("inline receiver")
holder = InlineTargetAdapter("inline holder", "READ")
