"""Wrong senders: each is a right one of ``right_kinds`` with exactly one bug.

``WRONG`` names beside each the clause that the bug violates first in the author's reading of docs/clauses.md; the
author has not seen how the kit judges.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from threading import Event
from typing import Final, NoReturn

from tests.foreign.right_kinds import (
    TRANSPORT_ERRORS,
    At,
    BadState,
    CuriousDesk,
    CuriousRoom,
    DeferredRoom,
    Desk,
    Entry,
    Flight,
    FreshSender,
    FreshSide,
    Kind,
    LazyDesk,
    LazyRoom,
    LedgerSender,
    LedgerSide,
    Link,
    PeerRestarted,
    Piece,
    Pump,
    Row,
    Slot,
    Stage,
    StagedSender,
    StagedSide,
    StoryDesk,
    StoryRoom,
    WorkerRoom,
    WorkerSide,
    aux_row,
    blame,
    blocks,
    letter_text,
    page_rows,
    pairs_for,
    whole,
    words,
)

from kvsender_spec.contract import INIT_AGENT, KVPoll, KVTransferError, Sender, TransferTimeout
from kvsender_spec.kit.adapter import Adapter, Destination, NotificationKind, Peer, RoomPlan, World
from kvsender_spec.kit.scripted.fabric import ScriptedDlist, ScriptedHandle

SAID_BY_TRANSPORT: Final[tuple[type[Exception], ...]] = (*TRANSPORT_ERRORS, BadState)


# What is said to the peers at the end.


class MutePump(Pump):
    """KS-6.1: a peer is never told that a room has failed, so it waits for the rest for ever."""

    def announce(self, row: Row, text: bytes) -> None:
        if row.state is not KVPoll.Failed:
            super().announce(row, text)


class EarlyLetterDesk(Desk):
    """KS-6.1: the success message travels with the first part, so with two chunks it arrives before all is in place."""

    def sender(self, plan: RoomPlan) -> Sender:
        return DeferredRoom(self, plan)

    def make(self, plan: RoomPlan, target: Destination, link: Link, first: int, pages: Sequence[int]) -> Flight | None:
        pairs = pairs_for(plan, target, first, pages)
        mine = [row for page, _ in pairs for row in page_rows(page)]
        theirs = [row for _, page in pairs for row in page_rows(page)]
        if first + len(pages) == plan.num_pages:
            mine.append(aux_row(plan.aux_index))
            theirs.append(aux_row(target.aux_index))
        if not mine:
            return None
        text = letter_text(NotificationKind.SUCCESS, plan) if first == 0 else b""
        handle = self.agent.make_prepped_xfer("WRITE", self.local(), mine, link.table, theirs, text)
        self.flights.append(Flight(handle, frozenset(page for page, _ in pairs), link))
        return self.flights[-1]

    def write_letters(self, plan: RoomPlan, generations: Sequence[int], text: bytes) -> None:
        if not text.startswith(NotificationKind.SUCCESS.value.encode()):
            super().write_letters(plan, generations, text)


class HastyLedgerSide(LedgerSide):
    """KS-6.1: success is told to the peers when the last chunk is posted, while its bytes are still on the way."""

    def post(self, entry: Entry) -> None:
        super().post(entry)
        if entry.sealed and not entry.owed and entry.cause is None and not entry.tries and not entry.letters:
            text = letter_text(NotificationKind.SUCCESS, entry.plan)
            entry.letters += [
                (d.peer, generation, text)
                for d, generation in zip(entry.plan.destinations, entry.gens, strict=True)
                if not d.dummy
            ]
            self.correspond(entry)

    def over(self, entry: Entry, cause: Exception | None) -> None:
        kept = list(entry.letters)
        super().over(entry, cause)
        if cause is None and entry.value is KVPoll.Success:
            entry.letters[:] = kept


class TwiceWorkerSide(WorkerSide):
    """KS-6.1: success is told twice, once by the worker's last look and once when it closes the room."""

    def finish(self, room: WorkerRoom) -> None:
        before = room.good
        super().finish(room)
        if room.good and not before:
            text = letter_text(NotificationKind.SUCCESS, room.plan)
            self.mail.extend((d.peer, room.gens[d.peer.name], text, 0) for d in room.plan.destinations if not d.dummy)


