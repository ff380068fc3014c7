"""What is done to real peers, and what must come of it.

A scenario is a function that drives a ``Trial``. It judges nothing: what it shows of clauses follows from its events.
It says only what it plans, such as which room is to fail; where that does not come out, it is an error. ``judges`` are
the clauses that it is there for: one of them that it did not observe makes the scenario an error, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from kvsender_nixl.lab.memory import PAGE_BYTES
from kvsender_nixl.lab.peer import DecodePeer
from kvsender_nixl.lab.stage import Stage
from kvsender_nixl.lab.trial import Trial
from kvsender_nixl.lab.watched import WatchedRoom
from kvsender_nixl.side import SenderOptions
from kvsender_spec.contract import Attribution, KVPoll
from kvsender_spec.trace import Misuse

BIG: Final = (200, 200, 112)
"""The chunks of 512 pages, 16 MiB: a peer that takes nothing keeps most of it waiting."""
PATIENT: Final = SenderOptions()
SILENCE: Final = SenderOptions(transfer_timeout_s=0.5, drain_timeout_s=0.3)
"""For peers that are silent on purpose. What works works well within it."""


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    about: str
    judges: tuple[str, ...]
    run: Callable[[Trial, Stage], None]
    options: SenderOptions = PATIENT


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
    trial.end(*rooms)
    for room in rooms:
        trial.expect(room, KVPoll.Success)
        room.failure()
    trial.finish()


def one_peer_contiguous(trial: Trial, stage: Stage) -> None:
    peers = stage.shared(1)
    trial.join(*peers)
    _transfers(trial, peers, (), scattered=False)


def one_peer_scattered(trial: Trial, stage: Stage) -> None:
    peers = stage.shared(1)
    trial.join(*peers)
    _transfers(trial, peers, (), scattered=True)


def three_peers_contiguous(trial: Trial, stage: Stage) -> None:
    *peers, dummy = stage.shared(4)
    trial.join(*peers)
    _transfers(trial, peers, (dummy,), scattered=False)


def three_peers_scattered(trial: Trial, stage: Stage) -> None:
    *peers, dummy = stage.shared(4)
    trial.join(*peers, dummy)  # a dummy may be connected, too, and still receives nothing
    _transfers(trial, peers, (dummy,), scattered=True)


def no_pages(trial: Trial, stage: Stage) -> None:
    """A room without pages still carries its aux data, to one peer and to three."""
    *peers, dummy = stage.shared(4)
    trial.join(*peers)
    rooms = [trial.open(peers[:1], (0,)), trial.open(peers, (0,), dummies=(dummy,)), trial.open(peers, (2, 3))]
    for room in rooms:
        room.ready()
        room.poll()
        room.send_all()
    trial.end(*rooms)
    for room in rooms:
        trial.expect(room, KVPoll.Success)
    trial.finish()


def out_of_order(trial: Trial, stage: Stage) -> None:
    """The peer that was served first finishes last."""
    slow, fast = stage.shared(2)
    trial.join(slow, fast)
    slow.remote.hold(True)
    room = trial.open([slow, fast], (*BIG, 0)[:3])
    room.ready()
    room.send_all()
    trial.until("the fast peer has everything", lambda: _arrived(room, fast))
    slow.remote.hold(False)
    trial.end(room)
    trial.expect(room, KVPoll.Success)
    trial.finish()


def _arrived(room: WatchedRoom, peer: DecodePeer) -> bool:
    room.poll()
    return room.view.ended or peer.remote.count(room.target(peer)).owner == PAGE_BYTES * len(room.source)


def misuse(trial: Trial, stage: Stage) -> None:
    """The owner's mistakes are refused before anything is posted, and the room goes on."""
    peers = stage.shared(1)
    trial.join(*peers)
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
    trial.end(room)
    trial.expect(room, KVPoll.Success)
    trial.finish()


# ------------------------------------------------------------------------------------------------------ peers that die


def _fails(trial: Trial, room: WatchedRoom) -> None:
    trial.end(room)
    trial.expect(room, KVPoll.Failed)


