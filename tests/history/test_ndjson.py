"""A history and its file say the same; whatever is no history is refused with the line and the value."""

from __future__ import annotations

import io
import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from tests.history.drawn import EVERYTHING, everything, histories

from kvsender_spec.history import ndjson
from kvsender_spec.history.events import (
    KINDS,
    AnyEvent,
    CallStarted,
    Event,
    History,
    PeerLost,
    RoomOpened,
    kind_of,
)
from kvsender_spec.history.header import Header, Source
from kvsender_spec.history.ndjson import HistoryError, check, dump, read, write

HEADER = '{"format":"kvsender-history/1","source":"foreign","vantage":["room.opened"]}'
ROOM = '{"kind":"room.opened","seq":0,"t":0.5,"room":7,"id":1,"pages":2,"destinations":[{"peer":"decode0"}]}'
CALL = '{"kind":"call.started","seq":1,"t":0.5,"room":7,"what":"poll"}'
GOOD = [HEADER, ROOM, CALL]


def text(*lines: str) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def parsed(content: bytes) -> History:
    return read(io.BytesIO(content))


def refused(content: bytes) -> str:
    with pytest.raises(HistoryError) as caught:
        parsed(content)
    return str(caught.value)


def event(**fields: object) -> str:
    """The line after GOOD."""
    return msgspec.json.encode({"seq": 2, "t": 0.5, **fields}).decode()


# ------------------------------------------------------------------------------------------------- there and back


@given(histories())
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_history_and_its_file_say_the_same(history: History) -> None:
    again = parsed("".join(dump(history)).encode())
    assert again == history
    assert list(dump(again)) == list(dump(history))
    check(history)


