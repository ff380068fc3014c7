"""Which source pages, or pages that are read into, nothing has shown to be quiet, and because of which process."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kvsender_nixl.counted import CountedPages
from kvsender_nixl.transfers import Transfer
from kvsender_spec.contract import HandleT, KVUsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Doubt:
    """Memory that a peer's transfer may still touch: pages (int32) and an aux slot, and why. ``incarnation`` is the
    process of the peer's name; empty where that is not known."""

    peer: str
    pages: NDArray[np.int32]
    aux_slot: int | None
    reason: str
    incarnation: str = ""


class Quarantine:
    """The pages that the caller must not reuse. Every method may be called from any thread.

    A transfer that turns out to be DONE frees its pages by itself. Pages of one that ended in an error stay until
    ``fence`` says that nothing moves for that process of the peer any more, because an error proves nothing.
    """

    def __init__(self) -> None:
        self._doubts: dict[object, Doubt] = {}
        self._pages: Final = CountedPages()
        self._slots: Final[Counter[int]] = Counter()
        self._lock: Final = threading.Lock()

    def hold(self, transfer: Transfer[HandleT], reason: str) -> None:
        doubt = Doubt(transfer.peer, transfer.pages, transfer.aux_slot, reason, transfer.incarnation)
        with self._lock:
            if transfer not in self._doubts:
                self._pages.hold(doubt.pages)
                if doubt.aux_slot is not None:
                    self._slots[doubt.aux_slot] += 1
            self._doubts[transfer] = doubt

    def free(self, transfer: Transfer[HandleT]) -> None:
        """No effect for a transfer that is not held."""
        with self._lock:
            self._free(transfer)

    def _free(self, transfer: object) -> None:
        doubt = self._doubts.pop(transfer, None)
        if doubt is None:
            return
        self._pages.free(doubt.pages)
        if doubt.aux_slot is not None:
            self._slots[doubt.aux_slot] -= 1
            if not self._slots[doubt.aux_slot]:
                del self._slots[doubt.aux_slot]

    def processes(self) -> frozenset[tuple[str, str]]:
        """Because of whom something is held: the peer's name, and its incarnation."""
        with self._lock:
            return frozenset((doubt.peer, doubt.incarnation) for doubt in self._doubts.values())

    def fence(self, peer: str, incarnation: str | None = None, *, settled: bool = False) -> int:
        """Free what is held for one process of this name; None is the only one for which something is. With ``settled``
        only that of which the transport has said its last word: it may still move the others itself.

        Returns how many transfers it was. Raises KVUsageError where None does not say which.
        """
        with self._lock:
            of_peer = [(transfer, doubt) for transfer, doubt in self._doubts.items() if doubt.peer == peer]
            known = sorted({doubt.incarnation for _, doubt in of_peer})
            if incarnation is None and len(known) > 1:
                raise KVUsageError(f"which process of {peer!r}? Pages are held because of {known}")
            fenced = [transfer for transfer, doubt in of_peer if incarnation in (None, doubt.incarnation)]
            if settled:
                fenced = [transfer for transfer in fenced if isinstance(transfer, Transfer) and transfer.settled]
            for transfer in fenced:
                self._free(transfer)
            return len(fenced)

    @property
    def doubts(self) -> tuple[Doubt, ...]:
        with self._lock:
            return tuple(self._doubts.values())

    @property
    def pages(self) -> frozenset[int]:
        """The page ids that are held. Callers ask before each reuse, so the set is kept until something changes."""
        with self._lock:
            return self._pages.pages

    @property
    def aux_slots(self) -> frozenset[int]:
        with self._lock:
            return frozenset(self._slots)


class HasQuarantine:
    """What whoever has one offers."""

    _quarantine: Quarantine

    def quarantined_pages(self) -> frozenset[int]:
        """The pages of this side that must not be reused, although poll() has answered a terminal value (KS-4.1)."""
        return self._quarantine.pages

    def quarantined_aux_slots(self) -> frozenset[int]:
        return self._quarantine.aux_slots

    def doubts(self) -> tuple[Doubt, ...]:
        """Why pages and slots are in quarantine."""
        return self._quarantine.doubts

    def fence(self, peer_name: str, incarnation: str | None = None) -> None:
        """Free what is held for one process of a peer: it is gone, or nothing of its connection touches our memory any
        more.

        An error, a release and a removal are no proof of that; only the caller can know. ``sweep`` does it by itself
        where the end of a process is shown, and where the memory is the host's. Without an ``incarnation`` it is the
        only one for which something is held; raises KVUsageError where there are several.
        """
        self._quarantine.fence(peer_name, incarnation)
