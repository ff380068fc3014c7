"""The prefill side: what its peers tell it over NIXL, and what outlives its rooms."""

from __future__ import annotations

import pytest
from tests.impl.rig import Rig, end, ids

from kvsender_spec.contract import KVPoll, KVUsageError


def test_what_peers_say_over_nixl_is_taken_and_what_fits_nothing_is_counted() -> None:
    rig = Rig(peers=())
    for name in ("decode0", "stranger"):
        rig.start(name).agent.add_remote_agent(rig.agent.get_agent_metadata())
    side, stranger = rig.decodes["decode0"], rig.decodes.pop("stranger")
    ((receiver, info),) = rig.infos(7, (5, 6)).values()
    metadata = side.decode.metadata().to_bytes()
    assert rig.prefill.drain() == 0
    for agent, message in (
        (side.agent, b"not a message"),
        (stranger.agent, metadata),  # it speaks for another
        (side.agent, info.to_bytes()),  # of a peer that has not registered
        (side.agent, metadata),
        (side.agent, info.to_bytes()),
    ):
        agent.send_notif("prefill", message)
        assert rig.prefill.drain() == 1
    drained = rig.prefill.drained
    assert (drained.messages, drained.malformed, drained.refused) == (5, 1, 2)
    sender = rig.prefill.sender(7)
    sender.init(2, 0)
    sender.send(ids(0, 1))
    assert end(sender) is KVPoll.Success
    rig.drain()
    assert receiver.poll() is KVPoll.Success
    assert rig.same_bytes("decode0", (0, 1), (5, 6))


@pytest.mark.parametrize("error_ends_reads", [True, False])
def test_an_error_after_the_room_frees_its_pages_only_where_an_error_ends_the_reads(error_ends_reads: bool) -> None:
    rig = Rig(automatic=False, error_ends_reads=error_ends_reads)
    sender, _ = rig.open()
    sender.send(ids(0, 1))
    rig.clock.now += 1000.0
    while sender.poll() is not KVPoll.Failed:
        rig.clock.now += 1000.0
    assert rig.prefill.quarantined_pages() == {0, 1}
    assert rig.prefill.sweep() == 1
    rig.fabric.disconnect("prefill", "decode0")
    assert rig.prefill.sweep() == 0
    assert rig.prefill.quarantined_pages() == (set() if error_ends_reads else {0, 1})


def test_nothing_is_sent_after_close() -> None:
    rig = Rig()
    rig.open()
    assert rig.prefill.close() == 0
    with pytest.raises(KVUsageError, match="closed"):
        rig.prefill.sender(8)
