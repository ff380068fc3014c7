"""Learns a sender's machine by asking it words, and lays it beside the specification's. AALpy learns; it is optional.

A word that the suite finds says that a sender is wrong; a learned machine says what it is instead. Learning asks words
until no suite and no random word tells the sender from the hypothesis, so like every learning it can stop too early:
that two machines differ is certain, that they do not is as certain as the words that were asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from random import Random
from typing import TYPE_CHECKING, Final, TypeAlias

from kvsender_spec.formal.suite.hsi import suite
from kvsender_spec.formal.suite.letters import Answer, Letter, Reading, Word
from kvsender_spec.formal.suite.mealy import Mealy, difference, minimise
from kvsender_spec.formal.suite.sender import SpecMachine, extract
from kvsender_spec.kit.adapter import Adapter
from kvsender_spec.kit.parts import abilities
from kvsender_spec.kit.search.complete import examine
from kvsender_spec.kit.search.words import (
    EVERY_CLAUSE,
    Mismatch,
    lacking,
    not_judged,
    play,
    reading_of,
    spell,
    too_long,
    unsuited,
)
from kvsender_spec.observe.attribution import Tally
from kvsender_spec.trace import Trace

if TYPE_CHECKING:
    from aalpy import MealyMachine, Oracle

MOST_WORDS: Final = 20_000
MOST_SECONDS: Final = 300.0
RANDOM_WORDS: Final = 300
LONGEST: Final = 12
"""Letters of a random word."""
_ROUNDS: Final = 200

Ask: TypeAlias = Callable[[Word], tuple[Answer, ...]]


class CannotLearn(ValueError):
    """The sender, or this installation, does not allow it; the message says why and what to do."""


class _Stopped(Exception):
    """Learning has used up what it was given."""


@dataclass(frozen=True, slots=True)
class Learned:
    """A sender's machine beside the specification's."""

    adapter: str
    reading: Reading
    spec: SpecMachine
    sender: SpecMachine
    words: int
    """How many were asked."""
    stopped: str = ""
    """Why learning did not come to its end; the machine is the last hypothesis then."""
    word: Word | None = None
    """A shortest word that tells the two apart."""
    trace: Trace | None = None
    clauses: tuple[str, ...] = ()
    """What the word breaks."""

    @property
    def exit_code(self) -> int:
        """0 the same machine, 1 another one, 3 nothing is known because learning was cut short."""
        return 1 if self.word is not None else 3 if self.stopped else 0


def require_aalpy() -> None:
    """Raises CannotLearn where AALpy is not installed."""
    try:
        import aalpy  # noqa: F401
    except ImportError as error:
        raise CannotLearn("learning needs AALpy, which is not installed: pip install aalpy") from error


class _Memory:
    """Every answer so far. Asks no word twice, and finds out when a sender does not answer the same twice."""

    def __init__(self, ask: Ask, most_words: int, most_seconds: float) -> None:
        self._ask: Final = ask
        self._known: Final[dict[Word, Answer]] = {}
        self._most_words: Final = most_words
        self._until: Final = time.monotonic() + most_seconds
        self._most_seconds: Final = most_seconds
        self.words = 0

    def __call__(self, word: Word) -> tuple[Answer, ...]:
        if word and word not in self._known:
            self._play(word)
        return tuple(self._known[word[: end + 1]] for end in range(len(word)))

    def _play(self, word: Word) -> None:
        if self.words >= self._most_words:
            raise _Stopped(f"{self.words} words were asked")
        if time.monotonic() >= self._until:
            raise _Stopped(f"{self._most_seconds:g} s have passed")
        self.words += 1
        for end, answer in enumerate(self._ask(word)):
            beginning = word[: end + 1]
            known = self._known.setdefault(beginning, answer)
            if known is not answer:
                raise CannotLearn(
                    f"the sender is not deterministic: to {spell(beginning)} it answered first that it"
                    f" {known.value}, then that it {answer.value}"
                )


def learn_words(
    ask: Ask,
    letters: tuple[Letter, ...],
    questions: tuple[Word, ...] = (),
    *,
    most_words: int = MOST_WORDS,
    most_seconds: float = MOST_SECONDS,
    random_words: int = RANDOM_WORDS,
) -> tuple[SpecMachine, int, str]:
    """Learn the machine of whatever answers words: the machine, how many words were asked, and why it stopped early.

    ``questions`` are asked first when a hypothesis is tested, then the hypothesis' own suite, then random words.
    """
    require_aalpy()
    from aalpy import SUL, Oracle, run_KV

    memory = _Memory(ask, most_words, most_seconds)
    last: list[SpecMachine] = []

    class System(SUL):
        """AALpy's view of the sender: whole words only, because a letter may depend on what comes later."""

        def query(self, word: tuple[str, ...]) -> list[str]:
            return list(memory(_word(word)) or (Answer.RETURNS,))

        def pre(self) -> None:
            raise NotImplementedError

        post = pre

        def step(self, letter: str) -> str:
            raise NotImplementedError(letter)

    class Tester(Oracle):
        def find_cex(self, hypothesis: MealyMachine) -> tuple[str, ...] | None:
            machine = _converted(hypothesis, letters)
            last[:] = [machine]
            for word in chain(questions, suite(machine, 0), _random_words(letters, random_words)):
                if too_long(word):
                    continue
                answers = memory(word)
                expected = machine.run(word)
                for end in range(len(word)):
                    if answers[end] is not expected[end]:
                        return word[: end + 1]
            return None

    system = System()
    tester: Oracle = Tester(list(letters), system)
    try:
        run_KV(
            list(letters),
            system,
            tester,
            "mealy",
            max_learning_rounds=_ROUNDS,
            cache_and_non_det_check=False,
            print_level=0,
        )
    except _Stopped as stopped:
        if not last:
            raise CannotLearn(f"nothing was learned before {stopped}: allow more") from stopped
        return last[0], memory.words, str(stopped)
    return last[0], memory.words, ""


