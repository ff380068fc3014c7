"""What a run of the walk costs, what the same calls cost without the kit, and the time of each part of the kit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from threading import get_ident
from typing import Final, ParamSpec, TypeVar, cast
from unittest.mock import patch

from kvsender_spec.contract import Abortable, Clearable, Measured, Sender
from kvsender_spec.faults import Point
from kvsender_spec.history.record import Recorder
from kvsender_spec.kit.adapter import (
    ROOM_PAGES,
    Adapter,
    OpensUninitialised,
    Reconnects,
    RoomPlan,
    Settles,
    System,
)
from kvsender_spec.kit.parts import parts_of
from kvsender_spec.kit.run.calls import Calls, supervised
from kvsender_spec.kit.run.execute import Run
from kvsender_spec.kit.run.misuse import wrong_pages
from kvsender_spec.kit.run.recording import FabricRecorder
from kvsender_spec.kit.run.rooms import pages_after
from kvsender_spec.kit.run.scripted_world import ScriptedWorld
from kvsender_spec.kit.run.situation import Situation
from kvsender_spec.kit.search import walk
from kvsender_spec.kit.search.explore import explore
from kvsender_spec.observe.attribution import Tally
from kvsender_spec.observe.observer import Observer
from kvsender_spec.observe.verdict import Findings
from kvsender_spec.trace import WORLD_CALLS, Call, Misuse, Progress, Step, Trace

_P = ParamSpec("_P")
_R = TypeVar("_R")
SEED: Final = 1
_SETTLE_ROUNDS: Final = 3


class _Kept(Tally):
    """Keeps the traces as well."""

    def __init__(self) -> None:
        super().__init__()
        self.traces: list[Trace] = []

    def add(self, trace: Trace, findings: Findings) -> None:
        self.traces.append(trace)
        super().add(trace, findings)


def recorded(adapter: Adapter, examples: int, first: Iterable[Trace] = ()) -> list[Trace]:
    """The traces of ``first`` and of the walk, with the ends of the runs."""
    kept = _Kept()
    explore(adapter, kept, seed=SEED, examples=examples, first=first)
    return kept.traces


def whole_s(adapter: Adapter, examples: int) -> float:
    """CPU seconds of these runs."""
    began = time.process_time()
    explore(adapter, Tally(), seed=SEED, examples=examples, first=())
    return time.process_time() - began


# ---------------------------------------------------------------------------------------------------- the bare cost


class _BareRoom:
    """One opening of a room: its sender, and what the caller has still to send."""

    def __init__(self, plan: RoomPlan, chunks: Sequence[int], sender: Sender) -> None:
        self.plan: Final = plan
        self.chunks: Final = list(chunks)
        self.sent: Final[list[int]] = []
        self.handles: Final[set[int]] = set()
        self.sender: Final = sender


class BareRun:
    """Makes the calls of a trace on the scripted agent, and looks at nothing that comes of them."""

    def __init__(self, adapter: Adapter, trace: Trace) -> None:
        self.setup: Final = trace.setup
        self.scripted_world: Final = ScriptedWorld(trace.setup, parts_of(adapter).errors)
        self.system: Final = adapter.open(self.scripted_world.world)
        self.rooms: Final[list[tuple[int, _BareRoom]]] = []
        self.settles = False
        """What a polled room has in flight finishes."""
        for step in trace.steps:
            if step.call in WORLD_CALLS:
                self.change_world(step)
            elif step.call is Call.OPEN:
                plan = self.scripted_world.plan(step.room, incarnation=len(self.rooms))
                sender = cast("System", self.system).sender(plan)
                self.rooms.append((step.room, _BareRoom(plan, trace.setup.chunks[step.room], sender)))
            else:
                self.call(step)

    def change_world(self, step: Step) -> None:
        world, fabric = self.scripted_world.world, self.scripted_world.fabric
        match step.call:
            case Call.WAIT:
                world.clock.now += world.drain_timeout_s
            case Call.WAIT_LONG:
                world.clock.now += world.transfer_timeout_s
            case Call.KILL:
                fabric.kill(self.scripted_world.peers[step.room].name)
            case Call.STOP:
                fabric.stop(self.scripted_world.peers[step.room].name)
            case Call.RESTART:
                cast("Reconnects", self.system).reconnect(self.scripted_world.restart(step.room))
            case Call.FAULTS_OVER:
                self.settles = not self.setup.silent
            case Call.SETTLE:
                for peer in self.scripted_world.peers:
                    fabric.cont(peer.name)
                for _ in range(_SETTLE_ROUNDS):
                    self.scripted_world.let_progress(None, Progress.ALL)
                    if isinstance(self.system, Settles):
                        self.system.settle()
            case _:
                pass

    def call(self, step: Step) -> None:
        openings = [room for slot, room in self.rooms if slot == step.room]
        room, fabric = openings[step.opening - 1], self.scripted_world.fabric
        self.scripted_world.let_progress(room.handles, step.progress)
        if self.settles and step.call is Call.POLL:
            self.scripted_world.let_progress(None, Progress.ALL)
        fabric.plan.arm(*([] if step.fault is None else [step.fault]))
        known = len(fabric.events)
        self.invoke(room, step.call, step)
        if step.overlap is not None:
            self.invoke(room, step.overlap.call, Step(step.overlap.call))
        fabric.plan.arm()
        made = (event.handle for event in fabric.events[known:] if event.point is Point.MAKE)
        room.handles.update(handle for handle in made if handle is not None)

    def invoke(self, room: _BareRoom, call: Call, step: Step) -> None:
        sender = room.sender
        if step.misuse is Misuse.BEFORE_INIT:
            made = cast("OpensUninitialised", self.system).uninitialised(replace(room.plan, incarnation=id(step)))
            sender = cast("Sender", made)
        try:
            match call:
                case Call.SEND if step.misuse is not None:
                    sender.send(cast("Sequence[int]", wrong_pages(step.misuse, room.sent, sum(room.chunks))))
                case Call.SEND:
                    pages = pages_after(room.plan.incarnation * ROOM_PAGES + len(room.sent), room.chunks.pop(0))
                    room.sent.extend(pages)
                    sender.send(pages)
                case Call.POLL:
                    sender.poll()
                case Call.FAILURE_EXCEPTION:
                    sender.failure_exception()
                case Call.ABORT:
                    cast("Abortable", sender).abort()
                case Call.CLEAR:
                    cast("Clearable", sender).clear()
                case _:
                    cast("Measured", sender).get_transfer_metric()
        except BaseException:
            pass  # whatever a fault has made of it: nothing is judged


def bare_s(adapter: Adapter, traces: Sequence[Trace]) -> float:
    """CPU seconds of the same calls on the scripted agent, without recording and judging."""
    began = time.process_time()
    supervised(lambda: [BareRun(adapter, trace) for trace in traces])
    return time.process_time() - began


# -------------------------------------------------------------------------------------------------- parts of a run

_SENDER: Final = "the adapter and its sender, on the scripted agent"
_OTHER: Final = "steps, and the rest"
_THREADS: Final = "the sender's own threads"
_PARTS: Final[Mapping[str, Sequence[tuple[object, str]]]] = {
    "the world": ((ScriptedWorld, "__init__"), (ScriptedWorld, "restart")),
    "time limits and threads": ((Calls, "make"),),
    "recorder": (
        *((Recorder, name) for name in ("__init__", "add", "call_started", "call_ended", "error")),
        *((FabricRecorder, name) for name in ("__init__", "_asked", "_connected", "_landed", "_heard")),
    ),
    "observer": ((Observer, "__init__"), (Observer, "see")),
    "choice of steps": ((walk, "_step"), (Situation, "applicable")),
    "peers and workers after each step": ((Run, "_take_stock"),),
    "tally": ((Tally, "add"),),
}
"""By part of the kit: the functions that it is entered by."""


class _Stopwatch:
    """Charges the time of one thread to the part whose function is the innermost one that runs."""

    def __init__(self) -> None:
        self.seconds: Final = dict.fromkeys((_SENDER, *_PARTS, _OTHER), 0.0)
        self._thread: Final = get_ident()
        self._inside: Final = [_OTHER]
        self._since = time.thread_time()

    def _charge(self) -> None:
        now = time.thread_time()
        self.seconds[self._inside[-1]] += now - self._since
        self._since = now

    def timed(self, part: str, function: Callable[_P, _R]) -> Callable[_P, _R]:
        """The function, which enters the part."""

        def timed(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            if get_ident() != self._thread:
                return function(*args, **kwargs)
            self._charge()
            self._inside.append(part)
            try:
                return function(*args, **kwargs)
            finally:
                self._charge()
                self._inside.pop()

        return timed


def parts(adapter: Adapter, examples: int) -> dict[str, float]:
    """CPU seconds of each part of these runs; the watch itself makes them longer."""

    def measured() -> dict[str, float]:
        watch = _Stopwatch()
        make = Calls.make
        with ExitStack() as patched:
            for part, functions in _PARTS.items():
                for owner, name in functions:
                    patched.enter_context(patch.object(owner, name, watch.timed(part, getattr(owner, name))))
            limited = Calls.make

            def both(calls: Calls, what: str, call: Callable[[], _R]) -> tuple[list[_R], BaseException | None]:
                return limited(calls, what, watch.timed(_SENDER, call))

            patched.enter_context(patch.object(Calls, "make", both))
            here, everywhere = time.thread_time(), time.process_time()
            explore(adapter, Tally(), seed=SEED, examples=examples, first=())
            elsewhere = time.process_time() - everywhere - (time.thread_time() - here)
        assert Calls.make is make
        return {_SENDER: watch.seconds.pop(_SENDER), _THREADS: elsewhere, **watch.seconds}

    return supervised(measured)
