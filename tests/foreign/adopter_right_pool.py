"""An adopter's right sender with threads: a worker for each peer, and one that completes what is in flight."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Condition, Thread
from typing import Final

from tests.foreign.adopter_base import BaseSystem, Chunk, Conn, Flight, Pairs, Room, log
from tests.foreign.adopter_words import ERRORS, At, heard, note
from tests.foreign.right_kinds import Kind

from kvsender_spec.contract import KVPoll, TransferAborted
from kvsender_spec.kit.adapter import Adapter, NotificationKind, Peer, RoomPlan, World


@dataclass(eq=False)
class Job:
    """One chunk for one peer."""

    room: PoolRoom
    conn: Conn
    pairs: Pairs
    aux: tuple[int, int] | None


@dataclass(eq=False, kw_only=True)
class PoolFlight(Flight):
    """A transfer that a worker has made, and its room."""

    room: PoolRoom


class PoolRoom(Room):
    """send() leaves a job for each peer with the workers; poll() only answers what they have found."""

    wraps = False

    def __init__(self, system: PoolSystem, plan: RoomPlan) -> None:
        super().__init__(system, plan)
        self.pool = system
        self.said: KVPoll | None = None
        self.pending = 0
        self.held: list[PoolFlight] = []

    def send(self, kv: Sequence[int]) -> None:
        with self.pool.changed:
            chunk = self.accept(kv)
            if chunk is None:
                return
            self.closed = self.closed or chunk.last
            for target, conn in self.targets:
                self.queue(conn, self.pairs(target, chunk), chunk, target.aux_index)
            self.pool.changed.notify_all()
            if self.closed and not self.pending:
                self.end()

    def queue(self, conn: Conn, pairs: Pairs, chunk: Chunk, aux_index: int) -> None:
        if pairs or chunk.last:
            self.pending += 1
            aux = (self.plan.aux_index, aux_index) if chunk.last else None
            self.pool.jobs[conn.name].append(Job(self, conn, pairs, aux))

    def fail(self, cause: Exception) -> None:
        if self.cause is None and self.said is None:
            note(cause)
            self.cause = cause
            for flight in self.held:
                self.system.quarantine.update(flight.pages)
            self.said = KVPoll.Failed
            self.tell(NotificationKind.FAILURE)
            self.pool.wake()

    def end(self) -> None:
        if self.cause is None and self.said is None:
            self.said = KVPoll.Success
            self.tell(NotificationKind.SUCCESS)
            self.pool.wake()

    def failed(self) -> bool:
        return self.cause is not None

    def work(self, job: Job) -> None:
        """What a worker does with a job. A failure is the room's, never the worker's."""
        flight: PoolFlight | None = None
        try:
            flight = self.take(job)
            if flight is None:
                return
            flight.at = heard(self.system.transport.transfer(flight.handle))
            with self.pool.changed:
                if flight.at is At.DONE:
                    self.done(flight)
                else:
                    self.pool.flights.append(flight)
                    self.pool.changed.notify_all()
        except Exception as error:
            with self.pool.changed:
                if flight is None:
                    self.fail(error)
                else:
                    self.broken(flight, error)

    def take(self, job: Job) -> PoolFlight | None:
        """The job's transfer, not posted; None if the room has failed meanwhile."""
        with self.pool.changed:
            if self.failed():
                return None
            dlist = self.system.usable(job.conn)
            mine, theirs = self.system.index(job.pairs, job.aux)
        handle = self.system.transport.make_prepped_xfer("WRITE", self.system.local, mine, dlist, theirs)
        with self.pool.changed:
            if self.failed():
                self.system.dead.append(handle)
                self.pool.wake()
                return None
            flight = PoolFlight(handle, [page for page, _ in job.pairs], self.system.world.clock(), room=self)
            self.held.append(flight)
            return flight

    def done(self, flight: PoolFlight) -> None:
        self.let_go(flight)
        self.pending -= 1
        if self.cause is not None:
            self.system.quarantine.subtract(flight.pages)
        elif self.closed and not self.pending:
            self.end()

    def broken(self, flight: PoolFlight, error: Exception) -> None:
        self.fail(error)  # which quarantines its pages with the others, for good
        self.let_go(flight)

    def let_go(self, flight: PoolFlight) -> None:
        self.held.remove(flight)
        self.system.dead.append(flight.handle)
        self.pool.wake()

    def check(self, flight: PoolFlight) -> None:
        """What the completing thread does with a transfer in flight."""
        try:
            at = heard(self.system.transport.check_xfer_state(flight.handle))
        except ERRORS as error:
            with self.pool.changed:
                self.pool.flights.remove(flight)
                self.broken(flight, error)
        except Exception as error:  # says nothing about the transfer
            with self.pool.changed:
                self.fail(error)
        else:
            if at is At.DONE:
                with self.pool.changed:
                    self.pool.flights.remove(flight)
                    self.done(flight)

    def poll(self) -> KVPoll:
        with self.pool.changed:
            if self.said is not None:
                return self.said
            return KVPoll.Transferring if self.pending else KVPoll.WaitingForInput

    def abort(self) -> None:
        with self.pool.changed:
            self.fail(TransferAborted("aborted by the caller"))

    def clear(self) -> None:
        with self.pool.changed:
            self.system.rooms.discard(self)
            self.fail(TransferAborted("cleared by the caller"))


