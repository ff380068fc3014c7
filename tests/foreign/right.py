"""Right senders in ten styles. They share the plant (links, handles, quarantine, notifications) and little else."""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from inspect import GEN_CLOSED, getgeneratorstate
from operator import index
from queue import Queue
from threading import Lock, RLock, Thread
from typing import ClassVar, NoReturn

from kvsender_spec.contract import (
    INIT_AGENT,
    Attribution,
    KVPoll,
    KVTransferError,
    KVUsageError,
    TransferAborted,
    TransferTimeout,
)
from kvsender_spec.faults import STAND_INS
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
from kvsender_spec.machine import Profile

log = logging.getLogger("foreign")
log.addHandler(logging.NullHandler())

TRANSPORT_ERRORS: tuple[type[Exception], ...] = (*STAND_INS.values(), RuntimeError)
REGIONS = range(len(Memory.PAGE_BYTES))


class BadAnswer(RuntimeError):
    """The transport has returned a state that is neither PROC nor DONE."""


class PeerRestarted(RuntimeError):
    """The peer is another process than when the room was opened; its page ids mean nothing now."""


class TransferInterrupted(Exception):
    """A Ctrl-C or an exit has left a chunk half posted."""


def blame(cause: BaseException) -> Attribution:
    """Who caused a failure, by the class of its cause."""
    if isinstance(cause, TransferAborted):
        return Attribution.CALLER
    if isinstance(cause, TransferTimeout):
        return Attribution.DEADLINE
    if isinstance(cause, PeerRestarted | STAND_INS["nixlRemoteDisconnectError"]):
        return Attribution.PEER
    return Attribution.LOCAL if isinstance(cause, TRANSPORT_ERRORS) else Attribution.INTERNAL


def page_ids(kv_indices: Sequence[int]) -> list[int]:
    """The page ids as plain ints; floats, strings, bools and things that are no sequence are a usage error."""
    try:
        if isinstance(kv_indices, str | bytes) or any(isinstance(page, bool) for page in kv_indices):
            raise TypeError(f"{kv_indices!r} are no page ids")
        return [index(page) for page in kv_indices]
    except TypeError as error:
        raise KVUsageError(str(error)) from error


class Stage(Enum):
    """Where one transfer handle stands."""

    MADE = auto()
    REJECTED = auto()
    FLYING = auto()
    DONE = auto()
    ERRORED = auto()


@dataclass(eq=False, slots=True)
class Link:
    """The connection to one process of a peer. A restarted peer gets a new one."""

    name: str
    generation: int
    dlist: ScriptedDlist


@dataclass(frozen=True, slots=True)
class Chunk:
    """Pages that go out together. ``first`` counts the pages of the room before them."""

    pages: tuple[int, ...]
    first: int
    last: bool


@dataclass(eq=False, slots=True)
class Flight:
    """One transfer. ``handle`` is None once it has been released; a refused release leaves it stuck."""

    handle: ScriptedHandle | None
    link: Link
    pages: tuple[int, ...]
    stage: Stage = Stage.MADE
    since_s: float = 0.0
    stuck: bool = False

    @property
    def quiesced(self) -> bool:
        """Nothing reads the pages any more."""
        return self.stage in (Stage.MADE, Stage.DONE)