class PerPeerSender(FreshSender):
    """KS-6.1: each peer is told of success when its own transfers are done, and of failure when another peer's fail."""

    def send(self, kv_indices: Sequence[int]) -> None:
        super().send(kv_indices)
        if self.finished and len(self.plan.destinations) > 1 and not self.value.terminal:
            self.tell_ready()

    def initialize(self, target: Destination, first: int, pages: list[int]) -> None:
        before = len(self.unposted)
        super().initialize(target, first, pages)
        for handle, _ in self.unposted[before:]:
            self.owner()[handle] = target.peer.name

    def owner(self) -> dict[ScriptedHandle, str]:
        found: dict[ScriptedHandle, str] = self.__dict__.setdefault("owners", {})
        return found

    def ready(self) -> set[str]:
        found: set[str] = self.__dict__.setdefault("told_of_success", set())
        return found

    def tell_ready(self) -> None:
        waiting = {self.owner()[handle] for handle, _, _ in self.flying}
        for target in self.plan.destinations:
            if not target.dummy and target.peer.name not in waiting | self.ready():
                self.ready().add(target.peer.name)
                self.to_tell.append((target.peer, letter_text(NotificationKind.SUCCESS, self.plan), 0))

    def look(self) -> None:
        super().look()
        if self.finished and not self.value.terminal:
            self.tell_ready()

    def tell(self, text: bytes) -> None:
        if self.value is KVPoll.Success:
            self.tell_ready()
        else:
            super().tell(text)


class PerPeerSide(FreshSide):
    def sender(self, plan: RoomPlan) -> Sender:
        with self.guard:
            fresh = self.live[plan.incarnation] = PerPeerSender(self, plan)
            return fresh


class ContagiousPump(Pump):
    """KS-5.4: a success message that is refused once fails every other room that goes to the same peer."""

    def deliver(self) -> None:
        for peer, gen, text, tries in list(self.mail):
            if tries == 0 and text.startswith(b"success") and peer.generation == gen:
                self.mail.remove((peer, gen, text, tries))
                try:
                    self.t.send_notif(peer.name, text)
                except TRANSPORT_ERRORS as error:
                    self.mail.append((peer, gen, text, 1))
                    for row in self.rows.values():
                        if any(d.peer is peer and not d.dummy for d in row.plan.destinations):
                            self.fail(row, error)
        super().deliver()


class OneTryDesk(StoryDesk):
    """KS-6.1: an end message that is refused once is never sent again, although the peer is well."""

    def flush(self) -> None:
        letters = list(self.letters)
        self.letters.clear()
        for letter in letters:
            if letter.peer.generation == letter.generation:
                with suppress(*TRANSPORT_ERRORS):
                    self.link(letter.peer)
                    self.agent.send_notif(letter.peer.name, letter.text)


# What the transport's answers are taken for.


class PatientDesk(CuriousDesk):
    """KS-1.2: a state that nobody knows is taken for a transfer that is still running."""

    def hear(self, flight: Flight, ask: Callable[[], str]) -> None:
        def known() -> str:
            answer = ask()
            return answer if answer in ("DONE", "PROC", "ERR") else "PROC"

        super().hear(flight, known)


class DeafSender(StagedSender):
    """KS-1.2: a returned "ERR" is taken for a transfer that is still running."""

    def ask(self, stage: Stage, call: Callable[[ScriptedHandle], str]) -> None:
        def deaf(handle: ScriptedHandle) -> str:
            answer = call(handle)
            return "PROC" if answer == "ERR" else answer

        super().ask(stage, deaf)


class DeafSide(StagedSide):
    def sender(self, plan: RoomPlan) -> Sender:
        with self.lock:
            staged = self.rooms[plan.incarnation] = DeafSender(self, plan)
            return staged


class DroppingRoom(DeferredRoom):
    """KS-1.2: a chunk that the transport refuses to make is dropped and never repeated, and the room stays open."""

    def make(self, first: int, pages: list[int]) -> None:
        try:
            super().make(first, pages)
        except TRANSPORT_ERRORS:
            self.lost_chunk = True

    def post(self) -> None:
        super().post()
        if self.__dict__.get("lost_chunk"):
            self.posted_all = False


class DroppingDesk(Desk):
    def sender(self, plan: RoomPlan) -> Sender:
        return DroppingRoom(self, plan)


