"""Right senders in styles that are easily taken for mistakes. No clause may fail them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tests.mutants.inline import NIXL_ERRORS, InlineAdapter, InlineSender, Part
from tests.mutants.workers import Engine, WorkerAdapter

from kvsender_spec.kit.adapter import Destination
from kvsender_spec.machine import State


class TriesAMakeAgain(InlineSender):
    """A transfer that cannot be made is tried once more: nothing has been posted yet."""

    def make(self, target: Destination, mine: Sequence[int], theirs: Sequence[int], last: bool) -> Part:
        try:
            return super().make(target, mine, theirs, last)
        except NIXL_ERRORS:
            return super().make(target, mine, theirs, last)


class PreparesEachTime(InlineSender):
    """Prepares the peer's list for every chunk, and gives it back. That it cannot be prepared is a local cause."""

    def make(self, target: Destination, mine: Sequence[int], theirs: Sequence[int], last: bool) -> Part:
        listed = self.agent.prep_xfer_dlist(target.peer.name, self.system.rows(target.peer.memory), "DRAM")
        try:
            return super().make(target, mine, theirs, last)
        finally:
            self.agent.release_dlist_handle(listed)


class AsksTwice(InlineSender):
    """poll() looks at everything twice."""

    def observe(self) -> None:
        super().observe()
        if self.state is State.SENDING:
            super().observe()


class LooksInEveryCall(InlineSender):
    """Finds completions, errors and passed deadlines in whatever call it is in."""

    def look(self) -> None:
        with self.lock:
            if self.state is State.SENDING:
                self.observe()

    def send(self, kv_indices: Sequence[int]) -> None:
        super().send(kv_indices)
        self.look()

    def abort(self) -> None:
        self.look()
        super().abort()

    def get_transfer_metric(self) -> int:
        self.look()
        return super().get_transfer_metric()


class CountsWaiting(Engine):
    """busy() counts every worker that is alive, also one that waits for work."""

    def busy(self) -> int:
        return sum(thread.is_alive() for thread in self.threads)


STYLES: Final = tuple(
    InlineAdapter(sender) for sender in (TriesAMakeAgain, PreparesEachTime, AsksTwice, LooksInEveryCall)
)
COUNTS_WAITING: Final = WorkerAdapter(engine_class=CountsWaiting)
"""Apart, because a check of it takes minutes: the kit looks at its threads before each step."""
