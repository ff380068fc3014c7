"""Right senders in styles that are easily taken for mistakes. No clause may fail them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tests.mutants.inline import NIXL_ERRORS, InlineAdapter, InlineSender, InlineSystem, Part
from tests.mutants.workers import Engine, WorkerAdapter

from kvsender_spec.contract import Attribution, KVPoll
from kvsender_spec.kit.adapter import Destination, RoomPlan, World
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


class DropsWhatHasEnded(InlineSender):
    """Releases a handle by dropping the last reference to it, and keeps no traceback that would hold one."""

    def fault(self, error: BaseException, attribution: Attribution | None = None) -> None:
        super().fault(error.with_traceback(None), attribution)


class DroppingSystem(InlineSystem):
    def release(self, part: Part) -> bool:
        part.handle = None
        return True


class MakesItsAuxFirst(InlineSender):
    """Makes the transfers of the aux data with the room, and posts them with the last chunk."""

    def __init__(self, system: InlineSystem, plan: RoomPlan) -> None:
        super().__init__(system, plan)
        self.pending: list[Part] = []
        self.aux: dict[str, Part] = {}
        try:
            for target in self.targets():
                self.aux[target.peer.name] = self.aux_part(target)
        except self.transport_errors as error:
            self.fault(error)

    def aux_part(self, target: Destination) -> Part:
        part = super().make(target, [], [], last=True)
        self.parts.remove(part)
        return part

    def make(self, target: Destination, mine: Sequence[int], theirs: Sequence[int], last: bool) -> Part:
        if not last:
            return super().make(target, mine, theirs, last)
        aux = self.aux.pop(target.peer.name)
        aux.posted_at = self.system.world.clock()
        self.parts.append(aux)
        if not mine:
            return aux
        self.pending.append(aux)
        return super().make(target, mine, theirs, last=False)

    def post(self, part: Part) -> None:
        while self.pending:
            super().post(self.pending.pop())
        super().post(part)

    def release_settled(self) -> None:
        super().release_settled()
        if self.state not in (State.IDLE, State.SENDING):
            self.aux = {peer: part for peer, part in self.aux.items() if not self.system.release(part)}


class CountsWaiting(Engine):
    """busy() counts every worker that is alive, also one that waits for work."""

    def busy(self) -> int:
        return sum(thread.is_alive() for thread in self.threads)


class ReleasesInBackground(InlineSender):
    """Releases nothing itself: what has settled waits for the background work of the system."""

    def release_settled(self) -> None:
        """The system does it, in settle()."""


class OnlyAnswers(PostsInBackground):
    """Its poll() only answers: the background work asks about transfers, reports and tells its peers as well."""

    def observe(self) -> None:
        """The background work does it."""

    def answer(self) -> KVPoll:
        answers = {State.DONE: KVPoll.Success, State.STICKY_FAILED: KVPoll.Failed, State.IDLE: KVPoll.WaitingForInput}
        return answers.get(self.state, KVPoll.Transferring)

    def work(self) -> None:
        super().work()
        with self.lock:
            super().observe()
            super().answer()


class AskingSystem(BackgroundSystem):
    """A room that was cleared is looked after as well."""

    def __init__(self, world: World, sender_class: type[InlineSender]) -> None:
        super().__init__(world, sender_class)
        self.every: list[InlineSender] = []

    def uninitialised(self, plan: RoomPlan) -> InlineSender:
        self.every.append(super().uninitialised(plan))
        return self.every[-1]

    def settle(self) -> None:
        for sender in self.every:
            assert isinstance(sender, OnlyAnswers)
            sender.work()
        super().settle()


SENDERS: Final = (
    TriesAMakeAgain,
    PreparesEachTime,
    AsksTwice,
    LooksInEveryCall,
    MovesInTheOldestRoomsPoll,
    MakesItsAuxFirst,
    ReleasesInBackground,
)
STYLES: Final = (
    *map(InlineAdapter, SENDERS),
    InlineAdapter(PostsInBackground, BackgroundSystem),
    InlineAdapter(OnlyAnswers, AskingSystem),
    InlineAdapter(DropsWhatHasEnded, DroppingSystem),
)
COUNTS_WAITING: Final = WorkerAdapter(engine_class=CountsWaiting)
"""Apart, because a check of it takes minutes: the kit looks at its threads before each step."""
