"""The specification for every number of chunks and of peers: lemmas and rankings that z3 proves by induction.

This is the front, which needs no z3: ``prove`` says what to install where it is missing. ``relation`` has the
transitions, ``lemmas`` and ``rankings`` what is proved about them, ``discharge`` asks z3.
"""

from __future__ import annotations

import time
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

from kvsender_spec.formal.engines.engine import ToolMissing
from kvsender_spec.formal.rules import SPEC, Rules, undecided

if TYPE_CHECKING:
    from kvsender_spec.formal.smt.discharge import SmtResult


def require_z3() -> None:
    """Raises ToolMissing where z3 is not installed."""
    if find_spec("z3") is None:
        raise ToolMissing("the unbounded proof needs z3: pip install z3-solver")


def prove(rules: Rules = SPEC) -> SmtResult:
    """Every lemma and every ranking, against every transition.

    Raises ValueError where the tables leave some input open, and ToolMissing where z3 is not installed.
    """
    if undecided(rules):
        raise ValueError("some input is decided by nothing, or twice: such tables have no transitions")
    require_z3()
    # Not before this point: these modules import z3.
    from kvsender_spec.formal.smt.discharge import discharge
    from kvsender_spec.formal.smt.relation import Relation

    started = time.process_time()
    result = discharge(Relation(rules))
    return replace(result, seconds=time.process_time() - started)
