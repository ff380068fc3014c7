"""The threads that call the sender: the caller's, and another one that calls at the point of the
transport that a step names. The time limit here ends what would never end; it decides nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from queue import SimpleQueue
from threading import Event, Thread, get_ident
from typing import Final, Generic, TypeVar

_T = TypeVar("_T")

CALLER: Final = "kvsender-caller"
OTHER: Final = "kvsender-other"
OVERLAP_S: Final = 0.02
"""How long the first of two callers waits for the second, which may have to wait for a lock of the first."""


class Task(Generic[_T]):
    """One call on another thread, and what came of it."""

    def __init__(self, what: Callable[[], _T]) -> None:
        self._what: Callable[[], _T] | None = what
        self._done: Final = Event()
        self.results: list[_T] = []
        """One, unless it raised."""
        self.error: BaseException | None = None
        self.ident: int | None = None
        """The thread that makes the call; None until it has begun."""

    def run(self) -> None:
        self.ident = get_ident()
        what, self._what = self._what, None
        assert what is not None
        try:
            self.results.append(what())
        except BaseException as error:
            self.error = error
        finally:
            del what
            self._done.set()

    def wait(self, limit_s: float) -> bool:
        """Whether it is over."""
        return self._done.wait(limit_s)


class Caller:
    """A thread that makes one call after the other. One that never returns costs this thread, and not the run."""

    def __init__(self, name: str) -> None:
        self._tasks: Final[SimpleQueue[Callable[[], None]]] = SimpleQueue()
        self._thread: Final = Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()
        assert self._thread.ident is not None
        self.ident: Final = self._thread.ident

    @property
    def is_this_thread(self) -> bool:
        return get_ident() == self.ident

    def begin(self, what: Callable[[], _T]) -> Task[_T]:
        task = Task(what)
        self._tasks.put(task.run)
        return task

    def _serve(self) -> None:
        while True:
            self._tasks.get()()


class Callers:
    """The caller's thread, and another one for calls that overlap the caller's. Kept from run to run."""

    def __init__(self) -> None:
        self._made: Final[dict[str, Caller]] = {}
        # A forked process, as test runners make them, inherits the objects of its parent's threads, not the threads.
        os.register_at_fork(after_in_child=self._made.clear)

    @property
    def main(self) -> Caller:
        return self._made.get(CALLER) or self._new(CALLER)

    @property
    def other(self) -> Caller:
        return self._made.get(OTHER) or self._new(OTHER)

    def replace(self, name: str) -> None:
        """Leave a thread behind that will not come back."""
        self._made.pop(name, None)

    def _new(self, name: str) -> Caller:
        return self._made.setdefault(name, Caller(name))
