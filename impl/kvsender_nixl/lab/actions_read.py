"""What is done to holders only: a grant that is longer than what is read, and pages that are refilled under a grant."""

from __future__ import annotations

from typing import Final

from kvsender_nixl.lab.actions import BIG
from kvsender_nixl.lab.memory import Tally
from kvsender_nixl.lab.peer import LabPeer
from kvsender_nixl.lab.process import until
from kvsender_nixl.lab.real_world import RealWorld
from kvsender_nixl.lab.scenario_run import ScenarioRun
from kvsender_nixl.lab.watched import WatchedRoom
from kvsender_spec.contract import Attribution, KVPoll

_ROUNDS: Final = 12
_ROUND_PAGES: Final = (16, 16)
_MOST_POLLS: Final = 40


def longer_grant(run: ScenarioRun, world: RealWorld) -> None:
    """The reader has the first pages already: the last ones are meant, and the first ones may be refilled."""
    holders = run.join(*world.shared(2))
    alone, both = run.open(holders[:1], (1, 30, 33), known=64), run.open(holders, (7, 8), known=1)
    nothing = run.open(holders, (0,), known=20)
    rooms = (alone, both, nothing)
    run.ready(*rooms)
    for room in rooms:
        for holder in room.peers.values():
            named = room.target(holder)
            run.refill(room, holder, named[: len(named) - len(room.source)])
    for room in rooms:
        room.send_all()
    run.end(well=rooms)
    run.finish()


def refilled_before(run: ScenarioRun, world: RealWorld) -> None:
    """Pages are refilled before anything of their room is read, or after its first chunk: the room fails for that."""
    first, second = run.join(*world.shared(2))
    whole, one = run.open([first], (30, 34)), run.open([first, second], (7, 8))
    late, other = run.open([second], (20, 20)), run.open([first, second], (64,))
    run.ready(whole, one, late, other)
    run.refill(whole, first, whole.target(first))
    run.refill(one, second, one.target(second)[-1:])
    late.send()
    until("the first chunk is here", lambda: _settled(late))
    run.refill(late, second, late.target(second)[:1])
    for room in (whole, one, late, other):
        room.send_all()
    failed = (whole, one, late)
    run.end(failed=failed, well=[other])
    for room in failed:
        _for_its_grant(run, room)
    run.finish()


def _settled(room: WatchedRoom) -> bool:
    room.poll()
    return not room.in_flight


def _for_its_grant(run: ScenarioRun, room: WatchedRoom) -> None:
    whose = room.failure()
    run.plan(whose == Attribution.PEER.value, f"room {room.number} fails for its holder", str(whose))


def refilled_in_flight(run: ScenarioRun, world: RealWorld) -> None:
    """Pages are refilled somewhere between the post and the end of the READs, at another place in each round.

    In the first round the holder has sent some of the bytes when it refills, and the rest afterwards.
    """
    (holder,) = run.join(*world.shared(1))
    room = run.open([holder], BIG)
    room.ready()
    holder.remote.hold(True)
    room.send_all()
    until("some bytes are here", lambda: _some_landed(run, room, holder))
    run.refill(room, holder, room.target(holder))
    holder.remote.hold(False)
    _polled_to_its_end(room)
    torn = run.direction.landed(room, holder)
    run.plan(torn.request > 0 and torn.next_request > 0, "bytes of both requests are read", str(torn))
    rounds = [_round(run, holder) for _ in range(_ROUNDS)]
    seen = [f"{room.view.terminal!r} with {landed}" for room, landed in rounds]
    # What a room may answer the observer knows; that foreign bytes come without an error of NIXL's is shown here.
    foreign = [room for room, landed in rounds if landed.next_request]
    failed = all(each.view.terminal is KVPoll.Failed for each in (room, *foreign))
    run.plan(failed, "a room that has read foreign bytes fails", "; ".join(seen))
    for each in (room, *foreign):
        _for_its_grant(run, each)
    run.finish()


def stopped_and_refilled(run: ScenarioRun, world: RealWorld) -> None:
    """A stopped holder runs into the deadline; then it goes on, and refills what it has granted before it sends it.

    So all that lands late is another request's, and it lands in pages of the failed room, which are quarantined, while
    another room reads into others.
    """
    well, holder = run.join(*world.shared(1), world.mortal())
    holder.remote.hold(True)  # so that after SIGCONT it refills before it sends
    room, other = run.open([holder], BIG), run.open([well], (64, 64))
    run.ready(room, other)
    room.send_all()
    run.stop(holder)
    run.end(failed=[room])
    run.cont(holder)
    run.refill(room, holder, room.target(holder))
    other.send_all()
    before, after = run.late_bytes(room, holder)
    foreign = after.next_request == run.direction.size(room, holder)
    run.plan(before.landed == 0 and foreign, "all bytes land late, and are the refill's", f"{before}, then {after}")
    run.end(well=[other])
    run.finish()


def _some_landed(run: ScenarioRun, room: WatchedRoom, holder: LabPeer) -> bool:
    room.poll()
    holder.remote.progress(1)
    return run.direction.landed(room, holder).landed > 0


def _round(run: ScenarioRun, holder: LabPeer) -> tuple[WatchedRoom, Tally]:
    """A room whose pages, or some of them, are refilled after some polls. Returns it, and what it has read."""
    room = run.open([holder], _ROUND_PAGES)
    room.ready()
    room.send_all()
    for _ in range(run.random.randrange(_MOST_POLLS)):
        room.poll()
    granted = room.target(holder)
    run.refill(room, holder, run.random.sample(granted, run.random.choice((1, len(granted)))))
    _polled_to_its_end(room)
    return room, run.direction.landed(room, holder)


def _polled_to_its_end(room: WatchedRoom) -> None:
    def ended() -> bool:
        room.poll()
        return room.view.ended

    until(f"room {room.number} has ended", ended)
