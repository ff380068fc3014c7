"""Right senders in unusual styles, written from the public contract alone.

Each obeys every clause in its author's reading; the author has not seen how the kit judges.
"""

from __future__ import annotations

import ctypes
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from operator import index
from threading import Condition, RLock, Thread
from typing import Final, NoReturn, cast

from kvsender_spec.contract import (
    INIT_AGENT,
    Attribution,
    KVPoll,
    KVTransferError,
    KVUsageError,
    Sender,
    TransferAborted,
    TransferTimeout,
)
from kvsender_spec.faults import STAND_INS
from kvsender_spec.kit.adapter import (
    NUM_AUX_SLOTS,
    NUM_PAGES,
    Adapter,
    Destination,
    Memory,
    Notification,
    NotificationKind,
    Peer,
    RoomPlan,
    System,
    World,
)
from kvsender_spec.kit.scripted.fabric import ScriptedDlist, ScriptedHandle
from kvsender_spec.machine import Profile

log = logging.getLogger(__name__)

TRANSPORT_ERRORS: Final[tuple[type[Exception], ...]] = (*STAND_INS.values(), RuntimeError)
DISCONNECT: Final = STAND_INS["nixlRemoteDisconnectError"]
REGIONS: Final = len(Memory.PAGE_BYTES)
TRIES: Final = 4
"""How often a notification is offered to the transport before the peer counts as out of reach."""


# What all of them share: addresses, mistakes of the caller, messages and the words of a failure.


class PeerRestarted(Exception):
    """The peer has become a new process while a room had page ids of the old one."""


class Interrupted(Exception):
    """An interrupt struck at a post: nobody knows whether it was posted."""


class BadState(Exception):
    """The transport returned a state that is neither DONE nor PROC."""


def blocks(memory: Memory) -> list[tuple[int, int, int]]:
    """Every page of every region, then every aux slot, as (address, bytes, device)."""
    rows = [
        (memory.address(region) + page * size, size, 0)
        for region, size in zip(memory.kv, memory.PAGE_BYTES, strict=True)
        for page in range(NUM_PAGES)
    ]
    (size,) = memory.AUX_BYTES
    return rows + [(memory.address(memory.aux[0]) + slot * size, size, 0) for slot in range(NUM_AUX_SLOTS)]


def whole(memory: Memory) -> list[tuple[int, int, int, str]]:
    """Every region as one row for the registration."""
    return [(memory.address(region), len(region), 0, "") for region in memory.kv + memory.aux]


def page_rows(page: int) -> list[int]:
    """The rows of one page in what ``blocks`` answers."""
    return [region * NUM_PAGES + page for region in range(REGIONS)]


def aux_row(slot: int) -> int:
    """The row of one aux slot in what ``blocks`` answers."""
    return REGIONS * NUM_PAGES + slot


def pairs_for(plan: RoomPlan, target: Destination, first: int, pages: Sequence[int]) -> list[tuple[int, int]]:
    """Which page goes where: a peer that names fewer pages than the room has wants the last ones."""
    has = plan.num_pages - len(target.pages)
    return [(page, target.pages[at - has]) for at, page in enumerate(pages, first) if at >= has]


def checked(plan: RoomPlan, taken: Sequence[int], kv_indices: Sequence[int]) -> list[int]:
    """The page ids of a chunk as ints, or a usage error."""
    try:
        raw = list(kv_indices)
        if any(isinstance(page, (bool, str, bytes)) for page in raw):
            raise TypeError("not page ids")
        pages = [index(page) for page in raw]
    except TypeError as error:
        raise KVUsageError(f"room {plan.room}: {kv_indices!r} is no list of page ids") from error
    if any(not 0 <= page < NUM_PAGES for page in pages):
        raise KVUsageError(f"room {plan.room}: {pages} has page ids out of range")
    if len(set(pages)) < len(pages) or set(pages) & set(taken):
        raise KVUsageError(f"room {plan.room}: {pages} overlaps with what was sent")
    if len(taken) + len(pages) > plan.num_pages:
        raise KVUsageError(f"room {plan.room}: {pages} is more than the {plan.num_pages} pages that were announced")
    return pages


def letter_text(kind: NotificationKind, plan: RoomPlan, reason: str = "") -> bytes:
    return f"{kind.value}|{plan.room}|{plan.incarnation}|{reason}".encode()


def blame(cause: BaseException) -> Attribution:
    """Who caused a failure."""
    if isinstance(cause, (DISCONNECT, PeerRestarted)):
        return Attribution.PEER
    if isinstance(cause, TransferAborted):
        return Attribution.CALLER
    if isinstance(cause, TransferTimeout):
        return Attribution.DEADLINE
    if isinstance(cause, (*TRANSPORT_ERRORS, BadState)):
        return Attribution.LOCAL
    return Attribution.INTERNAL


def words(cause: BaseException) -> str:
    return f"{type(cause).__name__}: {cause}"


def raise_failure(plan: RoomPlan, cause: BaseException | None) -> NoReturn:
    """What every failure_exception() does."""
    if cause is None:
        raise KVUsageError(f"room {plan.room} has not failed")
    raise KVTransferError(plan.room, words(cause), blame(cause)) from cause


class Words:
    """The methods of a system that only read."""

    takes_parts: Final = True

    def attribution(self, error: BaseException) -> Attribution | None:
        return error.attribution if isinstance(error, KVTransferError) else None

    def read_notification(self, message: bytes) -> Notification | None:
        parts = message.decode(errors="replace").split("|", 3)
        if len(parts) != 4 or parts[0] not in set(NotificationKind):
            return None
        return Notification(NotificationKind(parts[0]), int(parts[1]), int(parts[2]), parts[3])


@dataclass(frozen=True)
class Kind:
    """An adapter: a name and how to open a system."""

    name: str
    opens: Callable[[World], System]
    profile: Profile = Profile.FULL
    errors: Mapping[str, type[Exception]] = field(default_factory=lambda: STAND_INS)
    usage_errors: tuple[type[Exception], ...] = (KVUsageError,)

    def open(self, world: World) -> System:
        return self.opens(world)


# The desk: connections, transfers and letters for four of the senders below, which have rooms of their own.


class At(Enum):
    MADE = auto()
    FLYING = auto()
    DONE = auto()
    BROKEN = auto()


@dataclass(eq=False)
class Link:
    """One connection to one process of a peer."""

    peer: Peer
    table: ScriptedDlist
    dead: bool = False


@dataclass(eq=False)
class Flight:
    """One transfer; ``orphan`` means that its room looks after it no longer."""

    handle: ScriptedHandle
    pages: frozenset[int]
    link: Link
    at: At = At.MADE
    since_s: float = 0.0
    orphan: bool = False


@dataclass(eq=False)
class Letter:
    peer: Peer
    generation: int
    text: bytes
    tries: int = 0


class Desk(Words):
    """One prefill side with prepared lists for everything, which connects eagerly."""

    def __init__(self, world: World) -> None:
        self.world, self.agent, self.lock = world, world.transport, RLock()
        self.mine: ScriptedDlist | None = None
        self.links: dict[str, Link] = {}
        self.retired: list[Link] = []
        self.flights: list[Flight] = []
        self.letters: list[Letter] = []
        self.poisoned: set[int] = set()
        self.open_rooms: set[int] = set()
        self.connect_all()

    def connect_all(self) -> None:
        for peer in self.world.peers:
            with suppress(*TRANSPORT_ERRORS):
                self.link(peer)

    def local(self) -> ScriptedDlist:
        if self.mine is None:
            self.agent.register_memory(whole(self.world.memory), "DRAM")
            self.mine = self.agent.prep_xfer_dlist(INIT_AGENT, blocks(self.world.memory), "DRAM")
        return self.mine

    def link(self, peer: Peer) -> Link:
        """The connection to the peer, made if there is none."""
        self.local()
        known = self.links.get(peer.name)
        if known is not None and not known.dead:
            return known
        if known is not None:
            with suppress(*TRANSPORT_ERRORS):
                self.agent.remove_remote_agent(peer.name)
            self.retired.append(self.links.pop(peer.name))
        self.agent.add_remote_agent(peer.agent.get_agent_metadata())
        table = self.agent.prep_xfer_dlist(peer.name, blocks(peer.memory), "DRAM")
        self.links[peer.name] = Link(peer, table)
        return self.links[peer.name]

    def reconnect(self, peer: Peer) -> None:
        with self.lock:
            if peer.name in self.links:
                self.links[peer.name].dead = True
            with suppress(*TRANSPORT_ERRORS):
                self.link(peer)

    def make(self, plan: RoomPlan, target: Destination, link: Link, first: int, pages: Sequence[int]) -> Flight | None:
        """The transfer of one chunk to one peer, not posted; None if the peer wants nothing of it."""
        pairs = pairs_for(plan, target, first, pages)
        mine = [row for page, _ in pairs for row in page_rows(page)]
        theirs = [row for _, page in pairs for row in page_rows(page)]
        if first + len(pages) == plan.num_pages:
            mine.append(aux_row(plan.aux_index))
            theirs.append(aux_row(target.aux_index))
        if not mine:
            return None
        handle = self.agent.make_prepped_xfer("WRITE", self.local(), mine, link.table, theirs)
        flight = Flight(handle, frozenset(page for page, _ in pairs), link)
        self.flights.append(flight)
        return flight

    def launch(self, flight: Flight) -> None:
        flight.at, flight.since_s = At.FLYING, self.world.clock()
        self.hear(flight, lambda: self.agent.transfer(flight.handle))

    def look(self, flight: Flight) -> None:
        self.hear(flight, lambda: self.agent.check_xfer_state(flight.handle))

    def hear(self, flight: Flight, ask: Callable[[], str]) -> None:
        """Only the transport's own word settles a transfer."""
        try:
            answer = ask()
        except TRANSPORT_ERRORS:
            flight.at = At.BROKEN
            raise
        if answer == "DONE":
            flight.at = At.DONE
        elif answer != "PROC":
            flight.at = At.BROKEN
            raise BadState(f"the transport answered {answer!r}")

    def release(self, flights: Sequence[Flight]) -> None:
        """Give back what is not in flight; what the transport refuses is tried again by settle()."""
        for flight in flights:
            if flight.at is At.BROKEN:
                self.poisoned |= flight.pages
            if flight.at is not At.FLYING and flight in self.flights:
                with suppress(*TRANSPORT_ERRORS):
                    self.agent.release_xfer_handle(flight.handle)
                    self.flights.remove(flight)

    def write_letters(self, plan: RoomPlan, generations: Sequence[int], text: bytes) -> None:
        for target, generation in zip(plan.destinations, generations, strict=True):
            if not target.dummy:
                self.letters.append(Letter(target.peer, generation, text))

    def flush(self) -> None:
        for letter in list(self.letters):
            letter.tries += 1
            if letter.peer.generation != letter.generation or letter.tries > TRIES:
                self.letters.remove(letter)
                continue
            with suppress(*TRANSPORT_ERRORS):
                self.link(letter.peer)
                self.agent.send_notif(letter.peer.name, letter.text)
                self.letters.remove(letter)

    def settle(self) -> None:
        with self.lock:
            for flight in [f for f in self.flights if f.orphan and f.at is At.FLYING]:
                with suppress(*TRANSPORT_ERRORS, BadState):
                    self.look(flight)
            self.release([f for f in self.flights if f.orphan])
            while self.letters:
                self.flush()
            for link in [r for r in self.retired if all(f.link is not r for f in self.flights)]:
                self.retired.remove(link)
                with suppress(*TRANSPORT_ERRORS):
                    self.agent.release_dlist_handle(link.table)

    def quarantined_pages(self) -> frozenset[int]:
        with self.lock:
            flying = [f.pages for f in self.flights if f.orphan and f.at in (At.FLYING, At.BROKEN)]
            return frozenset(self.poisoned).union(*flying)

    def residue(self) -> int:
        return len(self.open_rooms) + len(self.flights) + len(self.letters)

    def contact(self, plan: RoomPlan) -> list[Link | None]:
        return [None if target.dummy else self.link(target.peer) for target in plan.destinations]


