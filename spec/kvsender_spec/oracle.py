"""What the specification allows next, given what was seen of one room.

The oracle drives the machines of the spec: one physical machine per handle, fed with what the transport answered *the
sender*, and the logical machine of the room. It keeps a set of possible states, because the contract leaves a sender
some freedom in time: a completion, a deadline, the end of a drain may be noticed late. They may never be noticed early,
and the end of a run bounds how late. Where the set is empty the sender has left the specification.
"""

from __future__ import annotations

from enum import Enum
from math import inf
from typing import Final, TypeAlias

import msgspec

from kvsender_spec.contract import KVPoll
from kvsender_spec.history.events import ErrorSeen
from kvsender_spec.live_machines import ForbiddenInput, SpecHandle, SpecRoom
from kvsender_spec.machine import (
    LATCHED,
    QUIESCED,
    RELEASABLE,
    Effect,
    Guard,
    HandleEvent,
    HandleState,
    Input,
    Reply,
    Row,
    State,
)


class CauseKind(Enum):
    RAISED = "raised"
    RETURNED = "returned"
    """The transport returned a string that means failure; there is no exception object."""
    INTERNAL = "internal"
    """An error that is not the transport's."""
    ABORTED = "aborted"
    DEADLINE = "deadline"
    PEER_LOST = "peer lost"
    """The peer is gone, or is another process now, to which the page ids that this room was given mean nothing."""
    TARGET_ABORTED = "given up by the target"
    GRANT_ENDED = "grant ended"
    """What the room reads is another request's by now: the holder has refilled the pages that it granted."""
    UNKNOWN = "unknown"
    """The sender left the specification, or events were lost: any cause fits."""


class Cause(msgspec.Struct, frozen=True):
    """Why a room has failed. ``error`` is the object for RAISED and INTERNAL, ``text`` the string for RETURNED."""

    kind: CauseKind
    error: ErrorSeen | None = None
    text: str = ""

    def __str__(self) -> str:
        return str(self.error) if self.error is not None else self.text or self.kind.value


ABORTED: Final = Cause(CauseKind.ABORTED)
DEADLINE: Final = Cause(CauseKind.DEADLINE)
PEER_LOST: Final = Cause(CauseKind.PEER_LOST)
TARGET_ABORTED: Final = Cause(CauseKind.TARGET_ABORTED)
GRANT_ENDED: Final = Cause(CauseKind.GRANT_ENDED)
UNKNOWN: Final = Cause(CauseKind.UNKNOWN)


class Possible(msgspec.Struct, frozen=True):
    """One state that the room may be in."""

    state: State
    cause: Cause | None = None

    def then(self, state: State, cause: Cause | None, *, latches: bool) -> Possible:
        """What it becomes. A first cause stays."""
        latched = cause if latches and self.cause is None else self.cause
        return self if state is self.state and latched is self.cause else Possible(state, latched)

    def __str__(self) -> str:
        return self.state.value if self.cause is None else f"{self.state.value} ({self.cause})"


_REPLIES: Final = {
    Reply.WAITING: frozenset({KVPoll.Bootstrapping, KVPoll.WaitingForInput, KVPoll.Transferring}),
    # SGLang's inline senders answer WaitingForInput while they transfer, its later ones Transferring: the contract
    # tells apart only what a caller acts on.
    Reply.TRANSFERRING: frozenset({KVPoll.Bootstrapping, KVPoll.WaitingForInput, KVPoll.Transferring}),
    Reply.SUCCESS: frozenset({KVPoll.Success}),
    Reply.FAILED: frozenset({KVPoll.Failed}),
}


_NOTHING: Final[frozenset[Guard]] = frozenset()
_ERROR_SEEN: Final = frozenset({Guard.ERROR_SEEN})
_MAY_REPORT: Final = (frozenset({Guard.MAY_REPORT}), _NOTHING)


def _views(error: bool, all_done: bool, late: bool) -> tuple[frozenset[Guard], ...]:
    """What a sender may know in a poll() in which a check raised, all is done or a deadline has passed.

    It may take a few polls to notice what is there. And a sender may report before its handles have settled, if it
    quarantines their pages (KS-4.1).
    """
    certain = _ERROR_SEEN if error else _NOTHING
    there = {Guard.ALL_DONE: all_done, Guard.DEADLINE_PASSED: late}
    noticed = certain | {guard for guard, holds in there.items() if holds}
    seen = (noticed,) if noticed == certain else (noticed, certain)
    return tuple(facts | reports for facts in seen for reports in _MAY_REPORT)


_KNOWN: Final[dict[tuple[State, Input, frozenset[Guard]], tuple[State, Row]]] = {}
"""What the live machine has answered: it depends on nothing else, so that each case is asked once."""


