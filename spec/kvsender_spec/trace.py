"""What was done to a sender, as data: a setup, and the steps taken in it. Written as NDJSON, one object a line.

A trace holds what the *kit* did (calls, and what the world was made to do before each), never what the sender
answered: replayed against any sender it asks the same questions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final, TypeAlias

import msgspec

from kvsender_spec.contract import Operation, Role
from kvsender_spec.faults import Count, Fault, Point
from kvsender_spec.history.words import How, Says
from kvsender_spec.lines import decoded, require_format

FORMAT: Final = "kvsender-trace/2"


class Call(StrEnum):
    """What the kit does in one step: a call of the caller, or something that happens to the world."""

    OPEN = "open"
    SEND = "send"
    """The next chunk is handed over: `send()` of a sender, `read()` of a reader."""
    POLL = "poll"
    FAILURE_EXCEPTION = "failure_exception"
    ABORT = "abort"
    CLEAR = "clear"
    METRIC = "get_transfer_metric"
    TARGET_ABORTS = "target_aborts"
    """The first peer of the room, which is no dummy, gives the room up, and its message arrives."""
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
    REFILL = "refill"
    """The peers that granted pages to the room, which reads them, give them to another request."""
    LAND = "land"
    """The bytes of the next part of an initiator's transfer are in the target's pages, or were read from there."""
    TELL = "tell"
    """What an initiator says of the room reaches the target."""
    FENCE = "fence"
    """Evidence is told that nothing of the initiator's process, as it was when the room was opened, can touch the
    pages any more."""
    WORK = "work"
    """The system's background work gets its time."""
    FAULTS_OVER = "faults_over"
    """From here nothing goes wrong any more; what a polled room has in flight finishes, unless the setup is silent."""
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
        Call.WORK,
        Call.FAULTS_OVER,
        Call.SETTLE,
    }
)
OF_AN_END: Final = frozenset({Call.FAULTS_OVER, Call.SETTLE})
"""A trace with one of these has an end of its own; every other one is given an end when it is run."""
_OF_NOTHING: Final = frozenset({Call.WAIT, Call.WAIT_LONG, Call.WORK, Call.FAULTS_OVER, Call.SETTLE})
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
    BEGUN = "begun"
    """Half of the bytes of each land; the checks go on answering PROC."""
    LANDED = "landed"
    """All bytes of each land; the checks go on answering PROC."""


BY_INITIATORS: Final = frozenset({Call.LAND, Call.TELL, Call.FENCE})
"""Steps of a target's run that one initiator takes."""
BYTES_ONLY: Final = {Progress.BEGUN: "half of the bytes landed", Progress.LANDED: "all bytes landed"}


class Refilled(StrEnum):
    """Which of the granted pages a refill takes."""

    ALL = "all"
    FIRST = "first"
    """The first page that the room reads, at the first holder alone."""
    LAST = "last"
    """The last page that the room reads, at the last holder alone."""
    BEGUN = "begun"
    """All of them, and the holder has not finished: it has raised the stamps once, and written the first half."""


class Granted(StrEnum):
    """What the last holder of the first room grants. All but the first are grants that cannot be."""

    GOOD = "good"
    OUT_OF_RANGE = "out of range"
    """The last page is one more than the holder has."""
    NEGATIVE = "negative"
    """The last page is -1."""
    SHORT = "short"
    """One page fewer than the room reads."""
    FEW_STAMPS = "few stamps"
    """One stamp fewer than pages."""


_GRANTED: Final = {
    Granted.GOOD: "",
    Granted.OUT_OF_RANGE: "granted a page that is not there",
    Granted.NEGATIVE: "granted a negative page",
    Granted.SHORT: "granted a page too few",
    Granted.FEW_STAMPS: "granted a stamp too few",
}

_REFILLED: Final = {
    Refilled.ALL: "",
    Refilled.FIRST: "refills take the first page",
    Refilled.LAST: "refills take the last page",
    Refilled.BEGUN: "refills are under way",
}


class Misuse(StrEnum):
    """A mistake of the caller (KS-8.1). The room must go on as if it had not been made."""

    PAGE_OUT_OF_RANGE = "page out of range"
    NEGATIVE_PAGE = "negative page"
    DUPLICATE_PAGE = "page twice in a chunk"
    PAGE_AGAIN = "page of an earlier chunk"
    TOO_MANY_PAGES = "more pages than announced"
    WRONG_DTYPE = "page ids that are not integers"
    BEFORE_INIT = "send before init"


@dataclass(frozen=True, slots=True)
class Overlap:
    """Another thread calls the same sender while the step's own call, or a worker, is about to ask the transport.

    ``point`` is what is about to be asked, at the ``nth`` time (from 0) since the step began.
    """

    call: Call
    point: Point
    nth: Count = 0

    def __str__(self) -> str:
        where = self.point.value if self.nth == 0 else f"{self.point.value}[{self.nth}]"
        return f"{self.call.value} from another thread at {where}"


