"""One room at a holder: what its readers were granted, what they have said, and how it ends.

Its request and its hold end apart. The request ends when all readers have said how it went for them, when the lease is
over, or when its caller gives it up, and poll() says so. The hold ends by proof alone, reader by reader: the end notice
that a reader sends when its READs are DONE, its word that it is quiesced, or a fence (KS-9.1, 9.2). A reader that was
granted nothing has nothing to prove.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn, TypeAlias

from kvsender_nixl.exchange import Grant
from kvsender_nixl.notifications import FailureNotification, QuiescedNotification, SuccessNotification
from kvsender_nixl.side import NEVER
from kvsender_nixl.status import AbortRequest, LeaseLost
from kvsender_spec.contract import (
    Attribution,
    KVPoll,
    KVTransferError,
    KVUsageError,
    TransferAborted,
    TransferTimeout,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    import numpy as np
    from numpy.typing import NDArray

    from kvsender_nixl.holds import Holds
    from kvsender_spec.contract import Clock

logger = logging.getLogger(__name__)

EndNotice: TypeAlias = SuccessNotification | FailureNotification | QuiescedNotification
"""What a reader says at the end of a room."""


class ReaderFailed(Exception):
    """A reader has told that it failed to read the room, or is known to be gone; the message is the reason."""


@dataclass(frozen=True, slots=True)
class HolderSide:
    """What the rooms of one holder share. ``changing`` holds its lock, and sends what was put into ``tell`` afterwards.

    ``incarnation`` is the process that is registered under a reader's name now, or None; ``arrived`` takes what readers
    have sent.
    """

    agent_name: str
    clock: Clock
    holds: Holds
    changing: Callable[[], AbstractContextManager[None]]
    arrived: Callable[[], int]
    incarnation: Callable[[str], str | None]
    tell: Callable[[str, AbortRequest], None]
    forget: Callable[[HeldRoom], None]
    quiet: Callable[[HeldRoom], None]


@dataclass(slots=True, eq=False)
class AnnouncedReader:
    """One reader of a room. ``incarnation`` is the process that was granted it, None before."""

    name: str
    incarnation: str | None = None
    succeeded: bool | None = None
    """How the room went for it; None while it has said nothing."""
    finished: bool = False
    """It has shown that it reads no more."""

    @property
    def exposed(self) -> bool:
        return self.incarnation is not None and not self.finished


@dataclass(frozen=True, slots=True, eq=False)
class RoomPlan:
    """What a room is to be: pages (int32) with their stamps (uint64), and who reads which regions of them."""

    room: int
    token: str
    pages: NDArray[np.int32]
    stamps: NDArray[np.uint64]
    readers: tuple[str, ...]
    regions: tuple[int, ...]
    required_dst_info_num: int
    lease_s: float


class HeldRoom:
    """One incarnation of a room. Made by ``Holder.hold``; its pages are held already. All calls are thread-safe.

    ``poll()``: Bootstrapping before the first grant, WaitingForInput until a reader has been heard, then Transferring;
    Success when every reader has told it; Failed when all have ended and one of them failed, when the lease is over
    (DEADLINE), or after abort(). The first terminal value is the last one, and the first cause stays.
    """

    def __init__(self, side: HolderSide, plan: RoomPlan) -> None:
        self._side: Final = side
        self._plan: Final = plan
        self._readers: Final = {name: AnnouncedReader(name) for name in plan.readers}
        self._lease_end = side.clock() + plan.lease_s
        self._answer: KVPoll | None = None
        self._heard = False
        self._drained = False  # every reader has shown that it is finished
        self._cause: Exception | None = None
        self._attribution = Attribution.INTERNAL

    @property
    def room(self) -> int:
        return self._plan.room

    @property
    def token(self) -> str:
        """Which incarnation of the room it is."""
        return self._plan.token

    @property
    def readers(self) -> tuple[str, ...]:
        """The agents of all its readers, granted or not."""
        return self._plan.readers

    @property
    def lease_end(self) -> float:
        """When the lease is over, in seconds of the holder's clock; infinite when the room has ended."""
        return NEVER if self._answer is not None else self._lease_end

    @property
    def over(self) -> bool:
        """poll() has answered its terminal value."""
        return self._answer is not None

    @property
    def drained(self) -> bool:
        """Nothing can read the pages for this room any more."""
        return self._drained

    # --------------------------------------------------------------------------------------- what the caller calls

    def grant(self, reader: str) -> Grant | None:
        """What this reader must be told: pages, stamps and the duration of the lease, which begins anew with it.

        From now on the reader counts as exposed, whether the grant is sent and arrives or not. None where nothing may
        be told any more: the room, or this reader's part in it, has ended, or its process is another one than before.
        Raises KVUsageError for a reader that the room was not announced for.
        """
        with self._side.changing():
            one = self._reader(reader)
            now = self._side.clock()
            incarnation = self._side.incarnation(reader)
            if self._answer is not None or now >= self._lease_end or one.succeeded is not None or incarnation is None:
                return None
            if one.incarnation not in (None, incarnation):
                logger.warning("reader %r of room %d has started over: it is granted nothing", reader, self.room)
                return None
            one.incarnation = incarnation
            self._lease_end = max(self._lease_end, now + self._plan.lease_s)
            plan = self._plan
            return Grant(
                room=plan.room,
                token=plan.token,
                agent_name=self._side.agent_name,
                dst_kv_indices=plan.pages,
                required_dst_info_num=plan.required_dst_info_num,
                stamps=plan.stamps,
                regions=plan.regions,
                lease_s=plan.lease_s,
            )

    def poll(self) -> KVPoll:
        """How the room stands. Touches the transport only where the lease seems to be over: an end notice that has
        arrived comes first."""
        if self._side.clock() >= self.lease_end:
            self._side.arrived()
            self.expire()
        if self._answer is not None:
            return self._answer
        if self._heard:
            return KVPoll.Transferring
        granted = any(one.incarnation is not None for one in self._readers.values())
        return KVPoll.WaitingForInput if granted else KVPoll.Bootstrapping

    def failure_exception(self) -> NoReturn:
        """Raise KVTransferError from the first cause, always the same; KVUsageError when the room has not failed."""
        cause = self._cause
        if cause is None or self._answer is not KVPoll.Failed:
            raise KVUsageError(f"room {self.room} has not failed")
        raise KVTransferError(self.room, f"{type(cause).__name__}: {cause}", self._attribution) from cause

    def abort(self) -> None:
        """Give the room up. Each reader that may be reading is told so, once; its pages stay held until it has
        answered."""
        with self._side.changing():
            self._give_up(TransferAborted("aborted by its caller"), Attribution.CALLER, AbortRequest)

    def clear(self) -> None:
        """Forget the room. A live room is aborted by it. The quarantine stays, and is followed to its end."""
        with self._side.changing():
            self._give_up(TransferAborted("cleared by its caller"), Attribution.CALLER, AbortRequest)
            self._side.forget(self)

    def quarantined_pages(self) -> frozenset[int]:
        """The pages of this room that must not be refilled although it has ended."""
        with self._side.changing():
            doubted = self._answer is not None and not self._drained
            return self._side.holds.in_quarantine(self._plan.pages) if doubted else frozenset()

    # --------------------------------------------------------------------------------------- what the holder calls

    def expire(self) -> None:
        """End the request where its lease is over, and tell each reader that may still rely on it."""
        with self._side.changing():
            if self._side.clock() >= self.lease_end:
                silent = sorted(one.name for one in self._readers.values() if one.succeeded is None)
                late = f"no end from {silent} within the lease of {self._plan.lease_s} s"
                self._give_up(TransferTimeout(late), Attribution.DEADLINE, LeaseLost)

    def renew(self, reader: str, room: int) -> bool:
        """A reader still wants the room: its lease goes on, and never ends earlier by that. False: it has none. The
        caller holds the lock."""
        one, now = self._readers.get(reader), self._side.clock()
        if room != self.room or one is None or not one.exposed or one.succeeded is not None or now >= self.lease_end:
            return False
        if self._answer is not None:
            return False
        self._heard = True
        self._lease_end = max(self._lease_end, now + self._plan.lease_s)
        return True

    def take(self, reader: str, notice: EndNotice) -> bool:
        """A reader says that it has ended. False where that is another room's word, a stranger's, or late. The caller
        holds the lock."""
        one = self._readers.get(reader)
        if one is None or notice.room != self.room or one.finished:
            return False
        self._heard = True
        match notice:
            case SuccessNotification():
                self._ended(one, None)
            case FailureNotification(quiesced=False) if one.succeeded is not None:
                return False
            case FailureNotification(quiesced=quiesced, reason=reason):
                self._ended(one, ReaderFailed(f"{reader!r}: {reason}"), finished=quiesced)
            case QuiescedNotification():
                self._ended(one, ReaderFailed(f"{reader!r} has let go of it"))
        return True

    def fence(self, reader: str, incarnation: str, evidence: str) -> bool:
        """Nothing of this process can read any more. False where the room was not granted to it, or it is finished. The
        caller holds the lock."""
        one = self._readers.get(reader)
        if one is None or one.finished or one.incarnation != incarnation:
            return False
        self._ended(one, ReaderFailed(f"{reader!r} is fenced: {evidence}"))
        return True

    # ------------------------------------------------------------------------------------------------------- ends

    def _reader(self, name: str) -> AnnouncedReader:
        one = self._readers.get(name)
        if one is None:
            raise KVUsageError(f"room {self.room} is held for {list(self._plan.readers)}, not for {name!r}")
        return one

    def _ended(self, one: AnnouncedReader, failure: Exception | None, *, finished: bool = True) -> None:
        if one.succeeded is None:
            one.succeeded = failure is None
            if failure is not None and self._cause is None and self._answer is None:
                self._cause, self._attribution = failure, Attribution.PEER
        one.finished = finished
        if self._answer is None and all(each.succeeded is not None for each in self._readers.values()):
            self._end(KVPoll.Success if self._cause is None else KVPoll.Failed)
        self._settle()

    def _give_up(self, cause: Exception, attribution: Attribution, word: type[AbortRequest]) -> None:
        if self._answer is not None:
            return
        if self._cause is None:
            self._cause, self._attribution = cause, attribution
        for one in self._readers.values():
            if one.exposed:
                self._side.tell(one.name, word(self.room, self.token, self._side.agent_name))
        self._end(KVPoll.Failed)
        self._settle()

    def _end(self, answer: KVPoll) -> None:
        """The request is over. The hold is, too, or else it is a quarantine from now on."""
        self._answer = answer
        if any(one.exposed for one in self._readers.values()):
            self._side.holds.quarantine(self._plan.pages)
        else:
            self._side.holds.free(self._plan.pages, quarantined=False)
            self._drained = True
            self._side.quiet(self)

    def _settle(self) -> None:
        if self._answer is None or self._drained or any(one.exposed for one in self._readers.values()):
            return
        self._drained = True
        self._side.holds.free(self._plan.pages, quarantined=True)
        self._side.quiet(self)
