"""The asynchronous sender by itself, on a fabric without a kit: what it does while its threads run as they like."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from tests.mutants.workers import Engine

from kvsender_spec.contract import Attribution, KVPoll, KVTransferError
from kvsender_spec.faults import STAND_INS, Fault, Kind, Point
from kvsender_spec.kit.run.scripted_world import ScriptedWorld
from kvsender_spec.trace import Setup

PATIENCE_S = 5.0


@pytest.fixture
def scripted_world() -> ScriptedWorld:
    return ScriptedWorld(Setup(chunks=((1, 1), (1,)), peers=2), STAND_INS)


@pytest.fixture
def engine(scripted_world: ScriptedWorld) -> Iterator[Engine]:
    engine = Engine(scripted_world.world)
    yield engine
    scripted_world.fabric.shut_down()
    engine.close()
    assert not any(worker.is_alive() for worker in engine.workers())


def eventually(what: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


def test_a_room_ends_when_its_transfers_do(scripted_world: ScriptedWorld, engine: Engine) -> None:
    scripted_world.fabric.automatic = True
    sender = engine.sender(scripted_world.plan(0, incarnation=0))
    sender.send([3])
    sender.send([5])
    assert eventually(lambda: sender.poll() is KVPoll.Success)
    assert eventually(lambda: engine.busy() == 0)
    assert engine.quarantined_pages() == frozenset()
    sender.clear()
    assert engine.residue() == 0


def test_nothing_is_posted_after_abort_has_returned(scripted_world: ScriptedWorld, engine: Engine) -> None:
    for incarnation in range(50):
        sender = engine.sender(scripted_world.plan(0, incarnation=incarnation % 5))
        sender.send([3])
        sender.abort()
        posted = [event for event in scripted_world.fabric.events if event.point is Point.POST]
        sender.send([5])
        time.sleep(0.001)
        assert [event for event in scripted_world.fabric.events if event.point is Point.POST] == posted


def test_an_error_of_its_own_fails_one_room_and_no_thread(scripted_world: ScriptedWorld, engine: Engine) -> None:
    scripted_world.fabric.automatic = True
    scripted_world.fabric.plan.arm(Fault(Point.MAKE, Kind.KEY_ERROR))
    broken, sound = (
        engine.sender(scripted_world.plan(0, incarnation=0)),
        engine.sender(scripted_world.plan(1, incarnation=1)),
    )
    broken.send([3])
    assert eventually(lambda: broken.poll() is KVPoll.Failed)
    with pytest.raises(KVTransferError, match="KeyError") as caught:
        broken.failure_exception()
    assert caught.value.attribution is Attribution.INTERNAL
    sound.send([7])
    assert eventually(lambda: sound.poll() is KVPoll.Success)


@pytest.mark.parametrize(
    "message", [b"", b"\xff\xfe", b"7", b"{}", b'{"abort": "0", "reason": "no"}', b'{"abort": 99}']
)
def test_a_malformed_control_message_is_passed_over(
    scripted_world: ScriptedWorld, engine: Engine, message: bytes
) -> None:
    sender = engine.sender(scripted_world.plan(0, incarnation=0))
    engine.control(message)
    assert eventually(lambda: engine.busy() == 0)
    assert sender.poll() is KVPoll.WaitingForInput
    engine.control(b'{"abort": 0, "reason": "the client went away"}')
    assert eventually(lambda: sender.poll() is KVPoll.Failed)
    with pytest.raises(KVTransferError, match="the client went away") as caught:
        sender.failure_exception()
    assert caught.value.attribution is Attribution.PEER
