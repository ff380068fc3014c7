"""An adopter's wrong senders whose bug is in what rooms share: tables, queues, threads and connections."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NoReturn

from tests.foreign.adopter_base import BaseSystem, Chunk, Conn
from tests.foreign.adopter_right import ENDED, State, TableRoom
from tests.foreign.adopter_right_more import LazySystem
from tests.foreign.adopter_right_pool import Job, PoolFlight, PoolRoom, PoolSystem
from tests.foreign.adopter_right_queues import WindowRoom, WindowSystem
from tests.foreign.adopter_words import ERRORS, PeerGone, attribute
from tests.foreign.right_kinds import Kind

from kvsender_spec.contract import Attribution, KVPoll, TransferAborted, TransferTimeout
from kvsender_spec.kit.adapter import Adapter, Destination, Peer, RoomPlan, World

log = logging.getLogger(__name__)


# One table for all rooms.


class SharedEntryRoom(TableRoom):
    """Looks its room id up in the table at every poll()."""

    def __init__(self, system: SharedEntrySystem, plan: RoomPlan) -> None:
        super().__init__(system, plan)
        self.status = system.status

    def poll(self) -> KVPoll:
        with self.system.lock:
            if self.state not in ENDED:
                log.debug("room %d has %s", self.plan.room, self.status[self.plan.room])
            return super().poll()

    def clear(self) -> None:
        super().clear()
        with self.system.lock:
            self.status.pop(self.plan.room, None)


class SharedEntrySystem(BaseSystem):
    """KS-5.4: two openings of one room id share a table entry; when the first is cleared, poll() of the second raises
    KeyError.

    sglang #40125. Bug B08 of the field catalogue.
    """

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.status: dict[int, SharedEntryRoom] = {}

    def room(self, plan: RoomPlan) -> SharedEntryRoom:
        room = self.status[plan.room] = SharedEntryRoom(self, plan)
        return room


class ReplacedRoom(TableRoom):
    """Is gone when another opening of its id has removed the entry."""

    def __init__(self, system: OldClearsNewSystem, plan: RoomPlan) -> None:
        super().__init__(system, plan)
        self.status = system.status
        self.gone = False

    def poll(self) -> KVPoll:
        if self.gone and self.state not in ENDED:
            raise KeyError(self.plan.room)
        return super().poll()

    def clear(self) -> None:
        super().clear()
        with self.system.lock:
            owner = self.status.pop(self.plan.room, None)
            if owner is not None and owner is not self:
                owner.gone = True


class OldClearsNewSystem(BaseSystem):
    """KS-5.4: clear() of an old opening, the second one, removes the entry of the new opening of that room id.

    sglang #40125. Bug B08 of the field catalogue.
    """

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.status: dict[int, ReplacedRoom] = {}

    def room(self, plan: RoomPlan) -> ReplacedRoom:
        room = self.status[plan.room] = ReplacedRoom(self, plan)
        return room


class ExpiringRoom(TableRoom):
    """Takes its entry out of the table when its deadline has passed."""

    def __init__(self, system: ExpiringSystem, plan: RoomPlan) -> None:
        super().__init__(system, plan)
        self.requests = system.requests

    def latch(self, cause: Exception) -> None:
        if isinstance(cause, TransferTimeout):
            self.requests.pop(self.plan.incarnation, None)
        super().latch(cause)

    def abort(self) -> None:
        with self.system.lock:
            if self.state is not State.GOOD:
                log.debug("abort of %s", self.requests[self.plan.incarnation])
        super().abort()


class ExpiringSystem(BaseSystem):
    """KS-5.1: abort() of a room that has expired raises KeyError.

    vllm #21753 and #25067. Bug B46 of the field catalogue.
    """

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.requests: dict[int, ExpiringRoom] = {}

    def room(self, plan: RoomPlan) -> ExpiringRoom:
        room = self.requests[plan.incarnation] = ExpiringRoom(self, plan)
        return room


# Peers.


class StickyPeerRoom(TableRoom):
    """Writes down its peers when the transport fails it, and posts to none that is written down."""

    def __init__(self, system: StickyPeerSystem, plan: RoomPlan) -> None:
        super().__init__(system, plan)
        self.failed_peers = system.failed_peers

    def latch(self, cause: Exception) -> None:
        if isinstance(cause, ERRORS):
            self.failed_peers.update(conn.name for _, conn in self.targets)
        super().latch(cause)

    def one(self, target: Destination, conn: Conn, chunk: Chunk) -> None:
        if conn.name in self.failed_peers:
            raise PeerGone(f"{conn.name} has failed before")
        super().one(target, conn, chunk)


class StickyPeerSystem(BaseSystem):
    """KS-5.4: one passing error of one room bars its peers, which are well, from all rooms until they reconnect.

    sglang #13054. Bug B27 of the field catalogue.
    """

    def __init__(self, world: World) -> None:
        self.failed_peers: set[str] = set()
        super().__init__(world)

    def connect(self, peer: Peer) -> None:
        self.failed_peers.discard(peer.name)
        super().connect(peer)

    def room(self, plan: RoomPlan) -> StickyPeerRoom:
        return StickyPeerRoom(self, plan)


class ReaddingSystem(LazySystem):
    """KS-6.3: every new room adds the peer that is back once more, under the rooms that use it already.

    LightLLM #1470. Bug B54 of the field catalogue.
    """

    def returned(self, name: str) -> Peer:
        return self.back[name]


# One room before the others.


class InLineRoom(TableRoom):
    """Looks at its transfers when it is first in the line."""

    def __init__(self, system: OldestOnlySystem, plan: RoomPlan) -> None:
        super().__init__(system, plan)
        self.line = system

    def look(self) -> None:
        if self.line.head() in (None, self):
            super().look()


class SweepRoom(InLineRoom):
    """KS-6.2: the scan over all rooms stops at the first that is pending, so a silent peer's room starves the rest.

    SGLang 0.5.12 and 0.5.23, and vllm #58222. Bugs B32 and B47 of the field catalogue.
    """

    def look(self) -> None:
        for room in self.line.live():
            TableRoom.look(room)
            if room.flying:
                return


class OldestOnlySystem(BaseSystem):
    """KS-6.2: only the oldest room with transfers in flight is looked at, so a silent peer's room starves the others.

    nixl #2047, SGLang 0.5.12 and 0.5.23. Bug B32 of the field catalogue.
    """

    def __init__(self, world: World, rooms: Callable[[OldestOnlySystem, RoomPlan], InLineRoom] = InLineRoom) -> None:
        super().__init__(world)
        self.new_room = rooms
        self.order: list[InLineRoom] = []

    def room(self, plan: RoomPlan) -> InLineRoom:
        room = self.new_room(self, plan)
        self.order.append(room)
        return room

    def live(self) -> list[InLineRoom]:
        self.order = [room for room in self.order if room.state not in ENDED]
        return self.order

    def head(self) -> InLineRoom | None:
        return next((room for room in self.live() if room.flying), None)


class NewestOnlySystem(OldestOnlySystem):
    """KS-6.2: the same with the newest room first. Bug B32 of the field catalogue."""

    def head(self) -> InLineRoom | None:
        return next((room for room in reversed(self.live()) if room.flying), None)


class PinnedSystem(PoolSystem):
    """KS-6.2: the completing thread stays with one room until it is over, so a silent peer's room pins it.

    SGLang 0.5.12 and 0.5.23. Bug B32 of the field catalogue.
    """

    def chosen(self) -> list[PoolFlight]:
        first = next((flight.room for flight in self.flights if flight.room.said is None), None)
        return [flight for flight in self.flights if flight.room is first or flight.room.said is not None]


# Threads, and work that an abort() does not reach.


class PromotingRoom(PoolRoom):
    """KS-2.2: the last completion after an abort() that no poll() has seen makes the room Success.

    SGLang 0.5.10 to 0.5.12. Bug B14 of the field catalogue.
    """

    polled = False

    def done(self, flight: PoolFlight) -> None:
        super().done(flight)
        if isinstance(self.cause, TransferAborted) and self.closed and not self.pending and not self.polled:
            self.said, self.cause = KVPoll.Success, None

    def poll(self) -> KVPoll:
        said = super().poll()
        self.polled = self.polled or said is KVPoll.Failed
        return said


class RaisingRoom(PoolRoom):
    """KS-7.1: an error that is not the transport's fails the room and is raised again, which ends the peer's worker.

    sglang #27162. Bug B24 of the field catalogue.
    """

    def work(self, job: Job) -> None:
        super().work(job)
        if self.cause is not None and attribute(self.cause) is Attribution.INTERNAL:
            raise self.cause


class KeepsPostingRoom(WindowRoom):
    """KS-5.1: abort() sets a latch of the sender only, and the chunks that are queued are posted all the same.

    sglang #24522. Bug B29 of the field catalogue.
    """

    local: TransferAborted | None = None

    def abort(self) -> None:
        with self.system.lock:
            if self.cause is None and self.said is None:
                self.local = TransferAborted("aborted by the caller")

    def send(self, kv: Sequence[int]) -> None:
        if self.local is None:
            super().send(kv)

    def poll(self) -> KVPoll:
        with self.system.lock:
            if self.said is not None:
                return self.said
            self.windows.drive()
            if self.local is not None:
                self.fail(self.local)
            return self.conclude()

    def failure_exception(self) -> NoReturn:
        if self.cause is None:
            self.cause = self.local
        super().failure_exception()


shared_entry: Final = Kind("foreign-shared_entry", SharedEntrySystem)
old_clears_new: Final = Kind("foreign-old_clears_new", OldClearsNewSystem)
expiring: Final = Kind("foreign-expiring", ExpiringSystem)
sticky_peer: Final = Kind("foreign-sticky_peer", StickyPeerSystem)
readding: Final = Kind("foreign-readding", partial(ReaddingSystem, rooms=TableRoom))
oldest_only: Final = Kind("foreign-oldest_only", OldestOnlySystem)
newest_only: Final = Kind("foreign-newest_only", NewestOnlySystem)
sweep: Final = Kind("foreign-sweep", partial(OldestOnlySystem, rooms=SweepRoom))
pinned: Final = Kind("foreign-pinned", PinnedSystem)
promoting: Final = Kind("foreign-promoting", partial(PoolSystem, rooms=PromotingRoom))
worker_raises: Final = Kind("foreign-worker_raises", partial(PoolSystem, rooms=RaisingRoom))
keeps_posting: Final = Kind("foreign-keeps_posting", partial(WindowSystem, rooms=KeepsPostingRoom))

WRONG: Final[tuple[tuple[Adapter, str], ...]] = (
    (shared_entry, "KS-5.4"),
    (old_clears_new, "KS-5.4"),
    (expiring, "KS-5.1"),
    (sticky_peer, "KS-5.4"),
    (readding, "KS-6.3"),
    (oldest_only, "KS-6.2"),
    (newest_only, "KS-6.2"),
    (sweep, "KS-6.2"),
    (pinned, "KS-6.2"),
    (promoting, "KS-2.2"),
    (worker_raises, "KS-7.1"),
    (keeps_posting, "KS-5.1"),
)
