"""A history in words: what the caller asked, what the transport answered inside the call, and what came back.

Names and texts come from outside: what a terminal would not print is written as Python escapes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, assert_never

from kvsender_spec.history.events import (
    EVENT_TYPES,
    FORMAT,
    AnyEvent,
    BytesCompared,
    BytesLanded,
    CallEnded,
    CallStarted,
    CallStuck,
    ClockAdvanced,
    ControlArrived,
    Destination,
    ErrorSeen,
    EventsDropped,
    FaultsOver,
    Header,
    History,
    ImportProbed,
    KeptCounted,
    LinkCut,
    MayFail,
    NotificationHeard,
    NotificationSent,
    PagesHeld,
    PeerAdded,
    PeerLost,
    PeerRemoved,
    PeerResumed,
    PeerReturned,
    PeerSilent,
    RoomOpened,
    RunEnded,
    StepStarted,
    TransferChecked,
    TransferMade,
    TransferPosted,
    TransferReleased,
    WorkerEnded,
    kind_of,
)

MOST_TEXT: Final = 160
"""The most characters that are told of one text."""
MOST_NUMBERS: Final = 8
"""The most page ids that are told of one list."""
MOST_CAUSES: Final = 8
"""The most causes that are told of one error."""


def plain(text: str) -> str:
    """One line of printable characters, shortened; everything else as Python escapes it."""
    shown = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text[:MOST_TEXT])
    return shown if len(text) <= MOST_TEXT else f"{shown} ..."


def _quoted(text: str) -> str:
    return repr(text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]} ...")


def count(number: int, what: str) -> str:
    """The number with its noun, which takes an s."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def _numbers(values: tuple[int | float, ...]) -> str:
    if not values:
        return "none"
    shown = ", ".join(f"{value}" for value in values[:MOST_NUMBERS])
    return shown if len(values) <= MOST_NUMBERS else f"{shown} and {len(values) - MOST_NUMBERS} more"


def _destination(there: Destination) -> str:
    words = [plain(there.peer)]
    if there.generation:
        words.append(f"generation {there.generation}")
    words.append("a dummy" if there.dummy else f"pages {_numbers(there.pages)}")
    if there.aux is not None:
        words.append(f"aux slot {there.aux}")
    return ", ".join(words)


def asked(event: CallStarted) -> str:
    """The call, as the caller wrote it."""
    arguments = [f"{page}" for page in event.pages[:MOST_NUMBERS]]
    if len(event.pages) > MOST_NUMBERS:
        arguments.append(f"... {len(event.pages)} pages")
    if event.last:
        arguments.append("last")
    return f"{event.what}({', '.join(arguments)})" + (f", a misuse: {plain(event.misuse)}" if event.misuse else "")