@dataclass(frozen=True, slots=True)
class Step:
    call: Call
    room: Count = 0
    progress: Progress = Progress.NONE
    fault: Fault | None = None
    misuse: Misuse | None = None
    overlap: Overlap | None = None
    opening: Count = 0
    """Which room of those that were opened under this number: 1 is the first one, 0 the one that is open now."""
    peer: Count = 0
    """Of LAND, TELL and FENCE: the number of the initiator."""
    says: Says | None = None
    """What a TELL says."""
    how: How = How.PROPER
    """What is unusual about it; of a FENCE, EARLIER is one of a process that was there before the room's."""

    def __str__(self) -> str:
        return self.told("WRITE")

    def told(self, operation: Operation) -> str:
        """The step in words; what is `send` to a sender is `read` to a reader."""
        which = f" opening {self.opening}" if self.opening else ""
        name = "read" if self.call is Call.SEND and operation == "READ" else str(self.call)
        call = name if self.call in _OF_NOTHING else f"{name}({self.room}{which})"
        words = [call]
        if self.call in BY_INITIATORS:
            words.append(f"by peer {self.peer}")
        if self.says is not None:
            words[-1] += f": {self.says}"
        if self.how is not How.PROPER:
            words.append(f"({self.how})")
        if self.progress in BYTES_ONLY:
            words.append(f"after {BYTES_ONLY[self.progress]}")
        elif self.progress is not Progress.NONE:
            words.append(f"after {self.progress} finished")
        if self.fault is not None:
            words.append(f"with {self.fault}")
        if self.misuse is not None:
            words.append(f"with {self.misuse.value}")
        if self.overlap is not None:
            words.append(f"overlapping {self.overlap}")
        return " ".join(words)


_NOT_EMPTY: Final = msgspec.Meta(min_length=1)
_Chunks: TypeAlias = Annotated[tuple[Count, ...], _NOT_EMPTY]


@dataclass(frozen=True, slots=True)
class Setup:
    """What there is before the first step.

    ``chunks`` gives, for each room, the number of pages of each of its chunks; ``(0,)`` is a room whose only chunk is
    a last chunk without pages. ``peers`` real peers share every room, and ``dummies`` more take part without receiving.
    """

    chunks: Annotated[tuple[_Chunks, ...], _NOT_EMPTY] = ((1,),)
    peers: Count = 1
    dummies: Count = 0
    shared: bool = True
    """True: every room goes to all peers. False: room r goes to peer r modulo the number of peers only."""
    done_at_post: bool = False
    """Transfers complete inside transfer(), as small ones may."""
    drops_metadata: bool = False
    """After a disconnect the agent forgets the peer (nixl 0.6 to 1.0) instead of keeping it (1.5)."""
    silent: bool = False
    """At the end nothing settles by itself: only deadlines can end a room."""
    cached: Count = 0
    """So many of each room's first pages the first peer has already: it names pages for the others only."""
    renames: bool = False
    """A peer that restarts comes back under another name."""
    churn: bool = False
    """Room ids come back as often as the trace says, and pages with them: what each room leaves behind adds up. A room
    has at most one page."""
    refilled: Refilled = Refilled.ALL
    """Which pages a refill takes."""
    granted: Granted = Granted.GOOD
    """What a reader is granted."""
    operation: Operation = "WRITE"
    """What the rooms are: a run says READ of a reader's, whatever the trace said before."""
    role: Role = "initiator"
    """Who is judged. Of a target's rooms a chunk is a part, which each initiator transfers and tells on its own."""

    def __str__(self) -> str:
        rooms = " and ".join("+".join(map(str, chunks)) + " pages" for chunks in self.chunks)
        target = "receiver's " if self.operation == "WRITE" else "holder's "
        words = [
            f"{target if self.role == 'target' else ''}{'reads' if self.operation == 'READ' else 'rooms'} of {rooms}"
        ]
        words.append(f"{self.peers} peer{'s' if self.peers > 1 else ''}")
        for wanted, text in (
            (self.dummies > 0, f"{self.dummies} dummy"),
            (not self.shared, "one peer a room"),
            (self.done_at_post, "transfers complete at the post"),
            (self.drops_metadata, "metadata dropped after a disconnect"),
            (self.silent, "silent at the end"),
            (self.cached > 0, f"{self.cached} cached"),
            (self.renames, "restarts under a new name"),
            (self.refilled is not Refilled.ALL, _REFILLED[self.refilled]),
            (self.granted is not Granted.GOOD, _GRANTED[self.granted]),
            (self.churn, "ids come back without limit"),
        ):
            if wanted:
                words.append(text)
        return ", ".join(words)


@dataclass(frozen=True, slots=True)
class Trace:
    setup: Setup
    steps: tuple[Step, ...]

    @property
    def told(self) -> tuple[str, ...]:
        """The steps in words."""
        return tuple(step.told(self.setup.operation) for step in self.steps)

    def dump(self) -> str:
        """NDJSON: a line for the setup, then one a step."""
        head = {"format": FORMAT, **_fields(self.setup)}
        steps = (
            {name: value for name, value in _fields(step).items() if value != _LEFT_OUT.get(name)}
            for step in self.steps
        )
        written = (msgspec.json.encode(line).decode() for line in (head, *steps))
        return "".join(f"{msgspec.json.format(line, indent=0)}\n" for line in written)


_SETUPS: Final = msgspec.json.Decoder(Setup)
_STEPS: Final = msgspec.json.Decoder(Step)
_FIELDS: Final = msgspec.json.Decoder(dict[str, object])


def _fields(part: Setup | Step) -> dict[str, object]:
    return _FIELDS.decode(msgspec.json.encode(part))


_LEFT_OUT: Final = {name: value for name, value in _fields(Step(Call.OPEN)).items() if name not in ("call", "room")}
"""What a step's line leaves out: these fields, where they have these values."""


class TraceError(ValueError):
    """A trace that cannot be read; the message names the value, and the line where there are several."""


def load(lines: Iterable[str]) -> Trace:
    """Read what ``Trace.dump`` wrote; a field that is left out has its default, an unknown one is ignored.

    Raises TraceError, which names the line and the value, for anything else.
    """
    written = [(number, f"{line}\n") for number, line in enumerate(lines, 1) if line.strip()]
    if not written:
        raise TraceError("line 1: the trace is empty")
    head, *steps = written
    require_format(*head, FORMAT, TraceError)
    return Trace(decoded(*head, _SETUPS, TraceError), tuple(decoded(*step, _STEPS, TraceError) for step in steps))
