"""A smoke test on the real library: two agents in one process, over UCX."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tests.impl.rig import ids, memory

from kvsender_nixl.agent import create_agent
from kvsender_nixl.lab.memory import REQUEST, Arrays, Memory
from kvsender_nixl.lab.peer import LabPeer
from kvsender_nixl.lab.process import NIXL_ENV
from kvsender_nixl.listener import fetch_metadata
from kvsender_nixl.prefill import Prefill
from kvsender_nixl.receiver import Decode
from kvsender_nixl.sender import SenderOptions
from kvsender_spec.contract import Attribution, KVPoll, KVTransferError

if TYPE_CHECKING:
    from nixl._api import nixl_agent, nixl_prepped_dlist_handle, nixl_xfer_handle


@pytest.fixture(autouse=True)
def _nixl_env(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in NIXL_ENV.items():
        monkeypatch.setenv(name, value)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.0005)


class Pair:
    def __init__(
        self,
        suffix: str,
        ports: tuple[int, int] | None = None,
        options: SenderOptions = SenderOptions(),  # noqa: B008
    ) -> None:
        here, there = ports if ports is not None else (None, None)
        self.prefill_agent: nixl_agent = create_agent(f"prefill-{suffix}", listen_port=here)
        self.decode_agent: nixl_agent = create_agent(f"decode-{suffix}", listen_port=there)
        self.pool, self.aux = memory(1)
        self.far_pool, self.far_aux = memory(None)
        self.prefill: Prefill[nixl_prepped_dlist_handle, nixl_xfer_handle] = Prefill(
            self.prefill_agent, self.pool, self.aux, options
        )
        self.decode: Decode[nixl_prepped_dlist_handle, nixl_xfer_handle] = Decode(
            self.decode_agent, self.far_pool, self.far_aux
        )

    def transfer(self, room: int, info: Callable[[Any], None]) -> None:
        receiver = self.decode.receiver(room, self.prefill_agent.name)
        info(receiver.init(ids(7, 2, 4), 3))
        sender = self.prefill.sender(room)
        sender.init(3, 0)

        def ready() -> bool:
            self.decode.drain()  # what it has sent leaves only while it calls NIXL
            self.prefill.drain()
            return sender.poll() is KVPoll.WaitingForInput

        wait(ready)
        sender.send(ids(0, 5))
        sender.send(ids(1))

        def over() -> bool:
            self.decode.drain()
            return sender.poll().terminal and receiver.poll().terminal

        wait(over)
        assert sender.poll() is receiver.poll() is KVPoll.Success
        ours = (*self.pool.k_buffers, *self.pool.v_buffers)
        theirs = (*self.far_pool.k_buffers, *self.far_pool.v_buffers)
        assert all(torch.equal(a[[0, 5, 1]], b[[7, 2, 4]]) for a, b in zip(ours, theirs, strict=True))
        assert all(torch.equal(a[0], b[3]) for a, b in zip(self.aux.tensors, self.far_aux.tensors, strict=True))
        sender.clear()
        receiver.clear()


def test_in_process_exchange() -> None:
    pair = Pair("inline")
    pair.prefill.register_peer(pair.decode.metadata())
    for room in range(3):
        pair.transfer(room, pair.prefill.add_transfer_info)
    assert pair.prefill.residue() == pair.decode.residue() == pair.prefill.close() == 0


def test_socket_exchange() -> None:
    port = free_port()
    pair = Pair("socket", (port, free_port()))
    name = pair.prefill_agent.name
    fetch_metadata(pair.decode_agent, name, "127.0.0.1", port)
    pair.decode_agent.send_notif(name, b"not a message")
    pair.decode_agent.send_notif(name, pair.decode.metadata().to_bytes())
    pair.transfer(1, lambda info: pair.decode_agent.send_notif(name, info.to_bytes()))
    assert pair.prefill.drained.malformed == 1
    assert pair.prefill.drained.refused == 0


def test_source_pages_of_a_killed_peer_come_back_when_its_process_is_found_gone() -> None:
    victim = LabPeer(1)
    victim.begin("decode-victim")
    metadata = victim.metadata
    try:
        agent: nixl_agent = create_agent("prefill-victim")
        pool = Arrays(Memory.filled(1, REQUEST).regions)
        aux = Arrays(Memory.filled(1, REQUEST).slots)
        prefill: Prefill[nixl_prepped_dlist_handle, nixl_xfer_handle] = Prefill(
            agent, pool, aux, SenderOptions(drain_timeout_s=0.5)
        )
        prefill.register_peer(metadata)
        victim.remote.hold(True)
        prefill.add_transfer_info(
            victim.decode.open(1, "t", "prefill-victim", range(500), None, is_dummy=False, required=1)
        )
        sender = prefill.sender(1)
        sender.init(500)
        sender.send(ids(*range(500)))
        sender.poll()
        victim.process.sigkill()
        wait(lambda: sender.poll().terminal)
        assert sender.poll() is KVPoll.Failed
        assert len(prefill.quarantined_pages()) in (0, 500), "the first sweep may have found it gone"

        def free() -> bool:
            prefill.sweep()
            return not prefill.quarantined_pages()

        wait(free)
    finally:
        victim.close()


def test_an_agent_whose_name_is_no_text_is_survived() -> None:
    """As nixl 1.5.1 does it: the whole batch is lost. Where a newer one keeps it, this test says so."""
    from nixl import _bindings

    pair = Pair("names")
    name: Any = b"ba\xffd"
    stranger: Any = _bindings.nixlAgent(name, _bindings.nixlAgentConfig())
    stranger.createBackend("UCX", stranger.getPluginParams("UCX")[0])
    stranger.loadRemoteMD(pair.decode_agent.get_agent_metadata())
    stranger.genNotif(pair.decode_agent.name, b"hello")

    def lost() -> bool:
        pair.decode.drain()
        stranger.getNotifs({}, [])
        return pair.decode.drained.lost == 1

    wait(lost)
    pair.prefill.register_peer(pair.decode.metadata())
    pair.transfer(1, pair.prefill.add_transfer_info)


def test_silent_peer() -> None:
    """A receiver without progress thread that never calls NIXL is as silent as a stopped one."""
    pair = Pair("silent", options=SenderOptions(transfer_timeout_s=0.3, drain_timeout_s=0.2))
    pair.prefill.register_peer(pair.decode.metadata())
    pair.prefill.add_transfer_info(pair.decode.receiver(1, pair.prefill_agent.name).init(ids(1, 2)))
    sender = pair.prefill.sender(1)
    sender.init(2)
    sender.send(ids(3))
    wait(lambda: sender.poll().terminal)
    with pytest.raises(KVTransferError) as caught:
        sender.failure_exception()
    assert caught.value.attribution is Attribution.DEADLINE
    assert pair.prefill.quarantined_pages() == {3}
    assert pair.prefill.sweep() == 1

    def settled() -> bool:
        pair.decode.drain()
        return pair.prefill.sweep() == 0

    wait(settled)
    assert not pair.prefill.quarantined_pages()
    assert sender.poll() is KVPoll.Failed
