"""What was done to a sender, as data: a scene, and the steps taken in it. Written as NDJSON, one object a line.

A trace holds what the *kit* did (calls, and what the world was made to do before each), never what the sender
answered: replayed against any sender it asks the same questions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar

from kvsender_spec.faults import Fault, Kind, Point

FORMAT: Final = "kvsender-trace/1"
_E = TypeVar("_E", bound=StrEnum)


class Call(StrEnum):
    """What the kit does in one step: a call of the owner, or something that happens to the world."""

    OPEN = "open"
    SEND = "send"
    POLL = "poll"
    FAILURE_EXCEPTION = "failure_exception"
    ABORT = "abort"
    CLEAR = "clear"
    METRIC = "get_transfer_metric"
    WAIT = "wait"
    """The clock passes the drain timeout."""
    WAIT_LONG = "wait_long"
    """The clock passes the transfer timeout."""
    KILL = "kill"
    """The peer's process is gone; `room` is the number of the peer."""
    STOP = "stop"
    """The peer's process is stopped: it stays silent; `room` is the number of the peer."""
    RESTART = "restart"
    """The peer comes back as a new process under its name and registers again; `room` is the number of the peer."""
    CONTROL = "control"
    """A malformed control message arrives from a peer; `room` chooses which."""
    FAULTS_OVER = "faults_over"
    """From here nothing goes wrong any more; what a polled room has in flight finishes, unless the scene is silent."""
    SETTLE = "settle"
    """Everything in flight finishes, stopped peers go on, and the system's background work gets its time."""


WORLD_CALLS: Final = frozenset(
    {
        Call.WAIT,
        Call.WAIT_LONG,
        Call.KILL,
        Call.STOP,
        Call.RESTART,
        Call.CONTROL,
        Call.FAULTS_OVER,
        Call.SETTLE,
    }
)
OF_AN_END: Final = frozenset({Call.FAULTS_OVER, Call.SETTLE})
"""A trace with one of these has an end of its own; every other one is given an end when it is run."""
_OF_NOTHING: Final = frozenset({Call.WAIT, Call.WAIT_LONG, Call.FAULTS_OVER, Call.SETTLE})
"""Steps that are about no room and no peer."""


class Progress(StrEnum):
    """What the room's handles in flight do before the call."""

    NONE = "none"
    ALL = "all"
    """All of them finish: their bytes land, and the next check of each answers DONE."""
    NEWEST = "newest"
    """Only the one posted last finishes."""
    HALF = "half"
    """Every other one finishes, the oldest among them."""
    PEER_0 = "peer 0"
    """Those to the first peer finish, however many transfers a sender makes of a chunk."""
    PEER_1 = "peer 1"


class Misuse(StrEnum):
    """A mistake of the owner (KS-8.1). The room must go on as if it had not been made."""

    PAGE_OUT_OF_RANGE = "page out of range"
    NEGATIVE_PAGE = "negative page"
    DUPLICATE_PAGE = "page twice in a chunk"
    PAGE_AGAIN = "page of an earlier chunk"
    TOO_MANY_PAGES = "more pages than announced"
    WRONG_DTYPE = "page ids that are not integers"
    BEFORE_INIT = "send before init"


@dataclass(frozen=True, slots=True)
class Meeting:
    """Another thread calls the same sender while the step's own call, or a worker, is about to ask the transport.

    ``point`` is what is about to be asked, at the ``nth`` time (from 0) since the step began.
    """

    call: Call
    point: Point
    nth: int = 0

    def __str__(self) -> str:
        where = self.point.value if self.nth == 0 else f"{self.point.value}[{self.nth}]"
        return f"{self.call.value} from another thread at {where}"


@dataclass(frozen=True, slots=True)
class Step:
    call: Call
    room: int = 0
    progress: Progress = Progress.NONE
    fault: Fault | None = None
    misuse: Misuse | None = None
    meeting: Meeting | None = None
    opening: int = 0
    """Which room of those that were opened under this number: 1 is the first one, 0 the one that is open now."""

    def __str__(self) -> str:
        which = f" opening {self.opening}" if self.opening else ""
        words = [self.call.value if self.call in _OF_NOTHING else f"{self.call.value}({self.room}{which})"]
        if self.progress is not Progress.NONE:
            words.append(f"after {self.progress} finished")
        if self.fault is not None:
            words.append(f"with {self.fault}")
        if self.misuse is not None:
            words.append(f"with {self.misuse.value}")
        if self.meeting is not None:
            words.append(f"meeting {self.meeting}")
        return " ".join(words)


_DUMMIES: Final = " dummy"
_NOT_SHARED: Final = "one peer a room"
_DONE_AT_POST: Final = "transfers complete at the post"
_DROPS_METADATA: Final = "metadata dropped after a disconnect"
_SILENT: Final = "silent at the end"


