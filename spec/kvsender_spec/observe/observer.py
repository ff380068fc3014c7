"""The observer: sees the events of one history, in order, and says what each clause comes to.

``Observer.see`` folds an event into the views, lets the checkers look at it, and follows the sender. It is pure and
deterministic, and it judges a live run and a file alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from kvsender_spec.clauses import CLAUSES, claimed
from kvsender_spec.history.events import (
    KINDS,
    AnyEvent,
    BytesLanded,
    CallEnded,
    CallStarted,
    CallStuck,
    ClockAdvanced,
    ControlArrived,
    ErrorSeen,
    Event,
    EventsDropped,
    FaultsOver,
    History,
    LinkCut,
    NotificationHeard,
    NotificationSent,
    PagesRefilled,
    PeerAdded,
    PeerLost,
    PeerRemoved,
    PeerResumed,
    PeerReturned,
    PeerSilent,
    RoomOpened,
    RunEnded,
    StepStarted,
    TransferChecked,
    TransferMade,
    TransferPosted,
    TransferReleased,
    WorkerEnded,
)
from kvsender_spec.history.header import Ability, Header
from kvsender_spec.history.words import HANDS_OVER, CallName
from kvsender_spec.machine import Profile
from kvsender_spec.observe.answers import Answer, conclude, follow, in_order
from kvsender_spec.observe.attribution import CALLER
from kvsender_spec.observe.bracket import Answered, Bracket
from kvsender_spec.observe.checkers import CHECKERS
from kvsender_spec.observe.checkers.base import OWN_ERROR, Checker, Sight
from kvsender_spec.observe.peers import SubjectView, disconnected, opened_to, peer_changed
from kvsender_spec.observe.room import RoomView
from kvsender_spec.observe.routing import Routing
from kvsender_spec.observe.targets.observer import TargetObserver
from kvsender_spec.observe.verdict import Findings, Reason, Verdict, Violation
from kvsender_spec.observe.verdicts import named, verdict_of
from kvsender_spec.oracle import GRANT_ENDED, UNKNOWN, Possible
from kvsender_spec.trace import Misuse

MOST_OVERLAPPING: Final = 2
"""More calls of one room at a time than this have too many orders: the room is judged no further."""
_WORKERS_END: Final = "KS-7.1"
_BEFORE_INIT: Final = Misuse.BEFORE_INIT.value
_OF_A_MISTAKE: Final = -1
"""A send() before init() is made in a room of its own, which is opened and cleared for it alone."""


class Observer:
    """Judges one history. ``findings`` grow as it is seen; ``verdicts`` say what they come to."""

    def __init__(self, header: Header, checkers: Sequence[type[Checker]] = CHECKERS) -> None:
        self.header: Final = header
        self.findings: Final = Findings()
        self.subject: Final = SubjectView()
        self._routing: Final = Routing(self.subject.strays)
        self.rooms: Final[dict[int, RoomView]] = self._routing.rooms
        """By key, oldest first."""
        self._answered: Final[dict[int, RoomView]] = {}
        """The rooms that the transport may have answered since their calls were last judged, or settled."""
        self.complete = False
        """The history has come to its end."""
        self._claimed: Final = {clause.id for clause in claimed(Profile(header.profile))}
        self._errors: Final[dict[int, ErrorSeen]] = {}
        self._sight: Final = Sight(header, self.findings, self.rooms, self.subject, self._errors)
        self._checkers: Final = [checker(self._sight) for checker in checkers]
        self._by_type: Final[dict[type[Event], list[Checker]]] = {}
        for checker in self._checkers:
            for kind in checker.sees:
                self._by_type.setdefault(KINDS[kind], []).append(checker)
        self._answered_by: Final = [checker.answered for checker in self._checkers]
        self._answered_untracked_by: Final = [checker.answered_untracked for checker in self._checkers]

    # -- what a driver may ask

    def possible(self, key: int) -> tuple[Possible, ...]:
        """The states that the specification allows the room now."""
        return self.rooms[key].oracle.possible

    def error(self, ref: int) -> ErrorSeen | None:
        """The error of that number."""
        return self._errors.get(ref)

    def enough_polls(self, key: int) -> int:
        """Within how many polls a room must end when nothing holds it up (KS-3.4)."""
        return self._sight.enough_polls(self.rooms[key])

    def rounds(self) -> int:
        """How many rounds workers need at most until all that was ever given to them is done."""
        most = max((len(room.targets) for room in self.rooms.values()), default=1)
        return 2 * self.subject.sends * max(most, 1) + 4

    def verdicts(self, profile: Profile | None = None) -> tuple[Verdict, ...]:
        """One for each clause, of this history alone."""
        judged = profile or Profile(self.header.profile)
        findings = named(self.findings, self.header.named, judged)
        return tuple(verdict_of(clause, judged, [self.header], findings, complete=self.complete) for clause in CLAUSES)

    # -- one event

    def see(self, event: AnyEvent) -> tuple[Violation, ...]:
        """Take the next event. Returns what it shows to be broken."""
        violations, sight = self.findings.violations, self._sight
        known = len(violations)
        sight.now, sight.seq = event.t, event.seq
        room = self._fold(event)
        for checker in self._by_type.get(type(event), ()):
            checker.see(event, room)
        return self._marked(known) if len(violations) > known else ()

    def _fold(self, event: AnyEvent) -> RoomView | None:
        """Take the event into the views. Returns the room that it is about."""
        match event:  # the kinds that are most frequent come first
            case CallStarted():
                return self._started(event)
            case CallEnded():
                return self._ended(event)
            case StepStarted():
                self._sight.step += 1
                return None
            case TransferChecked() | TransferPosted() | TransferMade():
                return self._transfer(event)
            case ErrorSeen():
                self._errors[event.ref] = event
                return None
            case TransferReleased():
                return self._released(event)
            case RoomOpened():
                return self._opened(event)
            case NotificationSent():
                return self._notified(event)
            case NotificationHeard():
                return self._routing.of_heard(event)
            case BytesLanded():
                return self._landed(event)
            case PeerLost() | LinkCut() | PeerSilent() | PeerResumed() | PeerReturned() | PeerAdded():
                peer_changed(event, self.subject.peer(event.peer), self.rooms.values(), self._errors)
                if isinstance(event, PeerReturned):
                    self.subject.returned = True
                    if event.was:
                        before = self.subject.peer(event.was)
                        before.now = event.peer
                        disconnected(before, self.rooms.values())
            case PeerRemoved() if self._sight.peers_go_unseen:
                disconnected(self.subject.peer(event.peer), self.rooms.values())  # whatever has told the sender
            case PagesRefilled():
                view = self._routing.of_key(event.room)
                if view is not None:
                    view.misgranted = view.misgranted or event.never
                    view.oracle.may_fault(GRANT_ENDED, from_now_on=True)
            case ClockAdvanced():
                for view in self.rooms.values():
                    view.note_truth(event.t)
            case ControlArrived():
                self.subject.tried_workers = True
            case WorkerEnded():
                self.subject.ended_workers.append(event.name)
            case FaultsOver():
                self.subject.over_since, self.subject.settles = event.t, event.settles
            case EventsDropped():
                self._lose()
            case CallStuck():
                return self._routing.by_call.get(event.of)
            case RunEnded():
                self.complete = event.complete
            case _:
                pass
        return self._routing.of_key(event.room)

    def _marked(self, known: int) -> tuple[Violation, ...]:
        """The violations after the first ``known`` ones.

        What breaks later in their rooms is recorded as after the first claimed clause that broke, or the own error. A
        worker that has ended serves no room any more, so what breaks after that in any room is after KS-7.1.
        """
        fresh = tuple(self.findings.violations[known:])
        for violation in fresh:
            if violation.clause not in self._claimed and violation.clause != OWN_ERROR:
                continue
            if violation.clause == _WORKERS_END:
                self.subject.mark = violation.clause
            for room in self.rooms.values():
                if self.subject.mark or room.key == violation.room:
                    room.mark = room.mark or violation.clause
        return fresh

    # -- rooms

    def _opened(self, event: RoomOpened) -> RoomView:
        room = RoomView(event, self.header, self._errors, self.subject.raised)
        opened_to(room, [self.subject.peer(name) for name in room.targets])
        earlier = [view for view in self.rooms.values() if view.opened.id == event.id]
        room.reopened = bool(earlier)
        if earlier:
            room.mark = next((view.mark for view in reversed(earlier) if view.mark), "")
        room.mark = room.mark or self.subject.mark
        if self.subject.lossy:
            room.oracle.may_fault(UNKNOWN, from_now_on=True)
        self._routing.add(room)
        return room

    # -- transfers

    def _transfer(self, event: TransferMade | TransferPosted | TransferChecked) -> RoomView | None:
        room = self._routing.of_transfer(event)
        self._sight.misused = ""
        if isinstance(event, TransferMade):
            self._sight.peer_of_handle[event.handle] = event.peer
        error = None if event.error is None else self._errors.get(event.error)
        if error is not None:
            self.subject.tried_workers = True
            self.subject.raised[error.ref] = event.call
        if error is not None and error.disconnect:
            name = event.peer if isinstance(event, TransferMade) else self._sight.peer_of_handle.get(event.handle, "")
            if name:
                disconnected(self.subject.peer(name), self.rooms.values(), told=room)
        if room is None:
            return None
        if event.error is not None and error is None:
            self._lose_track(room)  # what the transport answered was lost
        if not isinstance(event, TransferMade) and event.handle not in room.pages:
            return room  # its transfer.made was lost
        if isinstance(event, TransferMade) and event.handle is not None and event.error is None:
            self._routing.by_handle[event.handle] = room
        released = not isinstance(event, TransferMade) and bool(room.releases[event.handle])
        self._answered[room.key] = room
        misused = room.transfer(event, event.t)
        if released and not misused:
            misused = f"handle {event.handle} was used after its release"
        self._sight.misused = misused
        if room.faults:
            self.subject.faulted.add(room.key)
        room.note_truth(event.t)
        return room

    def _released(self, event: TransferReleased) -> RoomView | None:
        room = self._routing.by_handle.get(event.handle)
        if room is None:
            return None
        self._answered[room.key] = room
        self._sight.released_in = None
        if event.error is not None:
            self.subject.faulted.add(room.key)
            room.other_error(event.error)
        elif event.how == "deregistration":
            self._sight.released_in = room.oracle.state_of(event.handle)
        else:
            self._sight.released_in = room.release(event)
        return room

    def _notified(self, event: NotificationSent) -> RoomView | None:
        room = self._routing.of_sent(event)
        if event.error is not None:
            self.subject.peer(event.peer).unreachable = True
            error = self._errors.get(event.error)
            if error is not None and error.disconnect:
                disconnected(self.subject.peer(event.peer), self.rooms.values(), told=room)
            if room is not None:
                self._answered[room.key] = room
                self.subject.faulted.add(room.key)
                room.other_error(event.error)
        return room

    def _landed(self, event: BytesLanded) -> RoomView | None:
        room = self._routing.of_landed(event)
        if room is not None and event.handle is not None and event.whole:
            room.has_landed(event.handle)
            if room.cleared:
                room.circumstance("KS-5.3")
            room.note_truth(event.t)
        return room

    # -- calls

    def _started(self, event: CallStarted) -> RoomView | None:
        room = self._routing.of_key(event.room)
        if room is None and event.room is not None:
            self.subject.strays.add(event.seq)
        self._settle_others(room)
        self._routing.by_call[event.seq] = room
        self.subject.sends += event.what in HANDS_OVER
        if room is not None:
            room.begin(event, event.t)
        return room

    def _ended(self, event: CallEnded) -> RoomView | None:
        room = self._routing.by_call.pop(event.of, None)
        self._settle_others(room)
        if room is None:
            return None
        done = room.end(event)
        if done:
            self._check_calls(room, done)
        return room

    def _settle_others(self, room: RoomView | None) -> None:
        for view in tuple(self._answered.values()):
            if view is not room and not view.calls:
                view.settle_between_calls(self._sight.now)
                del self._answered[view.key]

    def _check_calls(self, room: RoomView, brackets: list[Bracket]) -> None:
        """The calls that overlapped, each as if it had been alone, in the order in which they had their effect."""
        answered = room.answered
        if answered.any:
            room.answered = Answered()
        for bracket in brackets:
            ref = None if bracket.ended is None else bracket.ended.error
            if ref is not None and ref not in self._errors:
                self._lose_track(room)
                return
        if len(brackets) > MOST_OVERLAPPING:
            self._lose_track(room)
            self.findings.reasons.setdefault("KS-7.2", (Reason.NOT_RECORDED, "too many overlapping calls"))
            return
        first = brackets[0]
        overlapped = len(brackets) > 1
        if overlapped:
            room.overlap(brackets[1].started)
        for bracket in in_order(brackets):
            mine = answered if bracket is first else Answered()
            self._answer(room, conclude(room, bracket, mine, self._sight.now, overlapped=overlapped))
        if overlapped and Ability.WORKERS in room.can:
            room.oracle.may_have_completed()  # after both calls had looked

    def _answer(self, room: RoomView, answer: Answer) -> None:
        violations = self.findings.violations
        known = len(violations)
        if not answer.untold and (not room.abandoned or answer.error is not None):
            self._sight.seq = answer.ended.seq
            for look in self._answered_untracked_by if room.untracked else self._answered_by:
                look(answer)
        follow(answer)
        # Whatever the room has come to: what is done to end it is done beside other rooms.
        given_up = answer.started.what in (CallName.ABORT, CallName.CLEAR)
        if room.faults or given_up:
            self.subject.faulted.add(room.key)
        if answer.started.misuse == _BEFORE_INIT:
            self.subject.faulted.add(_OF_A_MISTAKE)
        if len(violations) > known:
            self._marked(known)

    # -- loss

    def _lose(self) -> None:
        self.subject.lossy = True
        for room in self.rooms.values():
            self._lose_track(room)
        self._routing.by_call.clear()
        for clause in CLAUSES:
            self.findings.reasons.setdefault(clause.id, (Reason.LOST, ""))

    def _lose_track(self, room: RoomView) -> None:
        room.lose_track()
        # The caller may have done unseen what the profile does not allow it, which would excuse what follows.
        room.contexts.update(CALLER - self._claimed)


AnyObserver: TypeAlias = Observer | TargetObserver


def observer_of(header: Header, checkers: Sequence[type[Checker]] = CHECKERS) -> AnyObserver:
    """An observer of the role that the history is about; ``checkers`` are those of an initiator's."""
    return TargetObserver(header) if header.role == "target" else Observer(header, checkers)


def observe(history: History, checkers: Sequence[type[Checker]] = CHECKERS) -> AnyObserver:
    """An observer that has seen the whole history."""
    observer = observer_of(history.header, checkers)
    for event in history.events:
        observer.see(event)
    return observer
