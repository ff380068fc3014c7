"""An adopter's right senders by the same table: what they do with all rooms, with connections and prepared lists."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, NoReturn, TypeAlias

from tests.foreign.adopter_base import BaseSystem, Conn, Pairs, Row, blocks, log
from tests.foreign.adopter_right import ENDED, TableRoom, TableRooms, TableSystem
from tests.foreign.adopter_words import ERRORS, shown
from tests.foreign.right_kinds import Kind

from kvsender_spec.contract import INIT_AGENT, KVPoll, KVUsageError
from kvsender_spec.kit.adapter import Adapter, Memory, NotificationKind, Peer, RoomPlan, World
from kvsender_spec.kit.scripted.fabric import ScriptedDlist, ScriptedHandle


class AnyCallRoom(TableRoom):
    """Looks at all rooms before it does what it is asked to."""

    def __init__(self, system: AnyCallSystem, plan: RoomPlan) -> None:
        super().__init__(system, plan)
        self.every = system

    def send(self, kv: Sequence[int]) -> None:
        with self.system.lock:
            self.every.drive()
            super().send(kv)

    def poll(self) -> KVPoll:
        with self.system.lock:
            if self.state not in ENDED:
                self.every.drive()
            return super().poll()


class AnyCallSystem(BaseSystem):
    """Every opening, send() and poll() first looks at the transfers of all rooms, and finds passed deadlines."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.watched: list[AnyCallRoom] = []

    def drive(self) -> None:
        for room in self.watched:
            if room.flying:
                room.look()
        self.watched = [room for room in self.watched if room.flying or room in self.rooms]

    def room(self, plan: RoomPlan) -> AnyCallRoom:
        self.drive()
        room = AnyCallRoom(self, plan)
        self.watched.append(room)
        return room


class HealSystem(TableSystem):
    """Loads a peer whose metadata is gone again, from what it has saved, before it opens the next room."""

    def __init__(self, world: World) -> None:
        self.saved: dict[str, tuple[Peer, bytes]] = {}
        super().__init__(world)

    def connect(self, peer: Peer) -> None:
        self.saved[peer.name] = (peer, peer.agent.get_agent_metadata())
        super().connect(peer)

    def heal(self, conn: Conn) -> None:
        peer, metadata = self.saved[conn.name]
        if peer.generation != conn.generation:  # another process; reconnect() will come
            return
        try:
            self.transport.add_remote_agent(metadata)
            dlist = self.transport.prep_xfer_dlist(conn.name, blocks(conn.memory), "DRAM")
        except ERRORS as error:
            log.warning("cannot load %s again: %s", conn.name, error)
        else:
            self.conns[conn.name] = Conn(conn.name, conn.generation, conn.memory, dlist)
            conn.stale = True

    def room(self, plan: RoomPlan) -> TableRoom:
        for target in plan.destinations:
            conn = self.conns[target.peer.name]
            known = target.dummy or conn.stale or conn.error is not None
            if not known and not self.transport.check_remote_metadata(conn.name):
                self.heal(conn)
        return super().room(plan)


class SendFailed(Exception):
    """What LazyRoom raises for a room that has failed."""


class LazyRoom(TableRoom):
    """Tells of its progress with every transfer and of nothing else but a failure, which it wraps in its own error."""

    def tell_success(self) -> None:
        """The last transfer has said it."""

    def travelling(self) -> bytes:
        return self.system.words(NotificationKind.PROGRESS, self.plan)

    def failure_exception(self) -> NoReturn:
        if self.cause is None:
            raise KVUsageError("the room has not failed")
        raise SendFailed(f"could not send room {self.plan.room}: {shown(self.cause)}") from self.cause


class LazySystem(TableSystem):
    """Connects to a peer that is back when the next room for it is opened."""

    def __init__(self, world: World, rooms: TableRooms = LazyRoom) -> None:
        super().__init__(world, rooms)
        self.back: dict[str, Peer] = {}

    def reconnect(self, peer: Peer) -> None:
        with self.lock:
            self.conns[peer.name].stale = True
            self.back[peer.name] = peer

    def returned(self, name: str) -> Peer:
        return self.back.pop(name)

    def room(self, plan: RoomPlan) -> TableRoom:
        for target in plan.destinations:
            if target.peer.name in self.back and not target.dummy:
                peer = self.returned(target.peer.name)
                self.drop(self.conns[peer.name])
                self.connect(peer)
        return super().room(plan)


