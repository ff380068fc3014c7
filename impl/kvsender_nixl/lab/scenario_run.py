"""A run of a scenario: one prefill side on real NIXL, what its caller does, what is done to its peers. Judges nothing.

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

import torch

from kvsender_nixl.agent import create_agent
from kvsender_nixl.buffers import AuxBuffers, KVPool
from kvsender_nixl.lab.memory import LAYERS, NUM_PAGES, NUM_SLOTS, SHAPES, Tally
from kvsender_nixl.lab.peer import DecodePeer
from kvsender_nixl.lab.process import LIMIT_S, STEP_S, TimeUp, until
from kvsender_nixl.lab.real_world import RealWorld
from kvsender_nixl.lab.recording import Recording
from kvsender_nixl.lab.watched import WatchedRoom
from kvsender_nixl.prefill import Prefill
from kvsender_nixl.side import SenderOptions
from kvsender_spec.contract import KVPoll
from kvsender_spec.history.events import (
    BytesCompared,
    BytesLanded,
    FaultsOver,
    KeptCounted,
    PeerLost,
    PeerResumed,
    PeerReturned,
    PeerSilent,
    RoomOpened,
    RunEnded,
)
from kvsender_spec.history.record import Place
from kvsender_spec.history.recording_agent import RecordingAgent, Transfer
from kvsender_spec.history.words import CallName, Destination, Says

if TYPE_CHECKING:
    from kvsender_nixl.lab.real_world import RealPrefill

_MARGIN_S: Final = 5.0
_MOST_ESCAPES: Final = 20
"""How often poll() may raise before a room is given up."""


class ScenarioRun(Recording):
    """One prefill side with its own agent; the scenario calls its rooms and does things to its peers."""

    def __init__(self, world: RealWorld, name: str, options: SenderOptions) -> None:
        super().__init__(name, options, LIMIT_S)
        self.memory: Final = world.pristine.copy()
        self.random: Final = random.Random(f"{world.seed} {name}")
        self.rooms: Final[list[WatchedRoom]] = []
        """By key."""
        self.unplanned: Final[list[str]] = []
        """What did not come out as the scenario has planned."""
        self._agent: Final = create_agent(f"prefill-{name}")
        self._peers: Final[dict[str, DecodePeer]] = {}
        """The process that has each name now."""
        self._processes: Final[dict[bytes, tuple[str, int]]] = {}
        """Name and generation of each, by its agent's metadata."""
        self._generations: Final[dict[str, int]] = {}
        self._over: bool | None = None
        """What faults.over has said last about what is in flight; None before."""
        self._sources: Final = list(range(NUM_PAGES))
        self._targets: Final[dict[str, list[int]]] = {}
        tensors = [torch.from_numpy(region) for region in self.memory.regions]
        pool = KVPool(tensors[:LAYERS], tensors[LAYERS:])
        aux = AuxBuffers([torch.from_numpy(slots) for slots in self.memory.slots])
        recording = RecordingAgent(self._agent, self.recorder, self._processes.__getitem__, self._place)
        self.prefill: Final[RealPrefill] = Prefill(
            world.plant.wire(recording), pool, aux, options, clock=lambda: self.now
        )
        world.plant.prefill(self.prefill)

    def plan(self, holds: bool, expected: str, observed: str) -> None:
        """What no clause says, but the scenario needs, or it is not the scenario that it is called."""
        if not holds:
            self.unplanned.append(f"{expected}; observed: {observed}")

    def _place(self, transfer: Transfer) -> Place:
        """What a transfer reads and writes. Descriptors are numbered region by region, so the remainder is the item."""
        generation = self._generations.get(transfer.remote.agent, 0)
        if len(transfer.remote.rows) != len(SHAPES):
            return Place(aux=int(transfer.remote_indices[0]) % NUM_SLOTS, generation=generation)
        source, target = (
            tuple(dict.fromkeys((indices % NUM_PAGES).tolist()))
            for indices in (transfer.local_indices, transfer.remote_indices)
        )
        return Place(source, target, generation=generation)

    # ---------------------------------------------------------------------------------------------------- the world

    def join(self, *peers: DecodePeer) -> tuple[DecodePeer, ...]:
        """The peers register, one after the other. Returns them."""
        for peer in peers:
            self._know(peer)
            self.call(CallName.RECONNECT, partial(self.prefill.register_peer, peer.metadata))
        return peers

    def _know(self, peer: DecodePeer, generation: int = 0) -> None:
        self._peers[peer.name] = peer
        self._generations[peer.name] = generation
        self._processes[peer.metadata.agent_metadata] = peer.name, generation

    def kill(self, peer: DecodePeer) -> None:
        assert self._over is None, "the faults are over"
        peer.process.sigkill()
        self.tell(partial(PeerLost, peer=peer.name))

    def stop(self, peer: DecodePeer) -> None:
        assert self._over is None, "the faults are over"
        peer.process.stop()
        self.tell(partial(PeerSilent, peer=peer.name))

    def cont(self, peer: DecodePeer) -> None:
        peer.process.cont()
        self.tell(partial(PeerResumed, peer=peer.name))

    def replace(self, old: DecodePeer, new: DecodePeer) -> None:
        """A new process has the name of the old one and registers: the prefill side is to reconnect, once."""
        name, generation = old.name, self._generations[old.name] + 1
        self._know(new, generation)
        self.tell(partial(PeerReturned, peer=name, generation=generation))
        view = self.observer.subject.peer(name)

        def register() -> None:
            self.prefill.register_peer(new.metadata)
            with suppress(TimeUp):  # the observer says that it was not added
                until(f"{name} is added again", lambda: view.added_since != 0)

        self.call(CallName.RECONNECT, register)

    def late_bytes(self, room: WatchedRoom, peer: DecodePeer, resume: Callable[[], None]) -> tuple[Tally, Tally]:
        """The room has reported, and its caller reuses what it may; only then does a held peer take the bytes.

        Returns the bytes of the room's sent pages at the peer before that and when everything has settled.
        """
        held, target = self.prefill.quarantined_pages(), room.target(peer)[: len(room.sent_pages)]
        self.memory.reuse([page for page in room.source if page not in held])
        resume()
        before = peer.remote.count(target)
        peer.remote.hold(False)
        self.drained()
        after = peer.remote.count(target)
        late, foreign = after.request - before.request, after.next_request
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
        peers: Sequence[DecodePeer],
        chunks: Sequence[int],
        *,
        dummies: Sequence[DecodePeer] = (),
        scattered: bool = True,
        room: int | None = None,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> WatchedRoom:
        """Open a room to these peers, and call init(). Pages are taken anew for each room, on every side.

        ``meanwhile`` happens after the peers have said where they want the room, and before the prefill side hears it.
        """
        key = len(self.rooms)
        number = 100 + key if room is None else room
        num_pages, slot, target_slot = sum(chunks), key % NUM_SLOTS, (5 * key + 3) % NUM_SLOTS
        source = self._take(self._sources, num_pages, scattered)
        destinations = [self._destination(peer, num_pages, target_slot, scattered) for peer in peers]
        destinations += [Destination(peer=peer.name, dummy=True) for peer in dummies]
        infos = [
            peer.remote.open(
                number,
                str(key),
                self._agent.name,
                destination.pages,
                destination.aux,
                is_dummy=destination.dummy,
                required=len(destinations),
            )
            for peer, destination in zip((*peers, *dummies), destinations, strict=True)
        ]
        meanwhile()
        self.tell(partial(RoomOpened, room=key, id=number, pages=num_pages, aux=slot, destinations=tuple(destinations)))
        watched = WatchedRoom(
            self, self.prefill, self.observer.rooms[key], chunks, source, {peer.name: peer for peer in peers}
        )
        self.rooms.append(watched)
        watched.init(infos, slot)
        return watched

    def _destination(self, peer: DecodePeer, num_pages: int, slot: int, scattered: bool) -> Destination:
        free = self._targets.setdefault(peer.name, list(range(NUM_PAGES)))
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
        return self.call(CallName.SWEEP, self.prefill.sweep)

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
            until("every reachable peer has heard how its rooms ended", self._all_told, 2.0)
        for room in self.rooms:
            self._ask_receivers(room)
        self._look_outside()
        self.held(self.prefill.quarantined_pages(), None)
        entries = self.prefill.residue()
        in_flight = self.prefill.close()
        self.tell(partial(KeptCounted, entries=entries, in_flight=in_flight))

    def close(self, why: str) -> None:
        """The history ends; ``why`` is empty where the scenario has come to its own end."""
        self.tell(partial(RunEnded, complete=not why, why=why))

    def _answering(self) -> list[DecodePeer]:
        return [peer for name, peer in self._peers.items() if self.observer.subject.peer(name).healthy]

    def _reachable(self, room: WatchedRoom) -> list[DecodePeer]:
        """Those that can be told. A peer that was stopped and goes on is one of them, unless its connection broke."""
        views = {name: self.observer.subject.peer(name) for name in room.peers}
        return [room.peers[n] for n, view in views.items() if view.healthy and not (view.unreachable or view.returned)]

    def _all_told(self) -> bool:
        for peer in self._answering():
            for sender, message in peer.remote.take_notifications():
                if sender == self._agent.name:
                    self.heard(peer.name, message)
        return all(
            any(heard.says is not Says.PROGRESS for heard in room.view.heard.get(peer.name, []))
            for room in self.rooms
            for peer in self._reachable(room)
        )

    def _ask_receivers(self, room: WatchedRoom) -> None:
        """The receiver is ours as well: it must end as the sender does, and know why."""
        for peer in self._reachable(room):
            standing = peer.remote.look(str(room.key))
            good = standing.poll is room.view.terminal and (standing.poll is not KVPoll.Failed or standing.reason != "")
            expected = (
                f"the receiver of room {room.number} at {peer.name} ends with {room.view.terminal!r}, with a reason"
            )
            self.plan(good, expected, f"it is {standing.poll!r} ({standing.reason})")

    def _look_outside(self) -> None:
        """No byte may have changed at any peer outside the pages and slots that it gave to a room."""
        for peer in self._answering():
            mine = [room.view.targets[peer.name] for room in self.rooms if room.peers.get(peer.name) is peer]
            slots = [place.aux for place in mine if place.aux is not None]
            touched = peer.remote.touched([page for place in mine for page in place.pages], slots)
            differ = f"{touched} bytes at {peer.name} changed" if touched else ""
            self.tell(partial(BytesCompared, outside=True, differ=differ))
