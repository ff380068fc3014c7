"""Why each clause fails in each release: known in public, found here, or no promise of theirs. One entry a fail.

An entry that no fail needs is stale, and a fail without an entry is news; the command says both and ends with an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    PUBLIC = "known public issue"
    FOUND_HERE = "we found no public issue"
    OURS = "a clause of this project, beyond their documented contract"


@dataclass(frozen=True, slots=True)
class Known:
    kind: Kind
    why: str
    """What the sender does, in a sentence."""
    references: tuple[str, ...] = ()
    """Public issues and pull requests, as ``owner/repository#number``."""
    drawn: bool = False
    """It takes a clear() at just that moment, which not every exploration draws: its absence is no news."""


def _public(why: str, *references: str) -> Known:
    return Known(Kind.PUBLIC, why, references)


def _found(why: str) -> Known:
    return Known(Kind.FOUND_HERE, why)


def _ours(why: str) -> Known:
    return Known(Kind.OURS, why)


_SGLANG: Final = "sgl-project/sglang#"

_NEVER_RELEASED: Final = _public(
    "nobody calls release_xfer_handle(); handles go when Python drops them", f"{_SGLANG}14070", f"{_SGLANG}14072"
)
_CONTROL_DIES: Final = _public(
    "a message that the control thread does not expect ends it", f"{_SGLANG}30352", f"{_SGLANG}33043"
)
_NO_DEADLINE: Final = _public(
    "a peer that stays silent keeps the room open: neither NIXL nor the sender has a deadline", "ai-dynamo/nixl#2047"
)
_PINS_A_WORKER: Final = _found(
    "a worker waits for one room's transfers as long as none has failed: behind a silent peer every room of its queue"
    " starves"
)
_SOURCE_PAGES: Final = _public(
    "poll() says Failed, and the owner frees the pages, while a transfer still reads them", f"{_SGLANG}38961"
)
_TELLS_NOBODY: Final = _public(
    "a failure stays with the prefill side; the peer waits for its own timeout", f"{_SGLANG}36033", f"{_SGLANG}30329"
)
_ABORT_TELLS_NOBODY: Final = _public(
    "abort() tells no peer, which waits for its own timeout", f"{_SGLANG}28651", f"{_SGLANG}36160"
)
_NO_USAGE_ERROR: Final = _ours("failure_exception() raises the same constant error whether the room has failed or not")
_NO_CHECK_OF_PAGES: Final = _ours(
    "page ids are not checked; what is wrong with them shows in the transport, or nowhere"
)
_QUEUED_UNCHECKED: Final = _ours(
    "send() queues whatever it is given, and the worker fails the room, cuts the chunk short, or writes elsewhere"
)
_LATCHES_FAILED: Final = _found("failure_exception() fails and clears a room that has not failed")
_REASON_POPPED: Final = _found(
    "the reason is popped by the first failure_exception(); the second one blames another rank, which mutes the log"
)
_REASON_LAST_WRITER: Final = _found(
    "abort() overwrites the reason of a room that has failed, and fails one that is done"
)
_TEXT_ONLY: Final = _found(
    "the reason is a text: the transport's exception is not chained, its class is not named, and where a check raised,"
    " it says that a handle was left running for 5 s that nobody had waited for"
)
_RECORD_STAYS: Final = _found("the failure of a cleared room stays on record and fails the next room of its number")
_CLEARED_POLLS: Final = _ours("a sender that was cleared answers for whatever room has its number now, or for none")
_POPPED: Final = _found("the exception is popped by the first failure_exception(); the second one raises a constant")
_BLACKLIST: Final = _public(
    "one failed write bars the peer for every room until it is probed or registers",
    f"{_SGLANG}13054",
    f"{_SGLANG}35823",
)
_CHUNK_OUTLIVES: Final = _found("a chunk of a cleared room ends in the next room of its number, or fails it")
_GOES_ON: Final = _found("a chunk in hand goes on after abort() or clear(): the aux data is posted after the pages")

_CONSTANT: Final = _ours("a room that fails because of a state nobody knows shows a constant, and not that state")

_INLINE: Final = {
    "KS-1.1": _public(
        "every error of the transport leaves send() or poll() and ends the scheduler",
        f"{_SGLANG}24296",
        f"{_SGLANG}23551",
    ),
    "KS-1.2": _public("no error of the transport is caught", f"{_SGLANG}24296", f"{_SGLANG}23551"),
    "KS-2.2": _public("abort() is not looked at: the room goes on to Success", f"{_SGLANG}24522"),
    "KS-2.3": _CONSTANT,
    "KS-2.5": _public("send() goes on posting after abort()", f"{_SGLANG}24522"),
    "KS-2.7": _NO_USAGE_ERROR,
    "KS-3.4": _public("a room that was aborted never ends", f"{_SGLANG}24522"),
    "KS-4.3": _NEVER_RELEASED,
    "KS-5.1": _public("send() goes on posting after abort()", f"{_SGLANG}24522"),
    "KS-7.1": _CONTROL_DIES,
    "KS-8.1": _NO_CHECK_OF_PAGES,
}

