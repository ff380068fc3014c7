"""What an adopter's senders share: connections, the page map, quarantine, late transfers, notifications, rooms."""

from __future__ import annotations

import json
import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from threading import RLock
from typing import ClassVar, Final, NoReturn, TypeAlias

from tests.foreign.adopter_words import ERRORS, At, PeerGone, attribute, heard, shown, validated

from kvsender_spec.contract import INIT_AGENT, Attribution, KVPoll, KVTransferError, KVUsageError, TransferTimeout
from kvsender_spec.kit.adapter import (
    NUM_PAGES,
    Destination,
    Memory,
    Notification,
    NotificationKind,
    Peer,
    RoomPlan,
    World,
)
from kvsender_spec.kit.scripted.fabric import ScriptedDlist, ScriptedHandle

log = logging.getLogger(__name__)

REGIONS: Final = len(Memory.PAGE_BYTES)

Row: TypeAlias = tuple[int, int, int]
"""(address, bytes, device)"""
Pairs: TypeAlias = list[tuple[int, int]]
"""(page here, page at the peer)"""


def blocks(memory: Memory) -> list[Row]:
    """Every page of every region, then every aux slot."""
    regions = zip(memory.kv + memory.aux, (*memory.PAGE_BYTES, *memory.AUX_BYTES), strict=True)
    return [(memory.address(r) + at, size, 0) for r, size in regions for at in range(0, len(r), size)]


@dataclass(eq=False)
class Conn:
    """One connection to one process of a peer."""

    name: str
    generation: int
    memory: Memory
    dlist: ScriptedDlist | None = None
    error: Exception | None = None
    stale: bool = False


@dataclass(frozen=True)
class Chunk:
    """What one send() adds to a room: pages from the place ``first`` on."""

    first: int
    pages: list[int]
    last: bool


@dataclass(eq=False)
class Flight:
    """One transfer and the source pages that it reads."""

    handle: ScriptedHandle
    pages: list[int]
    since: float
    at: At = At.BAD


class BaseSystem(ABC):
    """One prefill side: connects eagerly, and keeps what rooms leave behind until it has landed and is released."""

    takes_parts: Final = True

    def __init__(self, world: World) -> None:
        self.world, self.transport, self.lock = world, world.transport, RLock()
        memory = world.memory
        regions = [(memory.address(region), len(region), 0, "") for region in memory.kv + memory.aux]
        self.transport.register_memory(regions, "DRAM")
        self.local = self.transport.prep_xfer_dlist(INIT_AGENT, blocks(memory), "DRAM")
        self.conns: dict[str, Conn] = {}
        self.quarantine: Counter[int] = Counter()
        self.rooms: set[Room] = set()
        self.late: list[Flight] = []
        self.dead: list[ScriptedHandle] = []
        self.outbox: list[tuple[Conn, bytes]] = []
        for peer in world.peers:
            self.connect(peer)

    @abstractmethod
    def room(self, plan: RoomPlan) -> Room:
        """A new room; the lock is held."""

    def sender(self, plan: RoomPlan) -> Room:
        with self.lock:
            room = self.room(plan)
            self.rooms.add(room)
            return room

    def uninitialised(self, plan: RoomPlan) -> Room:
        room = self.sender(plan)
        room.ready = False
        self.rooms.discard(room)
        return room

    def connect(self, peer: Peer) -> None:
        conn = Conn(peer.name, peer.generation, peer.memory)
        try:
            self.transport.add_remote_agent(peer.agent.get_agent_metadata())
            conn.dlist = self.transport.prep_xfer_dlist(peer.name, blocks(peer.memory), "DRAM")
        except ERRORS as error:
            conn.error = error
        self.conns[peer.name] = conn

    def reconnect(self, peer: Peer) -> None:
        with self.lock:
            old = self.conns[peer.name]
            if old.generation == peer.generation and old.error is None:
                return
            old.stale = True
            self.drop(old)
            self.connect(peer)

    def drop(self, conn: Conn) -> None:
        try:
            if self.transport.check_remote_metadata(conn.name):
                self.transport.remove_remote_agent(conn.name)
        except ERRORS:
            log.warning("cannot remove %s", conn.name)

    def usable(self, conn: Conn) -> ScriptedDlist:
        """The peer's prepared list, or what is wrong with the connection."""
        if conn.error is not None:
            raise conn.error
        if conn.stale:
            raise PeerGone(f"{conn.name} has restarted since the room was opened")
        assert conn.dlist is not None
        return conn.dlist

    def index(self, pairs: Pairs, aux: tuple[int, int] | None = None) -> tuple[list[int], list[int]]:
        """The rows of these pages, and of an aux slot, in what ``blocks`` answers: here and at the peer."""
        mine = [region * NUM_PAGES + page for region in range(REGIONS) for page, _ in pairs]
        theirs = [region * NUM_PAGES + page for region in range(REGIONS) for _, page in pairs]
        if aux is not None:
            mine.append(REGIONS * NUM_PAGES + aux[0])
            theirs.append(REGIONS * NUM_PAGES + aux[1])
        return mine, theirs

    def retire(self, flight: Flight) -> None:
        """Take a transfer over from its room. The pages of one that is not DONE stay in doubt."""
        if flight.at is not At.DONE:
            self.quarantine.update(flight.pages)
        if flight.at is At.FLYING:
            self.late.append(flight)
        else:
            self.dead.append(flight.handle)

    def reap(self) -> None:
        """Look at the transfers whose rooms are over."""
        for flight in list(self.late):
            try:
                flight.at = heard(self.transport.check_xfer_state(flight.handle))
            except ERRORS:
                flight.at = At.BAD
            except Exception:
                log.exception("late check")
            if flight.at is At.DONE:
                self.quarantine.subtract(flight.pages)
            if flight.at is not At.FLYING:
                self.late.remove(flight)
                self.dead.append(flight.handle)

    def flush(self) -> None:
        """Say what is to be said, and release what may be released."""
        while self.outbox:
            conn, message = self.outbox.pop(0)
            if conn.stale or conn.error is not None:
                continue
            try:
                self.transport.send_notif(conn.name, message)
            except Exception as error:
                log.warning("cannot tell %s: %s", conn.name, error, exc_info=not isinstance(error, ERRORS))
        for handle in list(self.dead):
            try:
                self.transport.release_xfer_handle(handle)
            except Exception as error:
                log.warning("release refused: %s", error, exc_info=not isinstance(error, ERRORS))
            else:
                self.dead.remove(handle)

    def settle(self) -> None:
        with self.lock:
            self.reap()
            self.flush()

    def quarantined_pages(self) -> frozenset[int]:
        with self.lock:
            return frozenset(page for page, holders in self.quarantine.items() if holders > 0)

    def residue(self) -> int:
        return len(self.rooms) + len(self.late) + len(self.dead) + len(self.outbox)

    def attribution(self, error: BaseException) -> Attribution | None:
        return attribute(error)

    def read_notification(self, message: bytes) -> Notification | None:
        try:
            said = json.loads(message)
            return Notification(NotificationKind(said["kind"]), said["room"], said["inc"], said.get("reason", ""))
        except (ValueError, KeyError, TypeError):
            return None

    def words(self, kind: NotificationKind, plan: RoomPlan, reason: str = "") -> bytes:
        return json.dumps({"kind": kind, "room": plan.room, "inc": plan.incarnation, "reason": reason}).encode()


