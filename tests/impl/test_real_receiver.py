"""A decode side on real NIXL, and a prefill side in another process that dies, or whose words are lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import pytest
from tests.impl.real_prefill import SEED

from kvsender_nixl.agent import create_agent
from kvsender_nixl.lab.memory import BEFORE, PAGE_BYTES, REQUEST, Arrays, Memory, ids, tally, wrong_bytes
from kvsender_nixl.lab.process import NIXL_ENV, PeerProcess
from kvsender_nixl.receiver import Decode, KVReceiver
from kvsender_spec.contract import Attribution, KVPoll, KVTransferError

PAGES: Final = 1000
"""32 MB: more than the sockets between two processes hold."""


class Pair:
    """This process is the decode side, without a progress thread; the other one, ``prefill``, can be killed."""

    def __init__(self, name: str) -> None:
        self.memory: Final = Memory.filled(SEED, BEFORE)
        self.source: Final = Memory.filled(SEED, REQUEST)
        agent: Any = create_agent(f"decode-{name}")
        self.decode: Final[Decode[Any, Any]] = Decode(agent, Arrays(self.memory.regions), ask_every_s=0.5)
        self.name: Final = f"prefill-{name}"
        self.prefill: Final[PeerProcess[Any, Any]] = PeerProcess("tests.impl.real_prefill", self.name, [self.name])
        self.decode.add_initiator(self.ask("introduction"))
        self.ask("register", self.decode.metadata())

    def ask(self, method: str, *arguments: object) -> Any:
        """Ask the prefill process, and let bytes in meanwhile."""
        number = self.prefill.send((method, arguments))
        while not self.prefill._connection.poll(0.001):
            self.decode.drain()
        return self.prefill.receive(number)

    def open(self, room: int, first: int, count: int, chunks: int = 1) -> KVReceiver:
        receiver = self.decode.receiver(room, self.name)
        self.ask("send", receiver.init(np.arange(first, first + count, dtype=np.int32)), chunks)
        return receiver

    def until(self, what: str, done: Callable[[], bool], limit_s: float = 20.0) -> None:
        deadline = time.monotonic() + limit_s
        while not done():
            assert time.monotonic() < deadline, what
            self.decode.drain()
            time.sleep(0.0005)

    def landed(self) -> int:
        return tally(self.memory, ids(range(PAGES))).landed


@pytest.fixture
def pair(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    for name, value in NIXL_ENV.items():
        monkeypatch.setenv(name, value)
    made = Pair(request.node.name.replace("_", "-"))
    yield made
    made.prefill.close(grace_s=0.0)


def test_a_killed_prefill_side_is_noticed_and_its_pages_come_back_when_nothing_lands_any_more(pair: Pair) -> None:
    receiver = pair.open(1, 0, PAGES, chunks=20)
    pair.until("some bytes are here", lambda: pair.landed() > PAGES * PAGE_BYTES // 10)
    assert pair.landed() < PAGES * PAGE_BYTES
    pair.prefill.sigkill()
    killed = time.monotonic()
    pair.until("the room fails", lambda: receiver.poll() is KVPoll.Failed)
    with pytest.raises(KVTransferError, match="does not exist any more") as caught:
        receiver.failure_exception()
    assert caught.value.attribution is Attribution.PEER
    assert receiver.quarantined_pages() == set(range(PAGES))
    pair.until("the pages come back", lambda: not receiver.quarantined_pages())
    assert time.monotonic() - killed < 15.0
    pair.memory.restore(Memory.filled(SEED, BEFORE))
    quiet = time.monotonic() + 1.0
    pair.until("a second", lambda: time.monotonic() > quiet)
    assert pair.landed() == 0


def test_an_end_that_was_lost_is_asked_for(pair: Pair) -> None:
    pair.ask("lose_ends")
    receiver = pair.open(1, 0, 10, chunks=3)
    pair.until("it is over there", lambda: pair.ask("states") == {1: "Success"})
    assert not receiver.poll().terminal
    pair.ask("lose_none")
    pair.until("it is over here", lambda: receiver.poll().terminal, limit_s=5.0)
    assert receiver.poll() is KVPoll.Success
    assert wrong_bytes(pair.source.regions, pair.memory.regions, ids(range(10)), ids(range(10))) == 0


def test_the_pages_of_many_rooms_that_are_given_up_come_back(pair: Pair) -> None:
    receivers = [pair.open(room, room * 30, 30, chunks=3) for room in range(32)]
    for receiver in receivers:
        receiver.abort()
        receiver.clear()
    assert pair.decode.residue() == 0
    pair.until("all pages come back", lambda: not pair.decode.quarantined_pages())
    pair.memory.restore(Memory.filled(SEED, BEFORE))
    quiet = time.monotonic() + 0.5
    pair.until("half a second", lambda: time.monotonic() > quiet)
    assert pair.landed() == 0
    assert set(pair.ask("states").values()) <= {"Failed", "Success"}
