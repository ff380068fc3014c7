"""What is done to real peers: each scenario is a function that drives a ``ScenarioRun``, in order of what goes wrong.

None of them judges: what they show of clauses follows from their events. They say only what they plan, such as which
room is to fail.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from kvsender_nixl.lab.peer import LabPeer
from kvsender_nixl.lab.process import until
from kvsender_nixl.lab.real_world import RealWorld
from kvsender_nixl.lab.scenario_run import ScenarioRun
from kvsender_nixl.lab.watched import WatchedRoom
from kvsender_spec.contract import Attribution
from kvsender_spec.trace import Misuse

BIG: Final = (200, 200, 112)
"""The chunks of 512 pages, 16 MiB: a peer that moves nothing keeps most of it waiting."""


# ------------------------------------------------------------------------------------------------ nothing goes wrong


def _transfers(run: ScenarioRun, peers: Sequence[LabPeer], dummies: Sequence[LabPeer], *, scattered: bool) -> None:
    """Rooms of 1, 7, 64 and 512 pages at once, in several chunks, all in flight together."""
    sizes: tuple[tuple[int, ...], ...] = ((1,), (3, 4), (1, 31, 32), BIG)
    rooms = [run.open(peers, chunks, dummies=dummies, scattered=scattered) for chunks in sizes]
    for room in rooms:
        room.ready()
        room.failure()  # it has not failed: a usage error, and the room goes on (KS-2.7)
    while any(room.chunks for room in rooms):
        for room in rooms:
            if room.chunks:
                room.send()
                room.poll()
    run.end(well=rooms)
    for room in rooms:
        room.failure()
    run.finish()


def one_peer(run: ScenarioRun, world: RealWorld, *, scattered: bool) -> None:
    peers = run.join(*world.shared(1))
    _transfers(run, peers, (), scattered=scattered)


def three_peers(run: ScenarioRun, world: RealWorld, *, scattered: bool) -> None:
    *peers, dummy = world.shared(4)
    run.join(*peers)
    if scattered:
        run.join(dummy)  # a dummy may be connected, too, and has no part in it
    _transfers(run, peers, (dummy,), scattered=scattered)


def no_pages(run: ScenarioRun, world: RealWorld) -> None:
    """A room without pages still has its end, with one peer and with three; a sender's carries its aux data."""
    *peers, dummy = world.shared(4)
    run.join(*peers)
    rooms = [run.open(peers[:1], (0,)), run.open(peers, (0,), dummies=(dummy,)), run.open(peers, (2, 3))]
    for room in rooms:
        room.ready()
        room.poll()
        room.send_all()
    run.end(well=rooms)
    run.finish()


def out_of_order(run: ScenarioRun, world: RealWorld) -> None:
    """The peer that was served first finishes last."""
    slow, fast = run.join(*world.shared(2))
    slow.remote.hold(True)
    room = run.open([slow, fast], (*BIG, 0)[:3])
    room.ready()
    room.send_all()
    until("the fast peer has everything", lambda: _arrived(run, room, fast))
    slow.remote.hold(False)
    run.end(well=[room])
    run.finish()


def _arrived(run: ScenarioRun, room: WatchedRoom, peer: LabPeer) -> bool:
    room.poll()
    return room.view.ended or run.direction.landed(room, peer).request == run.direction.size(room, peer)


def misuse(run: ScenarioRun, world: RealWorld) -> None:
    """The caller's mistakes are refused before anything is posted, and the room goes on."""
    peers = run.join(*world.shared(1))
    room = run.open(peers, (2, 3))
    room.ready()
    first, second, *rest = room.source
    room.misuse(Misuse.DUPLICATE_PAGE, [first, first])
    room.misuse(Misuse.PAGE_OUT_OF_RANGE, [1024])
    room.misuse(Misuse.NEGATIVE_PAGE, [-1])
    room.misuse(Misuse.WRONG_DTYPE, [0.5])
    room.poll()
    room.send()
    room.misuse(Misuse.PAGE_AGAIN, [second])
    room.misuse(Misuse.TOO_MANY_PAGES, [*rest, next(page for page in range(9) if page not in room.source)])
    room.send()
    run.end(well=[room])
    run.finish()


# ------------------------------------------------------------------------------------------------------ peers that die


