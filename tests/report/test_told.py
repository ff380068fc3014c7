"""A history in words: every kind of event is told, by step, and what broke follows the event that shows it."""

from __future__ import annotations

import pytest
from tests.report.made import HOSTILE, LONG, Script, every_event, success_after_failure

from kvsender_spec.history import events as h
from kvsender_spec.observe.verdict import Violation
from kvsender_spec.report.told import Teller, broken, moments, narrate, tell

SILENT = {"error.seen", "step.started"}
"""Kinds that are told where others refer to them."""


def test_every_kind_of_event_is_told() -> None:
    history = every_event()
    teller = Teller(history)
    assert {h.kind_of(type(event)) for event in history.events} == set(h.KINDS)
    for event in history.events:
        kind = h.kind_of(type(event))
        assert bool(teller.say(event)) == (kind not in SILENT), kind
        assert "\n" not in teller.say(event)


def test_a_step_is_a_moment_and_its_events_follow() -> None:
    history, shown = success_after_failure()
    lines = narrate(history, [Violation("KS-2.2", "Failed", "Success", seq=shown)])
    assert lines[0] == "  1. open(0)"
    assert "  3. poll(0) after all finished" in lines
    assert "       the transport was asked: make handle 2 for decode1" in lines
    refused = "       the transport was asked: post handle 2; it raised nixlBackendError: injected nixlBackendError"
    assert refused in lines
    assert "       the transport was asked: check handle 1; it answered DONE" in lines
    at = lines.index("       the caller: poll() answered Success")
    assert lines[at + 1] == "!      breaks KS-2.2 NO-SUCCESS-AFTER-FAIL (MUST)"
    assert len([line for line in lines if line.startswith("!")]) == 1
    assert lines[at + 3] == "       decode0 was told: success of room 7"
    assert [moment.title for moment in moments(history)][1] == "send(0) with post[1]=nixlBackendError"


def test_a_violation_without_an_event_stands_at_the_end() -> None:
    history, _ = success_after_failure()
    lines = narrate(history, [Violation("KS-4.3", "a release", "none", after="KS-2.2"), Violation("KS-99.1", "", "")])
    assert lines[-2:] == ["!      breaks KS-4.3 NO-LEAK (MUST), after KS-2.2", "!      breaks KS-99.1"]
    assert broken(Violation("KS-4.3", "", "")) == "KS-4.3 NO-LEAK (MUST)"


def test_without_steps_every_call_of_the_main_thread_is_a_moment() -> None:
    script = Script()
    script.error(1, "early")
    script.opened("decode0", number=9)
    script.call(h.CallName.SEND, (3, 4), last=True)
    script.add(h.CallStarted(seq=script.seq, t=0.0, what=h.CallName.ABORT, room=0, thread=1))
    script.ended()
    script.call(h.CallName.POLL)
    titles = [moment.title for moment in moments(script.history)]
    assert titles == ["before the first step", "send(pages 3, 4; last) of room 9", "poll() of room 9"]
    kinds = [line.kind for line in tell(script.history)]
    assert kinds == ["step", "event", "step", "event", "event", "event", "step", "event"]
    assert "       the caller: abort() of room 9 in thread 1" in narrate(script.history)


def test_a_room_id_that_comes_back_is_told_with_its_key() -> None:
    script = Script()
    script.opened("decode0", room=0)
    script.opened("decode0", room=1)
    teller = Teller(script.history)
    assert [teller.room(key) for key in (0, 1, 5, None)] == [
        "room 7 (key 0)",
        "room 7 (key 1)",
        "the room with key 5",
        "a room",
    ]


@pytest.mark.parametrize("text", [LONG, LONG + HOSTILE])
def test_long_texts_are_cut(text: str) -> None:
    assert max(map(len, narrate(every_event(text)))) < 2000


def test_a_text_cannot_make_up_lines() -> None:
    lines = narrate(every_event("a\n!      breaks KS-1.1\r\nb"))
    assert not [line for line in lines if "\n" in line or "\r" in line or line.startswith("!")]
    assert "  1. a\\n!      breaks KS-1.1\\r\\nb" in lines
