"""Where a run stands: the world of its setup and the system in it, what was seen so far, and what makes sense next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final, cast

from kvsender_spec.faults import Point
from kvsender_spec.history.events import History
from kvsender_spec.history.header import Ability
from kvsender_spec.history.record import Recorder
from kvsender_spec.kit.adapter import MOST_REOPENINGS, Adapter, HidesErrors, Settles, Works
from kvsender_spec.kit.parts import parts_of
from kvsender_spec.kit.run.calls import Calls
from kvsender_spec.kit.run.garbage import spare_what_there_is
from kvsender_spec.kit.run.misuse import possible
from kvsender_spec.kit.run.recording import FabricRecorder
from kvsender_spec.kit.run.rooms import Room
from kvsender_spec.kit.run.scripted_world import ScriptedWorld
from kvsender_spec.machine import HandleState
from kvsender_spec.observe.observer import Observer
from kvsender_spec.trace import WORLD_CALLS, Call, Misuse, Overlap, Setup, Step

OVERLAP_CALLS: Final = {
    Call.SEND: (Call.POLL, Call.ABORT, Call.CLEAR),
    Call.POLL: (Call.SEND, Call.POLL, Call.ABORT, Call.CLEAR),
}
"""Which calls of other threads a call may overlap: one caller sends, and whoever may poll, abort and clear."""
_ABILITY: Final = {Call.ABORT: Ability.ABORT, Call.CLEAR: Ability.CLEAR, Call.METRIC: Ability.METRICS}


class Situation:
    """What there is in a run and how far it has come; it takes no step. ``recorder.history`` is what was seen.

    ``observer`` sees every event at once. It is asked what makes sense next, and never for a verdict.
    """

    def __init__(self, adapter: Adapter, setup: Setup) -> None:
        """Make the world and open the system. Raises AdapterError where the adapter breaks, or LoadError."""
        self.adapter: Final = adapter
        parts = parts_of(adapter)
        self.setup: Final = replace(setup, operation=parts.operation) if parts.operation == "READ" else setup
        self.over = False
        """Nothing more can be done: the sender was interrupted, or the run has had its end."""
        self.faults_over = False
        self.can: Final = parts.can
        self.posts_in: Final = parts.posts_in
        self.operation: Final = parts.operation
        self.scripted_world: Final = ScriptedWorld(self.setup, parts.errors)
        self.world: Final = self.scripted_world.world
        self.calls: Final = Calls(adapter.name, self.scripted_world.fabric, counts_waiting=parts.counts_waiting)
        self.system: Final = self.calls.hook("open", lambda: adapter.open(self.world))
        self.settles: Final = self.system if isinstance(self.system, Settles) else None
        """Where the system has background work."""
        self.observer: Final = Observer(parts.header)
        clock, began = self.world.clock, self.world.clock.now
        shown = cast("HidesErrors", self.system).shown_as if Ability.HIDES_ERRORS in self.can else None
        self.recorder: Final = Recorder(
            parts.header, parts.classes, lambda: clock.now - began, self.observer.see, shown
        )
        self.recorder.name_threads(self.calls.threads())
        self.calls.system = cast("Works", self.system) if Ability.WORKERS in self.can else None
        self.held_at_start: Final = self.world.transport.held
        """Descriptor lists and registrations."""
        self.reports: Final = FabricRecorder(self.recorder, self.scripted_world, self.calls)
        self.rooms: Final[list[Room]] = []
        """Every opening, the oldest first."""
        self._by_slot: Final[dict[int, list[Room]]] = {}
        spare_what_there_is()

    @property
    def history(self) -> History:
        return self.recorder.history

    def opened(self, room: Room) -> None:
        """A room was opened."""
        self.rooms.append(room)
        self._by_slot.setdefault(room.slot, []).append(room)

    def openings(self, slot: int) -> Sequence[Room]:
        """The openings of a slot, the newest last."""
        return self._by_slot.get(slot, ())

    def room_of(self, slot: int, opening: int = 0) -> Room | None:
        """The room that a step is about."""
        openings = self._by_slot.get(slot)
        if openings is None or opening > len(openings):
            return None
        return openings[opening - 1]  # 0 is the last one

    def applicable(self, step: Step) -> bool:
        """Whether a step makes sense where the run stands."""
        if self.faults_over and step.fault is not None:
            return False
        if step.misuse is not None and step.call is Call.SEND:
            room = None if self.over else self.room_of(step.room, step.opening)
            return room is not None and step.overlap is None and self._misuse_makes_sense(room, step.misuse)
        if not self.makes_sense(step.call, step.room, step.opening):
            return False
        return step.overlap is None or self._overlap_makes_sense(step, step.overlap)

    def able(self, call: Call, slots: Iterable[int]) -> list[int]:
        """For which rooms, or peers, a plain step makes sense."""
        return [slot for slot in slots if self.makes_sense(call, slot)]

    def makes_sense(self, call: Call, slot: int, opening: int = 0) -> bool:
        """Whether a plain step makes sense."""
        if self.over:
            return False
        if call in WORLD_CALLS:
            return self._world_step_makes_sense(call, slot)
        room = self.room_of(slot, opening)
        if call is Call.OPEN:
            # A room id comes back only after its caller has cleared it.
            reopenings = len(self.rooms) - len(self._by_slot)
            free = room is None or (room.view.cleared and (self.setup.churn or reopenings < MOST_REOPENINGS))
            return free and slot < len(self.setup.chunks)
        if room is None:
            return False
        if call is Call.SEND:
            return bool(room.chunks) and (not room.view.ended or room.view.oracle.failed)
        if call is Call.TARGET_ABORTS:
            target = room.target
            well = target is not None and self.observer.subject.peer(target.name).healthy
            return well and Ability.TARGET_ABORTS in self.can and not self.faults_over
        if call is Call.REFILL:
            return self.operation == "READ" and not self.faults_over
        ability = _ABILITY.get(call)
        return ability is None or ability in self.can

    def _world_step_makes_sense(self, call: Call, number: int) -> bool:
        match call:
            case Call.WAIT | Call.WAIT_LONG:
                return bool(self.rooms)
            case Call.CONTROL:
                return Ability.CONTROL in self.can and not self.faults_over
            case Call.FAULTS_OVER:
                return not self.faults_over
            case Call.SETTLE | Call.WORK:
                return True
            case _:
                return not self.faults_over and number < self.setup.peers and self._peer_step_makes_sense(call, number)

    def asks(self, point: Point, slot: int) -> int:
        """How often the sender can be expected to ask this of the transport in its next call: once per peer or handle.

        What lies beyond is never reached: a fault there strikes nothing, and an overlap there does not take place.
        """
        room = self.room_of(slot)
        if room is None:
            return 0
        view = room.view
        handles = view.oracle.handles.values()
        match point:
            case Point.MAKE | Point.POST | Point.NOTIFY:
                return len(view.targets)
            case Point.CHECK:
                return len(self.flying(slot))
            case Point.RELEASE:
                return sum(1 for machine in handles if machine.state is not HandleState.NEVER_SUBMITTED)

    def flying(self, slot: int) -> frozenset[int]:
        """The room's handles that are in flight, as far as the sender was told."""
        room = self.room_of(slot)
        handles = {} if room is None else room.view.oracle.handles
        return frozenset(number for number, machine in handles.items() if machine.state is HandleState.IN_FLIGHT)

    def _overlap_makes_sense(self, step: Step, overlap: Overlap) -> bool:
        if step.call is Call.OPEN or step.call in WORLD_CALLS:
            return True
        allowed = overlap.call in OVERLAP_CALLS.get(step.call, ()) and step.misuse is None
        return allowed and self.makes_sense(overlap.call, step.room, step.opening)

    def _peer_step_makes_sense(self, call: Call, number: int) -> bool:
        peer = self.observer.subject.peer(self.scripted_world.peers[number].name)
        return Ability.RECONNECT in self.can and not peer.healthy if call is Call.RESTART else peer.healthy

    def _misuse_makes_sense(self, room: Room, misuse: Misuse) -> bool:
        if misuse is Misuse.BEFORE_INIT:
            return Ability.UNINITIALISED in self.can
        oracle = room.view.oracle
        if not room.chunks or len(oracle.possible) > 1 or not oracle.live or room.view.ended:
            return False
        return possible(misuse, room.sent_pages, sum(room.chunks))
