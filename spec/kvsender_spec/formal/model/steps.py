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

from kvsender_spec.formal.model.handles import CREATED, DONE, IN_FLIGHT, NONE, SILENT, STRAY, UNSETTLED, handle_ops
from kvsender_spec.formal.model.state import (
    NOBODY,
    Act,
    Action,
    Bounds,
    Cause,
    ModelState,
    Outcome,
    Told,
    initial,
    troubles,
    victims,
)
from kvsender_spec.formal.rules import Rules
from kvsender_spec.machine import Effect, Guard, Input, Reply, State


class _Room:
    """A state that is being changed by one call; the effects are here, once, in the order in which they happen."""

    def __init__(self, model: Model, state: ModelState) -> None:
        self.model: Final = model
        self.logical = state.logical
        self.cause = state.cause
        self.faulted = state.faulted
        self.cause_now = Cause.NONE
        """What a LATCH of this call latches."""
        self.closed = state.closed
        self.cleared = state.cleared
        self.quarantined = state.quarantined
        self.base = state.base
        self.posted = state.posted
        self.said = state.said
        self.told = state.told
        peers = model.bounds.peers
        self.old = state.handles[: state.base * peers]
        self.own = state.handles[state.base * peers :]
        self.fresh: tuple[int, ...] = ()
        """Places, within ``own``, of the handles that this call has made and not yet adopted."""
        self.broken = ""

    def frozen(self) -> ModelState:
        own = bytearray(self.own)
        for place in self.fresh:
            own[place] = STRAY
        return ModelState(
            self.logical,
            self.cause,
            self.faulted,
            self.closed,
            self.cleared,
            self.quarantined,
            self.base,
            self.posted,
            self.said,
            self.told,
            self.old + bytes(own),
        )

    def take(self, what: Input, facts: frozenset[Guard] = frozenset()) -> Reply:
        """Apply one input: the effects of the row that decides it, in order, then the move."""
        rules = self.model.rules
        breaks = rules.breaks(self.logical, what)
        if breaks is not None:
            self.broken = self.broken or breaks
            return Reply.NOTHING
        row = next(row for row in rules.rows_for(self.logical, what) if row.guard is None or row.guard in facts)
        for effect in row.effects:
            self._apply(effect)
        dest = rules.destination(self.logical, row.event)
        assert dest is not None, row  # the tables are well-formed
        self.logical = dest
        if dest in (State.FAILED, State.STICKY_FAILED):
            self.closed = False
        return row.reply

    def _apply(self, effect: Effect) -> None:
        ops = self.model.ops
        match effect:
            case Effect.ADOPT:
                self.fresh = ()
            case Effect.CLOSE:
                self.closed = True
            case Effect.LATCH:
                self.cause = self.cause or self.cause_now
            case Effect.RELEASE:
                self.own = self.own.translate(ops.release)
            case Effect.QUARANTINE:
                self.quarantined = True
                self.own = self.own.translate(ops.overdue)
            case Effect.TELL_SUCCESS | Effect.TELL_FAILURE:
                if self.told is not Told.NOTHING:
                    self.broken = self.broken or "KS-6.1"
                self.told = Told.SUCCESS if effect is Effect.TELL_SUCCESS else Told.FAILURE
            case Effect.FORGET:
                self.cleared = True
            case _:
                assert_never(effect)

    def blame(self) -> None:
        """Something goes wrong. If it is the first such thing in a room that is not over, the owner is owed it."""
        first = self.said is Told.NOTHING and not self.faulted
        self.cause_now = Cause.FIRST if first else Cause.LATER
        self.faulted = self.faulted or first