class EarlyChunkRoom(DeferredRoom):
    """KS-1.2: an error in a chunk that is not the last one is never seen: only the last chunk's count."""

    def make(self, first: int, pages: list[int]) -> None:
        before = len(self.flights)
        super().make(first, pages)
        if first + len(pages) < self.plan.num_pages:
            self.early().extend(self.flights[before:])

    def early(self) -> list[Flight]:
        found: list[Flight] = self.__dict__.setdefault("early_flights", [])
        return found

    def look(self) -> None:
        for flight in [f for f in self.early() if f.at is At.FLYING]:
            with suppress(*TRANSPORT_ERRORS, BadState):
                self.desk.look(flight)
            if flight.at is At.BROKEN:
                flight.at = At.DONE
        super().look()


class EarlyChunkDesk(Desk):
    def sender(self, plan: RoomPlan) -> Sender:
        return EarlyChunkRoom(self, plan)


class OptimistSide(LedgerSide):
    """KS-1.2: every final state that is not "ERR", such as CANCELLED or TIMEOUT, is taken for done."""

    def note(self, entry: Entry, handle: ScriptedHandle, ask: Callable[[ScriptedHandle], str]) -> None:
        def final(asked: ScriptedHandle) -> str:
            answer = ask(asked)
            return answer if answer in ("PROC", "ERR") else "DONE"

        super().note(entry, handle, final)


class MaskingRoom(CuriousRoom):
    """KS-1.2: an error of one peer is hidden when the other peer's transfer is found done in the same look."""

    def observe(self) -> None:
        before = [p for p in self.parts if p.at is At.FLYING]
        if self.outcome is None:
            found: list[tuple[Flight, Exception]] = []
            for part in before:
                try:
                    self.desk.look(part)
                except SAID_BY_TRANSPORT as error:
                    found.append((part, error))
                except Exception as error:
                    self.lose(error)
            done = [part.link for part in before if part.at is At.DONE]
            for broken, problem in found:
                if any(link is not broken.link for link in done):
                    broken.at = At.DONE
                else:
                    self.lose(problem)
        super().observe()


class MaskingDesk(CuriousDesk):
    def sender(self, plan: RoomPlan) -> Sender:
        with self.lock:
            self.open_rooms.add(plan.incarnation)
            return MaskingRoom(self, plan)


class HeadOnlyRoom(StoryRoom):
    """KS-3.4: a look stops at the first pending transfer, so that an error behind it is not seen and does not end the
    room."""

    def watch(self) -> None:
        world = self.desk.world
        for flight in [f for f in self.flights if f.at is At.FLYING]:
            try:
                self.desk.look(flight)
            except Exception as error:
                self.blow(error)
            if flight.at is At.FLYING:
                break
        oldest = min((f.since_s for f in self.flights if f.at is At.FLYING), default=world.clock())
        if world.clock() - oldest >= world.transfer_timeout_s:
            self.blow(TransferTimeout(f"a transfer has taken {world.transfer_timeout_s} s"))
        if any(link is not None and link.dead for link in self.links):
            self.blow(PeerRestarted("the pages belong to a process that is gone"))


class HeadOnlyDesk(StoryDesk):
    def sender(self, plan: RoomPlan) -> Sender:
        with self.lock:
            room = self.stories[plan.incarnation] = HeadOnlyRoom(self, plan)
            return room


# Connections, lists and registrations.


class SlammingSender(FreshSender):
    """KS-5.4: abort() removes the agents of the room's peers, which live and have other rooms' transfers."""

    def abort(self) -> None:
        with self.side.guard:
            live = not self.value.terminal
            super().abort()
            for target in self.plan.destinations:
                if live and not target.dummy and self.side.met.pop(target.peer.name, None) is not None:
                    with suppress(*TRANSPORT_ERRORS):
                        self.side.agent.remove_remote_agent(target.peer.name)


class SlammingSide(FreshSide):
    def sender(self, plan: RoomPlan) -> Sender:
        with self.guard:
            fresh = self.live[plan.incarnation] = SlammingSender(self, plan)
            return fresh


class DeregisteringSender(LedgerSender):
    """KS-4.2: abort() of the only room takes the registration from under a transfer that is still reading."""

    def abort(self) -> None:
        with self.side.lock:
            side, live = self.side, not self.entry.value.terminal
            super().abort()
            others = [e for e in side.entries if e is not self.entry and not e.value.terminal]
            assert isinstance(side, DeregisteringSide)
            if live and not others and side.registration is not None:
                side.agent.deregister_memory(side.registration)
                side.registration = side.agent.register_memory(whole(side.world.memory), "DRAM")


