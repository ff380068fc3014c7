"""A history in words: what happened in each step, what the transport answered, what the caller got, and what broke.

A step of the kit begins a moment; in a history without steps every call of the caller's main thread does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from kvsender_spec.clauses import BY_ID
from kvsender_spec.history import events as h
from kvsender_spec.observe.verdict import Violation
from kvsender_spec.report.plain import one_line, short

ERROR_LIMIT: Final = 400
"""Characters of an error's text. It is quoted wherever it is answered."""
MESSAGE_LIMIT: Final = 60
"""Characters of a notification."""
LINE_LIMIT: Final = 1000
"""Characters of one line, whatever an event may hold."""

TransportCall: TypeAlias = (
    h.TransferMade
    | h.TransferPosted
    | h.TransferChecked
    | h.TransferReleased
    | h.NotificationSent
    | h.PeerAdded
    | h.PeerRemoved
)
"""What the sender asks the transport for."""
TRANSPORT_CALLS: Final = (
    h.TransferMade,
    h.TransferPosted,
    h.TransferChecked,
    h.TransferReleased,
    h.NotificationSent,
    h.PeerAdded,
    h.PeerRemoved,
)


@dataclass(frozen=True, slots=True)
class Moment:
    """One step and all that was seen before the next one."""

    title: str
    events: tuple[h.AnyEvent, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the telling: the title of a moment, one of its events, or a clause that it breaks."""

    kind: Literal["step", "event", "broken"]
    text: str


def moments(history: h.History) -> list[Moment]:
    """The events by step. What comes before the first step is a moment only if there is something to tell."""
    teller = Teller(history)
    steps = any(isinstance(event, h.StepStarted) for event in history.events)
    found: list[tuple[str, list[h.AnyEvent]]] = [("before the first step", [])]
    for event in history.events:
        if steps and isinstance(event, h.StepStarted):
            found.append((one_line(event.text, ERROR_LIMIT), []))
        else:
            if not steps and isinstance(event, h.CallStarted) and event.thread == 0:
                found.append((teller.call(event), []))
            found[-1][1].append(event)
    first = found[0][1]
    if not any(teller.say(event) for event in first):
        found = found[1:]
    return [Moment(title, tuple(events)) for title, events in found]


def broken(violation: Violation) -> str:
    """The clause of a violation, as a heading; after which clause, where another one broke first."""
    clause = BY_ID.get(violation.clause)
    name = violation.clause if clause is None else f"{clause.id} {clause.name} ({clause.level.value})"
    return f"{name}, after {violation.after}" if violation.after else name


def tell(history: h.History, violations: Sequence[Violation] = ()) -> Iterator[Line]:
    """The lines of the telling. A violation follows the event that shows it, or stands at the end if none does."""
    teller = Teller(history)
    waiting = list(violations)
    for number, moment in enumerate(moments(history), 1):
        yield Line("step", f"{number:3}. {moment.title}")
        for event in moment.events:
            said = teller.say(event)
            if said:
                yield Line("event", f"       {said}")
            for violation in [violation for violation in waiting if violation.seq == event.seq]:
                waiting.remove(violation)
                yield Line("broken", f"!      breaks {broken(violation)}")
    for violation in waiting:
        yield Line("broken", f"!      breaks {broken(violation)}")


def narrate(history: h.History, violations: Sequence[Violation] = ()) -> list[str]:
    """The same as plain text. Lines that start with an exclamation mark tell what broke."""
    return [line.text for line in tell(history, violations)]


class Teller:
    """Says single events of one history in words; it knows the errors, calls and rooms that they refer to."""

    def __init__(self, history: h.History) -> None:
        self._errors: Final = {event.ref: event for event in history.events if isinstance(event, h.ErrorSeen)}
        self._calls: Final = {event.seq: event for event in history.events if isinstance(event, h.CallStarted)}
        self._ids: Final = {e.room: e.id for e in history.events if isinstance(e, h.RoomOpened)}
        self._incarnations: Final = Counter(self._ids.values())

    def room(self, key: int | None) -> str:
        """A room by its id; with its key too where several rooms had this id."""
        number = self._ids.get(key)
        if number is None:
            return "a room" if key is None else f"the room with key {key}"
        return f"room {number} (key {key})" if self._incarnations[number] > 1 else f"room {number}"

    def error(self, ref: int) -> str:
        """An error in full; by its number where the history does not describe it."""
        error = self._errors.get(ref)
        return f"error {ref}" if error is None else short(str(error), ERROR_LIMIT)

    def call(self, event: h.CallStarted) -> str:
        """What the caller calls."""
        arguments = [f"pages {_numbers(event.pages)}"] if event.pages else []
        arguments += ["last"] if event.last else []
        arguments += [f"misuse: {event.misuse}"] if event.misuse else []
        room = "" if event.room is None else f" of {self.room(event.room)}"
        call = f"{event.what.value}({'; '.join(arguments)}){room}{_thread(event)}"
        return one_line(call, ERROR_LIMIT)

    def outcome(self, event: h.CallEnded) -> str:
        """What came back."""
        if event.error is not None:
            whose = f" (attributed to {short(event.attribution, MESSAGE_LIMIT)})" if event.attribution else ""
            return f"raised {self.error(event.error)}{whose}"
        return "returned" if event.value is None else f"answered {short(event.value, MESSAGE_LIMIT)}"

    def request(self, event: TransportCall) -> str:
        """What the sender asked the transport for."""
        match event:
            case h.TransferMade():
                handle = "a handle" if event.handle is None else f"handle {event.handle}"
                return f"make {handle} for {event.peer}"
            case h.TransferPosted():
                return f"post handle {event.handle}"
            case h.TransferChecked():
                return f"check handle {event.handle}"
            case h.TransferReleased() if event.how == "last reference":
                return f"drop the last reference to handle {event.handle}"
            case h.TransferReleased():
                return f"release handle {event.handle}"
            case h.NotificationSent():
                return f"notify {event.peer}: {short(event.message, MESSAGE_LIMIT)}"
            case h.PeerAdded():
                return f"add {event.peer}"
            case h.PeerRemoved():
                return f"remove {event.peer}"

    def answer(self, event: TransportCall) -> str:
        """What the transport answered; empty where there is nothing to answer."""
        if isinstance(event, h.PeerRemoved):
            return ""
        if event.error is not None:
            return f"raised {self.error(event.error)}"
        if isinstance(event, h.TransferPosted | h.TransferChecked):
            return "nothing" if event.answer is None else short(event.answer, MESSAGE_LIMIT)
        return ""

    def say(self, event: h.AnyEvent) -> str:
        """One event in a line; empty for what is told elsewhere."""
        return one_line(self._say(event), LINE_LIMIT)

    def _say(self, event: h.AnyEvent) -> str:
        if isinstance(event, TRANSPORT_CALLS):
            answer = self.answer(event)
            verb = "" if not answer or answer.startswith("raised ") else "answered "
            return f"the transport was asked{_thread(event)}: {self.request(event)}" + (
                f"; it {verb}{answer}" if answer else ""
            )
        match event:
            case h.ErrorSeen() | h.StepStarted():
                return ""
            case h.CallStarted():
                return f"the caller: {self.call(event)}"
            case h.CallEnded():
                call = self._calls.get(event.of)
                return f"the caller: {'the call' if call is None else f'{call.what.value}()'} {self.outcome(event)}"
            case h.CallStuck():
                return f"the call has not come back after {event.after_s:g} s"
            case h.RoomOpened():
                peers = ", ".join(f"{d.peer} (dummy)" if d.dummy else d.peer for d in event.destinations) or "nobody"
                return f"{self.room(event.room)} is opened: {event.pages} pages for {peers}"
            case _:
                return self._happening(event)

    def _happening(self, event: h.AnyEvent) -> str:
        """What neither the caller nor the sender did."""
        match event:
            case h.PeerLost():
                return f"the process of {event.peer} is gone, and nobody is told"
            case h.PeerSilent():
                return f"the process of {event.peer} stands still, and nobody is told"
            case h.PeerResumed():
                return f"the process of {event.peer} goes on"
            case h.PeerReturned():
                return f"{event.peer} comes back as a new process"
            case h.LinkCut():
                return f"the connection to {event.peer} is broken; the process lives"
            case h.BytesLanded():
                words = ["late"] * event.late + ["another request's"] * event.foreign
                how = f" ({', '.join(words)})" if words else ""
                return f"{'all ' if event.whole else ''}{event.bytes} bytes of handle {event.handle} land{how}"
            case h.BytesCompared():
                where = " outside the room's pages" if event.outside else ""
                result = f"differ: {short(event.differ, ERROR_LIMIT)}" if event.differ else "are equal"
                return f"the bytes of sender and peers{where} {result}"
            case h.PagesHeld():
                return f"the sender holds pages {_numbers(event.pages)}" if event.pages else "the sender holds no pages"
            case h.NotificationHeard():
                reason = f": {short(event.reason, ERROR_LIMIT)}" if event.reason else ""
                return f"{event.peer} was told: {event.says.value} of room {event.id}{reason}"
            case h.ControlArrived():
                kind = "malformed control message" if event.malformed else "control message"
                return f"a {kind} arrives" + (f": {short(event.message, MESSAGE_LIMIT)}" if event.message else "")
            case h.WorkerEnded():
                return f"the worker {short(event.name, MESSAGE_LIMIT)} is no longer alive"
            case h.ClockAdvanced():
                return f"{event.by_s:g} s pass"
            case h.FaultsOver():
                rest = "what is in flight finishes" if event.settles else "what is in flight stays silent"
                return f"from here nothing goes wrong any more; {rest}"
            case h.KeptCounted():
                return f"still kept: {_count(event.entries)} entries, {_count(event.in_flight)} transfers in flight"
            case h.ImportProbed():
                result = f"failed: {short(event.failure, ERROR_LIMIT)}" if event.failure else "succeeded"
                return f"the import of {event.module} without nixl {result}"
            case h.EventsDropped():
                return f"{event.count} events were lost here"
            case h.RunEnded():
                return "" if event.complete else f"the history was cut off: {short(event.why, ERROR_LIMIT)}"
            case _:
                return ""


def _thread(event: h.Event) -> str:
    return f" in thread {event.thread}" if event.thread else ""


def _numbers(numbers: Sequence[float]) -> str:
    shown = ", ".join(f"{number:g}" for number in numbers[:12])
    return shown + (f" and {len(numbers) - 12} more" if len(numbers) > 12 else "")


def _count(number: int | None) -> str:
    return "an unknown number of" if number is None else str(number)
