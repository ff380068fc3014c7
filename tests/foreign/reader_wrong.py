"""The pump's readers with one thing wrong each: what comes of a room, and when.

Each names the clause that it breaks, and what the report puts before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from tests.foreign.reader_base import TRANSPORT, Conn, Flight, Holder, Job, Request, StaleGrant
from tests.foreign.reader_right_pump import Engine, PullReader, pull
from tests.foreign.reader_right_retries import RetryChainEngine, RetryEngine, RetryLastEngine
from tests.foreign.reader_right_styles import ChunkStampEngine, LayerEngine, LazyEngine, QueueReader

from kvsender_spec.contract import Attribution, KVPoll, KVUsageError, TransferTimeout
from kvsender_spec.kit.adapter import Adapter, RoomPlan, World
from kvsender_spec.kit.scripted.fabric import ScriptedHandle

# Whose bytes they are.


class NoStamps(Engine):
    """KS-3.1: nothing is compared after DONE. T02 and T03 of the field catalogue."""

    def verify(self, req: Request) -> None:
        self.conclude(req, KVPoll.Success)


class StampsBefore(Engine):
    """KS-3.1: the stamps are read with the data, and not after them."""

    def add_pages(self, req: Request, pages: list[int]) -> None:
        super().add_pages(req, pages)
        if pages and not req.asked:
            req.asked = True
            asked = [self.stamp_job(holder, list(range(len(holder.pages))), holder.pages) for holder in req.holders]
            for job in asked:
                job.pages = []  # the slots have nothing to do with pages here
            req.jobs[:0] = asked

    def found(self, holder: Holder, pages: Sequence[int]) -> list[int]:
        return super().found(holder, range(len(pages)))


class FirstStampOnly(Engine):
    """KS-3.1: only the first page's stamp is compared."""

    def found(self, holder: Holder, pages: Sequence[int]) -> list[int]:
        return [*super().found(holder, pages)[:1], *holder.stamps[1:]]


class FirstHolderOnly(Engine):
    """KS-3.1: only the first holder's stamps are compared."""

    def found(self, holder: Holder, pages: Sequence[int]) -> list[int]:
        return list(holder.stamps) if holder.number else super().found(holder, pages)


class Tolerant(Engine):
    """KS-3.1: accepts a stamp that was raised once: the refill is under way."""

    def found(self, holder: Holder, pages: Sequence[int]) -> list[int]:
        pairs = zip(super().found(holder, pages), holder.stamps, strict=True)
        return [granted if 0 <= found - granted <= 1 else found for found, granted in pairs]


class SharedScratch(Engine):
    """KS-3.5: both holders' stamps land in the same slots. Its author expected KS-3.1; but the second holder's stamps
    differ from the first one's grant, so the room fails although nothing went wrong."""

    def slots(self, holder: Holder, pages: Sequence[int]) -> list[int]:
        return list(pages)


class EarlyChunksUnchecked(ChunkStampEngine):
    """KS-3.1: of the chunks only the last one's stamps are taken seriously."""

    def refilled(self, req: Request) -> None:
        if req.complete:
            super().refilled(req)


class Reversed(Engine):
    """KS-3.1: reads the pages of the grant in the opposite order."""

    def data_jobs(self, holder: Holder, here: Sequence[int], there: Sequence[int]) -> list[Job]:
        return super().data_jobs(holder, here, there[::-1])


class OneLayer(LayerEngine):
    """KS-3.1: one layer's DONE counts for the chunk. KS-1.2 comes first: the error of another layer is nobody's."""

    def heard(self, flight: Flight, answer: str) -> None:
        super().heard(flight, answer)
        if answer != "DONE" or flight.job.kind != "data":
            return
        for other in list(flight.req.flights):
            if other.job.kind == "data" and other.since <= flight.since and other.pages == flight.pages:
                other.req.flights.remove(other)
                other.req = gone = Request(other.req.plan)
                gone.over, gone.flights = KVPoll.Failed, [other]


# When a room is over.


class EmptyIsNoRoom(PullReader):
    """KS-3.2: a full prefix hit makes no entry. T10 of the field catalogue."""

    def read(self, kv_indices: Sequence[int]) -> None:
        if kv_indices or not self.ready:
            super().read(kv_indices)


