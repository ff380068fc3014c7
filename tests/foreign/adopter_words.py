"""The words of an adopter's senders: the transport's answers, errors and whose fault they are, page ids."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from enum import Enum
from operator import index
from typing import Final, SupportsIndex

from kvsender_spec.contract import Attribution, KVUsageError, TransferAborted, TransferTimeout
from kvsender_spec.faults import STAND_INS
from kvsender_spec.kit.adapter import NUM_PAGES

log = logging.getLogger(__name__)

ERRORS: Final[tuple[type[Exception], ...]] = (*STAND_INS.values(), RuntimeError)
OF_PEERS: Final = (STAND_INS["nixlRemoteDisconnectError"], STAND_INS["nixlNotFoundError"])


class Answered(RuntimeError):
    """The transport returned a word that is neither PROC nor DONE."""


class PeerGone(Exception):
    """The peer's process of the time when the room was opened is no longer the connected one."""


class Interrupted(Exception):
    """send() was interrupted; ``__cause__`` is what interrupted it."""


class At(Enum):
    """Where a transfer is. BAD: not posted yet, or nobody knows whether it still reads its pages."""

    BAD = "BAD"
    FLYING = "PROC"
    DONE = "DONE"


def heard(word: str) -> At:
    """What the transport's word says."""
    if word not in (At.FLYING.value, At.DONE.value):
        raise Answered(f"the transport answered {word}")
    return At(word)


def interrupted(by: BaseException) -> Interrupted:
    """The cause of a room whose send() was interrupted."""
    cause = Interrupted(f"interrupted by {shown(by)}")
    cause.__cause__ = by
    return cause


def shown(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def attribute(error: BaseException) -> Attribution:
    """Whose fault it is, by the first cause."""
    while error.__cause__ is not None and not isinstance(error, Interrupted):
        error = error.__cause__
    if isinstance(error, TransferAborted):
        return Attribution.CALLER
    if isinstance(error, TransferTimeout):
        return Attribution.DEADLINE
    if isinstance(error, (PeerGone, *OF_PEERS)):
        return Attribution.PEER
    if isinstance(error, ERRORS):
        return Attribution.LOCAL
    return Attribution.INTERNAL


def note(cause: Exception) -> None:
    """Log what is nobody's fault but the program's own."""
    if attribute(cause) is Attribution.INTERNAL and not isinstance(cause, Interrupted):
        log.error("internal", exc_info=cause)


def page_id(found: object) -> int:
    if isinstance(found, bool) or not isinstance(found, SupportsIndex):
        raise TypeError(f"{found!r} is no page id")
    return index(found)


def validated(kv: Sequence[int], sent: Sequence[int], num_pages: int) -> list[int]:
    """The page ids of a chunk, or a usage error."""
    try:
        pages = [page_id(found) for found in kv]
    except TypeError:
        raise KVUsageError(f"{kv!r} is no list of page ids") from None
    if any(not 0 <= page < NUM_PAGES for page in pages):
        raise KVUsageError(f"{pages}: out of range")
    if len(sent) + len(pages) > num_pages:
        raise KVUsageError(f"{pages}: more pages than announced")
    if len({*sent, *pages}) < len(sent) + len(pages):
        raise KVUsageError(f"{pages}: a page twice")
    return pages
