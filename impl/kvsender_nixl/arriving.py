"""One room on the decode side: what its initiators have told of it, and what of its pages is proven to be quiet."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NoReturn, SupportsIndex

from kvsender_nixl.chunks import Announcement
from kvsender_nixl.deadlines import LastChance
from kvsender_nixl.early import MOST_EARLY
from kvsender_nixl.exchange import TransferInfo
from kvsender_nixl.notifications import (
    AuxNotification,
    ChunkNotification,
    FailureNotification,
    Notification,
    QuiescedNotification,
    StateNotification,
    SuccessNotification,
)
from kvsender_nixl.side import NEVER
from kvsender_nixl.status import AbortRequest, StatusRequest
from kvsender_spec.contract import (
    Attribution,
    Clock,
    KVPoll,
    KVTransferError,
    KVUsageError,
    TransferAborted,
    TransferTimeout,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kvsender_nixl.buffers import Layout


class PrefillFailed(Exception):
    """The prefill side has told that the room failed; the message is its reason."""


class PrefillGone(Exception):
    """The prefill side has ended, or started over, or cannot be reached, or does not know the room; the message says
    which."""


@dataclass(frozen=True, slots=True)
class Landing:
    """Pages (int32) and an aux slot of a failed room, at which late writes of ``sender_name`` may still land.

    ``incarnation`` is the process of that name to which they were announced; empty where that is not known.
    """

    sender_name: str
    pages: NDArray[np.int32]
    aux_slot: int | None
    incarnation: str = ""
    room: int = 0
    token: str = ""


@dataclass(slots=True)
class _Told:
    """What one initiator of the room has told."""

    incarnation: str = ""
    """The process to which the pages were announced; empty where that is not known."""
    chunks: set[int] = field(default_factory=set)
    aux_arrived: bool = False
    success: SuccessNotification | None = None
    unknown_at: float = NEVER
    """When it first said that it does not know the room."""

    @property
    def anything(self) -> bool:
        return bool(self.chunks) or self.aux_arrived or self.success is not None

    @property
    def complete(self) -> bool:
        """The order in which its words arrive changes nothing (KS-3.6)."""
        done = self.success
        return done is not None and len(self.chunks) >= done.num_chunks and self.aux_arrived >= done.has_aux


@dataclass(frozen=True, slots=True)
class DecodeSide:
    """What the receivers of one decode side share."""

    agent_name: str
    incarnation: str
    kv: Layout
    aux: Layout | None
    clock: Clock
    timeout_s: float
    ask_every_s: float
    incarnation_of: Callable[[str], str]
    """Which process of an initiator's name is in force; empty where that is not known."""
    announced: Callable[[KVReceiver, TransferInfo], None]
    arrived: Callable[[KVReceiver, TransferInfo], None]
    taken: Callable[[], float]
    """Take what has arrived, and say when somebody was back last who had not drained for a while."""
    failed: Callable[[KVReceiver, TransferInfo, tuple[Landing, ...], tuple[str, ...]], None]
    """Hold what may still be written to, and tell those initiators that the room is given up."""
    forget: Callable[[KVReceiver], None]
    pages_of: Callable[[KVReceiver], frozenset[int]]


