"""The tables of ``machine`` as machines that run: one model for a room, one for a handle.

They are built with `transitions`. The oracle, the scripted agent and the tests run them; the data path of a sender
never does. A rule about states is a row of ``machine.TABLE``, and nothing is to be changed here for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from functools import partialmethod
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, TypeVar

from transitions import Machine, MachineError

from kvsender_spec.machine import (
    HANDLE_NEXT,
    NEVER,
    NEXT,
    TABLE,
    Effect,
    Guard,
    HandleEvent,
    HandleState,
    Input,
    Row,
    State,
    Word,
    destination,
    rows_for,
)

if TYPE_CHECKING:
    from transitions.core import TransitionConfigDict

_S = TypeVar("_S", bound=Enum)
_E = TypeVar("_E", bound=Enum)


def _called(member: Enum) -> str:
    # The value of each of these words is its name in lower case; that of an Enum in general has no type.
    return member.name.lower()


class ForbiddenInput(MachineError):
    """A pair that the table does not allow. The machine has not moved. ``breaks`` is the clause at stake."""

    def __init__(self, state: Word, what: Word, breaks: str) -> None:
        super().__init__(f"{_called(what)} must not happen in {_called(state)} ({breaks})")
        self.breaks: Final = breaks


class Trigger(Protocol):
    """What `transitions` gives a model to be moved by."""

    def __call__(self, name: str, /) -> bool: ...


def config(
    trigger: str, source: Enum, dest: Enum, guards: Iterable[Enum] = (), effects: Iterable[Enum] = ()
) -> TransitionConfigDict:
    """One transition. Guards and effects are called as methods of the model, by their words."""
    # A function that returns the typed dict: in a literal handed to Machine a misspelt key would pass the checker.
    return {
        "trigger": trigger,
        "source": source,
        "dest": dest,
        "conditions": [_called(guard) for guard in guards],
        "before": [_called(effect) for effect in effects],
    }


def _of_table() -> list[TransitionConfigDict]:
    configs: list[TransitionConfigDict] = []
    for row in TABLE:
        for source in row.sources:
            dest = destination(source, row.event)
            if dest is None:
                raise ValueError(f"{row} names an event that never happens in {source.value}")
            guards = () if row.guard is None else (row.guard,)
            configs.append(config(row.input.value, source, dest, guards, row.effects))
    return configs


def of_matrix(following: Mapping[_S, Mapping[_E, _S | None]]) -> list[TransitionConfigDict]:
    """The transitions of a matrix, without the cells that are never."""
    return [
        config(_called(event), source, dest)
        for source, row in following.items()
        for event, dest in row.items()
        if dest is not None
    ]


class SpecHandle:
    """The physical machine of one handle."""

    state: HandleState
    trigger: Trigger

    def __init__(self) -> None:
        HANDLE_MACHINE.add_model(self, initial=HandleState.CREATED)
        HANDLE_MACHINE.remove_model(self)  # bound already; the list would only keep every handle alive

    def place(self, state: HandleState) -> None:
        """Put the machine into a state, to ask what would follow from there."""
        HANDLE_MACHINE.set_state(state, model=self)

    def fire(self, event: HandleEvent) -> HandleState:
        """Move; raises MachineError, without moving, where the table says never."""
        self.trigger(event.value)
        return self.state


Facts: TypeAlias = Callable[[Guard], bool]
"""Answers each guard for the room as it is at the time of an input."""


class SpecRoom:
    """The logical machine of one room. ``facts`` answers the guards at the time of an input."""

    state: State
    trigger: Trigger

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self.applied: list[Effect] = []
        LOGICAL_MACHINE.add_model(self, initial=State.IDLE)
        LOGICAL_MACHINE.remove_model(self)  # bound already; the list would only keep every room alive

    def place(self, state: State) -> None:
        """Put the machine into a state, to ask what would follow from there."""
        LOGICAL_MACHINE.set_state(state, model=self)

    def take(self, what: Input) -> Row:
        """Apply one input and return the row that applied; raises ForbiddenInput, without moving, where none may."""
        source = self.state
        for never in NEVER:
            if never.input is what and source in never.sources:
                raise ForbiddenInput(source, what, never.breaks)
        row = next(row for row in rows_for(source, what) if row.guard is None or self._facts(row.guard))
        self.applied.clear()
        if not self.trigger(what.value):
            raise AssertionError(f"no row of the machine applied to {what.value} in {source.value}")
        # The machine decides; the row is looked up beside it, and the two must agree on the destination and effects.
        assert self.state is destination(source, row.event), (source, what, self.state)
        assert tuple(self.applied) == row.effects, (source, what, self.applied)
        return row

    def _holds(self, guard: Guard) -> bool:
        return self._facts(guard)

    def _note(self, effect: Effect) -> None:
        self.applied.append(effect)


# A transition names its guard and its effects, and `transitions` calls the methods of these names.
for _guard in Guard:
    _answer: partialmethod[bool] = partialmethod(SpecRoom._holds, _guard)
    setattr(SpecRoom, _guard.value, _answer)
for _effect in Effect:
    _note: partialmethod[None] = partialmethod(SpecRoom._note, _effect)
    setattr(SpecRoom, _effect.value, _note)


def machine(states: type[Enum], initial: Enum, transitions: list[TransitionConfigDict]) -> Machine:
    """A machine without models that takes these transitions and no others."""
    # Auto transitions would admit every move, and ignoring invalid triggers would hide every violation.
    return Machine(
        model=None,
        states=states,
        initial=initial,
        transitions=transitions,
        auto_transitions=False,
        ignore_invalid_triggers=False,
    )


# One shared machine each: rooms and handles are models of it.
LOGICAL_MACHINE: Final = machine(State, State.IDLE, _of_table())
EVENT_MACHINE: Final = machine(State, State.IDLE, of_matrix(NEXT))
HANDLE_MACHINE: Final = machine(HandleState, HandleState.CREATED, of_matrix(HANDLE_NEXT))
