"""A scenario as a file: commands, each with the transcript that is expected of it.

    # A title, what went wrong in public, and facts such as "# Family: NO-ESCAPE".

    setup: rooms of 1+1 pages, 2 peers
    ----
    room 0 is room 7, to decode0 and decode1

    poll(0) with check=nixlRemoteDisconnectError
    ----
    decode0: check handle 0 -> raised nixlRemoteDisconnectError: injected nixlRemoteDisconnectError
    ...

A block ends with an empty line; lines that start with ``#`` are remarks. A command is a setup or a step in the words
in which the kit prints it, so the shortest trace of a report can be pasted here, or one of these two::

    min(0, 1)   what two ranks of one request agree on, if these two rooms were theirs
    end         the end of a run, as the kit ends every run: each room is polled to its end, asked and cleared; told are
                the steps in which the transport or a peer was told something, without the polls that answered that the
                room goes on
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from kvsender_spec.contract import KVPoll
from kvsender_spec.history import events as h
from kvsender_spec.history.plain import one_line
from kvsender_spec.history.telling import TEXT_LIMIT, StepEvents, Teller, TransportCall
from kvsender_spec.kit.adapter import Adapter, Quarantines
from kvsender_spec.kit.run.execute import Run
from kvsender_spec.kit.run.invoke import CALL_NAMES
from kvsender_spec.kit.run.rooms import Room
from kvsender_spec.kit.run.scripted_world import ROOM_IDS, unrunnable_setup
from kvsender_spec.printed import parse_setup, parse_step
from kvsender_spec.report.text import narrate
from kvsender_spec.trace import WORLD_CALLS, TraceError

RULE: Final = "----"
_SETUP: Final = "setup: "


class ScenarioError(ValueError):
    """A file that is no scenario; the message names the file, the line and the word."""


@dataclass(slots=True)
class Block:
    """One command and the transcript that the file expects of it."""

    line: int
    command: str
    transcript: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A file. ``parts`` are its blocks, and between them remarks and empty lines as they stand."""

    name: str
    parts: tuple[Block | str, ...]

    @property
    def facts(self) -> dict[str, list[str]]:
        """The remarks of the form ``# Name: one, two``."""
        remarks = [part.removeprefix("# ").partition(": ") for part in self.parts if isinstance(part, str)]
        return {name: value.split(", ") for name, colon, value in remarks if colon and name.isalpha()}

    @property
    def reads(self) -> bool:
        """It is about a reader."""
        return any(block.command.startswith(f"{_SETUP}reads of ") for block in self.blocks)

    @property
    def blocks(self) -> list[Block]:
        return [part for part in self.parts if isinstance(part, Block)]

    def write(self, transcripts: Iterable[Sequence[str]]) -> str:
        """The file with these transcripts in the place of its own."""
        fresh = iter(transcripts)
        lines: list[str] = []
        for part in self.parts:
            lines += [part] if isinstance(part, str) else [part.command, RULE, *next(fresh)]
        return "\n".join(lines) + "\n"


def parse(name: str, text: str) -> Scenario:
    """Read a file. What its commands mean is found out when it is run."""
    parts: list[Block | str] = []
    block: Block | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if line == "":
            block = None
            parts.append(line)
        elif block is not None:
            if line != RULE:
                block.transcript.append(line)
        elif line.startswith("#"):
            parts.append(line)
        else:
            block = Block(number, line)
            parts.append(block)
    return Scenario(name, tuple(parts))


_HAPPENINGS: Final = (
    h.PeerLost,
    h.PeerSilent,
    h.PeerResumed,
    h.PeerReturned,
    h.ClockAdvanced,
    h.ControlArrived,
    h.WorkerEnded,
    h.FaultsOver,
)
_DONE: Final[dict[type[h.Event], str]] = {
    h.TransferMade: "made",
    h.TransferReleased: "released",
    h.NotificationSent: "sent",
    h.PeerAdded: "added",
    h.PeerRemoved: "removed",
}
"""What is said of a call of the transport that has no answer of its own."""


