"""Senders that were written from the contract alone, by somebody who had not seen the kit.

Right ones in ten styles, which no verdict may fail; wrong ones, each with one bug, of which the report has to name the
clause. ``python -m tests.foreign.blame`` prints what the reports say of all of them.
"""

from __future__ import annotations

import pytest
from tests.budget import share
from tests.foreign import RIGHT, WRONG, right_kinds

from kvsender_spec.faults import Fault, Kind, Point
from kvsender_spec.kit.adapter import Adapter
from kvsender_spec.kit.check import Budget, check
from kvsender_spec.kit.run.execute import run_trace
from kvsender_spec.kit.search.sweep import SWEEP
from kvsender_spec.observe.verdict import Outcome
from kvsender_spec.trace import Call, Misuse, Setup, Step, Trace

IN_SHORT = (
    "narrow",
    "err-is-running",
    "resurrecting",
    "larger-wins",
    "last-chunk-only",
    "frees-flying",
    "late-abort",
    "poisoned",
    "tells-twice",
    "frame-kills",
    "lost-abort",
    "dropping",
    "deregistering",
    "refetching",
    "registration_leak",
    "last_look",
    "oldest_only",
    "old_clears_new",
    "keeps_posting",
)
"""One of each family, for every test run; the command takes all."""


def short(adapter: Adapter) -> str:
    """Its name without the prefix that all have."""
    return adapter.name.removeprefix("foreign-")


@pytest.mark.parametrize(("number", "adapter"), list(enumerate(RIGHT)), ids=[adapter.name for adapter in RIGHT])
def test_a_right_sender_is_failed_by_no_clause(number: int, adapter: Adapter) -> None:
    traces, runs = share(number)
    report = check(adapter, sweep=traces, examples=runs)
    assert [(v.clause.id, v.text, v.evidence) for v in report.verdicts if v.outcome.failed] == []
    assert report.errors == ()
    unseen = {v.clause.id for v in report.verdicts if v.outcome is Outcome.INCONCLUSIVE}
    # One that posts in poll() meets an interrupt of a post there too rarely; a part of the sweep has fewer.
    assert unseen <= {"KS-1.4"} or len(traces) < len(SWEEP)


@pytest.mark.parametrize(
    ("adapter", "own"), [pair for pair in WRONG if pair[0].name.removeprefix("foreign-") in IN_SHORT]
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_wrong_sender_is_blamed_on_its_clause(adapter: Adapter, own: str) -> None:
    report = check(adapter, examples=Budget.QUICK.examples)
    assert own in {verdict.clause.id for verdict in report.verdicts if verdict.outcome.failed}
    assert report.exit_code == 1


def test_the_short_list_names_senders() -> None:
    assert set(IN_SHORT) <= {short(adapter) for adapter, _ in WRONG}


def test_a_mistake_in_a_room_that_the_same_call_finds_failed_is_like_any_send_after_a_failure() -> None:
    mistake = Step(Call.SEND, misuse=Misuse.PAGE_AGAIN)
    trace = Trace(Setup(((1, 1),)), (Step(Call.OPEN), Step(Call.SEND), Step(Call.WAIT_LONG), mistake, Step(Call.POLL)))
    for adapter in (right_kinds.curious, right_kinds.deferred):
        assert run_trace(adapter, trace).observer.findings.violations == []


def test_a_worker_may_notice_a_deadline_between_two_checks_the_second_of_which_is_an_error() -> None:
    (worked,) = (adapter for adapter in RIGHT if short(adapter) == "worked")
    steps = (
        *(Step(Call.OPEN), Step(Call.OPEN, 1), Step(Call.SEND, 1), Step(Call.SEND), Step(Call.SEND)),
        Step(Call.POLL, 1, fault=Fault(Point.CHECK, Kind.BACKEND)),
        Step(Call.WAIT_LONG),
        Step(Call.POLL, fault=Fault(Point.CHECK, Kind.RETURNS_ERR, 1)),
        Step(Call.FAILURE_EXCEPTION),
    )
    assert run_trace(worked, Trace(Setup(((1, 1), (1, 1, 1))), steps)).observer.findings.violations == []


def test_a_pump_may_ask_about_every_transfer_that_is_held() -> None:
    aborted = (Step(Call.OPEN), Step(Call.SEND), Step(Call.ABORT), Step(Call.CLEAR))
    trace = Trace(Setup(((1,),), churn=True), (*aborted * 500, Step(Call.WORK)))
    assert run_trace(right_kinds.fresh, trace).observer.findings.violations == []
