"""An adopter's right senders that queue chunks, and post them in a later call."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from tests.foreign.adopter_base import BaseSystem, Chunk, Flight, Room
from tests.foreign.adopter_words import ERRORS, At, heard, interrupted, note
from tests.foreign.right_kinds import Kind

from kvsender_spec.contract import KVPoll, TransferAborted
from kvsender_spec.kit.adapter import Adapter, NotificationKind, RoomPlan, World
from kvsender_spec.machine import Profile


class QueueRoom(Room):
    """send() queues and poll() posts; nobody may give the room up, and what is in flight stays with the room."""

    wraps = False

    def __init__(self, system: BaseSystem, plan: RoomPlan) -> None:
        super().__init__(system, plan)
        self.todo: deque[Chunk] = deque()
        self.posted_last = False
        self.flights: list[Flight] = []
        self.good = False

    def send(self, kv: Sequence[int]) -> None:
        chunk = self.accept(kv)
        if chunk is not None:
            self.closed = self.closed or chunk.last
            self.todo.append(chunk)

    def pump(self) -> None:
        while self.todo:
            chunk = self.todo[0]
            for target, conn in self.targets:
                flight = self.make(target, conn, chunk)
                if flight is not None:
                    self.flights.append(flight)
                    flight.at = heard(self.system.transport.transfer(flight.handle))
            self.todo.popleft()
            self.posted_last = self.posted_last or chunk.last

    def look(self) -> None:
        for flight in self.flights:
            if flight.at is not At.DONE:
                flight.at = heard(self.system.transport.check_xfer_state(flight.handle))
        if self.overdue(flight for flight in self.flights if flight.at is not At.DONE):
            raise self.silent()

    def poll(self) -> KVPoll:
        if self.cause is not None:
            return KVPoll.Failed
        if self.good:
            return KVPoll.Success
        try:
            self.pump()
        except Exception as error:
            return self.fail(error)
        except BaseException as error:
            self.fail(interrupted(error))
            raise
        try:
            self.look()
        except Exception as error:
            return self.fail(error)
        if self.posted_last and all(flight.at is At.DONE for flight in self.flights):
            self.good = True
            return KVPoll.Success
        return KVPoll.Transferring if self.flights else KVPoll.WaitingForInput

    def fail(self, cause: Exception) -> KVPoll:
        note(cause)
        self.cause = cause
        return KVPoll.Failed


class QueueSystem(BaseSystem):
    """Keeps nothing about its rooms."""

    def room(self, plan: RoomPlan) -> QueueRoom:
        return QueueRoom(self, plan)

    def sender(self, plan: RoomPlan) -> QueueRoom:
        return self.room(plan)  # and keep nothing about it


class WindowRoom(Room):
    """Posts a chunk when all of the chunk before it has landed."""

    def __init__(self, system: WindowSystem, plan: RoomPlan) -> None:
        super().__init__(system, plan)
        self.windows = system
        self.said: KVPoll | None = None
        self.chunks: deque[Chunk] = deque()
        self.window: list[Flight] = []
        self.posting = False

    def send(self, kv: Sequence[int]) -> None:
        with self.system.lock:
            if self.queue(kv):
                self.go(look=False)

    def queue(self, kv: Sequence[int]) -> bool:
        chunk = self.accept(kv)
        if chunk is None:
            return False
        self.closed = self.closed or chunk.last
        self.chunks.append(chunk)
        if self not in self.windows.active:
            self.windows.active.append(self)
        return True

    def go(self, *, look: bool = True, post: bool = True) -> None:
        """Look at the window; when all of it has landed, post the next chunk."""
        if self.cause is not None or self.said is not None:
            return
        try:
            if look:
                self.look()
            while post and self.chunks and self.landed():
                self.system.dead += [flight.handle for flight in self.window]
                self.window = []
                self.post(self.chunks.popleft())
        except Exception as error:
            self.fail(error)
        except BaseException as error:
            if self.posting:
                self.fail(interrupted(error))
            raise

    def landed(self) -> bool:
        return all(flight.at is At.DONE for flight in self.window)

    def look(self) -> None:
        for flight in self.window:
            if flight.at is At.FLYING:
                try:
                    flight.at = heard(self.system.transport.check_xfer_state(flight.handle))
                except ERRORS:
                    flight.at = At.BAD
                    raise
        if self.overdue(flight for flight in self.window if flight.at is At.FLYING):
            raise self.silent()

    def post(self, chunk: Chunk) -> None:
        self.posting = True
        for target, conn in self.targets:
            flight = self.make(target, conn, chunk)
            if flight is not None:
                self.window.append(flight)
                flight.at = heard(self.system.transport.transfer(flight.handle))
        self.posting = False

    def fail(self, cause: Exception) -> None:
        if self.cause is None and self.said is None:
            note(cause)
            self.cause = cause

    def poll(self) -> KVPoll:
        with self.system.lock:
            if self.said is not None:
                return self.said
            self.windows.drive()
            return self.conclude()

    def conclude(self) -> KVPoll:
        if self.cause is not None:
            self.said = KVPoll.Failed
            self.tell(NotificationKind.FAILURE)
        elif self.closed and not self.chunks and self.landed():
            self.said = KVPoll.Success
            self.tell(NotificationKind.SUCCESS)
        else:
            return KVPoll.Transferring if self.window else KVPoll.WaitingForInput
        for flight in self.window:
            self.system.retire(flight)
        self.window = []
        self.chunks.clear()
        if self in self.windows.active:
            self.windows.active.remove(self)
        self.system.flush()
        return self.said

    def abort(self) -> None:
        with self.system.lock:
            self.fail(TransferAborted("aborted by the caller"))

    def clear(self) -> None:
        with self.system.lock:
            self.system.rooms.discard(self)
            self.fail(TransferAborted("cleared by the caller"))
            if self.said is None:
                self.conclude()


class WindowSystem(BaseSystem):
    """Has one chunk of each room in flight at a time; any poll() drives all rooms."""

    def __init__(self, world: World, rooms: Callable[[WindowSystem, RoomPlan], WindowRoom] = WindowRoom) -> None:
        super().__init__(world)
        self.new_room = rooms
        self.active: list[WindowRoom] = []

    def room(self, plan: RoomPlan) -> WindowRoom:
        return self.new_room(self, plan)

    def drive(self) -> None:
        self.reap()
        for room in list(self.active):
            room.go()
        self.flush()

    def settle(self) -> None:
        with self.lock:
            self.drive()

    def residue(self) -> int:
        return super().residue() + len(self.active)


class BackgroundRoom(WindowRoom):
    """send() queues and poll() looks at the room's own transfers: neither posts."""

    def send(self, kv: Sequence[int]) -> None:
        with self.system.lock:
            self.queue(kv)

    def poll(self) -> KVPoll:
        with self.system.lock:
            if self.said is not None:
                return self.said
            self.go(post=False)
            self.system.flush()
            return self.conclude()


queue: Final = Kind("foreign-queue", QueueSystem, Profile.LATCH)
window: Final = Kind("foreign-window", WindowSystem)
background_posts: Final = Kind("foreign-background_posts", partial(WindowSystem, rooms=BackgroundRoom))

RIGHT: Final[tuple[Adapter, ...]] = (queue, window, background_posts)
