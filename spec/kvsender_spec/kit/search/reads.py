"""The sweep's traces for readers: holders end their grants, and bytes are here long before the transport says so.

A READ in flight reads its source as it is when the bytes land, and the holder's memory is the holder's: DONE says that
all bytes are here, and not that they are those that were granted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from typing import Final

from kvsender_spec.faults import TRANSPORT_KINDS, Fault, Kind, Point
from kvsender_spec.kit.adapter import ROOM_PAGES
from kvsender_spec.kit.search.sweep import APART, ONE, TWO, TWO_PEERS, TWO_ROOMS
from kvsender_spec.trace import Call, Granted, Progress, Refilled, Setup, Step, Trace

_OPEN: Final = Step(Call.OPEN)
_READ: Final = Step(Call.SEND)
_POLL: Final = Step(Call.POLL)
_POLL_ALL: Final = Step(Call.POLL, progress=Progress.ALL)
_POLL_HALF: Final = Step(Call.POLL, progress=Progress.HALF)
_POLL_NEWEST: Final = Step(Call.POLL, progress=Progress.NEWEST)
_POLL_BEGUN: Final = Step(Call.POLL, progress=Progress.BEGUN)
_POLL_LANDED: Final = Step(Call.POLL, progress=Progress.LANDED)
_ASK: Final = Step(Call.FAILURE_EXCEPTION)
_ABORT: Final = Step(Call.ABORT)
_CLEAR: Final = Step(Call.CLEAR)
_REFILL: Final = Step(Call.REFILL)
_LONG: Final = Step(Call.WAIT_LONG)
_DRAIN: Final = Step(Call.WAIT)
_END: Final = (_POLL_ALL, _POLL_ALL, _POLL_ALL, _ASK, _ASK, _POLL)
"""A reader may need a poll for its data, one for what it reads after them, and one more to answer."""


def _of(room: int, *steps: Step) -> tuple[Step, ...]:
    return tuple(replace(step, room=room) for step in steps)


def _refills() -> Iterator[Trace]:
    """The holder refills at each point between the grant and the answer."""
    shapes = (
        *(ONE, TWO, TWO_PEERS),
        *(Setup(((3, 2),), refilled=which) for which in Refilled),
        *(Setup(((ROOM_PAGES,),), peers=2, refilled=which) for which in Refilled),
    )
    for setup in shapes:
        read = (_READ,) * len(setup.chunks[0])
        yield Trace(setup, (_OPEN, _REFILL, *read, *_END))
        yield Trace(setup, (_OPEN, _READ, _REFILL, *read[1:], *_END))
        for poll in (_POLL, _POLL_NEWEST, _POLL_HALF, _POLL_ALL, _POLL_BEGUN, _POLL_LANDED):
            yield Trace(setup, (_OPEN, *read, poll, _REFILL, *_END))
            yield Trace(setup, (_OPEN, *read, poll, _POLL_NEWEST, _REFILL, *_END))
        # What was here before the refill is right; what was refilled in the middle of it is torn.
        for progress in (Progress.BEGUN, Progress.LANDED, Progress.ALL):
            yield Trace(setup, (_OPEN, *read, replace(_REFILL, progress=progress), *_END))
        # After the answer the pages are the reader's own.
        yield Trace(setup, (_OPEN, *read, *_END, _REFILL, _POLL, _ASK, _ABORT, _CLEAR, _POLL))
    yield Trace(ONE, (_OPEN, _READ, _REFILL, _ABORT, *_END))
    yield Trace(ONE, (_OPEN, _READ, _ABORT, _POLL, _REFILL, *_END))
    yield Trace(ONE, (_OPEN, _READ, _REFILL, _CLEAR, _OPEN, _READ, *_END))
    yield Trace(ONE, (_OPEN, _READ, _REFILL, _POLL_ALL, _POLL_ALL, _POLL, _CLEAR, _OPEN, _READ, *_END))
    yield Trace(ONE, (_OPEN, _READ, _REFILL, _LONG, _POLL, _DRAIN, *_END))


def _chunk_by_chunk() -> Iterator[Trace]:
    """A reader may look at the grant of each chunk when that chunk is here, before it is given the next."""
    looked = (_POLL_ALL, _POLL_ALL)
    for which in (Refilled.FIRST, Refilled.LAST, Refilled.BEGUN):
        for setup in (Setup(((1, 1),), refilled=which), Setup(((2, 1),), peers=2, refilled=which)):
            yield Trace(setup, (_OPEN, _REFILL, _READ, *looked, _READ, *looked, *_END))
            yield Trace(setup, (_OPEN, _READ, _REFILL, *looked, _READ, *looked, *_END))
            yield Trace(setup, (_OPEN, _READ, *looked, _REFILL, _READ, *looked, *_END))
            yield Trace(setup, (_OPEN, _READ, _POLL_ALL, _REFILL, _POLL_ALL, _READ, *looked, *_END))
            yield Trace(setup, (_OPEN, _READ, *looked, _READ, _REFILL, *looked, *_END))


def _after_the_data() -> Iterator[Trace]:
    """A fault strikes in what a reader asks the transport for when its data are here, or at its notification."""
    for setup, point in product((ONE, TWO_PEERS), (Point.MAKE, Point.POST, Point.CHECK)):
        for kind in TRANSPORT_KINDS if setup is ONE else (Kind.REMOTE_DISCONNECT, Kind.RETURNS_ERR):
            if point is Point.MAKE and kind in (Kind.RETURNS_ERR, Kind.RETURNS_NONSENSE):
                continue
            read = (_READ,) * len(setup.chunks[0])
            bad = Fault(point, kind)
            yield Trace(setup, (_OPEN, *read, replace(_POLL_ALL, fault=bad), replace(_POLL, fault=bad), *_END))
    for gone in (Step(Call.KILL), Step(Call.STOP)):
        yield Trace(ONE, (_OPEN, _READ, _POLL_ALL, gone, _POLL, _LONG, _POLL, _DRAIN, *_END))
        yield Trace(TWO_PEERS, (_OPEN, _READ, _READ, _POLL_ALL, gone, _POLL, _LONG, _POLL, _DRAIN, *_END))
        yield Trace(ONE, (_OPEN, _READ, _POLL_ALL, _ABORT, _POLL, gone, *_END))
    yield Trace(ONE, (_OPEN, _READ, _POLL_ALL, _LONG, _POLL, _DRAIN, *_END))
    yield Trace(ONE, (_OPEN, _READ, _POLL_ALL, _ABORT, *_END))
    yield Trace(ONE, (_OPEN, _READ, _POLL_ALL, _CLEAR, _POLL_ALL, _OPEN, _READ, *_END))


def _made_again() -> Iterator[Trace]:
    """A READ from the second holder cannot be made, once or ever again, when the first holder's is under way."""
    for kind, chunks in product((Kind.NOT_FOUND, Kind.BACKEND, Kind.REMOTE_DISCONNECT), ((1,), (1, 1))):
        refused = replace(_READ, fault=Fault(Point.MAKE, kind, 1))
        yield Trace(Setup((chunks,), peers=2), (_OPEN, refused, *(_READ,) * (len(chunks) - 1), *_END))
    cut = replace(_READ, fault=Fault(Point.POST, Kind.REMOTE_DISCONNECT, 1))
    setup = Setup(((1,), (1,)), peers=2, drops_metadata=True)
    yield Trace(setup, (_OPEN, *_of(1, _OPEN, cut), _READ, _ASK, *_END))


