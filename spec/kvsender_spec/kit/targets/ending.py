"""The end of a target's run: every room ends and is cleared, and every initiator that lives gives its proof."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kvsender_spec.history.header import Ability
from kvsender_spec.history.words import How, Says
from kvsender_spec.kit.targets.situation import TargetRoom, TargetSituation
from kvsender_spec.trace import Call, Progress, Step

_POLLS: Final = 5


def ending(run: TargetSituation) -> Iterator[Step]:
    """The steps of the end. Each is chosen where the run stands when the one before it has been taken."""
    yield Step(Call.FAULTS_OVER)
    yield from _poll(run)
    if not run.setup.silent:
        for room in run.rooms:
            if not room.view.ended and not room.view.causes:
                for number, peer in enumerate(room.plan.initiators):
                    if run.observer.healthy(peer.name):
                        yield _step(run, room, Call.TELL, peer=number, says=Says.SUCCESS, progress=Progress.ALL)
        yield from _poll(run)
    if not all(room.view.ended for room in run.rooms):
        yield Step(Call.WAIT_LONG)
        yield from _poll(run)
        yield Step(Call.WAIT_LONG)  # a renewal may have been taken later than it came
        yield from _poll(run)
    for room in run.rooms:
        for _ in range(2):
            yield _step(run, room, Call.FAILURE_EXCEPTION)
    yield Step(Call.SETTLE)
    yield from _prove(run)
    yield from _poll(run, every=True)
    for room in run.rooms:
        for _ in range(2 if Ability.CLEAR in run.can else 0):
            yield _step(run, room, Call.CLEAR)
        yield _step(run, room, Call.FAILURE_EXCEPTION)
    yield Step(Call.SETTLE)
    yield from _prove(run)
    yield from _poll(run, every=True)
    yield Step(Call.SETTLE)


def _prove(run: TargetSituation) -> Iterator[Step]:
    """Whoever may still use pages comes to its end and says so; of a process that is gone a fence is told."""
    for room in run.rooms:
        for number, peer in enumerate(room.plan.initiators):
            if not room.view.initiators[peer.name].touchable:
                continue
            initiator = room.initiating[peer.name]
            gone = peer.name in run.observer.lost or peer.generation != initiator.generation
            if gone:
                yield _step(run, room, Call.FENCE, peer=number)
            elif initiator.ended is not None and initiator.quiesced:
                how = How.AGAIN  # it was lost on the way, and is said again
                yield _step(run, room, Call.TELL, peer=number, says=Says.QUIESCED, how=how)
            else:
                yield _step(run, room, Call.TELL, peer=number, says=Says.QUIESCED)
    yield Step(Call.WORK)


def _poll(run: TargetSituation, *, every: bool = False) -> Iterator[Step]:
    for _ in range(1 if every else _POLLS):
        for room in run.rooms:
            if every or not room.view.ended:
                yield _step(run, room, Call.POLL)


def _step(
    run: TargetSituation,
    room: TargetRoom,
    call: Call,
    *,
    peer: int = 0,
    says: Says | None = None,
    how: How = How.PROPER,
    progress: Progress = Progress.NONE,
) -> Step:
    openings = [other for other in run.rooms if other.slot == room.slot]
    opening = 0 if openings[-1] is room else openings.index(room) + 1
    return Step(call, room.slot, progress, opening=opening, peer=peer, says=says, how=how)
