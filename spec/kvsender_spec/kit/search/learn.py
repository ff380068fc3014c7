"""Learns a sender's machine from its answers, and lays it beside the specification's. AALpy learns; it is optional.

A sequence that the suite finds says that a sender is wrong; a learned machine says what it is instead. Learning asks
sequences until no suite and no random sequence tells the sender from the hypothesis, so like every learning it can stop
too early: that two machines differ is certain, that they do not is as certain as the sequences that were asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from random import Random
from typing import TYPE_CHECKING, Final, TypeAlias

from kvsender_spec.formal.suite.hsi import suite
from kvsender_spec.formal.suite.letters import Answer, CallSequence, Letter, Reading
from kvsender_spec.formal.suite.mealy import Mealy, difference, minimise
from kvsender_spec.formal.suite.sender import SpecMachine, extract
from kvsender_spec.kit.adapter import Adapter
from kvsender_spec.kit.parts import abilities
from kvsender_spec.kit.search.complete import examine
from kvsender_spec.kit.search.sequences import (
    EVERY_CLAUSE,
    Mismatch,
    lacking,
    not_judged,
    reading_of,
    run_sequence,
    spell,
    too_long,
    unsuited,
)
from kvsender_spec.observe.attribution import Tally
from kvsender_spec.trace import Trace

if TYPE_CHECKING:
    from aalpy import MealyMachine, Oracle

MOST_SEQUENCES: Final = 20_000
MOST_SECONDS: Final = 300.0
RANDOM_SEQUENCES: Final = 300
LONGEST: Final = 12
"""Letters of a random sequence."""
_ROUNDS: Final = 200

Ask: TypeAlias = Callable[[CallSequence], tuple[Answer, ...]]


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
    sequences: int
    """How many were asked."""
    stopped: str = ""
    """Why learning did not come to its end; the machine is the last hypothesis then."""
    sequence: CallSequence | None = None
    """A shortest sequence that tells the two apart."""
    trace: Trace | None = None
    clauses: tuple[str, ...] = ()
    """What the sequence breaks."""

    @property
    def exit_code(self) -> int:
        """0 the same machine, 1 another one, 3 nothing is known because learning was cut short."""
        return 1 if self.sequence is not None else 3 if self.stopped else 0


def require_aalpy() -> None:
    """Raises CannotLearn where AALpy is not installed."""
    try:
        import aalpy  # noqa: F401
    except ImportError as error:
        raise CannotLearn("learning needs AALpy, which is not installed: pip install aalpy") from error


class _Memory:
    """Every answer so far. Asks no sequence twice, and finds out when a sender does not answer the same twice."""

    def __init__(self, ask: Ask, most_sequences: int, most_seconds: float) -> None:
        self._ask: Final = ask
        self._known: Final[dict[CallSequence, Answer]] = {}
        self._most_sequences: Final = most_sequences
        self._until: Final = time.monotonic() + most_seconds
        self._most_seconds: Final = most_seconds
        self.sequences = 0

    def __call__(self, sequence: CallSequence) -> tuple[Answer, ...]:
        if sequence and sequence not in self._known:
            self._run(sequence)
        return tuple(self._known[sequence[: end + 1]] for end in range(len(sequence)))

    def _run(self, sequence: CallSequence) -> None:
        if self.sequences >= self._most_sequences:
            raise _Stopped(f"{self.sequences} sequences were asked")
        if time.monotonic() >= self._until:
            raise _Stopped(f"{self._most_seconds:g} s have passed")
        self.sequences += 1
        for end, answer in enumerate(self._ask(sequence)):
            beginning = sequence[: end + 1]
            known = self._known.setdefault(beginning, answer)
            if known is not answer:
                raise CannotLearn(
                    f"the sender is not deterministic: to {spell(beginning)} it answered first that it"
                    f" {known.value}, then that it {answer.value}"
                )


def learn_machine(
    ask: Ask,
    letters: tuple[Letter, ...],
    questions: tuple[CallSequence, ...] = (),
    *,
    most_sequences: int = MOST_SEQUENCES,
    most_seconds: float = MOST_SECONDS,
    random_sequences: int = RANDOM_SEQUENCES,
) -> tuple[SpecMachine, int, str]:
    """Learn the machine of whatever answers: the machine, how many sequences were asked, and why it stopped early.

    ``questions`` are asked first when a hypothesis is tested, then the hypothesis' own suite, then random sequences.
    """
    require_aalpy()
    from aalpy import SUL, Oracle, run_KV

    memory = _Memory(ask, most_sequences, most_seconds)
    last: list[SpecMachine] = []

    class System(SUL):
        """AALpy's view of the sender: whole sequences only, because a letter may depend on what comes later."""

        def query(self, sequence: tuple[str, ...]) -> list[str]:
            return list(memory(_sequence(sequence)) or (Answer.RETURNS,))

        def pre(self) -> None:
            raise NotImplementedError

        post = pre

        def step(self, letter: str) -> str:
            raise NotImplementedError(letter)

    class Tester(Oracle):
        def find_cex(self, hypothesis: MealyMachine) -> tuple[str, ...] | None:
            machine = _converted(hypothesis, letters)
            last[:] = [machine]
            for sequence in chain(questions, suite(machine, 0), _random_sequences(letters, random_sequences)):
                if too_long(sequence):
                    continue
                answers = memory(sequence)
                expected = machine.run(sequence)
                for end in range(len(sequence)):
                    if answers[end] is not expected[end]:
                        return sequence[: end + 1]
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
        return last[0], memory.sequences, str(stopped)
    return last[0], memory.sequences, ""


def _sequence(sequence: tuple[str, ...]) -> CallSequence:
    letters = tuple(Letter(letter) for letter in sequence)
    if too_long(letters):
        raise _Stopped(f"a sequence has more chunks than a room has pages: {spell(letters)}")
    return letters


def _random_sequences(letters: tuple[Letter, ...], count: int) -> Iterator[CallSequence]:
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
    most_sequences: int = MOST_SEQUENCES,
    most_seconds: float = MOST_SECONDS,
    random_sequences: int = RANDOM_SEQUENCES,
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

    def ask(sequence: CallSequence) -> tuple[Answer, ...]:
        done = run_sequence(adapter, sequence, ignoring=EVERY_CLAUSE, to_the_end=False)
        return tuple(seen.answer for seen in done.seen)

    machine, sequences, stopped = learn_machine(
        ask,
        spec.inputs,
        suite(spec, 0),
        most_sequences=most_sequences,
        most_seconds=most_seconds,
        random_sequences=random_sequences,
    )
    sequence = difference(spec, machine)
    if sequence is not None and ask(sequence)[-1] is spec.run(sequence)[-1]:
        sequence = None  # only a hypothesis that was cut short is wrong about a sequence that the sender answers well
    if sequence is None:
        return Learned(adapter.name, reading, spec, machine, sequences, stopped)
    trace = run_sequence(adapter, sequence, ignoring=EVERY_CLAUSE, to_the_end=False).trace
    at = len(sequence) - 1
    mismatch = Mismatch(at, spec.run(sequence)[at], machine.run(sequence)[at])
    clauses = examine(adapter, sequence, mismatch, not_judged(adapter.profile), Tally())
    return Learned(adapter.name, reading, spec, machine, sequences, stopped, sequence, trace, clauses)
