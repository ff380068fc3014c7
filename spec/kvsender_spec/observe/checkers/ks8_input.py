"""KS-8: a mistake of the caller's is refused before anything is posted, and changes nothing."""

from __future__ import annotations

from typing import ClassVar

from kvsender_spec.history.words import Origin
from kvsender_spec.machine import LATCHED
from kvsender_spec.observe.answers import Answer
from kvsender_spec.observe.checkers.base import ANSWERS, Checker, shown


class Misuses(Checker):
    kinds: ClassVar = ANSWERS

    def answered(self, answer: Answer) -> None:
        if answer.started.misuse:
            error, made = answer.error, answer.answered.made
            refused = error is not None and error.origin is Origin.USAGE and error.text != ""
            # It may have looked first and found that the room has failed: then no send() does anything (KS-2.5).
            failed = error is None and any(possible.state in LATCHED for possible in answer.room.oracle.possible)
            good = (refused or failed) and not made
            self.check(
                "KS-8.1",
                good,
                f"{answer.name} with {answer.started.misuse} raises a usage error that says so,"
                " before anything is posted",
                f"it raised {shown(error)}, and {made} transfers were made",
                answer.room,
            )
        elif answer.value is not None and answer.allowed and "KS-8.1" in answer.confirms:
            self.held("KS-8.1")
