"""The composed model: one room id, its sender's logical machine, a physical machine per handle, an owner, a transport.

The sender is the one that the tables describe, acting at once on what it is told. The owner calls in any order: send,
send of the last chunk, poll, failure_exception, abort, clear, and opens the room id again once it is cleared. The
transport lets any handle finish, raise, be rejected at its post, or stay silent, and time may pass at any poll.

The bounds are chunks and peers. A room id that is opened again has the chunks that are left, so every handle of every
incarnation has one place, and late events meet the next incarnation. This module *interprets* the tables; ``generate``
writes the same steps as straight-line code, and a test compares the two edge by edge.

What is left out, on purpose: how many errors of different classes one poll may see (a disconnect with the not-found of
its siblings, or one other error, or a disconnect of all peers), page numbers and bytes, other rooms, and threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, assert_never

from kvsender_spec.formal.model.calls import Call
from kvsender_spec.formal.model.effects import BLAMES, OPEN
from kvsender_spec.formal.model.handles import CREATED, IN_FLIGHT, KINDS, SILENT, STRAY, Kind, Op, handle_ops
from kvsender_spec.formal.model.state import (
    Act,
    Action,
    AtHandle,
    AtPeer,
    Bounds,
    ModelState,
    Outcome,
    troubles,
    victims,
)
from kvsender_spec.formal.rules import Rules
from kvsender_spec.machine import Guard, Input, Reply

CALLS: Final = {
    Act.SEND_NOTHING: Input.SEND_NOTHING,
    Act.FAILURE_EXCEPTION: Input.FAILURE_EXCEPTION,
    Act.ABORT: Input.ABORT,
    Act.CLEAR: Input.CLEAR,
}
"""The calls that ask the transport nothing."""
BLAMED: Final = frozenset({Act.ABORT, Act.CLEAR})
"""Those of them in which something goes wrong."""


class Model:
    """The steps of one set of rules at one bound."""

    def __init__(self, rules: Rules, bounds: Bounds) -> None:
        self.rules: Final = rules
        self.bounds: Final = bounds
        self.ops: Final = handle_ops(rules)

    def own(self, state: ModelState) -> bytes:
        """The handles of this incarnation of the room id."""
        return state.handles[state.control.base * self.bounds.peers :]

    def actions(self, state: ModelState) -> Iterator[Action]:
        """Everything that may happen next."""
        control = state.control
        for place, code in enumerate(state.handles):
            if code in SILENT:
                yield Action(Act.FINISH, AtHandle(place))
        # The owner has a chunk, and the sender hands it to the transport: otherwise send() asks for nothing.
        if not control.closed and control.posted < self.bounds.chunks and self.rules.posts(control.logical):
            ways = (None, *map(AtPeer, range(self.bounds.peers)))
            if control.posted + 1 < self.bounds.chunks:
                yield from (Action(Act.SEND, at) for at in ways)
            yield from (Action(Act.SEND_LAST, at) for at in ways)
        yield Action(Act.SEND_NOTHING)
        yield from self._polls(state)
        yield from (Action(act) for act in (Act.FAILURE_EXCEPTION, Act.ABORT, Act.CLEAR))
        if control.cleared and control.posted < self.bounds.chunks:
            yield Action(Act.OPEN)
        handles = state.handles[: control.swept * self.bounds.peers]
        if any(code in self.ops.due for code in handles):
            yield from (Action(Act.SWEEP, at) for at in troubles(handles, 0, self.bounds.peers))

    def _polls(self, state: ModelState) -> Iterator[Action]:
        """A deadline is tried where a row depends on it, a drain where the answer does."""
        own, logical = self.own(state), state.control.logical
        minds = any(row.guard is Guard.DEADLINE_PASSED for row in self.rules.rows_for(logical, Input.OBSERVE))
        overdue = minds and any(code in IN_FLIGHT for code in own)
        first = len(state.handles) - len(own)
        for at in troubles(own, first, self.bounds.peers) if self.rules.asks(logical) else (None,):
            for late in (False, True) if overdue and at is None else (False,):
                call = self._observed(state, Action(Act.POLL, at, late))
                rows = self.rules.rows_for(call.logical, Input.ANSWER)
                waits = any(row.guard is Guard.MAY_REPORT for row in rows) and not self._settled(call)
                yield from (Action(Act.POLL, at, late, drained) for drained in ((False, True) if waits else (False,)))

    def _settled(self, call: Call) -> bool:
        return not call.own.strip(self.ops.settled)

    def step(self, state: ModelState, action: Action) -> Outcome:
        """Take one action, which ``actions`` has named."""
        match action.act:
            case Act.FINISH:
                assert isinstance(action.at, AtHandle), action
                landing = bytearray(state.handles)
                landing[action.at.place] = self.ops[Op.FINISH][landing[action.at.place]]
                return Outcome(Reply.NOTHING, state._replace(handles=bytes(landing)))
            case Act.SEND | Act.SEND_LAST:
                return self._send(state, action)
            case Act.POLL:
                call = self._observed(state, action)
                call.may_report = action.drained or self._settled(call)
                call.take(Input.ANSWER)
                return self._outcome(state, call, call.returns())
            case Act.SEND_NOTHING | Act.FAILURE_EXCEPTION | Act.ABORT | Act.CLEAR:
                call = self._call(state)
                if action.act in BLAMED:
                    call.blame()
                call.take(CALLS[action.act])
                return self._outcome(state, call, call.own)
            case Act.OPEN:
                call = Call(self.rules, self.ops, state.control, state.handles)
                call.change(OPEN)
                return Outcome(Reply.NOTHING, ModelState(call.control, call.own))
            case Act.SWEEP:
                swept = state.handles[: state.control.swept * self.bounds.peers]
                kept = self._asked(swept, 0, action).translate(self.ops[Op.RELEASE]).translate(self.ops[Op.FORGET])
                return Outcome(Reply.NOTHING, state._replace(handles=kept + state.handles[len(swept) :]))
            case _:
                assert_never(action.act)

    def _call(self, state: ModelState) -> Call:
        return Call(self.rules, self.ops, state.control, self.own(state))

    def _outcome(self, state: ModelState, call: Call, seen: bytes) -> Outcome:
        handles = state.handles[: len(state.handles) - len(seen)] + call.own
        return Outcome(call.reply, ModelState(call.control, handles), seen, call.broken)

    def _send(self, state: ModelState, action: Action) -> Outcome:
        call, peers = self._call(state), self.bounds.peers
        start = (call.posted - call.base) * peers
        own = bytearray(call.own)
        own[start : start + peers] = self.chunk(action)
        call.own = bytes(own)
        call.posted += 1
        if action.at is not None:
            call.blame()
        call.take(posting(action))
        seen = call.own
        if not call.adopted:
            call.own = seen[:start] + bytes([STRAY] * peers) + seen[start + peers :]
        return self._outcome(state, call, seen)

    def chunk(self, action: Action) -> bytes:
        """The handles that a send makes: all of them before the first is posted; a rejection ends the posting."""
        peers = self.bounds.peers
        if not isinstance(action.at, AtPeer):
            return bytes([self.ops.accepted] * peers)
        rest = peers - action.at.peer - 1
        return bytes([self.ops.accepted] * action.at.peer + [self.ops.rejected] + [CREATED] * rest)

    def _asked(self, handles: bytes, first: int, action: Action) -> bytes:
        """What these handles are once they have been asked, and those that the action names have raised."""
        raised = victims(handles, first, action.at, self.bounds.peers)
        return bytes(self.ops[Op.FAIL if n in raised else Op.ANSWER][code] for n, code in enumerate(handles))

    def _observed(self, state: ModelState, action: Action) -> Call:
        """The first half of a poll: the handles are asked, and the room makes of it what the rows say."""
        call = self._call(state)
        if self.rules.asks(call.logical):
            call.own = self._asked(call.own, len(state.handles) - len(call.own), action)
            call.deadline_passed, call.error_seen = action.late, action.at is not None
            call.all_done = call.closed and not any(code in KINDS[Kind.UNDONE] for code in call.own)
        if call.holds(BLAMES):
            call.blame()
        call.take(Input.OBSERVE)
        return call


def posting(action: Action) -> Input:
    """What a send comes to, once it has asked the transport."""
    if action.at is not None:
        return Input.SEND_REJECTED
    return Input.SEND_LAST_ACCEPTED if action.act is Act.SEND_LAST else Input.SEND_ACCEPTED
