"""The target's tables decide every pair, only a proof gives pages back, and the live machines are the tables."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
from tests.spec.test_machine import live, matrix
from transitions import Machine

from kvsender_spec import target_machine
from kvsender_spec.formal.targets.rules import SPEC, Target, complaints, ill_formed
from kvsender_spec.live_machines import ForbiddenInput
from kvsender_spec.live_target import HOLD_MACHINE, REQUEST_EVENT_MACHINE, REQUEST_MACHINE, SpecTarget
from kvsender_spec.machine import Reply
from kvsender_spec.target_machine import (
    HOLD_BREAKS,
    HOLD_NEXT,
    OF_ONE,
    REQUEST_NEXT,
    TARGET_NEVER,
    TARGET_TABLE,
    TOUCHABLE,
    Hold,
    HoldEvent,
    Request,
    RequestEvent,
    TargetEffect,
    TargetGuard,
    TargetInput,
    TargetNever,
    TargetRow,
    describe_target,
    request_after,
    target_rows,
)

PAIRS = list(itertools.product(Request, TargetInput))


# ------------------------------------------------------------------------------------------------------ totality


def test_every_pair_is_decided() -> None:
    assert list(complaints(SPEC)) == []
    for source, what in PAIRS:
        assert bool(target_rows(source, what)) is (SPEC.forbids(source, what) is None)


@pytest.mark.parametrize("number", range(len(TARGET_TABLE)))
def test_the_totality_check_notices_a_missing_row_and_one_too_many(number: int) -> None:
    assert ill_formed(replace(SPEC, table=TARGET_TABLE[:number] + TARGET_TABLE[number + 1 :]))
    assert ill_formed(replace(SPEC, table=(*TARGET_TABLE, TARGET_TABLE[number])))


def with_row(chosen: Callable[[TargetRow], bool], change: Callable[[TargetRow], TargetRow]) -> Target:
    rows = tuple(change(row) if chosen(row) else row for row in TARGET_TABLE)
    assert rows != TARGET_TABLE
    return replace(SPEC, table=rows)


def with_hold(source: Hold, event: HoldEvent, dest: Hold | None) -> Target:
    return replace(SPEC, hold_next={**HOLD_NEXT, source: {**HOLD_NEXT[source], event: dest}})


def with_request(source: Request, event: RequestEvent, dest: Request | None) -> Target:
    return replace(SPEC, request_next={**REQUEST_NEXT, source: {**REQUEST_NEXT[source], event: dest}})


def of(*inputs: TargetInput) -> Callable[[TargetRow], bool]:
    return lambda row: row.input in inputs


PLANTED = {
    "announce in done is decided twice": with_row(
        of(TargetInput.ANNOUNCE), lambda row: replace(row, sources=(*Request,))
    ),
    "reuse in waiting is decided by nothing": replace(SPEC, never=TARGET_NEVER[:1]),
    "reuse in waiting is decided twice": replace(SPEC, never=(*TARGET_NEVER, TARGET_NEVER[1])),
    "end in waiting: the last row, and only the last, has no guard": with_row(
        of(TargetInput.END), lambda row: replace(row, guard=TargetGuard.ALL_CONFIRMED)
    ),
    "proved in held: no cell": replace(SPEC, hold_next={}),
    "ended in exposed: no cell": replace(SPEC, hold_next={**HOLD_NEXT, Hold.EXPOSED: {HoldEvent.PROVED: Hold.DRAINED}}),
    "confirmed in failed: no cell": replace(SPEC, request_next={**REQUEST_NEXT, Request.FAILED: {}}),
    "abort in waiting: ended never happens there": with_request(Request.WAITING, RequestEvent.ENDED, None),
    "ended in exposed: only a proof leads to drained": with_hold(Hold.EXPOSED, HoldEvent.ENDED, Hold.DRAINED),
    "announced in quarantined: only a proof leads to drained": with_hold(
        Hold.QUARANTINED, HoldEvent.ANNOUNCED, Hold.DRAINED
    ),
    "proved in exposed: only what is drained is freed": with_hold(Hold.EXPOSED, HoldEvent.PROVED, Hold.FREE),
    "freed in quarantined: only what is drained is freed": with_hold(Hold.QUARANTINED, HoldEvent.FREED, Hold.FREE),
    "announced in free: what has another owner is not this room's any more": with_hold(
        Hold.FREE, HoldEvent.ANNOUNCED, Hold.EXPOSED
    ),
    "proved in exposed does not lead to exposed": with_hold(Hold.EXPOSED, HoldEvent.PROVED, Hold.EXPOSED),
    "proved in free does not lead to never": with_hold(Hold.FREE, HoldEvent.PROVED, None),
    "ended in done: what has ended stays as it is": with_request(Request.DONE, RequestEvent.ENDED, Request.FAILED),
    "confirmed in waiting leads to done": with_request(Request.WAITING, RequestEvent.CONFIRMED, Request.FAILED),
    "time in waiting: it is not proved for the hold": with_row(
        of(TargetInput.TIME), lambda row: replace(row, hold=HoldEvent.PROVED)
    ),
    "end in done: it is not nothing for the hold": with_row(of(TargetInput.END), lambda row: replace(row, hold=None)),
    "lost in waiting: it is not nothing for the request": with_row(
        of(TargetInput.LOST), lambda row: replace(row, request=None)
    ),
    "abort in waiting asks what it does not need to know, or does not ask": with_row(
        of(TargetInput.ABORT), lambda row: replace(row, guard=TargetGuard.ALL_DRAINED)
    ),
    "answer in failed does not reply 'success'": with_row(
        lambda row: row.reply is Reply.FAILED, lambda row: replace(row, reply=Reply.SUCCESS)
    ),
    "failure in done does something else": with_row(
        lambda row: TargetEffect.ASK in row.effects, lambda row: replace(row, effects=())
    ),
}


@pytest.mark.parametrize("complaint", PLANTED)
def test_a_planted_fault_is_named(complaint: str) -> None:
    assert complaint in list(complaints(PLANTED[complaint]))


def test_forbidden_pairs_name_clauses_about_targets() -> None:
    named = [*(never.breaks for never in TARGET_NEVER), *HOLD_BREAKS.values()]
    assert all(re.fullmatch(r"KS-9\.\d+", clause) for clause in named)
    refused = {event for row in HOLD_NEXT.values() for event, dest in row.items() if dest is None}
    assert refused == HOLD_BREAKS.keys()


def only_by(leads: Iterable[tuple[Hold, HoldEvent, Hold | None]]) -> set[tuple[Hold, HoldEvent]]:
    return {(source, event) for source, event, dest in leads if source in TOUCHABLE and dest not in (None, *TOUCHABLE)}


def test_only_a_proof_ends_what_an_initiator_may_touch_and_only_what_is_drained_is_freed() -> None:
    leads = [(source, event, dest) for source, row in HOLD_NEXT.items() for event, dest in row.items()]
    assert only_by(leads) == {(source, HoldEvent.PROVED) for source in TOUCHABLE}
    assert only_by([*leads, (Hold.EXPOSED, HoldEvent.ENDED, Hold.DRAINED)]) != only_by(leads)
    freed = [(source, event) for source, event, dest in leads if dest is Hold.FREE and source is not Hold.FREE]
    assert freed == [(Hold.DRAINED, HoldEvent.FREED)]
    proving = {row.input for row in TARGET_TABLE if row.hold is HoldEvent.PROVED}
    assert proving == {TargetInput.END, TargetInput.QUIESCED, TargetInput.FENCE}


# ----------------------------------------------------------------------------------------- the all-pairs snapshot

SNAPSHOT = """
waiting announce -> waiting announced | done announce KS-9.10 | failed announce KS-9.10
waiting part all_confirmed -> done confirm | waiting part -> waiting confirm | done part -> done | failed part -> failed
waiting end all_confirmed -> done proved confirm | waiting end -> waiting proved confirm
done end -> done proved | failed end -> failed proved
waiting failure -> failed latch tell_abort | done failure -> done ask | failed failure -> failed
waiting quiesced -> failed proved latch tell_abort | done quiesced -> done proved | failed quiesced -> failed proved
waiting foreign -> waiting count | done foreign -> done count | failed foreign -> failed count
waiting renew -> waiting extend | done renew -> done answer_lost | failed renew -> failed answer_lost
waiting time all_confirmed -> done | waiting time -> failed latch tell_abort | done time -> done | failed time -> failed
waiting lost -> failed latch tell_abort | done lost -> done | failed lost -> failed
waiting fence -> failed proved latch tell_abort | done fence -> done proved | failed fence -> failed proved
waiting abort -> failed latch tell_abort | done abort -> done | failed abort -> failed
waiting clear -> failed latch tell_abort forget | done clear -> done forget | failed clear -> failed forget
waiting answer -> waiting transferring | done answer -> done success | failed answer -> failed failed
waiting failure_exception -> waiting raises a usage error | done failure_exception -> done raises a usage error
failed failure_exception -> failed raises the cause
waiting reuse KS-9.1 | done reuse all_drained -> done freed | failed reuse all_drained -> failed freed
done reuse -> done raises a usage error | failed reuse -> failed raises a usage error
"""


def test_all_pairs_of_requests_and_inputs() -> None:
    expected = {entry.strip() for line in SNAPSHOT.strip().split("\n") for entry in line.split("|")}
    seen: set[str] = set()
    for source, what in PAIRS:
        seen |= {f"{source.value} {what.value} {breaks}" for breaks in [SPEC.forbids(source, what)] if breaks}
        for row in target_rows(source, what):
            dest = request_after(source, row.request)
            assert dest is not None
            guard = [] if row.guard is None else [row.guard.value]
            does = [] if row.hold is None else [row.hold.value]
            does += [effect.value for effect in row.effects]
            does += [] if row.reply is Reply.NOTHING else [row.reply.value]
            seen.add(" ".join([source.value, what.value, *guard, "->", dest.value, *does]))
    assert seen == expected


# --------------------------------------------------------------------------------- the live machines are the tables


def from_table(table: tuple[TargetRow, ...] = TARGET_TABLE) -> set[tuple[Any, ...]]:
    found: set[tuple[Any, ...]] = set()
    for row in table:
        for source in row.sources:
            dest = request_after(source, row.request)
            assert dest is not None
            guards = () if row.guard is None else (row.guard.value,)
            effects = tuple(effect.value for effect in row.effects)
            found.add((row.input.value, source.name, dest.name, guards, effects))
    return found


def test_the_live_machines_equal_the_tables() -> None:
    assert live(REQUEST_MACHINE) == from_table()
    assert live(REQUEST_EVENT_MACHINE) == matrix(REQUEST_NEXT)
    assert live(HOLD_MACHINE) == matrix(HOLD_NEXT)


def test_the_comparison_with_the_live_machines_can_fail() -> None:
    for planted in PLANTED.values():
        if planted.table is not TARGET_TABLE and from_table(planted.table) != from_table():
            assert live(REQUEST_MACHINE) != from_table(planted.table)
    moved = with_hold(Hold.EXPOSED, HoldEvent.ENDED, Hold.DRAINED)
    assert live(HOLD_MACHINE) != matrix(moved.hold_next)


@pytest.mark.parametrize("built", [REQUEST_MACHINE, REQUEST_EVENT_MACHINE, HOLD_MACHINE])
def test_the_machines_admit_nothing_beside_their_triggers(built: Machine) -> None:
    assert not [name for name in built.events if name.startswith("to_")]
    assert built.ignore_invalid_triggers is False
    assert built.models == []


FACTS = [frozenset[TargetGuard](), *(frozenset({guard}) for guard in TargetGuard)]


@pytest.mark.parametrize("true", FACTS)
@pytest.mark.parametrize(("source", "what"), PAIRS)
def test_a_room_takes_the_first_row_that_applies(
    source: Request, what: TargetInput, true: frozenset[TargetGuard]
) -> None:
    """And moves the hold that is named or each, then, when it ends the request, all of them."""
    initiator = 0 if what in OF_ONE else None
    rows = target_rows(source, what)
    for first, second in itertools.product(Hold, Hold):
        room = SpecTarget(2, lambda guard: guard in true)
        room.place(source)
        for hold, state in zip(room.holds, (first, second), strict=True):
            hold.place(state)
        expected = next((row for row in rows if row.guard is None or row.guard in true), None)
        moved = [first] if initiator == 0 else [first, second]
        refused = expected is None or (
            expected.hold is not None and any(HOLD_NEXT[hold][expected.hold] is None for hold in moved)
        )
        if refused:
            with pytest.raises(ForbiddenInput, match=r"KS-9\."):
                room.take(what, initiator)
            assert (room.state, *(hold.state for hold in room.holds)) == (source, first, second)
            continue
        assert expected is not None
        assert room.take(what, initiator) is expected
        assert room.state is request_after(source, expected.request)
        after: list[Hold | None] = [first, second]
        for place in range(len(moved)) if expected.hold is not None else ():
            assert expected.hold is not None
            after[place] = HOLD_NEXT[moved[place]][expected.hold]
        if source is Request.WAITING and room.state is not source:
            after = [None if hold is None else HOLD_NEXT[hold][HoldEvent.ENDED] for hold in after]
        assert [hold.state for hold in room.holds] == after


def test_an_input_about_an_initiator_names_one() -> None:
    with pytest.raises(ValueError, match="end names an initiator"):
        SpecTarget(1, lambda _: False).take(TargetInput.END)
    with pytest.raises(ValueError, match="abort names no initiator"):
        SpecTarget(1, lambda _: False).take(TargetInput.ABORT, 0)


def test_pages_come_back_by_a_proof_of_each_initiator_and_by_nothing_else() -> None:
    facts: set[TargetGuard] = set()
    room = SpecTarget(2, lambda guard: guard in facts)
    room.take(TargetInput.ANNOUNCE, 0)
    room.take(TargetInput.ANNOUNCE, 1)
    for what in (TargetInput.TIME, TargetInput.ABORT, TargetInput.CLEAR):
        room.take(what)
    assert room.take(TargetInput.REUSE).reply is Reply.RAISES_USAGE
    room.take(TargetInput.END, 0)
    room.take(TargetInput.LOST, 1)
    assert [hold.state for hold in room.holds] == [Hold.DRAINED, Hold.QUARANTINED]
    room.take(TargetInput.FENCE, 1)
    facts.add(TargetGuard.ALL_DRAINED)
    room.take(TargetInput.REUSE)
    assert [hold.state for hold in room.holds] == [Hold.FREE, Hold.FREE]


def test_every_guard_has_words() -> None:
    assert len({describe_target(guard) for guard in TargetGuard}) == len(TargetGuard)


def test_the_names_of_the_module_are_those_of_the_tables() -> None:
    assert target_machine.__doc__ is not None
    assert all(f"    {hold.value} " in target_machine.__doc__ for hold in Hold)
    assert TargetNever.__doc__ is not None