class Plant:
    """One prefill side: the links to the peers, the rooms, and the flights whose pages nobody may reuse."""

    def __init__(self, world: World, room: type[Room]) -> None:
        self.world, self.agent, self.clock, self.room = world, world.transport, world.clock, room
        memory = world.memory
        self.agent.register_memory([(memory.address(r), len(r), 0, "") for r in memory.kv + memory.aux], "DRAM")
        self.local = self.agent.prep_xfer_dlist(INIT_AGENT, self.blocks(memory), "DRAM")
        self.lock = Lock()
        self.relink = {peer.name: Lock() for peer in world.peers}
        self.links = {peer.name: self.connect(peer) for peer in world.peers}
        self.rooms: list[Room] = []
        self.ward: list[Flight] = []

    def blocks(self, memory: Memory) -> list[tuple[int, int, int]]:
        """Every page of every region, then every aux slot."""
        regions = zip(memory.kv + memory.aux, [*memory.PAGE_BYTES, *memory.AUX_BYTES], strict=True)
        return [(memory.address(r) + at, size, 0) for r, size in regions for at in range(0, len(r), size)]

    def connect(self, peer: Peer) -> Link:
        """Load the peer's metadata and prepare its blocks."""
        self.agent.add_remote_agent(peer.agent.get_agent_metadata())
        return Link(peer.name, peer.generation, self.agent.prep_xfer_dlist(peer.name, self.blocks(peer.memory), "DRAM"))

    def reconnect(self, peer: Peer) -> None:
        """Replace the link to a peer that is back, once for each of its lives; other peers do not wait."""
        with self.relink[peer.name]:
            if self.links[peer.name].generation == peer.generation:
                return
            try:
                self.agent.remove_remote_agent(peer.name)
            except TRANSPORT_ERRORS as error:
                log.info("%s was gone already: %s", peer.name, error)
            self.links[peer.name] = self.connect(peer)

    def sender(self, plan: RoomPlan) -> Room:
        """A room that is ready to send."""
        return self.enter(self.room(self, plan))

    def uninitialised(self, plan: RoomPlan) -> Room:
        """A room on which init() was not called."""
        room = self.sender(plan)
        room.ready = False
        return room

    def enter(self, room: Room) -> Room:
        """Put the room into the table."""
        with self.lock:
            self.rooms.append(room)
        return room

    def make(self, room: Room, target: Destination, link: Link, chunk: Chunk, note: bytes = b"") -> Flight:
        """Prepare the transfer of a chunk; with the last one goes the aux slot."""
        theirs = target.pages[chunk.first : chunk.first + len(chunk.pages)]
        source = [r * NUM_PAGES + page for r in REGIONS for page in chunk.pages]
        sink = [r * NUM_PAGES + page for r in REGIONS for page in theirs]
        if chunk.last:
            source.append(len(REGIONS) * NUM_PAGES + room.plan.aux_index)
            sink.append(len(REGIONS) * NUM_PAGES + target.aux_index)
        handle = self.agent.make_prepped_xfer("WRITE", self.local, source, link.dlist, sink, note)
        return Flight(handle, link, chunk.pages)

    def read(self, answer: str) -> Stage:
        """What the transport's answer means."""
        match answer:
            case "PROC":
                return Stage.FLYING
            case "DONE":
                return Stage.DONE
            case _:
                raise BadAnswer(f"the transport answered {answer!r}")

    def post(self, flight: Flight) -> None:
        """Post the flight. Whatever leaves this early leaves it rejected: its bytes may be on their way or not."""
        assert flight.handle is not None
        flight.stage, flight.since_s = Stage.REJECTED, self.clock()
        flight.stage = self.read(self.agent.transfer(flight.handle))

    def check(self, flight: Flight) -> bool:
        """Ask for a flight that is in the air. True when it has landed; only the transport's errors settle it."""
        if flight.stage is Stage.FLYING and flight.handle is not None:
            try:
                flight.stage = self.read(self.agent.check_xfer_state(flight.handle))
            except TRANSPORT_ERRORS:
                flight.stage = Stage.ERRORED
                raise
        return flight.stage is Stage.DONE

    def free(self, flight: Flight) -> None:
        """Release the handle, once, if nothing is in the air. Where that is refused, it is to be tried again."""
        if flight.stage is Stage.FLYING or flight.handle is None:
            return
        try:
            self.agent.release_xfer_handle(flight.handle)
        except TRANSPORT_ERRORS as error:
            flight.stuck = True
            log.warning("a handle could not be released: %s", error)
        else:
            flight.handle = None

    def notification(self, room: Room, kind: NotificationKind, reason: str = "") -> bytes:
        """The words for the peer."""
        words = {"kind": kind, "room": room.plan.room, "incarnation": room.plan.incarnation, "reason": reason}
        return json.dumps(words).encode()

    def read_notification(self, message: bytes) -> Notification | None:
        """Read them as the decode side does."""
        try:
            words = json.loads(message)
            return Notification(NotificationKind(words["kind"]), words["room"], words["incarnation"], words["reason"])
        except (ValueError, KeyError, TypeError):
            return None

    def tell(self, link: Link, message: bytes) -> bool:
        """Notify the process at the other end of the link, if it is still that one."""
        if self.links[link.name] is not link:
            return True
        try:
            self.agent.send_notif(link.name, message)
        except TRANSPORT_ERRORS as error:
            log.info("%s could not be told: %s", link.name, error)
            return False
        return True

    def attribution(self, error: BaseException) -> Attribution | None:
        """Who caused what failure_exception() has raised."""
        if isinstance(error, KVTransferError):
            return error.attribution
        return None if isinstance(error, KVUsageError) else blame(error)

    def quarantined_pages(self) -> frozenset[int]:
        """Pages of ended rooms that may still be read."""
        return frozenset(page for flight in list(self.ward) if flight.stage is not Stage.DONE for page in flight.pages)

    def residue(self) -> int:
        """Rooms in the table."""
        return len(self.rooms)

    def settle(self) -> None:
        """The janitor: look after late flights of ended rooms and drop what is cleared and quiesced."""
        for room in list(self.rooms):
            if room.over or room.cleared:
                try:
                    room.tidy()
                except Exception:
                    log.exception("room %s could not be tidied", room.plan.room)
        self.sweep()

    def sweep(self) -> None:
        """Drop the rooms that are gone, and the quarantine of flights that have landed."""
        with self.lock:
            self.rooms = [room for room in self.rooms if not room.gone()]
            self.ward = [flight for flight in self.ward if flight.stage is not Stage.DONE]


