"""What can go wrong, in words that do not depend on the transport.

A fault is what goes wrong in the world; an error is what the transport then raises or returns. A ``Fault`` names the
call of the transport at which it strikes and the answer that the sender gets there. The scripted agent takes its
faults from a ``FaultPlan``; another project's fake may do the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Final, TypeAlias

import msgspec

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
"""A number from 0: nothing else is read from a file."""


class Point(StrEnum):
    """A call of the transport at which a fault can strike, by the role that it plays (NIXL's name beside it)."""

    MAKE = "make"
    """``make_prepped_xfer``, ``initialize_xfer``"""
    POST = "post"
    """``transfer``"""
    CHECK = "check"
    """``check_xfer_state``"""
    RELEASE = "release"
    """``release_xfer_handle``"""
    NOTIFY = "notify"
    """``send_notif``"""


class Kind(StrEnum):
    """What the sender gets instead of an answer."""

    NOT_POSTED = "nixlNotPostedError"
    INVALID_PARAM = "nixlInvalidParamError"
    BACKEND = "nixlBackendError"
    NOT_FOUND = "nixlNotFoundError"
    MISMATCH = "nixlMismatchError"
    NOT_ALLOWED = "nixlNotAllowedError"
    REPOST_ACTIVE = "nixlRepostActiveError"
    UNKNOWN = "nixlUnknownError"
    NOT_SUPPORTED = "nixlNotSupportedError"
    REMOTE_DISCONNECT = "nixlRemoteDisconnectError"
    CANCELLED = "nixlCancelledError"
    NO_TELEMETRY = "nixlNoTelemetryError"
    BAD_STATUS = "RuntimeError"
    """What the bindings raise for a status that they do not know."""
    RETURNS_ERR = "returns ERR"
    RETURNS_NONSENSE = "returns an unknown state"
    KEY_ERROR = "KeyError"
    TYPE_ERROR = "TypeError"
    KEYBOARD_INTERRUPT = "KeyboardInterrupt"
    SYSTEM_EXIT = "SystemExit"


NIXL_KINDS: Final = tuple(kind for kind in Kind if kind.value.startswith("nixl"))
"""The twelve classes of the bindings. They share no base but Exception."""
RAISED_BY_TRANSPORT: Final = (*NIXL_KINDS, Kind.BAD_STATUS)
RETURNED_BY_TRANSPORT: Final = (Kind.RETURNS_ERR, Kind.RETURNS_NONSENSE)
TRANSPORT_KINDS: Final = RAISED_BY_TRANSPORT + RETURNED_BY_TRANSPORT
"""Everything that KS-1.2 wants turned into a failure of the room."""
PROGRAMMING_KINDS: Final = (Kind.KEY_ERROR, Kind.TYPE_ERROR)
"""Errors that are not the transport's (KS-1.3)."""
BASE_KINDS: Final = (Kind.KEYBOARD_INTERRUPT, Kind.SYSTEM_EXIT)
"""What nobody may swallow (KS-1.4)."""

NONSENSE: Final = "LOST"
"""The state string that no version of NIXL returns."""


def _stand_in(name: str) -> type[Exception]:
    class StandIn(Exception):
        pass

    StandIn.__name__ = name
    StandIn.__qualname__ = name
    return StandIn


STAND_INS: Final[Mapping[str, type[Exception]]] = {kind.value: _stand_in(kind.value) for kind in NIXL_KINDS}
"""Classes with the names of NIXL's, each a direct subclass of Exception as the real ones are."""


@dataclass(frozen=True, slots=True)
class Fault:
    """At the ``nth`` call (from 0) of ``point`` within one call of the caller, the sender gets ``kind``."""

    point: Point
    kind: Kind
    nth: Count = 0

    def __str__(self) -> str:
        where = self.point.value if self.nth == 0 else f"{self.point.value}[{self.nth}]"
        return f"{where}={self.kind.value}"


def make_error(kind: Kind, errors: Mapping[str, type[Exception]], text: str = "") -> BaseException:
    """A new exception object for a fault that raises; ``errors`` gives the transport's classes by NIXL's names.

    An error of the transport says ``text``, or else that it was injected.

    Raises ValueError for the kinds that are returned instead of raised, and KeyError for a class that is missing.
    """
    name = kind.value
    match kind:
        case Kind.RETURNS_ERR | Kind.RETURNS_NONSENSE:
            raise ValueError(f"{kind} is returned, not raised")
        case Kind.BAD_STATUS:
            return RuntimeError("BAD_STATUS")
        case Kind.KEY_ERROR:
            return KeyError("a programming error, not the transport's")
        case Kind.TYPE_ERROR:
            return TypeError("a programming error, not the transport's")
        case Kind.KEYBOARD_INTERRUPT:
            return KeyboardInterrupt()
        case Kind.SYSTEM_EXIT:
            return SystemExit(3)
        case _:
            return errors[name](text or f"injected {name}")


@dataclass(slots=True)
class FaultPlan:
    """The faults of the caller's current call. Each strikes once; the counts restart with every call."""

    pending: list[Fault] = field(default_factory=list)
    counts: dict[Point, int] = field(default_factory=dict)
    struck: list[Fault] = field(default_factory=list)
    """Those of this call that have struck."""

    def arm(self, *faults: Fault) -> None:
        """Replace what is pending and restart the counts."""
        self.pending[:] = faults
        self.counts.clear()
        self.struck.clear()

    def take(self, point: Point, sparing: tuple[Kind, ...] = ()) -> Fault | None:
        """The fault that strikes at this call of ``point``, unless it is of a kind to spare. Counts the call anyway."""
        nth = self.counts.get(point, 0)
        self.counts[point] = nth + 1
        for fault in self.pending:
            if fault.point is point and fault.nth == nth and fault.kind not in sparing:
                self.pending.remove(fault)
                self.struck.append(fault)
                return fault
        return None
