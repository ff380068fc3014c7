"""The scripted agent: a NIXL agent without NIXL, over a fabric that obeys whoever runs the test.

It is a *verified fake*: ``tests/kit/test_verified_fake.py``, and ``test_verified_reads.py`` for READ, run against it
and against two real agents. What it refuses and what it raises is what nixl 1.5.1 was seen to do. These rules shape
everything else:

* A connection (``Link``) fails as a whole, and stays failed until it is removed and added again.
* An answer is never taken back: a transfer that was answered DONE, or with an error, is answered so for ever.
* An error, a release and a removal are not the end of the bytes: ``Fabric.land_late`` makes them land afterwards, from
  the source as it is then. A READ lands in its own initiator's pages. Nor is the death of a READ's holder: what it had
  sent before lands by the reader's next calls (``Fabric.send_ahead``), until one of them answers the error.
* The notification that travels with a transfer is sent by the sender's own call that finds the transfer complete: a
  check, or the release of a handle of which all is in place and which no check has found so.
* Use after release, which crashes the real process, raises ``UseAfterRelease`` and is kept in ``handle_misuses``.

Addresses are real: the fabric copies bytes with ``memmove``, so the caller keeps the buffers alive.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kvsender_spec.faults import STAND_INS, Kind
from kvsender_spec.kit.scripted.agent import ScriptedAgent
from kvsender_spec.kit.scripted.copies import WRITES, Link, ScriptedDescs, ScriptedDlist, ScriptedHandle
from kvsender_spec.kit.scripted.ground import Ground, TransportEvent, UseAfterRelease

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


class Fabric(Ground):
    """Every agent of a test, what connects them, and the controls for whoever runs the test.

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
        super().__init__(errors, drops_metadata=drops_metadata, automatic=automatic)
        self.agents: Final[dict[str, ScriptedAgent]] = {}

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
        held = {handle.copy: handle for handle in self.handles.values() if handle.agent == agent and handle.unsettled}
        return [held[copy] for copy in self.copies_in_flight if copy in held]

    def begin(self, handle: ScriptedHandle, share: float = 1.0) -> None:
        """The first bytes land, up to a share of all, from the source as it is now; checks go on answering PROC.

        The bytes of a READ may all be there long before DONE: over shared memory the reader copies them itself, and
        then waits for its holder. Nothing happens to a handle that is settled, or whose peer is stopped.
        """
        with self.lock:
            if handle.unsettled and not handle.copy.link.peer.stopped:
                count = handle.copy.land_some(share)
                if count and self.on_landed is not None:
                    self.on_landed(handle, count, False)

    def send_ahead(self, handle: ScriptedHandle, share: float = 1.0) -> None:
        """The holder of a READ sends the first bytes, up to a share of all, as they are now; they land later.

        They do so even where the holder dies, is stopped or refills its pages meanwhile, and where the reader lets go
        of the transfer: over tcp they are in the reader's own socket, and land by the reader's next call. Nothing
        happens to a WRITE, to what has landed, or where the holder does not move.
        """
        with self.lock:
            copy = handle.copy
            reads = not WRITES[handle.operation] and copy in self.copies_in_flight
            if reads and copy.link.peer.moves and not copy.link.cut:
                copy.send_some(share)

    def fail(self, handle: ScriptedHandle, kind: Kind) -> None:
        """Every check from now on answers this error. A disconnect is never one handle's own: it cuts the connection.

        Nothing happens to a handle that is settled already.
        """
        with self.lock:
            if not handle.unsettled:
                return
            if kind is Kind.REMOTE_DISCONNECT:
                handle.copy.link.cut = True
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
        """The process is stopped: everything towards it is PROC until ``cont``, and nobody is told."""
        self.agents[name].stopped = True

    def cont(self, name: str) -> None:
        self.agents[name].stopped = False

    def land_late(self, a: str, b: str) -> int:
        """Land what a posted to b and will not hear of again, from the source as it is now. Returns the bytes.

        Of a peer that is dead or stopped only that lands which it has sent before (``send_ahead``). A READ whose living
        holder was reported as disconnected may land here; over tcp it was not seen to, elsewhere nobody has looked.
        """
        with self.lock:
            late = [
                copy
                for copy in self.copies_in_flight
                if (copy.link.agent.name, copy.link.peer.name) == (a, b)
                and (copy.orphaned or copy.link.broken or copy.link.removed)
            ]
            moving = [copy for copy in late if copy.link.peer.moves]
            left = [copy for copy in late if not (copy.link.peer.moves or copy.link.cut)]
            return sum(map(self._land, moving)) + sum(copy.arrive() for copy in left)

    def shut_down(self) -> None:
        """The run is over: every connection is cut, and nobody who checks a transfer is kept waiting."""
        with self.lock:
            for agent in self.agents.values():
                for link in agent.links.values():
                    link.cut = True
        self.parking.close()

    def forget(self) -> None:
        """Nobody will ask any more. What refers to each other lets go, so that no garbage is left."""
        self.on_event = self.on_connect = self.on_landed = self.on_reach = None
        for agent in self.agents.values():
            for made in tuple(agent.lists):
                made.blocks = ()
            agent.links.clear()
        self.agents.clear()
        self.events.clear()
        self.copies_in_flight.clear()
