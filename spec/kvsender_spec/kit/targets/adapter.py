"""What the kit gives to the adapter of a target, and what it wants back.

A *target* is the side whose memory is used: a receiver, which initiators WRITE, or a holder, which they READ. The
adapter says ``role = "target"``, and ``operation = "READ"`` for a holder. Its ``open(world)`` builds one side on the
world's transport, clock and memory; the kit plays the initiators, ``world.peers``, and speaks the system's own protocol
through ``message``. A system shows what it can do beyond that by defining the method of a small protocol below, or of
``kvsender_spec.kit.adapter``: ``Settles`` (its loop, which takes what has arrived), ``Works``, ``CountsResidue``,
``Attributes``, ``Reconnects``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from kvsender_spec.contract import Target
from kvsender_spec.history.words import Says
from kvsender_spec.kit.world import Peer


@dataclass(frozen=True, slots=True)
class TargetPlan:
    """One request to open. ``incarnation`` is unique in a run, ``room`` is not: ids are reused.

    ``pages`` are the target's own, which the kit has allocated: they are no room's that is held. Each of
    ``initiators`` transfers all ``parts``, of its share of the regions. ``timeout_s`` is the deadline of a receiver's
    request and the lease of a holder's, in seconds of the world's clock from ``target()`` on.
    """

    room: int
    incarnation: int
    pages: tuple[int, ...]
    aux_index: int
    initiators: tuple[Peer, ...]
    parts: int
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Notice:
    """What an initiator says of a room, or a target to an initiator."""

    says: Says
    part: int = 0
    """Of PROGRESS, its number from 0: the bytes of this part are in place, or were read."""
    parts: int = 1
    """How many parts the initiator has."""
    quiesced: bool = False
    """Of FAILURE: nothing of the initiator can touch the target's pages any more."""
    reason: str = ""
    incarnation: int | None = None
    """Of what a target says: which opening it is about, where the message tells."""
    room: int | None = None
    """Of what a target says: the room id in the message."""


class TargetSystem(Protocol):
    """One side under test."""

    def target(self, plan: TargetPlan) -> Target:
        """A target on which init() has been called: its initiators are told where its pages are."""

    def held_pages(self) -> frozenset[int]:
        """The pages that nobody else may have now, although their request may have ended. Asked after every step."""

    def message(self, plan: TargetPlan, peer: Peer, notice: Notice) -> bytes | None:
        """What the initiator ``peer`` sends to say this; None where the protocol has no such message.

        SUCCESS comes after the last byte, FAILURE may be followed by QUIESCED, RENEW is about the holder's lease.
        """


@runtime_checkable
class Hears(Protocol):
    """A system whose initiators do not speak by NIXL's notifications but over a socket of its own."""

    def hear(self, peer: Peer, message: bytes) -> None:
        """The message has arrived from that peer. Must not raise."""


@runtime_checkable
class TellsInitiators(Protocol):
    """A system whose words to its initiators can be read."""

    def read_message(self, message: bytes) -> Notice | None:
        """Read what the target tells an initiator: ABORT, LOST, ASK or ANNOUNCE; None for what is about no room."""


@runtime_checkable
class SaysElsewhere(Protocol):
    """A system that tells its initiators over a socket of its own instead of NIXL's notifications."""

    def said(self) -> Sequence[tuple[str, bytes]]:
        """What was sent since the last time it was asked, each with the name of the initiator."""


@runtime_checkable
class Fences(Protocol):
    def fence(self, peer: Peer, generation: int) -> None:
        """The kit has evidence: nothing of this process of the peer (``Peer.generation``) can touch a page any more."""


@runtime_checkable
class Refills(Protocol):
    """A holder that gives its pages to another request."""

    def refill(self, pages: Sequence[int], write: Callable[[], None]) -> None:
        """Give the pages other content: ``write()`` does it. Raises a usage error for pages that are still held."""


@runtime_checkable
class Publishes(Protocol):
    def published_pages(self) -> frozenset[int]:
        """The pages that other requests may use, as those of a prefix cache."""


@runtime_checkable
class AsksAgain(Protocol):
    """A target that asks its initiators how a room stands when it hears nothing."""

    @property
    def asks_again(self) -> bool: ...
