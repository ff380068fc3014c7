"""KS-6: peers are told once, do not hold each other up, and are taken back when they return."""

from __future__ import annotations

from typing import ClassVar, Final

from kvsender_spec.contract import KVPoll
from kvsender_spec.history.events import AnyEvent, CallStarted, NotificationHeard, PeerAdded, RunEnded, TransferMade
from kvsender_spec.history.header import Ability
from kvsender_spec.history.words import CallName, Says
from kvsender_spec.observe.answers import Answer
from kvsender_spec.observe.checkers.base import ANSWERS, AS_WELL, Checker, Sight
from kvsender_spec.observe.room import RoomView

_ENDS: Final = (Says.SUCCESS, Says.FAILURE)


class Peers(Checker):
    kinds: ClassVar = ANSWERS | {"notification.heard", "faults.over"}
    sees: ClassVar = frozenset({"notification.heard", "peer.added", "transfer.made", "call.started", "run.ended"})

    def __init__(self, sight: Sight) -> None:
        super().__init__(sight)
        self._early: dict[tuple[int, str], str] = {}
        """By room and peer: what was missing there when it was told of success."""
        self._openings: set[int] = set()
        """The calls that open a room or reconnect, since some peer has returned."""
        self._left_to_reads: Final = sight.header.operation == "READ" and not sight.has(Ability.TELLS_SUCCESS)
        self._can_tell_return: Final = sight.has(Ability.RECONNECT) and "peer.returned" in sight.vantage

    def answered(self, answer: Answer) -> None:
        if answer.value is None or not answer.allowed or not answer.first_terminal:
            return
        if answer.room.faultless and self.sight.other_peer_unhealthy(answer.room):
            self.held("KS-6.2")
        if answer.room.recovered and answer.value is KVPoll.Success:
            self.held("KS-6.3")

    def see(self, event: AnyEvent, room: RoomView | None) -> None:
        match event:  # the kinds that are most frequent come first
            case CallStarted():
                if self.sight.subject.returned:
                    if event.what in (CallName.INIT, CallName.RECONNECT):
                        self._openings.add(event.seq)
                    self._added(at_a_call=event.what not in (CallName.RECONNECT, CallName.SWEEP))
            case NotificationHeard() if room is not None:
                self._heard(event, room)
            case PeerAdded():
                self._connected(event)
            case TransferMade():
                if room is not None and room.recovered:
                    self._needed(event.peer)
                if self.sight.subject.returned:
                    self._goes_to_whoever_is_there(event, room)
            case RunEnded():
                self._told_twice()
                if event.complete:
                    self._added(at_a_call=True)
                    self._told()
            case _:
                pass

    def _connected(self, event: PeerAdded) -> None:
        """After the first time only a connection counts that is made for a room or in reconnect().

        What else remakes one, such as an abort(), is judged by what it does to rooms.
        """
        peer = self.sight.subject.peer(event.peer)
        if peer.added_once and peer.added_since and event.call not in self._openings:
            peer.added_since = 1
        self._added(at_a_call=False)

    def _added(self, *, at_a_call: bool) -> None:
        """KS-6.3: a peer that has returned is added once, at once or when a room first needs it."""
        subject = self.sight.subject
        if not subject.returned or not self._can_tell_return or subject.lossy:
            return
        for peer in subject.peers.values():
            times = peer.added_since
            if times and (times > 1 or (at_a_call and not peer.added_once)):
                self.check("KS-6.3", times == 1, f"{peer.name} is added once", f"it was added {times} times")
                peer.added_once = True
                peer.added_since = None if times > 1 else times

    def _needed(self, name: str) -> None:
        """KS-6.3: what a room of a returned peer is made of is not from before its return."""
        peer = self.sight.subject.peer(name)
        if peer.added_since == 0 and self._can_tell_return and not self.sight.subject.lossy:
            self.broke("KS-6.3", f"{name} is added before a room needs it", "it was not added since it returned")
            peer.added_since = None

    def _goes_to_whoever_is_there(self, event: TransferMade, room: RoomView | None) -> None:
        """KS-6.3: only rooms of the process that is gone may still make a transfer under its name."""
        now = self.sight.subject.peer(event.peer).now
        known = not self.sight.subject.lossy and event.call not in self.sight.subject.strays
        if now and known and (room is None or event.peer not in room.targets):
            self.broke(
                "KS-6.3", f"transfers go to {now}, as {event.peer} is called now", f"one to {event.peer} was made"
            )

    def _heard(self, event: NotificationHeard, room: RoomView) -> None:
        if event.peer in room.dummies:
            self.broke("KS-6.1", "a dummy is told nothing", f"{event.peer} was told {event.says}", room)
        room.heard.setdefault(event.peer, []).append(event)
        if event.id != room.opened.id:
            wanted = f"what {event.peer} is told of the room names it, {room.opened.id}"
            self.broke("KS-6.1", wanted, f"it names room {event.id}", room)
        if event.says is Says.SUCCESS and "bytes.landed" in self.sight.vantage and not room.untracked:
            there = [handle for handle in room.pages if self.sight.peer_of_handle.get(handle) == event.peer]
            missing = [handle for handle in there if handle not in room.landed]
            if missing or not room.oracle.closed:
                seen = f"transfers {missing} were under way" if missing else "the last chunk was not posted"
                self._early.setdefault((room.key, event.peer), seen)

    def _told(self) -> None:
        """KS-6.1, at the end: how each room ended has reached every peer that could be told."""
        recorded = {"notification.heard", "faults.over"} <= self.sight.vantage
        if not self.sight.has(Ability.NOTIFY) or not recorded or self.sight.subject.lossy:
            return
        if self.sight.subject.over_since is None:
            return
        for room in self.sight.rooms.values():
            if room.terminal is not None and not room.abandoned:
                for name in sorted(room.targets):
                    self._told_peer(room, name)

    def _told_twice(self) -> None:
        """KS-6.1, at the end: a peer was told of one end, once, and of success when all was in place there.

        A sender that changes its own answer tells the peer of the change: then this is what follows from it.
        """
        for room in self.sight.rooms.values():
            for name in sorted(room.targets) if not room.abandoned else ():
                ends = [heard.says for heard in room.heard.get(name, []) if heard.says in _ENDS]
                early = self._early.get((room.key, name), "")
                if early:
                    self.broke("KS-6.1", f"{name} is told of success when all is in place there", early, room)
                if len(ends) > 1:
                    wanted = f"peer {name} is told of the {ends[0]} once, and nothing after it"
                    self.broke("KS-6.1", wanted, f"it was told {ends[1]}{AS_WELL}", room)

    def _told_peer(self, room: RoomView, name: str) -> None:
        failures = [heard for heard in room.heard.get(name, []) if heard.says is Says.FAILURE]
        if room.terminal is KVPoll.Success:
            self.check("KS-6.1", not failures, "no failure notification", f"{len(failures)} at {name}", room)
            if self.sight.has(Ability.TELLS_SUCCESS) and self.sight.subject.peer(name).reachable:
                told = any(heard.says is Says.SUCCESS for heard in room.heard.get(name, []))
                self.check("KS-6.1", told, f"{name} is told of success", "it was told nothing of the end", room)
            elif self._left_to_reads and not room.opened.pages and self.sight.subject.peer(name).reachable:
                # The READs tell a holder, and here there is none.
                told = bool(room.heard.get(name))
                self.check("KS-6.1", told, f"{name} is told that nothing is read", "it was told nothing", room)
        elif self.sight.subject.peer(name).reachable:
            good = len(failures) == 1 and failures[0].reason != ""
            seen = f"{len(failures)} failure notifications"
            seen += f", reason {failures[0].reason!r}" if failures else ""
            self.check("KS-6.1", good, f"one failure notification with a reason at {name}", seen, room)
