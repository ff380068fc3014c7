"""Writes the pages and schemas of ``docs/`` that come from the tables and the types:
``python -m kvsender_spec.diagram [DIRECTORY]``.

A test fails when the pages in the repository are not what this module writes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Final, TypeVar

from kvsender_spec.advice import ADVICE, Advice
from kvsender_spec.clauses import CLAUSES, EVERY_CLAUSE, TARGET_CLAUSES, Layer
from kvsender_spec.history.schema import schema_page
from kvsender_spec.machine import (
    HANDLE_NEXT,
    NEVER,
    NEXT,
    QUIESCED,
    RELEASABLE,
    TABLE,
    Effect,
    Event,
    Guard,
    HandleEvent,
    HandleState,
    Profile,
    Row,
    State,
    describe,
    destination,
)
from kvsender_spec.project_schema import PATH, project_schema
from kvsender_spec.target_machine import (
    HOLD_BREAKS,
    HOLD_NEXT,
    OF_ONE,
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
    TargetRow,
    describe_target,
    request_after,
)

GENERATED: Final = "<!-- Written by `python -m kvsender_spec.diagram`. Change the tables, not this page. -->"
_S = TypeVar("_S", bound=Enum)
_E = TypeVar("_E", bound=Enum)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return lines + ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]


def _matrix(states: type[_S], events: type[_E], following: Mapping[_S, Mapping[_E, _S | None]]) -> list[str]:
    rows: list[list[str]] = []
    for state in states:
        cells = [following[state][event] for event in events]
        rows.append([f"**{_name(state)}**", *("never" if cell is None else _name(cell) for cell in cells)])
    return _table(["state", *(_name(event) for event in events)], rows)


def _name(member: Enum) -> str:
    return member.name.lower()


def mermaid(following: Mapping[_S, Mapping[_E, _S | None]], start: _S) -> list[str]:
    """A state diagram of a matrix; events that lead from one state to the same one share an arrow."""
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {_name(start)}"]
    for source, row in following.items():
        arrows: dict[str, list[str]] = {}
        for event, dest in row.items():
            if dest is not None:
                arrows.setdefault(_name(dest), []).append(_name(event))
        lines += [f"    {_name(source)} --> {dest}: {', '.join(events)}" for dest, events in arrows.items()]
    return [*lines, "```"]


def _words(row: Row) -> list[str]:
    to = {_name(dest) for source in row.sources if (dest := destination(source, row.event)) is not None}
    return [
        row.input.value,
        ", ".join(_name(source) for source in row.sources),
        "" if row.guard is None else describe(row.guard),
        "none" if row.event is None else row.event.value,
        "unchanged" if row.event is None else ", ".join(sorted(to)),
        ", ".join(effect.value for effect in row.effects),
        row.reply.value,
    ]


def machine_page() -> str:
    """The page about the two machines."""
    lines = [
        "# The machines of a sender",
        "",
        GENERATED,
        "",
        "One room has one logical machine, which decides what the caller is told, and one physical machine per transfer"
        " handle, which decides when pages may be reused. The rules are in `spec/kvsender_spec/machine.py`.",
        "",
        "## Logical: where an event leads",
        "",
        *_matrix(State, Event, NEXT),
        "",
        "*never*: a sender that lets this happen breaks the contract; the machine refuses and does not move.",
        "",
        *mermaid(NEXT, State.IDLE),
        "",
        "## Logical: when an event happens",
        "",
        "An input is a call of the caller with what the transport answered. A `poll()` is `observe`, then `answer`."
        " Where several rows decide a pair, the first whose condition holds applies.",
        "",
        *_table(
            ["input", "in", "if", "event", "to", "effects, in order", "reply"],
            (_words(row) for row in TABLE),
        ),
        "",
        "These pairs must not happen:",
        "",
        *_table(
            ["input", "in", "breaks"],
            ([never.input.value, ", ".join(_name(s) for s in never.sources), never.breaks] for never in NEVER),
        ),
        "",
        "| condition | true when |",
        "| --- | --- |",
        *(f"| {guard.value} | {describe(guard)} |" for guard in Guard),
        "",
        f"Effects: {', '.join(f'`{effect.value}`' for effect in Effect)}; each is explained at its name in the module.",
        "",
        "## Physical: one per handle",
        "",
        *_matrix(HandleState, HandleEvent, HANDLE_NEXT),
        "",
        *mermaid(HANDLE_NEXT, HandleState.CREATED),
        "",
        f"May be released: {_names(HandleState, RELEASABLE)}. Pages are quiesced: {_names(HandleState, QUIESCED)}, and"
        " `errored` only on a fabric where it has been shown that an error ends the reads.",
        "",
    ]
    return "\n".join(lines)


def _target_words(row: TargetRow) -> list[str]:
    to = {_name(dest) for source in row.sources if (dest := request_after(source, row.request)) is not None}
    return [
        row.input.value,
        ", ".join(_name(source) for source in row.sources),
        "" if row.guard is None else describe_target(row.guard),
        "none" if row.hold is None else row.hold.value,
        "none" if row.request is None else row.request.value,
        "unchanged" if row.request is None else ", ".join(sorted(to)),
        ", ".join(effect.value for effect in row.effects),
        row.reply.value,
    ]


def target_page() -> str:
    """The page about the two machines of a target."""
    lines = [
        "# The machines of a target",
        "",
        GENERATED,
        "",
        "A target is the side whose memory a peer writes (a receiver) or reads (a holder). One room has one request,"
        " which decides what its owner is told, and one hold for each initiator, which decides when its pages may be"
        " given to somebody else. The rules are in `spec/kvsender_spec/target_machine.py`.",
        "",
        "## Logical: where an event leads a request",
        "",
        *_matrix(Request, RequestEvent, REQUEST_NEXT),
        "",
        *mermaid(REQUEST_NEXT, Request.WAITING),
        "",
        "## Physical: one hold per room and initiator",
        "",
        *_matrix(Hold, HoldEvent, HOLD_NEXT),
        "",
        "*never*: a target that lets this happen breaks the contract ("
        + ", ".join(f"{_name(event)}: {breaks}" for event, breaks in HOLD_BREAKS.items())
        + "); the machine refuses and does not move.",
        "",
        *mermaid(HOLD_NEXT, Hold.HELD),
        "",
        f"An initiator may still touch the pages: {_names(Hold, TOUCHABLE)}. Nothing but `proved` leads from there to"
        " `drained`.",
        "",
        "## When an event happens",
        "",
        f"These inputs name an initiator, and are about its hold: {_names(TargetInput, OF_ONE)}."
        " The others are about each hold of the room. A row does in this order: the hold's event, the effects, the"
        " request's event, and when that ends the request, `ended` for each of its holds. Where several rows decide a"
        " pair, the first whose condition holds applies; a condition is asked with what the row confirms.",
        "",
        *_table(
            ["input", "in", "if", "hold's event", "request's event", "to", "effects, in order", "reply"],
            (_target_words(row) for row in TARGET_TABLE),
        ),
        "",
        "These pairs must not happen:",
        "",
        *_table(
            ["input", "in", "breaks"],
            ([never.input.value, ", ".join(_name(s) for s in never.sources), never.breaks] for never in TARGET_NEVER),
        ),
        "",
        "| condition | true when |",
        "| --- | --- |",
        *(f"| {guard.value} | {describe_target(guard)} |" for guard in TargetGuard),
        "",
        f"Effects: {', '.join(f'`{effect.value}`' for effect in TargetEffect)}; each is explained at its name in the"
        " module.",
        "",
    ]
    return "\n".join(lines)


def _names(states: type[_S], chosen: frozenset[_S]) -> str:
    return ", ".join(f"`{_name(state)}`" for state in states if state in chosen)


def _example(advice: Advice) -> str:
    return f"`{advice.example}`: {advice.seen}" if advice.example else advice.seen


def clauses_page() -> str:
    """The page about the clauses."""
    lines = ["# The clauses", "", GENERATED, ""]
    lines += [
        f"{len(EVERY_CLAUSE)} clauses. Observations alone judge a clause; one that was never observed is inconclusive.",
        "",
        f"KS-1 to KS-8, {len(CLAUSES)} of them, are about who initiates a room's transfers: a *sender*, which WRITEs,"
        " or a *reader*, which READs. What a clause says of `send()` it says of a reader's `read()`. Pages are the"
        " initiator's own: a WRITE in flight reads them, a READ in flight writes them. A *peer* is the target: it"
        " receives what is written, or holds what is read.",
        "",
        f"KS-9, {len(TARGET_CLAUSES)} of them, is about a target: a *receiver*, which is written, or a *holder*, which"
        " is read. There pages are the target's own, and a peer is an initiator. `target_machine.py` has its states.",
        "",
        "```mermaid",
        "flowchart LR",
    ]
    for smaller, larger in zip(list(Profile), list(Profile)[1:], strict=False):
        lines.append(f"    {smaller.value} --> {larger.value}")
    for profile in Profile:
        mine = [clause.id for clause in EVERY_CLAUSE if clause.profile is profile]
        lines.append(f'    {profile.value} --- {profile.value}_clauses["{" ".join(mine)}"]')
    lines += ["```", "", "A profile claims its own clauses and those of the profiles before it.", ""]
    lines += _table(
        ["clause", "level", "profile", "judged by"],
        (
            [
                f"[{clause.id} {clause.name}](#{clause.id.lower().replace('.', '')}-{clause.name.lower()})",
                clause.level.value,
                clause.profile.value,
                ", ".join(layer.value for layer in Layer if layer in clause.layers),
            ]
            for clause in EVERY_CLAUSE
        ),
    )
    for clause in EVERY_CLAUSE:
        lines += [
            "",
            f"## {clause.id} {clause.name}",
            "",
            f"**{clause.level.value}.** {clause.text}",
            "",
            f"- Source: {clause.source}",
            f"- Observed: {clause.observation}",
            f"- Broken: {ADVICE[clause.id].breaks}",
            f"- Example: {_example(ADVICE[clause.id])}",
            f"- Repaired: {ADVICE[clause.id].repair}",
        ]
    return "\n".join([*lines, ""])


PAGES: Final = {
    "machine.md": machine_page,
    "target-machine.md": target_page,
    "clauses.md": clauses_page,
    "history.schema.json": schema_page,
    PATH: project_schema,
}


def main() -> None:
    """Write the pages into the directory that is named, or into docs/."""
    directory = Path(sys.argv[1] if len(sys.argv) > 1 else "docs")
    for name, page in PAGES.items():
        (directory / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