# (a) send() only queues; the next poll() of the room posts. A failure is reported when everything has settled.


class DeferredRoom:
    """A sender whose send() only queues: the room's next poll posts, and a refused post fails the room there."""

    def __init__(self, desk: Desk, plan: RoomPlan, initialised: bool = True) -> None:
        self.desk, self.plan, self.initialised = desk, plan, initialised
        self.taken: list[int] = []
        self.queue: deque[tuple[int, list[int]]] = deque()
        self.flights: list[Flight] = []
        self.closed = self.posted_all = self.done = self.reported = self.told = False
        self.cause: Exception | None = None
        self.failed_at_s = 0.0
        self.links: list[Link | None] = []
        self.generations = [target.peer.generation for target in plan.destinations]
        if initialised:
            with desk.lock:
                desk.open_rooms.add(plan.incarnation)
                try:
                    self.links = desk.contact(plan)
                except Exception as error:
                    self.latch(error)

    def send(self, kv_indices: Sequence[int]) -> None:
        with self.desk.lock:
            if self.cause is not None:
                return
            if not self.initialised:
                raise KVUsageError(f"room {self.plan.room}: send() before init()")
            pages = checked(self.plan, self.taken, kv_indices)
            if self.closed or (not pages and self.plan.num_pages):
                return
            self.queue.append((len(self.taken), pages))
            self.taken += pages
            self.closed = len(self.taken) == self.plan.num_pages

    def latch(self, error: Exception) -> None:
        """Keep the first cause; an error of the program's own is never lost."""
        if self.cause is not None or self.done:
            if not isinstance(error, (*TRANSPORT_ERRORS, BadState, TransferAborted)):
                raise error
            return
        self.cause, self.failed_at_s = error, self.desk.world.clock()
        self.queue.clear()
        if blame(error) is Attribution.INTERNAL:
            log.error("room %s", self.plan.room, exc_info=error)

    def poll(self) -> KVPoll:
        with self.desk.lock:
            if not self.initialised:
                return KVPoll.Bootstrapping
            if not self.done and not self.reported:
                self.step()
            if self.done:
                return KVPoll.Success
            if self.reported:
                return KVPoll.Failed
            return KVPoll.Transferring if self.taken or self.closed else KVPoll.WaitingForInput

    def step(self) -> None:
        if self.cause is None and any(link is not None and link.dead for link in self.links):
            self.latch(PeerRestarted("a peer of the room has restarted"))
        self.post()
        self.look()
        if self.cause is None and self.posted_all and all(f.at is At.DONE for f in self.flights):
            self.done = True
            self.desk.write_letters(
                self.plan, self.generations, letter_text(NotificationKind.SUCCESS, self.plan, "all pages are there")
            )
        self.end()

    def end(self) -> None:
        """What follows from what was seen: the deadline, what is given back, and who is told."""
        now_s, world = self.desk.world.clock(), self.desk.world
        flying = [f for f in self.flights if f.at is At.FLYING]
        if self.cause is None and any(now_s - f.since_s >= world.transfer_timeout_s for f in flying):
            self.latch(TransferTimeout(f"nothing from a peer for {world.transfer_timeout_s} s"))
        if self.done or self.cause is not None:
            for flight in self.flights:
                flight.orphan = True
            self.desk.release(self.flights)
        if self.cause is not None and (not flying or now_s - self.failed_at_s >= world.drain_timeout_s):
            self.reported = True
            self.tell_failure()
        self.desk.flush()

    def tell_failure(self) -> None:
        if self.initialised and not self.told and self.cause is not None:
            self.told = True
            text = letter_text(NotificationKind.FAILURE, self.plan, words(self.cause))
            self.desk.write_letters(self.plan, self.generations, text)

    def post(self) -> None:
        """Post what is queued; what was made and not posted when a call was interrupted is posted now."""
        try:
            while self.cause is None and (self.queue or any(f.at is At.MADE for f in self.flights)):
                if all(f.at is not At.MADE for f in self.flights):
                    self.make(*self.queue[0])
                    self.queue.popleft()
                for flight in [f for f in self.flights if f.at is At.MADE]:
                    self.desk.launch(flight)
            self.posted_all = self.closed and not self.queue and self.cause is None
        except Exception as error:
            self.latch(error)

    def make(self, first: int, pages: list[int]) -> None:
        """All transfers of one chunk, or none."""
        made: list[Flight] = []
        try:
            for target, link in zip(self.plan.destinations, self.links, strict=True):
                flight = None if link is None else self.desk.make(self.plan, target, link, first, pages)
                made += [] if flight is None else [flight]
        except BaseException:
            for flight in made:
                flight.orphan = True
            raise
        self.flights += made

    def look(self) -> None:
        for flight in [f for f in self.flights if f.at is At.FLYING]:
            try:
                self.desk.look(flight)
            except Exception as error:
                self.latch(error)

    def abort(self) -> None:
        with self.desk.lock:
            self.latch(TransferAborted(f"room {self.plan.room} was aborted"))

    def clear(self) -> None:
        with self.desk.lock:
            self.latch(TransferAborted(f"room {self.plan.room} was cleared"))
            self.tell_failure()
            for flight in self.flights:
                flight.orphan = True
            self.desk.open_rooms.discard(self.plan.incarnation)

    def failure_exception(self) -> NoReturn:
        with self.desk.lock:
            raise_failure(self.plan, self.cause)

    def get_transfer_metric(self) -> object:
        with self.desk.lock:
            return {"pages": len(self.taken), "handles": len(self.flights)}


class DeferredDesk(Desk):
    def sender(self, plan: RoomPlan) -> Sender:
        return DeferredRoom(self, plan)

    def uninitialised(self, plan: RoomPlan) -> Sender:
        return DeferredRoom(self, plan, initialised=False)


# (b) One pump for all rooms: dictionaries and one manager; a sender is a name for a row.


@dataclass(eq=False)
class Row:
    plan: RoomPlan
    gens: tuple[int, ...]
    todo: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
    seen: list[int] = field(default_factory=list)
    air: dict[ScriptedHandle, tuple[float, tuple[int, ...]]] = field(default_factory=dict)
    last_queued: bool = False
    state: KVPoll = KVPoll.WaitingForInput
    why: Exception | None = None
    told_caller: bool = False


