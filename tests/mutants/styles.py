"""Right senders in styles that are easily taken for mistakes. No clause may fail them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tests.mutants.inline import NIXL_ERRORS, InlineAdapter, InlineSender, InlineSystem, Part
from tests.mutants.workers import Engine, WorkerAdapter

from kvsender_spec.kit.adapter import Destination, RoomPlan
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


class MovesInTheOldestRoomsPoll(InlineSender):
    """The poll() of the oldest room that has something under way moves all rooms forward, as a scheduler polls them."""

    def observe(self) -> None:
        rooms = [r for r in self.system.rooms.values() if r.state in (State.SENDING, State.FAILED)]
        if rooms[:1] in ([], [self]):
            for room in rooms or [self]:
                InlineSender.observe(room)


class PostsInBackground(InlineSender):
    """send() queues, and the background work of its side posts."""

    def __init__(self, system: InlineSystem, plan: RoomPlan) -> None:
        super().__init__(system, plan)
        self.queued: list[tuple[Sequence[int], int, bool]] = []

    def take(self, kv_indices: Sequence[int], first: int, last: bool) -> None:
        self.queued.append((kv_indices, first, last))

    def work(self) -> None:
        with self.lock:
            queued, self.queued = self.queued, []
            for kv_indices, first, last in queued:
                if self.state in (State.IDLE, State.SENDING):
                    try:
                        super().take(kv_indices, first, last)
                    except (KeyError, TypeError) as error:
                        self.fault(error)  # there is no caller to whom it could go


class BackgroundSystem(InlineSystem):
    def settle(self) -> None:
        super().settle()
        for room in tuple(self.rooms.values()):
            assert isinstance(room, PostsInBackground)
            room.work()


class CountsWaiting(Engine):
    """busy() counts every worker that is alive, also one that waits for work."""

    def busy(self) -> int:
        return sum(thread.is_alive() for thread in self.threads)


SENDERS: Final = (TriesAMakeAgain, PreparesEachTime, AsksTwice, LooksInEveryCall, MovesInTheOldestRoomsPoll)
STYLES: Final = (*map(InlineAdapter, SENDERS), InlineAdapter(PostsInBackground, BackgroundSystem))
COUNTS_WAITING: Final = WorkerAdapter(engine_class=CountsWaiting)
"""Apart, because a check of it takes minutes: the kit looks at its threads before each step."""
