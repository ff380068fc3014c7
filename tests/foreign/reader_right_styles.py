"""The pump's readers in other styles: when holders are added, what one READ brings, when stamps are read, who ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NoReturn

from tests.foreign.reader_base import REFUSED, Conn, Flight, Holder, Job, Kind, Request, StaleGrant, blame
from tests.foreign.reader_right_pump import Engine, PullReader, pull

from kvsender_spec.contract import Attribution, KVPoll
from kvsender_spec.kit.adapter import Adapter, Peer, RoomPlan, World
from kvsender_spec.kit.scripted.fabric import ScriptedHandle
from kvsender_spec.machine import Profile

# When holders are added, and who posts.


class LazyEngine(Engine):
    """Holders are added at first need; read() queues, any poll() or settle() posts."""

    def first_contact(self) -> None:
        pass


class QueueReader(PullReader):
    def after_read(self) -> None:
        pass


class SettleReader(QueueReader):
    """poll() only looks at what the background did."""

    def poll(self) -> KVPoll:
        with self.engine.lock:
            return self.answer()


class BackgroundEngine(LazyEngine):
    """settle() is the background: it adds holders, posts and looks."""

    def settle(self) -> None:
        for peer in self.world.peers:
            if peer.name not in self.conns:
                self.reconnect(peer)
        super().settle()


class BackoffEngine(LazyEngine):
    """One handshake a pump: the room that needed it fails, others wait for the next pump."""

    def __init__(self, world: World) -> None:
        self.tried: set[tuple[str, int]] = set()
        super().__init__(world)

    def pump(self) -> None:
        self.tried.clear()
        super().pump()

    def run_jobs(self, req: Request) -> None:
        if not any(self.waits(job.holder) for job in req.jobs):
            super().run_jobs(req)

    def waits(self, holder: Holder) -> bool:
        now = (holder.peer.name, holder.peer.generation)
        return holder.peer.name not in self.conns and now in self.tried and holder.generation == holder.peer.generation

    def connect(self, peer: Peer) -> None:
        self.tried.add((peer.name, peer.generation))
        super().connect(peer)


class SharedEngine(LazyEngine):
    """The error of the one handshake is the cause of every room that needed it in that pump, as of a shared future."""

    def __init__(self, world: World) -> None:
        self.known: dict[tuple[str, int], Exception] = {}
        super().__init__(world)

    def pump(self) -> None:
        self.known.clear()
        super().pump()

    def connect(self, peer: Peer) -> None:
        now = (peer.name, peer.generation)
        if now in self.known:
            raise self.known[now]
        try:
            super().connect(peer)
        except Exception as error:
            self.known[now] = error
            raise


# What one READ brings.


class PageEngine(Engine):
    """A handle a page."""

    def data_jobs(self, holder: Holder, here: Sequence[int], there: Sequence[int]) -> list[Job]:
        pairs = zip(here, there, strict=True)
        return [job for mine, theirs in pairs for job in super(PageEngine, self).data_jobs(holder, [mine], [theirs])]


class InOrderEngine(PageEngine):
    """Waits for the handles of a page in order. A later one's error is seen late, and the room ends all the same."""

    def look(self, flight: Flight) -> None:
        before = self.flights[: self.flights.index(flight)]
        data = flight.job.kind == "data"
        if not (data and any(other.req is flight.req and other.job.kind == "data" for other in before)):
            super().look(flight)


class LayerEngine(Engine):
    """A handle a layer (region)."""

    def data_jobs(self, holder: Holder, here: Sequence[int], there: Sequence[int]) -> list[Job]:
        whole, size = super().data_jobs(holder, here, there)[0], len(here)
        return [
            Job("data", holder, whole.here[at : at + size], whole.there[at : at + size], list(here), list(there))
            for at in range(0, len(whole.here), size)
        ]


class WholeEngine(Engine):
    """Nothing is posted before the last chunk; then one READ a holder."""

    def add_pages(self, req: Request, pages: list[int]) -> None:
        req.pages += pages
        req.begun = True
        for holder in req.holders if pages and req.complete else ():
            req.jobs += self.data_jobs(holder, req.pages, holder.pages)


