"""The tables of ``kvsender_spec.machine`` as one value, so that a changed table can be checked like the real one.

``ill_formed`` is the first layer of the proof: what it accepts is total, and every other layer may rely on that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from kvsender_spec.machine import (
    HANDLE_NEXT,
    LATCHED,
    NEVER,
    NEXT,
    QUIESCED,
    RELEASABLE,
    TABLE,
    Effect,
    Event,
    Guard,
    HandleEvent,
    HandleState,
    Input,
    Never,
    Reply,
    Row,
    State,
)

POLL_REPLIES: Final = frozenset({Reply.WAITING, Reply.TRANSFERRING, Reply.SUCCESS, Reply.FAILED})
RAISING_REPLIES: Final = frozenset({Reply.RAISES_CAUSE, Reply.RAISES_USAGE})
UNSETTLED: Final = frozenset({HandleState.IN_FLIGHT, HandleState.IN_DOUBT})


@dataclass(frozen=True)
class Rules:
    """The tables. Every back end is lowered from one of these."""

    next: Mapping[State, Mapping[Event, State | None]]
    table: tuple[Row, ...]
    never: tuple[Never, ...]
    handle_next: Mapping[HandleState, Mapping[HandleEvent, HandleState | None]]
    releasable: frozenset[HandleState]
    quiesced: frozenset[HandleState]

    def rows_for(self, source: State, what: Input) -> tuple[Row, ...]:
        """The rows that decide a pair, in the order in which their guards are tried."""
        return tuple(row for row in self.table if row.input is what and source in row.sources)

    def breaks(self, source: State, what: Input) -> str | None:
        """The clause that this input would break here, or None where the pair is not forbidden."""
        return next((never.breaks for never in self.never if never.input is what and source in never.sources), None)

    def destination(self, source: State, event: Event | None) -> State | None:
        """Where an event leads; no event leads nowhere else; None is a violation."""
        return source if event is None else self.next[source][event]

    def asks(self, source: State) -> bool:
        """poll() asks the transport in the states in which something depends on the answers."""
        return any(row.guard is not None or row.effects for row in self.rows_for(source, Input.OBSERVE))

    def posts(self, source: State) -> bool:
        """send() asks the transport in the states in which a post has a row."""
        return any(self.rows_for(source, what) for what in POSTING)

    def minds(self, source: State) -> bool:
        """A row of OBSERVE depends on the transfer timeout there."""
        return any(row.guard is Guard.DEADLINE_PASSED for row in self.rows_for(source, Input.OBSERVE))


POSTING: Final = (Input.SEND_ACCEPTED, Input.SEND_LAST_ACCEPTED, Input.SEND_REJECTED)
"""What send() can come to once it has asked the transport."""
SPEC: Final = Rules(NEXT, TABLE, NEVER, HANDLE_NEXT, RELEASABLE, QUIESCED)

_LIVE: Final = (State.IDLE, State.SENDING)
_ANSWERS: Final = {Input.ANSWER: POLL_REPLIES, Input.FAILURE_EXCEPTION: RAISING_REPLIES}
_OBSERVED: Final = {Guard.ERROR_SEEN, Guard.ALL_DONE, Guard.DEADLINE_PASSED}
_BAD_NEWS: Final = {Guard.ERROR_SEEN, Guard.DEADLINE_PASSED}


def ill_formed(rules: Rules) -> str | None:
    """What is wrong with the tables as tables, in words; None where every pair is decided, once, and makes sense."""
    checks = (_pairs, _moves, _rows, _effects, _handles, _sets)
    return next((reason for reasons in checks for reason in reasons(rules)), None)


def undecided(rules: Rules) -> bool:
    """Whether some input is decided by nothing, or twice: such tables say nothing that could be explored."""
    return any(True for _ in _pairs(rules))


def _pairs(rules: Rules) -> Iterator[str]:
    """Every input is decided in every state: by rows of which the last has no guard, or by being forbidden."""
    for source in State:
        for what in Input:
            rows, breaks = rules.rows_for(source, what), rules.breaks(source, what)
            pair = f"{what.value} in {source.value}"
            if bool(rows) == (breaks is not None):
                yield f"{pair} is decided {'twice' if rows else 'by nothing'}"
            if any(row.guard is None for row in rows[:-1]) or (rows and rows[-1].guard is not None):
                yield f"{pair}: the last row, and only the last, has no guard"
            if len({row.guard for row in rows}) < len(rows):
                yield f"{pair}: two rows have the same guard"
            if rows and what in POSTING and rules.next[source][Event.CHUNK_POSTED] is None:
                yield f"{pair}: nothing is posted where no chunk may follow"
            yield from (
                f"{pair}: {row.event.value} never happens there"
                for row in rows
                if row.event is not None and rules.destination(source, row.event) is None
            )


def _moves(rules: Rules) -> Iterator[str]:
    """Where an event may lead, whether a row names it there or not."""
    for source, cells in rules.next.items():
        for event, dest in cells.items():
            cell = f"{event.value} in {source.value}"
            late = event in (Event.COMPLETED, Event.FAULTED) and (source, event) != (State.IDLE, Event.COMPLETED)
            if late and dest is None:
                yield f"{cell}: what the transport says late is no violation"
            if source not in _LIVE and event is Event.CHUNK_POSTED and dest is not None:
                yield f"{cell}: no chunk follows the end of a room"
            if source is State.IDLE and event is Event.COMPLETED and dest is not None:
                yield f"{cell}: a room that has posted nothing is not complete"
            if event is Event.REPORTED and dest is not (State.STICKY_FAILED if source in LATCHED else None):
                yield f"{cell}: Failed is reported of failed rooms, and then stays"
            if source not in _LIVE and event is not Event.REPORTED and dest not in (None, source):
                yield f"{cell}: a room that is over stays as it is until Failed is reported"


def _rows(rules: Rules) -> Iterator[str]:
    """A row asks what its input knows, replies what its caller can get, and names an event that its input can be."""
    for row in rules.table:
        what = row.input.value
        if row.reply not in _ANSWERS.get(row.input, {Reply.NOTHING}):
            yield f"{what} cannot reply {row.reply.value!r}"
        guards = _OBSERVED if row.input is Input.OBSERVE else {Guard.MAY_REPORT} if row.input is Input.ANSWER else ()
        if row.guard is not None and row.guard not in guards:
            yield f"{what} does not know whether {row.guard.value}"
        accepted = row.input in (Input.SEND_ACCEPTED, Input.SEND_LAST_ACCEPTED)
        bad_news = row.input in (Input.SEND_REJECTED, Input.ABORT, Input.CLEAR) or row.guard in _BAD_NEWS
        for event, happens in (
            (Event.CHUNK_POSTED, accepted),
            (Event.COMPLETED, row.guard is Guard.ALL_DONE),
            (Event.REPORTED, row.reply is Reply.FAILED),
        ):
            if (row.event is event) != happens:
                yield f"{what}: {event.value} does {'' if happens else 'not '}happen"
        if row.event is Event.FAULTED and not bad_news:
            yield f"{what}: nothing has gone wrong"


def _effects(rules: Rules) -> Iterator[str]:
    """An effect stands only where there is what it is about."""
    for row in rules.table:
        for effect, place in (
            (Effect.ADOPT, row.input in POSTING),
            (Effect.CLOSE, row.input is Input.SEND_LAST_ACCEPTED),
            (Effect.RELEASE, row.input is Input.OBSERVE),
            (Effect.QUARANTINE, row.event is Event.REPORTED),
            (Effect.TELL_SUCCESS, row.event is Event.COMPLETED),
            (Effect.TELL_FAILURE, row.event is Event.REPORTED),
            (Effect.FORGET, row.input is Input.CLEAR),
        ):
            if effect in row.effects and not place:
                yield f"{row.input.value}: there is nothing to {effect.value}"
        if (row.event is Event.FAULTED) != (Effect.LATCH in row.effects):
            yield f"{row.input.value}: a fault and a latched cause come together"


_NEWS: Final = {
    HandleEvent.ACCEPTED: HandleState.IN_FLIGHT,
    HandleEvent.REJECTED: HandleState.REJECTED,
    HandleEvent.FINISHED: HandleState.DONE,
    HandleEvent.RAISED: HandleState.ERRORED,
    HandleEvent.OVERDUE: HandleState.IN_DOUBT,
}
"""The state that an event is named for."""
_OF_A_POST: Final = (HandleEvent.ACCEPTED, HandleEvent.REJECTED)
_OF_A_CHECK: Final = (HandleEvent.FINISHED, HandleEvent.RAISED)
_SETTLED: Final = (HandleState.DONE, HandleState.ERRORED, HandleState.REJECTED)


def _handles(rules: Rules) -> Iterator[str]:
    """What an answer of the transport can prove about a handle. An event leads to its own state or changes nothing."""
    for source, row in rules.handle_next.items():
        for event, dest in row.items():
            pair = f"{event.value} in {source.value}"
            if source is HandleState.NEVER_SUBMITTED:
                wanted = None  # it has been released, and any use of it is one too many
            elif source is HandleState.CREATED:
                # Only a post puts something on the wire; a small transfer is DONE at once.
                posted = event in _OF_A_POST or event is HandleEvent.FINISHED
                unposted = HandleState.NEVER_SUBMITTED if event is HandleEvent.RELEASED else source
                wanted = _NEWS[event] if posted else unposted
            elif event is HandleEvent.ACCEPTED or (source, event) == _IMPOSSIBLE:
                wanted = None  # a handle is posted once
            elif source in _SETTLED or event is HandleEvent.REJECTED:
                wanted = source  # the last word was said, or a second post was refused and the first goes on
            elif event in _OF_A_CHECK:
                wanted = _NEWS[event]
            else:
                wanted = HandleState.IN_DOUBT  # released or given up before the last word
            if dest is not wanted:
                yield f"{pair} leads to {'never' if wanted is None else wanted.value}"


_IMPOSSIBLE: Final = (HandleState.REJECTED, HandleEvent.FINISHED)
"""A post that was rejected has no transfer that could finish."""


def _sets(rules: Rules) -> Iterator[str]:
    for state in HandleState:
        if (state in rules.releasable) != (state not in (*UNSETTLED, HandleState.NEVER_SUBMITTED)):
            yield f"{state.value}: a handle is released once, after the last word on it"
        if (state in rules.quiesced) != (state in (HandleState.CREATED, HandleState.NEVER_SUBMITTED, HandleState.DONE)):
            yield f"{state.value}: pages are free before the post and after DONE"
