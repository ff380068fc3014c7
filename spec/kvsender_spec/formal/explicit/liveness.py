"""What must happen in the end, under weak fairness, on the whole graph of a bound.

A run that never reaches the goal ends in a strongly connected part of the states short of it. Such a run is fair if
each fair action is taken in that part, or is disabled somewhere in it. So a goal is missed by a fair run exactly if
there is such a part, and each fairness that is assumed can be dropped to see whether it is needed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from kvsender_spec.formal.explicit.search import Found, Graph
from kvsender_spec.formal.model.handles import HELD
from kvsender_spec.formal.model.state import Act, Action, AtHandle, Bounds, Control, Told


@dataclass(frozen=True, slots=True)
class Fairness:
    """An action that is not for ever possible and never taken."""

    name: str
    counts: Callable[[Action], bool]


def _handle(place: int) -> Fairness:
    """The transfer finishes, or raises when it is asked."""
    asking = (Act.FINISH, Act.POLL, Act.SWEEP)
    return Fairness(f"handle {place} settles", lambda action: action.act in asking and action.at == AtHandle(place))


POLL: Final = Fairness("poll() is called", lambda a: a.act is Act.POLL)
SEND: Final = Fairness("send() is called until the last chunk", lambda a: a.act in (Act.SEND, Act.SEND_LAST))
SWEEP: Final = Fairness("the system sweeps", lambda a: a.act is Act.SWEEP)
LATE: Final = Fairness("a poll() comes after the transfer deadline", lambda a: POLL.counts(a) and a.late)
DRAINED: Final = Fairness(
    "a poll() comes after the drain deadline", lambda a: POLL.counts(a) and a.drained and not a.late
)


@dataclass(frozen=True, slots=True)
class Goal:
    """``short(control, handles, peers)``: the state has not reached it, and owes it."""

    clause: str
    text: str
    assumes: tuple[Fairness, ...]
    short: Callable[[Control, bytes, int], bool]
    ignores: frozenset[Act] = frozenset()
    """What may not happen in the runs that are looked at."""


def _undecided(control: Control, _handles: bytes, _peers: int) -> bool:
    return control.said is Told.NOTHING


def _left_over(control: Control, handles: bytes, peers: int) -> bool:
    return any(code in HELD for code in handles[: control.swept * peers])


_OPEN: Final = frozenset({Act.OPEN})
"""A room that is opened again owes the caller of the old one nothing any more."""


def goals(bounds: Bounds) -> tuple[Goal, ...]:
    """The goals, each with every fairness that it needs."""
    handles = tuple(_handle(place) for place in range(bounds.handles))
    return (
        Goal("KS-3.4", "poll() ends in Success or Failed", (POLL, SEND, *handles), _undecided, _OPEN),
        Goal(
            "KS-3.4",
            "with silent peers, poll() ends in Failed through the deadlines",
            (POLL, SEND, LATE, DRAINED),
            _undecided,
            _OPEN | {Act.FINISH},
        ),
        Goal("KS-4.3", "every handle that a room leaves behind is released", (SWEEP, *handles), _left_over),
    )


def missed(graph: Graph, goal: Goal, assumes: Sequence[Fairness] | None = None) -> Found | None:
    """A fair run that never reaches the goal, as the way to where it goes round; None if there is none.

    The trace ends with one action of each kind that is repeated for ever.
    """
    fair = goal.assumes if assumes is None else tuple(assumes)
    generated, peers = graph.generated, graph.generated.bounds.peers
    controls = generated.controls
    short = [goal.short(controls[c], h, peers) for c, h in zip(graph.controls, graph.handles, strict=True)]
    allowed = [action.act not in goal.ignores for action in generated.actions]
    counted = [frozenset(n for n, f in enumerate(fair) if f.counts(action)) for action in generated.actions]
    for part in _parts(graph, short, allowed):
        members = frozenset(part)
        taken: set[int] = set()
        always = set(range(len(fair)))
        rounds: dict[int, None] = {}
        for node in part:
            enabled: set[int] = set()
            for action, to in graph.edges[node]:
                if allowed[action]:
                    enabled |= counted[action]
                    if to in members:
                        taken |= counted[action]
                        rounds[action] = None
            always &= enabled
        if rounds and always <= taken:
            way = graph.tree.way(min(part))
            repeated = tuple(generated.actions[action] for action in rounds)
            return Found(goal.clause, goal.text, way, repeated)
    return None


def _parts(graph: Graph, short: Sequence[bool], allowed: Sequence[bool]) -> Iterator[list[int]]:
    """The strongly connected parts among the states short of the goal (Tarjan, without recursion)."""
    order = [0] * len(short)
    low = [0] * len(short)
    on_stack = bytearray(len(short))
    stack: list[int] = []
    count = 0
    for root in range(len(short)):
        if not short[root] or order[root]:
            continue
        count += 1
        order[root] = low[root] = count
        stack.append(root)
        on_stack[root] = 1
        work = [(root, iter(graph.edges[root]))]
        while work:
            node, edges = work[-1]
            for action, to in edges:
                if not short[to] or not allowed[action]:
                    continue
                if not order[to]:
                    count += 1
                    order[to] = low[to] = count
                    stack.append(to)
                    on_stack[to] = 1
                    work.append((to, iter(graph.edges[to])))
                    break
                if on_stack[to]:
                    low[node] = min(low[node], order[to])
            else:
                work.pop()
                if work:
                    above = work[-1][0]
                    low[above] = min(low[above], low[node])
                if low[node] == order[node]:
                    part: list[int] = []
                    while True:
                        member = stack.pop()
                        on_stack[member] = 0
                        part.append(member)
                        if member == node:
                            break
                    yield part


@dataclass(frozen=True, slots=True)
class Live:
    """What came of one goal: missed by a fair run or not, and which fairness it could do without."""

    goal: Goal
    found: Found | None
    unneeded: tuple[str, ...]
    seconds: float


def live(graph: Graph, *, necessity: bool = True) -> list[Live]:
    """Judge every goal; with ``necessity`` also drop each fairness in turn, which must lose the goal."""
    results: list[Live] = []
    for goal in goals(graph.generated.bounds):
        started = time.process_time()
        found = missed(graph, goal)
        unneeded: list[str] = []
        if found is None and necessity:
            for dropped in goal.assumes:
                rest = [fairness for fairness in goal.assumes if fairness is not dropped]
                if missed(graph, goal, rest) is None:
                    unneeded.append(dropped.name)
        results.append(Live(goal, found, tuple(unneeded), time.process_time() - started))
    return results
