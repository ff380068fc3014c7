"""Sequences of letters of the formal machine's alphabet, run against a real sender on the scripted transport.

A letter says what happens by peer (``formal.suite.letters``); here it becomes the steps of a trace. What the
sender answers is read from the history of the run, so every sequence that was run is also a trace to replay.

The specification is walked beside the sender, and two things are taken from the run instead of being assumed. Where a
poll() asked the transport nothing, the specification is told nothing either: what nobody asks is not known. And in a
room that has failed, Failed and not-yet are both right as long as something is in flight and the drain deadline has
not passed, whatever the reading (KS-4.1).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from kvsender_spec.clauses import CLAUSES, Level, claimed
from kvsender_spec.faults import Fault, Kind, Point
from kvsender_spec.formal.suite.letters import PEERS, POLLS, SENDS, Answer, CallSequence, Letter, Poll, Reading
from kvsender_spec.formal.suite.sender import SpecSender
from kvsender_spec.history.events import AnyEvent, CallEnded, TransferChecked, TransferMade, TransferPosted
from kvsender_spec.history.header import Ability
from kvsender_spec.history.words import Origin
from kvsender_spec.kit.adapter import ROOM_PAGES, Adapter, operation_of
from kvsender_spec.kit.run.execute import Run
from kvsender_spec.machine import Profile
from kvsender_spec.observe.attribution import OWN_ERROR
from kvsender_spec.observe.verdict import Violation
from kvsender_spec.trace import Call, Progress, Setup, Step, Trace

REJECTIONS: Final[Mapping[Letter, Fault]] = {
    Letter.SEND_FIRST_REJECTED: Fault(Point.POST, Kind.NOT_FOUND),
    Letter.SEND_SECOND_REJECTED: Fault(Point.POST, Kind.BACKEND, 1),
    Letter.LAST_SECOND_REJECTED: Fault(Point.POST, Kind.RETURNS_ERR, 1),
}
"""One error stands for all: that every class is treated alike is what the random runs look at (KS-1.2)."""
CHECK_ERROR: Final = Fault(Point.CHECK, Kind.RETURNS_ERR)
EVERY_CLAUSE: Final = frozenset(clause.id for clause in CLAUSES) | {OWN_ERROR}
"""To be ignored where a sender is only watched."""
_PROGRESS: Final[Mapping[tuple[int, ...], Progress]] = {
    (): Progress.NONE,
    (0,): Progress.PEER_0,
    (1,): Progress.PEER_1,
    (0, 1): Progress.ALL,
}
_ROUNDS: Final = 2
"""How often a poll letter may poll once for each handle in flight and once more: for the data, and for what is posted
when they are here."""
_CALLS: Final[Mapping[Letter, Call]] = {
    Letter.FAILURE_EXCEPTION: Call.FAILURE_EXCEPTION,
    Letter.ABORT: Call.ABORT,
    Letter.CLEAR: Call.CLEAR,
}


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of one letter."""

    answer: Answer
    asked: bool
    """The transport was asked about a transfer."""
    in_flight: bool
    """Afterwards something was in flight, as far as the sender was told."""
    violations: tuple[Violation, ...] = ()
    """What the observer found in it."""


@dataclass(frozen=True, slots=True)
class SequenceRun:
    """A sequence, what came of each of its letters until the run was over, and the trace that it became."""

    sequence: CallSequence
    seen: tuple[Seen, ...]
    trace: Trace
    ending: tuple[Violation, ...] = ()
    """What only the end of the run has shown."""
    calls: int = 0


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The first letter at which a sender and the specification part."""

    at: int
    """The letter's number in the sequence; the length of the sequence for the end of the run."""
    expected: Answer
    observed: Answer


def not_judged(profile: Profile, *, strict: bool = False) -> frozenset[str]:
    """The clauses that must not end a sequence: those that are not claimed, and a SHOULD unless it counts as a MUST."""
    judged = {clause.id for clause in claimed(profile) if strict or clause.level is Level.MUST}
    return EVERY_CLAUSE - judged - {OWN_ERROR}


def counting(violations: Iterable[Violation], ignoring: frozenset[str]) -> list[Violation]:
    """Those that broke before anything else in their room, of clauses that are not ignored."""
    return [found for found in violations if found.clause not in ignoring and not found.after]


