"""Words of the formal machine's alphabet, played to a real sender on the scripted transport.

A letter says what happens by peer (``formal.suite.letters``); here it becomes the steps of a trace. What the
sender answers is read from the moments of the run, so every word that was played is also a trace to replay.

The specification is walked beside the sender, and two things are taken from the run instead of being assumed. Where a
poll() asked the transport nothing, the specification is told nothing either: what nobody asks is not known. And in a
room that has failed, Failed and not-yet are both right as long as something is in flight and the drain deadline has
not passed, whatever the reading (KS-4.1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from kvsender_spec.clauses import CLAUSES, Level, claimed
from kvsender_spec.contract import Abortable, Clearable, KVPoll
from kvsender_spec.faults import Fault, Kind, Point
from kvsender_spec.formal.suite.letters import PEERS, POLLS, SENDS, Answer, Letter, Reading, Word
from kvsender_spec.formal.suite.sender import SpecSender
from kvsender_spec.kit.adapter import ROOM_PAGES, Adapter, Works
from kvsender_spec.kit.drive import Run
from kvsender_spec.kit.judge import Violation, judged
from kvsender_spec.kit.record import Moment
from kvsender_spec.machine import Profile
from kvsender_spec.trace import Call, Progress, Scene, Step, Trace

REJECTIONS: Final[Mapping[Letter, Fault]] = {
    Letter.SEND_FIRST_REJECTED: Fault(Point.POST, Kind.NOT_FOUND),
    Letter.SEND_SECOND_REJECTED: Fault(Point.POST, Kind.BACKEND, 1),
    Letter.LAST_SECOND_REJECTED: Fault(Point.POST, Kind.RETURNS_ERR, 1),
}
"""One error stands for all: that every class is treated alike is what the random runs look at (KS-1.2)."""
CHECK_ERROR: Final = Fault(Point.CHECK, Kind.RETURNS_ERR)
EVERY_CLAUSE: Final = frozenset(clause.id for clause in CLAUSES)
"""To be ignored where a sender is only watched."""
_PROGRESS: Final[Mapping[tuple[int, ...], Progress]] = {
    (): Progress.NONE,
    (0,): Progress.PEER_0,
    (1,): Progress.PEER_1,
    (0, 1): Progress.ALL,
}
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
    """What the kit's judge found in it."""


@dataclass(frozen=True, slots=True)
class Played:
    """A word, what came of each of its letters until the run was over, and the trace that it became."""

    word: Word
    seen: tuple[Seen, ...]
    trace: Trace
    ending: tuple[Violation, ...] = ()
    """What only the end of the run has shown."""
    calls: int = 0


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The first letter at which a sender and the specification part."""

    at: int
    """The letter's number in the word; the length of the word for the end of the run."""
    expected: Answer
    observed: Answer


def not_judged(profile: Profile, *, strict: bool = False) -> frozenset[str]:
    """The clauses that must not end a word: those that are not claimed, and a SHOULD unless it counts as a MUST."""
    counting = {clause.id for clause in claimed(profile) if strict or clause.level is Level.MUST}
    return EVERY_CLAUSE - counting


def unsuited(system: object) -> str:
    """Why words cannot be played to a system's senders; empty if they can."""
    if isinstance(system, Works):
        return "the system has worker threads, so that what a letter leads to is not decided when its call returns"
    return ""


def lacking(sender: object) -> frozenset[Letter]:
    """The letters that a sender has no call for."""
    able = {Letter.ABORT: isinstance(sender, Abortable), Letter.CLEAR: isinstance(sender, Clearable)}
    return frozenset(letter for letter, defined in able.items() if not defined)


def too_long(word: Sequence[Letter]) -> bool:
    """The word sends more pages than a room of the kit has."""
    return len(_chunks(word)) > ROOM_PAGES


def scene(word: Sequence[Letter]) -> Scene:
    """The room that a word is about: a page for each chunk before the last one, and the last one. Two peers."""
    if too_long(word):
        raise ValueError(f"a room has {ROOM_PAGES} pages; the word sends {len(_chunks(word))} chunks: {spell(word)}")
    return Scene((_chunks(word),), peers=PEERS)


def _chunks(word: Sequence[Letter]) -> tuple[int, ...]:
    sends = [SENDS[letter].last for letter in word if letter in SENDS]
    before = sends.index(True) if True in sends else len(sends)
    return (1,) * (before + 1)  # a last chunk that no letter sends stays with the owner


def spell(word: Sequence[Letter]) -> str:
    return "; ".join(word) or "nothing"