@dataclass(frozen=True, slots=True)
class Scene:
    """What there is before the first step.

    ``chunks`` gives, for each room, the number of pages of each of its chunks; ``(0,)`` is a room whose only chunk is
    a last chunk without pages. ``peers`` real peers share every room, and ``dummies`` more take part without receiving.
    """

    chunks: tuple[tuple[int, ...], ...] = ((1,),)
    peers: int = 1
    dummies: int = 0
    shared: bool = True
    """True: every room goes to all peers. False: room r goes to peer r modulo the number of peers only."""
    done_at_post: bool = False
    """Transfers complete inside transfer(), as small ones may."""
    drops_metadata: bool = False
    """After a disconnect the agent forgets the peer (nixl 0.6 to 1.0) instead of keeping it (1.5)."""
    silent: bool = False
    """At the end nothing settles by itself: only deadlines can end a room."""

    def __str__(self) -> str:
        rooms = " and ".join("+".join(map(str, chunks)) + " pages" for chunks in self.chunks)
        words = [f"rooms of {rooms}", f"{self.peers} peer{'s' if self.peers > 1 else ''}"]
        for wanted, text in (
            (self.dummies > 0, f"{self.dummies}{_DUMMIES}"),
            (not self.shared, _NOT_SHARED),
            (self.done_at_post, _DONE_AT_POST),
            (self.drops_metadata, _DROPS_METADATA),
            (self.silent, _SILENT),
        ):
            if wanted:
                words.append(text)
        return ", ".join(words)


@dataclass(frozen=True, slots=True)
class Trace:
    scene: Scene
    steps: tuple[Step, ...]

    def dump(self) -> str:
        """NDJSON: a line for the scene, then one a step."""
        scene = self.scene
        head: dict[str, object] = {
            "format": FORMAT,
            "chunks": [list(chunks) for chunks in scene.chunks],
            "peers": scene.peers,
            "dummies": scene.dummies,
            "shared": scene.shared,
            "done_at_post": scene.done_at_post,
            "drops_metadata": scene.drops_metadata,
            "silent": scene.silent,
        }
        lines = [json.dumps(head)]
        lines += [json.dumps(_step_fields(step)) for step in self.steps]
        return "\n".join(lines) + "\n"


def _step_fields(step: Step) -> dict[str, object]:
    fields: dict[str, object] = {"call": step.call.value, "room": step.room}
    if step.progress is not Progress.NONE:
        fields["progress"] = str(step.progress)
    if step.fault is not None:
        fields["fault"] = {"point": step.fault.point.value, "kind": step.fault.kind.value, "nth": step.fault.nth}
    if step.misuse is not None:
        fields["misuse"] = step.misuse.value
    if step.meeting is not None:
        meeting = step.meeting
        fields["meeting"] = {"call": meeting.call.value, "point": meeting.point.value, "nth": meeting.nth}
    if step.opening:
        fields["opening"] = step.opening
    return fields


class TraceError(ValueError):
    """A trace that cannot be read; the message names the value, and the line where there are several."""


class _Fields:
    """One line's object, with typed access that names what is wrong."""

    def __init__(self, number: int, fields: dict[str, object]) -> None:
        self.number = number
        self.fields = fields

    def fail(self, text: str) -> TraceError:
        return TraceError(f"line {self.number}: {text}")

    def integer(self, key: str, default: int = 0) -> int:
        value = self.fields.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.fail(f"{key} must be a number from 0, not {value!r}")
        return value

    def flag(self, key: str) -> bool:
        value = self.fields.get(key, False)
        if not isinstance(value, bool):
            raise self.fail(f"{key} must be true or false, not {value!r}")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        value = self.fields.get(key, default)
        if not isinstance(value, str):
            raise self.fail(f"{key} must be a string, not {value!r}")
        return value

    def sub(self, key: str) -> _Fields | None:
        value = self.fields.get(key)
        return None if value is None else _object(self.number, value)

    def chunks(self) -> tuple[tuple[int, ...], ...]:
        value = self.fields.get("chunks")
        rooms: list[tuple[int, ...]] = []
        if isinstance(value, list):
            for room in value:
                pages = [n for n in room if isinstance(n, int) and n >= 0] if isinstance(room, list) else []
                if not pages or not isinstance(room, list) or len(pages) != len(room):
                    raise self.fail(f"chunks must be lists of page counts, not {room!r}")
                rooms.append(tuple(pages))
        if not rooms:
            raise self.fail(f"chunks must be a list of rooms, not {value!r}")
        return tuple(rooms)


def _object(number: int, value: object) -> _Fields:
    if not isinstance(value, dict):
        raise TraceError(f"line {number}: expected an object, not {value!r}")
    return _Fields(number, {str(key): item for key, item in value.items()})


def _parse_line(number: int, line: str) -> _Fields:
    try:
        value: object = json.loads(line)
    except json.JSONDecodeError as error:
        raise TraceError(f"line {number}: not JSON: {error}") from error
    return _object(number, value)


def _named(members: type[_E], text: str) -> _E:
    try:
        return members(text)
    except ValueError:
        known = ", ".join(str(member) for member in members)
        raise TraceError(f"{text!r} is not one of: {known}") from None


def _member(fields: _Fields, members: type[_E], text: str) -> _E:
    try:
        return _named(members, text)
    except TraceError as error:
        raise fields.fail(str(error)) from None


