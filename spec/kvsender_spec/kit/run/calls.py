"""Calls an adapter, its system and its senders: never for longer than a limit, with other threads where a step says so.

Every call runs on the caller's thread, and another one waits. ``supervised`` has a whole run made there; a run that is
made elsewhere hands its calls over one by one. A call that never returns is the adapter's fault and costs the caller's
thread. An overlap lets a second thread call the same sender at the very call of the transport that it names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from threading import Thread, get_ident
from typing import Final, TypeVar

from kvsender_spec.faults import Point
from kvsender_spec.history.errors import frames_of, stack_of
from kvsender_spec.kit.adapter import Works
from kvsender_spec.kit.run.resting import Resting
from kvsender_spec.kit.run.threads import CALLER, OTHER, OVERLAP_S, Callers, Task
from kvsender_spec.kit.scripted.fabric import Fabric
from kvsender_spec.kit.scripted.ground import WaitedTooLong
from kvsender_spec.kit.scripted.parking import CALL_LIMIT_S, LOOK_S, SENDER_LIMIT_S, SHORT_LOOK_S, looks
from kvsender_spec.trace import Overlap

_T = TypeVar("_T")
_LOOK_S: Final = 0.05
"""Between two looks at a call that does not return."""
_BETWEEN: Final = 10
"""The kit's own work between two calls may take so many times as long as a call."""
MOST_ASKED: Final = 400
"""How often one call may ask the transport: four times what a sender needs that asks once about each page."""
_EACH: Final = 4
"""How often more for each transfer that is held when the call begins."""
_CALLERS: Final = Callers()


class AdapterError(Exception):
    """The adapter, not the sender, is at fault: the message names the adapter, the call and what it did."""

    @property
    def frames(self) -> tuple[str, ...]:
        """The last frames of what it raised."""
        return () if self.__cause__ is None else frames_of(self.__cause__)


class StuckError(AdapterError):
    """A call does not come back. Of a sender's call the observer says what that is (KS-3.7)."""

    def __init__(self, message: str, stack: tuple[str, ...], after_s: float) -> None:
        super().__init__(message)
        self.stack: Final = stack
        """Where it stands."""
        self.after_s: Final = after_s
        """How long it was waited for; 0 for one that asked the transport too often."""

    @property
    def frames(self) -> tuple[str, ...]:
        return self.stack


@dataclass(slots=True)
class Second:
    """The call of another thread that overlaps the caller's."""

    overlap: Overlap
    call: Callable[[], object]
    seen: int = 0
    of: int = -1
    """Its ``call.started`` event."""
    task: Task[object] | None = None
    """None until the point of the overlap has been reached."""

    def outcome(self) -> tuple[object, BaseException | None]:
        assert self.task is not None
        return (self.task.results[0] if self.task.results else None), self.task.error


def _ignored(_: StuckError) -> None:
    pass


