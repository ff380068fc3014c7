"""Runs one trace: takes its steps in the world of its setup, and emits events. It judges nothing.

A run is deterministic: the same adapter, setup and steps give the same history. Steps that make no sense where they
stand (a send() when the caller has no chunk left) are left out, so that any part of a trace is a trace.

``Run.apply`` takes one step. What a run begins with and which steps make sense is in ``situation``, what happens around
the sender in ``surroundings``, how a run ends in ``ending``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from enum import Enum
from functools import partial
from typing import Final, TypeAlias, cast

from kvsender_spec.contract import Clearable, Initiator, KVPoll
from kvsender_spec.history import events
from kvsender_spec.history.header import Ability
from kvsender_spec.history.words import CallName, Destination
from kvsender_spec.kit import adapter as able
from kvsender_spec.kit.adapter import Adapter, role_of
from kvsender_spec.kit.run.calls import AdapterError, Second, StuckError, supervised
from kvsender_spec.kit.run.ending import ending
from kvsender_spec.kit.run.garbage import collect, stepwise
from kvsender_spec.kit.run.invoke import CALL_NAMES, MAKES, invoke, made
from kvsender_spec.kit.run.misuse import wrong_pages
from kvsender_spec.kit.run.rooms import Room
from kvsender_spec.kit.run.scripted_world import STRAY_ROOM
from kvsender_spec.kit.run.situation import OVERLAP_CALLS
from kvsender_spec.kit.run.surroundings import Surroundings
from kvsender_spec.kit.targets.run import TargetRun
from kvsender_spec.trace import OF_AN_END, WORLD_CALLS, Call, Misuse, Overlap, Progress, Setup, Step, Trace

__all__ = ["OVERLAP_CALLS", "AnyRun", "Run", "new_run", "run_trace"]

_GIVING_UP: Final = (Call.ABORT, Call.CLEAR)
_POLLS: Final[Mapping[int, str]] = {value: value.name for value in KVPoll}
_MEANT: Final = frozenset(name.lower() for name in KVPoll.__members__)


def _means_another(result: int) -> bool:
    """A member of an enumeration of the sender's own, whose number is that of another member of KVPoll."""
    if not isinstance(result, Enum):
        return False
    meant = result.name.replace("_", "").lower()
    return meant in _MEANT and meant != _POLLS[result].lower()


