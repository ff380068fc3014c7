"""What is known of one incarnation of one room: its possible states, its handles, its faults, its calls.

The view is folded from events, once. Checkers read it. What a call that came back says is in ``answers``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

from transitions import MachineError

from kvsender_spec.contract import KVPoll
from kvsender_spec.history.events import (
    CallEnded,
    CallStarted,
    ErrorSeen,
    Event,
    NotificationHeard,
    RoomOpened,
    TransferChecked,
    TransferMade,
    TransferPosted,
    TransferReleased,
)
from kvsender_spec.history.header import Ability, Header
from kvsender_spec.history.words import HANDS_OVER, CallName, Origin
from kvsender_spec.machine import LATCHED, HandleEvent, HandleState, Input
from kvsender_spec.observe.bracket import Answered, Bracket
from kvsender_spec.oracle import ABORTED, DEADLINE, PEER_LOST, TARGET_ABORTED, Cause, CauseKind, Possible, RoomOracle

_INTERNAL: Final = frozenset({Origin.BASE, Origin.OTHER, Origin.USAGE, Origin.RELEASED})


class RoomView:
    """One incarnation of one room."""

    def __init__(
        self, opened: RoomOpened, header: Header, errors: Mapping[int, ErrorSeen], raised: Mapping[int, int | None]
    ) -> None:
        assert opened.room is not None
        self.key: Final = opened.room
        self.opened: Final = opened
        self.errors: Final = errors
        self.raised: Final = raised
        """The errors that the transport has answered, about whatever room, each with the call during which it did."""
        self.can: Final = frozenset(header.can)
        self.oracle: Final = RoomOracle(header.limits.transfer_timeout_s)
        self.targets: Final = {d.peer: d for d in opened.destinations if not d.dummy}
        self.dummies: Final = frozenset(d.peer for d in opened.destinations if d.dummy)
        self.terminal: KVPoll | None = None
        self.pages: Final[dict[int, frozenset[int]]] = {}
        """The pages at the initiator of each handle: a WRITE reads them, a READ writes into them."""
        self.sent: Final[list[int | float]] = []
        """The pages of every send() so far."""
        self.releases: Final[Counter[int]] = Counter()
        self.landed: Final[set[int]] = set()
        """The handles all of whose bytes are there, in truth."""
        self.faults: Final[list[Cause]] = []
        """Every error that the transport has answered this room with, first to last."""
        self.refused: Final[list[Cause]] = []
        """Those of them that the sender's own wrong call has drawn, although all peers of the room were well."""
        self.heard: Final[dict[str, list[NotificationHeard]]] = {}
        self.contexts: Final[set[str]] = set()
        """Clauses about circumstances that this room has been in."""
        self.since: Final[set[str]] = set()
        """Those since the last allowed answer of poll()."""
        self.mark: str = ""
        """The clause that broke first in this room."""
        self.compared = False
        self.cleared = False
        self.recovered = False
        """Opened to a peer that had come back."""
        self.misgranted = False
        """A peer has granted what cannot be: what the transport refuses for it is no mistake of the reader's."""
        self.reopened = False
        """There was an earlier room of this id."""
        self.unhealthy = False
        """A peer of its own was not well when it was opened, or has not been since."""
        self.out_of_order = False
        """The sender was told of a transfer's end before that of an earlier one."""
        self.landed_out_of_order = False
        """The bytes of a transfer were there before those of an earlier one, whatever the sender has asked."""
        self.handed_over = False
        """The caller has given the last chunk to a live room, whatever the sender made of it."""
        self.dropped: tuple[Possible, ...] = ()
        """The states in which the last send() had no right to post, where there were others in which it had."""
        self.shown: tuple[str, str] | None = None
        """Class and text of what failure_exception() raised last."""
        self.abandoned = False
        """The sender was interrupted, or an error of the program's own went through it: what it is left in is not
        specified."""
        self.untracked = False
        """Events about it may have been lost, or too many of its calls overlapped: nothing is known of it any more but
        what is seen from now on."""
        self.calls: list[Bracket] = []
        """The calls that overlap now, the first one first."""
        self.answered = Answered()
        """What the transport answers during these calls, or between calls."""
        self._uncertain: Final[set[int]] = set()
        """Handles about which something may not have been seen."""
        self.posted_late: tuple[str, str] | None = None
        """What was posted in no send() since the last call and may not be: the clause that it breaks, and the words."""
        self._finished_last = -1
        self.cause_at_stake = False
        """The room had failed already when it was aborted, and failure_exception() has not been asked since."""
        self.aborted_by: Final[set[str]] = set()
        """The peers that have given it up."""
        self.given_up_early = False
        """One of them did when something was still under way."""
        self.complete = False
        """Since the last poll() a deadline has passed although every transfer had finished in truth."""

    # -- facts

    @property
    def ended(self) -> bool:
        return self.terminal is not None

    @property
    def without_pages(self) -> bool:
        """It has none, or none for some peer that has them all already."""
        return not self.opened.pages or not all(target.pages or target.unseen for target in self.targets.values())

    @property
    def moves_nothing(self) -> bool:
        """There is nothing to post for it: a READ has no aux data, which a WRITE without pages still takes along."""
        return not self.targets or (self.opened.operation == "READ" and not self.opened.pages)

    @property
    def faultless(self) -> bool:
        """The transport has answered it with no error but what the sender's own calls drew first."""
        return not self.faults or self.refused[:1] == self.faults[:1]

    @property
    def owes_an_end(self) -> bool:
        """The caller has done its part, or the room has failed."""
        return self.handed_over or self.oracle.failed

    @property
    def idle(self) -> bool:
        machines = self.oracle.handles.values()
        return not self.oracle.closed and all(machine.state is not HandleState.IN_FLIGHT for machine in machines)

    @property
    def causes(self) -> list[Cause | None]:
        return [possible.cause for possible in self.oracle.possible]

    def lose_track(self) -> None:
        """From here on nothing rests on what was not seen."""
        self.untracked = True
        self.oracle.widen()
        self._uncertain.update(self.oracle.handles)
        self.abandoned = self.abandoned or any(cause.kind is CauseKind.INTERNAL for cause in self.faults)
        self.calls.clear()

    def pages_in(self, *states: HandleState) -> set[int]:
        """The initiator's pages of the handles in these states."""
        found: set[int] = set()
        for number, machine in self.oracle.handles.items():
            if machine.state in states:
                found |= self.pages[number]
        return found

    def note_truth(self, now: float) -> None:
        """Whether a deadline has passed although every handle has finished, asked or not (KS-3.5)."""
        oracle = self.oracle
        if oracle.closed and oracle.overdue(now):
            done = (m.state is HandleState.DONE or number in self.landed for number, m in oracle.handles.items())
            self.complete = self.complete or all(done)

    def has_landed(self, handle: int) -> None:
        """All bytes of a transfer are there."""
        self.landed.add(handle)
        earlier = (posted for posted in self.oracle.posted_at if posted < handle and posted not in self.landed)
        self.landed_out_of_order = self.landed_out_of_order or any(True for _ in earlier)

    def peer_lost(self) -> None:
        """A peer of the room is gone, or is another process now. The room may fail for it."""
        self.oracle.may_fault(PEER_LOST, from_now_on=True)

    def target_aborted(self, peer: str) -> None:
        """A peer has given the room up. What was under way then does not end well."""
        self.aborted_by.add(peer)
        whole = self.oracle.closed and all(
            machine.state is HandleState.DONE or number in self.landed
            for number, machine in self.oracle.handles.items()
        )
        self.given_up_early = self.given_up_early or (self.oracle.live and not self.ended and not whole)
        self.oracle.may_fault(TARGET_ABORTED, from_now_on=True)

    # -- what the transport answers

    def cause_of(self, answer: str | None, ref: int | None) -> Cause | None:
        """The cause that an answer of the transport is; None for a good one."""
        error = None if ref is None else self.errors.get(ref)
        if error is not None and error.shown is not None:
            return Cause(CauseKind.RETURNED, text=error.shown)
        if error is not None:
            return Cause(CauseKind.INTERNAL if error.origin in _INTERNAL else CauseKind.RAISED, error)
        if answer in ("PROC", "DONE", None):
            return None
        # A transport that hides its errors hides this word as well: any reason may stand for it.
        return Cause(CauseKind.RETURNED, text="" if Ability.HIDES_ERRORS in self.can else answer)

    def transfer(self, event: TransferMade | TransferPosted | TransferChecked, now: float) -> str:
        """Take an answer of the transport. Returns how the handle was misused; empty if it was not."""
        answered = self.answered
        answered.any = True
        cause = self.cause_of(None if isinstance(event, TransferMade) else event.answer, event.error)
        if cause is not None:
            self._fault(cause, checking=isinstance(event, TransferChecked))
        if isinstance(event, TransferMade):
            self._made(event, cause)
        # A worker asks in no call of the caller's.
        answered.checks += isinstance(event, TransferChecked) and event.call is not None
        answered.posted += isinstance(event, TransferPosted) and cause is None
        error = None if cause is None else cause.error
        if error is not None and error.origin is Origin.RELEASED:
            return error.text
        if event.handle is None or (isinstance(event, TransferMade) and event.error is not None):
            return ""
        if isinstance(event, TransferMade):
            self.oracle.adopt(event.handle)
            self.pages[event.handle] = frozenset(event.pages)
            return ""
        if cause is not None and cause.kind is CauseKind.INTERNAL:
            return ""  # it says nothing about the handle
        return self._move(event.handle, _happened(event), now)

    def _made(self, event: TransferMade, cause: Cause | None) -> None:
        """One that could not be made may be tried again in the same call, as long as nothing was posted."""
        answered = self.answered
        answered.made += 1
        if cause is not None:
            first = answered.refused_at.setdefault(event.peer, cause)
            if first is not cause and not answered.posted:
                answered.refused_again = cause
        elif answered.posting is answered.refused_at.get(event.peer) and not answered.posted:
            answered.tried_again, answered.posting = answered.posting, None

    def _fault(self, cause: Cause, *, checking: bool) -> None:
        self.faults.append(cause)
        error = cause.error
        if error is not None and error.origin is Origin.REFUSED and not (self.unhealthy or self.misgranted):
            self.refused.append(cause)
        if error is not None and error.origin is Origin.BASE:
            self.answered.interrupts.append(error)
        if checking:
            self.answered.checking = self.answered.checking or cause
        else:
            self.answered.posting = self.answered.posting or cause

    def _move(self, handle: int, happened: HandleEvent | None, now: float) -> str:
        if happened is None or handle in self._uncertain:
            return ""
        if self.cleared and happened is HandleEvent.RAISED and self.oracle.state_of(handle) is HandleState.IN_FLIGHT:
            self.circumstance("KS-5.3")
        if happened is HandleEvent.FINISHED and self.oracle.state_of(handle) is not HandleState.DONE:
            self.out_of_order = self.out_of_order or handle < self._finished_last
            self._finished_last = max(self._finished_last, handle)
            if self.cleared:
                self.circumstance("KS-5.3")
            if not self.oracle.closed and self.oracle.overdue(now):
                self.oracle.may_fault(DEADLINE)  # chunks are missing, so that nothing is there that beats the deadline
        try:
            self.oracle.handle_event(handle, happened, now)
        except MachineError as error:
            return str(error)
        return ""

    def other_error(self, ref: int) -> None:
        """A release or a notification raised: a sender may, but need not, take that for a failure of the room."""
        cause = self.cause_of(None, ref)
        self.answered.any = True
        if cause is not None and self.answered.first is None:
            self.oracle.may_fault(cause)

    def release(self, event: TransferReleased) -> HandleState | None:
        """A handle was released. Returns the state in which it was; None where that is not known."""
        state = self.oracle.state_of(event.handle)
        self.answered.any = True
        self.releases[event.handle] += 1
        if self.releases[event.handle] == 1:
            self.oracle.handle_event(event.handle, HandleEvent.RELEASED, 0.0)
        return None if event.handle in self._uncertain else state

    # -- calls of the caller

    def begin(self, started: CallStarted, now: float) -> None:
        """A call begins."""
        complete = self.complete
        if not self.calls:
            self.settle_between_calls(now)
        else:
            self.circumstance("KS-7.2")
        self.note_truth(now)
        self.calls.append(Bracket(started, complete or self.complete))
        if started.what in HANDS_OVER and not started.misuse:
            self.sent.extend(started.pages)
            self.handed_over = self.handed_over or (started.last and not self.oracle.failed)

    def end(self, ended: CallEnded) -> list[Bracket]:
        """A call ends. Returns the calls that can be judged now: none as long as one of them still runs."""
        done = True
        for bracket in self.calls:
            if bracket.started.seq == ended.of:
                bracket.ended = ended
            done = done and bracket.ended is not None
        if not done:
            return []
        brackets, self.calls = self.calls, []
        return brackets

    def settle_between_calls(self, now: float) -> None:
        """What workers, or calls about other rooms, were answered about this room since its last call."""
        if self.answered.any:
            answered, self.answered = self.answered, Answered()
            self.meanwhile(answered, now, complete=self.complete)

    def meanwhile(self, answered: Answered, now: float, *, complete: bool) -> None:
        """Follow what was answered in no send() and no poll()."""
        if answered.posting is not None or answered.posted:
            breaks = self.posted(answered)
            if breaks is not None:
                self.posted_late = breaks, answered.posts
        if self.oracle.overdue(now) and not complete:
            self.oracle.may_fault(DEADLINE)  # noticed between two checks, it comes before what the second one answers
        if answered.checking is not None:
            self.oracle.observed(answered.checking)
        self.oracle.may_have_completed()

    def posted(self, answered: Answered) -> str | None:
        """Follow what a send(), or a worker, was answered. Returns the clause that posting now breaks.

        Which of several chunks a worker posts does not show: with the last one in its hands, it may be that one. A
        Success that comes too early for it is still found, by the bytes that are missing.
        """
        cause, last = answered.posting, self.handed_over
        if cause is not None:
            what = Input.SEND_REJECTED
        elif answered.posted or (last and self.moves_nothing and not self.oracle.failed):
            what = Input.SEND_LAST_ACCEPTED if last else Input.SEND_ACCEPTED
        else:
            what = Input.SEND_NOTHING
        before = self.oracle.possible
        breaks = self.oracle.take(what, cause)
        if answered.tried_again is not None:
            self.oracle.may_fault(answered.tried_again)
        if answered.refused_again is not None and breaks is None:
            self.oracle.or_failed_by(answered.refused_again, instead_of=cause)
        if what is not Input.SEND_NOTHING and breaks is None:
            self.dropped = tuple(possible for possible in before if possible.state in LATCHED)
        return breaks

    def overlap(self, second: CallStarted) -> None:
        """Another call came while one ran: each may have had its effect first."""
        if second.what in (CallName.ABORT, CallName.CLEAR):
            self.oracle.may_fault(ABORTED)

    def circumstance(self, clause: str) -> None:
        """Something has happened that this clause is about, and that may be why a later answer is wrong."""
        self.contexts.add(clause)
        self.since.add(clause)


def _happened(event: Event) -> HandleEvent | None:
    """What an answer means for the handle; None for one that changes nothing."""
    match event:
        case TransferPosted(answer="PROC"):
            return HandleEvent.ACCEPTED
        case TransferPosted(answer="DONE") | TransferChecked(answer="DONE"):
            return HandleEvent.FINISHED
        case TransferPosted():
            return HandleEvent.REJECTED
        case TransferChecked(answer="PROC"):
            return None
        case _:
            return HandleEvent.RAISED
