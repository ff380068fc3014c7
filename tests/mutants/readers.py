"""Broken readers: the inline reader with one thing wrong each, after the bugs of the field's readers (T01 to T21 of the
field catalogue), and the inline sender's mutants turned round.
"""

from __future__ import annotations

import types
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Final

from tests.mutants.acking import BROKEN as BROKEN_ACKING
from tests.mutants.acking import AckingSystem
from tests.mutants.inline import InlineSender, InlineSystem, Part
from tests.mutants.inline_reader import InlineReader, ReaderAdapter, ReaderSystem

from kvsender_spec.contract import KVPoll
from kvsender_spec.kit.adapter import NUM_PAGES, Destination, NotificationKind, Peer, RoomPlan
from kvsender_spec.machine import State


class NeverLooksAtTheGrant(InlineReader):
    """Takes whatever has come for what was granted: the next prompt's content, or a mix (T02, T03, T12, T19)."""

    breaks: ClassVar = "KS-3.1"

    def ask_for_stamps(self) -> None:
        self.grants = []


class LooksAtTheGrantBefore(InlineReader):
    """Reads the stamps first and the data then: what is refilled between the two is taken for good."""

    breaks: ClassVar = "KS-3.1"

    def take(self, kv_indices: Sequence[int], first: int, last: bool) -> None:
        if last and kv_indices and self.grants is None and all(map(self.fits, self.targets())):
            self.ask_for_stamps()
        if self.state in (State.IDLE, State.SENDING):
            super().take(kv_indices, first, last)

    def complete(self) -> bool:
        self.grants = [] if self.grants is None else self.grants
        return super().complete()


class LooksAtOneHolder(InlineReader):
    """Asks the first holder alone whether its grant is still good."""

    breaks: ClassVar = "KS-3.1"

    def make_stamps(self, number: int, target: Destination) -> Part:
        part = super().make_stamps(number, target)
        if number:
            assert self.grants is not None
            del self.grants[len(self.sent) :]
        return part


class LooksAtTheFirstPage(InlineReader):
    """Compares the stamp of the first page only."""

    breaks: ClassVar = "KS-3.1"

    def holds(self) -> bool:
        self.grants = (self.grants or [])[:1]
        return super().holds()


class LooksAtTheLastPage(InlineReader):
    """Compares the stamp of the last page only."""

    breaks: ClassVar = "KS-3.1"

    def holds(self) -> bool:
        self.grants = (self.grants or [])[-1:]
        return super().holds()


class TakesANewerStamp(InlineReader):
    """Takes a stamp that is not older than the granted one for good."""

    breaks: ClassVar = "KS-3.1"

    def holds(self) -> bool:
        self.grants = [(place, max(stamp, self.side.stamp_at(place))) for place, stamp in self.grants or ()]
        return super().holds()


class TakesAStampUnderWay(InlineReader):
    """Takes a stamp that was raised once for good: the refill is under way, and half of the page is another's."""

    breaks: ClassVar = "KS-3.1"

    def holds(self) -> bool:
        under_way = [(place, stamp, self.side.stamp_at(place)) for place, stamp in self.grants or ()]
        self.grants = [(place, now if now == stamp + 1 else stamp) for place, stamp, now in under_way]
        return super().holds()


class NamesAnotherRoom(InlineReader):
    """Tells its holder of the end under an id of its own, and not under the one that the holder knows (T09)."""

    breaks: ClassVar = "KS-6.1"

    def notification(self, kind: NotificationKind, reason: str) -> bytes:
        return f"{kind}|{self.plan.room + 1000}|{self.plan.incarnation}|{reason}".encode()


class LooksAgainAfterSuccess(InlineReader):
    """Asks for the stamps at every poll(), although the pages are its own since Success."""

    breaks: ClassVar = "KS-2.1"

    def poll(self) -> KVPoll:
        answer = super().poll()
        for target in self.targets() if answer is KVPoll.Success and self.sent else ():
            memory, theirs = target.peer.memory, target.pages[-1]
            if memory.stamp(theirs) != target.stamps[-1]:
                return KVPoll.Failed
        return answer