@dataclass(slots=True)
class Calls:
    adapter: str
    fabric: Fabric
    limit_s: float = field(default_factory=lambda: CALL_LIMIT_S)
    sender_limit_s: float = field(default_factory=lambda: SENDER_LIMIT_S)
    system: Works | None = None
    """Where the system has workers."""
    counts_waiting: bool = False
    """Its busy() counts workers that wait for work."""
    on_stuck: Callable[[StuckError], None] = _ignored
    """Told of a call of a supervised run that does not return, by the thread that waits for the run."""
    _second: Second | None = field(default=None, init=False)
    _idle: bool = field(default=False, init=False)
    """Every worker waited for work, or was parked, and nothing was called since."""

    def __post_init__(self) -> None:
        self.fabric.parking.only_for_others_than(_CALLERS.main.ident, _CALLERS.other.ident, get_ident())
        self.fabric.most_asked = MOST_ASKED

    # -- one call

    def threads(self) -> dict[int, int]:
        """The threads that make the caller's calls, by identifier, with their numbers in a history."""
        return {get_ident(): 0, _CALLERS.main.ident: 0, _UNDER_WAY.waiter: 0, _CALLERS.other.ident: 1}

    def hook(self, what: str, call: Callable[[], _T]) -> _T:
        """A call that may not raise: of the adapter, or of its system."""
        result, error = self.make(what, call)
        if error is not None:
            raise self.broken(what, error) from error
        return result[0]

    def broken(self, what: str, error: BaseException) -> AdapterError:
        """What is raised where a call fails that may not."""
        return AdapterError(f"adapter {self.adapter}: {what} raised {type(error).__name__}: {error}")

    def make(self, what: str, call: Callable[[], _T]) -> tuple[list[_T], BaseException | None]:
        """One result or an error. Raises StuckError for a call that does not come back."""
        self.fabric.asked = 0
        self._bound()
        self._idle = False
        caller = _CALLERS.main
        if not caller.is_this_thread:
            task = caller.begin(call)
            self._await(what, task, CALLER)
            self._forbid_waiting(what, task.error)
            return task.results, task.error
        _UNDER_WAY.begin(self, what)
        result: list[_T] = []
        raised: BaseException | None = None
        try:
            result.append(call())
        except BaseException as error:
            raised = error
        if _CALLERS.main is not caller:
            raise _Abandoned
        _UNDER_WAY.end()
        if raised is not None:
            self._forbid_waiting(what, raised)
        return result, raised

    def _bound(self) -> None:
        """One that looks after every room may ask about each transfer that is held, as often as after its own."""
        self.fabric.most_asked = MOST_ASKED + _EACH * self.fabric.handles_held

    def _forbid_waiting(self, what: str, error: BaseException | None) -> None:
        """Raises StuckError where a call had to be stopped, because it asked the transport too often."""
        if isinstance(error, WaitedTooLong):
            said = f"adapter {self.adapter}: {what} asked the transport {self.fabric.most_asked} times and went on"
            raise StuckError(said, frames_of(error), 0.0) from error

    def _await(self, what: str, task: Task[_T], name: str) -> None:
        for _ in range(looks(self.time_for(what), _LOOK_S)):
            if task.wait(_LOOK_S):
                return
            self.fabric.parking.let_all_go()
        raise self.stuck(what, task, name)

    def stuck(self, what: str, task: Task[_T], name: str) -> StuckError:
        """Leave the thread behind on which a call does not return."""
        stack = stack_of(task.ident)
        self.fabric.abandoned = True
        _CALLERS.replace(name)
        limit_s = self.time_for(what)
        said = f"adapter {self.adapter}: {what} did not return within {limit_s:g} s"
        return StuckError(said, stack, limit_s)

    def time_for(self, what: str) -> float:
        """The limit in seconds of a call of the sender's, which is written as one, ``poll()``, or of the adapter."""
        return self.sender_limit_s if "()" in what else self.limit_s

    # -- a second caller

    def expect(self, second: Second) -> None:
        """Let another thread call when the point of its overlap is reached."""
        self._second = second
        self.fabric.on_reach = partial(self._reached, second)

    def _reached(self, second: Second, point: Point) -> None:
        if point is not second.overlap.point:
            return
        with self.fabric.lock:
            reached, second.seen = second.seen, second.seen + 1
        if reached == second.overlap.nth:
            self.fabric.on_reach = None
            second.task = _CALLERS.other.begin(second.call)
            second.task.wait(OVERLAP_S)

    def overlapping(self) -> Second | None:
        """The expected call, over by now; None where its point was never reached."""
        second, self._second = self._second, None
        self.fabric.on_reach = None
        if second is None or second.task is None:
            return None
        self._idle = False
        what = f"{second.overlap.call}() from another thread"
        self._await(what, second.task, OTHER)
        self._forbid_waiting(what, second.task.error)
        return second

    # -- workers

    def workers(self) -> Sequence[Thread]:
        """Those of the system, if it has any: they may call the transport, and are to live."""
        return () if self.system is None else self.system.workers()

    def let_workers(self, *, round_: bool = False) -> None:
        """Until every worker is idle; with ``round_`` those that wait for a transfer look at it once more."""
        parking = self.fabric.parking
        if self.system is None or (self._idle and not (round_ and parking.parked)):
            return
        busy = partial(self._busy, Resting(self.workers, parking.parked))
        look_s = SHORT_LOOK_S if self.counts_waiting else LOOK_S
        self.fabric.asked_by_workers = 0
        self._bound()
        idle = self._idle or parking.wait_until_idle(busy, self.limit_s, look_s)
        if idle and round_:
            idle = parking.let_each_go_on(busy, self.limit_s, look_s)
        if parking.held is not None:
            named = next((worker.name for worker in self.workers() if worker.ident == parking.held), "a worker")
            said = f"adapter {self.adapter}: {named} goes on asking the transport, and is stopped"
            raise StuckError(said, stack_of(parking.held), 0.0)
        if not idle:
            raise AdapterError(
                f"adapter {self.adapter}: busy() did not come down to the workers that wait for a transfer within"
                f" {self.limit_s:g} s"
            )
        self._idle = True

    def busy_at_rest(self, limit_s: float) -> bool:
        """Whether workers count as busy that wait for work, now that there is none."""
        parking, resting = self.fabric.parking, Resting(self.workers, self.fabric.parking.parked)
        if self.system is None or parking.wait_until_idle(partial(self._busy, resting), limit_s):
            return False
        self.counts_waiting = True
        return parking.wait_until_idle(partial(self._busy, resting), limit_s)

    def _busy(self, resting: Resting) -> int:
        """How many workers work. One that has ended takes no work any more, whatever is still queued for it."""
        assert self.system is not None
        working = self.hook("busy", self.system.busy)
        if self.counts_waiting:
            return working - resting()
        alive = sum(worker.is_alive() for worker in self.workers()) if working else 0
        if working and alive < len(self.workers()):
            return min(working, alive - resting())
        return working

    def close(self) -> None:
        """End the run's workers."""
        self.fabric.shut_down()
        if self.system is None:
            return
        self.hook("close", self.system.close)
        for worker in self.workers():
            worker.join(self.limit_s)
            if worker.is_alive():
                raise AdapterError(f"adapter {self.adapter}: {worker.name} goes on after close()")

    def forget(self) -> None:
        """The run is over: hold neither it nor its system."""
        self.on_stuck, self.system = _ignored, None