class PrepEngine(Engine):
    """read() makes the handles, the pump posts them."""

    def prepare(self, req: Request) -> None:
        for job in req.jobs:
            if req.cause is None and job.handle is None:
                try:
                    job.handle = self.make(job)
                except REFUSED as error:
                    self.fail(req, error, blame(error))
                except Exception as error:
                    self.internal(req, error)

    def run_jobs(self, req: Request) -> None:
        self.prepare(req)
        while req.jobs and req.cause is None:
            job = req.jobs.pop(0)
            try:
                self.conn(job.holder)  # not one of a process that is gone
            except REFUSED as error:
                req.jobs.insert(0, job)
                self.fail(req, error, Attribution.PEER)
            else:
                assert job.handle is not None
                self.launch(req, job, job.handle)

    def launch(self, req: Request, job: Job, handle: ScriptedHandle) -> None:
        job.handle = None
        super().launch(req, job, handle)

    def conclude(self, req: Request, result: KVPoll) -> None:
        self.unreleased += [job.handle for job in req.jobs if job.handle is not None]
        super().conclude(req, result)
        self.release()


class PrepReader(PullReader):
    def after_read(self) -> None:
        if isinstance(self.engine, PrepEngine):
            self.engine.prepare(self.req)


# What is looked at, and when.


class ChunkStampEngine(Engine):
    """The stamps of each chunk are read as soon as its own data are DONE, and compared at once."""

    def heard(self, flight: Flight, answer: str) -> None:
        super().heard(flight, answer)
        req, job = flight.req, flight.job
        if answer != "DONE" or req.over is not None or req.cause is not None:
            return
        if job.kind == "data":
            req.jobs.append(self.stamp_job(job.holder, job.pages, job.granted))
            return
        places = [job.holder.pages.index(page) for page in job.granted]
        if self.found(job.holder, job.pages) != [job.holder.stamps[place] for place in places]:
            self.refilled(req)

    def refilled(self, req: Request) -> None:
        self.fail(req, StaleGrant("refilled"), Attribution.PEER)

    def look(self, flight: Flight) -> None:
        super().look(flight)
        self.run_jobs(flight.req)

    def verify(self, req: Request) -> None:
        self.conclude(req, KVPoll.Success)


class FollowsEngine(Engine):
    """Reads what a room was granted out of the process that has come back: its stamps differ, and the room fails."""

    def conn(self, holder: Holder) -> Conn:
        holder.generation = holder.peer.generation
        return super().conn(holder)


# Who ends a room.


class DrainReader(PullReader):
    """clear() only asks; the pump drains, tells and drops when it is over, as vLLM's delayed free does."""

    def clear(self) -> None:
        with self.engine.lock:
            if self.ready:
                self.abort()
                self.req.cleared = True
                if self.req.over is not None:
                    self.engine.drop(self.req)


class DrainEngine(Engine):
    def advance(self, req: Request) -> None:
        super().advance(req)
        if req.over is not None and req.cleared:
            self.drop(req)


class MuteEngine(Engine):
    """Tells no holder."""

    def tell(self, req: Request) -> None:
        req.untold.clear()
        self.drop(req)


class PlainReader:
    """Only what the quiescent profile asks: no abort, no clear."""

    def __init__(self, engine: Engine, req: Request) -> None:
        self.inner = PullReader(engine, req)

    def read(self, kv_indices: Sequence[int]) -> None:
        self.inner.read(kv_indices)

    def poll(self) -> KVPoll:
        return self.inner.poll()

    def failure_exception(self) -> NoReturn:
        self.inner.failure_exception()


class PlainSystem:
    def __init__(self, world: World) -> None:
        self.engine = MuteEngine(world)

    def reader(self, plan: RoomPlan) -> PlainReader:
        return PlainReader(self.engine, self.engine.open(plan))

    def quarantined_pages(self) -> frozenset[int]:
        return frozenset(self.engine.quarantined_pages())

    def settle(self) -> None:
        self.engine.settle()

    def residue(self) -> int:
        return self.engine.residue()


_STYLES: Final[tuple[Kind, ...]] = (
    pull("lazy", LazyEngine, QueueReader),
    pull("background", BackgroundEngine, SettleReader),
    pull("backoff", BackoffEngine, QueueReader),
    pull("shared_handshake", SharedEngine, QueueReader),
    pull("page", PageEngine),
    pull("in_order", InOrderEngine),
    pull("layer", LayerEngine),
    pull("whole", WholeEngine),
    pull("prep", PrepEngine, PrepReader),
    pull("chunk_stamp", ChunkStampEngine),
    pull("follows", FollowsEngine),
    pull("drain", DrainEngine, DrainReader),
)
plain: Final = Kind("foreign-read-plain", PlainSystem, Profile.QUIESCENT)

RIGHT: Final[tuple[Adapter, ...]] = (*_STYLES, plain)
