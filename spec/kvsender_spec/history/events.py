"""The events of a history: a closed union of frozen types.

A history is one run as one source saw it. Rooms are identified by a *key*, which is unique in the history (a room id
is not: ids come back). Handles and errors are numbered by whoever records, at first sight: addresses and NIXL's own
numbers are reused. An error is written once, as ``error.seen``, and every later event refers to it by its ``ref``, so
that "the very object" can be told from a file.

Additions within a major version are optional fields and nothing else. A reader ignores fields that it does not know and
refuses kinds that it does not know.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

import msgspec

from kvsender_spec.contract import Operation
from kvsender_spec.history.event import Event as Event
from kvsender_spec.history.header import Header
from kvsender_spec.history.target_events import FenceTold as FenceTold
from kvsender_spec.history.target_events import NoticeArrived as NoticeArrived
from kvsender_spec.history.target_events import PagesPublished as PagesPublished
from kvsender_spec.history.target_events import PagesReused as PagesReused
from kvsender_spec.history.words import CallName, Destination, Origin, Says


class ErrorSeen(Event, frozen=True, kw_only=True, omit_defaults=True, tag="error.seen"):
    """An exception object, before the first event that refers to it, and again where its cause has changed."""

    ref: int
    type: str
    """The name of its class; for an error of the transport NIXL's name."""
    text: str
    origin: Origin
    cause: int | None = None
    """The error that its ``__cause__`` is."""
    disconnect: bool = False
    """It means that the connection to the peer is broken (``nixlRemoteDisconnectError``)."""
    shown: str | None = None
    """Where the transport answers numbers: the words in which the sender's failure can show this error."""
    frames: tuple[str, ...] = ()
    """The last frames of an error that is not the transport's: file, line, function."""

    def __str__(self) -> str:
        return f"{self.type}: {self.text}"


class RoomOpened(Event, frozen=True, kw_only=True, omit_defaults=True, tag="room.opened"):
    """init() was called on a sender. ``room`` is the key of this incarnation."""

    id: int
    pages: int
    """How many pages were announced."""
    destinations: tuple[Destination, ...]
    operation: Operation = "WRITE"
    """WRITE: the pages go to the peers. READ: they come from the peers, which grant them."""
    aux: int = 0
    """The aux slot at the sender."""
    own: tuple[int, ...] = ()
    """Of a target's room: its page ids. The destinations are its initiators then."""
    parts: int = 0
    """Of a target's room: how many parts each initiator transfers."""


class CallStarted(Event, frozen=True, kw_only=True, omit_defaults=True, tag="call.started"):
    """A call of the caller begins."""

    what: CallName
    pages: tuple[int | float, ...] = ()
    """The page ids of a send()."""
    last: bool = False
    """A send() with the last chunk."""
    peer: str = ""
    """Which peer gives the room up; empty for a call of the caller's own."""
    misuse: str = ""
    """Why the call is one that the sender must refuse; empty for a proper call."""


class CallEnded(Event, frozen=True, kw_only=True, omit_defaults=True, tag="call.ended"):
    """It came back: with a value, an error, or neither."""

    of: int
    """The ``seq`` of its ``call.started``."""
    value: str | None = None
    """What poll() answered, by the name of the ``KVPoll``."""
    error: int | None = None
    attribution: str | None = None
    """Who caused the error of failure_exception(), in the subject's own word."""


class CallStuck(Event, frozen=True, kw_only=True, omit_defaults=True, tag="call.stuck"):
    """The call has not come back."""

    of: int
    after_s: float
    stack: tuple[str, ...] = ()


class TransferMade(Event, frozen=True, kw_only=True, omit_defaults=True, tag="transfer.made"):
    """``make_prepped_xfer`` or ``initialize_xfer``; ``handle`` is None where none was made."""

    peer: str
    handle: int | None = None
    generation: int = 0
    pages: tuple[int, ...] = ()
    """Page ids at the initiator: a WRITE reads them, a READ writes them."""
    target: tuple[int, ...] = ()
    """Page ids at the peer: a WRITE writes them, a READ reads them."""
    aux: int | None = None
    """The aux slot at the peer that it writes."""
    message: str = ""
    """The notification that travels with it, as text."""
    error: int | None = None