class Run(Surroundings):
    """One run. ``apply`` each step, then ``finish``; ``recorder.history`` is what was seen."""

    def __init__(self, adapter: Adapter, setup: Setup) -> None:
        super().__init__(adapter, setup)
        self.steps: Final[list[Step]] = []
        """Those that were taken."""
        self._open_call: int | None = None
        """The caller's call that has not come back yet."""
        self.waited_s = 0.0
        """How long the run has waited for a call that did not come back, in seconds."""
        self.calls.on_stuck = self._stuck
        self._call_names: Final = CALL_NAMES[self.operation]
        self._written: Final = {call: f"{name}()" for call, name in self._call_names.items()}

    # -- one step

    def apply(self, step: Step) -> None:
        """Take one step, if it makes sense now. Raises AdapterError where the adapter breaks, which ends the run.

        So does a call of the sender's that does not come back, but that is for the observer to judge.
        """
        if not self.over and self.applicable(step):
            try:
                self._apply(step)
            except StuckError as error:
                self._stuck(error)
                if not self.is_stuck:
                    raise
            except AdapterError as error:
                self._broke(error)
                raise

    @property
    def is_stuck(self) -> bool:
        """A call of the sender's has not come back."""
        return self.over and self._open_call is not None

    def _stuck(self, error: StuckError) -> None:
        if self._open_call is None and self.scripted_world.fabric.parking.held is not None:
            self._open_call = self.recorder.call_started(CallName.SWEEP, None)  # what workers do between two calls
        if self._open_call is not None:
            stuck = partial(events.CallStuck, of=self._open_call, after_s=error.after_s, stack=error.stack)
            self.recorder.note(stuck)
        self.waited_s = error.after_s
        self._broke(error)

    def _broke(self, error: AdapterError) -> None:
        """The history says why it ends here."""
        self.over = True
        self.recorder.note(partial(events.RunEnded, complete=False, why=str(error)))

    def _apply(self, step: Step) -> None:
        self.steps.append(step)
        self.recorder.note(partial(events.StepStarted, text=step.told(self.operation)))
        if step.call not in (Call.POLL, Call.FAILURE_EXCEPTION, Call.METRIC, Call.SETTLE):
            self._settled = None
        if step.call in WORLD_CALLS:
            self._change_world(step)
        elif step.call is Call.OPEN:
            self._open(step)
        else:
            room = self.room_of(step.room, step.opening)
            assert room is not None
            if step.call is Call.TARGET_ABORTS:
                self.scripted_world.let_progress(room.view.pages, step.progress)
                self._target_aborts(room)
            elif step.call is Call.REFILL:
                self.scripted_world.let_progress(room.view.pages, step.progress)
                self._refill(room)
            else:
                self._call(room, step)
            if self._settled is not None:
                self._settled.add(room.key)
        self._take_stock()

    def _take_stock(self) -> None:
        """Let the workers go on, and record what a step has left at the peers and in the workers."""
        self.calls.let_workers()
        if Ability.NOTIFY in self.can:
            self.reports.read_notifications(cast("able.Notifies", self.system))
        self.reports.look_at_workers()
        self.reports.refuse_strangers()

    def _open(self, step: Step) -> None:
        plan = self.scripted_world.plan(step.room, incarnation=len(self.rooms))
        destinations = tuple(
            Destination(peer=d.peer.name, generation=d.peer.generation, dummy=True)
            if d.dummy
            else Destination(
                peer=d.peer.name,
                generation=d.peer.generation,
                pages=d.pages,
                aux=None if self.scripted_world.reads else d.aux_index,
            )
            for d in plan.destinations
        )
        self.reports.place(plan)
        opened = partial(events.RoomOpened, room=plan.incarnation, id=plan.room, destinations=destinations)
        operation, granted = self.operation, self.scripted_world.granted(plan)
        self.recorder.note(partial(opened, pages=plan.num_pages, aux=plan.aux_index, operation=operation))
        misgranted = self.scripted_world.misgranted(step.room, plan)
        refusals = self.adapter.usage_errors if misgranted else ()
        for peer, pages in misgranted:
            self.recorder.note(partial(events.PagesRefilled, room=plan.incarnation, peer=peer, pages=pages, never=True))
        of = self.recorder.call_started(CallName.INIT, plan.incarnation)
        senders, error = self.connecting(MAKES[operation], lambda: made(self.system, operation, plan), refusals)
        self.recorder.call_ended(of, plan.incarnation, error=error)
        view = self.observer.rooms[plan.incarnation]
        for sender in senders:  # none, where an error of the transport's has left the constructor
            first = self.scripted_world.first_page(plan.incarnation)
            self.opened(Room(step.room, plan, self.setup.chunks[step.room], first, view, sender, granted))

    # -- a call of the caller

    def _call(self, room: Room, step: Step) -> None:
        if step.call is Call.SEND and step.misuse is not None:
            self._misuse(room, step.misuse)
            return
        self.scripted_world.let_progress(room.view.pages, step.progress)
        if self.faults_over and not self.setup.silent and step.call is Call.POLL:
            # A sender may take the rooms of a peer in turn, so that one room's end waits for another's transfer.
            self.scripted_world.let_progress(None, Progress.ALL)
        self._faults.arm(step)
        if step.overlap is not None:
            self._expect(room, step.overlap)
        if step.call is Call.POLL:
            self.calls.let_workers(round_=True)
        pages, last = self._next_chunk(room) if step.call is Call.SEND else ([], False)
        name = self._call_names[step.call]
        of = self.recorder.call_started(name, room.key, pages=pages, last=last)
        self._open_call, errors, cleared = of, len(room.view.errors), room.view.cleared
        make = partial(invoke, room.sender, self.operation, step.call, pages)
        results, error = self.calls.make(self._written[step.call], make)
        if step.call is Call.SEND:
            self.calls.let_workers()  # what they are given to post is posted within this call, and may overlap another
        second = self.calls.overlapping()
        if second is not None:
            self.calls.let_workers()
        unmet, ended = self._faults.disarm(), room.view.ended
        self._open_call = None
        self._came_back(of, room, step.call, results[0] if results else None, error)
        del error
        given_up = (step.call in _GIVING_UP and not cleared) or len(room.view.errors) > errors
        if given_up and not self.setup.churn and self.scripted_world.fabric.handles_held:
            collect()  # what is given up, or an exception that its own traceback holds, may hold a handle
        if second is not None:
            self._came_back(second.of, room, second.overlap.call, *second.outcome())
        self._faults.carry(step, room, unmet, ends=room.view.ended and not ended)
        if room.view.abandoned:
            self.over = True
        elif step.call is Call.POLL or (second is not None and second.overlap.call is Call.POLL):
            self._after_poll(room)

    def _came_back(self, of: int, room: Room, call: Call, result: object, error: BaseException | None) -> None:
        value: str | None = None
        attribution: str | None = None
        if call is Call.POLL and error is None:
            if not isinstance(result, int) or result not in _POLLS or _means_another(result):
                raise AdapterError(f"adapter {self.adapter.name}: poll() answered {result!r}, which is no KVPoll")
            value = _POLLS[result]
        elif call is Call.FAILURE_EXCEPTION and error is not None and Ability.ATTRIBUTION in self.can:
            said = self.calls.hook("attribution", partial(cast("able.Attributes", self.system).attribution, error))
            attribution = None if said is None else said.value
        self.recorder.call_ended(of, room.key, value=value, error=error, attribution=attribution)

    def _after_poll(self, room: Room) -> None:
        """Compare the bytes at the first Success, and ask for the quarantine as long as a transfer may need it."""
        view = room.view
        if view.terminal is KVPoll.Success and not room.compared:
            room.compared = True
            if self.operation == "READ":
                differ = self.scripted_world.foreign(room.plan, room.granted, room.sent_pages)
            else:
                differ = self.scripted_world.difference(room.plan, room.memories, room.sent_pages)
            self.reports.compared(room.key, differ)
        if view.terminal is not None and not (room.asked and view.oracle.drained):
            room.asked = True
            self._hold(room.key)

    def _hold(self, key: int | None) -> None:
        if Ability.QUARANTINE not in self.can:
            return
        system = cast("able.Quarantines", self.system)
        held = tuple(sorted(self.calls.hook("quarantined_pages", system.quarantined_pages)))
        self.recorder.note(partial(events.PagesHeld, room=key, pages=held))

    def _next_chunk(self, room: Room) -> tuple[list[int], bool]:
        """The pages of a send(), and whether they are the last ones."""
        pages, last = room.next_pages(), len(room.chunks) == 1
        room.chunks.pop(0)
        room.sent_pages.extend(pages)
        return pages, last

    def _expect(self, room: Room, overlap: Overlap) -> None:
        def call() -> object:
            pages, last = self._next_chunk(room) if overlap.call is Call.SEND else ([], False)
            second.of = self.recorder.call_started(self._call_names[overlap.call], room.key, pages=pages, last=last)
            return invoke(room.sender, self.operation, overlap.call, pages)

        second = Second(overlap, call)
        self.calls.expect(second)

    def _misuse(self, room: Room, misuse: Misuse) -> None:
        sender: Initiator = room.sender
        if misuse is Misuse.BEFORE_INIT:
            system = cast("able.OpensUninitialised", self.system)
            stray = replace(room.plan, room=STRAY_ROOM + len(self.steps), incarnation=1000 + len(self.steps))
            # What its constructor makes is no other room's, although it may go to the same places.
            of = self.recorder.call_started(CallName.INIT, stray.incarnation)
            sender = self.calls.hook("uninitialised", lambda: system.uninitialised(stray))
            self.recorder.call_ended(of, stray.incarnation)
        # Page ids of a wrong type are the point of WRONG_DTYPE.
        pages = wrong_pages(misuse, room.sent_pages, sum(room.chunks))
        name = self._call_names[Call.SEND]
        of = self.recorder.call_started(name, room.key, pages=pages, misuse=misuse.value)
        ids = cast("Sequence[int]", pages)
        self._open_call = of
        error = self.calls.make(f"{name}()", partial(invoke, sender, self.operation, Call.SEND, ids))[1]
        self._open_call = None
        self.recorder.call_ended(of, room.key, error=error)
        if sender is not room.sender and isinstance(sender, Clearable):
            self.connecting("clear", sender.clear)

    # -- the end

    def take(self, steps: Iterable[Step], *, as_it_is: bool = False) -> None:
        """Take all the steps and end; ``as_it_is``: without the end that the steps do not have themselves."""
        for step in steps:
            self.apply(step)
        if as_it_is:
            self.close()
        else:
            self.finish()

    def finish(self) -> None:
        """End every room, let everything settle, and say what is left: ordinary steps, which are in ``steps``.

        A trace that says itself when its faults are over has its own end.
        """
        if not self.over and not any(step.call in OF_AN_END for step in self.steps):
            for step in ending(self):
                self.apply(step)
        self.close()

    def close(self) -> None:
        """Say what the subject still holds, if everything has settled, and end the run."""
        if self._settled is not None and {room.key for room in self.rooms} <= self._settled and not self.over:
            self._count()
        why = "an error that is not the transport's went through the sender" if self.over else ""
        self.recorder.note(partial(events.RunEnded, complete=not self.over, why=why))
        self.over = True
        self.calls.close()

    def forget(self) -> None:
        """All that is wanted of the run has been read: let go of the rest, which is much in a check of many runs."""
        if self.is_stuck:
            return  # a call, or a worker, still uses it
        self.scripted_world.fabric.forget()
        self.calls.forget()
        self.rooms.clear()

    def _count(self) -> None:
        self.settle()  # background work may end what a poll() after the last settle step has left
        collect()
        self._hold(None)
        entries: int | None = None
        if Ability.COUNTS in self.can and all(room.view.cleared for room in self.rooms):
            entries = self.calls.hook("residue", cast("able.CountsResidue", self.system).residue)
        held = self.world.transport.held - self.held_at_start
        self.recorder.note(partial(events.KeptCounted, entries=entries, held=held))


AnyRun: TypeAlias = Run | TargetRun


def new_run(adapter: Adapter, setup: Setup) -> AnyRun:
    """A run of the role that the adapter's system has. Raises AdapterError where the adapter breaks, or LoadError."""
    return TargetRun(adapter, setup) if role_of(adapter) == "target" else Run(adapter, setup)


def run_trace(adapter: Adapter, trace: Trace, *, as_it_is: bool = False) -> AnyRun:
    """Run a whole trace, with its end; ``as_it_is``: without the end that the trace does not have itself."""

    runs: list[AnyRun] = []

    def whole() -> None:
        runs.append(new_run(adapter, trace.setup))
        runs[0].take(trace.steps, as_it_is=as_it_is)

    have_made(whole, runs)
    return runs[0]


def have_made(work: Callable[[], None], runs: Sequence[AnyRun]) -> None:
    """Have the run that ``work`` adds to ``runs`` made under supervision. Raises AdapterError where the adapter breaks.

    A call of the sender's that does not come back is in the run's history.
    """
    try:
        with stepwise():
            supervised(work)
    except StuckError:
        if not (runs and runs[0].is_stuck):
            raise
