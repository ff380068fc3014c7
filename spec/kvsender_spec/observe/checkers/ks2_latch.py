"""KS-2: the first cause is latched, and everything the sender says afterwards agrees with it."""

from __future__ import annotations

from typing import ClassVar, Final

from kvsender_spec.contract import Attribution, KVPoll
from kvsender_spec.history.header import Ability
from kvsender_spec.history.words import HANDS_OVER, CallName, Origin
from kvsender_spec.observe.answers import Answer
from kvsender_spec.observe.causes import attribution_of
from kvsender_spec.observe.checkers.base import ANSWERS, PEER_LOST, Checker, shown
from kvsender_spec.observe.room import RoomView
from kvsender_spec.observe.verdict import Reason
from kvsender_spec.oracle import ABORTED, UNKNOWN, CauseKind

_PEERS_OWN: Final = {
    CauseKind.PEER_LOST: "a peer of the room is lost",
    CauseKind.GRANT_ENDED: "the pages that it was granted were refilled",
}
_NOTHING_MORE: Final = "the transport is asked for nothing more"


class Latch(Checker):
    kinds: ClassVar = ANSWERS

    def answered(self, answer: Answer) -> None:
        what, late = answer.started.what, answer.room.posted_late
        if late is not None:
            self._posted(late[0], f"{late[1]}, in no send()", answer.room)
        if what is CallName.FAILURE_EXCEPTION:
            self._failure(answer)
        elif what in HANDS_OVER and not answer.started.misuse:
            self._sent(answer)
        elif answer.value is not None:
            self._polled(answer)

    def _sent(self, answer: Answer) -> None:
        """KS-2.5: after a failure send() posts nothing and raises nothing."""
        room, answered = answer.room, answer.answered
        if answer.error is not None:
            if answer.was_failed and answer.error.origin is not Origin.BASE:
                seen = f"{answer.name} raised {answer.error}"
                self.broke("KS-2.5", f"{answer.name} returns", seen, room, because=_aborted(room))
            return
        if answer.breaks is not None:
            self._posted(answer.breaks, answered.posts, room)
        elif answer.was_failed:
            self.held("KS-2.5")

    def _posted(self, clause: str, seen: str, room: RoomView) -> None:
        """KS-2.5, or KS-5.1 where it takes an abort()."""
        self.broke(clause, _NOTHING_MORE, seen, room, because=_aborted(room))

    def answered_untracked(self, answer: Answer) -> None:
        if answer.value is not None and answer.was_terminal is not None:
            self._sticky(answer, answer.value, answer.was_terminal)

    def _sticky(self, answer: Answer, value: KVPoll, first: KVPoll) -> None:
        self.check("KS-2.1", value is first, first.name, f"poll() answered {value.name}", answer.room)

    def _polled(self, answer: Answer) -> None:
        room, value = answer.room, answer.value
        assert value is not None
        failed = answer.was_failed or bool(room.faults)
        if answer.breaks is not None:
            seen = "poll() answered Failed, so that it had failed before the last send(), which posted"
            self.broke(answer.breaks, "after a failure the transport is asked for nothing more", seen, room)
        if answer.was_terminal is not None:
            self._sticky(answer, value, answer.was_terminal)
        if not answer.allowed and value is KVPoll.Success and failed:
            self.broke("KS-2.2", answer.wanted, "poll() answered Success", room)
        elif answer.allowed and failed:
            self.held("KS-2.2")
        if answer.allowed and answer.was_terminal is KVPoll.Failed:
            checks = answer.answered.checks
            self.check("KS-2.6", checks == 0, "poll() does not ask the transport", f"it made {checks} checks", room)

    def _failure(self, answer: Answer) -> None:
        room, error = answer.room, answer.error
        seen = f"failure_exception() raised {shown(error)}"
        if answer.breaks is not None:
            late = f"{seen}, so that it had failed before the last send(), which posted"
            self.broke(answer.breaks, _NOTHING_MORE, late, room)
        if answer.allowed and answer.matching is None:
            self.held("KS-2.7")
            return
        if not answer.latched and self.sight.peers_go_unseen and error is not None:
            self.unseen("KS-2.7", Reason.NOT_RECORDED, PEER_LOST)
            return
        if not answer.latched:
            wanted = f"a usage error, since the room is {answer.before[0]}"
            self.broke("KS-2.7", wanted, seen, room)
            return
        if answer.matching is None and answer.shown_before is not None and not answer.later:
            self.broke("KS-2.4", ": ".join(answer.shown_before), seen, room)
            return
        if error is None or answer.matching is None:
            internal = all(p.cause is not None and p.cause.kind is CauseKind.INTERNAL for p in answer.latched)
            if answer.overlooked:
                self.broke("KS-1.2", f"the room fails with {answer.latched[0].cause}", seen, room)
            elif answer.later or not internal:
                because, first = self.sight.owner_of(error, room), answer.latched[0].cause
                alike = first is not None and first.error is not None and str(first) in seen
                seen += ", which is another object, and no __cause__ leads to the first" if alike else ""
                self.broke("KS-2.3", f"the first cause, {first}", seen, room, because=because)
            return
        if self.sight.peers_go_unseen and answer.matching.cause is UNKNOWN:
            self.unseen("KS-2.3", Reason.NOT_RECORDED, PEER_LOST)
        else:
            self.held("KS-2.3")
        if answer.shown_before is not None:
            same = answer.shown_before == (error.type, error.text)
            self.check("KS-2.4", same, ": ".join(answer.shown_before), seen, room)
        self._attributed(answer)

    def _attributed(self, answer: Answer) -> None:
        """KS-2.8, where the cause leaves no choice; an error of the program's own is KS-1.3's."""
        assert answer.matching is not None
        cause, expected = answer.matching.cause, attribution_of(answer.matching)
        if not self.sight.has(Ability.ATTRIBUTION):
            return
        said = answer.ended.attribution
        why = "" if cause is None else _PEERS_OWN.get(cause.kind, "")
        if why:
            right = said in (Attribution.PEER.value, Attribution.LOCAL.value)
            self.check("KS-2.8", right, f"peer or local, since {why}", said or "none", answer.room)
        if expected is None:
            return
        wanted = expected.value
        if expected is not Attribution.INTERNAL:
            self.check("KS-2.8", said == wanted, wanted, said or "none", answer.room)


def _aborted(room: RoomView) -> frozenset[str]:
    """KS-5.1 where the room may have failed by an abort()."""
    return frozenset({"KS-5.1"} if ABORTED in room.causes else ())