class CountsAnswers(InlineReader):
    """Counts answers of DONE instead of transfers that are DONE (T65): those of its data are as many as the transfers
    that it has posted by then, and it waits for no stamp.
    """

    breaks: ClassVar = "KS-3.1"

    def __init__(self, system: InlineSystem, plan: RoomPlan) -> None:
        super().__init__(system, plan)
        self.answers = 0

    def observe(self) -> None:
        if self.state is State.SENDING:
            for part in self.parts:
                error = self.ask(self.system, part) if part.state == "flying" else None
                if error is not None:
                    self.fault(error)
                self.answers += part.state == "done" and part.handle is not None
        super().observe()

    def complete(self) -> bool:
        if self.closed and self.sent and self.answers >= len(self.parts) and self.state is State.SENDING:
            return True
        return super().complete()


class FirstErrorEndsTheRoom(InlineReader):
    """The first transfer that fails ends the room, whose pages are free then; its siblings go on landing (T04)."""

    breaks: ClassVar = "KS-4.1"

    def may_report(self) -> bool:
        return True

    def quarantine(self) -> None:
        self.system.doubtful += [part for part in self.parts if part.state in ("errored", "rejected")]


class RecomputesAtOnce(InlineReader):
    """Reports the pages of a failed room as invalid, has them computed again, and the READ lands in them (T16, B41)."""

    breaks: ClassVar = "KS-4.4"

    def quarantine(self) -> None:
        pass


class ReleasesOnAbort(InlineReader):
    """Takes a release for the end of a READ, which lands in pages that have a new owner (T06)."""

    breaks: ClassVar = "KS-4.2"

    def abort(self) -> None:
        super().abort()
        for part in self.parts:
            if part.handle is not None and part.state == "flying":
                self.system.release(part)
                part.state = "errored"


class WaitsForAHolderForEver(InlineReader):
    """Sets no deadline: a holder that stands still keeps the room open for ever (T11)."""

    breaks: ClassVar = "KS-3.4"

    def overdue(self) -> bool:
        return False


class TellsTheHolderNothing(InlineReader):
    """Reads without a notification and tells the holder of no end: its pages wait for the lease to run out (T08)."""

    breaks: ClassVar = "KS-6.1"

    def tell(self, kind: NotificationKind, reason: str) -> None:
        if kind is NotificationKind.FAILURE:
            super().tell(kind, reason)

    def notification(self, kind: NotificationKind, reason: str) -> bytes:
        return b"" if kind is NotificationKind.PROGRESS else super().notification(kind, reason)


class TellsTheEndAtThePost(InlineReader):
    """Tells the holder that it has finished when it has posted: a message of its own overtakes the bytes."""

    breaks: ClassVar = "KS-6.1"
    told = False

    def take(self, kv_indices: Sequence[int], first: int, last: bool) -> None:
        super().take(kv_indices, first, last)
        if last and self.state is State.SENDING:
            super().tell(NotificationKind.SUCCESS, "")
            self.told = True

    def tell(self, kind: NotificationKind, reason: str) -> None:
        if not (self.told and kind is NotificationKind.SUCCESS):
            super().tell(kind, reason)


class LeavesTheEndToItsReads(InlineReader):
    """Tells the holder of its end by its READ alone: it hears nothing of a full prefix hit (T10)."""

    breaks: ClassVar = "KS-6.1"

    def tell(self, kind: NotificationKind, reason: str) -> None:
        if kind is NotificationKind.FAILURE:
            super().tell(kind, reason)


class NothingToReadIsNoRoom(InlineReader):
    """Makes no entry for a room without pages, which therefore never ends (T10)."""

    breaks: ClassVar = "KS-3.2"

    def take(self, kv_indices: Sequence[int], first: int, last: bool) -> None:
        if kv_indices:
            super().take(kv_indices, first, last)


