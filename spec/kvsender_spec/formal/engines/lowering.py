"""What the generated languages share: rows in words, and the tables asked as sets. Syntax is each generator's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from kvsender_spec.formal.model.effects import ARRIVE, BLAME, EFFECTS, LEAVE, OPEN, SAY
from kvsender_spec.formal.model.handles import HANDLES, NONE, STRAY, HandleOps, Kind, name_of
from kvsender_spec.formal.model.predicates import CAUSE_IS_RAISED, INVARIANTS, STICKY
from kvsender_spec.formal.model.terms import Change, Var
from kvsender_spec.formal.rules import Rules, undecided
from kvsender_spec.machine import Event, Input, Row, State

ABOUT: Final = (
    "Written by `python -m kvsender_spec.formal.pages`. Change the tables, not this file.",
    "One room id: the logical machine of its sender, a physical machine for each transfer handle, a caller that",
    "calls in any order, a transport that finishes, raises, rejects or stays silent. A chunk has a handle for",
    "each peer; handle h belongs to the chunk h / peers and to the peer h % peers. A room id that is opened again",
    "has the chunks that are left, so that every handle of every incarnation has a place of its own.",
)
CHECKED: Final = tuple(rule.name for rule in (*INVARIANTS, STICKY, CAUSE_IS_RAISED))
"""The predicates that TLC and SPIN check, in this order."""
ANSWERED: Final = "Answered"
"""The liveness property that they check."""
FIELDS: Final[Mapping[str, str]] = {
    Var.LOGICAL: "the logical machine",
    Var.CAUSE: "what is latched: nothing, the first thing that went wrong, or a later one",
    Var.FAULTED: "something went wrong, and the sender was told of it, before the room was over",
    Var.CLOSED: "the last chunk is posted",
    Var.CLEARED: "the caller has cleared the room",
    Var.QUARANTINED: "pages have been reported as in doubt",
    Var.BASE: "chunks of earlier incarnations",
    Var.POSTED: "chunks, those of earlier incarnations among them",
    Var.SAID: "the first terminal value that poll() answered",
    Var.TOLD: "what the peers were told",
}
"""The variables of a state, without its handles."""
CHANGES: Final[Mapping[str, tuple[Change, ...]]] = {
    **{effect.value: changes for effect, changes in EFFECTS.items()},
    "arrive": ARRIVE,
    "blame": BLAME,
    "say": SAY,
    "leave": LEAVE,
    "reopen": OPEN,
}
"""What the effects change, and what happens besides them, by name."""


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


def groups(rules: Rules, what: Input) -> Iterator[tuple[tuple[State, ...], tuple[tuple[int, Row], ...], str | None]]:
    """The states that the same rows decide: the states, the rows with their places in the table from 1, or the clause
    that is broken there."""
    found: dict[tuple[tuple[tuple[int, Row], ...], str | None], list[State]] = {}
    for state in State:
        rows = tuple((n, row) for n, row in enumerate(rules.table, 1) if row.input is what and state in row.sources)
        found.setdefault((rows, rules.breaks(state, what)), []).append(state)
    for (rows, breaks), states in found.items():
        yield tuple(states), rows, breaks


def leads(rules: Rules, event: Event) -> dict[State, tuple[State, ...]]:
    """Where an event leads, each destination with the states that it is reached from."""
    found = {dest: tuple(state for state in State if rules.next[state][event] is dest) for dest in State}
    return {dest: sources for dest, sources in found.items() if sources}


def handle_sets(ops: HandleOps) -> dict[str, tuple[str, ...]]:
    """The sets of handles that a model speaks of, as names: the kinds of the predicates, and what the rules say."""
    kinds = (Kind.PLACED, Kind.IN_FLIGHT, Kind.SILENT, Kind.UNDONE, Kind.RELEASED_EARLY, Kind.STRAY)
    unsettled = bytes(code for code in range(NONE, STRAY + 1) if code not in ops.settled)
    sets = {**{kind.name.lower(): kind.value for kind in kinds}, "waited_for": unsettled, "due": ops.due}
    return {name: tuple(map(name_of, sorted(codes))) for name, codes in sets.items()}


def changes(table: bytes) -> dict[str, str]:
    """What a map of handles changes, by name."""
    return {name_of(code): name_of(table[code]) for code in range(1, len(HANDLES) + 1) if table[code] != code}


def listed(head: str, items: Iterable[str], brackets: tuple[str, str]) -> list[str]:
    """Items with commas between them, in brackets, over as many lines as they need."""
    words = [f"{item}," for item in items] or [""]
    words[0] = brackets[0] + words[0]
    words[-1] = words[-1].removesuffix(",") + brackets[1]
    return wrapped(head, words)


def wrapped(head: str, words: Iterable[str], end: str = "") -> list[str]:
    """A text that may need several lines, each but the last with ``end``."""
    lines, line = [], head
    for word in words:
        if len(line) + len(word) > 110:
            lines.append(line + end)
            line = "   "
        line += f" {word}"
    return [*lines, line]