def unsuited(can: frozenset[Ability]) -> str:
    """Why sequences cannot be run against a system's senders; empty if they can."""
    if Ability.WORKERS in can:
        return "the system has worker threads, so that what a letter leads to is not decided when its call returns"
    return ""


def lacking(can: frozenset[Ability]) -> frozenset[Letter]:
    """The letters that a sender has no call for."""
    able = {Letter.ABORT: Ability.ABORT in can, Letter.CLEAR: Ability.CLEAR in can}
    return frozenset(letter for letter, defined in able.items() if not defined)


def too_long(sequence: Sequence[Letter]) -> bool:
    """The sequence sends more pages than a room of the kit has."""
    return len(_chunks(sequence)) > ROOM_PAGES


def setup_of(sequence: Sequence[Letter]) -> Setup:
    """The room that a sequence is about: a page for each chunk before the last one, and the last one. Two peers."""
    if too_long(sequence):
        raise ValueError(
            f"a room has {ROOM_PAGES} pages; the sequence sends {len(_chunks(sequence))} chunks: {spell(sequence)}"
        )
    return Setup((_chunks(sequence),), peers=PEERS)


def _chunks(sequence: Sequence[Letter]) -> tuple[int, ...]:
    sends = [SENDS[letter].last for letter in sequence if letter in SENDS]
    before = sends.index(True) if True in sends else len(sends)
    return (1,) * (before + 1)  # a last chunk that no letter sends stays with the caller


def spell(sequence: Sequence[Letter]) -> str:
    return "; ".join(sequence) or "nothing"


class _SequenceRunner:
    def __init__(self, adapter: Adapter, sequence: CallSequence, ignoring: frozenset[str]) -> None:
        self.run: Final = Run(adapter, setup_of(sequence))
        self.calls = 0
        self._ignoring: Final = ignoring
        self._handed_over = False
        self.run.apply(Step(Call.OPEN))
        self._post()  # no letter is a first contact

    def _take(self, step: Step) -> list[AnyEvent]:
        """The events of a call; none where it makes no sense: the caller has nothing to send, the peer is gone."""
        known = len(self.run.history.events)
        self.run.apply(step)
        self.calls += 1
        return self.run.history.events[known:]

    def _post(self) -> list[AnyEvent]:
        """Let a sender that posts later than in send() do so, which belongs to the letter."""
        return [] if self.run.posts_in is Call.SEND else self._take(Step(self.run.posts_in))

    def letter(self, letter: Letter) -> Seen:
        known, broken = len(self.run.history.events), len(self.run.observer.findings.violations)
        answer = self._poll(letter) if letter in POLLS else self._call(letter)
        violations = tuple(counting(self.run.observer.findings.violations[broken:], self._ignoring))
        if violations:
            answer = Answer.BREAKS
        asked = any(isinstance(event, TransferChecked) for event in self.run.history.events[known:])
        return Seen(answer, asked, self.run.asks(Point.CHECK, 0) > 0, violations)

    def _ended(self, events: Sequence[AnyEvent]) -> CallEnded | None:
        return next((event for event in reversed(events) if isinstance(event, CallEnded)), None)

    def _call(self, letter: Letter) -> Answer:
        send = SENDS.get(letter)
        if send is None:
            events = self._take(Step(_CALLS[letter]))
        elif self._handed_over:
            return Answer.RETURNS
        else:
            self._handed_over = send.last
            events = self._take(Step(Call.SEND, fault=REJECTIONS.get(letter)))
            events = [*self._post(), *events]  # the end of the send() is the last one
        ended = self._ended(events)
        if ended is None:
            return Answer.RETURNS
        if letter is Letter.FAILURE_EXCEPTION and ended.error is not None:
            error = self.run.observer.error(ended.error)
            return Answer.USAGE if error is not None and error.origin is Origin.USAGE else Answer.CAUSE
        if ended.error is not None:
            return Answer.RAISES
        asked = any(isinstance(event, (TransferMade, TransferPosted)) for event in events)
        return Answer.ASKS if asked else Answer.RETURNS

    def _poll(self, letter: Letter) -> Answer:
        poll = POLLS[letter]
        for peer in poll.lost:
            self._take(Step(Call.KILL, peer))
        if poll.late:
            self._take(Step(Call.WAIT_LONG))
            self._take(Step(Call.WAIT))  # whether a deadline is over at its very instant is nobody's business
        fault, before = CHECK_ERROR if poll.error else None, self._posted()
        answer = self._polled(Step(Call.POLL, progress=_PROGRESS[poll.finished], fault=fault))
        # A sender may ask about one handle in each poll, and may take one more to draw its conclusions (KS-3.4).
        # Where these polls have posted, as a reader's do that looks at its grant, as many again.
        for _ in range(_ROUNDS if letter is not Letter.POLL else 0):
            for _ in range(self.run.asks(Point.CHECK, 0) + 1):
                if answer is not Answer.PENDING or self.run.over:
                    return answer
                answer = self._polled(Step(Call.POLL, progress=self._progress(poll, before)))
            if self._posted() == before:
                break
        return answer

    def _posted(self) -> frozenset[int]:
        """The handles that the room has, as far as the sender was told."""
        room = self.run.room_of(0)
        return frozenset() if room is None else frozenset(room.view.oracle.handles)

    def _progress(self, poll: Poll, before: frozenset[int]) -> Progress:
        """What finishes before a letter's further polls: what was posted within it, where peers finish."""
        if self._posted() == before:
            return Progress.NONE
        older = self.run.flying(0) & before
        return _PROGRESS[poll.finished if older else (0, 1)] if poll.finished else Progress.NONE

    def _polled(self, step: Step) -> Answer:
        ended = self._ended(self._take(step))
        if ended is None or ended.error is not None:
            return Answer.RAISES
        return {"Success": Answer.SUCCESS, "Failed": Answer.FAILED}.get(ended.value or "", Answer.PENDING)


