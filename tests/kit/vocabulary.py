"""The words in which the verified-fake suites describe a behaviour, over whichever ``Pair``."""

from __future__ import annotations

import time
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import numpy as np
from tests.kit.pair import PAGE, PAGES, Pair

from kvsender_spec.contract import INIT_AGENT
from kvsender_spec.faults import Kind

WAIT_S = 15.0
WATCH_S = 0.2
"""How long something that must not happen is watched for. The table's own watches are longer: 420 s for a stop."""


class Pages:
    """Both sides as lists of pages. Adds the peer, unless the test did."""

    def __init__(self, pair: Pair, *, add: bool = True) -> None:
        if add:
            pair.sender.add_remote_agent(pair.metadata())
        self.pair = pair
        self.local = pair.sender.prep_xfer_dlist(INIT_AGENT, strided(pair.source.ctypes.data), "DRAM")
        self.remote = pair.sender.prep_xfer_dlist(pair.peer_name, strided(pair.peer_address), "DRAM")

    def make(self, local: list[int], remote: list[int], message: bytes = b"") -> Any:
        return self.pair.sender.make_prepped_xfer(
            "WRITE", self.local, indices(local), self.remote, indices(remote), message
        )

    def everything(self, message: bytes = b"") -> Any:
        return self.make(list(range(PAGES)), list(range(PAGES)), message)

    def write(self, page: int, value: int, message: bytes = b"") -> Any:
        """A handle, not posted, that writes one page full of a value."""
        self.pair.source[page * PAGE : (page + 1) * PAGE] = value
        return self.make([page], [page], message)


def strided(address: int, count: int = PAGES) -> np.ndarray[Any, np.dtype[np.uint64]]:
    return np.array([[address, PAGE, 0, PAGE, count]], np.uint64)


def rows(*values: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    return np.array(values, np.uint64)


def indices(values: list[int]) -> np.ndarray[Any, np.dtype[np.int32]]:
    return np.array(values, np.int32)


def until(pair: Pair, what: Callable[[], bool]) -> None:
    """Wait without checking any transfer."""
    deadline = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        pair.breathe()
        time.sleep(0.001)


def never(pair: Pair, what: Callable[[], bool], seconds: float = WATCH_S) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert not what(), "it happened"
        pair.breathe()
        time.sleep(0.005)


def answer(pair: Pair, handle: Any) -> str:
    """Check until the answer is not PROC."""
    deadline = time.monotonic() + WAIT_S
    while (state := pair.sender.check_xfer_state(handle)) == "PROC":
        assert time.monotonic() < deadline, "it stayed PROC"
        time.sleep(0.0005)
    return state


def said(pair: Pair, handle: Any) -> str:
    """One check's answer, or the name of what it raised."""
    try:
        return pair.sender.check_xfer_state(handle)
    except Exception as error:
        return type(error).__name__


def complete(pair: Pair, handle: Any) -> None:
    assert pair.sender.transfer(handle) in ("PROC", "DONE")
    assert answer(pair, handle) == "DONE"


def raises(pair: Pair, kind: Kind, call: Callable[[], object]) -> None:
    """Raises exactly this class, which has no base but Exception."""
    expected = pair.error(kind)
    assert expected.__bases__ == (Exception,)
    raises_builtin(expected, call)


def raises_builtin(expected: type[Exception], call: Callable[[], object]) -> None:
    # Not pytest.raises: it takes subclasses, and what it fails with is no AssertionError.
    try:
        outcome = call()
    except Exception as error:
        outcome = error
    assert type(outcome) is expected, f"{outcome!r} instead of {expected.__name__}"


def fails(pair: Pair, handle: Any) -> None:
    """The post, or a check after it, finds the peer gone."""

    def post_and_check() -> str:
        pair.sender.transfer(handle)
        return answer(pair, handle)

    raises(pair, Kind.REMOTE_DISCONNECT, post_and_check)


def content(data: bytes) -> str:
    """What memory holds, in a word: where CI is set, pytest compares long bytes line by line, for minutes."""
    return f"{len(data)} times {data[0]}" if len(set(data)) == 1 else f"{len(data)} bytes {sha256(data).hexdigest()}"


def page(pair: Pair, number: int) -> str:
    return content(pair.read(number * PAGE, PAGE))


def full(value: int) -> str:
    return content(bytes([value]) * PAGE)


def arrives(pair: Pair, *messages: bytes) -> None:
    """Exactly these notifications arrive, in this order, from this sender, and no more."""
    got: list[tuple[str, bytes]] = []

    def all_here() -> bool:
        got.extend(pair.notifs())
        return len(got) >= len(messages)

    until(pair, all_here)
    time.sleep(0.01)
    got += pair.notifs()
    assert got == [(pair.sender.name, message) for message in messages]


def nothing_arrives(pair: Pair) -> None:
    never(pair, lambda: bool(pair.notifs()))