class Room:
    """What the styles share: the check of page ids, the first cause, the end. Each has its own send() and poll()."""

    CATCH: ClassVar[tuple[type[Exception], ...]] = TRANSPORT_ERRORS
    LETS_OUT: ClassVar[bool] = False
    """An error that is not the transport's leaves the call, after it was latched."""

    def __init__(self, plant: Plant, plan: RoomPlan) -> None:
        self.plant, self.plan, self.lock = plant, plan, RLock()
        self.targets = [(target, plant.links[target.peer.name]) for target in plan.destinations if not target.dummy]
        self.ready, self.posting, self.closed = True, False, False
        self.done, self.over, self.cleared = False, False, False
        self.sent: list[int] = []
        self.all_sent = False
        self.flights: list[Flight] = []
        self.untold: list[Link] = []
        self.cause: BaseException | None = None
        self.failed_s = 0.0

    def has_cause(self) -> bool:
        """Another thread may have failed the room meanwhile."""
        return self.cause is not None

    def send(self, kv_indices: Sequence[int]) -> None:
        """Post the pages now."""
        with self.lock:
            if self.cause is None and (chunk := self.accept(kv_indices)) is not None:
                with self.latching():
                    self.post_chunk(chunk)

    def poll(self) -> KVPoll:
        """Look, then answer."""
        with self.lock:
            if not self.over:
                with self.latching():
                    self.look()
            return self.answer()

    def failure_exception(self) -> NoReturn:
        """Raise what has gone wrong, with the first cause as its cause."""
        cause = self.cause
        if cause is None:
            raise KVUsageError(f"room {self.plan.room} has not failed")
        raise KVTransferError(self.plan.room, f"{type(cause).__name__}: {cause}", blame(cause)) from cause

    def abort(self) -> None:
        """The caller gives the room up."""
        with self.lock:
            self.give_up("aborted by its caller")

    def clear(self) -> None:
        """The caller forgets the room. Flights in the air keep it in the table until they land."""
        with self.lock:
            self.give_up("cleared by its caller")
            self.cleared = True
        self.plant.sweep()

    def get_transfer_metric(self) -> dict[str, int]:
        """Pages that were accepted, and transfers that were made."""
        return {"pages": len(self.sent), "transfers": len(self.flights)}

    def give_up(self, how: str) -> None:
        """Fail a room that is still live."""
        if not self.done and not self.over:
            self.fail(TransferAborted(f"room {self.plan.room} was {how}"))

    def accept(self, kv_indices: Sequence[int]) -> Chunk | None:
        """Check a chunk and count it as sent; None where there is nothing to do."""
        if not self.ready:
            raise KVUsageError(f"room {self.plan.room}: send() before init()")
        pages, first, announced = page_ids(kv_indices), len(self.sent), self.plan.num_pages
        self.check_pages(pages)
        if first + len(pages) > announced:
            raise KVUsageError(f"{first} of {announced} pages are sent; {len(pages)} more are too many")
        if not pages and (announced > 0 or self.all_sent):
            return None
        self.sent += pages
        self.all_sent = len(self.sent) == announced
        return Chunk(tuple(pages), first, self.all_sent)

    def check_pages(self, pages: Sequence[int]) -> None:
        """Every page exists, and none goes out twice."""
        if any(not 0 <= page < NUM_PAGES for page in pages):
            raise KVUsageError(f"{pages}: the page ids go from 0 to {NUM_PAGES - 1}")
        if len({*self.sent, *pages}) < len(self.sent) + len(pages):
            raise KVUsageError(f"{pages}: a page is there twice, or was sent before")

    def fail(self, cause: BaseException) -> None:
        """Latch the first cause of a live room; anything later is only logged."""
        with self.lock:
            if blame(cause) is Attribution.INTERNAL:
                log.error("room %s: internal error", self.plan.room, exc_info=cause)
            if self.cause is None and not self.done and not self.over:
                self.cause, self.failed_s = cause, self.plant.clock()

    @contextmanager
    def latching(self) -> Iterator[None]:
        """An error in here is the room's failure."""
        try:
            yield
        except self.CATCH as error:
            self.fail(error)
        except Exception as error:
            self.fail(error)
            if self.LETS_OUT or self.cause is not error:
                raise

    def post_chunk(self, chunk: Chunk) -> None:
        """One handle for each peer that wants the room."""
        if (stale := self.stale()) is not None:
            raise stale
        self.posting = True
        for target, link in self.targets:
            self.adopt(flight := self.plant.make(self, target, link, chunk, self.note()))
            self.plant.post(flight)
        self.posting, self.closed = False, self.closed or chunk.last

    def note(self) -> bytes:
        """What a transfer says to the peer when it lands."""
        return b""

    def adopt(self, flight: Flight) -> None:
        """Keep the flight, before anything can happen to it."""
        self.flights.append(flight)

    def stale(self) -> PeerRestarted | None:
        """Is a peer another process than when the room was opened?"""
        for _, link in self.targets:
            if self.plant.links[link.name] is not link:
                return PeerRestarted(f"{link.name} has restarted")
        return None

    def broken(self) -> BaseException | None:
        """What no handle tells: a peer that was replaced, a send() that was interrupted."""
        return self.stale() or (TransferInterrupted("a chunk is half posted") if self.posting else None)

    def look(self) -> None:
        """Ask for every flight of a live room, then count the deadline; or go on draining a failed one."""
        if self.cause is not None:
            self.drain()
            return
        if (cause := self.broken()) is not None:
            self.fail(cause)
            return
        for flight in self.flights:
            if self.plant.check(flight):
                self.plant.free(flight)
        self.count_deadline(self.flights)

    def count_deadline(self, flights: Sequence[Flight]) -> None:
        """Fail if a flight is overdue. Only after a look at all of these."""
        now_s, limit_s = self.plant.clock(), self.plant.world.transfer_timeout_s
        if any(flight.stage is Stage.FLYING and now_s - flight.since_s >= limit_s for flight in flights):
            self.fail(TransferTimeout(f"a peer was silent for {limit_s} s"))

    def drain(self) -> None:
        """Ask for what is still in the air; whatever it says, the room stays failed."""
        for flight in self.flights:
            try:
                self.plant.check(flight)
            except TRANSPORT_ERRORS as error:
                log.info("room %s, while draining: %s", self.plan.room, error)
            self.plant.free(flight)

    def complete(self) -> bool:
        """The last chunk is posted and everything has landed."""
        return self.cause is None and self.closed and all(flight.stage is Stage.DONE for flight in self.flights)

    def may_report(self) -> bool:
        """A failed room is told once nothing flies, or after the drain deadline."""
        waited_s = self.plant.clock() - self.failed_s
        return waited_s >= self.plant.world.drain_timeout_s or not self.in_the_air()

    def in_the_air(self) -> bool:
        """Is a flight neither landed nor lost?"""
        return any(flight.stage is Stage.FLYING for flight in self.flights)

    def answer(self) -> KVPoll:
        """What the caller is told; the end is decided here."""
        if self.over or self.complete() or (self.cause is not None and self.may_report()):
            self.seal()
            self.finish()
            return self.verdict()
        return self.progress()

    def progress(self) -> KVPoll:
        """The answer of a room that has not ended."""
        if not self.ready and self.cause is None:
            return KVPoll.Bootstrapping
        return KVPoll.Transferring if self.flights or self.cause is not None else KVPoll.WaitingForInput

    def verdict(self) -> KVPoll:
        """The answer of a room that has ended."""
        return KVPoll.Success if self.cause is None else KVPoll.Failed

    def seal(self) -> None:
        """The end, once: pages that are not quiesced go into quarantine, and every peer is to be told."""
        if not self.over:
            self.done, self.over = self.cause is None, True
            self.quarantine()
            self.untold = [link for _, link in self.targets]

    def quarantine(self) -> None:
        """Nobody may reuse the pages of flights that are not quiesced."""
        self.plant.ward.extend(flight for flight in self.flights if not flight.quiesced)

    def finish(self) -> None:
        """Tell who is untold and release what has settled; goes on where an error has stopped it. Stuck handles are
        the janitor's."""
        while self.untold:
            self.tell(self.untold.pop(0))
        for flight in self.flights:
            if not flight.stuck:
                self.plant.free(flight)

    def tell(self, link: Link) -> None:
        """Tell one peer how the room has ended."""
        self.plant.tell(link, self.last_words())

    def last_words(self) -> bytes:
        """The notification of the end."""
        if self.cause is None:
            return self.plant.notification(self, NotificationKind.SUCCESS)
        return self.plant.notification(self, NotificationKind.FAILURE, f"{type(self.cause).__name__}: {self.cause}")

    def tidy(self) -> None:
        """What the janitor does for a room that has ended or was cleared."""
        with self.lock:
            self.drain()
            self.answer()

    def gone(self) -> bool:
        """Nothing is left to do for a cleared room."""
        return self.cleared and self.over and not self.untold and all(f.handle is None for f in self.flights)