class ReadsTheFirstPages(InlineReader):
    """Reads the first of the granted pages where the holder has a longer prefix: the last ones are meant (T59)."""

    breaks: ClassVar = "KS-3.1"

    def wanted(self, target: Destination, pages: Sequence[int], first: int) -> tuple[Sequence[int], Sequence[int]]:
        return pages, target.pages[first : first + len(pages)]


class ListsOutliveTheirHolder(ReaderSystem):
    """Keeps the prepared lists of a holder that has come back: they lead to the process that is gone (T20)."""

    breaks: ClassVar = "KS-6.3"

    def reconnect(self, peer: Peer) -> None:
        if peer.name not in self.remote:
            super().reconnect(peer)
            return
        self.agent.remove_remote_agent(peer.name)
        self.agent.add_remote_agent(peer.agent.get_agent_metadata())


class NotificationEndsTheRoom(InlineReader):
    """Tells its holder later, and fails the room, whose Success it has reported, where that is refused."""

    breaks: ClassVar = "KS-2.1"
    told = False

    def tell(self, kind: NotificationKind, reason: str) -> None:
        if kind is NotificationKind.FAILURE:
            super().tell(kind, reason)

    def poll(self) -> KVPoll:
        ended, answer = self.state is State.DONE, super().poll()
        if ended and answer is KVPoll.Success and not self.told:
            self.told = True
            try:
                for target in self.targets():
                    self.agent.send_notif(target.peer.name, self.notification(NotificationKind.SUCCESS, ""))
            except self.transport_errors as error:
                self.cause, self.state = error, State.STICKY_FAILED
                return KVPoll.Failed
        return answer


class TheIdHasANewOwner(InlineReader):
    """Keeps its rooms by their ids: a late answer of an earlier one ends the newest (B21)."""

    breaks: ClassVar = "KS-5.4"

    def observe(self) -> None:
        super().observe()
        for other in self.system.rooms.values():
            same = other.plan.room == self.plan.room and other.plan.incarnation > self.plan.incarnation
            if same and self.cause is not None and other.state in (State.IDLE, State.SENDING):
                other.fault(self.cause)


class DeadlineBeforeTheBytes(InlineReader):
    """Looks at the clock before it looks at the transfers: a READ that is DONE at its deadline fails (T48)."""

    breaks: ClassVar = "KS-3.5"

    def observe(self) -> None:
        if self.state is State.SENDING and self.overdue():
            self.fault(TimeoutError("a holder was silent"))
        super().observe()


class LooksAtTheBytes(InlineReader):
    """Takes the last byte of a page for the end of the READ: others are still to land, and nobody has said DONE."""

    breaks: ClassVar = "KS-3.1"

    def observe(self) -> None:
        super().observe()
        memory = self.system.world.memory
        last = len(memory.kv) - 1
        here = self.sent and all(any(memory.page(last, page)) for page in self.sent)
        if self.state is State.SENDING and self.closed and here and self.grants is None:
            self.state = State.DONE
            self.system.unsettled += [part for part in self.parts if part.handle is not None]
            self.tell(NotificationKind.SUCCESS, "")


class StampsEscape(InlineReader):
    """Guards the posts of read() and not the one that asks for the stamps, which is made in poll()."""

    breaks: ClassVar = "KS-1.1"

    def ask_for_stamps(self) -> None:
        self.grants = []
        made = [self.make_stamps(number, target) for number, target in enumerate(self.targets()) if self.sent]
        for part in made:
            self.post(part)


class IgnoresRefusedStamps(InlineReader):
    """Takes stamps that could not be read for good ones."""

    breaks: ClassVar = "KS-1.2"

    def ask_for_stamps(self) -> None:
        self.grants = []
        try:
            for number, target in enumerate(self.targets() if self.sent else ()):
                self.post(self.make_stamps(number, target))
        except self.transport_errors:
            self.grants = []
            self.parts = [part for part in self.parts if part.state in ("done", "flying")]


