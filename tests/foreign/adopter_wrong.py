"""An adopter's wrong senders whose bug is in one room. Each has the mechanism of a public bug."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final, NoReturn

from tests.foreign.adopter_base import BaseSystem, Chunk, Conn, Flight
from tests.foreign.adopter_right import ENDED, LIVE, SAYS, Event, State, TableRoom, TableSystem
from tests.foreign.adopter_right_more import LruRoom, LruSystem
from tests.foreign.adopter_words import ERRORS
from tests.foreign.right_kinds import Kind

from kvsender_spec.contract import (
    Attribution,
    KVPoll,
    KVTransferError,
    KVUsageError,
    TransferAborted,
)
from kvsender_spec.kit.adapter import Adapter, Destination, RoomPlan

# The latch.


class AskedRoom(TableRoom):
    """KS-2.7: failure_exception() of a successful room raises its usage error and latches Failed.

    SGLang 0.5.23. Bug B05 of the field catalogue.
    """

    def failure_exception(self) -> NoReturn:
        if self.state is State.GOOD:
            self.state = State.BAD
            self.cause = KVTransferError(self.plan.room, "unknown", Attribution.INTERNAL)
            raise KVUsageError("the room has not failed")
        super().failure_exception()


class UnlockedRoom(TableRoom):
    """KS-7.2: poll() and abort() take no lock, so Success overwrites an abort() during the poll() that sees the last
    DONE; alone each call is right.

    SGLang 0.5.10 to 0.5.12. Bug B14 of the field catalogue.
    """

    def poll(self) -> KVPoll:
        if self.state in ENDED:
            return SAYS[self.state]
        was = self.state
        self.look()
        if self.closed and not self.flying and was in LIVE and not self.bad:
            self.state, self.cause = State.GOOD, None
            self.tell_success()
        elif self.drained():
            self.event(Event.DRAINED)
        self.system.flush()
        return SAYS[self.state]

    def abort(self) -> None:
        self.event(Event.FAULT, TransferAborted("aborted by the caller"))

    def clear(self) -> None:
        self.system.rooms.discard(self)
        self.event(Event.FAULT, TransferAborted("cleared by the caller"))
        self.event(Event.DRAINED)
        self.system.flush()


# What is sent, and when it is complete.


class FalsyRoom(LruRoom):
    """KS-3.2: the aux write is nested in ``if pages``, so a peer that wants no page of the last chunk gets none.

    sglang #25698. Bug B20 of the field catalogue.
    """

    def one(self, target: Destination, conn: Conn, chunk: Chunk) -> None:
        if self.pairs(target, chunk):
            super().one(target, conn, chunk)


class LastOnlyRoom(TableRoom):
    """KS-3.6: completion is tried only when a transfer of the last chunk is found done; an earlier chunk that comes in
    after it is never noticed.

    sglang #37697. Bug B22 of the field catalogue.
    """

    lasts: Sequence[Flight] | None = None
    tried = False

    def poll(self) -> KVPoll:
        with self.system.lock:
            if self.state not in LIVE or not self.closed:
                return super().poll()
            if self.lasts is None:
                self.lasts = self.flying[-len(self.targets) :]
            before = self.lasts_in_flight(self.lasts)
            self.look()
            now = self.lasts_in_flight(self.lasts)
            if self.state in LIVE and (not before or now < before) and not self.tried:
                self.tried = not now
                if not self.flying:
                    self.event(Event.ALL_DONE)
            self.system.flush()
            return SAYS[self.state]

    def lasts_in_flight(self, lasts: Sequence[Flight]) -> int:
        return sum(1 for flight in self.flying if flight in lasts)


# The deadline.


class DeadlineFirstRoom(TableRoom):
    """KS-3.5: the deadline is looked at before the completions, so a room fails whose bytes have all arrived.

    sglang #32267. Bug B23 of the field catalogue.
    """

    def look(self) -> None:
        self.expire()
        super().look()


class LastLookRoom(TableRoom):
    """KS-3.4: the deadline counts from the last look that found the transfer alive, so it never comes.

    A variant of bug B23 of the field catalogue.
    """

    def look(self) -> None:
        super().look()
        for flight in self.flying:
            flight.since = self.system.world.clock()


class SinceOpenRoom(TableRoom):
    """KS-3.5: the deadline counts from the opening of the room, not from the post.

    A variant of bug B23 of the field catalogue.
    """

    def __init__(self, system: BaseSystem, plan: RoomPlan) -> None:
        super().__init__(system, plan)
        self.born = system.world.clock()

    def one(self, target: Destination, conn: Conn, chunk: Chunk) -> None:
        known = len(self.flying)
        super().one(target, conn, chunk)
        for flight in self.flying[known:]:
            flight.since = self.born


class DeadlineInSendRoom(TableRoom):
    """KS-3.5: deadlines are looked at only when new work is scheduled, and then before the completions.

    TensorRT-LLM #12313. Bug B63 of the field catalogue.
    """

    def send(self, kv: Sequence[int]) -> None:
        with self.system.lock:
            for room in list(self.system.rooms):
                if isinstance(room, DeadlineInSendRoom):
                    room.expire()
        super().send(kv)

    def look(self) -> None:
        self.ask_all()


# Pages and handles.


class SiblingsRoom(TableRoom):
    """KS-4.1: a check that raises ends the room and forgets the other transfers, whose pages are free; where the same
    look finds one of them done, poll() stumbles over it.

    vllm #41853. Bug B42 of the field catalogue.
    """

    def event(self, event: Event, cause: Exception | None = None) -> None:
        super().event(event, cause)
        if event is Event.FAULT and self.state is State.DRAINING and isinstance(cause, ERRORS):
            self.system.late += [replace(flight, pages=[]) for flight in self.flying]
            self.flying = []


class ReleasingRoom(TableRoom):
    """KS-4.2: abort() quarantines the pages of what is in flight and releases the handles, as if that cancelled them.

    NIXL #1955 and #2067. Bug B66 of the field catalogue.
    """

    def abort(self) -> None:
        with self.system.lock:
            super().abort()
            if self.state is State.DRAINING and isinstance(self.cause, TransferAborted):
                for flight in self.flying:
                    self.system.quarantine.update(flight.pages)
                    try:
                        self.system.transport.release_xfer_handle(flight.handle)
                    except Exception:
                        self.system.late.append(flight)
                self.flying = []


class HoldingRoom(TableRoom):
    """KS-4.3: abort() holds the pages of all that was posted; those whose completion had come before it are never given
    back.

    vllm #32255. Bug B51 of the field catalogue.
    """

    def __init__(self, system: BaseSystem, plan: RoomPlan) -> None:
        super().__init__(system, plan)
        self.posted: list[Flight] = []

    def one(self, target: Destination, conn: Conn, chunk: Chunk) -> None:
        super().one(target, conn, chunk)
        self.posted += [flight for flight in self.flying if flight not in self.posted]

    def give_up(self) -> None:
        if isinstance(self.cause, TransferAborted) and self.flying:
            for flight in self.posted:
                if flight not in self.flying:
                    self.system.quarantine.update(flight.pages)
        super().give_up()


failure_asked: Final = Kind("foreign-failure_asked", partial(TableSystem, rooms=AskedRoom))
unlocked: Final = Kind("foreign-unlocked", partial(TableSystem, rooms=UnlockedRoom))
falsy: Final = Kind("foreign-falsy", partial(LruSystem, rooms=FalsyRoom))
last_only: Final = Kind("foreign-last_only", partial(TableSystem, rooms=LastOnlyRoom))
deadline_first: Final = Kind("foreign-deadline_first", partial(TableSystem, rooms=DeadlineFirstRoom))
last_look: Final = Kind("foreign-last_look", partial(TableSystem, rooms=LastLookRoom))
since_open: Final = Kind("foreign-since_open", partial(TableSystem, rooms=SinceOpenRoom))
deadline_in_send: Final = Kind("foreign-deadline_in_send", partial(TableSystem, rooms=DeadlineInSendRoom))
siblings: Final = Kind("foreign-siblings", partial(TableSystem, rooms=SiblingsRoom))
releasing: Final = Kind("foreign-releasing", partial(TableSystem, rooms=ReleasingRoom))
holding: Final = Kind("foreign-holding", partial(TableSystem, rooms=HoldingRoom))

WRONG: Final[tuple[tuple[Adapter, str], ...]] = (
    (failure_asked, "KS-2.7"),
    (unlocked, "KS-7.2"),
    (falsy, "KS-3.2"),
    (last_only, "KS-3.6"),
    (deadline_first, "KS-3.5"),
    (last_look, "KS-3.4"),
    (since_open, "KS-3.5"),
    (deadline_in_send, "KS-3.5"),
    (siblings, "KS-4.1"),
    (releasing, "KS-4.2"),
    (holding, "KS-4.3"),
)
