"""Runs one trace: makes the world of a scene, calls the sender, and emits events. It judges nothing.

A run is deterministic: the same adapter, scene and steps give the same history. Steps that make no sense where they
stand (a send() when the caller has no chunk left) are left out, so that any part of a trace is a trace.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final, cast

from kvsender_spec.contract import Abortable, Clearable, KVPoll, Measured, Sender
from kvsender_spec.faults import Point
from kvsender_spec.history.events import (
    KINDS,
    Ability,
    CallName,
    CallStuck,
    Destination,
    FaultsOver,
    Header,
    History,
    KeptCounted,
    Limits,
    PagesHeld,
    PeerLost,
    PeerResumed,
    PeerReturned,
    PeerSilent,
    RoomOpened,
    RunEnded,
    Source,
    StepStarted,
)
from kvsender_spec.history.events import ClockAdvanced as Clock
from kvsender_spec.history.record import Recorder
from kvsender_spec.kit.adapter import (
    MOST_REOPENINGS,
    Adapter,
    Attributes,
    CountsResidue,
    HidesErrors,
    OpensUninitialised,
    Peer,
    Quarantines,
    Reconnects,
    Settles,
    TakesControl,
    Works,
)
from kvsender_spec.kit.parts import abilities, error_classes, transport_errors
from kvsender_spec.kit.run.calls import AdapterError, Calls, Second
from kvsender_spec.kit.run.ending import ending
from kvsender_spec.kit.run.misuse import MALFORMED, possible, wrong_pages
from kvsender_spec.kit.run.recording import FabricRecorder
from kvsender_spec.kit.run.rooms import Room
from kvsender_spec.kit.run.stage import STRAY_ROOM, Stage
from kvsender_spec.machine import HandleState
from kvsender_spec.observe.observer import Observer
from kvsender_spec.trace import OF_AN_END, WORLD_CALLS, Call, Meeting, Misuse, Progress, Scene, Step, Trace

MEETING_CALLS: Final = {
    Call.SEND: (Call.POLL, Call.ABORT, Call.CLEAR),
    Call.POLL: (Call.SEND, Call.POLL, Call.ABORT, Call.CLEAR),
}
"""Which calls of other threads a call may overlap: one caller sends, and whoever may poll, abort and clear."""
CALL_NAMES: Final = {
    Call.SEND: CallName.SEND,
    Call.POLL: CallName.POLL,
    Call.FAILURE_EXCEPTION: CallName.FAILURE_EXCEPTION,
    Call.ABORT: CallName.ABORT,
    Call.CLEAR: CallName.CLEAR,
    Call.METRIC: CallName.METRICS,
}
_ABILITY: Final = {Call.ABORT: Ability.ABORT, Call.CLEAR: Ability.CLEAR, Call.METRIC: Ability.METRICS}
_SETTLE_ROUNDS: Final = 3
_POLLS: Final = frozenset(KVPoll)


class Run:
    """One run. ``apply`` each step, then ``finish``; ``recorder.history`` is what was seen.

    ``observer`` sees every event at once. The run asks it what makes sense next; it never asks for a verdict.
    """

    def __init__(self, adapter: Adapter, scene: Scene) -> None:
        self.adapter: Final = adapter
        self.scene: Final = scene
        self.steps: Final[list[Step]] = []
        self.over = False
        """Nothing more can be done: the sender was interrupted, or the run has had its end."""
        self.faults_over = False
        self.can: Final = abilities(adapter)
        self.stage: Final = Stage(scene, transport_errors(adapter))
        self.world: Final = self.stage.world
        self._fabric: Final = self.stage.fabric
        self.calls: Final = Calls(adapter.name, self._fabric)
        self.system: Final = self.calls.hook("open", lambda: adapter.open(self.world))
        header = Header(
            source=Source.SCRIPTED,
            vantage=tuple(KINDS),
            subject=adapter.name,
            profile=adapter.profile.value,
            can=tuple(sorted(self.can)),
            limits=Limits(transfer_timeout_s=self.world.transfer_timeout_s, drain_timeout_s=self.world.drain_timeout_s),
        )
        self.observer: Final = Observer(header)
        began = self.world.clock.now
        shown = self.system.shown_as if isinstance(self.system, HidesErrors) else None
        self.recorder: Final = Recorder(
            header, error_classes(adapter), lambda: self.world.clock.now - began, self.observer.see, shown
        )
        self.recorder.name_threads(self.calls.threads())
        self._reports: Final = FabricRecorder(self.recorder, self.stage, self.calls.threads().keys())
        if Ability.WORKERS in self.can:
            self.calls.system = cast("Works", self.system)
            self._reports.watch(self.calls.system)
        self._ended_workers: Final[set[str]] = set()
        self._rooms: Final[dict[int, list[Room]]] = {}
        """By slot, the openings of it, the newest last."""
        self._opened = 0
        self._open_call: int | None = None
        """The caller's call that has not come back yet."""
        self._settled: set[int] | None = None
        """The rooms that were polled since everything has settled; None where something may still be in flight."""

    @property
    def history(self) -> History:
        return self.recorder.history

    def all_rooms(self) -> list[Room]:
        """Every opening, oldest first."""
        return sorted((room for rooms in self._rooms.values() for room in rooms), key=_key)

    def openings(self, slot: int) -> list[Room]:
        """The openings of a slot, the newest last."""
        return self._rooms[slot]

    def room_of(self, step: Step) -> Room | None:
        """The room that a step is about."""
        openings = self._rooms.get(step.room, [])
        if step.opening > len(openings) or not openings:
            return None
        return openings[step.opening - 1]  # 0 is the last one

    # -- what makes sense now

    def applicable(self, step: Step) -> bool:
        """Whether a step makes sense where the run stands."""
        if self.over or (self.faults_over and (step.fault is not None or step.call is Call.FAULTS_OVER)):
            return False
        if step.call in WORLD_CALLS:
            return self._world_step_makes_sense(step)
        if step.room >= len(self.scene.chunks):
            return False
        room = self.room_of(step)
        if step.call is Call.OPEN:
            # A room id comes back only after its caller has cleared it.
            reopenings = self._opened - len(self._rooms)
            return room is None or (room.view.cleared and reopenings < MOST_REOPENINGS)
        if room is None or not self._meeting_makes_sense(step):
            return False
        match step.call:
            case Call.SEND if step.misuse is not None:
                return self._misuse_makes_sense(room, step.misuse)
            case Call.SEND:
                return bool(room.chunks) and (not room.view.ended or room.view.oracle.failed)
            case Call.ABORT | Call.CLEAR | Call.METRIC:
                return _ABILITY[step.call] in self.can
            case _:
                return True

    def _world_step_makes_sense(self, step: Step) -> bool:
        match step.call:
            case Call.WAIT | Call.WAIT_LONG:
                return bool(self._rooms)
            case Call.CONTROL:
                return Ability.CONTROL in self.can and not self.faults_over
            case Call.FAULTS_OVER | Call.SETTLE:
                return True
            case _:
                return not self.faults_over and step.room < self.scene.peers and self._peer_step_makes_sense(step)

    def asks(self, point: Point, slot: int) -> int:
        """How often the sender can be expected to ask this of the transport in its next call: once per peer or handle.

        What lies beyond is never reached: a fault there strikes nothing, and a meeting there does not take place.
        """
        openings = self._rooms.get(slot)
        if not openings:
            return 0
        view = openings[-1].view
        handles = view.oracle.handles.values()
        match point:
            case Point.MAKE | Point.POST | Point.NOTIFY:
                return len(view.targets)
            case Point.CHECK:
                return sum(1 for machine in handles if machine.state is HandleState.IN_FLIGHT)
            case Point.RELEASE:
                return sum(1 for machine in handles if machine.state is not HandleState.NEVER_SUBMITTED)

    def _meeting_makes_sense(self, step: Step) -> bool:
        if step.meeting is None:
            return True
        allowed = step.meeting.call in MEETING_CALLS.get(step.call, ()) and step.misuse is None
        return allowed and self.applicable(Step(step.meeting.call, step.room, opening=step.opening))

    def _peer_step_makes_sense(self, step: Step) -> bool:
        peer = self.observer.subject.peer(self.world.peers[step.room].name)
        return Ability.RECONNECT in self.can and not peer.healthy if step.call is Call.RESTART else peer.healthy

    def _misuse_makes_sense(self, room: Room, misuse: Misuse) -> bool:
        if misuse is Misuse.BEFORE_INIT:
            return Ability.UNINITIALISED in self.can
        oracle = room.view.oracle
        if not room.chunks or len(oracle.possible) > 1 or not oracle.live or room.view.ended:
            return False
        return possible(misuse, room.sent_pages, sum(room.chunks))

    # -- one step

    def apply(self, step: Step) -> None:
        """Take one step, if it makes sense now. Raises AdapterError where the adapter breaks, which ends the run."""
        if not self.over and self.applicable(step):
            try:
                self._apply(step)
            except AdapterError as error:
                self._broke(error)
                raise

    def _broke(self, error: AdapterError) -> None:
        """The adapter broke: the history says so, and ends."""
        if error.stack and self._open_call is not None:
            of = self._open_call
            self.recorder.add(
                lambda seq, t, thread, _: CallStuck(
                    seq=seq, t=t, thread=thread, of=of, after_s=self.calls.limit_s, stack=error.stack
                )
            )
        self.over = True
        self.recorder.add(
            lambda seq, t, thread, _: RunEnded(seq=seq, t=t, thread=thread, complete=False, why=str(error))
        )

    def _apply(self, step: Step) -> None:
        self.steps.append(step)
        self.recorder.add(lambda seq, t, thread, _: StepStarted(seq=seq, t=t, thread=thread, text=str(step)))
        if step.call not in (Call.POLL, Call.FAILURE_EXCEPTION, Call.METRIC, Call.SETTLE):
            self._settled = None
        if step.call in WORLD_CALLS:
            self._change_world(step)
        elif step.call is Call.OPEN:
            self._open(step)
        else:
            room = self.room_of(step)
            assert room is not None
            self._call(room, step)
            if self._settled is not None:
                self._settled.add(room.key)
        self._take_stock()

    def _take_stock(self) -> None:
        """Let the workers go on, and record what a step has left at the peers and in the workers."""
        self.calls.let_workers()
        self._reports.read_notices(self.calls, self.system)
        if self.calls.system is not None:
            self._reports.look_at_workers()
        self._reports.refuse_strangers(self.adapter.name)

    def _change_world(self, step: Step) -> None:
        add = self.recorder.add
        match step.call:
            case Call.WAIT | Call.WAIT_LONG:
                long = step.call is Call.WAIT_LONG
                by_s = self.world.transfer_timeout_s if long else self.world.drain_timeout_s
                self.world.clock.now += by_s
                add(lambda seq, t, thread, _: Clock(seq=seq, t=t, thread=thread, by_s=by_s))
            case Call.KILL:
                # Nobody is told: what a sender may know of it, it learns from the transport's answers.
                name = self.world.peers[step.room].name
                self._fabric.kill(name)
                add(lambda seq, t, thread, _: PeerLost(seq=seq, t=t, thread=thread, peer=name))
            case Call.STOP:
                name = self.world.peers[step.room].name
                self._fabric.stop(name)
                add(lambda seq, t, thread, _: PeerSilent(seq=seq, t=t, thread=thread, peer=name))
            case Call.CONTROL:
                message = MALFORMED[step.room % len(MALFORMED)]
                self._reports.control(message)
                system = cast("TakesControl", self.system)
                self.calls.hook("control", partial(system.control, message))
            case Call.FAULTS_OVER:
                self.faults_over = True
                add(lambda seq, t, thread, _: FaultsOver(seq=seq, t=t, thread=thread, settles=not self.scene.silent))
            case Call.SETTLE:
                self._settle_everything()
            case _:
                self._restart(self.world.peers[step.room])

    def _restart(self, peer: Peer) -> None:
        self.stage.restart(peer)
        name, generation = peer.name, peer.generation
        self.recorder.add(
            lambda seq, t, thread, _: PeerReturned(seq=seq, t=t, thread=thread, peer=name, generation=generation)
        )
        system = cast("Reconnects", self.system)
        of = self.recorder.call_started(CallName.RECONNECT, None)
        self.calls.hook("reconnect", lambda: system.reconnect(peer))
        self.recorder.call_ended(of, None)
        self._settle()

    def _settle(self) -> None:
        """Give the system the time for its background work, where it has any."""
        system = self.system
        if isinstance(system, Settles):
            of = self.recorder.call_started(CallName.SWEEP, None)
            self.calls.hook("settle", system.settle)
            self.recorder.call_ended(of, None)

    def _settle_everything(self) -> None:
        for peer in self.world.peers:
            if self.observer.subject.peer(peer.name).silent:
                self._fabric.cont(peer.name)
                self._resumed(peer.name)
        rounds = _SETTLE_ROUNDS if self.calls.system is None else self.observer.rounds()
        for _ in range(rounds):
            self.stage.let_progress(None, Progress.ALL)
            self._settle()
            self.calls.let_workers(round_=True)
        self._settled = set()

    def _resumed(self, name: str) -> None:
        self.recorder.add(lambda seq, t, thread, _: PeerResumed(seq=seq, t=t, thread=thread, peer=name))

    def _open(self, step: Step) -> None:
        plan = self.stage.plan(step.room, incarnation=self._opened)
        self._opened += 1
        destinations = tuple(
            Destination(peer=d.peer.name, generation=d.peer.generation, dummy=True)
            if d.dummy
            else Destination(peer=d.peer.name, generation=d.peer.generation, pages=d.pages, aux=d.aux_index)
            for d in plan.destinations
        )
        self._reports.place(plan)
        self.recorder.add(
            lambda seq, t, thread, _: RoomOpened(
                seq=seq,
                t=t,
                thread=thread,
                room=plan.incarnation,
                id=plan.room,
                pages=plan.num_pages,
                aux=plan.aux_index,
                destinations=destinations,
            )
        )
        view = self.observer.rooms[plan.incarnation]
        room = Room(step.room, plan, self.scene.chunks[step.room], view)
        of = self.recorder.call_started(CallName.INIT, room.key)
        room.sender = self.calls.hook("sender", lambda: self.system.sender(plan))
        self.recorder.call_ended(of, room.key)
        self._rooms.setdefault(step.room, []).append(room)

    # -- a call of the caller

    def _call(self, room: Room, step: Step) -> None:
        if step.call is Call.SEND and step.misuse is not None:
            self._misuse(room, step.misuse)
            return
        self.stage.let_progress(frozenset(room.view.pages), step.progress)
        if self.faults_over and not self.scene.silent and step.call is Call.POLL:
            # Workers take the chunks of all rooms in turn, so one room's end may wait for another's transfer.
            mine = None if self.calls.system is not None else frozenset(room.view.pages)
            self.stage.let_progress(mine, Progress.ALL)
        self._fabric.plan.arm(*([] if step.fault is None else [step.fault]))
        if step.meeting is not None:
            self._expect(room, step.meeting)
        if step.call is Call.POLL:
            self.calls.let_workers(round_=True)
        pages, last = self._next_chunk(room) if step.call is Call.SEND else ([], False)
        of = self.recorder.call_started(CALL_NAMES[step.call], room.key, pages=pages, last=last)
        self._open_call = of
        results, error = self.calls.make(f"{step.call}()", lambda: self._invoke(room.live_sender, step.call, pages))
        if step.call is Call.SEND:
            self.calls.let_workers()  # what they are given to post is posted within this call, and may meet another
        second = self.calls.meet()
        if second is not None:
            self.calls.let_workers()
        self._fabric.plan.arm()
        self._open_call = None
        self._came_back(of, room, step.call, results[0] if results else None, error)
        if second is not None:
            self._came_back(second.of, room, second.meeting.call, *second.outcome())
        if room.view.abandoned:
            self.over = True
        elif step.call is Call.POLL or (second is not None and second.meeting.call is Call.POLL):
            self._after_poll(room)

    def _came_back(self, of: int, room: Room, call: Call, result: object, error: BaseException | None) -> None:
        value: str | None = None
        attribution: str | None = None
        if call is Call.POLL and error is None:
            if not isinstance(result, int) or result not in _POLLS:
                raise AdapterError(f"adapter {self.adapter.name}: poll() answered {result!r}, which is no KVPoll")
            value = KVPoll(result).name
        elif call is Call.FAILURE_EXCEPTION and error is not None and Ability.ATTRIBUTION in self.can:
            said = self.calls.plain("attribution", partial(cast("Attributes", self.system).attribution, error))
            attribution = None if said is None else said.value
        self.recorder.call_ended(of, room.key, value=value, error=error, attribution=attribution)

    def _after_poll(self, room: Room) -> None:
        """Compare the bytes at the first Success, and ask for the quarantine after every terminal answer."""
        view = room.view
        if view.terminal is KVPoll.Success and not room.compared:
            room.compared = True
            self._reports.compared(room.key, self.stage.difference(room.plan, room.memories, room.sent_pages))
        if view.terminal is not None:
            self._hold(room.key)

    def _hold(self, key: int | None) -> None:
        if Ability.QUARANTINE not in self.can:
            return
        system = cast("Quarantines", self.system)
        held = tuple(sorted(self.calls.plain("quarantined_pages", system.quarantined_pages)))
        self.recorder.add(lambda seq, t, thread, _: PagesHeld(seq=seq, t=t, thread=thread, room=key, pages=held))

    def _next_chunk(self, room: Room) -> tuple[list[int], bool]:
        """The pages of a send(), and whether they are the last ones."""
        pages, last = room.next_pages(), len(room.chunks) == 1
        room.chunks.pop(0)
        room.sent_pages.extend(pages)
        return pages, last

    def _expect(self, room: Room, meeting: Meeting) -> None:
        def call() -> object:
            pages, last = self._next_chunk(room) if meeting.call is Call.SEND else ([], False)
            second.of = self.recorder.call_started(CALL_NAMES[meeting.call], room.key, pages=pages, last=last)
            return self._invoke(room.live_sender, meeting.call, pages)

        second = Second(meeting, call)
        self.calls.expect(second)

    def _invoke(self, sender: Sender, call: Call, pages: Sequence[int]) -> object:
        match call:
            case Call.SEND:
                sender.send(pages)
            case Call.POLL:
                return sender.poll()
            case Call.FAILURE_EXCEPTION:
                sender.failure_exception()
            case Call.ABORT:
                cast("Abortable", sender).abort()
            case Call.CLEAR:
                cast("Clearable", sender).clear()
            case Call.METRIC:
                cast("Measured", sender).get_transfer_metric()
            case _:
                raise AssertionError(f"{call} is not a call of the caller")
        return None

    def _misuse(self, room: Room, misuse: Misuse) -> None:
        sender = room.live_sender
        if misuse is Misuse.BEFORE_INIT:
            system = cast("OpensUninitialised", self.system)
            stray = replace(room.plan, room=STRAY_ROOM + len(self.steps), incarnation=1000 + len(self.steps))
            sender = self.calls.hook("uninitialised", lambda: system.uninitialised(stray))
        # Page ids of a wrong type are the point of WRONG_DTYPE.
        pages = wrong_pages(misuse, room.sent_pages, sum(room.chunks))
        of = self.recorder.call_started(CallName.SEND, room.key, pages=pages, misuse=misuse.value)
        ids = cast("Sequence[int]", pages)
        error = self.calls.make("send()", lambda: self._invoke(sender, Call.SEND, ids))[1]
        self.recorder.call_ended(of, room.key, error=error)
        if sender is not room.sender and isinstance(sender, Clearable):
            self.calls.hook("clear", sender.clear)

    # -- the end

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
        if self._settled is not None and {room.key for room in self.all_rooms()} <= self._settled and not self.over:
            self._count()
        interrupted = self.over
        self.over = True
        self.recorder.add(
            lambda seq, t, thread, _: RunEnded(
                seq=seq,
                t=t,
                thread=thread,
                complete=not interrupted,
                why="an error that is not the transport's went through the sender" if interrupted else "",
            )
        )
        self.calls.close()

    def _count(self) -> None:
        self._hold(None)
        entries: int | None = None
        if Ability.COUNTS in self.can and all(room.view.cleared for room in self.all_rooms()):
            entries = self.calls.hook("residue", cast("CountsResidue", self.system).residue)
        self.recorder.add(lambda seq, t, thread, _: KeptCounted(seq=seq, t=t, thread=thread, entries=entries))


def _key(room: Room) -> int:
    return room.key


def run_trace(adapter: Adapter, trace: Trace, *, as_it_is: bool = False) -> Run:
    """Run a whole trace, with its end; ``as_it_is``: without the end that the trace does not have itself."""
    run = Run(adapter, trace.scene)
    for step in trace.steps:
        run.apply(step)
    if as_it_is:
        run.close()
    else:
        run.finish()
    return run
