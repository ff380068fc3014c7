"""A prefill side in a process of its own, on real NIXL, that does what it is asked and can be killed.

``python -m tests.impl.real_prefill NAME``; requests are a name of a method of ``Side`` and its arguments.
"""

from __future__ import annotations

import sys
from typing import Any, Final, TypeAlias

import numpy as np

from kvsender_nixl.agent import create_agent
from kvsender_nixl.exchange import PeerMetadata, TransferInfo
from kvsender_nixl.introduction import Introduction
from kvsender_nixl.lab.memory import REQUEST, Arrays, Memory
from kvsender_nixl.lab.process import serve
from kvsender_nixl.prefill import Prefill
from kvsender_nixl.sender import KVSender
from kvsender_nixl.side import SenderOptions

SEED: Final = 7
Request: TypeAlias = "tuple[str, tuple[Any, ...]]"


class Side:
    def __init__(self, name: str) -> None:
        self._memory: Final = Memory.filled(SEED, REQUEST)
        self._agent: Final[Any] = create_agent(name)
        options = SenderOptions(drain_timeout_s=1.0)
        self._prefill: Final[Prefill[Any, Any]] = Prefill(self._agent, Arrays(self._memory.regions), None, options)
        self._senders: Final[dict[int, KVSender[Any, Any]]] = {}

    def introduction(self) -> Introduction:
        return self._prefill.introduction()

    def register(self, metadata: PeerMetadata) -> None:
        self._prefill.register_peer(metadata)

    def send(self, info: TransferInfo, chunks: int) -> None:
        """Send all pages of a room, in so many chunks."""
        self._prefill.add_transfer_info(info)
        sender = self._senders[info.room] = self._prefill.sender(info.room)
        sender.init(len(info.dst_kv_indices))
        for pages in np.array_split(np.arange(len(info.dst_kv_indices), dtype=np.int32), chunks):
            sender.send(pages)

    def lose_ends(self) -> None:
        """From now on no notification that goes on its own arrives, and nobody here is told."""
        self._agent.send_notif = lambda name, message: None

    def lose_none(self) -> None:
        del self._agent.send_notif

    def states(self) -> dict[int, str]:
        return {room: sender.poll().name for room, sender in self._senders.items()}

    def held(self) -> int:
        return len(self._prefill.quarantined_pages())

    def work(self) -> None:
        self._prefill.drain()
        for sender in self._senders.values():
            sender.poll()
        self._prefill.sweep()


def main(name: str) -> None:
    side = Side(name)

    def answer(request: Request) -> object:
        method, arguments = request
        answered: object = getattr(side, method)(*arguments)
        return answered

    serve(answer, side.work)


if __name__ == "__main__":
    main(sys.argv[1])
