"""The random walk of a target's run: each run's own random numbers choose its setup and its steps."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Final

from kvsender_spec.faults import Fault, Kind, Point
from kvsender_spec.history.header import Ability
from kvsender_spec.history.words import MALFORMED, How, Says
from kvsender_spec.kit.adapter import Adapter
from kvsender_spec.kit.parts import abilities
from kvsender_spec.kit.targets.run import TargetRun
from kvsender_spec.trace import Call, Progress, Setup, Step

if TYPE_CHECKING:
    from kvsender_spec.kit.run.execute import AnyRun

STEPS: Final = 24
_MOST_DRAWS: Final = 60
_ROOMS: Final = ((1,), (1, 1), (2, 1), (1, 1, 1))
_CALLS: Final = (
    *(Call.TELL,) * 12,
    *(Call.POLL,) * 8,
    *(Call.LAND,) * 5,
    *(Call.OPEN,) * 3,
    *(Call.ABORT, Call.CLEAR, Call.WAIT, Call.WAIT, Call.FAILURE_EXCEPTION),
    *(Call.WAIT_LONG, Call.KILL, Call.STOP, Call.RESTART, Call.FENCE, Call.REFILL),
)
_SAYS: Final = (Says.PROGRESS, Says.PROGRESS, Says.SUCCESS, Says.SUCCESS, Says.FAILURE, Says.QUIESCED)
_ODD: Final = (How.AGAIN, How.NEWEST, How.LOST, How.STRANGER, How.EARLIER, How.UNKNOWN, *sorted(MALFORMED))
_ODD_SHARE: Final = 0.3
_FAULT_SHARE: Final = 0.1


def wander_target(adapter: Adapter, random: Random, runs: list[AnyRun]) -> None:
    """One run, which is handed out in ``runs`` as soon as there is one."""
    rooms, peers, shared = random.choice(((1, 1, True), (1, 2, True), (2, 2, True), (2, 2, False), (2, 1, True)))
    chunks = tuple(random.choice(_ROOMS) for _ in range(rooms))
    silent = random.random() < 1 / 3
    run = TargetRun(adapter, Setup(chunks, peers=peers, shared=shared, silent=silent, role="target"))
    runs.append(run)
    can = abilities(adapter)
    for room in range(rooms):
        run.apply(Step(Call.OPEN, room))
    for _ in range(STEPS):
        step = next((s for s in (_draw(random, run, can) for _ in range(_MOST_DRAWS)) if run.applicable(s)), None)
        if step is not None:
            run.apply(step)
    run.finish()


def _draw(random: Random, run: TargetRun, can: frozenset[Ability]) -> Step:
    call, room = random.choice(_CALLS), random.randrange(len(run.setup.chunks))
    peer = random.randrange(run.setup.peers)
    if call in (Call.KILL, Call.STOP, Call.RESTART):
        return Step(call, peer)
    if call is Call.FENCE:
        return Step(call, room, peer=peer, how=random.choice((How.PROPER, How.EARLIER)))
    if call is Call.LAND:
        return Step(call, room, peer=peer)
    fault = Fault(Point.NOTIFY, Kind.BACKEND) if random.random() < _FAULT_SHARE else None
    if call is not Call.TELL:
        return Step(call, room, fault=fault if call in (Call.OPEN, Call.ABORT, Call.CLEAR, Call.POLL) else None)
    says = random.choice((*_SAYS, Says.RENEW, Says.RENEW) if Ability.HOLDS in can else _SAYS)
    how = random.choice(_ODD) if random.random() < _ODD_SHARE else How.PROPER
    progress = random.choice((Progress.NONE, Progress.ALL, Progress.ALL, Progress.LANDED))
    return Step(call, room, progress, peer=peer, says=says, how=how)