class Pump(Words):
    """A manager that moves all rooms forward in every poll() of any of them, and reports a failure at once."""

    def __init__(self, world: World) -> None:
        self.w = world
        self.t = world.transport
        self.mutex = RLock()
        self.rows: dict[int, Row] = {}
        self.ghosts: dict[ScriptedHandle, tuple[int, ...]] = {}
        self.trash: list[ScriptedHandle] = []
        self.tainted: set[int] = set()
        self.mail: list[tuple[Peer, int, bytes, int]] = []
        self.lists: dict[str, tuple[int, ScriptedDlist]] = {}
        self.own: ScriptedDlist | None = None
        self.stale: set[str] = set()

    def remote(self, peer: Peer) -> tuple[int, ScriptedDlist]:
        """The peer's list with the generation that it is of."""
        if self.own is None:
            self.t.register_memory(whole(self.w.memory), "DRAM")
            self.own = self.t.prep_xfer_dlist(INIT_AGENT, blocks(self.w.memory), "DRAM")
        if peer.name in self.stale:
            with suppress(*TRANSPORT_ERRORS):
                self.t.remove_remote_agent(peer.name)
            with suppress(*TRANSPORT_ERRORS):
                if peer.name in self.lists:
                    self.t.release_dlist_handle(self.lists[peer.name][1])
            self.lists.pop(peer.name, None)
            self.stale.discard(peer.name)
        if peer.name not in self.lists:
            self.t.add_remote_agent(peer.agent.get_agent_metadata())
            self.lists[peer.name] = peer.generation, self.t.prep_xfer_dlist(peer.name, blocks(peer.memory), "DRAM")
        return self.lists[peer.name]

    def reconnect(self, peer: Peer) -> None:
        with self.mutex:
            self.stale.add(peer.name)
            with suppress(*TRANSPORT_ERRORS):
                self.remote(peer)
            for row in self.rows.values():
                for target, gen in zip(row.plan.destinations, row.gens, strict=True):
                    if target.peer.name == peer.name and gen != peer.generation and not target.dummy:
                        self.fail(row, PeerRestarted(f"{peer.name} has restarted"))

    def sender(self, plan: RoomPlan) -> Sender:
        with self.mutex:
            row = Row(plan, tuple(d.peer.generation for d in plan.destinations))
            self.rows[plan.incarnation] = row
            try:
                for target in plan.destinations:
                    if not target.dummy:
                        self.remote(target.peer)
            except Exception as error:
                self.fail(row, error)
            return PumpSender(self, row)

    def fail(self, row: Row, why: Exception) -> None:
        if row.state.terminal:
            return
        row.state, row.why = KVPoll.Failed, why
        row.todo.clear()
        for handle, (_, pages) in row.air.items():
            self.ghosts[handle] = pages
        row.air.clear()
        if blame(why) is Attribution.INTERNAL:
            log.error("room %s", row.plan.room, exc_info=why)
        self.announce(row, letter_text(NotificationKind.FAILURE, row.plan, words(why)))

    def announce(self, row: Row, text: bytes) -> None:
        self.mail += [
            (d.peer, gen, text, 0) for d, gen in zip(row.plan.destinations, row.gens, strict=True) if not d.dummy
        ]

    def turn(self) -> None:
        """Everything that there is to do, for all rooms."""
        for row in list(self.rows.values()):
            self.look_at(row)
            self.post_for(row)
            self.conclude(row)
        self.haunt()
        self.sweep()
        self.deliver()

    def look_at(self, row: Row) -> None:
        for handle in list(row.air):
            now_s = self.w.clock()
            since_s, pages = row.air[handle]
            try:
                answer = self.t.check_xfer_state(handle)
            except TRANSPORT_ERRORS as error:
                del row.air[handle]
                self.tainted.update(pages)
                self.trash.append(handle)
                self.fail(row, error)
                return
            except Exception as error:
                self.fail(row, error)
                return
            if answer == "DONE":
                del row.air[handle]
                self.trash.append(handle)
            elif answer != "PROC":
                del row.air[handle]
                self.tainted.update(pages)
                self.trash.append(handle)
                self.fail(row, BadState(f"check answered {answer!r}"))
                return
            elif now_s - since_s >= self.w.transfer_timeout_s:
                row.air[handle] = (float("-inf"), pages)
        if any(since_s == float("-inf") for since_s, _ in row.air.values()):
            self.fail(row, TransferTimeout(f"silence for {self.w.transfer_timeout_s} s"))

    def post_for(self, row: Row) -> None:
        while row.todo:
            first, pages = row.todo[0]
            ready: list[tuple[ScriptedHandle, tuple[int, ...]]] = []
            try:
                for target in row.plan.destinations:
                    if not target.dummy:
                        ready += self.built(row, target, first, pages)
            except Exception as error:
                self.fail(row, error)
            except BaseException:
                self.trash += [handle for handle, _ in ready]
                raise
            if row.state is KVPoll.Failed:
                self.trash += [handle for handle, _ in ready]
                return
            row.todo.pop(0)
            self.launch(row, ready)

    def built(
        self, row: Row, target: Destination, first: int, pages: tuple[int, ...]
    ) -> list[tuple[ScriptedHandle, tuple[int, ...]]]:
        couples = pairs_for(row.plan, target, first, pages)
        here = [r for page, _ in couples for r in page_rows(page)]
        there = [r for _, page in couples for r in page_rows(page)]
        if first + len(pages) == row.plan.num_pages:
            here.append(aux_row(row.plan.aux_index))
            there.append(aux_row(target.aux_index))
        if not here:
            return []
        _, table = self.remote(target.peer)
        assert self.own is not None
        handle = self.t.make_prepped_xfer("WRITE", self.own, here, table, there)
        return [(handle, tuple(page for page, _ in couples))]

    def launch(self, row: Row, ready: list[tuple[ScriptedHandle, tuple[int, ...]]]) -> None:
        while ready:
            handle, pages = ready.pop(0)
            row.air[handle] = self.w.clock(), pages
            problem: Exception | None = None
            try:
                answer = self.t.transfer(handle)
                if answer not in ("DONE", "PROC"):
                    problem = BadState(f"transfer answered {answer!r}")
            except TRANSPORT_ERRORS as error:
                problem, answer = error, "ERR"
            except Exception as error:
                self.trash += [h for h, _ in ready]
                self.fail(row, error)
                return
            except BaseException as error:
                # Whether it was posted nobody knows: the room cannot go on.
                self.trash += [h for h, _ in ready]
                self.fail(row, Interrupted(f"{type(error).__name__} at a post"))
                raise
            if answer != "PROC":
                del row.air[handle]
                self.trash.append(handle)
            if problem is not None:
                self.tainted.update(pages)
                self.trash += [h for h, _ in ready]
                self.fail(row, problem)
                return

    def conclude(self, row: Row) -> None:
        if not row.state.terminal and row.last_queued and not row.todo and not row.air:
            row.state = KVPoll.Success
            self.announce(row, letter_text(NotificationKind.SUCCESS, row.plan))

    def haunt(self) -> None:
        for handle, pages in list(self.ghosts.items()):
            try:
                answer = self.t.check_xfer_state(handle)
            except TRANSPORT_ERRORS:
                answer = "ERR"
            if answer != "PROC":
                del self.ghosts[handle]
                self.trash.append(handle)
                if answer != "DONE":
                    self.tainted.update(pages)

    def sweep(self) -> None:
        for handle in list(self.trash):
            with suppress(*TRANSPORT_ERRORS):
                self.t.release_xfer_handle(handle)
                self.trash.remove(handle)

    def deliver(self) -> None:
        waiting, self.mail = self.mail, []
        while waiting:
            peer, gen, text, tries = waiting.pop(0)
            if peer.generation != gen:
                continue
            try:
                self.remote(peer)
                self.t.send_notif(peer.name, text)
            except TRANSPORT_ERRORS:
                if tries + 1 < TRIES:
                    self.mail.append((peer, gen, text, tries + 1))
            except BaseException:
                self.mail += [(peer, gen, text, tries + 1), *waiting]
                raise

    def settle(self) -> None:
        with self.mutex:
            for _ in range(TRIES):
                self.turn()

    def quarantined_pages(self) -> frozenset[int]:
        with self.mutex:
            return frozenset(self.tainted).union(*self.ghosts.values())

    def residue(self) -> int:
        return len(self.rows) + len(self.ghosts) + len(self.trash) + len(self.mail)


class PumpSender:
    """A name for one row of the pump."""

    def __init__(self, pump: Pump, row: Row) -> None:
        self.pump, self.row = pump, row

    def send(self, kv_indices: Sequence[int]) -> None:
        row = self.row
        with self.pump.mutex:
            if row.state is KVPoll.Failed:
                return
            pages = checked(row.plan, row.seen, kv_indices)
            if row.last_queued or (not pages and row.plan.num_pages):
                return
            row.todo.append((len(row.seen), tuple(pages)))
            row.seen += pages
            row.last_queued = len(row.seen) == row.plan.num_pages
            row.state = KVPoll.Transferring

    def poll(self) -> KVPoll:
        with self.pump.mutex:
            if not self.row.told_caller:
                self.pump.turn()
            self.row.told_caller = self.row.state is KVPoll.Failed
            return self.row.state

    def abort(self) -> None:
        with self.pump.mutex:
            self.pump.fail(self.row, TransferAborted("aborted by the caller"))

    def clear(self) -> None:
        with self.pump.mutex:
            self.pump.fail(self.row, TransferAborted("cleared by the caller"))
            self.pump.rows.pop(self.row.plan.incarnation, None)

    def failure_exception(self) -> NoReturn:
        with self.pump.mutex:
            raise_failure(self.row.plan, self.row.why)

    def get_transfer_metric(self) -> object:
        return len(self.row.seen)


# (c) Generators: a room's life is one generator, which background work and polls push on.


