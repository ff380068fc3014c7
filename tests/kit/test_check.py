"""The check itself: no observation, no pass; one exploration for all clauses; the same seed, the same findings."""

from __future__ import annotations

import pytest
from tests.mutants.broken import NotSticky
from tests.mutants.clause_by_clause import DeadlineFirst
from tests.mutants.inline import InlineAdapter, InlineSender, InlineSystem

from kvsender_spec.clauses import CLAUSES, Level
from kvsender_spec.faults import Fault, Kind, Point
from kvsender_spec.kit.adapter import NUM_PAGES, NotificationKind, RoomPlan, World
from kvsender_spec.kit.check import Outcome, UnknownClause, check, load_adapter
from kvsender_spec.kit.run.calls import AdapterError
from kvsender_spec.kit.run.execute import Run, run_trace
from kvsender_spec.kit.search.explore import explore
from kvsender_spec.kit.search.shrink import show, shrink
from kvsender_spec.kit.search.sweep import SWEEP
from kvsender_spec.observe.attribution import Example, Tally
from kvsender_spec.trace import Call, Misuse, Progress, Setup, Step, Trace

SMALL = InlineAdapter(InlineSender)


def broken_first(done: Run) -> set[str]:
    """The clauses that broke before anything else in their room."""
    return {violation.clause for violation in done.observer.findings.violations if not violation.after}


def run(*steps: Step, setup: Setup = Setup(), adapter: InlineAdapter = SMALL) -> Run:  # noqa: B008 (frozen)
    done = run_trace(adapter, Trace(setup, steps))
    assert isinstance(done, Run)
    return done


def test_a_clause_that_was_not_observed_is_not_passed() -> None:
    report = check(SMALL, examples=1, sweep=())
    unseen = report.with_outcome(Outcome.INCONCLUSIVE)
    assert unseen
    assert all(verdict.observations == 0 for verdict in unseen)
    assert report.exit_code == 3


def test_the_same_seed_finds_the_same() -> None:
    first, second, other = Tally(), Tally(), Tally()
    for tally, seed in ((first, 3), (second, 3), (other, 4)):
        explore(SMALL, tally, seed=seed, examples=20, first=())
    assert first.held == second.held
    assert first.held != other.held


def test_a_walk_ends_when_it_is_enough_and_not_a_run_later() -> None:
    for first in ((), SWEEP):
        tally = Tally()
        explore(SMALL, tally, seed=0, examples=20, first=first, enough=lambda tally: tally.runs == 3)
        assert tally.runs == 3


def test_a_check_of_one_clause_ends_only_where_no_other_can_be_named() -> None:
    """A clause that is only about circumstances needs all the runs: any of them may be a first one without it."""
    (named,) = check(InlineAdapter(NotSticky), examples=60, clauses=["KS-2.1"]).verdicts
    assert named.outcome is Outcome.FAIL
    report = check(InlineAdapter(NotSticky), examples=60, clauses=["KS-5.2"])
    assert report.runs >= 60
    assert {verdict.outcome for verdict in report.verdicts} == {Outcome.PASS}


def test_a_sender_without_a_capability_is_not_judged_by_it() -> None:
    class Bare:
        def __init__(self, world: World) -> None:
            self._system = InlineSystem(world, InlineSender)

        def sender(self, plan: RoomPlan) -> InlineSender:
            return self._system.sender(plan)

    class BareAdapter(InlineAdapter):
        def open(self, world: World) -> Bare:  # type: ignore[override]  # less than the base class offers
            return Bare(world)

    report = check(BareAdapter(), examples=60, clauses=["KS-6.1", "KS-2.8", "KS-4.4"])
    assert {verdict.outcome for verdict in report.verdicts} == {Outcome.NOT_APPLICABLE}


def test_clauses_of_a_larger_profile_are_not_claimed() -> None:
    report = check(load_adapter("tests.mutants.seed:after_the_fix"), examples=30)
    beyond = {verdict.clause.id: verdict for verdict in report.verdicts if verdict.clause.id >= "KS-4"}
    lacking = {clause for clause, verdict in beyond.items() if verdict.outcome is Outcome.NOT_APPLICABLE}
    assert lacking == {"KS-5.1", "KS-5.2", "KS-5.3", "KS-6.4", "KS-7.1"}, "no abort(), no clear(), no workers"
    rest = [verdict for clause, verdict in beyond.items() if clause not in lacking]
    assert {verdict.outcome for verdict in rest} == {Outcome.NOT_CLAIMED}
    # They are watched all the same, and decide nothing.
    assert beyond["KS-4.3"].broken > 0
    assert not any(verdict.counts(strict=True) for verdict in rest)


def test_an_unknown_clause_is_refused() -> None:
    with pytest.raises(UnknownClause, match=r"KS-0\.0"):
        check(SMALL, clauses=["KS-0.0"])


def test_an_error_of_the_adapter_is_not_the_senders() -> None:
    class Stumbles(InlineAdapter):
        def open(self, world: World) -> InlineSystem:
            raise OSError("no such device")

    report = check(Stumbles(), clauses=["KS-1.1"])
    (verdict,) = report.verdicts
    assert verdict.outcome is Outcome.ERROR
    assert "open raised OSError: no such device" in verdict.note
    assert report.exit_code == 2, "no run of it could be made"


def test_an_answer_that_is_no_poll_value_is_an_error_with_its_name() -> None:
    class Odd(InlineSender):
        def poll(self) -> int:  # type: ignore[override]  # that is the mistake
            return 7

    with pytest.raises(AdapterError, match=r"Odd: poll\(\) answered 7"):
        run(Step(Call.OPEN), Step(Call.POLL), adapter=InlineAdapter(Odd))


