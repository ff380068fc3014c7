"""Peers that die, come back, and do not fit."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.impl.rig import ERRORS, Rig, end, failure, ids, released_once

from kvsender_nixl.notifications import SuccessNotification, parse_notification
from kvsender_nixl.peers import DISCONNECT, NOT_FOUND, Connection, Peers, PeerState
from kvsender_nixl.sender import KVSender
from kvsender_spec.contract import (
    Attribution,
    KVPoll,
    KVUsageError,
)
from kvsender_spec.faults import Kind, Point


@pytest.mark.parametrize("drops_metadata", [False, True])
def test_a_dead_peer_fails_its_rooms_only_and_comes_back(drops_metadata: bool) -> None:
    rig = Rig(peers=("decode0", "decode1"), automatic=False, drops_metadata=drops_metadata)

    def open_at(room: int, name: str) -> KVSender[Any, Any]:
        receiver = rig.decodes[name].decode.receiver(room, "prefill")
        rig.prefill.add_transfer_info(receiver.init(ids(4)))
        sender = rig.prefill.sender(room)
        sender.init(1)
        return sender

    doomed, other, second = open_at(1, "decode0"), open_at(2, "decode1"), open_at(3, "decode0")
    for page, sender in enumerate((doomed, other, second)):
        sender.send(ids(page))
    rig.fabric.kill("decode0")
    assert doomed.poll() is KVPoll.Failed
    assert second.poll() is KVPoll.Failed
    assert failure(doomed).attribution is failure(second).attribution is Attribution.PEER
    assert other.poll() is KVPoll.Transferring
    rig.fabric.finish(rig.flying()[0])
    assert other.poll() is KVPoll.Success

    rig.start("decode0")
    connects = len(rig.fabric.connects)
    rig.prefill.register_peer(rig.decodes["decode0"].decode.metadata())
    rig.prefill.register_peer(rig.decodes["decode0"].decode.metadata())
    assert len(rig.fabric.connects) == connects + 1
    again = open_at(4, "decode0")
    again.send(ids(5))
    rig.fabric.finish(rig.flying()[0])
    assert again.poll() is KVPoll.Success
    assert rig.same_bytes("decode0", (5,), (4,))
    assert rig.prefill.quarantined_pages() == {0, 2}
    rig.prefill.fence("decode0")
    assert not rig.prefill.quarantined_pages()


def test_a_live_peer_with_a_broken_connection_is_remade_when_it_asks_again() -> None:
    rig = Rig()
    sender, _ = rig.open()
    rig.fabric.disconnect("prefill", "decode0")
    sender.send(ids(0))
    assert sender.poll() is KVPoll.Failed
    again, receivers = rig.open(room=8)
    again.send(ids(1, 2, 3))
    assert end(again) is KVPoll.Success
    rig.drain()
    assert receivers[0].poll() is KVPoll.Success


def test_rooms_wait_while_their_peer_is_reconnected_in_the_background() -> None:
    rig = Rig(inline=False)
    lost, _ = rig.open()
    lost.send(ids(0))
    rig.start("decode0")  # restarted, and nobody has noticed
    rig.prefill.register_peer(rig.decodes["decode0"].decode.metadata())
    rig.prefill.register_peer(rig.decodes["decode0"].decode.metadata())
    assert len(rig.spawned) == 1
    sender, receivers = rig.open(room=8)
    assert sender.poll() is KVPoll.Bootstrapping
    rig.run_spawned()
    assert sender.poll() is KVPoll.WaitingForInput
    sender.send(ids(1, 2, 3))
    assert end(sender) is KVPoll.Success
    rig.drain()
    assert receivers[0].poll() is KVPoll.Success
    assert end(lost) is KVPoll.Failed
    assert failure(lost).attribution is Attribution.PEER
    lost.send(ids(1))


def test_a_room_does_not_go_on_over_a_new_connection() -> None:
    rig = Rig()
    sender, _ = rig.open()
    sender.send(ids(0))
    rig.start("decode0")
    rig.prefill.register_peer(rig.decodes["decode0"].decode.metadata())
    sender.send(ids(1))
    assert end(sender) is KVPoll.Failed
    assert "started over" in failure(sender).reason


def test_a_peer_that_cannot_be_connected_stays_broken_and_is_tried_again() -> None:
    rig = Rig()
    metadata = rig.decodes["decode0"].decode.metadata()
    infos = rig.infos(7, (5, 6, 7))
    rig.fabric.kill("decode0")
    sender, _ = rig.open(room=6)
    sender.send(ids(0))
    assert end(sender) is KVPoll.Failed
    rig.prefill.register_peer(metadata)  # it is dead: this fails
    rig.prefill.add_transfer_info(infos["decode0"][1])
    sender = rig.prefill.sender(7)
    sender.init(3)
    assert sender.poll() is KVPoll.WaitingForInput
    sender.send(ids(0))
    assert end(sender) is KVPoll.Failed
    assert failure(sender).attribution is Attribution.PEER
    rig.start("decode0")
    rig.prefill.register_peer(rig.decodes["decode0"].decode.metadata())
    again, _ = rig.open(room=9)
    again.send(ids(1, 2, 3))
    assert end(again) is KVPoll.Success


def test_an_old_process_that_still_asks_is_refused_when_a_new_one_has_registered() -> None:
    """A rolling update: the page ids of the old process are no pages of the new one's."""
    rig = Rig()
    old = rig.decodes["decode0"]
    (receiver, late), (aborted, early) = (rig.infos(room, (5, 6, 7))["decode0"] for room in (7, 8))
    rig.prefill.add_transfer_info(early)
    new = rig.start("decode0")
    rig.prefill.register_peer(new.decode.metadata())
    for message in (late, aborted.abort_request()):
        rig.agent.deliver("decode0", message.to_bytes())
    rig.prefill.drain()
    assert rig.prefill.drained.refused == 2
    with pytest.raises(KVUsageError, match=f"'{late.incarnation}' of peer 'decode0' speaks, and '.*' has registered"):
        rig.prefill.add_transfer_info(late)
    assert late.incarnation == old.decode.metadata().incarnation != new.decode.metadata().incarnation
    sender = rig.prefill.sender(7)
    sender.init(3)
    assert sender.poll() is KVPoll.Bootstrapping, "the old process's room is not open"
    del receiver


