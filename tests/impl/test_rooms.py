"""Abort, clear, and rooms whose id is used again."""

from __future__ import annotations

import gc

import pytest
from tests.impl.rig import Rig, end, failure, ids, released_once

from kvsender_nixl.notifications import FailureNotification, parse_notification
from kvsender_spec.contract import (
    Attribution,
    KVPoll,
    KVUsageError,
    TransferAborted,
)
from kvsender_spec.faults import Kind, Point


def test_abort_tells_the_peers_once() -> None:
    rig = Rig(peers=("decode0", "decode1"))
    sender, _ = rig.open()
    for _ in range(3):
        sender.abort()
    sender.send(ids(0))
    assert sender.poll() is KVPoll.Failed
    sender.abort()
    error = failure(sender)
    assert error.attribution is Attribution.CALLER
    assert isinstance(error.__cause__, TransferAborted)
    for side in rig.decodes.values():
        (message,) = side.agent.get_new_notifs()["prefill"]
        notification = parse_notification(message)
        assert isinstance(notification, FailureNotification)
        assert "aborted" in notification.reason
        assert notification.quiesced


def test_abort_after_success_and_after_a_fault_changes_nothing() -> None:
    rig = Rig()
    sender, _ = rig.open()
    sender.send(ids(0, 1, 2))
    assert end(sender) is KVPoll.Success
    sender.abort()
    sender.clear()
    sender.clear()
    assert sender.poll() is KVPoll.Success
    with pytest.raises(KVUsageError, match="has not failed"):
        sender.failure_exception()
    rig.arm(Point.POST, Kind.BACKEND)
    failed, _ = rig.open(room=8)
    failed.send(ids(0))
    failed.abort()
    assert end(failed) is KVPoll.Failed
    assert failure(failed).attribution is Attribution.LOCAL


def test_clear_while_live_drains_without_its_caller() -> None:
    rig = Rig(automatic=False)
    sender, receivers = rig.open()
    sender.send(ids(0, 1))
    sender.clear()
    assert rig.prefill.quarantined_pages() == {0, 1}
    del sender
    gc.collect()
    assert rig.prefill.sweep() == 1
    (handle,) = rig.flying()
    rig.fabric.finish(handle)
    del handle
    assert rig.prefill.sweep() == 0
    assert rig.prefill.residue() == 0
    assert not rig.prefill.quarantined_pages()
    assert released_once(rig)
    rig.drain()
    assert receivers[0].poll() is KVPoll.Failed


def test_a_reused_room_is_another_room() -> None:
    rig = Rig(automatic=False)
    old, old_receivers = rig.open()
    old.send(ids(0))
    old.clear()
    new, new_receivers = rig.open(aux=None)
    assert new.poll() is KVPoll.WaitingForInput
    new.send(ids(1, 2, 3))
    for handle in rig.flying():
        rig.fabric.finish(handle)
    assert old.poll() is KVPoll.Failed
    assert new.poll() is KVPoll.Success
    rig.drain()
    assert (old_receivers[0].poll(), new_receivers[0].poll()) == (KVPoll.Failed, KVPoll.Success)


def test_the_next_incarnation_may_register_early() -> None:
    rig = Rig()
    old, _ = rig.open()
    receiver, info = rig.infos(7, (1,), None)["decode0"]
    rig.prefill.add_transfer_info(info)  # while the old room is live
    old.send(ids(0, 1, 2))
    assert end(old) is KVPoll.Success
    old.clear()
    new = rig.prefill.sender(7)
    new.init(1)
    new.send(ids(4))
    assert end(new) is KVPoll.Success
    rig.drain()
    assert receiver.poll() is KVPoll.Success
    assert rig.same_bytes("decode0", (4,), (1,))


def test_a_live_room_has_one_sender() -> None:
    rig = Rig()
    sender, _ = rig.open()
    with pytest.raises(KVUsageError, match="neither over nor cleared"):
        rig.prefill.sender(7)
    sender.send(ids(0, 1, 2))
    assert end(sender) is KVPoll.Success
    assert rig.prefill.sender(7).poll() is KVPoll.Bootstrapping
