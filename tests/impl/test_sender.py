"""The reference sender on the scripted agent: what each method does, clause by clause."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
from tests.impl.rig import Rig, end, ids

from kvsender_nixl.exchange import FailureNotice, SuccessNotice, parse_notice
from kvsender_nixl.sender import KVSender
from kvsender_spec.contract import (
    Attribution,
    KVPoll,
    KVTransferError,
    KVUsageError,
    TransferAborted,
    TransferTimeout,
)
from kvsender_spec.faults import PROGRAMMING_KINDS, TRANSPORT_KINDS, Kind, Point
from kvsender_spec.machine import Profile


def failure(sender: KVSender[Any, Any]) -> KVTransferError:
    with pytest.raises(KVTransferError) as caught:
        sender.failure_exception()
    return caught.value


def released_once(rig: Rig) -> bool:
    """Every handle of the prefill side is released, none twice and none by the garbage collector (KS-4.3)."""
    gc.collect()
    made = {event.handle for event in rig.fabric.events if event.agent == "prefill" and event.answer == "made"}
    releases = [event for event in rig.fabric.events if event.agent == "prefill" and event.point is Point.RELEASE]
    given_back = [event.handle for event in releases if event.answer == "released"]
    return sorted(given_back, key=str) == sorted(made, key=str) and not rig.fabric.crimes


# --------------------------------------------------------------------------------------------------------- success


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
    assert (metric.chunks, metric.transfers, metric.notices_lost) == (2, 6, 0)


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


# -------------------------------------------------------------------------------------------------------- bootstrap


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
    assert rig.prefill.residue() == 0
    rig.drain()
    assert receiver.poll() is KVPoll.Failed
    assert not receiver.quarantined_pages()


# ----------------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize("point", [Point.MAKE, Point.POST, Point.CHECK], ids=lambda point: point.value)
@pytest.mark.parametrize("kind", TRANSPORT_KINDS, ids=lambda kind: kind.value)
def test_every_answer_of_the_transport_fails_the_room(point: Point, kind: Kind) -> None:
    if point is Point.MAKE and kind in (Kind.RETURNS_ERR, Kind.RETURNS_NONSENSE):
        pytest.skip("make returns a handle")
    rig = Rig(automatic=False)
    sender, receivers = rig.open()
    rig.arm(point, kind)
    sender.send(ids(0, 1))
    answer = sender.poll()
    if point is Point.CHECK:
        assert answer is KVPoll.Failed
    assert end(sender) is KVPoll.Failed
    error = failure(sender)
    cause = error.__cause__
    assert cause is not None
    assert cause.__traceback__ is None
    assert f"{type(cause).__name__}: {cause}" in error.reason
    raised = [event.error for event in rig.fabric.events if event.error is not None]
    if raised:
        assert cause is raised[0]
    else:
        assert ("ERR" if kind is Kind.RETURNS_ERR else "LOST") in error.reason
    assert error.attribution is (Attribution.PEER if kind is Kind.REMOTE_DISCONNECT else Attribution.LOCAL)
    assert str(failure(sender)) == str(error)
    events = len(rig.fabric.events)
    sender.send(ids(2))
    assert sender.poll() is KVPoll.Failed
    assert len(rig.fabric.events) == events
    assert rig.prefill.quarantined_pages() == (frozenset() if point is Point.MAKE else frozenset({0, 1}))
    sender.clear()
    assert sender.poll() is KVPoll.Failed
    assert str(failure(sender)) == str(error)
    assert rig.prefill.residue() == 0
    assert released_once(rig)
    if kind is not Kind.REMOTE_DISCONNECT:
        rig.drain()
        assert receivers[0].poll() is KVPoll.Failed
        assert receivers[0].quarantined_pages() == (frozenset() if point is Point.MAKE else frozenset({5, 6, 7}))
    rig.prefill.fence("decode0")
    assert not rig.prefill.quarantined_pages()


@pytest.mark.parametrize("point", list(Point), ids=lambda point: point.value)
@pytest.mark.parametrize("kind", PROGRAMMING_KINDS, ids=lambda kind: kind.value)
def test_mistakes_are_not_shown_as_transport_failures(
    point: Point, kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig()
    sender, _ = rig.open()
    rig.arm(point, kind)
    sender.send(ids(0, 1, 2))
    answer = end(sender)
    assert any(record.exc_info for record in caplog.records)
    if point is Point.NOTIFY:  # the room is over, and the bytes are there
        assert answer is KVPoll.Success
        assert sender.get_transfer_metric().notices_lost == 1
        return
    assert answer is KVPoll.Failed
    error = failure(sender)
    assert error.attribution is Attribution.INTERNAL
    assert error.__cause__ in [event.error for event in rig.fabric.events]
    rig.prefill.sweep()
    sender.clear()
    assert released_once(rig)


@pytest.mark.parametrize("point", list(Point), ids=lambda point: point.value)
def test_interrupts_leave_and_drop_nothing(point: Point) -> None:
    rig = Rig()
    sender, _ = rig.open()
    rig.arm(point, Kind.KEYBOARD_INTERRUPT)

    def run() -> KVPoll:
        sender.send(ids(0, 1, 2))
        return end(sender)

    with pytest.raises(KeyboardInterrupt):
        run()
    expected = KVPoll.Failed if point in (Point.MAKE, Point.POST) else KVPoll.Success
    assert end(sender) is expected
    assert released_once(rig)


def test_a_make_error_posts_nothing() -> None:
    rig = Rig(peers=("decode0", "decode1"))
    sender, _ = rig.open()
    rig.arm(Point.MAKE, Kind.BACKEND, 3)
    sender.send(ids(0, 1, 2))
    assert sender.poll() is KVPoll.Failed
    assert not [event for event in rig.fabric.events if event.point is Point.POST]
    assert not rig.prefill.quarantined_pages()
    assert released_once(rig)


def test_quiescent_waits_for_the_siblings() -> None:
    rig = Rig(automatic=False)
    sender, _ = rig.open()
    for page in range(3):
        sender.send(ids(page))
    first, second, *rest = rig.flying()
    rig.fabric.fail(first, Kind.BACKEND)
    for _ in range(3):
        assert sender.poll() is KVPoll.Transferring
    for handle in (second, *rest):
        rig.fabric.finish(handle)
    assert sender.poll() is KVPoll.Failed
    assert rig.prefill.quarantined_pages() == {0}
    assert released_once(rig)


def test_an_error_that_ends_the_reads_frees_the_pages() -> None:
    rig = Rig(error_ends_reads=True)
    sender, _ = rig.open()
    rig.arm(Point.CHECK, Kind.BACKEND)
    sender.send(ids(0))
    assert sender.poll() is KVPoll.Failed
    assert not rig.prefill.quarantined_pages()


def test_latch_reports_at_once_and_the_ledger_settles() -> None:
    rig = Rig(profile=Profile.LATCH, automatic=False)
    sender, _ = rig.open()
    for page in range(3):
        sender.send(ids(page))
    first, *others = rig.flying()
    rig.fabric.fail(first, Kind.BACKEND)
    assert sender.poll() is KVPoll.Failed
    assert rig.prefill.quarantined_pages() == {0, 1, 2}
    assert rig.prefill.quarantined_aux_slots() == {2}
    del first
    for _ in range(3):
        assert rig.prefill.sweep() == 3
    for handle in others:
        rig.fabric.finish(handle)
    del handle, others
    assert rig.prefill.sweep(1) == 2
    assert rig.prefill.sweep() == 0
    assert rig.prefill.quarantined_pages() == {0}
    assert not rig.prefill.quarantined_aux_slots()
    assert released_once(rig)


def test_transfer_deadline_and_drain_deadline() -> None:
    rig = Rig(automatic=False)
    sender, receivers = rig.open()
    sender.send(ids(0))
    rig.clock.now += 10
    sender.send(ids(1, 2))
    rig.clock.now += 19.9
    assert sender.poll() is KVPoll.Transferring
    rig.fabric.finish(rig.flying()[0])
    rig.clock.now += 0.1
    assert sender.poll() is KVPoll.Transferring  # the first chunk is done, the others have 10 s left
    rig.clock.now += 10
    assert sender.poll() is KVPoll.Transferring
    rig.clock.now += 4.9
    assert sender.poll() is KVPoll.Transferring
    rig.clock.now += 0.1
    assert sender.poll() is KVPoll.Failed
    assert failure(sender).attribution is Attribution.DEADLINE
    assert rig.prefill.quarantined_pages() == {1, 2}
    rig.drain()
    assert receivers[0].poll() is KVPoll.Failed
    assert receivers[0].quarantined_pages() == {5, 6, 7}
    for handle in rig.flying():
        rig.fabric.finish(handle)
    rig.prefill.sweep()
    assert sender.poll() is KVPoll.Failed
    assert not rig.prefill.quarantined_pages()
    del handle
    assert released_once(rig)


def test_a_completion_beats_the_deadline() -> None:
    rig = Rig(automatic=False)
    sender, _ = rig.open()
    for page in range(3):
        sender.send(ids(page))
    for handle in rig.flying():
        rig.fabric.finish(handle)
    rig.clock.now += 1000
    assert sender.poll() is KVPoll.Success


def test_release_that_raises_is_tried_again() -> None:
    rig = Rig()
    sender, _ = rig.open()
    rig.arm(Point.RELEASE, Kind.REPOST_ACTIVE)
    sender.send(ids(0, 1, 2))
    assert end(sender) is KVPoll.Success
    assert not released_once(rig)
    assert rig.prefill.sweep() == 0
    assert released_once(rig)


# -------------------------------------------------------------------------------------------------- abort and clear


def test_abort_tells_the_peers_once() -> None:
    rig = Rig(peers=("decode0", "decode1"))
    sender, _ = rig.open()
    for _ in range(3):
        sender.abort()
    sender.send(ids(0))
    assert sender.poll() is KVPoll.Failed
    sender.abort()
    error = failure(sender)
    assert error.attribution is Attribution.OWNER
    assert isinstance(error.__cause__, TransferAborted)
    for side in rig.decodes.values():
        (message,) = side.agent.get_new_notifs()["prefill"]
        notice = parse_notice(message)
        assert isinstance(notice, FailureNotice)
        assert "aborted" in notice.reason
        assert notice.quiet


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


def test_clear_while_live_drains_without_its_owner() -> None:
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


# ------------------------------------------------------------------------------------------------------------ peers


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


def test_a_lost_success_notice_does_not_change_success() -> None:
    rig = Rig()
    sender, receivers = rig.open()
    rig.arm(Point.NOTIFY, Kind.BACKEND)
    sender.send(ids(0, 1, 2))
    rig.arm(Point.NOTIFY, Kind.BACKEND)
    assert end(sender) is KVPoll.Success
    assert sender.get_transfer_metric().notices_lost == 1
    rig.drain()
    assert receivers[0].poll() is KVPoll.Transferring


def test_success_is_told_after_everything_else() -> None:
    rig = Rig()
    sender, _ = rig.open()
    sender.send(ids(0, 1, 2))
    assert end(sender) is KVPoll.Success
    messages = rig.decodes["decode0"].agent.get_new_notifs()["prefill"]
    kinds = [type(parse_notice(message)) for message in messages]
    assert kinds.index(SuccessNotice) == len(kinds) - 1 == 2


# -------------------------------------------------------------------------------------------------------- bad input


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