class DeregisteringSide(LedgerSide):
    registration: list[tuple[int, int, int, str]] | None = None

    def peer(self, peer: Peer) -> ScriptedDlist:
        if self.registration is None:
            self.registration = self.agent.register_memory(whole(self.world.memory), "DRAM")
        if self.mine is None:
            self.mine = self.agent.prep_xfer_dlist(INIT_AGENT, blocks(self.world.memory), "DRAM")
        return super().peer(peer)

    def sender(self, plan: RoomPlan) -> Sender:
        right = super().sender(plan)
        assert isinstance(right, LedgerSender)
        return DeregisteringSender(self, right.entry)


class OldListPump(Pump):
    """KS-6.3: after a reconnection new rooms still use the list that was prepared for the old process."""

    def remote(self, peer: Peer) -> tuple[int, ScriptedDlist]:
        if peer.name in self.stale and peer.name in self.lists:
            self.stale.discard(peer.name)
            with suppress(*TRANSPORT_ERRORS):
                self.t.remove_remote_agent(peer.name)
            self.t.add_remote_agent(peer.agent.get_agent_metadata())
        return super().remote(peer)


class RefetchingDesk(LazyDesk):
    """KS-6.3: the metadata is fetched again for a second room, while the peer's list stays the one of the first."""

    def reconnect(self, peer: Peer) -> None:
        pass

    def contact(self, plan: RoomPlan) -> list[Link | None]:
        for target in plan.destinations:
            if not target.dummy and target.peer.name in self.links:
                self.agent.add_remote_agent(target.peer.agent.get_agent_metadata())
        return super().contact(plan)


class WrongEndDesk(Desk):
    """KS-3.1: a peer that wants only the last pages of a room gets the first ones."""

    def sender(self, plan: RoomPlan) -> Sender:
        return DeferredRoom(self, plan)

    def make(self, plan: RoomPlan, target: Destination, link: Link, first: int, pages: Sequence[int]) -> Flight | None:
        pairs = [(page, target.pages[at]) for at, page in enumerate(pages, first) if at < len(target.pages)]
        mine = [row for page, _ in pairs for row in page_rows(page)]
        theirs = [row for _, page in pairs for row in page_rows(page)]
        if first + len(pages) == plan.num_pages:
            mine.append(aux_row(plan.aux_index))
            theirs.append(aux_row(target.aux_index))
        if not mine:
            return None
        handle = self.agent.make_prepped_xfer("WRITE", self.local(), mine, link.table, theirs)
        self.flights.append(Flight(handle, frozenset(page for page, _ in pairs), link))
        return self.flights[-1]


class RaisingDesk(StoryDesk):
    """KS-1.1: the constructor of a sender contacts its peers and lets the transport's error out."""

    def sender(self, plan: RoomPlan) -> Sender:
        with self.lock:
            self.contact(plan)
        return super().sender(plan)


class ListLeakDesk(CuriousDesk):
    """KS-4.3: descriptor lists are prepared for each send() and never released."""

    def one(self, link: Link, mine: list[int], theirs: list[int], pages: set[int]) -> Flight:
        self.local()
        here, there = blocks(self.world.memory), blocks(link.peer.memory)
        local = self.agent.prep_xfer_dlist(INIT_AGENT, [here[row] for row in mine], "DRAM")
        remote = self.agent.prep_xfer_dlist(link.peer.name, [there[row] for row in theirs], "DRAM")
        rows = list(range(len(mine)))
        handle = self.agent.make_prepped_xfer("WRITE", local, rows, remote, rows)
        self.flights.append(Flight(handle, frozenset(pages), link))
        return self.flights[-1]


class RegistrationLeakSide(LedgerSide):
    """KS-4.3: each room registers the memory once more and never gives the registration back."""

    def sender(self, plan: RoomPlan) -> Sender:
        with self.lock, suppress(*TRANSPORT_ERRORS):
            self.agent.register_memory(whole(self.world.memory), "DRAM")
        return super().sender(plan)


class SlotLeakSide(StagedSide):
    """KS-5.4: the staging slots of a room that fails are lost, so that later rooms find the pool empty."""

    def chores(self) -> None:
        self.lost += [stage.slot for stage in self.ghosts]
        super().chores()

    def give(self, slot: Slot) -> None:
        if all(slot is not gone for gone in self.lost):
            super().give(slot)


