"""What each engine says of the target's tables, and of the targets with one thing wrong, in words for a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kvsender_spec.formal.engines.tlc import noted, violates
from kvsender_spec.formal.targets import tla
from kvsender_spec.formal.targets.cases import CASES, LIVE_CASES
from kvsender_spec.formal.targets.rules import SPEC, ill_formed
from kvsender_spec.formal.targets.search import GOALS, INCARNATIONS, INITIATORS, search, stranded


@dataclass(frozen=True, slots=True)
class Judged:
    """What an engine has looked at, and everything that is not as it should be."""

    looked_at: str
    broken: tuple[str, ...]
    seconds: float = 0.0
    """CPU time, of an engine that is a program of its own."""


BOUND: Final = f"{INITIATORS} initiators, {INCARNATIONS} incarnations"
BOUND_OF_TLC: Final = f"{INITIATORS} initiators, 1 incarnation"
"""It takes minutes for the states of two; the wrong targets, which are found soon, have two."""
_MISSED: Final = "a target that {} should have been found wrong"


def by_search() -> Judged:
    """Every state, every goal, and each wrong target."""
    reason = ill_formed(SPEC)
    if reason is not None:
        return Judged("the tables", (reason,))
    found = search(SPEC)
    broken = [f"{found.broken}: {'; '.join(found.way)}"] if found.broken else []
    for goal in GOALS:
        why = stranded(SPEC, goal, goal.needs)
        broken += [f"{goal.text}: {why}"] if why else []
        idle = [fair for fair in goal.needs if not stranded(SPEC, goal, goal.needs - {fair})]
        broken += [f"{goal.text}: not needed: {fair.value}" for fair in idle]
    broken += [_MISSED.format(name) for name, (target, clause) in CASES.items() if search(target).broken != clause]
    broken += [
        _MISSED.format(name) for name, (target, goal) in LIVE_CASES.items() if not stranded(target, goal, goal.needs)
    ]
    return Judged(f"{found.states:,} states, {len(GOALS)} goals, {_wrong(len(CASES) + len(LIVE_CASES))}", tuple(broken))


def by_induction() -> Judged:
    """For any number of initiators and incarnations; what is wrong in the end only is not asked."""
    from kvsender_spec.formal.smt.target import unproved

    obligations, failed = unproved()
    broken = [f"not proved: {name}" for name in failed]
    broken += [_MISSED.format(name) for name, (target, _) in CASES.items() if not unproved(target, first_only=True)[1]]
    return Judged(f"{obligations} obligations, {_wrong(len(CASES))}", tuple(broken))


def by_tlc(workdir: Path, timeout_s: float) -> Judged:
    """The states of one incarnation, the goals of one initiator, and the wrong targets in one run."""
    module, broken = tla.module(), list[str]()
    unsafe, states, spent_s = violates(module, tla.config(fair=False), tla.MODULE, workdir, timeout_s)
    if unsafe:
        broken.append("a property of a state does not hold")
    elif states != (expected := search(SPEC, incarnations=1).states):
        broken.append(f"it has {states:,} states, and there are {expected:,}")
    missed, _, seconds = violates(module, tla.config(initiators=1), tla.MODULE, workdir, timeout_s)
    broken += ["a goal is missed"] if missed else []
    found, count, more = noted(module, tla.config_of_the_wrong(), tla.MODULE, workdir, timeout_s)
    broken += [_MISSED.format(name) for name in CASES if name not in found]
    looked_at = f"{states:,} states, {len(GOALS)} goals, {count:,} states of {_wrong(len(CASES))}"
    return Judged(looked_at, tuple(broken), spent_s + seconds + more)


def _wrong(count: int) -> str:
    return f"{count} wrong targets"