class Teller:
    """The words for the events of one history. It needs the whole of it: events refer to errors and calls."""

    def __init__(self, history: History) -> None:
        self.history: Final = history
        self._errors: Final = {event.ref: event for event in history.events if isinstance(event, ErrorSeen)}
        self._calls: Final = {event.seq: event for event in history.events if isinstance(event, CallStarted)}
        self._rooms: Final = sum(isinstance(event, RoomOpened) for event in history.events)
        self._room_of_handle: Final = {e.handle: e.room for e in history.events if isinstance(e, TransferMade)}

    def error(self, ref: int) -> str:
        """``Type: text``, and what caused it."""
        words: list[str] = []
        wanted: int | None = ref
        while wanted is not None and len(words) <= MOST_CAUSES:
            error = self._errors.get(wanted)
            words.append(f"error {wanted}, which was lost" if error is None else plain(str(error)))
            wanted = None if error is None else error.cause
        return ", caused by ".join(words)

    def came(self, event: CallEnded) -> str:
        """What a call came to."""
        if event.error is not None:
            by = f", attributed to {plain(event.attribution)}" if event.attribution is not None else ""
            return f"raised {self.error(event.error)}{by}"
        return "returned" if event.value is None else f"answered {plain(event.value)}"

    def _transport(self, request: str, answer: str | None, error: int | None) -> str:
        if error is not None:
            return f"the transport was asked: {request}; it raised {self.error(error)}"
        return f"the transport was asked: {request}" + ("" if answer is None else f"; it answered {plain(answer)}")

    def _make(self, event: TransferMade) -> str:
        words = [f"make a transfer to {plain(event.peer)}", f"pages {_numbers(event.pages)}"]
        if event.target:
            words[-1] += f" to its pages {_numbers(event.target)}"
        if event.aux is not None:
            words.append(f"aux slot {event.aux}")
        if event.message:
            words.append(f"then notify {_quoted(event.message)}")
        made = "nothing" if event.handle is None else f"handle {event.handle}"
        return self._transport(", ".join(words), made, event.error)

    def words(self, event: AnyEvent) -> str:
        """One event, in a line without a newline."""
        match event:
            case ErrorSeen():
                return f"an error is seen: {self.error(event.ref)}"
            case RoomOpened():
                key = "without a key" if event.room is None else f"with key {event.room}"
                where = "; ".join(map(_destination, event.destinations)) or "nobody"
                return f"room {event.id} is opened {key}: {count(event.pages, 'page')} to {where}"
            case CallStarted():
                return f"the caller calls {asked(event)}"
            case CallEnded():
                return f"{self._name(event.of)} {self.came(event)}"
            case CallStuck():
                at = f"; it is at {plain(event.stack[-1])}" if event.stack else ""
                return f"{self._name(event.of)} has not come back after {event.after_s:g} s{at}"
            case TransferMade():
                return self._make(event)
            case TransferPosted():
                return self._transport(f"post handle {event.handle}", event.answer, event.error)
            case TransferChecked():
                return self._transport(f"check handle {event.handle}", event.answer, event.error)
            case TransferReleased(how="last reference"):
                raised = "" if event.error is None else f"; that raised {self.error(event.error)}"
                return f"the last reference to handle {event.handle} is dropped, which releases it{raised}"
            case TransferReleased():
                return self._transport(f"release handle {event.handle}", None, event.error)
            case NotificationSent():
                return self._transport(f"notify {plain(event.peer)} {_quoted(event.message)}", None, event.error)
            case PeerAdded():
                return self._transport(f"add {_process(event.peer, event.generation)}", None, event.error)
            case PeerRemoved():
                return self._transport(f"remove {plain(event.peer)}", None, None)
            case _:
                return _of_the_world(event)

    def _name(self, of: int) -> str:
        call = self._calls.get(of)
        return f"call {of}" if call is None else f"{call.what}()"

    def _room(self, event: AnyEvent) -> int | None:
        """The key of the room that the line must name. A transfer's events may leave it to their transfer.made."""
        match event:
            case RoomOpened():
                return None
            case TransferPosted() | TransferChecked() | TransferReleased() | BytesLanded() if event.room is None:
                return self._room_of_handle.get(event.handle)
            case _:
                return event.room

    def line(self, event: AnyEvent, words: str) -> str:
        """Words about an event, with its seq, its time in seconds, its thread unless that is
        the caller's main one, and its room where there are several."""
        marks = [f"thread {event.thread}"] if event.thread else []
        room = self._room(event)
        if self._rooms > 1 and room is not None:
            marks.append(f"room {room}")
        about = f"{', '.join(marks)}: " if marks else ""
        inside = "  " if event.call is not None else ""
        return f"{event.seq:5} {event.t:10.6f}  {inside}{about}{words}"

    def lines(self) -> Iterator[str]:
        """The whole history. A call in which nothing was seen is one line, and an error is told where it is met."""
        yield from _headings(self.history.header)
        events = self.history.events
        met = set(map(_met, events))
        steps = 0
        skip = -1
        for number, event in enumerate(events, 1):
            following = events[number] if number < len(events) else None
            if isinstance(event, StepStarted):
                steps += 1
                yield f"{steps}. {plain(event.text)}"
            elif isinstance(event, CallStarted) and isinstance(following, CallEnded) and following.of == event.seq:
                skip = following.seq
                yield self.line(event, f"the caller calls {asked(event)}: it {self.came(following)}")
            elif event.seq != skip and not (isinstance(event, ErrorSeen) and event.ref in met):
                yield self.line(event, self.words(event))
        if not events or not isinstance(events[-1], RunEnded):
            yield "the history is incomplete: it does not say how the run ended"