class KVReceiver:
    """One room on the decode side. Made by ``Decode.receiver``.

    ``poll()``: Bootstrapping before init(), WaitingForInput until the first notification, then Transferring; Success
    when each prefill side of the room has told it and every notification that belongs to the room is there; Failed when
    one of them has told that, is known to be gone, or the deadline has passed. The first terminal value is the last.
    """

    def __init__(self, side: DecodeSide, room: int, sender_names: Sequence[str], token: str) -> None:
        self._side: Final = side
        self._lock: Final = threading.Lock()
        self.room: Final = room
        self.sender_names: Final = tuple(sender_names)
        self.token: Final = token
        self._info: TransferInfo | None = None
        self._deadline = NEVER
        self._chance: LastChance | None = None
        self._answer: KVPoll | None = None
        self._told: Final = {name: _Told() for name in sender_names}
        self._early: list[tuple[str, Notification]] = []
        self._cause: Exception | None = None
        self._attribution = Attribution.INTERNAL
        self.heard_at = NEVER
        """When something of the room was last heard, or its pages were announced."""

    @property
    def sender_name(self) -> str:
        """The first of its prefill sides, and mostly the only one."""
        return self.sender_names[0]

    @property
    def _failed(self) -> bool:
        return self._cause is not None

    @property
    def waiting(self) -> bool:
        """Its pages are announced, and it has not ended."""
        return self._info is not None and self._answer is None

    def init(
        self,
        kv_indices: NDArray[np.int32] | NDArray[np.int64],
        aux_index: SupportsIndex | None = None,
        *,
        is_dummy: bool = False,
        required_dst_info_num: int = 1,
        num_cached: int = 0,
    ) -> TransferInfo:
        """Say where the room goes, and return what the prefill side must be told. From now on the pages are held.

        ``kv_indices``: int32 or int64 page ids of shape ``(num_kv_indices - num_cached,)``, in the order of the prefill
        side's; the first ``num_cached`` pages of the room are here already. Raises KVUsageError for pages or a slot
        that do not exist (KS-8.1), and for a room that was initialised or has ended before.
        """
        side = self._side
        announced = Announcement(len(kv_indices), aux_index, side.kv, side.aux)
        pages = announced.accept(kv_indices)
        with self._lock:
            if self._info is not None:
                raise KVUsageError(f"room {self.room} was initialised before")
            if self._answer is not None:
                raise KVUsageError(f"room {self.room} has ended before: nothing is announced for it")
            info = TransferInfo(
                self.room,
                self.token,
                side.agent_name,
                pages,
                announced.aux_index,
                is_dummy,
                required_dst_info_num,
                num_cached,
                side.incarnation,
            )
            if is_dummy:
                self._info, self._answer = info, KVPoll.Success  # nothing comes, not even a notification
                return info
            for name, told in self._told.items():
                told.incarnation = side.incarnation_of(name)
            self.heard_at = side.clock()
            self._deadline = self.heard_at + side.timeout_s
            side.announced(self, info)
            self._info = info
            early, self._early = self._early, []
            for name, notification in early:
                self._take(name, notification)
            return info

    def poll(self) -> KVPoll:
        """How the room stands. Does not touch the transport, ``Decode.drain`` does; but for a poll that would find the
        deadline passed, which drains first: what has arrived beats the deadline (KS-3.5)."""
        side = self._side
        if self._answer is None and side.clock() >= self._deadline:
            back_at, now = side.taken(), side.clock()
            with self._lock:
                if self._chance is None and self._deadline <= back_at:
                    self._chance = LastChance(back_at)
                if self._chance is None or self._chance.over(now):
                    late = TransferTimeout(f"not complete {side.timeout_s} s after init()")
                    self._fail(late, Attribution.DEADLINE)
        answer = self._answer
        if answer is not None:
            return answer
        if self._info is None:
            return KVPoll.Bootstrapping
        heard = any(told.chunks or told.aux_arrived for told in self._told.values())
        return KVPoll.Transferring if heard else KVPoll.WaitingForInput

    def failure_exception(self) -> NoReturn:
        """Raise KVTransferError from the first cause, always the same; KVUsageError when the room has not failed."""
        cause = self._cause
        if cause is None:
            raise KVUsageError(f"room {self.room} has not failed")
        raise KVTransferError(self.room, f"{type(cause).__name__}: {cause}", self._attribution) from cause

    def abort(self) -> None:
        """Give the room up. Its writes may go on landing, hence the quarantine, until the prefill side says that it has
        drained. It is told where there is a connection to it; elsewhere send it ``abort_request()``."""
        with self._lock:
            self._fail(TransferAborted("aborted by its caller"), Attribution.CALLER)

    def abort_request(self) -> AbortRequest:
        """What tells the prefill side that the room is given up."""
        return AbortRequest(self.room, self.token, self._side.agent_name, self._side.incarnation)

    def status_request(self) -> StatusRequest:
        """What asks the prefill side how the room stands."""
        return StatusRequest(self.room, self.token, self._side.agent_name, self._side.incarnation)

    def clear(self) -> None:
        """Forget the room: later notifications of it are strays. A live room is aborted by it. The quarantine stays."""
        with self._lock:
            self._fail(TransferAborted("cleared by its caller"), Attribution.CALLER)
        self._side.forget(self)

    def quarantined_pages(self) -> frozenset[int]:
        """The pages of this room that must not be reused, because late writes may land in them."""
        return self._side.pages_of(self)

    # ------------------------------------------------------------------------------------------ what Decode calls

    def take(self, agent_name: str, notification: Notification) -> bool:
        """False where the notification is not of this room's, or came too late to mean anything."""
        with self._lock:
            if (agent_name not in self._told) or notification.room != self.room or self._answer is not None:
                return False
            if self._info is None:
                if len(self._early) < MOST_EARLY:
                    self._early.append((agent_name, notification))
                return True
            return self._take(agent_name, notification)

    def _take(self, name: str, notification: Notification) -> bool:
        if self._answer is not None:
            return False
        told = self._told[name]
        self.heard_at = self._side.clock()
        match notification:
            case ChunkNotification(chunk=chunk):
                told.chunks.add(chunk)
            case AuxNotification():
                told.aux_arrived = True
            case SuccessNotification():
                told.success = told.success or notification
            case QuiescedNotification():
                return False  # of a room that goes on
            case StateNotification():
                self._state(name, told, notification)
            case FailureNotification(quiesced=quiesced, reason=reason):
                self._fail(PrefillFailed(reason), Attribution.PEER, ended=name, quiesced=quiesced)
                return True
        info = self._info
        if info is not None and not self._failed and all(each.complete for each in self._told.values()):
            self._side.arrived(self, info)
            self._answer = KVPoll.Success
        return True

    def _state(self, name: str, told: _Told, said: StateNotification) -> None:
        """The answer of an initiator that has nothing to repeat. One that does not know the room may not have been told
        of it yet, the first time; and another process than the one to which the pages were announced says nothing about
        that one's writes."""
        if told.incarnation and said.incarnation != told.incarnation:
            self._fail(PrefillGone(f"{name!r} has started over"), Attribution.PEER)
        elif not said.goes_on:
            now = self._side.clock()
            told.unknown_at = min(told.unknown_at, now)
            if told.anything or now >= told.unknown_at + self._side.ask_every_s:
                self._fail(PrefillGone(f"{name!r} does not know the room"), Attribution.PEER)

    def announced_to(self) -> frozenset[tuple[str, str]]:
        """The prefill sides of the room from which something is still to come, each with its incarnation."""
        return frozenset((name, told.incarnation) for name, told in self._told.items() if not told.complete)

    def lost(self, name: str, why: str, incarnation: str | None = None) -> None:
        """A prefill side of the room is gone, or cannot be reached any more: one incarnation of it, or any."""
        with self._lock:
            told = self._told.get(name)
            if told is not None and self.waiting and not told.complete and incarnation in (None, told.incarnation):
                self._fail(PrefillGone(why), Attribution.PEER)

    def _fail(self, cause: Exception, attribution: Attribution, *, ended: str = "", quiesced: bool = False) -> None:
        """Only what each initiator has proven is not held: all of its bytes are in place, or it says that none come."""
        if self._answer is not None or self._failed:
            return
        self._cause, self._attribution = cause, attribution
        # A success is told after the last byte, whether the notifications of its chunks have arrived or not.
        info, open_ = self._info, [name for name, told in self._told.items() if told.success is None]
        if info is not None:
            unproven = [name for name in open_ if not (quiesced and name == ended)]
            pages, slot = info.dst_kv_indices, info.dst_aux_index
            landings = tuple(
                Landing(name, pages, slot, self._told[name].incarnation, self.room, self.token) for name in unproven
            )
            self._side.failed(self, info, landings, tuple(name for name in unproven if name != ended))
        self._answer = KVPoll.Failed
