"""One room of a target together with its initiators: what they do, what they tell, and what must hold.

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

from kvsender_spec.machine import Word
from kvsender_spec.target_machine import Hold, Request, TargetInput


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
    WANTED = "the owner wants the pages for another request"


NO_PAGES: Final = "KS-9.1: an initiator may touch pages that another may own"
EARLY: Final = "KS-9.7: done, and an initiator has not finished"
LATE: Final = "KS-9.7: every part is confirmed, and the request still waits"
UNFIT: Final = "KS-9.8: a hold does not fit its request"
MISLED: Final = "KS-9.9: told that the room is given up, and it is not"
REFUSED: Final = "KS-9.11: what arrives or passes cannot be taken"
MESSAGES: Final[dict[TargetInput, tuple[Phase, ...]]] = {
    TargetInput.END: (Phase.OVER,),
    TargetInput.FAILURE: (Phase.FAILING, Phase.QUIET, Phase.QUIESCED),
    TargetInput.QUIESCED: (Phase.QUIESCED,),
    TargetInput.FENCE: (Phase.GONE,),
    TargetInput.RENEW: tuple(phase for phase in Phase if phase is not Phase.UNTOLD),
    TargetInput.LOST: tuple(phase for phase in Phase if phase is not Phase.UNTOLD),
}
"""What may arrive of an initiator that is, or was, there. A part is told wherever ``Cell.part`` says so."""
PROVING: Final = (TargetInput.END, TargetInput.QUIESCED, TargetInput.FENCE)
TOLD_AGAIN: Final[tuple[TargetInput, ...]] = (*PROVING, TargetInput.FAILURE)


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
    if not room.ended and all(cell.counted for cell in room.cells):
        return LATE
    if any((cell.hold in _ENDED) is not room.ended for cell in room.cells if cell.hold is not Hold.DRAINED):
        return UNFIT
    if room.request is not Request.FAILED and any(cell.asked and cell.phase is Phase.FLYING for cell in room.cells):
        return MISLED
    return ""


_ENDED: Final = frozenset({Hold.QUARANTINED, Hold.FREE})
"""Holds of a request that has ended. A drained one may belong to any."""


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
