"""What the observer says of sources whose time is real, and of histories that are cut off."""

from __future__ import annotations

from functools import partial

import pytest

from kvsender_spec.contract import KVUsageError
from kvsender_spec.history.errors import ErrorClasses
from kvsender_spec.history.events import (
    KINDS,
    FaultsOver,
    NotificationHeard,
    PeerLost,
    PeerReturned,
    RoomOpened,
    RunEnded,
)
from kvsender_spec.history.header import Ability, Header, Limits, Source
from kvsender_spec.history.record import Place, Recorder
from kvsender_spec.history.words import CallName, Destination, Says
from kvsender_spec.observe.observer import Observer

PEER = "decode0"
SETTLE_S = 10.0
LIMITS = Limits(transfer_timeout_s=30.0, drain_timeout_s=5.0, settle_s=SETTLE_S)
CAN = (Ability.ABORT, Ability.NOTIFY, Ability.RECONNECT)


class Disconnect(Exception):
    pass


class Told:
    """A history that is told by hand, and the observer that sees it."""

    def __init__(self) -> None:
        self.now = 0.0
        header = Header(source=Source.REAL, vantage=tuple(KINDS), can=CAN, limits=LIMITS)
        self.observer = Observer(header)
        classes = ErrorClasses((Disconnect,), Disconnect, (KVUsageError,))
        self.recorder = Recorder(header, classes, lambda: self.now, self.observer.see)

    def open(self, key: int = 0) -> None:
        place = Destination(peer=PEER, pages=(key,), aux=0)
        self.recorder.note(partial(RoomOpened, room=key, id=key, pages=1, destinations=(place,)))

    def call(self, what: CallName, key: int | None = 0, value: str | None = None, *, last: bool = False) -> None:
        of = self.recorder.call_started(what, key, pages=(1,) if last else (), last=last)
        if last:
            self.recorder.made(PEER, key, Place(room=key, pages=(1,)), b"", None)
            self.recorder.posted(key or 0, "PROC", None)
        self.recorder.call_ended(of, key, value=value)

    def over(self) -> None:
        self.recorder.note(FaultsOver)

    def poll(self, times: int = 1) -> None:
        for _ in range(times):
            self.call(CallName.POLL, value="Transferring")

    def broken(self, clause: str) -> int:
        return sum(violation.clause == clause for violation in self.observer.findings.violations)


def test_a_room_has_its_time_before_it_never_ends() -> None:
    told = Told()
    told.open()
    told.call(CallName.SEND, last=True)
    told.over()
    told.now = SETTLE_S - 0.1
    told.poll(100)
    assert not told.broken("KS-3.4")
    told.now = SETTLE_S
    told.poll(2)
    assert not told.broken("KS-3.4")
    told.poll(1)
    assert told.broken("KS-3.4") == 1
    assert str(SETTLE_S) in told.observer.findings.violations[0].expected


def test_a_room_has_its_time_from_when_it_owes_an_end() -> None:
    """Not from when the faults were over: its caller may give it the last chunk much later."""
    told = Told()
    told.open()
    told.over()
    told.now = 100.0
    told.call(CallName.SEND, last=True)
    told.poll(100)
    told.now += SETTLE_S - 0.1
    told.poll(100)
    assert not told.broken("KS-3.4")
    told.now += 0.1
    told.poll(3)
    assert told.broken("KS-3.4") == 1


def test_a_room_of_a_lost_peer_has_its_deadlines_as_well() -> None:
    told = Told()
    told.open()
    told.recorder.note(partial(PeerLost, peer=PEER))
    told.over()
    told.now = 100.0
    told.call(CallName.SEND, last=True)
    for later_s, broken in ((LIMITS.transfer_timeout_s - 0.1, 0), (0.1, 0), (LIMITS.drain_timeout_s, 1)):
        told.now += later_s
        told.poll(3)
        assert told.broken("KS-3.4") == broken


@pytest.mark.parametrize("complete", [True, False])
def test_what_a_cut_off_history_lacks_is_not_missing(complete: bool) -> None:
    """The notification of the failure may have been yet to come."""
    told = Told()
    told.open()
    told.call(CallName.ABORT)
    told.call(CallName.POLL, value="Failed")
    told.over()
    told.recorder.note(partial(RunEnded, complete=complete, why="" if complete else "a test"))
    assert told.broken("KS-6.1") == int(complete)


def test_a_peer_that_has_returned_is_added_before_a_room_needs_it() -> None:
    told = Told()
    told.recorder.note(partial(PeerReturned, peer=PEER))
    assert told.broken("KS-6.3") == 0, "nothing needs it yet"
    told.open()
    told.call(CallName.SEND, last=True)
    assert told.broken("KS-6.3") == 1


def test_a_told_peer_is_told() -> None:
    told = Told()
    told.open()
    told.call(CallName.ABORT)
    told.call(CallName.POLL, value="Failed")
    told.over()
    told.recorder.note(partial(NotificationHeard, peer=PEER, says=Says.FAILURE, id=0, reason="aborted"))
    told.recorder.note(RunEnded)
    assert not told.broken("KS-6.1")
    assert told.observer.findings.held["KS-6.1"] == 1


@pytest.mark.parametrize("escapes", [True, False])
def test_connecting_to_a_peer_returns(escapes: bool) -> None:
    told = Told()
    of = told.recorder.call_started(CallName.RECONNECT, None)
    error = Disconnect("nobody there")
    told.recorder.peer_added(PEER, 0, error)
    told.recorder.call_ended(of, None, error=error if escapes else None)
    assert told.broken("KS-1.1") == int(escapes)
    assert told.observer.findings.held["KS-1.1"] == int(not escapes)
