"""Broken senders of kinds that an adopter wrote from the contract alone, and that the kit missed or named wrongly.

Rooms that starve, deadlines that move, what is done to a room that is over, and an abort that comes too late.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import ClassVar, Final, NoReturn

from tests.mutants.inline import NIXL_ERRORS, InlineAdapter, InlineSender, InlineSystem, Part
from tests.mutants.styles import ReleasesInBackground

from kvsender_spec.contract import Attribution, KVPoll, TransferAborted, TransferTimeout
from kvsender_spec.faults import STAND_INS
from kvsender_spec.kit.adapter import Destination, RoomPlan
from kvsender_spec.machine import State

KEPT: Final[list[Part]] = []
"""Handles that a mutant has lost. Dropping the last reference to one would release it."""


class CountsFromTheLastLook(InlineSender):
    """A deadline that counts from the last look: whoever polls often waits for ever.

    vLLM and SGLang timeouts measured from the last look, not from the last fact. Bug B23 of the field catalogue.
    """

    breaks: ClassVar = "KS-3.4"

    def overdue(self) -> bool:
        late = super().overdue()
        for part in self.parts:
            part.posted_at = self.system.world.clock()
        return late


class LooksAtTheOldestRoom(InlineSender):
    """Only the oldest room that has something in flight is looked at, so that its silent peer starves all others.

    SGLang 0.5.12: one room pins the worker of its shard. Bug B32 of the field catalogue.
    """

    breaks: ClassVar = "KS-6.2"

    def observe(self) -> None:
        under_way = [r for r in self.system.rooms.values() if r.state in (State.SENDING, State.FAILED)]
        if not under_way or under_way[0] is self or not self.parts:
            super().observe()


class RaisesAtTheDeadline(InlineSender):
    """A deadline that passes is an error of the sender's own, which leaves poll() for ever after.

    vLLM: an error path that raises ends the engine. Bug B56 of the field catalogue.
    """

    breaks: ClassVar = "KS-1.1"

    def fault(self, error: BaseException, attribution: Attribution | None = None) -> None:
        if isinstance(error, TransferTimeout) and self.state is State.SENDING:
            raise ValueError("a room that is late cannot be failed")
        super().fault(error, attribution)


class TakesNotFoundForALoss(InlineSender):
    """What is not found is taken for a lost peer, which is removed and added under the transfers of other rooms.

    sglang #7330: misuse of descriptors surfaces as NotFound. Bug B38 of the field catalogue.
    """

    breaks: ClassVar = "KS-5.4"

    def make(self, target: Destination, mine: Sequence[int], theirs: Sequence[int], last: bool) -> Part:
        try:
            return super().make(target, mine, theirs, last)
        except STAND_INS["nixlNotFoundError"]:
            self.system.reconnect(target.peer)
            raise


class OneWindowForAll(InlineSender):
    """So many transfers may be in flight in all: those to a silent peer fill the window of every room.

    SGLang 0.5.12: one room pins the worker of its shard. Bug B32 of the field catalogue.
    """

    breaks: ClassVar = "KS-6.2"
    most: ClassVar = 3

    def __init__(self, system: InlineSystem, plan: RoomPlan) -> None:
        super().__init__(system, plan)
        self.queued: list[tuple[Sequence[int], int, bool]] = []

    def take(self, kv_indices: Sequence[int], first: int, last: bool) -> None:
        self.queued.append((kv_indices, first, last))
        self.post_queued()

    def post_queued(self) -> None:
        while self.queued and self.state in (State.IDLE, State.SENDING) and self.in_flight() < self.most:
            super().take(*self.queued.pop(0))

    def in_flight(self) -> int:
        return sum(part.state == "flying" for room in self.system.rooms.values() for part in room.parts)

    def observe(self) -> None:
        super().observe()
        self.post_queued()


class TripsOverALostPeer(InlineSender):
    """The path for a peer that is gone has a mistake of its own, which takes the place of the cause.

    sglang #23488: an except block uses unset names. Bug B39 of the field catalogue.
    """

    breaks: ClassVar = "KS-2.3"

    def fault(self, error: BaseException, attribution: Attribution | None = None) -> None:
        if isinstance(error, ConnectionResetError):
            error, attribution = AttributeError("'NoneType' object has no attribute 'name'"), Attribution.INTERNAL
        super().fault(error, attribution)


class BlamesItsCallerForALostPeer(InlineSender):
    """That a peer is gone counts as the caller's doing.

    SGLang 0.5.23: a lost reason reads as another rank's. Bug B04 of the field catalogue.
    """

    breaks: ClassVar = "KS-2.8"

    def fault(self, error: BaseException, attribution: Attribution | None = None) -> None:
        lost = isinstance(error, ConnectionResetError)
        super().fault(error, Attribution.CALLER if lost else attribution)


class CutsLargeChunks(InlineSender):
    """Of a chunk of many pages only the first four are transferred.

    vllm-ascend #8810: a part is taken for the whole. Bug B61 of the field catalogue.
    """

    breaks: ClassVar = "KS-3.1"

    def wanted(self, target: Destination, pages: Sequence[int], first: int) -> tuple[Sequence[int], Sequence[int]]:
        mine, theirs = super().wanted(target, pages, first)
        return mine[:4], theirs[:4]


class LosesWhatWasRefused(ReleasesInBackground):
    """The handle of a refused post is kept by nobody, so that nobody releases it.

    sglang #14070: handles are never released. Bug B30 of the field catalogue.
    """

    breaks: ClassVar = "KS-4.3"

    def fault(self, error: BaseException, attribution: Attribution | None = None) -> None:
        lost = [part for part in self.parts if part.state == "rejected"]
        KEPT.extend(lost)
        del KEPT[:-8]
        self.system.doubtful += lost
        self.parts = [part for part in self.parts if part not in lost]
        super().fault(error, attribution)


class KeepsTheFirstAuxSlot(InlineSender):
    """The aux slot of a room id is that of its first room, whoever has the id by now.

    sglang #22716 and #23020: metadata index collision. Bug B35 of the field catalogue.
    """

    breaks: ClassVar = "KS-5.4"

    def __init__(self, system: InlineSystem, plan: RoomPlan) -> None:
        slots: dict[int, int] = vars(system).setdefault("slots", {})
        super().__init__(system, replace(plan, aux_index=slots.setdefault(plan.room, plan.aux_index)))


class StopsAtTheFirstThatIsNotDue(InlineSender):
    """Deadlines are looked through in the order of the first posts, up to the first that has not passed.

    vLLM #58222 and #50789: the scan stops at the first entry that has not expired, and entries are renewed in place.
    Bug B47 of the field catalogue.
    """

    breaks: ClassVar = "KS-3.4"

    def overdue(self) -> bool:
        for room in self.system.rooms.values():
            if room is self:
                break
            newest = max((part.posted_at for part in room.parts if part.state == "flying"), default=None)
            if newest is not None and self.system.world.clock() - newest < self.system.world.transfer_timeout_s:
                return False
        return super().overdue()


class ClearsByItsId(InlineSender):
    """clear() removes the entry of its room id, whoever has the id by now.

    sglang #40125: the second owner's clear() removes the first one's entry, and its next poll() raises KeyError. Bug
    B08 of the field catalogue.
    """

    breaks: ClassVar = "KS-5.4"

    def __init__(self, system: InlineSystem, plan: RoomPlan) -> None:
        super().__init__(system, plan)
        self.removed = False

    def clear(self) -> None:
        super().clear()
        for other in self.system.rooms.values():
            assert isinstance(other, ClearsByItsId)
            other.removed = other.removed or other.plan.room == self.plan.room

    def poll(self) -> KVPoll:
        if self.removed:
            raise KeyError(self.plan.room)
        return super().poll()


class AbortsAtTheNextPoll(InlineSender):
    """abort() is only noted: the next poll() makes a failure of it, and until then send() posts.

    sglang #24522: abort() sets a latch of its own, and the worker keeps writing. Bug B29 of the field catalogue.
    """

    breaks: ClassVar = "KS-5.1"

    def __init__(self, system: InlineSystem, plan: RoomPlan) -> None:
        super().__init__(system, plan)
        self.given_up = False

    def abort(self) -> None:
        self.given_up = True

    def notice(self) -> None:
        if self.given_up:
            self.fault(TransferAborted("aborted by its caller"), Attribution.CALLER)

    def poll(self) -> KVPoll:
        self.notice()
        return super().poll()

    def failure_exception(self) -> NoReturn:
        self.notice()
        super().failure_exception()

    def clear(self) -> None:
        super().clear()
        self.notice()


class ConnectsForEachRoom(InlineSystem):
    """Connects anew to a peer that has come back, for each room that is opened to it.

    LightLLM #1470: reconnecting is not single-flight. Bug B54 of the field catalogue.
    """

    breaks: ClassVar = "KS-6.3"

    def uninitialised(self, plan: RoomPlan) -> InlineSender:
        for target in plan.destinations:
            if target.peer.generation:
                with suppress(*NIXL_ERRORS):  # it may be gone again
                    self.reconnect(target.peer)
        return super().uninitialised(plan)


SENDERS: Final = (
    CountsFromTheLastLook,
    LooksAtTheOldestRoom,
    RaisesAtTheDeadline,
    TakesNotFoundForALoss,
    OneWindowForAll,
    TripsOverALostPeer,
    BlamesItsCallerForALostPeer,
    CutsLargeChunks,
    LosesWhatWasRefused,
    KeepsTheFirstAuxSlot,
    StopsAtTheFirstThatIsNotDue,
    ClearsByItsId,
    AbortsAtTheNextPoll,
)


def _of_system(system: type[InlineSystem]) -> InlineAdapter:
    made = InlineAdapter(InlineSender, system)
    made.name = system.__name__
    return made


ADAPTERS: Final = (
    *((InlineAdapter(sender), sender) for sender in SENDERS),
    (_of_system(ConnectsForEachRoom), ConnectsForEachRoom),
)
"""Each with the class that says which clause it breaks."""
