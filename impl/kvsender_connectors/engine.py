"""Mooncake's transfer engine as a library would offer it, over the scripted agent: a call moves bytes, or answers -1.

Only the calls that SGLang's wrapper of the engine makes. As in the real engine, a transfer is synchronous, errors are
numbers, and a transfer that outlasts the timeout of the engine itself (``MC_TRANSFER_TIMEOUT``) is answered -1 while it
goes on: SGLang 0.5.23 says so in ``_poison_unsettled_send``, and kvcache-ai/Mooncake#4247 does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from kvsender_spec.contract import Clock
from kvsender_spec.faults import STAND_INS
from kvsender_spec.kit.scripted.fabric import ScriptedAgent, ScriptedHandle

FAILED: Final = -1
RPC_PORT: Final = 29_999
_ERRORS: Final[tuple[type[Exception], ...]] = (*STAND_INS.values(), RuntimeError)


class ScriptedEngine:
    """One process's engine. ``peers`` gives the agent of each session."""

    def __init__(self, agent: ScriptedAgent, peers: Mapping[str, str], clock: Clock, timeout_s: float) -> None:
        self._agent: Final = agent
        self._timeout_s: Final = timeout_s
        self._peers: Final = peers
        self._clock: Final = clock
        self._unsettled: Final[list[ScriptedHandle]] = []
        """Transfers that were given up while they ran. The engine keeps them, since nothing ends them."""

    def initialize(self, hostname: str, metadata: str, protocol: str, device: str) -> int:
        return 0

    def get_rpc_port(self) -> int:
        return RPC_PORT

    def batch_register_memory(self, pointers: Sequence[int], lengths: Sequence[int]) -> int:
        self._agent.register_memory([(p, n, 0, "") for p, n in zip(pointers, lengths, strict=True)], "DRAM")
        return 0

    def send_probe(self, session: str) -> int:
        """0 if the peer answers: its process runs, and the connection to it is whole."""
        link = self._agent.links.get(self._peers[session])
        return FAILED if link is None or link.broken or link.peer.stopped else 0

    def batch_transfer_sync_write(
        self, session: str, buffers: Sequence[int], peer_buffers: Sequence[int], lengths: Sequence[int]
    ) -> int:
        """Write blocks to a peer, and wait for the end. An error of the transport is a number, like everything here;
        any other exception is a mistake of this class, or the kit's to throw, and passes."""
        peer = self._peers[session]
        mine = self._agent.get_xfer_descs([(p, n, 0) for p, n in zip(buffers, lengths, strict=True)], "DRAM")
        theirs = self._agent.get_xfer_descs([(p, n, 0) for p, n in zip(peer_buffers, lengths, strict=True)], "DRAM")
        try:
            handle = self._agent.initialize_xfer("WRITE", mine, theirs, peer)
        except _ERRORS:
            return FAILED
        since_s = self._clock()
        try:
            state = self._agent.transfer(handle)
            while state == "PROC":
                if self._clock() - since_s >= self._timeout_s:
                    self._unsettled.append(handle)
                    return FAILED
                state = self._agent.check_xfer_state(handle)
        except _ERRORS:
            state = "ERR"
        except BaseException:
            self._unsettled.append(handle)  # nothing says that it is over
            raise
        with suppress(*_ERRORS):
            self._agent.release_xfer_handle(handle)
        return 0 if state == "DONE" else FAILED