def test_the_histories_of_the_tests_hold_every_kind() -> None:
    """The test above would pass for kinds that are never drawn."""
    assert {kind_of(type(one)) for one in EVERYTHING} == KINDS.keys()
    check(everything())
    seen: set[type[Event]] = set()

    @settings(derandomize=True, max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(histories())
    def look(history: History) -> None:
        seen.update(type(one) for one in history.events)

    look()
    assert {kind_of(one) for one in seen} == KINDS.keys()


def test_the_first_line_always_names_the_format() -> None:
    first = next(dump(History(header=Header(source=Source.LIVE, vantage=()))))
    assert first == '{"format":"kvsender-history/1","source":"live","vantage":[]}\n'


def test_a_path_and_a_file_are_written_and_read(tmp_path: Path) -> None:
    history = parsed(text(*GOOD))
    target = tmp_path / "run.ndjson"
    write(history, target)
    file = io.BytesIO()
    write(history, file)
    assert target.read_bytes() == file.getvalue()
    assert read(target) == history


def test_the_example_of_the_documentation_is_a_history() -> None:
    page = (Path(__file__).parents[2] / "docs" / "histories.md").read_text(encoding="utf-8")
    example = page.partition("```json\n")[2].partition("```")[0]
    history = parsed(example.encode())
    assert [event.seq for event in history.events] == [0, 1, 2]


def test_a_history_without_an_end_is_incomplete_and_no_error() -> None:
    assert [type(one) for one in parsed(text(*GOOD)).events] == [RoomOpened, CallStarted]
    assert parsed(text(HEADER)).events == []


def test_unknown_fields_are_ignored() -> None:
    more = event(kind="peer.lost", peer="decode0", mood="calm", deep={"a": [1, {"b": None}]}, long=0)
    more = more.replace('"long":0', '"long":' + "9" * 5000)
    head = HEADER[:-1] + ',"engine":{"name":"x"}}'
    assert parsed(text(head, ROOM, CALL, more)).events[-1] == PeerLost(seq=2, t=0.5, peer="decode0")


def test_line_ends_and_blank_lines_are_taken_as_they_come() -> None:
    content = text(*GOOD)
    assert parsed(content.replace(b"\n", b"\r\n")) == parsed(content)
    assert parsed(content.replace(b"\n", b"\n \n")) == parsed(content)
    assert parsed(content.removesuffix(b"\n")) == parsed(content), "a last line that is whole needs no newline"


# ------------------------------------------------------------------------------------------------- what is refused

DEEP = "[" * 100_000 + "]" * 100_000
PEER = event(kind="peer.lost", peer="decode0")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1: the history is empty: not even a header"),
        (b"\n\n", "line 2: the history is empty: not even a header"),
        (text(*GOOD)[:-20], 'line 3: the file ends in the middle of the line: \'{"kind":"call.started"'),
        (text(HEADER)[:30], 'line 1: the file ends in the middle of the line: \'{"format":'),
        (text(ROOM), "line 1: format must be 'kvsender-history/1', not ''"),
        (
            text('{"format":"kvsender-history/2"}'),
            "line 1: format must be 'kvsender-history/1', not 'kvsender-history/2'",
        ),
        (text('{"format":1}'), "line 1: format: Expected `str`, got `int`: '1'"),
        (text("[]"), "line 1: Expected `object`, got `array`: '[]'"),
        (text(HEADER.replace("foreign", "dream")), "line 1: source: Invalid enum value 'dream'"),
        (
            text(HEADER[:-1] + ',"can":["abort","fly"]}'),
            "line 1: can[1]: Invalid enum value 'fly': '[\"abort\",\"fly\"]'",
        ),
        (
            text(HEADER.replace("room.opened", "room.open")),
            "line 1: vantage names 'room.open', which is no kind of event",
        ),
        (text('{"format":"kvsender-history/1","vantage":[]}'), "line 1: Object missing required field `source`"),
        (text(*GOOD, event(kind="peer.dreamt")), "line 4: kind: Invalid value 'peer.dreamt'"),
        (text(*GOOD, event(peer="a")), 'line 4: Object missing required field `kind`: \'{"seq":2,'),
        (text(*GOOD, event(kind="peer.lost", peer=3)), "line 4: peer: Expected `str`, got `int`: '3'"),
        (text(*GOOD, event(kind="peer.lost", peer="a", thread=True)), "line 4: thread: Expected `int`, got `bool`"),
        (
            text(HEADER, ROOM.replace('"decode0"', '["x"]')),
            'line 2: destinations[0].peer: Expected `str`, got `array`: \'[{"peer":["x"]}]\'',
        ),
        (text(*GOOD, "hello"), "line 4: not JSON: JSON is malformed: invalid character (byte 0): 'hello"),
        (text(*GOOD, PEER + PEER), "line 4: not JSON: JSON is malformed: trailing characters"),
        (text(*GOOD, PEER.replace("decode0", "\x1b[2J")), "line 4: not JSON: JSON is malformed: invalid character"),
        (text(*GOOD) + PEER.encode().replace(b"decode0", b"d\xff0"), "line 4: not UTF-8: b'\\xff' at byte"),
        (text(*GOOD) + b'{"kind":"peer.lost","\xc3', "line 4: not UTF-8: b'\\xc3' at byte 21"),
        (text(*GOOD, PEER.replace("2", "9" * 5000, 1)), "line 4: seq: Integer value out of range: '99999"),
        (text(*GOOD, PEER.replace("2", "9" * 4000, 1)), "line 4: seq must be 2, not 99999"),
        (text(*GOOD, PEER.replace("0.5", "9" * 5000, 1)), "line 4: t: Number out of range: '99999"),
        (text(*GOOD, DEEP), "line 4: Expected `object`, got `array`: '[[[["),
        (text(*GOOD, PEER[:-1] + ',"deep":' + DEEP + "}"), "line 4: nested too deeply: "),
        (
            text(*GOOD, '{"peer":3,"kind":"peer.lost","deep":' + DEEP + "}"),
            "line 4: peer: Expected `str`, got `int`: '{",
        ),
        (text(DEEP), "line 1: Expected `object`, got `array`"),
        (text(*GOOD, PEER.replace("0.5", "NaN")), "line 4: not JSON: JSON is malformed: invalid character"),
        (text(*GOOD, PEER.replace("0.5", "Infinity")), "line 4: not JSON: JSON is malformed: invalid character"),
        (text(*GOOD, PEER.replace("0.5", "-Infinity")), "line 4: not JSON: JSON is malformed: invalid character"),
        (text(*GOOD, PEER.replace("0.5", "1e999")), "line 4: t: Number out of range: '1e999'"),
        (text(HEADER, CALL), "line 2: seq must be 0, not 1"),
        (text(*GOOD, PEER.replace("2", "1", 1)), "line 4: seq must be 2, not 1"),
        (text(*GOOD, PEER.replace("2", "3", 1)), "line 4: seq must be 2, not 3"),
        (text(*GOOD, PEER.replace("0.5", "0.25")), "line 4: t goes back: 0.25 after 0.5"),
        (text(HEADER, ROOM.replace("0.5", "-1")), "line 2: t goes back: -1.0 after 0.0"),
        (
            text(*GOOD, event(kind="transfer.checked", handle=3, answer="DONE")),
            "line 4: handle 3: no transfer.made has made it",
        ),
        (text(*GOOD, event(kind="peer.lost", peer="a", call=0)), "line 4: call 0: no call.started has that seq"),
        (text(*GOOD, event(kind="call.ended", of=0)), "line 4: of 0: no call.started has that seq"),
        (text(*GOOD, event(kind="call.stuck", of=5, after_s=1)), "line 4: of 5: no call.started has that seq"),
        (
            text(*GOOD, event(kind="call.ended", of=1), event(kind="call.ended", of=1).replace("2", "3", 1)),
            "line 5: call 1 has ended already",
        ),
        (
            text(*GOOD, event(kind="call.ended", of=1, value="Perhaps")),
            "line 4: value 'Perhaps' is none of Failed, Bootstrapping, WaitingForInput, Transferring, Success",
        ),
        (
            text(*GOOD, event(kind="call.ended", of=1, error=0)),
            "line 4: error 0: no error.seen has introduced that ref",
        ),
        (
            text(*GOOD, event(kind="error.seen", ref=0, type="T", text="", origin="other", cause=0)),
            "line 4: cause 0: no error.seen has introduced that ref",
        ),
        (
            text(*GOOD, event(kind="pages.held", pages=[], room=8)),
            "line 4: room 8: no room.opened has introduced that key",
        ),
        (text(*GOOD, ROOM.replace("0", "2", 1)), "line 4: room 7 is introduced twice"),
        (text(HEADER, ROOM.replace('"room":7,', "")), "line 2: room.opened has no room: it must be the key"),
        (
            text(*GOOD, event(kind="run.ended"), PEER.replace("2", "3", 1)),
            "line 5: peer.lost comes after run.ended",
        ),
    ],
)
def test_what_is_no_history_is_refused_with_line_and_value(content: bytes, message: str) -> None:
    said = refused(content)
    assert said.startswith(message)
    assert len(said) < 250, "a message quotes the beginning of a long value"


