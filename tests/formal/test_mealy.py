"""The machine that is extracted from the tables: small, the same each time, and what L* learns from the tables too."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import product
from random import Random

import pytest

from kvsender_spec.formal.suite.letters import Answer, CallSequence, Letter, Reading
from kvsender_spec.formal.suite.mealy import Mealy, difference, minimise, separate
from kvsender_spec.formal.suite.sender import SpecSender, explore, extract
from kvsender_spec.kit.search.learn import Ask, learn_machine

STATES = {Reading.PATIENT: 16, Reading.PROMPT: 12, Reading.PATIENT_LOOKING: 18, Reading.PROMPT_LOOKING: 14}
machine_of = cache(extract)
"""Extracted once for all tests."""
HOLDER_GONE = (Letter.LAST, Letter.POLL_PEER_0, Letter.POLL_LOST_0, Letter.POLL_PEER_1)
LAST, ABORT, EXCEPTION = Letter.LAST, Letter.ABORT, Letter.FAILURE_EXCEPTION


def asked(make: Callable[[], SpecSender]) -> Ask:
    def ask(sequence: CallSequence) -> tuple[Answer, ...]:
        sender = make()
        return tuple(sender.step(letter) for letter in sequence)

    return ask


@pytest.mark.parametrize("reading", Reading)
def test_it_is_minimal_and_the_same_each_time(reading: Reading) -> None:
    machine = machine_of(reading)
    assert machine.size == STATES[reading]
    assert machine == extract(reading) == minimise(machine)
    for a, b in product(range(machine.size), repeat=2):
        assert (separate(machine, a, machine, b) is None) == (a == b)


@pytest.mark.parametrize("reading", Reading)
def test_what_is_learned_from_the_tables_is_bisimilar_to_what_is_extracted(reading: Reading) -> None:
    # The extraction trusts that SpecSender.key tells states apart well enough; learning knows nothing of the key.
    learned, sequences, stopped = learn_machine(
        asked(lambda: SpecSender(reading)), tuple(Letter), random_sequences=10_000
    )
    assert stopped == ""
    assert sequences > 1000
    assert difference(learned, machine_of(reading)) is None


class Coarse(SpecSender):
    """An abstraction that forgets which peers are gone."""

    @property
    def key(self) -> object:
        state, flying, _, closed, handed_over, drained = super().key  # type: ignore[misc]
        return state, flying, closed, handed_over, drained  # type: ignore[has-type]


def test_a_key_that_is_too_coarse_is_found_out() -> None:
    coarse = minimise(explore(tuple(Letter), lambda: Coarse(Reading.PATIENT)))
    learned, _, _ = learn_machine(asked(lambda: SpecSender(Reading.PATIENT)), tuple(Letter))
    assert difference(coarse, learned) is not None


class Counts(SpecSender):
    """An abstraction without an end."""

    steps = 0

    def step(self, letter: Letter, *, asks: bool = True) -> Answer:
        self.steps += 1
        return super().step(letter, asks=asks)

    @property
    def key(self) -> object:
        return self.steps, super().key


def test_an_abstraction_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvsender_spec.formal.suite.sender.MOST_STATES", 50)
    with pytest.raises(OverflowError, match="more than 50 states"):
        explore(tuple(Letter), lambda: Counts(Reading.PATIENT))


@pytest.mark.parametrize(
    ("reading", "sequence", "last"),
    [
        (Reading.PATIENT, (LAST, Letter.POLL_ALL), Answer.SUCCESS),
        (Reading.PATIENT, (LAST, Letter.POLL_PEER_0, Letter.POLL_PEER_1), Answer.SUCCESS),
        (Reading.PATIENT, (Letter.SEND, Letter.POLL_ALL), Answer.PENDING),
        (Reading.PATIENT, (LAST, ABORT, Letter.POLL), Answer.PENDING),
        (Reading.PROMPT, (LAST, ABORT, Letter.POLL), Answer.FAILED),
        (Reading.PATIENT, (LAST, ABORT, Letter.POLL_LATE), Answer.FAILED),
        (Reading.PATIENT, (LAST, ABORT, Letter.POLL_ALL), Answer.FAILED),
        (Reading.PATIENT, (LAST, Letter.POLL_LATE_ALL), Answer.SUCCESS),
        (Reading.PATIENT, (LAST, Letter.POLL_LATE, EXCEPTION), Answer.CAUSE),
        (Reading.PATIENT, (LAST, Letter.POLL_ALL, EXCEPTION), Answer.USAGE),
        (Reading.PATIENT, (LAST, Letter.POLL_ALL, Letter.CLEAR, Letter.POLL_LOST_0), Answer.SUCCESS),
        (Reading.PATIENT, (Letter.POLL_LOST_0, Letter.SEND, Letter.POLL), Answer.FAILED),
        (Reading.PATIENT, (Letter.POLL_LOST_1, Letter.SEND, Letter.POLL), Answer.PENDING),
        (Reading.PATIENT, (Letter.SEND_SECOND_REJECTED, Letter.POLL_PEER_0), Answer.FAILED),
        (Reading.PATIENT, (Letter.SEND_FIRST_REJECTED, Letter.SEND), Answer.RETURNS),
        (Reading.PATIENT, HOLDER_GONE, Answer.SUCCESS),
        (Reading.PATIENT_LOOKING, HOLDER_GONE, Answer.FAILED),
        (Reading.PATIENT_LOOKING, (LAST, Letter.POLL_ALL, Letter.POLL_LOST_0), Answer.SUCCESS),
    ],
)
def test_what_the_contract_says_of_some_sequences(reading: Reading, sequence: CallSequence, last: Answer) -> None:
    assert machine_of(reading).run(sequence)[-1] is last


def test_nobody_knows_what_was_not_asked() -> None:
    sender = SpecSender(Reading.PATIENT)
    for letter in (LAST, Letter.POLL_LOST_0):
        sender.step(letter, asks=False)
    assert not sender.failed
    sender.step(Letter.POLL)
    assert sender.failed


def test_minimising_merges_what_answers_alike_and_drops_what_cannot_be_reached() -> None:
    following = ({"a": 1, "b": 2}, {"a": 0, "b": 2}, {"a": 2, "b": 0}, {"a": 0, "b": 0})
    silent, loud = {"a": 0, "b": 0}, {"a": 1, "b": 0}
    machine = Mealy(("a", "b"), following, (silent, silent, loud, loud))
    assert minimise(machine).size == 2


def random_machine(dice: Random, size: int) -> Mealy[str, int]:
    return Mealy(
        ("a", "b"),
        tuple({letter: dice.randrange(size) for letter in "ab"} for _ in range(size)),
        tuple({letter: dice.randrange(2) for letter in "ab"} for _ in range(size)),
    )


def test_a_shortest_difference_is_the_first_of_all_sequences() -> None:
    dice = Random(1)
    differing = 0
    for _ in range(300):
        left, right = random_machine(dice, 3), random_machine(dice, 3)
        sequence = difference(left, right)
        every = (tried for length in range(1, 7) for tried in product("ab", repeat=length))
        assert sequence == next((tried for tried in every if left.run(tried) != right.run(tried)), None)
        assert difference(minimise(left), left) is None
        differing += sequence is not None
    assert differing > 100
