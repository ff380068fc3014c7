"""The sender as one Mealy machine: letters in, replies out, extracted from the tables by running them.

A letter is a call of the caller together with what the transport answers and what happens to the world meanwhile. There
are two peers, and what a letter does is said *by peer*, never by handle: one sender makes one transfer of a last chunk,
another makes two, and each asks about them in an order of its own. So a machine that counted handles would be about
one sender. A poll letter stands for as many calls of ``poll()`` as there are handles, because the contract lets a
sender ask about one at a time (KS-3.4). What is posted within a letter in which peers finish finishes within it, so
that a reader may look at its grants after its data.

A reply holds only what the contract fixes. Which of the non-terminal values poll() answers is free, and so is how many
transfers a chunk becomes. Two freedoms are left and cannot be abstracted away: a room that has failed while something
is in flight may say so at once, with its pages in quarantine, or when it has drained (KS-4.1), and a reader may need
its holders until all data are here (KS-3.1). That is a ``Reading``, and each reading has its machine.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from kvsender_spec.formal.suite.letters import PEERS, POLLS, SENDS, Answer, CallSequence, Letter, Poll, Reading, Send
from kvsender_spec.formal.suite.mealy import Mealy, minimise
from kvsender_spec.live_machines import SpecHandle, SpecRoom
from kvsender_spec.machine import (
    HANDLE_NEXT,
    LATCHED,
    QUIESCED,
    RELEASABLE,
    Effect,
    Guard,
    HandleEvent,
    HandleState,
    Input,
    Reply,
    State,
)

MOST_STATES: Final = 10_000
"""The extraction stops here: an abstraction that is wrong has no end."""

_ANSWERS: Final[Mapping[Reply, Answer]] = {
    Reply.NOTHING: Answer.RETURNS,
    Reply.WAITING: Answer.PENDING,
    Reply.TRANSFERRING: Answer.PENDING,
    Reply.SUCCESS: Answer.SUCCESS,
    Reply.FAILED: Answer.FAILED,
    Reply.RAISES_CAUSE: Answer.CAUSE,
    Reply.RAISES_USAGE: Answer.USAGE,
}


@dataclass(slots=True)
class _Transfer:
    """A handle of the specification's, with what is true of it in the world whether or not anybody has asked."""

    peer: int
    machine: SpecHandle
    finished: bool = False