def test_a_history_cut_anywhere_is_refused_or_is_the_beginning_of_the_whole() -> None:
    content = text(*GOOD, PEER)
    whole = parsed(content).events
    for length in range(1, len(content)):
        part = content[:length]
        lines = part.count(b"\n")
        if content[length - 1 : length] == b"\n" or content[length : length + 1] == b"\n":
            events = parsed(part).events
            assert events == whole[: len(events)]
            assert len(events) == lines - part.endswith(b"\n")
        else:
            assert refused(part).startswith(f"line {lines + 1}: the file ends in the middle of the line: ")


def test_a_line_of_a_gigabyte_is_refused_after_its_first_megabyte(tmp_path: Path) -> None:
    path = tmp_path / "sparse.ndjson"
    with path.open("wb") as file:
        file.write(text(*GOOD))
        file.truncate(1 << 30)
    with path.open("rb") as file:
        with pytest.raises(HistoryError, match=r"^line 4: longer than 1048576 bytes; it begins with b'\\x00"):
            read(file)
        assert file.tell() < len(text(*GOOD)) + (2 << 20)
    assert os.path.getsize(path) == 1 << 30


def test_a_line_of_just_the_longest_length_is_read() -> None:
    spare = ndjson.MOST_BYTES - len(PEER) - len('"x":"",') - 1
    line = PEER.replace("{", '{"x":"' + "y" * spare + '",')
    assert len(text(line)) == ndjson.MOST_BYTES
    assert len(parsed(text(*GOOD, line)).events) == 3
    assert refused(text(*GOOD, line.replace("y", "yy", 1))).startswith("line 4: longer than 1048576 bytes")


