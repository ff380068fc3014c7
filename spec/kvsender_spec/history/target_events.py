"""The events that only the history of a target has: what initiators say, and what becomes of its pages."""

from __future__ import annotations

from kvsender_spec.history.event import Event
from kvsender_spec.history.words import How, Says


class NoticeArrived(Event, frozen=True, kw_only=True, omit_defaults=True, tag="notice.arrived"):
    """What an initiator says of a room is where the target takes it from. ``room`` is the room that it is about."""

    peer: str
    """Who says it: for one that is said by a stranger, the stranger."""
    says: Says
    generation: int = 0
    """Which process of that name."""
    part: int = 0
    """Of a part, its number from 0."""
    quiesced: bool = False
    """A failure that says as well that nothing of the initiator can touch the pages any more."""
    how: How = How.PROPER


class FenceTold(Event, frozen=True, kw_only=True, omit_defaults=True, tag="fence.told"):
    """The target was told that nothing of this process of an initiator can touch its pages any more, on evidence."""

    peer: str
    generation: int = 0


class PagesReused(Event, frozen=True, kw_only=True, omit_defaults=True, tag="pages.reused"):
    """A holder gives pages that it had granted to another request."""

    pages: tuple[int, ...] = ()
    raised_before: bool = True
    """Each of their stamps differed from the granted one before the first byte was written."""
    raised_after: bool = True
    """Each is another one again now that all are written."""
    refused: bool = False


class PagesPublished(Event, frozen=True, kw_only=True, omit_defaults=True, tag="pages.published"):
    """The pages that the target lets other requests use."""

    pages: tuple[int, ...]