class ChunkIsEnd(Engine):
    """KS-3.1: a room that has read something and has nothing in flight is over. KS-3.3 comes first, because it is so
    before the last chunk."""

    def advance(self, req: Request) -> None:
        idle = req.begun and bool(req.pages) and not req.flights and not req.jobs
        if idle and req.over is None and req.cause is None:
            self.conclude(req, KVPoll.Success)
        super().advance(req)


class ErrIsDone(Engine):
    """KS-1.2: whatever is not PROC counts as DONE. KS-2.5 comes first: the room goes on reading. T01 of the field
    catalogue."""

    def heard(self, flight: Flight, answer: str) -> None:
        if answer != "PROC":
            self.settled(flight, clean=True)


class FailedIsFinished(Engine):
    """KS-1.2: a check that raises marks pages and not the room. KS-2.5 comes first: the room goes on reading. T05 of
    the field catalogue."""

    def look(self, flight: Flight) -> None:
        assert flight.handle is not None
        try:
            answer = self.agent.check_xfer_state(flight.handle)
        except TRANSPORT:
            self.settled(flight, clean=False)
        except Exception as error:
            self.internal(flight.req, error)
        else:
            self.heard(flight, answer)


class NoDeadline(Engine):
    """KS-3.4: the deadline is never set. vllm #35943, T11 of the field catalogue."""

    def overdue(self, req: Request, now: float) -> bool:
        return False


class DeadlineFirst(Engine):
    """KS-3.5: the deadline is compared before the transport is asked."""

    def pump(self) -> None:
        for req in self.reqs.values():
            if req.over is None and self.overdue(req, self.world.clock()):
                self.fail(req, TransferTimeout("late"), Attribution.DEADLINE)
        super().pump()


class NoDrainDeadline(Engine):
    """KS-3.4: a room that has failed waits for its flights without a deadline, so a silent holder pins it."""

    def may_report(self, req: Request, now: float) -> bool:
        return not req.flights


class PumpStops(Engine):
    """KS-6.2: the pump stops at the first room that waits for its flights."""

    def pump(self) -> None:
        for req in list(self.reqs.values()):
            for flight in list(req.flights):
                self.look(flight)
            self.advance(req)
            if req.cause is not None and req.over is None:
                return
        for flight in list(self.flights):
            if flight.req.over is not None:
                self.look(flight)


# What is latched.


class LastCause(Engine):
    """KS-2.3: the last cause wins."""

    def fail(self, req: Request, error: Exception, who: Attribution) -> None:
        with self.lock:
            if req.over is None:
                req.drain_since = req.drain_since if req.failed else self.world.clock()
                req.who, req.cause = who, error


class LateAbort(PullReader):
    """KS-2.1: a late abort() turns Success into Failed. KS-5.1 comes first, which is about just that."""

    def abort(self) -> None:
        if self.ready and self.req.over is KVPoll.Success:
            self.req.over = None
        super().abort()


class Eager(PullReader):
    """KS-2.6: every poll() turns the pump, that of a room that is over as well."""

    def poll(self) -> KVPoll:
        with self.engine.lock:
            self.engine.pump()
            return self.answer()


class Poisoned(Engine):
    """KS-5.4: the record of a failure is kept by the id of the room, and poisons the next request of that id."""

    def __init__(self, world: World) -> None:
        self.bad: dict[int, tuple[Exception, Attribution]] = {}
        super().__init__(world)

    def open(self, plan: RoomPlan) -> Request:
        req = super().open(plan)
        self.reqs[plan.room] = self.reqs.pop(plan.incarnation)
        if plan.room in self.bad:
            self.fail(req, *self.bad[plan.room])
        return req

    def drop(self, req: Request) -> None:
        self.reqs.pop(req.room, None)

    def conclude(self, req: Request, result: KVPoll) -> None:
        super().conclude(req, result)
        if req.over is KVPoll.Failed and req.cause is not None:
            self.bad[req.room] = req.cause, req.who


