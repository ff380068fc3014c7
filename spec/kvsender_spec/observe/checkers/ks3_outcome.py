"""KS-3: Success means that all bytes are in place, Failed that there was a fault, and one of the two comes."""

from __future__ import annotations

from typing import ClassVar, Final

from kvsender_spec.contract import KVPoll
from kvsender_spec.history.events import AnyEvent, BytesCompared, CallStuck, RunEnded
from kvsender_spec.history.words import CallName
from kvsender_spec.observe.answers import Answer
from kvsender_spec.observe.checkers.base import ANSWERS, PEER_LOST, Checker, Sight
from kvsender_spec.observe.room import RoomView
from kvsender_spec.observe.verdict import Reason

_TRUTH = "bytes.compared"


class _Patience:
    """How much of its time a room has had since the faults were over and it owes an end (KS-3.4).

    Where time is real it first has ``settle_s``. Then a room that nothing holds up has as many polls as handles, plus
    two. One that only a deadline can end has so many to notice the transfer deadline, then the drain timeout, then so
    many again.
    """

    def __init__(self, owes_since: float) -> None:
        self._owes_since: Final = owes_since
        self.polls = 0
        self.noticed_at: float | None = None
        self.counted_at = -1
        """The event of the last poll that counts."""

    def polled(self, sight: Sight, room: RoomView) -> bool:
        """Another poll came back without an end. True where the room has had all its time."""
        over, limits, now = sight.subject.over_since, sight.header.limits, sight.now
        if over is None:
            return False
        enough = sight.enough_polls(room)
        began = max(over, self._owes_since)
        if now < began + limits.settle_s:
            return False
        if sight.subject.settles and not room.unhealthy:
            self.polls += 1
            return self.polls >= enough
        if self.noticed_at is None:
            # A sender may post in a later call of its own than send(), and its deadline counts from there.
            began = max([began, *room.oracle.posted_at.values()])
            if now >= began + limits.transfer_timeout_s:
                self.polls += 1
            if self.polls >= enough:
                self.noticed_at, self.polls = now, 0
            return False
        if now >= self.noticed_at + limits.drain_timeout_s:
            self.polls += 1
        return self.polls >= enough


