"""Randomised exploration: hypothesis draws scenes, and each run's own dice choose its steps.

A step is chosen among those that make sense where the run stands. That is no draw of hypothesis' own, which demands the
same draws in the same places each time: a sender with threads, or with a clock of its own, need not do the same twice.

There is one rule over the alphabet of calls and injected answers, because a rule for every call spends most examples
on calls that say nothing. A violation does not end the exploration: all clauses are judged in one pass, and only what
broke is made short afterwards, by replaying ever smaller parts of its trace.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import count
from random import Random
from typing import Final

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

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
from kvsender_spec.kit.adapter import Adapter
from kvsender_spec.kit.calls import AdapterError
from kvsender_spec.kit.drive import DEEDS, MEETING_CALLS, Run, run_trace
from kvsender_spec.kit.judge import THREADS, Violation
from kvsender_spec.kit.record import Moment
from kvsender_spec.trace import WORLD_CALLS, Call, Meeting, Misuse, Progress, Scene, Step, Trace

STEPS: Final = 18
_MISTAKES: Final = 0.125
"""How many of the owner's send() are one."""
_FOLLOWED: Final = 0.7
"""How many poll() are surely of a room that has something in flight, if there is one: the others say little."""
MOST_ERRORS: Final = 5
"""So many runs that an adapter broke in end the exploration: each may have cost a call's whole time limit."""

_ROOMS: Final[tuple[tuple[int, ...], ...]] = ((1,), (1, 1), (2, 1), (1, 1, 1), (0,))


def _scenes(*, rooms: int, peers: int, shared: bool) -> st.SearchStrategy[Scene]:
    return st.builds(
        Scene,
        chunks=st.lists(st.sampled_from(_ROOMS), min_size=rooms, max_size=rooms).map(tuple),
        peers=st.just(peers),
        dummies=st.sampled_from((0, 0, 0, 1)),
        shared=st.just(shared),
        done_at_post=st.sampled_from((False,) * 5 + (True,)),
        drops_metadata=st.booleans(),
        silent=st.sampled_from((False, False, True)),
    )


SCENES: Final = st.one_of(
    _scenes(rooms=1, peers=1, shared=True),
    _scenes(rooms=2, peers=1, shared=True),
    _scenes(rooms=2, peers=2, shared=True),
    # Rooms that share no peer: only here can one peer's fault reach a room that it has no part in.
    _scenes(rooms=2, peers=2, shared=False),
    _scenes(rooms=2, peers=2, shared=False),
)

# How often each call is tried where it makes sense, in four weathers. Hypothesis has no weights, so the lists
# repeat what should come often. Most of what a sender does right shows only where nothing goes wrong, and most of what
# its owner or another thread can do to it only where nothing else does.
_CALM_CALLS: Final = (
    *(Call.SEND,) * 9,
    *(Call.POLL,) * 12,
    *(Call.WAIT_LONG, Call.FAILURE_EXCEPTION) * 2,
    *(Call.METRIC, Call.WAIT, Call.CONTROL),
)
_FITFUL_CALLS: Final = (*_CALM_CALLS, *(Call.OPEN,) * 8, *(Call.ABORT, Call.CLEAR) * 4)
_STORMY_CALLS: Final = (
    *(Call.SEND, Call.POLL) * 14,
    *(Call.OPEN,) * 8,
    *(Call.RESTART,) * 6,
    *(Call.KILL, Call.ABORT, Call.CLEAR, Call.FAILURE_EXCEPTION) * 2,
    *(Call.STOP, Call.METRIC, Call.WAIT, Call.WAIT_LONG, Call.CONTROL),
)


class _Weather(Enum):
    CALM = "calm"
    """The owner does its work and nothing fails."""
    FITFUL = "fitful"
    """The owner gives rooms up and opens them again."""
    CROWDED = "crowded"
    """Other threads call as well."""
    STORMY = "stormy"
    """Rooms are given up, faults strike, and peers come and go."""


_CALLS: Final = {
    _Weather.CALM: _CALM_CALLS,
    _Weather.FITFUL: _FITFUL_CALLS,
    _Weather.CROWDED: _FITFUL_CALLS,
    _Weather.STORMY: _STORMY_CALLS,
}
# What finishes at one peer only is for words (kvsender_spec.kit.words), which name the peers.
_PROGRESS: Final = (Progress.NONE, Progress.ALL, Progress.NEWEST, Progress.HALF, Progress.NONE, Progress.NEWEST)


def _faults(point: Point, kinds: tuple[Kind, ...], nths: int) -> tuple[Fault, ...]:
    return tuple(Fault(point, kind, nth) for kind in kinds for nth in range(nths))


