"""Workers that wait for work although their system counts them as busy: told by where their threads stand.

``busy()`` need not count a worker that waits for work. Where it does so in a room in which nothing has been sent, the
kit looks at the threads instead: one that has not moved for some looks, or stands in a wait of the standard library's,
waits for work.
"""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable, Container, Sequence
from threading import Thread
from types import FrameType
from typing import Final

_STILL: Final = 3
"""So many looks in a row; each lets all other threads run."""
_WAITS: Final = (threading.__file__, queue.__file__)


class Resting:
    """Counts the workers that wait for work, look by look."""

    def __init__(self, workers: Callable[[], Sequence[Thread]], parked: Container[int]) -> None:
        self._workers: Final = workers
        self._parked: Final = parked
        self._stood: dict[int | None, tuple[object, int]] = {}

    def __call__(self) -> int:
        """How many there are that are not parked at the transport."""
        frames, count = sys._current_frames(), 0
        for worker in self._workers():
            frame = None if worker.ident is None else frames.get(worker.ident)
            place = None if frame is None or _may_run(worker) else _place(frame)
            before, looks = self._stood.get(worker.ident, (None, 0))
            looks = looks + 1 if place is not None and place == before else 0
            self._stood[worker.ident] = place, looks
            count += looks >= _STILL and worker.ident not in self._parked
        return count


def _may_run(worker: Thread) -> bool:
    """Linux would run the thread if it had a core: on a busy machine it may stand still all the same."""
    try:
        with open(f"/proc/self/task/{worker.native_id}/stat", encoding="ascii", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "R"
    except OSError:
        return False  # it has ended, or this is another system


def _place(frame: FrameType) -> object:
    """Where a thread stands; two looks at one that waits again and again are the same."""
    return "a wait" if frame.f_code.co_filename in _WAITS else (id(frame), frame.f_lasti)
