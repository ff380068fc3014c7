"""What a history says in a terminal."""

from __future__ import annotations

from enum import StrEnum

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from tests.history.drawn import EVERYTHING, HEADER, everything, histories

from kvsender_spec.history import events as h
from kvsender_spec.history.plain import one_line
from kvsender_spec.history.telling import TEXT_LIMIT, Teller, tell
from kvsender_spec.history.words import CallName, Destination, Origin

HOSTILE = "\x1b]0;title\x07\x1b[2J\r\n\u202eabc\x9b31m\ud800"


def told(*events: h.AnyEvent) -> list[str]:
    return list(tell(h.History(header=HEADER, events=list(events))))[1:]


def test_a_call_is_told_with_what_the_transport_answered_inside_it() -> None:
    lines = told(
        h.StepStarted(seq=0, t=0.0, text="send(0)"),
        h.CallStarted(seq=1, t=0.25, what=CallName.SEND, pages=(3, 5), last=True),
        h.TransferMade(
            seq=2, t=0.25, call=1, peer="decode0", handle=3, pages=(3, 5), target=(8, 9), aux=1, message="17"
        ),
        h.TransferPosted(seq=3, t=0.5, call=1, handle=3, answer="PROC"),
        h.CallEnded(seq=4, t=0.5, of=1),
        h.CallStarted(seq=5, t=0.5, what=CallName.POLL),
        h.CallEnded(seq=6, t=0.75, of=5, value="Transferring"),
        h.CallStarted(seq=7, t=0.75, what=CallName.POLL),
        h.ErrorSeen(seq=8, t=0.75, call=7, ref=0, type="nixlBackendError", text="NIXL_ERR", origin=Origin.TRANSPORT),
        h.TransferChecked(seq=9, t=0.75, call=7, handle=3, error=0),
        h.CallEnded(seq=10, t=0.75, of=7, value="Failed"),
    )
    assert lines == [
        "1. send(0)",
        "    1   0.250000  the caller calls send(3, 5, last)",
        "    2   0.250000    the transport was asked: make handle 3 for decode0, pages 3, 5 to its pages 8, 9,"
        " aux slot 1, then notify '17'",
        "    3   0.500000    the transport was asked: post handle 3; it answered PROC",
        "    4   0.500000  send() returned",
        "    5   0.500000  the caller calls poll(): it answered Transferring",
        "    7   0.750000  the caller calls poll()",
        "    9   0.750000    the transport was asked: check handle 3; it raised nixlBackendError: NIXL_ERR",
        "   10   0.750000  poll() answered Failed",
        "the history is incomplete: it does not say how the run ended",
    ]


def test_an_error_is_told_with_its_causes_and_alone_where_nothing_refers_to_it() -> None:
    lines = told(
        h.ErrorSeen(seq=0, t=0.0, ref=0, type="KeyError", text="1", origin=Origin.OTHER),
        h.ErrorSeen(seq=1, t=0.0, ref=1, type="KVTransferError", text="room 1 failed", cause=0, origin=Origin.OTHER),
        h.CallStarted(seq=2, t=0.0, what=CallName.FAILURE_EXCEPTION),
        h.CallEnded(seq=3, t=0.0, of=2, error=1, attribution="internal"),
        h.ErrorSeen(seq=4, t=0.0, ref=2, type="OSError", text="unseen", origin=Origin.OTHER),
    )
    assert lines[:-1] == [
        "    2   0.000000  the caller calls failure_exception(): it raised KVTransferError: room 1 failed"
        " (attributed to internal), caused by KeyError: 1",
        "    4   0.000000  an error is seen: OSError: unseen",
    ]


def test_an_endless_chain_of_causes_ends() -> None:
    loop = h.ErrorSeen(seq=0, t=0.0, ref=0, type="A", text="", cause=0, origin=Origin.OTHER)
    assert told(loop, h.CallEnded(seq=1, t=0.0, of=9, error=0))[0].count("caused by") == 8
    assert "call 9 raised error 5, which was lost" in told(h.CallEnded(seq=0, t=0.0, of=9, error=5))[0]


