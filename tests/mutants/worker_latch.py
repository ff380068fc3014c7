"""Asynchronous senders that are wrong about how a room has ended. Each says whose bug it was."""

from __future__ import annotations

from typing import ClassVar, NoReturn
from weakref import WeakKeyDictionary

from tests.mutants.queued import QueuedSender
from tests.mutants.workers import Engine

from kvsender_spec.contract import Attribution, KVPoll, KVTransferError, TransferAborted
from kvsender_spec.kit.adapter import RoomPlan
from kvsender_spec.machine import LATCHED, State


class TakesTheLargerStatus(QueuedSender):
    """The worker's Success outranks an abort, because Failed is 0 and ``max()`` decides.

    SGLang 0.5.10 to 0.5.12, ``update_status``; named in the review of sglang #19205. Bug B14 of the field catalogue.
    """

    breaks: ClassVar = "KS-2.2"

    def decide(self) -> None:
        with self.lock:
            if self.state is State.FAILED and not self.concluded and self.complete():
                self.state = State.DONE
        super().decide()


class LastWriterWins(QueuedSender):
    """Each later error of the worker overwrites the reason that is kept.

    SGLang 0.5.23, ``record_failure``. Bug B03 of the field catalogue.
    """

    breaks: ClassVar = "KS-2.3"

    def fault(self, error: BaseException, attribution: Attribution | None = None) -> None:
        with self.lock:
            if self.state is State.FAILED and attribution is None:
                self.cause, self.attribution = error, self.attribute(error)
        super().fault(error, attribution)


class PopsTheReason(QueuedSender):
    """The first ``failure_exception()`` takes the reason with it; the second knows of none.

    SGLang 0.5.23, which then mutes the log as well. Bug B04 of the field catalogue.
    """

    breaks: ClassVar = "KS-2.4"
    asked = False

    def failure_exception(self) -> NoReturn:
        if self.state in LATCHED and self.asked:
            raise KVTransferError(self.plan.room, "unknown reason from another rank", self.attribution)
        self.asked = self.state in LATCHED
        super().failure_exception()


class LateAbortFlips(QueuedSender):
    """An abort that comes after Success makes a failure of it.

    SGLang 0.5.23: ``abort()`` never looks at how the room has concluded. Bug B05 of the field catalogue.
    """

    breaks: ClassVar = "KS-5.1"

    def abort(self) -> None:
        with self.lock:
            if self.state is State.DONE:
                self.state = State.SENDING
        super().abort()


class AbortStaysWithTheCaller(QueuedSender):
    """``abort()`` is known to ``poll()`` alone: the worker goes on taking chunks and posting them.

    sglang #24522, fixed in every backend at once. Bug B29 of the field catalogue.
    """

    breaks: ClassVar = "KS-5.1"
    given_up: TransferAborted | None = None

    def abort(self) -> None:
        if self.live and self.given_up is None:
            self.given_up = TransferAborted("the caller has given the room up")

    def poll(self) -> KVPoll:
        return super().poll() if self.given_up is None else KVPoll.Failed

    def failure_exception(self) -> NoReturn:
        if self.given_up is None:
            super().failure_exception()
        raise KVTransferError(self.plan.room, str(self.given_up), Attribution.CALLER) from self.given_up


class LateStatusRevives(QueuedSender):
    """What the worker learns after ``clear()`` decides anew how the room has ended.

    SGLang 0.5.10 to 0.5.12: ``update_status`` on a room that is gone inserts it (sglang #24539). Bug B15 of the field
    catalogue.
    """

    breaks: ClassVar = "KS-5.3"

    waited = False

    def decide(self) -> None:
        with self.lock:
            if self.waited and self.state is State.FAILED and not self.concluded and self.complete():
                self.state = State.DONE
        super().decide()
        self.waited = self.waits and self.plan.incarnation not in self.engine.rooms


class ClearedRoomComesBack(QueuedSender):
    """Concluding a room writes its entry again, after the caller has cleared it.

    sglang #24539: the table grows by every room that is aborted while it transfers. Bug B15 of the field catalogue.
    """

    breaks: ClassVar = "KS-4.3"

    def conclude(self) -> None:
        super().conclude()
        self.engine.rooms[self.plan.incarnation] = self


class PollNeedsTheEntry(QueuedSender):
    """``poll()`` looks the room up in a table from which ``clear()`` has taken it.

    sglang #27643 and Mooncake #1400: the KeyError ended the prefill scheduler. Bug B28 of the field catalogue.
    """

    breaks: ClassVar = "KS-5.2"

    def poll(self) -> KVPoll:
        entry = self.engine.rooms[self.plan.incarnation]
        return QueuedSender.poll(entry)


class LateRecordPoisons(QueuedSender):
    """A record that the worker writes after ``clear()`` turns the next room of that id into a failure.

    SGLang 0.5.23: one branch calls ``record_failure`` without looking whether the room is there. Bug B02 of the field
    catalogue.
    """

    breaks: ClassVar = "KS-5.4"
    records: ClassVar[WeakKeyDictionary[Engine, dict[int, BaseException]]] = WeakKeyDictionary()

    def __init__(self, engine: Engine, plan: RoomPlan) -> None:
        super().__init__(engine, plan)
        self.known = self.records.setdefault(engine, {})

    def fault(self, error: BaseException, attribution: Attribution | None = None) -> None:
        self.known.setdefault(self.plan.room, error)
        super().fault(error, attribution)

    def clear(self) -> None:
        super().clear()
        self.known.pop(self.plan.room, None)

    def complete(self) -> bool:
        completed = super().complete()
        if completed and self.plan.room in self.known:
            self.fault(self.known[self.plan.room])
            return False
        return completed


LATCH_MUTANTS: tuple[type[QueuedSender], ...] = (
    TakesTheLargerStatus,
    LastWriterWins,
    PopsTheReason,
    LateAbortFlips,
    AbortStaysWithTheCaller,
    LateStatusRevives,
    ClearedRoomComesBack,
    PollNeedsTheEntry,
    LateRecordPoisons,
)
