"""What agent and senders of one test share while it is recorded: rooms, errors, and whose call is under way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from threading import local
from typing import Final

from kvsender_spec.faults import NIXL_KINDS, Kind
from kvsender_spec.history.errors import ErrorClasses
from kvsender_spec.history.events import EventsDropped
from kvsender_spec.history.record import Recorder
from kvsender_spec.history.words import Origin

Named = str | type[BaseException]
"""A class of errors, or the name of one."""


@dataclass(frozen=True, slots=True)
class NamedErrors(ErrorClasses):
    """Error classes that need not be importable here: each is named, as nixl's are by default, or given."""

    names: set[str] = field(default_factory=lambda: {kind.value for kind in NIXL_KINDS})
    """Classes of the transport, by name."""
    disconnect_names: set[str] = field(default_factory=lambda: {Kind.REMOTE_DISCONNECT.value})
    given: set[type[BaseException]] = field(default_factory=set)
    disconnects_given: set[type[BaseException]] = field(default_factory=set)
    refusals: set[type[BaseException]] = field(default_factory=set)
    """What the senders raise for a mistake of their caller's."""

    def origin(self, error: BaseException) -> Origin:
        """Where an error comes from, by its class or a base of it."""
        if self.disconnects(error) or isinstance(error, tuple(self.given)) or self.names & _names(error):
            return Origin.TRANSPORT
        if isinstance(error, tuple(self.refusals)):
            return Origin.USAGE
        return ErrorClasses.origin(self, error)

    def disconnects(self, error: BaseException) -> bool:
        return isinstance(error, tuple(self.disconnects_given)) or bool(self.disconnect_names & _names(error))

    def add(self, errors: tuple[Named, ...], disconnect: tuple[Named, ...]) -> None:
        """More classes of the transport; those of ``disconnect`` mean that the connection to a peer is broken."""
        for one in errors:
            self.names.add(one) if isinstance(one, str) else self.given.add(one)
        for one in disconnect:
            self.disconnect_names.add(one) if isinstance(one, str) else self.disconnects_given.add(one)


def _names(error: BaseException) -> set[str]:
    return {base.__name__ for base in type(error).__mro__}


@dataclass(slots=True)
class Room:
    """One opening of a room."""

    key: int
    id: int
    peers: frozenset[str]


class Ledger:
    """Knows to which room a transfer belongs, where that can be known."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder: Final = recorder
        self.rooms: Final[list[Room]] = []
        self.made_beside = False
        """A thread has asked the transport outside the calls that are told of: the sender has workers."""
        self._here: Final = local()

    @contextmanager
    def call(self) -> Iterator[None]:
        """A call of a sender's is under way in this thread."""
        before = self.in_a_call
        self._here.open = True
        try:
            yield
        finally:
            self._here.open = before

    @property
    def in_a_call(self) -> bool:
        found: object = getattr(self._here, "open", False)
        return found is True

    def lose(self) -> None:
        """Something has happened that the history cannot say: what rests on absence is inconclusive from here."""
        self.recorder.note(partial(EventsDropped, count=1))

    def room_of(self, peer: str, told: int | None) -> int | None:
        """The key of the room of a new transfer; None where the call that makes it says so, or no room does.

        A worker makes its transfers in no call. Where only one room can be meant, it is that one.
        """
        if told is not None:
            return next((room.key for room in reversed(self.rooms) if room.id == told), None)
        if self.in_a_call or not self.rooms:
            return None
        self.made_beside = True
        meant = [room for room in self.rooms if peer in room.peers] or self.rooms
        if len(meant) == 1:
            return meant[0].key
        self.lose()
        return None


Attributes = Callable[[BaseException], object]
"""Who caused an error of failure_exception(): an ``Attribution``, or its word."""
