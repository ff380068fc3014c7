"""What every checker has, and what the observer shows to all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

from kvsender_spec.history.events import AnyEvent, ErrorSeen
from kvsender_spec.history.header import Ability, Header, Source
from kvsender_spec.machine import HandleState
from kvsender_spec.observe.answers import Answer
from kvsender_spec.observe.causes import chain, refs
from kvsender_spec.observe.peers import SubjectView
from kvsender_spec.observe.room import RoomView
from kvsender_spec.observe.verdict import Findings, Reason, Violation

OWN_ERROR: Final = "own error"
"""The rule for an exception that left a call although nothing had gone wrong: no clause, but the sender's or the
adapter's own mistake. Attribution names a clause where a circumstance is what it takes."""
PEER_LOST: Final = "peer.lost"
REFILLED: Final = "pages.refilled"
AS_WELL: Final = " as well"
"""How what was observed ends where a peer was told of two ends of one room (KS-6.1)."""

CALLS: Final = frozenset({"room.opened", "call.started", "call.ended", "error.seen", "events.dropped", "run.ended"})
"""What the views need to know who called what and what came back."""
TRANSFERS: Final = frozenset({"transfer.made", "transfer.posted", "transfer.checked", "transfer.released"})
WORLD: Final = frozenset(
    {"peer.added", PEER_LOST, "peer.silent", "peer.resumed", "peer.returned", "link.cut", REFILLED}
)
ANSWERS: Final = CALLS | TRANSFERS | WORLD | {"notification.sent", "clock.advanced", "bytes.landed"}
"""What the views need to say whether an answer of poll() is allowed. Without the kinds that only the world can write,
a view allows more, and never less."""


class Sight:
    """What the observer knows, as checkers see it."""

    def __init__(
        self,
        header: Header,
        findings: Findings,
        rooms: Mapping[int, RoomView],
        subject: SubjectView,
        errors: Mapping[int, ErrorSeen],
    ) -> None:
        self.header: Final = header
        self.findings: Final = findings
        self.rooms: Final = rooms
        self.subject: Final = subject
        self.errors: Final = errors
        self.can: Final = frozenset(header.can)
        self.vantage: Final = frozenset(header.vantage)
        told = {PEER_LOST} if header.operation == "WRITE" else {PEER_LOST, REFILLED}
        self.peers_go_unseen: Final = header.source is Source.LIVE and not told <= self.vantage
        """A sender in a running system may learn that a peer is gone, and a reader that its grant has ended, in ways
        that its recorder does not see."""
        self.now = 0.0
        self.seq = -1
        self.step = 0
        """How many steps of the trace have begun."""
        self.peer_of_handle: Final[dict[int | None, str]] = {}
        self.misused = ""
        """How the transfer event that is seen misused its handle."""
        self.released_in: HandleState | None = None
        """The state in which the handle was that the release which is seen is about; None if the release raised, or if
        that is not known."""

    def other_room_faulted(self, room: RoomView) -> bool:
        """Another room had a fault, or was given up."""
        faulted = self.subject.faulted
        return len(faulted) > (room.key in faulted)

    def other_peer_unhealthy(self, room: RoomView) -> bool:
        """A peer is not well, or was not, that the room has no part in, while its own ones are."""
        return not (room.unhealthy or self.subject.lossy) and any(
            peer.ever_unhealthy for name, peer in self.subject.peers.items() if name not in room.targets
        )

    def other_peer_answered_badly(self, room: RoomView) -> bool:
        """The transport has answered an error to a room all of whose peers are others."""
        return any(other.faults and other.targets.keys().isdisjoint(room.targets) for other in self.rooms.values())

    def contexts(self, room: RoomView) -> frozenset[str]:
        """The circumstances of a room that may be why its answer is wrong."""
        found = set(room.contexts)
        if room.without_pages:
            found.add("KS-3.2")
        if room.out_of_order:
            found.add("KS-3.6")
        if room.faultless:
            if self.other_room_faulted(room) or room.reopened:
                found.add("KS-5.4")
            if self.other_peer_unhealthy(room) or self.other_peer_answered_badly(room):
                found.add("KS-6.2")
            if room.recovered:
                found.add("KS-6.3")
        return frozenset(found)

    def owner_of(self, error: ErrorSeen | None, room: RoomView) -> frozenset[str]:
        """Which clause it is about that a room shows another room's error: another peer's fault, or another room's."""
        last = None if error is None else chain(error, self.errors)[-1].ref
        others = [other for other in self.rooms.values() if other is not room and last in refs(other.faults)]
        if not others or last in refs(room.faults):
            return frozenset()
        apart = all(other.targets.keys().isdisjoint(room.targets) for other in others)
        return frozenset({"KS-6.2" if apart else "KS-5.4"})

    def enough_polls(self, room: RoomView) -> int:
        """One for each handle, and two. A worker may have other rooms' chunks to post before it comes to this one."""
        enough = len(room.oracle.handles) + 2
        if self.has(Ability.WORKERS):
            enough = max(enough, 2 * self.subject.sends * max(len(room.targets), 1) + 4)
        return enough

    def has(self, ability: Ability) -> bool:
        return ability in self.can


class Checker:
    """One family of clauses."""

    kinds: ClassVar[frozenset[str]]
    """The kinds of events that the family's verdicts rest on, through the views or directly."""
    sees: ClassVar[frozenset[str]] = frozenset()
    """Those of them that ``see`` is called for."""

    def __init__(self, sight: Sight) -> None:
        self.sight: Final = sight

    def answered(self, answer: Answer) -> None:
        """A call of the caller came back."""

    def answered_untracked(self, answer: Answer) -> None:
        """A call about an untracked room came back: only what the call itself, or an answer before it, shows can be
        told."""

    def see(self, event: AnyEvent, room: RoomView | None) -> None:
        """An event of one of the kinds that it sees, after the views have taken it."""

    # -- what it says

    def held(self, clause: str) -> None:
        """An observation that holds."""
        self.sight.findings.held[clause] += 1

    def broke(
        self,
        clause: str,
        expected: str,
        observed: str,
        room: RoomView | None = None,
        frames: tuple[str, ...] = (),
        *,
        because: frozenset[str] = frozenset(),
    ) -> None:
        """An observation that does not. ``because``: circumstances that only this one shows."""
        sight = self.sight
        sight.findings.violations.append(
            Violation(
                clause,
                expected,
                observed,
                sight.seq,
                None if room is None else room.key,
                "" if room is None else room.mark,
                because if room is None else sight.contexts(room) | because,
                frames,
                sight.step,
            )
        )

    def check(
        self,
        clause: str,
        holds: bool,
        expected: str,
        observed: str,
        room: RoomView | None = None,
        *,
        because: frozenset[str] = frozenset(),
    ) -> bool:
        if holds:
            self.held(clause)
        else:
            self.broke(clause, expected, observed, room, because=because)
        return holds

    def unseen(self, clause: str, reason: Reason, what: str) -> None:
        """The clause came up, and could not be told."""
        self.sight.findings.reasons.setdefault(clause, (reason, what))


def shown(error: ErrorSeen | None) -> str:
    """An error in words."""
    return "nothing" if error is None else str(error)
