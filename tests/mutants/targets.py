"""Broken targets: each is one kind of bug of the field, in the small right target of ``inline_target``.

T numbers are those of the field's bugs at targets, as they are told in the sources of KS-9.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, NoReturn

from tests.mutants.inline_target import (
    TRANSPORT_ERRORS,
    InitiatorFailed,
    InlineTarget,
    InlineTargetAdapter,
    InlineTargetSide,
    Word,
)

from kvsender_spec.contract import Attribution, KVPoll, KVTransferError, KVUsageError, TransferAborted, TransferTimeout
from kvsender_spec.history.words import Says
from kvsender_spec.kit.adapter import Peer
from kvsender_spec.kit.targets.adapter import TargetPlan

# --------------------------------------------------------------------------------------------- pages given away


class FreesAtAbort(InlineTarget):
    """sglang #32564: the pages are free as soon as the request is aborted."""

    def holds(self) -> bool:
        return super().holds() and not isinstance(self.cause, TransferAborted)


class FreesAtDeadline(InlineTarget):
    """sglang 0.5.23, LightLLM #1406, vLLM's lease: a time-out is taken for proof."""

    def holds(self) -> bool:
        return super().holds() and not isinstance(self.cause, TransferTimeout)


class FreesAtFailure(InlineTarget):
    """sglang #38961: a failure that the prefill side tells frees the pages that others still write."""

    def holds(self) -> bool:
        return super().holds() and not isinstance(self.cause, InitiatorFailed)


class FreesAfterAWhile(InlineTarget):
    """sglang 0.5.23: no acknowledgement for a while, and the pages go back anyway."""

    def holds(self) -> bool:
        return super().holds() and self.side.world.clock() < self.deadline + 5.0


class FreesWithClear(InlineTargetSide):
    """The quarantine is tied to the table entry: clear() drops both."""

    def settle_pages(self, room: InlineTarget) -> None:
        super().settle_pages(room)
        if room.cleared:
            self.held.pop(room.plan.incarnation, None)


class FreesAtReconnect(InlineTargetSide):
    """A new process of the name registers, which is taken for proof that the old one is gone."""

    def reconnect(self, peer: Peer) -> None:
        super().reconnect(peer)
        for room in (*self.rooms.values(), *self.held.values()):
            if peer.name in room.exposed:
                room.exposed[peer.name].quiet = True
                self.settle_pages(room)


class OneProofForAll(InlineTarget):
    """sglang #38961 c: one acknowledgement counts for every rank."""

    def holds(self) -> bool:
        return super().holds() and not any(exposure.quiet for exposure in self.exposed.values())


class GivesAwayWithTheFirstEnd(InlineTarget):
    """A failure that says that nothing is under way counts for the room and not for the one that has said it."""

    def take(self, word: Word) -> None:
        super().take(word)
        if word.quiesced and word.name in self.exposed:
            for exposure in self.exposed.values():
                exposure.quiet = True
            self.side.settle_pages(self)


class NoHoldWhereAnnouncingRaised(InlineTargetSide):
    """An announcement that raised is taken for one that was not sent."""

    def send_once(self, name: str, message: bytes) -> None:
        try:
            self.world.transport.send_notif(name, message)
        except TRANSPORT_ERRORS:
            for room in self.rooms.values():
                if message == self.words(Says.ANNOUNCE, room.plan):
                    room.exposed[name].quiet = True


class FencesByName(InlineTargetSide):
    """A fence is about whoever has the name."""

    def fence(self, peer: Peer, generation: int) -> None:
        for room in (*self.rooms.values(), *self.held.values()):
            if peer.name in room.exposed:
                super().fence(peer, room.exposed[peer.name].generation)


class FenceEndsAll(InlineTargetSide):
    """A fence frees whatever is held."""

    def fence(self, peer: Peer, generation: int) -> None:
        super().fence(peer, generation)
        self.held.clear()


# ------------------------------------------------------------------------------------------- who, when, how much


class CountsMessages(InlineTarget):
    """vllm-ascend #8810: notifications are counted, not those who send them."""

    def __init__(self, side: InlineTargetSide, plan: TargetPlan) -> None:
        super().__init__(side, plan)
        self.counted = dict.fromkeys(Says, 0)

    def take(self, word: Word) -> None:
        super().take(word)
        self.counted[word.says] += word.name in self.exposed

    def complete(self) -> bool:
        initiators = len(self.exposed)
        parts = self.counted[Says.PROGRESS] >= initiators * self.plan.parts
        return parts and self.counted[Says.SUCCESS] >= initiators


