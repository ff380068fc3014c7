"""Where a target's run stands: the world, the system in it, what was seen so far, and what makes sense next."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final, cast

from kvsender_spec.contract import Target
from kvsender_spec.faults import FaultPlan
from kvsender_spec.history import events
from kvsender_spec.history.header import Ability
from kvsender_spec.history.record import Recorder
from kvsender_spec.history.words import MALFORMED, CallName, How, Says
from kvsender_spec.kit.adapter import Adapter, Works
from kvsender_spec.kit.parts import parts_of
from kvsender_spec.kit.run.calls import Calls
from kvsender_spec.kit.targets.adapter import TargetPlan, TargetSystem
from kvsender_spec.kit.targets.world import Initiating, TargetWorld
from kvsender_spec.observe.targets.observer import TargetObserver
from kvsender_spec.observe.targets.room import TargetRoomView
from kvsender_spec.trace import Call, Setup, Step

MOST_OPENINGS: Final = 5
"""So many rooms are opened in one run."""
OWNERS_CALLS: Final = {
    Call.POLL: CallName.POLL,
    Call.ABORT: CallName.ABORT,
    Call.CLEAR: CallName.CLEAR,
    Call.FAILURE_EXCEPTION: CallName.FAILURE_EXCEPTION,
}
OF_THE_WORLD: Final = frozenset({Call.WAIT, Call.WAIT_LONG, Call.WORK, Call.FAULTS_OVER, Call.SETTLE})
OF_A_PEER: Final = frozenset({Call.KILL, Call.STOP, Call.RESTART})
_OF_A_FAULT: Final = OF_A_PEER | {Call.REFILL}


@dataclass(slots=True)
class TargetRoom:
    """One opening of a room, as the run keeps it."""

    slot: int
    plan: TargetPlan
    target: Target | None
    view: TargetRoomView
    initiating: dict[str, Initiating]
    granted: dict[int, int] = field(default_factory=dict)
    """Of a holder's: the stamp of each page when it was opened."""

    @property
    def key(self) -> int:
        return self.plan.incarnation

    @property
    def in_use(self) -> bool:
        """Its pages are its owner's: the request goes on, or has succeeded and is used."""
        return not self.view.ended or (self.view.answer == "Success" and not self.view.cleared)


class TargetSituation:
    """What there is in a run and how far it has come; it takes no step. ``history`` is what was seen."""

    def __init__(self, adapter: Adapter, setup: Setup) -> None:
        """Make the world and open the system. Raises AdapterError where the adapter breaks, or LoadError."""
        self.adapter: Final = adapter
        parts = parts_of(adapter)
        self.setup: Final = replace(setup, operation=parts.operation, role="target")
        self.can: Final = parts.can
        self.steps: Final[list[Step]] = []
        self.over = False
        self.faults_over = False
        self.waited_s = 0.0
        self.target_world: Final = TargetWorld(self.setup, parts.errors)
        self.world: Final = self.target_world.world
        self._faults: Final[FaultPlan] = self.target_world.fabric.plan
        self.calls: Final = Calls(adapter.name, self.target_world.fabric, counts_waiting=parts.counts_waiting)
        self.system: Final = cast("TargetSystem", self.calls.hook("open", lambda: adapter.open(self.world)))
        self.target_world.connect()
        self.observer: Final = TargetObserver(parts.header)
        clock, began = self.world.clock, self.world.clock.now
        self.recorder: Final = Recorder(parts.header, parts.classes, lambda: clock.now - began, self.observer.see)
        self.recorder.name_threads(self.calls.threads())
        self.calls.system = cast("Works", self.system) if Ability.WORKERS in self.can else None
        self._open_call: int | None = None
        self._held: frozenset[int] | None = None
        self.rooms: Final[list[TargetRoom]] = []

    @property
    def history(self) -> events.History:
        return self.recorder.history

    @property
    def is_stuck(self) -> bool:
        return self.over and self._open_call is not None

    def room_of(self, slot: int, opening: int = 0) -> TargetRoom | None:
        """An opening of a slot: the newest one, or the one of that number from 1."""
        found = [room for room in self.rooms if room.slot == slot]
        return found[opening - 1] if found and opening <= len(found) else None

    # -- what makes sense

    def applicable(self, step: Step) -> bool:
        """Whether the step makes sense now."""
        if self.over or step.overlap is not None or step.misuse is not None:
            return False
        if step.call in OF_THE_WORLD:
            return not (step.call is Call.FAULTS_OVER and self.faults_over)
        if step.call in _OF_A_FAULT and self.faults_over:
            return False
        if step.call in OF_A_PEER:
            return self._peer_step_makes_sense(step.call, step.room)
        room = self.room_of(step.room, step.opening)
        if step.call is Call.OPEN:
            again = room is None or room.view.cleared
            return again and step.room < len(self.setup.chunks) and len(self.rooms) < MOST_OPENINGS
        if room is None:
            return False
        if step.call in (Call.LAND, Call.TELL, Call.FENCE):
            return self._initiator_step_makes_sense(step, room)
        if step.call is Call.REFILL:
            others = frozenset(page for other in self.rooms if other is not room for page in other.plan.pages)
            return Ability.REFILLS in self.can and room.view.ended and not others & frozenset(room.plan.pages)
        if room.target is None:
            return False
        needed = {Call.ABORT: Ability.ABORT, Call.CLEAR: Ability.CLEAR}.get(step.call)
        return step.call in OWNERS_CALLS and (needed is None or needed in self.can)

    def _peer_step_makes_sense(self, call: Call, number: int) -> bool:
        if number >= self.setup.peers:
            return False
        well = self.observer.healthy(self.target_world.peers[number].name)
        return Ability.RECONNECT in self.can and not well if call is Call.RESTART else well

    def _initiator_step_makes_sense(self, step: Step, room: TargetRoom) -> bool:
        if step.peer >= len(room.plan.initiators):
            return False
        initiator = room.initiating[room.plan.initiators[step.peer].name]
        moves = self.observer.healthy(initiator.peer.name)
        if step.call is Call.LAND:
            return moves and initiator.may_land
        if step.call is Call.FENCE:
            gone = initiator.peer.name in self.observer.lost or self._is_another(initiator)
            return Ability.FENCES in self.can and (gone or (step.how is How.EARLIER and not self.faults_over))
        if step.says is None or not (moves or step.how is How.STRANGER):
            return False
        if step.how in (How.STRANGER, How.UNKNOWN) or step.how in MALFORMED:
            return not self.faults_over
        if step.how is How.EARLIER:
            earlier = self._earlier(room)
            over = earlier is not None and earlier.initiating[initiator.peer.name].quiesced
            return not self.faults_over and over and step.says is not Says.RENEW
        return not (self.faults_over and step.how is How.LOST)

    @staticmethod
    def _is_another(initiator: Initiating) -> bool:
        return initiator.peer.generation != initiator.generation

    def _earlier(self, room: TargetRoom) -> TargetRoom | None:
        before = [other for other in self.rooms if other.slot == room.slot and other.key < room.key]
        return before[-1] if before else None
