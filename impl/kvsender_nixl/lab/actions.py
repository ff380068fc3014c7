"""What is done to real peers: each scenario is a function that drives a ``Trial``, in order of what goes wrong.

None of them judges: what they show of clauses follows from their events. They say only what they plan, such as which
room is to fail.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from kvsender_nixl.lab.memory import PAGE_BYTES
from kvsender_nixl.lab.peer import DecodePeer
from kvsender_nixl.lab.process import until
from kvsender_nixl.lab.stage import Stage
from kvsender_nixl.lab.trial import Trial
from kvsender_nixl.lab.watched import WatchedRoom
from kvsender_spec.contract import Attribution
from kvsender_spec.trace import Misuse

BIG: Final = (200, 200, 112)
"""The chunks of 512 pages, 16 MiB: a peer that takes nothing keeps most of it waiting."""


# ------------------------------------------------------------------------------------------------ nothing goes wrong


def _transfers(trial: Trial, peers: Sequence[DecodePeer], dummies: Sequence[DecodePeer], *, scattered: bool) -> None:
    """Rooms of 1, 7, 64 and 512 pages at once, in several chunks, all in flight together."""
    sizes: tuple[tuple[int, ...], ...] = ((1,), (3, 4), (1, 31, 32), BIG)
    rooms = [trial.open(peers, chunks, dummies=dummies, scattered=scattered) for chunks in sizes]
    for room in rooms:
        room.ready()
        room.failure()  # it has not failed: a usage error, and the room goes on (KS-2.7)
    while any(room.chunks for room in rooms):
        for room in rooms:
            if room.chunks:
                room.send()
                room.poll()
    trial.end(well=rooms)
    for room in rooms:
        room.failure()
    trial.finish()


def one_peer(trial: Trial, stage: Stage, *, scattered: bool) -> None:
    peers = trial.join(*stage.shared(1))
    _transfers(trial, peers, (), scattered=scattered)


def three_peers(trial: Trial, stage: Stage, *, scattered: bool) -> None:
    *peers, dummy = stage.shared(4)
    trial.join(*peers)
    if scattered:
        trial.join(dummy)  # a dummy may be connected, too, and still receives nothing
    _transfers(trial, peers, (dummy,), scattered=scattered)


def no_pages(trial: Trial, stage: Stage) -> None:
    """A room without pages still carries its aux data, to one peer and to three."""
    *peers, dummy = stage.shared(4)
    trial.join(*peers)
    rooms = [trial.open(peers[:1], (0,)), trial.open(peers, (0,), dummies=(dummy,)), trial.open(peers, (2, 3))]
    for room in rooms:
        room.ready()
        room.poll()
        room.send_all()
    trial.end(well=rooms)
    trial.finish()


def out_of_order(trial: Trial, stage: Stage) -> None:
    """The peer that was served first finishes last."""
    slow, fast = trial.join(*stage.shared(2))
    slow.remote.hold(True)
    room = trial.open([slow, fast], (*BIG, 0)[:3])
    room.ready()
    room.send_all()
    until("the fast peer has everything", lambda: _arrived(room, fast))
    slow.remote.hold(False)
    trial.end(well=[room])
    trial.finish()


def _arrived(room: WatchedRoom, peer: DecodePeer) -> bool:
    room.poll()
    return room.view.ended or peer.remote.count(room.target(peer)).owner == PAGE_BYTES * len(room.source)


def misuse(trial: Trial, stage: Stage) -> None:
    """The owner's mistakes are refused before anything is posted, and the room goes on."""
    peers = trial.join(*stage.shared(1))
    room = trial.open(peers, (2, 3))
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
    trial.end(well=[room])
    trial.finish()


# ------------------------------------------------------------------------------------------------------ peers that die


def killed_before_post(trial: Trial, stage: Stage) -> None:
    well, victim = trial.join(*stage.shared(1), stage.mortal())
    room, other = trial.open([victim], (5, 5)), trial.open([well], (64,))
    room.ready()
    trial.kill(victim)
    room.send()
    other.send()
    trial.end(failed=[room])
    trial.end(well=[other])
    trial.finish()


