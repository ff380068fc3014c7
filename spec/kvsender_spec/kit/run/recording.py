"""Tells the recorder what the scripted transport, the peers and the workers of a run do."""

from __future__ import annotations

from functools import partial
from threading import current_thread, get_ident
from typing import Final, Literal

from kvsender_spec.faults import Point
from kvsender_spec.history import events
from kvsender_spec.history.record import NOWHERE, Place, Recorder, message_of
from kvsender_spec.history.words import Says
from kvsender_spec.kit.adapter import Notifies, RoomPlan
from kvsender_spec.kit.run.calls import AdapterError, Calls
from kvsender_spec.kit.run.scripted_world import ScriptedWorld
from kvsender_spec.kit.scripted.fabric import ScriptedHandle, TransportEvent

_HOW: Final[dict[str, Literal["last reference", "deregistration"]]] = {
    "dropped": "last reference",
    "deregistered": "deregistration",
}
"""How a handle was released otherwise than by a call."""


class FabricRecorder:
    """Translates what happens in one fabric into events."""

    def __init__(self, recorder: Recorder, scripted_world: ScriptedWorld, calls: Calls) -> None:
        self._recorder: Final = recorder
        self._scripted_world: Final = scripted_world
        self._calls: Final = calls
        self._known: Final = set(calls.threads())
        """The threads that may call the transport."""
        self._strangers: Final[dict[str, None]] = {}
        self._ended: Final[set[str]] = set()
        self._room_at: Final[dict[int, int]] = {}
        """By address at a peer: the key of the room whose page or slot lies there."""
        scripted_world.fabric.on_event = self._asked
        scripted_world.fabric.on_connect = self._connected
        scripted_world.fabric.on_landed = self._landed

    def place(self, plan: RoomPlan) -> None:
        """A room was given pages and slots at its peers."""
        self._room_at.update(dict.fromkeys(self._scripted_world.addresses(plan), plan.incarnation))

    # -- the transport

    def _asked(self, event: TransportEvent) -> None:
        if event.agent != self._scripted_world.side:
            return
        if get_ident() not in self._known and event.answer != "dropped":
            self._note_stranger()
        recorder, handle = self._recorder, event.handle
        if event.refused and event.error is not None:
            recorder.error(event.error, refused=True)
        answer = None if event.error is not None else event.answer
        match event.point:
            case Point.MAKE:
                place = self._place_of(event)
                recorder.made(event.peer, handle, place, event.message, event.error)
            case Point.POST if handle is not None:
                recorder.posted(handle, answer, event.error)
            case Point.CHECK if handle is not None:
                recorder.checked(handle, answer, event.error)
            case Point.RELEASE if handle is not None:
                recorder.released(handle, _HOW.get(event.answer, "call"), event.error)
            case Point.NOTIFY:
                recorder.notified(event.peer, event.message, event.error)
            case _:
                raise AssertionError(f"{event.point} without a handle")

    def _place_of(self, event: TransportEvent) -> Place:
        made = None if event.handle is None else self._scripted_world.fabric.handles.get(event.handle)
        room = None if event.target is None else self._room_at.get(event.target)
        if made is None:
            return Place(room=room) if room is not None else NOWHERE
        return Place(pages=sorted(self._scripted_world.pages_of(made)), room=room)

    def _connected(self, agent: str, peer: str, error: BaseException | None) -> None:
        if agent == self._scripted_world.side:
            self._recorder.peer_added(peer, self._scripted_world.fabric.agents[peer].generation, error)

    def _landed(self, handle: ScriptedHandle, count: int, whole: bool) -> None:
        if handle.agent == self._scripted_world.side:
            # The event names the number alone: whoever keeps the handle keeps it from being dropped.
            self._recorder.note(partial(events.BytesLanded, handle=handle.number, bytes=count, whole=whole))

    # -- threads

    def _note_stranger(self) -> None:
        self._known.update(worker.ident for worker in self._calls.workers() if worker.ident is not None)
        if get_ident() not in self._known:
            self._strangers[current_thread().name] = None

    def refuse_strangers(self) -> None:
        """Raises AdapterError where a thread that nobody has declared has called the transport."""
        if self._strangers:
            names = ", ".join(map(repr, self._strangers))
            raise AdapterError(
                f"adapter {self._calls.adapter}: thread {names} calls the transport and is not"
                " declared: define workers(), busy() and close() on the system (kvsender_spec.kit.adapter.Works), or"
                " every verdict depends on when it runs"
            )

    def look_at_workers(self) -> None:
        """Record the workers that have ended."""
        for worker in self._calls.workers():
            if not worker.is_alive() and worker.name not in self._ended:
                self._ended.add(worker.name)
                self._recorder.note(partial(events.WorkerEnded, name=worker.name))

    # -- peers

    def read_notifications(self, system: Notifies) -> None:
        """Record what the peers were told since the last time."""
        for peer in self._scripted_world.peers:
            if peer.agent.inbox:
                for messages in peer.agent.get_new_notifs().values():
                    for message in messages:
                        self._heard(peer.name, system, message)

    def _heard(self, peer: str, system: Notifies, message: bytes) -> None:
        notification = self._calls.hook("read_notification", partial(system.read_notification, message))
        if notification is not None:
            heard = partial(
                events.NotificationHeard, peer=peer, says=Says(notification.kind.value), id=notification.room
            )
            self._recorder.note(
                partial(
                    heard,
                    incarnation=notification.incarnation,
                    reason=notification.reason,
                    quiesced=notification.quiesced,
                )
            )

    def control(self, message: bytes) -> None:
        """A malformed control message arrives."""
        self._recorder.note(partial(events.ControlArrived, malformed=True, message=message_of(message)))

    def compared(self, room: int, differ: str) -> None:
        """The peers' memory was compared with the sender's."""
        self._recorder.note(partial(events.BytesCompared, room=room, differ=differ))
