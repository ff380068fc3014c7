"""How a scripted agent answers: what it refuses, which planned fault strikes, and what is logged of each call."""

from __future__ import annotations

from threading import RLock
from typing import Final
from weakref import WeakSet

from kvsender_spec.faults import BASE_KINDS, NONSENSE, PROGRAMMING_KINDS, RETURNED_BY_TRANSPORT, Fault, Kind, Point
from kvsender_spec.kit.scripted.copies import Link, Region, ScriptedDlist, ScriptedHandle, covered
from kvsender_spec.kit.scripted.ground import Ground, TransportEvent, WaitedTooLong

_WORKERS: Final = 4
"""All workers together may ask so many times as often, between two steps, as a call of the caller's."""


class Answering:
    """One process, what its agent knows, and how it answers; what the calls do is ``ScriptedAgent``'s."""

    def __init__(self, fabric: Ground, name: str, generation: int, scripted: bool) -> None:
        self.fabric: Final = fabric
        self.name: Final = name
        self.generation: Final = generation
        self.scripted: Final = scripted
        self.alive = True
        self.stopped = False
        self.regions: list[Region] = []
        # An agent knows itself from the start, and nothing makes it forget.
        self.links: dict[str, Link] = {name: Link(self, self, self.regions)}
        self.lists: Final[WeakSet[ScriptedDlist]] = WeakSet()
        """The descriptor lists that were prepared; dropping the last reference releases one, as in NIXL."""
        self.poisoned: set[str] = set()
        self.has_registered = False
        """NIXL has metadata of its own agent from its first registration on, and keeps it."""
        self.hollow = False
        """Its list of registrations is there and empty, since one was refused: its metadata cannot be added."""
        self.deregistered = False
        self.inbox: dict[str, list[bytes]] = {}
        self._aim: int | None = None
        """The first address at the peer that the transfer which is being made is about."""

    @property
    def moves(self) -> bool:
        return self.alive and not self.stopped

    @property
    def held(self) -> int:
        """How many descriptor lists and registrations it holds."""
        return len(self.regions) + sum(not made.released for made in self.lists)

    def deliver(self, sender: str, message: bytes) -> None:
        if self.alive:
            self.inbox.setdefault(sender, []).append(message)

    def _unlink(self, name: str) -> None:
        if name != self.name and name in self.links:
            self.links.pop(name).removed = True

    def _outlived(self, link: Link) -> bool:
        """The agent itself has removed the link while it was well, or has a newer one to the same peer that is."""
        newer = self.links.get(link.peer.name)
        return link.given_up or (link.removed and newer is not None and not newer.broken)

    def _answer(self, point: Point, handle: ScriptedHandle) -> str:
        """Say, log and fix what is decided about the handle; raise where that is an error."""
        if handle.outcome is None:
            answer = "DONE" if handle.told else "PROC"
        else:
            handle.told = True
            if handle.outcome not in RETURNED_BY_TRANSPORT:
                own = handle.outcome is Kind.NOT_FOUND and not handle.injected and handle.copy.link.given_up
                raise self._raised(point, handle.outcome, handle.peer, handle=handle, injected=handle.injected, own=own)
            answer = "ERR" if handle.outcome is Kind.RETURNS_ERR else NONSENSE
        self._log(point, handle.peer, answer, handle=handle)
        return answer

    def _reached(self, point: Point) -> RLock:
        """Somebody asks for this: whoever waits for that is told, without the lock under which it is answered."""
        if self.scripted:
            if self.fabric.on_reach is not None:
                self.fabric.on_reach(point)
            self._count(point.value)
        return self.fabric.lock

    def _count(self, what: str, *, workers: bool = True) -> None:
        """Neither a call of the caller's nor a worker may go on asking for ever (KS-3.7)."""
        fabric = self.fabric
        if fabric.abandoned:
            raise WaitedTooLong(f"{what}: the call did not come back")
        if fabric.most_asked is None:
            return
        if not fabric.parking.is_caller:
            if not workers:
                return  # whoever waits for notifications goes on asking for them
            fabric.asked_by_workers += 1
            if fabric.asked_by_workers > _WORKERS * fabric.most_asked:
                fabric.parking.hold()
                # The run is over. A worker that asks again all the same is ended, without a word on stderr.
                if fabric.asked_by_workers > 2 * _WORKERS * fabric.most_asked:
                    raise SystemExit
                raise fabric.error(Kind.CANCELLED)
        else:
            fabric.asked += 1
            if fabric.asked > fabric.most_asked:
                raise WaitedTooLong(f"{what}: asked {fabric.most_asked} times within one call")

    def _struck(self, point: Point) -> Fault | None:
        if not self.scripted:
            return None
        # An interrupt or an exit reaches the thread that runs the program, never a worker.
        return self.fabric.plan.take(point, () if self.fabric.parking.is_caller else BASE_KINDS)

    def _strike(self, point: Point, peer: str, message: bytes = b"", handle: ScriptedHandle | None = None) -> None:
        """Raise the fault that is planned for a call which only ever raises or succeeds."""
        fault = self._struck(point)
        if fault is not None:
            if fault.kind is Kind.REMOTE_DISCONNECT and peer in self.links:
                self.links[peer].cut = True
            raise self._raised(point, fault.kind, peer, message, handle, injected=True)

    def _raise_untouched(self, fault: Fault, handle: ScriptedHandle) -> None:
        """Errors that are not the transport's say nothing about the handle, which stays as it is."""
        if fault.kind in PROGRAMMING_KINDS or fault.kind in BASE_KINDS:
            raise self._raised(fault.point, fault.kind, handle.peer, handle=handle, injected=True)

    def _raised(
        self,
        point: Point,
        kind: Kind,
        peer: str,
        message: bytes = b"",
        handle: ScriptedHandle | None = None,
        *,
        injected: bool = False,
        own: bool = False,
    ) -> BaseException:
        """The logged error, to be raised by the caller. ``own``: its own earlier call has brought it about."""
        error = self.fabric.error(kind, injected=injected)
        self._log(point, peer, error, message, handle, refused=own)
        noticed = kind is Kind.REMOTE_DISCONNECT and peer in self.links and self.links[peer].broken
        if noticed and self.fabric.drops_metadata:
            self._unlink(peer)
        return error

    def _refused(self, kind: Kind, peer: str, message: bytes) -> BaseException:
        """The logged error of a transfer that cannot be made of these arguments, whatever the world is like."""
        error = self.fabric.errors[kind.value]("no transfer can be made of these descriptors")
        self._log(Point.MAKE, peer, error, message, refused=True)
        return error

    def _handle_misuse(
        self, point: Point, peer: str, what: str, message: bytes = b"", handle: ScriptedHandle | None = None
    ) -> BaseException:
        """The logged error of what reads freed memory in NIXL: it crashes there, or not, or acts on something else."""
        error = self.fabric.handle_misuse(f"{self.name}: {what}")
        self._log(point, peer, error, message, handle)
        return error

    def _forbid_misuse(self, point: Point, handle: ScriptedHandle) -> None:
        if handle.released:
            what = f"{handle!r} was released before this {point.value}"
        elif point is Point.POST and self.deregistered and not covered(self.regions, handle.local):
            what = f"the local memory of {handle!r} was deregistered before this {point.value}"
        else:
            return
        raise self._handle_misuse(point, handle.peer, what, handle=handle)

    def _log(
        self,
        point: Point,
        peer: str,
        answer: str | BaseException,
        message: bytes = b"",
        handle: ScriptedHandle | None = None,
        *,
        refused: bool = False,
    ) -> None:
        number, target = None if handle is None else handle.number, self._aim if point is Point.MAKE else None
        said, error = (answer, None) if isinstance(answer, str) else ("raised", answer)
        self.fabric.log(TransportEvent(point, self.name, peer, number, said, error, message, target, refused))
