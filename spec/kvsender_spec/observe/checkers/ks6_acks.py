"""KS-6.4: a target that gives a room up is told, once, when nothing of the room can touch its pages any more."""

from __future__ import annotations

from collections import Counter
from typing import ClassVar, Final

from kvsender_spec.contract import KVPoll
from kvsender_spec.history.events import AnyEvent, NotificationHeard, RunEnded, TransferPosted
from kvsender_spec.history.header import Ability
from kvsender_spec.history.words import CallName, Says
from kvsender_spec.machine import HandleState
from kvsender_spec.observe.answers import Answer
from kvsender_spec.observe.checkers.base import ANSWERS, Checker, Sight
from kvsender_spec.observe.room import RoomView
from kvsender_spec.oracle import CauseKind

_OPEN: Final = (HandleState.IN_FLIGHT, HandleState.IN_DOUBT, HandleState.ERRORED, HandleState.REJECTED)
_SUCCESS: Final = "success"
_QUIESCED: Final = "quiesced"


class Acks(Checker):
    kinds: ClassVar = ANSWERS | {"notification.heard", "faults.over"}
    sees: ClassVar = frozenset({"notification.heard", "transfer.posted", "run.ended"})

    def __init__(self, sight: Sight) -> None:
        super().__init__(sight)
        self._told: Final[dict[tuple[int, str], Counter[str]]] = {}
        """By room and peer: how often it was told that all is in place, or that nothing comes any more."""

    def answered(self, answer: Answer) -> None:
        room = answer.room
        if answer.started.what is CallName.TARGET_ABORTS and answer.error is not None:
            raised = f"target_aborts() raised {answer.error}"
            self.broke("KS-6.4", "the word of a peer that gives a room up is taken", raised, room)
        if answer.first_terminal and room.given_up_early:
            wanted = "no Success: a peer had given the room up while something was under way"
            self.check("KS-6.4", answer.value is not KVPoll.Success, wanted, "poll() answered Success", room)

    def see(self, event: AnyEvent, room: RoomView | None) -> None:
        if isinstance(event, NotificationHeard) and room is not None:
            self._heard(event, room)
        elif isinstance(event, TransferPosted) and room is not None:
            self._posted(event, room)
        elif isinstance(event, RunEnded) and event.complete:
            self._owed()

    def _heard(self, event: NotificationHeard, room: RoomView) -> None:
        told = self._told.setdefault((room.key, event.peer), Counter())
        told[_SUCCESS] += event.says is Says.SUCCESS
        if event.says is not Says.QUIESCED and not event.quiesced:
            return
        told[_QUIESCED] += 1
        if room.untracked:
            return
        still = [handle for handle in self._to(room, event.peer) if room.oracle.state_of(handle) in _OPEN]
        states = ", ".join(f"transfer {handle} was {room.oracle.state_of(handle).value}" for handle in still)
        wanted = f"{event.peer} is told that nothing can touch its pages when every transfer to it is done"
        self.check("KS-6.4", not still, wanted, states, room)
        if told[_QUIESCED] > 1:
            self.broke("KS-6.4", f"{event.peer} is told once", f"it was told {told[_QUIESCED]} times", room)

    def _posted(self, event: TransferPosted, room: RoomView) -> None:
        peer = self.sight.peer_of_handle.get(event.handle, "")
        if event.error is None and self._told.get((room.key, peer), Counter[str]())[_QUIESCED]:
            wanted = f"nothing is posted to {peer}, which was told that nothing comes"
            self.broke("KS-6.4", wanted, f"transfer {event.handle} was posted", room)

    def _owed(self) -> None:
        """At the end: whoever gave a room up that has drained was told so."""
        recorded = {"notification.heard", "faults.over"} <= self.sight.vantage
        able = self.sight.has(Ability.TARGET_ABORTS) and self.sight.has(Ability.NOTIFY)
        if not able or not recorded or self.sight.subject.lossy or self.sight.subject.over_since is None:
            return
        for room in self.sight.rooms.values():
            # What an error of the program's own has left of a transfer nobody knows.
            unsure = room.abandoned or any(fault.kind is CauseKind.INTERNAL for fault in room.faults)
            for name in sorted(room.aborted_by) if not unsure else ():
                done = all(room.oracle.state_of(handle) not in _OPEN for handle in self._to(room, name))
                if done and room.ended and self.sight.subject.peer(name).reachable:
                    told = self._told.get((room.key, name), Counter[str]())
                    wanted = f"{name}, which gave the room up, is told that nothing can touch its pages"
                    self.check("KS-6.4", told[_QUIESCED] + told[_SUCCESS] > 0, wanted, "it was told nothing", room)

    def _to(self, room: RoomView, peer: str) -> list[int]:
        return [handle for handle in room.oracle.handles if self.sight.peer_of_handle.get(handle) == peer]
