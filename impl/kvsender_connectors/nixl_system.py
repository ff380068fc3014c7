"""SGLang's prefill side on NIXL."""

from __future__ import annotations

import sys
from typing import Final

from kvsender_connectors.nixl_agent import HostMemoryAgent
from kvsender_connectors.release import Release
from kvsender_connectors.system import BOOTSTRAP_ADDRESS, PostingSender, QueueingSender, SGLangAdapter, SGLangSystem
from kvsender_connectors.wire import nixl_registration, nixl_room, port
from kvsender_spec.kit.adapter import RoomPlan, World


class NixlAdapter(SGLangAdapter):
    """The sender of one release. The errors of NIXL are stand-ins; the releases import them under NIXL's names.

    ``queues``: send() queues and worker threads post. ``names_dummies``: a peer says itself that it is a dummy.
    ``takes_ranks``: the sender's constructor takes the decode ranks and the pipeline rank.
    """

    def __init__(
        self, release: Release, *, queues: bool = True, names_dummies: bool = False, takes_ranks: bool = True
    ) -> None:
        self.name = f"SGLang {release.version} NIXL"
        self.release: Final = release
        self.queues: Final = queues
        self.names_dummies: Final = names_dummies
        self.takes_ranks: Final = takes_ranks

    def open(self, world: World) -> NixlSystem:
        return NixlSystem(self, world)


class NixlSystem(SGLangSystem):
    """One manager over the kit's agent, with every peer registered."""

    def __init__(self, adapter: NixlAdapter, world: World) -> None:
        self._adapter: Final = adapter
        agent = HostMemoryAgent(world.transport)
        # The manager imports this name when it is made, and gives its agent a name that nobody else has to know.
        vars(sys.modules["nixl._api"])["nixl_agent"] = lambda _name, _config: agent
        super().__init__(adapter.release, world, {}, nested_state=adapter.queues)
        for peer in world.peers:
            self.seams.control.deliver(nixl_registration(peer, port(world.peers, peer)))

    def make(self, plan: RoomPlan) -> PostingSender:
        ranks = ([0], 0) if self._adapter.takes_ranks else ()
        sender = self.release.sender_class(self.manager, BOOTSTRAP_ADDRESS, plan.room, *ranks)
        # A dense model has no state pools, so its scheduler passes an empty list of state indices with the last chunk.
        return QueueingSender(sender, []) if self._adapter.queues else PostingSender(sender, None)

    def announce(self, plan: RoomPlan) -> None:
        for target in plan.destinations:
            number = port(self.world.peers, target.peer)
            frames = nixl_room(plan, target, number, names_dummies=self._adapter.names_dummies)
            self.seams.control.deliver(frames)
