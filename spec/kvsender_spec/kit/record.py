"""What one run did and saw, moment by moment: what a narrative and the pictures of a report are made from.

It is kept in every run, so a moment only refers to what is there already; nothing is rendered here but the one line
that the owner got back. A run's steps and the polls of its end are bounded, and so is this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from kvsender_spec.kit.adapter import Notice
from kvsender_spec.kit.judge import Findings, Violation
from kvsender_spec.kit.transport import TransportEvent
from kvsender_spec.oracle import Possible
from kvsender_spec.trace import Step

OUTCOME_LIMIT: Final = 400
"""Characters. A sender's error may quote all that it knows, and every moment keeps its outcome."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One thing that the kit did, and all that was seen before it did the next."""

    what: Step | str
    """A step, or in words what the end of a run did that is no step."""
    ending: bool
    """The end of the run did it; it is not in the trace."""
    outcome: str
    """What the owner got back; empty where nobody asked the sender anything."""
    events: tuple[TransportEvent, ...]
    incarnation: int | None = None
    """Of the room that was called; None where no room was."""
    possible: tuple[Possible, ...] = ()
    """The states that the specification allowed this room afterwards."""
    violations: tuple[Violation, ...] = ()
    notices: tuple[tuple[str, Notice], ...] = ()
    """What peers were told, each with the peer's name."""
    usage: bool = False
    """What the owner got back is a usage error, of one of the adapter's classes."""


class Record:
    """The moments of one run, in order. ``ending`` is set when its end begins."""

    def __init__(self, events: Sequence[TransportEvent], findings: Findings) -> None:
        self.moments: Final[list[Moment]] = []
        self.ending = False
        self._events: Final = events
        self._findings: Final = findings
        self._events_told = 0
        self._violations_told = 0
        self._outcome = ""
        self._usage = False
        self._notices: list[tuple[str, Notice]] = []

    def answered(self, outcome: str, *, usage: bool = False) -> None:
        """What the owner got back from the call that the next moment is about."""
        short = len(outcome) <= OUTCOME_LIMIT
        self._outcome = outcome if short else f"{outcome[:OUTCOME_LIMIT]} ..."
        self._usage = usage

    def told(self, peer: str, notice: Notice) -> None:
        """A notice has reached a peer."""
        self._notices.append((peer, notice))

    def add(self, what: Step | str, incarnation: int | None = None, possible: tuple[Possible, ...] = ()) -> None:
        """Close a moment: whatever happened since the last one belongs to it."""
        moment = Moment(
            what,
            self.ending,
            self._outcome,
            tuple(self._events[self._events_told :]),
            incarnation,
            possible,
            tuple(self._findings.violations[self._violations_told :]),
            tuple(self._notices),
            self._usage,
        )
        self.moments.append(moment)
        self._events_told += len(moment.events)
        self._violations_told += len(moment.violations)
        self._notices.clear()
        self._outcome = ""
        self._usage = False

    def add_rest(self, what: str) -> None:
        """Close a moment only if there is something to tell."""
        if len(self._events) > self._events_told or len(self._findings.violations) > self._violations_told:
            self.add(what)