# Rooms that come back.


class HauntedPump(Pump):
    """KS-5.4: a late transfer of an earlier room of the same id closes the new room."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.room_of: dict[ScriptedHandle, int] = {}

    def fail(self, row: Row, why: Exception) -> None:
        self.room_of.update({handle: row.plan.room for handle in row.air})
        super().fail(row, why)

    def haunt(self) -> None:
        before = list(self.ghosts)
        super().haunt()
        for handle in before:
            if handle not in self.ghosts:
                room = self.room_of.pop(handle, None)
                for row in self.rows.values():
                    if row.plan.room == room and row.state is KVPoll.Transferring:
                        self.ghosts.update({flying: pages for flying, (_, pages) in row.air.items()})
                        row.air.clear()
                        row.todo.clear()
                        row.last_queued = True
                        self.conclude(row)


# Calls that wait.


class LoopingRoom(DeferredRoom):
    """KS-3.7: poll() asks again and again until every transfer is done."""

    def look(self) -> None:
        super().look()
        while self.cause is None and any(f.at is At.FLYING for f in self.flights):
            super().look()


class LoopingDesk(Desk):
    def sender(self, plan: RoomPlan) -> Sender:
        return LoopingRoom(self, plan)


class SleepingRoom(CuriousRoom):
    """KS-3.7: poll() sleeps for seconds while a transfer is in flight, to give it time."""

    def poll(self) -> KVPoll:
        if not self.said_failed and any(p.at is At.FLYING for p in self.parts):
            time.sleep(5.0)
        return super().poll()


class SleepingDesk(CuriousDesk):
    def sender(self, plan: RoomPlan) -> Sender:
        with self.lock:
            self.open_rooms.add(plan.incarnation)
            return SleepingRoom(self, plan)


class StubbornSender(FreshSender):
    """KS-3.7: a make that is refused is tried again for ever, also when the peer is dead."""

    def initialize(self, target: Destination, first: int, pages: list[int]) -> None:
        while True:
            try:
                return super().initialize(target, first, pages)
            except TRANSPORT_ERRORS:
                continue


class StubbornSide(FreshSide):
    def sender(self, plan: RoomPlan) -> Sender:
        with self.guard:
            fresh = self.live[plan.incarnation] = StubbornSender(self, plan)
            return fresh


class AwaitedRoom(WorkerRoom):
    """KS-3.7: abort() holds the lock and waits until the worker has let go of the room, for which it needs the lock."""

    def abort(self) -> None:
        with self.side.cond:
            live = self.cause is None and not self.good
            super().abort()
            pending = [p for p in self.pieces if p.state is At.FLYING]
            if live and pending:
                gone = Event()
                self.__dict__["gone"] = gone
                gone.wait()


class AwaitedSide(WorkerSide):
    def sender(self, plan: RoomPlan) -> Sender:
        room = AwaitedRoom(self, plan)
        with self.cond:
            self.rooms[plan.incarnation] = room
        return room

    def visit(self, piece: Piece) -> None:
        super().visit(piece)
        gone = piece.room.__dict__.get("gone")
        if isinstance(gone, Event):
            gone.set()


# The deadline, the latch and the words of a failure.


class ForgetfulSender(FreshSender):
    """KS-3.4: the deadline is looked at in the first poll() only, so a silent peer keeps the room open for ever."""

    def look(self) -> None:
        if not self.__dict__.get("looked"):
            self.__dict__["looked"] = True
            super().look()
        else:
            for one in list(self.flying):
                self.ask(one, self.side.agent.check_xfer_state)


class ForgetfulSide(FreshSide):
    def sender(self, plan: RoomPlan) -> Sender:
        with self.guard:
            fresh = self.live[plan.incarnation] = ForgetfulSender(self, plan)
            return fresh


class UnlatchedRoom(DeferredRoom):
    """KS-2.2: the next transfer that succeeds overwrites the latched error, and the room goes on to Success."""

    def look(self) -> None:
        flying = [f for f in self.flights if f.at is At.FLYING]
        super().look()
        if self.cause is not None and any(f.at is At.DONE for f in flying):
            self.cause = None
            for flight in self.flights:
                flight.at = At.DONE if flight.at is At.BROKEN else flight.at


class UnlatchedDesk(Desk):
    def sender(self, plan: RoomPlan) -> Sender:
        return UnlatchedRoom(self, plan)


class FickleRoom(LazyRoom):
    """KS-2.4: failure_exception() raises an error with another text each time."""

    def __init__(self, desk: CuriousDesk, plan: RoomPlan) -> None:
        super().__init__(desk, plan)
        self.numbers = count(1)

    def failure_exception(self) -> NoReturn:
        if self.error is None:
            super().failure_exception()
        text = f"{words(self.error)} (report {next(self.numbers)})"
        raise KVTransferError(self.plan.room, text, blame(self.error)) from self.error


class FickleDesk(LazyDesk):
    def sender(self, plan: RoomPlan) -> Sender:
        with self.lock:
            self.open_rooms.add(plan.incarnation)
            return FickleRoom(self, plan)


mute: Final = Kind("mute", MutePump)
early_letter: Final = Kind("early_letter", EarlyLetterDesk)
hasty: Final = Kind("hasty", HastyLedgerSide)
twice: Final = Kind("twice", TwiceWorkerSide)
per_peer: Final = Kind("per_peer", PerPeerSide)
contagious: Final = Kind("contagious", ContagiousPump)
one_try: Final = Kind("one_try", OneTryDesk)
patient: Final = Kind("patient", PatientDesk)
deaf: Final = Kind("deaf", DeafSide)
dropping: Final = Kind("dropping", DroppingDesk)
early_chunk: Final = Kind("early_chunk", EarlyChunkDesk)
optimist: Final = Kind("optimist", OptimistSide)
masking: Final = Kind("masking", MaskingDesk)
head_only: Final = Kind("head_only", HeadOnlyDesk)
slamming: Final = Kind("slamming", SlammingSide)
deregistering: Final = Kind("deregistering", DeregisteringSide)
old_list: Final = Kind("old_list", OldListPump)
refetching: Final = Kind("refetching", RefetchingDesk)
wrong_end: Final = Kind("wrong_end", WrongEndDesk)
raising: Final = Kind("raising", RaisingDesk)
list_leak: Final = Kind("list_leak", ListLeakDesk)
registration_leak: Final = Kind("registration_leak", RegistrationLeakSide)
slot_leak: Final = Kind("slot_leak", SlotLeakSide)
haunted: Final = Kind("haunted", HauntedPump)
looping: Final = Kind("looping", LoopingDesk)
sleeping: Final = Kind("sleeping", SleepingDesk)
stubborn: Final = Kind("stubborn", StubbornSide)
awaited: Final = Kind("awaited", AwaitedSide)
forgetful: Final = Kind("forgetful", ForgetfulSide)
unlatched: Final = Kind("unlatched", UnlatchedDesk)
fickle: Final = Kind("fickle", FickleDesk)

WRONG: Final[tuple[tuple[Adapter, str], ...]] = (
    (mute, "KS-6.1"),
    (early_letter, "KS-6.1"),
    (hasty, "KS-6.1"),
    (twice, "KS-6.1"),
    (per_peer, "KS-6.1"),
    (contagious, "KS-5.4"),
    (patient, "KS-1.2"),
    (deaf, "KS-1.2"),
    (dropping, "KS-1.2"),
    (early_chunk, "KS-1.2"),
    (optimist, "KS-1.2"),
    (masking, "KS-1.2"),
    (slamming, "KS-5.4"),
    (deregistering, "KS-4.2"),
    (old_list, "KS-6.3"),
    (refetching, "KS-6.3"),
    (wrong_end, "KS-3.1"),
    (list_leak, "KS-4.3"),
    (registration_leak, "KS-4.3"),
    (slot_leak, "KS-4.3"),
    (haunted, "KS-5.4"),
    (looping, "KS-3.7"),
    (sleeping, "KS-3.7"),
    (stubborn, "KS-3.7"),
    (awaited, "KS-3.7"),
    (forgetful, "KS-3.4"),
    (unlatched, "KS-2.2"),
    (fickle, "KS-2.4"),
)
UNJUDGED: Final[tuple[tuple[Adapter, str], ...]] = (
    (one_try, "KS-6.1: a notification that was refused is not sent again; no clause asks for a second try"),
    (
        head_only,
        "KS-3.4: a look ends at the first pending transfer; an error behind it is found later",
    ),
    (raising, "KS-1.1: it fails where a reconnection has failed before the opening, which is not played"),
)
"""What their author took for wrong and the kit passes, each with the reason: docs/worlds.md says the same."""
