"""Turns what was seen of one room into judged observations, clause by clause.

The oracle says whether an answer is one that the spec allows; the judge says which clauses that answer speaks about.
An answer that the spec does not allow is blamed on the clause that it breaks, and on every change of the room that no
allowed answer has confirmed since (an abort, a clear, a mistake of the owner): those are what it may have come from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from transitions import MachineError

from kvsender_spec.contract import Attribution, KVPoll
from kvsender_spec.faults import NONSENSE, Point
from kvsender_spec.kit.adapter import (
    Attributes,
    HidesErrors,
    Notice,
    NoticeKind,
    Notifies,
    Quarantines,
    RoomPlan,
    Works,
)
from kvsender_spec.kit.adapter import System as SystemUnderTest
from kvsender_spec.kit.transport import TransportEvent
from kvsender_spec.machine import LATCHED, HandleEvent, HandleState, Input
from kvsender_spec.oracle import ABORTED, DEADLINE, PEER_LOST, Cause, CauseKind, Possible, RoomOracle
from kvsender_spec.trace import Misuse

THREADS: Final = "KS-7.2"
_CONFESSION: Final = "failure_exception() in a room of which nothing else says that it has failed"


@dataclass(frozen=True, slots=True)
class Violation:
    clause: str
    expected: str
    observed: str
    suspicion: bool = False
    """Blamed because what the clause is about came before: it holds unless the run goes wrong without that as well."""
    fallback: bool = False
    """Blamed for want of anything better, as long as no suspicion holds."""
    incarnation: int | None = None
    """Of a suspicion about what surrounds a room: which room."""
    explains: frozenset[str] = frozenset()
    """Of a suspicion that is about these clauses only: whatever else goes wrong does not acquit it."""


def judged(violations: Iterable[Violation], ignoring: frozenset[str]) -> list[Violation]:
    """Those of clauses that are not ignored. What is only suspected to come from an ignored one is ignored with it."""
    left = [violation for violation in violations if violation.clause not in ignoring]
    return left if any(not violation.suspicion for violation in left) else []


@dataclass(slots=True)
class Findings:
    """What one run has shown: how often each clause was observed to hold, and what broke."""

    held: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)

    def check(self, clause: str, holds: bool, expected: str, observed: str) -> bool:
        if holds:
            self.held[clause] += 1
        else:
            self.violations.append(Violation(clause, expected, observed))
        return holds


@dataclass(frozen=True, slots=True)
class Errors:
    """How this sender's world tells errors apart."""

    transport: tuple[type[Exception], ...]
    disconnect: type[Exception] | None
    usage: tuple[type[Exception], ...]

    def is_transport(self, error: BaseException) -> bool:
        return isinstance(error, self.transport) or type(error) is RuntimeError


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What else was wrong in the world when an answer was given, apart from this room's own faults."""

    other_room_faulted: bool
    other_peer_unwell: bool
    deadline_with_completion: bool


QUIET_SURROUNDINGS: Final = Surroundings(
    other_room_faulted=False, other_peer_unwell=False, deadline_with_completion=False
)


@dataclass(slots=True)
class Answered:
    """The first errors that the transport answered a room with, within one call or while nobody called."""

    posting: Cause | None = None
    checking: Cause | None = None
    posted: int = 0
    """How many transfers it accepted."""

    @property
    def first(self) -> Cause | None:
        return self.posting or self.checking


NOTHING: Final = Answered()


def show(error: BaseException | None) -> str:
    return "nothing" if error is None else f"{type(error).__name__}: {error}"


def chain(error: BaseException) -> list[BaseException]:
    """The error and what its ``__cause__`` leads to."""
    links: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and len(links) < 16:
        links.append(current)
        current = current.__cause__
    return links


