"""An adopter's right senders that go by one table of states and events, each in another style."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import Enum, auto
from functools import partial
from typing import Final, TypeAlias

from tests.foreign.adopter_base import REGIONS, BaseSystem, Chunk, Conn, Flight, Room
from tests.foreign.adopter_words import ERRORS, At, heard, interrupted, note
from tests.foreign.right_kinds import Kind

from kvsender_spec.contract import KVPoll, TransferAborted
from kvsender_spec.kit.adapter import NUM_PAGES, Adapter, Destination, NotificationKind, RoomPlan, World
from kvsender_spec.kit.scripted.fabric import ScriptedHandle


class State(Enum):
    IDLE = auto()
    MOVING = auto()
    DRAINING = auto()
    GOOD = auto()
    BAD = auto()


class Event(Enum):
    POSTED = auto()
    FAULT = auto()
    ALL_DONE = auto()
    DRAINED = auto()


class Action(Enum):
    LATCH = auto()
    GIVE_UP = auto()
    TELL_SUCCESS = auto()
    TELL_FAILURE = auto()


TABLE: Final[dict[tuple[State, Event], tuple[State, tuple[Action, ...]]]] = {
    (State.IDLE, Event.POSTED): (State.MOVING, ()),
    (State.MOVING, Event.POSTED): (State.MOVING, ()),
    (State.IDLE, Event.FAULT): (State.DRAINING, (Action.LATCH,)),
    (State.MOVING, Event.FAULT): (State.DRAINING, (Action.LATCH,)),
    (State.IDLE, Event.ALL_DONE): (State.GOOD, (Action.TELL_SUCCESS,)),
    (State.MOVING, Event.ALL_DONE): (State.GOOD, (Action.TELL_SUCCESS,)),
    (State.DRAINING, Event.DRAINED): (State.BAD, (Action.GIVE_UP, Action.TELL_FAILURE)),
}
SAYS: Final = {
    State.IDLE: KVPoll.WaitingForInput,
    State.MOVING: KVPoll.Transferring,
    State.DRAINING: KVPoll.Transferring,
    State.GOOD: KVPoll.Success,
    State.BAD: KVPoll.Failed,
}
LIVE: Final = frozenset({State.IDLE, State.MOVING})
ENDED: Final = frozenset({State.GOOD, State.BAD})


class TableRoom(Room):
    """Posts in send(), looks in poll(), and settles its transfers, for a bounded time, before it reports Failed."""

    def __init__(self, system: BaseSystem, plan: RoomPlan) -> None:
        super().__init__(system, plan)
        self.state = State.IDLE
        self.failed_at = 0.0
        self.flying: list[Flight] = []
        self.bad: list[Flight] = []

    def event(self, event: Event, cause: Exception | None = None) -> None:
        row = TABLE.get((self.state, event))
        if row is None:
            return
        self.state, actions = row
        for action in actions:
            self.act(action, cause)

    def act(self, action: Action, cause: Exception | None) -> None:
        match action:
            case Action.LATCH:
                assert cause is not None
                self.latch(cause)
            case Action.GIVE_UP:
                self.give_up()
            case Action.TELL_SUCCESS:
                self.tell_success()
            case Action.TELL_FAILURE:
                self.tell_failure()

    def latch(self, cause: Exception) -> None:
        note(cause)
        self.cause, self.failed_at = cause, self.system.world.clock()

    def tell_success(self) -> None:
        self.tell(NotificationKind.SUCCESS)

    def tell_failure(self) -> None:
        self.tell(NotificationKind.FAILURE)

    def give_up(self) -> None:
        """Leave to the system what is not over."""
        for flight in (*self.flying, *self.bad):
            self.system.retire(flight)
        self.flying, self.bad = [], []

    def send(self, kv: Sequence[int]) -> None:
        with self.system.lock:
            chunk = self.accept(kv)
            if chunk is None:
                return
            try:
                for target, conn in self.order():
                    self.one(target, conn, chunk)
            except Exception as error:
                self.event(Event.FAULT, error)
                return
            except BaseException as error:
                self.event(Event.FAULT, interrupted(error))
                raise
            self.closed = self.closed or chunk.last
            self.event(Event.POSTED)

    def order(self) -> Iterable[tuple[Destination, Conn]]:
        return self.targets

    def one(self, target: Destination, conn: Conn, chunk: Chunk) -> None:
        """Post a chunk to one peer."""
        flight = self.make(target, conn, chunk)
        if flight is not None:
            self.post(flight)

    def post(self, flight: Flight) -> None:
        self.bad.append(flight)  # until the transport has taken it
        flight.at = heard(self.system.transport.transfer(flight.handle))
        self.bad.pop()
        if flight.at is At.DONE:
            self.free(flight.handle)
        else:
            self.flying.append(flight)

    def free(self, handle: ScriptedHandle) -> None:
        self.system.dead.append(handle)

    def ask(self, flight: Flight) -> None:
        """Ask about one transfer."""
        try:
            flight.at = heard(self.system.transport.check_xfer_state(flight.handle))
        except ERRORS as error:
            flight.at = At.BAD
            self.flying.remove(flight)
            self.bad.append(flight)
            self.event(Event.FAULT, error)
        except Exception as error:
            self.puzzled(error)
        if flight.at is At.DONE:
            self.flying.remove(flight)
            self.free(flight.handle)

    def puzzled(self, error: Exception) -> None:
        """An error that is not the transport's says nothing about the transfer, which stays in flight."""
        self.event(Event.FAULT, error)

    def ask_all(self) -> None:
        for flight in list(self.flying):
            self.ask(flight)

    def expire(self) -> None:
        if self.overdue(self.flying):
            self.event(Event.FAULT, self.silent())

    def look(self) -> None:
        self.ask_all()
        self.expire()

    def drained(self) -> bool:
        world = self.system.world
        return not self.flying or world.clock() - self.failed_at >= world.drain_timeout_s

    def poll(self) -> KVPoll:
        with self.system.lock:
            if self.state in ENDED:
                return SAYS[self.state]
            self.look()
            if self.closed and not self.flying:
                self.event(Event.ALL_DONE)
            if self.drained():
                self.event(Event.DRAINED)
            self.system.flush()
            return SAYS[self.state]

    def abort(self) -> None:
        with self.system.lock:
            self.event(Event.FAULT, TransferAborted("aborted by the caller"))

    def clear(self) -> None:
        with self.system.lock:
            self.system.rooms.discard(self)
            self.event(Event.FAULT, TransferAborted("cleared by the caller"))
            self.event(Event.DRAINED)
            self.system.flush()


