"""A small sender that keeps the contract, written for the mutants: it posts in send() and checks in poll().

It shares no line with the reference sender, so it is also a second opinion on the kit: it must pass every clause.
Every mutant in this folder is this sender with one thing wrong.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import ClassVar, Concatenate, NoReturn, ParamSpec, TypeVar

from kvsender_spec.contract import (
    INIT_AGENT,
    Attribution,
    KVPoll,
    KVTransferError,
    KVUsageError,
    TransferAborted,
    TransferTimeout,
)
from kvsender_spec.faults import STAND_INS
from kvsender_spec.kit.adapter import (
    NUM_AUX_SLOTS,
    NUM_PAGES,
    Destination,
    Memory,
    Notification,
    NotificationKind,
    Peer,
    RoomPlan,
    World,
)
from kvsender_spec.kit.scripted.fabric import ScriptedAgent, ScriptedDlist, ScriptedHandle
from kvsender_spec.machine import Profile, State

_S = TypeVar("_S", bound="InlineSender")
_P = ParamSpec("_P")
_R = TypeVar("_R")

NIXL_ERRORS: tuple[type[Exception], ...] = tuple(STAND_INS.values())
REMOTE_DISCONNECT = STAND_INS["nixlRemoteDisconnectError"]
BACKEND = STAND_INS["nixlBackendError"]
CANCELLED = STAND_INS["nixlCancelledError"]


class Part:
    """One transfer of a chunk, to one peer."""

    def __init__(self, handle: ScriptedHandle, peer: str, pages: Sequence[int], posted_at: float) -> None:
        self.handle: ScriptedHandle | None = handle
        self.peer = peer
        self.pages = tuple(pages)
        self.posted_at = posted_at
        self.state = "created"


class Prefill:
    """The prefill side: one agent, its prepared lists, the pages in doubt and the transfers that outlive their room."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.agent: ScriptedAgent = world.transport
        memory = world.memory
        self.registered = [(memory.address(r), len(r), 0, "") for r in memory.kv + memory.aux]
        self.registration = self.agent.register_memory(self.registered, "DRAM")
        self.local = self.agent.prep_xfer_dlist(INIT_AGENT, self.rows(memory), "DRAM")
        self.remote: dict[str, ScriptedDlist] = {}
        self.rooms: dict[int, InlineSender] = {}
        self.unsettled: list[Part] = []
        self.doubtful: list[Part] = []
        for peer in world.peers:
            self.connect(peer)

    @staticmethod
    def rows(memory: Memory) -> list[tuple[int, int, int]]:
        found = []
        for region, size in zip(memory.kv + memory.aux, memory.PAGE_BYTES + memory.AUX_BYTES, strict=True):
            found += [(memory.address(region) + at, size, 0) for at in range(0, len(region), size)]
        return found

    @staticmethod
    def indices(pages: Sequence[int], aux: int | None) -> list[int]:
        regions = len(Memory.PAGE_BYTES)
        return [r * NUM_PAGES + page for r in range(regions) for page in pages] + (
            [] if aux is None else [regions * NUM_PAGES + aux]
        )

    def connect(self, peer: Peer) -> None:
        self.agent.add_remote_agent(peer.agent.get_agent_metadata())
        self.remote[peer.name] = self.agent.prep_xfer_dlist(peer.name, self.rows(peer.memory), "DRAM")

    def reconnect(self, peer: Peer) -> None:
        if peer.name in self.remote:
            self.agent.remove_remote_agent(peer.name)
            self.agent.release_dlist_handle(self.remote[peer.name])
        self.connect(peer)

    def settle(self) -> None:
        # A mutant may end a room twice, or release what it has left here: such a part has no handle any more.
        for part in self.unsettled:
            if part.handle is not None:
                InlineSender.ask(self, part)
                if part.state in ("done", "errored"):
                    self.release(part)
        self.unsettled = [part for part in self.unsettled if part.handle is not None]

    def release(self, part: Part) -> bool:
        if part.handle is not None:
            try:
                self.agent.release_xfer_handle(part.handle)
            except NIXL_ERRORS:
                return False
            part.handle = None
        return True

    def quarantined_pages(self) -> frozenset[int]:
        return frozenset(page for part in self.doubtful if part.state != "done" for page in part.pages)

    def residue(self) -> int:
        return len(self.rooms)

    def attribution(self, error: BaseException) -> Attribution | None:
        return error.attribution if isinstance(error, KVTransferError) else None

    def read_notification(self, message: bytes) -> Notification | None:
        kind, room, incarnation, reason = message.decode().split("|", 3)
        return Notification(NotificationKind(kind), int(room), int(incarnation), reason)


