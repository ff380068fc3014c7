"""Churn: many rooms one after the other in one world, most of them failed or given up.

What a sender allocates for a room or for a send() and does not give back adds up, until a pool of its own is empty or
its tables are long. Each family ends with a good room, which needs what all others have given back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from kvsender_spec.faults import Fault, Kind, Point
from kvsender_spec.trace import Call, Progress, Setup, Step, Trace

_SETUP: Final = Setup(((1,),), churn=True)
_OPEN: Final = Step(Call.OPEN)
_SEND: Final = Step(Call.SEND)
_POLL: Final = Step(Call.POLL)
_POLL_ALL: Final = Step(Call.POLL, progress=Progress.ALL)
_ABORT: Final = Step(Call.ABORT)
_CLEAR: Final = Step(Call.CLEAR)
_WORK: Final = Step(Call.WORK)

_GOOD: Final = (_OPEN, _SEND, _POLL_ALL, _CLEAR)
_CLEAN: Final = (
    (_OPEN, _CLEAR),
    (_OPEN, _ABORT, _POLL, _CLEAR),
    (_OPEN, replace(_SEND, fault=Fault(Point.MAKE, Kind.BACKEND)), _POLL, _CLEAR),
    (_OPEN, _SEND, _ABORT, _POLL_ALL, _CLEAR),
    _GOOD,
)
"""Rooms that leave no page in doubt: theirs may be used again."""
_DOUBTFUL: Final = (
    (_OPEN, replace(_SEND, fault=Fault(Point.POST, Kind.BACKEND)), _POLL, _CLEAR),
    (_OPEN, _SEND, replace(_POLL, fault=Fault(Point.CHECK, Kind.RETURNS_ERR)), _POLL, _CLEAR),
    (_OPEN, _SEND, _CLEAR, _POLL_ALL, _WORK),
)
"""Rooms whose pages may never be used again: no more of them than the pool has pages."""
SHORT: Final = 20
"""Empties a pool of 16."""
LONG: Final = 70
"""Empties a pool of 64."""


def churn(rooms: int = SHORT) -> Iterator[Trace]:
    """So many rooms of each kind, but of the doubtful kinds never more than ``SHORT``."""
    clean = tuple(step for room in _CLEAN for step in room)
    last = (_OPEN, _SEND)  # the end of the run polls it to its end
    yield Trace(_SETUP, (*clean * rooms, *last))
    for room in _DOUBTFUL:
        yield Trace(_SETUP, (*room * min(rooms, SHORT), *last))