class PageTwice(PullReader):
    """KS-8.1: accepts two remote pages for one local page."""

    def checked(self, kv_indices: Sequence[int]) -> list[int]:
        try:
            return super().checked(kv_indices)
        except KVUsageError as error:
            if "twice" in str(error) and len(self.req.pages) + len(kv_indices) <= self.req.total:
                return list(kv_indices)
            raise


# A READ that could not be made is tried again although another one of the call was posted.


class RestlessEngine(RetryEngine):
    """KS-1.2: the room goes on, or shows the first error. KS-2.5 comes before: it posts after the refusal; and KS-2.3
    where that post is refused as well, because the first refusal is the cause.
    """

    def launch(self, req: Request, job: Job, handle: ScriptedHandle) -> None:
        Engine.launch(self, req, job, handle)


class RestlessChainEngine(RestlessEngine, RetryChainEngine):
    """KS-1.2: the same, and the second error is raised from the first one. KS-2.3 asks for no more than that, but for
    the first error's words.
    """


class RestlessLastEngine(RestlessEngine, RetryLastEngine):
    """KS-1.2: the same, and the second error is the cause. KS-2.3 as well: that is another object, though its words may
    be those of the first one, and no __cause__ leads there."""


class HandshakeOnce(LazyEngine):
    """KS-2.3: a handshake that was refused is remembered for ever. Its author expected KS-6.3; but the rooms of that
    holder fail by an error of the reader's own, in the place of the transport's."""

    def __init__(self, world: World) -> None:
        self.tried: set[str] = set()
        super().__init__(world)

    def conn(self, holder: Holder) -> Conn:
        if holder.peer.name not in self.conns and holder.peer.name in self.tried:
            raise StaleGrant("the handshake failed before")
        self.tried.add(holder.peer.name)
        return super().conn(holder)


class HandshakeEscapes(LazyEngine):
    """KS-1.1: the error of a handshake leaves poll()."""

    def run_jobs(self, req: Request) -> None:
        for job in req.jobs if req.cause is None else ():
            if job.holder.peer.name not in self.conns:
                self.connect(job.holder.peer)
        super().run_jobs(req)

    def settle(self) -> None:
        with suppress(*TRANSPORT):
            super().settle()


WRONG: Final[tuple[tuple[Adapter, str], ...]] = (
    (pull("no_stamps", NoStamps), "KS-3.1"),
    (pull("stamps_before", StampsBefore), "KS-3.1"),
    (pull("first_stamp_only", FirstStampOnly), "KS-3.1"),
    (pull("first_holder_only", FirstHolderOnly), "KS-3.1"),
    (pull("tolerant", Tolerant), "KS-3.1"),
    (pull("shared_scratch", SharedScratch), "KS-3.5"),
    (pull("early_chunks_unchecked", EarlyChunksUnchecked), "KS-3.1"),
    (pull("reversed", Reversed), "KS-3.1"),
    (pull("one_layer", OneLayer), "KS-3.1"),
    (pull("empty_is_no_room", reader=EmptyIsNoRoom), "KS-3.2"),
    (pull("chunk_is_end", ChunkIsEnd), "KS-3.1"),
    (pull("err_is_done", ErrIsDone), "KS-1.2"),
    (pull("failed_is_finished", FailedIsFinished), "KS-1.2"),
    (pull("no_deadline", NoDeadline), "KS-3.4"),
    (pull("deadline_first", DeadlineFirst), "KS-3.5"),
    (pull("no_drain_deadline", NoDrainDeadline), "KS-3.4"),
    (pull("pump_stops", PumpStops), "KS-6.2"),
    (pull("last_cause", LastCause), "KS-2.3"),
    (pull("late_abort", reader=LateAbort), "KS-2.1"),
    (pull("eager", reader=Eager), "KS-2.6"),
    (pull("poisoned", Poisoned), "KS-5.4"),
    (pull("page_twice", reader=PageTwice), "KS-8.1"),
    (pull("restless_first", RestlessEngine), "KS-1.2"),
    (pull("restless_chain", RestlessChainEngine), "KS-1.2"),
    (pull("restless_last", RestlessLastEngine), "KS-1.2"),
    (pull("handshake_once", HandshakeOnce, QueueReader), "KS-2.3"),
    (pull("handshake_escapes", HandshakeEscapes, QueueReader), "KS-1.1"),
)
