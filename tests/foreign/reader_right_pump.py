"""An own pull connector: one pump for all requests, turned by any request's poll(), as vLLM's get_finished() is."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NoReturn

from tests.foreign.reader_base import (
    REFUSED,
    TRANSPORT,
    Connections,
    Flight,
    Holder,
    Job,
    Kind,
    Request,
    StaleGrant,
    blame,
    log,
)

from kvsender_spec.contract import Attribution, KVPoll, KVTransferError, KVUsageError, TransferAborted, TransferTimeout
from kvsender_spec.kit.adapter import (
    NUM_PAGES,
    Adapter,
    Notification,
    NotificationKind,
    Peer,
    RoomPlan,
    World,
)
from kvsender_spec.kit.scripted.fabric import ScriptedHandle


class Engine(Connections):
    """All requests of one decode side, and their flights."""

    def __init__(self, world: World) -> None:
        self.reqs: dict[int, Request] = {}
        self.flights: list[Flight] = []
        self.doubt: set[int] = set()
        self.unreleased: list[ScriptedHandle] = []
        super().__init__(world)

    # What a request asks for.

    def open(self, plan: RoomPlan) -> Request:
        with self.lock:
            req = self.reqs[plan.incarnation] = Request(plan)
            return req

    def add_pages(self, req: Request, pages: list[int]) -> None:
        first = len(req.pages)
        req.pages += pages
        req.begun = True
        if any(holder.misfit for holder in req.holders):
            self.fail(req, StaleGrant(f"room {req.room}: a holder has granted too little"), Attribution.PEER)
            return
        for holder in req.holders if pages else ():
            req.jobs += self.data_jobs(holder, pages, holder.pages[first : first + len(pages)])

    def data_jobs(self, holder: Holder, here: Sequence[int], there: Sequence[int]) -> list[Job]:
        mine = [region * NUM_PAGES + page for region in holder.regions for page in here]
        theirs = [region * NUM_PAGES + page for region in holder.regions for page in there]
        return [Job("data", holder, mine, theirs, list(here), list(there))]

    def stamp_job(self, holder: Holder, pages: list[int], there: Sequence[int]) -> Job:
        return Job("stamp", holder, self.slots(holder, pages), list(there), list(pages), list(there))

    def run_jobs(self, req: Request) -> None:
        while req.jobs and req.cause is None:
            job = req.jobs[0]
            try:
                handle = self.make(job)
            except REFUSED as error:
                self.fail(req, error, blame(error))
            except Exception as error:
                self.internal(req, error)
            else:
                if req.failed:  # another thread gave it up meanwhile
                    self.unreleased.append(handle)
                    self.release()
                    return
                req.jobs.remove(job)
                self.launch(req, job, handle)

    def make(self, job: Job) -> ScriptedHandle:
        conn = self.conn(job.holder)
        mine, theirs = (self.mine, conn.data) if job.kind == "data" else (self.my_stamps, conn.stamps)
        return self.agent.make_prepped_xfer("READ", mine, job.here, theirs, job.there)

    def launch(self, req: Request, job: Job, handle: ScriptedHandle) -> None:
        flight = Flight(handle, req, job, self.world.clock())
        with self.lock:
            self.flights.append(flight)
            req.flights.append(flight)
        try:
            answer = self.agent.transfer(handle)
        except TRANSPORT as error:
            self.settled(flight, clean=False)
            self.fail(req, error, blame(error))
        except Exception as error:
            self.settled(flight, clean=False)
            self.internal(req, error)
        else:
            self.heard(flight, answer)

    # What comes of it.

    def look(self, flight: Flight) -> None:
        assert flight.handle is not None
        try:
            answer = self.agent.check_xfer_state(flight.handle)
        except TRANSPORT as error:
            self.settled(flight, clean=False)
            self.fail(flight.req, error, blame(error))
        except Exception as error:
            self.internal(flight.req, error)
        else:
            self.heard(flight, answer)

    def heard(self, flight: Flight, answer: str) -> None:
        if answer == "PROC":
            return
        self.settled(flight, clean=answer == "DONE")
        if answer != "DONE":
            self.fail(flight.req, RuntimeError(f"the transport answered {answer}"), Attribution.LOCAL)

    def settled(self, flight: Flight, *, clean: bool) -> None:
        with self.lock:
            if not clean:
                self.doubt.update(flight.pages)
            self.flights.remove(flight)
            flight.req.flights.remove(flight)
        if flight.handle is not None:
            self.unreleased.append(flight.handle)
        flight.handle = None
        self.release()

    def release(self) -> None:
        # One that was refused is tried again: a kept traceback may hold the handle.
        for handle in list(self.unreleased):
            try:
                self.agent.release_xfer_handle(handle)
            except Exception:
                log.exception("a handle could not be released now")
            else:
                self.unreleased.remove(handle)

    def fail(self, req: Request, error: Exception, who: Attribution) -> None:
        with self.lock:
            if req.over is None and req.cause is None:
                req.who, req.drain_since, req.cause = who, self.world.clock(), error

    def internal(self, req: Request, error: Exception) -> None:
        log.error("room %s: a bug", req.room, exc_info=error)
        self.fail(req, error, Attribution.INTERNAL)

    def pump(self) -> None:
        self.release()
        for flight in list(self.flights):
            self.look(flight)
        for req in list(self.reqs.values()):
            self.advance(req)

    def advance(self, req: Request) -> None:
        if req.over is not None:
            self.tell(req)
            return
        self.run_jobs(req)
        now = self.world.clock()
        if req.cause is None and self.overdue(req, now):
            silent = TransferTimeout(f"a holder was silent for {self.world.transfer_timeout_s} s")
            self.fail(req, silent, Attribution.DEADLINE)
        if req.cause is None and req.complete and not req.flights and not req.jobs:
            self.verify(req)
        if req.cause is not None and self.may_report(req, now):
            self.conclude(req, KVPoll.Failed)

    def overdue(self, req: Request, now: float) -> bool:
        return any(now - flight.since >= self.world.transfer_timeout_s for flight in req.flights)

    def may_report(self, req: Request, now: float) -> bool:
        return not req.flights or now - req.drain_since >= self.world.drain_timeout_s

    def verify(self, req: Request) -> None:
        """The data are here: read the stamps. They are here as well: compare."""
        if req.pages and not req.asked:
            req.asked = True
            req.jobs += [self.stamp_job(holder, req.pages, holder.pages) for holder in req.holders]
            self.run_jobs(req)
            if req.cause is not None or req.flights or req.jobs:
                return
        if all(self.found(holder, req.pages) == list(holder.stamps) for holder in req.holders):
            self.conclude(req, KVPoll.Success)
        else:
            self.fail(req, StaleGrant(f"room {req.room}: a holder refilled what it granted"), Attribution.PEER)

    def conclude(self, req: Request, result: KVPoll) -> None:
        with self.lock:
            if req.over is None and (result is KVPoll.Failed or req.cause is None):
                req.untold = list(req.holders)
                req.jobs.clear()
                req.over = result
        self.tell(req)

    def message(self, req: Request) -> bytes:
        what = "ok" if req.over is KVPoll.Success else f"failed {type(req.cause).__name__}: {req.cause}"
        return f"{req.room} {req.incarnation} {what}".encode()

    def tell(self, req: Request) -> None:
        while req.untold:
            holder = req.untold.pop(0)
            if holder.generation == holder.peer.generation:  # else the process that granted is gone
                self.send(holder, self.message(req))

    def send(self, holder: Holder, message: bytes) -> None:
        try:
            self.agent.send_notif(holder.peer.name, message)
        except Exception:
            log.exception("%s could not be told", holder.peer.name)

    def drop(self, req: Request) -> None:
        self.reqs.pop(req.incarnation, None)

    def quarantined_pages(self) -> set[int]:
        with self.lock:
            return self.doubt.union(*(flight.pages for flight in self.flights if flight.req.over is not None))

    def settle(self) -> None:
        with self.lock:
            self.pump()

    def residue(self) -> int:
        return len(self.reqs) + len(self.flights) + len(self.unreleased)


class PullReader:
    """One request's reader. One that is not ``ready`` has had no init()."""

    def __init__(self, engine: Engine, req: Request, ready: bool = True) -> None:
        self.engine, self.req, self.ready = engine, req, ready

    def read(self, kv_indices: Sequence[int]) -> None:
        with self.engine.lock:
            if not self.ready:
                raise KVUsageError("read() before init()")
            if self.req.cause is not None:
                return
            self.engine.add_pages(self.req, self.checked(kv_indices))
            self.after_read()

    def after_read(self) -> None:
        self.engine.run_jobs(self.req)

    def checked(self, kv_indices: Sequence[int]) -> list[int]:
        try:
            pages = [operator.index(page) for page in kv_indices]
        except TypeError as error:
            raise KVUsageError(f"{kv_indices!r} are no page ids") from error
        every = self.req.pages + pages
        if any(isinstance(page, bool) for page in kv_indices) or any(not 0 <= page < NUM_PAGES for page in pages):
            raise KVUsageError(f"{pages}: no such pages")
        if len(every) > self.req.total or len(set(every)) < len(every):
            raise KVUsageError(f"{pages}: more pages than were announced, or some of them twice")
        return pages

    def poll(self) -> KVPoll:
        with self.engine.lock:
            if self.req.over is None:
                self.engine.pump()
            return self.answer()

    def answer(self) -> KVPoll:
        req = self.req
        if req.over is not None:
            return req.over
        return KVPoll.Transferring if req.begun or req.cause is not None else KVPoll.WaitingForInput

    def failure_exception(self) -> NoReturn:
        req = self.req
        if req.cause is None:
            raise KVUsageError("the room has not failed")
        raise KVTransferError(req.room, f"{type(req.cause).__name__}: {req.cause}", req.who) from req.cause

    def abort(self) -> None:
        with self.engine.lock:
            if self.ready:
                aborted = TransferAborted(f"room {self.req.room} was aborted")
                self.engine.fail(self.req, aborted, Attribution.CALLER)

    def clear(self) -> None:
        with self.engine.lock:
            if not self.ready:
                return
            if self.req.over is None:
                self.abort()
                self.engine.conclude(self.req, KVPoll.Failed)
            self.engine.drop(self.req)


