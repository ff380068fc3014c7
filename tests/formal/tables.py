"""Tables with one mistake each, for the checks to find; ``kvsender prove --rules tests.formal.tables:NAME`` too."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from kvsender_spec.formal.rules import SPEC, Rules
from kvsender_spec.machine import Effect, Event, Guard, Input, Row, State


def changed(what: Input, source: State, guard: Guard | None, new: Row) -> Rules:
    """The specification with one row replaced; raises ValueError where there is no such row."""
    rows = [row for row in SPEC.table if row.input is what and source in row.sources and row.guard is guard]
    if len(rows) != 1:
        raise ValueError(f"{len(rows)} rows for {what.value} in {source.value}")
    return replace(SPEC, table=tuple(new if row is rows[0] else row for row in SPEC.table))


FORGETS_THE_PAGES: Final = changed(
    Input.ANSWER,
    State.FAILED,
    Guard.MAY_REPORT,
    Row(
        Input.ANSWER,
        (State.FAILED,),
        Event.REPORTED,
        Guard.MAY_REPORT,
        (Effect.TELL_FAILURE,),
        next(row for row in SPEC.table if row.guard is Guard.MAY_REPORT).reply,
    ),
)
"""Failed is reported, and nobody says which pages may still be read (KS-4.1)."""

NEVER_CLOSES: Final = changed(
    Input.SEND_LAST_ACCEPTED,
    State.SENDING,
    None,
    Row(Input.SEND_LAST_ACCEPTED, (State.IDLE, State.SENDING), Event.CHUNK_POSTED, effects=(Effect.ADOPT,)),
)
"""The last chunk is taken for any other one: the room never completes (KS-3.4)."""

LOSES_HANDLES: Final = changed(
    Input.SEND_REJECTED,
    State.SENDING,
    None,
    Row(Input.SEND_REJECTED, (State.IDLE, State.SENDING), Event.FAULTED, effects=(Effect.LATCH,)),
)
"""What was accepted before the rejected post is forgotten (KS-4.3)."""

ABORT_IS_LOST: Final = replace(
    SPEC,
    table=tuple(
        Row(Input.ABORT, tuple(State)) if row.input is Input.ABORT and State.IDLE in row.sources else row
        for row in SPEC.table
        if not (row.input is Input.ABORT and State.DONE in row.sources)
    ),
)
"""abort() does nothing (KS-5.1)."""

UNDECIDED: Final = replace(SPEC, table=SPEC.table[1:])
"""Nothing says what an accepted chunk does."""

GIVES_UP_EARLY: Final = changed(
    Input.OBSERVE,
    State.FAILED,
    None,
    Row(Input.OBSERVE, (State.FAILED,), effects=(Effect.RELEASE, Effect.QUARANTINE)),
)
"""What is in flight is given up before the report, and poll() goes on asking about it."""
