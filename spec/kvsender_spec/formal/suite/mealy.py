"""Complete deterministic Mealy machines: run, minimised, compared."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

_I = TypeVar("_I")
_O = TypeVar("_O")


@dataclass(frozen=True, slots=True)
class Mealy(Generic[_I, _O]):
    """A complete deterministic machine. States are numbers from 0, which is where it starts."""

    inputs: tuple[_I, ...]
    following: tuple[Mapping[_I, int], ...]
    outputs: tuple[Mapping[_I, _O], ...]

    @property
    def size(self) -> int:
        return len(self.following)

    def run(self, sequence: Sequence[_I], start: int = 0) -> tuple[_O, ...]:
        """The output at each letter of a sequence."""
        state, seen = start, []
        for letter in sequence:
            seen.append(self.outputs[state][letter])
            state = self.following[state][letter]
        return tuple(seen)

    def after(self, sequence: Sequence[_I], start: int = 0) -> int:
        """The state that a sequence leads to."""
        state = start
        for letter in sequence:
            state = self.following[state][letter]
        return state


def minimise(machine: Mealy[_I, _O]) -> Mealy[_I, _O]:
    """The smallest machine that answers the same: what cannot be reached is dropped and what answers alike is one.

    Partitions are refined until nothing changes, at most once for each state. The states of the result are numbered in
    the order in which a breadth-first walk finds them, so equal machines come out equal.
    """
    block = [0] * machine.size
    for _ in range(machine.size + 1):
        signs: dict[tuple[object, ...], int] = {}
        refined: list[int] = []
        for state in range(machine.size):
            sign = tuple((machine.outputs[state][i], block[machine.following[state][i]]) for i in machine.inputs)
            refined.append(signs.setdefault((block[state], *sign), len(signs)))
        if len(signs) == len(set(block)):
            break
        block = refined
    order: dict[int, int] = {block[0]: 0}
    found = [0]
    for state in found:
        for letter in machine.inputs:
            target = machine.following[state][letter]
            if block[target] not in order:
                order[block[target]] = len(order)
                found.append(target)
    return Mealy(
        machine.inputs,
        tuple({i: order[block[machine.following[s][i]]] for i in machine.inputs} for s in found),
        tuple({i: machine.outputs[s][i] for i in machine.inputs} for s in found),
    )


def difference(left: Mealy[_I, _O], right: Mealy[_I, _O]) -> tuple[_I, ...] | None:
    """A shortest sequence whose last output differs, or None where the machines are bisimilar."""
    return separate(left, 0, right, 0)


def separate(left: Mealy[_I, _O], a: int, right: Mealy[_I, _O], b: int) -> tuple[_I, ...] | None:
    """A shortest sequence that two states answer differently, the first in the letters' order; None without one."""
    sequences: dict[tuple[int, int], tuple[_I, ...]] = {(a, b): ()}
    edge = deque([(a, b)])
    while edge:  # each pair of states enters once
        x, y = edge.popleft()
        for letter in left.inputs:
            sequence = (*sequences[x, y], letter)
            if left.outputs[x][letter] != right.outputs[y][letter]:
                return sequence
            pair = left.following[x][letter], right.following[y][letter]
            if pair not in sequences:
                sequences[pair] = sequence
                edge.append(pair)
    return None
