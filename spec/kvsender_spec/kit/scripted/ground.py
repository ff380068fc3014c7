"""What scripted agents stand on: the log of their calls, the handles, the bytes in flight, and how errors are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from threading import RLock
from typing import Final
from weakref import WeakValueDictionary

import msgspec

from kvsender_spec.contract import Operation
from kvsender_spec.faults import STAND_INS, FaultPlan, Kind, Point, make_error
from kvsender_spec.kit.scripted.copies import Copy, Process, Region, ScriptedHandle, covered
from kvsender_spec.kit.scripted.metadata import Metadata, published, read, sections
from kvsender_spec.kit.scripted.parking import Parking
from kvsender_spec.machine import HandleEvent, HandleState

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


class WaitedTooLong(BaseException):
    """A call of the caller's goes on asking the transport. It is no Exception, so that no handler for errors of the
    transport takes it for one, and the call comes to an end.
    """


class UseAfterRelease(AssertionError):
    """A released handle, list or registration was used. The real library reads freed memory there, and may crash."""


class TransportEvent(msgspec.Struct, frozen=True):
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
    """Raised at the arguments of the call, or because of an earlier call of the same agent: nothing else went wrong."""


class Ground:
    """What every agent of a fabric uses of it. The fabric itself adds the agents, and what can be done to them."""

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
        self.handle_misuses: Final[list[str]] = []
        """Each use after release, kept for senders that swallow the error."""
        self.handles: Final[WeakValueDictionary[int, ScriptedHandle]] = WeakValueDictionary()
        """The handles that are not released, by number; weak, because the last reference must be the sender's."""
        self.handles_held = 0
        """How many handles these are. The garbage collector may not have found yet that nobody has one any more."""
        self.copies_in_flight: Final[list[Copy]] = []
        """What was posted and has not landed."""
        self.lock: Final = RLock()
        self.asked = 0
        """How often the caller's current call has asked a scripted agent for anything."""
        self.asked_by_workers = 0
        """How often the workers have, since they last were idle."""
        self.most_asked: int | None = None
        """How often it may."""
        self.abandoned = False
        """A call has not come back: whoever goes on asking is stopped."""
        self.parking: Final = Parking(self.lock)
        self.on_event: Callable[[TransportEvent], None] | None = None
        """Told of each call that an agent received, when it is answered."""
        self.on_connect: Callable[[str, str, BaseException | None], None] | None = None
        """Told of each connection that is made or refused: the agent's name, the peer's, and what was raised."""
        self.on_landed: Callable[[ScriptedHandle, int, bool], None] | None = None
        """Told when bytes of a transfer land: how many, and whether these are all."""
        self.on_reach: Callable[[Point], None] | None = None
        """Called when a scripted agent is asked for something, before anything is done and without a lock."""
        self._published: Final[dict[tuple[bytes, ...], Metadata]] = {}
        self._made = 0

    def finish(self, handle: ScriptedHandle) -> None:
        """All bytes land, and the next check answers DONE, unless the peer is gone by then (see ``check_xfer_state``).

        Nothing happens to a handle that is settled, or whose peer is stopped.
        """
        with self.lock:
            if handle.unsettled and not handle.copy.link.peer.stopped:
                count = self._land(handle.copy)
                handle.machine.fire(HandleEvent.FINISHED)
                if self.on_landed is not None:
                    self.on_landed(handle, count, True)

    # ------------------------------------------------------------------------------------------- for its agents

    def arrive(self, handle: ScriptedHandle) -> None:
        """What the holder of a READ had sent before it died or was stopped lands: it is in the reader's own socket.

        Where this is everything, the transfer is complete although its holder is gone.
        """
        copy, link = handle.copy, handle.copy.link
        if link.cut or link.removed or link.peer.moves:
            return
        for sibling in self.copies_in_flight:
            if sibling.link is link and sibling is not copy:
                sibling.arrive()  # the same socket: nothing of the link is left in it once an error is answered
        if handle.state is not HandleState.IN_FLIGHT or handle.outcome is not None or not copy.sent:
            return
        whole = copy.sent == copy.size
        count = self._land(copy) if whole else copy.arrive()
        if whole:
            handle.machine.fire(HandleEvent.FINISHED)
        if count and self.on_landed is not None:
            self.on_landed(handle, count, whole)

    def adopt(self, copy: Copy, operation: Operation, message: bytes) -> ScriptedHandle:
        handle = ScriptedHandle(self._made, copy, operation, message, partial(self.end, answer="dropped"))
        self._made += 1
        self.handles[handle.number] = handle
        self.handles_held += 1
        return handle

    def end(self, handle: ScriptedHandle, answer: str) -> None:
        """Release a handle. What it has in flight goes on landing, and its notification is never sent.

        Where all is in place and no check has said so, the release finds that out, and sends it as a check does.
        """
        with self.lock:
            if not handle.released:
                self.arrive(handle)
                link = handle.copy.link
                unsaid = handle.state is HandleState.DONE and not handle.told and handle.outcome is None
                if unsaid and handle.message and not link.broken and not link.removed:
                    link.peer.deliver(handle.agent, handle.message)
                handle.released = True
                handle.copy.orphaned = handle.copy.orphaned or handle.state is HandleState.IN_FLIGHT
                handle.machine.fire(HandleEvent.RELEASED)
                self.handles.pop(handle.number, None)
                self.handles_held -= 1
            self.log(TransportEvent(Point.RELEASE, handle.agent, handle.peer, handle.number, answer))

    def in_use(self, agent: Process, before: Sequence[Region]) -> list[ScriptedHandle]:
        """The handles whose bytes are still to land, and whose memory was registered before and is not any more."""
        return [
            handle
            for handle in self.handles.values()
            if handle.copy.link.agent is agent
            and handle.copy in self.copies_in_flight
            and covered(before, handle.local)
            and not covered(agent.regions, handle.local)
        ]

    def publish(self, agent: Process) -> bytes:
        """The agent's metadata as it is now: its name, its process, what it has registered."""
        parts = sections(agent)
        self._published[parts] = published(agent)
        return b"".join(parts)

    def read_metadata(self, blob: bytes) -> Metadata:
        """Whose metadata it is, what it registers, and what a blob that is not whole costs.

        Raises:
            nixlMismatchError: nobody's name can be read.
        """
        metadata = read(blob, self._published.items())
        if metadata is None:
            raise self.error(Kind.MISMATCH)
        return metadata

    def log(self, event: TransportEvent) -> None:
        if self.on_event is None:
            self.events.append(event)
            return
        # Whoever is told keeps what is wanted of an error. The object holds, by its traceback, the frames that it went
        # through, and in them a handle that the sender may have dropped.
        self.events.append(event if event.error is None else msgspec.structs.replace(event, error=None))
        self.on_event(event)

    def error(self, kind: Kind, *, injected: bool = False) -> BaseException:
        """An error object; what nobody has injected says in its own words what is wrong."""
        return make_error(kind, self.errors, f"injected {kind.value}" if injected else _WORDS.get(kind, kind.value))

    def connected(self, agent: str, peer: str, error: BaseException | None = None, *, anew: bool = True) -> None:
        """``add_remote_agent`` was called; ``anew``: there was no connection before, and now there is."""
        if error is None:
            self.connects.append((agent, peer))
        if self.on_connect is not None and (anew or error is not None):
            self.on_connect(agent, peer, error)

    def handle_misuse(self, what: str) -> UseAfterRelease:
        self.handle_misuses.append(what)
        return UseAfterRelease(what)

    def _land(self, copy: Copy) -> int:
        self.copies_in_flight.remove(copy)
        return copy.land()
