"""Changes the tables, one place at a time, and asks each layer whether it notices: the mutants of the specification.

A changed table that no layer notices is either equivalent, and ``EQUIVALENT`` says why, or it shows a hole in what is
demanded of the tables. ``python -m kvsender_spec.formal.mutation_run`` writes the page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeVar

from kvsender_spec.formal.rules import SPEC, Rules
from kvsender_spec.machine import Effect, Event, Guard, HandleState, Reply, Row, State


@dataclass(frozen=True, slots=True)
class Mutant:
    """A changed table. ``what`` names the place and the change; it is unique and does not move with the file."""

    what: str
    rules: Rules


_S = TypeVar("_S", bound=Enum)
_E = TypeVar("_E", bound=Enum)


def _others(members: type[_E], this: _E | None) -> list[_E | None]:
    """Everything that could stand there instead, nothing among it."""
    everything: list[_E | None] = [None, *members]
    return [other for other in everything if other is not this]


def _named(member: Enum | None, nothing: str) -> str:
    return nothing if member is None else member.name.lower()


def _place(row: Row) -> str:
    sources = "/".join(source.value for source in row.sources)
    return f"{row.input.value} in {sources}" + (f" if {row.guard.value}" if row.guard else "")


def _changed_rows(row: Row) -> Iterator[tuple[str, Row]]:
    for event in _others(Event, row.event):
        yield f"event {_named(event, 'none')}", replace(row, event=event)
    for guard in _others(Guard, row.guard):
        yield f"guard {_named(guard, 'none')}", replace(row, guard=guard)
    for effect in Effect:
        if effect in row.effects:
            yield f"without {effect.value}", replace(row, effects=tuple(e for e in row.effects if e is not effect))
        else:
            yield f"with {effect.value}", replace(row, effects=(*row.effects, effect))
    for reply in Reply:
        if reply is not row.reply:
            yield f"reply {reply.value}", replace(row, reply=reply)
    for source in row.sources if len(row.sources) > 1 else ():
        yield f"not in {source.value}", replace(row, sources=tuple(s for s in row.sources if s is not source))


def _compete(row: Row, following: Row) -> bool:
    """The order of two rows matters only where both may decide the same pair."""
    return row.input is following.input and bool(set(row.sources) & set(following.sources))


def mutants() -> Iterator[Mutant]:
    """Every single change: where an event leads, when it happens, what else happens, what is forbidden, the handles."""
    yield from _moves()
    table = SPEC.table
    for number, row in enumerate(table):
        for what, changed in _changed_rows(row):
            yield Mutant(
                f"{_place(row)}: {what}", replace(SPEC, table=(*table[:number], changed, *table[number + 1 :]))
            )
        yield Mutant(f"{_place(row)}: no such row", replace(SPEC, table=(*table[:number], *table[number + 1 :])))
        if number + 1 < len(table) and _compete(row, table[number + 1]):
            swapped = (*table[:number], table[number + 1], row, *table[number + 2 :])
            yield Mutant(f"{_place(row)}: after the next row", replace(SPEC, table=swapped))
    yield from _forbidden()
    yield from _handles()


def _cells(
    following: Mapping[_S, Mapping[_E, _S | None]], states: type[_S]
) -> Iterator[tuple[str, Mapping[_S, Mapping[_E, _S | None]]]]:
    """Every matrix in which one cell leads elsewhere."""
    for source, cells in following.items():
        for event, dest in cells.items():
            for other in _others(states, dest):
                what = f"{_named(event, '')} in {_named(source, '')}: leads to {_named(other, 'never')}"
                yield what, {**following, source: {**cells, event: other}}


def _moves() -> Iterator[Mutant]:
    for what, moved in _cells(SPEC.next, State):
        yield Mutant(what, replace(SPEC, next=moved))


def _forbidden() -> Iterator[Mutant]:
    for number, never in enumerate(SPEC.never):
        for source in never.sources:
            place = f"{never.input.value} in {source.value}"
            rest = tuple(s for s in never.sources if s is not source)
            without = (*SPEC.never[:number], replace(never, sources=rest), *SPEC.never[number + 1 :])
            yield Mutant(f"{place}: not forbidden", replace(SPEC, never=without))
            # What a sender without the rule does: it goes on as in a live room.
            for row in SPEC.rows_for(State.SENDING, never.input):
                events: list[Event | None] = [row.event, None]
                for event in events:
                    allowed = replace(row, sources=(source,), event=event)
                    what = f"{place}: allowed, with event {_named(event, 'none')}"
                    yield Mutant(what, replace(SPEC, never=without, table=(*SPEC.table, allowed)))


def _handles() -> Iterator[Mutant]:
    for what, moved in _cells(SPEC.handle_next, HandleState):
        yield Mutant(f"handle, {what}", replace(SPEC, handle_next=moved))
    for state in HandleState:
        for name, members in (("releasable", SPEC.releasable), ("quiesced", SPEC.quiesced)):
            changed = members ^ {state}
            what = f"handle, {state.value}: {'not ' if state in members else ''}{name}"
            yield Mutant(
                what, replace(SPEC, releasable=changed) if name == "releasable" else replace(SPEC, quiesced=changed)
            )
