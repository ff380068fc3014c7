"""The threads of a run: those that call the sender, and where the system's own workers stand still.

Schedules are made at the transport's call points, never with sleeps: a worker that would wait for a transfer in a loop
is parked in the transport until the kit's next move, and a second caller is let in at the very call of the transport
that a step names. The time limits here end what would never end; they decide nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from queue import SimpleQueue
from threading import Condition, Event, RLock, Thread, get_ident
from typing import Final, Generic, TypeVar

_T = TypeVar("_T")

CALL_LIMIT_S: Final = 10.0
"""A call that takes longer never returns."""
MEETING_S: Final = 0.02
"""How long the first of two callers stands still for the second, which may have to wait for a lock of the first."""
_LOOK_S: Final = 0.001
"""Between two looks at whether workers, of which only their system knows, have become idle."""


def looks(limit_s: float, period_s: float) -> int:
    """How often to look until a time limit is over.

    Time limits count looks, not seconds of the wall clock: a machine that stands still for a minute, as shared ones do,
    has not given anybody a minute to return.
    """
    return max(1, round(limit_s / period_s))


class Errand(Generic[_T]):
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
        self._errands: Final[SimpleQueue[Callable[[], None]]] = SimpleQueue()
        self._thread: Final = Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    @property
    def ident(self) -> int:
        assert self._thread.ident is not None
        return self._thread.ident

    def begin(self, what: Callable[[], _T]) -> Errand[_T]:
        errand = Errand(what)
        self._errands.put(errand.run)
        return errand

    def _serve(self) -> None:
        while True:
            self._errands.get()()


class Callers:
    """The owner's thread, and another one for calls that meet the owner's. Kept from run to run."""

    def __init__(self) -> None:
        self._made: Final[dict[tuple[int, str], Caller]] = {}

    @property
    def owner(self) -> Caller:
        return self._of_this_process("kvsender-owner")

    @property
    def other(self) -> Caller:
        return self._of_this_process("kvsender-other")

    def replace(self) -> None:
        """Leave threads behind that will not come back."""
        self._made.clear()

    def _of_this_process(self, name: str) -> Caller:
        # A forked process, as test runners make them, inherits the objects of its parent's threads, not the threads.
        key = (os.getpid(), name)
        caller = self._made.get(key)
        if caller is None:
            caller = self._made[key] = Caller(name)
        return caller


class Parking:
    """Where workers of the system under test stand still inside a check of a transfer that is still PROC.

    Off until a run names its own threads: without a run nobody is parked. The fabric's lock is held in ``stand``.
    """

    def __init__(self, lock: RLock) -> None:
        self._changed: Final = Condition(lock)
        self._callers: frozenset[int] = frozenset()
        self._checked: dict[int, set[int]] = {}
        """For each worker, the handles that it has checked since it was last let go."""
        self._parked: dict[int, None] = {}
        """In the order of their coming."""
        self._called: set[int] = set()
        self.dismissed = False

    def only_for_others_than(self, *callers: int) -> None:
        """Begin to park every thread but these."""
        self._callers = frozenset(callers)

    @property
    def is_caller(self) -> bool:
        """The thread that asks is one of the owner's, or nobody has said whose is whose."""
        return not self._callers or get_ident() in self._callers

    def stand(self, handle: int) -> None:
        """Called by a check that would answer PROC."""
        if self.is_caller or self.dismissed:
            return
        worker = get_ident()
        checked = self._checked.setdefault(worker, set())
        if handle in checked:
            self._parked[worker] = None
            self._changed.notify_all()
            self._changed.wait_for(lambda: worker in self._called or self.dismissed)
            self._called.discard(worker)
            self._parked.pop(worker, None)  # dismissed
            checked.clear()
        checked.add(handle)

    def wait_until_quiet(self, busy: Callable[[], int], limit_s: float = CALL_LIMIT_S) -> bool:
        """Until every worker that has work is parked; False when that does not happen in time."""
        # A worker never unparks by itself, so the two counts need not be taken at one instant. ``busy`` takes locks of
        # the system's own, under which it may be inside the transport: it is not called with the fabric's lock.
        for _ in range(looks(limit_s, _LOOK_S)):
            working = busy()
            with self._changed:
                if working <= len(self._parked):
                    return True
                self._changed.wait(_LOOK_S)
        return False

    def let_each_go_on(self, busy: Callable[[], int], limit_s: float = CALL_LIMIT_S) -> bool:
        """One round: each parked worker in turn goes on until all are quiet again. False when that never happens."""
        for worker in list(self._parked):
            self._call(worker)
            if not self.wait_until_quiet(busy, limit_s):
                return False
        return True

    def let_all_go(self) -> None:
        """Whoever is parked goes on, because a caller may be waiting for a lock that is held by one of them."""
        for worker in list(self._parked):
            self._call(worker)

    def _call(self, worker: int) -> None:
        with self._changed:
            if self._parked.pop(worker, worker) is None:
                self._called.add(worker)
                self._changed.notify_all()

    def dismiss(self) -> None:
        """The run is over: nobody is parked any more."""
        with self._changed:
            self.dismissed = True
            self._changed.notify_all()