class PullSystem:
    """The decode side as the kit sees it."""

    takes_parts: Final = True
    takes_new_names: Final = True

    def __init__(self, world: World, engine: Callable[[World], Engine], reader: type[PullReader] = PullReader) -> None:
        self.engine, self.new_reader = engine(world), reader

    def reader(self, plan: RoomPlan) -> PullReader:
        return self.new_reader(self.engine, self.engine.open(plan))

    def uninitialised(self, plan: RoomPlan) -> PullReader:
        return self.new_reader(self.engine, Request(plan), ready=False)

    def quarantined_pages(self) -> frozenset[int]:
        return frozenset(self.engine.quarantined_pages())

    def settle(self) -> None:
        self.engine.settle()

    def residue(self) -> int:
        return self.engine.residue()

    def reconnect(self, peer: Peer) -> None:
        self.engine.reconnect(peer)

    def attribution(self, error: BaseException) -> Attribution | None:
        return error.attribution if isinstance(error, KVTransferError) else None

    def read_notification(self, message: bytes) -> Notification | None:
        room, incarnation, what, *reason = message.decode().split(" ", 3)
        kind = NotificationKind.SUCCESS if what == "ok" else NotificationKind.FAILURE
        return Notification(kind, int(room), int(incarnation), " ".join(reason))


def pull(name: str, engine: type[Engine] = Engine, reader: type[PullReader] = PullReader) -> Kind:
    """An adapter of a style of the pump."""
    return Kind(f"foreign-read-{name}", partial(PullSystem, engine=engine, reader=reader))


pump: Final = pull("pump")

RIGHT: Final[tuple[Adapter, ...]] = (pump,)