@dataclass(frozen=True)
class Foreign:
    """An adapter for one room class on one plant class."""

    name: str
    room: type[Room]
    plant: type[Plant] = Plant
    profile: Profile = Profile.FULL
    errors: Mapping[str, type[Exception]] = field(default_factory=lambda: STAND_INS)
    usage_errors: tuple[type[Exception], ...] = (KVUsageError,)

    def open(self, world: World) -> Plant:
        """A new prefill side."""
        return self.plant(world, self.room)


class Inline(Room):
    """Posts in send(), looks in poll(). Errors that are not the transport's go out; a failure is the bare cause."""

    LETS_OUT = True

    def poll(self) -> KVPoll:
        """One loop over all handles."""
        with self.lock:
            if self.over:
                return self.answer()
            cause = self.broken() if self.cause is None else None
            if cause is not None:
                self.fail(cause)
            for flight in self.flights:
                try:
                    landed = self.plant.check(flight)
                except self.CATCH as error:
                    self.fail(error)
                    landed = flight.stage is not Stage.FLYING
                except Exception as error:
                    self.fail(error)
                    raise
                if landed:
                    self.plant.free(flight)
            if self.cause is None:
                self.count_deadline(self.flights)
            return self.answer()

    def failure_exception(self) -> NoReturn:
        """Raise the cause itself."""
        raise self.cause or KVUsageError(f"room {self.plan.room} has not failed")


