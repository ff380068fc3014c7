"""What the sender makes of every answer of the transport, and of its silence."""

from __future__ import annotations

import pytest
from tests.impl.rig import Rig, end, failure, ids, released_once

from kvsender_spec.contract import (
    Attribution,
    KVPoll,
)
from kvsender_spec.faults import PROGRAMMING_KINDS, TRANSPORT_KINDS, Kind, Point
from kvsender_spec.machine import Profile

RETURNED = (Kind.RETURNS_ERR, Kind.RETURNS_NONSENSE)
ANSWERS = [
    pytest.param(point, kind, id=f"{point.value}={kind.value}")
    for point in (Point.MAKE, Point.POST, Point.CHECK)
    for kind in TRANSPORT_KINDS
    if point is not Point.MAKE or kind not in RETURNED  # a make returns a handle
]


@pytest.mark.parametrize(("point", "kind"), ANSWERS)
def test_every_answer_of_the_transport_fails_the_room(point: Point, kind: Kind) -> None:
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
        assert sender.get_transfer_metric().notifications_lost == 1
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
    for _ in range(4):  # nobody looked for 10 s
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


def questions(rig: Rig) -> int:
    return sum(event.point is Point.CHECK for event in rig.fabric.events)


def test_what_a_failed_room_asks_in_one_call_does_not_grow_with_its_chunks() -> None:
    rig = Rig(automatic=False, pages=200)
    sender, _ = rig.open(pages=tuple(range(200)), aux=None)
    for page in range(200):
        sender.send(ids(page))
    sender.abort()
    for _ in range(20):
        before = questions(rig)
        assert sender.poll() is KVPoll.Transferring
        assert questions(rig) - before <= 16
    for handle in rig.flying():
        rig.fabric.finish(handle)
    del handle
    assert end(sender, 14) is KVPoll.Failed, "each of them is asked in its turn"
    assert not rig.prefill.quarantined_pages()
    assert released_once(rig)


def test_what_a_sweep_asks_does_not_grow_with_what_is_left() -> None:
    rig = Rig(automatic=False, pages=40)
    for room in range(20):
        sender, _ = rig.open(room=room, pages=tuple(range(40)), aux=None)
        for page in range(40):
            sender.send(ids(page))
        sender.clear()
    for seconds in (0.0, 6.0, 0.0):
        rig.clock.now += seconds
        for _ in range(10):
            before = questions(rig)
            rig.prefill.sweep()
            assert questions(rig) - before <= 64
    for handle in rig.flying():
        rig.fabric.finish(handle)
    del handle
    for _ in range(40):
        rig.prefill.sweep()
    assert rig.prefill.residue() == 0
    assert not rig.prefill.quarantined_pages()
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


def test_an_owner_that_was_away_for_longer_than_the_timeout_is_no_failure() -> None:
    """Without a progress thread nothing moves while nobody looks; then the first looks move it."""
    rig = Rig(automatic=False)
    sender, receivers = rig.open()
    sender.send(ids(0, 1, 2))
    rig.clock.now += 1000
    assert sender.poll() is KVPoll.Transferring
    rig.clock.now += 0.5
    assert sender.poll() is KVPoll.Transferring
    for handle in rig.flying():
        rig.fabric.finish(handle)
    assert end(sender) is KVPoll.Success
    rig.drain()
    assert receivers[0].poll() is KVPoll.Success


@pytest.mark.parametrize("step", [0.01, 0.5, 2.0, 100.0])
def test_an_owner_that_looks_seldom_comes_to_an_end_all_the_same(step: float) -> None:
    rig = Rig(automatic=False)
    sender, _ = rig.open()
    sender.send(ids(0, 1, 2))
    rig.clock.now += 1000
    for _ in range(1 + max(4, int(1.1 / step))):
        sender.poll()
        rig.clock.now += step
    rig.clock.now += 10
    assert end(sender) is KVPoll.Failed
    assert failure(sender).attribution is Attribution.DEADLINE


def test_a_room_whose_owner_was_away_takes_what_its_peers_have_sent_before_it_gives_up() -> None:
    rig = Rig()
    sender = rig.prefill.sender(7)
    sender.init(3, 2)
    [(_, info)] = rig.infos(7, (5, 6, 7)).values()
    rig.agent.deliver("decode0", info.to_bytes())
    rig.clock.now += 1000
    assert sender.poll() is KVPoll.Bootstrapping
    rig.prefill.drain()
    assert sender.poll() is KVPoll.WaitingForInput


def test_release_that_raises_is_tried_again() -> None:
    rig = Rig()
    sender, _ = rig.open()
    rig.arm(Point.RELEASE, Kind.REPOST_ACTIVE)
    sender.send(ids(0, 1, 2))
    assert end(sender) is KVPoll.Success
    assert not released_once(rig)
    assert rig.prefill.sweep() == 0
    assert released_once(rig)