def _met(event: AnyEvent) -> int | None:
    """The error that the event refers to."""
    if isinstance(event, MayFail):
        return event.error
    return event.cause if isinstance(event, ErrorSeen) else None


def _headings(header: Header) -> Iterator[str]:
    subject = plain(header.subject) or "a sender without a name"
    versions = "".join(f", {plain(name)} {plain(version)}" for name, version in sorted(header.versions.items()))
    yield f"{FORMAT}, {header.source}: {subject}, profile {header.profile}, {header.operation}{versions}"
    if header.wall:
        yield f"time 0 is {plain(header.wall)}"
    missing = [kind for kind in map(kind_of, EVENT_TYPES) if kind not in header.vantage]
    if missing:
        yield f"not recorded, or not completely: {', '.join(missing)}"


def _process(peer: str, generation: int) -> str:
    return plain(peer) + (f", generation {generation}" if generation else "")


_World = (
    PeerLost
    | PeerSilent
    | PeerResumed
    | PeerReturned
    | LinkCut
    | BytesLanded
    | BytesCompared
    | PagesHeld
    | NotificationHeard
    | ControlArrived
    | WorkerEnded
    | ClockAdvanced
    | FaultsOver
    | KeptCounted
    | ImportProbed
    | StepStarted
    | EventsDropped
    | RunEnded
)


def _of_the_world(event: _World) -> str:
    """What is neither a call of the caller's nor one of the transport."""
    match event:
        case PeerLost():
            return f"the process of {plain(event.peer)} is gone, and nobody is told"
        case PeerSilent():
            return f"the process of {plain(event.peer)} stands still, and nobody is told"
        case PeerResumed():
            return f"the process of {plain(event.peer)} goes on"
        case PeerReturned():
            return f"a new process comes back as {_process(event.peer, event.generation)}"
        case LinkCut():
            return f"the connection to {plain(event.peer)} breaks; its process lives"
        case BytesLanded():
            marks = [("all of them", event.whole), ("late", event.late), ("another request's", event.foreign)]
            which = "".join(f", {mark}" for mark, set_ in marks if set_)
            of = "a transfer" if event.handle is None else f"handle {event.handle}"
            return f"{count(event.bytes, 'byte')} of {of} landed{which}"
        case BytesCompared():
            what = "the memory outside the room" if event.outside else "the memory of the peers"
            return f"{what} is compared: {plain(event.differ) or 'no byte differs'}"
        case PagesHeld():
            return f"the sender says that these pages must not be reused: {_numbers(event.pages)}"
        case NotificationHeard():
            key = "" if event.incarnation is None else f" (key {event.incarnation})"
            reason = f": {plain(event.reason)}" if event.reason else ""
            return f"{plain(event.peer)} is told: {event.says} of room {event.id}{key}{reason}"
        case ControlArrived():
            which = "a malformed control message" if event.malformed else "a control message"
            return f"{which} arrives" + (f": {_quoted(event.message)}" if event.message else "")
        case WorkerEnded():
            return f"the worker {_quoted(event.name)} has ended"
        case ClockAdvanced():
            return f"{event.by_s:g} s pass"
        case FaultsOver():
            settles = "what is in flight finishes" if event.settles else "what is in flight stays silent"
            return f"from here nothing goes wrong any more; {settles}"
        case KeptCounted():
            entries, flight = ("unknown" if kept is None else kept for kept in (event.entries, event.in_flight))
            return f"what the sender still holds: entries about rooms {entries}, transfers in flight {flight}"
        case ImportProbed():
            outcome = f"it fails: {plain(event.failure)}" if event.failure else "it can be imported"
            return f"{plain(event.module)} is imported where there is no nixl: {outcome}"
        case StepStarted():
            return f"the step starts: {plain(event.text)}"
        case EventsDropped():
            return f"lost here: {count(event.count, 'event')}"
        case RunEnded():
            how = "the run is complete" if event.complete else "the run is cut off"
            return how + (f": {plain(event.why)}" if event.why else "")
        case _:
            assert_never(event)


def tell(history: History) -> Iterator[str]:
    """The history line by line, headings first; steps are numbered where there are any."""
    return Teller(history).lines()