def killed_before_post(run: ScenarioRun, world: RealWorld) -> None:
    well, victim = run.join(*world.shared(1), world.mortal())
    room, other = run.open([victim], (5, 5)), run.open([well], (64,))
    room.ready()
    run.kill(victim)
    room.send()
    other.send()
    run.end(failed=[room])
    run.end(well=[other])
    run.finish()


def killed_between_chunks(run: ScenarioRun, world: RealWorld) -> None:
    (victim,) = run.join(world.mortal())
    room = run.open([victim], (7, 7, 7))
    room.ready()
    room.send()
    until("the first chunk is there", lambda: _settled(room))
    run.kill(victim)
    room.send()
    run.end(failed=[room])
    run.finish()


def _settled(room: WatchedRoom) -> bool:
    room.poll()
    return not room.in_flight


def killed_in_flight(run: ScenarioRun, world: RealWorld) -> None:
    """Some bytes are at the peer and some are not when its process is killed."""
    (victim,) = run.join(world.mortal())
    victim.remote.hold(True)
    room = run.open([victim], BIG)
    room.ready()
    room.send_all()
    _half_way(run, room, victim)
    run.kill(victim)
    run.end(failed=[room])
    # An error does not say that nothing moves any more, so the pages stay until somebody who knows says it.
    run.plan(bool(run.front.quarantined_pages()), "pages of transfers that ended in an error are held", "none")
    run.finish()
    run.front.fence(victim.name)  # its process is gone, and was reaped
    left = len(run.front.quarantined_pages())
    run.plan(left == 0, "the fence frees them", f"{left} pages are held")


def _half_way(run: ScenarioRun, room: WatchedRoom, peer: LabPeer) -> None:
    """Let a held peer move some of the room's bytes."""
    total = run.direction.size(room, peer)

    def some_landed() -> bool:
        room.poll()
        peer.remote.progress(1)
        return room.view.ended or run.direction.landed(room, peer).landed > 0

    until(f"some bytes have moved between us and {peer.name}", some_landed)
    landed = run.direction.landed(room, peer).landed
    seen = f"{landed} of {total} bytes landed; the room answered {room.view.terminal!r}"
    run.plan(landed < total and not room.view.ended, "some bytes have landed, and the room is live", seen)


def one_of_three_killed(run: ScenarioRun, world: RealWorld) -> None:
    """The room of all three fails, and the other two are told why; rooms of these two are well."""
    first, third = world.shared(2)
    victim = world.mortal()
    peers = run.join(first, victim, third)
    victim.remote.hold(True)
    room = run.open(peers, (100, 100))
    others = [run.open([first], (64, 64)), run.open([third], (64,)), run.open([first, third], (7, 8))]
    run.ready(room, *others)
    room.send()
    for other in others:
        other.send()
    run.kill(victim)
    for other in others:
        other.send(len(other.chunks))
    run.end(failed=[room], well=others)
    run.finish()
    for peer in (first, third):
        reason = run.direction.told(room, peer)[1]
        run.plan("nixlRemoteDisconnectError" in reason, f"{peer.name} knows the cause", reason)


def unreachable(run: ScenarioRun, world: RealWorld) -> None:
    """A peer that is dead when it is connected to: register_peer() returns, and only its rooms fail."""
    (well,) = run.join(*world.shared(1))
    victim = world.mortal()

    def die_and_register() -> None:
        assert victim.metadata.agent_name == victim.name  # what it has said before it died
        run.kill(victim)
        run.join(victim)

    room = run.open([victim], (5, 5), meanwhile=die_and_register)
    other = run.open([well], (64,))
    run.ready(room, other)
    error = run.observer.subject.peer(victim.name).connect_error
    run.plan(error is not None, "connecting raises", "it did not")
    room.send()
    other.send()
    run.end(failed=[room], well=[other])
    run.finish()


# ----------------------------------------------------------------------------------------------- peers that are silent


def stopped(run: ScenarioRun, world: RealWorld) -> None:
    """A stopped peer runs into the deadline; its bytes land afterwards; only then are the pages free."""
    well, peer = run.join(*world.shared(1), world.mortal())
    peer.remote.hold(True)  # so that after SIGCONT one can look before anything lands
    room = run.open([peer], BIG)
    after = run.open([peer], (5,))
    other = run.open([well], (64, 64))
    run.ready(room, after, other)
    room.send_all()
    run.stop(peer)
    after.send()
    other.send_all()
    run.end(well=[other])
    run.end(failed=[room, after])
    _late(run, room, peer, lambda: run.cont(peer))
    run.finish()


