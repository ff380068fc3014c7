"""For each property of the generated models, tables that break it: an engine that finds nothing in them is no check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from tests.formal import tables

from kvsender_spec.formal.rules import SPEC, Rules
from kvsender_spec.machine import Effect, Event, Guard, HandleState, Input, Never, Reply, Row, State


def _rows(chosen: Callable[[Row], bool], change: Callable[[Row], Row]) -> Rules:
    rows = tuple(change(row) if chosen(row) else row for row in SPEC.table)
    assert rows != SPEC.table
    return replace(SPEC, table=rows)


def _without(effect: Effect, row: Row) -> Row:
    return replace(row, effects=tuple(one for one in row.effects if one is not effect))


def _reports(row: Row) -> bool:
    return row.guard is Guard.MAY_REPORT


def _answers_again(row: Row) -> bool:
    return row.input is Input.ANSWER and row.sources == (State.STICKY_FAILED,)


FAULTS: Final[dict[str, Rules]] = {
    # An error that a check raised completes the room.
    "NoSuccessAfterFault": _rows(
        lambda row: row.guard is Guard.ERROR_SEEN, lambda row: replace(row, event=Event.COMPLETED)
    ),
    # A rejected post keeps no cause.
    "FirstCause": _rows(lambda row: row.input is Input.SEND_REJECTED, lambda row: _without(Effect.LATCH, row)),
    # Failed is reported, and the room does not remember that it was.
    "FailedIsSticky": _rows(_reports, lambda row: replace(row, event=None, effects=(Effect.QUARANTINE,))),
    # A room without a chunk answers Success.
    "SuccessIsDone": _rows(
        lambda row: row.reply is Reply.WAITING, lambda row: replace(row, reply=Reply.SUCCESS, effects=())
    ),
    "PeersAreTold": _rows(_reports, lambda row: _without(Effect.TELL_FAILURE, row)),
    "Quiesced": tables.FORGETS_THE_PAGES,
    # The handles of a room that has succeeded are kept for ever.
    "Quarantined": _rows(lambda row: row.guard is Guard.ALL_DONE, lambda row: _without(Effect.RELEASE, row)),
    "NothingReleasedInFlight": replace(SPEC, releasable=SPEC.releasable | {HandleState.IN_FLIGHT}),
    "NoStray": tables.LOSES_HANDLES,
    "Sticky": _rows(_answers_again, lambda row: replace(row, reply=Reply.WAITING)),
    "CauseIsRaised": _rows(
        lambda row: row.reply is Reply.RAISES_USAGE, lambda row: replace(row, reply=Reply.RAISES_CAUSE)
    ),
    "KS-6.1": _rows(_answers_again, lambda row: replace(row, effects=(Effect.TELL_FAILURE,))),
    # A chunk after the first may be accepted, and may not be rejected.
    "KS-2.5": replace(
        _rows(lambda row: row.input is Input.SEND_REJECTED, lambda row: replace(row, sources=(State.IDLE,))),
        never=(*SPEC.never, Never(Input.SEND_REJECTED, (State.SENDING,), "KS-2.5")),
    ),
}
