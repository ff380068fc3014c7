"""What every event of a history has."""

from __future__ import annotations

import msgspec


class Event(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="kind", gc=False):
    """What every event has."""

    seq: int
    """From 0, without gaps: verdicts cite it."""
    t: float
    """Seconds since the header, by one clock; never goes back."""
    thread: int = 0
    """A small number; 0 is the caller's main thread."""
    call: int | None = None
    """The ``seq`` of the ``call.started`` that encloses the event in its thread."""
    room: int | None = None
    """The key of a room incarnation, where the event is about one and the source knows which."""