def test_newer_metadata_of_the_same_process_harm_nothing_that_is_under_way() -> None:
    rig = Rig(automatic=False)
    side = rig.decodes["decode0"]
    sender, receivers = rig.open()
    sender.send(ids(0))
    waiting, _ = rig.open(room=8, pages=(1,), aux=None)
    more = torch.zeros(64, dtype=torch.uint8)
    side.agent.register_memory([(more.data_ptr(), 64, 0, "")], "DRAM")
    newer = side.decode.metadata()
    for _ in range(2):
        rig.prefill.register_peer(newer)
    sender.send(ids(1, 2))
    waiting.send(ids(3))
    assert sender.poll() is KVPoll.Transferring
    for handle in rig.flying():
        rig.fabric.finish(handle)
    assert end(sender) is end(waiting) is KVPoll.Success
    rig.drain()
    assert receivers[0].poll() is KVPoll.Success
    del handle
    assert released_once(rig)
    with pytest.raises(KVUsageError, match="is the same process, and names other buffers"):
        rig.prefill.register_peer(replace(newer, kv=replace(newer.kv, device=1)))


def test_newer_metadata_that_nixl_refuses_harm_nothing_either() -> None:
    rig = Rig(automatic=False)
    sender, _ = rig.open()
    sender.send(ids(0))
    rig.prefill.register_peer(replace(rig.decodes["decode0"].decode.metadata(), agent_metadata=b"nonsense"))
    sender.send(ids(1, 2))
    for handle in rig.flying():
        rig.fabric.finish(handle)
    assert end(sender) is KVPoll.Success


def test_an_offer_that_does_not_fit_is_the_peers_fault() -> None:
    rig = Rig()
    receiver = rig.decodes["decode0"].decode.receiver(7, "prefill")
    rig.prefill.add_transfer_info(receiver.init(ids(4, 5)))
    sender = rig.prefill.sender(7)
    sender.init(3)
    sender.send(ids(0))
    assert end(sender) is KVPoll.Failed
    assert failure(sender).attribution is Attribution.PEER
    assert "offers 2 pages for 3" in failure(sender).reason


def test_a_lost_success_notification_does_not_change_success() -> None:
    rig = Rig()
    sender, receivers = rig.open()
    rig.arm(Point.NOTIFY, Kind.BACKEND)
    sender.send(ids(0, 1, 2))
    rig.arm(Point.NOTIFY, Kind.BACKEND)
    assert end(sender) is KVPoll.Success
    assert sender.get_transfer_metric().notifications_lost == 1
    rig.drain()
    assert receivers[0].poll() is KVPoll.Transferring


def test_success_is_told_after_everything_else() -> None:
    rig = Rig()
    sender, _ = rig.open()
    sender.send(ids(0, 1, 2))
    assert end(sender) is KVPoll.Success
    messages = rig.decodes["decode0"].agent.get_new_notifs()["prefill"]
    kinds = [type(parse_notification(message)) for message in messages]
    assert kinds.index(SuccessNotification) == len(kinds) - 1 == 2


def test_only_the_first_connection_of_a_peer_is_waited_for() -> None:
    rig = Rig(inline=False)
    assert rig.fabric.connects
    assert rig.spawned == []
    sender, _ = rig.open()
    rig.fabric.disconnect("prefill", "decode0")
    sender.send(ids(0))
    assert sender.poll() is KVPoll.Failed
    connects = len(rig.fabric.connects)
    rig.open(room=8)  # it asks again, and a loop must not wait for a connection
    assert (len(rig.spawned), len(rig.fabric.connects)) == (1, connects)
    rig.open(room=9)
    assert len(rig.spawned) == 1
    rig.run_spawned()
    assert len(rig.fabric.connects) == connects + 1


# ------------------------------------------------------------------------------------------------ the table of peers


