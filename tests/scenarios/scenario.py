"""A scenario as a file: commands, each with the transcript that is expected of it.

    # A title, what went wrong in public, and facts such as "# Family: NO-ESCAPE".

    scene: rooms of 1+1 pages, 2 peers
    ----
    room 0 is room 7, to decode0 and decode1

    poll(0) with check=nixlRemoteDisconnectError
    ----
    decode0: check handle 0 -> raised nixlRemoteDisconnectError: injected nixlRemoteDisconnectError
    ...

A block ends with an empty line; lines that start with ``#`` are remarks. A command is a scene or a step in the words
in which the kit prints it, so the shortest trace of a report can be pasted here, or one of these two::

    min(0, 1)   what two ranks of one request agree on, if these two rooms were theirs
    end         the end of a run, as the kit ends every run: each room is polled to its end, asked and cleared; told is
                what the transport was asked, without the polls that answered that the room goes on
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from kvsender_spec.contract import KVPoll
from kvsender_spec.faults import Point
from kvsender_spec.kit.adapter import Adapter, CountsResidue, Notice, Quarantines
from kvsender_spec.kit.drive import Run
from kvsender_spec.kit.narrative import answer, deed, message, narrate, told
from kvsender_spec.kit.record import Moment
from kvsender_spec.kit.stage import ROOM_IDS, SENDER_SIDE, unplayable
from kvsender_spec.kit.transport import TransportEvent
from kvsender_spec.trace import Call, TraceError, parse_scene, parse_step

RULE: Final = "----"
_SCENE: Final = "scene: "


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
    """Read a file. What its commands mean is found out when it is played."""
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


class Player:
    """Plays the commands of one scenario, one after the other, and writes down what is seen."""

    def __init__(self, adapter: Adapter) -> None:
        self._adapter: Final = adapter
        self._run: Run | None = None
        self._moments_told = 0
        self._quarantined: frozenset[int] = frozenset()
        self._openings: dict[int, int] = {}
        """The room of each incarnation, in the order in which they were opened."""

    @property
    def run(self) -> Run:
        if self._run is None:
            raise TraceError("there is no scene yet: begin with scene: rooms of 1 pages, 1 peer")
        return self._run

    def play(self, command: str) -> list[str]:
        """The transcript of a command. Raises TraceError, which names the word, for one that nobody knows."""
        if command.startswith(_SCENE):
            return self._set(command.removeprefix(_SCENE))
        if command == "end":
            return self._end()
        if command.startswith("min("):
            return [self._least(command)]
        step = parse_step(command)
        if not self.run.applicable(step):
            raise TraceError(f"{command!r} makes no sense here")
        self.run.apply(step)
        (moment,) = self._fresh()
        if step.call is Call.OPEN and moment.incarnation is not None:
            self._openings[moment.incarnation] = step.room
        return self._tell(moment)

    def _set(self, text: str) -> list[str]:
        if self._run is not None:
            raise TraceError("'scene' comes a second time")
        scene = parse_scene(text)
        reason = unplayable(scene)
        if reason:
            raise TraceError(reason)
        self._run = Run(self._adapter, scene)
        lines: list[str] = []
        for slot in range(len(scene.chunks)):
            targets = self._run.stage.plan(slot, 0).destinations
            names = [f"{target.peer.name} (dummy)" if target.dummy else target.peer.name for target in targets]
            lines.append(f"room {slot} is room {ROOM_IDS[slot]}, to {' and '.join(names)}")
        return lines

    def _end(self) -> list[str]:
        self.run.finish()
        lines: list[str] = []
        for moment in self._fresh():
            seen = self._seen(moment)
            if seen and not any(moment.outcome == f"answered {poll.name}" for poll in KVPoll if not poll.terminal):
                lines += [deed(moment.what), *(f"  {line}" for line in [*seen, *self._owner(moment)])]
        lines += [f"{self._room(incarnation)}: {self._polled(incarnation).name}" for incarnation in self._openings]
        lines.append(f"quarantined pages: {_numbers(self._pages())}")
        handles = self.run.stage.fabric.handles
        held = [number for number, handle in handles.items() if handle.agent == SENDER_SIDE]
        lines.append(f"handles held: {_numbers(held)}")
        if isinstance(self.run.system, CountsResidue):
            lines.append(f"entries about rooms: {self.run.system.residue()}")
        return lines

    def _least(self, command: str) -> str:
        slots = command.removeprefix("min(").removesuffix(")").split(", ")
        opened = {str(room): incarnation for incarnation, room in self._openings.items()}
        unknown = [slot for slot in slots if slot not in opened]
        if unknown or command != f"min({', '.join(slots)})":
            raise TraceError(f"{unknown[0] if unknown else command!r} is no room that is open: write min(0, 1)")
        polls = [self._polled(opened[slot]) for slot in slots]
        return f"{', '.join(poll.name for poll in polls)} -> {min(polls).name}"

    def _fresh(self) -> list[Moment]:
        fresh = self.run.record.moments[self._moments_told :]
        self._moments_told += len(fresh)
        return fresh

    def _tell(self, moment: Moment) -> list[str]:
        lines = [*self._seen(moment), *self._owner(moment)]
        if moment.possible:
            # Causes that read alike are told apart by which object they are, which no transcript can show.
            lines.append(f"state: {' or '.join(dict.fromkeys(map(str, moment.possible)))}")
        happened = deed(moment.what).partition(": ")[2]
        return [*([happened] if happened else []), *lines, *self._quarantine()]

    def _seen(self, moment: Moment) -> list[str]:
        lines = [_line(event) for event in moment.events]
        return [*lines, *(f"{peer} is told: {self._notice(notice)}" for peer, notice in moment.notices)]

    @staticmethod
    def _owner(moment: Moment) -> list[str]:
        return [f"owner: {moment.outcome}"] if moment.outcome else []

    def _notice(self, notice: Notice) -> str:
        opening = "" if notice.incarnation is None else self._opening(notice.incarnation)
        return f"{told(notice)}{opening}"

    def _opening(self, incarnation: int) -> str:
        """Which opening of a room it is, where the room was opened more than once."""
        same = [other for other, room in self._openings.items() if room == self._openings[incarnation]]
        return f" (opening {same.index(incarnation) + 1})" if len(same) > 1 else ""

    def _room(self, incarnation: int) -> str:
        return f"room {self._openings[incarnation]}{self._opening(incarnation)}"

    def _polled(self, incarnation: int) -> KVPoll:
        """What the room's last poll has answered."""
        answers = [m.outcome for m in self.run.record.moments if m.incarnation == incarnation]
        polls = [poll for said in answers for poll in KVPoll if said == f"answered {poll.name}"]
        if not polls:
            raise TraceError(f"{self._room(incarnation)} has not been polled")
        return polls[-1]

    def _pages(self) -> frozenset[int]:
        """The pages that the owner must not reuse."""
        system = self.run.system
        return system.quarantined_pages() if isinstance(system, Quarantines) else frozenset()

    def _quarantine(self) -> list[str]:
        """Those pages, where they have changed."""
        before, self._quarantined = self._quarantined, self._pages()
        return [f"quarantined pages: {_numbers(self._quarantined)}"] if self._quarantined != before else []


