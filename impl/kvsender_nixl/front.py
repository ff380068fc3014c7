"""One side that initiates transfers: its memory, its peers, its rooms, and what outlives them.

``Prefill`` makes senders of it and ``PullDecode`` readers. A process has one of either and calls ``drain()`` and
``sweep()`` in its loop, beside the polls of its rooms. All of its methods may be called from any thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from kvsender_nixl.agent import TRANSPORT_ERRORS
from kvsender_nixl.answers import Answers
from kvsender_nixl.chunks import out_of_range
from kvsender_nixl.deadlines import AWAY_S
from kvsender_nixl.ends import End, Ends
from kvsender_nixl.evidence import Look
from kvsender_nixl.exchange import PeerMetadata, TransferInfo, parse_message, take_arrived
from kvsender_nixl.fences import Fences
from kvsender_nixl.introduction import Introduction
from kvsender_nixl.notifications import FailureNotification, random_token
from kvsender_nixl.peers import Peers, Spawn, spawn_daemon
from kvsender_nixl.quarantine import HasQuarantine, Quarantine
from kvsender_nixl.rooms import Room, Rooms, RoomSender
from kvsender_nixl.side import SenderOptions, Side
from kvsender_nixl.status import AbortRequest, StatusRequest
from kvsender_nixl.transfers import Unsettled
from kvsender_nixl.unsent import Unsent
from kvsender_nixl.witness import Question, Statement, gone, this_process
from kvsender_spec.contract import INIT_AGENT, Clock, DlistT, HandleT, KVUsageError, Transport

if TYPE_CHECKING:
    from kvsender_nixl.buffers import Buffers

logger = logging.getLogger(__name__)

InitiatorT = TypeVar("InitiatorT", bound=RoomSender)
SWEEP_LIMIT: Final = 64


@dataclass(slots=True)
class DrainCounts:
    """What ``drain`` has taken so far. Refused messages are well formed, but fit no peer or no room."""

    messages: int = 0
    malformed: int = 0
    refused: int = 0
    lost: int = 0
    """How often the transport could not hand over what had arrived, and lost it."""


class Front(HasQuarantine, Generic[DlistT, HandleT]):
    """Registers the pool and the aux buffers with the agent, and knows the peers and the rooms.

    ``pool`` and ``aux`` are kept alive by it. ``transport_errors`` is what the transport's calls raise when the
    transport fails; ``spawn`` runs the reconnecting of a peer in the background; ``look`` finds the evidence that a
    process has ended. Raises what the transport raises when
    the memory cannot be registered: there is nothing to serve then.
    """

    def __init__(
        self,
        agent: Transport[DlistT, HandleT],
        pool: Buffers,
        aux: Buffers | None = None,
        options: SenderOptions | None = None,
        *,
        clock: Clock = time.monotonic,
        transport_errors: tuple[type[Exception], ...] = TRANSPORT_ERRORS,
        spawn: Spawn = spawn_daemon,
        look: Look = gone,
    ) -> None:
        self._agent: Final = agent
        self._memory: Final = (pool, aux)
        self._errors: Final = transport_errors
        self._clock: Final = clock
        self._options: Final = SenderOptions() if options is None else options
        kv_layout, aux_layout = pool.layout, None if aux is None else aux.layout
        for layout in (kv_layout, aux_layout):
            if layout is not None:
                agent.register_memory(layout.registrations(), layout.mem_type)
        local_kv = agent.prep_xfer_dlist(INIT_AGENT, kv_layout.rows(), kv_layout.mem_type)
        local_aux: DlistT | None = None
        if aux_layout is not None:
            local_aux = agent.prep_xfer_dlist(INIT_AGENT, aux_layout.rows(), aux_layout.mem_type)
        self._rooms: Final = Rooms()
        self._peers: Final = Peers(agent, kv_layout, aux_layout, transport_errors, spawn=spawn)
        self._quarantine = Quarantine()
        host = all(layout is None or layout.mem_type == "DRAM" for layout in (kv_layout, aux_layout))
        self._fences: Final[Fences[DlistT, HandleT]] = Fences(
            agent, transport_errors, clock, self._quarantine, in_host_memory=host, look=look
        )
        self._unsettled: Final[Unsettled[HandleT]] = Unsettled(
            self._quarantine.free, transport_errors, error_ends_reads=self._options.error_ends_reads
        )
        self._ends: Final = Ends()
        self._incarnation: Final = random_token()
        self._process: Final = this_process()
        self._answers: Final[Answers[DlistT, HandleT]] = Answers(
            agent,
            transport_errors,
            clock,
            self._peers,
            self._rooms,
            self._ends,
            incarnation=self._incarnation,
            refused_for_s=self._options.bootstrap_timeout_s,
        )
        self._unsent: Final[Unsent[DlistT, HandleT]] = Unsent(agent, self._peers, transport_errors)
        self._side: Final[Side[DlistT, HandleT]] = Side(
            transport=agent,
            errors=transport_errors,
            options=self._options,
            clock=clock,
            kv=kv_layout,
            aux=aux_layout,
            local_kv=local_kv,
            local_aux=local_aux,
            peers=self._peers,
            rooms=self._rooms,
            quarantine=self._quarantine,
            unsettled=self._unsettled,
            unsent=self._unsent,
            ends=self._ends,
        )
        self._closed = False
        self._swept_at = clock()
        self._was_away = False
        self.drained: Final = DrainCounts()

    # ------------------------------------------------------------------------------------------ peers and rooms

    def register_peer(self, metadata: PeerMetadata) -> None:
        """Make a peer known and connect to it.

        The first time this waits for the connection. When a peer registers again after its connection broke, or with
        new metadata because it has restarted, it is reconnected in the background (KS-6.3); its rooms are Bootstrapping
        meanwhile. Raises KVUsageError when its memory does not fit ours.
        """
        self._peers.register(metadata)
        self._known(metadata)

    def _known(self, metadata: PeerMetadata) -> None:
        self._ends.forget_others(metadata.agent_name, metadata.incarnation)
        self._fences.registered(metadata)

    def introduction(self) -> Introduction:
        """What a peer needs in order to ask this side how a room stands, and to know when this process has ended.

        It is told to each peer that registers by a notification; where the caller carries the peer's metadata, it
        carries this as well (``Decode.add_initiator``).
        """
        return Introduction(self._agent.name, self._agent.get_agent_metadata(), self._incarnation, self._process)

    def add_transfer_info(self, info: TransferInfo) -> None:
        """A peer has said where it wants a room, or granted one.

        Raises KVUsageError for an unknown peer, another incarnation of it than the one that has registered, pages that
        it does not have, a room that it has given up before, or one whose peers contradict each other.
        """
        registration: PeerMetadata | None = None
        if not info.is_dummy:
            peer = self._peers.get(info.agent_name)
            if peer is None:
                raise KVUsageError(f"room {info.room}: peer {info.agent_name!r} has not registered")
            registration = peer.metadata
            self._require_registered(info, registration)
            if self._ends.refuses(info.agent_name, info.token):
                raise KVUsageError(f"room {info.room}: peer {info.agent_name!r} has given {info.token!r} up before")
            if (why := out_of_range(info, registration)) is not None:
                raise KVUsageError(f"room {info.room}: peer {info.agent_name!r} {why}")
            # It lives, or it could not have asked. If its connection broke, this is the moment to remake it.
            self._peers.revive(info.agent_name)
        room = self._rooms.add(info, registration, self._clock())
        if room.sender is not None:
            room.sender.joined_late(info)
        if self._ends.refuses(info.agent_name, info.token):  # given up meanwhile, in another thread
            self._end_for(AbortRequest(info.room, info.token, info.agent_name, info.incarnation))

    def peer_aborts(self, request: AbortRequest) -> None:
        """A peer gives a room up. It fails with the peer as the cause, and the peer is told when nothing of it can
        touch its pages any more (KS-6.4). A room that is over has told it, or will when the last transfer is DONE.

        Raises KVUsageError for another incarnation of the peer than the one that has registered.
        """
        peer = self._peers.get(request.agent_name)
        if peer is not None:
            self._require_registered(request, peer.metadata)
        self._end_for(request)
        if peer is not None:
            self._answers.given_up(request)

    def status_asked(self, request: StatusRequest) -> None:
        """A peer has heard nothing of a room for a while, and is told how it stands, or has ended.

        Raises KVUsageError for an unknown peer, or another incarnation of it than the one that has registered.
        """
        peer = self._peers.get(request.agent_name)
        if peer is None:
            raise KVUsageError(f"room {request.room}: peer {request.agent_name!r} has not registered")
        self._require_registered(request, peer.metadata)
        self._peers.revive(request.agent_name)
        if request.given_up:
            self._end_for(request.abort)
        self._answers.status(request)

    def _end_for(self, request: AbortRequest) -> None:
        if not any(sender.target_aborted(request) for sender in self._rooms.senders()):
            self._rooms.given_up(request)

    @staticmethod
    def _require_registered(said: TransferInfo | AbortRequest | StatusRequest, registration: PeerMetadata) -> None:
        """The old process of a name may still speak when a new one has registered. Its pages are not the new one's."""
        if said.incarnation != registration.incarnation:
            raise KVUsageError(
                f"room {said.room}: incarnation {said.incarnation!r} of peer {said.agent_name!r} speaks, and"
                f" {registration.incarnation!r} has registered"
            )

    def _bind(self, room: int, make: Callable[[Room], InitiatorT]) -> InitiatorT:
        """Make what initiates the transfers of a room, before or after its peers are known. Sweeps a little.

        Raises KVUsageError while an earlier one of this room is neither over nor cleared, and after ``close``.
        """
        if self._closed:
            raise KVUsageError("this side is closed")
        made: list[InitiatorT] = []

        def make_once(entry: Room) -> InitiatorT:
            made.append(make(entry))
            return made[0]

        entry = self._rooms.bind(room, self._clock(), make_once)
        for request in entry.given_up:
            made[0].target_aborted(request)
        self.sweep()  # afterwards, so that it does not take the room for one to which nobody comes
        return made[0]

    # ------------------------------------------------------------------------------------------- the caller's loop

    def drain(self) -> int:
        """Take what the peers have sent over NIXL, and return how many messages there were. Never raises.

        What is malformed, or fits no peer or room, is counted in ``drained`` and dropped (KS-7.1).
        """
        arrived = take_arrived(self._agent, self._errors, self.drained)
        for agent_name, message in arrived:
            self._take(agent_name, message)
        self.drained.messages += len(arrived)
        return len(arrived)

    def _take(self, agent_name: str, message: bytes) -> None:
        try:
            said = parse_message(message)
        except ValueError as error:
            self.drained.malformed += 1
            logger.warning("malformed message of agent %r: %s", agent_name, error)
            return
        try:
            if isinstance(said, Question | Statement):
                if not self._fences.hear(agent_name, said):
                    raise KVUsageError(f"agent {agent_name!r} cannot witness the end of {said.process}")
                return
            if said.agent_name != agent_name:
                raise KVUsageError(f"agent {agent_name!r} speaks for {said.agent_name!r}")
            if isinstance(said, PeerMetadata):
                self._peers.register(said, background=True)  # a loop must not wait for a connection
                self._known(said)
                self._unsent.keep(said.agent_name, said, self.introduction().to_bytes())
            elif isinstance(said, StatusRequest):
                self.status_asked(said)
            elif isinstance(said, AbortRequest):
                self.peer_aborts(said)
            else:
                self.add_transfer_info(said)
        except KVUsageError as error:
            self.drained.refused += 1
            logger.warning("refused message of agent %r: %s", agent_name, error)
        except Exception:
            self.drained.refused += 1
            logger.exception("message of agent %r", agent_name)

    def sweep(self, limit: int = SWEEP_LIMIT) -> int:
        """Poll rooms that were cleared while they were live, ask about transfers that outlive their rooms, tell again
        what could not be told, and drop rooms for which no sender came.

        Nothing of it is done more than ``limit`` times in one call, and all questions together are hardly more: a room
        is not left half-way. Returns how many transfers and such rooms are left.
        """
        asked = self._rooms.sweep(max(limit // 2, 1))
        now = self._clock()
        # Whoever was away may be about to make the senders of these rooms.
        self._was_away = now - self._swept_at > AWAY_S and not self._was_away
        self._swept_at = now
        old = () if self._was_away else self._rooms.expire(now - self._options.bootstrap_timeout_s)
        for room in old:
            for info in room.infos.values():
                self._tell_nobody_came(info, room.registrations.get(info.agent_name))
        left = self._unsettled.sweep(max(limit - asked, 1)) + self._rooms.num_draining
        self._unsent.sweep(limit)
        self._fences.look()
        return left

    def _tell_nobody_came(self, info: TransferInfo, registration: PeerMetadata | None) -> None:
        if info.is_dummy or registration is None:
            return
        reason = f"no sender came for the room within {self._options.bootstrap_timeout_s} s"
        told = FailureNotification(info.room, info.token, True, reason)
        self._ends.record(info.agent_name, End(info.incarnation, told))
        self._unsent.keep(info.agent_name, registration, told.to_bytes())

    def residue(self) -> int:
        """What is kept: the rooms not cleared, those cleared but not over, and the transfers that outlive theirs."""
        return len(self._rooms) + len(self._unsettled)

    def close(self) -> int:
        """Abort what is live, report what can be reported and release what has settled.

        Returns how many transfers are still in flight. The agent, and the memory, must live until ``sweep`` has brought
        this to zero, or until the agent itself is destroyed.
        """
        self._closed = True
        for sender in self._rooms.senders():
            sender.clear()
        self._peers.close()
        for dlist in (self._side.local_kv, self._side.local_aux):
            if dlist is not None:
                try:
                    self._agent.release_dlist_handle(dlist)
                except self._errors as error:
                    logger.warning("a local descriptor list was not released: %r", error)
        return self.sweep()
