"""Asynchronous senders that are wrong about transfers, pages or peers. Each says whose bug it was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar
from weakref import WeakKeyDictionary

from tests.mutants.queued import DISCONNECT, Chunk, Fate, Flight, QueuedSender
from tests.mutants.workers import Engine

from kvsender_spec.contract import Attribution, TransferTimeout
from kvsender_spec.kit.adapter import Destination, NotificationKind
from kvsender_spec.machine import State


class GivesUpAtTheFirstError(QueuedSender):
    """The room is over as soon as one handle raises; its siblings are in flight, and their pages are free.

    vllm #41853, and SGLang 0.5.12 where another peer's post fails. Bugs B42 and B31 of the field catalogue.
    """

    breaks: ClassVar = "KS-4.1"

    def drained(self) -> bool:
        return True

    def quarantine(self) -> None:
        self.engine.doubtful += [f for f in self.flights if f.fate in (Fate.ERRORED, Fate.REJECTED)]


class DropsTheSiblings(QueuedSender):
    """At the end of a failed room its handles are dropped, and what is in flight is released by the garbage collector.

    SGLang 0.5.12; NIXL's handles release themselves (sglang #14070). Bugs B31 and B30 of the field catalogue.
    """

    breaks: ClassVar = "KS-4.2"

    def conclude(self) -> None:
        super().conclude()
        for flight in self.flights:
            if flight.fate is Fate.FLYING:
                flight.handle = None
                self.engine.strays.remove(flight)


class ForgetsTheCount(QueuedSender):
    """An error takes the whole count of outstanding transfers away, and with it those that still run.

    sglang #36707: the skip path pops a count that was kept on purpose. Bug B11 of the field catalogue.
    """

    breaks: ClassVar = "KS-4.1"
    outstanding = 0

    def post(self, flight: Flight) -> None:
        super().post(flight)
        self.outstanding += 1

    def fault(self, error: BaseException, attribution: Attribution | None = None) -> None:
        super().fault(error, attribution)
        if self.attribution is not Attribution.CALLER:
            self.outstanding = 0

    def quarantine(self) -> None:
        counted = Fate.DONE if self.outstanding else Fate.FLYING
        self.engine.doubtful += [f for f in self.flights if f.fate not in (Fate.DONE, counted)]


class TimeoutEndsTheReads(QueuedSender):
    """A deadline that has passed is taken for the end of the transfer: the pages are free.

    LightLLM #1406. Bug B60 of the field catalogue.
    """

    breaks: ClassVar = "KS-4.4"

    def quarantine(self) -> None:
        if not isinstance(self.cause, TransferTimeout):
            super().quarantine()


class NeverReleases(QueuedSender):
    """Completed handles are kept for ever.

    sglang #14070 and #14072: the decode side exits, its CUDA IPC allocations stay. Bug B30 of the field catalogue.
    """

    breaks: ClassVar = "KS-4.3"

    def release_settled(self) -> None:
        pass


class WaitsForEver(QueuedSender):
    """A transfer that is in flight is waited for without a deadline.

    SGLang 0.5.12 and 0.5.23: the wait is unbounded while every handle looks healthy. Bug B32 of the field catalogue.
    """

    breaks: ClassVar = "KS-3.4"

    def overdue(self) -> bool:
        return False


class DeadlineBeforeTheAnswers(QueuedSender):
    """The worker looks at the clock before it looks at the completions that are there.

    sglang #32267. Bug B23 of the field catalogue.
    """

    breaks: ClassVar = "KS-3.5"

    def ask_about(self, flights: Sequence[Flight]) -> None:
        for flight in flights:
            waited = self.engine.clock() - flight.posted_at
            if flight.fate is Fate.FLYING and waited >= self.engine.world.transfer_timeout_s:
                self.fault(TransferTimeout("a peer was silent"), Attribution.DEADLINE)
            super().ask_about([flight])


class NoAuxWithoutPages(QueuedSender):
    """The aux data go only with a last chunk that has pages: an empty list is false.

    sglang #25698: every request of a dense model hung, and the prefill side reported Success. Bug B20 of the field
    catalogue.
    """

    breaks: ClassVar = "KS-3.2"

    def post_chunk(self, chunk: Chunk) -> None:
        if chunk.pages:
            super().post_chunk(chunk)
            return
        with self.lock:
            if self.live:
                self.state, self.closed = State.SENDING, True


class OnePeerIsEnough(QueuedSender):
    """The room is complete when one of its peers has everything.

    vllm-ascend #8810: "done" from one rank was taken for all. Bug B61 of the field catalogue.
    """

    breaks: ClassVar = "KS-3.1"

    def complete(self) -> bool:
        done = {flight.fate is Fate.DONE for flight in self.flights[-len(self.targets()) :]}
        return self.closed and True in done


class OnlyTheLastCompletes(QueuedSender):
    """Whether the room is complete is asked only when its last transfer finishes.

    sglang #37697: a chunk that arrives after the last one is never noticed. Bug B22 of the field catalogue.
    """

    breaks: ClassVar = "KS-3.6"

    last_seen: Flight | None = None

    def complete(self) -> bool:
        newest = self.flights[-1]
        news = newest.fate is Fate.DONE and newest is not self.last_seen
        if newest.fate is Fate.DONE and self.closed:
            self.last_seen = newest
        return news and super().complete()


class PeerFailedForEver(QueuedSender):
    """One disconnect, and every later room to that peer fails, although it is back and connected.

    sglang #13054: a session that failed once stays failed. Bug B27 of the field catalogue.
    """

    breaks: ClassVar = "KS-6.3"
    failed: ClassVar[WeakKeyDictionary[Engine, dict[str, Exception]]] = WeakKeyDictionary()

    def make(self, target: Destination, chunk: Chunk) -> Flight:
        known = self.failed.get(self.engine, {})
        if target.peer.name in known:
            raise known[target.peer.name]
        return super().make(target, chunk)

    def fault(self, error: BaseException, attribution: Attribution | None = None) -> None:
        super().fault(error, attribution)
        if isinstance(error, DISCONNECT):
            known = self.failed.setdefault(self.engine, {})
            known |= dict.fromkeys((target.peer.name for target in self.targets()), error)


class AbortIsASecret(QueuedSender):
    """The peers are told of every failure but an abort.

    sglang #28651: each aborted request held a decode slot for 300 s. Bug B19 of the field catalogue.
    """

    breaks: ClassVar = "KS-6.1"

    def tell(self, kind: NotificationKind) -> None:
        if self.attribution is not Attribution.CALLER:
            super().tell(kind)


class OneDeadPeerSilencesTheRest(QueuedSender):
    """The peers are told one after the other, and the first that cannot be told ends it.

    sglang #36033: of several backends, each told other peers in other cases. Bug B18 of the field catalogue.
    """

    breaks: ClassVar = "KS-6.1"

    def tell(self, kind: NotificationKind) -> None:
        try:
            for target in self.targets():
                self.agent.send_notif(target.peer.name, self.notification(kind))
        except self.transport_errors:
            return


class OneErrorFailsEveryRoom(QueuedSender):
    """A disconnect fails every room, whoever its peers are.

    sglang #33789: after one role was replaced nothing was served. Bug B09 of the field catalogue.
    """

    breaks: ClassVar = "KS-6.2"

    def fault(self, error: BaseException, attribution: Attribution | None = None) -> None:
        super().fault(error, attribution)
        if isinstance(error, DISCONNECT):
            for room in list(self.engine.rooms.values()):
                QueuedSender.fault(room, error, attribution)


FLIGHT_MUTANTS: tuple[type[QueuedSender], ...] = (
    GivesUpAtTheFirstError,
    DropsTheSiblings,
    ForgetsTheCount,
    TimeoutEndsTheReads,
    NeverReleases,
    WaitsForEver,
    DeadlineBeforeTheAnswers,
    NoAuxWithoutPages,
    OnePeerIsEnough,
    OnlyTheLastCompletes,
    PeerFailedForEver,
    AbortIsASecret,
    OneDeadPeerSilencesTheRest,
    OneErrorFailsEveryRoom,
)
