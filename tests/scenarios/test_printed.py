"""Printed steps and setups are read back, and what is neither is named."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from tests.spec.test_trace import SETUPS, STEPS

from kvsender_spec.printed import parse_setup, parse_step
from kvsender_spec.trace import Call, Setup, Step, TraceError


@given(STEPS)
def test_a_printed_step_is_read_back(step: Step) -> None:
    about_nothing = not str(step).startswith(f"{step.call}(")
    assert parse_step(str(step)) == (replace(step, room=0, opening=0) if about_nothing else step)


@given(SETUPS)
def test_a_printed_setup_is_read_back(setup: Setup) -> None:
    assert parse_setup(str(setup)) == setup


@given(STEPS)
def test_a_readers_step_is_read_back_in_its_words(step: Step) -> None:
    assert parse_step(step.told("READ"), "READ") == parse_step(str(step))


def test_a_sender_does_not_read() -> None:
    with pytest.raises(TraceError, match="'read' is not one of: open, send"):
        parse_step("read(0)")


def test_a_wait_is_about_no_room() -> None:
    assert parse_step("wait_long") == Step(Call.WAIT_LONG)
    assert parse_step("wait") == Step(Call.WAIT)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sned(0)", "'sned' is not one of: open, send"),
        ("send", r"'send' names no room or peer: write send\(0\)"),
        ("send(x)", "'x' is no number from 0"),
        ("send(²)", "'²' is no number from 0"),
        ("send(" + "9" * 5000 + ")", "'9{79}... .5002 characters. is no number from 0 with at most 9 digits"),
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
        ("poll(0) overlapping abrot from another thread at check", "'abrot' is not one of: open"),
        ("poll(0) overlapping abort", "'' is not one of: make"),
        ("", "'' is not one of: open"),
    ],
)
def test_what_is_no_printed_step_is_named(text: str, message: str) -> None:
    with pytest.raises(TraceError, match=message):
        parse_step(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is no beginning of a setup"),
        ("rooms of 1+x pages, 1 peer", "'x' is no number from 0"),
        ("rooms of 1 pages, 2 peer", "did you mean 'rooms of 1 pages, 2 peers'"),
        ("rooms of 1 pages", "did you mean 'rooms of 1 pages, 1 peer'"),
        ("rooms of 1 pages, 1 peer, very silent", "'very silent' is no part of a setup"),
    ],
)
def test_what_is_no_printed_setup_is_named(text: str, message: str) -> None:
    with pytest.raises(TraceError, match=message):
        parse_setup(text)
