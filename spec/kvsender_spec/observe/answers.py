"""One call of the caller that came back: what it says of the room, and what was known before it.

Nothing here says which clause an answer breaks, but for what the tables of the machine say of a post.
"""

from __future__ import annotations

from typing import Final

import msgspec

from kvsender_spec.contract import Attribution, KVPoll
from kvsender_spec.history.events import CallEnded, CallStarted, ErrorSeen
from kvsender_spec.history.words import HANDS_OVER, CallName, Origin
from kvsender_spec.machine import LATCHED, Input, State
from kvsender_spec.observe.bracket import Answered, Bracket
from kvsender_spec.observe.causes import attribution_of, chain, matches, refs
from kvsender_spec.observe.room import RoomView
from kvsender_spec.oracle import ABORTED, DEADLINE, UNKNOWN, Cause, CauseKind, Possible

_GIVING_UP: Final = {CallName.ABORT: "KS-5.1", CallName.CLEAR: "KS-5.2"}


class Answer(msgspec.Struct, eq=False):
    """What checkers read of a call that came back."""

    room: RoomView
    started: CallStarted
    ended: CallEnded
    answered: Answered
    error: ErrorSeen | None
    before: tuple[Possible, ...]
    was_terminal: KVPoll | None
    was_failed: bool
    idle: bool
    """Before it nothing was in flight, and the last chunk was not posted."""
    complete: bool
    overlapped: bool
    value: KVPoll | None = None
    allowed: bool = True
    breaks: str | None = None
    """The clause that the table names for what a send() did."""
    first_terminal: bool = False
    latched: tuple[Possible, ...] = ()
    """failure_exception(): the states in which it has."""
    matching: Possible | None = None
    """failure_exception(): the state whose cause was raised."""
    cause_at_stake: bool = False
    """failure_exception(): the first one since an abort() of a room that had failed already."""
    shown_before: tuple[str, str] | None = None
    untold: bool = False
    """Whether the answer is right depends on what may not have been seen."""
    confirms: frozenset[str] = frozenset()
    """Circumstances since the last allowed answer, which an allowed one shows to have changed nothing."""

    @property
    def went_through(self) -> bool:
        """The call raised an error of the program's own that the transport has answered meanwhile, about any room."""
        first, error = self.answered.first, self.error
        if error is None or error.origin in (Origin.BASE, Origin.TRANSPORT, Origin.REFUSED):
            return False
        known = None if first is None or first.kind is not CauseKind.INTERNAL else first.error
        own = known is not None and known.ref == error.ref
        return own or self.room.raised.get(error.ref) == self.started.seq

    @property
    def overlooked(self) -> bool:
        """failure_exception(): the sender says that the room has not failed, and has never said that it has, although
        the transport answered an error."""
        says_not = self.error is not None and self.error.origin is Origin.USAGE
        causes = [possible.cause for possible in self.latched]
        answered = all(cause is not None and cause.kind in (CauseKind.RAISED, CauseKind.RETURNED) for cause in causes)
        return says_not and answered and self.was_terminal is None and self.shown_before is None

    @property
    def later(self) -> bool:
        """What failure_exception() raised is a later error of the room's, in the place of the first one.

        An abort() or clear() after the first one is one, if the sender says that the caller is the cause.
        """
        if self.error is None:
            return False
        if "KS-5.1" in self.room.contexts and self.ended.attribution == Attribution.CALLER.value:
            return True
        links = chain(self.error, self.room.errors)
        returned = [fault.text for fault in self.room.faults[1:] if fault.kind is CauseKind.RETURNED]
        return links[-1].ref in refs(self.room.faults) or any(text in link.text for text in returned for link in links)

    @property
    def name(self) -> str:
        return f"{self.started.what.value}()"

    @property
    def wanted(self) -> str:
        return "one of " + ", ".join(map(str, self.before))


def conclude(room: RoomView, bracket: Bracket, answered: Answered, now: float, *, overlapped: bool) -> Answer:
    """Follow one call that came back."""
    ended = bracket.ended
    assert ended is not None
    answer = Answer(
        room,
        bracket.started,
        ended,
        answered,
        None if ended.error is None else room.errors.get(ended.error),
        before=room.oracle.possible,
        was_terminal=room.terminal,
        was_failed=room.oracle.failed,
        idle=room.idle,
        complete=bracket.complete,
        overlapped=overlapped,
        shown_before=room.shown,
    )
    what = bracket.started.what
    if what is CallName.FAILURE_EXCEPTION:
        _failure(answer)
    elif bracket.started.misuse:
        room.circumstance("KS-8.1")
        _looked(answer, now)
    elif answer.error is not None:
        _escaped(answer, answer.error)
    else:
        _returned(answer, now)
    return answer


def in_order(brackets: list[Bracket]) -> list[Bracket]:
    """What a send() has posted counts for a poll() beside it; of two polls the one that ended the room comes last."""
    if len(brackets) < 2:
        return brackets
    first, second = brackets
    polls = first.started.what is CallName.POLL and second.started.what is CallName.POLL
    ends = second.ended is not None and second.ended.value in ("Failed", "Success")
    swapped = second.started.what in HANDS_OVER or (polls and not ends)
    return [second, first] if swapped else [first, second]


def _escaped(answer: Answer, error: ErrorSeen) -> None:
    room = answer.room
    answer.allowed = False
    if answer.started.what in _GIVING_UP:
        room.circumstance(_GIVING_UP[answer.started.what])
    room.abandoned = error.origin is Origin.BASE or answer.went_through
    room.oracle.faulted(answer.answered.first or Cause(CauseKind.RAISED, error))


