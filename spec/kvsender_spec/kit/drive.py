"""Runs one trace: makes the world of a scene, calls the sender, and lets the judges see what happened.

A run is deterministic: the same adapter, scene and steps give the same findings. Steps that make no sense where they
stand (a send() when the owner has no chunk left) are left out, so that any part of a trace is a trace.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, TypeVar, cast

from kvsender_spec.contract import Abortable, Clearable, KVPoll, Measured, Sender
from kvsender_spec.faults import BASE_KINDS, NIXL_KINDS, PROGRAMMING_KINDS, Kind, Point
from kvsender_spec.kit.adapter import (
    MOST_REOPENINGS,
    Adapter,
    Notifies,
    OpensUninitialised,
    Peer,
    Reconnects,
    RoomPlan,
    Settles,
    TakesControl,
    Works,
)
from kvsender_spec.kit.calls import AdapterError, Calls, Second
from kvsender_spec.kit.ending import end
from kvsender_spec.kit.judge import THREADS, Answered, Errors, Findings, RoomJudge, Surroundings, chain, judged, show
from kvsender_spec.kit.misuse import MALFORMED, possible, wrong_pages
from kvsender_spec.kit.record import Record
from kvsender_spec.kit.rooms import Room
from kvsender_spec.kit.stage import SENDER_SIDE, STRAY_ROOM, Stage
from kvsender_spec.kit.transport import TransportEvent
from kvsender_spec.machine import HandleState
from kvsender_spec.oracle import ABORTED
from kvsender_spec.trace import WORLD_CALLS, Call, Meeting, Misuse, Progress, Scene, Step, Trace

_T = TypeVar("_T")
_TERMINAL: Final = (KVPoll.Failed, KVPoll.Success)
MEETING_CALLS: Final = {
    Call.SEND: (Call.POLL, Call.ABORT, Call.CLEAR),
    Call.POLL: (Call.SEND, Call.POLL, Call.ABORT, Call.CLEAR),
}
"""Which calls of other threads a call may meet: one owner sends, and whoever may poll, abort and clear."""


DEEDS: Final = frozenset({"KS-2.3", "KS-2.4", "KS-2.7", "KS-5.1", THREADS, "KS-8.1"})
"""Clauses about something that the kit does, and can leave undone."""


@dataclass(slots=True)
class _Made:
    """A call of the owner that has come back."""

    call: Call
    result: object
    error: BaseException | None
    around: Surroundings
    answered: Answered = field(default_factory=Answered)
    """What the transport answered the room meanwhile."""
    checks: int = 0
    """How many of the room's handles were asked about."""
    last: bool = False
    """It was a send() of the last chunk."""


