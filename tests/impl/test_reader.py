"""The reference reader on the scripted agent: what it reads, what it refuses, what it does when a grant has ended."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.impl.rig import ERRORS, ManualClock, end, ids, memory

from kvsender_nixl.buffers import KVPool, Stamps
from kvsender_nixl.exchange import Grant, PeerMetadata, parse_message
from kvsender_nixl.pull import MOST_HOLDERS, PullDecode
from kvsender_nixl.reader import GrantEnded, KVReader
from kvsender_nixl.side import SenderOptions
from kvsender_spec.contract import Attribution, KVPoll, KVTransferError, KVUsageError
from kvsender_spec.kit.scripted.fabric import Fabric


class Holder:
    """One prefill side that holds what is read."""

    def __init__(self, fabric: Fabric, name: str, seed: int) -> None:
        self.name = name
        self.pool, _ = memory(seed)
        self.stamps = Stamps(self.pool.num_pages)
        self.agent: Any = fabric.agent(name)
        for layout in (self.pool.layout, self.stamps.layout):
            self.agent.register_memory(layout.registrations(), "DRAM")

    def metadata(self) -> PeerMetadata:
        return PeerMetadata(self.name, self.agent.get_agent_metadata(), self.pool.layout, self.stamps.layout)

    def grant(self, pages: NDArray[np.int32], room: int = 7, holders: int = 1, token: str = "t") -> Grant:
        stamps = self.stamps.values[pages]
        return Grant(room, token, self.name, pages, required_dst_info_num=holders, stamps=stamps)

    def refill(self, pages: NDArray[np.int32]) -> None:
        with self.stamps.refilling(pages):
            for buffer in self.pool.k_buffers:
                buffer[torch.from_numpy(pages).long()] += 1


class Reading:
    """A decode side and its holders."""

    def __init__(self, holders: int = 1, *, automatic: bool = True) -> None:
        self.fabric = Fabric(automatic=automatic)
        self.clock = ManualClock()
        agent: Any = self.fabric.agent("decode", scripted=True)
        self.pool, _ = memory(None)
        options = SenderOptions(transfer_timeout_s=30.0, drain_timeout_s=5.0)
        self.decode: PullDecode[Any, Any] = PullDecode(
            agent, self.pool, options, clock=self.clock, transport_errors=ERRORS, spawn=lambda work: work()
        )
        self.holders = [Holder(self.fabric, f"prefill{number}", number + 1) for number in range(holders)]
        for holder in self.holders:
            self.decode.register_peer(holder.metadata())

    def open(self, *grants: Grant, pages: int) -> KVReader[Any, Any]:
        for grant in grants:
            self.decode.add_transfer_info(grant)
        reader = self.decode.reader(grants[0].room)
        reader.init(pages)
        return reader


def same(mine: KVPool, here: list[int], theirs: KVPool, there: list[int], layers: tuple[int, ...] = (0, 1)) -> bool:
    buffers = zip((mine.k_buffers, mine.v_buffers), (theirs.k_buffers, theirs.v_buffers), strict=True)
    return all(torch.equal(a[layer][here], b[layer][there]) for a, b in buffers for layer in layers)


def cause(reader: KVReader[Any, Any]) -> KVTransferError:
    with pytest.raises(KVTransferError) as caught:
        reader.failure_exception()
    return caught.value


def test_chunks_are_read_into_the_pages_that_are_named() -> None:
    side = Reading()
    holder = side.holders[0]
    reader = side.open(holder.grant(ids(3, 1, 4)), pages=3)
    reader.read(ids(0))
    assert reader.poll() is KVPoll.Transferring
    reader.read(np.array([6, 2], np.int64))
    assert end(reader) is KVPoll.Success
    assert same(side.pool, [0, 6, 2], holder.pool, [3, 1, 4])
    assert side.decode.residue() == 1
    reader.clear()
    assert side.decode.residue() == 0
    assert [b"success" in message for message in holder.agent.get_new_notifs()["decode"]] == [True]


def test_each_holder_gives_its_regions() -> None:
    side = Reading(holders=2)
    first, second = side.holders
    grants = [replace(holder.grant(ids(5), holders=2), regions=(n, n + 2)) for n, holder in enumerate(side.holders)]
    reader = side.open(*grants, pages=1)
    reader.read(ids(0))
    assert end(reader) is KVPoll.Success
    assert same(side.pool, [0], first.pool, [5], layers=(0,))
    assert same(side.pool, [0], second.pool, [5], layers=(1,))


def test_of_a_longer_grant_the_last_pages_are_read() -> None:
    side = Reading()
    reader = side.open(side.holders[0].grant(ids(0, 1, 2, 3)), pages=2)
    reader.read(ids(7))
    reader.read(ids(6))
    assert end(reader) is KVPoll.Success
    assert same(side.pool, [7, 6], side.holders[0].pool, [2, 3])


def test_a_room_without_pages_ends_and_its_holder_is_told() -> None:
    side = Reading()
    reader = side.open(side.holders[0].grant(ids()), pages=0)
    reader.read(ids())
    assert reader.poll() is KVPoll.Success
    assert side.holders[0].agent.get_new_notifs()["decode"]


@pytest.mark.parametrize("page", [1, 3])
def test_a_grant_that_has_ended_fails_the_room_whichever_page_it_is(page: int) -> None:
    side = Reading(automatic=False)
    holder = side.holders[0]
    reader = side.open(holder.grant(ids(1, 2, 3)), pages=3)
    reader.read(ids(0, 1, 2))
    holder.refill(ids(page))
    for _ in range(4):
        for handle in side.fabric.in_flight("decode"):
            side.fabric.finish(handle)
        reader.poll()
    assert reader.poll() is KVPoll.Failed
    error = cause(reader)
    assert error.attribution is Attribution.PEER
    assert isinstance(error.__cause__, GrantEnded)
    assert f"'prefill0' has refilled its page {page}" in str(error)


def test_what_a_holder_refills_after_success_is_nobodys_affair() -> None:
    side = Reading()
    reader = side.open(side.holders[0].grant(ids(1)), pages=1)
    reader.read(ids(0))
    assert end(reader) is KVPoll.Success
    side.holders[0].refill(ids(1))
    assert reader.poll() is KVPoll.Success


def test_pages_of_a_read_in_flight_stay_in_quarantine_until_it_is_done() -> None:
    side = Reading(automatic=False)
    reader = side.open(side.holders[0].grant(ids(1, 2)), pages=2)
    reader.read(ids(4, 5))
    reader.abort()
    side.clock.now += 6.0
    assert end(reader) is KVPoll.Failed
    assert side.decode.quarantined_pages() == {4, 5}
    for handle in side.fabric.in_flight("decode"):
        side.fabric.finish(handle)
    side.decode.sweep()
    assert side.decode.quarantined_pages() == frozenset()


@pytest.mark.parametrize(
    ("pages", "why"),
    [(ids(1, 2, 3, 4), "named twice"), (ids(0, 9), "not in the pool"), (ids(0, -1), "not in the pool")],
)
def test_destinations_that_cannot_be_are_refused_and_nothing_is_lost(pages: NDArray[np.int32], why: str) -> None:
    side = Reading()
    reader = side.open(side.holders[0].grant(ids(1, 2)), pages=2)
    if "twice" in why:
        pages = ids(1, 1)
    with pytest.raises(KVUsageError, match=why):
        reader.read(pages)
    reader.read(ids(0, 1))
    assert end(reader) is KVPoll.Success


def test_grants_that_cannot_be_are_refused() -> None:
    side = Reading()
    holder = side.holders[0]
    with pytest.raises(KVUsageError, match="offers pages 3 to 99"):
        side.decode.add_transfer_info(Grant(7, "t", "prefill0", ids(3, 99), stamps=np.zeros(2, np.uint64)))
    with pytest.raises(ValueError, match="names a page twice"):
        holder.grant(ids(1, 1))
    with pytest.raises(ValueError, match=r"stamps is uint64 of shape \(1,\), for pages of shape \(2,\)"):
        Grant(7, "t", "prefill0", ids(1, 2), stamps=np.zeros(1, np.uint64))
    with pytest.raises(ValueError, match=r"regions are \(0, 0\)"):
        replace(holder.grant(ids(1)), regions=(0, 0))
    with pytest.raises(KVUsageError, match=f"has {MOST_HOLDERS + 1} holders"):
        side.decode.add_transfer_info(holder.grant(ids(1), holders=MOST_HOLDERS + 1))
    assert side.decode.residue() == 0


@pytest.mark.parametrize(
    ("regions", "pages", "why"),
    [((), 3, "grants 2 pages for 3"), ((0, 4), 2, "grants region 4, and there are 4")],
)
def test_a_grant_that_does_not_fit_the_room_fails_it(regions: tuple[int, ...], pages: int, why: str) -> None:
    side = Reading()
    reader = side.open(replace(side.holders[0].grant(ids(1, 2)), regions=regions), pages=pages)
    reader.read(ids(*range(pages)))
    assert end(reader) is KVPoll.Failed
    assert why in str(cause(reader))


def test_a_grant_of_an_earlier_generation_is_never_taken_for_the_pages_of_now() -> None:
    side = Reading()
    holder = side.holders[0]
    old = holder.grant(ids(1))
    holder.refill(ids(1))
    reader = side.open(old, pages=1)
    reader.read(ids(0))
    assert end(reader) is KVPoll.Failed
    assert isinstance(cause(reader).__cause__, GrantEnded)


def test_a_grant_of_a_holder_that_has_started_over_is_refused() -> None:
    side = Reading()
    old = side.holders[0].grant(ids(1))
    side.decode.add_transfer_info(old)
    side.decode.register_peer(Holder(side.fabric, "prefill0", 5).metadata())
    reader = side.decode.reader(7)
    reader.init(1)
    reader.read(ids(0))
    assert end(reader) is KVPoll.Failed
    assert "has started over" in str(cause(reader))


def test_a_grant_is_read_as_it_was_written() -> None:
    grant = replace(Reading().holders[0].grant(ids(3, 1)), regions=(1, 3))
    found = parse_message(grant.to_bytes())
    assert isinstance(found, Grant)
    assert found.to_bytes() == grant.to_bytes()
    for old, new, why in (
        (b'"regions": [1, 3]', b'"regions": [true]', "more than integers"),
        (b'"regions": [1, 3]', b'"regions": 4', "not a list"),
        (b'"stamps": "AAAA', b'"stamps": "', "stamps is"),
    ):
        with pytest.raises(ValueError, match=why):
            parse_message(grant.to_bytes().replace(old, new))
