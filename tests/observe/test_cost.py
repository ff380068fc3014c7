"""What a live monitor pays for an event.

``python -m tests.observe.test_cost`` prints it. On a quiet core of 3 GHz the recorder takes 0.8 us an event, which is 5
to 6 times a bare event; beside other work both take half as much again. An observer that watches a run of the kit takes
4.3 us an event, however many rooms are open. A line of NDJSON has 101 bytes for a live monitor, and 88 in a run of the
kit.

A bare event is a struct with the time of the clock, appended to a list. Times are the least of several, of CPU time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from tests.observe.runs import every_history, kit_runs

from kvsender_spec.history.errors import ErrorClasses
from kvsender_spec.history.events import KINDS, AnyEvent, History, RoomOpened, TransferPosted
from kvsender_spec.history.header import Header, Source
from kvsender_spec.history.ndjson import check, dump
from kvsender_spec.history.record import Place, Recorder
from kvsender_spec.history.words import CallName, Destination
from kvsender_spec.observe.observer import Observer, observe

ROOMS: Final = 1000
REPEATS: Final = 7
MOST_TIMES: Final = 12
"""So many bare events an event of the recorder may cost: twice what it does, because other programs run as well."""
ROOMS_OPEN: Final = (40, 400)
MOST_GROWTH: Final = 2.5
"""So many times as much an event may cost the observer with ten times as many rooms open. It is 8 times as much where
each call looks at all rooms."""
MOST_BYTES: Final = 250
"""An event of NDJSON, on average."""
_PLACE: Final = Place(pages=(1, 2, 3), target=(4, 5, 6))


def recorded(rooms: int = ROOMS, see: Callable[[AnyEvent], object] | None = None) -> History:
    """What a live monitor records of rooms that send one chunk and are polled twice."""
    header = Header(source=Source.LIVE, vantage=("call.started", "call.ended", "transfer.made"))
    recorder = Recorder(header, ErrorClasses((), None, ()), time.perf_counter, see)
    for room in range(rooms):
        of = recorder.call_started(CallName.SEND, None, pages=_PLACE.pages, last=True)
        recorder.made("decode0", room, _PLACE, b"17:done", None)
        recorder.posted(room, "PROC", None)
        recorder.call_ended(of, None)
        of = recorder.call_started(CallName.POLL, None)
        recorder.checked(room, "PROC", None)
        recorder.call_ended(of, None, value="Transferring")
        of = recorder.call_started(CallName.POLL, None)
        recorder.checked(room, "DONE", None)
        recorder.released(room, "call", None)
        recorder.call_ended(of, None, value="Success")
    return recorder.history


def bare(count: int) -> list[AnyEvent]:
    """So many events, made of what is known already but for the time."""
    events: list[AnyEvent] = []
    for seq in range(count):
        events.append(
            TransferPosted(seq=seq, t=time.perf_counter(), thread=1, call=seq, handle=seq, answer="PROC", error=None)
        )
    return events


def least(work: Callable[[], int]) -> float:
    """The least CPU time of one event, in microseconds; the work says how many there were."""
    found: list[float] = []
    for _ in range(REPEATS):
        began = time.process_time_ns()
        count = work()
        found.append((time.process_time_ns() - began) / 1000 / count)
    return min(found)


def recorder_us() -> float:
    return least(lambda: len(recorded().events))


def bare_us() -> float:
    return least(lambda: len(bare(11 * ROOMS)))


def observer_us() -> float:
    """Of every event of the kit's runs."""

    def work() -> int:
        for run in kit_runs():
            observer = Observer(run.history.header)
            for event in run.history.events:
                observer.see(event)
        return sum(len(run.history.events) for run in kit_runs())

    return least(work)


def open_rooms(count: int) -> History:
    """So many rooms that are open at the same time, each with one chunk, and then polled to their ends."""
    header = Header(source=Source.LIVE, vantage=tuple(KINDS))
    recorder = Recorder(header, ErrorClasses((), None, ()), time.perf_counter)
    for room in range(count):
        place = Destination(peer="decode0", pages=(room,))
        recorder.note(partial(RoomOpened, room=room, id=room, pages=1, destinations=(place,)))
        of = recorder.call_started(CallName.SEND, room, pages=(1,), last=True)
        recorder.made("decode0", room, Place(room=room, pages=(1,)), b"", None)
        recorder.posted(room, "PROC", None)
        recorder.call_ended(of, room)
    for room in range(count):
        of = recorder.call_started(CallName.POLL, room)
        recorder.checked(room, "DONE", None)
        recorder.call_ended(of, room, value="Success")
    return recorder.history


def growth() -> float:
    """How many times as much an event costs the observer when ten times as many rooms are open."""

    def cost(count: int) -> float:
        history = open_rooms(count)
        return least(lambda: len(history.events) * bool(observe(history).rooms))

    few, many = map(cost, ROOMS_OPEN)
    return many / few


def bytes_an_event(histories: Iterable[History]) -> float:
    """The average length of a line of NDJSON, without the header."""
    lines = [line for history in histories for line in list(dump(history))[1:]]
    return sum(len(line.encode()) for line in lines) / len(lines)


def test_the_recorder_costs_a_few_bare_events() -> None:
    assert recorder_us() < MOST_TIMES * bare_us()


def test_an_event_costs_the_observer_no_more_because_other_rooms_are_open() -> None:
    assert growth() < MOST_GROWTH


def test_a_recorder_that_looks_at_all_events_each_time_would_be_noticed() -> None:
    seen: list[AnyEvent] = []

    def look(event: AnyEvent) -> None:
        seen.append(event)
        list(seen)

    began = time.process_time_ns()
    count = len(recorded(rooms=400, see=look).events)
    assert (time.process_time_ns() - began) / 1000 / count > MOST_TIMES * bare_us()


def test_an_event_takes_less_than_so_many_bytes() -> None:
    assert bytes_an_event([recorded(rooms=50)]) < MOST_BYTES
    assert bytes_an_event(history for _, history in every_history()) < MOST_BYTES


def test_what_is_measured_is_a_history() -> None:
    check(recorded(rooms=3))


if __name__ == "__main__":
    took, unit = recorder_us(), bare_us()
    print(f"recorder: {took:.2f} us an event, {took / unit:.1f} times a bare event of {unit:.2f} us")
    print(f"observer: {observer_us():.1f} us an event of the kit's runs")
    print(f"observer: {growth():.1f} times as much an event with {ROOMS_OPEN[1]} rooms open as with {ROOMS_OPEN[0]}")
    print(f"NDJSON: {bytes_an_event([recorded()]):.0f} bytes an event of a live monitor")
    print(f"NDJSON: {bytes_an_event(run.history for run in kit_runs()):.0f} bytes an event of the kit's runs")
