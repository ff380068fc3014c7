"""SGLang 0.5.12, NIXL: send() queues, worker threads post and wait, poll() reads a table.

A dense model has no state pools, so its scheduler passes an empty list of state indices with the last chunk.
"""

from __future__ import annotations

from typing import Final

from kvsender_connectors.nixl_system import NixlAdapter, NixlSystem
from kvsender_connectors.release import Release
from kvsender_connectors.stand_ins import UNTIL_0_5_12
from kvsender_connectors.system import QueueingSender
from kvsender_spec.kit.adapter import RoomPlan, World

RELEASE: Final = Release("0.5.12", "nixl", "Nixl", UNTIL_0_5_12)


class System(NixlSystem):
    def make(self, plan: RoomPlan) -> QueueingSender:
        return QueueingSender(self.real_sender(plan), [])


class Adapter(NixlAdapter):
    name = "SGLang 0.5.12 NIXL"

    def open(self, world: World) -> System:
        return System(RELEASE, world, nested_state=True)


adapter: Final = Adapter()