class PumpPlant(Plant):
    """A plant that turns all its rooms, whoever polls."""

    def __init__(self, world: World, room: type[Room]) -> None:
        super().__init__(world, room)
        self.turning = RLock()

    def turn(self) -> None:
        """Each room gets its look; what goes wrong stays with it."""
        for room in list(self.rooms):
            assert isinstance(room, Pumped)
            try:
                with room.latching():
                    room.turn()
            except Exception:
                log.exception("room %s, after its end", room.plan.room)


class Pumped(Room):
    """Its poll() turns the pump for everybody. The pump only gathers facts: each room decides in its own poll()."""

    def __init__(self, plant: Plant, plan: RoomPlan) -> None:
        super().__init__(plant, plan)
        assert isinstance(plant, PumpPlant)
        self.pump = plant
        self.lock = plant.turning

    def poll(self) -> KVPoll:
        """Turn, then decide for this room."""
        with self.lock:
            if not self.over:
                self.pump.turn()
                if self.cause is None and not self.done:
                    self.decide()
            return self.answer()

    def turn(self) -> None:
        """Look at what is in the air, whether the room lives or not."""
        for flight in self.flights:
            if self.cause is not None:
                break
            if self.plant.check(flight):
                self.plant.free(flight)
        if self.cause is not None:
            self.drain()

    def decide(self) -> None:
        """A replaced peer, an interrupted send() or a deadline ends the room."""
        if (cause := self.broken()) is not None:
            self.fail(cause)
        else:
            self.count_deadline(self.flights)