def test_a_line_of_brackets_alone_overflows_no_stack() -> None:
    brackets = "[" * (ndjson.MOST_BYTES - 100)
    assert refused(text(*GOOD, PEER[:-1] + ',"deep":' + brackets)).startswith("line 4: nested too deeply")


def test_too_many_events_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ndjson, "MOST_EVENTS", 2)
    assert len(parsed(text(*GOOD)).events) == 2
    assert refused(text(*GOOD, PEER)) == "line 4: more than 2 events; cut the history into several"


DANGLING = [
    event(kind="transfer.posted", handle=3, answer="PROC"),
    event(kind="bytes.landed", handle=3, bytes=1),
    event(kind="call.ended", of=5),
    event(kind="peer.lost", peer="a", call=5),
    event(kind="peer.added", peer="a", error=4),
    event(kind="error.seen", ref=0, type="T", text="", origin="other", cause=9),
    event(kind="pages.held", pages=[], room=8),
]


@pytest.mark.parametrize("line", DANGLING)
def test_after_a_loss_a_reference_may_be_missing(line: str) -> None:
    assert refused(text(*GOOD, line)).startswith("line 4: ")
    lost = event(kind="events.dropped", count=3)
    assert len(parsed(text(*GOOD, lost, line.replace("2", "3", 1))).events) == 4
    assert refused(text(*GOOD, line, lost.replace("2", "3", 1))).startswith("line 4: "), "a later loss explains nothing"


@pytest.mark.parametrize("one", EVERYTHING[:-1], ids=lambda one: kind_of(type(one)))
def test_every_field_that_refers_is_checked(one: AnyEvent) -> None:
    """So that a field of a new kind cannot be forgotten."""
    introduces = {("transfer.made", "handle"), ("room.opened", "room")}
    for field in ("handle", "error", "cause", "of", "call", "room"):
        if field in one.__struct_fields__ and (kind_of(type(one)), field) not in introduces:
            history = everything()
            history.events[one.seq] = msgspec.structs.replace(one, **{field: 1234})
            with pytest.raises(HistoryError, match=f"^line {one.seq + 2}: {field} 1234: no "):
                check(history)


# ------------------------------------------------------------------------------------------------- what is not written


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (PeerLost(seq=0, t=float("nan"), peer="a"), "line 2: t: Expected `float`, got `null`: 'null'"),
        (PeerLost(seq=0, t=0.0, peer="\ud800"), "line 2: PeerLost(seq=0, "),
        (PeerLost(seq=0, t=0.0, peer=object()), "line 2: PeerLost(seq=0, "),  # type: ignore[arg-type]
        (PeerLost(seq=0, t=0.0, peer=None), "line 2: peer: Expected `str`, got `null`"),  # type: ignore[arg-type]
        (
            RoomOpened(seq=0, t=0.0, room=1, id=1, pages=1, destinations=[]),  # type: ignore[arg-type]
            "line 2: RoomOpened(seq=0, ",
        ),
        (PeerLost(seq=1, t=0.0, peer="a"), "line 2: seq must be 0, not 1"),
    ],
)
def test_what_could_not_be_read_back_is_not_written(bad: AnyEvent, message: str, tmp_path: Path) -> None:
    history = History(header=Header(source=Source.LIVE, vantage=()), events=[bad])
    for refuse in (check, lambda history: write(history, tmp_path / "bad.ndjson")):
        with pytest.raises(HistoryError) as caught:
            refuse(history)
        assert str(caught.value).startswith(message)
    assert not (tmp_path / "bad.ndjson").exists()