def killed_before_post(trial: Trial, stage: Stage) -> None:
    well, *_ = stage.shared(1)
    victim = stage.mortal()
    trial.join(well, victim)
    room, other = trial.open([victim], (5, 5)), trial.open([well], (64,))
    room.ready()
    trial.kill(victim)
    room.send()
    other.send()
    _fails(trial, room)
    trial.end(other)
    trial.expect(other, KVPoll.Success)
    trial.finish()


def killed_between_chunks(trial: Trial, stage: Stage) -> None:
    victim = stage.mortal()
    trial.join(victim)
    room = trial.open([victim], (7, 7, 7))
    room.ready()
    room.send()
    trial.until("the first chunk is there", lambda: _settled(room))
    trial.kill(victim)
    room.send()
    _fails(trial, room)
    trial.finish()


def _settled(room: WatchedRoom) -> bool:
    room.poll()
    return not room.in_flight


def killed_in_flight(trial: Trial, stage: Stage) -> None:
    """Some bytes are at the peer and some are not when its process is killed."""
    victim = stage.mortal()
    trial.join(victim)
    victim.remote.hold(True)
    room = trial.open([victim], BIG)
    room.ready()
    room.send_all()
    _half_way(trial, room, victim)
    trial.kill(victim)
    _fails(trial, room)
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

    trial.until(f"some bytes are at {peer.name}", some_landed)
    landed = peer.remote.count(room.target(peer)).landed
    seen = f"{landed} of {total} bytes landed; the room answered {room.view.terminal!r}"
    trial.plan(landed < total and not room.view.ended, "some bytes have landed, and the room is live", seen)


def one_of_three_killed(trial: Trial, stage: Stage) -> None:
    """The room of all three fails; rooms of the others are well, and their receivers of the failed room are told."""
    first, third = stage.shared(2)
    victim = stage.mortal()
    peers = [first, victim, third]
    trial.join(*peers)
    victim.remote.hold(True)
    room = trial.open(peers, (100, 100))
    others = [trial.open([first], (64, 64)), trial.open([third], (64,)), trial.open([first, third], (7, 8))]
    for each in (room, *others):
        each.ready()
    room.send()
    for other in others:
        other.send()
    trial.kill(victim)
    for other in others:
        other.send(len(other.chunks))
    trial.end(room, *others)
    trial.expect(room, KVPoll.Failed)
    for other in others:
        trial.expect(other, KVPoll.Success)
    trial.finish()
    for peer in (first, third):
        reason = peer.remote.look(str(room.key)).reason
        trial.plan("nixlRemoteDisconnectError" in reason, f"the receiver at {peer.name} knows the cause", reason)


def unreachable(trial: Trial, stage: Stage) -> None:
    """A peer that is dead when it is connected to: register_peer() returns, and only its rooms fail."""
    (well,) = stage.shared(1)
    victim = stage.mortal()
    trial.join(well)

    def die_and_register() -> None:
        assert victim.metadata.agent_name == victim.name  # what it has said before it died
        trial.kill(victim)
        trial.join(victim)

    room = trial.open([victim], (5, 5), meanwhile=die_and_register)
    other = trial.open([well], (64,))
    for each in (room, other):
        each.ready()
    error = trial.observer.subject.peer(victim.name).connect_error
    trial.plan(error is not None, "connecting raises", "it did not")
    room.send()
    other.send()
    trial.end(room, other)
    trial.expect(room, KVPoll.Failed)
    trial.expect(other, KVPoll.Success)
    trial.finish()


# ----------------------------------------------------------------------------------------------- peers that are silent