@dataclass(frozen=True, slots=True)
class _Menu:
    """The faults that one call can meet, by how often they are worth trying."""

    usual: tuple[Fault, ...]
    rare: tuple[Fault, ...]
    """Each ends the run, because what the sender is left in is its own affair."""

    @property
    def disconnects(self) -> tuple[Fault, ...]:
        return tuple(f for f in self.usual if f.kind is Kind.REMOTE_DISCONNECT and f.point is not Point.NOTIFY)


_MEETING_POINTS: Final = {
    Call.SEND: (Point.MAKE, Point.POST, Point.POST),
    Call.POLL: (Point.CHECK, Point.CHECK, Point.RELEASE, Point.NOTIFY),
}
"""Where the calls of two threads can meet, by how often it is worth trying."""
_MOST_MEETINGS: Final = 2
"""At which of several calls of the transport at most."""

_RARE: Final = PROGRAMMING_KINDS + BASE_KINDS
_MENUS: Final = {
    Call.SEND: _Menu(
        _faults(Point.MAKE, RAISED_BY_TRANSPORT, 2) + _faults(Point.POST, TRANSPORT_KINDS, 3),
        _faults(Point.MAKE, _RARE, 1) + _faults(Point.POST, _RARE, 2),
    ),
    Call.POLL: _Menu(
        _faults(Point.CHECK, TRANSPORT_KINDS, 3)
        + _faults(Point.CHECK, RETURNED_BY_TRANSPORT, 2) * 2
        + _faults(Point.RELEASE, (Kind.REPOST_ACTIVE, Kind.BACKEND), 2) * 3
        + _faults(Point.NOTIFY, (Kind.REMOTE_DISCONNECT, Kind.NOT_FOUND), 2),
        _faults(Point.CHECK, _RARE, 1),
    ),
}


def _step(dice: Random, run: Run, weather: _Weather) -> Step | None:
    """Choose one step that makes sense now, or None where none does."""
    slots = range(max(len(run.scene.chunks), run.scene.peers))
    able = {call: [slot for slot in slots if run.applicable(Step(call, slot))] for call in set(_CALLS[weather])}
    calls = [call for call in _CALLS[weather] if able[call]]
    if not calls:
        return None
    call = dice.choice(calls)
    flying = [slot for slot in able[call] if run.asks(Point.CHECK, slot)]
    followed = call is Call.POLL and flying and dice.random() < _FOLLOWED
    step = Step(call, dice.choice(flying if followed else able[call]))
    if call is Call.SEND and dice.random() < _MISTAKES:
        mistake = replace(step, misuse=dice.choice(tuple(Misuse)))
        return mistake if run.applicable(mistake) else step
    if call is Call.POLL:
        step = replace(step, progress=dice.choice(_PROGRESS))
    if call in _MENUS and weather is _Weather.STORMY:
        return replace(step, fault=_fault(dice, run, step))
    if call in _MEETING_POINTS and weather is _Weather.CROWDED:
        return _with_meeting(dice, run, step)
    return step


def _fault(dice: Random, run: Run, step: Step) -> Fault | None:
    """Sometimes a fault, of those that can strike; most often in a poll() that has something to ask about."""
    asks = {point: run.asks(point, step.room) for point in Point}
    share = 0.25 if step.call is Call.SEND else 0.6 if asks[Point.CHECK] else 0.15
    if dice.random() >= share:
        return None
    menu = _MENUS[step.call]
    (faults,) = dice.choices((menu.usual, menu.disconnects, menu.rare), (4, 3, 3))
    striking = [fault for fault in faults if fault.nth < asks[fault.point]]
    return dice.choice(striking) if striking else None


def _with_meeting(dice: Random, run: Run, step: Step) -> Step:
    """Every other time another thread calls as well."""
    places = [
        (point, nth)
        for point in _MEETING_POINTS[step.call]
        for nth in range(_MOST_MEETINGS)
        if nth < run.asks(point, step.room)
    ]
    if not places or dice.random() < 0.5:
        return step
    meeting = replace(step, meeting=Meeting(dice.choice(MEETING_CALLS[step.call]), *dice.choice(places)))
    return meeting if run.applicable(meeting) else step


@dataclass(slots=True)
class Counterexample:
    """The shortest trace found that breaks a clause."""

    violation: Violation
    trace: Trace
    moments: tuple[Moment, ...] = ()
    """What the run of this very trace, with its end, did and saw; empty where it was not run again."""
    avoid: frozenset[str] = frozenset()
    """Clauses, known to be broken, whose deeds the end of the run leaves out."""


_EXPLAIN: Final = frozenset({"KS-2.7", "KS-5.4", "KS-6.2", "KS-6.3"})
"""A suspicion of these that holds explains what was blamed for want of anything better."""
_PEER_CALLS: Final = frozenset({Call.KILL, Call.STOP, Call.RESTART})


