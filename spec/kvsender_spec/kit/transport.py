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

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import RLock
from typing import Final
from weakref import WeakValueDictionary

from kvsender_spec.contract import Operation
from kvsender_spec.faults import STAND_INS, FaultPlan, Kind, Point, make_error
from kvsender_spec.kit.agent import ScriptedAgent
from kvsender_spec.kit.cargo import Cargo, Link, Region, ScriptedDescs, ScriptedDlist, ScriptedHandle
from kvsender_spec.kit.threads import Parking
from kvsender_spec.machine import HandleEvent, HandleState

__all__ = [
    "Fabric",
    "Link",
    "ScriptedAgent",
    "ScriptedDescs",
    "ScriptedDlist",
    "ScriptedHandle",
    "TransportEvent",
    "UseAfterRelease",
]


class UseAfterRelease(AssertionError):
    """A released handle, list or registration was used. The real library reads freed memory there, and may crash."""


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
    target: int | None = None
    """For MAKE the first address at the peer: whose transfer it is shows even where none was made."""
    refused: bool = False
    """Raised at the arguments of the call: nothing went wrong but the call itself."""


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
        self.parking: Final = Parking(self.lock)
        self.on_event: Callable[[TransportEvent], None] | None = None
        """Told of each call that an agent received, when it is answered."""
        self.on_connect: Callable[[str, str, BaseException | None], None] | None = None
        """Told of each ``add_remote_agent``: the agent's name, the peer's, and what it raised."""
        self.on_landed: Callable[[ScriptedHandle, int, bool], None] | None = None
        """Told when bytes of a transfer land: how many, and whether these are all."""
        self.on_reach: Callable[[Point], None] | None = None
        """Called when a scripted agent is asked for something, before anything is done and without a lock."""
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
        """All bytes land, and the next check answers DONE, unless the peer is gone by then (see ``check_xfer_state``).

        Nothing happens to a handle that is settled, or whose peer is stopped.
        """
        with self.lock:
            if handle.unsettled and not handle.cargo.link.peer.stopped:
                count = self._land(handle.cargo)
                handle.machine.fire(HandleEvent.FINISHED)
                if self.on_landed is not None:
                    self.on_landed(handle, count, True)

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

    def dismiss(self) -> None:
        """The run is over: every connection is cut, and nobody who checks a transfer is kept waiting."""
        with self.lock:
            for agent in self.agents.values():
                for link in agent.links.values():
                    link.cut = True
        self.parking.dismiss()

    # ------------------------------------------------------------------------------------------- for its agents

    def adopt(self, cargo: Cargo, operation: Operation, message: bytes) -> ScriptedHandle:
        handle = ScriptedHandle(self._made, cargo, operation, message, self._drop)
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
            self.log(Point.RELEASE, handle.agent, handle.peer, answer, handle.number)

    def _drop(self, handle: ScriptedHandle) -> None:
        self.end(handle, "dropped")

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

    def log(
        self,
        point: Point,
        agent: str,
        peer: str,
        answer: str,
        handle: int | None,
        error: BaseException | None = None,
        message: bytes = b"",
        target: int | None = None,
        *,
        refused: bool = False,
    ) -> None:
        event = TransportEvent(point, agent, peer, handle, answer, error, message, target, refused)
        self.events.append(event)
        if self.on_event is not None:
            self.on_event(event)

    def error(self, kind: Kind, *, injected: bool = False) -> BaseException:
        """An error object; what nobody has injected says in its own words what is wrong."""
        return make_error(kind, self.errors, f"injected {kind.value}" if injected else _WORDS.get(kind, kind.value))

    def connected(self, agent: str, peer: str, error: BaseException | None = None) -> None:
        if error is None:
            self.connects.append((agent, peer))
        if self.on_connect is not None:
            self.on_connect(agent, peer, error)

    def crime(self, what: str) -> UseAfterRelease:
        self.crimes.append(what)
        return UseAfterRelease(what)

    def _land(self, cargo: Cargo) -> int:
        self.afloat.remove(cargo)
        return cargo.land()


_WORDS: Final[Mapping[Kind, str]] = {
    Kind.NOT_POSTED: "the transfer was not posted",
    Kind.INVALID_PARAM: "invalid parameter",
    Kind.BACKEND: "the backend cannot do that",
    Kind.NOT_FOUND: "the agent or the memory is not known",
    Kind.MISMATCH: "the metadata cannot be read",
    Kind.NOT_ALLOWED: "another process of that name is connected",
    Kind.REPOST_ACTIVE: "the transfer is in flight",
    Kind.REMOTE_DISCONNECT: "the connection to the peer is broken",
    Kind.CANCELLED: "the run is over",
}
"""What the scripted agent says of itself, where no fault was injected."""


def _header(agent: ScriptedAgent) -> bytes:
    return f"scripted-agent|{agent.name}|{agent.generation}|".encode()
