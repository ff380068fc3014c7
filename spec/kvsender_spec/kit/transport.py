"""The scripted agent: a NIXL agent without NIXL, over a fabric that obeys whoever runs the test.

It is a *verified fake*: ``tests/kit/test_verified_fake.py`` runs one suite against it and against two real agents. What
it refuses and what it raises is what nixl 1.5.1 was seen to do. These rules shape everything else:

* A connection (``Link``) fails as a whole, and stays failed until it is removed and added again.
* An answer is never taken back: a transfer that was answered DONE, or with an error, is answered so for ever.
* An error, a release and a removal are not the end of the bytes: ``Fabric.land_late`` makes them land afterwards, from
  the source as it is then.
* The notification that travels with a transfer is sent by the sender's own check that finds the transfer complete.
* Use after release, which crashes the real process, raises ``UseAfterRelease`` and is kept in ``Fabric.crimes``.

Addresses are real: the fabric copies bytes with ``memmove``, so the caller keeps the buffers alive.
"""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import RLock
from typing import Final, Protocol, TypeAlias, runtime_checkable
from weakref import WeakValueDictionary

from kvsender_spec.contract import INIT_AGENT, Operation
from kvsender_spec.faults import (
    BASE_KINDS,
    NONSENSE,
    PROGRAMMING_KINDS,
    RETURNED_BY_TRANSPORT,
    STAND_INS,
    Fault,
    FaultPlan,
    Kind,
    Point,
    make_error,
)
from kvsender_spec.machine import HandleEvent, HandleState, SpecHandle

Span: TypeAlias = tuple[int, int]
"""An address and a number of bytes."""
Region: TypeAlias = tuple[int, int, int, str]
"""A registered address, its bytes, its device and its kind of memory."""

MEMORY: Final[Mapping[str, str]] = {"DRAM": "DRAM", "VRAM": "VRAM", "cpu": "DRAM", "cuda": "VRAM"}
"""NIXL's names for kinds of memory; the last two are deprecated ones."""

WRITES: Final[Mapping[str, bool]] = {"WRITE": True, "READ": False}


@runtime_checkable
class Rows(Protocol):
    """A table of integers, such as a numpy array of shape (n, 3) or (n, 5)."""

    def __len__(self) -> int: ...

    def tolist(self) -> list[list[int]]: ...


@runtime_checkable
class Indices(Protocol):
    """A row of integers, such as a numpy array of shape (n,)."""

    def __len__(self) -> int: ...

    def tolist(self) -> list[int]: ...


class UseAfterRelease(AssertionError):
    """A released handle was used. The real library crashes, or acts on another transfer that reuses the memory."""


@dataclass(frozen=True, slots=True)
class TransportEvent:
    """One call that an agent received. The kit judges from these."""

    point: Point
    agent: str
    peer: str
    """The remote agent's name."""
    handle: int | None
    """The handle's number, unique in the fabric; None where the call has none, or created none."""
    answer: str
    """``made PROC DONE ERR LOST released dropped sent raised``; dropped is the release by the last reference."""
    error: BaseException | None = None
    """The very object that was raised."""
    message: bytes = b""
    """The notification: alone for NOTIFY, attached to the transfer for MAKE."""


@dataclass(slots=True, eq=False)
class Link:
    """One agent's connection to one process of a peer, from ``add_remote_agent`` until it is removed."""

    agent: ScriptedAgent
    peer: ScriptedAgent
    regions: list[Region]
    """What the peer had registered when its metadata was added. It is never validated against the peer again."""
    cut: bool = False
    removed: bool = False

    @property
    def broken(self) -> bool:
        return self.cut or not self.peer.alive


