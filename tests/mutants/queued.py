"""One room of the asynchronous sender: the half that its caller calls, and the half that the worker thread calls.

The caller's calls take the room's lock, read or latch, and wake the worker. The worker alone asks the transport. It
makes and posts a transfer under the lock under which ``abort()`` latches, so that nothing is posted after ``abort()``
has returned; it checks without the lock, because a check may take its time and ``poll()`` must not wait for it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from threading import RLock
from typing import TYPE_CHECKING, ClassVar, Final, NoReturn

from kvsender_spec.contract import (
    Attribution,
    KVPoll,
    KVTransferError,
    KVUsageError,
    TransferAborted,
    TransferTimeout,
)
from kvsender_spec.faults import STAND_INS, Kind
from kvsender_spec.kit.adapter import NUM_PAGES, Destination, NotificationKind, RoomPlan
from kvsender_spec.kit.scripted.fabric import ScriptedHandle
from kvsender_spec.machine import LATCHED, State

if TYPE_CHECKING:
    from tests.mutants.workers import Engine

LOG: Final = logging.getLogger(__name__)
LOG.addHandler(logging.NullHandler())  # without a handler of the program's own, logging would write to stderr

NIXL_ERRORS: Final[tuple[type[Exception], ...]] = tuple(STAND_INS.values())
DISCONNECT: Final = STAND_INS[Kind.REMOTE_DISCONNECT.value]


class PeerReplaced(Exception):
    """The peer is another process than the one for which the room's page ids were given."""


class PeerGaveUp(Exception):
    """The peer does not want the room any more."""


class Fate(Enum):
    """What the worker knows about one transfer."""

    FLYING = "flying"
    DONE = "done"
    ERRORED = "errored"
    REJECTED = "rejected"
    """The post was refused, or the worker does not know whether it was accepted."""


@dataclass(slots=True, eq=False)
class Flight:
    """One transfer to one peer, from its making to its release."""

    handle: ScriptedHandle | None
    """None once it is released."""
    pages: tuple[int, ...]
    posted_at: float
    fate: Fate = Fate.REJECTED
    asked_at: float = 0.0
    """When the worker last began to ask. An answer is at least as new as that, so a deadline is measured from here."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one ``send()`` has left for the worker."""

    first: int
    """How many pages of the room came before."""
    pages: tuple[int, ...]
    last: bool


