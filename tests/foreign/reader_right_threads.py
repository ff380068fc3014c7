"""The pump's readers with a thread: one worker that owns the transport, or one that adds holders."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from queue import Empty, Queue
from threading import Thread
from typing import Final

from tests.foreign.reader_base import Conn, Holder, Job, Kind, Request, StaleGrant, blame, log
from tests.foreign.reader_right_pump import Engine, PullReader, PullSystem

from kvsender_spec.contract import KVPoll
from kvsender_spec.kit.adapter import Adapter, Peer, World


class WorkerEngine(Engine):
    """One worker thread owns the transport; callers only leave words for it."""

    def __init__(self, world: World) -> None:
        self.inbox: Queue[Callable[[], None] | None] = Queue()
        self.closing = self.working = False
        super().__init__(world)
        self.worker = Thread(target=self.serve, daemon=True)
        self.worker.start()

    def first_contact(self) -> None:
        for peer in self.world.peers:
            super().reconnect(peer)

    def serve(self) -> None:
        while not self.closing:
            words: list[Callable[[], None] | None] = []
            if not self.flights:
                self.working = False
                words.append(self.inbox.get())
            self.working = True
            while True:
                try:
                    words.append(self.inbox.get_nowait())
                except Empty:
                    break
            for word in words:
                if word is not None:
                    self.guard(word)
            if not self.closing:
                self.guard(self.pump)
            for _ in words:
                self.inbox.task_done()

    def guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception:
            log.exception("a bug of the worker")

    def pump(self) -> None:
        self.release()
        for flight in list(self.flights):
            self.look(flight)
        for req in list(self.reqs.values()):
            self.guard(partial(self.advance, req))

    def reconnect(self, peer: Peer) -> None:
        self.inbox.put(partial(super().reconnect, peer))

    def settle(self) -> None:
        self.wake()

    def wake(self) -> None:
        self.inbox.put(lambda: None)

    def busy(self) -> int:
        return 1 if self.inbox.unfinished_tasks or self.working else 0  # between two READs there are no flights

    def close(self) -> None:
        self.closing = True
        self.inbox.put(None)


class WorkerReader(PullReader):
    def __init__(self, engine: WorkerEngine, req: Request, ready: bool = True) -> None:
        super().__init__(engine, req, ready)
        self.owner = engine

    def after_read(self) -> None:
        self.owner.wake()

    def poll(self) -> KVPoll:
        return self.answer()

    def abort(self) -> None:
        super().abort()
        if self.ready:
            self.owner.wake()

    def clear(self) -> None:
        if not self.ready:
            return
        with self.owner.lock:
            req = self.req
            if req.over is None:
                super().abort()
                req.untold, req.over = list(req.holders), KVPoll.Failed
                req.jobs.clear()
            self.owner.drop(req)
        self.owner.inbox.put(partial(self.owner.tell, req))


class WorkerSystem(PullSystem):
    def __init__(self, world: World, engine: type[WorkerEngine] = WorkerEngine) -> None:
        self.owner = owner = engine(world)
        super().__init__(world, lambda _: owner, WorkerReader)

    def workers(self) -> list[Thread]:
        return [self.owner.worker]

    def busy(self) -> int:
        return self.owner.busy()

    def close(self) -> None:
        self.owner.close()


class HandshakeEngine(Engine):
    """A thread of its own adds holders, the callers' calls post what is ready."""

    def __init__(self, world: World) -> None:
        self.inbox: Queue[Peer | None] = Queue()
        self.asked: set[tuple[str, int]] = set()
        self.refused: dict[tuple[str, int], Exception] = {}
        self.worker = Thread(target=self.serve, daemon=True)
        super().__init__(world)
        self.worker.start()

    def serve(self) -> None:
        while (peer := self.inbox.get()) is not None:
            try:
                self.shake(peer)
            except Exception as error:
                log.exception("no handshake with %s", peer.name)
                self.refused[peer.name, peer.generation] = error
            self.asked.discard((peer.name, peer.generation))
            self.inbox.task_done()

    def shake(self, peer: Peer) -> None:
        known = self.conns.get(peer.name)
        if known is None or known.generation != peer.generation:
            self.connect(peer)

    def first_contact(self) -> None:
        pass

    def reconnect(self, peer: Peer) -> None:
        self.ask_for(peer)

    def ask_for(self, peer: Peer) -> None:
        with self.lock:
            if (peer.name, peer.generation) not in self.asked:
                self.asked.add((peer.name, peer.generation))
                self.inbox.put(peer)

    def ready(self, req: Request, job: Job) -> bool:
        holder = job.holder
        conn = self.conns.get(holder.peer.name)
        connected = conn is not None and conn.generation == holder.generation
        if holder.generation != holder.peer.generation or connected:
            return True
        error = self.refused.pop((holder.peer.name, holder.generation), None)
        if error is not None:
            self.fail(req, error, blame(error))
        else:
            self.ask_for(holder.peer)
        return False

    def run_jobs(self, req: Request) -> None:
        if all(self.ready(req, job) for job in list(req.jobs)):
            super().run_jobs(req)

    def conn(self, holder: Holder) -> Conn:
        if holder.generation != holder.peer.generation:
            raise StaleGrant(f"{holder.peer.name} has started over since it granted")
        return self.conns[holder.peer.name]


class HandshakeSystem(PullSystem):
    def __init__(self, world: World) -> None:
        self.owner = owner = HandshakeEngine(world)
        super().__init__(world, lambda _: owner)

    def workers(self) -> list[Thread]:
        return [self.owner.worker]

    def busy(self) -> int:
        return min(1, self.owner.inbox.unfinished_tasks)

    def close(self) -> None:
        self.owner.inbox.put(None)


worker: Final = Kind("foreign-read-worker", WorkerSystem)
handshake: Final = Kind("foreign-read-handshake", HandshakeSystem)

RIGHT: Final[tuple[Adapter, ...]] = (worker, handshake)