@dataclass(slots=True, eq=False)
class Cargo:
    """The bytes of one transfer. They outlive its handle, because releasing a handle does not stop them."""

    link: Link
    pairs: tuple[tuple[Span, Span], ...]
    """For each descriptor the span that is read and the span that is written."""
    landed: bool = False
    """Every byte is in place."""
    adrift: bool = False
    """Posted, and nobody will ever be told that it has landed."""

    def land(self) -> int:
        """Copy everything, from the source as it is now."""
        self.landed = True
        return self._copy(sum(length for (_, length), _ in self.pairs))

    def land_half(self) -> None:
        self._copy(sum(length for (_, length), _ in self.pairs) // 2)

    def _copy(self, budget: int) -> int:
        left = budget
        for (source, length), (target, _) in self.pairs:
            count = min(length, left)
            ctypes.memmove(target, source, count)
            left -= count
        return budget


@dataclass(slots=True)
class ScriptedDlist:
    """A prepared descriptor list. ``link`` is None on the local side."""

    link: Link | None
    blocks: tuple[Span, ...]
    released: bool = False


@dataclass(frozen=True, slots=True)
class ScriptedDescs:
    """A descriptor list that is not prepared, for ``initialize_xfer``."""

    rows: tuple[tuple[int, int, int], ...]
    memory: str


class ScriptedHandle:
    """One transfer, as the sender holds it. Dropping the last reference releases it, as in NIXL."""

    def __init__(self, fabric: Fabric, number: int, cargo: Cargo, operation: Operation, message: bytes) -> None:
        self.fabric: Final = fabric
        self.number: Final = number
        self.cargo: Final = cargo
        self.operation: Final = operation
        self.message = message
        self.released = False
        self.told = False
        """A check, or the post, has answered the last word."""
        self.outcome: Kind | None = None
        """The error that every check answers from now on."""
        self.machine = SpecHandle()

    @property
    def agent(self) -> str:
        return self.cargo.link.agent.name

    @property
    def peer(self) -> str:
        return self.cargo.link.peer.name

    @property
    def local(self) -> tuple[Span, ...]:
        side = 0 if WRITES[self.operation] else 1
        return tuple(pair[side] for pair in self.cargo.pairs)

    @property
    def remote(self) -> tuple[Span, ...]:
        side = 1 if WRITES[self.operation] else 0
        return tuple(pair[side] for pair in self.cargo.pairs)

    @property
    def state(self) -> HandleState:
        """What is true, whether or not the sender knows: DONE as soon as all bytes are in place."""
        return self.machine.state

    @property
    def landed(self) -> bool:
        return self.cargo.landed

    @property
    def unsettled(self) -> bool:
        """Posted, held by the sender, and nothing has decided yet how it ends."""
        link = self.cargo.link
        open_ended = self.state is HandleState.IN_FLIGHT and self.outcome is None and not self.released
        return open_ended and not link.broken and not link.removed

    def __repr__(self) -> str:
        return f"<handle {self.number} {self.agent}->{self.peer} {self.state.value}>"

    def __del__(self) -> None:
        if not self.released:
            self.fabric.end(self, "dropped")


class ScriptedAgent:
    """One process's agent. Made by ``Fabric.agent``; satisfies ``contract.Transport``."""

    def __init__(self, fabric: Fabric, name: str, generation: int, scripted: bool) -> None:
        self.fabric: Final = fabric
        self.name: Final = name
        self.generation: Final = generation
        self.scripted: Final = scripted
        self.alive = True
        self.stopped = False
        self.regions: list[Region] = []
        # An agent knows itself from the start, and nothing makes it forget.
        self.links: dict[str, Link] = {name: Link(self, self, self.regions)}
        self.poisoned: set[str] = set()
        self.inbox: dict[str, list[bytes]] = {}

    # ---------------------------------------------------------------------------------------------- memory

    def register_memory(self, reg_list: Sequence[tuple[int, int, int, str]], mem_type: str) -> list[Region]:
        regions = [(address, length, device, MEMORY[mem_type]) for address, length, device, _ in reg_list]
        if not regions:
            raise IndexError("list index out of range")
        if any(region[0] == 0 for region in regions):
            raise self.fabric.error(Kind.BACKEND)
        self.regions += regions
        return regions

    def deregister_memory(self, dereg_list: list[Region]) -> None:
        """Forget regions, each as often as it is listed. Peers that know them go on writing to them."""
        if Counter(dereg_list) - Counter(self.regions):
            raise self.fabric.error(Kind.NOT_FOUND)
        for region in dereg_list:
            self.regions.remove(region)

    # ----------------------------------------------------------------------------------------------- peers

    def get_agent_metadata(self) -> bytes:
        return self.fabric.publish(self)

    def add_remote_agent(self, metadata: bytes) -> bytes:
        """The name as bytes, which is what NIXL 1.5.1 answers although its annotation says str."""
        with self.fabric.lock:
            peer, regions, whole = self.fabric.read_metadata(metadata)
            link = self.links.get(peer.name)
            if not whole:
                # A blob that ends early costs the good registration as well, and the name for ever.
                self.poisoned.add(peer.name)
                self._unlink(peer.name)
                raise self.fabric.error(Kind.NOT_FOUND)
            if peer.name == self.name or peer.name in self.poisoned:
                raise self.fabric.error(Kind.INVALID_PARAM)
            if link is None:
                if not peer.alive:
                    raise self.fabric.error(Kind.BACKEND)
                self.links[peer.name] = Link(self, peer, list(regions))
            elif link.peer is peer:
                link.regions += (region for region in regions if region not in link.regions)
            else:
                raise self.fabric.error(Kind.NOT_ALLOWED)
            self.fabric.connects.append((self.name, peer.name))
            return peer.name.encode()

    def remove_remote_agent(self, agent: str) -> None:
        """Never raises. What is in flight raises from now on, while its bytes go on landing."""
        with self.fabric.lock:
            self._unlink(agent)

    def check_remote_metadata(self, agent: str) -> bool:
        return agent in self.links

    def _unlink(self, name: str) -> None:
        if name != self.name and name in self.links:
            self.links.pop(name).removed = True

    # ----------------------------------------------------------------------------------------- descriptors

    def prep_xfer_dlist(
        self, agent_name: str, xfer_list: Rows | Sequence[tuple[int, int, int]], mem_type: str
    ) -> ScriptedDlist:
        rows = _rows(xfer_list)
        if not rows:
            raise IndexError("index 0 is out of bounds for axis 0 with size 0")
        link = None if agent_name in (INIT_AGENT, "") else self._link(agent_name)
        return ScriptedDlist(link, self._known(link, rows, MEMORY[mem_type]))

    def release_dlist_handle(self, handle: ScriptedDlist) -> None:
        handle.released = True

    def get_xfer_descs(self, descs: Rows | Sequence[tuple[int, int, int]], mem_type: str) -> ScriptedDescs:
        rows = _rows(descs)
        if not rows:
            raise IndexError("list index out of range")
        return ScriptedDescs(tuple((address, length, device) for address, length, device in rows), MEMORY[mem_type])

    def _link(self, name: str) -> Link:
        if name not in self.links:
            raise self.fabric.error(Kind.NOT_FOUND)
        return self.links[name]

    def _known(self, link: Link | None, rows: Iterable[Sequence[int]], memory: str) -> tuple[Span, ...]:
        """The blocks that the rows name; each lies within one registration, or NIXL knows no backend for it."""
        regions = self.regions if link is None else link.regions
        blocks: list[Span] = []
        for address, length, device, stride, count in (_five(row) for row in rows):
            starts = [address + stride * number for number in range(count)]
            known = all(_covered(regions, start, length, device, memory) for start in starts)
            if stride < length or count < 1 or not known:
                raise self.fabric.error(Kind.NOT_FOUND)
            blocks += [(start, length) for start in starts]
        return tuple(blocks)

    # ------------------------------------------------------------------------------------------- transfers

    def make_prepped_xfer(
        self,
        operation: Operation,
        local_xfer_side: ScriptedDlist,
        local_indices: Indices | Sequence[int],
        remote_xfer_side: ScriptedDlist,
        remote_indices: Indices | Sequence[int],
        notif_msg: bytes = b"",
    ) -> ScriptedHandle:
        link = remote_xfer_side.link
        peer = "" if link is None else link.peer.name
        with self.fabric.lock:
            for side in (local_xfer_side, remote_xfer_side):
                if side.released:
                    raise self.fabric.crime(f"{self.name}: a released descriptor list was used for a transfer")
            self._strike(Point.MAKE, peer, notif_msg)
            if link is None or local_xfer_side.link is not None:
                raise self._raised(Point.MAKE, Kind.INVALID_PARAM, peer, message=notif_msg)
            if link.removed:
                raise self._raised(Point.MAKE, Kind.NOT_FOUND, peer, message=notif_msg)
            local = _picked(local_xfer_side.blocks, local_indices)
            remote = _picked(remote_xfer_side.blocks, remote_indices)
            return self._make(link, operation, local, remote, notif_msg)

    def initialize_xfer(
        self,
        operation: Operation,
        local_descs: ScriptedDescs,
        remote_descs: ScriptedDescs,
        remote_agent: str,
        notif_msg: bytes = b"",
    ) -> ScriptedHandle:
        with self.fabric.lock:
            self._strike(Point.MAKE, remote_agent, notif_msg)
            if remote_agent not in self.links:
                raise self._raised(Point.MAKE, Kind.NOT_FOUND, remote_agent, message=notif_msg)
            link = self.links[remote_agent]
            if [length for _, length, _ in local_descs.rows] != [length for _, length, _ in remote_descs.rows]:
                raise self._raised(Point.MAKE, Kind.INVALID_PARAM, remote_agent, message=notif_msg)
            try:
                local = self._known(None, local_descs.rows, local_descs.memory)
                remote = self._known(link, remote_descs.rows, remote_descs.memory)
            except self.fabric.errors[Kind.NOT_FOUND.value]:
                raise self._raised(Point.MAKE, Kind.NOT_FOUND, remote_agent, message=notif_msg) from None
            return self._make(link, operation, local, remote, notif_msg)

    def _make(
        self,
        link: Link,
        operation: Operation,
        local: tuple[Span, ...] | None,
        remote: tuple[Span, ...] | None,
        message: bytes,
    ) -> ScriptedHandle:
        writes = WRITES[operation]
        peer = link.peer.name
        if not local or not remote or [length for _, length in local] != [length for _, length in remote]:
            raise self._raised(Point.MAKE, Kind.INVALID_PARAM, peer, message=message)
        source, target = (local, remote) if writes else (remote, local)
        cargo = Cargo(link, tuple(zip(source, target, strict=True)))
        handle = self.fabric.adopt(cargo, operation, message)
        self.log(Point.MAKE, peer, "made", handle, message=message)
        return handle

    def transfer(self, handle: ScriptedHandle, notif_msg: bytes = b"") -> str:
        link = handle.cargo.link
        with self.fabric.lock:
            self._forbid_released(Point.POST, handle)
            state = handle.state
            # A plan strikes only where the answer is open: at the first post.
            fault = self._struck(Point.POST) if state is HandleState.CREATED else None
            if fault is not None:
                self._raise_untouched(fault, handle)
            if link.removed:
                raise self._raised(Point.POST, Kind.NOT_FOUND, link.peer.name, handle)
            if handle.unsettled:
                raise self._raised(Point.POST, Kind.REPOST_ACTIVE, link.peer.name, handle)
            if link.broken or handle.outcome is not None or fault is not None:
                return self._reject(handle, fault)
            if state is HandleState.DONE:
                handle.machine, handle.told = SpecHandle(), False  # NIXL runs a completed transfer again
            handle.message = notif_msg or handle.message
            handle.machine.fire(HandleEvent.ACCEPTED)
            handle.cargo.landed = False
            self.fabric.afloat.append(handle.cargo)
            if self.fabric.done_at_post:
                self.fabric.finish(handle)
            if handle.state is HandleState.DONE:
                self._complete(handle)
            return self._answer(Point.POST, handle)

    def _reject(self, handle: ScriptedHandle, fault: Fault | None) -> str:
        """A post that fails proves nothing: where a fault struck in the middle of it, half of the bytes are there."""
        link = handle.cargo.link
        if fault is not None:
            handle.cargo.land_half()
            handle.cargo.adrift = True
            self.fabric.afloat.append(handle.cargo)
            handle.outcome = fault.kind
            link.cut = link.cut or fault.kind is Kind.REMOTE_DISCONNECT
        elif handle.outcome is None:
            handle.outcome = Kind.REMOTE_DISCONNECT
        if handle.state is not HandleState.IN_FLIGHT:
            handle.machine.fire(HandleEvent.REJECTED)
        return self._answer(Point.POST, handle)

    def check_xfer_state(self, handle: ScriptedHandle) -> str:
        link = handle.cargo.link
        with self.fabric.lock:
            self._forbid_released(Point.CHECK, handle)
            if handle.state is HandleState.CREATED:
                raise self._raised(Point.CHECK, Kind.NOT_POSTED, link.peer.name, handle)
            if handle.told:
                return self._answer(Point.CHECK, handle)
            fault = self._struck(Point.CHECK)
            if fault is not None:
                self._raise_untouched(fault, handle)
                link.cut = link.cut or fault.kind is Kind.REMOTE_DISCONNECT
                handle.outcome = fault.kind
            if self.fabric.automatic:
                self.fabric.finish(handle)
            if handle.state is HandleState.IN_FLIGHT and handle.outcome is None and (link.removed or link.broken):
                handle.outcome = Kind.NOT_FOUND if link.removed else Kind.REMOTE_DISCONNECT
            if handle.outcome is not None:
                handle.machine.fire(HandleEvent.RAISED)
                handle.cargo.adrift = True
            elif handle.state is HandleState.DONE:
                self._complete(handle)
            return self._answer(Point.CHECK, handle)

    def _complete(self, handle: ScriptedHandle) -> None:
        """This call has found the transfer complete, so it is the one that sends the notification."""
        handle.told = True
        if handle.message:
            handle.cargo.link.peer.deliver(self.name, handle.message)

    def release_xfer_handle(self, handle: ScriptedHandle) -> None:
        """Cancels nothing. A second release does nothing, and is logged so that it can be counted."""
        with self.fabric.lock:
            self._strike(Point.RELEASE, handle.peer, handle=handle)
            self.fabric.end(handle, "released")

    # --------------------------------------------------------------------------------------- notifications

    def send_notif(self, remote_agent_name: str, notif_msg: bytes) -> None:
        with self.fabric.lock:
            self._strike(Point.NOTIFY, remote_agent_name, notif_msg)
            link = self.links.get(remote_agent_name)
            if link is None:
                raise self._raised(Point.NOTIFY, Kind.NOT_FOUND, remote_agent_name, message=notif_msg)
            if link.broken:
                raise self._raised(Point.NOTIFY, Kind.REMOTE_DISCONNECT, remote_agent_name, message=notif_msg)
            link.peer.deliver(self.name, notif_msg)
            self.log(Point.NOTIFY, remote_agent_name, "sent", message=notif_msg)

    def get_new_notifs(self) -> dict[str, list[bytes]]:
        with self.fabric.lock:
            inbox, self.inbox = self.inbox, {}
            return inbox

    def deliver(self, sender: str, message: bytes) -> None:
        if self.alive:
            self.inbox.setdefault(sender, []).append(message)

    # --------------------------------------------------------------------------------------------- answers

    def _answer(self, point: Point, handle: ScriptedHandle) -> str:
        """Say, log and fix what is decided about the handle; raise where that is an error."""
        if handle.outcome is None:
            answer = "DONE" if handle.told else "PROC"
        else:
            handle.told = True
            if handle.outcome not in RETURNED_BY_TRANSPORT:
                raise self._raised(point, handle.outcome, handle.peer, handle)
            answer = "ERR" if handle.outcome is Kind.RETURNS_ERR else NONSENSE
        self.log(point, handle.peer, answer, handle)
        return answer

    def _struck(self, point: Point) -> Fault | None:
        return self.fabric.plan.take(point) if self.scripted else None

    def _strike(self, point: Point, peer: str, message: bytes = b"", handle: ScriptedHandle | None = None) -> None:
        """Raise the fault that is planned for a call which only ever raises or succeeds."""
        fault = self._struck(point)
        if fault is not None:
            if fault.kind is Kind.REMOTE_DISCONNECT and peer in self.links:
                self.links[peer].cut = True
            raise self._raised(point, fault.kind, peer, handle, message)

    def _raise_untouched(self, fault: Fault, handle: ScriptedHandle) -> None:
        """Errors that are not the transport's say nothing about the handle, which stays as it is."""
        if fault.kind in PROGRAMMING_KINDS or fault.kind in BASE_KINDS:
            raise self._raised(fault.point, fault.kind, handle.peer, handle)

    def _raised(
        self, point: Point, kind: Kind, peer: str, handle: ScriptedHandle | None = None, message: bytes = b""
    ) -> BaseException:
        """The logged error, to be raised by the caller."""
        error = self.fabric.error(kind)
        self.log(point, peer, "raised", handle, error, message)
        noticed = kind is Kind.REMOTE_DISCONNECT and peer in self.links and self.links[peer].broken
        if noticed and self.fabric.drops_metadata:
            self._unlink(peer)
        return error

    def _forbid_released(self, point: Point, handle: ScriptedHandle) -> None:
        if handle.released:
            error = self.fabric.crime(f"{self.name}: {handle!r} was released before this {point.value}")
            self.log(point, handle.peer, "raised", handle, error)
            raise error

    def log(
        self,
        point: Point,
        peer: str,
        answer: str,
        handle: ScriptedHandle | None = None,
        error: BaseException | None = None,
        message: bytes = b"",
    ) -> None:
        number = None if handle is None else handle.number
        self.fabric.events.append(TransportEvent(point, self.name, peer, number, answer, error, message))


class Fabric:
    """Every agent of a test, what connects them, and the strings to pull.

    With ``automatic`` a transfer completes by itself at its first check; without, it stays PROC until ``finish`` or
    ``fail``. ``drops_metadata`` makes a disconnect erase the peer's metadata once it is noticed, as nixl 0.6 to 1.0 do.
    """

    def __init__(
        self,
        errors: Mapping[str, type[Exception]] = STAND_INS,
        *,
        drops_metadata: bool = False,
        automatic: bool = True,
    ) -> None:
        self.errors: Final = errors
        self.drops_metadata: Final = drops_metadata
        self.automatic = automatic
        self.done_at_post = False
        """``transfer`` copies everything and answers DONE itself."""
        self.plan: Final = FaultPlan()
        """Strikes only at agents made with ``scripted=True``."""
        self.events: Final[list[TransportEvent]] = []
        self.connects: Final[list[tuple[str, str]]] = []
        """Each accepted ``add_remote_agent``, as the agent's name and the peer's."""
        self.crimes: Final[list[str]] = []
        """Each use after release, kept for senders that swallow the error."""
        self.agents: Final[dict[str, ScriptedAgent]] = {}
        self.handles: Final[WeakValueDictionary[int, ScriptedHandle]] = WeakValueDictionary()
        """The handles that are not released, by number; weak, because the last reference must be the sender's."""
        self.afloat: Final[list[Cargo]] = []
        """What was posted and has not landed."""
        self.lock: Final = RLock()
        self._blobs: Final[dict[bytes, tuple[ScriptedAgent, tuple[Region, ...]]]] = {}
        self._made = 0

    # ------------------------------------------------------------------------------------ for the test or the kit

    def agent(self, name: str, *, scripted: bool = False) -> ScriptedAgent:
        """Start a process with one agent. A name that exists is a restart: what the old one knew is gone."""
        with self.lock:
            old = self.agents.get(name)
            if old is not None:
                old.alive = False
            self.agents[name] = self.start(name, 0 if old is None else old.generation + 1, scripted)
            return self.agents[name]

    def start(self, name: str, generation: int, scripted: bool) -> ScriptedAgent:
        """The new agent itself, apart so that a test can start another class."""
        return ScriptedAgent(self, name, generation, scripted)

    def in_flight(self, agent: str) -> list[ScriptedHandle]:
        """The handles that the agent has posted and holds, and that nothing has settled yet, in posting order."""
        held = {handle.cargo: handle for handle in self.handles.values() if handle.agent == agent and handle.unsettled}
        return [held[cargo] for cargo in self.afloat if cargo in held]

    def finish(self, handle: ScriptedHandle) -> None:
        """All bytes land, and the next check answers DONE. Nothing happens to a settled handle or a stopped peer's."""
        with self.lock:
            if handle.unsettled and not handle.cargo.link.peer.stopped:
                self._land(handle.cargo)
                handle.machine.fire(HandleEvent.FINISHED)

    def fail(self, handle: ScriptedHandle, kind: Kind) -> None:
        """Every check from now on answers this error. A disconnect is never one handle's own: it cuts the connection.

        Nothing happens to a handle that is settled already.
        """
        with self.lock:
            if not handle.unsettled:
                return
            if kind is Kind.REMOTE_DISCONNECT:
                handle.cargo.link.cut = True
            else:
                handle.outcome = kind

    def disconnect(self, a: str, b: str) -> None:
        """Cut a's connection to b; both processes live on. Only remove and add make a new one."""
        link = self.agents[a].links.get(b)
        if link is not None:
            link.cut = True

    def kill(self, name: str) -> None:
        self.agents[name].alive = False

    def stop(self, name: str) -> None:
        """The process stands still: everything towards it is PROC until ``cont``, and nobody is told."""
        self.agents[name].stopped = True

    def cont(self, name: str) -> None:
        self.agents[name].stopped = False

    def land_late(self, a: str, b: str) -> int:
        """Land what a posted to b and will not hear of again, from the source as it is now. Returns the bytes."""
        with self.lock:
            late = [
                cargo
                for cargo in self.afloat
                if (cargo.link.agent.name, cargo.link.peer.name) == (a, b)
                and (cargo.adrift or cargo.link.broken or cargo.link.removed)
                and cargo.link.peer.alive
                and not cargo.link.peer.stopped
            ]
            return sum(self._land(cargo) for cargo in late)

    # ------------------------------------------------------------------------------------------- for its agents

    def adopt(self, cargo: Cargo, operation: Operation, message: bytes) -> ScriptedHandle:
        handle = ScriptedHandle(self, self._made, cargo, operation, message)
        self._made += 1
        self.handles[handle.number] = handle
        return handle

    def end(self, handle: ScriptedHandle, answer: str) -> None:
        """Release a handle. What it has in flight goes on landing, and its notification is never sent."""
        with self.lock:
            if not handle.released:
                handle.released = True
                handle.cargo.adrift = handle.cargo.adrift or handle.state is HandleState.IN_FLIGHT
                handle.machine.fire(HandleEvent.RELEASED)
                self.handles.pop(handle.number, None)
            handle.cargo.link.agent.log(Point.RELEASE, handle.peer, answer, handle)

    def publish(self, agent: ScriptedAgent) -> bytes:
        """The agent's metadata as it is now: its name, its process, what it has registered."""
        blob = _header(agent) + repr(agent.regions).encode() + b"|end"
        self._blobs[blob] = (agent, tuple(agent.regions))
        return blob

    def read_metadata(self, blob: bytes) -> tuple[ScriptedAgent, tuple[Region, ...], bool]:
        """Whose metadata it is, what it registers, and whether the blob is whole; an unreadable one is a mismatch."""
        if blob in self._blobs:
            agent, regions = self._blobs[blob]
            return agent, regions, True
        for agent, _ in self._blobs.values():
            if blob.startswith(_header(agent)):
                return agent, (), False
        raise self.error(Kind.MISMATCH)

    def error(self, kind: Kind) -> BaseException:
        return make_error(kind, self.errors)

    def crime(self, what: str) -> UseAfterRelease:
        self.crimes.append(what)
        return UseAfterRelease(what)

    def _land(self, cargo: Cargo) -> int:
        self.afloat.remove(cargo)
        return cargo.land()


def _header(agent: ScriptedAgent) -> bytes:
    return f"scripted-agent|{agent.name}|{agent.generation}|".encode()


def _rows(table: Rows | Sequence[Sequence[int]]) -> Sequence[Sequence[int]]:
    return table.tolist() if isinstance(table, Rows) else table


def _five(row: Sequence[int]) -> tuple[int, int, int, int, int]:
    """A row as (address, bytes, device, stride, count)."""
    if len(row) == 3:
        return row[0], row[1], row[2], row[1], 1
    if len(row) == 5:
        return row[0], row[1], row[2], row[3], row[4]
    raise TypeError(f"descriptors have 3 or 5 columns, not {len(row)}")


def _covered(regions: Sequence[Region], start: int, length: int, device: int, memory: str) -> bool:
    return any(
        base <= start and start + length <= base + size and (device, memory) == (region_device, region_memory)
        for base, size, region_device, region_memory in regions
    )


def _picked(blocks: Sequence[Span], indices: Indices | Sequence[int]) -> tuple[Span, ...] | None:
    """The blocks that the indices name, or None where one names none."""
    numbers = indices.tolist() if isinstance(indices, Indices) else indices
    if not all(0 <= number < len(blocks) for number in numbers):
        return None
    return tuple(blocks[number] for number in numbers)
