"""KS-7: workers live on, and calls of two threads answer as if one had come after the other."""

from __future__ import annotations

from typing import ClassVar, Final

from kvsender_spec.history.events import AnyEvent
from kvsender_spec.history.header import Ability
from kvsender_spec.observe.answers import Answer
from kvsender_spec.observe.checkers.base import ANSWERS, Checker, Sight
from kvsender_spec.observe.room import RoomView


class Threads(Checker):
    kinds: ClassVar = ANSWERS | {"worker.ended", "control.arrived"}
    sees: ClassVar = frozenset({"call.ended", "worker.ended", "run.ended"})

    def __init__(self, sight: Sight) -> None:
        super().__init__(sight)
        self._can_tell_end: Final = sight.has(Ability.WORKERS) and "worker.ended" in sight.vantage

    def answered(self, answer: Answer) -> None:
        if answer.overlapped and answer.allowed and answer.error is None:
            self.held("KS-7.2")

    def see(self, event: AnyEvent, room: RoomView | None) -> None:
        """KS-7.1: looked at after something that ends a careless worker, and whenever one has ended."""
        subject = self.sight.subject
        if not self._can_tell_end or subject.lossy:
            return
        if subject.ended_workers:
            self.broke("KS-7.1", "every worker lives on", f"ended: {', '.join(subject.ended_workers)}")
            subject.ended_workers.clear()
        elif subject.tried_workers:
            self.held("KS-7.1")
        subject.tried_workers = False
