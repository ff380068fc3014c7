"""A right reader in another style, as vLLM's pull connector has it: one pump moves all rooms, and adds holders in the
background. Two broken ones beside it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import ClassVar, Final

from tests.mutants.inline import InlineSender, InlineSystem
from tests.mutants.inline_reader import InlineReader, ReaderAdapter, ReaderSystem

from kvsender_spec.contract import KVPoll
from kvsender_spec.kit.adapter import Peer, RoomPlan, World
from kvsender_spec.machine import State

_OVER: Final = (State.DONE, State.STICKY_FAILED)


class PumpSystem(ReaderSystem):
    """The hooks that mutants override are small on purpose."""

    def __init__(self, world: World, sender_class: type[InlineSender]) -> None:
        self.strangers: dict[str, Peer] = {}
        """Holders that are still to be added."""
        self.refusals: dict[str, Exception] = {}
        """Why adding one of them was refused last."""
        self.every: list[PumpedReader] = []
        self.lock = threading.RLock()
        super().__init__(world, sender_class)

    def uninitialised(self, plan: RoomPlan) -> InlineSender:
        reader = super().uninitialised(plan)
        assert isinstance(reader, PumpedReader)
        reader.lock = self.lock
        self.every.append(reader)
        return reader

    def connect(self, peer: Peer) -> None:
        """Adding it is left to the pump."""
        self.remote.pop(peer.name, None)
        self.strangers[peer.name] = peer

    def handshake(self) -> None:
        for name, peer in list(self.strangers.items()):
            try:
                super().connect(peer)
            except InlineReader.transport_errors as error:
                self.refusals[name] = error
            else:
                self.refusals.pop(name, None)
                del self.strangers[name]

    def pump(self) -> None:
        """Move every room, whoever has asked."""
        self.handshake()
        for reader in [reader for reader in self.every if reader.state not in _OVER]:
            reader.move()
        self.every = [reader for reader in self.every if reader.state not in _OVER]

    def settle(self) -> None:
        with self.lock:
            self.pump()
            super().settle()


class PumpedReader(InlineReader):
    """read() queues; the pump posts, asks about transfers, looks at grants and reports."""

    def __init__(self, system: InlineSystem, plan: RoomPlan) -> None:
        super().__init__(system, plan)
        self.queued: list[tuple[Sequence[int], int, bool]] = []

    @property
    def engine(self) -> PumpSystem:
        assert isinstance(self.system, PumpSystem)
        return self.system

    def take(self, kv_indices: Sequence[int], first: int, last: bool) -> None:
        self.queued.append((kv_indices, first, last))

    def move(self) -> None:
        try:
            self.post_queued()
            self.observe()
        except (KeyError, TypeError) as error:
            self.fault(error)  # it may be another room's poll(), whose caller has nothing to do with it
        self.answer()

    def post_queued(self) -> None:
        while self.queued and self.state in (State.IDLE, State.SENDING):
            refused = next((self.engine.refusals.get(target.peer.name) for target in self.targets()), None)
            if refused is not None:
                self.fault(refused)
            else:
                super().take(*self.queued.pop(0))

    def poll(self) -> KVPoll:
        with self.lock:
            if self.state not in _OVER:
                self.engine.pump()
            return self.answer()

    def answer(self) -> KVPoll:
        answer = super().answer()
        return KVPoll.Failed if self.state is State.STICKY_FAILED else answer


class StopsAtTheFirstThatWaits(PumpSystem):
    """Its pump stops at the first room that has something in flight: a silent holder holds up the rooms of all."""

    breaks: ClassVar = "KS-6.2"

    def pump(self) -> None:
        self.handshake()
        for reader in [reader for reader in self.every if reader.state not in _OVER]:
            reader.move()
            if any(part.state == "flying" for part in reader.parts):
                return


class FailedOnceIsFailedForEver(PumpSystem):
    """Remembers that adding a holder was refused, and does not add it when it has come back."""

    breaks: ClassVar = "KS-6.3"

    def handshake(self) -> None:
        known = dict(self.refusals)
        self.strangers = {name: peer for name, peer in self.strangers.items() if name not in known}
        super().handshake()
        self.refusals.update(known)


_BROKEN: Final = (StopsAtTheFirstThatWaits, FailedOnceIsFailedForEver)


class PumpAdapter(ReaderAdapter):
    """The reader is the same in each."""

    def __init__(self, system_class: type[PumpSystem] = PumpSystem) -> None:
        super().__init__(PumpedReader, system_class)


adapter: Final = PumpAdapter()
ADAPTERS: Final = tuple((PumpAdapter(broken), broken) for broken in _BROKEN)
