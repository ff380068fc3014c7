"""The passive side of the verified-fake suite: a process with a raw NIXL agent that does what it is asked.

Run by ``kvsender_nixl.lab.process``; the requests are those of ``tests.kit.pair``. Without a progress thread the agent
moves data only when it is called, so it is called every millisecond, unless ``Hold`` says otherwise.
"""

from __future__ import annotations

import sys

import numpy as np
from tests.kit import pair

from kvsender_nixl.lab.process import serve

if __name__ == "__main__":
    # NIXL imports torch only to learn about CUDA, and that would be most of the start-up time of this process.
    sys.modules["torch"] = None  # type: ignore[assignment]

from nixl._api import nixl_agent, nixl_agent_config
from nixl._bindings import nixlRegDList


class RawPeer:
    """One agent at a time, with its memory; ``Start`` replaces it."""

    def __init__(self) -> None:
        self.agent: nixl_agent | None = None
        self.regions: list[pair.Bytes] = []
        self.registrations: list[nixlRegDList] = []
        self.notifs: list[tuple[str, bytes]] = []
        self.held = False

    def start(self, name: str) -> None:
        self.agent = None  # the old one lets go of its memory before the memory goes
        self.regions.clear()
        self.registrations.clear()
        self.notifs.clear()
        self.held = False
        self.agent = nixl_agent(name, nixl_agent_config(enable_prog_thread=False))

    def pump(self) -> None:
        if not self.held:
            self.call()

    def call(self) -> None:
        """Nothing moves but in here."""
        if self.agent is not None:
            for sender, messages in self.agent.get_new_notifs().items():
                self.notifs += ((sender, message) for message in messages)

    def register(self, length: int) -> int:
        assert self.agent is not None
        region = np.zeros(length, np.uint8)
        self.regions.append(region)
        self.registrations.append(self.agent.register_memory([(region.ctypes.data, length, 0, "")], "DRAM"))
        return region.ctypes.data

    def answer(self, request: pair.Request) -> pair.Reply:
        match request:
            case pair.Start(name, length):
                self.start(name)
                return self.register(length)
            case pair.Register(length):
                return self.register(length)
            case pair.Deregister():
                assert self.agent is not None
                self.agent.deregister_memory(self.registrations.pop(0))
            case pair.Metadata():
                assert self.agent is not None
                return self.agent.get_agent_metadata()
            case pair.Read(offset, length):
                return self.regions[0][offset : offset + length].tobytes()
            case pair.Count(value):
                return int(np.count_nonzero(self.regions[0] == value))
            case pair.Zero():
                self.regions[0][:] = 0
            case pair.Fill(first, count, value):
                self.regions[0][first * pair.PAGE : (first + count) * pair.PAGE] = value
            case pair.Notifs():
                self.pump()
                notifs, self.notifs = self.notifs, []
                return notifs
            case pair.Hold(held):
                self.held = held
            case pair.Pump():
                self.call()
            case pair.PostAfterRelease():
                return post_after_release()
        return None


def post_after_release() -> str:
    """What NIXL answers to the misuse that no sender may commit, if the process lives to tell."""
    here, there = (nixl_agent(name, nixl_agent_config(enable_prog_thread=False)) for name in ("here", "there"))
    memory = np.zeros(8192, np.uint8)
    address = memory.ctypes.data
    for agent in (here, there):
        agent.register_memory([(address, 8192, 0, "")], "DRAM")
    here.add_remote_agent(there.get_agent_metadata())
    local, remote = (here.get_xfer_descs([(start, 4096, 0)], "DRAM") for start in (address, address + 4096))
    handle = here.initialize_xfer("WRITE", local, remote, "there")
    here.release_xfer_handle(handle)
    return here.transfer(handle)


if __name__ == "__main__":
    peer = RawPeer()
    serve(peer.answer, peer.pump)
