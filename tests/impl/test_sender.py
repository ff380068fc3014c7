"""The reference sender when all goes well, and when its caller errs, on the scripted agent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.impl.rig import Rig, end, failure, ids, released_once

from kvsender_spec.contract import (
    Attribution,
    KVPoll,
    KVUsageError,
    TransferTimeout,
)
from kvsender_spec.faults import Kind, Point


def test_pages_and_aux_reach_every_peer() -> None:
    rig = Rig(peers=("decode0", "decode1"))
    sender, receivers = rig.open()
    assert sender.poll() is KVPoll.WaitingForInput
    sender.send(ids(3, 0))
    assert sender.poll() is KVPoll.Transferring
    sender.send(np.array([1], np.int64))
    assert end(sender) is KVPoll.Success
    for name, receiver in zip(rig.peers, receivers, strict=True):
        assert rig.same_bytes(name, (3, 0, 1), (5, 6, 7))
        assert rig.same_aux(name, 2, 1)
        assert receiver.poll() is KVPoll.WaitingForInput
        rig.decodes[name].decode.drain()
        assert receiver.poll() is KVPoll.Success
    assert released_once(rig)
    assert not rig.prefill.quarantined_pages()
    metric = sender.get_transfer_metric()
    page_bytes, aux_bytes = 2 * (12 + 4), 8 + 8
    assert metric.transfer_total_bytes == 2 * (3 * page_bytes + aux_bytes)
    assert (metric.chunks, metric.transfers, metric.notifications_lost) == (2, 6, 0)


def test_completed_inside_the_post() -> None:
    rig = Rig()
    rig.fabric.done_at_post = True
    sender, _ = rig.open()
    sender.send(ids(0, 1, 2))
    assert sender.poll() is KVPoll.Success
    assert released_once(rig)


def test_last_chunk_without_pages_carries_the_aux() -> None:
    rig = Rig()
    sender, receivers = rig.open(pages=())
    assert sender.should_send_kv_chunk(0, True)
    assert not sender.should_send_kv_chunk(0, False)
    assert sender.poll() is KVPoll.WaitingForInput
    sender.send(ids())
    assert end(sender) is KVPoll.Success
    assert rig.same_aux("decode0", 2, 1)
    rig.drain()
    assert receivers[0].poll() is KVPoll.Success


def test_room_without_pages_and_aux() -> None:
    rig = Rig()
    sender, receivers = rig.open(pages=(), aux=None)
    sender.send(ids())
    assert sender.poll() is KVPoll.Success
    rig.drain()
    assert receivers[0].poll() is KVPoll.Success


def test_empty_chunk_before_the_last_asks_for_nothing() -> None:
    rig = Rig()
    sender, _ = rig.open()
    before = len(rig.fabric.events)
    sender.send(ids())
    assert len(rig.fabric.events) == before
    assert sender.poll() is KVPoll.WaitingForInput


def test_dummy_peers_receive_nothing() -> None:
    rig = Rig(peers=("decode0", "decode1"))
    for name, side in rig.decodes.items():
        dummy = name == "decode1"
        receiver = side.decode.receiver(3, "prefill")
        pages = ids() if dummy else ids(4)
        rig.prefill.add_transfer_info(receiver.init(pages, None, is_dummy=dummy, required_dst_info_num=2))
    sender = rig.prefill.sender(3)
    sender.init(1)
    sender.send(ids(0))
    assert end(sender) is KVPoll.Success
    assert rig.same_bytes("decode0", (0,), (4,))
    assert not rig.decodes["decode1"].agent.get_new_notifs()


def test_a_peer_gets_the_last_pages_and_hears_of_its_own_chunks() -> None:
    rig = Rig(peers=("decode0", "decode1"))
    receivers = []
    for name, side in rig.decodes.items():
        receiver, cached = side.decode.receiver(3, "prefill"), 3 if name == "decode1" else 0
        info = receiver.init(ids(*range(4, 8 - cached)), 1, required_dst_info_num=2, num_cached=cached)
        rig.prefill.add_transfer_info(info)
        receivers.append(receiver)
    sender = rig.prefill.sender(3)
    sender.init(4, 2)
    sender.send(ids(0, 1))
    sender.send(ids(2, 3))
    assert end(sender) is KVPoll.Success
    rig.drain()
    assert [receiver.poll() for receiver in receivers] == [KVPoll.Success] * 2
    assert rig.same_bytes("decode0", (0, 1, 2, 3), (4, 5, 6, 7))
    assert rig.same_bytes("decode1", (3,), (4,))
    assert rig.same_aux("decode1", 2, 1)
    assert not any(bool(buffer[5:].any()) for buffer in rig.decodes["decode1"].pool.k_buffers)


def test_lists_of_two_lengths_are_refused_unless_the_peer_says_what_it_has() -> None:
    rig = Rig()
    receiver = rig.decodes["decode0"].decode.receiver(3, "prefill")
    rig.prefill.add_transfer_info(receiver.init(ids(4), None, num_cached=1))
    sender = rig.prefill.sender(3)
    sender.init(3)
    sender.send(ids(0, 1, 2))
    assert end(sender) is KVPoll.Failed
    assert "offers 1 pages beside the 1 that it has for 3" in str(failure(sender))


def test_what_could_not_be_told_is_told_when_the_connection_is_back() -> None:
    rig = Rig()
    sender, receivers = rig.open()
    sender.send(ids(0, 1, 2))
    rig.arm(Point.NOTIFY, Kind.REMOTE_DISCONNECT)
    assert end(sender) is KVPoll.Success
    rig.fabric.disconnect("prefill", "decode0")
    rig.drain()
    assert receivers[0].poll() is KVPoll.Transferring
    rig.prefill.sweep()
    rig.drain()
    assert receivers[0].poll() is KVPoll.Transferring, "the connection is still broken"
    rig.prefill.register_peer(rig.decodes["decode0"].decode.metadata())
    rig.prefill.sweep()
    rig.prefill.sweep()
    rig.drain()
    assert receivers[0].poll() is KVPoll.Success
    assert rig.decodes["decode0"].decode.drained.stray == 0, "it is told once"


def test_a_peer_that_has_started_over_is_told_nothing_of_its_old_rooms() -> None:
    rig = Rig()
    sender, _ = rig.open()
    sender.send(ids(0, 1, 2))
    rig.arm(Point.NOTIFY, Kind.REMOTE_DISCONNECT)
    assert end(sender) is KVPoll.Success
    rig.prefill.register_peer(rig.start("decode0").decode.metadata())
    rig.prefill.sweep()
    assert not rig.decodes["decode0"].agent.get_new_notifs()


def test_one_question_per_poll_and_every_transfer_in_turn() -> None:
    rig = Rig(automatic=False)
    sender, _ = rig.open(pages=tuple(range(8)), aux=None)
    for page in range(8):
        sender.send(ids(page))
    before = len(rig.fabric.events)
    for _ in range(8):
        assert sender.poll() is KVPoll.Transferring
    asked = [event.handle for event in rig.fabric.events[before:]]
    assert len(asked) == len(set(asked)) == 8


def test_completion_order_changes_nothing() -> None:
    rig = Rig(automatic=False)
    sender, _ = rig.open()
    for page in range(3):
        sender.send(ids(page))
    for handle in reversed(rig.flying()):
        assert sender.poll() is KVPoll.Transferring
        rig.fabric.finish(handle)
    assert end(sender) is KVPoll.Success


def test_bootstrapping_until_all_peers_are_there() -> None:
    rig = Rig(peers=("decode0", "decode1"))
    infos = rig.infos(7, (5, 6, 7))
    sender = rig.prefill.sender(7)
    sender.init(3)
    for _, info in infos.values():
        assert sender.poll() is KVPoll.Bootstrapping
        with pytest.raises(KVUsageError, match="Bootstrapping"):
            sender.send(ids(0))
        rig.prefill.add_transfer_info(info)
        rig.prefill.add_transfer_info(info)  # a repetition changes nothing
    assert sender.poll() is KVPoll.WaitingForInput


def test_bootstrap_deadline() -> None:
    rig = Rig()
    sender = rig.prefill.sender(7)
    rig.clock.now += 1000
    assert sender.poll() is KVPoll.Bootstrapping
    sender.init(3)
    rig.clock.now += 59.9
    assert sender.poll() is KVPoll.Bootstrapping
    rig.clock.now += 0.1
    assert sender.poll() is KVPoll.Failed
    error = failure(sender)
    assert error.attribution is Attribution.DEADLINE
    assert isinstance(error.__cause__, TransferTimeout)


def test_peer_that_registers_after_the_failure_is_told() -> None:
    rig = Rig(peers=("decode0", "decode1"))
    infos = rig.infos(7, (5, 6, 7))
    rig.prefill.add_transfer_info(infos["decode0"][1])
    sender = rig.prefill.sender(7)
    sender.abort()
    assert sender.poll() is KVPoll.Failed
    rig.prefill.add_transfer_info(infos["decode1"][1])
    rig.prefill.add_transfer_info(infos["decode1"][1])
    rig.drain()
    assert [receiver.poll() for receiver, _ in infos.values()] == [KVPoll.Failed, KVPoll.Failed]
    assert all(side.decode.drained.stray == 0 for side in rig.decodes.values())


def test_peers_for_which_no_sender_comes_are_told() -> None:
    rig = Rig()
    receiver, info = rig.infos(7, (5,))["decode0"]
    rig.prefill.add_transfer_info(info)
    assert rig.prefill.residue() == 1
    rig.clock.now += 61
    rig.prefill.sweep()
    assert rig.prefill.residue() == 1, "whoever was away may be about to make its sender"
    rig.prefill.sweep()
    assert rig.prefill.residue() == 0
    rig.drain()
    assert receiver.poll() is KVPoll.Failed
    assert not receiver.quarantined_pages()


def test_bad_input_is_refused_and_nothing_is_lost() -> None:
    rig = Rig()
    sender, _ = rig.open(pages=(5, 6, 7, 1))
    fresh = rig.prefill.sender(99)
    before = len(rig.fabric.events)
    with pytest.raises(KVUsageError, match="before init"):
        fresh.send(ids(0))
    sender_any: Any = sender
    for bad, why in (
        ([0, 1], "not list"),
        (np.array([0.0]), "float64"),
        (np.array([[0]], np.int32), r"\(1, 1\)"),
        (np.array([1], np.uint8), "uint8"),
        (ids(0, 8), "page 8 is not in the pool, which has 8"),
        (ids(0, -1), "page -1"),
        (np.array([2**40]), "page 1099511627776"),
        (ids(2, 3, 2), "page 2 is named twice"),
        (ids(0, 1, 2, 3, 4), "5 pages after 0, but 4"),
    ):
        with pytest.raises(KVUsageError, match=why):
            sender_any.send(bad)
    assert len(rig.fabric.events) == before
    sender.send(ids(2, 3))
    before = len(rig.fabric.events)
    with pytest.raises(KVUsageError, match="page 3 was sent before"):
        sender.send(ids(0, 3))
    with pytest.raises(KVUsageError, match="3 pages after 2, but 4"):
        sender.send(ids(0, 1, 4))
    with pytest.raises(KVUsageError, match="initialised before"):
        sender.init(4)
    assert len(rig.fabric.events) == before
    sender.send(ids(0, 1))
    with pytest.raises(KVUsageError, match="1 pages after 4"):
        sender.send(ids(4))
    assert end(sender) is KVPoll.Success
    assert rig.same_bytes("decode0", (2, 3, 0, 1), (5, 6, 7, 1))


@pytest.mark.parametrize(
    ("num_pages", "aux", "why"),
    [
        (-1, None, "-1"),
        (9, None, "has 8"),
        (1, 4, "4 aux slots"),
        (1, -1, "-1"),
        (True, None, "True"),
        (1.5, None, "1.5"),
    ],
)
def test_bad_announcements(num_pages: Any, aux: Any, why: str) -> None:
    sender = Rig().prefill.sender(1)
    with pytest.raises(KVUsageError, match=why):
        sender.init(num_pages, aux)
    sender.init(1, 3)


def test_transfer_infos_that_cannot_be() -> None:
    rig = Rig(peers=("decode0", "decode1"))
    side = rig.decodes["decode0"].decode
    good = side.receiver(1, "prefill").init(ids(0), required_dst_info_num=2)
    stranger = rig.start("stranger").decode.receiver(1, "prefill").init(ids(0), required_dst_info_num=2)
    rig.prefill.add_transfer_info(good)
    with pytest.raises(KVUsageError, match="has not registered"):
        rig.prefill.add_transfer_info(stranger)
    other = rig.decodes["decode1"].decode.receiver(1, "prefill").init(ids(0), required_dst_info_num=3)
    with pytest.raises(KVUsageError, match="has 2 peers, or 3"):
        rig.prefill.add_transfer_info(other)
    assert rig.prefill.residue() == 1