class AnyoneMayEnd(InlineTarget):
    """Whoever knows the room may speak for an initiator."""

    def take(self, word: Word) -> None:
        first = next(iter(self.exposed))
        known = word.name if word.name in self.exposed else first
        super().take(replace(word, name=known, generation=self.exposed[known].generation))


class AnyIncarnation(InlineTargetSide):
    """A notification is about whatever has its room id now."""

    def deliver(self, word: Word) -> None:
        newest = max((key for key, room in self.rooms.items() if room.plan.room == word.room), default=word.incarnation)
        super().deliver(replace(word, incarnation=newest))


class LateSuccessWins(InlineTarget):
    """TensorRT-LLM #14633: a success that comes late overwrites the error."""

    def look(self) -> None:
        super().look()
        if self.complete():
            self.answer = KVPoll.Success


class LateFailureWins(InlineTarget):
    """A failure that is told after the success takes it back."""

    def take(self, word: Word) -> None:
        if word.says is Says.FAILURE and word.name in self.exposed:
            self.answer = None
        super().take(word)


class OneIsEnough(InlineTarget):
    """One initiator of several has finished."""

    def complete(self) -> bool:
        return any(
            exposure.total is not None and len(exposure.parts) >= exposure.total for exposure in self.exposed.values()
        )


class PartsDoNotCount(InlineTarget):
    """sglang #39846: a component is missing, and the success of its sender is enough."""

    def complete(self) -> bool:
        return all(exposure.total is not None for exposure in self.exposed.values())


class LooksAtTheLastOnly(InlineTarget):
    """sglang #37697: completion is tried when the success arrives, and parts that come later are not seen."""

    ready = False

    def take(self, word: Word) -> None:
        super().take(word)
        if word.says is Says.SUCCESS:
            self.ready = super().complete()

    def complete(self) -> bool:
        return self.ready


class DeadlineFirst(InlineTarget):
    """sglang #32267: the deadline is compared before what has arrived is taken."""

    def poll(self) -> KVPoll:
        if self.answer is None and self.side.world.clock() >= self.deadline:
            self.fail(TransferTimeout("time is up"), Attribution.DEADLINE)
        return super().poll()


class DrainsInPolls(InlineTargetSide):
    """Right: what has arrived is taken in poll(), and its loop says again what was refused."""

    asks_again = False

    def settle(self) -> None:
        for name, message in [self.unsent.pop(0) for _ in range(len(self.unsent))]:
            self.send(name, message)


class FailsEarly(InlineTarget):
    """A fixed time for everybody, shorter than the deadline that was given."""

    def look(self) -> None:
        self.deadline = min(self.deadline, self.heard_at + 12.0)
        super().look()


# -------------------------------------------------------------------------------------------------- ends and words


class NoDeadlineOnceBegun(InlineTarget):
    """sglang #31800: the deadline is looked at while nothing has arrived."""

    def look(self) -> None:
        if any(exposure.parts for exposure in self.exposed.values()):
            self.deadline = float("inf")
        super().look()


class WaitsForTheProof(InlineTarget):
    """abort() comes back when the initiators have answered."""

    def abort(self) -> None:
        super().abort()
        while self.holds():
            self.side.drain()


class TellsNobody(InlineTargetSide):
    """The request is given up, and nobody is told."""

    def give_up(self, room: InlineTarget) -> None:
        self.settle_pages(room)


class TellsTheFirst(InlineTargetSide):
    """One of several initiators is told."""

    def give_up(self, room: InlineTarget) -> None:
        for name in list(room.exposed)[1:]:
            room.exposed[name].told = True
        super().give_up(room)


class TellsAgain(InlineTargetSide):
    """clear() tells of the abort once more."""

    def forget(self, room: InlineTarget) -> None:
        for exposure in room.exposed.values():
            exposure.told = False
        if room.answer is KVPoll.Failed:
            self.give_up(room)
        super().forget(room)


class TellsOnce(InlineTargetSide):
    """What the transport refuses is not said again."""

    def send(self, name: str, message: bytes) -> None:
        self.send_once(name, message)


class AnnouncesLate(InlineTargetSide):
    """sglang #37483: an announcement that was refused is sent again, whatever has become of its room."""

    def send_once(self, name: str, message: bytes) -> None:
        self.send(name, message)


class RaisesAtGarbage(InlineTargetSide):
    """sglang #30352: what is not UTF-8 leaves the loop."""

    def read(self, name: str, message: bytes) -> Word | None:
        message.decode()
        return super().read(name, message)


