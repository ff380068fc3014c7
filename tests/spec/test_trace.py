"""Traces are written and read back unchanged, and what cannot be read is named."""

from __future__ import annotations

from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsender_spec.faults import STAND_INS, Fault, FaultPlan, Kind, Point, make_error
from kvsender_spec.trace import (
    Call,
    Meeting,
    Misuse,
    Progress,
    Scene,
    Step,
    Trace,
    TraceError,
    load,
    parse_scene,
    parse_step,
)

_Steps: TypeAlias = st.SearchStrategy[Step]
FAULTS = st.builds(Fault, st.sampled_from(Point), st.sampled_from(Kind), st.integers(0, 3))
OF_NO_ROOM = (Call.WAIT, Call.WAIT_LONG, Call.FAULTS_OVER, Call.SETTLE)


def _steps(calls: st.SearchStrategy[Call], rooms: st.SearchStrategy[int], openings: st.SearchStrategy[int]) -> _Steps:
    return st.builds(
        Step,
        calls,
        rooms,
        st.sampled_from(Progress),
        st.none() | FAULTS,
        st.none() | st.sampled_from(Misuse),
        st.none() | st.builds(Meeting, st.sampled_from(Call), st.sampled_from(Point), st.integers(0, 3)),
        openings,
    )


STEPS = st.one_of(
    _steps(st.sampled_from(OF_NO_ROOM), st.just(0), st.just(0)),
    _steps(st.sampled_from([call for call in Call if call not in OF_NO_ROOM]), st.integers(0, 3), st.integers(0, 3)),
)
SCENES = st.builds(
    Scene,
    chunks=st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=3).map(tuple), min_size=1, max_size=2).map(tuple),
    peers=st.integers(1, 3),
    dummies=st.integers(0, 1),
    shared=st.booleans(),
    done_at_post=st.booleans(),
    drops_metadata=st.booleans(),
    silent=st.booleans(),
)


@given(st.builds(Trace, SCENES, st.lists(STEPS, max_size=5).map(tuple)))
def test_a_trace_comes_back_as_it_was(trace: Trace) -> None:
    assert load(trace.dump().splitlines()) == trace


GOOD = Trace(Scene(), (Step(Call.SEND), Step(Call.POLL, fault=Fault(Point.CHECK, Kind.BACKEND)))).dump().splitlines()


@pytest.mark.parametrize(
    ("number", "old", "new", "message"),
    [
        (
            0,
            "kvsender-trace/1",
            "kvsender-trace/9",
            "line 1: format must be 'kvsender-trace/1', not 'kvsender-trace/9'",
        ),
        (0, '"peers": 1', '"peers": -1', "line 1: peers must be a number from 0, not -1"),
        (0, "[[1]]", "[[]]", r"line 1: chunks must be lists of page counts, not \[\]"),
        (0, '"silent": false', '"silent": 3', "line 1: silent must be true or false, not 3"),
        (1, "send", "sned", "line 2: 'sned' is not one of: open, send"),
        (1, '"room": 0', '"room": "x"', "line 2: room must be a number from 0, not 'x'"),
        (2, "nixlBackendError", "nixlSurprise", "line 3: 'nixlSurprise' is not one of: nixlNotPostedError"),
        (2, "}", "", "line 3: not JSON"),
        (2, '{"call"', '[{"call"', "line 3: not JSON"),
    ],
)
def test_what_cannot_be_read_is_named(number: int, old: str, new: str, message: str) -> None:
    lines = list(GOOD)
    assert old in lines[number]
    lines[number] = lines[number].replace(old, new)
    with pytest.raises(TraceError, match=message):
        load(lines)


def test_an_empty_file_is_no_trace() -> None:
    with pytest.raises(TraceError, match="line 1: the trace is empty"):
        load(["", "  "])
    with pytest.raises(TraceError, match="line 1: expected an object"):
        load(["[1]"])


def test_a_fault_strikes_once_at_the_call_it_names() -> None:
    plan = FaultPlan()
    fault = Fault(Point.CHECK, Kind.CANCELLED, nth=1)
    plan.arm(fault)
    assert [plan.take(Point.CHECK), plan.take(Point.POST), plan.take(Point.CHECK), plan.take(Point.CHECK)] == [
        None,
        None,
        fault,
        None,
    ]
    plan.arm()
    assert plan.take(Point.CHECK) is None


@pytest.mark.parametrize("kind", [kind for kind in Kind if not kind.startswith("returns")])
def test_every_raised_kind_has_an_error_of_its_name(kind: Kind) -> None:
    assert type(make_error(kind, STAND_INS)).__name__ == kind.value


@pytest.mark.parametrize("kind", [Kind.RETURNS_ERR, Kind.RETURNS_NONSENSE])
def test_what_is_returned_is_not_raised(kind: Kind) -> None:
    with pytest.raises(ValueError, match="returned, not raised"):
        make_error(kind, STAND_INS)


def test_the_stand_ins_share_no_base_but_exception() -> None:
    assert len(STAND_INS) == 12
    assert all(error.__mro__[1] is Exception for error in STAND_INS.values())


@given(STEPS)
def test_a_printed_step_is_read_back(step: Step) -> None:
    assert parse_step(str(step)) == step


@given(SCENES)
def test_a_printed_scene_is_read_back(scene: Scene) -> None:
    assert parse_scene(str(scene)) == scene


@pytest.mark.parametrize("call", OF_NO_ROOM)
def test_a_wait_and_an_end_are_about_no_room(call: Call) -> None:
    assert parse_step(call.value) == Step(call)
    assert str(Step(call)) == call.value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sned(0)", "'sned' is not one of: open, send"),
        ("send", r"'send' names no room or peer: write send\(0\)"),
        ("send(x)", "'x' is no number from 0"),
        ("send(²)", "'²' is no number from 0"),
        ("send(0", r"'send\(0' is no step: did you mean 'send\(0\)'"),
        ("send(0) ", "is no number from 0"),
        ("send(00)", r"did you mean 'send\(0\)'"),
        ("poll(0) after some finished", "'some' is not one of: none, all"),
        ("poll(0) after all", r"did you mean 'poll\(0\) after all finished'"),
        ("poll(0) with chekc=KeyError", "'chekc' is not one of: make, post"),
        ("poll(0) with check=nixlSurprise", "'nixlSurprise' is not one of: nixlNotPostedError"),
        ("poll(0) with check[x]=KeyError", "'x' is no number from 0"),
        ("send(0) with a bad page", "'a bad page' is not one of: page out of range"),
        ("poll(0) with check=KeyError with check=TypeError", "did you mean 'poll.0. with check=TypeError'"),
        ("poll(0) meeting abrot from another thread at check", "'abrot' is not one of: open"),
        ("poll(0) meeting abort", "'' is not one of: make"),
        ("", "'' is not one of: open"),
    ],
)
def test_what_is_no_printed_step_is_named(text: str, message: str) -> None:
    with pytest.raises(TraceError, match=message):
        parse_step(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is no beginning of a scene"),
        ("rooms of 1+x pages, 1 peer", "'x' is no number from 0"),
        ("rooms of 1 pages, 2 peer", "did you mean 'rooms of 1 pages, 2 peers'"),
        ("rooms of 1 pages", "did you mean 'rooms of 1 pages, 1 peer'"),
        ("rooms of 1 pages, 1 peer, very silent", "'very silent' is no part of a scene"),
    ],
)
def test_what_is_no_printed_scene_is_named(text: str, message: str) -> None:
    with pytest.raises(TraceError, match=message):
        parse_scene(text)
