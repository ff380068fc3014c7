"""The wrapper of a transport: it hands every call through, and the recorder is told of each."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kvsender_spec.contract import INIT_AGENT, KVUsageError
from kvsender_spec.faults import STAND_INS, Kind
from kvsender_spec.history.errors import ErrorClasses
from kvsender_spec.history.events import (
    KINDS,
    AnyEvent,
    ErrorSeen,
    Event,
    NotificationSent,
    PeerAdded,
    PeerRemoved,
    TransferChecked,
    TransferMade,
    TransferPosted,
    TransferReleased,
)
from kvsender_spec.history.header import Header, Source
from kvsender_spec.history.ndjson import check
from kvsender_spec.history.record import Place, Recorder
from kvsender_spec.history.recording_agent import RecordingAgent, ReleasedHandle, Through, Transfer
from kvsender_spec.history.words import Origin
from kvsender_spec.kit.scripted.fabric import Fabric

PAGE, PAGES = 16, 4


class Wired:
    """A recording agent over a scripted one, and a peer."""

    def __init__(self) -> None:
        self.fabric = Fabric(automatic=False)
        self.source = np.arange(PAGE * PAGES, dtype=np.uint8)
        self.target = np.zeros(PAGE * PAGES, np.uint8)
        self.peer = self.fabric.agent("decode0")
        self.peer.register_memory(rows(self.target)[2], "DRAM")
        inner = self.fabric.agent("prefill")
        inner.register_memory(rows(self.source)[2], "DRAM")
        classes = ErrorClasses(
            tuple(STAND_INS.values()), STAND_INS[Kind.REMOTE_DISCONNECT.value], (KVUsageError,), (ReleasedHandle,)
        )
        header = Header(source=Source.LIVE, vantage=tuple(KINDS))
        self.recorder = Recorder(header, classes, lambda: 0.0)
        self.agent: Any = RecordingAgent(inner, self.recorder, lambda _: ("decode0", 3), self.place_of)
        self.transfers: list[Transfer] = []

    def place_of(self, transfer: Transfer) -> Place:
        self.transfers.append(transfer)
        return Place(tuple(transfer.local_indices.tolist()), tuple(transfer.remote_indices.tolist()), aux=7)

    def make(self, message: bytes = b"", remote_pages: tuple[int, ...] = (2, 3)) -> Any:
        self.agent.add_remote_agent(self.peer.get_agent_metadata())
        local = self.agent.prep_xfer_dlist(INIT_AGENT, rows(self.source)[0], "DRAM")
        remote = self.agent.prep_xfer_dlist("decode0", rows(self.target)[0], "DRAM")
        return self.agent.make_prepped_xfer("WRITE", local, ids(0, 1), remote, ids(*remote_pages), message)

    def events(self, *kinds: type[Event]) -> list[Any]:
        return [event for event in self.recorder.history.events if not kinds or isinstance(event, kinds)]


def rows(memory: Any) -> tuple[Any, int, list[tuple[int, int, int, str]]]:
    address = memory.ctypes.data
    return (
        np.array([(address, PAGE, 0, PAGE, PAGES)], np.uint64),
        address,
        [(address, PAGE * PAGES, 0, "")],
    )


def ids(*numbers: int) -> Any:
    return np.array(numbers, np.int32)


@pytest.fixture
def wired() -> Wired:
    return Wired()


def test_a_transfer_from_make_to_release(wired: Wired) -> None:
    handle = wired.make(b"chunk 0")
    assert wired.agent.transfer(handle) == "PROC"
    assert wired.agent.check_xfer_state(handle) == "PROC"
    wired.fabric.finish(wired.fabric.in_flight("prefill")[0])
    assert wired.agent.check_xfer_state(handle) == "DONE"
    wired.agent.release_xfer_handle(handle)
    assert bytes(wired.target[2 * PAGE :]) == bytes(wired.source[: 2 * PAGE])
    added, made, *asked = wired.events()
    assert isinstance(added, PeerAdded)
    assert (added.peer, added.generation, added.error) == ("decode0", 3, None)
    assert isinstance(made, TransferMade)
    assert (made.peer, made.handle, made.pages, made.target, made.aux) == ("decode0", 0, (0, 1), (2, 3), 7)
    assert made.message == "chunk 0"
    kinds: list[type[Event]] = [TransferPosted, TransferChecked, TransferChecked, TransferReleased]
    assert [type(event) for event in asked] == kinds
    assert [event.answer for event in asked[:-1]] == ["PROC", "PROC", "DONE"]
    assert asked[-1].how == "call"


def test_the_caller_is_shown_how_the_lists_were_described(wired: Wired) -> None:
    wired.make()
    (transfer,) = wired.transfers
    assert (transfer.local.agent, transfer.remote.agent) == (INIT_AGENT, "decode0")
    assert transfer.local.rows[0, 0] == wired.source.ctypes.data
    assert transfer.remote.rows[0, 0] == wired.target.ctypes.data


def test_the_last_reference_releases(wired: Wired) -> None:
    handle = wired.make()
    assert not wired.events(TransferReleased)
    del handle
    gc.collect()
    (released,) = wired.events(TransferReleased)
    assert (released.handle, released.how) == (0, "last reference")


def test_what_was_released_by_call_is_not_released_by_the_last_reference(wired: Wired) -> None:
    handle = wired.make()
    wired.agent.release_xfer_handle(handle)
    del handle
    gc.collect()
    assert len(wired.events(TransferReleased)) == 1


@pytest.mark.parametrize("call", ["transfer", "check_xfer_state"])
def test_use_after_release_is_recorded_and_goes_no_further(wired: Wired, call: str) -> None:
    handle = wired.make()
    wired.agent.release_xfer_handle(handle)
    with pytest.raises(ReleasedHandle, match="handle 0"):
        getattr(wired.agent, call)(handle)
    assert not wired.fabric.handle_misuses
    (seen,) = wired.events(ErrorSeen)
    assert seen.origin is Origin.RELEASED
    assert wired.events()[-1].error == seen.ref


def test_a_second_release_is_recorded_and_goes_no_further(wired: Wired) -> None:
    handle = wired.make()
    wired.agent.release_xfer_handle(handle)
    asked = len(wired.fabric.events)
    with pytest.raises(ReleasedHandle, match="again"):
        wired.agent.release_xfer_handle(handle)
    assert len(wired.events(TransferReleased)) == 2
    assert len(wired.fabric.events) == asked


def test_errors_pass_as_they_are(wired: Wired) -> None:
    handle = wired.make()
    wired.agent.transfer(handle)
    wired.fabric.disconnect("prefill", "decode0")
    errors = []
    calls: list[Callable[[], object]] = [
        lambda: wired.agent.check_xfer_state(handle),
        lambda: wired.agent.send_notif("decode0", b"failure"),
        lambda: wired.make(remote_pages=(2, PAGES)),
    ]
    for call in calls:
        with pytest.raises(tuple(STAND_INS.values())) as caught:
            call()
        errors.append(caught.value)
    seen = wired.events(ErrorSeen)
    told: list[AnyEvent] = [event for event in wired.events() if getattr(event, "error", None) is not None]
    kinds: list[type[Event]] = [TransferChecked, NotificationSent, TransferMade]
    assert [type(event) for event in told] == kinds
    assert [event.text for event in seen] == [str(error) for error in errors]
    assert seen[0].disconnect
    assert told[-1].handle is None  # type: ignore[union-attr]


def test_a_peer_that_cannot_be_added_and_one_that_goes(wired: Wired) -> None:
    with pytest.raises(STAND_INS[Kind.MISMATCH.value]):
        wired.agent.add_remote_agent(b"nonsense")
    wired.agent.add_remote_agent(wired.peer.get_agent_metadata())
    wired.agent.remove_remote_agent("decode0")
    failed, added, removed = wired.events(PeerAdded, PeerRemoved)
    assert failed.error is not None
    assert added.error is None
    assert removed.peer == "decode0"


def test_a_notification_is_recorded(wired: Wired) -> None:
    wired.agent.add_remote_agent(wired.peer.get_agent_metadata())
    wired.agent.send_notif("decode0", b"hello")
    (sent,) = wired.events(NotificationSent)
    assert (sent.peer, sent.message, sent.error) == ("decode0", "hello", None)
    assert wired.peer.get_new_notifs() == {"prefill": [b"hello"]}


def test_a_lie_between_subject_and_wrapper_is_not_in_the_history(wired: Wired) -> None:
    class Liar(Through[Any, Any]):
        def check_xfer_state(self, handle: Any) -> str:
            super().check_xfer_state(handle)
            return "DONE"

    liar = Liar(wired.agent)
    handle = wired.make()
    liar.transfer(handle)
    assert liar.check_xfer_state(handle) == "DONE"
    (checked,) = wired.events(TransferChecked)
    assert checked.answer == "PROC"


def test_an_error_is_written_again_when_its_cause_is_set_later(wired: Wired) -> None:
    first, second = STAND_INS["nixlBackendError"]("first"), STAND_INS["nixlNotFoundError"]("second")
    refs = [wired.recorder.error(error) for error in (first, second)]
    with pytest.raises(type(second)) as raised:
        raise second from first
    assert [wired.recorder.error(error) for error in (first, raised.value)] == refs, "they are the same objects"
    seen = [event for event in wired.recorder.history.events if isinstance(event, ErrorSeen)]
    assert [(event.ref, event.cause) for event in seen] == [(0, None), (1, None), (1, 0)]
    check(wired.recorder.history)
