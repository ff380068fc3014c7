"""What is the same in every run of an adapter, such as what its system and sender can do: asked once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from kvsender_spec.contract import ROLES, Abortable, Clearable, KVPoll, Measured, Operation, Role
from kvsender_spec.faults import NIXL_KINDS, Kind, Point
from kvsender_spec.history.errors import ErrorClasses
from kvsender_spec.history.events import KINDS
from kvsender_spec.history.header import Ability, Header, Limits, Source
from kvsender_spec.kit import adapter as able
from kvsender_spec.kit.adapter import Adapter, NotificationKind, operation_of, role_of
from kvsender_spec.kit.run.calls import AdapterError, Calls
from kvsender_spec.kit.run.invoke import CALL_NAMES, MAKES, invoke, made
from kvsender_spec.kit.run.scripted_world import ScriptedWorld
from kvsender_spec.kit.scripted.fabric import UseAfterRelease
from kvsender_spec.kit.targets.parts import ask_target
from kvsender_spec.kit.targets.world import TargetWorld
from kvsender_spec.machine import Profile
from kvsender_spec.trace import Call, Progress, Setup, Trace

_OF_THE_SYSTEM: Final[Mapping[Ability, type]] = {
    Ability.NOTIFY: able.Notifies,
    Ability.QUARANTINE: able.Quarantines,
    Ability.ATTRIBUTION: able.Attributes,
    Ability.RECONNECT: able.Reconnects,
    Ability.WORKERS: able.Works,
    Ability.CONTROL: able.TakesControl,
    Ability.TARGET_ABORTS: able.TakesAborts,
    Ability.COUNTS: able.CountsResidue,
    Ability.UNINITIALISED: able.OpensUninitialised,
    Ability.HIDES_ERRORS: able.HidesErrors,
}
_OF_THE_SENDER: Final[Mapping[Ability, type]] = {
    Ability.ABORT: Abortable,
    Ability.CLEAR: Clearable,
    Ability.METRICS: Measured,
}
_MOST_KNOWN: Final = 256
_LOOKS: Final = 4
"""So many polls a good room may take that has nothing to wait for."""
_AT_REST_S: Final = 0.5
"""How long a system may take, in a room of which nothing was sent, until its workers wait for work."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Of one adapter, which is kept so that its identity stays its own."""

    adapter: Adapter
    errors: Mapping[str, type[Exception]]
    """The transport's classes by NIXL's names."""
    classes: ErrorClasses
    """How this sender's world tells errors apart."""
    header: Header
    """What every history of a run begins with."""
    counts_waiting: bool
    """Its system counts workers as busy that wait for work."""
    operation: Operation
    """What its system initiates."""
    posts_in: Call
    """Where it posts what send() has taken: SEND, POLL, or WORK for the background work of its system."""
    role: Role = "initiator"

    @property
    def can(self) -> frozenset[Ability]:
        """What the adapter's system and sender can do."""
        return frozenset(self.header.can)

    def plays(self, trace: Trace) -> bool:
        """Whether the trace says something of such a system."""
        aborts = any(step.call is Call.TARGET_ABORTS for step in trace.steps)
        return not self.lacks(trace.setup) and (not aborts or Ability.TARGET_ABORTS in self.can)

    def lacks(self, setup: Setup) -> str:
        """What the system would have to declare to be in such a world; empty where it can be."""
        if setup.role != self.role:
            return f'role = "{setup.role}"'
        if setup.operation == "READ" and self.operation == "WRITE":
            return 'operation = "READ"'
        if setup.cached and Ability.PARTS not in self.can:
            return "takes_parts"
        return "takes_new_names" if setup.renames and Ability.NEW_NAMES not in self.can else ""


_KNOWN: Final[dict[int, Parts]] = {}
"""By the adapter's identity."""


class LoadError(ValueError):
    """``module:attribute`` names nothing that can be checked; the message says what is wrong and what to do."""


