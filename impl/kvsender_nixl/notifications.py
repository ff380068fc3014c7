"""What an initiator tells a target about a room, as NIXL notifications, and their form on the wire.

A notification either travels with a transfer, and so says that its bytes are in place, or goes on its own. Whatever
arrives is judged here: a message that is not exactly one of these raises ValueError (KS-7.1). A ``token`` names one
incarnation of a room: a notification of an earlier room of the same id is nobody's (KS-5.4).
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import Final, TypeAlias

VERSION: Final = 1
MAGIC: Final = f"kvs{VERSION}"
MAX_REASON_CHARS: Final = 500
"""A failure notification travels over a connection that may be in trouble, so its reason stays short."""
MOST_RENEWED: Final = 1024
"""How many rooms one renewal may name."""
TOKEN: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")


@dataclass(frozen=True, slots=True)
class ChunkNotification:
    """Attached to a chunk's transfer: the pages of chunk number ``chunk`` (from 0) are in place."""

    room: int
    token: str
    chunk: int

    def to_bytes(self) -> bytes:
        return f"{MAGIC} chunk {self.room} {self.token} {self.chunk}".encode()


@dataclass(frozen=True, slots=True)
class AuxNotification:
    """Attached to the aux transfer: the aux data is in place."""

    room: int
    token: str

    def to_bytes(self) -> bytes:
        return f"{MAGIC} aux {self.room} {self.token}".encode()


@dataclass(frozen=True, slots=True)
class SuccessNotification:
    """The room is complete. ``num_chunks`` chunk notifications belong to it, and the aux one if ``has_aux``."""

    room: int
    token: str
    num_chunks: int
    has_aux: bool

    def to_bytes(self) -> bytes:
        return f"{MAGIC} success {self.room} {self.token} {self.num_chunks} {int(self.has_aux)}".encode()


@dataclass(frozen=True, slots=True)
class FailureNotification:
    """The room has failed. ``quiesced`` says that none of its bytes can still land at this peer."""

    room: int
    token: str
    quiesced: bool
    reason: str

    def to_bytes(self) -> bytes:
        reason = " ".join(self.reason[:MAX_REASON_CHARS].split())
        return f"{MAGIC} failure {self.room} {self.token} {int(self.quiesced)} {reason}".encode(errors="replace")


@dataclass(frozen=True, slots=True)
class QuiescedNotification:
    """None of the room's bytes can land at this peer any more. It follows a failure that could not say so yet."""

    room: int
    token: str

    def to_bytes(self) -> bytes:
        return f"{MAGIC} quiesced {self.room} {self.token}".encode()


@dataclass(frozen=True, slots=True)
class StateNotification:
    """The answer to a ``StatusRequest`` about a room that has not ended here: it goes on, or it is unknown.

    Unknown says of this process of the initiator, ``incarnation``, alone: nothing that it has posted for the room can
    land at this peer any more. If the peer has given the room up, then nothing will be posted for it either.
    """

    room: int
    token: str
    incarnation: str
    goes_on: bool

    def to_bytes(self) -> bytes:
        state = "on" if self.goes_on else "unknown"
        return f"{MAGIC} state {self.room} {self.token} {state} {self.incarnation}".encode()


Notification: TypeAlias = (
    ChunkNotification
    | AuxNotification
    | SuccessNotification
    | FailureNotification
    | QuiescedNotification
    | StateNotification
)


@dataclass(frozen=True, slots=True)
class RenewNotification:
    """A reader tells a holder that it still wants these rooms, each with its token: their leases go on."""

    rooms: tuple[tuple[int, str], ...]

    def to_bytes(self) -> bytes:
        return " ".join((MAGIC, "renew", *(f"{room} {token}" for room, token in self.rooms))).encode()


def parse_told_holder(message: bytes) -> Notification | RenewNotification:
    """Read what a reader tells a holder; raises ValueError for anything else.

    A renewal of more than ``MOST_RENEWED`` rooms is one of the things that are refused: each of them may be answered.
    """
    magic, _, rest = text_of(message).partition(" renew ")
    if magic != MAGIC:
        return parse_notification(message)
    words = rest.split(" ", 2 * MOST_RENEWED)
    if len(words) % 2 or len(words) > 2 * MOST_RENEWED:
        raise ValueError(
            f"not the rooms of a renewal, each with its token, and at most {MOST_RENEWED}: {message[:80]!r}"
        )
    return RenewNotification(
        tuple((_number(room), token_of(token)) for room, token in zip(words[::2], words[1::2], strict=True))
    )


def parse_notification(message: bytes) -> Notification:
    """Read a notification; raises ValueError for anything else."""
    words = text_of(message).split(" ", 5)
    match words:
        case [magic, "chunk", room, token, chunk] if magic == MAGIC:
            return ChunkNotification(_number(room), token_of(token), _count(chunk))
        case [magic, "aux", room, token] if magic == MAGIC:
            return AuxNotification(_number(room), token_of(token))
        case [magic, "success", room, token, num_chunks, ("0" | "1") as aux] if magic == MAGIC:
            return SuccessNotification(_number(room), token_of(token), _count(num_chunks), aux == "1")
        case [magic, "quiesced", room, token] if magic == MAGIC:
            return QuiescedNotification(_number(room), token_of(token))
        case [magic, "state", room, token, ("on" | "unknown") as state, incarnation] if magic == MAGIC:
            return StateNotification(_number(room), token_of(token), token_of(incarnation), state == "on")
        case [magic, "failure", room, token, ("0" | "1") as quiesced, reason] if magic == MAGIC:
            return FailureNotification(_number(room), token_of(token), quiesced == "1", reason[:MAX_REASON_CHARS])
        case _:
            raise ValueError(f"not a notification of {MAGIC}: {message[:80]!r}")


def text_of(message: bytes) -> str:
    try:
        return message.decode()
    except UnicodeDecodeError:
        raise ValueError(f"not UTF-8: {message[:80]!r}") from None


def _number(word: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,20}", word):
        raise ValueError(f"{word[:40]!r} is not a room")
    return int(word)


def _count(word: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", word):
        raise ValueError(f"{word[:40]!r} is not a count")
    return int(word)


def random_token() -> str:
    return uuid.uuid4().hex


def require_incarnation(incarnation: str) -> None:
    """Raises ValueError for one that cannot be."""
    if incarnation and not TOKEN.fullmatch(incarnation):
        raise ValueError(f"incarnation {incarnation[:80]!r} is not 0 to 64 letters, digits or ._:-")


def token_of(word: str) -> str:
    if not TOKEN.fullmatch(word):
        raise ValueError(f"{word[:80]!r} is not a token")
    return word