class QueuedSender:
    """One room's sender. The methods are small, because mutants override them one at a time."""

    transport_errors: ClassVar[tuple[type[Exception], ...]] = (*NIXL_ERRORS, RuntimeError)

    def __init__(self, engine: Engine, plan: RoomPlan) -> None:
        self.engine = engine
        self.agent = engine.agent
        self.plan = plan
        self.lock = RLock()
        self.state = State.IDLE
        self.cause: BaseException | None = None
        self.attribution = Attribution.LOCAL
        self.failed_at = 0.0
        self.num_pages: int | None = None
        self.taken: list[int] = []
        self.chunks: deque[Chunk] = deque()
        self.flights: list[Flight] = []
        self.closed = False
        """The last chunk is posted."""
        self.concluded = False
        """The worker has done all that a failed room owes: from now on poll() may answer Failed."""
        self.generations = {target.peer.name: engine.routes[target.peer.name].generation for target in self.targets()}

    # ------------------------------------------------------------------------------------- called by the caller

    def init(self, num_pages: int) -> None:
        self.num_pages = num_pages

    def send(self, kv_indices: Sequence[int]) -> None:
        with self.lock:
            if not self.live:
                return
            last = self.admit(kv_indices)
            chunk = Chunk(len(self.taken), tuple(kv_indices), last)
            self.taken += kv_indices
            if chunk.pages or chunk.last:
                self.chunks.append(chunk)
        self.engine.wake(self)

    def admit(self, pages: Sequence[int]) -> bool:
        """Whether this is the last chunk. Raises KVUsageError for the caller's mistakes, before anything has moved."""
        if self.num_pages is None:
            raise KVUsageError("send() was called before init()")
        if any(not isinstance(page, int) for page in pages):
            raise KVUsageError(f"page ids are integers, and {list(pages)} are not")
        if any(page not in range(NUM_PAGES) for page in pages):
            raise KVUsageError(f"page ids lie below {NUM_PAGES}, and not all of {list(pages)} do")
        together = [*self.taken, *pages]
        if len(set(together)) < len(together):
            raise KVUsageError(f"{list(pages)}: a page of the room was sent already")
        if len(together) > self.num_pages:
            raise KVUsageError(f"{self.num_pages} pages were announced, and this makes {len(together)}")
        return len(together) == self.num_pages

    def poll(self) -> KVPoll:
        with self.lock:
            if self.state is State.FAILED and self.concluded:
                self.state = State.STICKY_FAILED
            match self.state:
                case State.DONE:
                    return KVPoll.Success
                case State.STICKY_FAILED:
                    return KVPoll.Failed
                case State.IDLE:
                    return KVPoll.WaitingForInput
                case _:
                    return KVPoll.Transferring

    def failure_exception(self) -> NoReturn:
        with self.lock:
            if self.state not in LATCHED:
                raise KVUsageError(f"room {self.plan.room} has not failed")
            raise KVTransferError(self.plan.room, self.reason(), self.attribution) from self.cause

    def abort(self) -> None:
        self.give_up()

    def clear(self) -> None:
        self.give_up()
        self.engine.forget(self)

    def give_up(self) -> None:
        self.fault(TransferAborted("the caller has given the room up"), Attribution.CALLER)

    def get_transfer_metric(self) -> int:
        return len(self.taken)

    # ------------------------------------------------------------------------------------ called by either side

    @property
    def live(self) -> bool:
        return self.state in (State.IDLE, State.SENDING)

    def fault(self, error: BaseException, attribution: Attribution | None = None) -> None:
        """Latch the first cause; the worker does the rest."""
        with self.lock:
            if not self.live:
                return
            self.cause = error
            self.attribution = attribution or self.attribute(error)
            self.failed_at = self.engine.clock()
            self.state = State.FAILED
            self.chunks.clear()
        if self.attribution is Attribution.INTERNAL:
            LOG.error("room %d fails for an error of the sender's own", self.plan.room, exc_info=error)
        self.engine.wake(self)

    def attribute(self, error: BaseException) -> Attribution:
        if isinstance(error, (DISCONNECT, PeerReplaced)):
            return Attribution.PEER
        return Attribution.LOCAL if isinstance(error, self.transport_errors) else Attribution.INTERNAL

    def reason(self) -> str:
        return f"{type(self.cause).__name__}: {self.cause}"

    def targets(self) -> list[Destination]:
        return [target for target in self.plan.destinations if not target.dummy]

    # ------------------------------------------------------------------------------------- called by the worker

    def work(self) -> bool:
        """One round. True while transfers are in flight that the room still waits for."""
        if self.over:
            return False
        self.post_chunks()
        self.ask_about(self.flights)
        self.release_settled()
        self.decide()
        return self.waits

    @property
    def over(self) -> bool:
        """The worker has nothing left to do for the room."""
        return self.concluded or self.state is State.DONE

    @property
    def waits(self) -> bool:
        return not self.over and any(flight.fate is Fate.FLYING for flight in self.flights)

    def post_chunks(self) -> None:
        while self.chunks:
            with self.lock:
                chunk = self.chunks.popleft() if self.chunks else None
            if chunk is not None:
                self.post_chunk(chunk)

    def post_chunk(self, chunk: Chunk) -> None:
        try:
            for target in self.targets():
                with self.lock:
                    if not self.live:
                        return
                    self.post(self.make(target, chunk))
        except Exception as error:
            self.fault(error)
            return
        with self.lock:
            self.closed = chunk.last

    def make(self, target: Destination, chunk: Chunk) -> Flight:
        with self.engine.routes[target.peer.name].lock:
            if self.engine.routes[target.peer.name].generation != self.generations[target.peer.name]:
                raise PeerReplaced(f"{target.peer.name} is another process now")
            theirs = target.pages[chunk.first : chunk.first + len(chunk.pages)]
            local, remote = self.aux_slots(target, chunk)
            handle = self.agent.initialize_xfer(
                "WRITE",
                self.engine.descriptors(self.engine.world.memory, chunk.pages, local),
                self.engine.descriptors(target.peer.memory, theirs, remote),
                target.peer.name,
                self.notification(NotificationKind.PROGRESS),
            )
        flight = Flight(handle, chunk.pages, self.engine.clock())
        self.flights.append(flight)
        return flight

    def aux_slots(self, target: Destination, chunk: Chunk) -> tuple[int | None, int | None]:
        """The local and the remote aux slot, which travel with the last chunk, whether it has pages or not."""
        return (self.plan.aux_index, target.aux_index) if chunk.last else (None, None)

    def post(self, flight: Flight) -> None:
        assert flight.handle is not None
        answer = self.agent.transfer(flight.handle)
        flight.fate = {"PROC": Fate.FLYING, "DONE": Fate.DONE}.get(answer, Fate.REJECTED)
        if flight.fate is Fate.REJECTED:
            raise RuntimeError(f"transfer() answered {answer}")
        self.state = State.SENDING

    def ask_about(self, flights: Sequence[Flight]) -> None:
        for flight in flights:
            if flight.fate is Fate.FLYING:
                error = self.engine.ask(flight, self.transport_errors)
                if error is not None:
                    self.fault(error)

    def release_settled(self) -> None:
        for flight in self.flights:
            if flight.fate is not Fate.FLYING:
                self.engine.release(flight)

    def decide(self) -> None:
        """End the room if what the worker has seen in this round ends it. Completions come before deadlines."""
        with self.lock:
            completed = self.state is State.SENDING and self.complete()
            if completed:
                self.state = State.DONE
        if completed:
            self.tell(NotificationKind.SUCCESS)
        elif self.overdue():
            timeout = TransferTimeout(f"a peer was silent for {self.engine.world.transfer_timeout_s:g} s")
            self.fault(timeout, Attribution.DEADLINE)
        if self.state is State.FAILED and not self.concluded and self.drained():
            self.conclude()

    def complete(self) -> bool:
        return self.closed and not self.chunks and all(flight.fate is Fate.DONE for flight in self.flights)

    def overdue(self) -> bool:
        timeout = self.engine.world.transfer_timeout_s
        return any(f.fate is Fate.FLYING and f.asked_at - f.posted_at >= timeout for f in self.flights)

    def drained(self) -> bool:
        waited = self.engine.clock() - self.failed_at
        return waited >= self.engine.world.drain_timeout_s or not any(f.fate is Fate.FLYING for f in self.flights)

    def conclude(self) -> None:
        """Pay what a failed room owes: doubtful pages are quarantined, stray transfers followed, peers told."""
        try:
            self.quarantine()
            self.engine.strays += [flight for flight in self.flights if flight.fate is Fate.FLYING]
            self.tell(NotificationKind.FAILURE)
        finally:
            self.concluded = True

    def quarantine(self) -> None:
        self.engine.doubtful += [flight for flight in self.flights if flight.fate is not Fate.DONE]

    def collapse(self, error: Exception) -> None:
        """An error that no method has foreseen. The room fails for it, and the worker lives on."""
        self.fault(error, Attribution.INTERNAL)
        if not self.concluded and self.state is State.FAILED:
            self.conclude()

    def tell(self, kind: NotificationKind) -> None:
        for target in self.targets():
            try:
                self.agent.send_notif(target.peer.name, self.notification(kind))
            except self.transport_errors:
                LOG.debug("room %d: %s could not be told", self.plan.room, target.peer.name)

    def notification(self, kind: NotificationKind) -> bytes:
        reason = self.reason() if kind is NotificationKind.FAILURE else ""
        return self.engine.write_notification(kind, self.plan, reason)
