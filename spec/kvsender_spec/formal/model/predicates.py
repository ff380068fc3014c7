"""What the composed model must satisfy: the clauses of sections 1 to 6 that a model of one room can state.

A property is judged on one step: the state before, the action, what it came to. It is judged in two halves: what is
decided by everything but the handles, and what is left to be asked of the handles. The division lets the generated
explorer decide the first half while it writes code; the interpreted one asks both at every step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from kvsender_spec.formal.model.handles import DOUBTFUL, HANDLES, IN_FLIGHT, NONE, STRAY, UNSETTLED, codes
from kvsender_spec.formal.model.state import NOBODY, Act, Cause, ModelState, Told
from kvsender_spec.machine import LATCHED, QUIET, RELEASABLE, HandleState, Reply, State


class Control(NamedTuple):
    """A ``ModelState`` without its handles."""

    logical: State
    cause: Cause
    faulted: bool
    closed: bool
    cleared: bool
    quarantined: bool
    base: int
    posted: int
    said: Told
    told: Told

    @classmethod
    def of(cls, state: ModelState) -> Control:
        return cls(
            state.logical,
            state.cause,
            state.faulted,
            state.closed,
            state.cleared,
            state.quarantined,
            state.base,
            state.posted,
            state.said,
            state.told,
        )


class Taken(NamedTuple):
    """One step, without the handles."""

    before: Control
    act: Act
    at: int
    """Whether something raised or was rejected; see ``Action.at``."""
    late: bool
    reply: Reply
    posted: int
    asks: bool
    """The handles were asked, if there were any in flight."""
    after: Control

    @property
    def reports(self) -> bool:
        """This poll answers the room's first terminal value."""
        return self.before.said is Told.NOTHING and self.after.said is not Told.NOTHING


class Seen(NamedTuple):
    """The handles of one step, as codes."""

    before: bytes
    """The room's own, before."""
    reply: bytes
    """The room's own, when the reply was given."""


_BEFORE, _REPLY = range(2)


