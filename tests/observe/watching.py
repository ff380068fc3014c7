"""What checkers say, observation by observation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from kvsender_spec.history.events import AnyEvent, History
from kvsender_spec.history.header import Header
from kvsender_spec.observe.checkers import CHECKERS
from kvsender_spec.observe.checkers.base import Checker
from kvsender_spec.observe.observer import Observer
from kvsender_spec.observe.room import RoomView

Observation: TypeAlias = tuple[str, bool, int]
"""Clause, whether it holds, and the seq of the event that shows it."""


def _watched(checker: type[Checker], into: list[Observation]) -> type[Checker]:
    class Watched(checker):  # type: ignore[misc, valid-type]
        def held(self, clause: str) -> None:
            into.append((clause, True, self.sight.seq))
            super().held(clause)

        def broke(
            self,
            clause: str,
            expected: str,
            observed: str,
            room: RoomView | None = None,
            frames: tuple[str, ...] = (),
            *,
            because: frozenset[str] = frozenset(),
        ) -> None:
            into.append((clause, False, self.sight.seq))
            super().broke(clause, expected, observed, room, frames, because=because)

    return Watched


def observations(
    header: Header, events: Iterable[AnyEvent], checkers: Sequence[type[Checker]] = CHECKERS
) -> list[Observation]:
    """Every observation that the checkers make, in order."""
    found: list[Observation] = []
    observer = Observer(header, [_watched(checker, found) for checker in checkers])
    for event in events:
        observer.see(event)
    return found


def failing(history: History, events: Iterable[AnyEvent] | None = None) -> set[str]:
    """The clauses that fail, of the history or of these events in its place."""
    observer = Observer(history.header)
    for event in history.events if events is None else events:
        observer.see(event)
    return {verdict.clause.id for verdict in observer.verdicts() if verdict.outcome.failed}
