"""The engine in Mooncake's place, over the scripted fabric: numbers for answers, and a timeout that ends nothing."""

from __future__ import annotations

import pytest

from kvsender_connectors.engine import FAILED, ScriptedEngine
from kvsender_connectors.wire import Layout, session
from kvsender_spec.faults import STAND_INS, Fault, Kind, Point
from kvsender_spec.kit.adapter import Memory
from kvsender_spec.kit.run.scripted_world import SENDER_SIDE, ScriptedWorld
from kvsender_spec.trace import Setup

PEER = session(30_000)
SIZE = Memory.PAGE_BYTES[0]


class Bench:
    """An engine that knows one peer, and one page of each side."""

    def __init__(self) -> None:
        self.scripted_world = ScriptedWorld(Setup(), STAND_INS)
        world = self.scripted_world.world
        (peer,) = world.peers
        self.peer = peer
        world.transport.add_remote_agent(peer.agent.get_agent_metadata())
        self.engine = ScriptedEngine(world.transport, {PEER: peer.name}, world.clock, world.transfer_timeout_s)
        memory = world.memory
        self.engine.batch_register_memory([memory.address(r) for r in memory.kv], [len(r) for r in memory.kv])
        self.mine = Layout.of(memory).kv_pointers[0]
        self.theirs = Layout.of(peer.memory).kv_pointers[0]

    def write(self) -> int:
        return self.engine.batch_transfer_sync_write(PEER, [self.mine + SIZE], [self.theirs], [SIZE])

    @property
    def arrived(self) -> bool:
        return self.peer.memory.page(0, 0) == self.scripted_world.world.memory.page(0, 1)


def test_a_write_moves_the_bytes_and_releases_its_transfer() -> None:
    bench = Bench()
    bench.scripted_world.fabric.automatic = True
    assert bench.write() == 0
    assert bench.arrived
    assert [event.answer for event in bench.scripted_world.fabric.events] == ["made", "PROC", "DONE", "released"]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(Point.MAKE, Kind.NOT_FOUND),
        Fault(Point.POST, Kind.REMOTE_DISCONNECT),
        Fault(Point.POST, Kind.RETURNS_ERR),
        Fault(Point.CHECK, Kind.BAD_STATUS),
        Fault(Point.CHECK, Kind.RETURNS_NONSENSE),
    ],
    ids=str,
)
def test_an_error_of_the_transport_is_a_number(fault: Fault) -> None:
    bench = Bench()
    bench.scripted_world.fabric.plan.arm(fault)
    assert bench.write() == FAILED
    assert not bench.scripted_world.fabric.handle_misuses


def test_a_release_that_fails_does_not_undo_the_write() -> None:
    bench = Bench()
    bench.scripted_world.fabric.automatic = True
    bench.scripted_world.fabric.plan.arm(Fault(Point.RELEASE, Kind.BACKEND))
    assert bench.write() == 0


def test_an_error_that_is_not_the_transports_passes() -> None:
    bench = Bench()
    bench.scripted_world.fabric.plan.arm(Fault(Point.CHECK, Kind.KEY_ERROR))
    with pytest.raises(KeyError):
        bench.write()


def test_the_timeout_leaves_the_transfer_running(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    world = bench.scripted_world.world

    def wait_long(point: Point) -> None:
        if point is Point.CHECK:
            world.clock.now += world.transfer_timeout_s

    monkeypatch.setattr(bench.scripted_world.fabric, "on_reach", wait_long)
    assert bench.write() == FAILED
    assert len(bench.scripted_world.fabric.in_flight(SENDER_SIDE)) == 1, (
        "nothing has released it, and the bytes may still land"
    )


def test_a_probe_asks_whether_the_peer_is_well() -> None:
    bench = Bench()
    assert bench.engine.send_probe(PEER) == 0
    bench.scripted_world.fabric.stop(bench.peer.name)
    assert bench.engine.send_probe(PEER) == FAILED
    bench.scripted_world.fabric.cont(bench.peer.name)
    bench.scripted_world.fabric.disconnect(SENDER_SIDE, bench.peer.name)
    assert bench.engine.send_probe(PEER) == FAILED