class DropsTheBatch(InlineTargetSide):
    """One bad notification costs those that came with it."""

    def drain(self) -> None:
        for name, messages in self.world.transport.get_new_notifs().items():
            found = [self.read(name, message) for message in messages]
            for word in found if None not in found else ():
                assert word is not None
                self.deliver(word)


class RaisesAtUnknown(InlineTargetSide):
    """vllm #25067: a notification of a room that is gone is a KeyError."""

    def deliver(self, word: Word) -> None:
        if word.incarnation not in self.held:
            assert self.rooms[word.incarnation].plan.room == word.room
        super().deliver(word)


class PublishesAtOnce(InlineTargetSide):
    """vllm #26813: pages are in the prefix cache while they are still written."""

    def published_pages(self) -> frozenset[int]:
        return frozenset(page for room in self.rooms.values() for page in room.plan.pages)


class AbortFlipsSuccess(InlineTarget):
    """SGLang 0.5.23's receiver: abort() after Success answers Failed."""

    def abort(self) -> None:
        self.answer = None
        super().abort()


class LastCauseWins(InlineTarget):
    """SGLang 0.5.23's receiver: the abort takes the place of the reason that was told."""

    def abort(self) -> None:
        if self.answer is KVPoll.Failed:
            self.cause, self.whose = TransferAborted("aborted by its owner"), Attribution.CALLER
        super().abort()


class ForgetsTheReason(InlineTarget):
    """The reason is popped when it is asked for."""

    def failure_exception(self) -> NoReturn:
        if self.cause is None and self.answer is KVPoll.Failed:
            raise KVTransferError(self.plan.room, "another rank has failed", Attribution.PEER)
        cause, self.cause = self.cause, None
        if cause is None:
            raise KVUsageError(f"room {self.plan.room} has not failed")
        raise KVTransferError(self.plan.room, f"{type(cause).__name__}: {cause}", self.whose) from cause


class NothingComesBack(InlineTarget):
    """What was once in quarantine stays there."""

    was_held = False

    def holds(self) -> bool:
        self.was_held = self.was_held or super().holds()
        return self.was_held


class KeepsTheEntry(InlineTargetSide):
    """A room that is cleared stays in a table."""

    kept = 0

    def forget(self, room: InlineTarget) -> None:
        self.kept += 1
        super().forget(room)

    def residue(self) -> int:
        return super().residue() + self.kept


class NeverAsks(InlineTargetSide):
    """TensorRT-LLM #17665: it waits for what was lost."""

    def ask(self, room: InlineTarget) -> None:
        return


# -------------------------------------------------------------------------------------------------------- holders


class DeafToRenewals(InlineTarget):
    """Renewals change nothing."""

    def renew(self, name: str) -> None:
        if self.answer is not None:
            super().renew(name)


class SilentToLateRenewals(InlineTarget):
    """vLLM's pull worker: a heartbeat of a request that is over is ignored."""

    def renew(self, name: str) -> None:
        if self.answer is None:
            super().renew(name)


class ShortensTheLease(InlineTarget):
    """A renewal sets the lease to a fixed time from now, which may be less than is left."""

    def renew(self, name: str) -> None:
        super().renew(name)
        if self.answer is None:
            self.deadline = self.side.world.clock() + self.plan.timeout_s / 2


class RaisesStampsAfterwards(InlineTargetSide):
    """The stamps are raised when the pages have other content."""

    def refill(self, pages: Sequence[int], write: Callable[[], None]) -> None:
        self.refuse(pages)
        write()
        self.bump(pages)

    def refuse(self, pages: Sequence[int]) -> None:
        if self.held_pages() & frozenset(pages):
            raise KVUsageError(f"pages {sorted(pages)} are held")

    def bump(self, pages: Sequence[int]) -> None:
        memory = self.world.memory
        for page in pages:
            memory.set_stamp(page, memory.stamp(page) + 1)


class RaisesStampsOnce(RaisesStampsAfterwards):
    """The stamps are raised before, and not again: a page of which half is written looks like a whole one."""

    def refill(self, pages: Sequence[int], write: Callable[[], None]) -> None:
        self.refuse(pages)
        self.bump(pages)
        write()


class RefillsWhatIsHeld(RaisesStampsAfterwards):
    """modelexpress #752: pages are given other content while a reader may still read them."""

    def refill(self, pages: Sequence[int], write: Callable[[], None]) -> None:
        self.bump(pages)
        write()
        self.bump(pages)