class StoryRoom:
    """A sender whose room is a generator: it posts and looks only in settle() and in polls."""

    def __init__(self, desk: StoryDesk, plan: RoomPlan) -> None:
        self.desk, self.plan = desk, plan
        self.generations = [target.peer.generation for target in plan.destinations]
        self.inbox: list[list[int]] = []
        self.accepted: list[int] = []
        self.posted = 0
        self.last_posted = False
        self.flights: list[Flight] = []
        self.links: list[Link | None] = []
        self.first_cause: Exception | None = None
        self.says = KVPoll.WaitingForInput
        self.heard_failure = False
        try:
            self.links = desk.contact(plan)
        except Exception as error:
            self.blow(error)
        self.life = self.story()

    def blow(self, error: Exception) -> None:
        if self.first_cause is None and self.says is not KVPoll.Success:
            self.first_cause = error
            if blame(error) is Attribution.INTERNAL:
                log.error("room %s", self.plan.room, exc_info=error)

    def advance(self) -> None:
        """One step; a generator that was interrupted is told again from the facts."""
        try:
            next(self.life, None)
        except BaseException:
            if not self.says.terminal:
                self.life = self.story()
            raise

    def is_well(self) -> bool:
        return self.first_cause is None

    def story(self) -> Iterator[None]:
        """What one life of a room is, one yield a step."""
        while self.first_cause is None:
            self.fly()
            self.watch()
            if self.is_well() and self.last_posted and all(f.at is At.DONE for f in self.flights):
                break
            if self.is_well():
                yield
        if self.first_cause is None:
            self.says = KVPoll.Success
            text = letter_text(NotificationKind.SUCCESS, self.plan)
        else:
            text = letter_text(NotificationKind.FAILURE, self.plan, words(self.first_cause))
            self.says = KVPoll.Failed
        self.desk.write_letters(self.plan, self.generations, text)
        self.life = iter(())
        for flight in self.flights:
            flight.orphan = True
        self.desk.release(self.flights)
        self.desk.flush()

    def fly(self) -> None:
        try:
            while self.inbox or any(f.at is At.MADE for f in self.flights):
                for flight in [f for f in self.flights if f.at is At.MADE]:
                    self.desk.launch(flight)
                if self.inbox:
                    self.make_next()
            self.last_posted = self.says is KVPoll.Transferring and self.posted == self.plan.num_pages
        except Exception as error:
            self.blow(error)

    def make_next(self) -> None:
        made: list[Flight] = []
        whole_chunk = False
        try:
            for target, link in zip(self.plan.destinations, self.links, strict=True):
                flight = None if link is None else self.desk.make(self.plan, target, link, self.posted, self.inbox[0])
                made += [] if flight is None else [flight]
            whole_chunk = True
        finally:
            if not whole_chunk:
                for flight in made:
                    flight.orphan = True
        self.flights += made
        self.posted += len(self.inbox.pop(0))

    def watch(self) -> None:
        world = self.desk.world
        for flight in [f for f in self.flights if f.at is At.FLYING]:
            try:
                self.desk.look(flight)
            except Exception as error:
                self.blow(error)
        oldest = min((f.since_s for f in self.flights if f.at is At.FLYING), default=world.clock())
        if world.clock() - oldest >= world.transfer_timeout_s:
            self.blow(TransferTimeout(f"a transfer has taken {world.transfer_timeout_s} s"))
        if any(link is not None and link.dead for link in self.links):
            self.blow(PeerRestarted("the pages belong to a process that is gone"))

    def send(self, kv_indices: Sequence[int]) -> None:
        with self.desk.lock:
            if self.first_cause is not None:
                return
            pages = checked(self.plan, self.accepted, kv_indices)
            again = self.says is not KVPoll.WaitingForInput and len(self.accepted) == self.plan.num_pages
            if again or (not pages and self.plan.num_pages):
                return
            self.accepted += pages
            self.inbox.append(pages)
            self.says = KVPoll.Transferring

    def poll(self) -> KVPoll:
        with self.desk.lock:
            if not self.heard_failure:
                self.advance()
                self.heard_failure = self.says is KVPoll.Failed
            return self.says

    def abort(self) -> None:
        with self.desk.lock:
            self.blow(TransferAborted("aborted"))

    def clear(self) -> None:
        with self.desk.lock:
            self.blow(TransferAborted("cleared"))
            if self.first_cause is not None and not self.says.terminal:
                self.desk.leaving.append(self)
            for flight in self.flights:
                flight.orphan = True
            self.desk.stories.pop(self.plan.incarnation, None)

    def failure_exception(self) -> NoReturn:
        with self.desk.lock:
            raise_failure(self.plan, self.first_cause)


class StoryDesk(Desk):
    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.stories: dict[int, StoryRoom] = {}
        self.leaving: list[StoryRoom] = []

    def sender(self, plan: RoomPlan) -> Sender:
        with self.lock:
            room = self.stories[plan.incarnation] = StoryRoom(self, plan)
            return room

    def settle(self) -> None:
        with self.lock:
            for story in [*self.stories.values(), *self.leaving]:
                story.advance()
            self.leaving.clear()
            super().settle()

    def residue(self) -> int:
        return super().residue() + len(self.stories) + len(self.leaving)


# (d) Looks in whatever call it makes, posts in send(), one handle for each page and peer.


class CuriousRoom:
    """A sender that finds completions, errors and the deadline in send, abort, clear and the metric as well."""

    def __init__(self, desk: CuriousDesk, plan: RoomPlan) -> None:
        self.desk, self.plan = desk, plan
        self.generations = [target.peer.generation for target in plan.destinations]
        self.sent: list[int] = []
        self.parts: list[Flight] = []
        self.complete = False
        self.outcome: bool | None = None
        self.error: Exception | None = None
        self.said_failed = False
        self.links: list[Link | None] = []
        try:
            self.links = desk.contact(plan)
        except Exception as error:
            self.lose(error)

    def lose(self, error: Exception) -> None:
        if self.outcome is None:
            self.outcome, self.error = False, error
            for part in self.parts:
                part.orphan = True
            if blame(error) is Attribution.INTERNAL:
                log.error("room %s", self.plan.room, exc_info=error)
            text = letter_text(NotificationKind.FAILURE, self.plan, words(error))
            self.desk.write_letters(self.plan, self.generations, text)

    def observe(self) -> None:
        """Post what an interrupt has left, and learn what there is to learn."""
        if self.outcome is None:
            self.launch()
            for part in [p for p in self.parts if p.at is At.FLYING]:
                try:
                    self.desk.look(part)
                except Exception as error:
                    self.lose(error)
        if self.outcome is None and self.complete and all(p.at is At.DONE for p in self.parts):
            self.outcome = True
            for part in self.parts:
                part.orphan = True
            self.desk.write_letters(self.plan, self.generations, letter_text(NotificationKind.SUCCESS, self.plan))
        limit_s = self.desk.world.clock() - self.desk.world.transfer_timeout_s
        if self.outcome is None and any(p.at is At.FLYING and p.since_s <= limit_s for p in self.parts):
            self.lose(TransferTimeout("the peer does not answer"))
        if self.outcome is None and any(link is not None and link.dead for link in self.links):
            self.lose(PeerRestarted("the peer is another process now"))

    def launch(self) -> None:
        try:
            for part in [p for p in self.parts if p.at is At.MADE]:
                if self.outcome is None:
                    self.desk.launch(part)
        except Exception as error:
            self.lose(error)

    def send(self, kv_indices: Sequence[int]) -> None:
        with self.desk.lock:
            if self.outcome is not False:
                self.observe()
            if self.outcome is False:
                return
            pages = checked(self.plan, self.sent, kv_indices)
            if self.complete or (not pages and self.plan.num_pages):
                return
            try:
                made = self.cut(pages)
            except Exception as error:
                self.lose(error)
                return
            self.parts += made
            self.sent += pages
            self.complete = len(self.sent) == self.plan.num_pages
            self.launch()

    def cut(self, pages: Sequence[int]) -> list[Flight]:
        """One transfer for each page and peer, and one for the aux data of each peer."""
        made: list[Flight] = []
        first, last = len(self.sent), len(self.sent) + len(pages) == self.plan.num_pages
        ok = False
        try:
            for target, link in zip(self.plan.destinations, self.links, strict=True):
                if link is not None:
                    for mine, theirs in pairs_for(self.plan, target, first, pages):
                        made.append(self.desk.one(link, page_rows(mine), page_rows(theirs), {mine}))
                    if last:
                        here, there = [aux_row(self.plan.aux_index)], [aux_row(target.aux_index)]
                        made.append(self.desk.one(link, here, there, set()))
            ok = True
        finally:
            if not ok:
                for part in made:
                    part.orphan = True
        return made

    def poll(self) -> KVPoll:
        with self.desk.lock:
            if self.said_failed:
                return KVPoll.Failed
            self.observe()
            if self.outcome is not None:
                self.desk.release(self.parts)
                self.desk.flush()
            if self.outcome is None:
                return KVPoll.Transferring if self.sent or self.complete else KVPoll.WaitingForInput
            self.said_failed = not self.outcome
            return KVPoll.Success if self.outcome else KVPoll.Failed

    def abort(self) -> None:
        with self.desk.lock:
            if not self.said_failed:
                self.observe()
            self.lose(TransferAborted("the caller gave up"))

    def clear(self) -> None:
        self.abort()
        with self.desk.lock:
            self.desk.open_rooms.discard(self.plan.incarnation)

    def failure_exception(self) -> NoReturn:
        with self.desk.lock:
            raise_failure(self.plan, self.error)

    def get_transfer_metric(self) -> object:
        with self.desk.lock:
            if not self.said_failed:
                self.observe()
            return {"done": sum(p.at is At.DONE for p in self.parts), "all": len(self.parts)}


class CuriousDesk(Desk):
    def one(self, link: Link, mine: list[int], theirs: list[int], pages: set[int]) -> Flight:
        handle = self.agent.make_prepped_xfer("WRITE", self.local(), mine, link.table, theirs)
        self.flights.append(Flight(handle, frozenset(pages), link))
        return self.flights[-1]

    def sender(self, plan: RoomPlan) -> Sender:
        with self.lock:
            self.open_rooms.add(plan.incarnation)
            return CuriousRoom(self, plan)


# (e, j) No prepared lists: descriptors for each chunk; a make that is refused is tried once more.


class FreshSide(Words):
    """A side that keeps nothing but who is connected."""

    def __init__(self, world: World) -> None:
        self.world, self.agent = world, world.transport
        self.guard = RLock()
        self.registered = False
        self.met: dict[str, int] = {}
        self.live: dict[int, FreshSender] = {}
        self.after: list[FreshSender] = []
        self.bad_pages: set[int] = set()

    def meet(self, peer: Peer) -> None:
        if not self.registered:
            self.agent.register_memory(whole(self.world.memory), "DRAM")
            self.registered = True
        if peer.name not in self.met:
            self.agent.add_remote_agent(peer.agent.get_agent_metadata())
            self.met[peer.name] = peer.generation

    def reconnect(self, peer: Peer) -> None:
        with self.guard:
            if self.met.pop(peer.name, None) is not None:
                with suppress(*TRANSPORT_ERRORS):
                    self.agent.remove_remote_agent(peer.name)
            with suppress(*TRANSPORT_ERRORS):
                self.meet(peer)

    def sender(self, plan: RoomPlan) -> Sender:
        with self.guard:
            fresh = self.live[plan.incarnation] = FreshSender(self, plan)
            return fresh

    def settle(self) -> None:
        with self.guard:
            for fresh in [*self.live.values(), *self.after]:
                fresh.tidy()
            self.after = [fresh for fresh in self.after if fresh.untidy()]

    def quarantined_pages(self) -> frozenset[int]:
        with self.guard:
            pending = [f.doubtful() for f in [*self.live.values(), *self.after]]
            return frozenset(self.bad_pages).union(*pending)

    def residue(self) -> int:
        return len(self.live) + len(self.after)


