"""A trial: one prefill side on real NIXL, its rooms, and the judge that watches them.

The rules are judged by the kit's ``RoomJudge``, from what a ``Witness`` saw at the agent, exactly as on the scripted
transport. The trial adds what the real world adds: processes, time, and bytes that are compared where they landed.

Time is real, but it stands still during one call of the owner: the sender and the judge then mean the same instant.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np
import torch

from kvsender_nixl.agent import ERROR_CLASSES, create_agent
from kvsender_nixl.buffers import AuxBuffers, KVPool
from kvsender_nixl.exchange import AuxNotice, ChunkNotice, FailureNotice, TransferInfo, parse_notice
from kvsender_nixl.lab.memory import LAYERS, NUM_PAGES, NUM_SLOTS
from kvsender_nixl.lab.peer import DecodePeer
from kvsender_nixl.lab.stage import Stage
from kvsender_nixl.lab.witness import Witness
from kvsender_nixl.prefill import Prefill
from kvsender_nixl.side import SenderOptions
from kvsender_spec.contract import Attribution, KVPoll, KVTransferError, KVUsageError, Sender
from kvsender_spec.faults import Point
from kvsender_spec.kit import adapter as kit
from kvsender_spec.kit.judge import NOTHING, Answered, Errors, Findings, RoomJudge, Surroundings, chain
from kvsender_spec.kit.transport import Fabric, TransportEvent
from kvsender_spec.oracle import Cause, CauseKind
from kvsender_spec.trace import Misuse

if TYPE_CHECKING:
    from kvsender_nixl.lab.stage import RealPrefill, RealSender

_T = TypeVar("_T")
LIMIT_S: Final = 10.0
"""How long anything is waited for that should happen at once. Long, because other jobs may share the machine."""
_STEP_S: Final = 0.0005


class TimeUp(Exception):
    """Something did not happen in time, and it is not known to be the sender's fault."""


class Broken(Exception):
    """A clause is broken. What the sender does afterwards says nothing about it, so the scenario ends here."""


class PrefillSystem:
    """What the judge wants to know of a prefill side."""

    def __init__(self, prefill: RealPrefill) -> None:
        self._prefill: Final = prefill

    def sender(self, plan: kit.RoomPlan) -> Sender:
        raise AssertionError(f"rooms are opened by the trial: {plan.room}")

    def quarantined_pages(self) -> frozenset[int]:
        return self._prefill.quarantined_pages()

    def attribution(self, error: BaseException) -> Attribution | None:
        return error.attribution if isinstance(error, KVTransferError) else None

    def read_notice(self, message: bytes) -> kit.Notice | None:
        notice = parse_notice(message)
        kind, reason = kit.NoticeKind.SUCCESS, ""
        if isinstance(notice, FailureNotice):
            kind, reason = kit.NoticeKind.FAILURE, notice.reason
        elif isinstance(notice, (ChunkNotice, AuxNotice)):
            kind = kit.NoticeKind.PROGRESS
        return kit.Notice(kind, notice.room, int(notice.token), reason)


