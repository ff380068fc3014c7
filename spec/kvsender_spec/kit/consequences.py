"""Which clauses are broken for a reason that another clause tells already, by what they say and how each was shown.

A clause that is broken after another one is told with that one, and not for itself. Attribution finds most of these by
the circumstances of the runs (``observe.attribution``); these it cannot see, because each has a trace of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kvsender_spec.observe.attribution import AS_WELL, ENDS, FALSELY, OF_FALSE_FAILURES, SPECIAL_CASES
from kvsender_spec.observe.verdict import Evidence
from kvsender_spec.trace import Call

_FIRST_CAUSE: Final = "KS-2.3"
_REPEATABLE: Final = "KS-2.4"
_QUIESCED: Final = "KS-4.1"
_IN_DOUBT: Final = "KS-4.4"
_RESPONSIBLE: Final = "KS-2.8"
_STARVES: Final = "KS-6.2"
_TOLD: Final = "KS-6.1"
_GIVING_UP: Final = (("KS-5.2", Call.CLEAR), ("KS-5.1", Call.ABORT))
_PLAIN: Final = frozenset({Call.OPEN, Call.SEND, Call.POLL, Call.WORK, Call.FAULTS_OVER, Call.SETTLE})


def note_consequences(
    evidence: Mapping[str, Evidence], after: dict[str, str], alongside: Mapping[str, frozenset[str]]
) -> None:
    """Add to ``after``. ``alongside``: by clause, those that the same answers broke whenever it broke first."""

    def follows(clause: str, cause: str) -> None:
        if clause in evidence and cause in evidence and cause not in after:
            after.setdefault(clause, cause)

    for clause in OF_FALSE_FAILURES:
        # Shown without what it takes for a room to fail so, a clause is broken for a reason of its own.
        if _calls(evidence, FALSELY) - {Call.POLL} <= _calls(evidence, clause):
            follows(clause, FALSELY)
    # Whom a sender holds responsible follows from the cause that it keeps: with a wrong cause it is wrong as well.
    for cause in (_FIRST_CAUSE, _REPEATABLE):
        follows(_RESPONSIBLE, cause)
    # Pages that are given back too early only where a transfer is in doubt are those that KS-4.4 is about.
    if _IN_DOUBT in alongside.get(_QUIESCED, ()):
        follows(_QUIESCED, _IN_DOUBT)
    # A sender that changes its own answer tells the peer of the change.
    told = evidence.get(_TOLD)
    if told is not None and told.violation.observed.endswith(AS_WELL):
        for clause, call in _GIVING_UP:
            if call in _calls(evidence, _TOLD) and call in _calls(evidence, clause):
                follows(_TOLD, clause)
    # What is wrong although nothing goes wrong in the room is wrong in every special case as well.
    for cause, clauses in SPECIAL_CASES.items():
        if _undisturbed(evidence, cause):
            for clause in sorted(clauses):
                if cause in alongside.get(clause, ()):
                    follows(clause, cause)
    hangs = None if ENDS not in evidence else evidence[ENDS].trace
    if hangs is not None and sum(step.call is Call.OPEN for step in hangs.steps) > 1:
        follows(ENDS, _STARVES)  # its shortest trace needs another room, which holds this one up


def _calls(evidence: Mapping[str, Evidence], clause: str) -> frozenset[Call]:
    trace = None if clause not in evidence else evidence[clause].trace
    return frozenset() if trace is None else frozenset(step.call for step in trace.steps)


def _undisturbed(evidence: Mapping[str, Evidence], clause: str) -> bool:
    """Nothing goes wrong in the clause's trace, nobody gives anything up, and every peer wants all pages."""
    trace = None if clause not in evidence else evidence[clause].trace
    if trace is None or trace.setup.silent or trace.setup.cached:
        return False
    return all(
        step.call in _PLAIN and step.fault is None and step.misuse is None and step.overlap is None
        for step in trace.steps
    )
