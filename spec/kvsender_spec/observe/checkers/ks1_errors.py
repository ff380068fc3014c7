"""KS-1: errors of the transport end in the room, and no other error is taken for one of them."""

from __future__ import annotations

from typing import ClassVar

from kvsender_spec.contract import Attribution, KVPoll
from kvsender_spec.history.events import AnyEvent, CallEnded, ErrorSeen, ImportProbed, PeerAdded
from kvsender_spec.history.header import Ability
from kvsender_spec.history.words import CallName, Origin
from kvsender_spec.observe.answers import Answer
from kvsender_spec.observe.checkers.base import ANSWERS, OWN_ERROR, Checker, Sight, shown
from kvsender_spec.observe.room import RoomView
from kvsender_spec.oracle import CauseKind


class Errors(Checker):
    kinds: ClassVar = ANSWERS | {"import.probed"}
    sees: ClassVar = frozenset({"import.probed", "peer.added", "call.ended"})

    def __init__(self, sight: Sight) -> None:
        super().__init__(sight)
        self._unconnected: set[int] = set()
        """The calls within which connecting to a peer has raised."""

    def see(self, event: AnyEvent, room: RoomView | None) -> None:
        match event:  # the kind that is most frequent comes first
            case CallEnded():
                if room is not None or event.of not in self._unconnected:
                    return
                error = None if event.error is None else self.sight.errors.get(event.error)
                good = error is None or error.origin is not Origin.TRANSPORT
                self.check("KS-1.1", good, "connecting to a peer returns", f"it raised {shown(error)}")
            case ImportProbed():
                wanted = f"import {event.module} works without nixl"
                self.check("KS-1.5", not event.failure, wanted, event.failure or "it does")
            case PeerAdded(error=int(), call=int(call)):
                self._unconnected.add(call)
            case _:
                pass

    def answered(self, answer: Answer) -> None:
        if answer.answered.interrupts:
            self._interrupted(answer)
        if answer.started.what is CallName.FAILURE_EXCEPTION:
            self._shown(answer)
        elif not answer.started.misuse:
            if answer.error is not None:
                self._escaped(answer, answer.error)
            else:
                self._returned(answer)

    def answered_untracked(self, answer: Answer) -> None:
        proper = answer.started.what is not CallName.FAILURE_EXCEPTION and not answer.started.misuse
        if proper and answer.error is not None and answer.error.origin is Origin.TRANSPORT:
            self.broke("KS-1.1", f"{answer.name} returns", f"{answer.name} raised {answer.error}", answer.room)

    def _interrupted(self, answer: Answer) -> None:
        """KS-1.4: an interrupt leaves the call of the caller's during which it came."""
        for interrupt in answer.answered.interrupts:
            left = answer.error is not None and answer.error.ref == interrupt.ref
            seen = f"{answer.name} raised {shown(answer.error)}"
            self.check("KS-1.4", left, f"{interrupt} leaves the call", seen, answer.room)

    def _escaped(self, answer: Answer, error: ErrorSeen) -> None:
        refused = answer.started.what is CallName.INIT and error.origin is Origin.USAGE and answer.room.misgranted
        if error.origin is Origin.BASE or refused:
            return
        answered = answer.answered.first
        room, seen = answer.room, f"{answer.name} raised {error}"
        if answer.went_through:
            self.held("KS-1.3")  # it propagates
            return
        if answered is not None and answered.kind is not CauseKind.INTERNAL:
            wanted = f"the room fails with {answered}, and {answer.name} returns"
            self.broke("KS-1.2", wanted, f"{seen} instead of returning", room)
        excuse = answer.was_failed or room.unhealthy or room.oracle.overdue(self.sight.now)
        if answered is not None or room.faults or excuse or error.origin is Origin.TRANSPORT:
            self.broke("KS-1.1", f"{answer.name} returns", seen, room, error.frames)
        elif not self.sight.subject.lossy and answer.started.what is not CallName.TARGET_ABORTS:  # KS-6.4 speaks of it
            self.broke(OWN_ERROR, f"{answer.name} returns", seen, room, error.frames)

    def _returned(self, answer: Answer) -> None:
        room, answered = answer.room, answer.answered.first
        if answered is not None or room.faults:
            self.held("KS-1.1")
        first = None if answer.value is None or not room.faults else room.faults[0]
        if first is None or first.kind is CauseKind.INTERNAL:
            return
        if answer.allowed and answer.first_terminal and answer.value is KVPoll.Failed:
            self.held("KS-1.2")
            if first.error is not None:
                self.sight.findings.handled.add(first.error.type)
        elif answer.value is KVPoll.Success and not answer.allowed and answer.was_terminal is None:
            self.broke("KS-1.2", f"the room fails with {first}", "poll() answered Success", room)

    def _shown(self, answer: Answer) -> None:
        """KS-1.3: an error of the program's own is shown as what it is."""
        matching = answer.matching
        internal = bool(answer.latched) and all(
            p.cause is not None and p.cause.kind is CauseKind.INTERNAL for p in answer.latched
        )
        if internal and matching is None and not answer.allowed and not answer.later and answer.shown_before is None:
            wanted = f"the first cause, {answer.latched[0].cause}"
            self.broke("KS-1.3", wanted, f"failure_exception() raised {shown(answer.error)}", answer.room)
        if matching is None or matching.cause is None or matching.cause.kind is not CauseKind.INTERNAL:
            return
        self.held("KS-1.3")
        if self.sight.has(Ability.ATTRIBUTION):
            said = answer.ended.attribution
            wanted = Attribution.INTERNAL.value
            # A sender that names the wrong one for every error has KS-2.8 wrong, and this as its consequence.
            self.check("KS-1.3", said == wanted, wanted, said or "none", answer.room, because=frozenset({"KS-2.8"}))