class PumpedThrough(Pumped):
    """Here the pump also decides: a room may be done, or have met its deadline, in the poll() of another one."""

    def turn(self) -> None:
        """Look, then decide at once."""
        super().turn()
        if self.cause is None and not self.done:
            self.decide()
        self.done = self.done or self.complete()


class Queued(Room):
    """send() only queues; the chunk is posted by the room's own next poll()."""

    def __init__(self, plant: Plant, plan: RoomPlan) -> None:
        super().__init__(plant, plan)
        self.queue: deque[Chunk] = deque()

    def send(self, kv_indices: Sequence[int]) -> None:
        """Check and queue."""
        with self.lock:
            if self.cause is None and (chunk := self.accept(kv_indices)) is not None:
                self.queue.append(chunk)

    def look(self) -> None:
        """Post what is queued, then look."""
        while self.queue and self.cause is None and self.broken() is None:
            self.post_chunk(self.queue.popleft())
        super().look()


class OldestFirst(Room):
    """A lane of flights for each peer. Only its head is asked, so a poll is cheap however many chunks there are."""

    def __init__(self, plant: Plant, plan: RoomPlan) -> None:
        super().__init__(plant, plan)
        self.lanes: dict[str, deque[Flight]] = {link.name: deque() for _, link in self.targets}

    def adopt(self, flight: Flight) -> None:
        """Also put it at the end of its lane."""
        super().adopt(flight)
        self.lanes[flight.link.name].append(flight)

    def look(self) -> None:
        """Take off each lane what has landed. Nobody behind a head is older, so the deadline is right too."""
        if self.cause is not None or self.broken() is not None:
            super().look()
            return
        for lane in self.lanes.values():
            while lane and self.plant.check(lane[0]):
                self.plant.free(lane.popleft())
        self.count_deadline(self.flights)

    def complete(self) -> bool:
        """The lanes are empty."""
        return self.cause is None and self.closed and not any(self.lanes.values())


class Collecting(Room):
    """Collects errors in a set, in the order of their coming, and decides at the end of each call.

    A failure is told at once: what still flies is in quarantine and the janitor's.
    """

    def __init__(self, plant: Plant, plan: RoomPlan) -> None:
        super().__init__(plant, plan)
        self.errors: dict[BaseException, None] = {}

    def send(self, kv_indices: Sequence[int]) -> None:
        """Post until something goes wrong."""
        with self.lock:
            if self.cause is None and (chunk := self.accept(kv_indices)) is not None:
                try:
                    self.post_chunk(chunk)
                except Exception as error:
                    self.errors[error] = None
                    self.decide()

    def poll(self) -> KVPoll:
        """Ask for everything, whatever the others say, then decide."""
        with self.lock:
            if self.over:
                return self.answer()
            for flight in self.flights:
                try:
                    self.plant.check(flight)
                    self.plant.free(flight)
                except Exception as error:
                    self.errors[error] = None
            self.decide()
            if self.cause is None:
                self.count_deadline(self.flights)
            return self.answer()

    def decide(self) -> None:
        """The first of the set is the cause; a replaced peer counts only if there is none."""
        cause = next(iter(self.errors), None) or self.broken()
        if cause is not None:
            self.fail(cause)

    def may_report(self) -> bool:
        """At once."""
        return True


class Told(Room):
    """The life of a room is a coroutine: send() gives it chunks, poll() gives it nothing, and it yields the answer."""

    def __init__(self, plant: Plant, plan: RoomPlan) -> None:
        super().__init__(plant, plan)
        self.life = self.live()
        next(self.life)

    def send(self, kv_indices: Sequence[int]) -> None:
        """Give it a chunk."""
        with self.lock:
            if self.cause is None and (chunk := self.accept(kv_indices)) is not None:
                self.resume(chunk)

    def poll(self) -> KVPoll:
        """Give it its turn."""
        with self.lock:
            return self.answer() if self.over else self.resume(None)

    def resume(self, chunk: Chunk | None) -> KVPoll:
        """Run it to its next answer. An interrupt has ended it; then it starts again from what the room knows."""
        if getgeneratorstate(self.life) == GEN_CLOSED:
            self.life = self.live()
            next(self.life)
        try:
            return self.life.send(chunk)
        except StopIteration:
            return self.answer()

    def live(self) -> Generator[KVPoll, Chunk | None, None]:
        """Sending, then landing or draining, then the end."""
        chunk = yield self.progress()
        while not self.complete():
            if self.cause is not None:
                break
            with self.latching():
                if chunk is not None:
                    self.post_chunk(chunk)
                else:
                    self.look()
            if chunk is not None or not (self.complete() or self.cause is not None):
                chunk = yield self.progress()
        while self.cause is not None and not self.may_report():
            yield self.progress()
            self.drain()


