"""A run in words: what the kit did, what the transport answered, what the owner got back, and what broke."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from kvsender_spec.clauses import BY_ID
from kvsender_spec.faults import Point
from kvsender_spec.kit.adapter import Notice
from kvsender_spec.kit.judge import Violation, show
from kvsender_spec.kit.record import Moment
from kvsender_spec.kit.stage import SENDER_SIDE
from kvsender_spec.kit.transport import TransportEvent
from kvsender_spec.trace import Call, Step

MESSAGE_LIMIT: Final = 60


def deed(what: Step | str) -> str:
    """What the kit did. What happens to the world is said in words; a trace only has its name."""
    if isinstance(what, str):
        return what
    match what.call:
        case Call.KILL:
            return f"{what}: the process of decode{what.room} is gone, and nobody is told"
        case Call.STOP:
            return f"{what}: the process of decode{what.room} stands still, and nobody is told"
        case Call.RESTART:
            return f"{what}: decode{what.room} comes back as a new process"
        case Call.WAIT:
            return "wait: the drain timeout passes"
        case Call.WAIT_LONG:
            return "wait_long: the transfer timeout passes"
        case _:
            return str(what)


def message(event: TransportEvent) -> str:
    """The notification of a call, short."""
    words = event.message.decode("utf-8", "backslashreplace")
    return words if len(words) <= MESSAGE_LIMIT else f"{words[:MESSAGE_LIMIT]} ..."


def request(event: TransportEvent) -> str:
    """What the sender asked the transport for."""
    handle = "a handle" if event.handle is None else f"handle {event.handle}"
    match event.point:
        case Point.MAKE:
            return f"make {handle} for {event.peer}"
        case Point.NOTIFY:
            return f"notify {event.peer}: {message(event)}"
        case Point.RELEASE if event.answer == "dropped":
            return f"drop the last reference to {handle}"
        case _:
            return f"{event.point.value} {handle}"


def answer(event: TransportEvent) -> str:
    """What the transport answered."""
    return event.answer if event.error is None else f"raised {show(event.error)}"


def told(notice: Notice) -> str:
    """What a notice says to the peer."""
    reason = f": {notice.reason}" if notice.reason else ""
    return f"{notice.kind} of room {notice.room}{reason}"


def broken(violation: Violation) -> str:
    """The clause of a violation, as a heading."""
    clause = BY_ID[violation.clause]
    return f"{clause.id} {clause.name} ({clause.level.value})"


def narrate(moments: Sequence[Moment]) -> Iterator[str]:
    """The lines of the story. Those that start with an exclamation mark tell what broke."""
    ending = False
    for number, moment in enumerate(moments, 1):
        if moment.ending and not ending:
            ending = True
            yield "the end of the run, which is in no trace:"
        yield f"{number:3}. {deed(moment.what)}"
        for event in moment.events:
            who = "the transport" if event.agent == SENDER_SIDE else f"{event.agent}'s transport"
            yield f"       {who} was asked: {request(event)}; it {_answered(event)}"
        for peer, notice in moment.notices:
            yield f"       {peer} was told: {told(notice)}"
        if moment.outcome:
            yield f"       the owner: the call {moment.outcome}"
        if moment.possible and not moment.violations:  # after a violation the oracle follows the sender no further
            yield f"       the specification allows: {' or '.join(str(possible) for possible in moment.possible)}"
        for violation in moment.violations:
            yield f"!      breaks {broken(violation)}"


def _answered(event: TransportEvent) -> str:
    return answer(event) if event.error is not None else f"answered {event.answer}"
