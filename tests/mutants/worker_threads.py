"""Asynchronous senders that are wrong about threads. Each has one thing wrong, and says whose bug it was."""

from __future__ import annotations

from contextlib import suppress
from typing import ClassVar

from tests.mutants.queued import Chunk, Fate, Flight, QueuedSender
from tests.mutants.workers import Engine

from kvsender_spec.contract import Attribution, KVPoll
from kvsender_spec.machine import State


class WorkerDies(Engine):
    """The worker raises again what one room has raised, and every later room waits for a thread that is gone.

    sglang #27162, still there in 0.5.23. Bug B24 of the field catalogue. The thread ends without a traceback, so that
    the kit has to find out by itself.
    """

    breaks: ClassVar = "KS-7.1"

    def serve(self) -> None:
        with suppress(Exception):
            super().serve()

    def see_to(self, room: QueuedSender) -> bool:
        waits = room.work()
        if room.cause is not None and room.attribution is Attribution.INTERNAL:
            raise room.cause
        return waits


class WorkerAsksForEver(Engine):
    """The worker asks about a transfer until it has no error any more.

    SGLang 0.5.12: ``while handles`` in the transfer worker. Bug B32 of the field catalogue.
    """

    breaks: ClassVar = "KS-3.7"

    def ask(self, flight: Flight, transport_errors: tuple[type[Exception], ...]) -> Exception | None:
        while super().ask(flight, transport_errors) is not None:
            flight.fate = Fate.FLYING
        return None


class ControlThreadDies(Engine):
    """A frame that nobody knows ends the thread that reads them.

    sglang #30352: a guard's assertion in the bootstrap thread. Bugs B13 and B25 of the field catalogue.
    """

    breaks: ClassVar = "KS-7.1"

    def read_letters(self) -> None:
        with suppress(Exception):
            super().read_letters()

    def read(self, letter: bytes) -> None:
        self.obey(letter)


class OneRoomAtATime(Engine):
    """The worker stays with a room until its transfers have settled, and the other rooms wait behind a silent peer.

    SGLang 0.5.12 and 0.5.23: ``while handles``, one queue for many rooms. Bug B32 of the field catalogue.
    """

    breaks: ClassVar = "KS-3.4"

    def see_to(self, room: QueuedSender) -> bool:
        room.post_chunks()
        while any(flight.fate is Fate.FLYING for flight in room.flights) and not self.closing:
            room.ask_about(room.flights)
        return super().see_to(room)


class AbortBesideTheLock(QueuedSender):
    """The worker looks at the latch and posts without holding the lock: an abort in between is too late.

    SGLang 0.5.12: an abort that lands while the last chunk is posted. Bug B14 of the field catalogue.
    """

    breaks: ClassVar = "KS-7.2"

    def post_chunk(self, chunk: Chunk) -> None:
        try:
            for target in self.targets():
                if self.live:
                    self.post(self.make(target, chunk))
        except Exception as error:
            self.fault(error)
            return
        self.closed = chunk.last


class PollSeesHalfAChunk(QueuedSender):
    """``poll()`` decides by itself, from what the worker has noted of a last chunk that is only half posted.

    SGLang 0.5.12: the sender's own snapshot and the worker's status are two truths. Bug B14 of the field catalogue.
    """

    breaks: ClassVar = "KS-7.2"

    def post_chunk(self, chunk: Chunk) -> None:
        self.closed = chunk.last
        super().post_chunk(chunk)

    def poll(self) -> KVPoll:
        if self.state in (State.IDLE, State.SENDING) and self.closed and all(f.fate is Fate.DONE for f in self.flights):
            self.state = State.DONE
            return KVPoll.Success
        return super().poll()


THREAD_MUTANTS: tuple[type[QueuedSender], ...] = (AbortBesideTheLock, PollSeesHalfAChunk)
ENGINE_MUTANTS: tuple[type[Engine], ...] = (WorkerDies, WorkerAsksForEver, ControlThreadDies, OneRoomAtATime)
