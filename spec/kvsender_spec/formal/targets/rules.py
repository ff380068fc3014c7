"""The target's tables as one value that every layer takes, so that the same layers can be put before changed tables.

``ill_formed`` says what makes tables meaningless before anything is explored. ``Wrong`` are the mistakes that a target
can make beside its tables, in how it reads what has arrived.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Final

from kvsender_spec.machine import Reply, Word
from kvsender_spec.target_machine import (
    HOLD_NEXT,
    REQUEST_NEXT,
    TARGET_NEVER,
    TARGET_TABLE,
    TOUCHABLE,
    Hold,
    HoldEvent,
    Request,
    RequestEvent,
    TargetEffect,
    TargetGuard,
    TargetInput,
    TargetNever,
    TargetRow,
)


class Wrong(Word):
    """What a target does beside its tables, and must not."""

    ANY_INCARNATION = "takes the end of any incarnation"
    FENCE_BY_NAME = "takes a fence by name, and not by incarnation"
    COUNTS_MESSAGES = "counts messages, and not who has sent them"
    ANNOUNCED_ONLY = "asks about the initiators that it has announced, and not about all"
    HOLDS_LATE = "announces first, and takes the hold afterwards"


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """Tables, and what is wrong beside them. Compared by identity: two of them are never asked whether they agree."""

    hold_next: Mapping[Hold, Mapping[HoldEvent, Hold | None]]
    request_next: Mapping[Request, Mapping[RequestEvent, Request | None]]
    table: tuple[TargetRow, ...]
    never: tuple[TargetNever, ...]
    wrong: Wrong | None = None

    def rows_for(self, source: Request, what: TargetInput) -> tuple[TargetRow, ...]:
        return tuple(row for row in self.table if row.input is what and source in row.sources)

    def forbids(self, source: Request, what: TargetInput) -> str | None:
        """The clause that a target breaks which lets this happen, or None."""
        return next((no.breaks for no in self.never if no.input is what and source in no.sources), None)

    def request_after(self, source: Request, event: RequestEvent | None) -> Request | None:
        return source if event is None else self.request_next[source][event]


SPEC: Final = Target(HOLD_NEXT, REQUEST_NEXT, TARGET_TABLE, TARGET_NEVER)


def ill_formed(target: Target) -> str | None:
    """The first thing that is wrong with the tables themselves, or None."""
    return next(complaints(target), None)


def undecided(target: Target) -> str | None:
    """The first pair or cell that is missing or decided twice, or None: with one, the tables cannot be run."""
    return next(chain(_cells(target), _pairs(target)), None)


def complaints(target: Target) -> Iterator[str]:
    """Everything that is wrong with the tables themselves."""
    yield from _cells(target)
    yield from _pairs(target)
    yield from _holds(target)
    yield from _requests(target)
    yield from _rows(target)
    yield from _effects(target)


def _cells(target: Target) -> Iterator[str]:
    for hold in Hold:
        for event in HoldEvent:
            if event not in target.hold_next.get(hold, {}):
                yield f"{event.value} in {hold.value}: no cell"
    for request in Request:
        for happened in RequestEvent:
            if happened not in target.request_next.get(request, {}):
                yield f"{happened.value} in {request.value}: no cell"


def _pairs(target: Target) -> Iterator[str]:
    """Each pair is decided once: by rows, of which the last and only the last has no guard, or by being forbidden."""
    for source in Request:
        for what in TargetInput:
            rows, pair = target.rows_for(source, what), f"{what.value} in {source.value}"
            forbidden = [never for never in target.never if never.input is what and source in never.sources]
            if len(forbidden) + bool(rows) != 1:
                yield f"{pair} is decided {'twice' if rows or forbidden else 'by nothing'}"
            if any(row.guard is None for row in rows[:-1]) or (rows and rows[-1].guard is not None):
                yield f"{pair}: the last row, and only the last, has no guard"
            if len({row.guard for row in rows}) < len(rows):
                yield f"{pair}: two rows have the same guard"
            for row in rows:
                if row.request and target.request_next.get(source, {}).get(row.request, source) is None:
                    yield f"{pair}: {row.request.value} never happens there"


def _holds(target: Target) -> Iterator[str]:
    """What an event can mean for pages. What arrives or passes is no violation, so that it is never ``never``."""
    for source, row in target.hold_next.items():
        for event, dest in row.items():
            cell = f"{event.value} in {source.value}"
            if dest is Hold.DRAINED and source in TOUCHABLE and event is not HoldEvent.PROVED:
                yield f"{cell}: only a proof leads to drained"
            if dest is Hold.FREE and source is not dest and (source, event) != (Hold.DRAINED, HoldEvent.FREED):
                yield f"{cell}: only what is drained is freed"
            if source is Hold.FREE and dest not in (None, source):
                yield f"{cell}: what has another owner is not this room's any more"
            if dest is not _WANTED[event].get(source, None if event in _OWN else source):
                yield f"{cell} does not lead to {_named(dest)}"


_OWN: Final = (HoldEvent.ANNOUNCED, HoldEvent.FREED)
"""What the target does itself, and may therefore be forbidden."""
_WANTED: Final[Mapping[HoldEvent, Mapping[Hold, Hold]]] = {
    HoldEvent.ANNOUNCED: {Hold.HELD: Hold.EXPOSED, Hold.EXPOSED: Hold.EXPOSED},
    HoldEvent.PROVED: {Hold.EXPOSED: Hold.DRAINED, Hold.QUARANTINED: Hold.DRAINED},
    HoldEvent.ENDED: {Hold.HELD: Hold.DRAINED, Hold.EXPOSED: Hold.QUARANTINED},
    HoldEvent.FREED: {Hold.DRAINED: Hold.FREE},
}
"""Where an event leads; what is missing stays, and of what the target does itself never happens."""


def _named(dest: Hold | None) -> str:
    return "never" if dest is None else dest.value


def _requests(target: Target) -> Iterator[str]:
    for source, row in target.request_next.items():
        for event, dest in row.items():
            cell = f"{event.value} in {source.value}"
            if source is not Request.WAITING and dest is not source:
                yield f"{cell}: what has ended stays as it is"
            named = Request.DONE if event is RequestEvent.CONFIRMED else Request.FAILED
            if source is Request.WAITING and dest is not named:
                yield f"{cell} leads to {named.value}"


PROOFS: Final = frozenset({TargetInput.END, TargetInput.QUIESCED, TargetInput.FENCE})
"""The inputs that prove something of the initiator that they name."""
ENDS: Final = frozenset(
    {
        TargetInput.FAILURE,
        TargetInput.QUIESCED,
        TargetInput.TIME,
        TargetInput.LOST,
        TargetInput.FENCE,
        TargetInput.ABORT,
        TargetInput.CLEAR,
    }
)
"""The inputs that end a request that still waits."""
CONFIRMS: Final = frozenset({TargetInput.PART, TargetInput.END})
_ANSWERS: Final = {Request.WAITING: Reply.TRANSFERRING, Request.DONE: Reply.SUCCESS, Request.FAILED: Reply.FAILED}


def _guards(what: TargetInput, source: Request) -> set[TargetGuard | None]:
    """The guards with which a pair is decided."""
    if source is Request.WAITING and what in CONFIRMS | {TargetInput.TIME}:
        return {TargetGuard.ALL_CONFIRMED, None}
    if source is not Request.WAITING and what is TargetInput.REUSE:
        return {TargetGuard.ALL_DRAINED, None}
    return {None}


def _rows(target: Target) -> Iterator[str]:
    """Which event a row is, and what its caller gets."""
    for source in Request:
        for what in TargetInput:
            rows, pair = target.rows_for(source, what), f"{what.value} in {source.value}"
            if rows and {row.guard for row in rows} != _guards(what, source):
                yield f"{pair} asks what it does not need to know, or does not ask"
            for row in rows:
                frees = what is TargetInput.REUSE and row.guard is TargetGuard.ALL_DRAINED
                hold = HoldEvent.FREED if frees else HoldEvent.PROVED if what in PROOFS else None
                if row.hold is not (HoldEvent.ANNOUNCED if what is TargetInput.ANNOUNCE else hold):
                    yield f"{pair}: it is not {row.hold.value if row.hold else 'nothing'} for the hold"
                ends = what in ENDS and source is Request.WAITING
                event = RequestEvent.ENDED if ends else None
                if row.request is not (RequestEvent.CONFIRMED if row.guard is TargetGuard.ALL_CONFIRMED else event):
                    yield f"{pair}: it is not {row.request.value if row.request else 'nothing'} for the request"
                if row.reply is not _reply(row, source):
                    yield f"{pair} does not reply {row.reply.value!r}"


def _reply(row: TargetRow, source: Request) -> Reply:
    match row.input:
        case TargetInput.ANSWER:
            return _ANSWERS[source]
        case TargetInput.FAILURE_EXCEPTION:
            return Reply.RAISES_CAUSE if source is Request.FAILED else Reply.RAISES_USAGE
        case TargetInput.REUSE if row.guard is None:
            return Reply.RAISES_USAGE
        case _:
            return Reply.NOTHING


def _effects(target: Target) -> Iterator[str]:
    """Which effects a row has, and in which order."""
    for row in target.table:
        for source in row.sources:
            ends = row.request is RequestEvent.ENDED
            waits = source is Request.WAITING
            wanted = {
                TargetEffect.CONFIRM: row.input in CONFIRMS and waits,
                TargetEffect.LATCH: ends,
                TargetEffect.TELL_ABORT: ends,
                TargetEffect.ASK: row.input is TargetInput.FAILURE and source is Request.DONE,
                TargetEffect.EXTEND: row.input is TargetInput.RENEW and waits,
                TargetEffect.ANSWER_LOST: row.input is TargetInput.RENEW and not waits,
                TargetEffect.COUNT: row.input is TargetInput.FOREIGN,
                TargetEffect.FORGET: row.input is TargetInput.CLEAR,
            }
            if row.effects != tuple(effect for effect in TargetEffect if wanted[effect]):
                yield f"{row.input.value} in {source.value} does something else"