class Step(Enum):
    """Where a room stands."""

    IDLE = auto()
    SENDING = auto()
    DRAINING = auto()
    DONE = auto()
    DEAD = auto()


class Staged(Room):
    """An explicit state machine. Each chunk brings a progress notification, and a lost last one is tried again once."""

    def __init__(self, plant: Plant, plan: RoomPlan) -> None:
        super().__init__(plant, plan)
        self.step = Step.IDLE

    def send(self, kv_indices: Sequence[int]) -> None:
        """A chunk moves an idle room to sending."""
        with self.lock:
            match self.step:
                case Step.DRAINING | Step.DEAD:
                    return
                case Step.IDLE | Step.SENDING | Step.DONE:
                    pass
            chunk = self.accept(kv_indices)
            if chunk is not None:
                self.step = Step.SENDING
                with self.latching():
                    self.post_chunk(chunk)

    def poll(self) -> KVPoll:
        """Move as far as it goes now."""
        with self.lock:
            match self.step:
                case Step.IDLE | Step.SENDING:
                    with self.latching():
                        self.look()
                    if self.complete():
                        self.step = Step.DONE
                case Step.DRAINING:
                    self.drain()
                case Step.DONE | Step.DEAD:
                    pass
            if self.step is Step.DRAINING and self.may_report():
                self.step = Step.DEAD
            return self.say()

    def say(self) -> KVPoll:
        """The answer of the step."""
        match self.step:
            case Step.IDLE:
                return KVPoll.WaitingForInput if self.ready else KVPoll.Bootstrapping
            case Step.SENDING | Step.DRAINING:
                return KVPoll.Transferring
            case Step.DONE | Step.DEAD:
                return self.answer()

    def fail(self, cause: BaseException) -> None:
        """Only a live room can fail."""
        with self.lock:
            match self.step:
                case Step.IDLE | Step.SENDING:
                    super().fail(cause)
                    self.step = Step.DRAINING
                case Step.DRAINING | Step.DONE | Step.DEAD:
                    log.info("room %s, too late: %s", self.plan.room, cause)

    def note(self) -> bytes:
        """A progress notification with each transfer."""
        return self.plant.notification(self, NotificationKind.PROGRESS)

    def tell(self, link: Link) -> None:
        """At most twice."""
        if not self.plant.tell(link, self.last_words()):
            self.plant.tell(link, self.last_words())


class PerPage(Room):
    """One handle a page. All handles of a chunk are made before the first is posted, and released after the end."""

    def post_chunk(self, chunk: Chunk) -> None:
        """Make all, then post all. An empty last chunk is one handle, for the aux slot."""
        if (stale := self.stale()) is not None:
            raise stale
        self.posting, fresh, end = True, len(self.flights), len(chunk.pages) - 1
        parts = [Chunk((p,), chunk.first + n, chunk.last and n == end) for n, p in enumerate(chunk.pages)] or [chunk]
        for target, link in self.targets:
            for part in parts:
                self.adopt(self.plant.make(self, target, link, part))
        for flight in self.flights[fresh:]:
            self.plant.post(flight)
        self.posting, self.closed = False, self.closed or chunk.last

    def look(self) -> None:
        """Newest first, since the order must not matter."""
        if self.cause is not None or self.broken() is not None:
            super().look()
            return
        for flight in reversed(self.flights):
            self.plant.check(flight)
        self.count_deadline(self.flights)


@dataclass(eq=False, slots=True)
class Job:
    """A chunk for the worker, until its flights have settled."""

    room: Worked
    chunk: Chunk
    flights: list[Flight] = field(default_factory=list)


