"""Adapters of ``test_jobs``, which other processes import by this name."""

from __future__ import annotations

from threading import Lock

from kvsender_spec.kit.adapter import RoomPlan, World
from kvsender_spec.kit.toy import ToyAdapter, ToySender, ToySystem


class _System(ToySystem):
    def sender(self, plan: RoomPlan) -> ToySender:
        if len(self.world.peers) > 1:
            raise ValueError("this adapter knows one peer")
        return super().sender(plan)


class BreaksOften(ToyAdapter):
    """An adapter with an error of its own, which ends the exploration."""

    name = "breaks often"

    def open(self, world: World) -> ToySystem:
        return _System(world)


class Unpicklable(ToyAdapter):
    """An adapter with something in it that no other process can be sent."""

    name = "unpicklable"

    def __init__(self) -> None:
        self.lock = Lock()


adapter = BreaksOften()
unpicklable = Unpicklable()
