"""Leases on the real library: those that end under READs, between two processes, and those that are renewed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from tests.impl.rig import ids, memory

from kvsender_nixl.agent import create_agent
from kvsender_nixl.exchange import Grant, parse_message
from kvsender_nixl.held import HeldRoom
from kvsender_nixl.holder import Holder
from kvsender_nixl.holding import HolderOptions
from kvsender_nixl.lab.lease_rounds import TLS, LeaseRounds, Rates, Transport
from kvsender_nixl.lab.lease_words import Means
from kvsender_nixl.lab.leases import EARLIER, HEADINGS, broken, page, row
from kvsender_nixl.lab.process import NIXL_ENV, until
from kvsender_nixl.pull import PullDecode
from kvsender_nixl.side import SenderOptions
from kvsender_spec.contract import Attribution, KVPoll, KVTransferError

if TYPE_CHECKING:
    from nixl._api import nixl_prepped_dlist_handle, nixl_xfer_handle


@pytest.fixture(autouse=True)
def _nixl_env(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in NIXL_ENV.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("means", Means, ids=lambda means: means.value)
@pytest.mark.parametrize("transport", TLS)
def test_leases_that_end_under_a_read(monkeypatch: pytest.MonkeyPatch, transport: Transport, means: Means) -> None:
    monkeypatch.setenv("UCX_TLS", TLS[transport])
    with LeaseRounds(create_agent(f"reader-{transport}-{means.value}"), means, transport, 3) as rounds:
        rates = rounds.run(50)
    assert broken(means, rates) == ""
    assert rates.ended > 0, "nothing was tried"
    assert (rates.foreign > 0) is (means is Means.STAMPS), "whose bytes arrive"
    assert (rates.zeros > 0) is (means is Means.REMAP)
    assert (rates.refills_refused > 0) is (means is Means.HOLD)


@pytest.mark.parametrize(
    ("means", "rates", "why"),
    [
        (Means.STAMPS, Rates(accepted=3, accepted_foreign=1, foreign=1, foreign_bytes=8), "1 READs were accepted with"),
        (Means.REMAP, Rates(refused=3, foreign=1, foreign_bytes=8), "8 foreign bytes reached the reader"),
        (Means.HOLD, Rates(accepted=2, refused=1), "1 READs of pages that were kept were refused"),
        (Means.REMAP, Rates(aside=3, aside_right=1), "2 READs of another lease went wrong"),
        (Means.STAMPS, Rates(refused=3, foreign=1, foreign_bytes=8), ""),
    ],
)
def test_what_must_not_happen_is_said(means: Means, rates: Rates, why: str) -> None:
    said = broken(means, rates)
    assert said.startswith(why)
    assert bool(said) is bool(why)


def test_the_page_has_the_figures_beside_the_earlier_ones() -> None:
    cells = row("tcp", Means.REMAP, Rates(accepted=3, refused=1, zeros=1))
    assert len(cells) == len(HEADINGS)
    text = page([cells], 0)
    assert "| tcp | remap | 4 | 0 | 3 | 0 | 1 |" in text
    assert all(figure in text for figures in EARLIER.values() for figure in figures)


class Pair:
    """A holder and a decode side of one process, whose loops run in turn."""

    def __init__(self, suffix: str, lease_s: float) -> None:
        self.pool, _ = memory(1)
        self.holder: Holder[nixl_prepped_dlist_handle, nixl_xfer_handle] = Holder(
            create_agent(f"holder-{suffix}"), self.pool, HolderOptions(lease_s=lease_s, reader_deadline_s=0.01)
        )
        with self.holder.refilling(ids(*range(8))):
            pass
        self.destination, _ = memory(None)
        agent = create_agent(f"reader-{suffix}")
        self.name = agent.name
        self.decode: PullDecode[nixl_prepped_dlist_handle, nixl_xfer_handle] = PullDecode(
            agent, self.destination, SenderOptions(transfer_timeout_s=0.01)
        )
        self.decode.register_peer(self.holder.metadata())
        agent.send_notif(f"holder-{suffix}", self.decode.metadata().to_bytes())
        self.wait("the holder knows the reader", lambda: self.holder.incarnation(self.name) is not None)

    def turn(self) -> None:
        self.holder.drain()
        self.holder.sweep()
        self.decode.drain()
        self.decode.sweep()

    def wait(self, what: str, done: Callable[[], bool]) -> None:
        def turned() -> bool:
            self.turn()
            return done()

        until(what, turned)

    def grant(self) -> tuple[HeldRoom, Grant]:
        held = self.holder.hold(7, ids(1, 2), (self.name,))
        granted = held.grant(self.name)
        assert granted is not None
        grant = parse_message(granted.to_bytes())
        assert isinstance(grant, Grant)
        self.decode.add_transfer_info(grant)
        return held, grant


def test_heartbeats_keep_a_lease_and_its_end_reaches_the_reader() -> None:
    pair = Pair("beat", 0.6)
    held, _ = pair.grant()
    reader = pair.decode.reader(7)
    reader.init(2)
    began = time.monotonic()
    pair.wait("three leases have passed", lambda: time.monotonic() - began > 1.8)
    assert held.poll() is KVPoll.Transferring
    time.sleep(0.7)  # the reader's loop stands still
    assert held.poll() is KVPoll.Failed
    assert pair.holder.quarantined_pages() == {1, 2}
    pair.wait("the reader fails", lambda: reader.poll() is KVPoll.Failed)
    with pytest.raises(KVTransferError, match="there is no lease at peer 'holder-beat'") as caught:
        reader.failure_exception()
    assert caught.value.attribution is Attribution.PEER
    pair.wait("the reader lets go", lambda: not pair.holder.quarantined_pages())


def test_an_abort_reaches_the_reader_and_its_answer_the_holder() -> None:
    pair = Pair("abort", 20.0)
    held, _ = pair.grant()
    reader = pair.decode.reader(7)
    reader.init(2)
    held.abort()
    assert pair.holder.quarantined_pages() == {1, 2}
    pair.wait("the reader fails", lambda: reader.poll() is KVPoll.Failed)
    pair.wait("the reader lets go", lambda: not pair.holder.quarantined_pages())


def test_a_read_ends_the_hold() -> None:
    pair = Pair("read", 20.0)
    held, _ = pair.grant()
    reader = pair.decode.reader(7)
    reader.init(2)
    reader.read(ids(4, 5))
    pair.wait("the READ is done", lambda: reader.poll().terminal)
    assert reader.poll() is KVPoll.Success
    pair.wait("the holder is told", lambda: held.poll().terminal)
    assert held.poll() is KVPoll.Success
    assert (pair.destination.k_buffers[0][[4, 5]] == pair.pool.k_buffers[0][[1, 2]]).all()
    with pair.holder.refilling(ids(1, 2)):
        pass
