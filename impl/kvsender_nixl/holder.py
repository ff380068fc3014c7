"""The prefill side of pull: its pool is read by others, and it is the target of their READs.

A target is told nothing by the transport: no event, no error, and nothing that it can call stops a READ that has begun.
So a holder keeps pages until each of its readers has shown that it is finished, and what it does not know it takes for
not finished. A lease bounds how long a *request* may take, never how long pages are kept (KS-9.2).

A process has one ``Holder``, and calls ``drain()`` and ``sweep()`` in its loop, beside the polls of its rooms. Without
a progress thread this is also what moves bytes on some transports. All methods may be called from any thread.

Beside the hold there is a second line of defence, for a fence that was wrong and for a reader that nobody knows of:
content is written to pages within ``refilling()`` only, which changes their stamps, and a reader whose stamps are not
those of its grant fails. So it may be sent another prompt's bytes, and does not accept them.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Generic

import numpy as np

from kvsender_nixl.agent import TRANSPORT_ERRORS
from kvsender_nixl.buffers import Layout, Stamps
from kvsender_nixl.chunks import Announcement
from kvsender_nixl.exchange import PeerMetadata, parse_message, take_arrived
from kvsender_nixl.held import HeldRoom, HolderSide, RoomPlan
from kvsender_nixl.holding import Contacts, Evidence, HolderOptions, incarnation_of
from kvsender_nixl.holds import Holds, Withdrawable
from kvsender_nixl.leases import Leases
from kvsender_nixl.notifications import (
    TOKEN,
    RenewNotification,
    parse_told_holder,
)
from kvsender_nixl.peers import Spawn, spawn_daemon
from kvsender_nixl.status import AbortRequest
from kvsender_nixl.unsent import Unsent
from kvsender_spec.contract import Clock, DlistT, HandleT, KVUsageError, Transport

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kvsender_nixl.buffers import Buffers

logger = logging.getLogger(__name__)

SWEEP_LIMIT: Final = 64


class Holder(Generic[DlistT, HandleT]):
    """Registers the pool and its stamps with the agent, and makes a held room for each request.

    ``pool`` is kept alive by it. ``exports`` can take the pool's addresses away page by page (``RemappedPool``); left
    out, nothing can, as with memory of a GPU. ``transport_errors`` is what the transport's calls raise when the
    transport fails; ``spawn`` runs the connecting to a reader in the background. Raises what the transport raises when
    the memory cannot be registered.
    """

    def __init__(
        self,
        agent: Transport[DlistT, HandleT],
        pool: Buffers,
        options: HolderOptions | None = None,
        *,
        exports: Withdrawable | None = None,
        clock: Clock = time.monotonic,
        transport_errors: tuple[type[Exception], ...] = TRANSPORT_ERRORS,
        spawn: Spawn = spawn_daemon,
    ) -> None:
        self._agent: Final = agent
        self._pool: Final = pool
        self._options: Final = HolderOptions() if options is None else options
        self._clock: Final = clock
        self._errors: Final = transport_errors
        self._kv: Final[Layout] = pool.layout
        self._stamps: Final = Stamps(self._kv.num_items)
        for layout in (self._kv, self._stamps.layout):
            agent.register_memory(layout.registrations(), layout.mem_type)
        self._peers: Final[Contacts[DlistT, HandleT]] = Contacts(
            agent, self._kv, self._stamps.layout, transport_errors, spawn=spawn
        )
        self._unsent: Final[Unsent[DlistT, HandleT]] = Unsent(agent, self._peers, transport_errors)
        self._lock: Final = threading.Lock()
        self._holds: Final = Holds(pool, self._stamps, exports)
        self._leases: Final = Leases(agent.name, clock, self._options.most_rooms)
        self._to_tell: deque[tuple[str, AbortRequest]] = deque()
        self.drained: Final = self._leases.counts
        self._side: Final = HolderSide(
            agent_name=agent.name,
            clock=clock,
            holds=self._holds,
            changing=self._changing,
            arrived=self.drain,
            incarnation=self.incarnation,
            tell=lambda reader, word: self._to_tell.append((reader, word)),
            forget=self._leases.forget,
            quiet=self._leases.drained,
        )

    # ---------------------------------------------------------------------------------------------------- readers

    def metadata(self) -> PeerMetadata:
        """What a reader needs in order to reach this side; the same until something else is registered."""
        return PeerMetadata(self._agent.name, self._agent.get_agent_metadata(), self._kv, self._stamps.layout)

    def register_reader(self, metadata: PeerMetadata) -> None:
        """Make a reader known and connect to it, so that it can be told of ends. It may also send its metadata itself.

        The first time this waits for the connection. Raises KVUsageError when its memory does not fit ours.
        """
        self._peers.register(metadata)

    def incarnation(self, reader: str) -> str | None:
        """Which process is registered under this name now, as ``fence`` takes it; None where none is."""
        peer = self._peers.get(reader)
        return None if peer is None else incarnation_of(peer.metadata)

    # ----------------------------------------------------------------------------------------------- rooms, refills

    def hold(
        self,
        room: int,
        kv_indices: NDArray[np.int32] | NDArray[np.int64],
        readers: Sequence[str],
        *,
        token: str | None = None,
        regions: Sequence[int] = (),
        required_dst_info_num: int = 1,
        lease_s: float | None = None,
        reader_deadline_s: float | None = None,
        stamps: NDArray[np.uint64] | None = None,
    ) -> HeldRoom:
        """Hold these pages, int32 or int64 ids of shape ``(n,)``, for these readers of one incarnation of a room.

        They are held when this returns; ``HeldRoom.grant`` then makes what each reader must be told. ``token`` names
        the incarnation; left out, it is random. ``regions`` and ``required_dst_info_num`` go into the grants. Seconds,
        and from the options where they are left out: ``lease_s`` is the duration of the lease, ``reader_deadline_s``
        how long the readers may take, as they have told. ``stamps`` is what ``refilling`` has given for the content
        that is meant, uint64 of shape ``(n,)``; left out, what the pages have now is meant.

        Raises KVUsageError, and holds nothing, for readers that have not registered, pages that do not exist, are
        withdrawn or have no content, other stamps, a token that is or was in use, a lease that is not longer than its
        readers may take, and more rooms than the options allow.
        """
        names = tuple(readers)
        lease = self._options.duration(lease_s, reader_deadline_s)
        if isinstance(readers, str) or not names or len(set(names)) < len(names):
            raise KVUsageError(f"readers are {readers!r}: not one name or several different ones")
        for name in names:
            if self.incarnation(name) is None:
                raise KVUsageError(f"room {room}: reader {name!r} has not registered")
        if any(not 0 <= region < len(self._kv.regions) for region in regions) or len(set(regions)) < len(regions):
            raise KVUsageError(f"regions are {tuple(regions)}, of a pool with {len(self._kv.regions)}")
        if required_dst_info_num < 1:
            raise KVUsageError(f"required_dst_info_num is {required_dst_info_num}")
        pages = self._pages(kv_indices)
        token = uuid.uuid4().hex if token is None else token
        if not TOKEN.fullmatch(token):
            raise KVUsageError(f"token {token!r} is not 1 to 64 letters, digits or ._:-")

        def make() -> HeldRoom:
            now = self._holds.take(pages, stamps)
            plan = RoomPlan(room, token, pages, now, names, tuple(regions), required_dst_info_num, lease)
            return HeldRoom(self._side, plan)

        with self._changing():
            return self._leases.add(token, make)

    @contextmanager
    def refilling(self, kv_indices: NDArray[np.int32] | NDArray[np.int64]) -> Iterator[NDArray[np.uint64]]:
        """Write content to these pages, int32 or int64 ids of shape ``(n,)``, in here, and nowhere else.

        Gives the stamps that they will have afterwards, uint64 of the same shape, for ``hold``. Where the content is
        written on a GPU, its stream must have come to the end of it before this is left. Where it is left by an
        exception, the pages have no content. Withdrawn pages are zeros when it is entered.

        Raises KVUsageError for pages that do not exist, are held, are in quarantine or are being refilled, and OSError
        where the system has no fresh memory for withdrawn ones.
        """
        pages = self._pages(kv_indices)
        with self._lock:
            self._holds.begin_refill(pages)
        filled = False
        try:
            with self._stamps.refilling(pages):
                yield self._stamps.values[pages] + np.uint64(1)
            filled = True
        finally:
            with self._lock:
                self._holds.end_refill(pages, filled=filled)

    def held_pages(self) -> frozenset[int]:
        """The pages of live rooms."""
        with self._lock:
            return self._holds.held()

    def quarantined_pages(self) -> frozenset[int]:
        """The pages of rooms that have ended, which some reader may still read: not to be refilled. They may be held
        for other rooms, with the content that they have."""
        with self._lock:
            return self._holds.quarantined()

    def withdrawn_pages(self) -> frozenset[int]:
        """The pages whose exported addresses were taken from readers that may still read: not to be held for other
        rooms. They may be refilled."""
        with self._lock:
            return self._holds.withdrawn()

    def fence(self, reader: str, incarnation: str, evidence: Evidence) -> int:
        """One process of a reader can read nothing of ours any more: end what is held because of it.

        ``incarnation`` is what ``Holder.incarnation`` said when the process was the registered one; another process of
        the same name is not covered. Returns how many rooms it concerned. Only the caller can have the evidence: an
        error, a silence and the end of a lease are none. Raises KVUsageError for evidence that is none of those named.
        """
        if not isinstance(evidence, Evidence):
            raise KVUsageError(f"evidence is {evidence!r}, not one of {[each.name for each in Evidence]}")
        with self._changing():
            freed = self._leases.fence(reader, incarnation, evidence)
        logger.info("%s: reader %r, process %s, concerned %d rooms", evidence.value, reader, incarnation, freed)
        return freed

    def residue(self) -> int:
        """How many rooms are not cleared, or have readers that may still read."""
        return len(self._leases)

    def close(self) -> int:
        """Give up what is live, tell it, and release the connections to readers. Returns ``residue()``.

        The agent, and the memory, must live until ``drain`` has brought this to zero: the end of the agent stops no
        READ where its reader copies by itself. Nothing can be held any more.
        """
        with self._lock:
            rooms = self._leases.rooms()
        for held in rooms:
            held.clear()
        self._peers.close()
        return self.residue()

    # ------------------------------------------------------------------------------------------- the caller's loop

    def drain(self) -> int:
        """Take what the readers have sent, and return how many messages there were. Never raises.

        What is malformed, refused, late, or of a room or a reader that it does not fit, is counted in ``drained`` and
        changes nothing; a renewal that has no lease is answered with ``LeaseLost``.
        """
        arrived = take_arrived(self._agent, self._errors, self.drained)
        refused = 0
        for agent_name, message in arrived:
            try:
                self._take(agent_name, message)
            except ValueError as error:  # KVUsageError among them
                refused += 1
                logger.warning("message of agent %r is refused: %s", agent_name, error)
            except Exception:
                refused += 1
                logger.exception("message of agent %r", agent_name)
        with self._lock:
            self.drained.messages += len(arrived)
            self.drained.malformed += refused
        return len(arrived)

    def _take(self, agent_name: str, message: bytes) -> None:
        if message.startswith(b"{"):
            said = parse_message(message)
            if not isinstance(said, PeerMetadata) or said.agent_name != agent_name:
                raise ValueError(f"{said!r:.200} is not for a holder, or speaks for another agent")
            self._peers.register(said, background=True)  # a loop must not wait for a connection
            return
        notice = parse_told_holder(message)
        self._peers.revive(agent_name)  # it lives: if its connection broke, this is the moment to remake it
        with self._changing():
            if isinstance(notice, RenewNotification):
                self._to_tell.extend((agent_name, lost) for lost in self._leases.renew(agent_name, notice))
            else:
                self._leases.take(agent_name, notice)

    def sweep(self, limit: int = SWEEP_LIMIT) -> int:
        """End at most ``limit`` requests whose lease is over, and tell again what could not be told. Returns
        ``residue()``."""
        with self._lock:
            some = self._leases.some_due()
        if some:
            self.drain()  # an end notice that is there comes before the end of a lease
            with self._lock:
                due = self._leases.due(limit)
            for held in due:
                held.expire()
        self._unsent.sweep(limit)
        return self.residue()

    # ------------------------------------------------------------------------------------------------------- inside

    def _pages(self, kv_indices: NDArray[np.int32] | NDArray[np.int64]) -> NDArray[np.int32]:
        return Announcement(len(kv_indices), None, self._kv, None).accept(kv_indices)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Hold the lock; what there is to be told is told when it is given back, because sending may take long."""
        with self._lock:
            yield
        for _ in range(len(self._to_tell)):
            try:
                reader, word = self._to_tell.popleft()
            except IndexError:
                return  # another thread has told it
            self._tell(reader, word)

    def _tell(self, reader: str, word: AbortRequest) -> None:
        try:
            self._agent.send_notif(reader, word.to_bytes())
        except self._errors as error:
            self._peers.blame(error, reader, None)
            peer = self._peers.get(reader)
            logger.info("reader %r could not be told %s of room %d: %r", reader, word.kind, word.room, error)
            if peer is not None:
                self._unsent.keep(reader, peer.metadata, word.to_bytes())