def _word(word: tuple[str, ...]) -> Word:
    letters = tuple(Letter(letter) for letter in word)
    if too_long(letters):
        raise _Stopped(f"a word has more chunks than a room has pages: {spell(letters)}")
    return letters


def _random_words(letters: tuple[Letter, ...], count: int) -> Iterator[Word]:
    dice = Random(0)
    for _ in range(count):
        yield tuple(dice.choice(letters) for _ in range(dice.randint(3, LONGEST)))


def _converted(learned: MealyMachine, letters: tuple[Letter, ...]) -> SpecMachine:
    first = learned.initial_state
    states = [first, *(state for state in learned.states if state is not first)]
    numbers = {id(state): number for number, state in enumerate(states)}
    machine = Mealy(
        letters,
        tuple({letter: numbers[id(state.transitions[letter])] for letter in letters} for state in states),
        tuple({letter: Answer(state.output_fun[letter]) for letter in letters} for state in states),
    )
    return minimise(machine)


def learn(
    adapter: Adapter,
    *,
    most_words: int = MOST_WORDS,
    most_seconds: float = MOST_SECONDS,
    random_words: int = RANDOM_WORDS,
) -> Learned:
    """Learn an adapter's sender.

    Raises CannotLearn where that is not possible.
    """
    require_aalpy()
    can = abilities(adapter)
    why = unsuited(can)
    if why:
        raise CannotLearn(f"adapter {adapter.name} cannot be learned: {why}")
    reading = reading_of(adapter)
    spec = extract(reading, lacking(can))

    def ask(word: Word) -> tuple[Answer, ...]:
        played = play(adapter, word, ignoring=EVERY_CLAUSE, to_the_end=False)
        return tuple(seen.answer for seen in played.seen)

    machine, words, stopped = learn_words(
        ask,
        spec.inputs,
        suite(spec, 0),
        most_words=most_words,
        most_seconds=most_seconds,
        random_words=random_words,
    )
    word = difference(spec, machine)
    if word is not None and ask(word)[-1] is spec.run(word)[-1]:
        word = None  # only a hypothesis that was cut short is wrong about a word that the sender answers well
    if word is None:
        return Learned(adapter.name, reading, spec, machine, words, stopped)
    trace = play(adapter, word, ignoring=EVERY_CLAUSE, to_the_end=False).trace
    at = len(word) - 1
    mismatch = Mismatch(at, spec.run(word)[at], machine.run(word)[at])
    clauses = examine(adapter, word, mismatch, not_judged(adapter.profile), Tally())
    return Learned(adapter.name, reading, spec, machine, words, stopped, word, trace, clauses)
