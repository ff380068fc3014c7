"""A history in words: what the caller asked, what the transport answered inside the call, and what came back.

Every report, the diagrams, the timeline and the transcripts of the scenarios take their words from here. Names and
texts come from outside: what a terminal would not print is written as Python escapes it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, assert_never

from kvsender_spec.history import events as h
from kvsender_spec.history.header import FORMAT, party
from kvsender_spec.history.plain import count, one_line, short
from kvsender_spec.history.words import Destination, Says

TEXT_LIMIT: Final = 400
"""Characters that are told of one text."""
LINE_LIMIT: Final = 1000
"""Characters that are told of one event, whatever it may hold."""
MOST_NUMBERS: Final = 8
"""The most page ids that are told of one list."""
MOST_CAUSES: Final = 8
"""The most causes that are told of one error."""

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
AboutPeer: TypeAlias = (
    h.PeerAdded
    | h.PeerRemoved
    | h.PeerLost
    | h.PeerSilent
    | h.PeerResumed
    | h.PeerReturned
    | h.LinkCut
    | h.NotificationSent
    | h.NotificationHeard
)
"""The events about one peer and no transfer."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the telling: the title of a step, an event, or a clause that is broken."""

    kind: Literal["step", "event", "broken"]
    text: str
    seq: int
    """Of the last event that is told up to here."""


@dataclass(frozen=True, slots=True)
class StepEvents:
    """One step and all that was seen before the next one."""

    number: int
    """From 1, as in the trace; 0 for what comes before the first step."""
    title: str
    events: tuple[h.AnyEvent, ...]


def asked(event: h.CallStarted) -> str:
    """The call, as the caller wrote it."""
    arguments = [f"{page}" for page in event.pages[:MOST_NUMBERS]]
    if len(event.pages) > MOST_NUMBERS:
        arguments.append(f"... {len(event.pages)} pages")
    if event.last:
        arguments.append("last")
    return f"{event.what}({', '.join(arguments)})" + (f", a misuse: {_plain(event.misuse)}" if event.misuse else "")