class Model:
    """The steps of one set of rules at one bound."""

    def __init__(self, rules: Rules, bounds: Bounds) -> None:
        self.rules: Final = rules
        self.bounds: Final = bounds
        self.ops: Final = handle_ops(rules)

    def actions(self, state: ModelState) -> Iterator[Action]:
        """Everything that may happen next."""
        for place, code in enumerate(state.handles):
            if code in SILENT:
                yield Action(Act.FINISH, place)
        if self._has_a_chunk_to_send(state):
            peers = range(NOBODY, self.bounds.peers)
            if state.posted + 1 < self.bounds.chunks:
                yield from (Action(Act.SEND, at) for at in peers)
            yield from (Action(Act.SEND_LAST, at) for at in peers)
        yield Action(Act.SEND_NOTHING)
        yield from self._polls(state)
        yield from (Action(act) for act in (Act.FAILURE_EXCEPTION, Act.ABORT, Act.CLEAR))
        if state.cleared and state.posted < self.bounds.chunks:
            yield Action(Act.OPEN)
        handles = state.handles[: self._swept(state)]
        if any(code in UNSETTLED or self.ops.release[code] != code for code in handles):
            yield from (Action(Act.SWEEP, at) for at in troubles(handles, 0, self.bounds.peers))

    def _has_a_chunk_to_send(self, state: ModelState) -> bool:
        """The owner has one, and the sender hands it to the transport: otherwise send() asks for nothing."""
        return not state.closed and state.posted < self.bounds.chunks and self.rules.posts(state.logical)

    def _polls(self, state: ModelState) -> Iterator[Action]:
        """A deadline is tried where a row depends on it, a drain where the answer does."""
        asks = self.rules.asks(state.logical)
        first = state.base * self.bounds.peers
        own = state.handles[first:]
        minds = any(row.guard is Guard.DEADLINE_PASSED for row in self.rules.rows_for(state.logical, Input.OBSERVE))
        for at in troubles(own, first, self.bounds.peers) if asks else (NOBODY,):
            for late in (
                (False, True) if minds and at == NOBODY and any(code in IN_FLIGHT for code in own) else (False,)
            ):
                room = self._observed(state, at, late=late)[0]
                rows = self.rules.rows_for(room.logical, Input.ANSWER)
                waits = any(row.guard is Guard.MAY_REPORT for row in rows) and not self._settled(room)
                yield from (Action(Act.POLL, at, late, drained) for drained in ((False, True) if waits else (False,)))

    def _settled(self, room: _Room) -> bool:
        return not room.own.strip(self.ops.settled)

    def _swept(self, state: ModelState) -> int:
        """The system looks after the handles of rooms that are over: these come first."""
        over = state.cleared or state.said is not Told.NOTHING
        return (state.posted if over else state.base) * self.bounds.peers

    def step(self, state: ModelState, action: Action) -> Outcome:
        """Take one action, which ``actions`` has named."""
        room = _Room(self, state)
        match action.act:
            case Act.FINISH:
                landing = bytearray(state.handles)
                landing[action.at] = self.ops.finish[landing[action.at]]
                return Outcome(Reply.NOTHING, 0, 0, state._replace(handles=bytes(landing)))
            case Act.SEND | Act.SEND_LAST:
                return self._send(room, action)
            case Act.SEND_NOTHING:
                reply = room.take(Input.SEND_NOTHING)
                return Outcome(reply, 0, 0, room.frozen(), room.own, room.broken)
            case Act.POLL:
                return self._poll(state, action)
            case Act.FAILURE_EXCEPTION:
                reply = room.take(Input.FAILURE_EXCEPTION)
                return Outcome(reply, 0, 0, room.frozen(), room.own, room.broken)
            case Act.ABORT | Act.CLEAR:
                room.blame()
                reply = room.take(Input.ABORT if action.act is Act.ABORT else Input.CLEAR)
                return Outcome(reply, 0, 0, room.frozen(), room.own, room.broken)
            case Act.OPEN:
                handles = state.handles.translate(self.ops.overdue).translate(self.ops.forget)
                return Outcome(
                    Reply.NOTHING,
                    0,
                    0,
                    initial(self.bounds)._replace(base=state.posted, posted=state.posted, handles=handles),
                )
            case Act.SWEEP:
                return Outcome(Reply.NOTHING, 0, 0, self._sweep(state, action.at))
            case _:
                assert_never(action.act)

    def _send(self, room: _Room, action: Action) -> Outcome:
        peers, last = self.bounds.peers, action.act is Act.SEND_LAST
        start = (room.posted - room.base) * peers
        own = bytearray(room.own)
        for peer in range(peers):
            # Every handle of the chunk is made before the first is posted; a rejection ends the posting.
            rejected = action.at != NOBODY and peer >= action.at
            own[start + peer] = CREATED if rejected else self.ops.accepted
        if action.at != NOBODY:
            own[start + action.at] = self.ops.rejected
        room.own, room.fresh = bytes(own), tuple(range(start, start + peers))
        room.posted += 1
        if action.at == NOBODY:
            reply = room.take(Input.SEND_LAST_ACCEPTED if last else Input.SEND_ACCEPTED)
        else:
            room.blame()
            reply = room.take(Input.SEND_REJECTED)
        return Outcome(reply, peers, 0, room.frozen(), room.own, room.broken)

    def _observed(self, state: ModelState, at: int, *, late: bool) -> tuple[_Room, int]:
        """The first half of a poll: the handles are asked, and the room makes of it what the rows say."""
        room = _Room(self, state)
        asked = 0
        facts: set[Guard] = set()
        if self.rules.asks(state.logical):
            asked = sum(1 for code in room.own if code in UNSETTLED)
            if late:
                facts.add(Guard.DEADLINE_PASSED)
            raised = victims(room.own, len(room.old), at, self.bounds.peers)
            ops = self.ops
            room.own = bytes((ops.fail if n in raised else ops.answer)[code] for n, code in enumerate(room.own))
            if raised:
                facts.add(Guard.ERROR_SEEN)
            if room.closed and not room.own.strip(DONE + bytes([NONE])):
                facts.add(Guard.ALL_DONE)
        if Guard.ERROR_SEEN in facts or (late and Guard.ALL_DONE not in facts):
            room.blame()
        room.take(Input.OBSERVE, frozenset(facts))
        return room, asked

    def _poll(self, state: ModelState, action: Action) -> Outcome:
        room, asked = self._observed(state, action.at, late=action.late)
        may_report = action.drained or self._settled(room)
        reply = room.take(Input.ANSWER, frozenset({Guard.MAY_REPORT} if may_report else ()))
        if room.said is Told.NOTHING:
            room.said = {Reply.SUCCESS: Told.SUCCESS, Reply.FAILED: Told.FAILURE}.get(reply, Told.NOTHING)
        seen = room.own
        if room.said is not Told.NOTHING:
            room.own = room.own.translate(self.ops.forget)
        return Outcome(reply, 0, asked, room.frozen(), seen, room.broken)

    def _sweep(self, state: ModelState, at: int) -> ModelState:
        swept = self._swept(state)
        raised = victims(state.handles[:swept], 0, at, self.bounds.peers)
        ops = self.ops
        asked = bytes((ops.fail if n in raised else ops.answer)[code] for n, code in enumerate(state.handles[:swept]))
        return state._replace(handles=asked.translate(ops.release).translate(ops.forget) + state.handles[swept:])
