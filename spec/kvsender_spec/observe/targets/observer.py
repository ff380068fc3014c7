"""The observer of a target's history: sees its events in order, and says what each clause KS-9 comes to."""

from __future__ import annotations

from typing import Final

from kvsender_spec.clauses import claimed, clauses_for
from kvsender_spec.history.events import (
    AnyEvent,
    CallEnded,
    CallStarted,
    CallStuck,
    ErrorSeen,
    FenceTold,
    KeptCounted,
    NoticeArrived,
    NotificationHeard,
    NotificationSent,
    PagesHeld,
    PagesPublished,
    PagesReused,
    PeerLost,
    PeerResumed,
    PeerReturned,
    PeerSilent,
    RoomOpened,
    RunEnded,
    StepStarted,
)
from kvsender_spec.history.header import Header
from kvsender_spec.history.words import MALFORMED, CallName, Origin, Says
from kvsender_spec.machine import Profile
from kvsender_spec.observe.causes import chain
from kvsender_spec.observe.targets.checkers import OWN_TERMINAL, Judge
from kvsender_spec.observe.targets.room import TargetRoomView
from kvsender_spec.observe.verdict import Findings, Verdict, Violation
from kvsender_spec.observe.verdicts import named, verdict_of
from kvsender_spec.target_machine import HoldEvent