class TransferPosted(Event, frozen=True, kw_only=True, omit_defaults=True, tag="transfer.posted"):
    """``transfer``: ``PROC``, ``DONE``, ``ERR`` or another string, or an error."""

    handle: int
    answer: str | None = None
    error: int | None = None


class TransferChecked(Event, frozen=True, kw_only=True, omit_defaults=True, tag="transfer.checked"):
    """``check_xfer_state``."""

    handle: int
    answer: str | None = None
    error: int | None = None


class TransferReleased(Event, frozen=True, kw_only=True, omit_defaults=True, tag="transfer.released"):
    """``release_xfer_handle``, or the garbage collector.

    Also ``deregister_memory`` of what a posted transfer may still read: the handle is held then, its memory is not.
    """

    handle: int
    how: Literal["call", "last reference", "deregistration"] = "call"
    error: int | None = None


class NotificationSent(Event, frozen=True, kw_only=True, omit_defaults=True, tag="notification.sent"):
    """``send_notif``. Notifications that travel with a transfer are in its ``transfer.made``."""

    peer: str
    message: str = ""
    error: int | None = None


class PeerAdded(Event, frozen=True, kw_only=True, omit_defaults=True, tag="peer.added"):
    """``add_remote_agent``."""

    peer: str
    generation: int = 0
    error: int | None = None


class PeerRemoved(Event, frozen=True, kw_only=True, omit_defaults=True, tag="peer.removed"):
    """``remove_remote_agent``."""

    peer: str


class PeerLost(Event, frozen=True, kw_only=True, omit_defaults=True, tag="peer.lost"):
    """The peer's process is gone. Nobody has told the sender."""

    peer: str


class PeerSilent(Event, frozen=True, kw_only=True, omit_defaults=True, tag="peer.silent"):
    """The peer's process is stopped."""

    peer: str


class PeerResumed(Event, frozen=True, kw_only=True, omit_defaults=True, tag="peer.resumed"):
    """It goes on."""

    peer: str


class PeerReturned(Event, frozen=True, kw_only=True, omit_defaults=True, tag="peer.returned"):
    """A new process has the peer's name, and registers; ``was`` is its name before, where it comes under another."""

    peer: str
    generation: int = 0
    was: str = ""


class LinkCut(Event, frozen=True, kw_only=True, omit_defaults=True, tag="link.cut"):
    """The connection to the peer is broken; the process lives."""

    peer: str


class PagesRefilled(Event, frozen=True, kw_only=True, omit_defaults=True, tag="pages.refilled"):
    """A peer that granted pages to a READ has given them to another request: what is read from now on is foreign."""

    peer: str
    pages: tuple[int, ...] = ()
    """Page ids at the peer."""
    never: bool = False
    """It has not, but has granted what cannot be, such as pages that it does not have."""


class BytesLanded(Event, frozen=True, kw_only=True, omit_defaults=True, tag="bytes.landed"):
    """Bytes of a transfer are where they go: in the peer's memory, or with a READ in the initiator's."""

    bytes: int
    handle: int | None = None
    """None where only the room is known."""
    peer: str = ""
    """Of a target's room: which initiator's."""
    whole: bool = False
    """All bytes of the transfer are there, whether the sender has asked or not."""
    late: bool = False
    """They came after an error was told, or after the release."""
    foreign: bool = False
    """They are another request's."""


class BytesCompared(Event, frozen=True, kw_only=True, omit_defaults=True, tag="bytes.compared"):
    """What was to be transferred was compared, after poll() answered Success or at the end: the peers' memory with the
    sender's, or a reader's with what it was granted."""

    differ: str = ""
    """Where it differs, in words; empty if nowhere."""
    outside: bool = False
    """Compared was what the room was not given."""


class PagesHeld(Event, frozen=True, kw_only=True, omit_defaults=True, tag="pages.held"):
    """The pages that the subject says must not be reused: after a terminal answer, and at the end."""

    pages: tuple[int, ...]


