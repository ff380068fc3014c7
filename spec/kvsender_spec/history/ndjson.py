"""A history as NDJSON: the header in the first line, then one event a line, in UTF-8.

What comes from outside is checked as it is read: the form of every line, and that events refer only to what an earlier
event has introduced. After ``events.dropped`` a reference may be missing, since its introduction may be what was lost.
A history without ``run.ended`` is incomplete, which is not an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from kvsender_spec.contract import KVPoll
from kvsender_spec.history.events import (
    KINDS,
    AnyEvent,
    BytesLanded,
    CallEnded,
    CallStarted,
    CallStuck,
    ErrorSeen,
    EventsDropped,
    History,
    MayFail,
    RoomOpened,
    RunEnded,
    TransferChecked,
    TransferMade,
    TransferPosted,
    TransferReleased,
    kind_of,
)
from kvsender_spec.history.header import FORMAT, Header
from kvsender_spec.lines import MOST_SHOWN, decoded, require_format, shown

MOST_BYTES: Final = 1 << 20
"""The longest line in bytes; no more of a longer one is read."""
MOST_EVENTS: Final = 1_000_000
"""The most events of one history: all of them are kept in memory."""


class HistoryError(ValueError):
    """A history that cannot be read or written; the message names the line and the value."""


_ENCODER: Final = msgspec.json.Encoder()
_HEADERS: Final = msgspec.json.Decoder(Header)
_EVENTS: Final[msgspec.json.Decoder[AnyEvent]] = msgspec.json.Decoder(AnyEvent)


def dump(history: History) -> Iterator[str]:
    """The lines of the file, each with its newline. Raises HistoryError for a value that has no JSON form.

    JSON has no NaN and no infinity: they become null, which ``read`` refuses. ``check`` finds them.
    """
    for number, part in enumerate((history.header, *history.events), 1):
        try:
            yield _ENCODER.encode(part).decode() + "\n"
        except (TypeError, ValueError) as error:
            raise HistoryError(f"line {number}: {shown(repr(part))} cannot be written: {error}") from error


def write(history: History, target: Path | BinaryIO) -> None:
    """Write the file. Raises HistoryError, before anything is written, for a history that ``read`` would refuse.

    Raises OSError where the target cannot be written.
    """
    check(history)
    content = (line.encode() for line in dump(history))
    if isinstance(target, Path):
        with target.open("wb") as file:
            file.writelines(content)
    else:
        target.writelines(content)


def read(source: Path | BinaryIO) -> History:
    """Read a file line by line, no more than ``MOST_BYTES`` of each and ``MOST_EVENTS`` events.

    Raises HistoryError, whose message starts with the number of the line, for whatever is not a history; OSError where
    the source cannot be read.
    """
    if isinstance(source, Path):
        with source.open("rb") as file:
            return _parse(_lines(file))
    return _parse(_lines(source))


def check(history: History) -> None:
    """Raises HistoryError, with the line that it would be in a file, unless ``read`` gives this history back."""
    again = _parse(enumerate(dump(history), 1))
    pairs = zip((history.header, *history.events), (again.header, *again.events), strict=True)
    for number, (ours, theirs) in enumerate(pairs, 1):
        if ours != theirs:
            raise HistoryError(f"line {number}: {shown(repr(ours))} would be read as {shown(repr(theirs))}")


def _lines(file: BinaryIO) -> Iterator[tuple[int, str]]:
    """The lines with their numbers, up to the end of the file."""
    for number in count(1):
        raw = file.readline(MOST_BYTES + 1)
        if not raw:
            return
        if len(raw) > MOST_BYTES:
            beginning = shown(repr(raw[:MOST_SHOWN]))
            raise HistoryError(f"line {number}: longer than {MOST_BYTES} bytes; it begins with {beginning}")
        try:
            yield number, raw.decode()
        except UnicodeDecodeError as error:
            bad = raw[error.start : error.end]
            raise HistoryError(f"line {number}: not UTF-8: {bad!r} at byte {error.start}") from error


def _parse(lines: Iterable[tuple[int, str]]) -> History:
    """The header and the checked events. Blank lines are left out."""
    header: Header | None = None
    events: list[AnyEvent] = []
    known = _Known()
    number = 1
    for number, line in lines:
        if not line.strip():
            continue
        if header is None:
            header = _header(number, line)
            continue
        event = decoded(number, line, _EVENTS, HistoryError)
        problem = known.refuses(event)
        if problem:
            raise HistoryError(f"line {number}: {problem}")
        if len(events) == MOST_EVENTS:
            raise HistoryError(f"line {number}: more than {MOST_EVENTS} events; cut the history into several")
        events.append(event)
    if header is None:
        raise HistoryError(f"line {number}: the history is empty: not even a header")
    return History(header=header, events=events)


def _header(number: int, line: str) -> Header:
    require_format(number, line, FORMAT, HistoryError)
    header = decoded(number, line, _HEADERS, HistoryError)
    for kind in header.vantage:
        if kind not in KINDS:
            raise HistoryError(f"line {number}: vantage names {shown(repr(kind))}, which is no kind of event")
    return header


class _Known:
    """What the events so far have introduced, and where they stand."""

    def __init__(self) -> None:
        self._seq = 0
        self._t = 0.0
        self._ended = False
        self._lost = False
        self._rooms: Final[set[int]] = set()
        self._handles: Final[set[int]] = set()
        self._errors: Final[set[int]] = set()
        self._running: Final[dict[int, bool]] = {}

    def refuses(self, event: AnyEvent) -> str:
        """Take note of one more event. What is wrong with it; empty if nothing."""
        return next((problem for problem in self._problems(event) if problem), "")

    def _problems(self, event: AnyEvent) -> Iterator[str]:
        if self._ended:
            yield f"{kind_of(type(event))} comes after run.ended"
        if event.seq != self._seq:
            yield f"seq must be {self._seq}, not {shown(str(event.seq))}"
        self._seq += 1
        if event.t < self._t:
            yield f"t goes back: {event.t} after {self._t}"
        self._t = event.t
        if isinstance(event, RoomOpened):
            yield self._opens(event.room)
        yield self._dangles("call", event.call, self._running, "call.started has that seq")
        yield self._dangles("room", event.room, self._rooms, "room.opened has introduced that key")
        match event:
            case ErrorSeen():
                yield self._dangles("cause", event.cause, self._errors, "error.seen has introduced that ref")
                self._errors.add(event.ref)  # again, where its cause was set after it was seen
            case CallStarted():
                self._running[event.seq] = True
            case CallEnded() | CallStuck():
                yield self._dangles("of", event.of, self._running, "call.started has that seq")
                yield "" if self._running.get(event.of, True) else f"call {event.of} has ended already"
                self._running[event.of] = isinstance(event, CallStuck)
                if isinstance(event, CallEnded) and event.value not in (None, *KVPoll.__members__):
                    yield f"value {shown(repr(event.value))} is none of {', '.join(KVPoll.__members__)}"
            case TransferMade(handle=int(handle)):
                yield self._introduces("handle", handle, self._handles)
            case TransferPosted() | TransferChecked() | TransferReleased() | BytesLanded():
                yield self._dangles("handle", event.handle, self._handles, "transfer.made has made it")
            case EventsDropped():
                self._lost = True
            case RunEnded():
                self._ended = True
            case _:
                pass
        if isinstance(event, MayFail):
            yield self._dangles("error", event.error, self._errors, "error.seen has introduced that ref")

    def _opens(self, key: int | None) -> str:
        if key is None:
            return "room.opened has no room: it must be the key"
        return self._introduces("room", key, self._rooms)

    def _introduces(self, field: str, value: int, known: set[int]) -> str:
        if value in known:
            return f"{field} {shown(str(value))} is introduced twice"
        known.add(value)
        return ""

    def _dangles(self, field: str, value: int | None, known: set[int] | dict[int, bool], missing: str) -> str:
        if value is None or value in known or self._lost:
            return ""
        return f"{field} {shown(str(value))}: no {missing}"