Key: TypeAlias = tuple[str, int, tuple[Row, ...]]
"""Whose list it is, of which of its processes, and what it holds."""
Run: TypeAlias = tuple[int, int, int]
"""(first page here, first page at the peer, pages)"""


@dataclass(eq=False)
class Prepared:
    """A prepared list, and how many transfers use it."""

    dlist: ScriptedDlist
    users: int = 0


def runs_of(pairs: Pairs) -> list[Run]:
    """Adjacent pages that go to adjacent pages as one."""
    runs: list[Run] = []
    for mine, theirs in sorted(pairs):
        here, there, pages = runs[-1] if runs else (0, 0, 0)
        if pages and (here + pages, there + pages) == (mine, theirs):
            runs[-1] = (here, there, pages + 1)
        else:
            runs.append((mine, theirs, 1))
    return runs


def rows_of(memory: Memory, starts: Sequence[tuple[int, int]], aux: int | None) -> tuple[Row, ...]:
    """The rows of runs of pages, each (first page, pages), and of an aux slot."""
    rows = [
        (memory.address(region) + first * size, pages * size, 0)
        for region, size in zip(memory.kv, memory.PAGE_BYTES, strict=True)
        for first, pages in starts
    ]
    if aux is not None:
        (size,) = memory.AUX_BYTES
        rows.append((memory.address(memory.aux[0]) + aux * size, size, 0))
    return tuple(rows)


class LruRoom(TableRoom):
    """Has its lists prepared for each transfer."""

    def __init__(self, system: LruSystem, plan: RoomPlan) -> None:
        super().__init__(system, plan)
        self.lists = system

    def prepare(self, conn: Conn, pairs: Pairs, aux: tuple[int, int] | None) -> ScriptedHandle:
        self.system.usable(conn)
        return self.lists.make(conn, pairs, aux)


class LruSystem(BaseSystem):
    """Prepares a list of coalesced rows for what each transfer needs, and keeps those that were used last."""

    KEPT: Final = 4

    def __init__(self, world: World, rooms: Callable[[LruSystem, RoomPlan], LruRoom] = LruRoom) -> None:
        super().__init__(world)
        self.new_room = rooms
        self.prepared: OrderedDict[Key, Prepared] = OrderedDict()
        self.used: dict[ScriptedHandle, tuple[Key, Key]] = {}

    def room(self, plan: RoomPlan) -> LruRoom:
        return self.new_room(self, plan)

    @contextmanager
    def taken(self, key: Key) -> Iterator[ScriptedDlist]:
        """The list, prepared if there is none, with one user more unless what follows fails."""
        if key not in self.prepared:
            agent, _, rows = key
            self.prepared[key] = Prepared(self.transport.prep_xfer_dlist(agent, list(rows), "DRAM"))
        self.prepared.move_to_end(key)
        found = self.prepared[key]
        found.users += 1
        try:
            yield found.dlist
        except BaseException:
            found.users -= 1
            raise

    def make(self, conn: Conn, pairs: Pairs, aux: tuple[int, int] | None) -> ScriptedHandle:
        runs = runs_of(pairs)
        mine, theirs = aux if aux is not None else (None, None)
        here = rows_of(self.world.memory, [(first, pages) for first, _, pages in runs], mine)
        there = rows_of(conn.memory, [(first, pages) for _, first, pages in runs], theirs)
        keys = ((INIT_AGENT, 0, here), (conn.name, conn.generation, there))
        rows = list(range(len(here)))
        with self.taken(keys[0]) as local, self.taken(keys[1]) as remote:
            handle = self.transport.make_prepped_xfer("WRITE", local, rows, remote, rows)
        self.used[handle] = keys
        return handle

    def flush(self) -> None:
        before = list(self.dead)
        super().flush()
        for handle in before:
            if handle not in self.dead and handle in self.used:
                for key in self.used.pop(handle):
                    self.prepared[key].users -= 1
        self.shrink()

    def shrink(self) -> None:
        for key, found in list(self.prepared.items()):
            if len(self.prepared) <= self.KEPT:
                return
            if found.users:
                continue
            try:
                self.transport.release_dlist_handle(found.dlist)
            except Exception as error:
                log.warning("cannot release a list: %s", error)
            del self.prepared[key]


any_call: Final = Kind("foreign-any_call", AnyCallSystem)
heal: Final = Kind("foreign-heal", HealSystem)
lazy_connect: Final = Kind("foreign-lazy_connect", LazySystem)
lru: Final = Kind("foreign-lru", LruSystem)

RIGHT: Final[tuple[Adapter, ...]] = (any_call, heal, lazy_connect, lru)