def killed_between_chunks(trial: Trial, stage: Stage) -> None:
    (victim,) = trial.join(stage.mortal())
    room = trial.open([victim], (7, 7, 7))
    room.ready()
    room.send()
    until("the first chunk is there", lambda: _settled(room))
    trial.kill(victim)
    room.send()
    trial.end(failed=[room])
    trial.finish()


def _settled(room: WatchedRoom) -> bool:
    room.poll()
    return not room.in_flight


def killed_in_flight(trial: Trial, stage: Stage) -> None:
    """Some bytes are at the peer and some are not when its process is killed."""
    (victim,) = trial.join(stage.mortal())
    victim.remote.hold(True)
    room = trial.open([victim], BIG)
    room.ready()
    room.send_all()
    _half_way(trial, room, victim)
    trial.kill(victim)
    trial.end(failed=[room])
    # An error says nothing about the reads, so the pages stay until somebody who knows says that nothing reads them.
    trial.plan(bool(trial.prefill.quarantined_pages()), "pages of transfers that ended in an error are held", "none")
    trial.finish()
    trial.prefill.fence(victim.name)  # its process is gone, and was reaped
    left = len(trial.prefill.quarantined_pages())
    trial.plan(left == 0, "the fence frees them", f"{left} pages are held")


def _half_way(trial: Trial, room: WatchedRoom, peer: DecodePeer) -> None:
    """Let a held peer take some of the room's bytes."""
    total = PAGE_BYTES * len(room.source)

    def some_landed() -> bool:
        room.poll()
        peer.remote.progress(1)
        return room.view.ended or peer.remote.count(room.target(peer)).landed > 0

    until(f"some bytes are at {peer.name}", some_landed)
    landed = peer.remote.count(room.target(peer)).landed
    seen = f"{landed} of {total} bytes landed; the room answered {room.view.terminal!r}"
    trial.plan(landed < total and not room.view.ended, "some bytes have landed, and the room is live", seen)


def one_of_three_killed(trial: Trial, stage: Stage) -> None:
    """The room of all three fails; rooms of the others are well, and their receivers of the failed room are told."""
    first, third = stage.shared(2)
    victim = stage.mortal()
    peers = trial.join(first, victim, third)
    victim.remote.hold(True)
    room = trial.open(peers, (100, 100))
    others = [trial.open([first], (64, 64)), trial.open([third], (64,)), trial.open([first, third], (7, 8))]
    trial.ready(room, *others)
    room.send()
    for other in others:
        other.send()
    trial.kill(victim)
    for other in others:
        other.send(len(other.chunks))
    trial.end(failed=[room], well=others)
    trial.finish()
    for peer in (first, third):
        reason = peer.remote.look(str(room.key)).reason
        trial.plan("nixlRemoteDisconnectError" in reason, f"the receiver at {peer.name} knows the cause", reason)


def unreachable(trial: Trial, stage: Stage) -> None:
    """A peer that is dead when it is connected to: register_peer() returns, and only its rooms fail."""
    (well,) = trial.join(*stage.shared(1))
    victim = stage.mortal()

    def die_and_register() -> None:
        assert victim.metadata.agent_name == victim.name  # what it has said before it died
        trial.kill(victim)
        trial.join(victim)

    room = trial.open([victim], (5, 5), meanwhile=die_and_register)
    other = trial.open([well], (64,))
    trial.ready(room, other)
    error = trial.observer.subject.peer(victim.name).connect_error
    trial.plan(error is not None, "connecting raises", "it did not")
    room.send()
    other.send()
    trial.end(failed=[room], well=[other])
    trial.finish()


# ----------------------------------------------------------------------------------------------- peers that are silent


def stopped(trial: Trial, stage: Stage) -> None:
    """A stopped peer runs into the deadline; its bytes land afterwards; only then are the pages free."""
    well, peer = trial.join(*stage.shared(1), stage.mortal())
    peer.remote.hold(True)  # so that after SIGCONT it can be asked before anything lands
    room = trial.open([peer], BIG)
    after = trial.open([peer], (5,))
    other = trial.open([well], (64, 64))
    trial.ready(room, after, other)
    room.send_all()
    trial.stop(peer)
    after.send()
    other.send_all()
    trial.end(well=[other])
    trial.end(failed=[room, after])
    _late(trial, room, peer, lambda: trial.cont(peer))
    trial.finish()