def stopped(trial: Trial, stage: Stage) -> None:
    """A stopped peer runs into the deadline; its bytes land afterwards; only then are the pages free."""
    (well,) = stage.shared(1)
    peer = stage.mortal()
    trial.join(well, peer)
    peer.remote.hold(True)  # so that after SIGCONT it can be asked before anything lands
    room = trial.open([peer], BIG)
    after = trial.open([peer], (5,))
    other = trial.open([well], (64, 64))
    for each in (room, after, other):
        each.ready()
    room.send_all()
    trial.stop(peer)
    after.send()
    other.send_all()
    trial.end(other)
    trial.expect(other, KVPoll.Success)
    trial.end(room, after)
    for each in (room, after):
        trial.expect(each, KVPoll.Failed)
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
    peer, well = stage.shared(2)
    trial.join(peer, well)
    peer.remote.hold(True)
    room, other = trial.open([peer, well], BIG), trial.open([well], (64,))
    for each in (room, other):
        each.ready()
    room.send(2)
    room.abort()
    room.abort()
    room.failure()
    room.poll()
    trial.plan(not room.view.ended, "no terminal answer while the transfers run", repr(room.view.terminal))
    room.send()
    other.send()
    peer.remote.hold(False)
    trial.end(room, other)
    trial.expect(room, KVPoll.Failed)
    trial.expect(other, KVPoll.Success)
    left = len(trial.prefill.quarantined_pages())
    trial.plan(left == 0, "everything has settled: no page is held", f"{left} are")
    trial.finish()


def aborted_and_silent(trial: Trial, stage: Stage) -> None:
    """abort() towards a peer that takes nothing: the report comes at the drain deadline, and the bytes after it."""
    (peer,) = stage.shared(1)
    trial.join(peer)
    peer.remote.hold(True)
    room = trial.open([peer], (*BIG, 5))
    room.ready()
    room.send(3)
    room.abort()
    trial.end(room, settles=False)
    trial.expect(room, KVPoll.Failed)
    _late(trial, room, peer)
    trial.finish()


def cleared_in_flight(trial: Trial, stage: Stage) -> None:
    """clear() while the transfers run; the room id is used again at once, and the late completions hurt nobody."""
    (peer,) = stage.shared(1)
    trial.join(peer)
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
    trial.end(new)
    trial.expect(new, KVPoll.Success)
    trial.drained()
    trial.end(old)
    trial.expect(old, KVPoll.Failed)
    trial.finish()


# ------------------------------------------------------------------------------------------------- peers that come back


def restarted(trial: Trial, stage: Stage) -> None:
    """A peer is killed and comes back under its name: new rooms work; old rooms may fail, and never succeed."""
    (well,) = stage.shared(1)
    victim = stage.mortal()
    trial.join(well, victim)
    victim.remote.hold(True)
    room = trial.open([victim], (100,), room=7)
    waiting = trial.open([victim], (5,))
    other = trial.open([well], (30, 30))
    for each in (room, waiting, other):
        each.ready()
    room.send()
    other.send()
    trial.kill(victim)
    _fails(trial, room)
    room.clear()
    back = stage.mortal(victim.name)
    trial.replace(victim, back)
    news = [trial.open([back], (50, 50), room=7), trial.open([well, back], (7, 8))]
    for each in news:
        each.ready()
        each.send_all()
    other.send()
    trial.end(*news, other)
    for each in news:
        trial.expect(each, KVPoll.Success)
    trial.expect(news[0], KVPoll.Success)
    trial.expect(other, KVPoll.Success)
    waiting.send()
    trial.end(waiting)
    trial.expect(waiting, KVPoll.Failed)  # its page ids are those of a process that is gone
    trial.finish()


def restarted_unnoticed(trial: Trial, stage: Stage) -> None:
    """The new process registers before the sender has noticed that the old one is gone."""
    victim = stage.mortal()
    trial.join(victim)
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
    trial.end(room, new)  # the old handles are those of a peer that was removed: nixlNotFoundError
    trial.expect(room, KVPoll.Failed)
    trial.expect(new, KVPoll.Success)
    # The class alone would not tell; that the peer was replaced does.
    whose = room.failure()
    trial.plan(whose == Attribution.PEER.value, "the cause is the peer's", str(whose))
    trial.finish()


