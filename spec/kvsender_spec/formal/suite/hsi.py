"""A complete test suite from a machine: harmonised state identifiers (HSI; Petrenko, Yevtushenko, von Bochmann 1996).

If a deterministic, resettable implementation has at most ``extra`` states more than the minimal specification, and
answers every sequence of the suite as the specification does, then it answers *every* sequence so. The suite reaches
each state, takes every ``extra + 1`` steps from there, and then asks the sequences that tell the state it should be in
from each other one. For two states this is one sequence, which both are asked: that is what makes the identifiers
harmonised.

Own code, because a suite is only useful if it is the same everywhere: the order follows the machine's letters and never
a hash, and no sequence is the beginning of another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, product
from typing import TypeVar

from kvsender_spec.formal.suite.mealy import Mealy, separate

_I = TypeVar("_I")
_O = TypeVar("_O")


class NotMinimal(ValueError):
    """Two states answer every sequence alike, so that no suite tells them apart; ``minimise`` merges them."""


def suite(machine: Mealy[_I, _O], extra: int) -> tuple[tuple[_I, ...], ...]:
    """The sequences, complete for implementations with at most ``extra`` states more than the machine."""
    if extra < 0:
        raise ValueError(f"extra states are a number from 0, not {extra}")
    identifiers = identify(machine)
    sequences: list[tuple[_I, ...]] = []
    for access in cover(machine):
        for steps in range(extra + 2):
            for middle in product(machine.inputs, repeat=steps):
                reached = (*access, *middle)
                sequences += [(*reached, *sequence) for sequence in identifiers[machine.after(reached)] or [()]]
    return tuple(sorted(prefix_free(sequences, machine.inputs), key=len))  # so that the first difference is a short one


def cover(machine: Mealy[_I, _O]) -> tuple[tuple[_I, ...], ...]:
    """A shortest sequence to each state, the first in the order of the letters."""
    sequences: dict[int, tuple[_I, ...]] = {0: ()}
    edge = [0]
    for state in edge:
        for letter in machine.inputs:
            target = machine.following[state][letter]
            if target not in sequences:
                sequences[target] = (*sequences[state], letter)
                edge.append(target)
    return tuple(sequences[state] for state in sorted(sequences))


def identify(machine: Mealy[_I, _O]) -> tuple[tuple[tuple[_I, ...], ...], ...]:
    """For each state the sequences that tell it from every other one; each pair of states shares the sequence for it.

    A sequence that both have already, or a beginning that both share of theirs, serves again.
    """
    found: list[list[tuple[_I, ...]]] = [[] for _ in range(machine.size)]
    pairs = [(a, b, separate(machine, a, machine, b)) for a, b in combinations(range(machine.size), 2)]
    longest = max((len(sequence) for _, _, sequence in pairs if sequence is not None), default=0)
    # The longest first: a short one is then often the beginning of a sequence that is there already.
    for length, (a, b, sequence) in product(range(longest, -1, -1), pairs):
        if sequence is None:
            raise NotMinimal(f"states {a} and {b} answer every sequence alike")
        if len(sequence) != length:
            continue
        if not any(machine.run(w, a) != machine.run(w, b) for w in _shared(found[a], found[b])):
            found[a].append(sequence)
            found[b].append(sequence)
    return tuple(tuple(prefix_free(sequences, machine.inputs)) for sequences in found)


def _shared(left: Iterable[Sequence[_I]], right: Sequence[Sequence[_I]]) -> Iterator[tuple[_I, ...]]:
    """The longest common beginnings of two sets of sequences."""
    for one in left:
        for other in right:
            length = next((n for n, (x, y) in enumerate(zip(one, other, strict=False)) if x != y), None)
            yield tuple(one[: min(len(one), len(other)) if length is None else length])


def prefix_free(sequences: Iterable[tuple[_I, ...]], inputs: Sequence[_I]) -> list[tuple[_I, ...]]:
    """Without repetitions and without sequences that another one begins with, in the order of the letters."""
    rank = {letter: number for number, letter in enumerate(inputs)}
    # In this order a sequence stands right before the sequences that begin with it.
    ordered = sorted({tuple(rank[letter] for letter in sequence) for sequence in sequences})
    kept = [
        sequence
        for number, sequence in enumerate(ordered)
        if number + 1 == len(ordered) or ordered[number + 1][: len(sequence)] != sequence
    ]
    return [tuple(inputs[number] for number in sequence) for sequence in kept]
