"""A correct sender with threads: ``send()`` leaves chunks for a worker, ``poll()`` reads what the worker has found out.

It is written from the contract alone and shares no code with the small sender of ``inline.py`` or with the reference,
so that the three are three readings of one text. One worker serves every room: it never waits for one transfer, but
goes round all of them, so that a silent peer starves nobody. A second thread reads what peers send.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Condition, Lock, Thread
from typing import Final

from tests.mutants.queued import LOG, NIXL_ERRORS, Fate, Flight, PeerGaveUp, QueuedSender

from kvsender_spec.contract import Attribution, KVTransferError, KVUsageError
from kvsender_spec.faults import STAND_INS
from kvsender_spec.kit.adapter import Memory, Notification, NotificationKind, Peer, RoomPlan, World
from kvsender_spec.kit.scripted.fabric import ScriptedAgent, ScriptedDescs
from kvsender_spec.machine import Profile

JOIN_S: Final = 5.0
"""A thread that does not end within this many seconds of real time is left behind; it is a daemon."""


@dataclass(slots=True)
class Route:
    """The connection to one peer. The lock keeps it as it is while a transfer is made over it."""

    generation: int = 0
    lock: Lock = field(default_factory=Lock)


class Engine:
    """The prefill side: one agent, the worker, the control thread, and what outlives a room."""

    def __init__(self, world: World, sender_class: type[QueuedSender] = QueuedSender) -> None:
        self.world = world
        self.clock = world.clock
        self.agent: ScriptedAgent = world.transport
        self.sender_class = sender_class
        self.rooms: dict[int, QueuedSender] = {}
        self.routes: dict[str, Route] = {}
        self.strays: list[Flight] = []
        """In flight although their room is over. Only the worker changes the list."""
        self.unreleased: list[Flight] = []
        """Settled, and the transport has refused to release them."""
        self.doubtful: list[Flight] = []
        self._ledger = Lock()
        self.desk = Condition()
        """Guards the in-tray. Nobody holds it while the transport is asked, so that ``busy()`` never waits for that."""
        self.tray: list[QueuedSender] = []
        self.working = False
        self.closing = False
        self.letters: SimpleQueue[bytes | None] = SimpleQueue()
        self.unread = 0
        memory = world.memory
        self.agent.register_memory([(memory.address(r), len(r), 0, "") for r in (*memory.kv, *memory.aux)], "DRAM")
        for peer in world.peers:
            self.agent.add_remote_agent(peer.agent.get_agent_metadata())
            self.routes[peer.name] = Route(peer.generation)
        self.threads = [
            Thread(target=target, name=target.__name__, daemon=True) for target in (self.serve, self.read_letters)
        ]
        for thread in self.threads:
            thread.start()

    # ------------------------------------------------------------------------------------------------ rooms

    def sender(self, plan: RoomPlan) -> QueuedSender:
        sender = self.uninitialised(plan)
        sender.init(plan.num_pages)
        return sender

    def uninitialised(self, plan: RoomPlan) -> QueuedSender:
        sender = self.sender_class(self, plan)
        self.rooms[plan.incarnation] = sender
        return sender

    def forget(self, room: QueuedSender) -> None:
        self.rooms.pop(room.plan.incarnation, None)

    def residue(self) -> int:
        return len(self.rooms) + len(self.strays) + len(self.unreleased)

    def attribution(self, error: BaseException) -> Attribution | None:
        return error.attribution if isinstance(error, KVTransferError) else None

    # ------------------------------------------------------------------------------------------- the worker

    def wake(self, room: QueuedSender) -> None:
        """Something about the room has changed that is the worker's to see to."""
        with self.desk:
            if room not in self.tray:
                self.tray.append(room)
            self.desk.notify_all()

    def serve(self) -> None:
        """The worker's life: see to what is in the tray, then go round everything that is in flight."""
        active: list[QueuedSender] = []
        try:
            while self.next_rooms(active):
                for room in list(active):
                    if not self.see_to(room):
                        active.remove(room)
                self.follow_strays()
        finally:
            self.working = False

    def next_rooms(self, active: list[QueuedSender]) -> bool:
        """Wait until there is work, and take what is in the tray; False when the engine closes."""
        with self.desk:
            while not (self.tray or active or self.strays or self.closing):
                self.working = False
                self.desk.wait()
            self.working = not self.closing
            active += [room for room in self.tray if room not in active]
            self.tray.clear()
            return self.working

    def see_to(self, room: QueuedSender) -> bool:
        """One round for one room; True while it waits for transfers. Whatever goes wrong is the room's affair alone."""
        try:
            return room.work()
        except Exception as error:
            room.collapse(error)
            return False

    def follow_strays(self) -> None:
        """Ask about what is in flight for rooms that are over: its pages are quarantined until it is done."""
        for flight in list(self.strays):
            self.ask(flight, (*NIXL_ERRORS, RuntimeError))
            if flight.fate is not Fate.FLYING:
                self.strays.remove(flight)
                self.release(flight)

    # ---------------------------------------------------------------------------------------- the transport

    def ask(self, flight: Flight, transport_errors: tuple[type[Exception], ...]) -> Exception | None:
        """Check one transfer; returns the error, if any. One that is not the transport's settles nothing."""
        assert flight.handle is not None
        flight.asked_at = self.clock()
        try:
            answer = self.agent.check_xfer_state(flight.handle)
        except transport_errors as error:
            flight.fate = Fate.ERRORED
            return error
        except Exception as error:
            return error
        if answer == "DONE":
            flight.fate = Fate.DONE
        elif answer != "PROC":
            flight.fate = Fate.ERRORED
            return RuntimeError(f"check_xfer_state() answered {answer}")
        return None

    def release(self, flight: Flight) -> None:
        """Release a settled transfer, once; ``settle()`` tries again where the transport refuses."""
        with self._ledger:
            if flight.handle is None:
                return
            try:
                self.agent.release_xfer_handle(flight.handle)
            except NIXL_ERRORS:
                if flight not in self.unreleased:
                    self.unreleased.append(flight)
                return
            flight.handle = None
            if flight in self.unreleased:
                self.unreleased.remove(flight)

    def settle(self) -> None:
        for flight in list(self.unreleased):
            self.release(flight)

    def quarantined_pages(self) -> frozenset[int]:
        return frozenset(page for flight in self.doubtful if flight.fate is not Fate.DONE for page in flight.pages)

    @staticmethod
    def descriptors(memory: Memory, pages: Sequence[int], slot: int | None) -> ScriptedDescs:
        """The given pages of every region, and the aux slot, as descriptors that need no preparation."""
        rows = [
            (memory.address(region) + page * size, size, 0)
            for region, size in zip(memory.kv, memory.PAGE_BYTES, strict=True)
            for page in pages
        ]
        if slot is not None:
            rows += [
                (memory.address(region) + slot * size, size, 0)
                for region, size in zip(memory.aux, memory.AUX_BYTES, strict=True)
            ]
        return ScriptedDescs(tuple(rows), "DRAM")

    # ------------------------------------------------------------------------------------------------ peers

    def reconnect(self, peer: Peer) -> None:
        """The peer is another process now. Nothing is made over the old connection once this has begun."""
        route = self.routes[peer.name]
        with route.lock:
            self.agent.remove_remote_agent(peer.name)
            self.agent.add_remote_agent(peer.agent.get_agent_metadata())
            route.generation = peer.generation

    @staticmethod
    def write_notification(kind: NotificationKind, plan: RoomPlan, reason: str) -> bytes:
        return json.dumps([kind, plan.room, plan.incarnation, reason]).encode()

    def read_notification(self, message: bytes) -> Notification | None:
        kind, room, incarnation, reason = json.loads(message)
        return Notification(NotificationKind(kind), room, incarnation, reason)

    # ---------------------------------------------------------------------------------------------- control

    def control(self, message: bytes) -> None:
        with self.desk:
            self.unread += 1
        self.letters.put(message)

    def read_letters(self) -> None:
        while (letter := self.letters.get()) is not None:
            try:
                self.read(letter)
            finally:
                with self.desk:
                    self.unread -= 1

    def read(self, letter: bytes) -> None:
        """Do what a peer asks. A message that cannot be read is logged, and the next one is read."""
        try:
            self.obey(letter)
        except Exception:
            LOG.warning("a control message that cannot be read: %r", letter, exc_info=True)

    def obey(self, letter: bytes) -> None:
        """``{"abort": incarnation, "reason": text}`` is all that a peer may ask. Raises for anything else."""
        words: object = json.loads(letter)
        match words:
            case {"abort": int(incarnation), "reason": str(reason)}:
                room = self.rooms.get(incarnation)
                if room is not None:
                    room.fault(PeerGaveUp(reason), Attribution.PEER)
            case _:
                raise ValueError(f"no such request: {words!r}")

    # ---------------------------------------------------------------------------------------------- threads

    def workers(self) -> Sequence[Thread]:
        return self.threads

    def busy(self) -> int:
        with self.desk:
            work = (self.working or bool(self.tray), self.unread > 0)
        return sum(has_work and thread.is_alive() for has_work, thread in zip(work, self.threads, strict=True))

    def close(self) -> None:
        with self.desk:
            self.closing = True
            self.desk.notify_all()
        self.letters.put(None)
        for thread in self.threads:
            with suppress(RuntimeError):  # a thread that was never started cannot be joined
                thread.join(JOIN_S)


class WorkerAdapter:
    """Makes the kit's systems from a sender class and an engine class."""

    profile = Profile.FULL
    errors: Mapping[str, type[Exception]] = STAND_INS
    usage_errors: tuple[type[Exception], ...] = (KVUsageError,)

    def __init__(self, sender_class: type[QueuedSender] = QueuedSender, engine_class: type[Engine] = Engine) -> None:
        self.mutant: type[QueuedSender] | type[Engine] = sender_class if engine_class is Engine else engine_class
        self.name = self.mutant.__name__
        self.sender_class = sender_class
        self.engine_class = engine_class

    def open(self, world: World) -> Engine:
        return self.engine_class(world, self.sender_class)


adapter = WorkerAdapter()
