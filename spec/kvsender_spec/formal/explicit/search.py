"""The full search with generated code: every state of a bound, and, if asked for, every edge."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from kvsender_spec.formal.explicit.generate import Generated, without
from kvsender_spec.formal.explicit.owed import NEVER_REACHED
from kvsender_spec.formal.model.state import Action, Bounds, Control, ModelState, TooLarge
from kvsender_spec.formal.rules import Rules


@dataclass(frozen=True, slots=True)
class Found:
    """A property that does not hold, and a shortest way to where it does not."""

    clause: str
    text: str
    trace: tuple[Action, ...]
    repeated: tuple[Action, ...] = ()
    """Of a run that never reaches its goal: what goes on for ever after the trace."""


@dataclass(slots=True)
class Exploration:
    """What a full search has come to."""

    bounds: Bounds
    states: int = 0
    transitions: int = 0
    found: list[Found] = field(default_factory=list)
    seconds: float = 0.0
    """CPU time."""


@dataclass(slots=True)
class Tree:
    """How each state was first reached: from which one, by which action; the first state by none."""

    parents: list[int]
    actions: list[Action | None]

    def way(self, number: int) -> tuple[Action, ...]:
        """The actions that lead to a state; the first state has none."""
        steps: list[Action] = []
        while (action := self.actions[number]) is not None:
            steps.append(action)
            number = self.parents[number]
        return tuple(reversed(steps))


@dataclass(slots=True)
class Graph:
    """What was reached: states by number, and, if asked for, every edge as (action, to)."""

    generated: Generated
    controls: list[int]
    handles: list[bytes]
    edges: list[list[tuple[int, int]]]
    tree: Tree

    def states(self) -> Iterator[ModelState]:
        return (self.generated.state(c, h) for c, h in zip(self.controls, self.handles, strict=True))


MOST_STATES: Final = 6_000_000
"""About 2 GiB. A bound that has more is refused while it is explored, and nothing is left of it."""


def explore_generated(
    rules: Rules, bounds: Bounds, *, first_only: bool = False, keep_edges: bool = False
) -> tuple[Exploration, Graph]:
    """Search everything with generated code. Raises TooLarge where the memory would not do."""
    started = time.process_time()
    generated = Generated(rules, bounds)
    start = generated.number(Control())
    handles: list[bytes] = [bytes(bounds.handles)]
    controls = [start]
    numbers: dict[tuple[int, bytes], int] = {(start, handles[0]): 0}
    parents, actions = [-1], [-1]
    edges: list[list[tuple[int, int]]] = []
    transitions = 0
    harmless = without(b"".join(never for _, never in NEVER_REACHED))
    here = 0
    while here < len(handles) and not (first_only and generated.broken):
        out = generated.step(controls[here])(handles[here])
        transitions += len(out)
        targets: list[tuple[int, int]] = []
        for action, control, after in out:
            key = (control, after)
            to = numbers.get(key)
            if to is None:
                to = numbers[key] = len(handles)
                controls.append(control)
                handles.append(after)
                parents.append(here)
                actions.append(action)
                if after.translate(None, harmless):
                    generated.note_state(after, controls[here], handles[here], action)
            if keep_edges:
                targets.append((action, to))
        if keep_edges:
            edges.append(targets)
        here += 1
        if len(handles) > MOST_STATES:
            raise TooLarge(f"{bounds} has more than {MOST_STATES} states; 4x2 and 3x2 fit")
    tree = Tree(parents, [None if action < 0 else generated.actions[action] for action in actions])
    result = Exploration(bounds, len(handles), transitions)
    for clause, (text, control, at, action) in generated.broken.items():
        way = tree.way(numbers[control, at])
        result.found.append(Found(clause, text, (*way, generated.actions[action])))
    result.seconds = time.process_time() - started
    return result, Graph(generated, controls, handles, edges, tree)
