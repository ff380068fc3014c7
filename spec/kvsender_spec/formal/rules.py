"""The tables of ``kvsender_spec.machine`` as one value, so that a changed table can be put on trial like the real one.

``ill_formed`` is the first layer of the proof: what it accepts is total, and every other layer may rely on that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from kvsender_spec.machine import (
    HANDLE_NEXT,
    NEVER,
    NEXT,
    QUIET,
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
    quiet: frozenset[HandleState]

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


POSTING: Final = (Input.SEND_ACCEPTED, Input.SEND_LAST_ACCEPTED, Input.SEND_REJECTED)
"""What send() can come to once it has asked the transport."""
SPEC: Final = Rules(NEXT, TABLE, NEVER, HANDLE_NEXT, RELEASABLE, QUIET)

_BRINGS_CAUSE: Final = {Input.SEND_REJECTED, Input.ABORT, Input.CLEAR}
_CAUSE_GUARDS: Final = {Guard.ERROR_SEEN, Guard.DEADLINE_PASSED}
_REPLIES: Final = {Input.ANSWER: POLL_REPLIES, Input.FAILURE_EXCEPTION: RAISING_REPLIES}
_OF_OBSERVE: Final = {Guard.ERROR_SEEN, Guard.ALL_DONE, Guard.DEADLINE_PASSED}


def ill_formed(rules: Rules) -> str | None:
    """What is wrong with the tables as tables, in words; None where every pair is decided, once, and makes sense."""
    return next((reason for reasons in (_pairs, _rows, _handles) for reason in reasons(rules)), None)


def _pairs(rules: Rules) -> Iterator[str]:
    for source in State:
        for what in Input:
            rows, breaks = rules.rows_for(source, what), rules.breaks(source, what)
            pair = f"{what.value} in {source.value}"
            if bool(rows) == (breaks is not None):
                yield f"{pair} is decided {'twice' if rows else 'by nothing'}"
            if sum(1 for never in rules.never if never.input is what and source in never.sources) > 1:
                yield f"{pair} is forbidden twice"
            if any(row.guard is None for row in rows[:-1]) or (rows and rows[-1].guard is not None):
                yield f"{pair}: the last row, and only the last, has no guard"
            if len({row.guard for row in rows}) < len(rows):
                yield f"{pair}: two rows have the same guard"
            yield from (
                f"{pair}: {row.event.value} never happens there"
                for row in rows
                if row.event is not None and rules.destination(source, row.event) is None
            )


def _rows(rules: Rules) -> Iterator[str]:
    for row in rules.table:
        if Effect.LATCH in row.effects and row.input not in _BRINGS_CAUSE and row.guard not in _CAUSE_GUARDS:
            yield f"{row.input.value}: a cause is latched where there is none"
        if (row.event is Event.FAULTED) != (Effect.LATCH in row.effects):
            yield f"{row.input.value}: a fault and a latched cause come together"
        if row.reply not in _REPLIES.get(row.input, {Reply.NOTHING}):
            yield f"{row.input.value} cannot reply {row.reply.value!r}"
        guards = _OF_OBSERVE if row.input is Input.OBSERVE else {Guard.MAY_REPORT} if row.input is Input.ANSWER else ()
        if row.guard is not None and row.guard not in guards:
            yield f"{row.input.value} does not know whether {row.guard.value}"


def _handles(rules: Rules) -> Iterator[str]:
    """What the transport's answers can prove about a handle, whatever the model makes of it."""
    for source, row in rules.handle_next.items():
        for event, dest in row.items():
            pair = f"{event.value} in {source.value}"
            if source is HandleState.NEVER_SUBMITTED:
                if dest is not None:
                    yield f"{pair}: it has been released"
                continue
            if dest is HandleState.CREATED and source is not HandleState.CREATED:
                yield f"{pair}: what was posted cannot be unposted"
            if event is HandleEvent.ACCEPTED and (dest is None) != (source is not HandleState.CREATED):
                yield f"{pair}: a handle is posted once"
            if dest is None and event is not HandleEvent.ACCEPTED and (source, event) != _IMPOSSIBLE:
                yield f"{pair} is not answered"
            if dest is None:
                continue
            if dest in rules.quiet and source not in rules.quiet and event is not HandleEvent.FINISHED:
                yield f"{pair}: only DONE proves that nothing reads the pages any more"
            if dest in rules.quiet and source in (HandleState.ERRORED, HandleState.REJECTED):
                yield f"{pair}: answers do not heal"
            if dest in UNSETTLED and source in rules.releasable and event is not HandleEvent.ACCEPTED:
                yield f"{pair}: the transport has said its last word on it"
            if event is HandleEvent.RELEASED and source in UNSETTLED and dest is not HandleState.IN_DOUBT:
                yield f"{pair}: nothing is known of it any more"


_IMPOSSIBLE: Final = (HandleState.REJECTED, HandleEvent.FINISHED)
"""A post that was rejected has no transfer that could finish."""