def _taken(source: State, what: Input, facts: frozenset[Guard]) -> tuple[State, Row]:
    """Where the live machine goes, and by which row; raises ForbiddenInput where it must not."""
    found = _KNOWN.get((source, what, facts))
    if found is None:
        room = SpecRoom(facts.__contains__)
        room.place(source)
        row = room.take(what)
        found = _KNOWN[source, what, facts] = room.state, row
    return found


def _stepped(possible: Possible, what: Input, cause: Cause | None, facts: frozenset[Guard] = _NOTHING) -> Possible:
    state, row = _taken(possible.state, what, facts)
    return possible.then(state, cause, latches=Effect.LATCH in row.effects)


_Facts: TypeAlias = tuple[bool, bool, bool]
"""In a poll(): a check raised, all is done, a deadline has passed."""
_AFTER_POLL: Final[dict[tuple[State, _Facts, KVPoll], tuple[tuple[State, bool], ...]]] = {}
"""Like ``_KNOWN``, for the two inputs that a poll() is."""


def _after_poll(source: State, facts: _Facts, value: KVPoll) -> tuple[tuple[State, bool], ...]:
    """The states that a room may be in after a poll() with this answer, each with whether it latches a cause."""
    found = _AFTER_POLL.get((source, facts, value))
    if found is None:
        after: dict[tuple[State, bool], None] = {}
        for view in _views(*facts):
            observed, row = _taken(source, Input.OBSERVE, view)
            state, answer = _taken(observed, Input.ANSWER, view)
            if value in _REPLIES[answer.reply]:
                after[state, Effect.LATCH in row.effects] = None
        found = _AFTER_POLL[source, facts, value] = tuple(after)
    return found


_HANDLE_MOVED: Final[dict[tuple[HandleState, HandleEvent], HandleState]] = {}