class FreshSender:
    """A sender that makes descriptors for each chunk with initialize_xfer, and tries a refused make once more."""

    def __init__(self, side: FreshSide, plan: RoomPlan) -> None:
        self.side, self.plan = side, plan
        self.gens = {d.peer.name: d.peer.generation for d in plan.destinations}
        self.pages: list[int] = []
        self.unposted: list[tuple[ScriptedHandle, list[int]]] = []
        self.flying: list[tuple[ScriptedHandle, list[int], float]] = []
        self.spent: list[ScriptedHandle] = []
        self.to_tell: list[tuple[Peer, bytes, int]] = []
        self.finished = False
        self.value = KVPoll.WaitingForInput
        self.reported = False
        self.cause: Exception | None = None
        try:
            for target in plan.destinations:
                if not target.dummy:
                    side.meet(target.peer)
        except Exception as error:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        if not self.value.terminal:
            self.value, self.cause = KVPoll.Failed, error
            if blame(error) is Attribution.INTERNAL:
                log.error("room %s", self.plan.room, exc_info=error)
            self.tell(letter_text(NotificationKind.FAILURE, self.plan, words(error)))
            self.spent += [handle for handle, _ in self.unposted]
            self.unposted.clear()

    def tell(self, text: bytes) -> None:
        self.to_tell += [(d.peer, text, 0) for d in self.plan.destinations if not d.dummy]

    def rows(self, memory: Memory, pages: Sequence[int], aux: int | None) -> list[tuple[int, int, int]]:
        rows = [
            (memory.address(memory.kv[region]) + page * size, size, 0)
            for page in pages
            for region, size in enumerate(memory.PAGE_BYTES)
        ]
        if aux is not None:
            rows.append((memory.address(memory.aux[0]) + aux * memory.AUX_BYTES[0], memory.AUX_BYTES[0], 0))
        return rows

    def initialize(self, target: Destination, first: int, pages: list[int]) -> None:
        """One transfer to one peer, which is not posted yet."""
        couples = pairs_for(self.plan, target, first, pages)
        last = first + len(pages) == self.plan.num_pages
        if not couples and not last:
            return
        agent, here = self.side.agent, [mine for mine, _ in couples]
        mine = agent.get_xfer_descs(
            self.rows(self.side.world.memory, here, self.plan.aux_index if last else None), "DRAM"
        )
        theirs = agent.get_xfer_descs(
            self.rows(target.peer.memory, [page for _, page in couples], target.aux_index if last else None), "DRAM"
        )
        try:
            handle = agent.initialize_xfer("WRITE", mine, theirs, target.peer.name)
        except TRANSPORT_ERRORS as refused:
            try:
                handle = agent.initialize_xfer("WRITE", mine, theirs, target.peer.name)
            except TRANSPORT_ERRORS:
                raise refused from None
        self.unposted.append((handle, here))

    def send(self, kv_indices: Sequence[int]) -> None:
        with self.side.guard:
            if self.value is KVPoll.Failed:
                return
            pages = checked(self.plan, self.pages, kv_indices)
            if self.finished or (not pages and self.plan.num_pages):
                return
            if self.restarted():
                return
            try:
                for target in self.plan.destinations:
                    if not target.dummy:
                        self.initialize(target, len(self.pages), pages)
            except Exception as error:
                self.fail(error)
                return
            except BaseException:
                self.spent += [handle for handle, _ in self.unposted]
                self.unposted.clear()
                raise
            self.pages += pages
            self.finished = len(self.pages) == self.plan.num_pages
            self.value = KVPoll.Transferring
            self.post()

    def restarted(self) -> bool:
        for target in self.plan.destinations:
            if not target.dummy and target.peer.generation != self.gens[target.peer.name]:
                self.fail(PeerRestarted(f"{target.peer.name} is another process now"))
        return self.value is KVPoll.Failed

    def post(self) -> None:
        while self.unposted:
            handle, pages = self.unposted.pop(0)
            self.flying.append((handle, pages, self.side.world.clock()))
            self.ask(self.flying[-1], self.side.agent.transfer)

    def ask(self, one: tuple[ScriptedHandle, list[int], float], call: Callable[[ScriptedHandle], str]) -> bool:
        """Ask about one transfer; True if it is still going on."""
        handle, pages, _ = one
        problem: Exception | None = None
        try:
            answer = call(handle)
        except TRANSPORT_ERRORS as error:
            problem, answer = error, "ERR"
        except Exception as error:
            self.fail(error)
            return True
        if answer == "PROC":
            return True
        self.flying.remove(one)
        self.spent.append(handle)
        if answer != "DONE":
            self.side.bad_pages.update(pages)
            self.fail(problem or BadState(f"the transport says {answer!r}"))
        return False

    def look(self) -> None:
        late = False
        for one in list(self.flying):
            now_s = self.side.world.clock()
            if self.ask(one, self.side.agent.check_xfer_state):
                late |= now_s - one[2] >= self.side.world.transfer_timeout_s
        if late:
            self.fail(TransferTimeout("a transfer did not end in time"))

    def poll(self) -> KVPoll:
        with self.side.guard:
            if self.reported:
                return KVPoll.Failed
            if not self.value.terminal and not self.restarted():
                self.post()
                self.look()
                if self.landed():
                    self.value = KVPoll.Success
                    self.tell(letter_text(NotificationKind.SUCCESS, self.plan))
            self.clean()
            self.reported = self.value is KVPoll.Failed
            return self.value

    def landed(self) -> bool:
        return not self.value.terminal and self.finished and not self.flying

    def clean(self) -> None:
        """Give back what is finished with, and write to the peers."""
        for handle in list(self.spent):
            with suppress(*TRANSPORT_ERRORS):
                self.side.agent.release_xfer_handle(handle)
                self.spent.remove(handle)
        for peer, text, tries in list(self.to_tell):
            self.to_tell.remove((peer, text, tries))
            if tries < TRIES and peer.generation == self.gens[peer.name]:
                self.to_tell.append((peer, text, tries + 1))
                with suppress(*TRANSPORT_ERRORS):
                    self.side.meet(peer)
                    self.side.agent.send_notif(peer.name, text)
                    self.to_tell.remove((peer, text, tries + 1))

    def tidy(self) -> None:
        if self.value.terminal:
            self.look()
            while self.to_tell or self.spent:
                before = (len(self.spent), [tries for _, _, tries in self.to_tell])
                self.clean()
                if (len(self.spent), [tries for _, _, tries in self.to_tell]) == before:
                    break

    def untidy(self) -> bool:
        return bool(self.flying or self.spent or self.to_tell)

    def doubtful(self) -> set[int]:
        return {page for _, pages, _ in self.flying for page in pages} if self.value.terminal else set()

    def abort(self) -> None:
        with self.side.guard:
            self.fail(TransferAborted("abort() was called"))

    def clear(self) -> None:
        with self.side.guard:
            self.fail(TransferAborted("clear() was called"))
            if self.side.live.pop(self.plan.incarnation, None) is not None and self.untidy():
                self.side.after.append(self)

    def failure_exception(self) -> NoReturn:
        with self.side.guard:
            raise_failure(self.plan, self.cause)


# (f) A worker thread, which idles on a condition with a timeout and holds no lock while it asks the transport.


@dataclass(eq=False)
class Piece:
    room: WorkerRoom
    pages: frozenset[int]
    handle: ScriptedHandle
    since_s: float
    state: At = At.MADE


class WorkerRoom:
    """A sender for a worker thread: the caller only queues, sets flags and reads them."""

    def __init__(self, side: WorkerSide, plan: RoomPlan) -> None:
        self.side, self.plan = side, plan
        self.gens = {d.peer.name: d.peer.generation for d in plan.destinations}
        self.pages: list[int] = []
        self.jobs = 0
        self.closed = self.good = False
        self.pieces: list[Piece] = []
        self.cause: Exception | None = None

    def latch(self, error: Exception) -> None:
        """With the condition held, as everything that changes a room."""
        if self.cause is None and not self.good:
            self.cause = error
            self.side.mail.extend(
                (d.peer, self.gens[d.peer.name], letter_text(NotificationKind.FAILURE, self.plan, words(error)), 0)
                for d in self.plan.destinations
                if not d.dummy
            )
            if blame(error) is Attribution.INTERNAL:
                log.error("room %s", self.plan.room, exc_info=error)
            self.side.cond.notify_all()

    def send(self, kv_indices: Sequence[int]) -> None:
        with self.side.cond:
            if self.cause is not None:
                return
            pages = checked(self.plan, self.pages, kv_indices)
            if self.closed or (not pages and self.plan.num_pages):
                return
            self.side.jobs.append((self, len(self.pages), pages))
            self.jobs += 1
            self.pages += pages
            self.closed = len(self.pages) == self.plan.num_pages
            self.side.cond.notify_all()

    def poll(self) -> KVPoll:
        with self.side.cond:
            if self.cause is not None:
                return KVPoll.Failed
            if self.good:
                return KVPoll.Success
            return KVPoll.Transferring if self.closed or self.pages else KVPoll.WaitingForInput

    def abort(self) -> None:
        with self.side.cond:
            self.latch(TransferAborted("aborted"))

    def clear(self) -> None:
        with self.side.cond:
            self.latch(TransferAborted("cleared"))
            self.side.rooms.pop(self.plan.incarnation, None)

    def failure_exception(self) -> NoReturn:
        with self.side.cond:
            raise_failure(self.plan, self.cause)

    def get_transfer_metric(self) -> object:
        with self.side.cond:
            return len(self.pages)


