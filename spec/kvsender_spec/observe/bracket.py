"""One call of the caller between its start and its end, and what the transport answered meanwhile."""

from __future__ import annotations

import msgspec

from kvsender_spec.history.events import CallEnded, CallStarted, ErrorSeen
from kvsender_spec.oracle import Cause


class Answered(msgspec.Struct, eq=False):
    """The first errors that the transport answered a room with, within one call or between calls."""

    posting: Cause | None = None
    checking: Cause | None = None
    posted: int = 0
    """How many transfers it accepted."""
    made: int = 0
    """How many transfers were made or tried."""
    checks: int = 0
    """How often the caller's own calls asked about one of the room's handles."""
    refused_at: dict[str, Cause] = {}
    """By peer: the error of a transfer that could not be made."""
    refused_again: Cause | None = None
    """The error of the second try, where that one could not be made either."""
    tried_again: Cause | None = None
    """Such an error, where one was made for that peer after all before anything was posted."""
    interrupts: list[ErrorSeen] = []
    """KeyboardInterrupt or SystemExit inside a call of the transport."""
    any: bool = False

    @property
    def first(self) -> Cause | None:
        return self.posting or self.checking

    @property
    def posts(self) -> str:
        """What was posted, in words."""
        return f"{self.posted} transfers were posted" + (f", and {self.posting}" if self.posting is not None else "")


class Bracket(msgspec.Struct, eq=False):
    """A call between its start and its end."""

    started: CallStarted
    complete: bool
    """When it started a deadline had passed, and every transfer had finished in truth."""
    ended: CallEnded | None = None