class Claiming:
    """An adapter that claims another profile than it does by itself."""

    def __init__(self, adapter: Adapter, profile: Profile) -> None:
        self.adapter: Final = adapter
        self.name: Final = adapter.name
        self.profile: Final = profile
        self.errors: Final = adapter.errors
        self.usage_errors: Final = adapter.usage_errors
        self.operation: Final = operation_of(adapter)
        self.role: Final = role_of(adapter)
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


def parts_of(adapter: Adapter) -> Parts:
    """What is the same in every run.

    Raises LoadError for a system or sender that lacks a method which all must have, and AdapterError where they cannot
    be made.
    """
    known = _KNOWN.get(id(adapter))
    if known is not None and known.adapter is adapter:
        return known
    found = _ask(adapter)
    if len(_KNOWN) >= _MOST_KNOWN:
        _KNOWN.clear()
    _KNOWN[id(adapter)] = found
    return found


def abilities(adapter: Adapter) -> frozenset[Ability]:
    """What the adapter's system and sender can do. Raises what ``parts_of`` raises."""
    return parts_of(adapter).can


def _ask(adapter: Adapter) -> Parts:
    errors = transport_errors(adapter)
    operation, role = operation_of(adapter), role_of(adapter)
    if operation not in MAKES:
        raise LoadError(f"adapter {adapter.name}: operation is {operation!r}, not one of {', '.join(MAKES)}")
    if role not in ROLES:
        raise LoadError(f"adapter {adapter.name}: role is {role!r}, not one of {', '.join(ROLES)}")
    if role == "target":
        return _ask_target(adapter, errors, operation)
    room = _GoodRoom(adapter, Setup(operation=operation))
    system, sender, world = room.system, room.sender, room.scripted_world.world
    chunk = CALL_NAMES[operation][Call.SEND].value
    _require(adapter, f"what {MAKES[operation]}() returned", sender, (chunk, "poll", "failure_exception"))
    found = {ability for ability, protocol in _OF_THE_SYSTEM.items() if isinstance(system, protocol)}
    found |= {ability for ability, protocol in _OF_THE_SENDER.items() if isinstance(sender, protocol)}
    if isinstance(system, able.TakesParts) and system.takes_parts:
        found.add(Ability.PARTS)
    if isinstance(system, able.TakesNewNames) and system.takes_new_names and Ability.RECONNECT in found:
        found.add(Ability.NEW_NAMES)
    counts_waiting = False
    try:
        counts_waiting = room.counts_waiting()
        succeeds = room.succeeds()
        if succeeds and room.tells_success():
            found.add(Ability.TELLS_SUCCESS)
        if succeeds and not room.asked_in_calls and Ability.WORKERS not in found:
            found.add(Ability.BACKGROUND)
    except AdapterError:
        pass  # the first run says so, with a trace
    classes = _classes(adapter, errors)
    header = _header(adapter, found, world, operation, "initiator")
    return Parts(adapter, errors, classes, header, counts_waiting, operation, room.posts_in)


def _ask_target(adapter: Adapter, errors: Mapping[str, type[Exception]], operation: Operation) -> Parts:
    found, got = ask_target(adapter, errors, operation)
    for call, (made_, methods) in got.items():
        _require(adapter, f"what {call}() returned", made_, methods)
    world = TargetWorld(Setup(operation=operation, role="target"), errors).world
    header = _header(adapter, found, world, operation, "target")
    return Parts(adapter, errors, _classes(adapter, errors), header, False, operation, Call.POLL, "target")


def _header(adapter: Adapter, found: Iterable[Ability], world: able.World, operation: Operation, role: Role) -> Header:
    return Header(
        source=Source.SCRIPTED,
        vantage=tuple(KINDS),
        subject=adapter.name,
        role=role,
        operation=operation,
        profile=adapter.profile.value,
        can=tuple(sorted(found)),
        limits=Limits(transfer_timeout_s=world.transfer_timeout_s, drain_timeout_s=world.drain_timeout_s),
    )


def _classes(adapter: Adapter, errors: Mapping[str, type[Exception]]) -> ErrorClasses:
    """How the subject's world tells errors apart."""
    disconnect = errors[Kind.REMOTE_DISCONNECT.value]
    return ErrorClasses(tuple(errors.values()), disconnect, adapter.usage_errors, (UseAfterRelease,))


