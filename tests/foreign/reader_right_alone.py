"""Readers without a pump: every request looks after itself.

It describes each READ anew, fails at once with its pages in quarantine, wraps what went wrong in a class of its own,
and reads the stamps behind the data, in the same READ. A message goes with each READ, and the holder counts them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import ClassVar, Final, NoReturn

from tests.foreign.reader_base import STAMP, Kind, Row
from tests.foreign.reader_node import Deadline, GivenUp, LeaseLost, Misuse, Node, PullError, Xfer, whose

from kvsender_spec.contract import Attribution, KVPoll
from kvsender_spec.kit.adapter import (
    NUM_PAGES,
    Adapter,
    Destination,
    Memory,
    Notification,
    NotificationKind,
    Peer,
    RoomPlan,
    World,
)

_WORDS: Final[Mapping[str, NotificationKind]] = {
    "fail": NotificationKind.FAILURE,
    "done": NotificationKind.SUCCESS,
    "part": NotificationKind.PROGRESS,
}


class Pull:
    """One room's reader."""

    INLINE: ClassVar = True
    """The stamps come with the data, after them."""

    def __init__(self, node: Node, plan: RoomPlan) -> None:
        self.node, self.plan = node, plan
        self.targets = [dest for dest in plan.destinations if not dest.dummy]
        self.epochs = {dest.peer.name: self.epoch(dest.peer) for dest in self.targets}
        self.pages: list[int] = []
        self.xfers: list[Xfer] = []
        self.last = False
        self.cause: BaseException | None = None
        self.end: KVPoll | None = None
        self.stamped = self.INLINE
        node.rooms.add(plan.incarnation)

    def epoch(self, peer: Peer) -> tuple[int, int]:
        return self.node.epoch.get(peer.name, 0), peer.generation

    def read(self, kv_indices: Sequence[int]) -> None:
        with self.node.lock:
            if self.cause is not None:
                return
            new = list(kv_indices)
            every = [*self.pages, *new]
            if not all(type(page) is int and 0 <= page < NUM_PAGES for page in new):
                raise Misuse(f"not page ids: {new}")
            if len(set(every)) != len(every) or len(every) > self.plan.num_pages:
                raise Misuse(f"too many pages, or one twice: {new}")
            first, self.pages = len(self.pages), every
            self.last = len(every) == self.plan.num_pages
            if new:
                self.guarded(partial(self.fetch_all, first))

    def guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            self.broken(error)
        except BaseException as error:  # not ours to keep, but this room cannot go on
            self.broken(error)
            raise

    def fetch_all(self, first: int, *, data: bool = True) -> None:
        for target in self.targets:
            self.fetch(target, first, data=data)

    def wanted(self, target: Destination) -> slice:
        """Which of the granted pages are meant."""
        return slice(len(target.pages) - self.plan.num_pages, len(target.pages))

    def fetch(self, target: Destination, first: int, *, data: bool) -> None:
        node, mine, peer = self.node, self.pages[first:], target.peer
        place = slice(first, len(self.pages))
        theirs, stamps = target.pages[self.wanted(target)][place], target.stamps[self.wanted(target)][place]
        if self.epoch(peer) != self.epochs[peer.name]:
            raise LeaseLost(f"{peer.name} has started over")
        if peer.name not in node.added:
            node.add(peer)
        here: list[Row] = []
        there: list[Row] = []
        slots: list[int] = []
        for region in target.regions if data else ():
            size, ours, its = Memory.PAGE_BYTES[region], node.world.memory, peer.memory
            here += [(ours.address(ours.kv[region]) + page * size, size, 0) for page in mine]
            there += [(its.address(its.kv[region]) + page * size, size, 0) for page in theirs]
        if self.INLINE or not data:
            slots = node.scratch.take(len(mine))
            here += [(at, STAMP, 0) for at in slots]
            there += [(peer.memory.address(peer.memory.stamps) + page * STAMP, STAMP, 0) for page in theirs]
        descs = node.agent.get_xfer_descs(here, "DRAM"), node.agent.get_xfer_descs(there, "DRAM")
        handle = node.agent.initialize_xfer("READ", *descs, peer.name, self.note("part"))
        xfer = Xfer(handle, mine if data else [], slots, list(stamps), node.world.clock())
        self.xfers.append(xfer)
        node.flying.append(xfer)
        try:
            answer = node.agent.transfer(handle)
        except Exception:
            node.settled(xfer, "doubt")
            raise
        node.heard(xfer, answer)

    def note(self, word: str, reason: str = "") -> bytes:
        return f"{word}|{self.plan.room}|{self.plan.incarnation}|{reason}".encode()

    def poll(self) -> KVPoll:
        with self.node.lock:
            if self.end is None:
                self.node.sweep()
                self.guarded(self.look)
            if self.end is not None:
                return self.end
            return KVPoll.Transferring if self.pages or self.last else KVPoll.WaitingForInput

    def look(self) -> None:
        for xfer in self.xfers:
            if xfer.state == "flying":
                self.node.ask(xfer)
        now, limit = self.node.world.clock(), self.node.world.transfer_timeout_s
        if any(xfer.state == "flying" and now - xfer.since >= limit for xfer in self.xfers):
            raise Deadline(f"{limit} s without an end")
        if self.last and all(xfer.state == "done" for xfer in self.xfers):
            self.all_here()

    def all_here(self) -> None:
        if self.pages and not self.stamped:
            self.stamped = True
            self.fetch_all(0, data=False)
            if any(xfer.state != "done" for xfer in self.xfers):
                return
        for xfer in self.xfers:
            if xfer.slots and [self.node.scratch.value(at) for at in xfer.slots] != xfer.stamps:
                raise LeaseLost(f"room {self.plan.room}: refilled before it was read")
        self.finish(KVPoll.Success)

    def broken(self, error: BaseException) -> None:
        if self.cause is None and self.end is None:
            self.cause = error
        if self.cause is not None:
            self.finish(KVPoll.Failed)

    def finish(self, end: KVPoll) -> None:
        if self.end is not None:
            return
        self.end = end
        for xfer in self.xfers:
            xfer.orphan = xfer.state == "flying"
            if xfer.state == "done":
                self.node.scratch.free += xfer.slots
        if end is KVPoll.Failed:
            self.tell("fail", f"{type(self.cause).__name__}: {self.cause}")
        elif not self.pages:
            self.tell("done", "")

    def tell(self, word: str, reason: str) -> None:
        for dest in self.targets:
            if self.epoch(dest.peer) == self.epochs[dest.peer.name]:
                with suppress(Exception):
                    self.node.agent.send_notif(dest.peer.name, self.note(word, reason))

    def failure_exception(self) -> NoReturn:
        if self.cause is None:
            raise Misuse("nothing has failed")
        raise PullError(f"{type(self.cause).__name__}: {self.cause}", whose(self.cause)) from self.cause

    def abort(self) -> None:
        with self.node.lock:
            if self.end is None:
                self.broken(GivenUp("aborted by its caller"))

    def clear(self) -> None:
        with self.node.lock:
            self.abort()
            self.node.rooms.discard(self.plan.incarnation)


