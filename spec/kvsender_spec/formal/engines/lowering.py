"""What the generated languages share: rows in words, and the tables asked as sets. Syntax is each generator's own."""

from __future__ import annotations

from collections.abc import Iterator

from kvsender_spec.formal.model.handles import HANDLES, name_of
from kvsender_spec.formal.model.state import Bounds
from kvsender_spec.formal.rules import Rules, undecided
from kvsender_spec.machine import Guard, Input, Row, State


def check(rules: Rules) -> None:
    """Tables that leave something undecided have no meaning that two engines could agree on."""
    if undecided(rules):
        raise ValueError("the tables leave an input undecided, or decide it twice")


def in_words(row: Row) -> str:
    """A row of the table as one line of a comment."""
    text = f"{row.input.value} in {', '.join(source.value for source in row.sources)}"
    if row.guard is not None:
        text += f", if {row.guard.value}"
    text += f": {'nothing happens' if row.event is None else row.event.value}"
    if row.effects:
        text += f", after {', '.join(effect.value for effect in row.effects)}"
    return text + (f"; reply {row.reply.value}" if row.input is Input.ANSWER else "")


def numbered(rules: Rules, what: Input) -> tuple[tuple[int, Row], ...]:
    """The rows of an input with their places in the table, from 1."""
    return tuple((place, row) for place, row in enumerate(rules.table, 1) if row.input is what)


def groups(rules: Rules, what: Input) -> Iterator[tuple[tuple[State, ...], tuple[int, ...], str | None]]:
    """The states that the same rows decide: the states, the places of the rows, or the clause that is broken there."""
    found: dict[tuple[tuple[int, ...], str | None], list[State]] = {}
    for state in State:
        places = tuple(place for place, row in numbered(rules, what) if state in row.sources)
        found.setdefault((places, rules.breaks(state, what)), []).append(state)
    for (places, breaks), states in found.items():
        yield tuple(states), places, breaks


def asking(rules: Rules) -> tuple[State, ...]:
    return tuple(state for state in State if rules.asks(state))


def posting(rules: Rules) -> tuple[State, ...]:
    return tuple(state for state in State if rules.posts(state))


def minding(rules: Rules) -> tuple[State, ...]:
    """The states in which a row of OBSERVE depends on the transfer timeout."""
    return tuple(
        state
        for state in State
        if any(row.guard is Guard.DEADLINE_PASSED for row in rules.rows_for(state, Input.OBSERVE))
    )


def changes(table: bytes) -> dict[str, str]:
    """What a map of handles changes, by name."""
    return {name_of(code): name_of(table[code]) for code in range(1, len(HANDLES) + 1) if table[code] != code}


def names(handles: bytes) -> tuple[str, ...]:
    return tuple(name_of(code) for code in sorted(set(handles)))


def title(bounds: Bounds) -> str:
    return f"{bounds.chunks} chunk{'s' * (bounds.chunks > 1)} to {bounds.peers} peer{'s' * (bounds.peers > 1)}"