def test_threads_and_rooms_are_named_where_there_are_several() -> None:
    one = h.RoomOpened(
        seq=0, t=0.0, room=4, id=1, pages=1, destinations=(Destination(peer="a"), Destination(peer="b", dummy=True))
    )
    two = h.RoomOpened(seq=1, t=0.0, room=5, id=1, pages=0, destinations=())
    call = h.CallStarted(seq=2, t=0.0, room=5, thread=1, what=CallName.ABORT)
    assert told(one, two, call)[:3] == [
        "    0   0.000000  room 1 (key 4) is opened: 1 page to a; b, a dummy",
        "    1   0.000000  room 1 (key 5) is opened: 0 pages to nobody",
        "    2   0.000000  thread 1, room 1 (key 5): the caller calls abort()",
    ]
    made = h.TransferMade(seq=2, t=0.0, room=5, peer="a", handle=3)
    posted = h.TransferPosted(seq=3, t=0.0, handle=3, answer="PROC")
    assert told(one, two, made, posted)[3].startswith(
        "    3   0.000000  room 1 (key 5): the transport was asked: post handle 3"
    )
    assert (
        told(one, msgspec.structs.replace(call, seq=1, room=4, thread=0))[1]
        == "    1   0.000000  the caller calls abort()"
    )


def test_the_headings_say_what_is_not_recorded() -> None:
    header = msgspec.structs.replace(
        HEADER, vantage=HEADER.vantage[:-2], subject="", versions={"nixl": "1.5.1"}, wall="2025-01-01T00:00:00Z"
    )
    assert list(tell(h.History(header=header)))[:3] == [
        "kvsender-history/1, scripted: a sender without a name, profile full, WRITE, nixl 1.5.1",
        "time 0 is 2025-01-01T00:00:00Z",
        "not recorded, or not completely: events.dropped, run.ended",
    ]


@pytest.mark.parametrize("one", EVERYTHING, ids=lambda one: h.kind_of(type(one)))
def test_no_text_reaches_the_terminal_raw(one: h.AnyEvent) -> None:
    """Every field of text of every kind, whatever is in it."""
    values = {name: getattr(one, name) for name in one.__struct_fields__ if name != "how"}
    changes = {
        name: HOSTILE for name, value in values.items() if isinstance(value, str) and not isinstance(value, StrEnum)
    }
    history = everything()
    history.events[one.seq] = msgspec.structs.replace(one, **changes)
    for line in (*tell(history), Teller(history).words(history.events[one.seq])):
        assert line.isprintable(), line


def test_a_hostile_text_would_be_noticed() -> None:
    assert not HOSTILE.isprintable()
    assert one_line(HOSTILE, TEXT_LIMIT) == "\\x1b]0;title\\x07\\x1b[2J\\r\\n\\u202eabc\\x9b31m\\ud800"
    assert one_line("naïve 房间 \\", TEXT_LIMIT) == "naïve 房间 \\"
    assert one_line("x" * 10_000, 9) == "xxxxxxxxx ... (9991 more characters)"


@pytest.mark.parametrize("one", EVERYTHING, ids=lambda one: h.kind_of(type(one)))
def test_every_kind_has_words_of_its_own(one: h.AnyEvent) -> None:
    words = Teller(everything()).words(one)
    assert words
    assert repr(one) not in words
    others: list[h.Event] = [other for other in EVERYTHING if type(other) is not type(one)]
    assert len(others) >= len(h.EVENT_TYPES) - 1
    assert words not in [Teller(everything()).words(other) for other in EVERYTHING if type(other) is not type(one)]


@given(histories())
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_history_can_be_told_with_at_most_a_line_an_event(history: h.History) -> None:
    lines = list(tell(history))
    assert len(lines) <= len(history.events) + 4
    assert all("\n" not in line and line.isprintable() for line in lines)


def test_many_pages_are_told_short() -> None:
    call = h.CallStarted(seq=0, t=0.0, what=CallName.SEND, pages=tuple(range(100)))
    made = h.TransferMade(seq=1, t=0.0, peer="a", handle=0, pages=tuple(range(100)))
    lines = told(call, made)
    assert "send(0, 1, 2, 3, 4, 5, 6, 7, ... 100 pages)" in lines[0]
    assert "pages 0, 1, 2, 3, 4, 5, 6, 7 and 92 more" in lines[1]


def test_a_lost_peer_is_told_as_what_happened() -> None:
    assert "the process of decode0 is gone" in told(h.PeerLost(seq=0, t=0.0, peer="decode0"))[0]
