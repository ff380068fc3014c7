"""The composed model: two explorers, one graph; and what each property would notice."""

from __future__ import annotations

from collections import Counter

import pytest
from tests.formal import tables
from tests.formal.interpreted import Model, explore

from kvsender_spec.formal.explicit.liveness import live
from kvsender_spec.formal.explicit.search import MOST_STATES, explore_generated
from kvsender_spec.formal.model.handles import FLYING, HANDLES, LANDED, NONE, name_of
from kvsender_spec.formal.model.state import Act, Action, AtHandle, AtPeer, Bounds, ModelState, TooLarge, initial
from kvsender_spec.formal.rules import SPEC, Rules, ill_formed
from kvsender_spec.machine import State

SMALL = [Bounds(1, 1), Bounds(2, 1), Bounds(1, 2), Bounds(3, 1), Bounds(2, 2)]
STATES = {"1x1": 22, "2x1": 181, "2x2": 2151, "3x2": 50199}


def edges_interpreted(rules: Rules, bounds: Bounds) -> dict[ModelState, Counter[tuple[str, ModelState]]]:
    model = Model(rules, bounds)
    found: dict[ModelState, Counter[tuple[str, ModelState]]] = {}
    todo = [initial(bounds)]
    while todo:
        state = todo.pop()
        if state not in found:
            steps = [(str(action), model.step(state, action).after) for action in model.actions(state)]
            found[state] = Counter(steps)
            todo += (after for _, after in steps)
    return found


def edges_generated(rules: Rules, bounds: Bounds) -> dict[ModelState, Counter[tuple[str, ModelState]]]:
    _, graph = explore_generated(rules, bounds, keep_edges=True)
    states = list(graph.states())
    named = [str(action) for action in graph.generated.actions]
    return {
        state: Counter((named[action], states[to]) for action, to in out)
        for state, out in zip(states, graph.edges, strict=True)
    }


@pytest.mark.parametrize("bounds", SMALL, ids=str)
def test_generated_code_and_interpreted_tables_have_the_same_graph(bounds: Bounds) -> None:
    assert edges_generated(SPEC, bounds) == edges_interpreted(SPEC, bounds)


@pytest.mark.parametrize(
    "rules", [tables.FORGETS_THE_PAGES, tables.NEVER_CLOSES, tables.LOSES_HANDLES, tables.GIVES_UP_EARLY]
)
def test_they_have_the_same_graph_and_find_the_same_where_the_tables_are_wrong(rules: Rules) -> None:
    bounds = Bounds(2, 2)
    assert edges_generated(rules, bounds) == edges_interpreted(rules, bounds)
    slow, (fast, _) = explore(rules, bounds), explore_generated(rules, bounds)
    assert {(found.clause, found.text, len(found.trace)) for found in slow.found} == {
        (found.clause, found.text, len(found.trace)) for found in fast.found
    }


@pytest.mark.parametrize("size", STATES)
def test_the_specification_holds_in_every_reachable_state(size: str) -> None:
    chunks, peers = map(int, size.split("x"))
    result, _ = explore_generated(SPEC, Bounds(chunks, peers))
    assert result.states == STATES[size]
    assert result.found == []


@pytest.mark.parametrize(
    ("rules", "clause", "steps"),
    [
        (tables.FORGETS_THE_PAGES, "KS-4.1", 2),
        (tables.LOSES_HANDLES, "KS-4.3", 1),
        (tables.ABORT_IS_LOST, "KS-5.1", 1),
    ],
)
def test_a_wrong_table_is_caught_by_a_shortest_trace(rules: Rules, clause: str, steps: int) -> None:
    result, _ = explore_generated(rules, Bounds(2, 2))
    assert min(len(found.trace) for found in result.found if found.clause == clause) == steps


@pytest.mark.parametrize("bounds", [Bounds(1, 1), Bounds(2, 1), Bounds(2, 2)], ids=str)
def test_every_goal_is_reached_and_every_fairness_is_needed(bounds: Bounds) -> None:
    _, graph = explore_generated(SPEC, bounds, keep_edges=True)
    lives = live(graph)
    assert len(lives) == 3
    for life in lives:
        assert life.found is None, life
        assert life.unneeded == (), life


def test_a_room_that_never_completes_is_a_fair_run_that_never_ends() -> None:
    result, graph = explore_generated(tables.NEVER_CLOSES, Bounds(2, 1), keep_edges=True)
    assert result.found == []  # no single step shows it
    missed = [life.found for life in live(graph, necessity=False) if life.found is not None]
    assert missed
    assert missed[0].clause == "KS-3.4"
    assert Act.POLL in {action.act for action in missed[0].repeated}


def test_every_state_that_the_machine_has_is_reached() -> None:
    _, graph = explore_generated(SPEC, Bounds(2, 2))
    states = list(graph.states())
    assert {state.control.logical for state in states} == set(State)
    reached = {HANDLES[code - 1].state for state in states for code in state.handles if code}
    # What is never submitted is forgotten in the step in which it is released.
    assert {state.value for state in reached} >= {"created", "in_flight", "done", "errored", "rejected", "in_doubt"}


def test_a_disconnect_takes_all_that_is_in_flight_to_that_peer_and_nothing_else() -> None:
    model = Model(SPEC, Bounds(2, 2))
    state = model.step(initial(model.bounds), Action(Act.SEND)).after
    state = model.step(state, Action(Act.FINISH, AtHandle(1))).after
    assert state.handles == bytes([FLYING, LANDED, NONE, NONE])
    names = {str(action) for action in model.actions(state)}
    assert "poll, peer 0 disconnects" in names
    assert "poll, peer 1 disconnects" not in names  # its transfer has landed, and the next check will say so
    after = model.step(state, Action(Act.POLL, AtPeer(0))).after
    assert [name_of(code) for code in after.handles] == ["none"] * 4
    assert after.control.logical is State.STICKY_FAILED


def test_bounds_that_make_no_sense_or_do_not_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="not 0 and 2"):
        Bounds(0, 2)
    with pytest.raises(ValueError, match="at most 24 handles"):
        Bounds(5, 5)
    assert MOST_STATES > 3_523_225  # 3x3
    monkeypatch.setattr("kvsender_spec.formal.explicit.search.MOST_STATES", 1000)
    with pytest.raises(TooLarge, match="2x2 has more than 1000 states"):
        explore_generated(SPEC, Bounds(2, 2))


def test_the_specification_is_well_formed_and_a_table_with_a_hole_is_not() -> None:
    assert ill_formed(SPEC) is None
    assert ill_formed(tables.UNDECIDED) == "send_accepted in idle is decided by nothing"
