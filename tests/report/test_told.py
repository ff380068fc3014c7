"""A history in words in a report: by step, and what broke follows the event that shows it."""

from __future__ import annotations

import pytest
from tests.report.made import HOSTILE, LONG, Script, every_event, success_after_failure

from kvsender_spec.history import events as h
from kvsender_spec.history.telling import Teller
from kvsender_spec.history.words import CallName
from kvsender_spec.observe.verdict import Violation
from kvsender_spec.report.text import broken, narrate, tell


def test_every_kind_of_event_is_told() -> None:
    history = every_event()
    assert {h.kind_of(type(event)) for event in history.events} == set(h.KINDS)
    told = {line.seq for line in tell(history)}
    # An error is told where it is met.
    assert told == {event.seq for event in history.events if not isinstance(event, h.ErrorSeen)}


def test_a_step_is_a_line_and_its_events_follow() -> None:
    history, shown = success_after_failure()
    lines = narrate(history, [Violation("KS-2.2", "Failed", "Success", seq=shown)])
    assert lines[0] == "1. open(0)"
    assert "3. poll(0) after all finished" in lines
    assert "    8   0.000000  the transport was asked: make handle 2 for decode1, pages 0" in lines
    refused = "the transport was asked: post handle 2; it raised nixlBackendError: injected nixlBackendError"
    assert f"   10   0.000000  {refused}" in lines
    assert "   14   0.000000  the transport was asked: check handle 1; it answered DONE" in lines
    at = lines.index("   16   0.000000  poll() answered Success")
    assert lines[at + 1] == "!      breaks KS-2.2 NO-SUCCESS-AFTER-FAIL (MUST)"
    assert len([line for line in lines if line.startswith("!")]) == 1
    assert lines[at + 3] == "   18   0.000000  decode0 is told: success of room 7"
    assert [step.title for step in Teller(history).steps()][1] == "send(0) with post[1]=nixlBackendError"


def test_what_an_event_shows_that_is_told_elsewhere_follows_the_next_line() -> None:
    history, _ = success_after_failure()
    seen = next(event.seq for event in history.events if isinstance(event, h.ErrorSeen))
    lines = narrate(history, [Violation("KS-1.1", "", "", seq=seen)])
    at = lines.index("!      breaks KS-1.1 NO-ESCAPE (MUST)")
    assert "post handle 2; it raised" in lines[at - 1]


def test_a_violation_without_an_event_stands_at_the_end() -> None:
    history, _ = success_after_failure()
    lines = narrate(history, [Violation("KS-4.3", "a release", "none", after="KS-2.2"), Violation("KS-99.1", "", "")])
    assert lines[-2:] == ["!      breaks KS-4.3 NO-LEAK (MUST), after KS-2.2", "!      breaks KS-99.1"]
    assert broken(Violation("KS-4.3", "", "")) == "KS-4.3 NO-LEAK (MUST)"


def test_without_steps_every_call_of_the_main_thread_is_a_step() -> None:
    script = Script()
    script.error(1, "early")
    script.opened("decode0", number=9)
    script.call(CallName.SEND, (3, 4), last=True)
    script.add(h.CallStarted(seq=script.seq, t=0.0, what=CallName.ABORT, room=0, thread=1))
    script.ended()
    script.call(CallName.POLL)
    steps = [(step.number, step.title) for step in Teller(script.history).steps()]
    assert steps == [(0, "before the first step"), (1, "send(3, 4, last)"), (2, "poll()")]
    assert [line.kind for line in tell(script.history)] == ["event"] * 6
    assert "    3   0.000000  thread 1: the caller calls abort()" in narrate(script.history)


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
    script.opened("decode0", room=2, number=9)
    teller = Teller(script.history)
    assert [teller.room(2), teller.room(2, 9), teller.room(2, 7), teller.room(None, 9)] == [
        "room 9",
        "room 9",
        "room 7 (key 2)",
        "room 9",
    ]


@pytest.mark.parametrize("text", [LONG, LONG + HOSTILE])
def test_long_texts_are_cut(text: str) -> None:
    assert max(map(len, narrate(every_event(text)))) < 2000


def test_a_text_cannot_make_up_lines() -> None:
    lines = narrate(every_event("a\n!      breaks KS-1.1\r\nb"))
    assert not [line for line in lines if not line.isprintable() or line.startswith("!")]
    assert "1. a\\n!      breaks KS-1.1\\r\\nb" in lines