class WorkerSide(Words):
    """One thread does everything that asks the transport, apart from the first contact."""

    def __init__(self, world: World) -> None:
        self.world, self.agent = world, world.transport
        self.cond = Condition()
        self.jobs: deque[tuple[WorkerRoom, int, list[int]]] = deque()
        self.mail: deque[tuple[Peer, int, bytes, int]] = deque()
        self.pieces: list[Piece] = []
        self.rooms: dict[int, WorkerRoom] = {}
        self.poison: set[int] = set()
        self.table: dict[str, tuple[int, ScriptedDlist]] = {}
        self.mine: ScriptedDlist | None = None
        self.working = self.closing = False
        for peer in world.peers:
            with suppress(*TRANSPORT_ERRORS):
                self.peer_list(peer)
        self.thread = Thread(target=self.serve, daemon=True)
        self.thread.start()

    def peer_list(self, peer: Peer) -> ScriptedDlist:
        if self.mine is None:
            self.agent.register_memory(whole(self.world.memory), "DRAM")
            self.mine = self.agent.prep_xfer_dlist(INIT_AGENT, blocks(self.world.memory), "DRAM")
        generation, known = self.table.get(peer.name, (-1, None))
        if known is None or generation != peer.generation:
            if known is not None:
                with suppress(*TRANSPORT_ERRORS):
                    self.agent.remove_remote_agent(peer.name)
                with suppress(*TRANSPORT_ERRORS):
                    self.agent.release_dlist_handle(known)
                del self.table[peer.name]
            self.agent.add_remote_agent(peer.agent.get_agent_metadata())
            known = self.agent.prep_xfer_dlist(peer.name, blocks(peer.memory), "DRAM")
            self.table[peer.name] = peer.generation, known
        return known

    def sender(self, plan: RoomPlan) -> Sender:
        room = WorkerRoom(self, plan)
        with self.cond:
            self.rooms[plan.incarnation] = room
        return room

    def reconnect(self, peer: Peer) -> None:
        with self.cond:
            for room in self.rooms.values():
                if room.gens.get(peer.name, peer.generation) != peer.generation:
                    room.latch(PeerRestarted(f"{peer.name} has restarted"))

    def workers(self) -> list[Thread]:
        return [self.thread]

    def has_work(self) -> bool:
        return bool(self.jobs or self.pieces or self.mail)

    def busy(self) -> int:
        with self.cond:
            return int(self.working or self.has_work())

    def close(self) -> None:
        with self.cond:
            self.closing = True
            self.cond.notify_all()

    def serve(self) -> None:
        while True:
            with self.cond:
                self.working = False
                while not self.has_work() and not self.closing:
                    self.cond.wait(timeout=0.05)
                if self.closing:
                    return
                self.working = True
            try:
                self.round()
            except Exception:
                log.exception("the worker goes on")

    def round(self) -> None:
        while self.jobs:
            with self.cond:
                room, first, pages = self.jobs.popleft()
            try:
                self.post(room, first, pages)
            except Exception as error:
                with self.cond:
                    room.latch(error)
            with self.cond:
                room.jobs -= 1
                self.finish(room)
        for piece in list(self.pieces):
            self.visit(piece)
        for _ in range(len(self.mail)):
            self.write(*self.mail.popleft())

    def post(self, room: WorkerRoom, first: int, pages: list[int]) -> None:
        made: list[Piece] = []
        try:
            for target in room.plan.destinations:
                if room.cause is None and not target.dummy:
                    made += self.make(room, target, first, pages)
        finally:
            with self.cond:
                self.pieces += made
                room.pieces += made
        for piece in made:
            with self.cond:
                if room.cause is not None:
                    return
                piece.state, piece.since_s = At.FLYING, self.world.clock()
            self.ask(piece, self.agent.transfer)

    def make(self, room: WorkerRoom, target: Destination, first: int, pages: list[int]) -> list[Piece]:
        if target.peer.generation != room.gens[target.peer.name]:
            raise PeerRestarted(f"{target.peer.name} has restarted")
        couples = pairs_for(room.plan, target, first, pages)
        here = [row for page, _ in couples for row in page_rows(page)]
        there = [row for _, page in couples for row in page_rows(page)]
        if first + len(pages) == room.plan.num_pages:
            here.append(aux_row(room.plan.aux_index))
            there.append(aux_row(target.aux_index))
        if not here:
            return []
        remote = self.peer_list(target.peer)
        assert self.mine is not None
        handle = self.agent.make_prepped_xfer("WRITE", self.mine, here, remote, there)
        return [Piece(room, frozenset(page for page, _ in couples), handle, 0.0)]

    def ask(self, piece: Piece, call: Callable[[ScriptedHandle], str]) -> None:
        """Ask about one piece with no lock held, then note what was said."""
        problem: Exception | None = None
        answer = "PROC"
        now_s = self.world.clock()
        try:
            answer = call(piece.handle)
        except TRANSPORT_ERRORS as error:
            problem, answer = error, "ERR"
        except Exception as error:
            problem = error
        with self.cond:
            if answer == "DONE":
                piece.state = At.DONE
            elif answer != "PROC":
                piece.state = At.BROKEN
                self.poison |= piece.pages
                problem = problem or BadState(f"the transport answered {answer!r}")
            elif problem is None and now_s - piece.since_s >= self.world.transfer_timeout_s:
                problem = TransferTimeout(f"no end after {self.world.transfer_timeout_s} s")
            if problem is not None:
                piece.room.latch(problem)

    def visit(self, piece: Piece) -> None:
        if piece.state is At.FLYING:
            self.ask(piece, self.agent.check_xfer_state)
        if piece.state is not At.FLYING:
            try:
                self.agent.release_xfer_handle(piece.handle)
                with self.cond:
                    self.pieces.remove(piece)
            except TRANSPORT_ERRORS:
                log.warning("a handle could not be released and is tried again")
            except Exception as error:
                log.exception("a handle could not be released and is tried again")
                with self.cond:
                    piece.room.latch(error)
        with self.cond:
            self.finish(piece.room)

    def finish(self, room: WorkerRoom) -> None:
        landed = all(piece.state is At.DONE for piece in room.pieces)
        if room.cause is None and not room.good and room.closed and not room.jobs and landed:
            room.good = True
            text = letter_text(NotificationKind.SUCCESS, room.plan)
            self.mail.extend((d.peer, room.gens[d.peer.name], text, 0) for d in room.plan.destinations if not d.dummy)

    def write(self, peer: Peer, generation: int, text: bytes, tries: int) -> None:
        if peer.generation == generation and tries < TRIES:
            try:
                self.peer_list(peer)
                self.agent.send_notif(peer.name, text)
            except Exception:
                log.warning("%s was not told", peer.name, exc_info=True)
                with self.cond:
                    self.mail.append((peer, generation, text, tries + 1))

    def quarantined_pages(self) -> frozenset[int]:
        with self.cond:
            flying = [p.pages for p in self.pieces if p.state is At.FLYING and p.room.cause is not None]
            return frozenset(self.poison).union(*flying)

    def residue(self) -> int:
        with self.cond:
            return len(self.rooms) + len(self.pieces) + len(self.jobs) + len(self.mail)


# (g) Success is told with a notification of its own, and is said to the caller once a peer has taken it.


class NotifierRoom(DeferredRoom):
    """A deferred sender that offers a refused success notification again at the next poll before it says Success."""

    def __init__(self, desk: Desk, plan: RoomPlan) -> None:
        super().__init__(desk, plan)
        self.attempts = 0

    def step(self) -> None:
        if self.cause is None and any(link is not None and link.dead for link in self.links):
            self.latch(PeerRestarted("a peer of the room has restarted"))
        self.post()
        self.look()
        if self.cause is None and self.posted_all and all(f.at is At.DONE for f in self.flights):
            self.offer()
        self.end()

    def offer(self) -> None:
        """While nobody has been told, the room can still wait one poll; then what is left goes by letter."""
        self.attempts += 1
        text = letter_text(NotificationKind.SUCCESS, self.plan)
        untold = [
            Letter(target.peer, generation, text, self.attempts)
            for target, generation in zip(self.plan.destinations, self.generations, strict=True)
            if not target.dummy
        ]
        self.done = not untold
        try:
            for letter in list(untold):
                with suppress(*TRANSPORT_ERRORS):
                    self.desk.agent.send_notif(letter.peer.name, text)
                    self.done = True
                    untold.remove(letter)
        finally:
            self.done = self.done or self.attempts > 1
            if self.done:
                self.desk.letters += untold


class NotifierDesk(Desk):
    def sender(self, plan: RoomPlan) -> Sender:
        return NotifierRoom(self, plan)


# (h) Staged copies: a bounded pool of slots of its own, from which the transport reads.


SLOT_BYTES: Final = sum(Memory.PAGE_BYTES)
SLOTS: Final = 12


@dataclass(eq=False)
class Slot:
    """Room for one page of every region, or for one aux slot."""

    store: bytearray
    base: int
    owner: str


@dataclass(eq=False)
class Stage:
    """One transfer out of the pool."""

    handle: ScriptedHandle
    since_s: float
    slot: Slot
    pages: tuple[int, ...]


