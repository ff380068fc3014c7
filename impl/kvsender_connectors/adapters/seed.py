"""The sender of the seed, SGLang's pull request 24296, as published there: its rules in our words, none of its code.

The rules: send() posts and poll() checks. The first error of the transport is latched; from then on poll() answers
Failed, send() does nothing, and failure_exception() raises the original error. Three of NIXL's classes are the
transport's, and only they are caught; without the bindings it is RuntimeError alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NoReturn

from kvsender_connectors.notifications import read_chunk
from kvsender_connectors.system import SGLangAdapter
from kvsender_connectors.wire import ORDER, Block, Layout
from kvsender_spec.contract import KVPoll
from kvsender_spec.faults import STAND_INS, Kind
from kvsender_spec.kit.adapter import Destination, Notification, RoomPlan, World
from kvsender_spec.kit.scripted.fabric import ScriptedHandle

TRANSPORT_ERRORS: Final = tuple(
    STAND_INS[kind.value] for kind in (Kind.REMOTE_DISCONNECT, Kind.BACKEND, Kind.CANCELLED)
)


class SeedSender:
    """One room's sender."""

    def __init__(self, world: World, plan: RoomPlan) -> None:
        self._world: Final = world
        self._plan: Final = plan
        self._layout: Final = Layout.of(world.memory)
        self._handles: Final[list[ScriptedHandle]] = []
        self._sent = 0
        self._chunk = 0
        self._has_sent = False
        self._send_failed = False
        self._send_error: Exception | None = None

    def send(self, kv_indices: Sequence[int]) -> None:
        if self._send_failed:
            return
        first = self._sent
        self._sent += len(kv_indices)
        pages = [int(page) for page in kv_indices]  # as the arrays of SGLang's descriptors do with whatever they get
        last = self._sent == self._plan.num_pages
        try:
            for target in self._plan.destinations:
                if not target.dummy:
                    self._post(target, pages, target.pages[first : self._sent], last=last)
        except TRANSPORT_ERRORS as error:
            self._send_failed, self._send_error = True, error
            return
        self._chunk += 1
        self._has_sent = last

    def _post(self, target: Destination, mine: Sequence[int], theirs: Sequence[int], *, last: bool) -> None:
        """The pages of a chunk, and after the last chunk's the aux data, each in a transfer of its own."""
        if len(mine) != len(theirs):
            raise AssertionError(f"{len(mine)} pages for {len(theirs)} places")
        local, remote = self._layout, Layout.of(target.peer.memory)
        if mine:
            message = f"{self._plan.room}_kv_{self._chunk}_{int(last)}_0"
            self._transfer(target.peer.name, local.kv_rows(mine), remote.kv_rows(theirs), message)
        if last:
            here, there = local.aux_rows(self._plan.aux_index), remote.aux_rows(target.aux_index)
            self._transfer(target.peer.name, here, there, f"{self._plan.room}_aux")

    def _transfer(self, peer: str, mine: list[Block], theirs: list[Block], message: str) -> None:
        agent = self._world.transport
        handle = agent.initialize_xfer(
            "WRITE",
            agent.get_xfer_descs(mine, "DRAM"),
            agent.get_xfer_descs(theirs, "DRAM"),
            peer,
            message.encode("ascii"),
        )
        if agent.transfer(handle) == "ERR":
            raise RuntimeError("the post was refused")
        self._handles.append(handle)

    def poll(self) -> KVPoll:
        if self._send_failed:
            return KVPoll.Failed
        if not self._has_sent:
            return KVPoll.WaitingForInput
        try:
            states = [self._world.transport.check_xfer_state(handle) for handle in self._handles]
        except TRANSPORT_ERRORS as error:
            self._send_failed, self._send_error = True, error
            return KVPoll.Failed
        if all(state == "DONE" for state in states):
            return KVPoll.Success
        if "ERR" in states:
            raise RuntimeError("a transfer has failed")
        return KVPoll.WaitingForInput

    def failure_exception(self) -> NoReturn:
        if self._send_error is not None:
            raise self._send_error
        raise RuntimeError("the sender has failed")


class SeedSystem:
    """One agent that knows every peer. The seed's tables of rooms are SGLang's and no part of its rules."""

    def __init__(self, world: World) -> None:
        self._world: Final = world
        memory, agent = world.memory, world.transport
        regions = [memory.kv[region] for region in ORDER] + list(memory.aux)
        agent.register_memory([(memory.address(region), len(region), 0, "") for region in regions], "DRAM")
        for peer in world.peers:
            agent.add_remote_agent(peer.agent.get_agent_metadata())

    def sender(self, plan: RoomPlan) -> SeedSender:
        return SeedSender(self._world, plan)

    def read_notification(self, message: bytes) -> Notification | None:
        return read_chunk(message)


class Adapter(SGLangAdapter):
    name = "seed (PR 24296), transcribed"

    def open(self, world: World) -> SeedSystem:
        return SeedSystem(world)


adapter: Final = Adapter()
