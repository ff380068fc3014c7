"""What may happen next to a room of a target: what its initiators do, what arrives, and what the tables make of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from kvsender_spec.formal.targets.room import (
    PROVING,
    REFUSED,
    TOLD_AGAIN,
    Cell,
    Fair,
    Phase,
    Room,
    moves,
    told,
)
from kvsender_spec.formal.targets.rules import Target, Wrong
from kvsender_spec.machine import Reply
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


_MAY_BE_ASKED: Final = frozenset({Phase.FLYING, Phase.FAILING, Phase.QUIET})
_OWN_ACTS: Final = frozenset({TargetInput.ANNOUNCE, TargetInput.REUSE})
"""What a target does of its own accord, and does not where its tables say never."""
_OF_THE_OWNER: Final = (
    TargetInput.ABORT,
    TargetInput.CLEAR,
    TargetInput.ANSWER,
    TargetInput.FAILURE_EXCEPTION,
    TargetInput.REUSE,
)


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
            yield from self._arrives(room, what, None, Fair.WANTED if what is TargetInput.REUSE else None)
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
                return None if row.input in _OWN_ACTS else Taken(row, room, REFUSED)
            cells = tuple(cell for cell in moved if cell is not None)
        if TargetEffect.TELL_ABORT in row.effects:
            cells = tuple(_asked(cell) for cell in cells)
        if TargetEffect.ASK in row.effects and at is not None:
            cells = _put(cells, at, _asked(cells[at]))
        request = self.target.request_after(room.request, row.request)
        if request is None:
            return Taken(row, room, REFUSED)
        if not room.ended and request is not room.request:
            if any(self.target.hold_next[cell.hold][HoldEvent.ENDED] is None for cell in cells):
                return Taken(row, room, REFUSED)
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
        if (after.request is Request.FAILED and not room.ended) is not (TargetEffect.LATCH in row.effects):
            return "KS-9.14: a request fails without a cause, or a cause is kept of one that does not"
        if row.input is TargetInput.ANSWER and row.reply is not _ANSWERS[room.request]:
            return "KS-9.7: poll() does not answer what the request is"
        if (
            at is not None
            and row.hold is HoldEvent.PROVED
            and after.cells[at].hold in TOUCHABLE
            and row.input in PROVING
        ):
            return "KS-9.8: a proof gives nothing back"
        return ""


_ANSWERS: Final = {Request.WAITING: Reply.TRANSFERRING, Request.DONE: Reply.SUCCESS, Request.FAILED: Reply.FAILED}


def _asked(cell: Cell) -> Cell:
    return cell._replace(asked=True) if cell.hold in TOUCHABLE else cell


def _put(cells: tuple[Cell, ...], at: int, cell: Cell) -> tuple[Cell, ...]:
    return (*cells[:at], cell, *cells[at + 1 :])


def _with(room: Room, at: int, cell: Cell) -> Room:
    return Room(room.request, _put(room.cells, at, cell))
