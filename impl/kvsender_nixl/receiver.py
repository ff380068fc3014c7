"""The decode side: its memory, and one receiver per room, which counts the prefill side's notifications.

A decode process has one ``Decode`` and calls ``drain()`` in its loop, beside the receivers' polls. Without a progress
thread this is also what lets bytes in on some transports, and lets its own notifications out. All methods may be called
from any thread.

The receiver's own caution mirrors the sender's: a failed room proves nothing about bytes that are still on their way,
so its pages stay in quarantine until the sender is known to be cut off (``Decode.fence``).
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, NoReturn, SupportsIndex

import numpy as np

from kvsender_nixl.agent import TRANSPORT_ERRORS
from kvsender_nixl.chunks import Announcement
from kvsender_nixl.exchange import AbortRequest, PeerMetadata, TransferInfo, take_arrived
from kvsender_nixl.notifications import (
    AuxNotification,
    ChunkNotification,
    FailureNotification,
    Notification,
    QuiescedNotification,
    SuccessNotification,
    parse_notification,
)
from kvsender_nixl.side import NEVER
from kvsender_spec.contract import (
    Attribution,
    Clock,
    DlistT,
    HandleT,
    KVPoll,
    KVTransferError,
    KVUsageError,
    TransferAborted,
    TransferTimeout,
    Transport,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kvsender_nixl.buffers import Buffers, Layout

logger = logging.getLogger(__name__)


def random_token() -> str:
    return uuid.uuid4().hex


class PrefillFailed(Exception):
    """The prefill side has told that the room failed; the message is its reason."""


@dataclass(slots=True)
class NotificationCounts:
    """What ``drain`` has taken so far. Stray notifications belong to no room that is waiting for one."""

    notifications: int = 0
    malformed: int = 0
    stray: int = 0


@dataclass(frozen=True, slots=True)
class Landing:
    """Pages (int32) and an aux slot of a failed room, at which late writes of ``sender_name`` may still land."""

    sender_name: str
    pages: NDArray[np.int32]
    aux_slot: int | None


class KVReceiver:
    """One room on the decode side. Made by ``Decode.receiver``.

    ``poll()``: Bootstrapping before init(), WaitingForInput until the first notification, then Transferring; Success
    when the prefill side has told it and every notification that belongs to the room is there; Failed when the prefill
    side has told that, or the deadline has passed. The first terminal value is the last one.
    """

    def __init__(self, side: DecodeSide, room: int, sender_name: str, token: str) -> None:
        self._side: Final = side
        self._lock: Final = threading.Lock()
        self.room: Final = room
        self.sender_name: Final = sender_name
        self.token: Final = token
        self._info: TransferInfo | None = None
        self._deadline = NEVER
        self._answer: KVPoll | None = None
        self._chunks: set[int] = set()
        self._aux_arrived = False
        self._success: SuccessNotification | None = None
        self._cause: Exception | None = None
        self._attribution = Attribution.INTERNAL

    def init(
        self,
        kv_indices: NDArray[np.int32] | NDArray[np.int64],
        aux_index: SupportsIndex | None = None,
        *,
        is_dummy: bool = False,
        required_dst_info_num: int = 1,
        num_cached: int = 0,
    ) -> TransferInfo:
        """Say where the room goes, and return what the prefill side must be told.

        ``kv_indices``: int32 or int64 page ids of shape ``(num_kv_indices - num_cached,)``, in the order of the prefill
        side's; the first ``num_cached`` pages of the room are here already. Raises KVUsageError for pages or a slot
        that do not exist (KS-8.1).
        """
        side = self._side
        if self._info is not None:
            raise KVUsageError(f"room {self.room} was initialised before")
        announced = Announcement(len(kv_indices), aux_index, side.kv, side.aux)
        pages = announced.accept(kv_indices)
        with self._lock:
            self._info = TransferInfo(
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
                self._answer = KVPoll.Success  # nothing comes, not even a notification
            else:
                self._deadline = side.clock() + side.timeout_s
            return self._info

    def poll(self) -> KVPoll:
        """How the room stands. Does not touch the transport: ``Decode.drain`` does."""
        with self._lock:
            if self._answer is None and self._side.clock() >= self._deadline:
                self._fail(
                    TransferTimeout(f"not complete {self._side.timeout_s} s after init()"), Attribution.DEADLINE, False
                )
            if self._answer is not None:
                return self._answer
            if self._info is None:
                return KVPoll.Bootstrapping
            return KVPoll.Transferring if self._chunks or self._aux_arrived else KVPoll.WaitingForInput

    def failure_exception(self) -> NoReturn:
        """Raise KVTransferError from the first cause, always the same; KVUsageError when the room has not failed."""
        cause = self._cause
        if cause is None:
            raise KVUsageError(f"room {self.room} has not failed")
        raise KVTransferError(self.room, f"{type(cause).__name__}: {cause}", self._attribution) from cause

    def abort(self) -> None:
        """Give the room up. Its writes may go on landing, hence the quarantine, until the prefill side says that it has
        drained: send it ``abort_request()``."""
        with self._lock:
            self._fail(TransferAborted("aborted by its caller"), Attribution.CALLER, False)

    def abort_request(self) -> AbortRequest:
        """What tells the prefill side that the room is given up."""
        return AbortRequest(self.room, self.token, self._side.agent_name, self._side.incarnation)

    def clear(self) -> None:
        """Forget the room: later notifications of it are strays. A live room is aborted by it. The quarantine stays."""
        with self._lock:
            self._fail(TransferAborted("cleared by its caller"), Attribution.CALLER, False)
        self._side.forget(self)

    def quarantined_pages(self) -> frozenset[int]:
        """The pages of this room that must not be reused, because late writes may land in them."""
        return frozenset(page for landing in self._side.landings_of(self) for page in landing.pages.tolist())

    def take(self, notification: Notification) -> bool:
        """``Decode.drain`` calls this. False where the notification came too late to mean anything."""
        with self._lock:
            if self._answer is not None or self._info is None:
                return False
            match notification:
                case ChunkNotification(chunk=chunk):
                    self._chunks.add(chunk)
                case AuxNotification():
                    self._aux_arrived = True
                case SuccessNotification():
                    self._success = notification
                case QuiescedNotification():
                    return False  # of a room that goes on
                case FailureNotification(quiesced=quiesced, reason=reason):
                    self._fail(PrefillFailed(reason), Attribution.PEER, quiesced)
                    return True
            done = self._success
            # The order in which they arrive changes nothing (KS-3.6).
            if done is not None and len(self._chunks) >= done.num_chunks and self._aux_arrived >= done.has_aux:
                self._answer = KVPoll.Success
            return True

    def _fail(self, cause: Exception, attribution: Attribution, quiesced: bool) -> None:
        if self._answer is not None:
            return
        self._cause, self._attribution, self._answer = cause, attribution, KVPoll.Failed
        if self._info is not None and not quiesced:
            self._side.hold(self, Landing(self.sender_name, self._info.dst_kv_indices, self._info.dst_aux_index))


@dataclass(frozen=True, slots=True)
class DecodeSide:
    """What the receivers of one decode side share."""

    agent_name: str
    incarnation: str
    kv: Layout
    aux: Layout | None
    clock: Clock
    timeout_s: float
    hold: Callable[[KVReceiver, Landing], None]
    forget: Callable[[KVReceiver], None]
    landings_of: Callable[[KVReceiver], tuple[Landing, ...]]


class Decode(Generic[DlistT, HandleT]):
    """Registers the pool and the aux buffers with the agent, and makes a receiver for each room.

    ``pool`` and ``aux`` are kept alive by it. ``timeout_s`` is how long a room may take after its init(). Raises what
    the transport raises when the memory cannot be registered.
    """

    def __init__(
        self,
        agent: Transport[DlistT, HandleT],
        pool: Buffers,
        aux: Buffers | None = None,
        *,
        timeout_s: float = 300.0,
        clock: Clock = time.monotonic,
        transport_errors: tuple[type[Exception], ...] = TRANSPORT_ERRORS,
    ) -> None:
        self._agent: Final = agent
        self._memory: Final = (pool, aux)
        self._errors: Final = transport_errors
        self._lock: Final = threading.Lock()
        self._receivers: dict[str, KVReceiver] = {}
        self._landings: dict[str, Landing] = {}
        self.drained: Final = NotificationCounts()
        aux_layout = None if aux is None else aux.layout
        for layout in (pool.layout, aux_layout):
            if layout is not None:
                agent.register_memory(layout.registrations(), layout.mem_type)
        self._side: Final = DecodeSide(
            agent_name=agent.name,
            incarnation=random_token(),
            kv=pool.layout,
            aux=aux_layout,
            clock=clock,
            timeout_s=timeout_s,
            hold=self._hold,
            forget=self._forget,
            landings_of=self._landings_of,
        )

    def metadata(self) -> PeerMetadata:
        """What the prefill side needs in order to reach this side; the same until something else is registered."""
        side = self._side
        return PeerMetadata(side.agent_name, self._agent.get_agent_metadata(), side.kv, side.aux, side.incarnation)

    def receiver(self, room: int, sender_name: str, *, token: str | None = None) -> KVReceiver:
        """A receiver for one incarnation of a room, whose notifications come from the agent ``sender_name`` alone.

        ``token`` names the incarnation; left out, it is random. Raises KVUsageError for one that is in use.
        """
        token = random_token() if token is None else token
        with self._lock:
            if token in self._receivers or token in self._landings:
                raise KVUsageError(f"token {token!r} is in use")
            self._receivers[token] = KVReceiver(self._side, room, sender_name, token)
            return self._receivers[token]

    def drain(self) -> int:
        """Take the notifications that have arrived, and return how many. Never raises.

        What is malformed, late, of an unknown room or of another sender is counted in ``drained`` and dropped.
        """
        arrived = take_arrived(self._agent, self._errors)
        for agent_name, message in arrived:
            self._take(agent_name, message)
        self.drained.notifications += len(arrived)
        return len(arrived)

    def _take(self, agent_name: str, message: bytes) -> None:
        try:
            notification = parse_notification(message)
        except ValueError as error:
            self.drained.malformed += 1
            logger.warning("malformed notification of agent %r: %s", agent_name, error)
            return
        if self._drained(agent_name, notification):
            return
        receiver = self._receivers.get(notification.token)
        ours = receiver is not None and (receiver.sender_name, receiver.room) == (agent_name, notification.room)
        if not (ours and receiver is not None and receiver.take(notification)):
            self.drained.stray += 1

    def _drained(self, agent_name: str, notification: Notification) -> bool:
        """The prefill side says that nothing of a failed room can land here any more (KS-6.4): free what was held."""
        quiesced = isinstance(notification, FailureNotification) and notification.quiesced
        if not quiesced and not isinstance(notification, QuiescedNotification):
            return False
        with self._lock:
            landing = self._landings.get(notification.token)
            if landing is None or landing.sender_name != agent_name:
                return False
            del self._landings[notification.token]
            return True

    def quarantined_pages(self) -> frozenset[int]:
        """The pages of failed rooms at which late writes may land; they outlive their receivers."""
        with self._lock:
            return frozenset(page for landing in self._landings.values() for page in landing.pages.tolist())

    def quarantined_aux_slots(self) -> frozenset[int]:
        with self._lock:
            slots = (landing.aux_slot for landing in self._landings.values())
            return frozenset(slot for slot in slots if slot is not None)

    def fence(self, sender_name: str) -> None:
        """Nothing that this sender has on its way can land any more: free what was held because of it.

        Only the caller can know: its process is gone and our sockets are drained, or the connection was cut off.
        """
        with self._lock:
            self._landings = {t: landing for t, landing in self._landings.items() if landing.sender_name != sender_name}

    def residue(self) -> int:
        """How many rooms are not cleared."""
        return len(self._receivers)

    def _hold(self, receiver: KVReceiver, landing: Landing) -> None:
        with self._lock:
            self._landings[receiver.token] = landing

    def _forget(self, receiver: KVReceiver) -> None:
        with self._lock:
            self._receivers.pop(receiver.token, None)

    def _landings_of(self, receiver: KVReceiver) -> tuple[Landing, ...]:
        with self._lock:
            landing = self._landings.get(receiver.token)
            return () if landing is None else (landing,)
