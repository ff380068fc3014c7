"""The sweep's traces for systems whose peers can say that they give a room up (KS-6.4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from kvsender_spec.faults import Fault, Kind, Point
from kvsender_spec.kit.search.sweep import ONE, TWO, TWO_PEERS, WAYS
from kvsender_spec.trace import Call, Progress, Setup, Step, Trace

_OPEN: Final = Step(Call.OPEN)
_SEND: Final = Step(Call.SEND)
_POLL: Final = Step(Call.POLL)
_POLL_HALF: Final = Step(Call.POLL, progress=Progress.HALF)
_POLL_ALL: Final = Step(Call.POLL, progress=Progress.ALL)
_ASK: Final = Step(Call.FAILURE_EXCEPTION)
_CLEAR: Final = Step(Call.CLEAR)
_DRAIN: Final = Step(Call.WAIT)
_WORK: Final = Step(Call.WORK)
_GIVES_UP: Final = Step(Call.TARGET_ABORTS)
_LATE: Final = replace(_GIVES_UP, opening=1)


def _aborts() -> Iterator[Trace]:
    end = (_POLL, _POLL_HALF, _POLL_ALL, _ASK, _ASK, _SEND, _POLL)
    for ways, setup in zip(WAYS.values(), (TWO, TWO_PEERS, TWO, TWO_PEERS, TWO), strict=True):
        for way in ways.values():
            yield Trace(setup, (*way, _GIVES_UP, *end))
            yield Trace(setup, (*way, _CLEAR, _GIVES_UP, _POLL, _POLL_ALL, _WORK, _POLL))
            yield Trace(setup, (*way, _GIVES_UP, _CLEAR, _POLL, _POLL_ALL, _WORK, _POLL))
    for setup in (TWO, TWO_PEERS):
        begun = (_OPEN, _SEND, _SEND)
        # What is in flight outlives the drain deadline, and settles later: well, badly, or not at all.
        yield Trace(setup, (*begun, _GIVES_UP, _POLL, _DRAIN, _POLL, _POLL_ALL, _WORK, _POLL))
        yield Trace(setup, (*begun, _GIVES_UP, _POLL, _DRAIN, _POLL, _CLEAR, _WORK, _POLL_ALL, _WORK, _POLL))
        late = replace(_WORK, fault=Fault(Point.CHECK, Kind.BACKEND))
        yield Trace(setup, (*begun, _GIVES_UP, _POLL, _DRAIN, _POLL, late, _WORK, _POLL_ALL, _WORK, _POLL))
        yield Trace(replace(setup, silent=True), (*begun, _GIVES_UP, _POLL, _DRAIN, _POLL))
        # One transfer ends in an error, and its bytes may land at any time.
        bad = replace(_POLL, fault=Fault(Point.CHECK, Kind.BACKEND))
        yield Trace(setup, (*begun, _GIVES_UP, bad, _POLL_ALL, _WORK, _POLL))
        yield Trace(setup, (*begun, bad, _GIVES_UP, _POLL_ALL, _WORK, _POLL))
        yield Trace(setup, (_OPEN, _SEND, replace(_SEND, fault=Fault(Point.POST, Kind.BACKEND)), _GIVES_UP, _POLL_ALL))
        # The id has a new room, and the word is about the old one; or the same word comes twice.
        again = (_CLEAR, _OPEN, _SEND, _LATE, _SEND, _POLL_ALL, _WORK, _POLL)
        yield Trace(setup, (*begun, _GIVES_UP, _POLL, *again))
        yield Trace(setup, (*begun, *again))
        yield Trace(setup, (*begun, _GIVES_UP, _GIVES_UP, _POLL_ALL, _POLL, _WORK, _GIVES_UP, _POLL))
        yield Trace(setup, (*begun, _POLL_ALL, _POLL, _GIVES_UP, _POLL, _ASK, _CLEAR, _GIVES_UP, _POLL))
    yield Trace(Setup(((0,),)), (_OPEN, _GIVES_UP, _SEND, _POLL_ALL, _POLL, _ASK))
    # Bytes that are there are no proof as long as nobody has said so.
    yield Trace(ONE, (_OPEN, _SEND, replace(_GIVES_UP, progress=Progress.LANDED), _POLL, _DRAIN, _POLL, _POLL_ALL))


ABORTS: Final = tuple(_aborts())