_SEED: Final = {
    "KS-1.1": _public(
        "three of NIXL's classes are caught; a peer that is not found, and the others, still escape", f"{_SGLANG}23551"
    ),
    "KS-1.2": _public("three of NIXL's classes are caught, of twelve and RuntimeError", f"{_SGLANG}23551"),
    "KS-2.3": _CONSTANT,
    "KS-2.7": _NO_USAGE_ERROR,
    "KS-3.4": _NO_DEADLINE,
    "KS-4.1": _ours("the first error ends the room while its other transfers are in flight"),
    "KS-4.3": _NEVER_RELEASED,
    "KS-6.1": _TELLS_NOBODY,
    "KS-8.1": _NO_CHECK_OF_PAGES,
}

_WORKERS: Final = {
    "KS-1.3": _POPPED,
    "KS-2.1": _ours("after clear() the answer is WaitingForInput, whatever it was"),
    "KS-2.2": _public("the worker's Success, being larger, takes the place of Failed", f"{_SGLANG}30352"),
    "KS-2.3": _POPPED,
    "KS-2.4": _POPPED,
    "KS-2.5": _public("a chunk that ends lifts Failed to Transferring, and the next one is posted", f"{_SGLANG}30352"),
    "KS-2.7": _NO_USAGE_ERROR,
    "KS-3.1": _public("the last chunk of a dense model takes no aux data along", f"{_SGLANG}25698"),
    "KS-3.2": _public("the last chunk of a dense model takes no aux data along", f"{_SGLANG}25698"),
    "KS-3.4": _NO_DEADLINE,
    "KS-3.6": _public("the last chunk of a dense model takes no aux data along", f"{_SGLANG}25698"),
    "KS-4.1": _SOURCE_PAGES,
    "KS-4.2": _found("when one peer's transfer fails, the worker drops the others while they are in flight"),
    "KS-3.5": _CHUNK_OUTLIVES,
    "KS-5.1": _POPPED,
    "KS-5.2": _CLEARED_POLLS,
    "KS-5.4": _CHUNK_OUTLIVES,
    "KS-6.2": _PINS_A_WORKER,
    "KS-7.1": _CONTROL_DIES,
    "KS-8.1": _QUEUED_UNCHECKED,
}

_SHARED: Final = {
    "KS-2.1": _REASON_LAST_WRITER,
    "KS-2.2": _CLEARED_POLLS,
    "KS-2.3": _TEXT_ONLY,
    "KS-2.4": _REASON_POPPED,
    "KS-2.7": _LATCHES_FAILED,
    "KS-3.1": _CLEARED_POLLS,
    "KS-4.1": _SOURCE_PAGES,
    "KS-5.1": _REASON_LAST_WRITER,
    "KS-5.4": _RECORD_STAYS,
    "KS-6.1": _ABORT_TELLS_NOBODY,
    "KS-7.1": _CONTROL_DIES,
    "KS-8.1": _QUEUED_UNCHECKED,
}

_NIXL_0_5_23: Final = {
    **_SHARED,
    "KS-1.3": _TEXT_ONLY,
    "KS-3.3": replace(_CHUNK_OUTLIVES, drawn=True),
    "KS-3.4": _NO_DEADLINE,
    "KS-3.5": _RECORD_STAYS,
    "KS-3.6": replace(_CHUNK_OUTLIVES, drawn=True),
    "KS-4.2": _found("a transfer that was given up after 5 s goes with the worker's next chunk, while it is in flight"),
    "KS-4.3": _NEVER_RELEASED,
    "KS-6.2": _PINS_A_WORKER,
}

_MOONCAKE_0_5_23: Final = {
    **_SHARED,
    "KS-2.3": _REASON_POPPED,
    "KS-2.5": _GOES_ON,
    "KS-3.4": _CLEARED_POLLS,
    "KS-3.5": _BLACKLIST,
    "KS-4.1": _public(
        "a write that outlasts the engine's timeout is answered -1 and goes on",
        "kvcache-ai/Mooncake#4247",
        f"{_SGLANG}38961",
    ),
    "KS-4.3": _public("a write that outlasts the engine's timeout is never freed", "kvcache-ai/Mooncake#4247"),
    "KS-5.2": _GOES_ON,
    "KS-5.3": _GOES_ON,
    "KS-5.4": _BLACKLIST,
}

KNOWN: Final[Mapping[tuple[str, str], Known]] = {
    (key, clause): known
    for key, entries in (
        ("sglang-0.5.11", _INLINE),
        ("seed", _SEED),
        ("sglang-0.5.12", _WORKERS),
        ("sglang-0.5.23", _NIXL_0_5_23),
        ("mooncake-0.5.23", _MOONCAKE_0_5_23),
    )
    for clause, known in entries.items()
}
"""By connector and clause."""