class WrapsPagesRound(InlineReader):
    """Takes the number of a page modulo the pool: what is beyond its end is the first one."""

    breaks: ClassVar = "KS-3.1"
    beyond: ClassVar = True

    def __init__(self, system: InlineSystem, plan: RoomPlan) -> None:
        targets = [replace(target, pages=tuple(map(self.wrapped, target.pages))) for target in plan.destinations]
        super().__init__(system, replace(plan, destinations=tuple(targets)))

    def wrapped(self, page: int) -> int:
        return page % NUM_PAGES if (page > 0) is self.beyond else page


class CountsFromTheEnd(WrapsPagesRound):
    """Takes a negative number for a page counted from the end, as an index of Python's is."""

    breaks: ClassVar = "KS-3.1"

    beyond: ClassVar = False


class ReadsWhatThereIs(InlineReader):
    """Reads as many pages as were granted, and takes the others for read: a ``zip`` that is not strict."""

    breaks: ClassVar = "KS-3.1"

    def fits(self, target: Destination) -> bool:
        return super().fits(replace(target, pages=(*target.pages, 0), stamps=(*target.stamps, 0)))

    def wanted(self, target: Destination, pages: Sequence[int], first: int) -> tuple[Sequence[int], Sequence[int]]:
        theirs = target.pages[max(len(target.pages) - self.plan.num_pages, 0) :][first : first + len(pages)]
        return pages[: len(theirs)], theirs

    def make_stamps(self, number: int, target: Destination) -> Part:
        whole, here = list(self.sent), len(self.sent) - max(self.plan.num_pages - len(target.pages), 0)
        self.sent[here:] = []
        try:
            return super().make_stamps(number, target)
        finally:
            self.sent[:] = whole


class ComparesTheStampsThatThereAre(InlineReader):
    """Compares as many stamps as were granted: nobody looks at the page of the last one."""

    breaks: ClassVar = "KS-3.1"

    def fits(self, target: Destination) -> bool:
        return len(target.pages) >= self.plan.num_pages and all(0 <= page < NUM_PAGES for page in target.pages)

    def make_stamps(self, number: int, target: Destination) -> Part:
        missing = len(target.pages) - len(target.stamps)
        part = super().make_stamps(number, replace(target, stamps=(*target.stamps, *(0,) * missing)))
        assert self.grants is not None
        self.grants = self.grants[: len(self.grants) - missing]
        return part


_READERS: Final = (
    *(
        NeverLooksAtTheGrant,
        LooksAtTheGrantBefore,
        LooksAtOneHolder,
        LooksAtTheFirstPage,
        LooksAtTheLastPage,
        TakesANewerStamp,
    ),
    *(LooksAgainAfterSuccess, CountsAnswers, FirstErrorEndsTheRoom, RecomputesAtOnce, ReleasesOnAbort),
    *(WaitsForAHolderForEver, TellsTheHolderNothing, TellsTheEndAtThePost, LeavesTheEndToItsReads),
    *(NothingToReadIsNoRoom, ReadsTheFirstPages, NotificationEndsTheRoom, TheIdHasANewOwner, DeadlineBeforeTheBytes),
    *(TakesAStampUnderWay, NamesAnotherRoom),
    *(LooksAtTheBytes, StampsEscape, IgnoresRefusedStamps),
    *(WrapsPagesRound, CountsFromTheEnd, ReadsWhatThereIs, ComparesTheStampsThatThereAre),
)


def acking(system: type[AckingSystem]) -> ReaderAdapter:
    """The inline reader with holders that may give a room up, and with what is wrong there."""
    both = types.new_class(f"{system.__name__}Reading", (system, ReaderSystem))
    return ReaderAdapter(system_class=both)


def turned_round(sender: type[InlineSender]) -> type[InlineReader]:
    """The inline reader with what is wrong with a mutant of the inline sender."""
    return types.new_class(
        f"{sender.__name__}Reading",
        (sender, InlineReader),
        exec_body=lambda space: space.update(__doc__=sender.__doc__),
    )


ADAPTERS: Final = (
    *((ReaderAdapter(reader), reader) for reader in _READERS),
    (ReaderAdapter(system_class=ListsOutliveTheirHolder), ListsOutliveTheirHolder),
    *((acking(broken), broken) for broken in BROKEN_ACKING),
)
