"""The holder on the scripted agent: what it holds, until when, what it tells, and what it is told."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from tests.impl.holding import DONE, FAILED, LET_GO, QUIESCED, Holding
from tests.impl.rig import ids

from kvsender_nixl.held import HeldRoom, ReaderFailed
from kvsender_nixl.holding import MOST_EARLY, Evidence, HolderOptions
from kvsender_nixl.notifications import (
    ChunkNotification,
    FailureNotification,
    Notification,
    RenewNotification,
    SuccessNotification,
)
from kvsender_nixl.status import AbortRequest
from kvsender_spec.contract import Attribution, KVPoll, KVTransferError, KVUsageError, TransferAborted, TransferTimeout
from kvsender_spec.faults import Fault, Kind, Point

NOTHING: frozenset[int] = frozenset()


def cause(held: HeldRoom) -> KVTransferError:
    with pytest.raises(KVTransferError) as caught:
        held.failure_exception()
    return caught.value


def refused(side: Holding, *pages: int) -> str:
    with pytest.raises(KVUsageError) as caught, side.holder.refilling(ids(*pages)):
        raise AssertionError("it is refilled")
    return str(caught.value)


# ----------------------------------------------------------------------------------------------------- the hold


def test_pages_are_held_before_anything_is_told_and_freed_by_the_end_notice() -> None:
    side = Holding()
    held = side.hold(1, 2, granted=False)
    assert side.holder.held_pages() == {1, 2}
    assert held.poll() is KVPoll.Bootstrapping
    grant = held.grant("decode0")
    assert grant is not None
    assert (grant.room, grant.token, grant.agent_name, grant.lease_s) == (7, "t", "prefill", 30.0)
    assert grant.stamps.tolist() == [2, 2]
    assert held.poll() is KVPoll.WaitingForInput
    assert refused(side, 2, 3) == "page 2 is held for a room"
    side.say(DONE)
    assert held.poll() is KVPoll.Success
    assert (side.holder.held_pages(), side.holder.quarantined_pages(), held.quarantined_pages()) == (NOTHING,) * 3
    side.refill(1, 2)
    held.clear()
    assert side.holder.residue() == 0


def test_a_page_that_several_rooms_grant_is_held_for_each_of_them() -> None:
    side = Holding()
    first, second = side.hold(1, 2), side.hold(2, 3, room=8, token="u")
    side.say(DONE)
    assert (first.poll(), second.poll()) == (KVPoll.Success, KVPoll.WaitingForInput)
    assert side.holder.held_pages() == {2, 3}


def test_a_room_without_pages_ends_as_others_do() -> None:
    side = Holding()
    held = side.holder.hold(7, ids(), ("decode0",), token="t")
    assert held.grant("decode0") is not None
    side.say(DONE)
    assert held.poll() is KVPoll.Success


def test_only_content_that_was_written_within_refilling_is_held() -> None:
    side = Holding()
    with pytest.raises(RuntimeError, match="no more"), side.holder.refilling(ids(4)):
        raise RuntimeError("no more")
    with pytest.raises(KVUsageError, match="page 4 has no content: it was never filled within refilling"):
        side.hold(3, 4)
    assert side.holder.held_pages() == NOTHING
    with side.holder.refilling(ids(5, 4)) as stamps:
        assert refused(side, 4) == "page 4 is being refilled already"
        with pytest.raises(KVUsageError, match="page 4 is being refilled"):
            side.hold(4)
    side.hold(5, 4, stamps=stamps)
    side.say(DONE)
    side.refill(5)
    with pytest.raises(KVUsageError, match="page 5 has been refilled"):
        side.hold(5, 4, token="u", stamps=stamps)
    with pytest.raises(KVUsageError, match=r"stamps is int64 of shape \(1,\), for pages of \(1,\)"):
        side.hold(4, token="u", stamps=np.array([2]))


# ------------------------------------------------------------------------------------------------------ the lease


def test_the_end_of_a_lease_ends_the_request_and_not_the_hold() -> None:
    side = Holding()
    held = side.hold()
    side.clock.now += 29.9
    assert held.poll() is KVPoll.WaitingForInput
    side.clock.now += 0.2
    assert held.poll() is KVPoll.Failed
    error = cause(held)
    assert error.attribution is Attribution.DEADLINE
    assert isinstance(error.__cause__, TransferTimeout)
    assert "no end from ['decode0'] within the lease of 30.0 s" in str(error)
    assert side.told() == [side.lost()]
    assert side.holder.quarantined_pages() == held.quarantined_pages() == {1, 2}
    assert refused(side, 1) == "page 1 is in quarantine: a reader of a room that has ended may still read it"
    assert held.grant("decode0") is None
    held.abort()
    held.clear()
    assert side.told() == [], "it is told once"
    assert side.holder.residue() == 1
    side.say(DONE)
    assert held.poll() is KVPoll.Failed
    assert side.holder.quarantined_pages() == NOTHING
    assert side.holder.residue() == 0


def test_a_lease_begins_with_the_grant_and_renewals_never_shorten_it() -> None:
    side = Holding()
    held = side.hold(granted=False, lease_s=100.0)
    side.clock.now += 60
    held.grant("decode0")
    end = held.lease_end
    assert end == side.clock.now + 100
    side.renew((7, "t"))
    assert held.lease_end == end
    side.clock.now += 60
    side.renew((7, "t"))
    assert held.lease_end == end + 60
    assert held.poll() is KVPoll.Transferring
    assert side.told() == []


def test_a_renewal_after_the_end_is_answered_lost_each_time() -> None:
    side = Holding()
    held = side.hold()
    side.clock.now += 30.0
    side.renew((7, "t"))
    assert side.told() == [side.lost()]
    assert held.poll() is KVPoll.Failed
    assert side.told() == [side.lost()]
    side.renew((7, "t"))
    assert side.told() == [side.lost()]
    assert (side.holder.drained.lapsed, side.holder.drained.renewed) == (2, 0)


def test_a_renewal_that_has_no_lease_is_answered_lost_and_the_others_of_it_are_renewed() -> None:
    side = Holding(2)
    held = side.hold()
    side.clock.now += 10
    side.renew((7, "t"), (8, "t"), (9, "u"))
    assert side.told() == [side.lost(8), side.lost(9, "u")]
    assert held.lease_end == side.clock.now + 30
    side.say(DONE)
    side.clock.now += 10
    side.renew((7, "t"))
    assert side.told() == [side.lost()], "its part of the room is over"
    side.renew((7, "t"), name="stranger")
    assert (side.holder.drained.lapsed, side.holder.drained.renewed) == (4, 1)
    assert held.lease_end == side.clock.now + 20


@pytest.mark.parametrize("lease", [20.0, 15.0])
def test_a_lease_is_longer_than_its_readers_may_take(lease: float) -> None:
    side = Holding()
    why = f"a lease of {lease} s is not longer than its readers may take, which is 20.0 s"
    with pytest.raises(KVUsageError, match=why):
        HolderOptions(lease_s=lease)
    with pytest.raises(KVUsageError, match=why):
        side.hold(lease_s=lease)
    with pytest.raises(KVUsageError, match=r"a lease of 30.0 s is not .* which is 40.0 s"):
        side.hold(reader_deadline_s=40.0)
    assert side.holder.held_pages() == NOTHING
    side.hold(lease_s=lease, reader_deadline_s=10.0)


def test_an_end_notice_that_is_there_comes_before_the_end_of_the_lease() -> None:
    for ask in ("poll", "sweep"):
        side = Holding()
        held = side.hold()
        side.clock.now += 31
        side.agent.deliver("decode0", DONE.to_bytes())
        if ask == "sweep":
            side.holder.sweep()
        assert held.poll() is KVPoll.Success


def test_a_sweep_looks_at_all_leases_and_is_bounded() -> None:
    side = Holding()
    rooms = [side.hold(1, room=number, token=f"t{number}") for number in range(6)]
    for _ in range(4):
        side.clock.now += 10
        side.renew((0, "t0"))
    side.holder.sweep(3)
    assert [held.over for held in rooms] == [False, True, True, False, False, False]
    side.holder.sweep(3)
    assert [held.over for held in rooms] == [False, True, True, True, True, True]
    side.clock.now += 31
    side.holder.sweep()
    assert rooms[0].over


def test_clocks_that_are_apart_change_nothing() -> None:
    side = Holding()
    held = side.hold(granted=False)
    grant = held.grant("decode0")
    assert grant is not None
    decode = side.decodes["decode0"]
    decode.add_transfer_info(grant)
    for _ in range(20):
        side.clock.now += 5
        side.readers_clock.now += 5
        decode.sweep()
        side.holder.drain()
        side.holder.sweep()
    assert held.poll() is KVPoll.Transferring
    assert side.holder.drained.renewed == 20


# ---------------------------------------------------------------------------------------------------------- ends


def test_every_announced_reader_is_waited_for_and_the_same_one_counts_once() -> None:
    side = Holding(3)
    held = side.hold()
    side.say(DONE, name="stranger")
    assert held.poll() is KVPoll.WaitingForInput
    side.say(DONE, DONE, DONE)
    assert held.poll() is KVPoll.Transferring
    side.say(DONE, name="decode2")
    assert held.poll() is KVPoll.Transferring
    side.say(DONE, name="decode1")
    assert held.poll() is KVPoll.Success
    assert (side.holder.drained.ends, side.holder.drained.stray) == (3, 3)


def test_one_reader_that_fails_does_not_end_the_lease_of_its_siblings() -> None:
    side = Holding(2)
    held = side.hold()
    side.say(FAILED)
    assert held.poll() is KVPoll.Transferring
    side.renew((7, "t"), name="decode1")
    assert side.told("decode1") == []
    assert side.holder.held_pages() == {1, 2}
    side.say(DONE, name="decode1")
    assert held.poll() is KVPoll.Failed
    error = cause(held)
    assert error.attribution is Attribution.PEER
    assert isinstance(error.__cause__, ReaderFailed)
    assert error.reason == "ReaderFailed: 'decode0': broken"
    assert side.holder.quarantined_pages() == NOTHING


@pytest.mark.parametrize("end", ["abort", "lease"])
def test_the_first_cause_stays_whatever_ends_the_room(end: str) -> None:
    side = Holding(2)
    held = side.hold()
    side.say(FAILED)
    if end == "abort":
        held.abort()
    side.clock.now += 31
    assert held.poll() is KVPoll.Failed
    assert cause(held).reason == "ReaderFailed: 'decode0': broken"
    assert [len(side.told(name)) for name in side.decodes] == [0, 1]


@pytest.mark.parametrize("proof", [QUIESCED, FAILED, DONE])
def test_a_failure_that_is_not_quiesced_ends_the_request_and_proves_nothing(proof: Notification) -> None:
    side = Holding()
    held = side.hold()
    side.say(LET_GO, LET_GO)
    assert held.poll() is KVPoll.Failed
    assert side.holder.quarantined_pages() == {1, 2}
    side.say(proof)
    assert side.holder.quarantined_pages() == NOTHING
    assert held.poll() is KVPoll.Failed
    assert cause(held).reason == "ReaderFailed: 'decode0': broken"


@pytest.mark.parametrize(
    ("notices", "answer"),
    [((DONE,), KVPoll.Success), ((FAILED,), KVPoll.Failed), ((LET_GO, QUIESCED), KVPoll.Failed)],
)
def test_what_comes_before_its_room_is_kept_for_it(notices: tuple[Notification, ...], answer: KVPoll) -> None:
    side = Holding(2)
    side.say(*notices)
    side.say(DONE, name="stranger")
    held = side.hold(granted=False)
    assert held.grant("decode0") is None
    assert held.grant("decode1") is not None
    assert held.poll() is KVPoll.Transferring
    side.say(DONE, name="decode1")
    assert held.poll() is answer
    assert side.holder.held_pages() == side.holder.quarantined_pages() == NOTHING
    assert side.holder.drained.stray == 1


def test_what_is_kept_is_bounded() -> None:
    side = Holding()
    side.say(DONE)
    for number in range(MOST_EARLY):
        side.say(SuccessNotification(8, f"u{number}", 1, False))
    assert side.holder.drained.early_dropped == 1
    held = side.hold()
    assert held.poll() is KVPoll.WaitingForInput, "the oldest one was dropped"


@pytest.mark.parametrize(
    "notice",
    [
        SuccessNotification(8, "t", 1, False),
        FailureNotification(7, "another", True, "of another incarnation"),
        ChunkNotification(7, "t", 0),
    ],
)
def test_other_words_change_nothing(notice: Notification) -> None:
    side = Holding()
    held = side.hold()
    side.say(notice)
    assert held.poll() is KVPoll.WaitingForInput
    assert side.holder.held_pages() == {1, 2}


def test_late_words_change_nothing_and_are_counted() -> None:
    side = Holding()
    held = side.hold()
    side.say(DONE)
    held.clear()
    side.say(DONE, FAILED, QUIESCED)
    assert held.poll() is KVPoll.Success
    assert side.holder.drained.stray == 3
    with pytest.raises(KVUsageError, match="token 't' is in use, or was"):
        side.hold()


def test_garbage_raises_nothing() -> None:
    side = Holding()
    held = side.hold()
    for message in (b"", b"\xff", b"{", b"{}", b"kvs1 renew ", b"kvs1 renew 7", b"kvs1 renew 7 t x", b"kvs2 renew 7 t"):
        side.agent.deliver("decode0", message)
    side.agent.deliver("decode0", AbortRequest(7, "t", "decode0").to_bytes())
    side.agent.deliver("decode0", side.holder.metadata().to_bytes())
    side.agent.deliver("decode0", RenewNotification(((7, "t"),) * 1025).to_bytes())
    assert side.holder.drain() == 11
    assert (side.holder.drained.malformed, held.poll()) == (11, KVPoll.WaitingForInput)


# ------------------------------------------------------------------------------------------------ giving a room up


def test_an_abort_tells_each_reader_that_may_be_exposed_once() -> None:
    side = Holding(3)
    held = side.hold(granted=False)
    held.grant("decode0")
    held.grant("decode1")
    side.say(DONE)
    held.abort()
    held.abort()
    assert held.poll() is KVPoll.Failed
    assert cause(held).attribution is Attribution.CALLER
    assert isinstance(cause(held).__cause__, TransferAborted)
    told = [side.told(name) for name in ("decode0", "decode1", "decode2")]
    assert told == [[], [AbortRequest(7, "t", "prefill")], []]
    assert side.holder.quarantined_pages() == {1, 2}
    held.clear()
    assert side.told("decode1") == []
    side.say(QUIESCED, name="decode1")
    assert side.holder.quarantined_pages() == NOTHING
    assert side.holder.residue() == 0


def test_what_was_granted_to_nobody_is_free_at_once() -> None:
    side = Holding()
    held = side.hold(granted=False)
    held.clear()
    assert held.poll() is KVPoll.Failed
    assert held.grant("decode0") is None
    side.refill(1, 2)
    assert side.holder.residue() == 0


def test_an_abort_that_the_transport_refuses_is_told_again() -> None:
    side = Holding()
    held = side.hold()
    side.fabric.plan.arm(Fault(Point.NOTIFY, Kind.REMOTE_DISCONNECT, 0))
    held.abort()
    assert side.told() == []
    side.renew((9, "u"))  # it lives
    side.holder.sweep()
    assert side.told() == [side.lost(9, "u"), AbortRequest(7, "t", "prefill")]
    side.holder.sweep()
    assert side.told() == []


STEPS: dict[str, Callable[[Holding, HeldRoom], None]] = {
    "abort": lambda _, held: held.abort(),
    "notice": lambda side, _: side.say(DONE),
    "failure": lambda side, _: side.say(LET_GO),
    "lease": lambda side, _: setattr(side.clock, "now", side.clock.now + 31),
    "clear": lambda _, held: held.clear(),
}


@pytest.mark.parametrize("order", list(itertools.permutations(STEPS)), ids="-".join)
def test_ends_in_any_order(order: tuple[str, ...]) -> None:
    side = Holding()
    held = side.hold()
    finals: list[KVPoll] = []
    reasons: list[str] = []
    for step in order:
        STEPS[step](side, held)
        side.holder.sweep()
        if (answer := held.poll()).terminal:
            finals.append(answer)
            reasons += [cause(held).reason] if answer is KVPoll.Failed else []
        quiet = "notice" in order[: order.index(step) + 1]
        free = side.holder.held_pages() == side.holder.quarantined_pages() == NOTHING
        assert free is quiet
    assert len(set(finals)) == 1
    assert len(set(reasons)) <= 1
    assert finals[0] is (KVPoll.Success if order[0] == "notice" else KVPoll.Failed)
    assert side.holder.residue() == 0


# ----------------------------------------------------------------------------------------------------------- fences


def test_a_fence_names_its_evidence_and_one_process() -> None:
    side = Holding(2)
    held = side.hold()
    process = side.holder.incarnation("decode0")
    assert process is not None
    held.abort()
    side.start("decode0")
    assert side.holder.incarnation("decode0") not in (None, process)
    with pytest.raises(KVUsageError, match="evidence is 'it was silent', not one of"):
        side.holder.fence("decode0", process, "it was silent")  # type: ignore[arg-type]
    newer = side.holder.incarnation("decode0")
    assert newer is not None
    assert side.holder.fence("decode0", newer, Evidence.PROCESS_REAPED) == 0
    assert side.holder.fence("decode1", process, Evidence.PROCESS_REAPED) == 0
    assert side.holder.quarantined_pages() == {1, 2}
    assert side.holder.fence("decode0", process, Evidence.PROCESS_REAPED) == 1
    assert side.holder.quarantined_pages() == {1, 2}, "decode1 was granted them, too"
    side.say(QUIESCED, name="decode1")
    assert side.holder.quarantined_pages() == NOTHING


def test_a_fence_ends_a_live_room_as_its_readers_fault() -> None:
    side = Holding()
    held = side.hold()
    process = side.holder.incarnation("decode0")
    assert process is not None
    assert side.holder.fence("decode0", process, Evidence.PROCESS_REAPED) == 1
    assert held.poll() is KVPoll.Failed
    assert cause(held).attribution is Attribution.PEER
    assert side.holder.fence("decode0", process, Evidence.PROCESS_REAPED) == 0


def test_a_reader_that_has_started_over_is_granted_nothing_of_the_room() -> None:
    side = Holding()
    held = side.hold()
    side.start("decode0")
    assert held.grant("decode0") is None
    assert held.poll() is KVPoll.WaitingForInput


# ------------------------------------------------------------------------------------------------ the whole of it


def test_closing_gives_up_what_is_live_and_follows_it_to_its_end() -> None:
    side = Holding()
    live, over = side.hold(), side.hold(3, room=8, token="u")
    side.say(SuccessNotification(8, "u", 1, False))
    assert side.holder.close() == 1
    assert [held.poll() for held in (live, over)] == [KVPoll.Failed, KVPoll.Success]
    assert side.told() == [AbortRequest(7, "t", "prefill")]
    side.say(QUIESCED)
    assert side.holder.residue() == 0
    with pytest.raises(KVUsageError, match="has not registered"):
        side.hold(4, token="v")


def test_threads_leave_nothing_behind() -> None:
    """Every page that is granted has, while it is held, the content and the stamp that it was granted with."""
    side = Holding()
    holder, rounds = side.holder, 150
    wrong: list[str] = []

    def serve(pages: tuple[int, ...]) -> None:
        for number in range(rounds):
            token = f"{pages[0]}-{number}"
            with holder.refilling(ids(*pages)) as stamps:
                pass
            held = holder.hold(number, ids(*pages), ("decode0",), token=token, stamps=stamps)
            grant = held.grant("decode0")
            if grant is None or grant.stamps.tolist() != stamps.tolist():
                wrong.append(f"{token}: {grant}")
            if number % 3 == 0:
                held.abort()
            if set(pages) - holder.held_pages() - holder.quarantined_pages():
                wrong.append(f"{token}: not held")
            side.agent.deliver("decode0", SuccessNotification(number, token, 1, False).to_bytes())
            deadline = time.monotonic() + 10
            while not held.drained and time.monotonic() < deadline:
                holder.drain()
                holder.sweep()
            if held.poll() is not (KVPoll.Failed if number % 3 == 0 else KVPoll.Success):
                wrong.append(f"{token}: {held.poll()!r}")
            held.clear()

    threads = [threading.Thread(target=serve, args=(pages,), daemon=True) for pages in ((0, 1), (2, 3), (4, 5, 6))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []
    assert (holder.residue(), holder.held_pages(), holder.quarantined_pages()) == (0, NOTHING, NOTHING)
    assert holder.drained.ends == 3 * rounds
    assert len(side.told()) == rounds


# -------------------------------------------------------------------------------------------------------- bad input


def test_bad_input() -> None:
    side = Holding(options=HolderOptions(most_rooms=1))
    holder = side.holder
    for readers in ((), ("decode0", "decode0"), "decode0"):
        with pytest.raises(KVUsageError, match="not one name or several different ones"):
            holder.hold(7, ids(1), readers)
    with pytest.raises(KVUsageError, match="reader 'decode9' has not registered"):
        holder.hold(7, ids(1), ("decode9",))
    for pages, why in ((ids(8), "page 8 is not in the pool"), (ids(1, 1), "page 1 is named twice")):
        with pytest.raises(KVUsageError, match=why):
            holder.hold(7, pages, ("decode0",))
        with pytest.raises(KVUsageError, match=why), holder.refilling(pages):
            pass
    with pytest.raises(KVUsageError, match=r"regions are \(4,\), of a pool with 4"):
        side.hold(regions=(4,))
    with pytest.raises(KVUsageError, match="required_dst_info_num is 0"):
        side.hold(required_dst_info_num=0)
    with pytest.raises(KVUsageError, match="token 'a b' is not"):
        side.hold(token="a b")
    with pytest.raises(KVUsageError, match="these are no times"):
        side.hold(lease_s=float("nan"))
    with pytest.raises(KVUsageError, match="most_rooms is 0"):
        HolderOptions(most_rooms=0)
    held = side.hold()
    with pytest.raises(KVUsageError, match=r"held for \['decode0'\], not for 'decode1'"):
        held.grant("decode1")
    with pytest.raises(KVUsageError, match="has not failed"):
        held.failure_exception()
    with pytest.raises(KVUsageError, match="1 rooms are not cleared and finished"):
        side.hold(3, token="u")
    assert holder.held_pages() == {1, 2}
