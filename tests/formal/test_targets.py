"""The target's tables among initiators and a network: nothing foreign is touched, and pages come back."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.formal.tools import needs_tlc

from kvsender_spec.formal.engines.tlc import noted, violates
from kvsender_spec.formal.pages import PAGES
from kvsender_spec.formal.smt.target import unproved
from kvsender_spec.formal.targets import tla
from kvsender_spec.formal.targets.cases import CASES, LIVE_CASES
from kvsender_spec.formal.targets.room import (
    BUSY,
    EARLY,
    LATE,
    MISLED,
    NO_PAGES,
    REFUSED,
    UNFIT,
    Cell,
    Fair,
    Phase,
    Room,
    broken,
    opened,
    told,
)
from kvsender_spec.formal.targets.rules import SPEC, Target
from kvsender_spec.formal.targets.search import ENDS, GOALS, Goal, broken_in, search, stranded
from kvsender_spec.formal.targets.world import World
from kvsender_spec.live_machines import ForbiddenInput
from kvsender_spec.live_target import SpecTarget
from kvsender_spec.machine import Reply
from kvsender_spec.target_machine import (
    OF_ONE,
    Hold,
    HoldEvent,
    Request,
    RequestEvent,
    TargetEffect,
    TargetGuard,
    TargetInput,
)

LIMIT_S = 120.0


def test_nothing_is_wrong_with_the_tables() -> None:
    found = search(SPEC)
    assert (found.broken, found.way) == ("", ())
    assert found.states == 206_610


@pytest.mark.parametrize("name", CASES)
def test_the_search_finds_what_is_wrong(name: str) -> None:
    target, property_ = CASES[name]
    found = search(target)
    assert found.broken == property_
    assert found.way


def test_the_shortest_ways_tell_what_happens() -> None:
    late, _ = CASES["announces first, and takes the hold afterwards"]
    assert search(late).way == ("1: announce, initiator 0", "1: lost, initiator 0", "1: reuse")
    only, _ = CASES["asks about the initiators that it has announced, and not about all"]
    assert search(only).way[-1] == "1: part, initiator 0"
    by_name, _ = CASES["takes a fence by name, and not by incarnation"]
    assert "2: fence of initiator 0 in another incarnation" in search(by_name).way


def test_what_crosses_incarnations_needs_two_of_them() -> None:
    for name, (target, _) in CASES.items():
        assert bool(search(target, incarnations=1).broken) is ("incarnation" not in name), name


def test_who_sent_a_message_matters_only_with_two() -> None:
    for name in ("counts messages, and not who has sent them", "asks about the initiators that it has announced"):
        target = next(target for case, (target, _) in CASES.items() if case.startswith(name))
        assert not search(target, initiators=1).broken


# ---------------------------------------------------------------------------------------------------- in the end


@pytest.mark.parametrize("goal", GOALS)
def test_every_goal_is_reached_and_no_fairness_is_idle(goal: Goal) -> None:
    assert stranded(SPEC, goal, goal.needs) == ""
    for dropped in goal.needs:
        assert stranded(SPEC, goal, goal.needs - {dropped}).startswith("nothing leads on from"), dropped


def test_every_fairness_belongs_to_a_goal() -> None:
    assert frozenset().union(*(goal.needs for goal in GOALS)) == frozenset(Fair)


@pytest.mark.parametrize("name", LIVE_CASES)
def test_a_target_whose_pages_or_answer_never_come_is_found(name: str) -> None:
    target, goal = LIVE_CASES[name]
    assert search(target, incarnations=1).broken == "", "it is wrong in the end, and in no state"
    assert stranded(target, goal, goal.needs)


def test_a_room_that_goes_round_is_found() -> None:
    """Nothing is short of a goal for ever by standing still only: who waits again after an abort goes round."""
    again = replace(
        SPEC,
        request_next={**SPEC.request_next, Request.FAILED: dict.fromkeys(RequestEvent, Request.WAITING)},
        table=tuple(
            replace(row, request=RequestEvent.ENDED) if row.input is TargetInput.ABORT else row for row in SPEC.table
        ),
    )
    assert stranded(again, ENDS, ENDS.needs) == "a room goes round for ever"


# ------------------------------------------------------------------------------- the model's target is the live one


def test_the_model_does_what_the_live_machines_do() -> None:
    """For every reachable room of two initiators, as a target sees it, and every input that may arrive there."""
    world, seen = World(SPEC, 2), {opened(2)}
    todo = list(seen)
    asked: dict[tuple[object, ...], tuple[Room, TargetInput, int | None]] = {}
    while todo:
        room = todo.pop()
        for step in world.steps(room):
            if step.after not in seen:
                seen.add(step.after)
                todo.append(step.after)
        for what, at in itertools.product(TargetInput, (None, 0, 1)):
            if (what in OF_ONE) is (at is not None) and (at is None or what in told(room.cells[at])):
                holds = tuple((cell.hold, cell.counted) for cell in room.cells)
                asked[room.request, holds, what, at] = room, what, at
    assert len(asked) > 300
    for room, what, at in asked.values():
        assert taken(world, room, what, at) == live(room, what, at), (room, what, at)


def taken(world: World, room: Room, what: TargetInput, at: int | None) -> tuple[Request, list[Hold]] | None:
    found = world.take(room, what, at)
    return None if found is None else (found.after.request, [cell.hold for cell in found.after.cells])


def live(room: Room, what: TargetInput, at: int | None) -> tuple[Request, list[Hold]] | None:
    counted = {
        place
        for place, cell in enumerate(room.cells)
        if cell.counted or (place == at and what in (TargetInput.PART, TargetInput.END))
    }
    drained = all(cell.hold is Hold.DRAINED for cell in room.cells)
    facts = {TargetGuard.ALL_CONFIRMED: len(counted) == 2, TargetGuard.ALL_DRAINED: drained}
    machine = SpecTarget(2, facts.__getitem__)
    machine.place(room.request)
    for hold, cell in zip(machine.holds, room.cells, strict=True):
        hold.place(cell.hold)
    try:
        machine.take(what, at)
    except ForbiddenInput:
        return None
    return machine.state, [hold.state for hold in machine.holds]


def test_a_state_is_judged_by_what_may_be_touched() -> None:
    for hold, phase in itertools.product(Hold, Phase):
        room = Room(Request.FAILED, (Cell(hold, phase),))
        assert (broken(room) == NO_PAGES) is (hold is Hold.FREE and phase in BUSY)
        assert (broken(room) == UNFIT) is (hold in (Hold.HELD, Hold.EXPOSED))


def test_every_property_of_a_state_can_fail() -> None:
    """Of a request: too early, too late, and one whose initiator is told that it is over."""
    assert broken(Room(Request.DONE, (Cell(Hold.QUARANTINED, Phase.FLYING),))) == EARLY
    assert broken(Room(Request.WAITING, (Cell(Hold.EXPOSED, Phase.FLYING, part=True, counted=1),))) == LATE
    assert broken(Room(Request.WAITING, (Cell(Hold.QUARANTINED, Phase.FLYING),))) == UNFIT
    assert broken(Room(Request.WAITING, (Cell(Hold.EXPOSED, Phase.FLYING, asked=True),))) == MISLED


def test_every_property_of_a_step_can_fail() -> None:
    """The rest of what is asked of a step is found in ``CASES``."""
    for target, property_ in (
        (moved_hold(Hold.DRAINED, HoldEvent.PROVED, None), REFUSED),
        (moved_hold(Hold.EXPOSED, HoldEvent.ENDED, None), REFUSED),
        (moved_hold(Hold.EXPOSED, HoldEvent.PROVED, Hold.EXPOSED), "KS-9.8: a proof gives nothing back"),
        (with_row(TargetInput.FOREIGN, request=RequestEvent.ENDED), "KS-9.6: what is foreign changes something"),
        (with_row(TargetInput.ABORT, effects=()), "KS-9.14: a request fails without a cause"),
        (with_row(TargetInput.RENEW, effects=(TargetEffect.LATCH,)), "KS-9.14: a request fails without a cause"),
        (with_row(TargetInput.ANSWER, reply=Reply.SUCCESS), "KS-9.7: poll() does not answer what the request is"),
        (with_row(TargetInput.TIME, guard=None), "KS-9.7: the deadline beats what is there"),
    ):
        assert broken_in(World(target, 1)).startswith(property_)


def moved_hold(source: Hold, event: HoldEvent, dest: Hold | None) -> Target:
    return replace(SPEC, hold_next={**SPEC.hold_next, source: {**SPEC.hold_next[source], event: dest}})


def with_row(what: TargetInput, **changed: Any) -> Target:
    """The last row of this input that decides a request that waits is changed; a guard is dropped with its row."""
    rows = [row for row in SPEC.table if row.input is what and Request.WAITING in row.sources]
    dropped = rows[:-1] if changed.pop("guard", rows) is None else []
    table = tuple(replace(row, **changed) if row is rows[-1] else row for row in SPEC.table if row not in dropped)
    return replace(SPEC, table=table)


# -------------------------------------------------------------------------------------------------- other engines


def test_any_number_of_initiators_and_incarnations() -> None:
    assert unproved() == (86, [])
    for name, (target, _) in CASES.items():
        assert unproved(target, first_only=True)[1], name
    late, _ = CASES["announces first, and takes the hold afterwards"]
    assert unproved(late)[1] == ["announce in waiting, of this initiator"]


@pytest.mark.parametrize("name", ["KVTarget.tla", "KVTarget.cfg"])
def test_the_page_is_what_the_tables_say(name: str) -> None:
    written = (Path(__file__).parents[2] / "docs" / "formal" / name).read_text(encoding="utf-8")
    assert written == PAGES[name](), f"docs/formal/{name} is stale: run `make docs`"
    assert max(map(len, written.splitlines())) <= 120


@needs_tlc
def test_tlc_finds_as_many_states_of_two_incarnations_and_nothing_wrong(tmp_path: Path) -> None:
    """Two initiators are the layer's, in ``kvsender prove``."""
    unsafe, states, _ = violates(tla.module(), tla.config(1, 2, fair=False), tla.MODULE, tmp_path, LIMIT_S)
    assert (unsafe, states) == (False, search(SPEC, 1, 2).states)


@needs_tlc
def test_tlc_names_every_wrong_target_and_not_the_right_one(tmp_path: Path) -> None:
    config = tla.config_of_the_wrong(2, 1)
    both = config.replace("Targets = {", f'Targets = {{"{tla.RIGHT}", ')
    assert both != config
    found, _, _ = noted(tla.module(), both, tla.MODULE, tmp_path, LIMIT_S)
    assert found == {name for name in CASES if "incarnation" not in name}


@needs_tlc
@pytest.mark.parametrize("name", ["does not ask who fails after the end", "has no deadline"])
def test_tlc_finds_a_target_whose_pages_or_answer_never_come(name: str, tmp_path: Path) -> None:
    missed, _, _ = violates(tla.module(), tla.config(1, 1, [name]), tla.MODULE, tmp_path, LIMIT_S)
    assert missed
