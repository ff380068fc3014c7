"""The tables decide every pair, the live machines are the tables, and nothing else moves them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from transitions import Machine, MachineError

from kvsender_spec import machine
from kvsender_spec.clauses import BY_ID
from kvsender_spec.live_machines import (
    EVENT_MACHINE,
    HANDLE_MACHINE,
    LOGICAL_MACHINE,
    ForbiddenInput,
    SpecHandle,
    SpecRoom,
)
from kvsender_spec.machine import (
    HANDLE_NEXT,
    LATCHED,
    NEVER,
    NEXT,
    QUIESCED,
    RELEASABLE,
    TABLE,
    TERMINAL,
    Effect,
    Event,
    Guard,
    HandleEvent,
    HandleState,
    Input,
    Reply,
    Row,
    State,
    describe,
    destination,
    rows_for,
)

PAIRS = list(itertools.product(State, Input))


# ------------------------------------------------------------------------------------------------------ totality


def undecided(table: tuple[Row, ...]) -> list[str]:
    """What is wrong with a call table: pairs that nothing, or too much, decides, and rows that cannot be meant."""
    wrong: list[str] = []
    for source, what in PAIRS:
        rows = [row for row in table if row.input is what and source in row.sources]
        nevers = [never for never in NEVER if never.input is what and source in never.sources]
        pair = f"{source.value} x {what.value}"
        if len(nevers) > 1 or (nevers and rows):
            wrong.append(f"{pair}: both allowed and forbidden")
        if not nevers and (not rows or rows[-1].guard is not None):
            wrong.append(f"{pair}: no last row without a guard")
        if any(row.guard is None for row in rows[:-1]):
            wrong.append(f"{pair}: a row after one without a guard")
        if len({row.guard for row in rows}) != len(rows):
            wrong.append(f"{pair}: a guard twice")
    for row in table:
        for source in row.sources:
            if destination(source, row.event) is None:
                wrong.append(f"{row.input.value} in {source.value} names an event that never happens there")
        if (Effect.LATCH in row.effects) != (row.event is Event.FAULTED):
            wrong.append(f"{row.input.value}: a fault is latched, and nothing else is")
        if (Effect.ADOPT in row.effects) != (row.input in (SENDS - {Input.SEND_NOTHING})):
            wrong.append(f"{row.input.value}: what was posted is adopted, and nothing else is")
        if len(set(row.effects)) != len(row.effects):
            wrong.append(f"{row.input.value}: an effect twice")
        if (row.reply is not Reply.NOTHING) != (row.input in (Input.ANSWER, Input.FAILURE_EXCEPTION)):
            wrong.append(f"{row.input.value}: a reply belongs to poll() and failure_exception()")
        if (row.reply is Reply.FAILED) != (row.event is Event.REPORTED):
            wrong.append(f"{row.input.value}: answering Failed is reporting")
    return wrong


SENDS = frozenset({Input.SEND_ACCEPTED, Input.SEND_LAST_ACCEPTED, Input.SEND_REJECTED, Input.SEND_NOTHING})


def test_every_pair_is_decided() -> None:
    assert undecided(TABLE) == []


@pytest.mark.parametrize("number", range(len(TABLE)))
def test_the_totality_check_notices_a_missing_row(number: int) -> None:
    assert undecided(TABLE[:number] + TABLE[number + 1 :]) or TABLE[number].guard is not None


@pytest.mark.parametrize("number", range(len(TABLE)))
def test_the_totality_check_notices_an_event_in_the_wrong_place(number: int) -> None:
    row = TABLE[number]
    for event in [None, *Event]:
        if event is not row.event:
            assert undecided((*TABLE[:number], replace(row, event=event), *TABLE[number + 1 :])) or event in (
                # These two change where a row leads without making it ill-formed; the snapshot below holds them.
                None,
                Event.CHUNK_POSTED,
                Event.COMPLETED,
            )


def test_every_state_has_a_row_for_every_event() -> None:
    assert list(NEXT) == list(State)
    assert all(list(row) == list(Event) for row in NEXT.values())
    assert list(HANDLE_NEXT) == list(HandleState)
    assert all(list(row) == list(HandleEvent) for row in HANDLE_NEXT.values())


def test_every_state_can_be_reached_and_the_terminal_ones_are_never_left() -> None:
    reached = {State.IDLE}
    while more := {dest for state in reached for dest in NEXT[state].values() if dest} - reached:
        reached |= more
    assert reached == set(State)
    handles = {HandleState.CREATED}
    while further := {dest for state in handles for dest in HANDLE_NEXT[state].values() if dest} - handles:
        handles |= further
    assert handles == set(HandleState)
    for state in TERMINAL:
        assert {dest for dest in NEXT[state].values() if dest is not None} == {state}
    for state in LATCHED:
        assert {dest for dest in NEXT[state].values() if dest is not None} <= LATCHED


def test_forbidden_pairs_name_clauses_of_the_contract() -> None:
    assert {never.breaks for never in NEVER} <= BY_ID.keys()


# ----------------------------------------------------------------------------------------- the all-pairs snapshot

SNAPSHOT = """
idle chunk_posted sending
idle completed never
idle faulted failed
idle reported never
sending chunk_posted sending
sending completed done
sending faulted failed
sending reported never
done chunk_posted never
done completed done
done faulted done
done reported never
failed chunk_posted never
failed completed failed
failed faulted failed
failed reported sticky_failed
sticky_failed chunk_posted never
sticky_failed completed sticky_failed
sticky_failed faulted sticky_failed
sticky_failed reported sticky_failed
"""

CALLS_SNAPSHOT = """
idle send_accepted -> sending | sending send_accepted -> sending | done send_accepted KS-8.1
failed send_accepted KS-2.5 | sticky_failed send_accepted KS-2.5
idle send_last_accepted -> sending | sending send_last_accepted -> sending | done send_last_accepted KS-8.1
failed send_last_accepted KS-2.5 | sticky_failed send_last_accepted KS-2.5
idle send_rejected -> failed | sending send_rejected -> failed | done send_rejected KS-8.1
failed send_rejected KS-2.5 | sticky_failed send_rejected KS-2.5
idle send_nothing -> idle | sending send_nothing -> sending | done send_nothing -> done
failed send_nothing -> failed | sticky_failed send_nothing -> sticky_failed
idle observe -> idle
sending observe error_seen -> failed | sending observe all_done -> done
sending observe deadline_passed -> failed | sending observe -> sending
done observe -> done | failed observe -> failed | sticky_failed observe -> sticky_failed
idle answer -> idle waiting | sending answer -> sending transferring | done answer -> done success
failed answer may_report -> sticky_failed failed | failed answer -> failed transferring
sticky_failed answer -> sticky_failed failed
idle failure_exception -> idle raises a usage error | sending failure_exception -> sending raises a usage error
done failure_exception -> done raises a usage error | failed failure_exception -> failed raises the cause
sticky_failed failure_exception -> sticky_failed raises the cause
idle abort -> failed | sending abort -> failed | done abort -> done
failed abort -> failed | sticky_failed abort -> sticky_failed
idle clear -> failed | sending clear -> failed | done clear -> done
failed clear -> failed | sticky_failed clear -> sticky_failed
"""


def test_all_pairs_of_states_and_events() -> None:
    seen = [
        f"{state.value} {event.value} {'never' if dest is None else dest.value}"
        for state, row in NEXT.items()
        for event, dest in row.items()
    ]
    assert seen == SNAPSHOT.split("\n")[1:-1]


def test_all_pairs_of_states_and_inputs() -> None:
    expected = {entry.strip() for line in CALLS_SNAPSHOT.strip().split("\n") for entry in line.split("|")}
    seen = set()
    for source, what in PAIRS:
        seen |= {
            f"{source.value} {what.value} {never.breaks}"
            for never in NEVER
            if never.input is what and source in never.sources
        }
        for row in rows_for(source, what):
            dest = destination(source, row.event)
            assert dest is not None
            guard = "" if row.guard is None else f" {row.guard.value}"
            reply = "" if row.reply is Reply.NOTHING else f" {row.reply.value}"
            seen.add(f"{source.value} {what.value}{guard} -> {dest.value}{reply}")
    assert seen == expected


# --------------------------------------------------------------------------------- the live machines are the tables


def live(built: Machine) -> set[tuple[Any, ...]]:
    return {
        (name, found.source, found.dest, tuple(guard.func for guard in found.conditions), tuple(found.before))
        for name, event in built.events.items()
        for transitions in event.transitions.values()
        for found in transitions
    }


def from_table() -> set[tuple[Any, ...]]:
    found: set[tuple[Any, ...]] = set()
    for row in TABLE:
        for source in row.sources:
            dest = destination(source, row.event)
            assert dest is not None
            guards = () if row.guard is None else (row.guard.value,)
            effects = tuple(effect.value for effect in row.effects)
            found.add((row.input.value, source.name, dest.name, guards, effects))
    return found


def matrix(following: Any) -> set[tuple[Any, ...]]:
    return {
        (event.value, source.name, dest.name, (), ())
        for source, row in following.items()
        for event, dest in row.items()
        if dest is not None
    }


def test_the_live_machines_equal_the_tables() -> None:
    assert live(LOGICAL_MACHINE) == from_table()
    assert live(EVENT_MACHINE) == matrix(NEXT)
    assert live(HANDLE_MACHINE) == matrix(HANDLE_NEXT)


@pytest.mark.parametrize("built", [LOGICAL_MACHINE, EVENT_MACHINE, HANDLE_MACHINE])
def test_the_machines_admit_nothing_beside_their_triggers(built: Machine) -> None:
    assert not [name for name in built.events if name.startswith("to_")]
    assert built.ignore_invalid_triggers is False
    assert built.models == []


def test_the_comparison_with_the_live_machine_can_fail() -> None:
    spoilt = Machine(model=None, states=State, initial=State.IDLE, auto_transitions=False)
    spoilt.add_transition("abort", State.IDLE, State.DONE)
    assert live(spoilt) != from_table()


class Model:
    """Something for the event machine to move."""

    state: State
    trigger: Callable[[str], bool]


@pytest.mark.parametrize(("source", "event"), list(itertools.product(State, Event)))
def test_the_event_machine_does_what_the_matrix_says(source: State, event: Event) -> None:
    model = Model()
    EVENT_MACHINE.add_model(model, initial=source)
    EVENT_MACHINE.remove_model(model)
    dest = NEXT[source][event]
    if dest is None:
        with pytest.raises(MachineError):
            model.trigger(event.value)
        assert model.state is source
    else:
        assert model.trigger(event.value)
        assert model.state is dest


@pytest.mark.parametrize(("source", "what"), PAIRS)
@pytest.mark.parametrize("true", [frozenset[Guard](), *(frozenset({guard}) for guard in Guard), frozenset(Guard)])
def test_a_room_takes_the_first_row_that_applies(source: State, what: Input, true: frozenset[Guard]) -> None:
    room = SpecRoom(lambda guard: guard in true)
    room.place(source)
    rows = rows_for(source, what)
    if not rows:
        with pytest.raises(ForbiddenInput) as refused:
            room.take(what)
        assert refused.value.breaks in BY_ID
        assert room.state is source
        return
    expected = next(row for row in rows if row.guard is None or row.guard in true)
    assert room.take(what) is expected
    assert room.state is destination(source, expected.event)


def test_a_handle_released_in_flight_is_in_doubt_and_a_late_done_makes_its_pages_quiesced() -> None:
    handle = SpecHandle()
    assert handle.fire(HandleEvent.ACCEPTED) is HandleState.IN_FLIGHT
    assert handle.fire(HandleEvent.RELEASED) is HandleState.IN_DOUBT
    assert HandleState.IN_DOUBT not in RELEASABLE | QUIESCED
    assert handle.fire(HandleEvent.FINISHED) in QUIESCED


def test_a_released_handle_takes_nothing_any_more() -> None:
    handle = SpecHandle()
    assert handle.fire(HandleEvent.RELEASED) is HandleState.NEVER_SUBMITTED
    for event in HandleEvent:
        with pytest.raises(MachineError):
            handle.fire(event)


def test_a_failed_room_is_not_a_reported_one() -> None:
    """What tells failed from sticky_failed: only in failed may poll() still say that it is transferring."""
    room = SpecRoom(lambda _: False)
    room.place(State.FAILED)
    assert room.take(Input.ANSWER).reply is Reply.TRANSFERRING
    room.place(State.STICKY_FAILED)
    assert room.take(Input.ANSWER).reply is Reply.FAILED


def test_every_guard_has_words() -> None:
    assert len({describe(guard) for guard in Guard}) == len(Guard)


def test_the_names_of_the_module_are_those_of_the_tables() -> None:
    assert {state.value for state in State} == {"idle", "sending", "done", "failed", "sticky_failed"}
    assert machine.__doc__ is not None
    assert all(f"    {state.value} " in machine.__doc__ for state in State)
