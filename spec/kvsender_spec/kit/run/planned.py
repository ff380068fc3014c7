"""The fault that a step plans: it strikes inside the step's call, or in a later one where a sender is late."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from kvsender_spec.faults import TRANSPORT_KINDS, Fault, FaultPlan, Point
from kvsender_spec.kit.run.rooms import Room
from kvsender_spec.trace import Call, Step

_POSTING: Final = (Point.MAKE, Point.POST)


class PlannedFaults:
    """Plans the fault of each step, and carries one whose point the call did not reach.

    A sender may post what send() took in a later call, and tell its peers of the end in a later call: the fault waits
    for it. A call meets one fault at a time, and its own comes first.
    """

    def __init__(self, plan: FaultPlan, *, reads: bool) -> None:
        self._plan: Final = plan
        self._reads: Final = reads
        """A reader may look at its grant in the next poll() after its data are here, and tell its holder then."""
        self._carried: tuple[Room, Fault] | None = None
        """The fault that waits, and the room for which it was planned."""

    def arm(self, step: Step) -> None:
        """Plan the step's fault, or else the carried one."""
        if self._carried is not None and self._carried[1].point in _POSTING and not self._carried[0].view.oracle.live:
            self._carried = None  # its room posts nothing any more
        waiting = None if self._carried is None else self._carried[1]
        if step.call is Call.WORK and waiting is not None and waiting.kind not in TRANSPORT_KINDS:
            waiting = None  # background work has no caller to whom an error of the program's own could go
        planned = step.fault or waiting
        self._plan.arm(*([] if planned is None else [planned]))

    def disarm(self) -> Sequence[Fault]:
        """Plan no fault any more. Returns the one whose point the call has not reached at all."""
        unmet = [fault for fault in self._plan.pending if not self._plan.counts.get(fault.point)]
        if self._carried is not None and self._carried[1] in self._plan.struck:
            self._carried = None
        self._plan.arm()
        return unmet

    def carry(self, step: Step, room: Room, unmet: Sequence[Fault], *, ends: bool) -> None:
        """Keep a fault for later calls; ``ends``: the room has ended in this one."""
        for fault in unmet:
            late = ends or (self._reads and step.call is Call.POLL and not room.view.ended)
            if (step.call is Call.SEND and fault.point in _POSTING) or (late and fault.point is Point.NOTIFY):
                self._carried = room, fault

    def forget(self) -> None:
        """Nothing goes wrong any more."""
        self._carried = None
