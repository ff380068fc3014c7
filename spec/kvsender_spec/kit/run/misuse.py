"""The mistakes of others: of a caller (KS-8.1), when each can be made and with which page ids; of a peer (KS-7.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from kvsender_spec.kit.adapter import NUM_PAGES
from kvsender_spec.trace import Misuse

MALFORMED: Final = (
    b"",
    b"\x00",
    b"\xff\xfe\xfd",
    b"ABORT",
    b"ABORT|no room",
    b"{}",
    b'{"room": "7"}',
    b"None",
    b"7",
    b"-1|" * 1000,
)
"""Control messages that no system can understand, whatever its format."""


def possible(misuse: Misuse, sent: Sequence[int], left: int) -> bool:
    """Whether the mistake can be made in a live room that has ``left`` of its announced pages still to send."""
    match misuse:
        case Misuse.PAGE_AGAIN:
            return bool(sent) and left > 0
        case Misuse.DUPLICATE_PAGE:
            return left > 1
        case Misuse.TOO_MANY_PAGES | Misuse.BEFORE_INIT:
            return True
        case Misuse.PAGE_OUT_OF_RANGE | Misuse.NEGATIVE_PAGE | Misuse.WRONG_DTYPE:
            return left > 0


def wrong_pages(misuse: Misuse, sent: Sequence[int], left: int) -> Sequence[float]:
    """The page ids to send. Those of WRONG_DTYPE are no ints, which is the point."""
    unsent = [page for page in range(NUM_PAGES) if page not in sent]
    match misuse:
        case Misuse.PAGE_OUT_OF_RANGE:
            return [NUM_PAGES]
        case Misuse.NEGATIVE_PAGE:
            return [-1]
        case Misuse.DUPLICATE_PAGE:
            return [*unsent[: left - 1], unsent[left - 2]]  # as late as it fits: the first pages may be good ones
        case Misuse.PAGE_AGAIN:
            return sent[:1]
        case Misuse.TOO_MANY_PAGES:
            return unsent[: left + 1]
        case Misuse.WRONG_DTYPE:
            return [0.5]
        case Misuse.BEFORE_INIT:
            return [0]
