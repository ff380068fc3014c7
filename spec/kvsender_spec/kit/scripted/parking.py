"""Where workers of the system under test wait: inside a check of a transfer that is still PROC.

Schedules are made at the transport's call points, never with sleeps. The time limits here end what would never end;
they decide nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from threading import Condition, RLock, get_ident
from typing import Final

CALL_LIMIT_S: Final = 10.0
"""A call of the adapter's that takes longer never returns; it may import what its sender needs."""
SENDER_LIMIT_S: Final = 4.0
"""A call of the sender's that takes longer waits for something (KS-3.7)."""
LOOK_S: Final = 0.001
"""Between two looks at whether workers, of which only their system knows, have become idle."""
SHORT_LOOK_S: Final = 0.0002
"""The same where each wait takes several looks."""


def looks(limit_s: float, period_s: float) -> int:
    """How often to look until a time limit is over.

    Time limits count looks, not seconds of the wall clock: a machine that is stopped for a minute, as shared ones are,
    has not given anybody a minute to return.
    """
    return max(1, round(limit_s / period_s))


class Parking:
    """Where workers of the system under test wait inside a check of a transfer that is still PROC.

    Off until a run names its own threads: without a run nobody is parked. The fabric's lock is held in ``park``.
    """

    def __init__(self, lock: RLock) -> None:
        self._changed: Final = Condition(lock)
        self._callers: frozenset[int] = frozenset()
        self._checked: dict[int, set[int]] = {}
        """For each worker, the handles that it has checked since it was last let go."""
        self._parked: dict[int, None] = {}
        """In the order of their coming."""
        self._called: set[int] = set()
        self.closed = False
        self.held: int | None = None
        """A worker that has asked too often and is not let go any more."""

    def only_for_others_than(self, *callers: int) -> None:
        """Begin to park every thread but these."""
        self._callers = frozenset(callers)

    @property
    def is_caller(self) -> bool:
        """The thread that asks is one of the caller's, or nobody has said whose is whose."""
        return not self._callers or get_ident() in self._callers

    def park(self, handle: int) -> None:
        """Called by a check that would answer PROC."""
        if self.is_caller or self.closed:
            return
        worker = get_ident()
        checked = self._checked.setdefault(worker, set())
        if handle in checked:
            self._parked[worker] = None
            self._changed.notify_all()
            self._changed.wait_for(lambda: worker in self._called or self.closed)
            self._called.discard(worker)
            self._parked.pop(worker, None)  # no longer parked: the run is over
            checked.clear()
        checked.add(handle)

    def hold(self) -> None:
        """Called by a worker that goes on asking for ever. It waits until the run is over."""
        with self._changed:
            self.held = get_ident()
            self._changed.notify_all()
            self._changed.wait_for(lambda: self.closed)

    @property
    def parked(self) -> Collection[int]:
        """The workers that wait inside a check."""
        return self._parked

    def wait_until_idle(self, busy: Callable[[], int], limit_s: float = CALL_LIMIT_S, look_s: float = LOOK_S) -> bool:
        """Until every worker that has work is parked; False when that does not happen in time, or one is held."""
        # A worker never unparks by itself, so the two counts need not be taken at one instant. ``busy`` takes locks of
        # the system's own, under which it may be inside the transport: it is not called with the fabric's lock.
        for _ in range(looks(limit_s, look_s)):
            working = busy()
            with self._changed:
                if self.held is not None:
                    return False
                if working <= len(self._parked):
                    return True
                self._changed.wait(look_s)
        return False

    def let_each_go_on(self, busy: Callable[[], int], limit_s: float = CALL_LIMIT_S, look_s: float = LOOK_S) -> bool:
        """One round: each parked worker in turn goes on until all are idle again. False when that never happens."""
        for worker in list(self._parked):
            self._call(worker)
            if not self.wait_until_idle(busy, limit_s, look_s):
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

    def close(self) -> None:
        """The run is over: nobody is parked any more."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()
