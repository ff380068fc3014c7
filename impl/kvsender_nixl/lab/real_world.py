"""The processes of one run, and where a test plants a mistake."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, TypeAlias

from kvsender_nixl.front import Front
from kvsender_nixl.lab.memory import BEFORE, REQUEST, Memory
from kvsender_nixl.lab.peer import LabPeer
from kvsender_nixl.lab.words import PEERS
from kvsender_spec.contract import Operation, Transport
from kvsender_spec.history.recording_agent import Ticket

if TYPE_CHECKING:
    from nixl._api import nixl_prepped_dlist_handle, nixl_xfer_handle

    from kvsender_nixl.initiator import Initiator

    Handle: TypeAlias = Ticket[nixl_xfer_handle]
    Wire: TypeAlias = Transport[nixl_prepped_dlist_handle, Handle]
    RealFront: TypeAlias = Front[nixl_prepped_dlist_handle, Handle]
    RealInitiator: TypeAlias = Initiator[nixl_prepped_dlist_handle, Handle]

_SHARED: Final = 4
_SPARES: Final = 2


def _untouched(wire: Wire) -> Wire:
    return wire


@dataclass(frozen=True, slots=True)
class Plant:
    """Where a test puts a mistake: between the initiator and its transport, or into the side that makes it."""

    wire: Callable[[Wire], Wire] = _untouched
    front: Callable[[RealFront], None] = lambda _: None
    """Called with each side that is made."""


class RealWorld:
    """The peer processes of runs in one direction. Start-up takes seconds, so those that nothing breaks are shared."""

    def __init__(self, seed: int, operation: Operation = "WRITE", plant: Plant | None = None) -> None:
        self.seed: Final = seed
        self.operation: Final[Operation] = operation
        self.plant = Plant() if plant is None else plant
        self.pristine: Final = Memory.filled(seed, REQUEST)
        self.launched = 0
        """How many processes were started."""
        self._mortals = 0
        self._peers: list[LabPeer] = []
        self._spares: list[LabPeer] = []
        try:
            self._shared: Final = tuple(self._launch() for _ in range(_SHARED))
            for number, peer in enumerate(self._shared):
                peer.begin(f"{PEERS[operation]}{number}")
        except BaseException:
            self.close()
            raise

    @cached_property
    def empty(self) -> Memory:
        """What the memory that is transferred to was before."""
        return Memory.filled(self.seed, BEFORE)

    def _launch(self) -> LabPeer:
        peer = LabPeer(self.seed, self.operation, self.launched)
        self._peers.append(peer)
        self.launched += 1
        return peer

    def shared(self, count: int) -> list[LabPeer]:
        """Peers that a scenario must leave alive, and running."""
        peers = list(self._shared[:count])
        for peer in peers:
            assert peer.metadata.agent_name == peer.name  # it has started
            peer.remote.reset()
            peer.remote.take_notifications()
        return peers

    def mortal(self, name: str = "") -> LabPeer:
        """A new process, to be broken."""
        self.warm(1)
        peer = self._spares.pop(0)
        self._mortals += 1
        peer.begin(name or f"mortal{self._mortals}")
        return peer

    def warm(self, count: int = _SPARES) -> None:
        """Have spare processes start while something else happens."""
        while len(self._spares) < count:
            self._spares.append(self._launch())

    def close(self) -> None:
        """End every process, the stopped ones as well."""
        for peer in self._peers:
            if peer.process.exit_code is None:
                peer.process.sigkill()
        for peer in self._peers:
            peer.close()