def connected(rig: Rig) -> tuple[Peers[Any, Any], Connection[Any]]:
    """A table of peers of its own, which knows the rig's decode side, and the connection to it."""
    transport: Any = rig.fabric.agent("another prefill", scripted=True)
    peers: Peers[Any, Any] = Peers(transport, rig.pool.layout, rig.aux.layout, ERRORS, spawn=lambda work: work())
    peers.register(rig.decodes["decode0"].decode.metadata())
    return peers, connection_of(peers)


def connection_of(peers: Peers[Any, Any]) -> Connection[Any]:
    peer = peers.get("decode0")
    assert peer is not None
    assert peer.connection is not None
    return peer.connection


def released(connection: Connection[Any]) -> list[bool]:
    assert connection.aux is not None
    return [connection.kv.released, connection.aux.released]


def test_the_lists_of_a_connection_live_until_its_last_user_has_posted() -> None:
    rig = Rig()
    peers, old = connected(rig)
    assert peers.borrow([old]) is None
    assert peers.borrow([old]) is None
    replacing = threading.Thread(target=peers.register, args=(rig.start("decode0").decode.metadata(),), daemon=True)
    replacing.start()
    for _ in range(2):
        replacing.join(0.05)
        assert replacing.is_alive()
        assert released(old) == [False, False]
        peers.give_back([old])
    replacing.join(30)
    assert not replacing.is_alive()
    assert released(old) == [True, True]
    assert peers.borrow([connection_of(peers), old]) is old
    assert connection_of(peers).users == 0


def test_closing_releases_every_list() -> None:
    peers, connection = connected(Rig())
    peers.close()
    assert peers.get("decode0") is None
    assert released(connection) == [True, True]


def test_the_first_error_of_a_connection_is_the_one_that_is_kept() -> None:
    rig = Rig()
    peers, connection = connected(rig)
    first, second = (rig.fabric.errors[DISCONNECT](str(number)) for number in range(2))
    for error in (first, second):
        assert peers.blame(error, "decode0", None) is Attribution.PEER
    peer = peers.get("decode0")
    assert peer is not None
    assert (peer.state, peer.error, connection.error) == (PeerState.BROKEN, first, first)


def test_an_error_over_an_old_connection_does_not_break_the_new_one() -> None:
    rig = Rig()
    peers, old = connected(rig)
    peers.register(rig.start("decode0").decode.metadata())
    assert peers.blame(rig.fabric.errors[DISCONNECT](), "decode0", old) is Attribution.PEER
    peer = peers.get("decode0")
    assert peer is not None
    assert (peer.state, connection_of(peers).error) == (PeerState.CONNECTED, None)


def test_a_not_found_is_the_peers_only_where_its_connection_is_lost_or_its_metadata_is_gone() -> None:
    rig = Rig()
    peers, connection = connected(rig)
    not_found = rig.fabric.errors[NOT_FOUND]()
    assert peers.blame(not_found, "decode0", connection) is Attribution.LOCAL
    assert connection.error is None
    connection.error = rig.fabric.errors[DISCONNECT]()
    assert peers.blame(not_found, "decode0", connection) is Attribution.PEER
    rig = Rig()
    fresh, connection = connected(rig)
    rig.fabric.agents["another prefill"].remove_remote_agent("decode0")
    assert fresh.blame(not_found, "decode0", None) is Attribution.PEER
    assert connection.error is not_found
    assert fresh.blame(rig.fabric.errors["nixlBackendError"](), "decode0", None) is Attribution.LOCAL


def test_a_peer_that_registers_anew_while_it_is_being_connected_is_connected_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Rig()
    peers, _ = connected(rig)
    agent = rig.fabric.agents["another prefill"]
    add = agent.add_remote_agent
    metadata = [rig.start("decode0").decode.metadata() for _ in range(2)]

    def overtaken(agent_metadata: bytes) -> bytes:
        monkeypatch.undo()
        peers.register(metadata[1])
        assert peers.connecting("decode0")
        return add(agent_metadata)

    monkeypatch.setattr(agent, "add_remote_agent", overtaken)
    peers.register(metadata[0])
    assert not peers.connecting("decode0")
    assert connection_of(peers).metadata == metadata[1]


def test_a_connection_that_cannot_be_prepared_leaves_no_list_and_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Rig()
    peers, _ = connected(rig)
    agent = rig.fabric.agents["another prefill"]
    prepare = agent.prep_xfer_dlist
    made: list[Any] = []

    def second_fails(*arguments: Any) -> object:
        if made:
            raise rig.fabric.errors["nixlBackendError"]("no more lists")
        made.append(prepare(*arguments))
        return made[0]

    monkeypatch.setattr(agent, "prep_xfer_dlist", second_fails)
    metadata = rig.start("decode0").decode.metadata()
    peers.register(metadata)
    peer = peers.get("decode0")
    assert peer is not None
    assert (peer.state, peer.connection, str(peer.error)) == (PeerState.BROKEN, None, "no more lists")
    assert made[0].released
    monkeypatch.undo()
    peers.register(metadata)
    assert peer.state is PeerState.CONNECTED
    assert connection_of(peers).metadata == metadata