class RoomJudge:
    """Judges one incarnation of one room."""

    def __init__(
        self,
        findings: Findings,
        errors: Errors,
        system: SystemUnderTest,
        plan: RoomPlan,
        timeout_s: float,
        compare: Callable[[RoomPlan], str],
    ) -> None:
        self.findings: Final = findings
        self.errors: Final = errors
        self.system: Final = system
        self.plan: Final = plan
        self._wrong_bytes: Final = compare
        self.oracle: Final = RoomOracle(timeout_s)
        self.terminal: KVPoll | None = None
        self.pages: dict[int, frozenset[int]] = {}
        """The source pages of each handle."""
        self.releases: Counter[int] = Counter()
        self.faults: list[Cause] = []
        """Every error that the transport has answered this room with, first to last."""
        self.refused: list[Cause] = []
        """Those of them that the sender's own wrong call has drawn."""
        self.cleared = False
        self.recovered = False
        """Opened to a peer that had come back."""
        self.out_of_order = False
        self.handed_over = False
        """The owner has given the last chunk to a live room, whatever the sender made of it."""
        self.around = QUIET_SURROUNDINGS
        """What else is wrong in the world, as of the call that is judged."""
        self.notices: dict[str, list[Notice]] = {}
        self.reason_shown: tuple[str, str] | None = None
        self._unconfirmed: dict[str, str] = {}
        self._finished_last = -1
        self._cause_at_stake = False
        """abort() was called after the cause was latched, and nothing has shown since that the cause is the same."""

    @property
    def destinations(self) -> dict[str, tuple[int, ...]]:
        return {d.peer.name: d.pages for d in self.plan.destinations if not d.dummy}

    @property
    def ended(self) -> bool:
        return self.terminal is not None

    @property
    def owes_an_end(self) -> bool:
        """The owner has done its part, or the room has failed."""
        return self.handed_over or self.oracle.failed

    # -- what the transport told the sender

    def feed(self, events: Iterable[TransportEvent], now: float) -> Answered:
        """Move the handles by the transport's answers; returns what they come to."""
        answered = Answered()
        for event in events:
            cause = self._cause(event)
            if cause is not None:
                self.refused += [cause] * event.refused
                match event.point:
                    case Point.MAKE | Point.POST:
                        self.faults.append(cause)
                        answered.posting = answered.posting or cause
                    case Point.CHECK:
                        self.faults.append(cause)
                        answered.checking = answered.checking or cause
                    case Point.RELEASE | Point.NOTIFY if answered.first is None:
                        self.oracle.may_fault(cause)
                    case Point.RELEASE | Point.NOTIFY:
                        pass  # an error of a check or a post came before it, and the first cause stays (KS-2.3)
            elif event.point is Point.POST:
                answered.posted += 1
            if event.handle is not None:
                self._move(event, cause, now)
        return answered

    def meanwhile(self, answered: Answered, now: float, *, completion_is_there: bool) -> None:
        """What workers were answered while no call of the owner's was under way."""
        if answered.posting is not None or answered.posted:
            self._posted(answered)
        if answered.checking is not None:
            self.oracle.observed(answered.checking)
        if self.oracle.overdue(now) and not completion_is_there:
            self.oracle.may_fault(DEADLINE)
        self.oracle.may_have_completed()

    def _cause(self, event: TransportEvent) -> Cause | None:
        if event.error is not None and isinstance(self.system, HidesErrors):
            return Cause(CauseKind.RETURNED, text=self.system.shown_as(event.error))
        if event.error is not None:
            kind = CauseKind.RAISED if self.errors.is_transport(event.error) else CauseKind.INTERNAL
            return Cause(kind, event.error)
        if event.answer in ("ERR", NONSENSE):
            return Cause(CauseKind.RETURNED, text=event.answer)
        return None

    def _move(self, event: TransportEvent, cause: Cause | None, now: float) -> None:
        handle = event.handle
        assert handle is not None
        if cause is not None and cause.kind is CauseKind.INTERNAL:
            return  # it says nothing about the handle
        match event.point, event.answer:
            case Point.POST, "PROC":
                happened = HandleEvent.ACCEPTED
            case Point.POST | Point.CHECK, "DONE":
                happened = HandleEvent.FINISHED
            case Point.POST, _:
                happened = HandleEvent.REJECTED
            case Point.CHECK, "PROC":
                return
            case Point.CHECK, _:
                happened = HandleEvent.RAISED
            case Point.RELEASE, "released" | "dropped":
                self._released(handle, event.answer)
                return
            case _:
                return
        if happened is HandleEvent.FINISHED and self.oracle.state_of(handle) is not HandleState.DONE:
            self.out_of_order = self.out_of_order or handle < self._finished_last
            self._finished_last = max(self._finished_last, handle)
        try:
            self.oracle.handle_event(handle, happened, now)
        except MachineError as error:
            self.findings.check("KS-4.3", False, "a handle is used only as long as it is held", str(error))

    def made(self, handle: int, pages: frozenset[int]) -> None:
        self.oracle.adopt(handle)
        self.pages[handle] = pages

    def _released(self, handle: int, how: str) -> None:
        self.releases[handle] += 1
        state = self.oracle.state_of(handle)
        if self.releases[handle] > 1:
            self.findings.check("KS-4.3", False, "each handle is released once", f"handle {handle} was released again")
            return
        self.findings.check(
            "KS-4.2",
            state not in (HandleState.IN_FLIGHT, HandleState.IN_DOUBT),
            "a handle is released only after the transport has said its last word on it",
            f"handle {handle} was {how} while it was {state.value}",
        )
        self.oracle.handle_event(handle, HandleEvent.RELEASED, 0.0)

    # -- calls of the owner

    def escaped(self, call: str, error: BaseException, answered: Cause | None) -> None:
        """A call raised what it may not raise."""
        seen = f"{call} raised {show(error)}"
        if answered is not None:
            self.findings.check(
                "KS-1.2", False, f"the room fails with {answered}, and {call} returns", f"{seen} instead of returning"
            )
        self.findings.check("KS-1.1", False, f"{call} returns", seen)
        if self.oracle.failed and call.startswith("send"):
            self._blame("KS-2.5", f"{call} returns", seen)
        else:
            self._suspect(f"{call} returns", seen)

    def returned(self, call: str, answered: Cause | None) -> None:
        """A call came back although the transport has answered an error, now or before."""
        if answered is not None or self.faults:
            self.findings.check("KS-1.1", True, f"{call} returns", "it did")

    def hands_over(self, *, last: bool) -> None:
        """The owner calls send() with a chunk."""
        self.handed_over = self.handed_over or (last and not self.oracle.failed)

    def sent(self, answered: Answered, *, last: bool) -> None:
        """The owner has called send(). What is not posted by now, a worker may still post."""
        self.hands_over(last=last)
        self._posted(answered)
        if answered.checking is not None:
            self.oracle.observed(answered.checking)
        if isinstance(self.system, Works):
            self.oracle.may_have_completed()

    def _posted(self, answered: Answered) -> None:
        """Which of several chunks a worker posts does not show: with the last one in its hands, it may be that one.

        A Success that comes too early for it is still caught, by the bytes that are missing.
        """
        oracle, cause, posted, last = self.oracle, answered.posting, answered.posted, self.handed_over
        was_failed = oracle.failed
        if cause is not None:
            what = Input.SEND_REJECTED
        elif posted or (last and not self.destinations and not was_failed):
            what = Input.SEND_LAST_ACCEPTED if last else Input.SEND_ACCEPTED
        else:
            what = Input.SEND_NOTHING
        breaks = oracle.take(what, cause)
        expected = "the transport is asked for nothing more"
        seen = f"{posted} transfers were posted" + (f", and {cause}" if cause else "")
        if breaks is not None:
            self._blame(breaks, expected, seen)
        elif was_failed:
            self.findings.check("KS-2.5", True, expected, seen)

    def aborted(self) -> None:
        if self.oracle.failed:
            self._cause_at_stake = True
        self.oracle.take(Input.ABORT, ABORTED)
        self._unconfirmed["KS-5.1"] = "abort()"

    def was_cleared(self) -> None:
        self.oracle.take(Input.CLEAR, ABORTED)
        self.cleared = True
        self._unconfirmed["KS-5.2"] = "clear()"

    def peer_lost(self) -> None:
        """A peer of the room is gone, or is another process now. The room may fail for it; it must not write there."""
        self.oracle.may_fault(PEER_LOST, from_now_on=True)

    def settled_late(self) -> None:
        """A handle of the room has finished after clear()."""
        self._unconfirmed["KS-5.3"] = "a late event on the cleared room"

    def misused(self, misuse: Misuse, error: BaseException | None, posts: int) -> None:
        good = error is not None and isinstance(error, self.errors.usage) and posts == 0 and str(error) != ""
        self.findings.check(
            "KS-8.1",
            good,
            f"send() with {misuse.value} raises a usage error that says so, before anything is posted",
            f"it raised {show(error)}, and {posts} transfers were made",
        )
        self._unconfirmed["KS-8.1"] = misuse.value

    # -- poll

    def polled(self, value: int, answered: Cause | None, now: float, checks: int, around: Surroundings) -> None:
        """``checks``: how many of the room's handles this poll asked about."""
        oracle, findings = self.oracle, self.findings
        self.around = around
        answer = KVPoll(value)
        before, was_terminal = oracle.possible, self.terminal
        idle = not oracle.closed and not any(
            machine.state is HandleState.IN_FLIGHT for machine in oracle.handles.values()
        )
        allowed = oracle.polled(answer, answered, now, completion_is_there=around.deadline_with_completion)
        seen = f"poll() answered {answer.name}"
        wanted = "one of " + ", ".join(str(possible) for possible in before)
        if not allowed:
            self._wrong_answer(answer, seen, wanted, idle=idle)
            return
        for clause in self._unconfirmed:
            findings.check(clause, True, wanted, seen)
        confessed = self._unconfirmed.get("KS-2.7") == _CONFESSION and answer is not KVPoll.Failed
        self._unconfirmed = {"KS-2.7": _CONFESSION} if confessed else {}
        if was_terminal is not None:
            findings.check("KS-2.1", True, was_terminal.name, seen)
        if self.faults or oracle.failed:
            findings.check("KS-2.2", True, "no Success", seen)
        if idle:
            findings.check("KS-3.3", True, "no Success", seen)
        if around.deadline_with_completion and answered is None and not oracle.failed:
            findings.check("KS-3.5", True, "no Failed", seen)
        if around.other_room_faulted and not self.faults:
            findings.check("KS-5.4", True, wanted, seen)
        if was_terminal is KVPoll.Failed:
            findings.check("KS-2.6", checks == 0, "poll() does not ask the transport", f"it made {checks} checks")
            self._check_quarantine(first=False)
        elif answer.terminal and was_terminal is None:
            self.terminal = answer
            self._concluded(answer, around)

    def _wrong_answer(self, answer: KVPoll, seen: str, wanted: str, *, idle: bool) -> None:
        clauses: list[str] = []
        if self.terminal is not None:
            clauses.append("KS-2.1")
        if answer is KVPoll.Success and (self.faults or self.oracle.failed):
            clauses.append("KS-2.2")
            if self.faults and self.faults[0].kind in (CauseKind.RAISED, CauseKind.RETURNED):
                clauses.append("KS-1.2")
            elif self.faults:
                clauses.append("KS-1.3")
        elif answer is KVPoll.Success and self.terminal is None:
            clauses.append("KS-3.3" if idle and not self.handed_over else "KS-3.1")
            if self.handed_over and self.plan.num_pages == 0:
                clauses.append("KS-3.2")
        elif answer is KVPoll.Failed and self.terminal is None:
            clauses.append("KS-3.5")
        wrong = self._wrong_bytes(self.plan) if answer is KVPoll.Success and self.terminal is None else ""
        if wrong and "KS-3.1" not in clauses:
            self.findings.check("KS-3.1", False, "every peer has the owner's bytes", wrong)
        for clause in clauses[1:]:
            self.findings.check(clause, False, wanted, seen)
        self._blame(clauses[0] if clauses else None, wanted, seen)

    def _contexts(self) -> list[str]:
        """The clauses about what surrounds a room, where they apply to this one."""
        found: list[str] = []
        around = self.around
        if self.faults:
            return found
        if around.other_room_faulted:
            found.append("KS-5.4")
        if around.other_peer_unwell:
            found.append("KS-6.2")
        if self.recovered:
            found.append("KS-6.3")
        return found

    def _concluded(self, answer: KVPoll, around: Surroundings) -> None:
        findings = self.findings
        seen = f"the room ended with {answer.name}"
        if answer is KVPoll.Failed and self.faults and self.faults[0].kind is not CauseKind.INTERNAL:
            findings.check("KS-1.2", True, f"the room fails with {self.faults[0]}", seen)
        own = [possible.cause for possible in self.oracle.possible if any(possible.cause is c for c in self.refused)]
        if len(own) == len(self.oracle.possible):
            wanted = "no Failed: nothing has gone wrong but a call that no transport would take"
            findings.check("KS-3.5", False, wanted, f"{seen}, after the transport refused it: {own[0]}")
        if answer is KVPoll.Success:
            wrong = self._wrong_bytes(self.plan)
            findings.check("KS-3.1", not wrong, "every peer has the owner's bytes", wrong or seen)
            if self.plan.num_pages == 0:
                findings.check("KS-3.2", not wrong, "every peer has the aux data", wrong or seen)
            if self.out_of_order:
                findings.check("KS-3.6", not wrong, "every peer has the owner's bytes", wrong or seen)
            if self.recovered:
                findings.check("KS-6.3", True, "Success", seen)
        if around.other_peer_unwell and not self.faults:
            findings.check("KS-6.2", True, "as if the other peer were well", seen)
        self._check_quarantine(first=True)

    def _check_quarantine(self, *, first: bool) -> None:
        doubtful: set[int] = set()
        rejected: set[int] = set()
        can_hold = isinstance(self.system, Quarantines)
        # Without a quarantine a sender can still wait until nothing is in flight, and that is what it is judged by.
        unproven = {HandleState.IN_FLIGHT, HandleState.IN_DOUBT} | ({HandleState.ERRORED} if can_hold else set())
        for handle, machine in self.oracle.handles.items():
            if machine.state in unproven:
                doubtful |= self.pages[handle]
            if machine.state is HandleState.REJECTED:
                rejected |= self.pages[handle]
        held = self.system.quarantined_pages() if isinstance(self.system, Quarantines) else frozenset[int]()
        if first or doubtful:
            self.findings.check(
                "KS-4.1",
                doubtful <= held,
                f"pages {sorted(doubtful)} are quarantined: nothing has shown that they are quiet",
                f"quarantined: {sorted(held)}",
            )
        overdue = {
            page
            for handle, machine in self.oracle.handles.items()
            if machine.state is HandleState.IN_FLIGHT
            for page in self.pages[handle]
        }
        if can_hold and (rejected or overdue):
            self.findings.check(
                "KS-4.4",
                rejected | overdue <= held,
                f"pages {sorted(rejected | overdue)} are quarantined: the post was rejected or has not settled",
                f"quarantined: {sorted(held)}",
            )

    # -- failure_exception

    def failure_shown(self, error: BaseException | None) -> None:
        states = self.oracle.possible
        live = [possible for possible in states if possible.state not in LATCHED]
        latched = [possible for possible in states if possible.state in LATCHED]
        seen = f"failure_exception() raised {show(error)}"
        if error is not None and isinstance(error, self.errors.usage) and live:
            self.findings.check("KS-2.7", True, "a usage error", seen)
            self._unconfirmed["KS-2.7"] = "failure_exception()"
            self.oracle.keep(live)
            return
        if not latched:
            self._blame("KS-2.7", f"a usage error, since the room is {states[0]}", seen)
            return
        said = self.system.attribution(error) if error is not None and isinstance(self.system, Attributes) else None
        fitting = [] if error is None else [possible for possible in latched if self._matches(error, possible)]
        # Where several causes fit what was raised, the sender's own word decides which one it is: one that it names, or
        # else one that may be anybody's.
        open_to_it = [p for p in fitting if self._attribution_of(p) is None]
        named = [p for p in fitting if self._attribution_of(p) is said]
        matching = next(iter((*named, *open_to_it, *fitting)), None)
        if self._cause_at_stake:
            self.findings.check("KS-5.1", matching is not None, f"abort() keeps the cause, {latched[0].cause}", seen)
            self._cause_at_stake = False
        if error is None or matching is None:
            disguised = all(p.cause is not None and p.cause.kind is CauseKind.INTERNAL for p in latched)
            clause = "KS-1.3" if disguised else "KS-2.3"
            self._blame(clause, f"the first cause, {latched[0].cause}", seen)
            return
        self.findings.check("KS-2.3", True, "the first cause", seen)
        if matching.cause is not None and matching.cause.kind is CauseKind.INTERNAL:
            self.findings.check("KS-1.3", True, "the very error, shown as what it is", seen)
        self.oracle.keep([matching])
        if live:
            # Nothing else says that the room has failed. A sender that raises such an error whenever it is asked has
            # confessed to nothing, and what it does next must not be held against it.
            self._unconfirmed["KS-2.7"] = _CONFESSION
        signature = (type(error).__name__, str(error))
        if self.reason_shown is not None:
            self.findings.check("KS-2.4", signature == self.reason_shown, ": ".join(self.reason_shown), seen)
        self.reason_shown = signature
        self._check_attribution(matching, said)

    def _matches(self, error: BaseException, possible: Possible) -> bool:
        cause, links = possible.cause, chain(error)
        assert cause is not None
        injected = [fault.error for fault in self.faults if fault.error is not None]
        match cause.kind:
            case CauseKind.RAISED | CauseKind.INTERNAL:
                named = any(type(cause.error).__name__ in str(link) and str(cause.error) in str(link) for link in links)
                return links[-1] is cause.error and (error is cause.error or named)
            case CauseKind.RETURNED:
                return any(cause.text in str(link) for link in links)
            case CauseKind.ABORTED | CauseKind.DEADLINE | CauseKind.PEER_LOST:
                return not any(link is fault for link in links for fault in injected)

    def _attribution_of(self, possible: Possible) -> Attribution | None:
        """Who caused it, where the cause leaves no choice."""
        cause = possible.cause
        assert cause is not None
        match cause.kind:
            case CauseKind.ABORTED:
                return Attribution.OWNER
            case CauseKind.DEADLINE:
                return Attribution.DEADLINE
            case CauseKind.INTERNAL:
                return Attribution.INTERNAL
            case CauseKind.PEER_LOST:
                return Attribution.PEER
            case CauseKind.RAISED | CauseKind.RETURNED:
                disconnect = self.errors.disconnect
                return Attribution.PEER if disconnect is not None and isinstance(cause.error, disconnect) else None

    def _check_attribution(self, possible: Possible, said: Attribution | None) -> None:
        expected = self._attribution_of(possible)
        if expected is not None and isinstance(self.system, Attributes):
            clause = "KS-1.3" if expected is Attribution.INTERNAL else "KS-2.8"
            seen = "none" if said is None else said.value
            if said is expected:
                self.findings.check(clause, True, expected.value, seen)
            else:
                self._blame(clause, expected.value, seen)

    # -- notices

    def noticed(self, peer: str, notice: Notice) -> None:
        earlier = self.notices.setdefault(peer, [])
        failures = sum(1 for old in earlier if old.kind is NoticeKind.FAILURE)
        if failures and notice.kind is not NoticeKind.PROGRESS:
            self.findings.check(
                "KS-6.1",
                False,
                f"peer {peer} is told of the failure once, and nothing after it",
                f"it was told {notice.kind} as well",
            )
        earlier.append(notice)

    def check_notices(self, reachable: frozenset[str]) -> None:
        """At the end of the run."""
        if not isinstance(self.system, Notifies) or self.terminal is None:
            return
        for peer in sorted(self.destinations):
            failures = [n for n in self.notices.get(peer, []) if n.kind is NoticeKind.FAILURE]
            if self.terminal is KVPoll.Success:
                self.findings.check("KS-6.1", not failures, "no failure notice", f"{len(failures)} at {peer}")
            elif peer in reachable:
                good = len(failures) == 1 and failures[0].reason != ""
                self.findings.check(
                    "KS-6.1",
                    good,
                    f"one failure notice with a reason at {peer}",
                    f"{len(failures)} failure notices" + (f", reason {failures[0].reason!r}" if failures else ""),
                )

    # -- the end of a run

    def must_have_ended(self, polls: int, around: Surroundings, *, by_deadline: bool) -> None:
        """Everything has settled, or every deadline has passed, and the owner has polled often enough."""
        self.around = around
        expected = f"a terminal answer within {polls} polls"
        clauses: list[str] = []
        if self.plan.num_pages == 0 and self.handed_over and not by_deadline:
            clauses.append("KS-3.2")
        if self.out_of_order and not self.faults and not by_deadline:
            clauses.append("KS-3.6")
        if self.ended:
            self.findings.check("KS-3.4", True, expected, "it came")
            return
        seen = f"the room is still {' or '.join(str(p) for p in self.oracle.possible)}"
        for clause in clauses:
            self.findings.check(clause, False, expected, seen)
        self._blame(None, expected, seen)

    def check_released(self) -> None:
        """After everything has settled and the system has had its time."""
        kept = [handle for handle in self.oracle.handles if not self.releases[handle]]
        if not self.ended or not self.oracle.handles:
            return
        self.findings.check("KS-4.3", not kept, "every handle is released", f"handles {kept} are not")
        done = all(machine.state is HandleState.DONE for machine in self.oracle.handles.values())
        if done and isinstance(self.system, Quarantines):
            # A sender may hold a whole room for one transfer in doubt, but not one in which there is none.
            held = self.system.quarantined_pages() & frozenset().union(*self.pages.values())
            self.findings.check(
                "KS-4.3", not held, "no page of it is quarantined: every transfer is done", f"pages {sorted(held)} are"
            )

    def _blame(self, clause: str | None, expected: str, observed: str) -> None:
        """Without a clause of its own, what went wrong is that the room does not end as it should (KS-3.4)."""
        fallback = clause is None or self._unconfirmed.get("KS-2.7") == _CONFESSION
        self.findings.violations.append(Violation(clause or "KS-3.4", expected, observed, fallback=fallback))
        self._suspect(expected, observed, besides=clause)

    def _suspect(self, expected: str, observed: str, besides: str | None = None) -> None:
        """Blame what surrounds the room, and what has changed it since an allowed answer was last seen."""
        violations, mine = self.findings.violations, self.plan.incarnation
        violations += (Violation(c, expected, observed, suspicion=True, incarnation=mine) for c in self._contexts())
        for suspect, what in self._unconfirmed.items():
            if suspect != besides:
                explains = frozenset({besides or "KS-3.4"} if what == _CONFESSION else ())
                suspicion = Violation(suspect, f"after {what}: {expected}", observed, suspicion=True, explains=explains)
                self.findings.violations.append(suspicion)
