"""The target among initiators and a network in TLA+, for TLC: the tables row by row, the steps as ``world`` takes them.

The wrong targets are in the same module, and the variable ``target`` says which one it is. So one run of TLC looks at
all of them: ``Noted`` prints the name of each that breaks a property, and none of it is explored further.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Final

from kvsender_spec.formal.targets.cases import CASES, LIVE_CASES
from kvsender_spec.formal.targets.room import BUSY, MESSAGES, TOLD_AGAIN, Phase
from kvsender_spec.formal.targets.rules import SPEC, Target, Wrong
from kvsender_spec.formal.targets.search import CROSSES
from kvsender_spec.formal.targets.tla_text import HEAD, PROPERTIES, STEPS
from kvsender_spec.formal.targets.world import has_late_parts
from kvsender_spec.target_machine import (
    TOUCHABLE,
    Hold,
    HoldEvent,
    Request,
    RequestEvent,
    TargetGuard,
    TargetInput,
    TargetRow,
)

MODULE: Final = "KVTarget"
RIGHT: Final = "the tables"
TARGETS: Final[Mapping[str, Target]] = {
    RIGHT: SPEC,
    **{name: target for name, (target, _) in CASES.items()},
    **{name: target for name, (target, _) in LIVE_CASES.items()},
}


def module() -> str:
    """The model in TLA+."""
    lines = [
        *HEAD.format(module=MODULE).strip("\n").splitlines(),
        "",
        f"Touchable == {_set(hold.value for hold in Hold if hold in TOUCHABLE)}",
        f"Busy == {_set(phase.value for phase in Phase if phase in BUSY)}",
        "",
        "(***** Where an event leads *****)",
        "",
        *_leads("HoldLeads", "hold", {name: _hold_cells(target) for name, target in TARGETS.items()}),
        *_leads("RequestLeads", "request", {name: _request_cells(target) for name, target in TARGETS.items()}),
        "",
        *_set_of_targets("LateParts", has_late_parts),
        *(_flag(wrong) for wrong in Wrong),
        *STEPS["counting"].strip("\n").splitlines(),
        "",
        "(***** The table: the row that decides an input, of the initiator i, in the room r *****)",
        "",
        "Row(hold, request, effects) == [hold |-> hold, request |-> request, effects |-> effects]",
        'Forbidden == Row("never", "none", {})',
    ]
    for what in TargetInput:
        lines += ["", f"On{_camel(what.value)}(r, i) ==", *_decision(what)]
    lines += ["", "Decided(r, i, what) =="]
    cases = [f'what = "{what.value}" -> On{_camel(what.value)}(r, i)' for what in TargetInput]
    lines += ["  CASE " + cases[0], *(f"    [] {case}" for case in cases[1:])]
    lines += ["", "(***** What may arrive of an initiator *****)", "", "Told(r, i) =="]
    lines += ['  (IF r.part[i] THEN {"part"} ELSE {})']
    for what, phases in MESSAGES.items():
        lines.append(f"  \\cup (IF r.phase[i] \\in {_set(phase.value for phase in phases)}")
        lines.append(f'        THEN {{"{what.value}"}} ELSE {{}})')
    lines += ["", "Crosses =="]
    crosses = [f'target = "{wrong.value}" -> "{what.value}"' for wrong, what in CROSSES.items()]
    lines += ["  CASE " + crosses[0], *(f"    [] {case}" for case in crosses[1:]), '    [] OTHER -> "nothing"']
    again = _set(what.value for what in TOLD_AGAIN)
    lines += STEPS["steps"].replace("$AGAIN", again).strip("\n").splitlines()
    return "\n".join([*lines, *PROPERTIES.strip("\n").splitlines(), "====", ""])


def config(initiators: int = 2, incarnations: int = 1, names: Iterable[str] = (RIGHT,), *, fair: bool = True) -> str:
    """For TLC: with the fairness that the goals need, or for the states alone."""
    lines = [
        f"SPECIFICATION {'FairSpec' if fair else 'Spec'}",
        f"CONSTANT Initiators = {initiators}",
        f"CONSTANT Incarnations = {incarnations}",
        f"CONSTANT Targets = {_set(names)}",
        "INVARIANT Safe",
        *(["PROPERTY EveryRequestEnds", "PROPERTY PagesComeBack"] if fair else []),
    ]
    return "\n".join([*lines, ""])


def config_of_the_wrong(initiators: int = 2, incarnations: int = 2) -> str:
    """For TLC: each wrong target that breaks a property of a state is named as soon as it does."""
    text = config(initiators, incarnations, CASES, fair=False)
    return text.replace("INVARIANT Safe\n", "INVARIANT Noted\nCONSTRAINT NotYetNoted\n")


def _camel(word: str) -> str:
    return word.title().replace("_", "")


def _set(words: Iterable[str]) -> str:
    return "{" + ", ".join(f'"{word}"' for word in words) + "}"


def _hold_cells(target: Target) -> dict[str, dict[str, str]]:
    following = target.hold_next
    return {source.value: {event.value: _dest(following[source][event]) for event in HoldEvent} for source in Hold}


def _request_cells(target: Target) -> dict[str, dict[str, str]]:
    following = target.request_next
    return {
        source.value: {event.value: _dest(following[source][event]) for event in RequestEvent} for source in Request
    }


def _dest(dest: Enum | None) -> str:
    return "never" if dest is None else dest.name.lower()


def _leads(name: str, of: str, cells: Mapping[str, dict[str, dict[str, str]]]) -> list[str]:
    """A matrix as a function, and where a wrong target's cell leads elsewhere."""
    right = cells[RIGHT]
    rows = [
        f"{source} |-> [" + ", ".join(f'{event} |-> "{dest}"' for event, dest in row.items()) + "]"
        for source, row in right.items()
    ]
    lines = [f"{name}Table == [", *(f"  {row}," for row in rows[:-1]), f"  {rows[-1]}]", f"{name}({of}, event) =="]
    changed = [
        f'target = "{target}" /\\ {of} = "{source}" /\\ event = "{event}" -> "{dest}"'
        for target, matrix in cells.items()
        for source, row in matrix.items()
        for event, dest in row.items()
        if dest != right[source][event]
    ]
    first, *rest = [*changed, f"OTHER -> {name}Table[{of}][event]"]
    return [*lines, f"  CASE {first}", *(f"    [] {case}" for case in rest)]


