"""The composed model: one room id, its sender's logical machine, a physical machine per handle, a caller, a transport.

The sender is the one that the tables describe, acting at once on what it is told. The caller calls in any order: send,
send of the last chunk, poll, failure_exception, abort, clear, and opens the room id again once it is cleared. The
transport lets any handle finish, raise, be rejected at its post, or stay silent, and time may pass at any poll.

The bounds are chunks and peers. A room id that is opened again has the chunks that are left, so every handle of every
incarnation has one place, and late events meet the next incarnation. This module has what a call does to a room;
``explicit.generate`` writes the steps around it as straight-line code, and a test interprets them and compares.

What is left out, on purpose: how many errors of different classes one poll may see (a disconnect with the not-found of
its siblings, or one other error, or a disconnect of all peers), page numbers and bytes, other rooms, and threads.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from kvsender_spec.formal.model.effects import ARRIVE, BLAME, EFFECTS, LEAVE, SAY
from kvsender_spec.formal.model.handles import CREATED, HandleOps
from kvsender_spec.formal.model.state import Act, Action, AtPeer, Bounds, Cause, Control
from kvsender_spec.formal.model.terms import TRUE, Atom, Change, Demand, Is, Map, Same, Set, Term, Var, reduce
from kvsender_spec.formal.rules import Rules
from kvsender_spec.machine import Input, Reply

CALLS: Final = {
    Act.SEND_NOTHING: Input.SEND_NOTHING,
    Act.FAILURE_EXCEPTION: Input.FAILURE_EXCEPTION,
    Act.ABORT: Input.ABORT,
    Act.CLEAR: Input.CLEAR,
}
"""The calls that ask the transport nothing."""
BLAMED: Final = frozenset({Act.ABORT, Act.CLEAR})
"""Those of them in which something goes wrong."""


class Call:
    """A room in the middle of a call.

    ``own`` is what the operations on handles are applied to: the room's own handles, or all codes in their order, which
    makes of it a map that does the same to any handles.
    """

    def __init__(self, rules: Rules, ops: HandleOps, control: Control, own: bytes) -> None:
        self.rules: Final = rules
        self.ops: Final = ops
        self.logical, self.cause = control.logical, control.cause
        self.faulted, self.closed = control.faulted, control.closed
        self.cleared, self.quarantined = control.cleared, control.quarantined
        self.base, self.posted = control.base, control.posted
        self.said, self.told = control.said, control.told
        self.own = own
        self.cause_now = Cause.NONE
        self.adopted = False
        self.error_seen = self.all_done = self.deadline_passed = self.may_report = False
        self.reply = Reply.NOTHING
        self.broken = ""

    @property
    def control(self) -> Control:
        flags = (self.faulted, self.closed, self.cleared, self.quarantined)
        return Control(self.logical, self.cause, *flags, self.base, self.posted, self.said, self.told)

    def take(self, what: Input) -> None:
        """Apply one input: the effects of the row that decides it, in order, then the move and the reply."""
        breaks = self.rules.breaks(self.logical, what)
        if breaks is not None:
            self.broken = self.broken or breaks
            self.reply = Reply.NOTHING
            return
        rows = self.rules.rows_for(self.logical, what)
        row = next(row for row in rows if row.guard is None or self._value(Var(row.guard.value)) is True)
        for effect in row.effects:
            self.change(EFFECTS[effect])
        dest = self.rules.destination(self.logical, row.event)
        assert dest is not None, row  # the tables are well-formed
        self.logical, self.reply = dest, row.reply
        self.change(ARRIVE)

    def blame(self) -> None:
        self.change(BLAME)

    def returns(self) -> bytes:
        """poll() returns. What the handles were when it did."""
        seen = self.own
        self.change(SAY)
        self.change(LEAVE)
        return seen

    def change(self, changes: Iterable[Change]) -> None:
        for change in changes:
            match change:
                case Set(which, value, when):
                    if self.holds(when):
                        setattr(self, which, self._value(value) if isinstance(value, Var) else value)
                case Map(op, _, when):
                    if self.holds(when):
                        self.own = self.own.translate(self.ops[op])
                case Demand(term, clause):
                    if not self.holds(term):
                        self.broken = self.broken or clause

    def holds(self, term: Term) -> bool:
        return reduce(term, self._known) is TRUE

    def _value(self, which: Var) -> object:
        value: object = getattr(self, which)
        return value

    def _known(self, atom: Atom, before: bool) -> bool:
        assert not before, atom
        return decided(atom, self)


def decided(atom: Atom, where: object) -> bool:
    """Whether an atom holds of an object that has the variables as attributes."""
    match atom:
        case Is(which, values):
            value: object = getattr(where, which)
            return value in values
        case Same(left, right):
            first: object = getattr(where, left)
            second: object = getattr(where, right)
            return first == second
        case _:
            raise TypeError(f"{atom} is not about one state's variables")


def posting(action: Action) -> Input:
    """What a send comes to, once it has asked the transport."""
    if action.at is not None:
        return Input.SEND_REJECTED
    return Input.SEND_LAST_ACCEPTED if action.act is Act.SEND_LAST else Input.SEND_ACCEPTED


def chunk(ops: HandleOps, bounds: Bounds, action: Action) -> bytes:
    """The handles that a send makes: all of them before the first is posted; a rejection ends the posting."""
    if not isinstance(action.at, AtPeer):
        return bytes([ops.accepted] * bounds.peers)
    accepted = action.at.peer
    return bytes([ops.accepted] * accepted + [ops.rejected] + [CREATED] * (bounds.peers - accepted - 1))
