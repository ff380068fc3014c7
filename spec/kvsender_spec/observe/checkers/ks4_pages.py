"""KS-4: pages are free only when nothing reads them any more, and nothing is kept for ever."""

from __future__ import annotations

from typing import ClassVar, Final

from kvsender_spec.contract import KVPoll
from kvsender_spec.history.events import (
    AnyEvent,
    BytesLanded,
    KeptCounted,
    PagesHeld,
    TransferChecked,
    TransferMade,
    TransferPosted,
    TransferReleased,
)
from kvsender_spec.history.header import Ability
from kvsender_spec.history.words import CallName
from kvsender_spec.machine import LATCHED, HandleState
from kvsender_spec.observe.answers import Answer
from kvsender_spec.observe.checkers.base import ANSWERS, Checker, Sight
from kvsender_spec.observe.room import RoomView
from kvsender_spec.observe.verdict import Reason

_HELD = "pages.held"
MOST_HELD: Final = 12
"""A sender may prepare a few lists for each peer when it first needs them, and no more however many rooms there are."""
_UNPROVEN = (HandleState.IN_FLIGHT, HandleState.IN_DOUBT)


class Pages(Checker):
    kinds: ClassVar = ANSWERS | {"pages.held", "kept.counted"}
    sees: ClassVar = frozenset(
        {
            "transfer.made",
            "transfer.posted",
            "transfer.checked",
            "transfer.released",
            "pages.held",
            "bytes.landed",
            "kept.counted",
        }
    )

    def __init__(self, sight: Sight) -> None:
        super().__init__(sight)
        self._asked: dict[int, bool] = {}
        """Rooms whose pages.held comes next, and whether it is for their first terminal answer."""
        self._at_end: frozenset[int] | None = None
        self._troubled: dict[int, float] = {}
        """Since when a room may have failed, as its caller could first see. Its drain does not begin before."""

    def answered(self, answer: Answer) -> None:
        """KS-4.1 and 4.4 are looked at after each terminal answer."""
        key = answer.room.key
        if key not in self._troubled and any(possible.state in LATCHED for possible in answer.room.oracle.possible):
            self._troubled[key] = self.sight.now
        if answer.started.what is not CallName.POLL or not answer.allowed or answer.value is None:
            return
        if self.sight.subject.lossy and answer.room.oracle.unexplained:
            return  # whether the answer is right is not known
        first = answer.first_terminal
        again = answer.was_terminal is KVPoll.Failed
        if not (first or again):
            return
        if not self.sight.has(Ability.QUARANTINE):
            self._quarantine(answer.room, frozenset(), first=first)
        elif _HELD in self.sight.vantage:
            self._asked[answer.room.key] = first
        else:
            self.unseen("KS-4.1", Reason.NOT_RECORDED, _HELD)
            self.unseen("KS-4.4", Reason.NOT_RECORDED, _HELD)

    def see(self, event: AnyEvent, room: RoomView | None) -> None:
        match event:
            case TransferMade() | TransferPosted() | TransferChecked():
                if room is not None and self.sight.misused:
                    self.broke("KS-4.3", "a handle is used only as long as it is held", self.sight.misused, room)
            case TransferReleased() if room is not None:
                self._released(event, room)
            case PagesHeld():
                self._held(event, room)
            case BytesLanded(foreign=True):
                self.broke(
                    "KS-4.1",
                    "what lands after the report is the room's own",
                    f"{event.bytes} bytes of another request landed",
                    room,
                )
            case BytesLanded(late=True):
                self.held("KS-4.1")
            case KeptCounted():
                self._counted(event)
            case _:
                assert isinstance(event, (BytesLanded, TransferReleased))

    def _released(self, event: TransferReleased, room: RoomView) -> None:
        state = self.sight.released_in
        gone = event.how == "deregistration"
        if event.error is None and room.releases[event.handle] > 1 and not gone:
            self.broke("KS-4.3", "each handle is released once", f"handle {event.handle} was released again", room)
            return
        if state is None:
            return
        self.check(
            "KS-4.2",
            state not in _UNPROVEN,
            "a handle and its memory are given up only after the transport has said its last word on it",
            f"the memory of handle {event.handle} was deregistered while it was {state.value}"
            if gone
            else f"handle {event.handle} was released (by {event.how}) while it was {state.value}",
            room,
        )

    def _held(self, event: PagesHeld, room: RoomView | None) -> None:
        if room is None:
            self._at_end = frozenset(event.pages)
        elif room.key in self._asked and not room.untracked:
            self._quarantine(room, frozenset(event.pages), first=self._asked.pop(room.key))

    def _quarantine(self, room: RoomView, held: frozenset[int], *, first: bool) -> None:
        can_hold = self.sight.has(Ability.QUARANTINE)
        # Without a quarantine a sender can still wait until nothing is in flight, and that is what it is judged by.
        doubtful = room.pages_in(*_UNPROVEN, *([HandleState.ERRORED] if can_hold else []))
        seen = f"quarantined: {sorted(held)}"
        if first or doubtful:
            wanted = f"pages {sorted(doubtful)} are quarantined: nothing has shown that they are quiesced"
            self.check("KS-4.1", doubtful <= held, wanted, seen, room)
        in_doubt = {HandleState.REJECTED}
        since = self._troubled.get(room.key)
        if since is not None and self.sight.now >= since + self.sight.header.limits.drain_timeout_s:
            in_doubt.add(HandleState.IN_FLIGHT)  # before that it has not waited for what it could wait for: KS-4.1
        unsettled = room.pages_in(*in_doubt)
        # A transfer may read a copy of the sender's own instead of the room's pages: then there is nothing to hold.
        states = {machine.state for machine in room.oracle.handles.values()}
        if can_hold and states & in_doubt:
            wanted = f"pages {sorted(unsettled)} are quarantined: the post was rejected or has not settled"
            self.check("KS-4.4", unsettled <= held, wanted, seen, room)

    def _counted(self, event: KeptCounted) -> None:
        """KS-4.3: everything has settled, and the subject had its time."""
        if self.sight.subject.lossy:
            return
        for room in self.sight.rooms.values():
            if not room.ended or not room.oracle.handles:
                continue
            kept = [handle for handle in room.oracle.handles if not room.releases[handle]]
            self.check("KS-4.3", not kept, "every handle is released", f"handles {kept} are not", room)
            done = all(machine.state is HandleState.DONE for machine in room.oracle.handles.values())
            if done and self._at_end is not None:
                # A sender may hold a whole room for one transfer in doubt, but not one in which there is none.
                held = sorted(self._at_end & frozenset().union(*room.pages.values()))
                wanted = "no page of it is quarantined: every transfer is done"
                self.check("KS-4.3", not held, wanted, f"pages {held} are", room)
        if event.entries is not None:
            wanted = "no entry of a cleared room is kept"
            self.check("KS-4.3", event.entries == 0, wanted, f"{event.entries} are")
        rooms = len(self.sight.rooms)
        if event.held is not None and rooms > MOST_HELD:
            # What a transfer in doubt may still read stays registered, as its pages stay in quarantine.
            machines = (machine for room in self.sight.rooms.values() for machine in room.oracle.handles.values())
            doubtful = sum(machine.state is not HandleState.DONE for machine in machines)
            seen = f"it holds {event.held} more than before {rooms} rooms, of which {doubtful} transfers are in doubt"
            wanted = "descriptor lists and registrations of rooms that are over are given back"
            self.check("KS-4.3", event.held <= MOST_HELD + doubtful, wanted, seen)
        if event.in_flight is not None:
            wanted = "nothing is in flight"
            self.check("KS-4.3", event.in_flight == 0, wanted, f"{event.in_flight} transfers are")
