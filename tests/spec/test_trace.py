"""Traces are written and read back unchanged, and what cannot be read is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsender_spec.contract import OPERATIONS, ROLES
from kvsender_spec.faults import STAND_INS, Fault, FaultPlan, Kind, Point, make_error
from kvsender_spec.history.words import How, Says
from kvsender_spec.trace import (
    BY_INITIATORS,
    Call,
    Misuse,
    Overlap,
    Progress,
    Setup,
    Step,
    Trace,
    TraceError,
    load,
)

FAULTS = st.builds(Fault, st.sampled_from(Point), st.sampled_from(Kind), st.integers(0, 3))
SENDERS_STEPS = st.builds(
    Step,
    st.sampled_from(Call),
    st.integers(0, 3),
    st.sampled_from(Progress),
    st.none() | FAULTS,
    st.none() | st.sampled_from(Misuse),
    st.none() | st.builds(Overlap, st.sampled_from(Call), st.sampled_from(Point), st.integers(0, 3)),
    st.integers(0, 3),
)
INITIATORS_STEPS = st.builds(
    Step,
    st.sampled_from(sorted(BY_INITIATORS)),
    st.integers(0, 3),
    st.sampled_from(Progress),
    peer=st.integers(0, 3),
    says=st.none() | st.sampled_from(Says),
    how=st.sampled_from(How),
)
STEPS = SENDERS_STEPS | INITIATORS_STEPS
SETUPS = st.builds(
    Setup,
    chunks=st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=3).map(tuple), min_size=1, max_size=2).map(tuple),
    peers=st.integers(1, 3),
    dummies=st.integers(0, 1),
    shared=st.booleans(),
    done_at_post=st.booleans(),
    drops_metadata=st.booleans(),
    silent=st.booleans(),
    operation=st.sampled_from(OPERATIONS),
    role=st.sampled_from(ROLES),
)


@given(st.builds(Trace, SETUPS, st.lists(STEPS, max_size=5).map(tuple)))
def test_a_trace_comes_back_as_it_was(trace: Trace) -> None:
    assert load(trace.dump().splitlines()) == trace


GOOD = Trace(Setup(), (Step(Call.SEND), Step(Call.POLL, fault=Fault(Point.CHECK, Kind.BACKEND)))).dump().splitlines()


@pytest.mark.parametrize(
    ("number", "old", "new", "message"),
    [
        (
            0,
            "kvsender-trace/2",
            "kvsender-trace/9",
            "line 1: format must be 'kvsender-trace/2', not 'kvsender-trace/9'",
        ),
        (0, '"peers": 1', '"peers": -1', "line 1: peers: Expected `int` >= 0: '-1'"),
        (0, "[[1]]", "[[]]", r"line 1: chunks\[0\]: Expected `array` of length >= 1: '\[\[\]\]'"),
        (0, "[[1]]", "[]", r"line 1: chunks: Expected `array` of length >= 1: '\[\]'"),
        (0, "[[1]]", "[[1, -2]]", r"line 1: chunks\[0\]\[1\]: Expected `int` >= 0: '\[\[1, -2\]\]'"),
        (0, '"silent": false', '"silent": 3', "line 1: silent: Expected `bool`, got `int`: '3'"),
        (1, "send", "sned", "line 2: call: Invalid enum value 'sned'"),
        (1, '"call"', '"clal"', "line 2: Object missing required field `call`: .*clal"),
        (1, '"room": 0', '"room": "x"', "line 2: room: Expected `int`, got `str`: '\"x\"'"),
        (1, '"room": 0', '"room": -1', "line 2: room: Expected `int` >= 0: '-1'"),
        (1, '"room": 0', '"room": true', "line 2: room: Expected `int`, got `bool`: 'true'"),
        (1, '"room": 0', '"room": 0.5', "line 2: room: Expected `int`, got `float`: '0.5'"),
        (1, '"room": 0', '"opening": -1', "line 2: opening: Expected `int` >= 0: '-1'"),
        (2, "nixlBackendError", "nixlSurprise", "line 3: fault.kind: Invalid enum value 'nixlSurprise'"),
        (2, '"nth": 0', '"nth": -7', "line 3: fault.nth: Expected `int` >= 0: .*-7"),
        (2, '"fault": {', '"fault": [{', r"line 3: fault: Expected `object \| null`, got `array`"),
        (2, "}", "", "line 3: not JSON"),
        (2, '{"call"', '[{"call"', "line 3: Expected `object`, got `array`: '\\[{"),
    ],
)
def test_what_cannot_be_read_is_named(number: int, old: str, new: str, message: str) -> None:
    lines = list(GOOD)
    assert old in lines[number]
    lines[number] = lines[number].replace(old, new)
    with pytest.raises(TraceError, match=message):
        load(lines)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("9" * 5000, r"room: Integer value out of range: '9{79}\.\.\. \(5002 characters\)"),
        ("-" + "9" * 5000, "room: Integer value out of range: '-999"),
        ("1e400", "room: Number out of range: '1e400'"),
        ("NaN", "not JSON"),
        ("[" * 100_000, r"room: Expected `int`, got `array`: .*\[\[\[\.\.\. \(\d+ characters\)"),
        ('0, "more": ' + "[" * 100_000, "nested too deeply: '{"),
        ('0, "more": "\udcff"', r"not UTF-8: '\\udcff' at character 37"),
        ('0, "misuse": "' + "x" * 5000 + '"', r"misuse: Invalid enum value 'x{60}\.\.\. \(5021 characters\): '\"x"),
        ("0\x00", "not JSON: "),
    ],
    ids=["digits", "digits below 0", "exponent", "NaN", "brackets", "brackets nobody reads", "bytes", "word", "NUL"],
)
def test_hostile_lines_are_errors_and_no_tracebacks(value: str, message: str) -> None:
    with pytest.raises(TraceError, match=f"^line 2: {message}"):
        load([GOOD[0], f'{{"call": "send", "room": {value}}}'])


def test_the_written_form_leaves_out_what_a_step_does_not_say() -> None:
    assert GOOD == [
        '{"format": "kvsender-trace/2", "chunks": [[1]], "peers": 1, "dummies": 0, "shared": true, '
        '"done_at_post": false, "drops_metadata": false, "silent": false, "cached": 0, "renames": false, '
        '"churn": false, "refilled": "all", "granted": "good", "operation": "WRITE", "role": "initiator"}',
        '{"call": "send", "room": 0}',
        '{"call": "poll", "room": 0, "fault": {"point": "check", "kind": "nixlBackendError", "nth": 0}}',
    ]


def test_what_is_left_out_has_its_default_and_what_is_unknown_is_ignored() -> None:
    assert load(['{"format": "kvsender-trace/2"}', '{"call": "poll", "why": 1, "misuse": null}']) == Trace(
        Setup(), (Step(Call.POLL),)
    )


def test_an_empty_file_is_no_trace() -> None:
    with pytest.raises(TraceError, match="line 1: the trace is empty"):
        load(["", "  "])
    with pytest.raises(TraceError, match="line 1: Expected `object`, got `array`"):
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