TableRooms: TypeAlias = Callable[[BaseSystem, RoomPlan], TableRoom]


class TableSystem(BaseSystem):
    """Opens rooms of one kind."""

    def __init__(self, world: World, rooms: TableRooms = TableRoom) -> None:
        super().__init__(world)
        self.new_room = rooms

    def room(self, plan: RoomPlan) -> TableRoom:
        return self.new_room(self, plan)


class PageRoom(TableRoom):
    """Makes a transfer for each page and region, the last peer first."""

    def order(self) -> Iterable[tuple[Destination, Conn]]:
        return reversed(self.targets)

    def one(self, target: Destination, conn: Conn, chunk: Chunk) -> None:
        dlist = self.system.usable(conn)
        rows = [
            ([page], [region * NUM_PAGES + page], [region * NUM_PAGES + theirs])
            for page, theirs in self.pairs(target, chunk)
            for region in reversed(range(REGIONS))
        ]
        if chunk.last:
            rows.append(([], *self.system.index([], (self.plan.aux_index, target.aux_index))))
        for pages, here, there in rows:
            handle = self.system.transport.make_prepped_xfer("WRITE", self.system.local, here, dlist, there)
            self.post(Flight(handle, pages, self.system.world.clock()))


class RetryRoom(TableRoom):
    """Makes a transfer again, once, in the same call, when making it has failed."""

    got = False

    def one(self, target: Destination, conn: Conn, chunk: Chunk) -> None:
        try:
            super().one(target, conn, chunk)
        except ERRORS:
            if self.bad or self.flying or self.got:  # something was posted already
                raise
            super().one(target, conn, chunk)

    def free(self, handle: ScriptedHandle) -> None:
        self.got = True
        super().free(handle)


class StepRoom(TableRoom):
    """Ends its look at the first pending transfer, lets errors that are not the transport's go through, and releases
    at once."""

    def free(self, handle: ScriptedHandle) -> None:
        super().free(handle)
        self.system.flush()

    def puzzled(self, error: Exception) -> None:
        raise error

    def ask_all(self) -> None:
        for flight in list(self.flying):
            self.ask(flight)
            if flight.at is At.FLYING:
                return

    def expire(self) -> None:
        """When the first transfer is late, ask about the others once more before saying so."""
        if not self.overdue(self.flying[:1]):
            return
        for flight in self.flying[1:]:
            try:
                heard(self.system.transport.check_xfer_state(flight.handle))
            except ERRORS as error:
                self.event(Event.FAULT, error)
        self.event(Event.FAULT, self.silent())


class TellNowRoom(TableRoom):
    """Tells the peers in the call that finds the fault, abort() too, and reports Failed at the next poll()."""

    def latch(self, cause: Exception) -> None:
        super().latch(cause)
        self.tell_failure()
        self.give_up()
        self.state = State.BAD

    def event(self, event: Event, cause: Exception | None = None) -> None:
        super().event(event, cause)
        if event is Event.FAULT:
            self.system.flush()

    def ask(self, flight: Flight) -> None:
        if flight in self.flying:  # unless a fault of another one has given it up
            super().ask(flight)


table: Final = Kind("foreign-table", TableSystem)
page_by_page: Final = Kind("foreign-page_by_page", partial(TableSystem, rooms=PageRoom))
retry: Final = Kind("foreign-retry", partial(TableSystem, rooms=RetryRoom))
step: Final = Kind("foreign-step", partial(TableSystem, rooms=StepRoom))
tell_now: Final = Kind("foreign-tell_now", partial(TableSystem, rooms=TellNowRoom))

RIGHT: Final[tuple[Adapter, ...]] = (table, page_by_page, retry, step, tell_now)