def _set_of_targets(name: str, chosen: Callable[[Target], bool]) -> list[str]:
    return [f"{name} == target \\in {_set(word for word, target in TARGETS.items() if chosen(target))}"]


def _flag(wrong: Wrong) -> str:
    return f'{_camel(wrong.name.lower())} == target = "{wrong.value}"'


def _decision(what: TargetInput) -> list[str]:
    """Of each target that decides this input otherwise than the tables, and of the tables."""
    right = _cases(SPEC, what)
    changed = [(name, cases) for name, target in TARGETS.items() if (cases := _cases(target, what)) != right]
    lines: list[str] = []
    for name, cases in changed:
        lines += [f'  IF target = "{name}" THEN', *(f"  {line}" for line in cases), "  ELSE"]
    return [*lines, *right]


def _cases(target: Target, what: TargetInput) -> list[str]:
    texts: dict[tuple[str, ...], list[str]] = {}
    for source in Request:
        forbidden = target.forbids(source, what) is not None
        rows = ["Forbidden"] if forbidden else [_row(row) for row in target.rows_for(source, what)]
        texts.setdefault(tuple(rows), []).append(source.value)
    lines: list[str] = []
    for decided, sources in texts.items():
        lines.append(f"  {'  []' if lines else 'CASE'} r.request \\in {_set(sources)} ->")
        lines += [f"         {row}" for row in decided]
    return lines


_GUARDS: Final = {TargetGuard.ALL_DRAINED: "AllDrained(r)", TargetGuard.ALL_CONFIRMED: "AllConfirmed({})"}


def _row(row: TargetRow) -> str:
    hold = "none" if row.hold is None else row.hold.value
    request = "none" if row.request is None else row.request.value
    text = f'Row("{hold}", "{request}", {_set(effect.value for effect in row.effects)})'
    if row.guard is None:
        return text
    counted = "Counted(r, i)" if any(effect.value == "confirm" for effect in row.effects) else "r"
    return f"IF {_GUARDS[row.guard].format(counted)} THEN {text} ELSE"
