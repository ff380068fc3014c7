"""A run of a scenario: one side on real NIXL, what its caller does, what is done to its peers. Judges nothing.

Whatever happens becomes an event of one history, which an ``Observer`` sees at once. The run may ask it which state a
room is in; what comes of it all is said by the observer's verdicts, from the live history as from its file.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from kvsender_nixl.agent import create_agent
from kvsender_nixl.lab.direction import DIRECTIONS, Direction
from kvsender_nixl.lab.memory import NUM_PAGES, NUM_SLOTS, Memory, Tally
from kvsender_nixl.lab.peer import LabPeer
from kvsender_nixl.lab.process import LIMIT_S, STEP_S, TimeUp, until
from kvsender_nixl.lab.real_world import RealWorld
from kvsender_nixl.lab.recording import Recording
from kvsender_nixl.lab.watched import WatchedRoom
from kvsender_nixl.lab.words import INITIATORS
from kvsender_nixl.side import SenderOptions
from kvsender_spec.contract import KVPoll
from kvsender_spec.history.events import (
    BytesCompared,
    BytesLanded,
    FaultsOver,
    KeptCounted,
    PagesRefilled,
    PeerLost,
    PeerResumed,
    PeerReturned,
    PeerSilent,
    RoomOpened,
    RunEnded,
)
from kvsender_spec.history.recording_agent import RecordingAgent
from kvsender_spec.history.words import CallName, Destination, Says

if TYPE_CHECKING:
    from kvsender_nixl.lab.real_world import RealFront

_MARGIN_S: Final = 5.0
_MOST_ESCAPES: Final = 20
"""How often poll() may raise before a room is given up."""


class ScenarioRun(Recording):
    """One side with its own agent; the scenario calls its rooms and does things to its peers."""

    def __init__(self, world: RealWorld, name: str, options: SenderOptions) -> None:
        word = INITIATORS[world.operation]
        super().__init__(f"kvsender_nixl {word}, scenario {name}", world.operation, options, LIMIT_S)
        self.random: Final = random.Random(f"{world.seed} {name}")
        self.rooms: Final[list[WatchedRoom]] = []
        """By key."""
        self.unplanned: Final[list[str]] = []
        """What did not come out as the scenario has planned."""
        self._agent: Final = create_agent(f"{word}-{name}")
        self._peers: Final[dict[str, LabPeer]] = {}
        """The process that has each name now."""
        self._processes: Final[dict[bytes, tuple[str, int]]] = {}
        """Name and generation of each, by its agent's metadata."""
        self._generations: Final[dict[str, int]] = {}
        self._over: bool | None = None
        """What faults.over has said last about what is in flight; None before."""
        self._own: Final = list(range(NUM_PAGES))
        self._theirs: Final[dict[str, list[int]]] = {}
        recording = RecordingAgent(
            self._agent,
            self.recorder,
            self._processes.__getitem__,
            lambda transfer: self.direction.place(transfer, self._generations.get(transfer.remote.agent, 0)),
        )
        wire = world.plant.wire(recording)
        direction = DIRECTIONS[world.operation]
        self.direction: Final[Direction] = direction(wire, self._agent.name, world, options, lambda: self.now)
        world.plant.front(self.front)

    @property
    def front(self) -> RealFront:
        return self.direction.front

    @property
    def memory(self) -> Memory:
        return self.direction.memory

    def plan(self, holds: bool, expected: str, observed: str) -> None:
        """What no clause says, but the scenario needs, or it is not the scenario that it is called."""
        if not holds:
            self.unplanned.append(f"{expected}; observed: {observed}")

    # ---------------------------------------------------------------------------------------------------- the world

    def join(self, *peers: LabPeer) -> tuple[LabPeer, ...]:
        """The peers register, one after the other. Returns them."""
        for peer in peers:
            self._know(peer)
            self.call(CallName.RECONNECT, partial(self.front.register_peer, peer.metadata))
        return peers

    def _know(self, peer: LabPeer, generation: int = 0) -> None:
        self._peers[peer.name] = peer
        self._generations[peer.name] = generation
        self._processes[peer.metadata.agent_metadata] = peer.name, generation

    def kill(self, peer: LabPeer) -> None:
        assert self._over is None, "the faults are over"
        peer.process.sigkill()
        self.tell(partial(PeerLost, peer=peer.name))

    def stop(self, peer: LabPeer) -> None:
        assert self._over is None, "the faults are over"
        peer.process.stop()
        self.tell(partial(PeerSilent, peer=peer.name))

    def cont(self, peer: LabPeer) -> None:
        peer.process.cont()
        self.tell(partial(PeerResumed, peer=peer.name))

    def replace(self, old: LabPeer, new: LabPeer) -> None:
        """A new process has the name of the old one and registers: this side is to reconnect, once."""
        name, generation = old.name, self._generations[old.name] + 1
        self._know(new, generation)
        self.tell(partial(PeerReturned, peer=name, generation=generation))
        view = self.observer.subject.peer(name)

        def register() -> None:
            self.front.register_peer(new.metadata)
            with suppress(TimeUp):  # the observer says that it was not added
                until(f"{name} is added again", lambda: view.added_since != 0)

        self.call(CallName.RECONNECT, register)

    def refill(self, room: WatchedRoom, peer: LabPeer, pages: Sequence[int]) -> None:
        """A holder gives pages that it has granted for this room to another request."""
        assert self._over is None or room.view.ended, "the faults are over"
        peer.holder.refill(pages)
        room.refilled[peer.name] = (*room.refilled.get(peer.name, ()), *pages)
        self.tell(partial(PagesRefilled, room=room.key, peer=peer.name, pages=tuple(pages)))

    def late_bytes(
        self, room: WatchedRoom, peer: LabPeer, resume: Callable[[], None] = lambda: None
    ) -> tuple[Tally, Tally]:
        """The room has reported, and its caller reuses what it may; only then does a held peer move the bytes.

        Returns the bytes where the room's pages go, before that and when everything has settled.
        """
        held = self.front.quarantined_pages()
        reused = [page for page in room.source if page not in held]
        self.memory.reuse(reused)
        resume()
        before = self.direction.landed(room, peer)
        peer.remote.hold(False)
        self.drained()
        after, foreign = self.direction.landed(room, peer), self.direction.foreign(room, peer, reused)
        late = after.landed - before.landed - foreign
        if late > 0:
            self.tell(partial(BytesLanded, room=room.key, bytes=late, late=True))
        if foreign:
            self.tell(partial(BytesLanded, room=room.key, bytes=foreign, late=True, foreign=True))
        return before, after

    # ---------------------------------------------------------------------------------------------------- the rooms

    def _take(self, free: list[int], count: int, scattered: bool) -> list[int]:
        if scattered:
            taken = self.random.sample(free, count)
        else:
            runs = (free[first : first + count] for first in range(len(free) - count + 1))
            taken = next(run for run in runs if not run or run[-1] - run[0] == count - 1)
        gone = set(taken)
        free[:] = [page for page in free if page not in gone]
        return taken

    def open(
        self,
        peers: Sequence[LabPeer],
        chunks: Sequence[int],
        *,
        dummies: Sequence[LabPeer] = (),
        scattered: bool = True,
        room: int | None = None,
        known: int = 0,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> WatchedRoom:
        """Open a room to these peers, and call init(). Pages are taken anew for each room, on every side.

        The peers name so many more pages, before the room's, as are ``known``. ``meanwhile`` happens after they have
        named them, and before this side hears it.
        """
        key = len(self.rooms)
        number = 100 + key if room is None else room
        num_pages = sum(chunks)
        slot, target_slot = (key % NUM_SLOTS, (5 * key + 3) % NUM_SLOTS) if self.direction.has_aux else (None, None)
        source = self._take(self._own, num_pages, scattered)
        destinations = [self._destination(peer, known + num_pages, target_slot, scattered) for peer in peers]
        destinations += [Destination(peer=peer.name, dummy=True) for peer in dummies]
        infos = self.direction.ask(number, key, (*peers, *dummies), destinations)
        meanwhile()
        opened = partial(RoomOpened, room=key, id=number, pages=num_pages, aux=slot or 0)
        operation = self.observer.header.operation
        self.tell(partial(opened, destinations=tuple(destinations), operation=operation))
        watched = WatchedRoom(
            self, self.direction, self.observer.rooms[key], chunks, source, {peer.name: peer for peer in peers}
        )
        self.rooms.append(watched)
        watched.init(infos, slot)
        return watched

    def _destination(self, peer: LabPeer, num_pages: int, slot: int | None, scattered: bool) -> Destination:
        free = self._theirs.setdefault(peer.name, list(range(NUM_PAGES)))
        pages = tuple(self._take(free, num_pages, scattered))
        return Destination(peer=peer.name, generation=self._generations.get(peer.name, 0), pages=pages, aux=slot)

    def ready(self, *rooms: WatchedRoom) -> None:
        for room in rooms:
            room.ready()

    def end(
        self, *, failed: Sequence[WatchedRoom] = (), well: Sequence[WatchedRoom] = (), settles: bool = True
    ) -> None:
        """Poll these rooms in turn until all have ended, as the scenario leaves them no choice: Failed, or Success."""
        self._end((*failed, *well), settles=settles)
        for answer, rooms in ((KVPoll.Failed, failed), (KVPoll.Success, well)):
            for room in rooms:
                seen = f"it ended with {room.view.terminal!r}"
                self.plan(room.view.terminal is answer, f"room {room.number} ends with {answer.name}", seen)

    def _end(self, rooms: Sequence[WatchedRoom], *, settles: bool = True) -> None:
        """Nothing goes wrong from here on: poll these rooms in turn until all have ended.

        ``settles`` is False where something stays silent, so that only deadlines can end a room. Raises TimeUp where a
        room has not ended although it has had all the time that the limits of the history give it.
        """
        if self._over is not settles:
            self._over = settles
            self.tell(partial(FaultsOver, settles=settles))
        limits = self.observer.header.limits
        patience_s = limits.settle_s + limits.transfer_timeout_s + limits.drain_timeout_s + _MARGIN_S
        deadline = time.monotonic() + patience_s
        waiting, escapes = list(rooms), 0
        while time.monotonic() < deadline and escapes <= _MOST_ESCAPES:
            waiting = [room for room in waiting if not (room.view.ended or self._told_late(room))]
            if not waiting:
                break
            escapes += sum(room.poll() is None for room in waiting)
            time.sleep(STEP_S)
        late = [f"room {room.number} is {room.states}" for room in rooms if not room.view.ended]
        if late:
            raise TimeUp(f"no terminal answer: {', '.join(late)}")

    def _told_late(self, room: WatchedRoom) -> bool:
        return any(broken.clause == "KS-3.4" and broken.room == room.key for broken in self.findings.violations)

    def sweep(self) -> object:
        """Background work. Returns how many transfers and rooms are left."""
        return self.call(CallName.SWEEP, self.front.sweep)

    def drained(self, limit_s: float = LIMIT_S) -> None:
        """Sweep until nothing is left of what has outlived its room."""
        until("everything that outlived its room has settled", lambda: self.sweep() == 0, limit_s)

    # ------------------------------------------------------------------------------------------------------ the end

    def finish(self) -> None:
        """End every room, let everything settle, and look at what is left and at what the peers know."""
        for room in self.rooms:
            if not room.view.owes_an_end:
                room.abort()
        self._end(self.rooms)
        for room in self.rooms:
            room.ask_everything()
        self.drained()
        for room in self.rooms:
            room.poll()
        with suppress(TimeUp):  # the observer says which notification is missing
            until("every reachable peer has heard how its rooms ended", self._all_told, LIMIT_S)
        for room in self.rooms:
            self._ask_peers(room)
        for differ in self.direction.outside(self.rooms, self._answering()):
            self.tell(partial(BytesCompared, outside=True, differ=differ))
        self.held(self.front.quarantined_pages(), None)
        entries = self.front.residue()
        in_flight = self.front.close()
        self.tell(partial(KeptCounted, entries=entries, in_flight=in_flight))

    def close(self, why: str) -> None:
        """The history ends; ``why`` is empty where the scenario has come to its own end."""
        self.tell(partial(RunEnded, complete=not why, why=why))

    def _answering(self) -> dict[str, LabPeer]:
        return {name: peer for name, peer in self._peers.items() if self.observer.subject.peer(name).healthy}

    def _reachable(self, room: WatchedRoom) -> list[LabPeer]:
        """Those that can be told. A peer that was stopped and goes on is one of them, unless its connection broke."""
        views = {name: self.observer.subject.peer(name) for name in room.peers}
        return [room.peers[n] for n, view in views.items() if view.healthy and not (view.unreachable or view.returned)]

    def _all_told(self) -> bool:
        for peer in self._answering().values():
            for sender, message in peer.remote.take_notifications():
                if sender == self._agent.name:
                    self.heard(peer.name, message)
        return all(
            any(heard.says is not Says.PROGRESS for heard in room.view.heard.get(peer.name, []))
            for room in self.rooms
            for peer in self._reachable(room)
        )

    def _ask_peers(self, room: WatchedRoom) -> None:
        """What a peer knows is ours as well: that the room has ended, as it has, and why."""
        for peer in self._reachable(room):
            poll, reason = self.direction.told(room, peer)
            good = poll is room.view.terminal and (poll is not KVPoll.Failed or reason != "")
            expected = f"at {peer.name} room {room.number} ends with {room.view.terminal!r}, with a reason"
            self.plan(good, expected, f"it is {poll!r} ({reason})")
