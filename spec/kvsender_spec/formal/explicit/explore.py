"""Explores the composed model in full, breadth first, and judges every step: the shortest way to a violation wins.

This explorer interprets the tables. It is slow, plain, and the yardstick of the generated one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from kvsender_spec.formal.explicit.judge import NEVER_REACHED, Step, owed
from kvsender_spec.formal.model.handles import KINDS
from kvsender_spec.formal.model.predicates import UNDECIDED
from kvsender_spec.formal.model.state import Action, Bounds, ModelState, Outcome, initial
from kvsender_spec.formal.model.steps import Model
from kvsender_spec.formal.model.terms import TRUE, Atom, NoneOf, Scope, reduce
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


class Tree:
    """How each state was first reached."""

    def __init__(self) -> None:
        self.parents: list[int] = []
        self.actions: list[Action | None] = []

    def add(self, parent: int, action: Action | None) -> None:
        self.parents.append(parent)
        self.actions.append(action)

    def way(self, number: int) -> tuple[Action, ...]:
        """The actions that lead to a state; the first state has none."""
        steps: list[Action] = []
        while (action := self.actions[number]) is not None:
            steps.append(action)
            number = self.parents[number]
        return tuple(reversed(steps))


def broken_by(model: Model, state: ModelState, action: Action, outcome: Outcome) -> Iterator[tuple[str, str]]:
    """The clause and the text of each property that this step does not satisfy."""
    if outcome.broken:
        yield outcome.broken, UNDECIDED
    step = Step.of(model.rules, state.control, action, outcome.reply, outcome.after.control)
    handles = {(Scope.OWN, True): model.own(state), (Scope.REPLY, False): outcome.seen}

    def known(atom: Atom, before: bool) -> bool:
        assert isinstance(atom, NoneOf), atom
        return not any(code in KINDS[atom.kind] for code in handles[atom.scope, before])

    for rule in owed(step):
        if reduce(rule.term, known) is not TRUE:
            yield rule.name, rule.text
    for rule, never in NEVER_REACHED:
        if any(code in never for code in outcome.after.handles):
            yield rule.name, rule.text


def explore(rules: Rules, bounds: Bounds, *, first_only: bool = False) -> Exploration:
    """Search everything; with ``first_only`` end at the first violation."""
    model = Model(rules, bounds)
    result = Exploration(bounds)
    start = initial(bounds)
    numbers = {start: 0}
    tree = Tree()
    tree.add(0, None)
    todo = deque([start])
    known: set[str] = set()
    while todo:
        state = todo.popleft()
        number = numbers[state]
        for action in model.actions(state):
            outcome = model.step(state, action)
            result.transitions += 1
            for clause, text in broken_by(model, state, action, outcome):
                if clause not in known:
                    known.add(clause)
                    result.found.append(Found(clause, text, (*tree.way(number), action)))
            if first_only and result.found:
                result.states = len(numbers)
                return result
            if outcome.after not in numbers:
                numbers[outcome.after] = len(numbers)
                tree.add(number, action)
                todo.append(outcome.after)
    result.states = len(numbers)
    return result
