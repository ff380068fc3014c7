"""One room of a target together with its initiators: what may happen next.

An initiator is told where the pages are, and has a transfer in flight from then on, whose bytes may land at any time.
It may have several tries of it: that its part is told says that the bytes of one try are in place, and not that no
other is under way. It ends when nothing of it is; or it gives up, with transfers in flight, and these settle; and when
it was asked, it says that they have. It may die, and then what is in flight lands until the process is gone.

The network is the set of what was told. Nothing is taken out of it: what was told arrives never, late, in any order
and as often as the network likes. So a message is no state of its own: it may arrive wherever the initiator has told
it. Every message names its incarnation, and a room takes only its own; everything else is ``FOREIGN`` to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from kvsender_spec.formal.targets.rules import Target, Wrong
from kvsender_spec.machine import Reply, Word
from kvsender_spec.target_machine import (
    TOUCHABLE,
    Hold,
    HoldEvent,
    Request,
    TargetEffect,
    TargetGuard,
    TargetInput,
    TargetRow,
)


class Phase(Word):
    """What an initiator does in one incarnation of the room."""

    UNTOLD = "untold"
    FLYING = "flying"
    OVER = "over"
    """It has ended, and has told so."""
    FAILING = "failing"
    """It has given up, and has told so; what it has in flight goes on."""
    QUIET = "quiet"
    """It has given up, nothing of it is in flight, and it has not told that."""
    QUIESCED = "quiesced"
    DEAD = "dead"
    """Its process has ended, and what is in flight may still land."""
    GONE = "gone"
    """The process is gone with all that it had in flight, and there is evidence of it."""


BUSY: Final = frozenset({Phase.FLYING, Phase.FAILING, Phase.DEAD})
"""Bytes of it may land, or be read, at any time."""


class Cell(NamedTuple):
    """One initiator in one incarnation of the room, and what the target keeps of it."""

    hold: Hold = Hold.HELD
    phase: Phase = Phase.UNTOLD
    part: bool = False
    """It has told that the bytes of its part are in place."""
    counted: int = 0
    """How often the target has counted that; more than once only where it counts messages."""
    asked: bool = False
    """It was told that the room is given up."""


class Room(NamedTuple):
    request: Request
    cells: tuple[Cell, ...]

    @property
    def ended(self) -> bool:
        return self.request is not Request.WAITING


def opened(initiators: int) -> Room:
    return Room(Request.WAITING, (Cell(),) * initiators)


class Fair(Word):
    """What happens at last, if it may happen for ever."""

    DEADLINE = "the deadline passes"
    COMES_TO_AN_END = "an initiator that is under way ends or gives up"
    SETTLES = "what was given up settles"
    ASKED = "who is asked hears it, and says when nothing of it is under way"
    REAPED = "the dead are gone at last"
    ARRIVES = "what an initiator tells of its end arrives: it tells it again until it has"


class Step(NamedTuple):
    what: str
    at: int | None
    """Which initiator it is about."""
    after: Room
    fair: Fair | None = None
    wrong: str = ""
    """The rule that the step itself breaks."""


class Taken(NamedTuple):
    """What a target makes of one input."""

    row: TargetRow
    after: Room
    wrong: str = ""


NO_PAGES: Final = "KS-9.1: an initiator may touch pages that another may own"
EARLY: Final = "KS-9.7: done, and an initiator has not finished"
MESSAGES: Final[dict[TargetInput, tuple[Phase, ...]]] = {
    TargetInput.END: (Phase.OVER,),
    TargetInput.FAILURE: (Phase.FAILING, Phase.QUIET, Phase.QUIESCED),
    TargetInput.QUIESCED: (Phase.QUIESCED,),
    TargetInput.FENCE: (Phase.GONE,),
    TargetInput.RENEW: tuple(phase for phase in Phase if phase is not Phase.UNTOLD),
    TargetInput.LOST: tuple(phase for phase in Phase if phase is not Phase.UNTOLD),
}
"""What may arrive of an initiator that is, or was, there. A part is told wherever ``Cell.part`` says so."""
_PROVING: Final = (TargetInput.END, TargetInput.QUIESCED, TargetInput.FENCE)
TOLD_AGAIN: Final[tuple[TargetInput, ...]] = (*_PROVING, TargetInput.FAILURE)
_MAY_BE_ASKED: Final = frozenset({Phase.FLYING, Phase.FAILING, Phase.QUIET})
_OF_THE_OWNER: Final = (
    TargetInput.ABORT,
    TargetInput.CLEAR,
    TargetInput.ANSWER,
    TargetInput.FAILURE_EXCEPTION,
    TargetInput.REUSE,
)


def told(cell: Cell) -> Iterator[TargetInput]:
    """What may arrive of this initiator."""
    if cell.part:
        yield TargetInput.PART
    yield from (what for what, phases in MESSAGES.items() if cell.phase in phases)


def broken(room: Room) -> str:
    """Which property of a state does not hold; empty where all do."""
    if any(cell.hold is Hold.FREE and cell.phase in BUSY for cell in room.cells):
        return NO_PAGES
    if room.request is Request.DONE and not all(cell.part for cell in room.cells):
        return EARLY
    return ""


def has_late_parts(target: Target) -> bool:
    """Whether a part still does something when the request has failed; otherwise it is forgotten then."""
    rows = target.rows_for(Request.FAILED, TargetInput.PART)
    return any(row.hold or row.request or row.effects for row in rows)


class World:
    """What may happen to a room of this target with so many initiators. The steps of a room are worked out once."""

    def __init__(self, target: Target, initiators: int) -> None:
        self.target: Final = target
        self.initiators: Final = initiators
        self._steps: Final[dict[Room, tuple[Step, ...]]] = {}
        self._late_parts: Final = has_late_parts(target)

    def steps(self, room: Room) -> tuple[Step, ...]:
        known = self._steps.get(room)
        if known is None:
            found = (step._replace(after=self._without_what_is_over(step.after)) for step in self._found(room))
            known = tuple(step for step in found if step.after != room or step.wrong)
            self._steps[room] = known
        return known

    def _without_what_is_over(self, room: Room) -> Room:
        """Without what plays no part any more: there are far fewer states, and none is lost of which a row depends."""
        late = self._late_parts or room.request is not Request.FAILED
        cells = [
            cell._replace(part=cell.part and late, asked=cell.asked and cell.phase in _MAY_BE_ASKED)
            for cell in room.cells
        ]
        return Room(room.request, tuple(cells))

    def _found(self, room: Room) -> Iterator[Step]:
        for at, cell in enumerate(room.cells):
            yield from (Step(what, at, _with(room, at, after), fair) for what, after, fair in moves(cell))
            yield from self._announced(room, at)
            for what in told(cell):
                fair = Fair.ARRIVES if what in TOLD_AGAIN else None
                yield from self._arrives(room, what, at, fair)
            yield from self._arrives(room, TargetInput.FOREIGN, at, None)
        for what in _OF_THE_OWNER:
            yield from self._arrives(room, what, None, None)
        yield from self._arrives(room, TargetInput.TIME, None, Fair.DEADLINE)
        yield from self._all_there(room)

    def _announced(self, room: Room, at: int) -> Iterator[Step]:
        """A target announces where its tables do not forbid it, and the initiator may begin."""
        late = self.target.wrong is Wrong.HOLDS_LATE
        cell = room.cells[at]
        if late and cell.phase is not Phase.UNTOLD and cell.hold is Hold.HELD and not room.ended:
            taken = self.take(room, TargetInput.ANNOUNCE, at)
            if taken is not None:
                yield Step("the hold is taken", at, taken.after, None, taken.wrong)
        elif cell.phase is Phase.UNTOLD:
            taken = self.take(room, TargetInput.ANNOUNCE, at)
            if taken is not None:
                after = room if late else taken.after
                told_now = after.cells[at]._replace(phase=Phase.FLYING)
                yield Step(TargetInput.ANNOUNCE.value, at, _with(after, at, told_now), None, taken.wrong)

    def _arrives(self, room: Room, what: TargetInput, at: int | None, fair: Fair | None) -> Iterator[Step]:
        taken = self.take(room, what, at)
        if taken is not None:
            yield Step(what.value, at, taken.after, fair, taken.wrong)

    def _all_there(self, room: Room) -> Iterator[Step]:
        """The deadline passes, and everything that was told is there, and was not looked at yet."""
        if not room.ended and all(cell.part for cell in room.cells):
            taken = self.take(room, TargetInput.TIME, None, looked_at=False)
            if taken is not None:
                beaten = taken.after.request is Request.FAILED
                wrong = "KS-9.7: the deadline beats what is there" if beaten else taken.wrong
                yield Step("time, with all parts there", None, taken.after, None, wrong)

    def take(self, room: Room, what: TargetInput, at: int | None, *, looked_at: bool = True) -> Taken | None:
        """What the target does with an input; None where it does not let it happen."""
        if self.target.forbids(room.request, what) is not None:
            return None
        for row in self.target.rows_for(room.request, what):
            cells = room.cells
            if TargetEffect.CONFIRM in row.effects and at is not None:
                cells = _put(cells, at, self._counted(cells[at]))
            if row.guard is None or self._true(row.guard, cells, looked_at):
                return self._apply(row, room, cells, at)
        return None

    def _counted(self, cell: Cell) -> Cell:
        most = self.initiators if self.target.wrong is Wrong.COUNTS_MESSAGES else 1
        return cell._replace(counted=min(cell.counted + 1, most))

    def _true(self, guard: TargetGuard, cells: tuple[Cell, ...], looked_at: bool) -> bool:
        if guard is TargetGuard.ALL_DRAINED:
            return all(cell.hold is Hold.DRAINED for cell in cells)
        match self.target.wrong:
            case Wrong.COUNTS_MESSAGES:
                return not looked_at or sum(cell.counted for cell in cells) >= self.initiators
            case Wrong.ANNOUNCED_ONLY:
                asked = [cell for cell in cells if cell.phase is not Phase.UNTOLD]
                return bool(asked) and (not looked_at or all(cell.counted for cell in asked))
            case _:
                return not looked_at or all(cell.counted for cell in cells)

    def _apply(self, row: TargetRow, room: Room, cells: tuple[Cell, ...], at: int | None) -> Taken | None:
        if row.hold is not None:
            moved = [self._moved(cell, row.hold, at in (None, place)) for place, cell in enumerate(cells)]
            if None in moved:
                return None
            cells = tuple(cell for cell in moved if cell is not None)
        if TargetEffect.TELL_ABORT in row.effects:
            cells = tuple(_asked(cell) for cell in cells)
        if TargetEffect.ASK in row.effects and at is not None:
            cells = _put(cells, at, _asked(cells[at]))
        request = self.target.request_after(room.request, row.request)
        if request is None:
            return None
        if not room.ended and request is not room.request:
            cells = tuple(self._ended(cell) for cell in cells)
        after = Room(request, cells)
        return Taken(row, after, self._wrong(row, room, after, at))

    def _moved(self, cell: Cell, event: HoldEvent, concerned: bool) -> Cell | None:
        if not concerned:
            return cell
        dest = self.target.hold_next[cell.hold][event]
        return None if dest is None else cell._replace(hold=dest)

    def _ended(self, cell: Cell) -> Cell:
        """What was counted plays no part any more."""
        return cell._replace(hold=self.target.hold_next[cell.hold][HoldEvent.ENDED] or cell.hold, counted=0)

    def _wrong(self, row: TargetRow, room: Room, after: Room, at: int | None) -> str:
        if room.ended and after.request is not room.request:
            return "KS-9.14: a request that has ended changes"
        if row.input is TargetInput.FOREIGN and after != room:
            return "KS-9.6: what is foreign changes something"
        if after.request is Request.FAILED and not room.ended and TargetEffect.LATCH not in row.effects:
            return "KS-9.14: a request fails, and no cause is kept"
        if (row.reply is Reply.SUCCESS) and room.request is not Request.DONE:
            return "KS-9.7: Success of a room that is not done"
        if (
            at is not None
            and row.hold is HoldEvent.PROVED
            and after.cells[at].hold in TOUCHABLE
            and row.input in _PROVING
        ):
            return "KS-9.8: a proof gives nothing back"
        return ""


def moves(cell: Cell) -> Iterator[tuple[str, Cell, Fair | None]]:
    """What an initiator and its transport do by themselves."""

    def to(phase: Phase, part: bool = False) -> Cell:
        return cell._replace(phase=phase, part=cell.part or part)

    match cell.phase:
        case Phase.FLYING:
            yield "its part is in place", to(Phase.FLYING, part=True), None
            yield "it ends", to(Phase.OVER, part=True), Fair.COMES_TO_AN_END
            yield "it gives up", to(Phase.FAILING), Fair.COMES_TO_AN_END
            yield "it settles and gives up", to(Phase.QUIESCED), None
            yield "it dies", to(Phase.DEAD), None
        case Phase.FAILING:
            yield "it settles", to(Phase.QUIET), Fair.SETTLES
            yield "it dies", to(Phase.DEAD), None
        case Phase.QUIET:
            if cell.asked:
                yield "it says that it is quiet", to(Phase.QUIESCED), Fair.ASKED
            yield "it dies", to(Phase.GONE), None
        case Phase.DEAD:
            yield "it is gone", to(Phase.GONE), Fair.REAPED
        case _:
            pass


def _asked(cell: Cell) -> Cell:
    return cell._replace(asked=True) if cell.hold in TOUCHABLE else cell


def _put(cells: tuple[Cell, ...], at: int, cell: Cell) -> tuple[Cell, ...]:
    return (*cells[:at], cell, *cells[at + 1 :])


def _with(room: Room, at: int, cell: Cell) -> Room:
    return Room(room.request, _put(room.cells, at, cell))