def run_sequence(
    adapter: Adapter, sequence: CallSequence, *, ignoring: frozenset[str] = frozenset(), to_the_end: bool = True
) -> SequenceRun:
    """Run one sequence. ``to_the_end``: with the end of a run, in which leaks and notifications show."""
    runner = _SequenceRunner(adapter, sequence, ignoring)
    run, seen = runner.run, []
    for letter in sequence:
        seen.append(runner.letter(letter))
        if run.over or seen[-1].violations:
            break
    trace = Trace(run.setup, tuple(run.steps))
    ending: tuple[Violation, ...] = ()
    if to_the_end and not run.over and not seen[-1].violations:
        known = len(run.observer.findings.violations)
        run.finish()
        ending = tuple(counting(run.observer.findings.violations[known:], ignoring))
    else:
        run.close()
    return SequenceRun(sequence, tuple(seen), trace, ending, runner.calls)


def compare(done: SequenceRun, reading: Reading) -> Mismatch | None:
    """Where the sender first answers what the specification, told as much as the sender was, would not."""
    spec = SpecSender(reading)
    for number, (letter, seen) in enumerate(zip(done.sequence, done.seen, strict=False)):
        poll = POLLS.get(letter)
        overdue = spec.failed and poll is not None and poll.late
        expected = spec.step(letter, asks=seen.asked)
        if seen.answer is expected:
            continue
        if poll is not None and spec.failed and not overdue:
            if (expected, seen.answer) == (Answer.PENDING, Answer.FAILED):
                spec.report()
                continue
            if (expected, seen.answer) == (Answer.FAILED, Answer.PENDING) and seen.in_flight:
                continue
        return Mismatch(number, expected, seen.answer)
    return None


def reading_of(adapter: Adapter) -> Reading:
    """Found by asking: one peer is gone, and the other's transfer goes on, or a reader has all data by then."""
    prompt = _fails(adapter, (Letter.LAST, Letter.POLL_LOST_0))
    if operation_of(adapter) == "READ" and _fails(
        adapter, (Letter.LAST, Letter.POLL_PEER_0, Letter.POLL_LOST_0, Letter.POLL_PEER_1)
    ):
        return Reading.PROMPT_LOOKING if prompt else Reading.PATIENT_LOOKING
    return Reading.PROMPT if prompt else Reading.PATIENT


def _fails(adapter: Adapter, sequence: CallSequence) -> bool:
    """Whether the last letter of a sequence is answered with Failed."""
    probe = run_sequence(adapter, sequence, ignoring=EVERY_CLAUSE, to_the_end=False)
    return len(probe.seen) == len(sequence) and probe.seen[-1].answer is Answer.FAILED