class _GoodRoom:
    """A room in which nothing goes wrong, to see what the sender makes of it."""

    def __init__(self, adapter: Adapter, setup: Setup) -> None:
        """Open the system and the room. Raises LoadError and AdapterError."""
        operation = setup.operation
        self._operation: Final = operation
        self.scripted_world: Final = ScriptedWorld(setup, transport_errors(adapter))
        self._calls: Final = Calls(adapter.name, self.scripted_world.fabric)
        self.system: Final = self._calls.hook("open", lambda: adapter.open(self.scripted_world.world))
        _require(adapter, "what open() returned", self.system, (MAKES[operation],))
        self._calls.system = self.system if isinstance(self.system, able.Works) else None
        self._plan: Final = self.scripted_world.plan(0, incarnation=0)
        self.sender: Final = self._calls.hook(MAKES[operation], lambda: made(self.system, operation, self._plan))
        self.posts_in = Call.SEND
        self.asked_in_calls = False
        """A call of the caller has asked the transport about a transfer."""

    def counts_waiting(self) -> bool:
        """Whether the system counts workers as busy that wait for work."""
        self._calls.counts_waiting = self._calls.busy_at_rest(_AT_REST_S)
        return self._calls.counts_waiting

    def succeeds(self) -> bool:
        """Whether its one chunk is sent and the room ends with Success. Raises AdapterError for a call that hangs."""
        answers: list[object] = []
        pages = list(range(self._plan.num_pages))
        chunk = f"{CALL_NAMES[self._operation][Call.SEND].value}()"
        raised = self._called(chunk, lambda: invoke(self.sender, self._operation, Call.SEND, pages))[1]
        self._calls.let_workers()
        posted = Call.SEND if self._has_made() else None
        for _ in range(_LOOKS if raised is None else 0):
            self._calls.let_workers(round_=True)
            self.scripted_world.let_progress(None, Progress.ALL)
            answers += self._called("poll()", self.sender.poll)[0]
            posted = posted or (Call.POLL if self._has_made() else None)
            if posted in (None, Call.WORK) and isinstance(self.system, able.Settles):
                self._calls.hook("settle", self.system.settle)
                posted = posted or (Call.WORK if self._has_made() else None)
        self.posts_in = posted or Call.SEND
        self._calls.close()
        return KVPoll.Success in answers

    def _called(self, what: str, call: Callable[[], object]) -> tuple[list[object], BaseException | None]:
        known = len(self.scripted_world.fabric.events)
        answered = self._calls.make(what, call)
        self.asked_in_calls = self.asked_in_calls or len(self.scripted_world.fabric.events) > known
        return answered

    def _has_made(self) -> bool:
        return any(event.point is Point.MAKE for event in self.scripted_world.fabric.events)

    def tells_success(self) -> bool:
        """Whether the peer was told of it, or of nothing at all.

        A sender that tells its peers of each transfer, and of nothing more, leaves it to them to count.
        """
        if not isinstance(self.system, able.Notifies):
            return False
        kinds: set[NotificationKind] = set()
        for messages in self.scripted_world.world.peers[0].agent.get_new_notifs().values():
            for message in messages:
                found = self._calls.hook("read_notification", partial(self.system.read_notification, message))
                kinds |= set() if found is None else {found.kind}
        return NotificationKind.SUCCESS in kinds or NotificationKind.PROGRESS not in kinds


def _require(adapter: Adapter, what: str, found: object, methods: Iterable[str]) -> None:
    """Refuse what mypy would have refused: a missing method must not look like a failure of the sender."""
    missing = [f"{name}()" for name in methods if not hasattr(found, name)]
    if missing:
        raise LoadError(
            f"adapter {adapter.name}: {what}, a {type(found).__name__}, lacks {', '.join(missing)}"
            " (see kvsender_spec.contract.Sender, Reader and Target, kvsender_spec.kit.adapter.System and ReaderSystem,"
            " and kvsender_spec.kit.targets.adapter.TargetSystem)"
        )