class _Abandoned(BaseException):
    """A call has returned at last on a thread for which nobody waits any more."""


@dataclass(slots=True)
class _UnderWay:
    """The call that a supervised run is making on the caller's thread."""

    waiter: int = 0
    """The thread that waits for the run."""
    number: int = 0
    what: str = ""
    calls: Calls | None = None
    """None between two calls."""

    def begin(self, calls: Calls, what: str) -> None:
        self.number += 1
        self.what = what
        self.calls = calls

    def end(self) -> None:
        self.calls = None


_UNDER_WAY: Final = _UnderWay()


def supervised(work: Callable[[], _T]) -> _T:
    """Have a whole run made on the caller's thread, and wait for it. Raises what it raises, and AdapterError for a call
    that does not return.
    """
    if _CALLERS.main.is_this_thread:
        return work()
    _UNDER_WAY.waiter = get_ident()
    _UNDER_WAY.end()
    task = _CALLERS.main.begin(work)
    number, looked = 0, 0
    while not task.wait(_LOOK_S):
        looked = looked + 1 if number == _UNDER_WAY.number else 0
        number = _UNDER_WAY.number
        _look(_UNDER_WAY.calls, task, looked)
    if task.error is not None:
        raise task.error
    return task.results[0]


def _look(calls: Calls | None, task: Task[_T], looked: int) -> None:
    """One look at the call under way. Raises AdapterError for one that has had its time."""
    if calls is None:
        if looked >= _BETWEEN * looks(CALL_LIMIT_S, _LOOK_S):
            raise AssertionError(f"a run is stopped after {_UNDER_WAY.what}: {stack_of(task.ident)}")
        return
    if looked:
        calls.fabric.parking.let_all_go()
    if looked >= looks(calls.time_for(_UNDER_WAY.what), _LOOK_S):
        error = calls.stuck(_UNDER_WAY.what, task, CALLER)
        calls.on_stuck(error)
        raise error
