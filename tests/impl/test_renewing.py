"""A reading side and its holder: heartbeats, and what becomes of a room whose lease is lost."""

from __future__ import annotations

import pytest
from tests.impl.holding import Holding
from tests.impl.rig import end, ids

from kvsender_nixl.exchange import Grant, parse_message
from kvsender_nixl.held import HeldRoom
from kvsender_nixl.initiator import PeerAborted
from kvsender_nixl.notifications import MOST_RENEWED, RenewNotification, parse_told_holder
from kvsender_nixl.status import LeaseLost
from kvsender_spec.contract import Attribution, KVPoll, KVTransferError, KVUsageError


def renewals(side: Holding) -> list[RenewNotification]:
    """Those that have come in; the holder does not get them."""
    messages = side.agent.get_new_notifs().get("decode0", [])
    said = [parse_told_holder(message) for message in messages]
    return [notice for notice in said if isinstance(notice, RenewNotification)]


def give(side: Holding, held: HeldRoom) -> None:
    """The grant travels as a notification of the holder's."""
    grant = held.grant("decode0")
    assert grant is not None
    side.agents["decode0"].deliver("prefill", grant.to_bytes())
    side.decodes["decode0"].drain()


def test_the_messages_are_read_as_they_were_written() -> None:
    side = Holding()
    held = side.hold(granted=False, lease_s=25)
    grant = held.grant("decode0")
    assert grant is not None
    found = parse_message(grant.to_bytes())
    assert isinstance(found, Grant)
    assert (found.lease_s, found.to_bytes()) == (25.0, grant.to_bytes())
    lost = LeaseLost(-7, "t-1", "prefill")
    assert parse_message(lost.to_bytes()) == lost
    renewal = RenewNotification(((-7, "t:1"), (8, "u")))
    assert parse_told_holder(renewal.to_bytes()) == renewal
    for wrong, why in ((b"0.0", "a lease takes a time"), (b"true", "not a decimal"), (b"NaN", "a lease takes a time")):
        with pytest.raises(ValueError, match=why):
            parse_message(grant.to_bytes().replace(b"25.0", wrong))


def test_live_rooms_are_renewed_in_one_message_an_interval() -> None:
    side = Holding()
    decode = side.decodes["decode0"]
    decode.sweep()
    for number in range(3):
        give(side, side.hold(room=number, token=f"t{number}", granted=False))
    reader = decode.reader(0)
    reader.init(2)
    decode.sweep()
    assert renewals(side) == []
    side.readers_clock.now += 5
    for _ in range(3):
        decode.sweep()
    assert renewals(side) == [RenewNotification(((0, "t0"), (1, "t1"), (2, "t2")))]
    reader.read(ids(0, 1))
    assert end(reader) is KVPoll.Success
    side.readers_clock.now += 4.9
    decode.sweep()
    assert renewals(side) == []
    side.readers_clock.now += 0.2
    decode.sweep()
    assert renewals(side) == [RenewNotification(((1, "t1"), (2, "t2")))]
    decode.reader(1).clear()
    side.readers_clock.now += 5
    decode.sweep()
    assert renewals(side) == [RenewNotification(((2, "t2"),))]


def test_the_shortest_lease_sets_the_pace() -> None:
    side = Holding()
    give(side, side.hold(granted=False))
    give(side, side.hold(room=8, token="u", granted=False, lease_s=24.0))
    for _ in range(2):
        side.readers_clock.now += 4
        side.decodes["decode0"].sweep()
        assert len(renewals(side)) == 1


def test_a_message_names_a_bounded_number_of_rooms() -> None:
    side = Holding()
    for number in range(MOST_RENEWED + 1):
        give(side, side.hold(1, room=number, token=f"t{number}", granted=False))
    side.readers_clock.now += 5
    side.decodes["decode0"].sweep()
    assert [len(renewal.rooms) for renewal in renewals(side)] == [MOST_RENEWED, 1]


def test_a_heartbeat_that_is_refused_is_followed_by_the_next() -> None:
    side = Holding()
    held = side.hold(granted=False)
    give(side, held)
    side.fabric.disconnect("decode0", "prefill")
    side.readers_clock.now += 5
    side.decodes["decode0"].sweep()
    assert renewals(side) == []


def test_a_room_whose_lease_is_lost_fails_at_once_and_its_pages_wait_for_the_read() -> None:
    side = Holding(automatic=False)
    held = side.hold(granted=False)
    give(side, held)
    decode = side.decodes["decode0"]
    reader = decode.reader(7)
    reader.init(2)
    reader.read(ids(4, 5))
    assert reader.poll() is KVPoll.Transferring
    side.clock.now += 30.1  # the reader stood still
    assert held.poll() is KVPoll.Failed
    assert side.holder.quarantined_pages() == {1, 2}
    decode.drain()
    assert reader.poll() is KVPoll.Transferring, "it drains first"
    side.readers_clock.now += 6
    assert end(reader) is KVPoll.Failed
    with pytest.raises(KVTransferError, match="there is no lease at peer 'prefill'") as caught:
        reader.failure_exception()
    assert caught.value.attribution is Attribution.PEER
    assert isinstance(caught.value.__cause__, PeerAborted)
    assert decode.quarantined_pages() == {4, 5}
    side.holder.drain()
    assert side.holder.quarantined_pages() == {1, 2}, "the reader has not drained"
    decode.sweep()
    assert renewals(side) == [], "a room that has failed is renewed no more"
    for handle in side.fabric.in_flight("decode0"):
        side.fabric.finish(handle)
    decode.sweep()
    side.holder.drain()
    assert decode.quarantined_pages() == side.holder.quarantined_pages() == frozenset()


def test_an_abort_of_the_holder_ends_the_readers_room_and_comes_back_as_quiesced() -> None:
    side = Holding()
    held = side.hold(granted=False)
    give(side, held)
    decode = side.decodes["decode0"]
    reader = decode.reader(7)
    reader.init(2)
    reader.read(ids(4, 5))
    held.abort()
    assert side.holder.quarantined_pages() == {1, 2}
    decode.drain()
    assert end(reader) is KVPoll.Failed
    side.holder.drain()
    assert side.holder.quarantined_pages() == frozenset()


def test_a_lease_that_is_not_longer_than_a_transfer_may_take_is_refused_and_its_holder_told() -> None:
    side = Holding()
    held = side.hold(granted=False, lease_s=20.0, reader_deadline_s=5.0)
    grant = held.grant("decode0")
    assert grant is not None
    decode = side.decodes["decode0"]
    with pytest.raises(KVUsageError, match=r"a lease of 20.0 s is not longer than the 20.0 s that a transfer may take"):
        decode.add_transfer_info(grant)
    side.holder.drain()
    assert held.poll() is KVPoll.Failed
    assert side.holder.quarantined_pages() == frozenset()
    side.agents["decode0"].deliver("prefill", grant.to_bytes())
    decode.drain()
    assert decode.drained.refused == 1
    assert decode.residue() == 0
