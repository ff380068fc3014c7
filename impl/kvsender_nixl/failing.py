"""What happens once a room fails: the first cause stays, what can settle settles, peers are told, once."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, Generic

from kvsender_nixl.chunks import Route
from kvsender_nixl.ends import End
from kvsender_nixl.exchange import TransferInfo
from kvsender_nixl.making import Refusal
from kvsender_nixl.notifications import FailureNotification, QuiescedNotification, SuccessNotification
from kvsender_nixl.side import NEVER, KVTransferMetric, Side
from kvsender_nixl.status import AbortRequest
from kvsender_nixl.transfers import PROC, Answer, Transfer, TransportFault
from kvsender_spec.contract import Attribution, DlistT, HandleT, KVPoll
from kvsender_spec.machine import HandleState, Profile, State

if TYPE_CHECKING:
    from kvsender_nixl.rooms import Room

logger = logging.getLogger(__name__)

MOST_QUESTIONS: Final = 16
"""How many of a failed room's transfers one poll asks."""

# Module constants: an attribute of an Enum class costs more than the comparison that it is for.
_IDLE, _SENDING, _DONE, _FAILED, _STICKY_FAILED = State
_TRANSFERRING: Final = KVPoll.Transferring


class Failing(ABC, Generic[DlistT, HandleT]):
    """One room's transfers and its failure. ``Initiator`` adds what the caller and the table of rooms call."""

    def __init__(self, side: Side[DlistT, HandleT], room: Room) -> None:
        self._side: Final = side
        self._lock: Final = threading.Lock()
        self._room: Final = room
        self._clock: Final = side.clock
        self._state: State = _IDLE
        self._answer: KVPoll | None = None  # the terminal answer, once it is given

        self._routes: list[Route[DlistT]] | None = None  # fixed by the first chunk
        self._in_flight: deque[Transfer[HandleT]] = deque()
        self._settled: list[Transfer[HandleT]] = []  # waiting to be released
        self._suspects: list[Transfer[HandleT]] = []  # ended in an error, so their pages are in doubt
        self._drain_deadline = NEVER

        self._cause: Exception | None = None
        self._reason = ""
        self._attribution = Attribution.INTERNAL
        self._doubted: frozenset[str] = frozenset()  # the peers at which bytes may still land after the report
        self._told: set[str] = set()  # the peers that were told how the room ended
        self._metric = KVTransferMetric()

    @property
    def room(self) -> int:
        return self._room.id

    @property
    def over(self) -> bool:
        """poll() has answered its terminal value."""
        return self._answer is not None

    @property
    def live(self) -> bool:
        """It has neither completed nor failed."""
        return self._state is _IDLE or self._state is _SENDING

    @abstractmethod
    def poll(self) -> KVPoll:
        """Where the room stands."""

    def sweep(self) -> int:
        """Poll a room that nobody polls any more. Returns how many questions that may have cost."""
        may_cost = max(1, min(MOST_QUESTIONS, len(self._in_flight)))
        self.poll()
        return may_cost

    @abstractmethod
    def clear(self) -> None:
        """The caller has done with the room."""

    @abstractmethod
    def target_aborted(self, request: AbortRequest) -> bool:
        """A peer gives the room up. False where it is another room's word."""

    def concerns(self, peer: str, token: str) -> bool:
        """Whether this is the room that the peer calls by this token."""
        info = self._room.infos.get(peer)
        return info is not None and info.token == token

    def joined_late(self, info: TransferInfo) -> None:
        """Called for each peer that registers; where the room has failed already, it is told so."""
        with self._lock:
            if self._state is _STICKY_FAILED:
                self._tell(info, self._failure_notification(info))

    def get_transfer_metric(self) -> KVTransferMetric:
        """A copy of the room's numbers as they are now."""
        return replace(self._metric)

    def _observed(self, said: Answer) -> None:
        """What the transport says about the head of the queue. A running transfer goes to the end of it."""
        if said == PROC:
            self._in_flight.rotate(-1)
            return
        transfer = self._in_flight.popleft()
        self._settled.append(transfer)
        if isinstance(said, TransportFault):
            self._suspects.append(transfer)
            self._fault(said.error, self._blame(said.error, transfer.peer))
        else:
            self._side.quarantine.free(transfer)  # it is held when the room has been cleared

    def _fault(self, cause: Exception, attribution: Attribution) -> None:
        """The event faulted. The first cause stays; one that comes after the end has no effect (KS-2.2, KS-2.3)."""
        if self._state is not _IDLE and self._state is not _SENDING:
            return
        # A latched traceback would pin the frames of this call, and the handles in them, as long as the sender lives.
        self._cause = cause.with_traceback(None)
        self._reason = f"{type(cause).__name__}: {cause}"
        self._attribution = attribution
        self._drain_deadline = self._clock() + self._side.options.drain_timeout_s
        self._state = _FAILED
        logger.info("room %d has failed (%s): %s", self.room, attribution.value, self._reason)

    def _refused(self, refusal: Refusal) -> None:
        """A chunk could not be made."""
        error, peer = refusal.error, refusal.refused_to
        self._fault(error, self._blame(error, peer) if peer else Attribution.PEER)

    def _internal(self, error: Exception) -> None:
        """A mistake of this project: shown as what it is, with its traceback in the log (KS-1.3)."""
        logger.error("room %d: an error that is not the transport's", self.room, exc_info=error)
        self._fault(error, Attribution.INTERNAL)

    def _blame(self, error: Exception, peer_name: str) -> Attribution:
        used = (route.connection for route in self._routes or () if route.info.agent_name == peer_name)
        return self._side.peers.blame(error, peer_name, next(used, None))

    def _poll_failed(self) -> KVPoll:
        """Settle what can be settled; report when nothing is left, or nothing more may be waited for."""
        if self._answer is not None:
            return self._answer
        self._settle(MOST_QUESTIONS)
        waits = self._in_flight and self._side.options.profile is not Profile.LATCH
        if waits and self._clock() < self._drain_deadline:
            return _TRANSFERRING
        return self._report()

    def _settle(self, most: int) -> int:
        """Ask at most so many of the transfers in flight, each of them in turn. Returns how many were asked. What has
        not been asked at the report is asked by a sweep: until then its pages are held."""
        count = min(most, len(self._in_flight))
        for _ in range(count):
            try:
                said = self._in_flight[0].check()
            except Exception as error:
                self._internal(error)  # which says nothing about the transfer
                said = PROC
            self._observed(said)
        self._release_settled()
        return count

    def _report(self) -> KVPoll:
        """The event reported."""
        self._hold(*self._in_flight, *self._suspects)
        self._doubted = frozenset(transfer.peer for transfer in (*self._in_flight, *self._suspects))
        unproven = {transfer.peer for transfer in self._suspects}
        for info in tuple(self._room.infos.values()):
            still = [transfer for transfer in self._in_flight if transfer.peer == info.agent_name]
            if still and info.agent_name not in unproven:
                self._side.unsettled.owe(still, partial(self._tell_quiesced, info))
        for transfer in self._in_flight:
            transfer.give_up()
        self._side.unsettled.adopt(self._in_flight)
        self._in_flight.clear()
        self._suspects.clear()
        for info in tuple(self._room.infos.values()):
            self._tell(info, self._failure_notification(info))
        self._state = _STICKY_FAILED
        self._answer = KVPoll.Failed
        self._side.rooms.ended(self)
        return KVPoll.Failed

    def _hold(self, *transfers: Transfer[HandleT]) -> None:
        """Quarantine the pages of transfers that nothing has shown to be quiesced (KS-4.1, KS-4.4)."""
        for transfer in transfers:
            if transfer.state is HandleState.ERRORED and self._side.options.error_ends_reads:
                self._side.quarantine.free(transfer)
            else:
                self._side.quarantine.hold(transfer, self._reason)

    def _release_settled(self) -> None:
        while self._settled:
            try:
                self._side.unsettled.release(self._settled[-1])
            except Exception as error:
                self._internal(error)  # the ledger has the transfer now
            self._settled.pop()

    def _failure_notification(self, info: TransferInfo) -> FailureNotification:
        return FailureNotification(info.room, info.token, info.agent_name not in self._doubted, self._reason)

    def _tell_quiesced(self, info: TransferInfo) -> None:
        """All that was in flight to a peer when it was told of the failure is DONE (KS-6.4). A sweep tells it so."""
        self._side.ends.drained(info.agent_name, info.token)
        message = QuiescedNotification(info.room, info.token).to_bytes()
        self._side.unsent.keep(info.agent_name, self._room.registrations[info.agent_name], message)

    def _tell(
        self,
        info: TransferInfo,
        notification: SuccessNotification | FailureNotification,
        first_chunk: int | None = None,
    ) -> None:
        """Tell a peer how the room has ended, once (KS-6.1). What is refused is counted, and told again by a sweep.

        The peer may ask for it again. The chunks that it was told of are those from ``first_chunk`` on.
        """
        if info.is_dummy or info.agent_name in self._told:
            return
        self._told.add(info.agent_name)
        self._side.ends.record(info.agent_name, End(info.incarnation, notification, first_chunk))
        message = notification.to_bytes()
        try:
            self._side.transport.send_notif(info.agent_name, message)
        except Exception as error:
            self._metric.notifications_lost += 1
            self._side.unsent.keep(info.agent_name, self._room.registrations[info.agent_name], message)
            if isinstance(error, self._side.errors):
                self._blame(error, info.agent_name)
                logger.info("peer %r could not be told the end of room %d: %r", info.agent_name, self.room, error)
            else:
                logger.exception("telling peer %r the end of room %d", info.agent_name, self.room)
