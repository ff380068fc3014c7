"""What is known of one room at a target: its request, and a hold for each initiator, from the target's tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from kvsender_spec.history.events import CallEnded, NoticeArrived, RoomOpened
from kvsender_spec.history.words import NOT_OURS, How, Says
from kvsender_spec.target_machine import HOLD_NEXT, TOUCHABLE, Hold, HoldEvent

_LEASE: Final = "KS-9.3"
_WHO: Final = "KS-9.5"
_EARLY_LATE: Final = "KS-9.6"
_ROBUST: Final = "KS-9.11"
OF_A_TWIST: Final = {
    How.AGAIN: _WHO,
    How.STRANGER: _WHO,
    How.EARLIER: _EARLY_LATE,
    How.UNKNOWN: _EARLY_LATE,
    How.TRUNCATED: _ROBUST,
    How.GARBAGE: _ROBUST,
    How.NOT_UTF8: _ROBUST,
}
"""The clause that says why a notification changes nothing."""


@dataclass(slots=True)
class InitiatorView:
    """One initiator of one room."""

    name: str
    generation: int
    hold: Hold = Hold.EXPOSED
    """From before it was told: the view begins when target() is called."""
    told: set[int] = field(default_factory=set)
    """The parts that it has said."""
    finished: bool = False
    """Its success has arrived."""
    said_parts: set[int] = field(default_factory=set)
    said_end: bool = False
    """What it has said, whether it has arrived or was lost on the way."""
    failed: bool = False
    """Its failure has arrived: it needs not be told of an abort."""
    aborts: int = 0
    """How often it was told that the room is given up."""
    unreachable: bool = False
    """It was stopped, gone, or could not be told: nobody can ask that it knows."""

    def happens(self, event: HoldEvent) -> None:
        self.hold = HOLD_NEXT[self.hold][event] or self.hold

    @property
    def touchable(self) -> bool:
        return self.hold in TOUCHABLE


class TargetRoomView:
    """One opening of a room."""

    def __init__(self, opened: RoomOpened, now: float, timeout_s: float) -> None:
        self.opened: Final = opened
        self.key: Final = -1 if opened.room is None else opened.room
        self.pages: Final = frozenset(opened.own)
        self.parts: Final = opened.parts
        self.initiators: Final = {d.peer: InitiatorView(d.peer, d.generation) for d in opened.destinations}
        self.timeout_s: Final = timeout_s
        self.deadline = now + timeout_s
        """The earliest instant at which time may end the request; of a lease, renewals move it."""
        self.latest = now + timeout_s
        """The latest one: a renewal counts from when it is taken."""
        self.causes: list[str] = []
        """Why it must fail, in the order in which it came about."""
        self.losses: list[str] = []
        """Why it may: a target may find out that an initiator is gone, and need not."""
        self.failed_first = False
        """A cause was there at a poll when it was not complete: it stays failed."""
        self.answer: str | None = None
        """The first terminal value of poll()."""
        self.cleared = False
        self.contexts: set[str] = set()
        """The clauses about circumstances that were there and may be why the room goes wrong."""
        self.met = ""
        """The clause of a notification that changes nothing and came since the last poll()."""
        self.partly_proved = False
        """One of several initiators is done, and counts for itself alone."""
        self.told_early = False
        """An initiator was told that it is given up, for no reason that is known: the next poll() says more."""
        self.proof_first = False
        """What ended it was a proof of one of its initiators, and nothing else."""
        self.complete_at: int | None = None
        """At which poll everything had arrived; None while it has not."""
        self.due_at: int | None = None
        """At which poll the deadline had passed."""
        self.time_up = False
        """The target had its time when the deadline had passed, and not everything had arrived: it may have failed."""
        self.polls = 0
        self.mark = ""
        """The clause that broke first in it."""
        self.failures: list[tuple[str, int | None]] = []
        """What failure_exception() has raised: the text, and the number of the first cause."""
        self.lost_at: float | None = None
        """When its last notification was lost on the way."""
        self.renewing = False
        """A renewal has arrived, and the target has not had the time to take it."""
        self.over_known = False
        """The target had its time after the request had to end."""
        self.renewed_late: set[str] = set()
        """Who asked for a longer lease when the request had ended, and is owed an answer."""
        self.answered_lost: set[str] = set()
        self.owed: set[str] = set()
        """Who is to be told that the room is given up: whoever might use its pages at its end, and had not failed."""

    # -- what holds

    @property
    def complete(self) -> bool:
        """Everything that Success takes has arrived."""
        return all(view.finished and len(view.told) >= self.parts for view in self.initiators.values())

    @property
    def all_said(self) -> bool:
        """Everything that Success takes was said; some of it may have been lost on the way."""
        return all(view.said_end and len(view.said_parts) >= self.parts for view in self.initiators.values())

    @property
    def ended(self) -> bool:
        """The caller was told, or has cleared it."""
        return self.answer is not None or self.cleared

    @property
    def may_fail(self) -> bool:
        """There is a cause for a failure."""
        return bool(self.causes or self.losses or self.time_up)

    @property
    def touchable(self) -> list[str]:
        """The initiators that may still use its pages."""
        return [view.name for view in self.initiators.values() if view.touchable]

    def cause(self, what: str, *, proves: bool = False) -> None:
        """It must fail. ``proves``: that is a proof of one of its initiators."""
        if not self.may_fail:
            self.proof_first = proves
        self.causes.append(what)

    def loses(self, what: str) -> None:
        """It may fail."""
        self.losses.append(what)

    def meets(self, clause: str) -> None:
        """Something has arrived that changes nothing."""
        self.met = clause
        self.contexts.add(clause)

    # -- what happens

    def arrives(self, event: NoticeArrived, now: float) -> None:
        """An initiator has said something of this room."""
        if event.how is How.LOST:
            self._is_lost(event, now)
            return
        view = self.initiators.get(event.peer)
        if event.how in NOT_OURS:
            self.meets(OF_A_TWIST[event.how])
        elif view is None or view.generation != event.generation:
            self.meets(_EARLY_LATE)
        else:
            self._says(view, event, now)

    def _is_lost(self, event: NoticeArrived, now: float) -> None:
        self.lost_at = now
        view = self.initiators.get(event.peer)
        if view is not None and event.says is Says.PROGRESS:
            view.said_parts.add(event.part)
        elif view is not None:
            view.said_end = view.said_end or event.says is Says.SUCCESS

    def _says(self, view: InitiatorView, event: NoticeArrived, now: float) -> None:
        if self.answer is not None:
            self.meets(_EARLY_LATE)  # whatever it proves, it changes no answer
        match event.says:
            case Says.PROGRESS:
                view.told.add(event.part)
                view.said_parts.add(event.part)
            case Says.SUCCESS:
                view.finished = view.said_end = True
                self._proves(view)
            case Says.FAILURE:
                view.failed = True
                self.cause(f"{event.peer} failed", proves=event.quiesced)
                if event.quiesced:
                    self._proves(view)
            case Says.QUIESCED:
                self._proves(view)
                if not self.causes:
                    self.cause(f"{event.peer} gave it up", proves=True)
            case Says.RENEW:
                self._renew(event.peer, now)
            case _:
                pass

    def _proves(self, view: InitiatorView) -> None:
        view.happens(HoldEvent.PROVED)
        self.partly_proved = self.partly_proved or bool(self.touchable)

    def _renew(self, peer: str, now: float) -> None:
        if self.over_known or self.answer is not None:
            self.renewed_late.add(peer)
        elif now < self.deadline:
            self.deadline = max(self.deadline, now + self.timeout_s)
            self.renewing = True
            self.contexts.add(_LEASE)

    def ends(self) -> None:
        """The request has ended: each initiator that was told of the pages may still use them."""
        self.owed |= {view.name for view in self.initiators.values() if view.hold is Hold.EXPOSED and not view.failed}
        for view in self.initiators.values():
            view.happens(HoldEvent.ENDED)

    def had_time(self, now: float) -> None:
        """The target's loop, or one of its calls, has come to its end."""
        if now >= self.deadline and not self.complete:
            self.time_up = True
        if self.renewing:
            self.latest, self.renewing = max(self.latest, now + self.timeout_s), False
        self.over_known = self.over_known or bool(self.causes)

    def polled(self, event: CallEnded, now: float) -> None:
        """A poll() has answered; what it may answer was judged before."""
        self.polls += 1
        if self.complete and self.complete_at is None:
            self.complete_at = self.polls
        if now >= self.latest and self.due_at is None:
            self.due_at = self.polls
        if self.causes and not self.complete:
            self.failed_first = True
        if event.value in ("Success", "Failed") and self.answer is None:
            self.answer = event.value
            if event.value == "Failed":
                self.ends()
