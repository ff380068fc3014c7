"""What a target's system can do: asked once, in a room in which nothing goes wrong."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final, cast

from kvsender_spec.contract import Abortable, Clearable, Operation
from kvsender_spec.history.header import Ability
from kvsender_spec.history.words import Says
from kvsender_spec.kit import adapter as common
from kvsender_spec.kit.adapter import Adapter
from kvsender_spec.kit.run.calls import Calls
from kvsender_spec.kit.targets import adapter as able
from kvsender_spec.kit.targets.world import TargetWorld
from kvsender_spec.trace import Setup

_OF_THE_SYSTEM: Final[Mapping[Ability, type]] = {
    Ability.ATTRIBUTION: common.Attributes,
    Ability.RECONNECT: common.Reconnects,
    Ability.WORKERS: common.Works,
    Ability.COUNTS: common.CountsResidue,
    Ability.TELLS: able.TellsInitiators,
    Ability.FENCES: able.Fences,
    Ability.REFILLS: able.Refills,
    Ability.PUBLISHES: able.Publishes,
}
_OF_THE_TARGET: Final[Mapping[Ability, type]] = {Ability.ABORT: Abortable, Ability.CLEAR: Clearable}
SYSTEM_METHODS: Final = ("target", "held_pages", "message")
TARGET_METHODS: Final = ("poll", "failure_exception")


def ask_target(
    adapter: Adapter, errors: Mapping[str, type[Exception]], operation: Operation
) -> tuple[frozenset[Ability], dict[str, tuple[object, tuple[str, ...]]]]:
    """What it can do, and what the kit got, by the name of the call that made it, with the methods it must have.

    Raises AdapterError where they cannot be made.
    """
    world = TargetWorld(Setup(operation=operation, role="target"), errors)
    calls = Calls(adapter.name, world.fabric)
    system: object = calls.hook("open", lambda: adapter.open(world.world))
    got: dict[str, tuple[object, tuple[str, ...]]] = {"open": (system, SYSTEM_METHODS)}
    if not all(hasattr(system, name) for name in SYSTEM_METHODS):
        return frozenset(), got
    world.connect()
    plan = world.plan(0, 0, frozenset())
    assert plan is not None
    made: object = calls.hook("target", lambda: cast("able.TargetSystem", system).target(plan))
    got["target"] = (made, TARGET_METHODS)
    found = {ability for ability, protocol in _OF_THE_SYSTEM.items() if isinstance(system, protocol)}
    found |= {ability for ability, protocol in _OF_THE_TARGET.items() if isinstance(made, protocol)}
    if isinstance(system, able.AsksAgain) and system.asks_again:
        found.add(Ability.ASKS)
    if operation == "READ":
        found.add(Ability.HOLDS)
    if isinstance(system, able.TellsInitiators):
        for messages in world.peers[0].agent.get_new_notifs().values():
            for message in messages:
                notice = calls.hook("read_message", partial(system.read_message, message))
                if notice is not None and notice.says is Says.ANNOUNCE:
                    found.add(Ability.ANNOUNCES)
    calls.close()
    return frozenset(found), got