class Run:
    """One run. ``apply`` each step, then ``finish``.

    ``findings`` holds what was judged, ``steps`` what was done, ``record`` both with what the transport answered.

    After the first violation the run stops: what the sender does then says nothing about it. ``avoid`` names clauses of
    ``DEEDS`` that are known to be broken: what they are about is left out, so that it hides nothing. A violation of a
    clause in ``ignoring`` does not stop the run.
    """

    def __init__(
        self,
        adapter: Adapter,
        scene: Scene,
        avoid: frozenset[str] = frozenset(),
        ignoring: frozenset[str] = frozenset(),
    ) -> None:
        self.adapter: Final = adapter
        self.ignoring: Final = ignoring
        self.avoid: Final = avoid
        self.scene: Final = scene
        self.findings: Final = Findings()
        self.steps: list[Step] = []
        self.over = False
        errors = {kind.value: adapter.errors[kind.value] for kind in NIXL_KINDS if kind.value in adapter.errors}
        missing = [kind.value for kind in NIXL_KINDS if kind.value not in adapter.errors]
        if missing:
            raise AdapterError(f"adapter {adapter.name}: errors lacks {', '.join(missing)}")
        self._errors: Final = Errors(tuple(errors.values()), errors[Kind.REMOTE_DISCONNECT.value], adapter.usage_errors)
        self.stage: Final = Stage(scene, errors)
        self.world: Final = self.stage.world
        self._fabric: Final = self.stage.fabric
        self.record: Final = Record(self._fabric.events, self.findings)
        self.calls: Final = Calls(adapter.name, self._fabric)
        self.system: Final = self.calls.hook("open", lambda: adapter.open(self.world))
        self.calls.system = self.system if isinstance(self.system, Works) else None
        self._rooms: dict[int, Room] = {}
        self._past: list[Room] = []
        self._owner_of: dict[int, Room] = {}
        self._seen = 0
        self._faulted_incarnations: set[int] = set()
        self._room_at: dict[int, Room] = {}
        """By address: whose page or slot lies there, at a peer."""
        self._met = False
        """The calls of two threads have met in this step."""
        self._tried_workers = False
        """A worker has been given an error, or the control thread a malformed message."""

    def is_broken(self) -> bool:
        """A clause is broken that this run does not ignore."""
        return bool(judged(self.findings.violations, self.ignoring))

    # -- the world

    def _compare(self, plan: RoomPlan) -> str:
        room = next(room for room in self.all_rooms() if room.judge.plan is plan)
        return self.stage.difference(plan, room.memories, room.sent_pages)

    def all_rooms(self) -> list[Room]:
        """Those whose slot was opened again included, oldest first."""
        return [*self._past, *self._rooms.values()]

    # -- what makes sense now

    def applicable(self, step: Step) -> bool:
        if self.over:
            return False
        if step.call in WORLD_CALLS:
            if step.call in (Call.WAIT, Call.WAIT_LONG):
                return bool(self._rooms)
            if step.call is Call.CONTROL:
                return isinstance(self.system, TakesControl)
            return step.room < self.scene.peers and self._peer_step_makes_sense(step)
        if step.room >= len(self.scene.chunks):
            return False
        room = self._rooms.get(step.room)
        if step.call is Call.OPEN:
            # A room id comes back only after its owner has cleared it.
            return room is None or (room.judge.cleared and len(self._past) < MOST_REOPENINGS)
        if room is None or not self._meeting_makes_sense(step) or self.is_avoided(room, step):
            return False
        match step.call:
            case Call.SEND if step.misuse is not None:
                return self._misuse_makes_sense(room, step.misuse)
            case Call.SEND:
                return (bool(room.chunks) and not room.judge.ended) or (bool(room.chunks) and room.judge.oracle.failed)
            case Call.ABORT:
                return isinstance(room.sender, Abortable)
            case Call.CLEAR:
                return isinstance(room.sender, Clearable)
            case Call.METRIC:
                return isinstance(room.sender, Measured)
            case _:
                return True

    def is_avoided(self, room: Room, step: Step) -> bool:
        """Whether a step is a deed of a clause that is known to be broken."""
        match step.call:
            case Call.FAILURE_EXCEPTION if self.avoid & {"KS-2.3", "KS-2.4"}:
                return True
            case Call.FAILURE_EXCEPTION if "KS-2.7" in self.avoid:
                return not room.judge.oracle.failed
            case Call.ABORT if "KS-5.1" in self.avoid:
                return True
            case _:
                misuse = "KS-8.1" in self.avoid and step.misuse is not None
                return misuse or (THREADS in self.avoid and step.meeting is not None)

    def asks(self, point: Point, slot: int) -> int:
        """How often the sender can be expected to ask this of the transport in its next call: once per peer or handle.

        What lies beyond is never reached: a fault there strikes nothing, and a meeting there does not take place.
        """
        room = self._rooms.get(slot)
        if room is None:
            return 0
        handles = room.judge.oracle.handles.values()
        match point:
            case Point.MAKE | Point.POST | Point.NOTIFY:
                return len(room.judge.destinations)
            case Point.CHECK:
                return sum(1 for machine in handles if machine.state is HandleState.IN_FLIGHT)
            case Point.RELEASE:
                return sum(1 for machine in handles if machine.state is not HandleState.NEVER_SUBMITTED)

    def _meeting_makes_sense(self, step: Step) -> bool:
        if step.meeting is None:
            return True
        allowed = step.meeting.call in MEETING_CALLS.get(step.call, ()) and step.misuse is None
        return allowed and self.applicable(Step(step.meeting.call, step.room))

    def _peer_step_makes_sense(self, step: Step) -> bool:
        name = self.world.peers[step.room].name
        if step.call is Call.RESTART:
            return isinstance(self.system, Reconnects) and name in self.stage.unwell
        return name not in self.stage.unwell

    def _misuse_makes_sense(self, room: Room, misuse: Misuse) -> bool:
        if misuse is Misuse.BEFORE_INIT:
            return isinstance(self.system, OpensUninitialised)
        if not room.chunks or room.judge.oracle.possible[0].state.value not in ("idle", "sending"):
            return False
        if len(room.judge.oracle.possible) > 1 or room.judge.oracle.failed or room.judge.ended:
            return False
        return possible(misuse, room.sent_pages, sum(room.chunks))

    # -- one step

    def apply(self, step: Step) -> None:
        """Take one step, if it makes sense now, and judge what came of it."""
        if not self.applicable(step):
            return
        self.steps.append(step)
        if step.call in WORLD_CALLS:
            self._change_world(step)
        elif step.call is Call.OPEN:
            self._open(step)
        else:
            self._call(self._rooms[step.room], step)
        self.take_stock()
        if self._met and not self.over:
            self._met = False
            self.findings.check(THREADS, True, "as if one had called after the other", "it is")
        self._note(step, None if step.call in WORLD_CALLS else self._rooms.get(step.room))

    def take_stock(self) -> None:
        """Judge what a call has left behind: at the transport, at the peers, and in the workers."""
        self.meanwhile()
        self._read_notices()
        if self._fabric.crimes:
            crime = self._fabric.crimes[0]
            self.findings.check("KS-4.3", False, "a handle is not used after its release", crime)
        self._check_workers()
        self.over = self.over or self.is_broken()

    def _check_workers(self) -> None:
        if self.calls.system is not None:
            ended = [worker.name for worker in self.calls.system.workers() if not worker.is_alive()]
            if ended or self._tried_workers:
                self._tried_workers = False
                seen = f"ended: {', '.join(ended) or 'none'}"
                self.findings.check("KS-7.1", not ended, "every worker lives on", seen)

    def meanwhile(self, *, round_: bool = False) -> None:
        """Let the workers go on, and judge what they were answered while nobody called."""
        self.calls.let_workers(round_=round_)
        for room, answered in self._route(None, self._fresh_events()):
            if self.calls.system is not None:
                self._judge_meanwhile(room, answered)

    def _judge_meanwhile(self, room: Room, answered: Answered) -> None:
        complete = self.surroundings(room).deadline_with_completion
        room.judge.meanwhile(answered, self.world.clock.now, completion_is_there=complete)

    def _note(self, step: Step, room: Room | None) -> None:
        if room is None:
            self.record.add(step)
        else:
            self.record.add(step, room.judge.plan.incarnation, room.judge.oracle.possible)

    def _change_world(self, step: Step) -> None:
        match step.call:
            case Call.WAIT:
                self.world.clock.now += self.world.drain_timeout_s
            case Call.WAIT_LONG:
                self.world.clock.now += self.world.transfer_timeout_s
            case Call.KILL:
                # Nobody is told: what a sender may know of it, it learns from the transport's answers.
                self.stage.note_lost(self.world.peers[step.room].name)
                self._mark_ill()
                self._fabric.kill(self.world.peers[step.room].name)
            case Call.STOP:
                self.stage.silence(self.world.peers[step.room].name)
                self._mark_ill()
            case Call.CONTROL if isinstance(self.system, TakesControl):
                self._tried_workers = True
                self.calls.hook("control", partial(self.system.control, MALFORMED[step.room % len(MALFORMED)]))
            case _:
                self._restart(self.world.peers[step.room])

    def _mark_ill(self) -> None:
        """A peer has become unwell, and the rooms that write to it are ill."""
        for room in self.all_rooms():
            room.ill = room.ill or bool(self.stage.unwell & room.judge.destinations.keys())

    def _lose(self, name: str, told: Room | None = None) -> None:
        """The system knows now that a peer is lost. The room that was ``told`` has the error itself for a cause."""
        self.stage.note_lost(name)
        self._mark_ill()
        for room in self.all_rooms():
            if room is not told and name in room.judge.destinations:
                room.judge.peer_lost()

    def _restart(self, peer: Peer) -> None:
        self._lose(peer.name)  # to every room that was opened before
        self.stage.restart(peer)
        known = len(self._fabric.connects)
        system = self.system
        if isinstance(system, Reconnects):
            self.calls.hook("reconnect", lambda: system.reconnect(peer))
        self.settle()
        added = self._fabric.connects[known:].count((SENDER_SIDE, peer.name))
        self.findings.check("KS-6.3", added == 1, f"{peer.name} is added once", f"it was added {added} times")

    def settle(self) -> None:
        """Give the system the time for its background work, where it has any."""
        system = self.system
        if isinstance(system, Settles):
            self.calls.hook("settle", system.settle)

    def _open(self, step: Step) -> None:
        old = self._rooms.pop(step.room, None)
        if old is not None:
            self._past.append(old)
        plan = self.stage.plan(step.room, incarnation=len(self.all_rooms()))
        sender = self.calls.hook("sender", lambda: self.system.sender(plan))
        judge = RoomJudge(self.findings, self._errors, self.system, plan, self.world.transfer_timeout_s, self._compare)
        judge.recovered = bool(self.stage.came_back & judge.destinations.keys())
        if self.stage.lost & judge.destinations.keys():
            judge.peer_lost()
        room = self._rooms[step.room] = Room(step.room, self.scene.chunks[step.room], sender, judge)
        self._room_at.update(dict.fromkeys(self.stage.addresses(plan), room))
        self._mark_ill()

    def any_sender(self) -> Sender:
        """A sender of the first room, on which nothing is judged."""
        return self.calls.hook("sender", lambda: self.system.sender(self.stage.plan(0, incarnation=0)))

    # -- a call of the owner

    def _call(self, room: Room, step: Step) -> None:
        if step.call is Call.SEND and step.misuse is not None:
            self._misuse(room, step.misuse)
            return
        if self.let_progress(room, step.progress) and room.judge.cleared:
            room.judge.settled_late()
        self._fabric.plan.arm(*([] if step.fault is None else [step.fault]))
        if step.meeting is not None:
            self._expect(room, step.meeting)
        complete = self.surroundings(room).deadline_with_completion  # the workers' round may be what learns of it
        if step.call is Call.POLL:
            self.meanwhile(round_=True)
        around = self.surroundings(room)
        around = replace(around, deadline_with_completion=complete or around.deadline_with_completion)
        pages, last = self._next_chunk(room) if step.call is Call.SEND else ([], False)
        results, error = self.calls.make(f"{step.call}()", lambda: self._invoke(room.sender, step.call, pages))
        if step.call is Call.SEND:
            self.calls.let_workers()  # what they are given to post is posted within this call, and may meet another
        second = self.calls.meet()
        if second is not None:
            self.calls.let_workers()
        self._fabric.plan.arm()
        made = _Made(step.call, results[0] if results else None, error, around, last=last)
        self.record.answered(_outcome(made.result, error), usage=isinstance(error, self._errors.usage))
        events = self._fresh_events()
        for owner, found in self._route(room, events):
            if owner is room:
                made.answered = found
            elif self.calls.system is not None:
                self._judge_meanwhile(owner, found)
        made.checks = sum(
            event.point is Point.CHECK and self._owner_of.get(event.handle) is room
            for event in events
            if event.handle is not None
        )
        if self._interrupted(step, events, error):
            return
        if second is None:
            self._judge_call(room, made)
        else:
            self._met = True
            other_result, other_error = second.outcome()
            self._judge_meeting(room, made, _Made(second.meeting.call, other_result, other_error, around))

    def _next_chunk(self, room: Room) -> tuple[list[int], bool]:
        """The pages of a send(), and whether they are the last ones."""
        pages, last = room.next_pages(), len(room.chunks) == 1
        room.chunks.pop(0)
        room.sent_pages += pages
        return pages, last

    def _expect(self, room: Room, meeting: Meeting) -> None:
        def call() -> object:
            pages: list[int] = []
            if meeting.call is Call.SEND:
                pages, last = self._next_chunk(room)
                room.judge.hands_over(last=last)
            return self._invoke(room.sender, meeting.call, pages)

        self.calls.expect(Second(meeting, call))

    def _judge_meeting(self, room: Room, first: _Made, second: _Made) -> None:
        """Two calls that met may have had their effect in either order, and neither is asked to know of the other."""
        if second.call in (Call.ABORT, Call.CLEAR):
            room.judge.oracle.may_fault(ABORTED)
        # What a send() has posted counts for a poll() that came at the same time, and of two polls the one that ended
        # the room came last.
        polls = first.call is Call.POLL and second.call is Call.POLL
        swapped = second.call is Call.SEND or (polls and second.result not in _TERMINAL)
        for made in (second, first) if swapped else (first, second):
            self._judge_call(room, made)
        if self.calls.system is not None:
            room.judge.oracle.may_have_completed()  # after both calls had looked

    def _invoke(self, sender: Sender, call: Call, pages: list[int]) -> object:
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
                raise AssertionError(f"{call} is not a call of the owner")
        return None

    def _judge_call(self, room: Room, made: _Made) -> None:
        judge, call, answered, around = room.judge, made.call, made.answered, made.around
        name, now = f"{call}()", self.world.clock.now
        judge.around = around
        if call is Call.FAILURE_EXCEPTION:
            judge.failure_shown(made.error)
            return
        if made.error is not None:
            judge.escaped(name, made.error, answered.first)
            return
        judge.returned(name, answered.first)
        if call is not Call.SEND and answered.posted:
            judge.meanwhile(answered, now, completion_is_there=around.deadline_with_completion)
        match call:
            case Call.SEND:
                judge.sent(answered, last=made.last)
            case Call.POLL:
                value = made.result
                if not isinstance(value, int) or value not in KVPoll.__members__.values():
                    raise AdapterError(f"adapter {self.adapter.name}: poll() answered {value!r}, which is no KVPoll")
                judge.polled(value, answered.first, now, made.checks, around)
            case Call.ABORT:
                judge.aborted()
            case Call.CLEAR:
                judge.was_cleared()
            case _:
                pass
        if judge.faults or (judge.oracle.failed and call in (Call.ABORT, Call.CLEAR)):
            self._faulted_incarnations.add(judge.plan.incarnation)

    def _interrupted(self, step: Step, events: Sequence[TransportEvent], error: BaseException | None) -> bool:
        """A BaseException or a programming error was injected and, as it should or may, has left the call."""
        if step.fault is None:
            return False
        # Other events may carry errors of the transport; the injected one is known by its class.
        injected = next((e.error for e in events if e.error is not None and _is(e.error, step.fault.kind)), None)
        if injected is None:
            return False
        if step.fault.kind in BASE_KINDS:
            self.findings.check("KS-1.4", error is injected, f"{show(injected)} leaves the call", show(error))
            self.over = True
            return True
        if step.fault.kind in PROGRAMMING_KINDS and error is injected:
            self.findings.check("KS-1.3", True, "it propagates", show(error))
            self.over = True
            return True
        return False

    def let_progress(self, room: Room, progress: Progress) -> bool:
        """Let handles of the room's finish; True if any did."""
        return self.stage.let_progress(frozenset(room.judge.oracle.handles), progress)

    def surroundings(self, room: Room) -> Surroundings:
        """What else is wrong in the world now."""
        mine = {d.peer.name for d in room.judge.plan.destinations if not d.dummy}
        oracle = room.judge.oracle
        handles = [self._fabric.handles.get(number) for number in oracle.handles]
        complete = oracle.closed and all(
            oracle.state_of(number) is HandleState.DONE or (handle is not None and handle.state is HandleState.DONE)
            for number, handle in zip(oracle.handles, handles, strict=True)
        )
        others = self._faulted_incarnations - {room.judge.plan.incarnation}
        return Surroundings(
            other_room_faulted=bool(others),
            other_peer_unwell=bool(self.stage.ever_unwell - mine) and not room.ill,
            deadline_with_completion=complete and oracle.overdue(self.world.clock.now),
        )

    def _misuse(self, room: Room, misuse: Misuse) -> None:
        sender, system = room.sender, self.system
        if misuse is Misuse.BEFORE_INIT and isinstance(system, OpensUninitialised):
            stray = replace(room.judge.plan, room=STRAY_ROOM, incarnation=1000 + len(self.steps))
            sender = self.calls.hook("uninitialised", lambda: system.uninitialised(stray))
        pages = wrong_pages(misuse, room.sent_pages, sum(room.chunks))
        before = len(self._fabric.events)
        error: BaseException | None = None
        try:
            sender.send(cast("Sequence[int]", pages))  # page ids of a wrong type are the point of WRONG_DTYPE
        except Exception as caught:
            error = caught
        self.record.answered(_outcome(None, error))
        made = sum(1 for event in self._fabric.events[before:] if event.point in (Point.MAKE, Point.POST))
        if sender is not room.sender and isinstance(sender, Clearable):
            sender.clear()
        room.judge.misused(misuse, error, made)

    # -- what the transport saw

    def _fresh_events(self) -> list[TransportEvent]:
        fresh = self._fabric.events[self._seen :]
        self._seen = len(self._fabric.events)
        return fresh

    def _route(self, caller: Room | None, events: Sequence[TransportEvent]) -> list[tuple[Room, Answered]]:
        """Give each event to the room whose handle it is about, and say what each room was answered."""
        now = self.world.clock.now
        batches: dict[int, tuple[Room, list[TransportEvent]]] = {}
        for event in events:
            if event.agent != SENDER_SIDE:
                continue
            if event.point is Point.MAKE and event.handle is not None:
                self._adopt(self._room_at.get(event.target or 0, caller), event.handle)
            if event.point is Point.NOTIFY and event.error is not None:
                self.stage.unheard.add(event.peer)
            room = self._room_at.get(event.target or 0, caller)
            if event.handle is not None:
                room = self._owner_of.get(event.handle)
            if self._errors.disconnect is not None and isinstance(event.error, self._errors.disconnect):
                self._lose(event.peer, told=room)
            if room is not None:
                batches.setdefault(id(room), (room, []))[1].append(event)
            self._tried_workers = self._tried_workers or event.error is not None
        answers: list[tuple[Room, Answered]] = []
        for room, batch in batches.values():
            answers.append((room, room.judge.feed(batch, now)))
            if room.judge.faults:
                self._faulted_incarnations.add(room.judge.plan.incarnation)
        return answers

    def _adopt(self, owner: Room | None, number: int) -> None:
        """A handle is the room's to whose pages it writes; one that writes to nobody's is the caller's."""
        handle = self._fabric.handles.get(number)  # None if a worker has released it by now
        if owner is not None:
            self._owner_of[number] = owner
            owner.judge.made(number, frozenset() if handle is None else self.stage.pages_of(handle))

    def _read_notices(self) -> None:
        system = self.system
        for peer in self.world.peers:
            for messages in peer.agent.get_new_notifs().values():
                if not isinstance(system, Notifies):
                    continue
                for message in messages:
                    notice = self.calls.hook("read_notice", partial(system.read_notice, message))
                    if notice is None:
                        continue
                    self.record.told(peer.name, notice)
                    rooms = [room for room in self.all_rooms() if room.judge.plan.room == notice.room]
                    if notice.incarnation is not None:
                        rooms = [room for room in rooms if room.judge.plan.incarnation == notice.incarnation]
                    if rooms:
                        rooms[-1].judge.noticed(peer.name, notice)

    # -- the end

    def finish(self) -> None:
        """End every room, let everything settle, judge what only the end can show, and end the system's workers."""
        end(self)
        self.calls.close()

    def call_at_end(self, room: Room, step: Step) -> None:
        """A call that ends a room: it is judged and put on record like a step, and is none."""
        self._call(room, step)
        self._read_notices()
        self._note(step, room)


def _outcome(result: object, error: BaseException | None) -> str:
    if error is not None:
        return f"raised {', from '.join(map(show, chain(error)))}"
    if isinstance(result, int) and result in KVPoll.__members__.values():
        return f"answered {KVPoll(result).name}"
    return "returned" if result is None else f"answered {result!r}"


def _is(error: BaseException, kind: Kind) -> bool:
    return type(error).__name__ == kind.value


def run_trace(adapter: Adapter, trace: Trace, avoid: frozenset[str] = frozenset()) -> Run:
    """Run a whole trace, with its end."""
    run = Run(adapter, trace.scene, avoid)
    for step in trace.steps:
        run.apply(step)
    run.finish()
    return run