def _returned(answer: Answer, now: float) -> None:
    room, answered, what = answer.room, answer.answered, answer.started.what
    oracle = room.oracle
    if what in _GIVING_UP and answered.checking is not None:
        oracle.may_fault(answered.checking)  # it may have looked before it gave the room up, or after
    if what not in HANDS_OVER and (answered.posted or answered.posting is not None):
        room.meanwhile(answered, now, complete=answer.complete)
    match what:
        case CallName.SEND | CallName.READ:
            answer.breaks = room.posted(answered)
            _looked(answer, now)
        case CallName.POLL:
            _polled(answer, now)
        case CallName.ABORT:
            _noticed(answer, now)
            room.cause_at_stake = room.cause_at_stake or oracle.failed
            _given_up(room, "KS-5.1")
            oracle.take(Input.ABORT, ABORTED)
        case CallName.TARGET_ABORTS:
            _noticed(answer, now)
            room.target_aborted(answer.started.peer)
        case CallName.CLEAR:
            _noticed(answer, now)
            _given_up(room, "KS-5.2")
            oracle.take(Input.CLEAR, ABORTED)
            room.cleared = True
            room.contexts.add("KS-5.2")
        case _:
            _looked(answer, now)


def _looked(answer: Answer, now: float) -> None:
    """A call may look at the transfers, and latch an error that it finds."""
    if answer.answered.checking is not None:
        answer.room.oracle.observed(answer.answered.checking)
    _noticed(answer, now)


def _noticed(answer: Answer, now: float) -> None:
    """A passed deadline and the end of the last transfer may be noticed in whatever call or thread.

    A send() that asks about no transfer notices no deadline, or it would not have posted; one that is a mistake of the
    caller's posts nothing anyhow.
    """
    oracle = answer.room.oracle
    looked = answer.started.what in _GIVING_UP or answer.answered.checks > 0 or answer.started.misuse != ""
    if looked and oracle.overdue(now) and not answer.complete:
        oracle.may_fault(DEADLINE)
    oracle.may_have_completed()


def _given_up(room: RoomView, clause: str) -> None:
    """abort() or clear(). Of a live room it is a failure like others; of one that is decided it changes nothing."""
    room.since.add(clause)
    if any(possible.state not in (State.IDLE, State.SENDING) for possible in room.oracle.possible):
        room.contexts.add("KS-5.1")


def _polled(answer: Answer, now: float) -> None:
    room = answer.room
    answer.value = value = KVPoll[answer.ended.value or "Bootstrapping"]
    # What a post in this very call has changed is allowed for in what was known before it.
    answer.before = room.oracle.possible
    answer.allowed = room.oracle.polled(value, answer.answered.first, now, completion_is_there=answer.complete)
    room.complete = False
    if not answer.allowed and value is KVPoll.Failed and room.dropped:
        # It had failed before its last send(), and posted all the same.
        answer.breaks = "KS-2.5"
        room.oracle.keep(list(room.dropped))
    answer.first_terminal = value.terminal and room.terminal is None
    if answer.allowed:
        answer.confirms = frozenset(room.since)
        room.since.clear()


def follow(answer: Answer) -> None:
    """After the checkers: the view follows the sender, also where the specification does not."""
    room, value = answer.room, answer.value
    room.posted_late = None
    if value is None:
        return
    if not answer.allowed:
        room.oracle.follow(value)
        room.since.clear()
    if value.terminal or not answer.allowed:
        room.terminal = value if value.terminal else None
    if value.terminal:
        room.dropped = ()  # what it says from now on shows nothing about the time before


def _dropped(answer: Answer, error: ErrorSeen | None) -> tuple[Possible, ...]:
    """The states of a room that had failed before its last send(), which posted all the same, if it says so itself:
    what it raises has the cause, and who caused it."""
    room, said = answer.room, answer.ended.attribution
    links = [] if error is None else chain(error, room.errors)
    fitting = [possible for possible in room.dropped if links and matches(links, possible, room.faults)]
    found = tuple(p for p in fitting if (who := attribution_of(p)) is not None and who.value == said)
    if found:
        answer.breaks = "KS-2.5"
        room.oracle.keep(list(found))
    return found


def _failure(answer: Answer) -> None:
    room, error = answer.room, answer.error
    states = room.oracle.possible
    live = [possible for possible in states if possible.state not in LATCHED]
    answer.latched = tuple(possible for possible in states if possible.state in LATCHED)
    if error is not None and error.origin is Origin.USAGE and live:
        room.circumstance("KS-2.7")
        room.oracle.keep(live)
        return
    if live and room.oracle.may_fail_unseen:
        answer.untold = True
        return
    if not answer.latched:
        answer.latched = _dropped(answer, error)
    if not answer.latched:
        answer.allowed = False
        return
    answer.cause_at_stake, room.cause_at_stake = room.cause_at_stake, False
    links = [] if error is None else chain(error, room.errors)
    fitting = [possible for possible in answer.latched if links and matches(links, possible, room.faults)]
    # Where several causes fit what was raised, the sender's own word decides which one it is: one that it names,
    # or else one that may be anybody's.
    said = answer.ended.attribution
    open_to_it = [p for p in fitting if attribution_of(p) is None]
    named = [p for p in fitting if (who := attribution_of(p)) is not None and who.value == said]
    answer.matching = next(iter((*named, *open_to_it, *fitting)), None)
    if answer.matching is not None and answer.matching.cause is UNKNOWN and room.oracle.may_fail_unseen:
        answer.untold = True
        return
    if error is None or answer.matching is None:
        answer.allowed = False
        return
    room.oracle.keep([answer.matching])
    room.shown = (error.type, error.text)
    if live:
        room.circumstance("KS-2.7")
