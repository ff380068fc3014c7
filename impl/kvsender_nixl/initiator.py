"""What a sender and a reader have in common: one room, whose transfers this side posts and asks about.

The logical machine of the spec (``kvsender_spec.machine``) is ``Initiator._state``, and each place that moves it names
the event. The rules that shape the rest:

* One lock per room, held for the whole of each call, so that send, poll and abort may come from different threads
  (KS-7.2). While a post copies for long, a poll of the same room waits; polls of other rooms do not wait for the lock.
* poll() asks about one transfer that is still running, the one at the head of a queue, and moves it to the end: each
  is asked in turn, and a poll costs the same for a hundred chunks as for one.
* What is made is written down before it is posted, so that no exception, not even a KeyboardInterrupt, drops a handle
  in flight.
* What the transport refuses is an answer (``TransportFault``), not an exception. An exception that reaches ``poll`` or
  ``send`` is therefore a mistake of this project, and is shown as one (KS-1.3).
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Final, NoReturn, SupportsIndex

from kvsender_nixl.chunks import Announcement, Route
from kvsender_nixl.deadlines import AWAY_S, LastChance
from kvsender_nixl.exchange import TransferInfo
from kvsender_nixl.failing import Failing
from kvsender_nixl.making import STARTED_OVER, Chunk, PeerUnusable, Refusal, find_routes
from kvsender_nixl.notifications import SuccessNotification
from kvsender_nixl.side import NEVER, Side
from kvsender_nixl.status import AbortRequest
from kvsender_nixl.transfers import PROC, Transfer, TransportFault
from kvsender_spec.contract import (
    Attribution,
    DlistT,
    HandleT,
    KVPoll,
    KVTransferError,
    KVUsageError,
    TransferAborted,
    TransferTimeout,
)
from kvsender_spec.machine import HandleState, State

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kvsender_nixl.rooms import Room

logger = logging.getLogger(__name__)


# Module constants: an attribute of an Enum class costs more than the comparison that it is for.
_IDLE, _SENDING, _DONE, _FAILED, _STICKY_FAILED = State
_TRANSFERRING: Final = KVPoll.Transferring
_CREATED: Final = HandleState.CREATED


class PeerAborted(Exception):
    """A peer of the room has given it up, or its lease of the room has ended; the message names it."""


class Initiator(Failing[DlistT, HandleT]):
    """One room, whose chunks ``KVSender`` writes and ``KVReader`` reads.

    Nothing here raises because of the transport or a peer (KS-1.1): poll() answers Failed then, for good, and
    failure_exception() says why. Only mistakes of the caller raise: KVUsageError, before anything has happened
    (KS-8.1). Pages are the caller's again when poll() has answered a terminal value, except those in
    ``quarantined_pages()`` of this side.
    """

    hands_over: ClassVar[str]
    """The name of the call that hands over a chunk."""
    tells_chunks: ClassVar[bool]
    """Whether each chunk's transfer tells the peer that it is in place."""

    def __init__(self, side: Side[DlistT, HandleT], room: Room) -> None:
        super().__init__(side, room)
        self._acquire: Final = self._lock.acquire

        self._announced: Announcement | None = None
        self._bootstrap_deadline = NEVER
        self._closed = False  # the last chunk is posted
        self._ends: list[int] = []  # how many pages were posted with each chunk that had some, and before it

        self._deadline = NEVER  # no transfer in flight is overdue before it
        self._looked_at = NEVER  # when somebody saw last that nothing was overdue
        self._chance: LastChance | None = None  # what is overdue is waited for, until something has completed
        self._first_post_at: float | None = None

    # --------------------------------------------------------------------------------------- what the caller calls

    def init(self, num_kv_indices: SupportsIndex, aux_index: SupportsIndex | None = None) -> None:
        """Announce how many pages follow in all, and the aux slot that goes with the last chunk (None: no aux data).

        Once per room. Raises KVUsageError (KS-8.1).
        """
        announced = Announcement(num_kv_indices, aux_index, self._side.kv, self._side.aux)
        with self._lock:
            if self._announced is not None:
                raise KVUsageError(f"room {self.room} was initialised before")
            self._announced = announced
            self._bootstrap_deadline = self._clock() + self._side.options.bootstrap_timeout_s
            self._looked_at = self._clock()

    def _hand_over(self, kv_indices: NDArray[np.int32] | NDArray[np.int64]) -> None:
        """send() or read(): post the next chunk. Raises KVUsageError (KS-8.1)."""
        with self._lock:
            if self._state is not _SENDING and self._state is not _IDLE:
                return
            try:
                self._chunk(kv_indices)
            except KVUsageError:
                raise
            except Exception as error:
                self._internal(error)
            except BaseException as error:
                # Not ours to keep (KS-1.4). But the chunk may be half posted, and can neither go on nor be sent again.
                self._fault(
                    TransferAborted(f"{self.hands_over}() was interrupted by {type(error).__name__}"),
                    Attribution.CALLER,
                )
                raise

    def poll(self) -> KVPoll:
        """How the room stands. The first Success or Failed is the last answer (KS-2.1)."""
        answer = self._answer
        if answer is not None:
            return answer
        self._acquire()  # a with statement costs a tenth of the whole poll more
        try:
            in_flight = self._in_flight
            if in_flight and self._state is _SENDING:
                # The way of all polls but a few, so it is short: one question and nothing allocated.
                said = in_flight[0].check()
                if said == PROC and (now := self._clock()) < self._deadline:
                    self._looked_at = now
                    in_flight.rotate(-1)
                    return _TRANSFERRING
                self._observed(said)
            return self._poll()
        except Exception as error:
            self._internal(error)
            return self._poll_failed()
        finally:
            self._lock.release()

    def failure_exception(self) -> NoReturn:
        """Raise KVTransferError from the first cause (KS-2.3), the same each time (KS-2.4).

        Raises KVUsageError when the room has not failed, and changes nothing (KS-2.7).
        """
        cause = self._cause
        if cause is None:
            raise KVUsageError(f"room {self.room} has not failed")
        raise KVTransferError(self.room, self._reason, self._attribution) from cause

    def abort(self) -> None:
        """Give the room up. What is in flight still has to settle, so go on polling (KS-5.1)."""
        with self._lock:
            self._fault(TransferAborted("aborted by its caller"), Attribution.CALLER)

    def clear(self) -> None:
        """Drop this side's entry of the room; a live room is aborted by it (KS-5.2).

        poll() keeps working. Where nobody calls it any more, ``sweep()`` of this side brings the room to its end.
        """
        with self._lock:
            self._fault(TransferAborted("cleared by its caller"), Attribution.CALLER)
            if self._state is _FAILED:
                # The caller may believe that the pages are free now, although nothing was reported yet.
                self._hold(*self._in_flight, *self._suspects)
            self._side.rooms.forget(self._room)

    def target_aborted(self, request: AbortRequest) -> bool:
        """A peer gives the room up: it fails, and settles as it does at other failures (KS-6.4). False: another room's
        word."""
        info = self._room.infos.get(request.agent_name)
        if info is None or (info.room, info.token) != (request.room, request.token):
            return False
        with self._lock:
            self._fault(PeerAborted(f"{request.says} {request.agent_name!r}"), Attribution.PEER)
        return True

    # ---------------------------------------------------------------------------------------------------- a chunk

    @abstractmethod
    def _misfit(self, info: TransferInfo, announced: Announcement) -> str | None:
        """Why what a peer offers is not what the room needs, or None."""

    @abstractmethod
    def _make(self, made: list[Transfer[HandleT]], routes: list[Route[DlistT]], chunk: Chunk) -> Refusal | None:
        """Make the transfers of a chunk, each of them in ``made`` as soon as there is one."""

    def _chunk(self, kv_indices: NDArray[np.int32] | NDArray[np.int64]) -> None:
        """Post a chunk: the event chunk_posted, or faulted where the transport refuses it."""
        announced = self._announced
        if announced is None:
            raise KVUsageError(f"{self.hands_over}() before init() in room {self.room}")
        if not self._room.complete:
            unknown = "its peers are not known: poll() says Bootstrapping"
            raise KVUsageError(f"{self.hands_over}() in room {self.room} while {unknown}")
        pages = announced.accept(kv_indices)
        last = announced.exhausted
        if self._closed or (len(pages) == 0 and not last):
            return
        found = (
            self._routes if self._routes is not None else find_routes(self._side, self._room, announced, self._misfit)
        )
        if isinstance(found, Refusal):
            self._refused(found)
            return
        self._routes = found
        slot = announced.aux_index if last else None
        chunk = Chunk(pages, announced.cursor - len(pages), self._metric.chunks, slot)
        if self._make_and_post(found, lambda made: self._make(made, found, chunk)):
            if len(pages):
                self._metric.chunks += 1
                self._ends.append(announced.cursor)
            self._closed = last
            self._state = _SENDING

    def _make_and_post(
        self, routes: list[Route[DlistT]], make: Callable[[list[Transfer[HandleT]]], Refusal | None]
    ) -> bool:
        """All is made before the first is posted: what cannot be made whole posts nothing. False: the room failed."""
        connections = [route.connection for route in routes]
        retired = self._side.peers.borrow(connections)
        if retired is not None:
            why = PeerUnusable(f"peer {retired.metadata.agent_name!r} {STARTED_OVER}")
            self._refused(Refusal(retired.error or why))
            return False
        made: list[Transfer[HandleT]] = []
        try:
            refusal = make(made)
            if refusal is not None:
                self._refused(refusal)
            return refusal is None and self._post(made)
        finally:
            self._side.peers.give_back(connections)
            self._settled += (transfer for transfer in made if transfer.state is _CREATED)

    def _post(self, made: list[Transfer[HandleT]]) -> bool:
        """Post what was made, in order; False, and the room has failed, from the first one that is refused."""
        clock, in_flight, metric = self._clock, self._in_flight, self._metric
        if self._first_post_at is None:
            self._first_post_at = clock()
        for transfer in made:
            in_flight.append(transfer)  # before the post, which may be interrupted when it is already under way
            said = transfer.post()
            metric.transfers += 1
            metric.transfer_total_bytes += transfer.total_bytes
            if said == PROC:
                self._looked_at = clock()
                transfer.deadline = self._looked_at + self._side.options.transfer_timeout_s
                self._deadline = min(self._deadline, transfer.deadline)
                continue
            self._settled.append(in_flight.pop())
            if isinstance(said, TransportFault):
                self._suspects.append(transfer)
                self._fault(said.error, self._blame(said.error, transfer.peer))
                return False
        return True

    # ------------------------------------------------------------------------------------------------------- poll

    def _poll(self) -> KVPoll:
        if self._state is _IDLE:
            return self._poll_idle()
        return self._poll_sending() if self._state is _SENDING else self._poll_failed()

    def _poll_idle(self) -> KVPoll:
        room, peers = self._room, self._side.peers
        if room.complete and not any(
            peers.connecting(info.agent_name) for info in tuple(room.infos.values()) if not info.is_dummy
        ):
            return KVPoll.WaitingForInput
        now = self._clock()
        if now < self._bootstrap_deadline:
            self._looked_at = now
            return KVPoll.Bootstrapping
        if self._has_a_chance(now):  # what the peers have sent may not be taken yet
            return KVPoll.Bootstrapping
        late = f"not all peers were there {self._side.options.bootstrap_timeout_s} s after init()"
        self._fault(TransferTimeout(f"{late}, only {sorted(room.infos)}"), Attribution.DEADLINE)
        return self._poll_failed()

    def _poll_sending(self) -> KVPoll:
        """The first half of the spec's poll in sending: OBSERVE, up to the first transfer that is still running."""
        in_flight = self._in_flight
        while in_flight and self._state is _SENDING:
            said = in_flight[0].check()
            self._observed(said)
            if said == PROC:
                break
        now = self._clock()
        if now >= self._deadline and self._state is _SENDING:
            self._ask_all_before_giving_up(now)
        self._release_settled()
        if self._state is not _SENDING:
            return self._poll_failed()
        if not self._closed or in_flight:
            return _TRANSFERRING
        return self._concluded()

    def _concluded(self) -> KVPoll:
        """Every transfer is done."""
        return self._complete()

    def _ask_all_before_giving_up(self, now: float) -> None:
        """Some transfer may be overdue. Completions that are already there come first (KS-3.5). An owner that was away
        gives the transport a chance to move, once."""
        asked = len(self._in_flight)
        for _ in range(asked):
            self._observed(self._in_flight[0].check())
            if self._state is not _SENDING:
                return
        if len(self._in_flight) < asked:
            self._chance = None
        self._deadline = min((transfer.deadline for transfer in self._in_flight), default=NEVER)
        if now < self._deadline:
            self._looked_at = now
        elif not self._has_a_chance(now):
            silent = sorted({transfer.peer for transfer in self._in_flight if now >= transfer.deadline})
            limit_s = self._side.options.transfer_timeout_s
            self._fault(TransferTimeout(f"no completion from {silent} within {limit_s} s"), Attribution.DEADLINE)

    def _has_a_chance(self, now: float) -> bool:
        """Whether what is overdue is waited for all the same, because nobody looked when its time was over."""
        if self._chance is None and now - self._looked_at > AWAY_S:
            self._chance = LastChance(now)
        return self._chance is not None and not self._chance.over(now)

    def _complete(self) -> KVPoll:
        """The event completed."""
        if self._first_post_at is not None:
            self._metric.transfer_latency_s = self._clock() - self._first_post_at
        announced = self._announced
        has_aux = announced is not None and announced.aux_index is not None
        for info in tuple(self._room.infos.values()):
            # A peer hears nothing of the chunks that it has had before.
            chunks = sum(end > info.num_cached for end in self._ends) if info.num_cached else self._metric.chunks
            first = self._metric.chunks - chunks if self.tells_chunks else None
            self._tell(info, SuccessNotification(info.room, info.token, chunks, has_aux), first)
        self._state = _DONE
        self._answer = KVPoll.Success
        self._side.rooms.ended(self)
        return KVPoll.Success