class StagedSide(Words):
    """A side that registers a pool of its own; the caller's pages are only read while send() or a poll copies them."""

    def __init__(self, world: World) -> None:
        self.world, self.agent, self.lock = world, world.transport, RLock()
        self.free: dict[str, list[Slot]] = {peer.name: [] for peer in world.peers}
        self.made: Counter[str] = Counter()
        self.met: dict[str, int] = {}
        self.rooms: dict[int, StagedSender] = {}
        self.ghosts: list[Stage] = []
        self.spent: list[ScriptedHandle] = []
        self.lost: list[Slot] = []
        self.suspect: set[int] = set()
        self.mail: list[tuple[Peer, int, bytes, int]] = []

    def take(self, peer: Peer) -> Slot | None:
        """A slot of the peer's own share, so that a silent one starves nobody else; None if there is none now."""
        free = self.free[peer.name]
        if not free and self.made[peer.name] < SLOTS:
            store = bytearray(SLOT_BYTES)
            base = ctypes.addressof(ctypes.c_char.from_buffer(store))
            self.agent.register_memory([(base, SLOT_BYTES, 0, "")], "DRAM")
            free.append(Slot(store, base, peer.name))
            self.made[peer.name] += 1
        return free.pop() if free else None

    def give(self, slot: Slot) -> None:
        self.free[slot.owner].append(slot)

    def lose(self, stage: Stage) -> None:
        """What an errored transfer may still read is never used again: another slot may be made in its place."""
        self.lost.append(stage.slot)
        self.made[stage.slot.owner] -= 1
        self.suspect.update(stage.pages)

    def meet(self, peer: Peer) -> None:
        if self.met.get(peer.name) != peer.generation:
            if peer.name in self.met:
                del self.met[peer.name]
                with suppress(*TRANSPORT_ERRORS):
                    self.agent.remove_remote_agent(peer.name)
            self.agent.add_remote_agent(peer.agent.get_agent_metadata())
            self.met[peer.name] = peer.generation

    def reconnect(self, peer: Peer) -> None:
        with self.lock, suppress(*TRANSPORT_ERRORS):
            self.meet(peer)

    def sender(self, plan: RoomPlan) -> Sender:
        with self.lock:
            staged = self.rooms[plan.incarnation] = StagedSender(self, plan)
            return staged

    def chores(self) -> None:
        for stage in list(self.ghosts):
            answer = "ERR"
            with suppress(*TRANSPORT_ERRORS):
                answer = self.agent.check_xfer_state(stage.handle)
            if answer != "PROC":
                self.ghosts.remove(stage)
                self.spent.append(stage.handle)
                if answer == "DONE":
                    self.give(stage.slot)
                else:
                    self.lose(stage)
        for handle in list(self.spent):
            with suppress(*TRANSPORT_ERRORS):
                self.agent.release_xfer_handle(handle)
                self.spent.remove(handle)
        for _ in range(len(self.mail)):
            peer, generation, text, tries = self.mail.pop(0)
            taken = peer.generation != generation or tries >= TRIES
            try:
                if not taken:
                    self.meet(peer)
                    self.agent.send_notif(peer.name, text)
                    taken = True
            except TRANSPORT_ERRORS:
                log.warning("%s was not told", peer.name)
            finally:
                if not taken:
                    self.mail.append((peer, generation, text, tries + 1))

    def settle(self) -> None:
        with self.lock:
            for _ in range(TRIES + 1):
                self.chores()

    def quarantined_pages(self) -> frozenset[int]:
        with self.lock:
            return frozenset(self.suspect).union(*(stage.pages for stage in self.ghosts))

    def residue(self) -> int:
        return len(self.rooms) + len(self.ghosts) + len(self.spent) + len(self.mail)


class StagedSender:
    """A sender that copies pages into slots, one handle a page, and waits for free slots from poll to poll."""

    def __init__(self, side: StagedSide, plan: RoomPlan) -> None:
        self.side, self.plan = side, plan
        self.gens = {d.peer.name: d.peer.generation for d in plan.destinations}
        self.sent: list[int] = []
        self.work: deque[tuple[Destination, int | None, int]] = deque()
        self.stages: list[Stage] = []
        self.moved_s = side.world.clock()
        self.last = False
        self.answer = KVPoll.WaitingForInput
        self.error: Exception | None = None
        self.said = False
        try:
            for target in plan.destinations:
                if not target.dummy:
                    side.meet(target.peer)
        except Exception as error:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        if self.answer.terminal:
            return
        self.answer, self.error = KVPoll.Failed, error
        self.work.clear()
        self.side.ghosts += self.stages
        self.stages = []
        if blame(error) is Attribution.INTERNAL:
            log.error("room %s", self.plan.room, exc_info=error)
        self.tell(letter_text(NotificationKind.FAILURE, self.plan, words(error)))

    def tell(self, text: bytes) -> None:
        self.side.mail += [(d.peer, self.gens[d.peer.name], text, 0) for d in self.plan.destinations if not d.dummy]

    def send(self, kv_indices: Sequence[int]) -> None:
        with self.side.lock:
            if self.answer is KVPoll.Failed:
                return
            pages = checked(self.plan, self.sent, kv_indices)
            if self.last or (not pages and self.plan.num_pages):
                return
            first = len(self.sent)
            self.sent += pages
            self.last = len(self.sent) == self.plan.num_pages
            self.answer, self.moved_s = KVPoll.Transferring, self.side.world.clock()
            for target in self.plan.destinations:
                if not target.dummy:
                    self.work.extend((target, mine, to) for mine, to in pairs_for(self.plan, target, first, pages))
                    if self.last:
                        self.work.append((target, None, target.aux_index))
            self.push()

    def push(self) -> None:
        """Copy and post as long as there are slots."""
        if any(not d.dummy and d.peer.generation != self.gens[d.peer.name] for d in self.plan.destinations):
            self.fail(PeerRestarted("a peer has restarted"))
        try:
            for item in list(self.work):
                slot = None if self.answer.terminal else self.side.take(item[0].peer)
                if slot is not None:
                    self.post(slot, item)
        except Exception as error:
            self.fail(error)

    def post(self, slot: Slot, item: tuple[Destination, int | None, int]) -> None:
        target, page, to = item
        memory, theirs = self.side.world.memory, target.peer.memory
        here: list[tuple[int, int, int]] = []
        there: list[tuple[int, int, int]] = []
        at = 0
        for region, size in enumerate(memory.PAGE_BYTES) if page is not None else ():
            slot.store[at : at + size] = memory.page(region, page or 0)
            here.append((slot.base + at, size, 0))
            there.append((theirs.address(theirs.kv[region]) + to * size, size, 0))
            at += size
        if page is None:
            size = memory.AUX_BYTES[0]
            slot.store[:size] = memory.slot(self.plan.aux_index)
            here.append((slot.base, size, 0))
            there.append((theirs.address(theirs.aux[0]) + to * size, size, 0))
        agent = self.side.agent
        try:
            mine, remote = agent.get_xfer_descs(here, "DRAM"), agent.get_xfer_descs(there, "DRAM")
            handle = agent.initialize_xfer("WRITE", mine, remote, target.peer.name)
        except BaseException:
            self.side.give(slot)
            raise
        self.moved_s = self.side.world.clock()
        stage = Stage(handle, self.moved_s, slot, () if page is None else (page,))
        self.stages.append(stage)
        self.work.remove(item)
        self.ask(stage, agent.transfer)

    def ask(self, stage: Stage, call: Callable[[ScriptedHandle], str]) -> None:
        problem: Exception | None = None
        try:
            answer = call(stage.handle)
        except TRANSPORT_ERRORS as error:
            problem, answer = error, "ERR"
        if answer == "PROC":
            return
        self.stages.remove(stage)
        self.side.spent.append(stage.handle)
        if answer == "DONE":
            self.side.give(stage.slot)
        else:
            self.side.lose(stage)
            self.fail(problem or BadState(f"the transport answered {answer!r}"))

    def poll(self) -> KVPoll:
        with self.side.lock:
            if self.said:
                return self.answer
            self.look()
            self.side.chores()
            self.said = self.answer is KVPoll.Failed
            return self.answer

    def look(self) -> None:
        for stage in list(self.stages):
            if not self.answer.terminal:
                try:
                    self.ask(stage, self.side.agent.check_xfer_state)
                except Exception as error:
                    self.fail(error)
        world = self.side.world
        if any(world.clock() - stage.since_s >= world.transfer_timeout_s for stage in self.stages):
            self.fail(TransferTimeout("a peer is silent"))
        self.push()
        if self.work and world.clock() - self.moved_s >= world.transfer_timeout_s:
            self.fail(TransferTimeout("the pool waits for a peer that is silent"))
        if not self.answer.terminal and self.last and not self.work and not self.stages:
            self.answer = KVPoll.Success
            self.tell(letter_text(NotificationKind.SUCCESS, self.plan))

    def abort(self) -> None:
        with self.side.lock:
            self.fail(TransferAborted("aborted"))

    def clear(self) -> None:
        with self.side.lock:
            self.fail(TransferAborted("cleared"))
            self.side.rooms.pop(self.plan.incarnation, None)

    def failure_exception(self) -> NoReturn:
        with self.side.lock:
            raise_failure(self.plan, self.error)


# (i) Lazy: nothing is connected before the first room; after a restart the next room reconnects.


class LazyRoom(CuriousRoom):
    """The curious room on a side that reconnects at the next opening only."""


class LazyDesk(CuriousDesk):
    """A side that connects when a room is opened, also after the peer has restarted."""

    def connect_all(self) -> None:
        pass

    def reconnect(self, peer: Peer) -> None:
        with self.lock:
            if peer.name in self.links:
                self.links[peer.name].dead = True

    def sender(self, plan: RoomPlan) -> Sender:
        with self.lock:
            self.open_rooms.add(plan.incarnation)
            return LazyRoom(self, plan)


# (k) A ledger of pages: who holds which page, and why. Functions over records, and a sender of closures.


class Ledger:
    """Counts who reads a page: a transfer in flight, or one of which nobody knows that it has stopped."""

    def __init__(self) -> None:
        self.reading: Counter[int] = Counter()
        self.doubt: Counter[int] = Counter()

    def start(self, pages: Sequence[int]) -> None:
        self.reading.update(pages)

    def stop(self, pages: Sequence[int]) -> None:
        self.reading.subtract(pages)
        self.reading = +self.reading

    def doubtful(self, pages: Sequence[int]) -> None:
        self.stop(pages)
        self.doubt.update(pages)


@dataclass(eq=False)
class Entry:
    """All that there is about one room."""

    plan: RoomPlan
    gens: list[int]
    pages: list[int] = field(default_factory=list)
    owed: list[tuple[int, list[int]]] = field(default_factory=list)
    reads: dict[ScriptedHandle, tuple[float, list[int]]] = field(default_factory=dict)
    letters: list[tuple[Peer, int, bytes]] = field(default_factory=list)
    tries: int = 0
    sealed: bool = False
    value: KVPoll = KVPoll.WaitingForInput
    cause: Exception | None = None
    shown: bool = False
    cleared: bool = False


