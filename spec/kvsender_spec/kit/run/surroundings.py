"""What happens around the sender in a run: time passes, peers come and go, background work gets its time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar, cast

from kvsender_spec.history import events
from kvsender_spec.history.words import CallName
from kvsender_spec.kit import adapter as able
from kvsender_spec.kit.adapter import Adapter
from kvsender_spec.kit.run.misuse import MALFORMED
from kvsender_spec.kit.run.planned import PlannedFaults
from kvsender_spec.kit.run.rooms import Room
from kvsender_spec.kit.run.situation import Situation
from kvsender_spec.trace import Call, Progress, Setup, Step

_T = TypeVar("_T")

_SETTLE_ROUNDS: Final = 3


class Surroundings(Situation):
    """A run that can change the world around its sender, and calls nothing of the caller's."""

    def __init__(self, adapter: Adapter, setup: Setup) -> None:
        super().__init__(adapter, setup)
        self._faults: Final = PlannedFaults(self.scripted_world.fabric.plan, reads=self.operation == "READ")
        self._settled: set[int] | None = None
        """The rooms that were polled since everything has settled; None where something may still be in flight."""

    def _change_world(self, step: Step) -> None:
        match step.call:
            case Call.WAIT | Call.WAIT_LONG:
                long = step.call is Call.WAIT_LONG
                by_s = self.world.transfer_timeout_s if long else self.world.drain_timeout_s
                self.world.clock.now += by_s
                self.recorder.note(partial(events.ClockAdvanced, by_s=by_s))
            case Call.KILL:
                # Nobody is told: what a sender may know of it, it learns from the transport's answers.
                name = self.scripted_world.peers[step.room].name
                self.scripted_world.fabric.kill(name)
                self.recorder.note(partial(events.PeerLost, peer=name))
            case Call.STOP:
                name = self.scripted_world.peers[step.room].name
                self.scripted_world.fabric.stop(name)
                self.recorder.note(partial(events.PeerSilent, peer=name))
            case Call.CONTROL:
                message = MALFORMED[step.room % len(MALFORMED)]
                self.reports.control(message)
                system = cast("able.TakesControl", self.system)
                self.calls.hook("control", partial(system.control, message))
            case Call.FAULTS_OVER:
                self.faults_over = True
                self._faults.forget()
                self.recorder.note(partial(events.FaultsOver, settles=not self.setup.silent))
            case Call.SETTLE:
                self._settle_everything()
            case Call.WORK:
                self._faults.arm(step)
                self.settle()
                self.calls.let_workers(round_=True)
                self._faults.disarm()
            case _:
                self._restart(step.room)

    def _refill(self, room: Room) -> None:
        """The room's holders end its grant: what the room has in flight reads another request's content from now on."""
        for peer, pages in self.scripted_world.refill(room.plan, room.memories):
            self.recorder.note(partial(events.PagesRefilled, room=room.key, peer=peer, pages=pages))

    def _target_aborts(self, room: Room) -> None:
        """A peer's word that it gives the room up arrives, and the system has its time to read it."""
        peer = room.target
        assert peer is not None
        system = cast("able.TakesAborts", self.system)
        of = self.recorder.call_started(CallName.TARGET_ABORTS, room.key, peer=peer.name)
        error = self.calls.make("target_aborts()", lambda: system.target_aborts(room.plan, peer))[1]
        self.recorder.call_ended(of, room.key, error=error)
        self.settle()

    def _restart(self, number: int) -> None:
        before = self.scripted_world.peers[number].name
        peer = self.scripted_world.restart(number)
        was = before if before != peer.name else ""
        self.recorder.note(partial(events.PeerReturned, peer=peer.name, generation=peer.generation, was=was))
        system = cast("able.Reconnects", self.system)
        of = self.recorder.call_started(CallName.RECONNECT, None)
        error = self.connecting("reconnect", lambda: system.reconnect(peer))[1]
        self.recorder.call_ended(of, None, error=error)
        self.settle()

    def settle(self) -> None:
        """Give the system the time for its background work, where it has any."""
        if self.settles is not None:
            of = self.recorder.call_started(CallName.SWEEP, None)
            self.calls.hook("settle", self.settles.settle)
            self.recorder.call_ended(of, None)

    def _settle_everything(self) -> None:
        for peer in self.scripted_world.peers:
            if self.observer.subject.peer(peer.name).silent:
                self.scripted_world.fabric.cont(peer.name)
                self.recorder.note(partial(events.PeerResumed, peer=peer.name))
        rounds = _SETTLE_ROUNDS if self.calls.system is None else self.observer.rounds()
        for _ in range(rounds):
            self.scripted_world.let_progress(None, Progress.ALL)
            self.settle()
            self.calls.let_workers(round_=True)
        self._settled = set()

    def connecting(
        self, what: str, call: Callable[[], _T], also: tuple[type[Exception], ...] = ()
    ) -> tuple[list[_T], BaseException | None]:
        """A call in which a sender may connect. An error of the transport's that leaves it is the sender's (KS-1.1).

        ``also``: what may leave it as well. Any other one is the adapter's, and raises AdapterError.
        """
        made, error = self.calls.make(what, call)
        if error is not None and not isinstance(error, (*self.adapter.errors.values(), *also)):
            raise self.calls.broken(what, error) from error
        return made, error