_ALWAYS: Final = ("KS-2.1", "KS-3.1", "KS-3.4", "KS-4.2", "KS-4.3", "KS-6.1")
_WELL: Final = ("KS-2.1", "KS-2.7", "KS-3.1", "KS-3.4", "KS-4.1", "KS-4.2", "KS-4.3", "KS-5.1", "KS-5.2", "KS-6.1")
_FAILS: Final = ("KS-1.1", "KS-1.2", "KS-2.1", "KS-2.2", "KS-2.3", "KS-2.4", "KS-2.6", "KS-2.8", "KS-4.1", "KS-4.3")

SCENARIOS: Final[tuple[Scenario, ...]] = (
    Scenario(
        "one-peer-contiguous",
        "rooms of 1, 7, 64 and 512 pages at once, in order",
        (*_WELL, "KS-3.3"),
        one_peer_contiguous,
    ),
    Scenario("one-peer-scattered", "the same, page ids permuted on both sides", _WELL, one_peer_scattered),
    Scenario("three-peers-contiguous", "the same to three peers and a dummy", _WELL, three_peers_contiguous),
    Scenario("three-peers-scattered", "the same, page ids permuted", _WELL, three_peers_scattered),
    Scenario("no-pages", "rooms without pages, which carry aux data", ("KS-3.2", "KS-3.3", *_ALWAYS), no_pages),
    Scenario("out-of-order", "the peer served first finishes last", ("KS-3.6", *_ALWAYS), out_of_order),
    Scenario("misuse", "the owner's mistakes", ("KS-8.1", *_ALWAYS), misuse),
    Scenario(
        "killed-before-post",
        "SIGKILL before the first post",
        (*_FAILS, "KS-2.5", "KS-4.4", "KS-5.4", "KS-6.1", "KS-6.2"),
        killed_before_post,
    ),
    Scenario("killed-between-chunks", "SIGKILL between chunks", (*_FAILS, "KS-2.5", "KS-4.4"), killed_between_chunks),
    Scenario("killed-in-flight", "SIGKILL when some bytes have landed", _FAILS, killed_in_flight),
    Scenario(
        "one-of-three-killed",
        "SIGKILL of one of three peers",
        (*_FAILS, "KS-5.4", "KS-6.1", "KS-6.2"),
        one_of_three_killed,
    ),
    Scenario(
        "unreachable",
        "dead before the first connection",
        ("KS-1.1", "KS-2.3", "KS-2.4", "KS-2.5", "KS-6.2"),
        unreachable,
    ),
    Scenario(
        "stopped",
        "SIGSTOP until the deadline, then SIGCONT: the bytes land late",
        ("KS-2.1", "KS-2.3", "KS-2.4", "KS-2.8", "KS-3.4", "KS-4.1", "KS-4.4", "KS-5.4", "KS-6.1", "KS-6.2"),
        stopped,
        SILENCE,
    ),
    Scenario(
        "aborted-in-flight",
        "abort() in flight; the transfers settle in time",
        ("KS-2.2", "KS-2.3", "KS-2.4", "KS-2.5", "KS-2.8", "KS-4.1", "KS-5.1", "KS-5.4", "KS-6.1"),
        aborted_in_flight,
    ),
    Scenario(
        "aborted-and-silent",
        "abort() in flight; they do not, until the report",
        ("KS-2.2", "KS-2.3", "KS-2.5", "KS-4.1", "KS-4.4", "KS-5.1", "KS-6.1"),
        aborted_and_silent,
        SILENCE,
    ),
    Scenario(
        "cleared-in-flight",
        "clear() in flight, and the same room id again",
        ("KS-4.3", "KS-5.2", "KS-5.3", "KS-5.4", "KS-6.1"),
        cleared_in_flight,
    ),
    Scenario(
        "restarted",
        "SIGKILL, and a new process under the old name",
        (*_FAILS, "KS-5.4", "KS-6.2", "KS-6.3"),
        restarted,
    ),
    Scenario(
        "restarted-unnoticed",
        "the same, registered before the sender has noticed",
        (
            *(clause for clause in _FAILS if clause != "KS-2.8"),
            "KS-6.3",
        ),  # nixlNotFoundError alone says not whose it is
        restarted_unnoticed,
    ),
)
