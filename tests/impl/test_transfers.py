"""The physical machine in the sender's words: what a handle survives, and what nobody can do to it."""

from __future__ import annotations

import pytest
from tests.impl.rig import ERRORS, ids

from kvsender_nixl.transfers import DONE, PROC, Transfer, TransportFault
from kvsender_spec.machine import HandleState


class Calls:
    """A transport of strings: ``check`` is what checks answer; every call is written down."""

    def __init__(self, check: str = PROC) -> None:
        self.check = check
        self.log: list[str] = []

    def transfer(self, handle: str) -> str:
        self.log.append(f"post {handle}")
        return PROC

    def check_xfer_state(self, handle: str) -> str:
        self.log.append(f"check {handle}")
        return self.check

    def release_xfer_handle(self, handle: str) -> None:
        self.log.append(f"release {handle}")


def made(calls: Calls) -> Transfer[str]:
    return Transfer(calls, ERRORS, "h", "decode0", 16, pages=ids(1))


def test_use_after_release_reaches_no_transport() -> None:
    calls = Calls(DONE)
    transfer = made(calls)
    assert transfer.post() == PROC
    assert transfer.check() == DONE
    transfer.release()
    transfer.release()
    log = list(calls.log)
    for use in (transfer.post, transfer.check):
        with pytest.raises(AssertionError):
            use()
    assert calls.log == log == ["post h", "check h", "release h"]


def test_nothing_is_released_in_flight() -> None:
    calls = Calls()
    transfer = made(calls)
    transfer.post()
    assert transfer.check() == PROC
    with pytest.raises(AssertionError, match="in flight"):
        transfer.release()
    transfer.give_up()
    with pytest.raises(AssertionError, match="in flight"):
        transfer.release()
    assert "release h" not in calls.log
    calls.check = DONE
    assert transfer.check() == DONE
    transfer.release()
    assert calls.log[-1] == "release h"


def test_nothing_is_posted_twice() -> None:
    calls = Calls()
    transfer = made(calls)
    transfer.post()
    with pytest.raises(AssertionError, match="second time"):
        transfer.post()


def test_never_submitted() -> None:
    transfer = made(Calls())
    transfer.release()
    assert transfer.state is HandleState.NEVER_SUBMITTED


@pytest.mark.parametrize("answer", ["ERR", "LOST", "", "done"])
def test_other_answers_are_faults_that_name_them(answer: str) -> None:
    transfer = made(Calls(answer))
    transfer.post()
    said = transfer.check()
    assert isinstance(said, TransportFault)
    assert repr(answer) in str(said.error)
    assert transfer.state is HandleState.ERRORED