class SpecSender:
    """The specification as a sender: the machines of ``kvsender_spec.machine``, driven by letters.

    It reads the contract in one way: what is known at a poll is acted upon at that poll, and posts go to the peers in
    their order.
    """

    def __init__(self, reading: Reading) -> None:
        self.reading: Final = reading
        self._facts: dict[Guard, bool] = {}
        self._room: Final = SpecRoom(lambda guard: self._facts.get(guard, False))
        self._transfers: list[_Transfer] = []
        self._lost: set[int] = set()
        self._closed = False
        self._handed_over = False
        """The caller has no chunk left, whatever became of the last one."""
        self._drained = False

    @property
    def failed(self) -> bool:
        return self._room.state in LATCHED

    @property
    def drained(self) -> bool:
        """Nothing may be waited for any more."""
        return self._drained

    @property
    def key(self) -> Hashable:
        """What the future depends on. That it is enough is checked: L* on this class learns the extracted machine."""
        flying = frozenset(t.peer for t in self._transfers if t.machine.state is HandleState.IN_FLIGHT)
        return self._room.state, flying, frozenset(self._lost), self._closed, self._handed_over, self._drained

    def report(self) -> None:
        """The room has said Failed earlier than this reading would have: it has, and the contract lets it."""
        self._answer(prompt=True)

    def step(self, letter: Letter, *, asks: bool = True) -> Answer:
        """Take one letter. ``asks``: whether poll() asks the transport at all; what is not asked is not known."""
        if letter in POLLS:
            return self._poll(POLLS[letter], asks=asks)
        if letter in SENDS:
            return self._send(SENDS[letter])
        call = {
            Letter.FAILURE_EXCEPTION: Input.FAILURE_EXCEPTION,
            Letter.ABORT: Input.ABORT,
            Letter.CLEAR: Input.CLEAR,
        }[letter]
        return _ANSWERS[self._room.take(call).reply]

    def _send(self, send: Send) -> Answer:
        if self._handed_over:
            return Answer.RETURNS  # no call
        self._handed_over = send.last
        if self._room.state not in (State.IDLE, State.SENDING):
            return _ANSWERS[self._room.take(Input.SEND_NOTHING).reply]
        for peer in range(PEERS):
            transfer = _Transfer(peer, SpecHandle())
            self._transfers.append(transfer)
            if peer == send.rejected or peer in self._lost:
                transfer.machine.fire(HandleEvent.REJECTED)
                self._room.take(Input.SEND_REJECTED)
                return Answer.ASKS
            transfer.machine.fire(HandleEvent.ACCEPTED)
        self._room.take(Input.SEND_LAST_ACCEPTED if send.last else Input.SEND_ACCEPTED)
        self._closed = send.last
        return Answer.ASKS

    def _poll(self, poll: Poll, *, asks: bool) -> Answer:
        flying = [t for t in self._transfers if t.machine.state is HandleState.IN_FLIGHT]
        self._lost.update(poll.lost)
        self._drained = self._drained or (poll.late and self._room.state is State.FAILED)
        for transfer in flying:
            transfer.finished = transfer.finished or (
                transfer.peer in poll.finished and transfer.peer not in self._lost
            )
        error = False
        if asks and self._room.state in (State.SENDING, State.FAILED):
            for number, transfer in enumerate(flying):
                if transfer.peer in self._lost or (poll.error and number == 0):
                    transfer.machine.fire(HandleEvent.RAISED)
                    error = True
                elif transfer.finished:
                    transfer.machine.fire(HandleEvent.FINISHED)
        left = any(t.machine.state is HandleState.IN_FLIGHT for t in self._transfers)
        done = self._closed and all(t.machine.state is HandleState.DONE for t in self._transfers)
        refused = done and self.reading.looks and bool(self._lost)  # what it posts to look at the grant
        self._facts = {
            Guard.ERROR_SEEN: error or refused,
            Guard.ALL_DONE: done and not refused,
            Guard.DEADLINE_PASSED: poll.late and left,
        }
        self._room.take(Input.OBSERVE)
        return self._answer(prompt=self.reading.prompt)

    def _answer(self, *, prompt: bool) -> Answer:
        settled = all(t.machine.state in RELEASABLE | QUIESCED for t in self._transfers)
        self._facts[Guard.MAY_REPORT] = prompt or settled or self._drained
        row = self._room.take(Input.ANSWER)
        if Effect.QUARANTINE in row.effects:
            for transfer in self._transfers:
                if HANDLE_NEXT[transfer.machine.state][HandleEvent.OVERDUE] is not None:
                    transfer.machine.fire(HandleEvent.OVERDUE)
        return _ANSWERS[row.reply]


SpecMachine: TypeAlias = Mealy[Letter, Answer]


def explore(inputs: Sequence[Letter], make: Callable[[], SpecSender]) -> SpecMachine:
    """Every state of a deterministic sender that can say what its future depends on, by a breadth-first walk."""
    first = make()
    numbers: dict[Hashable, int] = {first.key: 0}
    access: list[CallSequence] = [()]
    following: list[dict[Letter, int]] = []
    outputs: list[dict[Letter, Answer]] = []
    for sequence in access:
        targets: dict[Letter, int] = {}
        answers: dict[Letter, Answer] = {}
        for letter in inputs:
            sender = make()
            for earlier in sequence:
                sender.step(earlier)
            answers[letter] = sender.step(letter)
            if sender.key not in numbers:
                numbers[sender.key] = len(numbers)
                access.append((*sequence, letter))
            targets[letter] = numbers[sender.key]
        following.append(targets)
        outputs.append(answers)
        if len(numbers) > MOST_STATES:
            raise OverflowError(f"more than {MOST_STATES} states: the abstraction does not end")
    return Mealy(tuple(inputs), tuple(following), tuple(outputs))


def extract(reading: Reading, without: frozenset[Letter] = frozenset()) -> SpecMachine:
    """The specification's minimal machine; ``without`` the letters that a sender has no call for."""
    inputs = [letter for letter in Letter if letter not in without]
    return minimise(explore(inputs, lambda: SpecSender(reading)))