class PoolSystem(BaseSystem):
    """A worker for each peer makes and posts; one thread looks at all transfers, tells the peers and releases."""

    def __init__(self, world: World, rooms: Callable[[PoolSystem, RoomPlan], PoolRoom] = PoolRoom) -> None:
        super().__init__(world)
        self.new_room = rooms
        self.changed = Condition(self.lock)
        self.jobs: dict[str, deque[Job]] = {peer.name: deque() for peer in world.peers}
        self.at_work: set[str] = set()
        self.flights: list[PoolFlight] = []
        self.mail = False
        self.completing = False
        self.closing = False
        self.threads = [Thread(target=self.serve, args=(name,), daemon=True, name=f"peer {name}") for name in self.jobs]
        self.threads.append(Thread(target=self.complete, daemon=True, name="complete"))
        for thread in self.threads:
            thread.start()

    def room(self, plan: RoomPlan) -> PoolRoom:
        return self.new_room(self, plan)

    def serve(self, name: str) -> None:
        """A peer's worker."""
        while True:
            with self.changed:
                self.at_work.discard(name)
                self.changed.wait_for(lambda: self.jobs[name] or self.closing)
                if self.closing:
                    return
                self.at_work.add(name)
                job = self.jobs[name].popleft()
            job.room.work(job)

    def complete(self) -> None:
        """The thread that looks at what is in flight, says what is to be said and releases."""
        while True:
            with self.changed:
                self.completing = False
                self.changed.wait_for(lambda: self.flights or self.mail or self.closing)
                if self.closing:
                    return
                self.completing = True
                flights = self.chosen()
                self.mail = False
            self.post_mail()
            for flight in flights:
                flight.room.check(flight)
            with self.changed:
                for flight in self.flights:
                    if flight in flights and flight.room.overdue([flight]):
                        flight.room.fail(flight.room.silent())
            self.post_mail()

    def chosen(self) -> list[PoolFlight]:
        """What to look at in this round."""
        return list(self.flights)

    def post_mail(self) -> None:
        with self.changed:
            outbox, self.outbox = self.outbox, []
            dead, self.dead = self.dead, []
        for conn, message in outbox:
            if conn.stale or conn.error is not None:
                continue
            try:
                self.transport.send_notif(conn.name, message)
            except Exception as error:
                log.warning("cannot tell %s: %s", conn.name, error, exc_info=not isinstance(error, ERRORS))
        for handle in dead:
            try:
                self.transport.release_xfer_handle(handle)
            except Exception as error:
                log.warning("release refused: %s", error, exc_info=not isinstance(error, ERRORS))
                with self.changed:
                    self.dead.append(handle)

    def wake(self) -> None:
        self.mail = True
        self.changed.notify_all()

    def settle(self) -> None:
        with self.changed:
            if self.dead or self.outbox:
                self.wake()

    def workers(self) -> Sequence[Thread]:
        return self.threads

    def busy(self) -> int:
        with self.changed:
            workers = sum(1 for name, jobs in self.jobs.items() if jobs or name in self.at_work)
            return workers + bool(self.flights or self.mail or self.completing)

    def close(self) -> None:
        with self.changed:
            self.closing = True
            self.changed.notify_all()

    def residue(self) -> int:
        return super().residue() + len(self.flights)

    def reconnect(self, peer: Peer) -> None:
        with self.lock:
            old = self.conns[peer.name]
            old.stale = True
            self.drop(old)
            self.connect(peer)


pool: Final = Kind("foreign-pool", PoolSystem)

RIGHT: Final[tuple[Adapter, ...]] = (pool,)
