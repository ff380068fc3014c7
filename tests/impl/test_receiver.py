"""The decode side: counting notifications, quarantining what late writes may hit, and surviving any message."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from tests.impl.rig import Rig, ids

from kvsender_nixl.notifications import (
    AuxNotification,
    ChunkNotification,
    FailureNotification,
    Notification,
    SuccessNotification,
)
from kvsender_nixl.receiver import Decode, KVReceiver, PrefillFailed
from kvsender_spec.contract import Attribution, KVPoll, KVTransferError, KVUsageError, TransferAborted, TransferTimeout


def opened(rig: Rig, room: int = 7, token: str = "t") -> KVReceiver:
    receiver = rig.decodes["decode0"].decode.receiver(room, "prefill", token=token)
    assert receiver.poll() is KVPoll.Bootstrapping
    receiver.init(ids(4, 5), 1)
    assert receiver.poll() is KVPoll.WaitingForInput
    return receiver


def tell(rig: Rig, *messages: bytes, name: str = "prefill") -> None:
    for message in messages:
        rig.decodes["decode0"].agent.deliver(name, message)
    rig.drain()


NOTIFICATIONS: list[Notification] = [
    ChunkNotification(7, "t", 0),
    ChunkNotification(7, "t", 1),
    AuxNotification(7, "t"),
    SuccessNotification(7, "t", 2, True),
]


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=str)
def test_success_in_any_order(order: tuple[int, ...]) -> None:
    rig = Rig()
    receiver = opened(rig)
    for number in order[:-1]:
        tell(rig, NOTIFICATIONS[number].to_bytes())
        assert receiver.poll() in (KVPoll.WaitingForInput, KVPoll.Transferring)
    tell(rig, NOTIFICATIONS[order[-1]].to_bytes())
    assert receiver.poll() is KVPoll.Success
    tell(rig, FailureNotification(7, "t", False, "late").to_bytes())
    assert receiver.poll() is KVPoll.Success
    assert rig.decodes["decode0"].decode.drained.stray == 1


@pytest.mark.parametrize("quiesced", [False, True])
def test_failure_notification(quiesced: bool) -> None:
    rig = Rig()
    receiver = opened(rig)
    tell(rig, FailureNotification(7, "t", quiesced, "broken in two").to_bytes())
    assert receiver.poll() is KVPoll.Failed
    with pytest.raises(KVTransferError, match="PrefillFailed: broken in two") as caught:
        receiver.failure_exception()
    assert caught.value.attribution is Attribution.PEER
    assert isinstance(caught.value.__cause__, PrefillFailed)
    expected: frozenset[int] = frozenset() if quiesced else frozenset({4, 5})
    assert receiver.quarantined_pages() == expected
    receiver.clear()
    decode = rig.decodes["decode0"].decode
    assert decode.quarantined_pages() == expected
    assert decode.quarantined_aux_slots() == (frozenset() if quiesced else {1})
    decode.fence("somebody else")
    assert decode.quarantined_pages() == expected
    decode.fence("prefill")
    assert not decode.quarantined_pages()
    assert receiver.poll() is KVPoll.Failed
    assert decode.residue() == 0


def test_deadline_and_abort() -> None:
    rig = Rig()
    late, aborted = opened(rig, 7, "t"), opened(rig, 8, "u")
    aborted.abort()
    assert aborted.poll() is KVPoll.Failed
    rig.clock.now += 299
    rig.drain()
    assert late.poll() is KVPoll.WaitingForInput
    rig.clock.now += 1
    assert late.poll() is KVPoll.Failed
    tell(rig, *(notification.to_bytes() for notification in NOTIFICATIONS))
    assert late.poll() is KVPoll.Failed
    for receiver, attribution, cause in (
        (late, Attribution.DEADLINE, TransferTimeout),
        (aborted, Attribution.CALLER, TransferAborted),
    ):
        with pytest.raises(KVTransferError) as caught:
            receiver.failure_exception()
        assert caught.value.attribution is attribution
        assert isinstance(caught.value.__cause__, cause)
    assert aborted.quarantined_pages() == {4, 5}
    assert late.quarantined_pages() == frozenset(), "what was told late frees its pages all the same"


def test_strays_and_garbage_are_counted() -> None:
    rig = Rig()
    receiver = opened(rig)
    tell(rig, b"", b"\xff\xff", b"kvs1 chunk 7 t many")
    tell(rig, ChunkNotification(8, "t", 0).to_bytes(), ChunkNotification(7, "other", 0).to_bytes())
    tell(rig, ChunkNotification(7, "t", 0).to_bytes(), name="impostor")
    assert receiver.poll() is KVPoll.WaitingForInput
    drained = rig.decodes["decode0"].decode.drained
    assert (drained.notifications, drained.malformed, drained.stray) == (6, 3, 3)
    receiver.clear()
    receiver.clear()
    tell(rig, NOTIFICATIONS[0].to_bytes())
    assert drained.stray == 4


def test_an_agent_whose_name_is_no_text_ends_no_loop() -> None:
    """The binding of NIXL raises then, and what had arrived is lost; it is asked for again."""
    rig = Rig()
    rig.introduce()
    sender, [receiver] = rig.open()
    sender.send(ids(0, 1, 2))
    sender.poll()
    agents: list[Any] = [rig.agent, rig.decodes["decode0"].agent]
    for agent in agents:
        take = agent.get_new_notifs

        def lose(take: Any = take) -> Any:
            take()
            raise UnicodeDecodeError("utf-8", b"ba\xffd", 2, 3, "invalid start byte")

        agent.get_new_notifs = lose
    assert rig.decodes["decode0"].decode.drain() == rig.prefill.drain() == 0
    assert rig.decodes["decode0"].decode.drained.lost == rig.prefill.drained.lost == 1
    for agent in agents:
        del agent.get_new_notifs
    assert receiver.poll() is KVPoll.WaitingForInput
    rig.talk(5.0)
    assert receiver.poll() is KVPoll.Success


def test_mistakes_end_no_loop(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    agent: Any = rig.decodes["decode0"].agent
    agent.get_new_notifs = lambda: 1 / 0
    assert rig.decodes["decode0"].decode.drain() == 0
    assert any(record.exc_info for record in caplog.records)


def test_dummies_wait_for_nothing() -> None:
    receiver = Rig().decodes["decode0"].decode.receiver(7, "prefill")
    receiver.init(ids(), is_dummy=True)
    assert receiver.poll() is KVPoll.Success


def test_bad_input() -> None:
    decode: Decode[object, object] = Rig().decodes["decode0"].decode
    receiver = decode.receiver(7, "prefill", token="t")
    with pytest.raises(KVUsageError, match="in use"):
        decode.receiver(8, "prefill", token="t")
    with pytest.raises(KVUsageError, match="page 8 is not"):
        receiver.init(ids(8))
    with pytest.raises(KVUsageError, match="4 aux slots"):
        receiver.init(ids(1), 4)
    with pytest.raises(KVUsageError, match="has not failed"):
        receiver.failure_exception()
    receiver.init(ids(1))
    with pytest.raises(KVUsageError, match="initialised before"):
        receiver.init(ids(1))
