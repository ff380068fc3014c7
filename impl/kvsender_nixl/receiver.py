"""The decode side: its memory, and one receiver per room, which counts the prefill side's notifications.

A decode process has one ``Decode`` and calls ``drain()`` in its loop, beside the receivers' polls. Without a progress
thread this is also what lets bytes in on some transports, and lets its own notifications out. All methods may be called
from any thread.

The receiver's own caution mirrors the sender's: a failed room proves nothing about bytes that are still on their way,
so its pages stay in quarantine until the sender says that it has drained, or its process is shown to have ended, or the
caller knows that it is cut off (``Decode.fence``). A notification may be lost, so ``drain()`` asks about rooms of which
nothing was heard for a while, and about those that were given up.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Generic

from kvsender_nixl.agent import TRANSPORT_ERRORS
from kvsender_nixl.arriving import DecodeSide, KVReceiver, Landing, PrefillFailed, PrefillGone
from kvsender_nixl.asking import MOST_AT_ONCE, Asking
from kvsender_nixl.counted import CountedPages
from kvsender_nixl.deadlines import AWAY_S
from kvsender_nixl.early import Early, NotificationCounts
from kvsender_nixl.evidence import LOOK_EVERY_S, Look
from kvsender_nixl.exchange import PeerMetadata, TransferInfo, take_arrived
from kvsender_nixl.initiators import Initiators
from kvsender_nixl.introduction import Introduction, parse_introduction
from kvsender_nixl.landings import Landings
from kvsender_nixl.notifications import parse_notification, random_token
from kvsender_nixl.peers import Spawn, spawn_daemon
from kvsender_nixl.sockets import UnreadSockets
from kvsender_nixl.status import StatusRequest
from kvsender_nixl.witness import Question, Statement, answer, gone, this_process
from kvsender_spec.contract import Clock, DlistT, HandleT, KVUsageError, Transport

if TYPE_CHECKING:
    from kvsender_nixl.buffers import Buffers

__all__ = ["Decode", "KVReceiver", "Landing", "NotificationCounts", "PrefillFailed", "PrefillGone"]

logger = logging.getLogger(__name__)
MOST_NAMES: Final = 64
"""How many prefill sides a room may have."""
NEVER_AWAY: Final = float("-inf")


class Decode(Generic[DlistT, HandleT]):
    """Registers the pool and the aux buffers with the agent, and makes a receiver for each room.

    ``pool`` and ``aux`` are kept alive by it. Times are seconds on ``clock``: ``timeout_s`` is how long a room may take
    after its init(); of a room of which nothing was heard for ``ask_every_s`` the prefill side is asked; a room whose
    prefill side cannot be reached fails after ``lost_timeout_s``. ``spawn`` runs the reconnecting of a prefill side in
    the background. ``look`` finds the evidence that a process has ended. Raises what the transport raises when the
    memory cannot be registered, and KVUsageError for a time that is none.
    """

    def __init__(
        self,
        agent: Transport[DlistT, HandleT],
        pool: Buffers,
        aux: Buffers | None = None,
        *,
        timeout_s: float = 300.0,
        ask_every_s: float = 5.0,
        lost_timeout_s: float = 15.0,
        clock: Clock = time.monotonic,
        transport_errors: tuple[type[Exception], ...] = TRANSPORT_ERRORS,
        spawn: Spawn = spawn_daemon,
        look: Look = gone,
    ) -> None:
        for name, value in (("timeout_s", timeout_s), ("ask_every_s", ask_every_s), ("lost_timeout_s", lost_timeout_s)):
            if not value > 0:
                raise KVUsageError(f"{name} is {value}: not a time")
        self._agent: Final = agent
        self._memory: Final = (pool, aux)
        self._errors: Final = transport_errors
        self._lock: Final = threading.Lock()
        self._receivers: dict[str, KVReceiver] = {}
        self._announced_pages: Final = CountedPages()
        self._early: Final = Early()
        self._landings: Final = Landings()
        self._asking: Final = Asking(ask_every_s)
        self._initiators: Final = Initiators(agent, transport_errors, clock, spawn=spawn, look=look)
        self._unread: Final[dict[str, UnreadSockets]] = {}
        """By incarnation of an initiator that has ended: what it may have left in our sockets."""
        self._process: Final = this_process()
        self._lost_timeout_s: Final = lost_timeout_s
        self._drained_at = clock()
        self._back_at = NEVER_AWAY
        """When somebody drained last after a time in which nobody did, so that the transport could not move."""
        self._next_look = self._drained_at
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
            ask_every_s=ask_every_s,
            incarnation_of=self._initiators.incarnation,
            announced=self._announced,
            arrived=self._arrived,
            taken=self._taken,
            failed=self._failed,
            forget=self._forget,
            pages_of=self._pages_of,
        )

    def metadata(self) -> PeerMetadata:
        """What the prefill side needs in order to reach this side; the same until something else is registered."""
        side, blob = self._side, self._agent.get_agent_metadata()
        return PeerMetadata(side.agent_name, blob, side.kv, side.aux, side.incarnation, self._process)

    def add_initiator(self, introduction: Introduction) -> None:
        """Make a prefill side known, and connect to it, so that it can be asked and told (``Prefill.introduction``).

        Not needed where this side has sent its metadata by a notification: the prefill side introduces itself then.
        Waits for the connection, but not where another process of the name was known before.
        """
        self._initiators.introduce(introduction, connect=True)

    def receiver(self, room: int, sender_name: str | Sequence[str], *, token: str | None = None) -> KVReceiver:
        """A receiver for one incarnation of a room, whose notifications come from the agent ``sender_name`` alone, or
        from each of several.

        ``token`` names the incarnation; left out, it is random. Raises KVUsageError for one that is in use, and for no
        name, too many, or one twice.
        """
        token = random_token() if token is None else token
        names = (sender_name,) if isinstance(sender_name, str) else tuple(sender_name)
        if not 0 < len(set(names)) == len(names) <= MOST_NAMES:
            raise KVUsageError(f"room {room} has 1 to {MOST_NAMES} senders, each named once, not {names!r:.200}")
        with self._lock:
            if token in self._receivers or token in self._landings:
                raise KVUsageError(f"token {token!r} is in use")
            receiver = self._receivers[token] = KVReceiver(self._side, room, names, token)
            for agent_name, notification in self._early.take(token):
                if receiver.take(agent_name, notification):
                    self.drained.early += 1
                    self.drained.stray -= 1
            return receiver

    # ------------------------------------------------------------------------------------------- the caller's loop

    def drain(self) -> int:
        """Take the notifications that have arrived, and return how many; ask about rooms of which nothing was heard;
        see whether prefill sides have ended. Never raises an Exception.

        What is malformed, late, of an unknown room or of another sender is counted in ``drained`` and dropped.
        """
        arrived = take_arrived(self._agent, self._errors, self.drained)
        for agent_name, message in arrived:
            self._take(agent_name, message)
        self.drained.notifications += len(arrived)
        now = self._side.clock()
        if now - self._drained_at > AWAY_S:
            self._back_at = now
        self._drained_at = now
        for token, waited in self._asking.due(now):
            self._ask(token, waited, now)
        if now >= self._next_look:
            self._next_look = now + LOOK_EVERY_S
            self._look(now)
        return len(arrived)

    def _take(self, agent_name: str, message: bytes) -> None:
        try:
            if message.startswith(b"{"):
                self._told_of_a_process(agent_name, parse_introduction(message))
                return
            notification = parse_notification(message)
        except ValueError as error:
            self.drained.malformed += 1
            logger.warning("malformed notification of agent %r: %s", agent_name, error)
            return
        if self._landings.proven(agent_name, notification):
            return
        with self._lock:
            receiver = self._receivers.get(notification.token)
            if receiver is None:
                self._early.keep(agent_name, notification)
        if receiver is None or not receiver.take(agent_name, notification):
            self.drained.stray += 1

    def _told_of_a_process(self, agent_name: str, said: Introduction | Question | Statement) -> None:
        """Raises ValueError for what this agent cannot say."""
        if isinstance(said, Question):
            statement = answer(said)
            if statement is not None:
                self._initiators.tell(agent_name, statement.to_bytes())
        elif isinstance(said, Statement):
            if not self._initiators.ended.testified(agent_name, said):
                raise ValueError(f"it cannot witness the end of {said.process}")
        elif said.agent_name != agent_name:
            raise ValueError(f"it introduces {said.agent_name!r}")
        else:
            self._initiators.introduce(said, connect=False)

    def _ask(self, token: str, waited: float, now: float) -> None:
        """Ask about a room that waits, or that was given up and is not drained: that one less and less often."""
        receiver = self._receivers.get(token)
        every = self._side.ask_every_s
        if receiver is not None and receiver.waiting:
            quiet_until = receiver.heard_at + every
            if now < quiet_until:
                self._asking.ask(token, now, after_s=quiet_until - now)
                return
            for name in receiver.sender_names:
                self._initiators.tell(name, receiver.status_request().to_bytes())
            self._asking.ask(token, now)
            return
        landings = self._landings.of(token)
        for landing in landings:
            request = StatusRequest(landing.room, token, self._side.agent_name, self._side.incarnation, True)
            self._initiators.tell(landing.sender_name, request.to_bytes())
        if landings:
            self._asking.ask(token, now, after_s=2 * waited)

    # ------------------------------------------------------------------------------------ prefill sides that ended

    def _look(self, now: float) -> None:
        """Fail the rooms of prefill sides that have ended, or cannot be reached for long; free what was held because of
        those that have ended, once our own sockets have nothing of theirs."""
        self._initiators.tell_again(MOST_AT_ONCE)
        with self._lock:
            waiting = [receiver for receiver in self._receivers.values() if receiver.waiting]
        announced = {pair for receiver in waiting for pair in receiver.announced_to()}
        announced |= {(landing.sender_name, landing.incarnation) for landing in self._landings.all()}
        for name, incarnation in sorted(announced):
            evidence = self._initiators.ended.of(name, incarnation)
            if evidence is not None:
                self._ended(name, incarnation, evidence, waiting)
            elif (process := self._initiators.ended.whom_to_ask_about(name, incarnation)) is not None:
                self._initiators.tell(name, Question(process).to_bytes())
            elif now >= self._initiators.lost_since(name) + self._lost_timeout_s:
                for receiver in waiting:
                    receiver.lost(name, f"the connection to {name!r} is lost for {self._lost_timeout_s} s")
        for incarnation in self._unread.keys() - {incarnation for _, incarnation in announced}:
            del self._unread[incarnation]

    def _ended(self, name: str, incarnation: str, evidence: str, waiting: Sequence[KVReceiver]) -> None:
        for receiver in waiting:
            receiver.lost(name, f"{name!r} has ended: {evidence}", incarnation)
        unread = self._unread.get(incarnation)
        if unread is None:
            self._unread[incarnation] = UnreadSockets()  # seen again after the agent has made progress
        elif unread.empty():
            self._landings.fence(name, incarnation, f"{evidence}; our sockets were empty since")

    # -------------------------------------------------------------------------------------------------- quarantine

    def held_pages(self) -> frozenset[int]:
        """The pages that were announced for rooms that are under way, from before init() returned on, and those in
        quarantine: nobody else may be given them."""
        with self._lock:
            announced = self._announced_pages.pages
        return announced | self._landings.pages

    def quarantined_pages(self) -> frozenset[int]:
        """The pages of failed rooms at which late writes may land; they outlive their receivers."""
        return self._landings.pages

    def quarantined_aux_slots(self) -> frozenset[int]:
        return self._landings.aux_slots

    def fence(self, sender_name: str, incarnation: str | None = None) -> None:
        """Nothing that this process of a sender has on its way can land any more: free what was held because of it.

        Only the caller can know: its process is gone and our sockets are drained, or the connection was cut off.
        Without an ``incarnation`` it is the only one because of which something is held; raises KVUsageError where
        there are several. A room that is under way fails, because nothing more comes.
        """
        with self._lock:
            waiting = [receiver for receiver in self._receivers.values() if receiver.waiting]
        for receiver in waiting:
            receiver.lost(sender_name, f"{sender_name!r} is fenced off", incarnation)
        self._landings.fence(sender_name, incarnation, "the caller says so")

    def residue(self) -> int:
        """How many rooms are not cleared."""
        return len(self._receivers)

    # ------------------------------------------------------------------------------------- what the receivers call

    def _announced(self, receiver: KVReceiver, info: TransferInfo) -> None:
        with self._lock:
            self._announced_pages.hold(info.dst_kv_indices)
        self._asking.ask(receiver.token, self._side.clock())

    def _arrived(self, receiver: KVReceiver, info: TransferInfo) -> None:
        with self._lock:
            self._announced_pages.free(info.dst_kv_indices)
        self._asking.forget(receiver.token)

    def _taken(self) -> float:
        self.drain()
        return self._back_at

    def _failed(
        self, receiver: KVReceiver, info: TransferInfo, landings: tuple[Landing, ...], untold: tuple[str, ...]
    ) -> None:
        for landing in landings:
            self._landings.hold(landing)
        with self._lock:
            self._announced_pages.free(info.dst_kv_indices)
        if landings:
            self._asking.ask(receiver.token, self._side.clock())
        else:
            self._asking.forget(receiver.token)
        for name in untold:
            self._initiators.tell(name, receiver.abort_request().to_bytes(), again=True)

    def _forget(self, receiver: KVReceiver) -> None:
        with self._lock:
            self._receivers.pop(receiver.token, None)
            self._early.ended(receiver.token)

    def _pages_of(self, receiver: KVReceiver) -> frozenset[int]:
        return frozenset(page for landing in self._landings.of(receiver.token) for page in landing.pages.tolist())