def _is_change(step: Step, clause: str, own: frozenset[int]) -> bool:
    """Whether a step is a change of the kind that the clause is about, for a room with these peers of its own."""
    match clause:
        case "KS-6.2" | "KS-6.3":
            # A worker may meet the fault in another room than the step's: whose peer it was does not show in the step.
            disconnects = step.fault is not None and step.fault.kind is Kind.REMOTE_DISCONNECT
            return disconnects or (step.call in _PEER_CALLS and (step.room in own) is (clause == "KS-6.3"))
        case "KS-2.7":
            return step.call is Call.FAILURE_EXCEPTION
        case "KS-5.1":
            return step.call is Call.ABORT
        case "KS-5.2" | "KS-5.3":
            return step.call is Call.CLEAR
        case _:
            return step.misuse is not None


def _convicted(run: Run, suspicion: Violation) -> bool:
    """A suspicion holds unless the same run goes wrong without the changes that the clause is about."""
    clause = suspicion.clause
    if clause == "KS-5.4" and suspicion.incarnation is not None:
        return not _breaks(run, _of_one_room(run.steps, suspicion.incarnation))
    own = frozenset[int]() if suspicion.incarnation is None else _own_peers(run, suspicion.incarnation)
    lesser = tuple(step for step in run.steps if not _is_change(step, clause, own))
    if len(lesser) == len(run.steps):
        return True  # the end of the run made the change, and that cannot be left out
    broken = _breaks(run, lesser, DEEDS & {clause})
    return not (broken & suspicion.explains if suspicion.explains else broken)


def _own_peers(run: Run, incarnation: int) -> frozenset[int]:
    """The numbers of the peers that a room writes to. Rooms count in opening order."""
    slots = [step.room for step in run.steps if step.call is Call.OPEN]
    return run.stage.peers_of(slots[incarnation])


def _of_one_room(steps: Sequence[Step], incarnation: int) -> tuple[Step, ...]:
    """Without the other rooms, and without the earlier and later ones of the same id. Rooms count in opening order."""
    opened = [number for number, step in enumerate(steps) if step.call is Call.OPEN]
    first, slot = opened[incarnation], steps[opened[incarnation]].room
    last = next((number for number in opened if number > first and steps[number].room == slot), len(steps))
    return tuple(
        step
        for number, step in enumerate(steps)
        if step.call in WORLD_CALLS or (step.room == slot and first <= number < last)
    )


def _breaks(run: Run, steps: tuple[Step, ...], avoid: frozenset[str] = frozenset()) -> frozenset[str]:
    """The clauses that the same sender breaks in the same scene with other steps."""
    again = run_trace(run.adapter, Trace(run.scene, steps), run.avoid | avoid)
    return frozenset(violation.clause for violation in again.findings.violations)


def _alone(steps: Sequence[Step]) -> list[tuple[Step, ...]]:
    """The same with one thread only, in both orders: the calls that met come before, or after."""
    before: list[Step] = []
    after: list[Step] = []
    for step in steps:
        first = replace(step, meeting=None)
        second = [] if step.meeting is None else [Step(step.meeting.call, step.room)]
        before += [*second, first]
        after += [first, *second]
    return [tuple(before), tuple(after)]


def attributed(run: Run) -> list[Violation]:
    """What a finished run shows about each clause.

    What goes wrong only where two threads call is no other clause's than KS-7.2, and what goes wrong with one thread as
    well is better shown by that run: it says nothing here.
    """
    violations = run.findings.violations
    if not violations or all(step.meeting is None for step in run.steps):
        found = [v for v in violations if not v.suspicion or _convicted(run, v)]
        guilty = any(v.suspicion and v.clause in _EXPLAIN for v in found)
        return [v for v in found if not (v.fallback and guilty)]
    if any(_breaks(run, steps) for steps in _alone(run.steps)):
        return []
    first = violations[0]
    return [replace(first, clause=THREADS, expected=f"{first.expected} ({first.clause})", suspicion=False)]


@dataclass(frozen=True, slots=True)
class Breakdown:
    """The adapter broke, or the kit did; the sender is not judged by this run."""

    message: str
    trace: Trace


@dataclass(slots=True)
class Exploration:
    """What all runs together have shown."""

    runs: int = 0
    steps: int = 0
    held: Counter[str] = field(default_factory=Counter)
    broken: dict[str, Counterexample] = field(default_factory=dict)
    errors: list[Breakdown] = field(default_factory=list)

    @property
    def cut_short(self) -> bool:
        return len(self.errors) >= MOST_ERRORS

    def add(self, run: Run) -> None:
        self.runs += 1
        self.steps += len(run.steps)
        self.held += run.findings.held
        for violation in attributed(run):
            known = self.broken.get(violation.clause)
            if known is None or len(run.steps) < len(known.trace.steps):
                trace = Trace(run.scene, tuple(run.steps))
                self.broken[violation.clause] = Counterexample(violation, trace, avoid=run.avoid)


