"""The clauses KS-9, each with what it looks at. ``Judge`` says what holds; ``observer`` tells it what happens."""

from __future__ import annotations

from typing import Final

from kvsender_spec.history.events import ErrorSeen
from kvsender_spec.history.header import Ability, Header
from kvsender_spec.history.words import Origin
from kvsender_spec.observe.targets.room import TargetRoomView
from kvsender_spec.observe.verdict import Findings, Violation

MOST_POLLS: Final = 3
"""So many polls a target may take to see what has arrived, or that time is up."""
OWN_TERMINAL: Final = "KS-9.14"
_TERMINAL: Final = ("Success", "Failed")
_OF_PAGES: Final = frozenset({"KS-9.5", "KS-9.6", "KS-9.10", "KS-9.12"})
"""The circumstances in which pages are held all the same."""
_ASKED: Final = 2 / 3
"""Within this share of the deadline a target that asks has heard what was lost."""


class Judge:
    """Makes observations. A violation is put down to the clause that was broken first in its room, if it came later."""

    def __init__(self, header: Header, findings: Findings) -> None:
        self.header: Final = header
        self.findings: Final = findings
        self.can: Final = frozenset(header.can)
        self.seq = -1
        self.step = 0

    def check(self, clause: str, holds: bool, expected: str, observed: str, room: TargetRoomView | None) -> bool:
        """An observation of a clause."""
        if holds:
            self.findings.held[clause] += 1
            return True
        mark, key = ("", None) if room is None else (room.mark, room.key)
        contexts = frozenset() if room is None else frozenset(room.contexts) - {clause}
        if room is not None and room.partly_proved and clause in ("KS-9.1", "KS-9.2"):
            contexts |= {"KS-9.5"}
        self.findings.violations.append(
            Violation(clause, expected, observed, self.seq, key, mark, contexts, (), self.step)
        )
        if room is not None:
            room.mark = room.mark or clause
        return False

    # -- answers

    def polled(self, room: TargetRoomView, value: str, now: float, *, well: bool) -> None:
        """poll() answered; the room is as it was before. ``well``: all its initiators are."""
        terminal = value in _TERMINAL
        if room.answer is None and not room.may_fail and well and Ability.ASKS in self.can:
            self._asked(room, value, now)
        if terminal and now >= room.latest:
            self.findings.held["KS-9.8"] += 1
        if room.answer is not None:
            self.check(OWN_TERMINAL, value == room.answer, f"{room.answer}, as it was answered before", value, room)
        elif value == "Success":
            self._success(room)
        elif value == "Failed":
            self._failed(room, now)
        else:
            self._goes_on(room, value, now)
        if room.told_early and value != "Failed":
            self.check("KS-9.9", False, "nobody is told that a room is given up that goes on", "it was told so", room)
        room.told_early = False
        if room.met and not self._broken_now(room):
            self.findings.held[room.met] += 1
        room.met = ""

    def _broken_now(self, room: TargetRoomView) -> bool:
        found = self.findings.violations
        return bool(found) and (found[-1].seq, found[-1].room) == (self.seq, room.key)

    def _success(self, room: TargetRoomView) -> None:
        missing = self._missing(room)
        wanted = f"no Success before everything is told: {missing} is missing"
        if self.check("KS-9.7", not missing, wanted, "Success", room) and room.failed_first:
            self.check(OWN_TERMINAL, False, f"Failed, because {room.causes[0]}", "Success", room)

    def _failed(self, room: TargetRoomView, now: float) -> None:
        if room.may_fail:
            self.check("KS-9.7", not (room.complete and room.complete_at is not None), "Success", "Failed", room)
            return
        wanted = "Success: everything had arrived" if room.complete else "no Failed, because nothing has gone wrong"
        self.check("KS-9.7", now >= room.deadline and not room.complete, wanted, "Failed", room)

    def _goes_on(self, room: TargetRoomView, value: str, now: float) -> None:
        owed = room.complete_at is not None and room.polls + 1 - room.complete_at >= MOST_POLLS
        if owed and not room.may_fail:
            self.check("KS-9.7", False, "Success: everything was told, and polled for", value, room)
        elif room.causes and room.failed_first and self._waited(room):
            self.check("KS-9.8", False, f"Failed, because {room.causes[0]}", value, room)
        elif room.due_at is not None and room.polls + 1 - room.due_at >= MOST_POLLS and now >= room.latest:
            self.check("KS-9.8", False, f"a terminal value {room.timeout_s:g} s after target()", value, room)

    def _waited(self, room: TargetRoomView) -> bool:
        room.due_at = room.polls if room.due_at is None else room.due_at
        return room.polls + 1 - room.due_at >= MOST_POLLS

    def _missing(self, room: TargetRoomView) -> str:
        for view in room.initiators.values():
            if len(view.told) < room.parts:
                return f"part {min(set(range(room.parts)) - view.told)} of {view.name}"
            if not view.finished:
                return f"the end of {view.name}"
        return ""

    def _asked(self, room: TargetRoomView, value: str, now: float) -> None:
        """The last word was lost a while ago, and everything was said."""
        if room.lost_at is None or not room.all_said or now >= room.deadline:
            return
        if value == "Success" or now >= room.lost_at + _ASKED * room.timeout_s:
            wanted = f"Success {_ASKED * room.timeout_s:g} s after a notification was lost on the way"
            self.check("KS-9.16", value == "Success", wanted, value, room)

    def failure(self, room: TargetRoomView, error: ErrorSeen | None, root: int | None) -> None:
        """failure_exception() came back."""
        if error is None:
            self.check(OWN_TERMINAL, False, "failure_exception() raises", "it returned", room)
            return
        failed = room.answer == "Failed" or (room.answer is None and (bool(room.causes) or room.cleared))
        if room.answer is not None and not failed:
            wanted = "a usage error: the room has not failed"
            self.check(OWN_TERMINAL, error.origin is Origin.USAGE, wanted, str(error), room)
        elif room.answer == "Failed":
            before = room.failures[0] if room.failures else None
            again = before is None or before == (str(error), root)
            self.check(OWN_TERMINAL, again, f"the same as before: {before and before[0]}", str(error), room)
            room.failures.append((str(error), root))

    # -- pages

    def pages(self, rooms: list[TargetRoomView], held: frozenset[int]) -> None:
        """The target has said which pages are held."""
        for room in rooms:
            touchable = room.touchable
            if not room.ended or room.answer == "Success" or not touchable:
                continue
            loose = sorted(room.pages - held)
            who = " and ".join(touchable)
            wanted = f"the pages of the room are held, because {who} may still use them"
            clause = "KS-9.1" if room.proof_first else "KS-9.2"
            if self.check(clause, not loose, wanted, f"{loose} are free", room):
                circumstances = room.contexts | ({"KS-9.5"} if room.partly_proved else set())
                self.findings.held.update({"KS-9.1", *(circumstances & _OF_PAGES)})

    # -- the end

    def at_the_end(self, rooms: list[TargetRoomView], held: frozenset[int], entries: int | None) -> None:
        """All initiators that live have given a proof, and every room is cleared."""
        doubtful = frozenset[int]().union(*(room.pages for room in rooms if room.touchable))
        for room in rooms:
            self._told(room)
            left = sorted((room.pages & held) - doubtful)
            if room.cleared and not room.touchable:
                wanted = "the pages come back, because every initiator has given a proof"
                self.check("KS-9.15", not left, wanted, f"{left} are still held", room)
            if Ability.TELLS in self.can and self.header.operation == "READ":
                reached = (n for n in sorted(room.renewed_late) if not room.initiators[n].unreachable)
                for name in reached:
                    wanted = f"{name}, which renews a lease that is over, is answered so"
                    self.check("KS-9.3", name in room.answered_lost, wanted, "it was told nothing", room)
        if entries is not None and all(room.cleared and not room.touchable for room in rooms):
            self.check("KS-9.15", entries == 0, "no entry of a room is left", f"{entries} are left", None)

    def _told(self, room: TargetRoomView) -> None:
        if Ability.TELLS not in self.can or (room.answer == "Success" and not room.causes):
            return
        gave_up = room.answer == "Failed" or room.cleared
        for view in room.initiators.values():
            owed = gave_up and view.name in room.owed and not view.unreachable
            if owed:
                wanted = f"{view.name} is told once that the room is given up"
                self.check("KS-9.9", view.aborts == 1, wanted, f"it was told {view.aborts} times", room)
            elif view.aborts > 1:
                self.check("KS-9.9", False, f"{view.name} is told at most once", f"{view.aborts} times", room)