class Teller:
    """The words for the events of one history. It needs the whole of it: events refer to errors, calls and rooms."""

    def __init__(self, history: h.History) -> None:
        self._events: Final = history.events
        self._party: Final = party(history.header.role, history.header.operation)
        self._errors: Final = {event.ref: event for event in history.events if isinstance(event, h.ErrorSeen)}
        self._met: Final = {
            event.cause if isinstance(event, h.ErrorSeen) else event.error
            for event in history.events
            if isinstance(event, (h.ErrorSeen, h.MayFail))
        }
        """The errors that others refer to."""
        self._calls: Final = {event.seq: event for event in history.events if isinstance(event, h.CallStarted)}
        opened = [event for event in history.events if isinstance(event, h.RoomOpened)]
        self._several: Final = len(opened) > 1
        self._ids: Final = {event.room: event.id for event in opened}
        self._keys: Final[dict[int, list[int | None]]] = defaultdict(list)
        for event in opened:
            self._keys[event.id].append(event.room)
        self._room_of_handle: Final = {e.handle: e.room for e in history.events if isinstance(e, h.TransferMade)}

    # -- parts of events

    def room(self, key: int | None, id_: int | None = None) -> str:
        """A room by its id, which need only be given where the key may be wrong; with its key unless the history
        opened this id once, with this key."""
        number = self._ids.get(key) if id_ is None else id_
        if number is None:
            return "a room" if key is None else f"the room with key {key}"
        return f"room {number}" if key is None or self._keys.get(number) == [key] else f"room {number} (key {key})"

    def error(self, ref: int, remark: str = "") -> str:
        """``Type: text``, the remark, and what caused it."""
        words: list[str] = []
        wanted: int | None = ref
        while wanted is not None and len(words) <= MOST_CAUSES:
            error = self._errors.get(wanted)
            said = f"error {wanted}, which was lost" if error is None else _plain(str(error)).removesuffix(": ")
            words.append(said if words else said + remark)
            wanted = None if error is None else error.cause
        return ", caused by ".join(words)

    def outcome(self, event: h.CallEnded) -> str:
        """What a call came to."""
        if event.error is not None:
            whose = f" (attributed to {_plain(event.attribution)})" if event.attribution is not None else ""
            return f"raised {self.error(event.error, whose)}"
        return "returned" if event.value is None else f"answered {_plain(event.value)}"

    def request(self, event: TransportCall) -> str:
        """What the sender asked the transport for, in short."""
        match event:
            case h.TransferMade():
                handle = "a handle" if event.handle is None else f"handle {event.handle}"
                return f"make {handle} for {_plain(event.peer)}"
            case h.TransferPosted():
                return f"post handle {event.handle}"
            case h.TransferChecked():
                return f"check handle {event.handle}"
            case h.TransferReleased(how="last reference"):
                return f"drop the last reference to handle {event.handle}"
            case h.TransferReleased(how="deregistration"):
                does = "writes" if self._party == "reader" else "reads"
                return f"deregister what handle {event.handle} {does}"
            case h.TransferReleased():
                return f"release handle {event.handle}"
            case h.NotificationSent():
                return f"notify {_plain(event.peer)}: {_quoted(event.message)}"
            case h.PeerAdded():
                return f"add {_process(event)}"
            case h.PeerRemoved():
                return f"remove {_plain(event.peer)}"
            case _:
                assert_never(event)

    def answer(self, event: TransportCall) -> str:
        """What the transport answered; empty where there is nothing to answer."""
        if isinstance(event, h.MayFail) and event.error is not None:
            return f"raised {self.error(event.error)}"
        match event:
            case h.TransferMade(handle=None):
                return "nothing"
            case h.TransferPosted() | h.TransferChecked():
                return "nothing" if event.answer is None else _plain(event.answer)
            case _:
                return ""

    def heard(self, event: h.NotificationHeard) -> str:
        """What a peer is told."""
        reason = f": {_plain(event.reason)}" if event.reason else ""
        return f"{event.says} of {self.room(event.incarnation, event.id)}{reason}"

    # -- whole events

    def told(self, event: h.AnyEvent) -> bool:
        """Whether the event is told by itself; a step is a title, and an error is told where it is met."""
        return not (isinstance(event, h.StepStarted) or (isinstance(event, h.ErrorSeen) and event.ref in self._met))

    def about(self, event: h.AnyEvent, words: str) -> str:
        """Words about an event after its thread, unless that is the caller's main one, and its room where there are
        several."""
        marks = [f"thread {event.thread}"] if event.thread else []
        key = event.room
        of_handle = (h.TransferPosted, h.TransferChecked, h.TransferReleased, h.BytesLanded)
        if key is None and isinstance(event, of_handle):
            key = self._room_of_handle.get(event.handle)
        if self._several and key is not None and not isinstance(event, h.RoomOpened):
            marks.append(self.room(key))
        return f"{', '.join(marks)}: {words}" if marks else words

    def words(self, event: h.AnyEvent) -> str:
        """One event, in a line. It is printable, as is whatever this class answers."""
        return short(self._words(event), LINE_LIMIT)

    def _words(self, event: h.AnyEvent) -> str:
        if isinstance(event, TransportCall):
            return self._transport(event)
        match event:
            case h.ErrorSeen():
                return f"an error is seen: {self.error(event.ref)}"
            case h.RoomOpened(own=(_, *_)) if self._party in ("receiver", "holder"):
                who = ", ".join(sorted(_plain(d.peer) for d in event.destinations))
                which = f"{self.room(event.room, event.id)} is opened at pages {_numbers(event.own)}"
                return f"{which}, in {count(event.parts, 'part')} of {who}"
            case h.RoomOpened():
                where = "; ".join(map(_destination, event.destinations)) or "nobody"
                way = "from" if event.operation == "READ" else "to"
                return f"{self.room(event.room, event.id)} is opened: {count(event.pages, 'page')} {way} {where}"
            case h.CallStarted():
                return f"the caller calls {asked(event)}"
            case h.CallEnded():
                return f"{self._name(event.of)} {self.outcome(event)}"
            case h.CallStuck():
                at = f"; it is at {_plain(event.stack[-1])}" if event.stack else ""
                return f"{self._name(event.of)} has not come back after {event.after_s:g} s{at}"
            case h.PeerLost():
                return f"the process of {_plain(event.peer)} is gone, and nobody is told"
            case h.PeerSilent():
                return f"the process of {_plain(event.peer)} is stopped, and nobody is told"
            case h.PeerResumed():
                return f"the process of {_plain(event.peer)} goes on"
            case h.PeerReturned():
                generation = f", generation {event.generation}" if event.generation else ""
                name = f", under the name of {_plain(event.peer)}" if event.was else ""
                return f"{_plain(event.was or event.peer)} comes back as a new process{generation}{name}"
            case h.LinkCut():
                return f"the connection to {_plain(event.peer)} breaks; its process lives"
            case h.PagesRefilled(never=True):
                return f"{_plain(event.peer)} has granted pages {_numbers(event.pages)}, which cannot be"
            case h.PagesRefilled():
                return f"{_plain(event.peer)} gives pages {_numbers(event.pages)} to another request"
            case h.BytesLanded():
                marks = ["late"] * event.late + ["another request's"] * event.foreign
                how = f" ({', '.join(marks)})" if marks else ""
                of = "a transfer" if event.handle is None else f"handle {event.handle}"
                of += f" of {_plain(event.peer)}" if event.peer else ""
                return f"{'all ' if event.whole else ''}{count(event.bytes, 'byte')} of {of} land{how}"
            case h.BytesCompared():
                where = " outside the room's pages" if event.outside else ""
                result = f"differ: {_plain(event.differ)}" if event.differ else "are equal"
                return f"the bytes of {self._party} and peers{where} {result}"
            case h.PagesHeld():
                return f"the {self._party} says that these pages must not be reused: {_numbers(event.pages)}"
            case h.NotificationHeard():
                return f"{_plain(event.peer)} is told: {self.heard(event)}"
            case h.ControlArrived():
                which = "a malformed control message" if event.malformed else "a control message"
                return f"{which} arrives" + (f": {_quoted(event.message)}" if event.message else "")
            case h.WorkerEnded():
                return f"the worker {_quoted(event.name)} has ended"
            case h.ClockAdvanced():
                return f"{event.by_s:g} s pass"
            case h.FaultsOver():
                rest = "what is in flight finishes" if event.settles else "what is in flight stays silent"
                return f"from here nothing goes wrong any more; {rest}"
            case h.KeptCounted():
                counts = (event.entries, event.in_flight, event.held)
                entries, flight, held = ("unknown" if count is None else count for count in counts)
                kept = f"entries about rooms {entries}, transfers in flight {flight}, lists and registrations {held}"
                return f"what the {self._party} still holds: {kept}"
            case h.NoticeArrived():
                said = f"part {event.part}" if event.says is Says.PROGRESS else event.says.value
                said += " (nothing of it is under way)" if event.quiesced else ""
                how = f", {event.how}" if event.how else ""
                return f"{_plain(event.peer)} says: {said}{how}"
            case h.FenceTold():
                which = f", generation {event.generation}," if event.generation else ""
                return f"it is shown that nothing of {_plain(event.peer)}{which} can touch the pages any more"
            case h.PagesReused():
                late = "" if event.raised_before and event.raised_after else "; a stamp is as it was granted"
                done = "are refused" if event.refused else "are given to another request"
                return f"pages {_numbers(event.pages)} {done}{late}"
            case h.PagesPublished():
                return f"the {self._party} lets other requests use pages {_numbers(event.pages)}"
            case h.ImportProbed():
                outcome = f"fails: {_plain(event.failure)}" if event.failure else "succeeds"
                return f"the import of {_plain(event.module)} without nixl {outcome}"
            case h.StepStarted():
                return f"the step starts: {_plain(event.text)}"
            case h.EventsDropped():
                return f"lost here: {count(event.count, 'event')}"
            case h.RunEnded():
                how = "the run is complete" if event.complete else "the run is cut off"
                return how + (f": {_plain(event.why)}" if event.why else "")
            case _:
                assert_never(event)

    def _transport(self, event: TransportCall) -> str:
        raised = isinstance(event, h.MayFail) and event.error is not None
        answer = self.answer(event)
        if isinstance(event, h.TransferReleased) and event.how == "last reference":
            end = f"; that {answer}" if raised else ""
            return f"the last reference to handle {event.handle} is dropped, which releases it{end}"
        what = _of_transfer(event) if isinstance(event, h.TransferMade) else ""
        end = f"; it {answer}" if raised else f"; it answered {answer}" if answer else ""
        return f"the transport was asked: {self.request(event)}{what}{end}"

    def _name(self, of: int) -> str:
        call = self._calls.get(of)
        return f"call {of}" if call is None else f"{call.what}()"

    # -- the whole history

    def steps(self) -> list[StepEvents]:
        """The events by step; in a history without steps, by call of the caller's main thread.

        What comes before the first one is a step only if there is something to tell.
        """
        steps = any(isinstance(event, h.StepStarted) for event in self._events)
        found: list[tuple[str, list[h.AnyEvent]]] = [("before the first step", [])]
        for event in self._events:
            if isinstance(event, h.StepStarted):
                found.append((_plain(event.text), []))
                continue
            if not steps and isinstance(event, h.CallStarted) and event.thread == 0:
                found.append((self.about(event, asked(event)), []))
            found[-1][1].append(event)
        skip = not any(map(self.told, found[0][1]))
        return [StepEvents(number, title, tuple(events)) for number, (title, events) in enumerate(found)][skip:]

    def lines(self) -> Iterator[Line]:
        """A line an event, with its seq and its time in seconds; a call in which nothing was seen is one line."""
        steps = 0
        end = -1
        for event, after in zip(self._events, [*self._events[1:], None], strict=False):
            if isinstance(event, h.StepStarted):
                steps += 1
                yield Line("step", f"{steps}. {_plain(event.text)}", event.seq)
            elif event.seq != end and self.told(event):
                words, last = self.words(event), event.seq
                if isinstance(event, h.CallStarted) and isinstance(after, h.CallEnded) and after.of == event.seq:
                    end = last = after.seq
                    words = short(f"{words}: it {self.outcome(after)}", LINE_LIMIT)
                inside = "  " if event.call is not None else ""
                yield Line("event", f"{event.seq:5} {event.t:10.6f}  {inside}{self.about(event, words)}", last)


