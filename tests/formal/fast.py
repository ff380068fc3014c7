"""A sender in memory, written from the contract and not from the tables, that takes the letters themselves.

It shares no line with the machines, so the suite tries two accounts of one contract against each other; and it is fast
enough for k=1. Its mutants have states that the specification has not: k=0 need not find them, k=1 must find those
that have one state more.
"""

from __future__ import annotations

from kvsender_spec.formal.suite.letters import Answer, CallSequence, Letter

_FINISHED = {
    Letter.POLL_PEER_0: {0},
    Letter.POLL_PEER_1: {1},
    Letter.POLL_ALL: {0, 1},
    Letter.POLL_ERROR: {0, 1},
    Letter.POLL_LATE_ALL: {0, 1},
}
_GONE = {Letter.POLL_LOST_0: {0}, Letter.POLL_LOST_1: {1}}


class Fast:
    """The patient reading: it says Failed when nothing is in flight any more, or when it has waited long enough."""

    def __init__(self) -> None:
        self.flying: set[int] = set()
        self.gone: set[int] = set()
        self.over: Answer | None = None
        self.failing = False
        self.all_posted = False
        self.has_more = True

    def step(self, letter: Letter) -> Answer:
        if letter.startswith("poll"):
            return self.poll(letter)
        if letter.startswith(("send", "last")):
            return self.send(letter)
        if letter is Letter.FAILURE_EXCEPTION:
            return Answer.CAUSE if self.failing else Answer.USAGE
        if self.over is not Answer.SUCCESS:
            self.failing = True
        return Answer.RETURNS

    def send(self, letter: Letter) -> Answer:
        if not self.has_more:
            return Answer.RETURNS
        last = letter.startswith("last")
        self.has_more = not last
        if self.failing:
            return Answer.RETURNS
        refused = {0} if "first" in letter else {1} if "second" in letter else set()
        for peer in (0, 1):
            if peer in refused | self.gone:
                self.failing = True
                return Answer.ASKS
            self.flying.add(peer)
        self.all_posted = last
        return Answer.ASKS

    def poll(self, letter: Letter) -> Answer:
        drained = self.failing and "deadline" in letter
        self.gone |= _GONE.get(letter, set())
        if self.over is None:
            lost = self.flying & self.gone or (self.flying if letter is Letter.POLL_ERROR else set())
            self.failing = self.failing or bool(lost)
            self.flying -= lost | _FINISHED.get(letter, set())
            self.failing = self.failing or (bool(self.flying) and letter is Letter.POLL_LATE)
            self.conclude(drained)
        return self.over or Answer.PENDING

    def conclude(self, drained: bool) -> None:
        if self.failing and (drained or not self.flying):
            self.over = Answer.FAILED
        elif not self.failing and self.all_posted and not self.flying:
            self.over = Answer.SUCCESS


def ask(sender: type[Fast], sequence: CallSequence) -> tuple[Answer, ...]:
    fresh = sender()
    return tuple(fresh.step(letter) for letter in sequence)


class SecondAbortRevives(Fast):
    """An abort of an aborted room takes the abort back."""

    aborts = 0

    def step(self, letter: Letter) -> Answer:
        if letter is Letter.ABORT and self.over is None:
            self.aborts += 1
            if self.aborts == 2:
                self.failing = False
                return Answer.RETURNS
        return super().step(letter)


class ForgetsAfterTwoSuccesses(Fast):
    """The third poll of a finished room knows nothing of it."""

    told = 0

    def poll(self, letter: Letter) -> Answer:
        answer = super().poll(letter)
        self.told += answer is Answer.SUCCESS
        return Answer.PENDING if self.told > 2 else answer


class ThirdChunkIsLost(Fast):
    """A third chunk that is in flight at the same time is never posted."""

    chunks = 0

    def send(self, letter: Letter) -> Answer:
        self.chunks += letter is Letter.SEND
        return Answer.RETURNS if self.chunks == 3 and letter is Letter.SEND else super().send(letter)


class HidesOnePeer(Fast):
    """Content with one peer."""

    def conclude(self, drained: bool) -> None:
        if not self.failing and self.all_posted and len(self.flying) < 2:
            self.over = Answer.SUCCESS
        super().conclude(drained)


class DeadlineFirst(Fast):
    """A completion that is there does not beat the deadline."""

    def poll(self, letter: Letter) -> Answer:
        self.failing = self.failing or (bool(self.flying) and self.over is None and "deadline" in letter)
        return super().poll(letter)


SHALLOW: tuple[type[Fast], ...] = (HidesOnePeer, DeadlineFirst)
DEEP: tuple[type[Fast], ...] = (SecondAbortRevives, ForgetsAfterTwoSuccesses, ThirdChunkIsLost)