class NotificationHeard(Event, frozen=True, kw_only=True, omit_defaults=True, tag="notification.heard"):
    """What a peer was told, read as the peer reads it."""

    peer: str
    says: Says
    id: int
    """The room id in the message."""
    incarnation: int | None = None
    """The key of the room, where the message tells it."""
    reason: str = ""
    quiesced: bool = False
    """A failure that says as well that nothing of the room can touch the peer's pages any more."""


class ControlArrived(Event, frozen=True, kw_only=True, omit_defaults=True, tag="control.arrived"):
    """A control message of a peer's reached the subject."""

    malformed: bool = False
    message: str = ""


class WorkerEnded(Event, frozen=True, kw_only=True, omit_defaults=True, tag="worker.ended"):
    """A worker thread of the subject's is no longer alive."""

    name: str


class ClockAdvanced(Event, frozen=True, kw_only=True, omit_defaults=True, tag="clock.advanced"):
    """Time passed without anything else happening."""

    by_s: float


class FaultsOver(Event, frozen=True, kw_only=True, omit_defaults=True, tag="faults.over"):
    """From here nothing goes wrong any more: only now can "never ends" be told."""

    settles: bool = True
    """What is in flight finishes. False: it stays silent, and only deadlines can end a room."""


class KeptCounted(Event, frozen=True, kw_only=True, omit_defaults=True, tag="kept.counted"):
    """Everything in flight has settled and the subject had its time: what it still holds now it has leaked."""

    entries: int | None = None
    """About rooms; None where the subject cannot say."""
    in_flight: int | None = None
    """Transfers in flight that it knows of; None where it cannot say."""
    held: int | None = None
    """Descriptor lists and registrations that it holds beyond what it began with; None where that was not counted."""


class ImportProbed(Event, frozen=True, kw_only=True, omit_defaults=True, tag="import.probed"):
    """The subject's module was imported in a fresh interpreter in which nixl cannot be imported."""

    module: str
    failure: str = ""
    """Why it failed; empty if it did not."""


class StepStarted(Event, frozen=True, kw_only=True, omit_defaults=True, tag="step.started"):
    """The events that follow belong to this step of a trace or scenario. It is for readers; nothing is judged by it."""

    text: str


class EventsDropped(Event, frozen=True, kw_only=True, omit_defaults=True, tag="events.dropped"):
    """The recorder lost events here."""

    count: int


class RunEnded(Event, frozen=True, kw_only=True, omit_defaults=True, tag="run.ended"):
    """The last event of a history that is whole."""

    complete: bool = True
    """False: it was cut off."""
    why: str = ""


AnyEvent: TypeAlias = (
    ErrorSeen
    | RoomOpened
    | CallStarted
    | CallEnded
    | CallStuck
    | TransferMade
    | TransferPosted
    | TransferChecked
    | TransferReleased
    | NotificationSent
    | PeerAdded
    | PeerRemoved
    | PeerLost
    | PeerSilent
    | PeerResumed
    | PeerReturned
    | LinkCut
    | PagesRefilled
    | BytesLanded
    | BytesCompared
    | PagesHeld
    | NotificationHeard
    | ControlArrived
    | WorkerEnded
    | ClockAdvanced
    | FaultsOver
    | KeptCounted
    | ImportProbed
    | NoticeArrived
    | FenceTold
    | PagesReused
    | PagesPublished
    | StepStarted
    | EventsDropped
    | RunEnded
)
"""The closed union."""

MayFail: TypeAlias = (
    CallEnded | TransferMade | TransferPosted | TransferChecked | TransferReleased | NotificationSent | PeerAdded
)
"""The events with an ``error``."""

EVENT_TYPES: Final[tuple[type[Event], ...]] = get_args(AnyEvent)


def kind_of(event_type: type[Event]) -> str:
    """The name of a kind, as it stands in a file."""
    return str(event_type.__struct_config__.tag)


KINDS: Final[dict[str, type[Event]]] = {kind_of(event_type): event_type for event_type in EVENT_TYPES}


class History(msgspec.Struct, kw_only=True):
    """One run: the header, then the events in the order in which they were seen."""

    header: Header
    events: list[AnyEvent] = []
