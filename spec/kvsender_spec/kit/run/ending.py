"""The end of a run: the ordinary steps by which every room comes to its end, and everything settles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kvsender_spec.history.header import Ability
from kvsender_spec.kit.run.rooms import Room
from kvsender_spec.kit.run.situation import Situation
from kvsender_spec.trace import Call, Step

_MOST_POLLS = 400


def ending(run: Situation) -> Iterator[Step]:
    """The steps of the end. Each is chosen where the run stands when the one before it has been taken."""
    yield Step(Call.FAULTS_OVER)
    rooms = [room for room in run.rooms if not (run.setup.churn and room.view.cleared)]
    yield from _end_rooms(run, rooms)
    for room in rooms:
        yield from _steps(run, room, Call.FAILURE_EXCEPTION, Call.FAILURE_EXCEPTION)
    if not run.setup.silent:
        # Background work that finds a late completion must not change what was answered; in a silent setup it finds
        # them only after clear().
        yield Step(Call.SETTLE)
    for room in rooms:
        yield from _steps(run, room, Call.POLL)
    if Ability.CLEAR in run.can:
        for room in rooms:
            yield from _steps(run, room, Call.CLEAR, Call.CLEAR, Call.FAILURE_EXCEPTION)
        if run.observer.subject.returned:
            yield from _new_room(run)
    yield Step(Call.SETTLE)
    for room in run.rooms:
        yield from _steps(run, room, Call.POLL)


def _new_room(run: Situation) -> Iterator[Step]:
    """A peer that has come back works again for new rooms (KS-6.3): one is opened, under an id that is free again."""
    if run.applicable(Step(Call.OPEN)):
        known = len(run.rooms)
        yield Step(Call.OPEN)
        for room in run.rooms[known:]:  # none, where its constructor has raised
            for _ in room.plan_chunks:
                yield from _steps(run, room, Call.SEND)
            yield from _end_rooms(run, [room])
            yield from _steps(run, room, Call.FAILURE_EXCEPTION, Call.CLEAR, Call.POLL)


def _end_rooms(run: Situation, rooms: Sequence[Room]) -> Iterator[Step]:
    """As a caller polls them: in turn. Rooms whose own peers have been well end before any clock moves (KS-6.2)."""
    for room in rooms:
        if not room.view.owes_an_end and Ability.ABORT in run.can:
            yield from _steps(run, room, Call.ABORT)
    yield from _poll_until_ended(run, rooms)
    late = rooms if run.setup.silent else [room for room in rooms if room.view.unhealthy]
    for wait in (Call.WAIT_LONG, Call.WAIT):
        if not all(room.view.ended for room in late):
            yield Step(wait)
            yield from _poll_until_ended(run, late)


def _poll_until_ended(run: Situation, rooms: Sequence[Room]) -> Iterator[Step]:
    """As many polls as each may take, and one, because the other rooms must have been polled before the first counts.

    A room may get more handles on the way.
    """
    for polls in range(_MOST_POLLS):
        open_ = [room for room in rooms if not room.view.ended]
        if all(polls > run.observer.enough_polls(room.key) for room in open_):
            return
        if run.posts_in is Call.WORK:
            yield Step(Call.WORK)
        for room in open_:
            yield from _steps(run, room, Call.POLL)


def _steps(run: Situation, room: Room, *calls: Call) -> Iterator[Step]:
    """Calls of one opening of a room, which need not be the newest under its number."""
    openings = run.openings(room.slot)
    opening = 0 if openings[-1] is room else openings.index(room) + 1
    for call in calls:
        yield Step(call, room.slot, opening=opening)
