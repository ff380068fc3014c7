"""The tables of ``target_machine`` as machines that run: one model for a room, one for the hold of each initiator.

They are built with `transitions`, as ``live_machines`` builds those of a sender. A rule about states is a row of
``TARGET_TABLE`` or a cell of a matrix, and nothing is to be changed here for it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partialmethod
from typing import TYPE_CHECKING, Final, TypeAlias

from kvsender_spec.live_machines import ForbiddenInput, Trigger, config, machine, of_matrix
from kvsender_spec.target_machine import (
    HOLD_BREAKS,
    HOLD_NEXT,
    OF_ONE,
    REQUEST_NEXT,
    TARGET_NEVER,
    TARGET_TABLE,
    Hold,
    HoldEvent,
    Request,
    TargetEffect,
    TargetGuard,
    TargetInput,
    TargetRow,
    request_after,
    target_rows,
)

if TYPE_CHECKING:
    from transitions.core import TransitionConfigDict


def _of_table() -> list[TransitionConfigDict]:
    configs: list[TransitionConfigDict] = []
    for row in TARGET_TABLE:
        for source in row.sources:
            dest = request_after(source, row.request)
            if dest is None:
                raise ValueError(f"{row} names an event that never happens in {source.value}")
            guards = () if row.guard is None else (row.guard,)
            configs.append(config(row.input.value, source, dest, guards, row.effects))
    return configs


class SpecHold:
    """The machine of what one initiator may touch."""

    state: Hold
    trigger: Trigger

    def __init__(self) -> None:
        HOLD_MACHINE.add_model(self, initial=Hold.HELD)
        HOLD_MACHINE.remove_model(self)  # bound already; the list would only keep every hold alive

    def place(self, state: Hold) -> None:
        """Put the machine into a state, to ask what would follow from there."""
        HOLD_MACHINE.set_state(state, model=self)

    def fire(self, event: HoldEvent) -> Hold:
        """Move; raises MachineError, without moving, where the table says never."""
        self.trigger(event.value)
        return self.state


TargetFacts: TypeAlias = Callable[[TargetGuard], bool]
"""Answers each guard for the room as it is when an input has arrived."""


class SpecTarget:
    """The machine of one room of a target, with a hold for each initiator."""

    state: Request
    trigger: Trigger

    def __init__(self, initiators: int, facts: TargetFacts) -> None:
        self._facts = facts
        self.holds: Final = tuple(SpecHold() for _ in range(initiators))
        self.applied: list[TargetEffect] = []
        REQUEST_MACHINE.add_model(self, initial=Request.WAITING)
        REQUEST_MACHINE.remove_model(self)  # bound already; the list would only keep every room alive

    def place(self, state: Request) -> None:
        """Put the machine into a state, to ask what would follow from there."""
        REQUEST_MACHINE.set_state(state, model=self)

    def take(self, what: TargetInput, initiator: int | None = None) -> TargetRow:
        """Apply one input and return the row that applied; raises ForbiddenInput, without moving, where none may."""
        if (what in OF_ONE) is (initiator is None):
            raise ValueError(f"{what.value} names {'an' if what in OF_ONE else 'no'} initiator")
        source = self.state
        for never in TARGET_NEVER:
            if never.input is what and source in never.sources:
                raise ForbiddenInput(source, what, never.breaks)
        row = next(row for row in target_rows(source, what) if row.guard is None or self._facts(row.guard))
        mine = self.holds if initiator is None else (self.holds[initiator],)
        if row.hold is not None:
            for hold in mine:
                if HOLD_NEXT[hold.state][row.hold] is None:
                    raise ForbiddenInput(hold.state, what, HOLD_BREAKS[row.hold])
            for hold in mine:
                hold.fire(row.hold)
        self.applied.clear()
        if not self.trigger(what.value):
            raise AssertionError(f"no row of the machine applied to {what.value} in {source.value}")
        # The machine decides; the row is looked up beside it, and the two must agree on the destination and effects.
        assert self.state is request_after(source, row.request), (source, what, self.state)
        assert tuple(self.applied) == row.effects, (source, what, self.applied)
        if source is Request.WAITING and self.state is not source:
            for hold in self.holds:
                hold.fire(HoldEvent.ENDED)
        return row

    def _holds(self, guard: TargetGuard) -> bool:
        return self._facts(guard)

    def _note(self, effect: TargetEffect) -> None:
        self.applied.append(effect)


# A transition names its guard and its effects, and `transitions` calls the methods of these names.
for _guard in TargetGuard:
    _answer: partialmethod[bool] = partialmethod(SpecTarget._holds, _guard)
    setattr(SpecTarget, _guard.value, _answer)
for _effect in TargetEffect:
    _note: partialmethod[None] = partialmethod(SpecTarget._note, _effect)
    setattr(SpecTarget, _effect.value, _note)

# One shared machine each: rooms and holds are models of it.
REQUEST_MACHINE: Final = machine(Request, Request.WAITING, _of_table())
REQUEST_EVENT_MACHINE: Final = machine(Request, Request.WAITING, of_matrix(REQUEST_NEXT))
HOLD_MACHINE: Final = machine(Hold, Hold.HELD, of_matrix(HOLD_NEXT))
