"""SGLang 0.5.23, Mooncake: the shared sender over an engine that answers numbers.

SGLang's own wrapper of the engine is the real one, so an exception inside the engine becomes -1 there, whatever it is.
The status message of this transport carries no reason.

Dummies say nothing here. A room concludes when as many peers have its bytes as have announced themselves, so SGLang
cannot have a dummy and a real peer of one room at one prefill rank, which is what the kit's setups have.
"""

from __future__ import annotations

import sys
from typing import Final

from kvsender_connectors.engine import ScriptedEngine
from kvsender_connectors.loading import load_modules
from kvsender_connectors.release import Release
from kvsender_connectors.stand_ins import MOONCAKE, SINCE_0_5_23
from kvsender_connectors.system import BOOTSTRAP_ADDRESS, QueueingSender, SGLangAdapter, SGLangSystem
from kvsender_connectors.wire import HOST, mooncake_registration, mooncake_room, port, session
from kvsender_spec.kit.adapter import RoomPlan, World

RELEASE: Final = Release("0.5.23", "mooncake", "Mooncake", {**SINCE_0_5_23, **MOONCAKE})
(WRAPPER,) = load_modules("sglang.srt.distributed.device_communicators.mooncake_transfer_engine")


class System(SGLangSystem):
    """One manager over the kit's engine, with every peer registered."""

    def __init__(self, world: World) -> None:
        ports = {session(port(world.peers, peer)): peer.name for peer in world.peers}
        engine = ScriptedEngine(world.transport, ports, world.clock, world.transfer_timeout_s)
        for peer in world.peers:
            world.transport.add_remote_agent(peer.agent.get_agent_metadata())
        vars(sys.modules["mooncake.engine"])["TransferEngine"] = lambda: engine
        wrapped: object = WRAPPER.MooncakeTransferEngine(HOST)
        super().__init__(RELEASE, world, {"get_mooncake_transfer_engine": lambda: wrapped}, nested_state=True)
        for peer in world.peers:
            self.seams.control.deliver(mooncake_registration(peer, port(world.peers, peer)))

    def make(self, plan: RoomPlan) -> QueueingSender:
        return QueueingSender(RELEASE.sender_class(self.manager, BOOTSTRAP_ADDRESS, plan.room), [])

    def announce(self, plan: RoomPlan) -> None:
        real = tuple(target for target in plan.destinations if not target.dummy)
        for target in real:
            self.seams.control.deliver(mooncake_room(plan, target, len(real), port(self.world.peers, target.peer)))

    def shown_as(self, error: BaseException) -> str:
        """The engine's -1 says that a transfer has failed and nothing more; these words of the reason say as much."""
        return "Failed to send"

    def settle(self) -> None:
        """One round of the loop that probes peers to which a transfer has failed."""
        for interval in self.seams.intervals:
            interval.ring()


class Adapter(SGLangAdapter):
    name = "SGLang 0.5.23 Mooncake"

    def open(self, world: World) -> System:
        return System(world)


adapter: Final = Adapter()
