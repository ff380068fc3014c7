"""One run of a target: takes steps, plays the initiators, and records what happens. It judges nothing."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Final, cast

from kvsender_spec.contract import Abortable, Clearable, KVPoll, Target
from kvsender_spec.faults import Point
from kvsender_spec.history import events
from kvsender_spec.history.header import Ability
from kvsender_spec.history.words import CallName, Destination, How
from kvsender_spec.kit.adapter import Adapter, Attributes, CountsResidue, Reconnects, Settles
from kvsender_spec.kit.run.calls import AdapterError, StuckError
from kvsender_spec.kit.targets import adapter as able
from kvsender_spec.kit.targets.adapter import TargetPlan
from kvsender_spec.kit.targets.ending import ending
from kvsender_spec.kit.targets.initiators import Initiators
from kvsender_spec.kit.targets.situation import OF_A_PEER, OF_THE_WORLD, OWNERS_CALLS, TargetRoom
from kvsender_spec.kit.targets.world import Initiating
from kvsender_spec.trace import OF_AN_END, Call, Setup, Step

_POLLS: Final = {value: value.name for value in KVPoll}


class TargetRun(Initiators):
    """``apply`` each step, then ``finish``; ``history`` is what was seen."""

    def __init__(self, adapter: Adapter, setup: Setup) -> None:
        super().__init__(adapter, setup)
        self.calls.on_stuck = self._stuck

    # -- one step

    def apply(self, step: Step) -> None:
        """Take one step, if it makes sense now. Raises AdapterError where the adapter breaks, which ends the run."""
        if not self.applicable(step):
            return
        try:
            self.steps.append(step)
            self.recorder.note(partial(events.StepStarted, text=step.told(self.setup.operation)))
            self._apply(step)
            self._take_stock()
        except StuckError as error:
            self._stuck(error)
            if not self.is_stuck:
                raise
        except AdapterError as error:
            self._broke(error)
            raise

    def _stuck(self, error: StuckError) -> None:
        if self._open_call is not None:
            self.recorder.note(partial(events.CallStuck, of=self._open_call, after_s=error.after_s, stack=error.stack))
        self.waited_s = error.after_s
        self._broke(error)

    def _broke(self, error: AdapterError) -> None:
        self.over = True
        self.recorder.note(partial(events.RunEnded, complete=False, why=str(error)))

    def _apply(self, step: Step) -> None:
        if step.call in OF_THE_WORLD or step.call in OF_A_PEER:
            self._change_world(step)
            return
        if step.call is Call.OPEN:
            self._open(step)
            return
        room = self.room_of(step.room, step.opening)
        assert room is not None
        match step.call:
            case Call.LAND:
                self._land(room, room.plan.initiators[step.peer])
            case Call.TELL:
                self._tell(room, step)
            case Call.FENCE:
                self._fence(room, step)
            case Call.REFILL:
                self._refill(room)
            case _:
                self._call(room, step)

    def _open(self, step: Step) -> None:
        taken = self.system_holds() | frozenset(page for room in self.rooms if room.in_use for page in room.plan.pages)
        plan = self.target_world.plan(step.room, len(self.rooms), taken)
        if plan is None:
            return  # back-pressure: there are no pages for it
        who = tuple(Destination(peer=p.name, generation=p.generation, pages=plan.pages) for p in plan.initiators)
        opened = partial(events.RoomOpened, room=plan.incarnation, id=plan.room, pages=len(plan.pages))
        operation = self.setup.operation
        self.recorder.note(partial(opened, destinations=who, own=plan.pages, parts=plan.parts, operation=operation))
        self._faults.arm(*([] if step.fault is None else [step.fault]))
        known = len(self.target_world.fabric.events)
        of = self._open_call = self.recorder.call_started(CallName.INIT, plan.incarnation)
        made, error = self.calls.make("target()", lambda: self.system.target(plan))
        self._faults.arm()
        self._open_call = None
        self.recorder.call_ended(of, plan.incarnation, error=error)
        self._note_refusals(plan, known)
        initiating = {p.name: Initiating(p, p.generation, plan.parts) for p in plan.initiators}
        view = self.observer.rooms[plan.incarnation]
        stamps = {page: self.world.memory.stamp(page) for page in plan.pages}
        self.rooms.append(TargetRoom(step.room, plan, made[0] if made else None, view, initiating, stamps))

    def _note_refusals(self, plan: TargetPlan, known: int) -> None:
        """Which announcements the transport has refused: what was sent may have arrived all the same."""
        for event in self.target_world.fabric.events[known:]:
            if event.point is Point.NOTIFY and event.error is not None:
                ref = self.recorder.error(event.error)
                sent = partial(events.NotificationSent, room=plan.incarnation, peer=event.peer)
                self.recorder.note(partial(sent, error=ref))

    def _fence(self, room: TargetRoom, step: Step) -> None:
        peer = room.plan.initiators[step.peer]
        generation = room.initiating[peer.name].generation - (1 if step.how is How.EARLIER else 0)
        self.recorder.note(partial(events.FenceTold, peer=peer.name, generation=generation))
        system = cast("able.Fences", self.system)
        self.calls.hook("fence", lambda: system.fence(peer, generation))

    def _refill(self, room: TargetRoom) -> None:
        memory, pages = self.world.memory, room.plan.pages
        raised: list[bool] = []

        def write() -> None:
            raised.append(all(memory.stamp(page) != room.granted[page] for page in pages))
            between.update({page: memory.stamp(page) for page in pages})
            for page in pages:
                for region, size in zip(memory.kv, memory.PAGE_BYTES, strict=True):
                    at = page * size
                    region[at : at + size] = bytes(byte ^ 0xFF for byte in region[at : at + size])

        between: dict[int, int] = {}
        system = cast("able.Refills", self.system)
        error = self.calls.make("refill", lambda: system.refill(pages, write))[1]
        if error is not None and not isinstance(error, self.adapter.usage_errors):
            raise self.calls.broken("refill", error) from error
        after = all(memory.stamp(page) not in (room.granted[page], between.get(page)) for page in pages)
        reused = partial(events.PagesReused, pages=pages, refused=error is not None)
        self.recorder.note(partial(reused, raised_before=not raised or raised[0], raised_after=not raised or after))

    # -- the owner's calls

    def _call(self, room: TargetRoom, step: Step) -> None:
        self._faults.arm(*([] if step.fault is None else [step.fault]))
        if step.call is Call.POLL:
            self.settle()
            self.calls.let_workers(round_=True)
        name = OWNERS_CALLS[step.call]
        target = room.target
        assert target is not None
        of = self._open_call = self.recorder.call_started(name, room.key)
        results, error = self.calls.make(f"{name}()", partial(_invoke, target, step.call))
        self.calls.let_workers()
        self._faults.arm()
        self._open_call = None
        value: str | None = None
        if step.call is Call.POLL and error is None:
            result = results[0]
            if not isinstance(result, int) or result not in _POLLS:
                raise AdapterError(f"adapter {self.adapter.name}: poll() answered {result!r}, which is no KVPoll")
            value = _POLLS[KVPoll(result)]
        said: str | None = None
        if step.call is Call.FAILURE_EXCEPTION and error is not None and Ability.ATTRIBUTION in self.can:
            raised = error
            whose = self.calls.hook("attribution", lambda: cast("Attributes", self.system).attribution(raised))
            said = None if whose is None else whose.value
        self.recorder.call_ended(of, room.key, value=value, error=error, attribution=said)

    # -- the world

    def _change_world(self, step: Step) -> None:
        match step.call:
            case Call.WAIT | Call.WAIT_LONG:
                long = step.call is Call.WAIT_LONG
                by_s = self.world.transfer_timeout_s if long else self.world.drain_timeout_s
                self.world.clock.now += by_s
                self.recorder.note(partial(events.ClockAdvanced, by_s=by_s))
                self.settle()
            case Call.KILL:
                name = self.target_world.peers[step.room].name
                self.target_world.fabric.kill(name)
                self.recorder.note(partial(events.PeerLost, peer=name))
            case Call.STOP:
                name = self.target_world.peers[step.room].name
                self.target_world.fabric.stop(name)
                self.recorder.note(partial(events.PeerSilent, peer=name))
            case Call.RESTART:
                peer = self.target_world.restart(step.room)
                self.recorder.note(partial(events.PeerReturned, peer=peer.name, generation=peer.generation))
                system = cast("Reconnects", self.system)
                self.calls.hook("reconnect", lambda: system.reconnect(peer))
            case Call.FAULTS_OVER:
                self.faults_over = True
                self.recorder.note(partial(events.FaultsOver))
            case _:
                self._settle_everything()

    def settle(self) -> None:
        """Give the system the time for its loop, which takes what has arrived."""
        if isinstance(self.system, Settles):
            system = self.system
            of = self._open_call = self.recorder.call_started(CallName.SWEEP, None)
            error = self.calls.make("settle()", system.settle)[1]
            self._open_call = None
            self.recorder.call_ended(of, None, error=error)
        self.calls.let_workers()

    def _settle_everything(self) -> None:
        for peer in self.target_world.peers:
            if peer.name in self.observer.silent:
                self.target_world.fabric.cont(peer.name)
                self.recorder.note(partial(events.PeerResumed, peer=peer.name))
        for _ in range(3):
            by_s = self.world.drain_timeout_s  # a loop may do some of its work in turns
            self.world.clock.now += by_s
            self.recorder.note(partial(events.ClockAdvanced, by_s=by_s))
            self.settle()
            self.calls.let_workers(round_=True)

    def system_holds(self) -> frozenset[int]:
        return frozenset(self.calls.hook("held_pages", self.system.held_pages))

    def _take_stock(self) -> None:
        """What the step has left: what the initiators were told, and which pages are held."""
        self.calls.let_workers()
        self._read_what_was_told()
        held = self.system_holds()
        if held != self._held or any(room.view.ended and room.view.touchable for room in self.rooms):
            self._held = held
            pages: tuple[int, ...] = tuple(sorted(held))
            self.recorder.note(partial(events.PagesHeld, pages=pages))
        if isinstance(self.system, able.Publishes):
            published = self.calls.hook("published_pages", self.system.published_pages)
            if published:
                shared: tuple[int, ...] = tuple(sorted(published))
                self.recorder.note(partial(events.PagesPublished, pages=shared))

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
        """End every room, let every initiator give its proof, and say what is left."""
        if not self.over and not any(step.call in OF_AN_END for step in self.steps):
            for step in ending(self):
                self.apply(step)
        self.close()

    def close(self) -> None:
        """Count what is left, if everything is over, and end the run."""
        if not self.over and self.steps and self.steps[-1].call is Call.SETTLE:
            entries: int | None = None
            if Ability.COUNTS in self.can:
                entries = self.calls.hook("residue", cast("CountsResidue", self.system).residue)
            self.recorder.note(partial(events.KeptCounted, entries=entries))
        self.recorder.note(partial(events.RunEnded, complete=not self.over))
        self.over = True
        self.calls.close()

    def forget(self) -> None:
        """All that is wanted of the run has been read: let go of the rest."""
        if not self.is_stuck:
            self.target_world.fabric.forget()
            self.calls.forget()
            self.rooms.clear()


def _invoke(target: Target, call: Call) -> object:
    match call:
        case Call.POLL:
            return target.poll()
        case Call.FAILURE_EXCEPTION:
            target.failure_exception()
        case Call.ABORT:
            cast("Abortable", target).abort()
        case _:
            cast("Clearable", target).clear()
    return None