def _bytes_first() -> Iterator[Trace]:
    """All bytes are here, or half of them, and the transport goes on answering PROC; then something else happens."""
    for poll, setup in product((_POLL_BEGUN, _POLL_LANDED), (ONE, TWO, TWO_PEERS)):
        read = (_READ,) * len(setup.chunks[0])
        yield Trace(setup, (_OPEN, *read, poll, _POLL, _POLL, *_END))
        yield Trace(setup, (_OPEN, *read, poll, _ABORT, _POLL, _DRAIN, *_END))
        yield Trace(setup, (_OPEN, *read, poll, _CLEAR, _POLL, _OPEN, *read, *_END))
        yield Trace(setup, (_OPEN, *read, poll, _LONG, _POLL, _DRAIN, *_END))
        yield Trace(setup, (_OPEN, *read, poll, Step(Call.KILL), *_END))
        yield Trace(setup, (_OPEN, *read, poll, Step(Call.STOP), _POLL, _LONG, _POLL, _DRAIN, *_END))
        yield Trace(setup, (_OPEN, *read, poll, replace(_POLL, fault=Fault(Point.CHECK, Kind.BACKEND)), *_END))


def _beside_others() -> Iterator[Trace]:
    """What the holder of one room refills is no other room's affair, whoever that one's holder is."""
    for setup in (TWO_ROOMS, APART):
        both = (_OPEN, *_of(1, _OPEN), _READ, *_of(1, _READ))
        yield Trace(setup, (*both, _REFILL, _POLL_ALL, _POLL_ALL, *_of(1, *_END), *_END))
        yield Trace(setup, (*both, *_of(1, _POLL_ALL), _REFILL, *_of(1, *_END), *_END))
        yield Trace(setup, (_OPEN, _READ, _REFILL, *_END, *_of(1, _OPEN, _READ, *_END)))
    # A first contact that is refused is about the process that was there then.
    good = _of(1, _OPEN, _READ, *_END)
    for gone in (Step(Call.KILL), Step(Call.STOP)):
        yield Trace(TWO_ROOMS, (gone, _OPEN, _READ, _POLL, _POLL, Step(Call.RESTART), _POLL, *good))
    # Where the holder has a longer prefix than is wanted, the last pages are meant.
    for setup in (Setup(((1,),), cached=1), Setup(((2, 1),), cached=2), Setup(((1, 1),), peers=2, cached=1)):
        read = (_READ,) * len(setup.chunks[0])
        yield Trace(setup, (_OPEN, *read, *_END))
        yield Trace(setup, (_OPEN, *read, _REFILL, *_END))


def _misgrants() -> Iterator[Trace]:
    """A holder grants what cannot be. The room may fail, whoever finds it out; it must not end with Success for that,
    and the room of another grant goes on."""
    for granted in (how for how in Granted if how is not Granted.GOOD):
        for setup in (Setup(((2,),), granted=granted), Setup(((2, 1),), peers=2, granted=granted)):
            read = (_READ,) * len(setup.chunks[0])
            yield Trace(setup, (_OPEN, *read, *_END))
            yield Trace(replace(setup, refilled=Refilled.LAST), (_OPEN, *read, _REFILL, *_END))
        both = Setup(((2,), (1,)), granted=granted)
        yield Trace(both, (_OPEN, *_of(1, _OPEN), _READ, *_of(1, _READ), _POLL, *_of(1, *_END), *_END))


_FAMILIES: Final[tuple[Callable[[], Iterator[Trace]], ...]] = (
    *(_refills, _chunk_by_chunk, _after_the_data, _made_again, _misgrants, _bytes_first, _beside_others),
)
READS: Final = tuple({trace: None for family in _FAMILIES for trace in family()})
