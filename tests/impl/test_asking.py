"""The decode side asks: about rooms of which it hears nothing, those that it gave up, and who has ended."""

from __future__ import annotations

from typing import Any

import pytest
from tests.impl.rig import Rig, end, failure, ids

from kvsender_nixl.initiator import PeerAborted
from kvsender_nixl.notifications import (
    AuxNotification,
    ChunkNotification,
    FailureNotification,
    StateNotification,
    SuccessNotification,
    parse_notification,
)
from kvsender_nixl.receiver import Decode, KVReceiver, PrefillGone
from kvsender_spec.contract import Attribution, KVPoll, KVTransferError, KVUsageError
from kvsender_spec.faults import Kind, Point


def introduced(*, automatic: bool = True) -> Rig:
    rig = Rig(automatic=automatic)
    rig.introduce()
    return rig


def decode_of(rig: Rig) -> Decode[Any, Any]:
    return rig.decodes["decode0"].decode


def why(receiver: KVReceiver) -> KVTransferError:
    with pytest.raises(KVTransferError) as caught:
        receiver.failure_exception()
    return caught.value


def asked(rig: Rig) -> int:
    """How many questions have arrived at the prefill side, which has not read them."""
    return sum(b'"status"' in message for messages in rig.agent.inbox.values() for message in messages)


def test_an_end_that_was_lost_is_told_again_to_whoever_asks() -> None:
    rig = introduced()
    sender, [receiver] = rig.open()
    sender.send(ids(0, 1, 2))
    rig.arm(Point.NOTIFY, Kind.BACKEND)
    assert end(sender) is KVPoll.Success
    sender.clear()
    rig.talk()
    assert receiver.poll() is KVPoll.Transferring
    rig.talk(5.0)
    assert receiver.poll() is KVPoll.Success


def test_so_are_the_parts_of_a_success() -> None:
    rig = introduced()
    sender, [receiver] = rig.open()
    for page in range(3):
        sender.send(ids(page))
    assert end(sender) is KVPoll.Success
    assert rig.decodes["decode0"].agent.get_new_notifs(), "and they are lost"
    rig.talk(5.0)
    assert receiver.poll() is KVPoll.Success


def test_a_failure_is_told_again_with_what_is_known_by_now() -> None:
    rig = introduced(automatic=False)
    sender, [receiver] = rig.open()
    sender.send(ids(0, 1, 2))
    sender.abort()
    sender.poll()
    rig.clock.now += 6.0
    assert end(sender) is KVPoll.Failed
    sender.clear()
    rig.decodes["decode0"].agent.get_new_notifs()
    rig.talk(5.0)
    assert receiver.poll() is KVPoll.Failed
    assert receiver.quarantined_pages() == {5, 6, 7}
    for handle in rig.flying():
        rig.fabric.finish(handle)
    rig.prefill.sweep()
    rig.prefill.sweep()
    rig.decodes["decode0"].agent.get_new_notifs()  # that it has drained is lost as well
    rig.talk(5.0)
    assert receiver.quarantined_pages() == frozenset()


def test_a_room_that_goes_on_is_asked_about_now_and_then() -> None:
    rig = introduced(automatic=False)
    sender, [receiver] = rig.open()
    sender.send(ids(0, 1, 2))
    for _ in range(50):
        rig.drain()
    assert asked(rig) == 0, "something was heard of it just now"
    rig.clock.now += 5.0
    for _ in range(50):
        rig.drain()
    assert asked(rig) == 1
    rig.talk()
    assert receiver.poll() is KVPoll.WaitingForInput
    for handle in rig.flying():
        rig.fabric.finish(handle)
    assert end(sender) is KVPoll.Success
    rig.talk()
    assert receiver.poll() is KVPoll.Success


def test_a_room_that_the_prefill_side_never_heard_of_fails_at_the_second_answer_and_its_pages_are_free() -> None:
    rig = introduced()
    [(receiver, info)] = rig.infos(7, (5, 6)).values()
    rig.talk(5.0)
    assert receiver.poll() is KVPoll.WaitingForInput, "its announcement may be on the way"
    rig.talk(5.0)
    assert receiver.poll() is KVPoll.Failed
    assert why(receiver).attribution is Attribution.PEER
    assert isinstance(why(receiver).__cause__, PrefillGone)
    rig.talk()
    assert receiver.quarantined_pages() == frozenset()
    with pytest.raises(KVUsageError, match=f"peer 'decode0' has given '{receiver.token}' up before"):
        rig.prefill.add_transfer_info(info)


