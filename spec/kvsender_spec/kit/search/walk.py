"""The random walk: each run's own random numbers choose its setup, its mix of faults and its steps.

A step is chosen among those that make sense where the run stands, so that few steps are wasted, and the same numbers
choose the same steps of a sender that does the same. A violation ends neither a run nor the walk: all clauses are
observed in one pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import Enum
from itertools import chain, repeat
from random import Random
from typing import Final, TypeVar

from kvsender_spec.faults import (
    BASE_KINDS,
    PROGRAMMING_KINDS,
    RAISED_BY_TRANSPORT,
    RETURNED_BY_TRANSPORT,
    TRANSPORT_KINDS,
    Fault,
    Kind,
    Point,
)
from kvsender_spec.history.header import Ability
from kvsender_spec.kit.adapter import Adapter, operation_of
from kvsender_spec.kit.parts import abilities
from kvsender_spec.kit.run.execute import OVERLAP_CALLS, AnyRun, Run
from kvsender_spec.trace import Call, Misuse, Overlap, Progress, Refilled, Setup, Step

_T = TypeVar("_T")
STEPS: Final = 18
_MISTAKES: Final = 0.125
"""How many of the caller's send() are one."""
_MOST_DRAWS: Final = 100
"""So often a call is drawn until it is one that makes sense."""
_FOLLOWED: Final = 0.7
"""How many poll() are surely of a room that has something in flight, if there is one: the others say little."""


ROOMS: Final[tuple[tuple[int, ...], ...]] = ((1,), (1, 1), (2, 1), (1, 1, 1), (0,))


WORLDS: Final = ((1, 1, True), (2, 1, True), (2, 2, True), (2, 2, False), (2, 2, False))
"""Rooms, peers, and whether every room goes to all peers. Only where rooms share none can one peer's fault reach a
room that it has no part in."""


def _setup(random: Random, can: frozenset[Ability], *, reads: bool) -> Setup:
    rooms, peers, shared = random.choice(WORLDS)
    return Setup(
        chunks=tuple(random.choice(ROOMS) for _ in range(rooms)),
        peers=peers,
        dummies=random.choice((0, 0, 0, 1)),
        shared=shared,
        done_at_post=random.random() < 1 / 6,
        drops_metadata=random.random() < 0.5,
        silent=random.random() < 1 / 3,
        renames=Ability.NEW_NAMES in can and random.random() < 1 / 4,
        refilled=random.choice(tuple(Refilled)) if reads else Refilled.ALL,
    )


class _Mix(Enum):
    """What goes wrong in a run. Most of what a sender does right shows only where nothing does."""

    NOTHING = "nothing"
    """The caller does its work and nothing fails."""
    CALLERS = "callers"
    """The caller gives rooms up and opens them again."""
    THREADS = "threads"
    """Other threads call as well."""
    FAULTS = "faults"
    """Rooms are given up, faults strike, and peers come and go."""


def _often(weights: Mapping[_T, int]) -> tuple[_T, ...]:
    """Each of them as often as its number says, so that one can be drawn."""
    return tuple(chain.from_iterable(repeat(what, weight) for what, weight in weights.items()))


_MIXES: Final[tuple[_Mix, ...]] = (*_Mix, _Mix.FAULTS)
_MISUSES: Final = tuple(Misuse)
# How often each call is tried where it makes sense.
_PLAIN_CALLS: Final[Mapping[Call, int]] = {
    Call.SEND: 9,
    Call.POLL: 12,
    Call.WAIT_LONG: 2,
    Call.FAILURE_EXCEPTION: 2,
    Call.METRIC: 1,
    Call.WAIT: 1,
    Call.CONTROL: 1,
}
_CALLER_CALLS: Final[Mapping[Call, int]] = {**_PLAIN_CALLS, Call.OPEN: 8, Call.ABORT: 4, Call.CLEAR: 4}
_FAULTY_CALLS: Final[Mapping[Call, int]] = {
    Call.SEND: 14,
    Call.POLL: 14,
    Call.OPEN: 8,
    Call.RESTART: 6,
    Call.KILL: 2,
    Call.ABORT: 2,
    Call.CLEAR: 2,
    Call.FAILURE_EXCEPTION: 2,
    Call.STOP: 1,
    Call.METRIC: 1,
    Call.WAIT: 1,
    Call.WAIT_LONG: 1,
    Call.CONTROL: 1,
}
_CALLS: Final[Mapping[_Mix, tuple[Call, ...]]] = {
    _Mix.NOTHING: _often(_PLAIN_CALLS),
    _Mix.CALLERS: _often(_CALLER_CALLS),
    _Mix.THREADS: _often(_CALLER_CALLS),
    _Mix.FAULTS: _often(_FAULTY_CALLS),
}
_READERS_CALLS: Final[Mapping[_Mix, tuple[Call, ...]]] = {
    mix: calls if mix is _Mix.NOTHING else (*calls, *(Call.REFILL,) * 2) for mix, calls in _CALLS.items()
}
# What finishes at one peer only is for the test sequences of the suite, which name the peers.
_PROGRESS: Final = _often({Progress.NONE: 2, Progress.ALL: 1, Progress.NEWEST: 2, Progress.HALF: 1})

_READERS_PROGRESS: Final = (*_PROGRESS, Progress.BEGUN, Progress.LANDED)


