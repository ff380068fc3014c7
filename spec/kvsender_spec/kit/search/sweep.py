"""The sweep: short traces, derived from the state table, that every check runs first. They are the same on every seed.

For each state that a room can be in, and each way to get there, every call of the caller is made (``_callers_calls``).
At each point of the transport each kind of fault strikes once, and a few kinds strike in every state (``_faults``).
Rooms, peers and threads come in worlds of two (``_other_rooms``, ``_peers``, ``_overlaps``). Every trace then asks
everything that may be asked of a room: what it answers, its cause twice, and whether it still takes a chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import cycle, product
from typing import Final

from kvsender_spec.faults import (
    BASE_KINDS,
    PROGRAMMING_KINDS,
    RAISED_BY_TRANSPORT,
    TRANSPORT_KINDS,
    Fault,
    Kind,
    Point,
)
from kvsender_spec.kit.adapter import ROOM_PAGES
from kvsender_spec.kit.run.misuse import MALFORMED
from kvsender_spec.kit.run.situation import OVERLAP_CALLS
from kvsender_spec.kit.search.churn import churn
from kvsender_spec.machine import State
from kvsender_spec.trace import Call, Misuse, Overlap, Progress, Setup, Step, Trace

ONE: Final = Setup(((1,),))
TWO: Final = Setup(((1, 1),))
TWO_PEERS: Final = Setup(((1, 1),), peers=2)
TWO_ROOMS: Final = Setup(((1,), (1,)))
APART: Final = Setup(((1,), (1,)), peers=2, shared=False)

_OPEN: Final = Step(Call.OPEN)
_SEND: Final = Step(Call.SEND)
_POLL: Final = Step(Call.POLL)
_POLL_HALF: Final = Step(Call.POLL, progress=Progress.HALF)
_POLL_NEWEST: Final = Step(Call.POLL, progress=Progress.NEWEST)
_POLL_ALL: Final = Step(Call.POLL, progress=Progress.ALL)
_ASK: Final = Step(Call.FAILURE_EXCEPTION)
_ABORT: Final = Step(Call.ABORT)
_CLEAR: Final = Step(Call.CLEAR)
_LONG: Final = Step(Call.WAIT_LONG)
_DRAIN: Final = Step(Call.WAIT)
_WORK: Final = Step(Call.WORK)

_EPILOGUE: Final = (_POLL_HALF, _ASK, _POLL_ALL, _ASK, _SEND, _POLL)
"""The answer while something is still in flight and when it has finished, the cause twice, and one more chunk."""
_AGAIN: Final = (_CLEAR, _OPEN, _SEND, _POLL_NEWEST, _SEND, _POLL_ALL, _POLL)
"""The id comes back, and its new room is a good one."""

WAYS: Final[dict[State, dict[str, tuple[Step, ...]]]] = {
    State.IDLE: {"opened": (_OPEN,), "opened again": (_OPEN, _SEND, _CLEAR, _OPEN)},
    State.SENDING: {
        "one chunk": (_OPEN, _SEND),
        "every chunk": (_OPEN, _SEND, _SEND),
        "half finished": (_OPEN, _SEND, _SEND, _POLL_HALF),
    },
    State.DONE: {"finished": (_OPEN, _SEND, _SEND, _POLL_ALL)},
    State.FAILED: {
        "post refused": (_OPEN, _SEND, replace(_SEND, fault=Fault(Point.POST, Kind.BACKEND))),
        "given up": (_OPEN, _SEND, _ABORT),
    },
    State.STICKY_FAILED: {
        "check raised": (
            *(_OPEN, _SEND, _SEND),
            *(replace(_POLL, fault=Fault(Point.CHECK, Kind.REMOTE_DISCONNECT)), _POLL_ALL),
        ),
        "check answered ERR": (
            *(_OPEN, _SEND, _SEND),
            *(replace(_POLL, fault=Fault(Point.CHECK, Kind.RETURNS_ERR)), _POLL_ALL),
        ),
        "deadline": (_OPEN, _SEND, _SEND, _LONG, _POLL, _POLL_ALL),
    },
}
"""How a room of two chunks gets into each state of the table."""
_CALLS: Final[dict[str, tuple[Step, ...]]] = {
    "nothing": (),
    "send": (_SEND,),
    "ask": (_ASK,),
    "abort": (_ABORT, _POLL),
    "clear": (_CLEAR, _POLL),
    "deadline": (_LONG, _POLL, _DRAIN, _POLL),
    "late completion": (_LONG, _POLL_ALL),
}
"""What the caller then does. ``_EPILOGUE`` sends and polls in each state."""
_TYPICAL: Final = (Kind.REMOTE_DISCONNECT, Kind.BACKEND, Kind.RETURNS_ERR, Kind.RETURNS_NONSENSE)
"""These strike in every state; the other kinds of the transport once at each point."""


def _callers_calls() -> Iterator[Trace]:
    setups = cycle((TWO_PEERS, TWO))
    for ways, calls in product(WAYS.values(), _CALLS.values()):
        for way in ways.values():
            yield Trace(next(setups), (*way, *calls, *_EPILOGUE))
    for way in (way for ways in WAYS.values() for way in ways.values()):
        yield Trace(TWO, (*way, *_AGAIN))
        yield Trace(TWO_PEERS, (*way, _ABORT, _POLL, *_AGAIN))
    yield Trace(ONE, (_OPEN, _SEND, _LONG, _POLL_ALL, _POLL))
    for misuse in Misuse:
        mistake = replace(_SEND, misuse=misuse)
        yield Trace(TWO, (_OPEN, mistake, _SEND, mistake, _SEND, _POLL_ALL))


def _faults() -> Iterator[Trace]:
    for kind in RAISED_BY_TRANSPORT:
        refused = replace(_SEND, fault=Fault(Point.MAKE, kind))
        yield Trace(ONE, (_OPEN, refused, *_EPILOGUE))
        yield Trace(TWO, (_OPEN, _SEND, refused, *_EPILOGUE))
    for kind in TRANSPORT_KINDS:
        refused = replace(_SEND, fault=Fault(Point.POST, kind))
        yield Trace(TWO, (_OPEN, refused, *_EPILOGUE))
        yield Trace(TWO, (_OPEN, _SEND, refused, *_EPILOGUE))
        yield Trace(ONE, (_OPEN, _SEND, replace(_POLL, fault=Fault(Point.CHECK, kind)), *_EPILOGUE))
    for kind in (Kind.REPOST_ACTIVE, Kind.BACKEND):
        yield Trace(ONE, (_OPEN, _SEND, replace(_POLL_ALL, fault=Fault(Point.RELEASE, kind)), *_EPILOGUE))
    for kind in (Kind.REMOTE_DISCONNECT, Kind.NOT_FOUND):
        yield Trace(ONE, (_OPEN, _SEND, replace(_POLL_ALL, fault=Fault(Point.NOTIFY, kind)), *_EPILOGUE))
    for kind in (*PROGRAMMING_KINDS, *BASE_KINDS):
        yield Trace(ONE, (_OPEN, replace(_SEND, fault=Fault(Point.MAKE, kind)), _POLL, _ASK, _ASK))
        yield Trace(ONE, (_OPEN, replace(_SEND, fault=Fault(Point.POST, kind)), _POLL, _ASK, _ASK))
        yield Trace(ONE, (_OPEN, _SEND, replace(_POLL, fault=Fault(Point.CHECK, kind)), _POLL_ALL, _ASK, _ASK))


def _faults_among_others() -> Iterator[Trace]:
    """A fault at one of several peers and chunks, beside transfers that finish, are pending, or fail as well."""
    for kind, nth in product(_TYPICAL, (0, 1)):
        yield Trace(TWO_PEERS, (_OPEN, replace(_SEND, fault=Fault(Point.POST, kind, nth)), *_EPILOGUE))
        yield Trace(TWO_PEERS, (_OPEN, _SEND, replace(_SEND, fault=Fault(Point.POST, kind, nth)), *_EPILOGUE))
        for progress in (Progress.NONE, Progress.HALF, Progress.NEWEST, Progress.PEER_0):
            poll = replace(_POLL, progress=progress, fault=Fault(Point.CHECK, kind, nth))
            yield Trace(TWO_PEERS, (_OPEN, _SEND, _SEND, poll, *_EPILOGUE))
    for kind in _TYPICAL:
        poll = replace(_POLL, fault=Fault(Point.CHECK, kind))
        yield Trace(TWO, (_OPEN, _SEND, poll, _SEND, *_EPILOGUE))
        yield Trace(TWO, (_OPEN, _SEND, _SEND, replace(poll, fault=Fault(Point.CHECK, kind, 1)), *_EPILOGUE))
    for first, then in product((Kind.REMOTE_DISCONNECT, Kind.RETURNS_ERR), (Kind.NOT_FOUND, Kind.RETURNS_NONSENSE)):
        later = replace(_POLL, fault=Fault(Point.CHECK, then))
        poll = replace(_POLL, fault=Fault(Point.CHECK, first))
        yield Trace(TWO_PEERS, (_OPEN, _SEND, _SEND, poll, later, *_EPILOGUE))
        refused = replace(_SEND, fault=Fault(Point.POST, first))
        yield Trace(TWO, (_OPEN, _SEND, refused, later, *_EPILOGUE))
        yield Trace(TWO, (_OPEN, refused, replace(_SEND, fault=Fault(Point.POST, then)), *_EPILOGUE))


def _good_ends() -> Iterator[Trace]:
    """Rooms of every shape, whose transfers finish in every order."""
    shapes = (
        ONE,
        TWO,
        TWO_PEERS,
        Setup(((0,),)),
        Setup(((1, 1, 1),)),
        Setup(((2, 1),), peers=2),
        Setup(((1, 1),), peers=2, dummies=1),
        Setup(((1, 1),), done_at_post=True),
    )
    for setup, progress in product(shapes, (Progress.ALL, Progress.NEWEST, Progress.HALF)):
        chunks = len(setup.chunks[0])
        poll = replace(_POLL, progress=progress)
        yield Trace(setup, (_OPEN, _POLL, *(_SEND,) * chunks, poll, poll, _ASK, _POLL_ALL, _ASK, _POLL))
    for setup in shapes:
        yield Trace(setup, (_OPEN, _SEND, _POLL_ALL, _SEND, _POLL_ALL, _SEND, _POLL_ALL, _POLL))
        yield Trace(replace(setup, silent=True), (_OPEN, *(_SEND,) * len(setup.chunks[0]), _POLL))
    yield Trace(replace(TWO, silent=True), (_OPEN, _SEND, _SEND, _ABORT, _POLL))
    yield Trace(replace(TWO, silent=True), (_OPEN, _SEND, _POLL))


def _of(room: int, *steps: Step) -> tuple[Step, ...]:
    return tuple(replace(step, room=room) for step in steps)


def _other_rooms() -> Iterator[Trace]:
    """What happens to one room leaves another one alone, before, during and after its own transfer."""
    bad = (
        (replace(_SEND, fault=Fault(Point.MAKE, Kind.BACKEND)), _POLL),
        (replace(_SEND, fault=Fault(Point.MAKE, Kind.NOT_FOUND)), _POLL),
        (replace(_SEND, fault=Fault(Point.POST, Kind.BACKEND)), _POLL),
        (_SEND, replace(_POLL, fault=Fault(Point.CHECK, Kind.RETURNS_ERR)), _POLL),
        (_SEND, replace(_POLL, fault=Fault(Point.CHECK, Kind.REMOTE_DISCONNECT)), _POLL),
        (_SEND, replace(_POLL_ALL, fault=Fault(Point.NOTIFY, Kind.REMOTE_DISCONNECT)), _POLL),
        (_SEND, replace(_POLL_ALL, fault=Fault(Point.NOTIFY, Kind.BACKEND)), _POLL),
        (_SEND, _ABORT, _POLL),
        (_SEND, _CLEAR, _POLL),
        (_SEND, Step(Call.KILL), _POLL, _POLL),
        (_SEND, Step(Call.STOP), _POLL),
        (_SEND, Step(Call.STOP), _LONG, _POLL),
    )
    for setup, steps in product((TWO_ROOMS, APART), bad):
        good = _of(1, _SEND, _POLL, _POLL_ALL, _POLL, _ASK)
        yield Trace(setup, (_OPEN, *_of(1, _OPEN), *steps, *good))
        yield Trace(setup, (_OPEN, *_of(1, _OPEN, _SEND), *steps, *_of(1, _POLL, _POLL_ALL, _POLL), _ASK, _POLL))
        yield Trace(setup, (_OPEN, *steps, _CLEAR, _OPEN, _SEND, _POLL_ALL, _POLL))
    for setup in (TWO_ROOMS, APART):
        yield Trace(setup, (_OPEN, *_of(1, _OPEN, _SEND), _LONG, _SEND, *_of(1, _POLL_ALL, _POLL), _POLL_ALL))
    # What a silent peer has in flight may fill a queue or a window that all rooms share.
    many = Setup(((1, 1, 1), (1,)), peers=2, shared=False)
    yield Trace(many, (_OPEN, *_of(1, _OPEN), Step(Call.STOP), *(_SEND,) * 3, *_of(1, _SEND, _POLL, _POLL_ALL, _POLL)))
    for gone in (Step(Call.KILL), Step(Call.STOP)):
        newer = _of(1, _SEND, gone)
        yield Trace(APART, (_OPEN, *_of(1, _OPEN), _SEND, *newer, _POLL, *_of(1, _POLL), _POLL_ALL, _POLL))


def _peers() -> Iterator[Trace]:
    """Peers that go away, fall silent and come back; control messages that nobody understands."""
    back = Step(Call.RESTART)
    good = _of(1, _OPEN, _SEND, _POLL_ALL, _POLL)
    for gone in (Step(Call.KILL), Step(Call.STOP)):
        yield Trace(ONE, (_OPEN, gone, _SEND, _POLL, _LONG, _POLL, _DRAIN, *_EPILOGUE))
        yield Trace(ONE, (gone, _OPEN, _SEND, _POLL, _LONG, _POLL, _DRAIN, _POLL))
        yield Trace(ONE, (gone, back, _OPEN, _SEND, _POLL_ALL, _CLEAR, gone, _OPEN, _SEND, _POLL, back, _POLL))
        yield Trace(TWO, (_OPEN, _SEND, gone, _SEND, _POLL, _LONG, _POLL, _DRAIN, *_EPILOGUE))
        yield Trace(TWO, (_OPEN, _SEND, gone, back, _SEND, _POLL_ALL, _ASK, _POLL))
        for setup in (TWO_ROOMS, replace(TWO_ROOMS, drops_metadata=True)):
            yield Trace(setup, (_OPEN, _SEND, gone, _POLL, back, *good))
            yield Trace(setup, (_OPEN, _SEND, gone, _POLL, _ABORT, _POLL, _CLEAR, back, *good))
            yield Trace(setup, (_OPEN, gone, back, *good, _SEND, _POLL_ALL))
            yield Trace(setup, (_OPEN, _SEND, gone, _POLL, *good))
            yield Trace(setup, (_OPEN, _SEND, gone, _POLL, back, *good, _CLEAR, _OPEN, _SEND, _POLL_ALL, _POLL))
        renamed = replace(TWO_ROOMS, renames=True)
        yield Trace(renamed, (_OPEN, _SEND, gone, _POLL, back, *good, _POLL, _CLEAR, _OPEN, _SEND, _POLL_ALL))
        yield Trace(renamed, (_OPEN, _SEND, gone, back, *good, gone, _POLL, back, *_of(1, _POLL, _CLEAR, _OPEN, _SEND)))
        both = (_OPEN, *_of(1, _OPEN), _SEND, *_of(1, _SEND))
        yield Trace(APART, (*both, gone, _POLL, *_of(1, _POLL), _LONG, *_of(1, _POLL, _POLL_ALL), _POLL))
        yield Trace(APART, (*both, gone, _POLL, back, *_of(1, _POLL_ALL), _POLL, _CLEAR, _OPEN, _SEND, _POLL_ALL))
    # The deadline counts from the post, however often the caller looks (KS-3.4).
    often = (*(_DRAIN, _POLL) * 8, *(_POLL,) * _MANY, _DRAIN, *(_POLL,) * _MANY)
    yield Trace(replace(ONE, silent=True), (_OPEN, _SEND, Step(Call.FAULTS_OVER), *often))
    # Of two rooms the older one has posted again since: the other one is late first.
    renewed = Setup(((1, 1), (1,)), silent=True)
    begun = (_OPEN, *_of(1, _OPEN), _SEND, _POLL_ALL, *_of(1, _SEND), Step(Call.FAULTS_OVER))
    posted = (*begun, _DRAIN, _DRAIN, _SEND)
    both = (*_of(1, _POLL), _POLL) * 6
    yield Trace(renewed, (*posted, *(_DRAIN,) * 4, *both, _DRAIN, *both, _DRAIN, *both, _DRAIN, *both))
    for number in range(len(MALFORMED)):
        yield Trace(ONE, (_OPEN, Step(Call.CONTROL, number), _SEND, _POLL_ALL))


def _overlaps() -> Iterator[Trace]:
    """A second thread calls while the first is about to ask the transport."""
    points = {Call.SEND: (Point.MAKE, Point.POST), Call.POLL: (Point.CHECK, Point.RELEASE, Point.NOTIFY)}
    end = (_POLL_HALF, _POLL_ALL, _POLL, _ASK)
    for call, nth in product(points, (0, 1)):
        for point, other in product(points[call], OVERLAP_CALLS[call]):
            before = (_OPEN, _SEND, *(_SEND,) * (call is Call.POLL and other is not Call.SEND))
            progress = Progress.NONE if call is Call.SEND or point is Point.CHECK else Progress.ALL
            step = Step(call, progress=progress, overlap=Overlap(other, point, nth))
            yield Trace(TWO if nth == 0 and call is Call.POLL else TWO_PEERS, (*before, step, *end))
    for point, other in product(points[Call.SEND], OVERLAP_CALLS[Call.SEND]):
        yield Trace(ONE, (_OPEN, replace(_SEND, overlap=Overlap(other, point)), *end))


_MANY: Final = 12
"""More polls than a room has handles that has one page."""
_GONE: Final[tuple[tuple[Step, ...], ...]] = (
    (_CLEAR,),
    (_ABORT, _POLL, _DRAIN, _POLL, _CLEAR),
    (_LONG, _POLL, _DRAIN, _POLL, _CLEAR),
)


def _earlier_rooms() -> Iterator[Trace]:
    """A transfer of a cleared room ends, well or badly, or the room is given up again, when its id has a new room."""
    late = replace(_POLL_ALL, opening=1)
    bad = Fault(Point.CHECK, Kind.BACKEND)
    for end, again in product((*_GONE, (_POLL_ALL, _CLEAR)), (_CLEAR, _ABORT)):
        before = (_OPEN, _SEND, _SEND, *end, _OPEN)
        yield Trace(TWO, (*before, replace(again, opening=1), _SEND, _SEND, _POLL_ALL, _POLL, _ASK))
        yield Trace(TWO, (*before, _SEND, replace(again, opening=1), _POLL, _SEND, _POLL_ALL, _POLL))
    for end in _GONE:
        before = (_OPEN, _SEND, _SEND, *end, _OPEN)
        yield Trace(TWO, (*before, late, _WORK, _SEND, _SEND, _POLL_ALL, _POLL))
        yield Trace(TWO, (*before, _SEND, late, _WORK, _POLL, _SEND, _WORK, _POLL_ALL, _POLL))
        yield Trace(TWO, (*before, _SEND, replace(_WORK, fault=bad), _WORK, _POLL, _SEND, _POLL_ALL, _POLL))
        yield Trace(TWO, (*before, _SEND, _SEND, _POLL_ALL, late, _WORK, _POLL, _ASK, _CLEAR))


def _parts() -> Iterator[Trace]:
    """A peer has the first pages already. What it names pages for are the last ones."""
    for setup in (
        Setup(((2,),), cached=1),
        Setup(((1, 1),), cached=1),
        Setup(((2, 2),), cached=3),
        Setup(((1, 1),), cached=2),
        Setup(((2, 1),), peers=2, cached=1),
    ):
        sent = (_SEND,) * len(setup.chunks[0])
        yield Trace(setup, (_OPEN, *sent, _POLL_ALL, _POLL))
        yield Trace(setup, (_OPEN, *sent, replace(_POLL, fault=Fault(Point.CHECK, Kind.BACKEND)), *_EPILOGUE))


def _large_chunks() -> Iterator[Trace]:
    """As many pages as a room can have. A sender may cut a chunk, or take its first pages for all of them."""
    for setup in (Setup(((ROOM_PAGES,),)), Setup(((3, ROOM_PAGES - 3),), peers=2)):
        sent = (_SEND,) * len(setup.chunks[0])
        yield Trace(setup, (_OPEN, *sent, _POLL_HALF, _POLL_ALL, _POLL))


_FAMILIES: Final[tuple[Callable[[], Iterator[Trace]], ...]] = (
    *(_faults, _good_ends, _callers_calls, _faults_among_others),
    *(_other_rooms, _earlier_rooms, _peers, _overlaps, _parts, _large_chunks, churn),
)


def _each_once() -> Iterator[Trace]:
    seen: set[Trace] = set()
    for family in _FAMILIES:
        for trace in family():
            if trace not in seen:
                seen.add(trace)
                yield trace


def given_time(trace: Trace, posts_in: Call) -> Trace:
    """The same for a sender that posts what send() took in a later poll() or in background work: each has its time."""
    if posts_in is Call.SEND:
        return trace
    steps: list[Step] = []
    for step in trace.steps:
        if step.call is Call.POLL and posts_in is Call.WORK and Step(Call.FAULTS_OVER) in steps:
            steps.append(_WORK)
        steps.append(step)
        if step.call is Call.SEND and step.misuse is None:
            steps.append(_WORK if posts_in is Call.WORK else replace(_POLL, room=step.room, opening=step.opening))
    return replace(trace, steps=tuple(steps))


SWEEP: Final = tuple(_each_once())
