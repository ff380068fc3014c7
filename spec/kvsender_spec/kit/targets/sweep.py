"""The sweep of targets: what every check of one runs first, the same for all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kvsender_spec.contract import Operation
from kvsender_spec.faults import Fault, Kind, Point
from kvsender_spec.history.words import MALFORMED, How, Says
from kvsender_spec.trace import Call, Progress, Setup, Step, Trace

_OPEN: Final = Step(Call.OPEN)
_POLL: Final = Step(Call.POLL)
_WAIT: Final = Step(Call.WAIT)
_PAST: Final = Step(Call.WAIT_LONG)
_WHY: Final = Step(Call.FAILURE_EXCEPTION)
_ENDS: Final[dict[str, tuple[Step, ...]]] = {
    "deadline": (_PAST, _POLL),
    "abort": (Step(Call.ABORT), _POLL),
    "clear": (Step(Call.CLEAR),),
    "failure": (Step(Call.TELL, says=Says.FAILURE), _POLL),
    "quiesced": (Step(Call.TELL, says=Says.QUIESCED), _POLL),
    "death": (Step(Call.KILL), _PAST, _POLL),
    "silence": (Step(Call.STOP), _PAST, _POLL),
    "restart": (Step(Call.KILL), Step(Call.RESTART), _PAST, _POLL),
}
"""How a request can end that does not succeed."""
_ODD: Final = (How.AGAIN, How.STRANGER, How.UNKNOWN, How.EARLIER, *sorted(MALFORMED))
_SAYS: Final = (Says.PROGRESS, Says.SUCCESS, Says.FAILURE, Says.QUIESCED)


def _tell(
    says: Says,
    peer: int = 0,
    *,
    room: int = 0,
    how: How = How.PROPER,
    progress: Progress = Progress.NONE,
    opening: int = 0,
) -> Step:
    return Step(Call.TELL, room, progress, peer=peer, says=says, how=how, opening=opening)


def _all(peer: int = 0, room: int = 0) -> Step:
    """The initiator does all that it has to do, and says so."""
    return _tell(Says.SUCCESS, peer, room=room, progress=Progress.ALL)


def _land(peer: int = 0, room: int = 0, opening: int = 0) -> Step:
    return Step(Call.LAND, room, peer=peer, opening=opening)


def _made() -> Iterator[Trace]:
    one, two = Setup(role="target"), Setup(peers=2, role="target")
    parts = Setup(((1, 1, 1),), peers=1, role="target")
    pair = Setup(((1, 1), (1,)), peers=2, role="target")

    def trace(setup: Setup, *steps: Step) -> Trace:
        return Trace(setup, (_OPEN, *steps))

    # What goes well, in each order.
    yield trace(one, _all(), _POLL, _WHY, _POLL)
    yield trace(two, _all(), _POLL, _all(1), _POLL)
    yield trace(two, _all(1), _POLL, _POLL, _all(0), _POLL)
    yield trace(
        parts,
        _land(),
        _land(),
        _land(),
        *(_tell(Says.PROGRESS, how=How.NEWEST),) * 3,
        _POLL,
        _tell(Says.SUCCESS),
        _POLL,
    )
    yield trace(parts, _tell(Says.SUCCESS, progress=Progress.LANDED), _POLL, *(_tell(Says.PROGRESS),) * 3, _POLL)
    yield trace(parts, _tell(Says.SUCCESS, progress=Progress.LANDED), *(_tell(Says.PROGRESS), _POLL) * 2, _PAST, _POLL)
    yield trace(parts, *(_land(), _tell(Says.PROGRESS), _POLL) * 3, _tell(Says.SUCCESS), _POLL)
    # Nothing, or not everything, is told.
    for told in ((), (_land(), _tell(Says.PROGRESS)), (_tell(Says.SUCCESS, progress=Progress.LANDED),)):
        for polls in (0, 3):
            yield trace(parts, *told, *(_POLL,) * polls, _PAST, _POLL, _POLL, _POLL, _WHY)
    # What is there beats the deadline; an owner that was away is no fault.
    for setup in (one, two):
        everybody = tuple(_all(peer) for peer in range(setup.peers))
        yield trace(setup, *everybody, _PAST, _POLL)
        yield trace(setup, _POLL, _PAST, *everybody, _POLL)
        yield trace(setup, *everybody, _PAST, _PAST, _POLL, _POLL)
    yield trace(one, *(_WAIT,) * 4, _POLL, _all(), _POLL)
    # Each end, with bytes that move before and after it, and each proof or none.
    for end in _ENDS.values():
        for before in ((), (_land(),), (_land(), _tell(Says.PROGRESS), _POLL)):
            for setup in (parts, two):
                yield trace(setup, *before, *end, _WHY, _land(), _POLL, _WAIT, _PAST, _POLL, _WHY)
        for after in (
            (_tell(Says.QUIESCED), _POLL),
            (_all(), _POLL),
            (Step(Call.ABORT), Step(Call.CLEAR), _WHY),
            (Step(Call.CLEAR), Step(Call.CLEAR), _PAST, _land()),
            (_tell(Says.FAILURE), _tell(Says.QUIESCED), _POLL),
        ):
            yield trace(two, *end, _WHY, *after, _WHY, _POLL)
        # One initiator of two gives its proof, the other one none.
        yield trace(two, *end, _tell(Says.QUIESCED, 1), _POLL, _land(0), _POLL)
        yield trace(two, _all(1), _POLL, *end, _land(0), _POLL, _WAIT)
        # The pages have another owner as soon as the target lets go of them.
        yield trace(
            one, *end, Step(Call.CLEAR), _OPEN, _land(opening=1), _all(), _POLL, _tell(Says.QUIESCED, opening=1)
        )
        # Another room with the same initiators goes on, and so does one with others.
        yield Trace(pair, (_OPEN, Step(Call.OPEN, 1), *end, _all(0, 1), _all(1, 1), Step(Call.POLL, 1), _land(), _POLL))
    # What changes nothing: at each moment, in each odd way.
    for how in _ODD:
        for says in _SAYS:
            odd = _tell(says, how=how)
            yield trace(two, odd, _POLL, _all(), odd, _POLL, _all(1), _POLL, odd, _POLL)
            yield trace(two, _all(), odd, odd, _POLL, _WAIT, _POLL, _all(1), _POLL)
            yield trace(two, Step(Call.ABORT), _POLL, odd, _POLL, _land(1), _POLL, _WHY)
            yield trace(
                parts, _land(), _tell(Says.PROGRESS), odd, odd, odd, _POLL, _land(), _land(), _POLL, _PAST, _POLL
            )
            # With good ones in the same batch.
            yield trace(one, odd, _all(), odd, _POLL, _POLL)
    again = (Step(Call.CLEAR), _OPEN)
    for says in _SAYS:
        late = _tell(says, how=How.EARLIER)
        yield trace(one, Step(Call.ABORT), _POLL, *again, late, _POLL, _all(), _POLL, late, _POLL)
        yield trace(
            one, _all(), _POLL, *again, late, _POLL, _WAIT, _POLL, Step(Call.ABORT), _POLL, late, _POLL, _land()
        )
        yield trace(two, _all(), _all(1), _POLL, *again, late, late, _POLL, _land(1), _PAST, _POLL, late, _POLL)
        own_late = _tell(says, opening=1, progress=Progress.LANDED)
        yield trace(two, Step(Call.ABORT), _POLL, *again, own_late, _POLL, _all(0), _POLL, _all(1), _POLL)
    # Twice the same, in each place of a count.
    for says in (Says.PROGRESS, Says.SUCCESS):
        yield trace(two, _all(), *(_tell(says, how=How.AGAIN),) * 3, _POLL, _POLL, _PAST, _POLL, _land(1), _POLL)
    yield trace(
        two, Step(Call.ABORT), _POLL, _tell(Says.QUIESCED), _tell(Says.QUIESCED, how=How.AGAIN), _POLL, _land(1)
    )
    # A failure while others write; a success after it; a second failure.
    yield trace(two, _tell(Says.FAILURE), _all(1), _POLL, _WHY, _all(0), _POLL, _WHY)
    yield trace(two, _tell(Says.FAILURE), _POLL, _tell(Says.FAILURE, 1), _POLL, _WHY, _WHY)
    yield trace(one, _all(), _POLL, _tell(Says.FAILURE), Step(Call.ABORT), _POLL, _WHY, Step(Call.CLEAR), _POLL)
    # Fences: of another process, of another peer, of the right one.
    for how in (How.EARLIER, How.PROPER):
        fence = Step(Call.FENCE, how=how)
        yield trace(two, Step(Call.KILL), fence, _POLL, _land(1), _POLL, _WAIT, _POLL)
        yield trace(two, _PAST, _POLL, Step(Call.KILL), Step(Call.RESTART), fence, _POLL, _land(1), _POLL)
        yield trace(two, Step(Call.ABORT), _POLL, Step(Call.KILL), fence, _POLL, _land(1), _POLL)
    restarted = (Step(Call.KILL), Step(Call.RESTART), Step(Call.CLEAR), _OPEN)
    yield trace(one, Step(Call.ABORT), *restarted, Step(Call.FENCE, opening=1), _land(), Step(Call.ABORT), _POLL, _POLL)
    # A notification that is refused once is said again when the connection is back.
    refused = Fault(Point.NOTIFY, Kind.BACKEND)
    for call in (Call.OPEN, Call.ABORT, Call.CLEAR):
        first = () if call is Call.OPEN else (_OPEN,)
        rest = (_POLL, _WAIT, _POLL, Step(Call.WORK), _land(), _PAST, _POLL)
        yield Trace(two, (*first, Step(call, fault=refused), *rest))
        yield Trace(two, (*first, Step(call, fault=Fault(Point.NOTIFY, Kind.BACKEND, 1)), *rest))
    for give_up in (Step(Call.ABORT), Step(Call.CLEAR)):
        yield Trace(one, (Step(Call.OPEN, fault=refused), give_up, _land(), Step(Call.WORK), _POLL, _WAIT, _POLL))
    # The last word is lost on the way: whoever asks hears it.
    for setup in (one, parts):
        lost = _tell(Says.SUCCESS, how=How.LOST, progress=Progress.ALL)
        yield trace(setup, lost, *(_WAIT, _POLL) * 5, _PAST, _POLL)
        yield trace(setup, lost, *(_WAIT, _POLL) * 2, _tell(Says.SUCCESS, how=How.AGAIN), _POLL)
    # Two rooms, of which the one at the head lives longer.
    for length in (1, 2, 4):
        waits = (_WAIT,) * length
        yield Trace(pair, (_OPEN, *waits, Step(Call.OPEN, 1), _PAST, Step(Call.POLL, 1), _POLL, Step(Call.POLL, 1)))


def _leases() -> Iterator[Trace]:
    one = Setup(role="target", operation="READ")
    pair = Setup(((1,), (1,)), peers=2, role="target", operation="READ")
    renew = _tell(Says.RENEW)
    for before in (1, 4):
        steps = (_OPEN, *(_WAIT,) * before, renew, _POLL, *(_WAIT,) * 5, _POLL)
        yield Trace(one, (*steps, _all(), _POLL))
        yield Trace(one, (*steps, _PAST, _POLL, renew, _POLL))
    yield Trace(one, (_OPEN, renew, renew, _POLL, *(_WAIT,) * 5, _POLL, _WAIT, _POLL, renew, _WAIT, _land()))
    for end in _ENDS.values():
        yield Trace(one, (_OPEN, *end, renew, _POLL, _WAIT, _POLL))
        yield Trace(
            one, (_OPEN, _land(), *end, Step(Call.REFILL), _POLL, _tell(Says.QUIESCED), Step(Call.REFILL), _POLL)
        )
    yield Trace(one, (_OPEN, _all(), _POLL, Step(Call.REFILL), Step(Call.CLEAR), _OPEN, _all(), _POLL))
    keeps = (Step(Call.TELL, says=Says.RENEW), _WAIT) * 7
    both = (_OPEN, Step(Call.OPEN, 1), *keeps, Step(Call.POLL, 1), Step(Call.POLL, 1), Step(Call.POLL, 1), _POLL)
    yield Trace(pair, both)
    for how in (How.STRANGER, How.EARLIER, How.UNKNOWN):
        yield Trace(one, (_OPEN, *(_WAIT, _tell(Says.RENEW, how=how)) * 7, _POLL, _POLL, _POLL))


TARGETS: Final = tuple(_made())
LEASES: Final = tuple(_leases())


def target_sweep(operation: Operation) -> tuple[Trace, ...]:
    """What every check of a target runs first; ``Parts.plays`` leaves out what the system does not declare."""
    return (*TARGETS, *LEASES) if operation == "READ" else TARGETS
