"""Every reachable state of a target whose room id comes back, and what must happen to a room in the end.

The incarnations of a room id follow each other: the next one is opened when the request has ended, while pages of the
last may still be held. Their states are independent but for what crosses from one to another, which is the mistake of
some targets. So the steps of a room are worked out once, and a state is one number for each incarnation.

A room without its idle steps never comes back to a state: initiators and holds only go on. ``stranded`` checks that,
and then what is owed is simple: from each state short of a goal something fair must lead on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from kvsender_spec.formal.targets.room import Fair, Room, broken, opened, told
from kvsender_spec.formal.targets.rules import Target, Wrong
from kvsender_spec.formal.targets.world import Step, World
from kvsender_spec.target_machine import Hold, TargetInput

INITIATORS: Final = 2
INCARNATIONS: Final = 2

State = tuple[int, ...]
"""The number of the room's state for each incarnation that was opened."""


@dataclass(frozen=True, slots=True)
class Searched:
    states: int
    broken: str = ""
    """The property that does not hold, or nothing. The states are then those that were seen until there."""
    way: tuple[str, ...] = ()
    """A shortest way there."""


class _Known(NamedTuple):
    """What is known of one state of a room."""

    room: Room
    broken: str
    steps: list[tuple[int, str, str]]
    """Where each leads, what it is, and what it breaks."""


class _Rooms:
    """The states of a room, numbered as they are met."""

    def __init__(self, world: World) -> None:
        self.world: Final = world
        self._numbers: Final[dict[Room, int]] = {}
        self.known: Final[list[_Known]] = []
        self._crossing: Final[dict[tuple[int, int], list[tuple[int, str, str]]]] = {}

    def number(self, room: Room) -> int:
        found = self._numbers.get(room)
        if found is None:
            found = self._numbers[room] = len(self.known)
            self.known.append(_Known(room, broken(room), []))
        return found

    def steps(self, number: int) -> list[tuple[int, str, str]]:
        known = self.known[number]
        if not known.steps:
            known.steps.extend(
                (self.number(step.after), _in_words(step), step.wrong) for step in self.world.steps(known.room)
            )
        return known.steps

    def crossing(self, of: int, at: int) -> list[tuple[int, str, str]]:
        """What a message of one incarnation does to another, where the target does not tell them apart."""
        crosses = CROSSES.get(self.world.target.wrong) if self.world.target.wrong is not None else None
        if crosses is None:
            return []
        if (of, at) not in self._crossing:
            self._crossing[of, at] = list(self._crossed(crosses, self.known[of].room, self.known[at].room))
        return self._crossing[of, at]

    def _crossed(self, what: TargetInput, of: Room, at: Room) -> Iterator[tuple[int, str, str]]:
        for place, cell in enumerate(of.cells):
            taken = self.world.take(at, what, place) if what in told(cell) else None
            if taken is not None and taken.after != at:
                yield self.number(taken.after), f"{what.value} of initiator {place} in another incarnation", taken.wrong


CROSSES: Final = {Wrong.ANY_INCARNATION: TargetInput.END, Wrong.FENCE_BY_NAME: TargetInput.FENCE}


def _in_words(step: Step) -> str:
    return step.what if step.at is None else f"{step.what}, initiator {step.at}"


def search(target: Target, initiators: int = INITIATORS, incarnations: int = INCARNATIONS) -> Searched:
    """Every reachable state, or as many as it takes to find one in which a property does not hold."""
    rooms = _Rooms(World(target, initiators))
    first = rooms.number(opened(initiators))
    start: State = (first,)
    before: dict[State, tuple[State, str] | None] = {start: None}
    queue = [start]
    for state in queue:
        for after, what, wrong in _next(rooms, state, first, incarnations):
            if after not in before:
                before[after] = (state, what)
                queue.append(after)
                wrong = wrong or next((said for n in after if (said := rooms.known[n].broken)), "")
            if wrong:
                return Searched(len(before), wrong, (*_way(before, state), what))
    return Searched(len(before))


