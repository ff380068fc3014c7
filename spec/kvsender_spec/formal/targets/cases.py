"""Targets with one thing wrong: what each does, and what it breaks. An engine that misses one of them is no check."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from kvsender_spec.formal.targets.room import EARLY, NO_PAGES
from kvsender_spec.formal.targets.rules import SPEC, Target, Wrong
from kvsender_spec.formal.targets.search import COMES_BACK, ENDS, Goal
from kvsender_spec.target_machine import (
    Hold,
    HoldEvent,
    Request,
    RequestEvent,
    TargetEffect,
    TargetGuard,
    TargetInput,
    TargetNever,
    TargetRow,
)


def with_rows(chosen: Callable[[TargetRow], bool], change: Callable[[TargetRow], TargetRow | None]) -> Target:
    """The tables with some rows changed, or taken out where they are changed into None."""
    changed = [change(row) if chosen(row) else row for row in SPEC.table]
    return replace(SPEC, table=tuple(row for row in changed if row is not None))


def _proves(*inputs: TargetInput) -> Target:
    """These inputs are taken for a proof; about each initiator where they name none."""
    return with_rows(lambda row: row.input in inputs, lambda row: replace(row, hold=HoldEvent.PROVED))


def _without(effect: TargetEffect) -> Target:
    return with_rows(
        lambda row: effect in row.effects,
        lambda row: replace(row, effects=tuple(other for other in row.effects if other is not effect)),
    )


def _not_in(never: TargetNever, *dropped: TargetInput) -> bool:
    return never.input not in dropped


CASES: Final[Mapping[str, tuple[Target, str]]] = {
    "frees at the deadline": (_proves(TargetInput.TIME), NO_PAGES),
    "frees at an abort": (_proves(TargetInput.ABORT), NO_PAGES),
    "frees at a clear": (_proves(TargetInput.CLEAR), NO_PAGES),
    "frees when told of a failure": (_proves(TargetInput.FAILURE), NO_PAGES),
    "frees at a lost heartbeat": (_proves(TargetInput.LOST), NO_PAGES),
    "frees on a part": (_proves(TargetInput.PART), NO_PAGES),
    "frees when the request ends": (
        replace(
            SPEC,
            hold_next={
                **SPEC.hold_next,
                Hold.EXPOSED: {**SPEC.hold_next[Hold.EXPOSED], HoldEvent.ENDED: Hold.DRAINED},
            },
        ),
        NO_PAGES,
    ),
    "announces after the end": (
        replace(
            SPEC,
            table=(*SPEC.table, TargetRow(TargetInput.ANNOUNCE, (Request.DONE, Request.FAILED))),
            never=tuple(never for never in SPEC.never if _not_in(never, TargetInput.ANNOUNCE)),
        ),
        NO_PAGES,
    ),
    "a request that has ended fails": (
        replace(
            SPEC,
            request_next={
                **SPEC.request_next,
                Request.DONE: {**SPEC.request_next[Request.DONE], RequestEvent.ENDED: Request.FAILED},
            },
            table=tuple(
                replace(row, request=RequestEvent.ENDED)
                if row.input is TargetInput.ABORT and Request.DONE in row.sources
                else row
                for row in SPEC.table
            ),
        ),
        "KS-9.14: a request that has ended changes",
    ),
    "succeeds with the first part": (
        with_rows(
            lambda row: row.input is TargetInput.PART and Request.WAITING in row.sources,
            lambda row: replace(row, guard=None) if row.guard is TargetGuard.ALL_CONFIRMED else None,
        ),
        EARLY,
    ),
    **{
        wrong.value: (replace(SPEC, wrong=wrong), property_)
        for wrong, property_ in {
            Wrong.ANY_INCARNATION: NO_PAGES,
            Wrong.FENCE_BY_NAME: NO_PAGES,
            Wrong.COUNTS_MESSAGES: EARLY,
            Wrong.ANNOUNCED_ONLY: EARLY,
            Wrong.HOLDS_LATE: NO_PAGES,
        }.items()
    },
}
"""By name: a wrong target, and what a search finds first."""

LIVE_CASES: Final[Mapping[str, tuple[Target, Goal]]] = {
    "tells nobody that the room is given up": (_without(TargetEffect.TELL_ABORT), COMES_BACK),
    "does not ask who fails after the end": (_without(TargetEffect.ASK), COMES_BACK),
    "ignores proofs after the end": (
        with_rows(
            lambda row: row.hold is HoldEvent.PROVED and Request.DONE in row.sources,
            lambda row: replace(row, hold=None),
        ),
        COMES_BACK,
    ),
    "has no deadline": (
        with_rows(
            lambda row: row.input is TargetInput.TIME and row.request is RequestEvent.ENDED,
            lambda row: replace(row, request=None, effects=()),
        ),
        ENDS,
    ),
}
"""By name: a target whose pages, or whose answer, may never come, and what it owes."""
