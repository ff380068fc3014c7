"""What a viewer of traces is given, and the schema for those who write histories in another language."""

from __future__ import annotations

import os
import subprocess
import sys

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from tests.history.drawn import HEADER, everything, histories

from kvsender_spec.history import events as h
from kvsender_spec.history.export import to_perfetto
from kvsender_spec.history.header import Header
from kvsender_spec.history.schema import schema, schema_page
from kvsender_spec.history.words import CallName


class Entry(msgspec.Struct):
    """An entry of the format, as its readers know it."""

    name: str
    ph: str
    pid: int
    tid: int
    args: dict[str, object]
    ts: float = -1.0
    dur: float | None = None
    cat: str = ""
    id: str = ""
    s: str = ""


class File(msgspec.Struct):
    displayTimeUnit: str
    traceEvents: list[Entry]
    otherData: dict[str, object]


def entries(*events: h.AnyEvent) -> list[Entry]:
    return exported(h.History(header=HEADER, events=list(events)))


def exported(history: h.History) -> list[Entry]:
    return msgspec.json.decode(to_perfetto(history), type=File).traceEvents


def names(found: list[Entry], what: str) -> dict[tuple[int, int], object]:
    return {(entry.pid, entry.tid): entry.args["name"] for entry in found if entry.ph == "M" and entry.name == what}


def test_calls_are_slices_in_the_lane_of_their_thread() -> None:
    found = exported(everything())
    calls = [(entry.tid, entry.ts, entry.dur, entry.name) for entry in found if entry.ph == "X"]
    assert calls == [
        (0, 1000.0, 1000.0, "init(): returned"),
        (0, 3000.0, 3000.0, "send(3, 5, last): returned"),
        (0, 10000.0, 2000.0, "poll(): answered Failed"),
        (1, 20000.0, 10500000.0, "send(3, 0.5), a misuse: page ids that are not integers: not back at the end"),
    ]
    assert names(found, "thread_name") == {(1, 0): "caller", (1, 1): "thread 1", (1, 2): "thread 2"}
    lanes = {(1, 0): "sender", (2, 0): "peer decode0", (3, 0): "peer decode0.1"}
    assert names(found, "process_name") == lanes


POSTED = (
    h.TransferMade(seq=0, t=0.0, peer="a", handle=0),
    h.TransferMade(seq=1, t=0.0, peer="b", handle=1),
    h.TransferPosted(seq=2, t=1.0, handle=0, answer="PROC"),
    h.TransferPosted(seq=3, t=1.0, handle=1, answer="PROC"),
    h.TransferChecked(seq=4, t=2.0, handle=0, answer="PROC"),
)


@pytest.mark.parametrize(
    ("last", "ends"),
    [
        ((h.TransferChecked(seq=5, t=3.0, handle=0, answer="DONE"),), [(2, "0", 3e6), (3, "1", 3e6)]),
        ((h.TransferChecked(seq=5, t=3.0, handle=1, error=0),), [(3, "1", 3e6), (2, "0", 3e6)]),
        (
            (
                h.TransferReleased(seq=5, t=3.0, handle=1),
                h.TransferChecked(seq=6, t=4.0, handle=1, answer="ERR"),
                h.CallStarted(seq=7, t=5.0, what=CallName.POLL),
            ),
            [(3, "1", 3e6), (2, "0", 5e6)],
        ),
    ],
)
def test_a_transfer_is_a_slice_from_its_post_until_it_settles(
    last: tuple[h.AnyEvent, ...], ends: list[tuple[int, str, float]]
) -> None:
    found = entries(*POSTED, *last)
    assert [(entry.pid, entry.id, entry.ts) for entry in found if entry.ph == "b"] == [(2, "0", 1e6), (3, "1", 1e6)]
    assert [(entry.pid, entry.id, entry.ts) for entry in found if entry.ph == "e"] == ends


def test_what_is_about_a_peer_is_an_instant_in_its_process() -> None:
    found = [(entry.pid, entry.s, entry.ts) for entry in exported(everything()) if "connection" in entry.name]
    assert found == [(2, "p", 6000.0)]


@given(histories())
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_event_is_shown_and_slices_are_well_formed(history: h.History) -> None:
    found = exported(history)
    shown = [entry for entry in found if entry.ph in "Xi"]
    ended = [event for event in history.events if h.kind_of(type(event)) == "call.ended"]
    assert len(shown) == len(history.events) - len(ended)
    assert all(entry.dur is not None and entry.dur >= 0 for entry in found if entry.ph == "X")
    live: set[tuple[int, str]] = set()
    for entry in found:
        if entry.ph == "b":
            assert (entry.pid, entry.id) not in live
            live.add((entry.pid, entry.id))
        elif entry.ph == "e":
            live.remove((entry.pid, entry.id))
    assert not live


# ------------------------------------------------------------------------------------------------- the schema


def test_the_schema_has_every_field_of_every_kind() -> None:
    definitions = schema()["$defs"]
    assert isinstance(definitions, dict)
    for one in h.EVENT_TYPES:
        properties = definitions[one.__name__]["properties"]
        assert set(properties) == {"kind", *one.__struct_fields__}
        assert properties["kind"] == {"enum": [h.kind_of(one)]}
        needed = [name for name in one.__struct_fields__ if name in definitions[one.__name__]["required"]]
        assert {"seq", "t"} <= set(needed)
    assert definitions["Header"]["required"] == ["format", "source", "vantage"]
    assert definitions["Header"]["properties"]["format"] == {"enum": ["kvsender-history/1"]}
    assert set(Header.__struct_fields__) < set(definitions["Header"]["properties"])


def test_the_schema_is_the_same_in_every_process() -> None:
    program = "from kvsender_spec.history.schema import schema_page; print(schema_page(), end='')"
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=60
        )
        assert done.stdout == schema_page()