class LedgerSide(Words):
    """A side whose quarantine is what the ledger says of rooms that are over."""

    def __init__(self, world: World) -> None:
        self.world, self.agent, self.lock, self.ledger = world, world.transport, RLock(), Ledger()
        self.entries: list[Entry] = []
        self.finished: list[ScriptedHandle] = []
        self.peers: dict[str, tuple[int, ScriptedDlist]] = {}
        self.mine: ScriptedDlist | None = None

    def peer(self, peer: Peer) -> ScriptedDlist:
        if self.mine is None:
            self.agent.register_memory(whole(self.world.memory), "DRAM")
            self.mine = self.agent.prep_xfer_dlist(INIT_AGENT, blocks(self.world.memory), "DRAM")
        if peer.name not in self.peers:
            self.agent.add_remote_agent(peer.agent.get_agent_metadata())
            listed = self.agent.prep_xfer_dlist(peer.name, blocks(peer.memory), "DRAM")
            self.peers[peer.name] = peer.generation, listed
        return self.peers[peer.name][1]

    def reconnect(self, peer: Peer) -> None:
        with self.lock, suppress(*TRANSPORT_ERRORS):
            if peer.name in self.peers:
                _, listed = self.peers.pop(peer.name)
                with suppress(*TRANSPORT_ERRORS):
                    self.agent.remove_remote_agent(peer.name)
                with suppress(*TRANSPORT_ERRORS):
                    self.agent.release_dlist_handle(listed)
            self.peer(peer)

    def sender(self, plan: RoomPlan) -> Sender:
        with self.lock:
            entry = Entry(plan, [d.peer.generation for d in plan.destinations])
            self.entries.append(entry)
            try:
                for target in plan.destinations:
                    if not target.dummy:
                        self.peer(target.peer)
            except Exception as error:
                self.over(entry, error)
            return LedgerSender(self, entry)

    def over(self, entry: Entry, cause: Exception | None) -> None:
        """The one place where a room ends."""
        if entry.value.terminal:
            return
        entry.value = KVPoll.Success if cause is None else KVPoll.Failed
        entry.cause = cause
        entry.owed.clear()
        kind = NotificationKind.SUCCESS if cause is None else NotificationKind.FAILURE
        text = letter_text(kind, entry.plan, "" if cause is None else words(cause))
        if cause is not None and blame(cause) is Attribution.INTERNAL:
            log.error("room %s", entry.plan.room, exc_info=cause)
        for target, generation in zip(entry.plan.destinations, entry.gens, strict=True):
            if not target.dummy:
                entry.letters.append((target.peer, generation, text))

    def note(self, entry: Entry, handle: ScriptedHandle, ask: Callable[[ScriptedHandle], str]) -> None:
        """Ask the transport about one transfer and enter the answer in the ledger."""
        try:
            answer = ask(handle)
        except TRANSPORT_ERRORS as error:
            _, pages = entry.reads.pop(handle)
            self.finished.append(handle)
            self.ledger.doubtful(pages)
            self.over(entry, error)
            return
        except Exception as error:
            self.over(entry, error)
            return
        if answer == "PROC":
            return
        _, pages = entry.reads.pop(handle)
        self.finished.append(handle)
        if answer == "DONE":
            self.ledger.stop(pages)
        else:
            self.ledger.doubtful(pages)
            self.over(entry, BadState(f"the transport answered {answer!r}"))

    def post(self, entry: Entry) -> None:
        while entry.owed and not entry.value.terminal:
            first, pages = entry.owed[0]
            made: list[tuple[ScriptedHandle, list[int]]] = []
            complete = False
            try:
                for target in entry.plan.destinations:
                    if not target.dummy:
                        made += self.make(entry.plan, target, first, pages)
                complete = True
            except Exception as error:
                self.over(entry, error)
            finally:
                if not complete:
                    self.finished += [handle for handle, _ in made]
            if not complete:
                return
            entry.owed.pop(0)
            for at, (handle, sources) in enumerate(made):
                if entry.cause is not None:
                    self.finished.append(handle)
                    continue
                entry.reads[handle] = self.world.clock(), sources
                self.ledger.start(sources)
                try:
                    self.note(entry, handle, self.agent.transfer)
                except BaseException as error:
                    self.finished += [left for left, _ in made[at + 1 :]]
                    self.over(entry, Interrupted(f"a post, by {type(error).__name__}"))
                    raise

    def make(
        self, plan: RoomPlan, target: Destination, first: int, pages: list[int]
    ) -> list[tuple[ScriptedHandle, list[int]]]:
        couples = pairs_for(plan, target, first, pages)
        here = [row for region in range(REGIONS) for row in [region * NUM_PAGES + mine for mine, _ in couples]]
        there = [row for region in range(REGIONS) for row in [region * NUM_PAGES + to for _, to in couples]]
        if first + len(pages) == plan.num_pages:
            here, there = [*here, aux_row(plan.aux_index)], [*there, aux_row(target.aux_index)]
        if not here:
            return []
        remote = self.peer(target.peer)
        assert self.mine is not None
        handle = self.agent.make_prepped_xfer("WRITE", self.mine, here, remote, there)
        return [(handle, [mine for mine, _ in couples])]

    def examine(self, entry: Entry) -> None:
        for handle in list(entry.reads):
            self.note(entry, handle, self.agent.check_xfer_state)
        late = self.world.clock() - self.world.transfer_timeout_s
        if any(since_s <= late for since_s, _ in entry.reads.values()):
            self.over(entry, TransferTimeout("the deadline of a transfer has passed"))
        stale = [
            d.peer.name
            for d, gen in zip(entry.plan.destinations, entry.gens, strict=True)
            if not d.dummy and d.peer.generation != gen
        ]
        if stale:
            self.over(entry, PeerRestarted(f"{stale} restarted"))
        self.post(entry)
        if entry.sealed and not entry.owed and not entry.reads:
            self.over(entry, None)

    def correspond(self, entry: Entry) -> None:
        """Offer each letter once; what is refused stays until the tries are used up."""
        entry.tries += bool(entry.letters)
        for letter in list(entry.letters):
            peer, generation, text = letter
            if peer.generation != generation or entry.tries > TRIES:
                entry.letters.remove(letter)
                continue
            with suppress(*TRANSPORT_ERRORS):
                self.peer(peer)
                self.agent.send_notif(peer.name, text)
                entry.letters.remove(letter)

    def give_back(self) -> None:
        for handle in list(self.finished):
            with suppress(*TRANSPORT_ERRORS):
                self.agent.release_xfer_handle(handle)
                self.finished.remove(handle)

    def settle(self) -> None:
        with self.lock:
            for entry in list(self.entries):
                if entry.value.terminal:
                    self.examine(entry)
                    for _ in range(TRIES + 1):
                        self.correspond(entry)
                if entry.cleared and not entry.reads and not entry.letters:
                    self.entries.remove(entry)
            self.give_back()

    def quarantined_pages(self) -> frozenset[int]:
        with self.lock:
            over = [set(pages) for e in self.entries if e.value.terminal for _, pages in e.reads.values()]
            return frozenset(self.ledger.doubt).union(*over)

    def residue(self) -> int:
        return len(self.entries) + len(self.finished) + sum(self.ledger.reading.values())


class LedgerSender:
    """A sender that has nothing of its own: the entry says everything."""

    def __init__(self, side: LedgerSide, entry: Entry) -> None:
        self.side, self.entry = side, entry

    def send(self, kv_indices: Sequence[int]) -> None:
        with self.side.lock:
            entry = self.entry
            if entry.value is KVPoll.Failed:
                return
            pages = checked(entry.plan, entry.pages, kv_indices)
            if entry.sealed or (not pages and entry.plan.num_pages):
                return
            entry.owed.append((len(entry.pages), pages))
            entry.pages += pages
            entry.sealed = len(entry.pages) == entry.plan.num_pages
            entry.value = KVPoll.Transferring
            stale = any(
                not d.dummy and d.peer.generation != gen
                for d, gen in zip(entry.plan.destinations, entry.gens, strict=True)
            )
            if not stale:
                self.side.post(entry)

    def poll(self) -> KVPoll:
        with self.side.lock:
            if not self.entry.shown:
                if not self.entry.value.terminal:
                    self.side.examine(self.entry)
                self.side.give_back()
                self.side.correspond(self.entry)
                self.entry.shown = self.entry.value is KVPoll.Failed
            return self.entry.value

    def abort(self) -> None:
        with self.side.lock:
            self.side.over(self.entry, TransferAborted("abort()"))

    def clear(self) -> None:
        with self.side.lock:
            self.side.over(self.entry, TransferAborted("clear()"))
            self.entry.cleared = True
            if not self.entry.reads and not self.entry.letters and self.entry in self.side.entries:
                self.side.entries.remove(self.entry)

    def failure_exception(self) -> NoReturn:
        with self.side.lock:
            raise_failure(self.entry.plan, self.entry.cause)

    def get_transfer_metric(self) -> object:
        return dict(self.side.ledger.reading)


def _adapter(name: str, opens: Callable[[World], object]) -> Kind:
    return Kind(name, cast("Callable[[World], System]", opens))


deferred: Final = _adapter("deferred", DeferredDesk)
pump: Final = _adapter("pump", Pump)
story: Final = _adapter("story", StoryDesk)
curious: Final = _adapter("curious", CuriousDesk)
fresh: Final = _adapter("fresh", FreshSide)
worker: Final = _adapter("worker", WorkerSide)
notifier: Final = _adapter("notifier", NotifierDesk)
staged: Final = _adapter("staged", StagedSide)
lazy: Final = _adapter("lazy", LazyDesk)
ledger: Final = _adapter("ledger", LedgerSide)

RIGHT: Final[tuple[Adapter, ...]] = (
    deferred,
    pump,
    story,
    curious,
    fresh,
    worker,
    notifier,
    staged,
    lazy,
    ledger,
)
