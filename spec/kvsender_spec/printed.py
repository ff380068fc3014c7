"""Steps and setups in the words in which the kit prints them, read back: what a report says can be pasted."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, TypeVar

from kvsender_spec.contract import OPERATIONS, ROLES, Operation, Role
from kvsender_spec.faults import Fault, Kind, Point
from kvsender_spec.history.words import How, Says
from kvsender_spec.lines import shown
from kvsender_spec.trace import BYTES_ONLY, Call, Granted, Misuse, Overlap, Progress, Refilled, Setup, Step, TraceError

MOST_DIGITS: Final = 9
_OF_NOTHING: Final = frozenset(call for call in Call if "(" not in str(Step(call)))
_E = TypeVar("_E", bound=StrEnum)


def _last_words(setup: Setup) -> str:
    return str(setup).rpartition(", ")[2]


_NOT_SHARED: Final = _last_words(Setup(shared=False))
_DONE_AT_POST: Final = _last_words(Setup(done_at_post=True))
_DROPS_METADATA: Final = _last_words(Setup(drops_metadata=True))
_SILENT: Final = _last_words(Setup(silent=True))
_RENAMES: Final = _last_words(Setup(renames=True))
_CHURN: Final = _last_words(Setup(churn=True))
_REFILLED: Final = {_last_words(Setup(refilled=which)): which for which in Refilled if which is not Refilled.ALL}


_GRANTED: Final = {_last_words(Setup(granted=what)): what for what in Granted if what is not Granted.GOOD}
_BEGINS: Final[dict[str, tuple[Role, Operation]]] = {
    str(Setup(operation=operation, role=role)).partition("1")[0]: (role, operation)
    for role in ROLES
    for operation in OPERATIONS
}


def parse_step(text: str, operation: Operation = "WRITE") -> Step:
    """Read what ``Step.told`` makes of a step. ``wait`` and ``wait_long``, which are about no room, may come without
    one.

    Raises TraceError, which names the word, for anything else.
    """
    alone, overlap, thread = text.partition(" overlapping ")
    what, *details = alone.split(" with ")
    name_and_room, after, finished = what.partition(" after ")
    name_and_room, by, initiator = name_and_room.partition(" by peer ")
    name, bracket, number = name_and_room.partition("(")
    number, _, opening = number.removesuffix(")").partition(" opening ")
    call = Call.SEND if (name, operation) == ("read", "READ") else _named(Call, name)
    if not bracket and call not in _OF_NOTHING:
        raise TraceError(f"{name_and_room!r} names no room or peer: write {name}(0)")
    fault: Fault | None = None
    misuse: Misuse | None = None
    for detail in details:
        if "=" in detail:
            fault = _parse_fault(detail)
        else:
            misuse = _named(Misuse, detail)
    peer, says, how = _parse_initiator(initiator) if by else (0, None, How.PROPER)
    step = Step(
        call,
        room=_count(number) if bracket else 0,
        progress=_parse_progress(finished) if after else Progress.NONE,
        fault=fault,
        misuse=misuse,
        overlap=_parse_overlap(thread) if overlap else None,
        opening=_count(opening) if opening else 0,
        peer=peer,
        says=says,
        how=how,
    )
    # There is one way to write a step; this refuses what the lines above read too kindly.
    written = step.told(operation)
    if text != written:
        raise TraceError(f"{text!r} is no step: did you mean {written!r}?")
    return step


def _parse_progress(text: str) -> Progress:
    landed = next((progress for progress, words in BYTES_ONLY.items() if words == text), None)
    return landed or _named(Progress, text.removesuffix(" finished"))


def _parse_initiator(text: str) -> tuple[int, Says | None, How]:
    """Which initiator of a target's run, what it says, and what is unusual about that."""
    who, odd, how = text.removesuffix(")").partition(" (")
    number, colon, says = who.partition(": ")
    return _count(number), _named(Says, says) if colon else None, _named(How, how) if odd else How.PROPER


def _parse_fault(text: str) -> Fault:
    where, _, kind = text.partition("=")
    point, nth = _parse_point(where)
    return Fault(point, _named(Kind, kind), nth)


def _parse_overlap(text: str) -> Overlap:
    call, _, where = text.partition(" from another thread at ")
    point, nth = _parse_point(where)
    return Overlap(_named(Call, call), point, nth)


def _parse_point(text: str) -> tuple[Point, int]:
    point, bracket, nth = text.partition("[")
    return _named(Point, point), _count(nth.removesuffix("]")) if bracket else 0


def parse_setup(text: str) -> Setup:
    """Read what ``str`` makes of a setup. Raises TraceError, which names the words, for anything else."""
    rooms, *words = text.split(", ")
    begins = next((words for words in _BEGINS if rooms.startswith(words)), None)
    if begins is None:
        raise TraceError(f"{rooms!r} is no beginning of a setup: write rooms of 1+1 pages, 2 peers")
    role, operation = _BEGINS[begins]
    chunks = tuple(
        tuple(_count(pages) for pages in room.removesuffix(" pages").split("+"))
        for room in rooms.removeprefix(begins).split(" and ")
    )
    peers = 1
    dummies = 0
    cached = 0
    refilled, granted = Refilled.ALL, Granted.GOOD
    for word in words:
        number, _, what = word.partition(" ")
        if what in ("peer", "peers"):
            peers = _count(number)
        elif what == "dummy":
            dummies = _count(number)
        elif what == "cached":
            cached = _count(number)
        elif word in _REFILLED:
            refilled = _REFILLED[word]
        elif word in _GRANTED:
            granted = _GRANTED[word]
        elif word not in (_NOT_SHARED, _DONE_AT_POST, _DROPS_METADATA, _SILENT, _RENAMES, _CHURN):
            raise TraceError(f"{word!r} is no part of a setup")
    setup = Setup(
        chunks,
        peers,
        dummies,
        shared=_NOT_SHARED not in words,
        done_at_post=_DONE_AT_POST in words,
        drops_metadata=_DROPS_METADATA in words,
        silent=_SILENT in words,
        cached=cached,
        renames=_RENAMES in words,
        churn=_CHURN in words,
        refilled=refilled,
        operation=operation,
        role=role,
        granted=granted,
    )
    if str(setup) != text:
        raise TraceError(f"{text!r} is no setup: did you mean {str(setup)!r}?")
    return setup


def _named(members: type[_E], text: str) -> _E:
    try:
        return members(text)
    except ValueError:
        raise TraceError(f"{text!r} is not one of: {', '.join(members)}") from None


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS):
        raise TraceError(f"{shown(repr(text))} is no number from 0 with at most {MOST_DIGITS} digits")
    return int(text)