def _late(trial: Trial, room: WatchedRoom, peer: DecodePeer, resume: Callable[[], None] = lambda: None) -> None:
    """All bytes land in the end, and some of them after the report."""
    before, after = trial.late_bytes(room, peer, resume)
    total = PAGE_BYTES * len(room.sent_pages)
    seen = f"{before.owner} before the peer went on, {after.owner} at last"
    trial.plan(before.owner < total == after.owner, f"{total} bytes land, some after the report", seen)


# -------------------------------------------------------------------------------------------------- owners that give up


def aborted_in_flight(trial: Trial, stage: Stage) -> None:
    """abort() while the transfers run, which then settle before the drain deadline."""
    peer, well = trial.join(*stage.shared(2))
    peer.remote.hold(True)
    room, other = trial.open([peer, well], BIG), trial.open([well], (64,))
    trial.ready(room, other)
    room.send(2)
    room.abort()
    room.abort()
    room.failure()
    room.poll()
    trial.plan(not room.view.ended, "no terminal answer while the transfers run", repr(room.view.terminal))
    room.send()
    other.send()
    peer.remote.hold(False)
    trial.end(failed=[room], well=[other])
    left = len(trial.prefill.quarantined_pages())
    trial.plan(left == 0, "everything has settled: no page is held", f"{left} are")
    trial.finish()


def aborted_and_silent(trial: Trial, stage: Stage) -> None:
    """abort() towards a peer that takes nothing: the report comes at the drain deadline, and the bytes after it."""
    (peer,) = trial.join(*stage.shared(1))
    peer.remote.hold(True)
    room = trial.open([peer], (*BIG, 5))
    room.ready()
    room.send(3)
    room.abort()
    trial.end(failed=[room], settles=False)
    _late(trial, room, peer)
    trial.finish()


def cleared_in_flight(trial: Trial, stage: Stage) -> None:
    """clear() while the transfers run; the room id is used again at once, and the late completions hurt nobody."""
    (peer,) = trial.join(*stage.shared(1))
    peer.remote.hold(True)
    old = trial.open([peer], (150, 150, 4), room=7)
    old.ready()
    old.send(2)
    old.clear()
    new = trial.open([peer], (100, 100), room=7)
    new.ready()
    new.send()
    peer.remote.hold(False)
    new.send()
    trial.end(well=[new])
    trial.drained()
    trial.end(failed=[old])
    trial.finish()


# ------------------------------------------------------------------------------------------------- peers that come back


def restarted(trial: Trial, stage: Stage) -> None:
    """A peer is killed and comes back under its name: new rooms work; old rooms may fail, and never succeed."""
    well, victim = trial.join(*stage.shared(1), stage.mortal())
    victim.remote.hold(True)
    room = trial.open([victim], (100,), room=7)
    waiting = trial.open([victim], (5,))
    other = trial.open([well], (30, 30))
    trial.ready(room, waiting, other)
    room.send()
    other.send()
    trial.kill(victim)
    trial.end(failed=[room])
    room.clear()
    back = stage.mortal(victim.name)
    trial.replace(victim, back)
    news = [trial.open([back], (50, 50), room=7), trial.open([well, back], (7, 8))]
    for each in news:
        each.ready()
        each.send_all()
    other.send()
    trial.end(well=[*news, other])
    waiting.send()
    trial.end(failed=[waiting])  # its page ids are those of a process that is gone
    trial.finish()


def restarted_unnoticed(trial: Trial, stage: Stage) -> None:
    """The new process registers before the sender has noticed that the old one is gone."""
    (victim,) = trial.join(stage.mortal())
    victim.remote.hold(True)
    room = trial.open([victim], (100, 100))
    room.ready()
    room.send()
    trial.kill(victim)
    back = stage.mortal(victim.name)
    trial.replace(victim, back)
    new = trial.open([back], (20, 20))
    new.ready()
    new.send_all()
    # The old handles are those of a peer that was removed: nixlNotFoundError.
    trial.end(failed=[room], well=[new])
    # The class alone would not tell; that the peer was replaced does.
    whose = room.failure()
    trial.plan(whose == Attribution.PEER.value, "the cause is the peer's", str(whose))
    trial.finish()
