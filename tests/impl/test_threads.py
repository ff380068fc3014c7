"""send, poll and abort from different threads (KS-7.2), and peers that are reconnected meanwhile."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator

import pytest
from tests.impl.rig import Rig, end, ids, released_once

from kvsender_spec.contract import KVPoll


@pytest.fixture(autouse=True)
def _switch_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def together(*work: Callable[[], None]) -> None:
    """Run each in a thread of its own, from one start; an exception in any of them is raised here."""
    raised: list[BaseException] = []
    barrier = threading.Barrier(len(work))

    def run(each: Callable[[], None]) -> None:
        barrier.wait()
        try:
            each()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(each,)) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]


@pytest.mark.parametrize("attempt", range(20))
def test_abort_against_send_and_poll(attempt: int) -> None:
    rig = Rig()
    sender, receivers = rig.open(room=attempt)
    answers: list[KVPoll] = []

    def send() -> None:
        for page in range(3):
            sender.send(ids(page))

    def poll() -> None:
        for _ in range(50):
            answers.append(sender.poll())

    together(send, poll, poll, sender.abort)
    last = end(sender)
    terminal = {answer for answer in answers if answer.terminal}
    assert terminal <= {last}
    sender.clear()
    rig.prefill.sweep()
    assert released_once(rig)
    assert rig.prefill.residue() == 0
    rig.drain()
    assert receivers[0].poll() is last


@pytest.mark.parametrize("attempt", range(10))
def test_sending_while_the_peer_is_reconnected(attempt: int) -> None:
    rig = Rig()
    rooms = [rig.open(room=attempt * 100 + number)[0] for number in range(8)]
    rig.start("decode0")
    metadata = rig.decodes["decode0"].decode.metadata()

    def send() -> None:
        for sender in rooms:
            for page in range(3):
                sender.send(ids(page))

    together(send, lambda: rig.prefill.register_peer(metadata), lambda: rig.prefill.register_peer(metadata))
    # No room goes to the new process: it never asked for them.
    assert {end(sender) for sender in rooms} == {KVPoll.Failed}
    rig.prefill.sweep()
    assert not rig.fabric.handle_misuses
    sender, _ = rig.open(room=attempt)
    sender.send(ids(5, 6, 7))
    assert end(sender) is KVPoll.Success