def _late(run: ScenarioRun, room: WatchedRoom, peer: LabPeer, resume: Callable[[], None] = lambda: None) -> None:
    """All bytes land in the end, and some of them after the report."""
    before, after = run.late_bytes(room, peer, resume)
    total = run.direction.size(room, peer)
    seen = f"{before.request} before the peer went on, {after.request} at last"
    run.plan(before.request < total == after.request, f"{total} bytes land, some after the report", seen)


# ------------------------------------------------------------------------------------------------- callers that give up


def aborted_in_flight(run: ScenarioRun, world: RealWorld) -> None:
    """abort() while the transfers run, which then settle before the drain deadline."""
    peer, well = run.join(*world.shared(2))
    peer.remote.hold(True)
    room, other = run.open([peer, well], BIG), run.open([well], (64,))
    run.ready(room, other)
    room.send(2)
    room.abort()
    room.abort()
    room.failure()
    room.poll()
    run.plan(not room.view.ended, "no terminal answer while the transfers run", repr(room.view.terminal))
    room.send()
    other.send()
    peer.remote.hold(False)
    run.end(failed=[room], well=[other])
    left = len(run.front.quarantined_pages())
    run.plan(left == 0, "everything has settled: no page is held", f"{left} are")
    run.finish()


def aborted_and_silent(run: ScenarioRun, world: RealWorld) -> None:
    """abort() towards a peer that takes nothing: the report comes at the drain deadline, and the bytes after it."""
    (peer,) = run.join(*world.shared(1))
    peer.remote.hold(True)
    room = run.open([peer], (*BIG, 5))
    room.ready()
    room.send(3)
    room.abort()
    run.end(failed=[room], settles=False)
    _late(run, room, peer)
    run.finish()


def cleared_in_flight(run: ScenarioRun, world: RealWorld) -> None:
    """clear() while the transfers run; the room id is used again at once, and the late completions hurt nobody."""
    (peer,) = run.join(*world.shared(1))
    peer.remote.hold(True)
    old = run.open([peer], (150, 150, 4), room=7)
    old.ready()
    old.send(2)
    old.clear()
    new = run.open([peer], (100, 100), room=7)
    new.ready()
    new.send()
    peer.remote.hold(False)
    new.send()
    run.end(well=[new])
    run.drained()
    run.end(failed=[old])
    run.finish()


# ------------------------------------------------------------------------------------------------- peers that come back


def restarted(run: ScenarioRun, world: RealWorld) -> None:
    """A peer is killed and comes back under its name: new rooms work; old rooms may fail, and never succeed."""
    well, victim = run.join(*world.shared(1), world.mortal())
    victim.remote.hold(True)
    room = run.open([victim], (100,), room=7)
    waiting = run.open([victim], (5,))
    other = run.open([well], (30, 30))
    run.ready(room, waiting, other)
    room.send()
    other.send()
    run.kill(victim)
    run.end(failed=[room])
    room.clear()
    back = world.mortal(victim.name)
    run.replace(victim, back)
    news = [run.open([back], (50, 50), room=7), run.open([well, back], (7, 8))]
    for each in news:
        each.ready()
        each.send_all()
    other.send()
    run.end(well=[*news, other])
    waiting.send()
    run.end(failed=[waiting])  # its page ids are those of a process that is gone
    run.finish()


def restarted_unnoticed(run: ScenarioRun, world: RealWorld) -> None:
    """The new process registers before this side has noticed that the old one is gone."""
    (victim,) = run.join(world.mortal())
    victim.remote.hold(True)
    room = run.open([victim], (100, 100))
    room.ready()
    room.send()
    run.kill(victim)
    back = world.mortal(victim.name)
    run.replace(victim, back)
    new = run.open([back], (20, 20))
    new.ready()
    new.send_all()
    # The old handles are those of a peer that was removed: nixlNotFoundError.
    run.end(failed=[room], well=[new])
    # The class alone would not tell; that the peer was replaced does.
    whose = room.failure()
    run.plan(whose == Attribution.PEER.value, "the cause is the peer's", str(whose))
    run.finish()
