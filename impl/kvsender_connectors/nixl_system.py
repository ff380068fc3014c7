"""SGLang's prefill side on NIXL."""

from __future__ import annotations

import sys
from typing import ClassVar

from kvsender_connectors.nixl_agent import HostMemoryAgent
from kvsender_connectors.release import ClearableSender, Release
from kvsender_connectors.system import BOOTSTRAP_ADDRESS, SGLangAdapter, SGLangSystem
from kvsender_connectors.wire import nixl_registration, nixl_room, port
from kvsender_spec.kit.adapter import RoomPlan, World


class NixlSystem(SGLangSystem):
    """One manager over the kit's agent, with every peer registered."""

    names_dummies: ClassVar = False
    """Whether a peer says itself that it is a dummy."""
    takes_ranks: ClassVar = True
    """Whether the sender's constructor takes the decode ranks and the pipeline rank."""

    def __init__(self, release: Release, world: World, *, nested_state: bool) -> None:
        agent = HostMemoryAgent(world.transport)
        # The manager imports this name when it is made, and gives its agent a name that nobody else has to know.
        vars(sys.modules["nixl._api"])["nixl_agent"] = lambda _name, _config: agent
        super().__init__(release, world, {}, nested_state=nested_state)
        for peer in world.peers:
            self.seams.control.deliver(nixl_registration(peer, port(world.peers, peer)))

    def real_sender(self, plan: RoomPlan) -> ClearableSender:
        ranks = ([0], 0) if self.takes_ranks else ()
        return self.release.sender_class(self.manager, BOOTSTRAP_ADDRESS, plan.room, *ranks)

    def announce(self, plan: RoomPlan) -> None:
        for target in plan.destinations:
            number = port(self.world.peers, target.peer)
            self.seams.control.deliver(nixl_room(plan, target, number, names_dummies=self.names_dummies))


class NixlAdapter(SGLangAdapter):
    """The errors of NIXL are stand-ins; the releases import them under NIXL's names."""