class ScenarioRunner:
    """Runs the commands of one scenario, one after the other, and writes down what the history says of each."""

    def __init__(self, adapter: Adapter) -> None:
        self._adapter: Final = adapter
        self._run: Run | None = None
        self._events_told = 0
        self._quarantined: frozenset[int] = frozenset()

    @property
    def run(self) -> Run:
        if self._run is None:
            raise TraceError("there is no setup yet: begin with setup: rooms of 1 pages, 1 peer")
        return self._run

    @property
    def _events(self) -> list[h.AnyEvent]:
        return self.run.history.events

    def run_command(self, command: str) -> list[str]:
        """The transcript of a command. Raises TraceError, which names the word, for one that nobody knows."""
        if command.startswith(_SETUP):
            return self._set(command.removeprefix(_SETUP))
        if command == "end":
            return self._end()
        if command.startswith("min("):
            return [self._least(command)]
        step = parse_step(command, self.run.operation)
        if not self.run.applicable(step):
            raise TraceError(f"{command!r} makes no sense here")
        self.run.apply(step)
        lines = [line for step in self._fresh() for line in self._told(step)]
        room = None if step.call in WORLD_CALLS else self.run.room_of(step.room, step.opening)
        if room is not None:
            # Causes that read alike are told apart by which object they are, which no transcript can show.
            possible = dict.fromkeys(map(str, self.run.observer.possible(room.key)))
            lines.append(f"state: {' or '.join(possible)}")
        return [*lines, *self._quarantine()]

    def _set(self, text: str) -> list[str]:
        if self._run is not None:
            raise TraceError("'setup' comes a second time")
        setup = parse_setup(text)
        reason = unrunnable_setup(setup)
        if reason:
            raise TraceError(reason)
        self._run = Run(self._adapter, setup)
        self._fresh()
        lines: list[str] = []
        for slot in range(len(setup.chunks)):
            targets = self._run.scripted_world.plan(slot, 0).destinations
            names = [f"{target.peer.name} (dummy)" if target.dummy else target.peer.name for target in targets]
            lines.append(f"room {slot} is room {ROOM_IDS[slot]}, to {' and '.join(names)}")
        return lines

    def _end(self) -> list[str]:
        self.run.finish()
        lines: list[str] = []
        for step in self._fresh():
            answers = [event.value for event in step.events if isinstance(event, h.CallEnded) and event.value]
            seen = any(isinstance(event, (TransportCall, h.NotificationHeard)) for event in step.events)
            if seen and all(KVPoll[answer].terminal for answer in answers):
                lines += [step.title, *(f"  {line}" for line in self._told(step))]
        for room in self.run.rooms:
            lines.append(f"room {room.slot}{self._opening(room.key)}: {self._polled(room).name}")
        lines.append(f"quarantined pages: {_numbers(self._pages())}")
        made = {event.handle for event in self._events if isinstance(event, h.TransferMade) and event.error is None}
        released = {e.handle for e in self._events if isinstance(e, h.TransferReleased) and e.error is None}
        lines.append(f"handles held: {_numbers(handle for handle in made - released if handle is not None)}")
        kept = [event.entries for event in self._events if isinstance(event, h.KeptCounted)]
        return [*lines, *(f"entries about rooms: {entries}" for entries in kept if entries is not None)]

    def _least(self, command: str) -> str:
        slots = command.removeprefix("min(").removesuffix(")").split(", ")
        opened = {str(room.slot): room for room in self.run.rooms}
        unknown = [slot for slot in slots if slot not in opened]
        if unknown or command != f"min({', '.join(slots)})":
            raise TraceError(f"{unknown[0] if unknown else command!r} is no room that is open: write min(0, 1)")
        polls = [self._polled(opened[slot]) for slot in slots]
        return f"{', '.join(poll.name for poll in polls)} -> {min(polls).name}"

    def _fresh(self) -> list[StepEvents]:
        """What has happened since the last command, by step."""
        fresh = self._events[self._events_told :]
        self._events_told += len(fresh)
        return Teller(h.History(header=self.run.history.header, events=fresh)).steps()

    def _told(self, step: StepEvents) -> list[str]:
        teller = Teller(self.run.history)
        return [line for event in step.events if (line := self._line(teller, event))]

    def _line(self, teller: Teller, event: h.AnyEvent) -> str:
        """One event; empty for what the command says itself, and for what no transcript shows."""
        if isinstance(event, TransportCall):
            return f"{self._asked(teller, event)} -> {teller.answer(event) or _DONE[type(event)]}"
        match event:
            case h.NotificationHeard():
                reason = f": {event.reason}" if event.reason else ""
                opening = self._opening(event.incarnation)
                return f"{event.peer} is told: {event.says} of room {event.id}{reason}{opening}"
            case h.CallEnded():
                call = self._events[event.of]
                if not isinstance(call, h.CallStarted) or call.what not in CALL_NAMES[self.run.operation].values():
                    return ""
                thread = f", in thread {call.thread}" if call.thread else ""
                return f"caller{thread}: {teller.outcome(event)}"
            case _:
                return teller.words(event) if isinstance(event, _HAPPENINGS) else ""

    def _asked(self, teller: Teller, event: TransportCall) -> str:
        """A call that the transport got, and about which peer."""
        match event:
            case h.TransferMade():
                return f"{event.peer}: make" + ("" if event.handle is None else f" handle {event.handle}")
            case h.NotificationSent():
                return f"{event.peer}: notify {one_line(event.message, TEXT_LIMIT)}"
            case h.PeerAdded():
                return f"{event.peer}: add"
            case h.PeerRemoved():
                return f"{event.peer}: remove"
            case _:
                peers = (e.peer for e in self._events if isinstance(e, h.TransferMade) and e.handle == event.handle)
                return f"{next(peers)}: {teller.request(event)}"

    def _opening(self, key: int | None) -> str:
        """Which opening of a room it is, where the room was opened more than once."""
        room = next((room for room in self.run.rooms if room.key == key), None)
        same = [] if room is None else self.run.openings(room.slot)
        return f" (opening {same.index(room) + 1})" if room is not None and len(same) > 1 else ""

    def _polled(self, room: Room) -> KVPoll:
        """What the room's last poll has answered."""
        for event in reversed(self._events):
            if isinstance(event, h.CallEnded) and event.room == room.key and event.value is not None:
                return KVPoll[event.value]
        raise TraceError(f"room {room.slot}{self._opening(room.key)} has not been polled")

    def _pages(self) -> frozenset[int]:
        """The pages that the caller must not reuse. A history has them only after a terminal answer: ask for them."""
        system = self.run.system
        return system.quarantined_pages() if isinstance(system, Quarantines) else frozenset()

    def _quarantine(self) -> list[str]:
        """Those pages, where they have changed."""
        before, self._quarantined = self._quarantined, self._pages()
        return [f"quarantined pages: {_numbers(self._quarantined)}"] if self._quarantined != before else []


def _numbers(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(numbers))) or "none"


def run_scenario(scenario: Scenario, adapter: Adapter) -> tuple[str, Run]:
    """Run a scenario. Returns the file as it should be, and the run.

    Raises ScenarioError for a command that nobody knows or that cannot be taken where it stands, and where the
    observer has found that a clause is broken: a transcript of that would be no golden one.
    """
    runner = ScenarioRunner(adapter)
    transcripts: list[list[str]] = []
    for block in scenario.blocks:
        try:
            transcript = runner.run_command(block.command)
        except TraceError as error:
            raise ScenarioError(f"{scenario.name}, line {block.line}: {error}") from None
        violations = runner.run.observer.findings.violations
        if violations:
            story = "\n".join(narrate(runner.run.history, violations))
            raise ScenarioError(f"{scenario.name}, line {block.line}: {block.command} breaks a clause\n{story}")
        # An empty line would end the block.
        transcripts.append([line.replace("\n", "\\n") for line in transcript])
    return scenario.write(transcripts), runner.run