def _numbers(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(numbers))) or "none"


def _line(event: TransportEvent) -> str:
    """One call that the transport got, and its answer."""
    what = message(event) if event.point is Point.NOTIFY else "" if event.handle is None else f"handle {event.handle}"
    return " ".join(word for word in (f"{event.peer}:", event.point, what, "->", answer(event)) if word)


def play(scenario: Scenario, adapter: Adapter) -> tuple[str, Run]:
    """Play a scenario. Returns the file as it should be, and the run.

    Raises ScenarioError for a command that nobody knows or that cannot be taken where it stands, and where a judge of
    the kit has found that a clause is broken: a transcript of that would be no golden one.
    """
    player = Player(adapter)
    transcripts: list[list[str]] = []
    for block in scenario.blocks:
        try:
            transcript = player.play(block.command)
        except TraceError as error:
            raise ScenarioError(f"{scenario.name}, line {block.line}: {error}") from None
        violations = player.run.findings.violations
        if violations:
            story = "\n".join([*map(str, violations), *narrate(player.run.record.moments)])
            raise ScenarioError(f"{scenario.name}, line {block.line}: {block.command} breaks a clause\n{story}")
        # An empty line would end the block.
        transcripts.append([line.replace("\n", "\\n") for line in transcript])
    return scenario.write(transcripts), player.run
