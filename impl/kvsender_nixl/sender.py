"""One room's sender: SGLang's ``BaseKVSender``, on NIXL.

The logical machine of the spec (``kvsender_spec.machine``) is ``KVSender._state``, and each place that moves it names
the event. The rules that shape the rest:

* One lock per sender, held for the whole of each call, so that send, poll and abort may come from different threads
  (KS-7.2). While a post copies for long, a poll of the same room waits; other rooms do not.
* poll() asks about one transfer that is still running, the one at the head of a queue, and moves it to the end: every
  transfer is asked in turn, and a poll costs the same for one chunk as for a hundred.
* Whatever is made is written down before it is posted, so that no exception, not even a KeyboardInterrupt, lets a
  handle be dropped in flight.
* What the transport refuses is an answer (``TransportFault``), not an exception. An exception that reaches ``poll`` or
  ``send`` is therefore a mistake of this project, and is reported as one (KS-1.3).
"""

from __future__ import annotations

import logging
import operator
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, NoReturn, SupportsIndex

import numpy as np

from kvsender_nixl.buffers import Layout
from kvsender_nixl.exchange import AuxNotice, ChunkNotice, FailureNotice, Notice, SuccessNotice, TransferInfo
from kvsender_nixl.peers import Connection, Peers, PeerState
from kvsender_nixl.rooms import Room, Rooms
from kvsender_nixl.transfers import DONE, PROC, Answer, Quarantine, Transfer, TransportFault, Unsettled
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
from kvsender_spec.machine import HandleState, Profile, State

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

DISCONNECT: Final = "nixlRemoteDisconnectError"
NOT_FOUND: Final = "nixlNotFoundError"
INDEX_DTYPES: Final = (np.dtype(np.int32), np.dtype(np.int64))
MAX_CAUSES: Final = 16

# Module constants: an attribute of an Enum class costs more than the comparison that it is for.
_IDLE, _SENDING, _DONE, _FAILED, _STICKY_FAILED = State
_TRANSFERRING = KVPoll.Transferring


@dataclass(frozen=True, slots=True)
class SenderOptions:
    """How senders behave; the times are seconds on the prefill side's clock. Raises KVUsageError."""

    profile: Profile = Profile.FULL
    """LATCH reports a failure at once; the others report it when the room's transfers have settled."""
    transfer_timeout_s: float = 30.0
    """How long one transfer may be in flight. NIXL has no timeout of its own: a stopped peer is silent for ever."""
    drain_timeout_s: float = 5.0
    """How long a failed room waits for its transfers to settle before it reports and quarantines their pages."""
    bootstrap_timeout_s: float = 300.0
    """How long an initialised room waits for its peers, and a room of which the peers are there for its sender."""
    error_ends_reads: bool = False
    """The lab has shown that on this fabric an error of a transfer ends the reading of its source pages."""

    def __post_init__(self) -> None:
        for name in ("transfer_timeout_s", "drain_timeout_s", "bootstrap_timeout_s"):
            value: float = getattr(self, name)
            if not value >= 0:
                raise KVUsageError(f"{name} is {value}: not a time")


@dataclass(slots=True)
class KVTransferMetric:
    """What a room has cost; of a failed room, what was posted until then."""

    transfer_latency_s: float | None = None
    """From the first post until a poll found everything DONE; None for a room that is not done."""
    transfer_total_bytes: int = 0
    chunks: int = 0
    transfers: int = 0
    notices_lost: int = 0
    """Notices of the end that the transport refused to send. Success stands all the same: the bytes are there."""


@dataclass(frozen=True, slots=True)
class Side(Generic[DlistT, HandleT]):
    """What all senders of one prefill side share."""

    transport: Transport[DlistT, HandleT]
    errors: tuple[type[Exception], ...]
    options: SenderOptions
    clock: Clock
    kv: Layout
    aux: Layout | None
    local_kv: DlistT
    local_aux: DlistT | None
    peers: Peers[DlistT, HandleT]
    rooms: Rooms
    quarantine: Quarantine
    unsettled: Unsettled[HandleT]


@dataclass(frozen=True, slots=True)
class Route(Generic[DlistT]):
    """Where one peer wants the room, and the connection that leads there, the same for all chunks."""

    info: TransferInfo
    connection: Connection[DlistT]