def _one_at_a_time(call: Callable[Concatenate[_S, _P], _R]) -> Callable[Concatenate[_S, _P], _R]:
    """Send, poll, abort and clear may come from different threads (KS-7.2); each has the sender to itself."""

    @functools.wraps(call)
    def locked(sender: _S, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        with sender.lock:
            return call(sender, *args, **kwargs)

    return locked


class InlineSender:
    """One room's sender. The hooks that mutants override are small on purpose."""

    transport_errors: ClassVar[tuple[type[Exception], ...]] = (*NIXL_ERRORS, RuntimeError)

    def __init__(self, system: Prefill, plan: RoomPlan) -> None:
        self.system = system
        self.agent = system.agent
        self.plan = plan
        self.state = State.IDLE
        self.cause: BaseException | None = None
        self.attribution = Attribution.LOCAL
        self.parts: list[Part] = []
        # The page ids of the plan are those of the peer's process of now; another process has other pages there.
        self.generations = {target.peer.name: target.peer.generation for target in plan.destinations}
        self.num_pages: int | None = None
        self.sent: list[int] = []
        self.closed = False
        self.failed_at = 0.0
        self.lock: AbstractContextManager[object] = threading.RLock()

    def init(self, num_pages: int) -> None:
        self.num_pages = num_pages

    # -- send

    @_one_at_a_time
    def send(self, kv_indices: Sequence[int]) -> None:
        if self.state not in (State.IDLE, State.SENDING):
            return
        last = self.admit(kv_indices)
        first = len(self.sent)
        self.sent += kv_indices
        if kv_indices or last:
            self.take(kv_indices, first, last)

    def take(self, kv_indices: Sequence[int], first: int, last: bool) -> None:
        """Make and post what the caller has sent."""
        if any(target.peer.generation != self.generations[target.peer.name] for target in self.targets()):
            self.fault(ConnectionResetError("a peer is another process now"), Attribution.PEER)
            return
        try:
            parts = [(target, *self.wanted(target, kv_indices, first)) for target in self.targets()]
            made = [self.make(target, mine, theirs, last) for target, mine, theirs in parts if self.moves(mine, last)]
            for part in made:
                self.post(part)
        except self.transport_errors as error:
            self.fault(error)
            return
        self.state = State.SENDING
        self.closed = last

    def moves(self, mine: Sequence[int], last: bool) -> bool:
        """There is something to transfer: pages, or the aux data."""
        return bool(mine) or last

    def wanted(self, target: Destination, pages: Sequence[int], first: int) -> tuple[Sequence[int], Sequence[int]]:
        """Which of a chunk's pages the peer wants, and its own for them. It may have the room's first pages already."""
        assert self.num_pages is not None
        cached = self.num_pages - len(target.pages)
        mine = pages[max(0, cached - first) :]
        return mine, target.pages[max(0, first - cached) :][: len(mine)]

    def targets(self) -> list[Destination]:
        return [target for target in self.plan.destinations if not target.dummy]

    def admit(self, pages: Sequence[int]) -> bool:
        """Refuse a mistake of the caller; True when this is the last chunk."""
        if self.num_pages is None:
            raise KVUsageError("send() before init()")
        if not all(isinstance(page, int) for page in pages):
            raise KVUsageError(f"page ids must be integers, not {list(pages)}")
        wrong = [page for page in pages if not 0 <= page < NUM_PAGES]
        if wrong:
            raise KVUsageError(f"page {wrong[0]} is not in the pool of {NUM_PAGES}")
        if len({*self.sent, *pages}) != len(self.sent) + len(pages):
            raise KVUsageError(f"a page of {list(pages)} is sent twice")
        if len(self.sent) + len(pages) > self.num_pages:
            raise KVUsageError(f"{len(self.sent) + len(pages)} pages of {self.num_pages} announced")
        return len(self.sent) + len(pages) == self.num_pages

    def make(self, target: Destination, mine: Sequence[int], theirs: Sequence[int], last: bool) -> Part:
        handle = self.agent.make_prepped_xfer(
            "WRITE",
            self.system.local,
            self.system.indices(mine, self.plan.aux_index if last else None),
            self.system.remote[target.peer.name],
            self.system.indices(theirs, target.aux_index if last else None),
            self.notification(NotificationKind.PROGRESS, ""),
        )
        part = Part(handle, target.peer.name, mine, self.system.world.clock())
        self.parts.append(part)
        return part

    def post(self, part: Part) -> None:
        assert part.handle is not None
        part.state = "rejected"
        answer = self.agent.transfer(part.handle)
        part.state = {"DONE": "done", "PROC": "flying"}.get(answer, "rejected")
        if part.state == "rejected":
            raise RuntimeError(f"transfer() answered {answer}")

    # -- poll

    @_one_at_a_time
    def poll(self) -> KVPoll:
        if self.state is State.DONE:
            return KVPoll.Success
        if self.state is State.STICKY_FAILED:
            return KVPoll.Failed
        self.observe()
        return self.answer()

    def observe(self) -> None:
        for part in self.parts:
            if part.state == "flying":
                error = self.ask(self.system, part)
                if error is not None:
                    self.fault(error)
        self.release_settled()
        if self.state is State.SENDING and self.complete():
            self.state = State.DONE
            self.system.unsettled += [part for part in self.parts if part.handle is not None]
            self.tell(NotificationKind.SUCCESS, "")
        elif self.state is State.SENDING and self.overdue():
            self.fault(TransferTimeout("a peer was silent"), Attribution.DEADLINE)

    @classmethod
    def ask(cls, system: Prefill, part: Part) -> Exception | None:
        assert part.handle is not None
        try:
            answer = system.agent.check_xfer_state(part.handle)
        except cls.transport_errors as error:
            part.state = "errored"
            return error
        except (KeyError, TypeError) as error:
            return error
        if answer in ("PROC", "DONE"):
            part.state = "done" if answer == "DONE" else "flying"
            return None
        part.state = "errored"
        return RuntimeError(f"check_xfer_state() answered {answer}")

    def complete(self) -> bool:
        return self.closed and all(part.state == "done" for part in self.parts)

    def overdue(self) -> bool:
        world = self.system.world
        return any(p.state == "flying" and world.clock() - p.posted_at >= world.transfer_timeout_s for p in self.parts)

    def answer(self) -> KVPoll:
        if self.state is State.DONE:
            return KVPoll.Success
        if self.state is State.FAILED and self.may_report():
            self.report()
        if self.state is State.STICKY_FAILED:
            return KVPoll.Failed
        return KVPoll.WaitingForInput if self.state is State.IDLE else KVPoll.Transferring

    def may_report(self) -> bool:
        world = self.system.world
        drained = world.clock() - self.failed_at >= world.drain_timeout_s
        return drained or not any(part.state == "flying" for part in self.parts)

    def report(self) -> None:
        self.release_settled()
        self.system.unsettled += [part for part in self.parts if part.handle is not None]
        self.quarantine()
        self.tell(NotificationKind.FAILURE, f"{type(self.cause).__name__}: {self.cause}")
        self.state = State.STICKY_FAILED

    def quarantine(self) -> None:
        self.system.doubtful += [p for p in self.parts if p.state in ("flying", "errored", "rejected")]

    def release_settled(self) -> None:
        for part in self.parts:
            if part.state != "flying":
                self.system.release(part)

    def tell(self, kind: NotificationKind, reason: str) -> None:
        for target in self.targets():
            try:
                self.agent.send_notif(target.peer.name, self.notification(kind, reason))
            except self.transport_errors:
                continue

    def notification(self, kind: NotificationKind, reason: str) -> bytes:
        return f"{kind}|{self.plan.room}|{self.plan.incarnation}|{reason}".encode()

    # -- failure

    def fault(self, error: BaseException, attribution: Attribution | None = None) -> None:
        if self.state in (State.IDLE, State.SENDING):
            self.cause = error
            self.attribution = attribution or self.attribute(error)
            self.failed_at = self.system.world.clock()
            self.state = State.FAILED

    @staticmethod
    def attribute(error: BaseException) -> Attribution:
        if isinstance(error, REMOTE_DISCONNECT):
            return Attribution.PEER
        return Attribution.INTERNAL if isinstance(error, (KeyError, TypeError)) else Attribution.LOCAL

    def failure_exception(self) -> NoReturn:
        if self.state not in (State.FAILED, State.STICKY_FAILED):
            raise KVUsageError(f"room {self.plan.room} has not failed")
        reason = f"{type(self.cause).__name__}: {self.cause}"
        raise KVTransferError(self.plan.room, reason, self.attribution) from self.cause

    @_one_at_a_time
    def abort(self) -> None:
        self.fault(TransferAborted("aborted by its caller"), Attribution.CALLER)

    @_one_at_a_time
    def clear(self) -> None:
        self.abort()
        self.system.rooms.pop(self.plan.incarnation, None)

    def get_transfer_metric(self) -> int:
        return len(self.sent)


class InlineSystem(Prefill):
    """The prefill side for one class of sender."""

    takes_new_names: ClassVar = True

    def __init__(self, world: World, sender_class: type[InlineSender]) -> None:
        super().__init__(world)
        self.sender_class = sender_class
        self.takes_parts = True

    def sender(self, plan: RoomPlan) -> InlineSender:
        sender = self.uninitialised(plan)
        sender.init(plan.num_pages)
        return sender

    def uninitialised(self, plan: RoomPlan) -> InlineSender:
        sender = self.sender_class(self, plan)
        self.rooms[plan.incarnation] = sender
        return sender


class InlineAdapter:
    """Makes the kit's systems from a sender class."""

    profile = Profile.FULL
    errors: Mapping[str, type[Exception]] = STAND_INS
    usage_errors: tuple[type[Exception], ...] = (KVUsageError,)

    def __init__(
        self, sender_class: type[InlineSender] = InlineSender, system_class: type[InlineSystem] = InlineSystem
    ):
        self.name = sender_class.__name__
        self.sender_class = sender_class
        self.system_class = system_class

    def open(self, world: World) -> InlineSystem:
        return self.system_class(world, self.sender_class)


adapter = InlineAdapter()
assert NUM_AUX_SLOTS > 2, "each of two rooms has an aux slot of its own"