def test_an_announcement_that_comes_after_the_first_question_is_taken() -> None:
    rig = introduced()
    [(receiver, info)] = rig.infos(7, (5, 6), None).values()
    rig.talk(5.0)
    rig.prefill.add_transfer_info(info)
    rig.talk(5.0)
    sender = rig.prefill.sender(7)
    sender.init(2)
    sender.send(ids(1, 2))
    assert end(sender) is KVPoll.Success
    rig.talk()
    assert receiver.poll() is KVPoll.Success


def test_an_abort_tells_the_prefill_side_by_itself_and_its_pages_come_back() -> None:
    rig = introduced(automatic=False)
    sender, [receiver] = rig.open()
    sender.send(ids(0, 1, 2))
    receiver.abort()
    receiver.abort()
    rig.talk()
    assert sender.poll() is KVPoll.Transferring
    for handle in rig.flying():
        rig.fabric.finish(handle)
    assert receiver.quarantined_pages() == {5, 6, 7}
    assert end(sender) is KVPoll.Failed
    assert isinstance(failure(sender).__cause__, PeerAborted)
    rig.talk()
    assert receiver.quarantined_pages() == frozenset()


def test_an_abort_that_was_refused_is_told_when_the_connection_is_back() -> None:
    rig = introduced()
    rig.inline = False
    sender, [receiver] = rig.open()
    rig.fabric.disconnect("decode0", "prefill")
    receiver.abort()
    rig.talk()
    assert sender.poll() is KVPoll.WaitingForInput
    assert len(rig.spawned) == 1
    rig.run_spawned()
    rig.talk(1.0)
    assert end(sender) is KVPoll.Failed
    rig.talk()
    assert receiver.quarantined_pages() == frozenset()


def test_an_abort_that_was_lost_is_told_again_by_a_question() -> None:
    rig = introduced()
    sender, [receiver] = rig.open()
    receiver.abort()
    rig.agent.get_new_notifs()
    rig.talk(5.0)
    assert end(sender) is KVPoll.Failed
    rig.talk()
    assert receiver.quarantined_pages() == frozenset()


def test_the_deadline_tells_the_prefill_side_as_well() -> None:
    rig = introduced(automatic=False)
    sender, [receiver] = rig.open()
    rig.decodes["decode0"].agent.links.clear()
    for _ in range(302):
        rig.clock.now += 1.0
        receiver.poll()
        rig.drain()
    assert receiver.poll() is KVPoll.Failed
    assert why(receiver).attribution is Attribution.DEADLINE
    rig.introduce()
    rig.talk(60.0)
    assert end(sender) is KVPoll.Failed


def test_every_page_of_many_aborted_rooms_comes_back() -> None:
    """In all states: not yet known at the prefill side, without a sender, posted, done and told, cleared."""
    rig = introduced(automatic=False)
    receivers: list[KVReceiver] = []
    for room in range(32):
        [(receiver, info)] = rig.infos(room, (room % 8,), None).values()
        receivers.append(receiver)
        if room % 4 == 0:
            continue
        rig.prefill.add_transfer_info(info)
        if room % 4 == 1:
            continue
        sender = rig.prefill.sender(room)
        sender.init(1)
        sender.send(ids(room % 8))
        if room % 4 == 3:
            for handle in rig.flying():
                rig.fabric.finish(handle)
            sender.poll()
            sender.clear()
    for receiver in receivers:
        receiver.abort()
        receiver.clear()
    decode = decode_of(rig)
    assert decode.quarantined_pages() == set(range(8))
    for handle in rig.flying():
        rig.fabric.finish(handle)
    for second in range(40):
        for at_work in rig.prefill._rooms.senders():  # as their callers do
            at_work.sweep()
        rig.prefill.sweep()
        rig.talk(1.0 if second else 0.0)
    assert decode.quarantined_pages() == frozenset()
    assert decode.quarantined_aux_slots() == frozenset()


