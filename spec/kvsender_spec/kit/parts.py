"""What an adapter's system and sender can do: asked once for an adapter, and not in every run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from kvsender_spec.contract import Abortable, Clearable, Measured
from kvsender_spec.faults import NIXL_KINDS, Kind
from kvsender_spec.history.errors import ErrorClasses
from kvsender_spec.history.header import Ability
from kvsender_spec.kit import adapter as able
from kvsender_spec.kit.adapter import Adapter
from kvsender_spec.kit.run.calls import AdapterError, Calls
from kvsender_spec.kit.run.scripted_world import ScriptedWorld
from kvsender_spec.kit.scripted.fabric import UseAfterRelease
from kvsender_spec.machine import Profile
from kvsender_spec.trace import Setup

_OF_THE_SYSTEM: Final[Mapping[Ability, type]] = {
    Ability.NOTIFY: able.Notifies,
    Ability.QUARANTINE: able.Quarantines,
    Ability.ATTRIBUTION: able.Attributes,
    Ability.RECONNECT: able.Reconnects,
    Ability.WORKERS: able.Works,
    Ability.CONTROL: able.TakesControl,
    Ability.COUNTS: able.CountsResidue,
    Ability.UNINITIALISED: able.OpensUninitialised,
    Ability.HIDES_ERRORS: able.HidesErrors,
}
_OF_THE_SENDER: Final[Mapping[Ability, type]] = {
    Ability.ABORT: Abortable,
    Ability.CLEAR: Clearable,
    Ability.METRICS: Measured,
}
_KNOWN: Final[dict[int, tuple[Adapter, frozenset[Ability]]]] = {}
"""By the adapter's identity; the adapter is kept, so that the identity stays its own."""
_MOST_KNOWN: Final = 256


class LoadError(ValueError):
    """``module:attribute`` names nothing that can be checked; the message says what is wrong and what to do."""


class Claiming:
    """An adapter that claims another profile than it does by itself."""

    def __init__(self, adapter: Adapter, profile: Profile) -> None:
        self.name: Final = adapter.name
        self.profile: Final = profile
        self.errors: Final = adapter.errors
        self.usage_errors: Final = adapter.usage_errors
        self.open: Final = adapter.open


def claiming(adapter: Adapter, profile: Profile | None) -> Adapter:
    """The adapter itself, or one that claims the profile in its place."""
    return adapter if profile is None or profile is adapter.profile else Claiming(adapter, profile)


def transport_errors(adapter: Adapter) -> dict[str, type[Exception]]:
    """The transport's classes by NIXL's names. Raises AdapterError for an adapter that lacks one."""
    missing = [kind.value for kind in NIXL_KINDS if kind.value not in adapter.errors]
    if missing:
        raise AdapterError(f"adapter {adapter.name}: errors lacks {', '.join(missing)}")
    return {kind.value: adapter.errors[kind.value] for kind in NIXL_KINDS}


def error_classes(adapter: Adapter) -> ErrorClasses:
    """How this sender's world tells errors apart."""
    errors = transport_errors(adapter)
    return ErrorClasses(
        tuple(errors.values()), errors[Kind.REMOTE_DISCONNECT.value], adapter.usage_errors, (UseAfterRelease,)
    )


def abilities(adapter: Adapter) -> frozenset[Ability]:
    """What the adapter's system and sender can do.

    Raises LoadError for a system or sender that lacks a method which all must have, and AdapterError where they cannot
    be made.
    """
    known = _KNOWN.get(id(adapter))
    if known is not None and known[0] is adapter:
        return known[1]
    found = _ask(adapter)
    if len(_KNOWN) >= _MOST_KNOWN:
        _KNOWN.clear()
    _KNOWN[id(adapter)] = adapter, found
    return found


def _ask(adapter: Adapter) -> frozenset[Ability]:
    scripted_world = ScriptedWorld(Setup(), transport_errors(adapter))
    calls = Calls(adapter.name, scripted_world.fabric)
    system = calls.hook("open", lambda: adapter.open(scripted_world.world))
    _require(adapter, "what open() returned", system, ("sender",))
    calls.system = system if isinstance(system, able.Works) else None
    sender = calls.hook("sender", lambda: system.sender(scripted_world.plan(0, incarnation=0)))
    _require(adapter, "what sender() returned", sender, ("send", "poll", "failure_exception"))
    found = {ability for ability, protocol in _OF_THE_SYSTEM.items() if isinstance(system, protocol)}
    found |= {ability for ability, protocol in _OF_THE_SENDER.items() if isinstance(sender, protocol)}
    calls.close()
    return frozenset(found)


def _require(adapter: Adapter, what: str, found: object, methods: Iterable[str]) -> None:
    """Refuse what mypy would have refused: a missing method must not look like a failure of the sender."""
    missing = [f"{name}()" for name in methods if not hasattr(found, name)]
    if missing:
        raise LoadError(
            f"adapter {adapter.name}: {what}, a {type(found).__name__}, lacks {', '.join(missing)}"
            " (see kvsender_spec.contract.Sender and kvsender_spec.kit.adapter.System)"
        )