class _Player:
    def __init__(self, adapter: Adapter, word: Word, ignoring: frozenset[str]) -> None:
        self.run: Final = Run(adapter, scene(word), ignoring=ignoring)
        self.calls = 0
        self._handed_over = False
        self._moments_read = 0
        self.run.apply(Step(Call.OPEN))
        self._fresh()

    def _fresh(self) -> list[Moment]:
        fresh = self.run.record.moments[self._moments_read :]
        self._moments_read += len(fresh)
        return fresh

    def _take(self, step: Step) -> Moment | None:
        """The moment of a call, or None where it makes no sense: the owner has nothing to send, the peer is gone."""
        known = len(self.run.record.moments)
        self.run.apply(step)
        self.calls += 1
        return self.run.record.moments[-1] if len(self.run.record.moments) > known else None

    def letter(self, letter: Letter) -> Seen:
        answer = self._poll(letter) if letter in POLLS else self._call(letter)
        moments = self._fresh()
        violations = tuple(violation for moment in moments for violation in moment.violations)
        if judged(violations, self.run.ignoring):
            answer = Answer.BREAKS
        asked = any(event.point is Point.CHECK for moment in moments for event in moment.events)
        return Seen(answer, asked, self.run.asks(Point.CHECK, 0) > 0, violations)

    def _call(self, letter: Letter) -> Answer:
        send = SENDS.get(letter)
        if send is None:
            moment = self._take(Step(_CALLS[letter]))
        elif self._handed_over:
            return Answer.RETURNS
        else:
            self._handed_over = send.last
            moment = self._take(Step(Call.SEND, fault=REJECTIONS.get(letter)))
        if moment is None:
            return Answer.RETURNS
        if letter is Letter.FAILURE_EXCEPTION:
            if moment.usage:
                return Answer.USAGE
            return Answer.CAUSE if moment.outcome.startswith("raised ") else Answer.RETURNS
        if moment.outcome.startswith("raised "):
            return Answer.RAISES
        asked = any(event.point in (Point.MAKE, Point.POST) for event in moment.events)
        return Answer.ASKS if asked else Answer.RETURNS

    def _poll(self, letter: Letter) -> Answer:
        poll = POLLS[letter]
        for peer in poll.lost:
            self._take(Step(Call.KILL, peer))
        if poll.late:
            self._take(Step(Call.WAIT_LONG))
            self._take(Step(Call.WAIT))  # whether a deadline is over at its very instant is nobody's business
        fault = CHECK_ERROR if poll.error else None
        answer = self._polled(Step(Call.POLL, progress=_PROGRESS[poll.finished], fault=fault))
        # A sender may ask about one handle in each poll, and may take one more to draw its conclusions (KS-3.4).
        more = self.run.asks(Point.CHECK, 0) + 1 if letter is not Letter.POLL else 0
        for _ in range(more):
            if answer is not Answer.PENDING or self.run.over:
                break
            answer = self._polled(Step(Call.POLL))
        return answer

    def _polled(self, step: Step) -> Answer:
        moment = self._take(step)
        if moment is None or moment.outcome.startswith("raised "):
            return Answer.RAISES
        ends = {
            f"answered {KVPoll.Success.name}": Answer.SUCCESS,
            f"answered {KVPoll.Failed.name}": Answer.FAILED,
        }
        return ends.get(moment.outcome, Answer.PENDING)


def play(adapter: Adapter, word: Word, *, ignoring: frozenset[str] = frozenset(), to_the_end: bool = True) -> Played:
    """Play one word. ``to_the_end``: with the end of a run, in which leaks and notices show."""
    player = _Player(adapter, word, ignoring)
    run, seen = player.run, []
    for letter in word:
        seen.append(player.letter(letter))
        if run.over:
            break
    trace = Trace(run.scene, tuple(run.steps))
    ending: tuple[Violation, ...] = ()
    if to_the_end and not run.over:
        known = len(run.findings.violations)
        run.finish()
        ending = tuple(run.findings.violations[known:])
    return Played(word, tuple(seen), trace, ending, player.calls)


def compare(played: Played, reading: Reading) -> Mismatch | None:
    """Where the sender first answers what the specification, told as much as the sender was, would not."""
    spec = SpecSender(reading)
    for number, (letter, seen) in enumerate(zip(played.word, played.seen, strict=False)):
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
    """Whether the sender reports a failure at once, found by asking: one peer is gone, the other's transfer goes on."""
    probe = play(adapter, (Letter.LAST, Letter.POLL_LOST_0), ignoring=EVERY_CLAUSE, to_the_end=False)
    prompt = len(probe.seen) == len(probe.word) and probe.seen[-1].answer is Answer.FAILED
    return Reading.PROMPT if prompt else Reading.PATIENT
