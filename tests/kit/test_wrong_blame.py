"""Whom the kit must not blame: circumstances that were there, or that a trace only asks for, and were not needed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, Final

import pytest
from tests.mutants.adopters import LosesWhatWasRefused
from tests.mutants.clause_by_clause import SucceedsWhenPosted
from tests.mutants.inline import InlineAdapter, InlineSender, InlineSystem
from tests.mutants.styles import ReleasesInBackground

from kvsender_spec.clauses import BY_ID
from kvsender_spec.contract import Attribution
from kvsender_spec.faults import Fault, Kind, Point
from kvsender_spec.kit.adapter import World
from kvsender_spec.kit.blame import Blame, attribute
from kvsender_spec.kit.check import Outcome, Report, check
from kvsender_spec.kit.replay import replay
from kvsender_spec.kit.run.execute import run_trace
from kvsender_spec.machine import State
from kvsender_spec.observe.attribution import OWN_ERROR, Tally
from kvsender_spec.printed import parse_setup, parse_step
from kvsender_spec.trace import Call, Overlap, Setup, Step, Trace

QUICK: Final = 100


def failed(report: Report, outcome: Outcome = Outcome.FAIL) -> set[str]:
    return {verdict.clause.id for verdict in report.with_outcome(outcome)}


def blamed(adapter: InlineAdapter, traces: Iterable[Trace]) -> Blame:
    """What a check comes to that has seen these runs and no others, so that each circumstance is a candidate."""
    tally = Tally()
    for trace in traces:
        run = run_trace(adapter, trace)
        tally.add(Trace(run.setup, tuple(run.steps)), run.observer.findings)
    return attribute(adapter, tally, frozenset(BY_ID))


def steps_of(blame: Blame, clause: str) -> tuple[Step, ...]:
    trace = blame.evidence[clause].trace
    assert trace is not None
    return trace.steps


# ---------------------------------------------------------------------------------------------- two overlapping calls


@pytest.mark.parametrize("point", [Point.RELEASE, Point.CHECK], ids=["never reached", "reached"])
def test_an_overlap_without_which_it_breaks_as_well_is_not_blamed(point: Point) -> None:
    """A release that poll() never comes to brings no second call; its check brings one that is not needed."""
    poll = Step(Call.POLL, overlap=Overlap(Call.ABORT, point))
    blame = blamed(InlineAdapter(SucceedsWhenPosted), [Trace(Setup(), (Step(Call.OPEN), Step(Call.SEND), poll))])
    assert "KS-3.1" in blame.evidence
    assert "KS-3.1" not in blame.after
    assert "KS-7.2" not in {*blame.evidence, *blame.after.values()}
    assert steps_of(blame, "KS-3.1") == (Step(Call.OPEN), Step(Call.SEND), Step(Call.POLL))


def test_a_whole_check_of_a_sender_without_threads_blames_no_overlap() -> None:
    report = check(InlineAdapter(SucceedsWhenPosted), examples=QUICK)
    assert "KS-3.1" in failed(report)
    assert "KS-7.2" not in failed(report) | failed(report, Outcome.FAIL_AFTER)
    assert "KS-7.2" not in {verdict.after for verdict in report.verdicts}


# ----------------------------------------------------------------------------------------------- a pool that runs dry


class NoSlot(Exception):
    """The pool has no staging slot left."""


class Pool(InlineSystem):
    """Three staging slots for all rooms."""

    free = 3


class Counted(Pool):
    """Says how many slots are taken when it is asked what it keeps of the rooms."""

    def residue(self) -> int:
        return super().residue() + Pool.free - self.free


class Single(Pool):
    """One staging slot: too few for two rooms at a time."""

    free = 1


class Staged(InlineSender):
    """Takes a slot in init(), and gives it back only when the room ends well. Without one, send() fails the room."""

    raises: ClassVar = False
    slot = False

    @property
    def pool(self) -> Pool:
        assert isinstance(self.system, Pool)
        return self.system

    def init(self, num_pages: int) -> None:
        super().init(num_pages)
        self.slot = self.pool.free > 0
        self.pool.free -= self.slot

    def give_back(self) -> None:
        self.pool.free += self.slot
        self.slot = False

    def send(self, kv_indices: Sequence[int]) -> None:
        if self.slot or self.state not in (State.IDLE, State.SENDING):
            super().send(kv_indices)
            return
        self.admit(kv_indices)
        error = NoSlot("no staging slot is free")
        if self.raises:
            raise error
        self.fault(error)

    def observe(self) -> None:
        super().observe()
        if self.state is State.DONE:
            self.give_back()


class StagedAndRaises(Staged):
    """The same, but send() raises where there is no slot."""

    raises: ClassVar = True


class StagedAtOnce(Staged):
    """The same, but the room has failed when init() returns."""

    def init(self, num_pages: int) -> None:
        super().init(num_pages)
        if not self.slot:
            self.fault(NoSlot("no staging slot is free"))


class Returned(Staged):
    """Gives the slot back when the room fails as well."""

    def fault(self, error: BaseException, attribution: Attribution | None = None) -> None:
        super().fault(error, attribution)
        self.give_back()


class ReturnedAndRaises(Returned):
    """The same, but send() raises where there is no slot."""

    raises: ClassVar = True


class PoolAdapter(InlineAdapter):
    def __init__(self, sender_class: type[Staged], pool: type[Pool] = Pool) -> None:
        super().__init__(sender_class)
        self.pool: Final = pool

    def open(self, world: World) -> InlineSystem:
        return self.pool(world, self.sender_class)


EMPTY: Final = Setup(chunks=((0,), (0,)))
OVERLAPS_A_POLL: Final = Step(Call.SEND, 0, overlap=Overlap(Call.POLL, Point.POST))
GIVEN_UP: Final = (Step(Call.OPEN), Step(Call.CLEAR))
"""Each costs a slot that is not given back."""


@pytest.mark.parametrize("sender", [Staged, StagedAndRaises, StagedAtOnce])
def test_a_pool_that_other_rooms_have_emptied_is_a_leak(sender: type[Staged]) -> None:
    """The slots are gone because other rooms have ended and kept them, so that a room without a fault of its own fails.

    One other room does not do that, so it is not KS-5.4; it takes several, and what they have kept is KS-4.3's. What
    the room then answers (KS-3.5, or the exception) is what follows from it. The circumstances that were there as well,
    a room without pages and calls that overlapped, are not.
    """
    report = check(PoolAdapter(sender), examples=QUICK)
    assert failed(report) == {"KS-4.3"}
    assert not failed(report, Outcome.FAIL_AFTER) & {"KS-3.2", "KS-5.4", "KS-7.2"}
    told = Step(Call.POLL, overlap=Overlap(Call.POLL, Point.NOTIFY))
    steps = (*GIVEN_UP, *GIVEN_UP, Step(Call.OPEN, 1), Step(Call.OPEN), Step(Call.SEND), told)
    blame = blamed(PoolAdapter(sender), [Trace(EMPTY, steps)])
    assert set(blame.evidence) - set(blame.after) == {"KS-4.3"}
    assert set(blame.after.values()) == {"KS-4.3"}
    assert ("KS-3.5" in blame.after) is (sender is not StagedAndRaises)
    assert not any(step.overlap for step in steps_of(blame, "KS-4.3"))


@pytest.mark.parametrize("sender", [Returned, ReturnedAndRaises])
def test_a_pool_that_is_too_small_is_blamed_itself(sender: type[Staged]) -> None:
    """Two healthy rooms are too many: a room fails without any fault (KS-3.5), or send() raises an error of its own.

    Nobody's failure is needed for it, so it is not KS-5.4, although another room has failed in the only run; neither
    are the room's want of pages (KS-3.2) and an overlap (KS-7.2).
    """
    aborted = Step(Call.OPEN, 1), Step(Call.ABORT, 1)
    refused = Step(Call.SEND, 2), Step(Call.POLL, 2)
    steps = (*aborted, Step(Call.OPEN), Step(Call.OPEN, 2), OVERLAPS_A_POLL, *refused)
    blame = blamed(PoolAdapter(sender, Single), [Trace(Setup(chunks=((0,), (1,), (0,))), steps)])
    causes = set(blame.evidence) - set(blame.after)
    if sender.raises:
        assert causes == set()
        assert {error.message.split(": ")[1] for error in blame.errors} == {"send() raised NoSlot"}
        assert set(blame.after.values()) <= {OWN_ERROR}
    else:
        assert causes == {"KS-3.5"}
        assert set(blame.after.values()) <= {"KS-3.5"}


def test_a_system_that_counts_its_slots_shows_the_leak_itself() -> None:
    report = check(PoolAdapter(StagedAtOnce, Counted), examples=QUICK)
    assert failed(report) == {"KS-4.3"}


# --------------------------------------------------------------------------------------------------- handles that leak


class KeepsHandles(InlineSystem):
    """What a room leaves is released by nobody."""

    def settle(self) -> None:
        pass


class ReleasesNothing(InlineSender):
    """Releases no handle of a finished transfer."""

    def release_settled(self) -> None:
        pass


class ReleasesNothingOfAFailedRoom(InlineSender):
    """The same, where the room has failed only."""

    def release_settled(self) -> None:
        if self.state not in (State.FAILED, State.STICKY_FAILED):
            super().release_settled()


class LeakAdapter(InlineAdapter):
    def open(self, world: World) -> InlineSystem:
        return KeepsHandles(world, self.sender_class)


@pytest.mark.parametrize("sender", [ReleasesNothing, ReleasesNothingOfAFailedRoom])
def test_a_leak_of_handles_is_a_leak_and_nothing_else(sender: type[InlineSender]) -> None:
    """At quick, and in one run with all that was blamed for it: another room, a peer that came back, two calls."""
    report = check(LeakAdapter(sender), examples=QUICK)
    assert failed(report) == {"KS-4.3"}
    assert not failed(report, Outcome.FAIL_AFTER)
    assert not report.errors
    lost = Step(Call.SEND, 1, fault=Fault(Point.MAKE, Kind.REMOTE_DISCONNECT))  # there is no handle to leak
    rooms = (Step(Call.OPEN, 1), lost, Step(Call.RESTART), Step(Call.OPEN))
    both = (*rooms, OVERLAPS_A_POLL, Step(Call.ABORT), Step(Call.POLL))
    blame = blamed(LeakAdapter(sender), [Trace(Setup(chunks=((1,), (1,))), both)])
    assert set(blame.evidence) == {"KS-4.3"}
    assert not any(step.overlap for step in steps_of(blame, "KS-4.3"))


# --------------------------------------------------------------------------------------- what a cause says of others

TWO_WORLDS: Final = "rooms of 1 pages and 1 pages, 2 peers, one peer a room"
LATE_SEND: Final = "open(0); send(0); wait_long; poll(0); send(0); failure_exception(0)"
OVERLOOKED: Final = "open(0); send(0); poll(0) with check=returns ERR; failure_exception(0)"
SHOWN: Final = "open(0); open(1); send(1); send(0); poll(0) with check=nixlRemoteDisconnectError;"


@pytest.mark.parametrize(
    ("name", "setup", "calls", "found"),
    [
        # The cause that room 1 shows is room 0's error, which came from a peer that room 1 does not have.
        ("Panics", TWO_WORLDS, f"{SHOWN} poll(1) with check=returns ERR; failure_exception(1)", ("KS-2.3", {"KS-6.2"})),
        # The second send() posts, and the sender says itself that the deadline had ended the room before.
        ("PostsAfterFailure", "rooms of 1+1+1 pages, 1 peer", LATE_SEND, ("KS-2.5", {"KS-2.7"})),
        # The error was answered, and the sender has never said that the room has failed.
        ("TakesErrForTheEnd", "rooms of 1 pages, 1 peer", OVERLOOKED, ("KS-1.2", set())),
    ],
)
def test_the_rule_is_the_one_that_the_cause_shows(
    name: str, setup: str, calls: str, found: tuple[str, set[str]]
) -> None:
    # One of the mutants imports nixl with its module, which would be this module's import as well (KS-1.5).
    from tests.mutants.registry import MUTANTS

    (adapter,) = (mutant.adapter for mutant in MUTANTS if mutant.name == name)
    trace = Trace(parse_setup(setup), tuple(map(parse_step, calls.split("; "))))
    violations = run_trace(adapter, trace, as_it_is=True).observer.findings.violations
    assert [(v.clause, set(v.contexts)) for v in violations][:1] == [found]


def test_the_shortest_trace_of_a_leak_leaks_nothing_where_background_work_releases() -> None:
    """The work had its time after the room's last answer, or it is not known what it would have released."""
    report = check(InlineAdapter(LosesWhatWasRefused), examples=0, clauses=["KS-4.3"])
    (verdict,) = report.verdicts
    assert verdict.outcome is Outcome.FAIL
    assert verdict.evidence is not None
    assert verdict.evidence.trace is not None
    assert any(step.fault is not None for step in verdict.evidence.trace.steps), "what is lost was refused"
    assert replay(InlineAdapter(ReleasesInBackground), verdict.evidence.trace).violations == ()
