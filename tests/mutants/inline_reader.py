"""A small reader that keeps the contract: the inline sender turned round. Readers' mutants are this one with one thing
wrong, or this one with what is wrong with a mutant of the sender.

It reads the stamps of what it was granted in a second READ, after its data are here: content with a granted stamp is
the granted content.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Final

from tests.mutants.inline import InlineAdapter, InlineSender, InlineSystem, Part

from kvsender_spec.contract import INIT_AGENT, Attribution, Operation
from kvsender_spec.kit.adapter import NUM_PAGES, Destination, Memory, NotificationKind, Peer, RoomPlan, World
from kvsender_spec.kit.scripted.fabric import ScriptedDlist, ScriptedHandle
from kvsender_spec.machine import State

STAMP: Final = Memory.STAMP_BYTES
MOST_HOLDERS: Final = 4


class GrantEnded(Exception):
    """A holder has given what it granted to another request."""


class ReaderSystem(InlineSystem):
    """The decode side: what the prefill side of the inline sender has, and room for stamps."""

    def __init__(self, world: World, sender_class: type[InlineSender]) -> None:
        self.remote_stamps: dict[str, ScriptedDlist] = {}
        super().__init__(world, sender_class)
        self.stamps = bytearray(STAMP * NUM_PAGES * MOST_HOLDERS)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.stamps))
        self.agent.register_memory([(self.address, len(self.stamps), 0, "")], "DRAM")
        rows = [(self.address + at, STAMP, 0) for at in range(0, len(self.stamps), STAMP)]
        self.local_stamps = self.agent.prep_xfer_dlist(INIT_AGENT, rows, "DRAM")

    def connect(self, peer: Peer) -> None:
        super().connect(peer)
        first = peer.memory.address(peer.memory.stamps)
        rows = [(first + page * STAMP, STAMP, 0) for page in range(NUM_PAGES)]
        self.remote_stamps[peer.name] = self.agent.prep_xfer_dlist(peer.name, rows, "DRAM")

    def reconnect(self, peer: Peer) -> None:
        old = self.remote_stamps.pop(peer.name, None)
        super().reconnect(peer)
        if old is not None:
            self.agent.release_dlist_handle(old)

    def reader(self, plan: RoomPlan) -> InlineReader:
        reader = self.sender(plan)
        assert isinstance(reader, InlineReader)
        return reader

    def stamp_at(self, place: int) -> int:
        return int.from_bytes(self.stamps[place * STAMP : (place + 1) * STAMP], "little")


class InlineReader(InlineSender):
    """One room's reader."""

    def __init__(self, system: InlineSystem, plan: RoomPlan) -> None:
        super().__init__(system, plan)
        self.grants: list[tuple[int, int]] | None = None
        """Where each stamp that was asked for is put, and what it must be; None before they are asked for."""

    @property
    def side(self) -> ReaderSystem:
        assert isinstance(self.system, ReaderSystem)
        return self.system

    def read(self, kv_indices: Sequence[int]) -> None:
        self.send(kv_indices)

    def take(self, kv_indices: Sequence[int], first: int, last: bool) -> None:
        if all(map(self.fits, self.targets())):
            super().take(kv_indices, first, last)
        else:
            self.fault(GrantEnded(f"room {self.plan.room}: a holder has granted what cannot be"), Attribution.PEER)

    def fits(self, target: Destination) -> bool:
        """Whether what a holder grants can be."""
        enough = len(target.stamps) == len(target.pages) >= self.plan.num_pages
        return enough and all(0 <= page < NUM_PAGES for page in target.pages)

    def wanted(self, target: Destination, pages: Sequence[int], first: int) -> tuple[Sequence[int], Sequence[int]]:
        """The holder may grant pages of which the content is here already: the last ones are wanted."""
        assert self.num_pages is not None
        theirs = target.pages[len(target.pages) - self.num_pages :]
        return pages, theirs[first : first + len(pages)]

    def moves(self, mine: Sequence[int], last: bool) -> bool:
        return bool(mine)

    def make(self, target: Destination, mine: Sequence[int], theirs: Sequence[int], last: bool) -> Part:
        handle = self.agent.make_prepped_xfer(
            "READ",
            self.system.local,
            [region * NUM_PAGES + page for region in target.regions for page in mine],
            self.system.remote[target.peer.name],
            [region * NUM_PAGES + page for region in target.regions for page in theirs],
            self.notification(NotificationKind.PROGRESS, ""),
        )
        return self.keep(handle, target, mine)

    def keep(self, handle: ScriptedHandle, target: Destination, mine: Sequence[int]) -> Part:
        part = Part(handle, target.peer.name, mine, self.system.world.clock())
        self.parts.append(part)
        return part

    def complete(self) -> bool:
        """The data are here, and so are the stamps that were read after them, which are those of the grant."""
        if self.state is State.SENDING and super().complete() and self.grants is None:
            self.ask_for_stamps()
        return self.state is State.SENDING and super().complete() and self.holds()

    def ask_for_stamps(self) -> None:
        self.grants = []
        try:
            made = [self.make_stamps(number, target) for number, target in enumerate(self.targets()) if self.sent]
            for part in made:
                self.post(part)
        except self.transport_errors as error:
            self.fault(error)

    def make_stamps(self, number: int, target: Destination) -> Part:
        theirs = target.pages[len(target.pages) - len(self.sent) :]
        places = [number * NUM_PAGES + page for page in self.sent]
        assert self.grants is not None
        self.grants += zip(places, target.stamps[len(target.stamps) - len(self.sent) :], strict=True)
        handle = self.agent.make_prepped_xfer(
            "READ", self.side.local_stamps, places, self.side.remote_stamps[target.peer.name], list(theirs), b""
        )
        return self.keep(handle, target, self.sent)

    def holds(self) -> bool:
        """Whether the grant was good when the stamps were read, after the data; a fault where it was not."""
        if any(self.side.stamp_at(place) != stamp for place, stamp in self.grants or ()):
            self.fault(GrantEnded(f"room {self.plan.room}: a granted page was refilled"), Attribution.PEER)
            return False
        return True


class ReaderAdapter(InlineAdapter):
    """Makes the kit's systems from a reader class. It has the name of what is particular: the system, or the reader."""

    operation: Operation = "READ"

    def __init__(
        self, sender_class: type[InlineReader] = InlineReader, system_class: type[ReaderSystem] = ReaderSystem
    ) -> None:
        super().__init__(sender_class, system_class)
        if system_class is not ReaderSystem:
            self.name = system_class.__name__


adapter = ReaderAdapter()
