"""What is left of tcp connections whose other end has died: data that the kernel still delivers.

A process that ends leaves behind what it had given to its sockets. The kernel goes on sending that, and what has
arrived waits in the receiver's socket, until the receiver makes progress; then it lands. So the end of a process is the
end of its writes only when no socket without an owner has data left to send, and each socket of this process has been
seen empty since.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TABLES: Final = ("/proc/self/net/tcp", "/proc/self/net/tcp6")
_TIME_WAIT: Final = 6
"""The state of a connection of which only the number is kept."""
_LISTEN: Final = 10


@dataclass(frozen=True, slots=True)
class _Row:
    inode: int
    state: int
    to_send: int
    to_read: int


def _rows() -> Iterator[_Row]:
    """Raises OSError where the system has no such table."""
    for table in _TABLES:
        path = Path(table)
        if table.endswith("6") and not path.exists():
            continue
        for line in path.read_text().splitlines()[1:]:
            words = line.split()
            to_send, to_read = words[4].split(":")
            yield _Row(int(words[9]), int(words[3], 16), int(to_send, 16), int(to_read, 16))


def unsent_by_the_dead() -> int | None:
    """How many sockets of this network namespace nobody owns and have data left to send; None where that is not said.

    A socket of a connection that nobody has accepted yet is one of them, too: it only makes this wait.
    """
    try:
        rows = tuple(_rows())
    except (OSError, ValueError, IndexError):
        return None
    return sum(row.inode == 0 and row.to_send > 0 and row.state not in (_TIME_WAIT, _LISTEN) for row in rows)


class UnreadSockets:
    """The tcp sockets that this process had at one moment, and that have not been seen empty since."""

    def __init__(self) -> None:
        self._left = _own()

    def empty(self) -> bool:
        """Whether each of them has been empty, or closed, at some time since. Call it after the agent made progress."""
        if self._left is None:
            return False
        try:
            unread = {row.inode for row in _rows() if row.to_read and row.state != _LISTEN}
        except (OSError, ValueError, IndexError):
            return False
        own = _own()
        if own is None:
            return False
        self._left &= own & unread
        return not self._left


def _own() -> set[int] | None:
    """The inodes of this process's sockets."""
    try:
        targets = [_link(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
        return {int(target[len("socket:[") : -1]) for target in targets if target.startswith("socket:[")}
    except (OSError, ValueError):
        return None


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""  # it was closed meanwhile
