"""A look at the stamp after the data accepts only what was granted, for any number of refills: an induction by z3."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import z3

from kvsender_spec.formal.grant import Bump

_HOLDER: Final = ("first", "second", "stamp", "phase")
_READER: Final = ("mine_first", "mine_second", "seen")
_NAMES: Final = (*_HOLDER, *_READER)
_NONE: Final = -1


def _state(suffix: str) -> dict[str, z3.ArithRef]:
    return {name: z3.Int(f"{name}{suffix}") for name in _NAMES}


def _invariant(at: dict[str, z3.ArithRef]) -> z3.BoolRef:
    """What is always so. The stamp is even where no refill is under way, and then it tells the content."""
    refills, phase, mine = at["second"], at["phase"], (at["mine_first"], at["mine_second"])
    twice = refills + refills
    counted = z3.And(
        z3.Implies(phase == 0, z3.And(at["first"] == refills, at["stamp"] == twice)),
        z3.Implies(phase == 1, z3.And(at["first"] == refills, at["stamp"] == twice + 1)),
        z3.Implies(phase == 2, z3.And(at["first"] == refills + 1, at["stamp"] == twice + 1)),
        z3.Implies(phase == 3, z3.And(at["first"] == refills, at["stamp"] == twice - 1)),
    )
    sources = (at["first"], at["second"])
    earlier = [z3.Or(m == _NONE, z3.And(m >= 0, m <= source)) for m, source in zip(mine, sources, strict=True)]
    looked = z3.Or(
        at["seen"] == _NONE,
        z3.And(mine[0] != _NONE, mine[1] != _NONE, at["seen"] >= 0, z3.Implies(at["seen"] == 0, _granted(at))),
    )
    return z3.And(phase >= 0, phase <= 3, refills >= 0, at["first"] >= 0, counted, *earlier, looked)


def _granted(at: dict[str, z3.ArithRef]) -> z3.BoolRef:
    return z3.And(at["mine_first"] == 0, at["mine_second"] == 0)


def _steps(at: dict[str, z3.ArithRef], then: dict[str, z3.ArithRef], bump: Bump) -> Iterator[tuple[str, z3.BoolRef]]:
    def step(when: z3.BoolRef, **changed: z3.ArithRef | int) -> z3.BoolRef:
        moved = [then[name] == changed.get(name, at[name]) for name in _NAMES]
        return z3.And(when, *moved)

    raised = at["stamp"] + 1
    here = z3.And(at["mine_first"] != _NONE, at["mine_second"] != _NONE)
    yield "raise", step(at["phase"] == 0, phase=1, stamp=raised if bump is Bump.BOTH else at["stamp"])
    yield "write the first half", step(at["phase"] == 1, phase=2, first=at["first"] + 1)
    yield "write the second half", step(at["phase"] == 2, phase=3, second=at["second"] + 1)
    yield "raise again", step(at["phase"] == 3, phase=0, stamp=raised)
    yield "land the first half", step(at["mine_first"] == _NONE, mine_first=at["first"])
    yield "land the second half", step(at["mine_second"] == _NONE, mine_second=at["second"])
    yield "look at the stamp", step(z3.And(at["seen"] == _NONE, here), seen=at["stamp"])


OBLIGATIONS: Final = 9


def unproved(bump: Bump = Bump.BOTH) -> list[str]:
    """The obligations that do not hold; none where the proof stands."""
    before, after = _state(""), _state("'")
    start = z3.And(*(before[name] == 0 for name in _HOLDER), *(before[name] == _NONE for name in _READER))
    accepted = z3.And(before["mine_first"] != _NONE, before["mine_second"] != _NONE, before["seen"] == 0)
    owed = [("at the start", z3.Implies(start, _invariant(before)))]
    owed += [
        (name, z3.Implies(z3.And(_invariant(before), moved), _invariant(after)))
        for name, moved in _steps(before, after, bump)
    ]
    owed.append(("what is accepted was granted", z3.Implies(z3.And(_invariant(before), accepted), _granted(before))))
    assert len(owed) == OBLIGATIONS
    failed: list[str] = []
    for name, claim in owed:
        solver = z3.Solver()
        solver.set("timeout", 5000)
        solver.add(z3.Not(claim))
        if solver.check() != z3.unsat:
            failed.append(name)
    return failed
