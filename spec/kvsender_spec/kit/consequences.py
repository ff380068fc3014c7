"""Which clauses are broken for a reason that another clause tells already, by what they say and how each was shown.

A clause that is broken after another one is told with that one, and not for itself. Attribution finds most of these by
the circumstances of the runs (``observe.attribution``); these it cannot see, because each has a trace of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kvsender_spec.observe.attribution import ENDS, FALSELY, OF_ENDS, OF_FALSE_FAILURES
from kvsender_spec.observe.verdict import Evidence
from kvsender_spec.trace import Call, Trace

_OF_THE_CAUSE: Final = ("KS-2.3", "KS-2.4")
_RESPONSIBLE: Final = "KS-2.8"
BYTES: Final = "KS-3.1"
LAST: Final = "KS-3.2"
_STARVES: Final = "KS-6.2"
_PLAIN: Final = frozenset({Call.OPEN, Call.SEND, Call.POLL, Call.WORK, Call.FAULTS_OVER, Call.SETTLE})


def note_consequences(
    evidence: Mapping[str, Evidence], after: dict[str, str], alongside: Mapping[str, frozenset[str]]
) -> None:
    """Add to ``after``. ``alongside``: by clause, those that the same answers broke whenever it broke first."""

    def follows(clause: str, cause: str) -> None:
        if clause in evidence and cause in evidence and cause not in after:
            after.setdefault(clause, cause)

    for clause in OF_FALSE_FAILURES:
        follows(clause, FALSELY)
    # Whom a sender holds responsible follows from the cause that it keeps: with a wrong cause it is wrong as well.
    for cause in _OF_THE_CAUSE:
        follows(_RESPONSIBLE, cause)
    # A Success that comes too early although nothing goes wrong, and every peer wants pages, does so without any.
    early = _trace(evidence, BYTES)
    if early is not None and _undisturbed(early) and not early.setup.cached and BYTES in alongside.get(LAST, ()):
        follows(LAST, BYTES)
    hangs = _trace(evidence, ENDS)
    if hangs is None:
        return
    if _undisturbed(hangs):
        # A room that does not end although nothing goes wrong does not end in worse circumstances either.
        for clause in sorted(OF_ENDS):
            if ENDS in alongside.get(clause, ()):
                follows(clause, ENDS)
    elif sum(step.call is Call.OPEN for step in hangs.steps) > 1:
        follows(ENDS, _STARVES)  # its shortest trace needs another room, which holds this one up


def _trace(evidence: Mapping[str, Evidence], clause: str) -> Trace | None:
    found = evidence.get(clause)
    return None if found is None else found.trace


def _undisturbed(trace: Trace) -> bool:
    """Nothing goes wrong in it, and nobody gives anything up."""
    plain = all(
        step.call in _PLAIN and step.fault is None and step.misuse is None and step.overlap is None
        for step in trace.steps
    )
    return plain and not trace.setup.silent