def test_a_prefill_side_whose_process_has_ended_fails_its_rooms_at_once_and_frees_their_pages() -> None:
    rig = introduced(automatic=False)
    sender, [receiver] = rig.open()
    sender.send(ids(0, 1, 2))
    [(given_up, info)] = rig.infos(8, (1,)).values()
    rig.prefill.add_transfer_info(info)
    given_up.abort()
    decode = decode_of(rig)
    rig.fabric.kill("prefill")
    rig.ended = "process 7 does not exist any more"
    rig.clock.now += 1.0
    rig.drain()
    assert receiver.poll() is KVPoll.Failed
    assert why(receiver).attribution is Attribution.PEER
    assert "process 7 does not exist" in why(receiver).reason
    assert decode.quarantined_pages() == {1, 5, 6, 7}, "our sockets may have something of it"
    for _ in range(2):
        rig.clock.now += 1.0
        rig.drain()
    assert decode.quarantined_pages() == frozenset()


def test_a_prefill_side_that_cannot_be_reached_fails_its_rooms_soon_and_their_pages_stay() -> None:
    rig = introduced(automatic=False)
    _, [receiver] = rig.open()
    rig.fabric.kill("prefill")
    waited = 0.0
    while receiver.poll() is KVPoll.WaitingForInput:
        rig.clock.now += 1.0
        waited += 1.0
        rig.drain()
    assert 15.0 <= waited <= 25.0
    assert why(receiver).attribution is Attribution.PEER
    assert "the connection to 'prefill' is lost" in why(receiver).reason
    assert receiver.quarantined_pages() == {5, 6, 7}


def test_a_connection_that_was_lost_is_remade_and_the_room_goes_on() -> None:
    rig = introduced()
    sender, [receiver] = rig.open()
    rig.fabric.disconnect("decode0", "prefill")
    for _ in range(30):
        rig.talk(1.0)
    assert receiver.poll() is KVPoll.WaitingForInput
    sender.send(ids(0, 1, 2))
    assert end(sender) is KVPoll.Success
    rig.talk()
    assert receiver.poll() is KVPoll.Success


def test_another_process_of_the_name_ends_the_room_and_frees_nothing() -> None:
    rig = introduced()
    _, [receiver] = rig.open()
    decode = decode_of(rig)
    for _ in range(2):
        rig.decodes["decode0"].agent.deliver("prefill", StateNotification(7, receiver.token, "other", False).to_bytes())
        rig.drain()
    assert receiver.poll() is KVPoll.Failed
    assert "started over" in why(receiver).reason
    assert receiver.quarantined_pages() == {5, 6, 7}
    known = rig.prefill.introduction().incarnation
    decode.fence("prefill", "other")
    decode.fence("prefill of another name", known)
    assert receiver.quarantined_pages() == {5, 6, 7}
    decode.fence("prefill", known)
    assert receiver.quarantined_pages() == frozenset()


def test_a_fence_by_hand_says_which_process_where_there_are_several() -> None:
    rig = Rig()
    _, [first] = rig.open(room=1, pages=(1,))
    first.abort()
    rig.introduce()
    _, [second] = rig.open(room=2, pages=(2,))
    rig.decodes["decode0"].agent.links.clear()
    second.abort()
    decode = decode_of(rig)
    with pytest.raises(KVUsageError, match="which process of 'prefill'"):
        decode.fence("prefill")
    decode.fence("prefill", "")
    assert decode.quarantined_pages() == {2}
    decode.fence("prefill")
    assert decode.quarantined_pages() == frozenset()


def test_what_comes_before_its_room_is_kept_for_it() -> None:
    rig = Rig()
    decode, agent = decode_of(rig), rig.decodes["decode0"].agent
    words = (ChunkNotification(7, "t", 0), AuxNotification(7, "t"), SuccessNotification(7, "t", 1, True))
    for word in words[:2]:
        agent.deliver("prefill", word.to_bytes())
    agent.deliver("somebody else", words[2].to_bytes())
    rig.drain()
    assert decode.drained.stray == 3
    receiver = decode.receiver(7, "prefill", token="t")
    agent.deliver("prefill", words[2].to_bytes())
    rig.drain()
    assert receiver.poll() is KVPoll.Bootstrapping
    receiver.init(ids(1), 2)
    assert receiver.poll() is KVPoll.Success
    assert (decode.drained.early, decode.drained.stray) == (2, 1)
    receiver.clear()
    agent.deliver("prefill", words[0].to_bytes())
    rig.drain()
    assert decode.drained.stray == 2