def _next(rooms: _Rooms, state: State, first: int, incarnations: int) -> Iterator[tuple[State, str, str]]:
    for place, number in enumerate(state):
        for to, what, wrong in rooms.steps(number):
            yield (*state[:place], to, *state[place + 1 :]), f"{place + 1}: {what}", wrong
        for other in range(len(state)) if rooms.world.target.wrong in CROSSES else ():
            for to, what, wrong in rooms.crossing(state[other], number) if other != place else ():
                yield (*state[:place], to, *state[place + 1 :]), f"{place + 1}: {what}", wrong
    if len(state) < incarnations and rooms.known[state[-1]].room.ended:
        yield (*state, first), f"{len(state) + 1}: the room id is opened again", ""


def _way(before: dict[State, tuple[State, str] | None], state: State) -> tuple[str, ...]:
    way: list[str] = []
    step = before[state]
    while step is not None:
        state, what = step
        way.append(what)
        step = before[state]
    return tuple(reversed(way))


# ------------------------------------------------------------------------------------------------- in the end


class Goal(NamedTuple):
    """What a room owes while it is short of it, and which fairness that needs."""

    text: str
    needs: frozenset[Fair]


ENDS: Final = Goal("KS-9.8: every request ends", frozenset({Fair.DEADLINE}))
COMES_BACK: Final = Goal("KS-9.8: the pages of a request that has ended come back", frozenset(Fair) - {Fair.DEADLINE})
GOALS: Final = (ENDS, COMES_BACK)


def _short(goal: Goal, room: Room) -> bool:
    if goal is ENDS:
        return not room.ended
    return room.ended and any(cell.hold is not Hold.FREE for cell in room.cells)


def stranded(target: Target, goal: Goal, fair: frozenset[Fair], initiators: int = INITIATORS) -> str:
    """Why a fair run of one room may never reach the goal, in words; empty where each does."""
    return stranded_in(World(target, initiators), goal, fair)


def stranded_in(world: World, goal: Goal, fair: frozenset[Fair]) -> str:
    """The same, of a world whose steps may have been worked out already."""
    start = opened(world.initiators)
    after: dict[Room, list[Room]] = {start: []}
    queue = [start]
    for room in queue:
        steps = world.steps(room)
        if _short(goal, room) and not any(step.fair in fair for step in steps):
            return f"nothing leads on from {in_words(room)}"
        after[room] = [step.after for step in steps if step.after != room]
        for following in after[room]:
            if following not in after:
                after[following] = []
                queue.append(following)
    return "a room goes round for ever" if _goes_round(after) else ""


def broken_in(world: World) -> str:
    """The property of a state or of a step that one incarnation breaks first; empty where all hold."""
    seen = {opened(world.initiators)}
    queue = list(seen)
    for room in queue:
        for step in world.steps(room):
            if step.wrong or (broken(step.after) if step.after not in seen else ""):
                return step.wrong or broken(step.after)
            if step.after not in seen:
                seen.add(step.after)
                queue.append(step.after)
    return ""


def _goes_round(after: dict[Room, list[Room]]) -> bool:
    """Whether a run comes back to a state: taking away what nothing leads to leaves something."""
    leads_to = dict.fromkeys(after, 0)
    for following in after.values():
        for room in following:
            leads_to[room] += 1
    todo = [room for room, count in leads_to.items() if not count]
    for room in todo:
        for following_room in after[room]:
            leads_to[following_room] -= 1
            if not leads_to[following_room]:
                todo.append(following_room)
    return len(todo) < len(after)


def in_words(room: Room) -> str:
    cells = ", ".join(
        f"{cell.hold.value} for one that is {cell.phase.value}{'' if cell.asked else ' and was not asked'}"
        for cell in room.cells
    )
    return f"{room.request.value}: {cells}"