class Room(ABC):
    """What the rooms of all styles know and do alike."""

    wraps: ClassVar[bool] = True
    """Whether failure_exception() wraps the cause, or raises the cause itself."""

    def __init__(self, system: BaseSystem, plan: RoomPlan) -> None:
        self.system, self.plan, self.ready = system, plan, True
        self.targets = [(target, system.conns[target.peer.name]) for target in plan.destinations if not target.dummy]
        self.sent: list[int] = []
        self.closed = False
        self.cause: Exception | None = None

    @abstractmethod
    def send(self, kv: Sequence[int]) -> None: ...

    @abstractmethod
    def poll(self) -> KVPoll: ...

    def failure_exception(self) -> NoReturn:
        if self.cause is None:
            raise KVUsageError("the room has not failed")
        if not self.wraps:
            raise self.cause
        raise KVTransferError(self.plan.room, shown(self.cause), attribute(self.cause)) from self.cause

    def accept(self, kv: Sequence[int]) -> Chunk | None:
        """The chunk, or None if there is nothing to post."""
        if self.cause is not None:
            return None
        if not self.ready:
            raise KVUsageError("send() before init()")
        pages = validated(kv, self.sent, self.plan.num_pages)
        first = len(self.sent)
        last = not self.closed and first + len(pages) == self.plan.num_pages
        self.sent += pages
        return Chunk(first, pages, last) if pages or last else None

    def pairs(self, target: Destination, chunk: Chunk) -> Pairs:
        """Which page goes where; a peer that names fewer pages than the room has already has the first ones."""
        skip = self.plan.num_pages - len(target.pages)
        return [(page, target.pages[at - skip]) for at, page in enumerate(chunk.pages, chunk.first) if at >= skip]

    def make(self, target: Destination, conn: Conn, chunk: Chunk) -> Flight | None:
        """The transfer of a chunk to one peer, not posted; None if the peer wants nothing of it."""
        pairs = self.pairs(target, chunk)
        if not pairs and not chunk.last:
            return None
        handle = self.prepare(conn, pairs, (self.plan.aux_index, target.aux_index) if chunk.last else None)
        return Flight(handle, [page for page, _ in pairs], self.system.world.clock())

    def prepare(self, conn: Conn, pairs: Pairs, aux: tuple[int, int] | None) -> ScriptedHandle:
        dlist = self.system.usable(conn)
        mine, theirs = self.system.index(pairs, aux)
        return self.system.transport.make_prepped_xfer(
            "WRITE", self.system.local, mine, dlist, theirs, self.travelling()
        )

    def travelling(self) -> bytes:
        """The notification that goes with each transfer."""
        return b""

    def overdue(self, flights: Iterable[Flight]) -> bool:
        world = self.system.world
        return any(world.clock() - flight.since >= world.transfer_timeout_s for flight in flights)

    def silent(self) -> TransferTimeout:
        return TransferTimeout(f"a peer was silent for {self.system.world.transfer_timeout_s} s")

    def tell(self, kind: NotificationKind) -> None:
        """Queue what every peer of the room is to hear."""
        words = self.system.words(kind, self.plan, "" if self.cause is None else shown(self.cause))
        self.system.outbox += [(conn, words) for _, conn in self.targets]