class Where(NamedTuple):
    """A condition on handles: no code of ``seen`` is one of ``never``."""

    seen: int
    """Which field of ``Seen``."""
    never: bytes

    def holds(self, seen: Seen) -> bool:
        handles = seen[self.seen]
        return len(handles.translate(None, self.never)) == len(handles)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a step still owes, once its control is known.

    It is broken where all ``premises`` hold of its handles, and it is ``broken`` as it stands or one of ``conditions``
    does not hold.
    """

    broken: bool = False
    premises: tuple[Where, ...] = ()
    conditions: tuple[Where, ...] = ()

    def breaks(self, seen: Seen) -> bool:
        return all(premise.holds(seen) for premise in self.premises) and (
            self.broken or not all(condition.holds(seen) for condition in self.conditions)
        )


FINE: Final = Verdict()
BROKEN: Final = Verdict(broken=True)


@dataclass(frozen=True, slots=True)
class Property:
    """``judge`` says of a step what its handles must be like; FINE and BROKEN where that does not depend on them."""

    clause: str
    text: str
    judge: Callable[[Taken], Verdict]


def _decided(*, holds: bool) -> Verdict:
    return FINE if holds else BROKEN


_ALL: Final = bytes(range(STRAY + 1))
_NOT_DONE: Final = bytes(set(_ALL) - set(codes(HandleState.DONE)) - {NONE})
_NOT_QUIET: Final = bytes(set(_ALL) - set(codes(*QUIET)) - {NONE})
_OPEN: Final = bytes(set(_ALL) - set(codes(*(RELEASABLE | QUIET))) - {NONE})
"""Not settled."""
_UNANSWERED: Final = bytes(
    code
    for code, handle in enumerate(HANDLES, 1)
    if handle.state is not HandleState.DONE and not (handle.state is HandleState.IN_FLIGHT and handle.landed)
) + bytes([STRAY])
"""Handles that would not all answer DONE if they were asked now."""
_RELEASED_EARLY: Final = bytes(code for code, handle in enumerate(HANDLES, 1) if handle.released and code in UNSETTLED)
_HELD_SETTLED: Final = bytes(
    code for code, handle in enumerate(HANDLES, 1) if not handle.released and handle.state in RELEASABLE
)


def _catch_set(step: Taken) -> Verdict:
    return _decided(holds=step.act is Act.SWEEP or step.at == NOBODY or step.act is Act.FINISH or _latched(step.after))


def _latched(control: Control) -> bool:
    return control.logical in LATCHED


def _sticky(step: Taken) -> Verdict:
    after = step.after
    apart = (after.logical is State.STICKY_FAILED) == (after.said is Told.FAILURE)
    apart = apart and (after.logical is State.DONE) == (after.said is Told.SUCCESS)
    if step.act is not Act.POLL or step.before.said is Told.NOTHING:
        return _decided(holds=apart)
    said = Reply.SUCCESS if step.before.said is Told.SUCCESS else Reply.FAILED
    return _decided(holds=apart and step.reply is said)


def _no_success_after_fail(step: Taken) -> Verdict:
    return _decided(holds=not (step.reply is Reply.SUCCESS and step.after.faulted))


def _first_cause(step: Taken) -> Verdict:
    return _decided(holds=not _latched(step.after) or (step.after.cause is Cause.FIRST and step.after.faulted))


def _repeatable(step: Taken) -> Verdict:
    kept = step.act is Act.OPEN or step.before.cause in (Cause.NONE, step.after.cause)
    return _decided(holds=kept)


def _send_is_noop(step: Taken) -> Verdict:
    return _decided(holds=step.posted == 0 or not (step.before.faulted or step.before.closed))


def _no_requery(step: Taken) -> Verdict:
    return _decided(holds=not (step.act is Act.POLL and step.before.said is Told.FAILURE and step.asks))


def _not_failed(step: Taken) -> Verdict:
    if step.act is not Act.FAILURE_EXCEPTION:
        return FINE
    reply = Reply.RAISES_CAUSE if step.before.faulted else Reply.RAISES_USAGE
    return _decided(holds=step.reply is reply and step.after == step.before)


def _no_false_success(step: Taken) -> Verdict:
    if step.reply is not Reply.SUCCESS:
        return FINE
    return Verdict(conditions=(Where(_REPLY, _NOT_DONE),))


def _no_empty_success(step: Taken) -> Verdict:
    return _decided(holds=step.reply is not Reply.SUCCESS or step.before.closed)


def _terminates(step: Taken) -> Verdict:
    over = step.before.closed or step.after.faulted
    if step.act is not Act.POLL or not over or step.after.said is not Told.NOTHING:
        return FINE
    return Verdict(broken=True, premises=(Where(_REPLY, _OPEN),))


def _begun(step: Taken) -> Verdict:
    """What idle and sending mean."""
    after, live = step.after, step.after.logical in (State.IDLE, State.SENDING)
    return _decided(holds=not live or (after.logical is State.SENDING) == (after.posted > after.base))


def _complete(step: Taken) -> Verdict:
    """Everything has finished, whether the sender has asked or not: this poll answers Success."""
    undecided = step.before.said is Told.NOTHING and not step.before.faulted and step.before.closed
    if step.act is not Act.POLL or not undecided or step.reply is Reply.SUCCESS:
        return FINE
    return Verdict(broken=True, premises=(Where(_BEFORE, _UNANSWERED),))


def _no_false_fail(step: Taken) -> Verdict:
    if step.reply is Reply.FAILED and not step.after.faulted:
        return BROKEN
    return _complete(step) if step.late else FINE


def _order_independent(step: Taken) -> Verdict:
    return FINE if step.late else _complete(step)


def _quiesce(step: Taken) -> Verdict:
    if not step.reports:
        return FINE
    in_flight = Where(_REPLY, IN_FLIGHT)
    return Verdict(conditions=(in_flight,) if step.after.quarantined else (in_flight, Where(_REPLY, _NOT_QUIET)))


def _no_leak(step: Taken) -> Verdict:
    if step.act is not Act.POLL or not step.asks:
        return FINE
    return Verdict(conditions=(Where(_REPLY, _HELD_SETTLED),))


def _in_doubt(step: Taken) -> Verdict:
    if not step.reports or step.after.quarantined:
        return FINE
    return Verdict(conditions=(Where(_REPLY, DOUBTFUL),))


def _abort(step: Taken) -> Verdict:
    if step.act is not Act.ABORT:
        return FINE
    over = step.before.said is not Told.NOTHING or step.before.faulted
    return _decided(holds=step.after == step.before if over else _latched(step.after))


def _clear(step: Taken) -> Verdict:
    if step.act is not Act.CLEAR:
        return FINE
    over = step.before.said is not Told.NOTHING or step.before.faulted
    cleared = step.before._replace(cleared=True)
    return _decided(holds=step.after == cleared if over else _latched(step.after) and step.after.cleared)


def _no_resurrect(step: Taken) -> Verdict:
    return _decided(holds=step.act not in (Act.FINISH, Act.SWEEP) or step.after == step.before)


def _room_isolation(step: Taken) -> Verdict:
    posted = step.before.posted
    unused = (False, False, False, False)
    fresh = Control(State.IDLE, Cause.NONE, *unused, posted, posted, Told.NOTHING, Told.NOTHING)
    return _decided(holds=step.act is not Act.OPEN or step.after == fresh)


def _notify(step: Taken) -> Verdict:
    return _decided(holds=step.after.told is step.after.said)


PROPERTIES: Final = (
    Property("KS-1.2", "an error answered to a post or a check leads to failed or sticky_failed", _catch_set),
    Property(
        "KS-2.1", "the first terminal poll() is the last one; sticky_failed is failed and told, done is told", _sticky
    ),
    Property("KS-2.2", "no Success after a fault", _no_success_after_fail),
    Property("KS-2.3", "in failed and sticky_failed the first cause is latched", _first_cause),
    Property("KS-2.4", "a latched cause stays until the room id is opened again", _repeatable),
    Property("KS-2.5", "nothing is posted after a fault or after the last chunk", _send_is_noop),
    Property("KS-2.6", "poll() in sticky_failed asks nothing", _no_requery),
    Property("KS-2.7", "failure_exception() raises the cause after a fault, a usage error otherwise", _not_failed),
    Property("KS-3.1", "Success only when every handle is DONE", _no_false_success),
    Property("KS-3.3", "Success only after the last chunk", _no_empty_success),
    Property("KS-3.3", "a room is in idle until its first chunk is posted, and in sending from then on", _begun),
    Property(
        "KS-3.4", "poll() is terminal once the room is closed or faulted and every handle has settled", _terminates
    ),
    Property("KS-3.5", "Failed only after a fault, and a completion that is there beats a deadline", _no_false_fail),
    Property("KS-3.6", "once everything has finished, in whatever order, poll() answers Success", _order_independent),
    Property("KS-4.1", "at a terminal poll() nothing is in flight, and what is not quiet is quarantined", _quiesce),
    Property("KS-4.3", "a poll() that asks releases what has settled", _no_leak),
    Property("KS-4.4", "a rejected post or an unsettled handle at the report is quarantined", _in_doubt),
    Property("KS-5.1", "abort() fails a live room and changes no other", _abort),
    Property("KS-5.2", "clear() fails a live room and changes no other", _clear),
    Property("KS-5.3", "late events change nothing but handles", _no_resurrect),
    Property("KS-5.4", "a room id that is opened again begins as if it had never been used", _room_isolation),
    Property("KS-6.1", "peers are told what the owner is told, once", _notify),
)
STATE_PROPERTIES: Final = (
    ("KS-4.2", "no handle is released before it has settled", _RELEASED_EARLY),
    ("KS-4.3", "no handle is lost, and none is used after its release", bytes([STRAY])),
)
"""Clause, text, and the codes that no handle of any reachable state has."""
UNDECIDED: Final = "every input is decided, and every word to a peer is said once"
"""The text for a step that breaks a clause by itself."""
