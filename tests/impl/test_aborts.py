"""Peers that give a room up: it ends as theirs, and they get their pages back when nothing can land there (KS-6.4)."""

from __future__ import annotations

import pytest
from tests.impl.rig import Rig, end, failure, ids

from kvsender_nixl.exchange import parse_message
from kvsender_nixl.initiator import PeerAborted
from kvsender_nixl.status import AbortRequest
from kvsender_spec.contract import Attribution, KVPoll
from kvsender_spec.faults import Kind, Point


def give_up(rig: Rig, token: str, room: int = 7) -> None:
    """The word travels as a notification of the peer's."""
    incarnation = rig.decodes["decode0"].decode.metadata().incarnation
    rig.agent.deliver("decode0", AbortRequest(room, token, "decode0", incarnation).to_bytes())
    rig.prefill.drain()


def test_the_message_is_read_as_it_was_written() -> None:
    request = AbortRequest(-3, "t-1", "decode0", "p-1")
    assert parse_message(request.to_bytes()) == request
    with pytest.raises(ValueError, match="is not a token"):
        parse_message(AbortRequest(1, "", "decode0").to_bytes())


def test_what_has_drained_is_said_with_the_failure() -> None:
    rig = Rig(automatic=False)
    sender, [receiver] = rig.open()
    sender.send(ids(0, 1, 2))
    receiver.abort()
    assert receiver.quarantined_pages() == {5, 6, 7}
    give_up(rig, receiver.token)
    assert sender.poll() is KVPoll.Transferring, "it drains first"
    for handle in rig.flying():
        rig.fabric.finish(handle)
    assert end(sender) is KVPoll.Failed
    cause = failure(sender)
    assert cause.attribution is Attribution.PEER
    assert isinstance(cause.__cause__, PeerAborted)
    rig.drain()
    assert receiver.quarantined_pages() == frozenset()


def test_what_outlives_the_drain_deadline_is_said_when_it_is_done_and_once() -> None:
    rig = Rig(automatic=False)
    sender, [receiver] = rig.open()
    sender.send(ids(0, 1, 2))
    receiver.abort()
    give_up(rig, receiver.token)
    sender.poll()
    rig.clock.now += 6.0
    assert end(sender) is KVPoll.Failed
    sender.clear()
    receiver.clear()
    give_up(rig, receiver.token)
    rig.prefill.sweep()
    rig.drain()
    decode = rig.decodes["decode0"].decode
    assert decode.quarantined_pages() == {5, 6, 7}
    for handle in list(rig.flying()):
        rig.fabric.finish(handle)
    for _ in range(3):
        rig.prefill.sweep()
    rig.drain()
    assert decode.quarantined_pages() == frozenset()
    told = decode.drained.notifications
    rig.prefill.sweep()
    rig.drain()
    assert decode.drained.notifications == told


def test_an_error_proves_nothing_and_is_acknowledged_never() -> None:
    rig = Rig(automatic=False)
    sender, [receiver] = rig.open()
    sender.send(ids(0, 1, 2))
    receiver.abort()
    give_up(rig, receiver.token)
    rig.arm(Point.CHECK, Kind.BACKEND)
    sender.poll()
    rig.clock.now += 6.0
    assert end(sender) is KVPoll.Failed
    for handle in list(rig.flying()):
        rig.fabric.finish(handle)
    for _ in range(3):
        rig.prefill.sweep()
    rig.drain()
    assert rig.decodes["decode0"].decode.quarantined_pages() == {5, 6, 7}


def test_a_room_that_is_given_up_before_its_sender_comes_fails_at_once() -> None:
    rig = Rig()
    [(receiver, info)] = rig.infos(7, (5,)).values()
    rig.prefill.add_transfer_info(info)
    give_up(rig, receiver.token)
    sender = rig.prefill.sender(7)
    sender.init(1, 2)
    assert sender.poll() is KVPoll.Failed
    assert failure(sender).attribution is Attribution.PEER


@pytest.mark.parametrize("token", ["another", "t"])
def test_a_word_about_another_incarnation_or_room_changes_nothing(token: str) -> None:
    rig = Rig()
    sender, [receiver] = rig.open()
    give_up(rig, token)
    give_up(rig, receiver.token, room=8)
    sender.send(ids(0, 1, 2))
    assert end(sender) is KVPoll.Success


def test_one_peer_that_gives_up_ends_the_room_for_the_others() -> None:
    rig = Rig(peers=("decode0", "decode1"))
    sender, receivers = rig.open()
    sender.send(ids(0))
    give_up(rig, receivers[0].token)
    assert end(sender) is KVPoll.Failed
    rig.drain()
    assert receivers[1].poll() is KVPoll.Failed
    assert receivers[1].quarantined_pages() == frozenset(), "what was in flight to it is done"
