"""The suite is complete: whatever has at most k states more and differs is found. Tried on machines small enough to."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from tests.formal.test_mealy import machine_of, random_machine

from kvsender_spec.formal.suite.hsi import NotMinimal, cover, identify, prefix_free, suite
from kvsender_spec.formal.suite.letters import Reading
from kvsender_spec.formal.suite.mealy import Mealy, difference, minimise

SIZES = {
    Reading.PATIENT: (780, 12005),
    Reading.PROMPT: (464, 7202),
    Reading.PATIENT_LOOKING: (967, 14832),
    Reading.PROMPT_LOOKING: (552, 8506),
}


def found(machine: Mealy[str, int], other: Mealy[str, int], sequences: tuple[tuple[str, ...], ...]) -> bool:
    return any(machine.run(sequence) != other.run(sequence) for sequence in sequences)


def mutants(dice: Random, machine: Mealy[str, int], extra: int) -> Iterator[Mealy[str, int]]:
    """Machines with up to so many states more: some near to the good one, some far from it."""
    for _ in range(30):
        size = machine.size + extra
        rows = [*machine.following, *(dice.choice(machine.following) for _ in range(extra))]
        said = [*machine.outputs, *(dice.choice(machine.outputs) for _ in range(extra))]
        following, outputs = [dict(row) for row in rows], [dict(row) for row in said]
        for _ in range(dice.randint(1, 2 + 2 * extra)):
            following[dice.randrange(size)][dice.choice("ab")] = dice.randrange(size)
        if dice.random() < 0.3:
            outputs[dice.randrange(size)][dice.choice("ab")] ^= 1
        yield Mealy(machine.inputs, tuple(following), tuple(outputs))
    yield random_machine(dice, machine.size + extra)


@pytest.mark.parametrize("extra", [0, 1, 2])
def test_no_machine_within_the_fault_domain_is_missed(extra: int) -> None:
    dice = Random(extra)
    tried = missed_by_less = 0
    for _ in range(150):
        machine = minimise(random_machine(dice, dice.choice((2, 3, 4))))
        sequences = suite(machine, extra)
        less = suite(machine, extra - 1) if extra else ()
        for mutant in mutants(dice, machine, extra):
            if difference(machine, mutant) is None:
                continue
            tried += 1
            assert found(machine, mutant, sequences), (machine, mutant)
            missed_by_less += not found(machine, mutant, less)
    assert tried > 2000
    # The control: a suite that is too small for the fault domain misses some, so these mutants can be missed.
    assert missed_by_less > (0 if extra else 2000)


@pytest.mark.parametrize("reading", Reading)
def test_on_the_sender_it_is_ordered_and_no_sequence_begins_another(reading: Reading) -> None:
    machine = machine_of(reading)
    for extra, size in enumerate(SIZES[reading]):
        sequences = suite(machine, extra)
        assert len(sequences) == size == len(set(sequences))
        assert sequences == suite(machine, extra)
        beginnings = {sequence[:end] for sequence in sequences for end in range(len(sequence))}
        assert not beginnings & set(sequences)
        assert [len(sequence) for sequence in sequences] == sorted(len(sequence) for sequence in sequences)


@pytest.mark.parametrize("reading", Reading)
def test_every_single_fault_of_the_sender_is_found(reading: Reading) -> None:
    """Each transition to each wrong state, with k=0: 4080 faults of the patient machine."""
    machine = machine_of(reading)
    sequences = [(sequence, machine.run(sequence)) for sequence in suite(machine, 0)]
    for state in range(machine.size):
        for letter in machine.inputs:
            good = machine.following[state][letter]
            for wrong in range(machine.size):
                if wrong == good:
                    continue
                following = [dict(row) for row in machine.following]
                following[state][letter] = wrong
                mutant = Mealy(machine.inputs, tuple(following), machine.outputs)
                assert any(mutant.run(sequence) != good_answers for sequence, good_answers in sequences), (
                    state,
                    letter,
                    wrong,
                )


def test_states_are_covered_and_each_pair_shares_a_sequence_that_tells_it_apart() -> None:
    machine = machine_of(Reading.PATIENT)
    assert [machine.after(sequence) for sequence in cover(machine)] == list(range(machine.size))
    identifiers = identify(machine)
    for a in range(machine.size):
        for b in range(a):
            beginnings = [
                {sequence[:end] for sequence in identifiers[s] for end in range(len(sequence) + 1)} for s in (a, b)
            ]
            assert any(
                machine.run(sequence, a) != machine.run(sequence, b) for sequence in beginnings[0] & beginnings[1]
            )


def test_a_machine_that_is_not_minimal_and_a_wrong_number_are_refused() -> None:
    twins = Mealy(("a",), ({"a": 1}, {"a": 0}), ({"a": 0}, {"a": 0}))
    with pytest.raises(NotMinimal, match="states 0 and 1 answer every sequence alike"):
        suite(twins, 0)
    with pytest.raises(ValueError, match="extra states are a number from 0, not -1"):
        suite(minimise(twins), -1)


def test_a_machine_of_one_state_has_a_suite() -> None:
    assert suite(minimise(Mealy(("a", "b"), ({"a": 0, "b": 0},), ({"a": 0, "b": 1},))), 0) == (("a",), ("b",))


def test_prefix_free_keeps_the_long_sequences() -> None:
    assert prefix_free([("a",), ("a", "b"), ("b",), ("a", "b"), ()], "ab") == [("a", "b"), ("b",)]
