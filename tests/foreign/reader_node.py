"""What readers without a pump share: their errors, slots for stamps, READs, and what outlives a room."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from threading import RLock
from typing import Final, Literal

from tests.foreign.reader_base import STAMP

from kvsender_spec.contract import Attribution
from kvsender_spec.faults import STAND_INS
from kvsender_spec.kit.adapter import Peer, World
from kvsender_spec.kit.scripted.agent import ScriptedAgent
from kvsender_spec.kit.scripted.fabric import ScriptedHandle

_SLAB: Final = 256
_TRANSPORT: Final = (*STAND_INS.values(), RuntimeError)


class PullError(Exception):
    """Whatever went wrong; the reason is the cause."""

    def __init__(self, text: str, whose: Attribution) -> None:
        super().__init__(text)
        self.whose = whose


class Misuse(ValueError):
    pass


class LeaseLost(Exception):
    pass


class Deadline(Exception):
    pass


class GivenUp(Exception):
    pass


def whose(error: BaseException) -> Attribution:
    if isinstance(error, LeaseLost | STAND_INS["nixlRemoteDisconnectError"]):
        return Attribution.PEER
    if isinstance(error, Deadline):
        return Attribution.DEADLINE
    if isinstance(error, GivenUp):
        return Attribution.CALLER
    return Attribution.LOCAL if type(error) in _TRANSPORT else Attribution.INTERNAL


class Scratch:
    """Registered slots for stamps; those of a READ in doubt never come back."""

    def __init__(self, agent: ScriptedAgent) -> None:
        self.agent = agent
        self.slabs: list[bytearray] = []
        self.free: list[int] = []

    def take(self, count: int) -> list[int]:
        while len(self.free) < count:
            slab = bytearray(STAMP * _SLAB)
            self.slabs.append(slab)
            at = ctypes.addressof(ctypes.c_char.from_buffer(slab))
            self.agent.register_memory([(at, len(slab), 0, "")], "DRAM")
            self.free += [at + slot * STAMP for slot in range(_SLAB)]
        taken, self.free = self.free[:count], self.free[count:]
        return taken

    @staticmethod
    def value(at: int) -> int:
        return int.from_bytes(ctypes.string_at(at, STAMP), "little")


class Xfer:
    """One READ: its pages, where its stamps go, and what they must be."""

    state: Literal["flying", "done", "doubt"] = "flying"
    orphan = False

    def __init__(
        self, handle: ScriptedHandle, pages: list[int], slots: list[int], stamps: list[int], since: float
    ) -> None:
        self.handle: ScriptedHandle | None = handle
        self.pages, self.slots, self.stamps, self.since = pages, slots, stamps, since


class Node:
    """One decode process."""

    def __init__(self, world: World) -> None:
        self.world, self.agent, self.lock = world, world.transport, RLock()
        self.rooms: set[int] = set()
        """Their incarnations."""
        self.flying: list[Xfer] = []
        self.torn: set[int] = set()
        self.added: set[str] = set()
        self.epoch: dict[str, int] = {}
        self.to_release: list[ScriptedHandle] = []
        self.scratch = Scratch(self.agent)
        self.agent.register_memory([(world.memory.address(r), len(r), 0, "") for r in world.memory.kv], "DRAM")
        for peer in world.peers:
            self.meet(peer)

    def meet(self, peer: Peer) -> None:
        with self.lock:
            self.epoch[peer.name] = self.epoch.get(peer.name, 0) + 1
            self.drop(peer.name)
            with suppress(Exception):  # tried again when a room needs it
                self.add(peer)

    def drop(self, name: str) -> None:
        if name in self.added:
            self.added.remove(name)
            self.agent.remove_remote_agent(name)

    def add(self, peer: Peer) -> None:
        self.agent.add_remote_agent(peer.agent.get_agent_metadata())
        self.added.add(peer.name)

    def release(self) -> None:
        for handle in list(self.to_release):
            with suppress(Exception):
                self.agent.release_xfer_handle(handle)
                self.to_release.remove(handle)

    def settled(self, xfer: Xfer, how: Literal["done", "doubt"]) -> None:
        xfer.state = how
        self.flying.remove(xfer)
        if how == "doubt":
            self.torn.update(xfer.pages)
        if xfer.handle is not None:
            self.to_release.append(xfer.handle)
        xfer.handle = None
        self.release()

    def ask(self, xfer: Xfer) -> None:
        """Ask for one transfer. Raises what the transport raises."""
        assert xfer.handle is not None
        try:
            answer = self.agent.check_xfer_state(xfer.handle)
        except Exception as error:
            if whose(error) is not Attribution.INTERNAL:
                self.settled(xfer, "doubt")
            raise
        self.heard(xfer, answer)

    def heard(self, xfer: Xfer, answer: str) -> None:
        if answer == "PROC":
            return
        self.settled(xfer, "done" if answer == "DONE" else "doubt")
        if answer != "DONE":
            raise RuntimeError(f"state {answer}")

    def sweep(self) -> None:
        with self.lock:
            self.release()
            for xfer in [xfer for xfer in self.flying if xfer.orphan]:
                with suppress(Exception):
                    self.ask(xfer)
                if xfer.state == "done":
                    self.scratch.free += xfer.slots

    def held_pages(self) -> frozenset[int]:
        with self.lock:
            return frozenset(self.torn.union(*(xfer.pages for xfer in self.flying if xfer.orphan)))