class SweepStopsAtTheFirst(InlineTargetSide):
    """vllm #50789: the sweep of leases ends at the first one that goes on, and polls look at nothing."""

    def settle(self) -> None:
        self.drain()
        for room in tuple(self.rooms.values()):
            if isinstance(room, Swept):
                room.swept()
            if room.answer is None:
                break
        for name, message in [self.unsent.pop(0) for _ in range(len(self.unsent))]:
            self.send(name, message)


class Swept(InlineTarget):
    """For the sweep above."""

    def look(self) -> None:
        if self.answer is None and self.complete():
            self.answer = KVPoll.Success

    def swept(self) -> None:
        super().look()


@dataclass(frozen=True)
class TargetMutant:
    """A broken target and the clause that it breaks."""

    breaks: str
    adapter: InlineTargetAdapter

    @property
    def name(self) -> str:
        return self.adapter.name


def _room(breaks: str, target: type[InlineTarget], *, holder: bool = False) -> TargetMutant:
    return TargetMutant(breaks, InlineTargetAdapter(target.__name__, "READ" if holder else "WRITE", target=target))


def _side(breaks: str, side: type[InlineTargetSide], *, holder: bool = False) -> TargetMutant:
    return TargetMutant(breaks, InlineTargetAdapter(side.__name__, "READ" if holder else "WRITE", side=side))


TARGET_MUTANTS: Final = (
    _room("KS-9.2", FreesAtAbort),
    _room("KS-9.2", FreesAtDeadline),
    _room("KS-9.2", FreesAtFailure),
    _room("KS-9.2", FreesAfterAWhile),
    _side("KS-9.2", FreesWithClear),
    _side("KS-9.2", FreesAtReconnect),
    _room("KS-9.5", OneProofForAll),
    _room("KS-9.5", GivesAwayWithTheFirstEnd),
    _side("KS-9.10", NoHoldWhereAnnouncingRaised),
    _side("KS-9.12", FencesByName),
    _side("KS-9.12", FenceEndsAll),
    _room("KS-9.5", CountsMessages),
    _room("KS-9.5", AnyoneMayEnd),
    _side("KS-9.6", AnyIncarnation),
    _room("KS-9.14", LateSuccessWins),
    _room("KS-9.6", LateFailureWins),
    _room("KS-9.7", OneIsEnough),
    _room("KS-9.7", PartsDoNotCount),
    _room("KS-9.7", LooksAtTheLastOnly),
    TargetMutant("KS-9.7", InlineTargetAdapter("DeadlineFirst", side=DrainsInPolls, target=DeadlineFirst)),
    _room("KS-9.7", FailsEarly),
    _room("KS-9.8", NoDeadlineOnceBegun),
    _room("KS-9.8", WaitsForTheProof),
    _side("KS-9.9", TellsNobody),
    _side("KS-9.9", TellsTheFirst),
    _side("KS-9.9", TellsAgain),
    _side("KS-9.9", TellsOnce),
    _side("KS-9.10", AnnouncesLate),
    _side("KS-9.11", RaisesAtGarbage),
    _side("KS-9.11", DropsTheBatch),
    _side("KS-9.11", RaisesAtUnknown),
    _side("KS-9.13", PublishesAtOnce),
    _room("KS-9.14", AbortFlipsSuccess),
    _room("KS-9.14", LastCauseWins),
    _room("KS-9.14", ForgetsTheReason),
    _room("KS-9.15", NothingComesBack),
    _side("KS-9.15", KeepsTheEntry),
    _side("KS-9.16", NeverAsks),
    _room("KS-9.2", FreesAtDeadline, holder=True),
    _room("KS-9.3", DeafToRenewals, holder=True),
    _room("KS-9.3", SilentToLateRenewals, holder=True),
    _room("KS-9.3", ShortensTheLease, holder=True),
    _side("KS-9.4", RaisesStampsAfterwards, holder=True),
    _side("KS-9.4", RaisesStampsOnce, holder=True),
    _side("KS-9.1", RefillsWhatIsHeld, holder=True),
    TargetMutant("KS-9.8", InlineTargetAdapter("SweepStopsAtTheFirst", "READ", SweepStopsAtTheFirst, Swept)),
)

RIGHT_TARGETS: Final = (
    InlineTargetAdapter("inline receiver"),
    InlineTargetAdapter("inline holder", "READ"),
    InlineTargetAdapter("drains in polls", side=DrainsInPolls),
)