def test_a_room_with_two_prefill_sides_needs_both_and_each_proves_its_own() -> None:
    rig = Rig()
    decode, agent = decode_of(rig), rig.decodes["decode0"].agent

    def room(token: str) -> KVReceiver:
        receiver = decode.receiver(7, ("a", "b"), token=token)
        receiver.init(ids(1, 2))
        return receiver

    def tell(name: str, *words: Any) -> None:
        for word in words:
            agent.deliver(name, word.to_bytes())
        rig.drain()

    well, failed = room("t"), room("u")
    assert decode.held_pages() == {1, 2}
    for _ in range(2):
        tell("a", ChunkNotification(7, "t", 0), SuccessNotification(7, "t", 1, False))
    assert well.poll() is KVPoll.Transferring, "the same one twice is one"
    tell("b", SuccessNotification(7, "t", 1, False), ChunkNotification(7, "t", 0))
    assert well.poll() is KVPoll.Success
    tell("a", FailureNotification(7, "u", True, "broken in two"))
    assert failed.poll() is KVPoll.Failed
    assert failed.quarantined_pages() == {1, 2}, "the other one has said nothing"
    tell("a", FailureNotification(7, "u", True, "again"))
    assert decode.held_pages() == {1, 2}
    tell("b", FailureNotification(7, "u", True, "a peer has given up"))
    assert decode.held_pages() == frozenset()
    with pytest.raises(KVUsageError, match="each named once"):
        decode.receiver(8, ("a", "a"))


def test_a_success_that_is_told_after_an_abort_says_that_nothing_is_on_its_way() -> None:
    rig = Rig()
    sender, [receiver] = rig.open()
    sender.send(ids(0, 1, 2))
    receiver.abort()
    assert receiver.quarantined_pages() == {5, 6, 7}
    assert end(sender) is KVPoll.Success
    rig.drain()
    assert receiver.poll() is KVPoll.Failed
    assert receiver.quarantined_pages() == frozenset()


def test_what_has_arrived_beats_the_deadline_of_an_owner_that_was_away() -> None:
    rig = Rig()
    sender, [receiver] = rig.open()
    sender.send(ids(0, 1, 2))
    assert end(sender) is KVPoll.Success
    rig.clock.now += 1000.0
    assert receiver.poll() is KVPoll.Success


def test_an_owner_that_was_away_looks_once_more_before_the_deadline_is_judged() -> None:
    rig = Rig()
    sender, [receiver] = rig.open()
    _, [silent] = rig.open(room=8)
    rig.clock.now += 1000.0
    assert receiver.poll() is silent.poll() is KVPoll.WaitingForInput
    sender.send(ids(0, 1, 2))
    assert end(sender) is KVPoll.Success
    assert receiver.poll() is KVPoll.Success
    for _ in range(3):
        rig.clock.now += 0.5
        silent.poll()
    assert silent.poll() is KVPoll.Failed


def test_a_prefill_side_introduces_itself_to_whoever_registers_by_a_notification() -> None:
    rig = Rig()
    decode = decode_of(rig)
    rig.agent.deliver("decode0", decode.metadata().to_bytes())
    rig.prefill.drain()
    rig.prefill.sweep()
    [message] = rig.decodes["decode0"].agent.inbox["prefill"]
    with pytest.raises(ValueError, match="not a notification"):
        parse_notification(message)
    rig.drain()
    receiver = decode.receiver(7, "prefill")
    receiver.init(ids(1))
    assert receiver.announced_to() == {("prefill", rig.prefill.introduction().incarnation)}
    rig.decodes["decode0"].agent.deliver("somebody else", message)
    rig.drain()
    assert decode.drained.malformed == 1


def test_times_that_are_none() -> None:
    rig = Rig()
    side = rig.decodes["decode0"]
    with pytest.raises(KVUsageError, match="ask_every_s is 0: not a time"):
        Decode(side.agent, side.pool, ask_every_s=0)
