"""The specification for every number of chunks and of peers: lemmas and rankings that z3 proves by induction.

This is the front, which needs no z3: ``prove`` says what to install where it is missing. ``counters`` has the
transition relation, ``lemmas`` what is proved about it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import NamedTuple

from kvsender_spec.formal.engines.engine import ToolMissing
from kvsender_spec.formal.rules import SPEC, Rules, undecided


class Failure(NamedTuple):
    """One obligation that is not proved."""

    lemma: str
    action: str
    """The transition that does not keep the lemma, or ``init``; for a ranking also what it owes in general."""
    text: str
    """z3's counterexample in words: the state before and after. It need not be reachable."""


@dataclass(frozen=True, slots=True)
class SmtResult:
    obligations: int
    proved: int
    failures: tuple[Failure, ...]
    seconds: float
    """CPU time."""


def require_z3() -> None:
    if find_spec("z3") is None:
        raise ToolMissing("the unbounded proof needs z3: pip install z3-solver")


def prove(rules: Rules = SPEC) -> SmtResult:
    """Every lemma and every ranking, against every transition. Raises ValueError where the tables leave some open."""
    if undecided(rules):
        raise ValueError("some input is decided by nothing, or twice: such tables have no transitions")
    require_z3()
    from kvsender_spec.formal.smt.discharge import discharge
    from kvsender_spec.formal.smt.relation import Relation

    started = time.process_time()
    result = discharge(Relation(rules))
    return replace(result, seconds=time.process_time() - started)