class WorkPlant(Plant):
    """One worker posts chunks, asks for flights and reads control messages, of all rooms in turn."""

    def __init__(self, world: World, room: type[Room]) -> None:
        super().__init__(world, room)
        self.heard: dict[str, float] = {}
        self.jobs: Queue[Job | bytes | None] = Queue()
        self.worker = Thread(target=self.serve, daemon=True)
        self.worker.start()

    def serve(self) -> None:
        """The worker. Waits only while nothing flies."""
        live: list[Job] = []
        while True:
            while not live or not self.jobs.empty():
                job = self.jobs.get()
                if job is None:
                    return
                if isinstance(job, bytes):
                    self.hear_safely(job)
                    self.jobs.task_done()
                else:
                    job.room.work(job)
                    live.append(job)
            for job in list(live):
                if job.room.watch(job):
                    live.remove(job)
                    self.jobs.task_done()

    def hear_safely(self, message: bytes) -> None:
        """What a peer writes must not hurt the worker."""
        try:
            self.hear(message)
        except Exception as error:
            log.warning("a control message was dropped: %r", error)

    def hear(self, message: bytes) -> None:
        """``{"op": "alive", "peer": name}`` is all that there is."""
        words = json.loads(message)
        if words["op"] != "alive":
            raise ValueError(f"{words['op']} is unknown")
        self.heard[self.links[words["peer"]].name] = self.clock()

    def control(self, message: bytes) -> None:
        """A control message has come in."""
        self.jobs.put(message)

    def workers(self) -> list[Thread]:
        """The one."""
        return [self.worker]

    def busy(self) -> int:
        """Does it have work?"""
        return min(1, self.jobs.unfinished_tasks)

    def close(self) -> None:
        """End the worker."""
        self.jobs.put(None)


class Worked(Room):
    """The caller's calls touch no handle: a worker posts and looks, poll() decides. The worker looks without the lock,
    and posts with it, so that no post begins after an abort."""

    def send(self, kv_indices: Sequence[int]) -> None:
        """Give the chunk to the worker."""
        with self.lock:
            if self.cause is None and (chunk := self.accept(kv_indices)) is not None:
                assert isinstance(self.plant, WorkPlant)
                self.plant.jobs.put(Job(self, chunk))

    def poll(self) -> KVPoll:
        """Decide with the lock, talk without it."""
        with self.lock:
            if not self.over:
                if self.cause is None and (stale := self.stale()) is not None:
                    self.fail(stale)
                if not self.complete() and (self.cause is None or not self.may_report()):
                    return self.progress()
                self.seal()
        self.finish()
        return self.verdict()

    def work(self, job: Job) -> None:
        """In the worker: post one chunk."""
        try:
            for target, link in self.targets:
                if self.cause is not None:
                    return
                flight = self.plant.make(self, target, link, job.chunk)
                job.flights.append(flight)
                with self.lock:
                    self.adopt(flight)
                    if self.has_cause():
                        return
                    self.plant.post(flight)
            with self.lock:
                self.closed = self.closed or job.chunk.last
        except Exception as error:
            self.fail(error)

    def watch(self, job: Job) -> bool:
        """In the worker: look once. True when all has settled and is released."""
        for flight in job.flights:
            try:
                self.plant.check(flight)
            except Exception as error:
                self.fail(error)
            self.free_quietly(flight)
        with self.lock:
            if self.cause is None:
                self.count_deadline(job.flights)
        return all(flight.stage is not Stage.FLYING for flight in job.flights)

    def free_quietly(self, flight: Flight) -> None:
        """Release what has settled. The worker tries once, then it is the janitor's."""
        try:
            if not flight.stuck:
                self.plant.free(flight)
        except Exception as error:
            flight.stuck = True
            self.fail(error)

    def finish(self) -> None:
        """Only tell; the worker releases."""
        while self.untold:
            self.tell(self.untold.pop(0))

    def tidy(self) -> None:
        """The worker drains; a room that nobody polls any more still ends, and what is stuck gets another try."""
        self.poll()
        for flight in self.flights:
            if flight.stuck:
                self.plant.free(flight)


inline = Foreign("foreign-inline", Inline)
pumped = Foreign("foreign-pumped", Pumped, PumpPlant)
pumped_through = Foreign("foreign-pumped-through", PumpedThrough, PumpPlant)
queued = Foreign("foreign-queued", Queued)
worked = Foreign("foreign-worked", Worked, WorkPlant)
oldest_first = Foreign("foreign-oldest-first", OldestFirst)
collecting = Foreign("foreign-collecting", Collecting)
told = Foreign("foreign-told", Told)
staged = Foreign("foreign-staged", Staged)
per_page = Foreign("foreign-per-page", PerPage)
RIGHT = (inline, pumped, pumped_through, queued, worked, oldest_first, collecting, told, staged, per_page)