class TargetObserver:
    """Judges one history. ``findings`` grow as it is seen; ``verdicts`` say what they come to."""

    def __init__(self, header: Header) -> None:
        self.header: Final = header
        self.findings: Final = Findings()
        self.rooms: Final[dict[int, TargetRoomView]] = {}
        """By key, oldest first."""
        self.complete = False
        self.silent: Final[set[str]] = set()
        self.lost: Final[set[str]] = set()
        """The initiators that are stopped, and those whose process is gone."""
        self._judge: Final = Judge(header, self.findings)
        self._errors: Final[dict[int, ErrorSeen]] = {}
        self._calls: Final[dict[int, CallStarted]] = {}
        self._held: frozenset[int] = frozenset()
        self._malformed = False
        """Something malformed has arrived since the last call of the owner came back."""

    def healthy(self, peer: str) -> bool:
        return peer not in self.silent and peer not in self.lost

    def verdicts(self, profile: Profile | None = None) -> tuple[Verdict, ...]:
        """One for each clause of a target, of this history alone."""
        judged = profile or Profile(self.header.profile)
        findings = named(self.findings, self.header.named, judged, "target")
        return tuple(
            verdict_of(clause, judged, [self.header], findings, complete=self.complete)
            for clause in clauses_for("target")
        )

    @property
    def claimed(self) -> frozenset[str]:
        return frozenset(clause.id for clause in claimed(Profile(self.header.profile), "target"))

    def see(self, event: AnyEvent) -> tuple[Violation, ...]:
        """Take the next event. Returns what it shows to be broken."""
        known = len(self.findings.violations)
        self._judge.seq = event.seq
        self._take(event)
        return tuple(self.findings.violations[known:])

    def _take(self, event: AnyEvent) -> None:
        room = None if event.room is None else self.rooms.get(event.room)
        match event:
            case StepStarted():
                self._judge.step += 1
            case ErrorSeen():
                self._errors[event.ref] = event
            case RoomOpened():
                limit_s = self.header.limits.transfer_timeout_s
                view = TargetRoomView(event, event.t, limit_s)
                for initiator in view.initiators.values():
                    initiator.unreachable = not self.healthy(initiator.name)
                    if initiator.name in self.lost:
                        view.loses(f"the process of {initiator.name} is gone")
                self.rooms[view.key] = view
            case CallStarted():
                self._calls[event.seq] = event
                self._started(event, room)
            case CallEnded():
                self._ended(event, room)
            case CallStuck():
                wanted = f"{self._calls[event.of].what}() comes back" if event.of in self._calls else "it comes back"
                self._judge.check("KS-9.8", False, wanted, f"not within {event.after_s:g} s", room)
            case NoticeArrived():
                self._arrives(event, room)
            case NotificationSent():
                if room is not None and event.error is not None:
                    room.contexts.add("KS-9.10")  # an announcement
            case NotificationHeard():
                self._told(event)
            case FenceTold():
                self._fence(event)
            case PeerLost() | PeerSilent() | PeerResumed() | PeerReturned():
                self._peer(event)
            case PagesHeld():
                self._held = frozenset(event.pages)
                self._judge.pages(list(self.rooms.values()), self._held)
            case PagesReused():
                self._reused(event)
            case PagesPublished():
                self._published(event)
            case KeptCounted():
                self._judge.at_the_end(list(self.rooms.values()), self._held, event.entries)
            case RunEnded():
                self.complete = event.complete
            case _:
                pass

    def _arrives(self, event: NoticeArrived, room: TargetRoomView | None) -> None:
        if event.how in MALFORMED:
            self._malformed = True
            for view in self.rooms.values():
                view.contexts.add("KS-9.11")  # what is in the same batch may be any room's
        if room is None:
            return
        room.arrives(event, event.t)
        for view in self.rooms.values():
            if view.opened.id == room.opened.id and view.key > room.key:
                view.contexts.add("KS-9.6")  # to the opening that came after it, it is about an earlier one

    # -- calls of the owner

    def _started(self, event: CallStarted, room: TargetRoomView | None) -> None:
        if room is None or room.answer is not None:
            return
        if event.what is CallName.ABORT:
            room.cause("its owner has aborted it")
        elif event.what is CallName.CLEAR:
            room.cause("its owner has cleared it")

    def _ended(self, event: CallEnded, room: TargetRoomView | None) -> None:
        started = self._calls.pop(event.of, None)
        if started is None:
            return
        error = None if event.error is None else self._errors.get(event.error)
        if started.what is CallName.FAILURE_EXCEPTION:
            if room is not None:
                root = None if error is None else chain(error, self._errors)[-1].ref
                self._judge.failure(room, error, root)
            return
        self._came_back(started, error, room)
        for view in self.rooms.values() if started.what is CallName.SWEEP else ():
            view.had_time(event.t)
        if room is None:
            return
        if error is not None and started.what is CallName.INIT:
            room.contexts.add("KS-9.10")
        if started.what is CallName.CLEAR:
            if not room.ended:
                room.ends()
            room.cleared = True
        if started.what is CallName.POLL and event.value is not None:
            self._judge.polled(room, event.value, event.t, well=all(map(self.healthy, room.initiators)))
            room.polled(event, event.t)

    def _came_back(self, started: CallStarted, error: ErrorSeen | None, room: TargetRoomView | None) -> None:
        own = error is not None and error.origin is Origin.OTHER and not self._malformed
        clause = "KS-9.11"
        wanted = f"{started.what}() returns"
        if started.what in (CallName.ABORT, CallName.CLEAR) and own:
            clause = OWN_TERMINAL
        self._judge.check(clause, error is None, wanted, f"it raised {error}", room)
        self._malformed = False

    # -- what the target tells

    def _told(self, event: NotificationHeard) -> None:
        about = [view for view in self.rooms.values() if view.opened.id == event.id]
        room = self.rooms.get(event.incarnation) if event.incarnation is not None else (about[-1] if about else None)
        if room is None:
            return
        view = room.initiators.get(event.peer)
        if event.says is Says.ABORT:
            if room.answer == "Success":
                wanted = f"{event.peer} is not told that a room is given up that is done"
                self._judge.check("KS-9.9", False, wanted, "it was told so", room)
            elif not (room.may_fail or room.ended or event.t >= room.deadline):
                room.told_early = True
            elif view is not None:
                view.aborts += 1
                self._judge.check("KS-9.9", view.aborts == 1, f"{event.peer} is told once", "it was told again", room)
        elif event.says is Says.LOST:
            room.answered_lost.add(event.peer)
        elif event.says is Says.ANNOUNCE:
            self._judge.check(
                "KS-9.10", not room.ended, "nothing is announced for a room that has ended", "it was", room
            )

    # -- peers and pages

    def _peer(self, event: PeerLost | PeerSilent | PeerResumed | PeerReturned) -> None:
        name = event.peer
        if isinstance(event, PeerResumed):
            self.silent.discard(name)
            return
        (self.silent if isinstance(event, PeerSilent) else self.lost).add(name)
        if isinstance(event, PeerReturned):
            self.silent.discard(name)
            self.lost.discard(name)
        for room in self.rooms.values():
            view = room.initiators.get(name)
            if view is not None:
                view.unreachable = True
                if not isinstance(event, PeerSilent):
                    room.loses(f"the process of {name} is gone")

    def _fence(self, event: FenceTold) -> None:
        for room in self.rooms.values():
            view = room.initiators.get(event.peer)
            if view is not None and view.touchable and view.generation == event.generation:
                view.happens(HoldEvent.PROVED)
                if not room.causes and not room.complete:
                    room.cause(f"{event.peer} is fenced off", proves=True)
            if view is not None and view.generation == event.generation:
                room.loses(f"{event.peer} is fenced off")
            if room.touchable:
                room.contexts.add("KS-9.12")

    def _reused(self, event: PagesReused) -> None:
        granted = [room for room in self.rooms.values() if room.pages & frozenset(event.pages)]
        room = granted[-1] if granted else None
        if event.refused:
            return
        if room is not None and room.touchable:
            self._judge.check("KS-9.1", False, "pages that a reader may still use are refused", "they are given", room)
        wanted = "the stamps are raised before other content is written, and again afterwards"
        seen = "one was as it was granted " + ("afterwards" if event.raised_before else "when the content was written")
        self._judge.check("KS-9.4", event.raised_before and event.raised_after, wanted, seen, room)

    def _published(self, event: PagesPublished) -> None:
        owner = {page: room for room in self.rooms.values() for page in room.pages}  # the newest one of each page
        for room in self.rooms.values():
            shared = sorted(page for page in event.pages if owner.get(page) is room)
            if not (room.answer == "Success" or room.complete or room.cleared):
                wanted = "pages are published after the Success of their room"
                self._judge.check("KS-9.13", not shared, wanted, f"{shared} are", room)