def test_a_trace_is_shortened_to_what_it_needs() -> None:
    steps = (
        Step(Call.OPEN),
        Step(Call.METRIC),
        Step(Call.SEND),
        Step(Call.FAILURE_EXCEPTION),
        Step(Call.POLL, progress=Progress.NEWEST, fault=Fault(Point.CHECK, Kind.BACKEND)),
        Step(Call.POLL),
        Step(Call.METRIC),
        Step(Call.POLL),
    )
    long = Trace(Setup(chunks=((2, 1), (1,)), peers=2, dummies=1), steps)
    shown = show(InlineAdapter(NotSticky), long, "KS-2.1")
    assert shown is not None
    short = shrink(InlineAdapter(NotSticky), Example(shown.violation, long))
    assert short is not None
    assert short.violation.clause == "KS-2.1"
    assert len(short.trace.steps) == 4
    assert short.trace.setup == Setup()


def test_steps_that_make_no_sense_are_left_out() -> None:
    taken = run(Step(Call.POLL), Step(Call.RESTART), Step(Call.OPEN, 5), Step(Call.OPEN), Step(Call.OPEN))
    assert taken.steps[:2] == [Step(Call.OPEN), Step(Call.FAULTS_OVER)], "what comes after the trace is its end"


@pytest.mark.parametrize("misuse", Misuse)
def test_each_misuse_can_be_made_and_is_judged(misuse: Misuse) -> None:
    done = run(Step(Call.OPEN), Step(Call.SEND), Step(Call.SEND, misuse=misuse), setup=Setup(chunks=((2, 2),)))
    assert Step(Call.SEND, misuse=misuse) in done.steps
    assert done.observer.findings.held["KS-8.1"] >= 2
    assert done.observer.findings.violations == []


@pytest.mark.parametrize("misuse", Misuse)
def test_a_sender_that_swallows_a_misuse_is_caught(misuse: Misuse) -> None:
    class Careless(InlineSender):
        def admit(self, pages: object) -> bool:
            return False

    done = run(
        Step(Call.OPEN),
        Step(Call.SEND),
        Step(Call.SEND, misuse=misuse),
        setup=Setup(chunks=((2, 2),)),
        adapter=InlineAdapter(Careless),
    )
    assert "KS-8.1" in broken_first(done)


def test_bytes_are_really_compared() -> None:
    class WrongPage(InlineSender):
        """Sends the page beside the one that it was given."""

        def make(self, target: object, mine: object, theirs: object, last: bool) -> object:  # type: ignore[override]
            assert isinstance(mine, list)
            return super().make(target, [(page + 1) % NUM_PAGES for page in mine], theirs, last)  # type: ignore[arg-type]

    done = run(
        Step(Call.OPEN), Step(Call.SEND), Step(Call.POLL, progress=Progress.ALL), adapter=InlineAdapter(WrongPage)
    )
    assert broken_first(done) == {"KS-3.1"}
    assert "page 39 of region 0 differs" in done.observer.findings.violations[0].observed


def test_a_room_never_writes_into_the_process_that_follows_its_peer() -> None:
    """Found by this kit in the first version of the reference sender: the page ids were the old process's."""

    class Forgetful(InlineSender):
        def targets(self) -> list[object]:  # type: ignore[override]
            self.generations = {t.peer.name: t.peer.generation for t in self.plan.destinations}
            return list(super().targets())

    steps = (
        Step(Call.OPEN),
        Step(Call.KILL),
        Step(Call.RESTART),
        Step(Call.SEND),
        Step(Call.POLL, progress=Progress.ALL),
    )
    assert run(*steps).observer.findings.violations == []
    assert broken_first(run(*steps, adapter=InlineAdapter(Forgetful))) == {"KS-3.1"}


def test_a_change_that_has_nothing_to_do_with_it_is_not_blamed() -> None:
    """A sender that looks at the clock first breaks KS-3.5, whatever its caller did before."""
    report = check(InlineAdapter(DeadlineFirst), examples=500)
    failed = {verdict.clause.id for verdict in report.with_outcome(Outcome.FAIL, Outcome.FAIL_AFTER)}
    assert "KS-3.5" in failed
    assert not failed & {"KS-2.7", "KS-8.1"}


def test_every_scripted_clause_is_known_and_most_are_musts() -> None:
    report = check(SMALL, examples=500)
    passed = [verdict.clause for verdict in report.with_outcome(Outcome.PASS)]
    assert {clause.id for clause in passed} == {clause.id for clause in CLAUSES} - {"KS-6.4", "KS-7.1"}, (
        "this sender has no workers, and no peer gives up"
    )
    assert sum(clause.level is Level.MUST for clause in passed) >= 24


def test_an_error_of_the_notification_is_no_first_cause_when_a_check_has_failed_before() -> None:
    class TellsTheWrongOne(InlineSender):
        """Lets what the notification raised replace what the check had raised."""

        def tell(self, kind: NotificationKind, reason: str) -> None:
            for target in self.targets():
                try:
                    self.agent.send_notif(target.peer.name, self.notification(kind, reason))
                except self.transport_errors as error:
                    self.cause = error

    steps = (
        Step(Call.OPEN),
        Step(Call.SEND),
        Step(Call.KILL),
        Step(Call.POLL),
        Step(Call.FAILURE_EXCEPTION),
    )
    setup = Setup(drops_metadata=True)
    done = run(*steps, setup=setup, adapter=InlineAdapter(TellsTheWrongOne))
    assert broken_first(done) == {"KS-2.3"}
    assert run(*steps, setup=setup).observer.findings.violations == []
