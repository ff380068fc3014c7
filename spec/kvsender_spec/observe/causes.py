"""Whether an error that the caller was shown stands for a cause, and whom a cause names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from kvsender_spec.contract import Attribution
from kvsender_spec.history.events import ErrorSeen
from kvsender_spec.oracle import Cause, CauseKind, Possible

MISTAKES: Final = frozenset(
    {
        "AssertionError",
        "AttributeError",
        "NameError",
        "NotImplementedError",
        "RecursionError",
        "TypeError",
        "UnboundLocalError",
        "ZeroDivisionError",
    }
)
"""Classes that nobody raises for an abort, a passed deadline or a lost peer: the program itself is wrong. KeyError and
IndexError are no such classes: a peer that is gone may be found by looking it up."""


def chain(error: ErrorSeen, errors: Mapping[int, ErrorSeen]) -> list[ErrorSeen]:
    """The error and what its ``__cause__`` leads to."""
    links = [error]
    while links[-1].cause is not None and len(links) < 16:
        following = errors.get(links[-1].cause)
        if following is None:
            break
        links.append(following)
    return links


def leads_to(links: list[ErrorSeen], first: ErrorSeen) -> bool:
    """Whether a chain ends in an error; what follows it there is its own ``__cause__``."""
    return any(link.ref == first.ref for link in links)


def refs(faults: Iterable[Cause]) -> set[int]:
    """The numbers of the errors among them."""
    return {fault.error.ref for fault in faults if fault.error is not None}


def matches(links: list[ErrorSeen], failed: Possible, faults: Iterable[Cause]) -> bool:
    """Whether an error, the first of these links, stands for the cause of a failed state.

    ``faults`` are all that the room has had.
    """
    cause = failed.cause
    assert cause is not None
    match cause.kind:
        case CauseKind.RAISED | CauseKind.INTERNAL:
            first = cause.error
            assert first is not None
            named = any(first.type in link.text and first.text in link.text for link in links)
            return leads_to(links, first) and (links[0].ref == first.ref or named)
        case CauseKind.RETURNED:
            return any(cause.text in link.text for link in links)
        case (
            CauseKind.ABORTED
            | CauseKind.DEADLINE
            | CauseKind.PEER_LOST
            | CauseKind.GRANT_ENDED
            | CauseKind.TARGET_ABORTED
        ):
            known = refs(faults)
            return not any(link.ref in known or link.type in MISTAKES for link in links)
        case CauseKind.UNKNOWN:
            return True


def attribution_of(failed: Possible) -> Attribution | None:
    """Who caused a failed state, where the cause leaves no choice."""
    cause = failed.cause
    assert cause is not None
    match cause.kind:
        case CauseKind.ABORTED:
            return Attribution.CALLER
        case CauseKind.DEADLINE:
            return Attribution.DEADLINE
        case CauseKind.TARGET_ABORTED:
            return Attribution.PEER
        case CauseKind.INTERNAL:
            return Attribution.INTERNAL
        case CauseKind.PEER_LOST | CauseKind.GRANT_ENDED:
            return None  # the peer's, or local: a list that cannot be prepared any more is the sender's own finding
        case CauseKind.RAISED | CauseKind.RETURNED:
            return Attribution.PEER if cause.error is not None and cause.error.disconnect else None
        case CauseKind.UNKNOWN:
            return None
