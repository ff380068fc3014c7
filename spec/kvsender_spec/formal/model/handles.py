"""What a transfer handle may be, as a code of one byte, and what befalls it, as maps from code to code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, unique
from typing import Final, NamedTuple

from kvsender_spec.formal.rules import Rules
from kvsender_spec.machine import QUIESCED, RELEASABLE, HandleEvent, HandleState


class Handle(NamedTuple):
    """A handle: what the sender knows (``state``), what it does not know yet, and what it has done with it."""

    state: HandleState
    landed: bool = False
    """The transport has finished it, and the next check will say so."""
    released: bool = False


_PENDING: Final = (HandleState.IN_FLIGHT, HandleState.IN_DOUBT)
HANDLES: Final = tuple(
    Handle(state, landed, released)
    for state in HandleState
    for landed in ((False, True) if state in _PENDING else (False,))
    for released in (False, True)
)
NONE: Final = 0
"""The code of a place without a handle; ``HANDLES[n]`` has the code ``n + 1``."""
STRAY: Final = len(HANDLES) + 1
"""The code of a handle that was posted and not adopted: nobody will ask about it again."""
_CODES: Final = {handle: code for code, handle in enumerate(HANDLES, 1)}


def code_of(handle: Handle) -> int:
    return _CODES[handle]


def codes(*states: HandleState) -> bytes:
    """The codes of all handles in these states."""
    return bytes(code for handle, code in _CODES.items() if handle.state in states)


def name_of(code: int) -> str:
    """A code in words, for generated files and traces."""
    if code in (NONE, STRAY):
        return "none" if code == NONE else "stray"
    handle = HANDLES[code - 1]
    return handle.state.value + ("_landed" if handle.landed else "") + ("_released" if handle.released else "")


FLYING: Final = code_of(Handle(HandleState.IN_FLIGHT))
LANDED: Final = code_of(Handle(HandleState.IN_FLIGHT, landed=True))
CREATED: Final = code_of(Handle(HandleState.CREATED))
IN_FLIGHT: Final = codes(HandleState.IN_FLIGHT)
UNSETTLED: Final = codes(*_PENDING)
SILENT: Final = bytes(code for handle, code in _CODES.items() if code in UNSETTLED and not handle.landed)
"""Handles that would answer PROC, and that may finish or raise instead."""
DONE: Final = codes(HandleState.DONE)
HELD: Final = bytes(code for handle, code in _CODES.items() if not handle.released)
PLACED: Final = bytes(range(NONE + 1, STRAY + 1))


def _except(*others: bytes) -> bytes:
    return bytes(code for code in PLACED if code not in b"".join(others))


@unique
class Kind(Enum):
    """A set of handles that a predicate or a generated model speaks of. A place without a handle is in none of them."""

    PLACED = PLACED
    IN_FLIGHT = IN_FLIGHT
    SILENT = SILENT
    UNDONE = _except(DONE)
    UNQUIESCED = _except(codes(*QUIESCED))
    """Its pages may still be read."""
    DOUBTFUL = codes(HandleState.IN_DOUBT, HandleState.REJECTED)
    IN_DOUBT = codes(HandleState.IN_DOUBT)
    OPEN = _except(codes(*(RELEASABLE | QUIESCED)))
    """The transport has not said its last word, or the handle is lost."""
    UNANSWERED = _except(DONE, bytes(code for code in IN_FLIGHT if code not in SILENT))
    """It would not answer DONE if it were asked now."""
    HELD_SETTLED = bytes(code for code in HELD if code in codes(*RELEASABLE))
    SETTLED = _except(UNSETTLED, bytes([STRAY]))
    RELEASED_EARLY = bytes(code for code in UNSETTLED if code not in HELD)
    STRAY = bytes([STRAY])


class Op(Enum):
    """What befalls a handle, in words."""

    FINISHED = "The transport finishes it; nobody knows yet."
    ANSWERING = "It is asked, and answers what is so: DONE where it has landed, PROC otherwise."
    FAILING = "It is asked, and raises, unless it has landed already."
    RELEASED = "It is released where it has settled, each once."
    OVERDUE = "What is in flight now is in doubt. So is what a cleared room leaves to the next one."
    FORGOTTEN = "The room is over: what is settled and released needs no place any more."


@dataclass(frozen=True)
class HandleOps:
    """The operations under one set of rules, as maps from code to code: ``bytes`` for ``bytes.translate``.

    A code that a map leads to and that the handle table forbids is STRAY: the handle is lost to the sender.
    """

    maps: Mapping[Op, bytes]
    settled: bytes
    """The codes of handles on which the transport has said its last word, and of places without a handle."""
    due: bytes
    """The codes of handles that a sweep asks or releases."""
    accepted: int
    rejected: int

    def __getitem__(self, op: Op) -> bytes:
        return self.maps[op]


def handle_ops(rules: Rules) -> HandleOps:
    def after(handle: Handle, event: HandleEvent, *, released: bool = False) -> int:
        dest = rules.handle_next[handle.state][event]
        if dest is None:
            return STRAY
        return code_of(Handle(dest, handle.landed and dest in _PENDING, handle.released or released))

    def finished(handle: Handle) -> int:
        return code_of(handle._replace(landed=True)) if handle.state in _PENDING else code_of(handle)

    def answered(handle: Handle) -> int:
        return after(handle, HandleEvent.FINISHED) if handle.landed else code_of(handle)

    def failed(handle: Handle) -> int:
        silent = handle.state in _PENDING and not handle.landed
        return after(handle, HandleEvent.RAISED) if silent else answered(handle)

    def released(handle: Handle) -> int:
        due = handle.state in rules.releasable and not handle.released
        return after(handle, HandleEvent.RELEASED, released=True) if due else code_of(handle)

    def overdue(handle: Handle) -> int:
        return after(handle, HandleEvent.OVERDUE) if handle.state is HandleState.IN_FLIGHT else code_of(handle)

    def forgotten(handle: Handle) -> int:
        return NONE if handle.released else code_of(handle)

    def table(change: Callable[[Handle], int]) -> bytes:
        changed = {code: change(handle) for handle, code in _CODES.items()}
        return bytes(changed.get(code, code) for code in range(256))

    changes = (finished, answered, failed, released, overdue, forgotten)
    maps = {op: table(change) for op, change in zip(Op, changes, strict=True)}
    created = Handle(HandleState.CREATED)
    return HandleOps(
        maps,
        settled=bytes([NONE]) + codes(*(rules.releasable | rules.quiesced)),
        due=bytes(code for code in PLACED if code in UNSETTLED or maps[Op.RELEASED][code] != code),
        accepted=after(created, HandleEvent.ACCEPTED),
        rejected=after(created, HandleEvent.REJECTED),
    )