class TwoPhasePull(Pull):
    """The same with the stamps in a READ of their own."""

    INLINE: ClassVar = False


class AloneSystem:
    """The decode side as the kit sees it."""

    takes_parts: Final = True

    def __init__(self, world: World, pulls: type[Pull] = Pull) -> None:
        self.node, self.new_reader = Node(world), pulls

    def reader(self, plan: RoomPlan) -> Pull:
        return self.new_reader(self.node, plan)

    def quarantined_pages(self) -> frozenset[int]:
        return self.node.held_pages()

    def settle(self) -> None:
        self.node.sweep()

    def residue(self) -> int:
        return len(self.node.rooms) + len(self.node.flying) + len(self.node.to_release)

    def reconnect(self, peer: Peer) -> None:
        self.node.meet(peer)

    def attribution(self, error: BaseException) -> Attribution | None:
        return error.whose if isinstance(error, PullError) else None

    def read_notification(self, message: bytes) -> Notification | None:
        word, room, incarnation, reason = message.decode().split("|", 3)
        return Notification(_WORDS[word], int(room), int(incarnation), reason)


def alone(name: str, pulls: type[Pull] = Pull) -> Kind:
    """An adapter of such readers."""
    return Kind(f"foreign-read-{name}", partial(AloneSystem, pulls=pulls), usage_errors=(Misuse,))


inline: Final = alone("inline")
two_phase: Final = alone("two_phase", TwoPhasePull)

RIGHT: Final[tuple[Adapter, ...]] = (inline, two_phase)