def tell(history: h.History) -> Iterator[str]:
    """The history line by line, headings first; steps are numbered where there are any."""
    header = history.header
    subject = header.subject or "a sender without a name"
    versions = "".join(f", {_plain(name)} {_plain(version)}" for name, version in sorted(header.versions.items()))
    yield f"{FORMAT}, {header.source}: {_plain(subject)}, profile {header.profile}, {header.operation}{versions}"
    if header.wall:
        yield f"time 0 is {_plain(header.wall)}"
    missing = [kind for kind in h.KINDS if kind not in header.vantage]
    if missing:
        yield f"not recorded, or not completely: {', '.join(missing)}"
    yield from (line.text for line in Teller(history).lines())
    if not history.events or not isinstance(history.events[-1], h.RunEnded):
        yield "the history is incomplete: it does not say how the run ended"


def _plain(text: str) -> str:
    return one_line(text, TEXT_LIMIT)


def _quoted(text: str) -> str:
    return repr(short(text, TEXT_LIMIT))


def _numbers(values: tuple[int, ...]) -> str:
    shown = ", ".join(map(str, values[:MOST_NUMBERS])) or "none"
    return shown if len(values) <= MOST_NUMBERS else f"{shown} and {len(values) - MOST_NUMBERS} more"


def _process(event: h.PeerAdded | Destination) -> str:
    return _plain(event.peer) + (f", generation {event.generation}" if event.generation else "")


def _destination(there: Destination) -> str:
    words = [_process(there)]
    words += ["a dummy"] if there.dummy else [f"pages {_numbers(there.pages)}"] if there.pages else []
    words += [] if there.aux is None else [f"aux slot {there.aux}"]
    return ", ".join(words)


def _of_transfer(event: h.TransferMade) -> str:
    """What it moves, and where to."""
    to = f" to its pages {_numbers(event.target)}" if event.target else ""
    words = [f"pages {_numbers(event.pages)}{to}"] if event.pages or to else []
    words += [] if event.aux is None else [f"aux slot {event.aux}"]
    words += [f"then notify {_quoted(event.message)}"] if event.message else []
    return "".join(f", {part}" for part in words)