def _faults(point: Point, kinds: tuple[Kind, ...], nths: int) -> tuple[Fault, ...]:
    return tuple(Fault(point, kind, nth) for kind in kinds for nth in range(nths))


def _menu(usual: tuple[Fault, ...], rare: tuple[Fault, ...]) -> tuple[tuple[Fault, ...], ...]:
    """The faults that one call can meet, in groups, as often as each is worth trying.

    Each of the rare ones may end the run, because what the sender is left in is its own affair.
    """
    disconnects = tuple(f for f in usual if f.kind is Kind.REMOTE_DISCONNECT and f.point is not Point.NOTIFY)
    return _often({usual: 4, disconnects: 3, rare: 3})


_OVERLAP_POINTS: Final[Mapping[Call, Mapping[Point, int]]] = {
    Call.SEND: {Point.MAKE: 1, Point.POST: 2},
    Call.POLL: {Point.CHECK: 2, Point.RELEASE: 1, Point.NOTIFY: 1},
}
"""Where the calls of two threads can overlap, by how often it is worth trying."""
_MOST_OVERLAPS: Final = 2
"""At which of several calls of the transport at most."""

_RARE: Final[tuple[Kind, ...]] = (*PROGRAMMING_KINDS, *BASE_KINDS)
_MENUS: Final = {
    Call.SEND: _menu(
        _faults(Point.MAKE, RAISED_BY_TRANSPORT, 2) + _faults(Point.POST, TRANSPORT_KINDS, 3),
        _faults(Point.MAKE, _RARE, 1) + _faults(Point.POST, _RARE, 2),
    ),
    Call.POLL: _menu(
        _faults(Point.CHECK, TRANSPORT_KINDS, 3)
        + _faults(Point.CHECK, RETURNED_BY_TRANSPORT, 2) * 2
        + _faults(Point.RELEASE, (Kind.REPOST_ACTIVE, Kind.BACKEND), 2) * 3
        + _faults(Point.NOTIFY, (Kind.REMOTE_DISCONNECT, Kind.NOT_FOUND), 2),
        _faults(Point.CHECK, _RARE, 1),
    ),
}


def _step(random: Random, run: Run, mix: _Mix) -> Step | None:
    """Choose one step that makes sense now, or None where none does."""
    reads = run.operation == "READ"
    calls = (_READERS_CALLS if reads else _CALLS)[mix]
    if mix is not _Mix.NOTHING and Ability.TARGET_ABORTS in run.can:
        calls = (*calls, *(Call.TARGET_ABORTS,) * 2)
    slots = range(max(len(run.setup.chunks), run.setup.peers))
    for _ in range(_MOST_DRAWS):
        call = random.choice(calls)
        able = run.able(call, slots)
        if able:
            break
    else:
        return None
    flying = [slot for slot in able if run.asks(Point.CHECK, slot)] if call is Call.POLL else []
    slot = random.choice(flying if flying and random.random() < _FOLLOWED else able)
    if call is Call.SEND and random.random() < _MISTAKES:
        mistake = Step(call, slot, misuse=random.choice(_MISUSES))
        return mistake if run.applicable(mistake) else Step(call, slot)
    progress = Progress.NONE
    if call is Call.POLL or call is Call.REFILL:
        progress = random.choice(_READERS_PROGRESS if reads else _PROGRESS)
    fault = _fault(random, run, call, slot) if call in _MENUS and mix is _Mix.FAULTS else None
    step = Step(call, slot, progress, fault)
    if call in _OVERLAP_POINTS and mix is _Mix.THREADS:
        return _with_overlap(random, run, step)
    return step


def _fault(random: Random, run: Run, call: Call, slot: int) -> Fault | None:
    """Sometimes a fault, of those that can strike; most often in a poll() that has something to ask about."""
    share = 0.25 if call is Call.SEND else 0.6 if run.asks(Point.CHECK, slot) else 0.15
    if random.random() >= share:
        return None
    faults = random.choice(_MENUS[call])
    asks = {point: run.asks(point, slot) for point in Point}
    striking = [fault for fault in faults if fault.nth < asks[fault.point]]
    return random.choice(striking) if striking else None


def _with_overlap(random: Random, run: Run, step: Step) -> Step:
    """Every other time another thread calls as well."""
    places = {
        (point, nth): weight
        for point, weight in _OVERLAP_POINTS[step.call].items()
        for nth in range(_MOST_OVERLAPS)
        if nth < run.asks(point, step.room)
    }
    if not places or random.random() < 0.5:
        return step
    overlap = replace(step, overlap=Overlap(random.choice(OVERLAP_CALLS[step.call]), *random.choice(_often(places))))
    return overlap if run.applicable(overlap) else step


def wander(adapter: Adapter, random: Random, runs: list[AnyRun]) -> None:
    """One run, which is handed out in ``runs`` as soon as there is one."""
    run = Run(adapter, _setup(random, abilities(adapter), reads=operation_of(adapter) == "READ"))
    runs.append(run)
    mix = random.choice(_MIXES)
    for room in range(len(run.setup.chunks)):
        run.apply(Step(Call.OPEN, room))
    for _ in range(STEPS):
        step = None if run.over else _step(random, run, mix)
        if step is not None:
            run.apply(step)
    run.finish()