def load(lines: Iterable[str]) -> Trace:
    """Read what ``Trace.dump`` wrote. Raises TraceError, which names the line and the value, for anything else."""
    parsed = [_parse_line(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not parsed:
        raise TraceError("line 1: the trace is empty")
    head = parsed[0]
    if head.text("format", "") != FORMAT:
        raise head.fail(f"format must be {FORMAT!r}, not {head.text('format', '')!r}")
    scene = Scene(
        chunks=head.chunks(),
        peers=head.integer("peers", 1),
        dummies=head.integer("dummies"),
        shared=head.flag("shared"),
        done_at_post=head.flag("done_at_post"),
        drops_metadata=head.flag("drops_metadata"),
        silent=head.flag("silent"),
    )
    steps: list[Step] = []
    for fields in parsed[1:]:
        fault = fields.sub("fault")
        meeting = fields.sub("meeting")
        misuse = fields.fields.get("misuse")
        steps.append(
            Step(
                call=_member(fields, Call, fields.text("call")),
                room=fields.integer("room"),
                progress=_member(fields, Progress, fields.text("progress", Progress.NONE.value)),
                fault=None
                if fault is None
                else Fault(
                    _member(fault, Point, fault.text("point")),
                    _member(fault, Kind, fault.text("kind")),
                    fault.integer("nth"),
                ),
                misuse=None if misuse is None else _member(fields, Misuse, fields.text("misuse")),
                meeting=None
                if meeting is None
                else Meeting(
                    _member(meeting, Call, meeting.text("call")),
                    _member(meeting, Point, meeting.text("point")),
                    meeting.integer("nth"),
                ),
                opening=fields.integer("opening"),
            )
        )
    return Trace(scene, tuple(steps))


# ------------------------------------------------------------------------------ the printed forms, read back


def parse_step(text: str) -> Step:
    """Read what ``str`` makes of a step. ``wait`` and ``wait_long``, which are about no room, may come without one.

    Raises TraceError, which names the word, for anything else.
    """
    alone, met, thread = text.partition(" meeting ")
    what, *details = alone.split(" with ")
    deed, after, finished = what.partition(" after ")
    name, bracket, number = deed.partition("(")
    number, _, opening = number.removesuffix(")").partition(" opening ")
    call = _named(Call, name)
    if not bracket and call not in _OF_NOTHING:
        raise TraceError(f"{deed!r} names no room or peer: write {name}(0)")
    fault: Fault | None = None
    misuse: Misuse | None = None
    for detail in details:
        if "=" in detail:
            fault = _parse_fault(detail)
        else:
            misuse = _named(Misuse, detail)
    step = Step(
        call,
        room=_count(number) if bracket else 0,
        progress=_named(Progress, finished.removesuffix(" finished")) if after else Progress.NONE,
        fault=fault,
        misuse=misuse,
        meeting=_parse_meeting(thread) if met else None,
        opening=_count(opening) if opening else 0,
    )
    # There is one way to write a step; this refuses what the lines above read too kindly.
    written = str(step)
    if text != written:
        raise TraceError(f"{text!r} is no step: did you mean {written!r}?")
    return step


def _parse_fault(text: str) -> Fault:
    where, _, kind = text.partition("=")
    point, nth = _parse_point(where)
    return Fault(point, _named(Kind, kind), nth)


def _parse_meeting(text: str) -> Meeting:
    call, _, where = text.partition(" from another thread at ")
    point, nth = _parse_point(where)
    return Meeting(_named(Call, call), point, nth)


def _parse_point(text: str) -> tuple[Point, int]:
    point, bracket, nth = text.partition("[")
    return _named(Point, point), _count(nth.removesuffix("]")) if bracket else 0


def parse_scene(text: str) -> Scene:
    """Read what ``str`` makes of a scene. Raises TraceError, which names the words, for anything else."""
    rooms, *words = text.split(", ")
    if not rooms.startswith("rooms of "):
        raise TraceError(f"{rooms!r} is no beginning of a scene: write rooms of 1+1 pages, 2 peers")
    chunks = tuple(
        tuple(_count(pages) for pages in room.removesuffix(" pages").split("+"))
        for room in rooms.removeprefix("rooms of ").split(" and ")
    )
    peers = 1
    dummies = 0
    for word in words:
        number, _, what = word.partition(" ")
        if what in ("peer", "peers"):
            peers = _count(number)
        elif f" {what}" == _DUMMIES:
            dummies = _count(number)
        elif word not in (_NOT_SHARED, _DONE_AT_POST, _DROPS_METADATA, _SILENT):
            raise TraceError(f"{word!r} is no part of a scene")
    scene = Scene(
        chunks,
        peers,
        dummies,
        shared=_NOT_SHARED not in words,
        done_at_post=_DONE_AT_POST in words,
        drops_metadata=_DROPS_METADATA in words,
        silent=_SILENT in words,
    )
    if str(scene) != text:
        raise TraceError(f"{text!r} is no scene: did you mean {str(scene)!r}?")
    return scene


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise TraceError(f"{text!r} is no number from 0")
    return int(text)