class Outcomes(Checker):
    kinds: ClassVar = ANSWERS | {"bytes.compared", "call.stuck", "faults.over"}
    sees: ClassVar = frozenset({"bytes.compared", "call.stuck", "run.ended"})

    def __init__(self, sight: Sight) -> None:
        super().__init__(sight)
        self._patience: dict[int, _Patience] = {}
        self._polled_at: dict[int, int] = {}
        """By room: the event that its last poll ended with."""
        self._told: set[int] = set()

    def answered(self, answer: Answer) -> None:
        room, value = answer.room, answer.value
        if room.owes_an_end and room.key not in self._patience:
            self._patience[room.key] = _Patience(self.sight.now)
        if answer.started.what is not CallName.POLL or value is None:
            return
        seen = f"poll() answered {value.name}"
        faulted = answer.was_failed or bool(room.faults)
        if not answer.allowed:
            if value is KVPoll.Success and answer.was_terminal is None and not (faulted and room.oracle.all_done):
                self._too_early(answer, seen)
            elif value is KVPoll.Failed and answer.was_terminal is None and answer.breaks is None:
                if self.sight.peers_go_unseen:
                    self.unseen("KS-3.5", Reason.NOT_RECORDED, PEER_LOST)
                else:
                    self.broke("KS-3.5", answer.wanted, seen, room)
            elif not value.terminal and answer.was_terminal is None:
                self.broke("KS-3.4", answer.wanted, seen, room)
        else:
            if answer.idle:
                self.held("KS-3.3")
            if answer.complete and answer.answered.first is None and not answer.was_failed:
                self.held("KS-3.5")
            if answer.first_terminal:
                self._refused(answer, seen)
        if value is KVPoll.Success and _TRUTH not in self.sight.vantage:
            self.unseen("KS-3.1", Reason.NOT_RECORDED, _TRUTH)
        self._wait(room, value)
        self._polled_at[room.key] = self.sight.seq

    def _too_early(self, answer: Answer, seen: str) -> None:
        room = answer.room
        missing = "a transfer is not done" if room.oracle.closed else "the last chunk is not posted"
        wanted = f"no Success: {missing}"
        if room.handed_over and room.without_pages:
            self.broke("KS-3.2", wanted, seen, room)
        self.broke("KS-3.3" if answer.idle and not room.handed_over else "KS-3.1", wanted, seen, room)

    def _refused(self, answer: Answer, seen: str) -> None:
        """KS-3.5: what the transport says to a wrong call of the sender is no fault of the transport."""
        room = answer.room
        own = [cause for cause in room.causes if cause is not None and any(cause is c for c in room.refused)]
        after = [p.cause for p in room.oracle.possible]
        if own and all(any(cause is c for c in room.refused) for cause in after):
            wanted = "no Failed: nothing has gone wrong but a call that no transport would take"
            self.broke("KS-3.5", wanted, f"{seen}, after the transport refused it: {own[0]}", room)

    def _wait(self, room: RoomView, value: KVPoll) -> None:
        """KS-3.4: nothing goes wrong any more, and the caller has polled often enough."""
        if value.terminal or not room.owes_an_end or room.key in self._told or self.sight.subject.lossy:
            return
        if self.sight.subject.over_since is None:
            return
        patience = self._patience[room.key]
        if not self._in_turn(room, patience) or not patience.polled(self.sight, room):
            return
        self._told.add(room.key)
        settle_s = self.sight.header.limits.settle_s
        expected = (
            f"a terminal answer within {f'{settle_s} s and ' * bool(settle_s)}{len(room.oracle.handles) + 2} polls"
        )
        seen = f"the room is still {' or '.join(map(str, room.oracle.possible))}"
        by_deadline = not self.sight.subject.settles or room.unhealthy
        # What keeps a room open that has failed is neither its pages nor the order in which its transfers finished.
        undisturbed = not by_deadline and not room.faults and not room.oracle.failed
        if room.without_pages and room.handed_over and undisturbed:
            self.broke("KS-3.2", expected, seen, room)
        if room.out_of_order and undisturbed:
            self.broke("KS-3.6", expected, seen, room)
        if self.sight.other_peer_unhealthy(room) and undisturbed:
            self.broke("KS-6.2", expected, seen, room)
        self.broke("KS-3.4", expected, seen, room)

    def _in_turn(self, room: RoomView, patience: _Patience) -> bool:
        """Every other room that owes an end has been polled since this one's last poll that counts.

        A sender may need the polls of all its rooms, as a scheduler makes them, to move them all forward.
        """
        polled, since = self._polled_at, patience.counted_at
        for other in self.sight.rooms.values():
            waits = other is not room and other.owes_an_end and not (other.ended or other.cleared or other.abandoned)
            if waits and polled.get(other.key, -1) <= since:
                return False
        patience.counted_at = self.sight.seq
        return True

    def see(self, event: AnyEvent, room: RoomView | None) -> None:
        if isinstance(event, BytesCompared):
            self._compared(event, room)
        elif isinstance(event, CallStuck):
            self._stuck(event, room)
        else:
            assert isinstance(event, RunEnded)
            self._ended(complete=event.complete)

    def _stuck(self, event: CallStuck, room: RoomView | None) -> None:
        """KS-3.7: a call that waits, or asks for ever, as its caller would."""
        waited = f"had not come back after {event.after_s:g} s" if event.after_s else "went on asking the transport"
        what = "the call" if room is None or not room.calls else f"{room.calls[-1].started.what.value}()"
        self.broke("KS-3.7", f"{what} comes back, whatever is in flight", f"{what} {waited}", room, event.stack)

    def _compared(self, event: BytesCompared, room: RoomView | None) -> None:
        reads = self.sight.header.operation == "READ"
        wanted = "every page has what was granted" if reads else "every peer has the sender's bytes"
        wanted = "nothing changes outside" if event.outside else wanted
        seen = event.differ or "it does"
        good = not event.differ
        self.check("KS-3.1", good, wanted, seen, room)
        if room is None or event.outside:
            return
        if room.without_pages:
            self.check("KS-3.2", good, wanted if reads else "every peer has the aux data", seen, room)
        if room.out_of_order or (good and room.landed_out_of_order):
            self.check("KS-3.6", good, wanted, seen, room)

    def _ended(self, *, complete: bool) -> None:
        """The rooms that had to end, and did."""
        lossy = self.sight.subject.lossy
        if complete and "call.stuck" in self.sight.vantage and self.sight.rooms and not lossy:
            self.held("KS-3.7")
        if self.sight.subject.over_since is None:
            return
        for room in self.sight.rooms.values():
            if room.owes_an_end and room.ended and room.key not in self._told:
                self.held("KS-3.4")
