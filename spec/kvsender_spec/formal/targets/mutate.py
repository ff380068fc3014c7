"""Changes the target's tables, one place at a time: the mutants of the other half of the specification."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeVar

from kvsender_spec.formal.targets.rules import SPEC, Target
from kvsender_spec.machine import Reply
from kvsender_spec.target_machine import (
    Hold,
    HoldEvent,
    Request,
    RequestEvent,
    TargetEffect,
    TargetGuard,
    TargetRow,
)

_S = TypeVar("_S", bound=Enum)
_E = TypeVar("_E", bound=Enum)


@dataclass(frozen=True, slots=True)
class TargetMutant:
    """A changed table. ``what`` names the place and the change; it is unique and does not move with the file."""

    what: str
    target: Target


def _others(members: type[_E], this: _E | None) -> list[_E | None]:
    everything: list[_E | None] = [None, *members]
    return [other for other in everything if other is not this]


def _named(member: Enum | None, nothing: str) -> str:
    return nothing if member is None else member.name.lower()


def _place(row: TargetRow) -> str:
    sources = "/".join(source.value for source in row.sources)
    return f"{row.input.value} in {sources}" + (f" if {row.guard.value}" if row.guard else "")


def _changed_rows(row: TargetRow) -> Iterator[tuple[str, TargetRow]]:
    for hold in _others(HoldEvent, row.hold):
        yield f"hold's event {_named(hold, 'none')}", replace(row, hold=hold)
    for request in _others(RequestEvent, row.request):
        yield f"request's event {_named(request, 'none')}", replace(row, request=request)
    for guard in _others(TargetGuard, row.guard):
        yield f"guard {_named(guard, 'none')}", replace(row, guard=guard)
    for effect in TargetEffect:
        if effect in row.effects:
            yield f"without {effect.value}", replace(row, effects=tuple(e for e in row.effects if e is not effect))
        else:
            yield f"with {effect.value}", replace(row, effects=(*row.effects, effect))
    for reply in Reply:
        if reply is not row.reply:
            yield f"reply {reply.value}", replace(row, reply=reply)
    for source in row.sources if len(row.sources) > 1 else ():
        yield f"not in {source.value}", replace(row, sources=tuple(s for s in row.sources if s is not source))


def target_mutants() -> Iterator[TargetMutant]:
    """Every single change: where an event leads, when it happens, what else happens, what is forbidden."""
    for what, holds in _cells(SPEC.hold_next, Hold):
        yield TargetMutant(f"hold, {what}", replace(SPEC, hold_next=holds))
    for what, requests in _cells(SPEC.request_next, Request):
        yield TargetMutant(f"request, {what}", replace(SPEC, request_next=requests))
    table = SPEC.table
    for number, row in enumerate(table):
        for what, changed in _changed_rows(row):
            rows = (*table[:number], changed, *table[number + 1 :])
            yield TargetMutant(f"{_place(row)}: {what}", replace(SPEC, table=rows))
        yield TargetMutant(f"{_place(row)}: no such row", replace(SPEC, table=(*table[:number], *table[number + 1 :])))
        if row.guard is not None:
            swapped = (*table[:number], table[number + 1], row, *table[number + 2 :])
            yield TargetMutant(f"{_place(row)}: after the next row", replace(SPEC, table=swapped))
    yield from _forbidden()


def _cells(
    following: Mapping[_S, Mapping[_E, _S | None]], states: type[_S]
) -> Iterator[tuple[str, Mapping[_S, Mapping[_E, _S | None]]]]:
    """Every matrix in which one cell leads elsewhere."""
    for source, cells in following.items():
        for event, dest in cells.items():
            for other in _others(states, dest):
                what = f"{_named(event, '')} in {_named(source, '')}: leads to {_named(other, 'never')}"
                yield what, {**following, source: {**cells, event: other}}


def _forbidden() -> Iterator[TargetMutant]:
    """A forbidden pair is not forbidden: it is open, or a target does there what it does elsewhere."""
    for number, never in enumerate(SPEC.never):
        for source in never.sources:
            place = f"{never.input.value} in {source.value}"
            rest = tuple(s for s in never.sources if s is not source)
            without = (*SPEC.never[:number], replace(never, sources=rest), *SPEC.never[number + 1 :])
            yield TargetMutant(f"{place}: not forbidden", replace(SPEC, never=without))
            elsewhere = next(row for row in SPEC.table if row.input is never.input)
            allowed = TargetRow(never.input, (source,), elsewhere.hold)
            told = TargetRow(never.input, (source,))
            for row in (allowed, told):
                what = f"{place}: allowed, with event {_named(row.hold, 'none')}"
                yield TargetMutant(what, replace(SPEC, never=without, table=(*SPEC.table, row)))
