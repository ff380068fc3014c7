"""KS-5: abort() and clear() change nothing that is decided, and rooms do not reach into each other.

An answer that such a circumstance has made wrong breaks the clause that the answer itself contradicts; attribution
names the circumstance where nothing breaks without it. Here it is counted where it changed nothing.
"""

from __future__ import annotations

from typing import ClassVar

from kvsender_spec.history.words import CallName
from kvsender_spec.observe.answers import Answer
from kvsender_spec.observe.checkers.base import ANSWERS, Checker

_OWN = ("KS-5.1", "KS-5.2", "KS-5.3")


class Rooms(Checker):
    kinds: ClassVar = ANSWERS

    def answered(self, answer: Answer) -> None:
        if answer.started.what is CallName.FAILURE_EXCEPTION and answer.cause_at_stake and answer.matching is not None:
            self.held("KS-5.1")  # abort() has kept the cause
        if answer.value is None or not answer.allowed:
            return
        for clause in _OWN:
            if clause in answer.confirms:
                self.held(clause)
        if answer.room.faultless and self.sight.other_room_faulted(answer.room):
            self.held("KS-5.4")