class TrackedHandle:
    """The state of one handle; every move is one of the physical machine of the spec."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state = HandleState.CREATED

    def fire(self, event: HandleEvent) -> HandleState:
        """Move; raises MachineError, without moving, where the table says never."""
        known = _HANDLE_MOVED.get((self.state, event))
        if known is None:
            machine = SpecHandle()
            machine.place(self.state)
            known = _HANDLE_MOVED[self.state, event] = machine.fire(event)
        self.state = known
        return known


class RoomOracle:
    """Follows one room. All times are seconds of the clock that the sender was given."""

    def __init__(self, transfer_timeout_s: float) -> None:
        self._transfer_timeout_s = transfer_timeout_s
        self.possible: tuple[Possible, ...] = (Possible(State.IDLE),)
        self.live = True
        """The room may still be in idle or sending."""
        self.failed = False
        """The room has failed, whatever the sender has noticed."""
        self.handles: dict[int, TrackedHandle] = {}
        self._undone = 0
        """How many handles are in another state than DONE."""
        self.posted_at: dict[int, float] = {}
        self._first_deadline = inf
        """Before that no handle can be overdue."""
        self._standing: list[Cause] = []
        self.closed = False
        """The last chunk is posted."""

    # -- facts

    def adopt(self, handle: int) -> None:
        """The transport has made a handle for this room."""
        before = self.handles.get(handle)
        self._undone += before is None or before.state is HandleState.DONE
        self.handles[handle] = TrackedHandle()

    def handle_event(self, handle: int, event: HandleEvent, now: float) -> HandleState:
        """What the transport told the sender about a handle. A pair that never happens leaves it as it was."""
        machine = self.handles[handle]
        if event is HandleEvent.ACCEPTED:
            self.posted_at[handle] = now
            self._first_deadline = min(self._first_deadline, now + self._transfer_timeout_s)
        before = machine.state
        after = machine.fire(event)
        self._undone += (before is HandleState.DONE) - (after is HandleState.DONE)
        return after

    def state_of(self, handle: int) -> HandleState:
        return self.handles[handle].state

    @property
    def all_done(self) -> bool:
        return self.closed and self.drained

    @property
    def drained(self) -> bool:
        """Every transfer is done: nothing reads the room's pages any more."""
        return self._undone == 0

    @property
    def all_settled(self) -> bool:
        return all(machine.state in RELEASABLE or machine.state in QUIESCED for machine in self.handles.values())

    def overdue(self, now: float) -> bool:
        """A handle that is still in flight, as far as the sender was told, has had the whole transfer timeout."""
        return now >= self._first_deadline and any(
            machine.state is HandleState.IN_FLIGHT and now - self.posted_at[handle] >= self._transfer_timeout_s
            for handle, machine in self.handles.items()
        )

    @property
    def unexplained(self) -> bool:
        """The room has failed, and nothing that was seen says why."""
        return all(possible.cause is UNKNOWN for possible in self.possible)

    @property
    def may_fail_unseen(self) -> bool:
        """What would make the room fail may be what was not seen."""
        return UNKNOWN in self._standing

    # -- moves

    def take(self, what: Input, cause: Cause | None = None) -> str | None:
        """A call without a choice of replies. Returns the clause that it breaks, or None."""
        survivors: list[Possible] = []
        breaks: str | None = None
        for possible in self.possible:
            try:
                survivors.append(_stepped(possible, what, cause))
            except ForbiddenInput as forbidden:
                breaks = forbidden.breaks
        if not survivors:
            return breaks
        self.keep(survivors)
        if what is Input.SEND_LAST_ACCEPTED:
            self.closed = True
        return None

    def may_fault(self, cause: Cause, *, from_now_on: bool = False) -> None:
        """An error that a sender may, but need not, take for a failure of the room.

        A release or a notification that raised is one. A peer that is gone is another: the sender may know it from
        another room, and fail this one without asking the transport, at any time ``from_now_on``.
        """
        if from_now_on and cause not in self._standing:
            self._standing.append(cause)
        self.keep([*self.possible, Possible(State.FAILED, cause)] if self.live else list(self.possible))

    def observed(self, error: Cause) -> None:
        """A worker was given an error by a check, while no call of the caller's was under way."""
        self.keep([_stepped(possible, Input.OBSERVE, error, _ERROR_SEEN) for possible in self.possible])

    def may_have_completed(self) -> None:
        """A worker notices that the room is complete without being polled, and what comes after that is too late."""
        if self.all_done:
            done = [Possible(State.DONE) for possible in self.possible if possible.state is State.SENDING]
            self.keep([*self.possible, *done])

    def or_failed_by(self, cause: Cause, *, instead_of: Cause | None) -> None:
        """Either of two errors may be the one that the room has failed with."""
        others = [Possible(possible.state, cause) for possible in self.possible if possible.cause is instead_of]
        self.keep([*self.possible, *(other for other in others if other.state in LATCHED)])

    def polled(self, value: KVPoll, error: Cause | None, now: float, *, completion_is_there: bool) -> bool:
        """Whether the answer is one that the spec allows; the set of possible states follows it if so.

        ``error`` is what a check answered during this poll. ``completion_is_there``: every handle has finished,
        whether the sender has asked or not, so that a deadline must not win (KS-3.5).
        """
        late = self.overdue(now) and not completion_is_there
        facts = (error is not None, self.all_done, late)
        survivors = [
            possible.then(state, error or DEADLINE, latches=latches)
            for possible in self.possible
            for state, latches in _after_poll(possible.state, facts, value)
        ]
        if not survivors:
            return False
        if survivors != list(self.possible):
            self.keep(survivors)
        return True

    def follow(self, value: KVPoll) -> None:
        """Become what the sender has answered although the specification does not allow it.

        A cause that is known stays; without one, any cause fits from now on.
        """
        causes = [possible.cause for possible in self.possible if possible.cause is not None]
        if value is KVPoll.Success:
            states = [Possible(State.DONE)]
        elif value is KVPoll.Failed:
            states = [Possible(State.STICKY_FAILED, cause) for cause in causes or [UNKNOWN]]
        else:
            states = [Possible(State.IDLE), Possible(State.SENDING)]
            states += [Possible(State.FAILED, cause) for cause in causes]
        self._standing.clear()
        self.keep(states)

    def faulted(self, cause: Cause) -> None:
        """A fault has happened that the sender has not dealt with: the room owes a Failed with this cause."""
        latched = [possible for possible in self.possible if possible.state in LATCHED]
        self.keep(latched or [Possible(State.FAILED, cause)])

    def widen(self) -> None:
        """Nothing is known any more: every state and every cause is possible, now and later."""
        self.may_fault(UNKNOWN, from_now_on=True)
        everything = [Possible(state, UNKNOWN if state in LATCHED else None) for state in State]
        self.keep([*self.possible, *everything])

    def keep(self, survivors: list[Possible]) -> None:
        """These states remain, and what may befall them at any time."""
        states = [possible.state for possible in survivors]
        self.live = State.IDLE in states or State.SENDING in states
        if self.live and self._standing:
            survivors = [*survivors, *(Possible(State.FAILED, cause) for cause in self._standing)]
        self.failed = not self.live and LATCHED.issuperset(states)
        unique: list[Possible] = []
        for possible in survivors:
            if possible not in unique:
                unique.append(possible)
        self.possible = tuple(unique)