class PeerGone(Exception):
    """A peer of the room has no usable connection, or offers pages that do not fit the room."""


class KVSender(Generic[DlistT, HandleT]):
    """Sends one room's pages to all its peers. Made by ``Prefill.sender``.

    Nothing here raises because of the transport or a peer (KS-1.1): poll() answers Failed then, once and for all, and
    failure_exception() says why. Only mistakes of the owner raise, as KVUsageError, before anything has happened
    (KS-8.1). Source pages are the owner's again when poll() has answered a terminal value, except those in
    ``Prefill.quarantined_pages()``.
    """

    def __init__(self, side: Side[DlistT, HandleT], room: Room) -> None:
        self._side: Final = side
        self._room: Final = room
        self._lock: Final = threading.Lock()
        self._state: State = _IDLE
        self._answer: KVPoll | None = None  # the terminal answer, once it was given

        self._announced: int | None = None
        self._aux_index: int | None = None
        self._bootstrap_deadline = float("inf")
        self._marks: NDArray[np.int32] = np.empty(0, np.int32)  # position in the room of each page id, or -1
        self._cursor = 0  # how many pages were sent
        self._closed = False  # the last chunk is posted

        self._routes: list[Route[DlistT]] | None = None
        self._in_flight: deque[Transfer[HandleT]] = deque()
        self._settled: list[Transfer[HandleT]] = []  # to be released
        self._suspects: list[Transfer[HandleT]] = []  # ended in an error: their pages are in doubt
        self._deadline = float("inf")  # no transfer in flight is overdue before it
        self._drain_deadline = float("inf")

        self._cause: Exception | None = None
        self._reason = ""
        self._attribution = Attribution.INTERNAL
        self._told: set[str] = set()  # the peers that know how the room ended
        self._first_post_at: float | None = None
        self._metric = KVTransferMetric()

    # -------------------------------------------------------------------------------------------- what the owner calls

    @property
    def room(self) -> int:
        return self._room.id

    @property
    def over(self) -> bool:
        return self._answer is not None

    def init(self, num_kv_indices: int, aux_index: int | None = None) -> None:
        """Announce how many pages follow in all, and the aux slot that goes with the last chunk (None: no aux data)."""
        announced, slot = _index("num_kv_indices", num_kv_indices), None
        if not 0 <= announced <= self._side.kv.num_items:
            raise KVUsageError(f"num_kv_indices is {announced}: the pool has {self._side.kv.num_items} pages")
        if aux_index is not None:
            slot = _index("aux_index", aux_index)
            if self._side.aux is None:
                raise KVUsageError(f"aux_index is {slot}, but there are no aux buffers")
            if not 0 <= slot < self._side.aux.num_items:
                raise KVUsageError(f"aux_index is {slot}: there are {self._side.aux.num_items} slots")
        with self._lock:
            if self._announced is not None:
                raise KVUsageError(f"room {self.room} is initialised already, with {self._announced} pages")
            self._announced, self._aux_index = announced, slot
            self._marks = np.full(self._side.kv.num_items, -1, np.int32)
            self._bootstrap_deadline = self._side.clock() + self._side.options.bootstrap_timeout_s

    @staticmethod
    def should_send_kv_chunk(num_pages: int, last_chunk: bool) -> bool:
        """A last chunk is sent even when it has no pages, because it concludes the room (KS-3.2)."""
        return num_pages > 0 or last_chunk

    def send(self, kv_indices: NDArray[np.int32] | NDArray[np.int64]) -> None:
        """Post the next chunk: the page ids that hold it, int32 or int64 of shape ``(num_pages,)``.

        The chunk that reaches the announced number is the last one and takes the aux data along. Returns when the
        transport has accepted the transfers, not when they are complete. After the end of the room it does nothing.
        Raises KVUsageError (KS-8.1).
        """
        with self._lock:
            if self._state not in (_IDLE, _SENDING):
                return
            try:
                self._send(self._checked(kv_indices))
            except KVUsageError:
                raise
            except Exception as error:
                self._internal(error)
            except BaseException as error:
                # Not ours to keep (KS-1.4). But the chunk may be half posted, and cannot be sent again.
                self._fault(TransferAborted(f"send() was interrupted by {type(error).__name__}"), Attribution.OWNER)
                raise

    def poll(self) -> KVPoll:
        """How the room stands. The first Success or Failed is the last answer (KS-2.1)."""
        answer = self._answer
        if answer is not None:
            return answer
        with self._lock:
            try:
                in_flight = self._in_flight
                if in_flight and self._state is _SENDING:
                    # The path of every poll but a few, so it stays short: one question, no allocation.
                    said = in_flight[0].check()
                    if said == PROC and self._side.clock() < self._deadline:
                        in_flight.rotate(-1)
                        return _TRANSFERRING
                    return self._observed(said)
                return self._poll()
            except Exception as error:
                self._internal(error)
                return self._poll_failed()

    def failure_exception(self) -> NoReturn:
        """Raise KVTransferError from the first cause (KS-2.3), the same each time (KS-2.4).

        Raises KVUsageError when the room has not failed, and changes nothing (KS-2.7).
        """
        cause = self._cause
        if cause is None:
            raise KVUsageError(f"room {self.room} has not failed")
        raise KVTransferError(self.room, self._reason, self._attribution) from cause

    def abort(self) -> None:
        """Give the room up. What is in flight still has to settle: go on polling (KS-5.1)."""
        with self._lock:
            self._fault(TransferAborted("aborted by its owner"), Attribution.OWNER)

    def clear(self) -> None:
        """Drop the prefill side's entry of the room; a live room is aborted by it (KS-5.2).

        poll() keeps working. Where nobody calls it any more, ``Prefill.sweep`` brings the room to its end.
        """
        with self._lock:
            self._fault(TransferAborted("cleared by its owner while it was live"), Attribution.OWNER)
            if self._state is _FAILED:
                # The owner may believe that the pages are free now.
                for transfer in (*self._in_flight, *self._suspects):
                    self._side.quarantine.hold(transfer, self._reason)
            self._side.rooms.forget(self._room)

    def get_transfer_metric(self) -> KVTransferMetric:
        """A copy of the room's numbers as they are now."""
        metric = self._metric
        return KVTransferMetric(
            metric.transfer_latency_s,
            metric.transfer_total_bytes,
            metric.chunks,
            metric.transfers,
            metric.notices_lost,
        )

    def joined_late(self, info: TransferInfo) -> None:
        """Called by ``Prefill`` for each peer that registers: when the room has failed already, it is told (KS-6.1)."""
        with self._lock:
            if self._state is _STICKY_FAILED:
                self._tell(info, self._failure_notice(info))

    # ----------------------------------------------------------------------------------------------------------- send

    def _checked(self, kv_indices: NDArray[np.int32] | NDArray[np.int64]) -> NDArray[np.int32]:
        """A copy of the chunk's page ids, or KVUsageError. No loop over pages: this is on the path of every send."""
        announced, cursor = self._announced, self._cursor
        if announced is None:
            raise KVUsageError(f"send() before init() in room {self.room}")
        if not isinstance(kv_indices, np.ndarray) or kv_indices.dtype not in INDEX_DTYPES or kv_indices.ndim != 1:
            raise KVUsageError(f"kv_indices must be a numpy array of int32 or int64, shape (n,): {_shape(kv_indices)}")
        count = len(kv_indices)
        if cursor + count > announced:
            raise KVUsageError(f"{cursor} pages sent and {count} to send, but {announced} announced")
        if not self._room.complete:
            raise KVUsageError(f"send() in room {self.room} before all its peers are known: poll() says so")
        if count == 0:
            return np.empty(0, np.int32)
        # Seen as unsigned, a negative id is a large one: one reduction finds both kinds out of range.
        unsigned = kv_indices.view(np.uint32 if kv_indices.dtype == np.int32 else np.uint64)
        if unsigned.max() >= self._side.kv.num_items:
            bad = kv_indices[unsigned >= self._side.kv.num_items][0]
            raise KVUsageError(f"page {bad} is not in the pool of {self._side.kv.num_items} pages")
        pages = kv_indices.astype(np.int32)
        marks = self._marks
        if marks[pages].max() >= 0:
            raise KVUsageError(f"page {pages[marks[pages] >= 0][0]} was sent in an earlier chunk of room {self.room}")
        positions = np.arange(cursor, cursor + count, dtype=np.int32)
        marks[pages] = positions
        if (twice := marks[pages] != positions).any():
            marks[pages] = -1
            raise KVUsageError(f"page {pages[twice][0]} is twice in the chunk")
        return pages

    def _send(self, pages: NDArray[np.int32]) -> None:
        """Post a chunk: the event chunk_posted, or faulted where the transport refuses."""
        last = self._cursor + len(pages) == self._announced
        if self._closed or (len(pages) == 0 and not last):
            return
        routes = self._routes
        if routes is None:
            routes = self._find_routes()
            if routes is None:
                return
        connections = [route.connection for route in routes]
        retired = self._side.peers.borrow(connections)
        if retired is not None:
            name = retired.metadata.agent_name
            self._fault(retired.error or PeerGone(f"peer {name!r} was reconnected meanwhile"), Attribution.PEER)
            return
        made: list[tuple[Route[DlistT], Transfer[HandleT]]] = []
        try:
            # Everything is made before the first is posted: a chunk that cannot be made whole posts nothing.
            if not self._make(made, routes, pages, last):
                return
            for route, transfer in made:
                if not self._post(route, transfer):
                    return
        finally:
            self._side.peers.give_back(connections)
            self._settled += (transfer for _, transfer in made if transfer.state is HandleState.CREATED)
        self._cursor += len(pages)
        self._closed = last
        self._metric.chunks += 1
        self._state = _SENDING

    def _find_routes(self) -> list[Route[DlistT]] | None:
        """The way to each peer that is no dummy; None, and a fault, where there is none."""
        routes: list[Route[DlistT]] = []
        for info in self._room.infos.values():
            if info.is_dummy:
                continue
            peer = self._side.peers.get(info.agent_name)
            connection = None if peer is None else peer.connection
            if connection is None:
                error = None if peer is None else peer.error
                self._fault(error or PeerGone(f"peer {info.agent_name!r} is not connected"), Attribution.PEER)
                return None
            if (why := self._misfit(info, connection)) is not None:
                self._fault(PeerGone(f"peer {info.agent_name!r} {why}"), Attribution.PEER)
                return None
            routes.append(Route(info, connection))
        self._routes = routes
        return routes

    def _misfit(self, info: TransferInfo, connection: Connection[DlistT]) -> str | None:
        """Why what the peer offers does not fit the room. Its pool may have changed since it registered."""
        pages, remote = info.dst_kv_indices, connection.metadata
        if len(pages) != self._announced:
            return f"offers {len(pages)} pages for {self._announced}"
        if len(pages) and not 0 <= pages.min() <= pages.max() < remote.num_pages:
            return f"offers pages {pages.min()} to {pages.max()} of {remote.num_pages}"
        if self._aux_index is not None and info.dst_aux_index is None:
            return "offers no aux slot"
        if info.dst_aux_index is not None and not 0 <= info.dst_aux_index < max(remote.num_aux_slots, 1):
            return f"offers aux slot {info.dst_aux_index} of {remote.num_aux_slots}"
        return None

    def _make(
        self,
        made: list[tuple[Route[DlistT], Transfer[HandleT]]],
        routes: list[Route[DlistT]],
        pages: NDArray[np.int32],
        last: bool,
    ) -> bool:
        side, room = self._side, self._room.id
        local = side.kv.indices(pages)
        first, chunk = self._cursor, self._metric.chunks
        for route in routes:
            info, connection = route.info, route.connection
            name, remote = info.agent_name, connection.metadata
            try:
                if len(pages):
                    targets = remote.kv.indices(info.dst_kv_indices[first : first + len(pages)])
                    notice = ChunkNotice(room, info.token, chunk).to_bytes()
                    handle = side.transport.make_prepped_xfer(
                        "WRITE", side.local_kv, local, connection.kv, targets, notice
                    )
                    made.append((route, Transfer(side.transport, side.errors, handle, name, pages)))
                if last and self._aux_index is not None and info.dst_aux_index is not None:
                    self._make_aux(made, route, self._aux_index, info.dst_aux_index)
            except side.errors as error:
                self._fault(error, self._blame(error, connection))
                return False
        return True
