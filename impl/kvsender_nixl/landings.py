"""What of failed rooms may still be written to, and what ends that: the initiator's word, or a fence.

A fence is about one incarnation of one initiator: another process of its name proves nothing about the writes of this
one.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from typing import TYPE_CHECKING, Final

from kvsender_nixl.counted import CountedPages
from kvsender_nixl.notifications import (
    FailureNotification,
    Notification,
    QuiescedNotification,
    StateNotification,
    SuccessNotification,
)
from kvsender_spec.contract import KVUsageError

if TYPE_CHECKING:
    from kvsender_nixl.arriving import Landing

logger = logging.getLogger(__name__)


class Landings:
    """Every method may be called from any thread."""

    def __init__(self) -> None:
        self._landings: dict[str, dict[str, Landing]] = {}
        """By token, and the initiator's name."""
        self._pages: Final = CountedPages()
        self._slots: Final[Counter[int]] = Counter()
        self._lock: Final = threading.Lock()

    def __contains__(self, token: str) -> bool:
        return token in self._landings

    def hold(self, landing: Landing) -> None:
        with self._lock:
            by_name = self._landings.setdefault(landing.token, {})
            if landing.sender_name in by_name:
                return
            by_name[landing.sender_name] = landing
            self._pages.hold(landing.pages)
            if landing.aux_slot is not None:
                self._slots[landing.aux_slot] += 1

    def of(self, token: str) -> tuple[Landing, ...]:
        with self._lock:
            return tuple(self._landings.get(token, {}).values())

    def all(self) -> tuple[Landing, ...]:
        with self._lock:
            return tuple(landing for by_name in self._landings.values() for landing in by_name.values())

    def incarnations(self) -> frozenset[str]:
        """The processes because of which something is held, as far as they are known."""
        return frozenset(landing.incarnation for landing in self.all() if landing.incarnation)

    def proven(self, agent_name: str, notification: Notification) -> bool:
        """Whether this says that nothing of a failed room can land here any more (KS-6.4), and then free what was held:
        it has drained, or all of its bytes are in place, or the process to which the pages were announced knows of
        nothing that is on its way. The word of another process of the name says nothing of that."""
        with self._lock:
            landing = self._landings.get(notification.token, {}).get(agent_name)
            if landing is None:
                return False
            match notification:
                case QuiescedNotification() | SuccessNotification():
                    proof = True
                case FailureNotification(quiesced=quiesced):
                    proof = quiesced
                case StateNotification(goes_on=goes_on, incarnation=incarnation):
                    proof = not goes_on and incarnation == landing.incarnation
                case _:
                    proof = False
            if proof:
                self._free(landing)
            return proof

    def fence(self, sender_name: str, incarnation: str | None, evidence: str) -> int:
        """Free what is held because of one process of this name; None is the only one for which something is held.

        Returns how many rooms it was. Raises KVUsageError where None does not say which.
        """
        with self._lock:
            held = [by_name[sender_name] for by_name in tuple(self._landings.values()) if sender_name in by_name]
            known = sorted({landing.incarnation for landing in held})
            if incarnation is None and len(known) > 1:
                raise KVUsageError(f"which process of {sender_name!r}? Pages are held because of {known}")
            fenced = [landing for landing in held if incarnation in (None, landing.incarnation)]
            for landing in fenced:
                self._free(landing)
        if fenced:
            whose = incarnation or known[0]
            logger.warning("%d rooms of %r %r are fenced: %s", len(fenced), sender_name, whose, evidence)
        return len(fenced)

    def _free(self, landing: Landing) -> None:
        by_name = self._landings[landing.token]
        del by_name[landing.sender_name]
        if not by_name:
            del self._landings[landing.token]
        self._pages.free(landing.pages)
        if landing.aux_slot is not None:
            self._slots[landing.aux_slot] -= 1
            if not self._slots[landing.aux_slot]:
                del self._slots[landing.aux_slot]

    @property
    def pages(self) -> frozenset[int]:
        with self._lock:
            return self._pages.pages

    @property
    def aux_slots(self) -> frozenset[int]:
        with self._lock:
            return frozenset(self._slots)