class Trial:
    """One prefill side with its own agent; the scenario calls its rooms and does things to its peers.

    As in the kit, the first violation ends a scenario: every call may raise ``Broken``.
    """

    def __init__(self, stage: Stage, name: str, options: SenderOptions | None = None) -> None:
        self.stage: Final = stage
        self.findings: Final = Findings()
        self.options: Final = SenderOptions() if options is None else options
        self.memory: Final = stage.pristine.copy()
        tensors = [torch.from_numpy(region) for region in self.memory.regions]
        pool = KVPool(tensors[:LAYERS], tensors[LAYERS:])
        aux = AuxBuffers([torch.from_numpy(slots) for slots in self.memory.slots])
        self.random: Final = random.Random(f"{stage.seed} {name}")
        self.now = time.monotonic()
        agent = create_agent(f"prefill-{name}")
        self.witness: Final = Witness(agent)
        self.prefill: Final[RealPrefill] = Prefill(
            stage.plant.wire(self.witness), pool, aux, self.options, clock=lambda: self.now
        )
        stage.plant.prefill(self.prefill)
        self.system: Final = PrefillSystem(self.prefill)
        self.errors: Final = Errors(
            tuple(ERROR_CLASSES.values()), ERROR_CLASSES.get("nixlRemoteDisconnectError"), (KVUsageError,)
        )
        self.rooms: Final[list[WatchedRoom]] = []
        self.peers: Final[dict[str, DecodePeer]] = {}
        self.unwell: Final[set[str]] = set()
        self._ever_unwell: Final[set[str]] = set()
        self._lost: Final[set[str]] = set()
        self._unheard: Final[set[str]] = set()
        """Peers towards which a notification has failed: nobody can ask that they know."""
        self._restarted: Final[set[str]] = set()
        self._faulted: Final[set[int]] = set()
        self._owner_of: Final[dict[int, WatchedRoom]] = {}
        self._seen = 0
        self._sources = self._free()
        self._targets: Final[dict[str, list[int]]] = {}
        self._inert: Final = Fabric()

    # ------------------------------------------------------------------------------------------------ the world

    def join(self, *peers: DecodePeer) -> None:
        """The peers register, one after the other."""
        for peer in peers:
            self.peers[peer.name] = peer
            self._targets[peer.name] = self._free()
            self.prefill.register_peer(peer.metadata)

    def kill(self, peer: DecodePeer) -> None:
        peer.process.sigkill()
        self._fell_silent(peer.name)

    def stop(self, peer: DecodePeer) -> None:
        peer.process.stop()
        self._fell_silent(peer.name)

    def cont(self, peer: DecodePeer) -> None:
        peer.process.cont()
        self.unwell.discard(peer.name)

    def _fell_silent(self, name: str) -> None:
        self.unwell.add(name)
        self._ever_unwell.add(name)

    def _disconnected(self, name: str, told: WatchedRoom | None = None) -> None:
        """The sender has learnt, in the room ``told``, that the peer is gone; other rooms may fail for it as well."""
        self._fell_silent(name)
        self._lost.add(name)
        for room in self.rooms:
            if room is not told and name in room.judge.destinations:
                room.judge.peer_lost()

    def replace(self, old: DecodePeer, new: DecodePeer) -> None:
        """A new process has the name of the old one and registers: the prefill side is to reconnect, once."""
        name = old.name
        self._disconnected(name)  # for every room that was opened before
        before = self.witness.added.count(name)
        self._restarted.add(name)
        self._lost.discard(name)
        self.unwell.discard(name)
        self.join(new)
        self.until(f"{name} is added again", lambda: self.witness.added.count(name) > before)
        self.check(
            "KS-6.3",
            self.witness.added.count(name) == before + 1,
            f"{name} is added once",
            f"it was added {self.witness.added.count(name) - before} times",
        )

    def check(self, clause: str, holds: bool, expected: str, observed: str) -> None:
        self.findings.check(clause, holds, expected, observed)
        self.stop_if_broken()

    def stop_if_broken(self) -> None:
        if self.findings.violations:
            raise Broken

    def until(self, what: str, done: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
        """Wait; the scenario is in error when the time is up."""
        deadline = time.monotonic() + limit_s
        while not done():
            if time.monotonic() > deadline:
                raise TimeUp(f"not within {limit_s} s: {what}")
            time.sleep(_STEP_S)

    def _free(self) -> list[int]:
        return list(range(NUM_PAGES))

    def _take(self, free: list[int], count: int, scattered: bool) -> list[int]:
        if scattered:
            taken = self.random.sample(free, count)
        else:
            runs = (free[first : first + count] for first in range(len(free) - count + 1))
            taken = next(run for run in runs if not run or run[-1] - run[0] == count - 1)
        gone = set(taken)
        free[:] = [page for page in free if page not in gone]
        return taken

    # ------------------------------------------------------------------------------------------------ the rooms

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
        incarnation = len(self.rooms)
        num_pages = sum(chunks)
        source = self._take(self._sources, num_pages, scattered)
        slot = incarnation % NUM_SLOTS
        destinations: list[kit.Destination] = []
        infos: list[TransferInfo] = []
        required = len(peers) + len(dummies)
        number = 100 + incarnation if room is None else room
        for peer in (*peers, *dummies):
            dummy = peer in dummies
            free = self._targets.setdefault(peer.name, self._free())
            target = () if dummy else tuple(self._take(free, num_pages, scattered))
            target_slot = (5 * incarnation + 3) % NUM_SLOTS
            info = peer.open(
                number,
                str(incarnation),
                self.witness.name,
                target,
                None if dummy else target_slot,
                is_dummy=dummy,
                required=required,
            )
            infos.append(info)
            # Of a destination the judge reads the name and the pages; the kit's type wants an agent and memory as well.
            inert = kit.Peer(peer.name, self._inert.agent(peer.name), kit.Memory(filled=False))
            destinations.append(kit.Destination(inert, target, target_slot, dummy))
        meanwhile()
        for info in infos:
            self.prefill.add_transfer_info(info)
        plan = kit.RoomPlan(number, incarnation, num_pages, slot, tuple(destinations))
        self.tick()
        sender = self.prefill.sender(number)
        self.absorb(None)
        sender.init(num_pages, slot)
        judge = RoomJudge(
            self.findings, self.errors, self.system, plan, self.options.transfer_timeout_s, self._wrong_bytes
        )
        judge.recovered = any(peer.name in self._restarted for peer in peers)
        if self._lost & judge.destinations.keys():
            judge.peer_lost()
        watched = WatchedRoom(self, sender, judge, chunks, source, {peer.name: peer for peer in peers})
        self.rooms.append(watched)
        return watched

    def tick(self) -> None:
        self.now = time.monotonic()

    def end(self, *rooms: WatchedRoom, limit_s: float = LIMIT_S) -> None:
        """Poll these rooms in turn until all have ended (KS-3.4)."""
        deadline = time.monotonic() + limit_s
        while not all(room.judge.ended for room in rooms) and time.monotonic() < deadline:
            for room in rooms:
                if not room.judge.ended:
                    room.poll()
            time.sleep(_STEP_S)
        for room in rooms:
            states = " or ".join(str(possible) for possible in room.judge.oracle.possible)
            seen = f"room {room.number} answered {room.judge.terminal!r}; it is {states}"
            if not room.judge.ended and not room.judge.faults:
                # What else was wrong in the world is what may have held this room up.
                around = self.surroundings(room)
                if around.other_peer_unwell:
                    self.findings.check("KS-6.2", False, f"a terminal answer within {limit_s} s", seen)
            self.check("KS-3.4", room.judge.ended, f"a terminal answer within {limit_s} s", seen)

    def expect(self, room: WatchedRoom, answer: KVPoll, clause: str) -> None:
        """A room whose end leaves no choice."""
        seen = f"room {room.number} ended with {room.judge.terminal!r}"
        self.check(clause, room.judge.terminal is answer, f"{answer.name}", seen)

    def surroundings(self, room: WatchedRoom) -> Surroundings:
        mine = set(room.judge.destinations)
        return Surroundings(
            other_room_faulted=bool(self._faulted - {room.judge.plan.incarnation}),
            other_peer_unwell=bool(self.unwell - mine) and not (self._ever_unwell & mine),
            deadline_with_completion=False,  # from outside nobody can know whether the real library has it already
        )

    def _wrong_bytes(self, plan: kit.RoomPlan) -> str:
        """Where a peer's memory differs from the owner's; empty if nowhere."""
        room = next(room for room in self.rooms if room.judge.plan is plan)
        if len(room.sent_pages) < plan.num_pages:
            return f"only {len(room.sent_pages)} of {plan.num_pages} pages were sent"
        for destination in plan.destinations:
            if not destination.dummy:
                peer = room.peers[destination.peer.name]
                wrong = peer.compare(room.sent_pages, destination.pages, [plan.aux_index], [destination.aux_index])
                if wrong:
                    return f"{wrong} bytes at {peer.name} differ from the owner's"
        return ""

    # ----------------------------------------------------------------------------------- what the transport saw

    def absorb(self, caller: WatchedRoom | None) -> Answered:
        """Give each new event to the room whose handle it is about; the first error that the caller was given."""
        fresh, self._seen = self.witness.events[self._seen :], len(self.witness.events)
        batches: dict[int, tuple[WatchedRoom, list[TransportEvent]]] = {}
        for event in fresh:
            if event.point is Point.MAKE and event.handle is not None:
                assert caller is not None
                self._owner_of[event.handle] = caller
                # Descriptors are numbered region by region, so the rest of the division is the page.
                pages = frozenset(index % NUM_PAGES for index in self.witness.indices[event.handle])
                caller.judge.made(event.handle, pages)
            if event.point is Point.NOTIFY and event.error is not None:
                self._unheard.add(event.peer)
            room = caller if event.handle is None else self._owner_of.get(event.handle)
            if self.errors.disconnect is not None and isinstance(event.error, self.errors.disconnect):
                self._disconnected(event.peer, room)
            if room is not None:
                batches.setdefault(id(room), (room, []))[1].append(event)
        mine = NOTHING
        for room, batch in batches.values():
            answered = room.judge.feed(batch, self.now)
            if room.judge.faults:
                self._faulted.add(room.judge.plan.incarnation)
            if room is caller:
                mine = answered
            settled = any(e.point is Point.CHECK and e.answer != "PROC" for e in batch)
            if settled and room.judge.cleared:
                room.judge.settled_late()
        return mine

    def failed_by_owner(self, room: WatchedRoom) -> None:
        self._faulted.add(room.judge.plan.incarnation)

    def sweep(self) -> int:
        self.tick()
        left = self.prefill.sweep()
        self.absorb(None)
        self.stop_if_broken()
        return left

    def drained(self, limit_s: float = LIMIT_S) -> None:
        """Sweep until nothing is left of what has outlived its room."""
        self.until("everything that outlived its room has settled", lambda: self.sweep() == 0, limit_s)

    # ----------------------------------------------------------------------------------------------- the notices

    def read_notices(self) -> None:
        for peer in self._answering():
            for sender, message in peer.take_notices():
                if sender != self.witness.name:
                    continue
                notice = self.system.read_notice(message)
                if notice is not None and notice.incarnation is not None:
                    self.rooms[notice.incarnation].judge.noticed(peer.name, notice)
        self.stop_if_broken()

    def _answering(self) -> list[DecodePeer]:
        return [peer for name, peer in self.peers.items() if name not in self.unwell]

    def _reachable(self) -> frozenset[str]:
        """Those that can be told. A peer that was stopped and goes on is one of them, unless its connection broke."""
        return frozenset(peer.name for peer in self._answering()) - self._unheard - self._restarted

    def _told(self, room: WatchedRoom) -> bool:
        """Every reachable peer has heard the end of the room."""
        heard = room.judge.notices
        return all(
            any(notice.kind is not kit.NoticeKind.PROGRESS for notice in heard.get(name, []))
            for name in self._reachable() & set(room.judge.destinations)
        )

    # --------------------------------------------------------------------------------------------------- the end

    def finish(self) -> None:
        """End every room, let everything settle, and judge what only the end can show."""
        for room in self.rooms:
            if not room.judge.owes_an_end:
                room.abort()
        self.end(*self.rooms)
        for room in self.rooms:
            if room.chunks:
                room.send()  # it has failed, so nothing is posted (KS-2.5)
            room.failure()
            room.failure()
            room.poll()
            room.abort()
            room.failure()
            room.poll()
            room.clear()
            room.poll()
            room.clear()
            room.failure()
            room.poll()
        self.drained()
        for room in self.rooms:
            room.poll()
        self._check_told()
        for room in self.rooms:
            room.judge.check_released()
        residue = self.prefill.residue()
        self.check("KS-4.3", residue == 0, "no entry of a cleared room is kept", f"{residue} are")
        self._check_untouched()
        left = self.prefill.close()
        self.check("KS-4.3", left == 0, "close() finds nothing in flight", f"{left} transfers are")

    def _check_told(self) -> None:
        def all_told() -> bool:
            self.read_notices()
            return all(self._told(room) for room in self.rooms)

        with suppress(TimeUp):  # the judge says which notice is missing
            self.until("every reachable peer has heard how its rooms ended", all_told, 2.0)
        for room in self.rooms:
            room.judge.check_notices(self._reachable())
            for name in self._reachable() & set(room.judge.destinations):
                standing = room.peers[name].look(str(room.judge.plan.incarnation))
                good = standing.poll is room.judge.terminal
                if room.judge.terminal is KVPoll.Failed:
                    good = good and standing.reason != ""
                self.findings.check(
                    "KS-6.1",
                    good,
                    f"the receiver at {name} ends as the sender, with {room.judge.terminal!r}, and knows why",
                    f"it is {standing.poll!r} ({standing.reason})",
                )
            for destination in room.judge.plan.destinations:
                if destination.dummy:
                    heard = room.judge.notices.get(destination.peer.name, [])
                    self.findings.check("KS-6.1", not heard, "a dummy is told nothing", f"{len(heard)} notices")
        self.stop_if_broken()

    def _check_untouched(self) -> None:
        """No byte has changed at any peer outside the pages and slots that it gave to a room."""
        for peer in self._answering():
            mine = [d for room in self.rooms for d in room.judge.plan.destinations if d.peer.name == peer.name]
            given = [page for d in mine if not d.dummy for page in d.pages]
            touched = peer.touched(given, [d.aux_index for d in mine if not d.dummy])
            self.check("KS-3.1", touched == 0, f"nothing else changes at {peer.name}", f"{touched} bytes did")

    def close(self) -> None:
        """Count what was raised. The agent goes with the last reference to it."""
        self.stage.raised.update(self.witness.raised)
        for room in self.rooms:
            if room.cause is not None:
                self.stage.causes[room.cause] += 1


class WatchedRoom:
    """One incarnation of a room; every call of the owner is judged."""

    def __init__(
        self,
        trial: Trial,
        sender: RealSender,
        judge: RoomJudge,
        chunks: Sequence[int],
        source: Sequence[int],
        peers: dict[str, DecodePeer],
    ) -> None:
        self._trial: Final = trial
        self._sender: Final = sender
        self._left: Final = list(source)
        self.number: Final = judge.plan.room
        self.judge: Final = judge
        self.chunks: Final = list(chunks)
        self.source: Final = tuple(source)
        self.peers: Final = peers
        """The processes as they were when the room was opened: one that restarts is another one."""
        self.sent_pages: Final[list[int]] = []
        self.cause: str | None = None
        """The class of the first cause, once failure() has shown it."""

    def target(self, peer: DecodePeer) -> tuple[int, ...]:
        """This room's pages at a peer."""
        return self.judge.destinations[peer.name]

    @property
    def in_flight(self) -> bool:
        """The transport has not said its last word on some handle of this room."""
        return bool(self._trial.witness.in_flight & self.judge.pages.keys())

    def ready(self) -> None:
        """Wait until poll() says that the peers are known and connected."""
        self._trial.until(f"room {self.number} waits for input", lambda: self.poll() is not KVPoll.Bootstrapping)

    def send(self, chunks: int = 1) -> None:
        """Send the next chunks."""
        for _ in range(chunks):
            self._send()

    def send_all(self) -> None:
        self.send(len(self.chunks))

    def _send(self) -> None:
        count = self.chunks.pop(0)
        last = not self.chunks
        pages, self._left[:] = self._left[:count], self._left[count:]
        self.sent_pages.extend(pages)
        chunk = np.array(pages, np.int32)
        answered, _ = self._call("send()", lambda: self._sender.send(chunk))
        self.judge.sent(answered, last=last)
        self._after(answered)

    def poll(self) -> KVPoll:
        seen = len(self._trial.witness.events)
        around = self._trial.surroundings(self)
        answered, answer = self._call("poll()", self._sender.poll)
        checks = sum(
            event.point is Point.CHECK and event.handle in self.judge.pages
            for event in self._trial.witness.events[seen:]
        )
        self.judge.polled(answer, answered.first, self._trial.now, checks, around)
        self._after(answered)
        return answer

    def abort(self) -> None:
        answered, _ = self._call("abort()", self._sender.abort)
        self.judge.aborted()
        self._given_up()
        self._after(answered)

    def clear(self) -> None:
        answered, _ = self._call("clear()", self._sender.clear)
        self.judge.was_cleared()
        self._given_up()
        self._after(answered)

    def _given_up(self) -> None:
        if self.judge.oracle.failed:
            self._trial.failed_by_owner(self)

    def failure(self) -> Exception:
        """What failure_exception() raises, judged."""
        self._trial.tick()
        try:
            self._sender.failure_exception()
        except Exception as caught:
            error = caught
        self._trial.absorb(self)
        self.judge.failure_shown(error)
        if not isinstance(error, KVUsageError):
            self.cause = type(chain(error)[-1]).__name__
        self._trial.stop_if_broken()
        return error

    def misuse(self, misuse: Misuse, pages: Sequence[float]) -> None:
        """send() with what it must refuse (KS-8.1)."""
        self._trial.tick()
        seen = len(self._trial.witness.events)
        error: Exception | None = None
        wrong = np.array(pages) if misuse is Misuse.WRONG_DTYPE else np.array(pages, np.int32)
        try:
            self._sender.send(wrong)
        except Exception as caught:
            error = caught
        made = sum(event.point in (Point.MAKE, Point.POST) for event in self._trial.witness.events[seen:])
        self._trial.absorb(self)
        self.judge.misused(misuse, error, made)
        self._trial.stop_if_broken()

    def connection_error(self, error: Exception) -> None:
        """Connecting to a peer of this room has failed; the sender may take that for the cause at any time."""
        self.judge.oracle.may_fault(Cause(CauseKind.RAISED, error), from_now_on=True)

    def _call(self, what: str, call: Callable[[], _T]) -> tuple[Answered, _T]:
        trial = self._trial
        trial.tick()
        trial.absorb(None)
        trial.stop_if_broken()
        try:
            result = call()
        except Exception as error:
            self.judge.escaped(what, error, trial.absorb(self).first)
            raise Broken from error
        answered = trial.absorb(self)
        self.judge.returned(what, answered.first)
        return answered, result

    def _after(self, answered: Answered) -> None:
        if answered.first is not None:
            self._given_up()
        self._trial.stop_if_broken()
