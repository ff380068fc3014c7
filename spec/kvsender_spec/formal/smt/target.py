"""A target's pages are touched by nobody else, for any number of initiators and of incarnations: an induction by z3.

The state is what concerns one initiator in one incarnation of a room, whichever it may be: its hold, its request, what
it does and what it has told. The others are not in it. An input that is about another one moves the request alone; a
guard that is true is true of all, so of this one; and what another incarnation tells may be anything at any time. Every
step of a target with more initiators and more incarnations is one of these steps, so what they all keep always holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import z3

from kvsender_spec.formal.targets.room import BUSY, MESSAGES, Cell, Phase, moves
from kvsender_spec.formal.targets.rules import SPEC, Target, Wrong
from kvsender_spec.formal.targets.search import CROSSES
from kvsender_spec.machine import Word
from kvsender_spec.target_machine import (
    OF_ONE,
    Hold,
    HoldEvent,
    Request,
    TargetEffect,
    TargetGuard,
    TargetInput,
    TargetRow,
)

TIMEOUT_MS: Final = 5000


class _About(Word):
    """Whom an input is about."""

    THIS = "this initiator"
    ANOTHER = "another initiator"
    ALL = "the room"


_HOLDS: Final = {hold: number for number, hold in enumerate(Hold)}
_PHASES: Final = {phase: number for number, phase in enumerate(Phase)}
_REQUESTS: Final = {request: number for number, request in enumerate(Request)}


@dataclass(frozen=True, slots=True)
class _At:
    """One initiator in one incarnation. Hold, phase and request are numbers, in the order of their members."""

    hold: z3.ArithRef
    request: z3.ArithRef
    phase: z3.ArithRef
    part: z3.BoolRef
    counted: z3.BoolRef

    def held(self, *holds: Hold) -> z3.BoolRef:
        return z3.Or(*(self.hold == _HOLDS[hold] for hold in holds))

    def does(self, *phases: Phase) -> z3.BoolRef:
        return z3.Or(*(self.phase == _PHASES[phase] for phase in phases))

    def waits(self) -> z3.BoolRef:
        return self.request == _REQUESTS[Request.WAITING]


class _Owed(NamedTuple):
    name: str
    claim: z3.BoolRef


def _invariant(at: _At) -> z3.BoolRef:
    """What is always so. The fifth line is the one that matters; the others are why it stays so."""
    known = z3.And(at.hold >= 0, at.hold < len(Hold), at.phase >= 0, at.phase < len(Phase))
    return z3.And(
        z3.And(known, at.request >= 0, at.request < len(Request)),
        z3.Implies(at.held(Hold.HELD), z3.And(at.waits(), at.does(Phase.UNTOLD))),
        z3.Implies(at.held(Hold.EXPOSED), at.waits()),
        z3.Implies(at.held(Hold.QUARANTINED, Hold.FREE), z3.Not(at.waits())),
        z3.Implies(at.held(Hold.DRAINED, Hold.FREE), z3.Not(at.does(*BUSY))),
        z3.Implies(at.counted, at.part),
        z3.Implies(at.does(Phase.OVER), at.part),
        z3.Implies(at.request == _REQUESTS[Request.DONE], at.part),
    )


def _leads(target: Target, at: _At, event: HoldEvent) -> tuple[z3.BoolRef, z3.ArithRef]:
    """Whether the event may happen to the hold, and where it leads."""
    possible, dest = z3.BoolVal(False), at.hold
    for hold in Hold:
        to = target.hold_next[hold][event]
        if to is not None:
            possible = z3.Or(possible, at.held(hold))
            dest = z3.If(at.held(hold), z3.IntVal(_HOLDS[to]), dest)
    return possible, dest


def _guard(target: Target, row: TargetRow, at: _At) -> z3.BoolRef:
    """What a guard that is true says of this initiator. The deadline finds parts that were not looked at yet."""
    if row.guard is None or target.wrong is Wrong.COUNTS_MESSAGES:
        return z3.BoolVal(True)
    if row.guard is TargetGuard.ALL_DRAINED:
        return at.held(Hold.DRAINED)
    here = z3.Or(at.counted, at.part) if row.input is TargetInput.TIME else at.counted
    asked = z3.Not(at.does(Phase.UNTOLD)) if target.wrong is Wrong.ANNOUNCED_ONLY else z3.BoolVal(True)
    return z3.Implies(asked, here)


def _told(target: Target, what: TargetInput, at: _At) -> z3.BoolRef:
    """This initiator has told it; or another incarnation has, where the target does not tell them apart."""
    crosses = CROSSES.get(target.wrong) if target.wrong is not None else None
    if what is crosses:
        return z3.BoolVal(True)
    if what is TargetInput.PART:
        return at.part
    return at.does(*MESSAGES[what]) if what in MESSAGES else z3.BoolVal(True)


def _taken(target: Target, row: TargetRow, source: Request, about: _About, at: _At) -> tuple[z3.BoolRef, _At]:
    """When the row decides what comes, and what the target has made of it then."""
    when, after = at.request == _REQUESTS[source], at
    if about is _About.THIS:
        when = z3.And(when, _told(target, row.input, at))
        if TargetEffect.CONFIRM in row.effects:
            after = replace(after, counted=z3.BoolVal(True))
    when = z3.And(when, _guard(target, row, after))
    late = row.input is TargetInput.ANNOUNCE and target.wrong is Wrong.HOLDS_LATE
    if row.hold is not None and about is not _About.ANOTHER and not late:
        possible, hold = _leads(target, after, row.hold)
        when, after = z3.And(when, possible), replace(after, hold=hold)
    if row.input is TargetInput.ANNOUNCE and about is _About.THIS:
        begins = z3.If(at.does(Phase.UNTOLD), z3.IntVal(_PHASES[Phase.FLYING]), at.phase)
        after = replace(after, phase=begins)
    request = target.request_after(source, row.request)
    if request is None:
        return z3.BoolVal(False), at
    after = replace(after, request=z3.IntVal(_REQUESTS[request]))
    if source is Request.WAITING and request is not source:
        _, hold = _leads(target, after, HoldEvent.ENDED)
        after = replace(after, hold=hold, counted=z3.BoolVal(False))
    return when, after


def _steps(target: Target, at: _At) -> Iterator[tuple[str, z3.BoolRef, _At]]:
    """Each step that concerns this initiator: its name, when it may happen, and what is then."""
    for phase in Phase:
        for what, cell, _fair in moves(Cell(phase=phase, asked=True)):
            part = z3.Or(at.part, z3.BoolVal(cell.part))
            yield what, at.does(phase), replace(at, phase=z3.IntVal(_PHASES[cell.phase]), part=part)
    for row in target.table:
        for source in row.sources:
            whom: list[_About] = [_About.THIS, _About.ANOTHER] if row.input in OF_ONE else [_About.ALL]
            for about in whom:
                when, after = _taken(target, row, source, about, at)
                guard = "" if row.guard is None else f", {row.guard.value}"
                yield f"{row.input.value} in {source.value}{guard}, of {about.value}", when, after
    if target.wrong is Wrong.HOLDS_LATE:
        possible, hold = _leads(target, at, HoldEvent.ANNOUNCED)
        when = z3.And(at.waits(), at.held(Hold.HELD), z3.Not(at.does(Phase.UNTOLD)), possible)
        yield "the hold is taken", when, replace(at, hold=hold)


def _owed(target: Target) -> Iterator[_Owed]:
    at = _At(z3.Int("hold"), z3.Int("request"), z3.Int("phase"), z3.Bool("part"), z3.Bool("counted"))
    untold = z3.And(at.held(Hold.HELD), at.waits(), at.does(Phase.UNTOLD), z3.Not(at.part), z3.Not(at.counted))
    yield _Owed("at the start", z3.Implies(untold, _invariant(at)))
    for name, when, after in _steps(target, at):
        stays = z3.Or(at.waits(), after.request == at.request)
        yield _Owed(name, z3.Implies(z3.And(_invariant(at), when), z3.And(_invariant(after), stays)))
    foreign = z3.And(at.held(Hold.FREE), at.does(*BUSY))
    early = z3.And(at.request == _REQUESTS[Request.DONE], z3.Not(at.part))
    yield _Owed(
        "nothing foreign is touched, and done is complete", z3.Implies(_invariant(at), z3.Not(z3.Or(foreign, early)))
    )


def unproved(target: Target = SPEC, *, first_only: bool = False) -> tuple[int, list[str]]:
    """How many obligations there are, and which do not hold; none where the proof stands.

    With ``first_only`` it stops at the first that does not hold.
    """
    solver = z3.Solver()
    solver.set("timeout", TIMEOUT_MS)
    asked, failed = 0, list[str]()
    for one in _owed(target):
        asked += 1
        solver.push()
        solver.add(z3.Not(one.claim))
        if solver.check() != z3.unsat:
            failed.append(one.name)
        solver.pop()
        if failed and first_only:
            break
    return asked, failed
