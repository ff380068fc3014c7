"""Readers without a pump, and the pump's worker, with one thing wrong each.

Each names the clause that it breaks, and what the report puts before it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, NoReturn

from tests.foreign.reader_base import Kind, Request, blame
from tests.foreign.reader_node import LeaseLost
from tests.foreign.reader_right_alone import Pull, alone
from tests.foreign.reader_right_threads import WorkerEngine, WorkerSystem

from kvsender_spec.contract import KVPoll
from kvsender_spec.kit.adapter import Adapter, Destination


class PrefixUntold(Pull):
    """KS-6.1: where nothing is read, no READ carries the message. T10 of the field catalogue."""

    def tell(self, word: str, reason: str) -> None:
        if word != "done":
            super().tell(word, reason)


class Unlooked(Pull):
    """KS-3.1: the stamps are read and not compared. T02 of the field catalogue."""

    def all_here(self) -> None:
        self.finish(KVPoll.Success)


class NoQuarantine(Pull):
    """KS-4.1: fails at once, and the pages of the siblings in flight are free. KS-4.4 comes first: those of an abort
    are in doubt. T04 of the field catalogue."""

    def finish(self, end: KVPoll) -> None:
        super().finish(end)
        for xfer in self.xfers:
            xfer.orphan = False


class Releases(Pull):
    """KS-4.2: fails at once, keeps the pages, and releases the handles in flight."""

    def finish(self, end: KVPoll) -> None:
        if self.end is None and end is KVPoll.Failed:
            for xfer in self.xfers:
                if xfer.state == "flying":
                    self.node.settled(xfer, "doubt")
        super().finish(end)


class NoCause(Pull):
    """KS-2.3: one class of error for everything, without __cause__. KS-1.3 comes first: a KeyError is shown as a lost
    connection too."""

    def failure_exception(self) -> NoReturn:
        if self.cause is None:
            super().failure_exception()
        raise ConnectionError("pull failed")


class BareExcept(Pull):
    """KS-1.4: a bare except."""

    def guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self.broken(error)


class FirstPages(Pull):
    """KS-3.1: takes the first pages of a longer grant, where the last ones are meant."""

    def wanted(self, target: Destination) -> slice:
        return slice(self.plan.num_pages)


class LeaseLostIsFine(Pull):
    """KS-3.1: a lost lease is logged, and the request goes on. T13 of the field catalogue."""

    def broken(self, error: BaseException) -> None:
        if isinstance(error, LeaseLost):
            self.finish(KVPoll.Success)
        else:
            super().broken(error)


class Waits(Pull):
    """KS-3.7: poll() waits for its READs."""

    def look(self) -> None:
        for xfer in self.xfers:
            while xfer.state == "flying":
                self.node.ask(xfer)
        super().look()


class DyingWorker(WorkerEngine):
    """KS-7.1: an error of one request ends the thread."""

    def guard(self, work: Callable[[], None]) -> None:
        work()

    def internal(self, req: Request, error: Exception) -> None:
        raise error


class PostsAfterAbort(WorkerEngine):
    """KS-5.1: the worker posts what is queued although the room was aborted. KS-1.3 comes first: what it makes stands
    inside the same except as the transport's errors."""

    def run_jobs(self, req: Request) -> None:
        jobs, req.jobs = req.jobs, []
        for job in jobs:
            self.launch(req, job, self.make(job))

    def advance(self, req: Request) -> None:
        try:
            super().advance(req)
        except Exception as error:
            self.fail(req, error, blame(error))


WRONG: Final[tuple[tuple[Adapter, str], ...]] = (
    (alone("prefix_untold", PrefixUntold), "KS-6.1"),
    (alone("unlooked", Unlooked), "KS-3.1"),
    (alone("no_quarantine", NoQuarantine), "KS-4.1"),
    (alone("releases", Releases), "KS-4.2"),
    (alone("no_cause", NoCause), "KS-2.3"),
    (alone("bare_except", BareExcept), "KS-1.4"),
    (alone("first_pages", FirstPages), "KS-3.1"),
    (alone("lease_lost_is_fine", LeaseLostIsFine), "KS-3.1"),
    (alone("waits", Waits), "KS-3.7"),
    (Kind("foreign-read-dying_worker", partial(WorkerSystem, engine=DyingWorker)), "KS-7.1"),
    (Kind("foreign-read-posts_after_abort", partial(WorkerSystem, engine=PostsAfterAbort)), "KS-5.1"),
)
