"""Pages that no DONE frees: evidence about one process of one peer does, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest
from tests.impl.rig import Rig, end, ids

from kvsender_nixl.exchange import PeerMetadata
from kvsender_nixl.introduction import Introduction
from kvsender_nixl.witness import ProcessIdentity, Question, Statement
from kvsender_spec.contract import KVPoll, KVUsageError

OLD: Final = ProcessIdentity("this host", 100, 5)
NEW: Final = ProcessIdentity("this host", 101, 9)
ELSEWHERE: Final = ProcessIdentity("another host", 101, 9)


def metadata(rig: Rig, process: ProcessIdentity) -> PeerMetadata:
    return replace(rig.decodes["decode0"].decode.metadata(), process=process)


def killed(rig: Rig) -> None:
    """A peer dies with a transfer in flight, whose pages are held."""
    rig.prefill.register_peer(metadata(rig, OLD))
    sender, _ = rig.open()
    sender.send(ids(0, 1))
    rig.fabric.kill("decode0")
    assert end(sender) is KVPoll.Failed
    sender.clear()
    sweep(rig)
    assert rig.prefill.quarantined_pages() == {0, 1}


def sweep(rig: Rig) -> None:
    for _ in range(3):
        rig.clock.now += 1.0
        rig.prefill.sweep()


def started_again(rig: Rig, process: ProcessIdentity) -> None:
    rig.start("decode0")
    rig.prefill.register_peer(metadata(rig, process))


def test_pages_come_back_when_the_peers_process_is_found_gone() -> None:
    rig = Rig(automatic=False)
    killed(rig)
    rig.ended_peers[OLD] = "it does not exist any more"
    sweep(rig)
    assert rig.prefill.quarantined_pages() == frozenset()
    assert rig.prefill.quarantined_aux_slots() == frozenset()


def test_the_end_of_another_process_frees_nothing() -> None:
    rig = Rig(automatic=False)
    killed(rig)
    started_again(rig, NEW)
    rig.ended_peers[NEW] = "it does not exist any more"
    sweep(rig)
    assert rig.prefill.quarantined_pages() == {0, 1}
    rig.prefill.fence("decode0", rig.decodes["decode0"].decode.metadata().incarnation)
    assert rig.prefill.quarantined_pages() == {0, 1}


def test_what_the_transport_has_not_given_its_last_word_on_stays() -> None:
    rig = Rig(automatic=False)
    rig.prefill.register_peer(metadata(rig, OLD))
    sender, _ = rig.open()
    sender.send(ids(0, 1))
    sender.abort()
    sender.poll()
    rig.clock.now += 6.0
    assert end(sender) is KVPoll.Failed
    rig.ended_peers[OLD] = "it does not exist any more"
    sweep(rig)
    assert rig.prefill.quarantined_pages() == {0, 1}


def test_the_next_process_of_the_name_is_asked_and_is_believed_about_its_own_place() -> None:
    rig = Rig(automatic=False)
    killed(rig)
    started_again(rig, NEW)
    sweep(rig)
    questions = rig.decodes["decode0"].agent.get_new_notifs()["prefill"]
    assert Question(OLD).to_bytes() in questions
    rig.agent.deliver("decode0", Statement(replace(OLD, pid=99), "another one").to_bytes())
    rig.prefill.drain()
    sweep(rig)
    assert rig.prefill.drained.refused == 1
    assert rig.prefill.quarantined_pages() == {0, 1}
    rig.agent.deliver("decode0", Statement(OLD, "it does not exist any more").to_bytes())
    rig.prefill.drain()
    sweep(rig)
    assert rig.prefill.quarantined_pages() == frozenset()


def test_a_process_in_another_place_is_neither_asked_nor_believed() -> None:
    rig = Rig(automatic=False)
    killed(rig)
    started_again(rig, ELSEWHERE)
    sweep(rig)
    assert "prefill" not in rig.decodes["decode0"].agent.get_new_notifs()
    rig.agent.deliver("decode0", Statement(OLD, "it does not exist any more").to_bytes())
    rig.prefill.drain()
    sweep(rig)
    assert rig.prefill.quarantined_pages() == {0, 1}


def test_a_fence_by_hand_says_which_process_where_there_are_several() -> None:
    rig = Rig(automatic=False)
    killed(rig)
    started_again(rig, NEW)
    sender, _ = rig.open(room=8)
    sender.send(ids(4))
    rig.fabric.kill("decode0")
    assert end(sender) is KVPoll.Failed
    with pytest.raises(KVUsageError, match="which process of 'decode0'"):
        rig.prefill.fence("decode0")
    assert rig.prefill.quarantined_pages() == {0, 1, 4}
    rig.prefill.fence("decode0", rig.decodes["decode0"].decode.metadata().incarnation)
    assert rig.prefill.quarantined_pages() == {0, 1}
    rig.prefill.fence("decode0")
    assert rig.prefill.quarantined_pages() == frozenset()


def test_the_decode_side_asks_the_next_prefill_process_about_the_one_before() -> None:
    rig = Rig()
    decode, agent = rig.decodes["decode0"].decode, rig.decodes["decode0"].agent
    known = replace(rig.prefill.introduction(), process=OLD)
    decode.add_initiator(known)
    receiver = decode.receiver(7, "prefill")
    receiver.init(ids(1, 2))
    agent.deliver("prefill", Introduction("prefill", known.agent_metadata, "next-1", NEW).to_bytes())
    rig.clock.now += 1.0
    rig.drain()
    assert Question(OLD).to_bytes() in rig.agent.get_new_notifs()["decode0"]
    agent.deliver("prefill", Statement(OLD, "it does not exist any more").to_bytes())
    for _ in range(4):
        rig.clock.now += 1.0
        rig.drain()
    assert receiver.poll() is KVPoll.Failed
    assert receiver.quarantined_pages() == frozenset()