class _Enough(Exception):
    """Ends the exploration early."""


def explore(
    adapter: Adapter,
    *,
    seed_number: int,
    examples: int,
    wanted: frozenset[str] = frozenset(),
    avoid: frozenset[str] = frozenset(),
    into: Exploration | None = None,
    on_run: Callable[[Exploration], None] = lambda _: None,
) -> Exploration:
    """Explore once for all clauses, or until each of the ``wanted`` ones is broken. Adds to ``into``, if given.

    The same seed explores the same in the same program; hypothesis also looks at which modules are loaded.
    An error of the adapter's own ends its run, and too many of them the exploration.
    """
    found = into or Exploration()
    numbers = count()

    class Walk(RuleBasedStateMachine):
        run: Run | None = None

        @initialize(scene=SCENES, weather=st.sampled_from((*_Weather, _Weather.STORMY)))
        def begin(self, scene: Scene, weather: _Weather) -> None:
            self.weather = weather
            self.dice = Random(f"{seed_number} {next(numbers)}")
            try:
                self.run = Run(adapter, scene, avoid)
                for room in range(len(scene.chunks)):
                    self.run.apply(Step(Call.OPEN, room))
            except AdapterError as error:
                self.give_up(error, scene)

        @rule()
        def step(self) -> None:
            if self.run is None:
                return
            step = _step(self.dice, self.run, self.weather)
            if step is not None:
                try:
                    self.run.apply(step)
                except AdapterError as error:
                    self.give_up(error, self.run.scene)

        def give_up(self, error: AdapterError, scene: Scene) -> None:
            steps = () if self.run is None else tuple(self.run.steps)
            if not found.cut_short:
                found.errors.append(Breakdown(str(error), Trace(scene, steps)))
            self.run = None

        def teardown(self) -> None:
            if self.run is not None:
                try:
                    self.run.finish()
                    found.add(self.run)
                except AdapterError as error:
                    self.give_up(error, self.run.scene)
            on_run(found)
            if (wanted and wanted <= found.broken.keys()) or found.cut_short:
                raise _Enough

    walk = seed(seed_number)(Walk)
    with suppress(_Enough):
        run_state_machine_as_test(
            walk,
            settings=settings(
                max_examples=examples,
                stateful_step_count=STEPS,
                phases=[Phase.generate],
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                report_multiple_bugs=False,
            ),
        )
    return found


def shorten(adapter: Adapter, example: Counterexample) -> Counterexample:
    """Leave out what the violation does not need: steps, faults' details and parts of the scene, one at a time.

    Greedy and bounded: it ends when no single omission still breaks the same clause.
    """
    clause = example.violation.clause

    def still_broken(trace: Trace) -> Counterexample | None:
        run = run_trace(adapter, trace, example.avoid)
        for violation in attributed(run):
            if violation.clause == clause:
                steps = tuple(run.steps)
                return Counterexample(violation, Trace(trace.scene, steps), tuple(run.record.moments), run.avoid)
        return None

    best = still_broken(example.trace)
    if best is None:
        return example  # not reproducible in a run of its own; the trace as found is the honest one
    smaller: Counterexample | None = best
    while smaller is not None:
        best = smaller
        candidates = (still_broken(trace) for trace in _smaller(best.trace))
        smaller = next((candidate for candidate in candidates if candidate is not None), None)
    return best


def _smaller(trace: Trace) -> list[Trace]:
    """Every trace that is one omission away, the largest omissions first."""
    scene, steps = trace.scene, trace.steps
    found = [Trace(scene, steps[:start] + steps[start + 1 :]) for start in reversed(range(len(steps)))]
    for number, step in enumerate(steps):
        for simpler in (
            replace(step, progress=Progress.NONE),
            replace(step, fault=None),
            replace(step, meeting=None),
            replace(step, fault=None if step.fault is None else replace(step.fault, nth=0)),
        ):
            if simpler != step:
                found.append(Trace(scene, (*steps[:number], simpler, *steps[number + 1 :])))
    plain = Scene()
    scenes = [
        replace(scene, chunks=scene.chunks[:1]),
        replace(scene, chunks=tuple((chunks[0],) for chunks in scene.chunks)),
        replace(scene, chunks=tuple(tuple(min(n, 1) for n in chunks) for chunks in scene.chunks)),
        replace(scene, peers=1),
        replace(scene, dummies=plain.dummies),
        replace(scene, shared=plain.shared),
        replace(scene, done_at_post=plain.done_at_post),
        replace(scene, drops_metadata=plain.drops_metadata),
        replace(scene, silent=plain.silent),
    ]
    found += [Trace(other, steps) for other in scenes if other != scene]
    return found
