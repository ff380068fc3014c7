"""What is told with another clause, because that one explains it."""

from __future__ import annotations

import pytest

from kvsender_spec.faults import Fault, Kind, Point
from kvsender_spec.kit.consequences import note_consequences
from kvsender_spec.observe.verdict import Evidence, Violation
from kvsender_spec.trace import Call, Setup, Step, Trace

OPEN, SEND, POLL, OVER = Step(Call.OPEN), Step(Call.SEND), Step(Call.POLL), Step(Call.FAULTS_OVER)
HANGS = Trace(Setup(), (OPEN, SEND, OVER, POLL, POLL, POLL))
HANGS_AFTER_A_FAULT = Trace(Setup(), (OPEN, SEND, Step(Call.POLL, fault=Fault(Point.CHECK, Kind.BACKEND)), OVER, POLL))
HANGS_SILENT = Trace(Setup(silent=True), HANGS.steps)
HANGS_BEHIND_ANOTHER = Trace(
    Setup(((1,), (1,)), silent=True), (OPEN, Step(Call.OPEN, 1), SEND, Step(Call.SEND, 1), OVER, POLL)
)
WHOLE, CACHED = Trace(Setup(), (OPEN, SEND, POLL)), Trace(Setup(cached=1), (OPEN, SEND, POLL))
ENDS = frozenset({"KS-3.4"})


def noted(traces: dict[str, Trace], alongside: dict[str, frozenset[str]] | None = None) -> dict[str, str]:
    after: dict[str, str] = {}
    evidence = {clause: Evidence(Violation(clause, "", ""), trace=trace) for clause, trace in traces.items()}
    note_consequences(evidence, after, alongside or {})
    return after


@pytest.mark.parametrize(
    ("hangs", "told"),
    [
        (HANGS, {"KS-6.2": "KS-3.4"}),
        (HANGS_AFTER_A_FAULT, {}),
        (HANGS_SILENT, {}),
        (HANGS_BEHIND_ANOTHER, {"KS-3.4": "KS-6.2"}),
    ],
)
def test_a_starving_room_is_a_hang_only_where_rooms_hang_anyway(hangs: Trace, told: dict[str, str]) -> None:
    assert noted({"KS-3.4": hangs, "KS-6.2": WHOLE}, {"KS-6.2": ENDS}) == told


def test_what_broke_elsewhere_as_well_is_no_consequence() -> None:
    assert noted({"KS-3.4": HANGS, "KS-6.2": WHOLE}) == {}


@pytest.mark.parametrize(("early", "told"), [(WHOLE, {"KS-3.2": "KS-3.1"}), (CACHED, {}), (HANGS_AFTER_A_FAULT, {})])
def test_a_room_without_pages_is_apart_unless_any_success_comes_too_early(early: Trace, told: dict[str, str]) -> None:
    assert noted({"KS-3.1": early, "KS-3.2": WHOLE}, {"KS-3.2": frozenset({"KS-3.1"})}) == told


def test_a_room_that_fails_for_no_reason_shows_a_cause_and_holds_somebody_responsible() -> None:
    traces = dict.fromkeys(("KS-2.7", "KS-2.8", "KS-3.5"), WHOLE)
    assert noted(traces) == {"KS-2.7": "KS-3.5", "KS-2.8": "KS-3.5"}
    late = Trace(Setup(), (OPEN, Step(Call.WAIT_LONG), SEND, POLL))
    assert noted(traces | {"KS-3.5": late, "KS-8.1": late}) == {"KS-8.1": "KS-3.5"}, "the others do without the wait"


def test_with_a_wrong_cause_the_wrong_one_is_held_responsible() -> None:
    assert noted(dict.fromkeys(("KS-2.3", "KS-2.4", "KS-2.8"), WHOLE)) == {"KS-2.8": "KS-2.3"}


def test_pages_that_are_free_too_early_only_in_doubt_are_in_doubt() -> None:
    both = {"KS-4.1": HANGS_AFTER_A_FAULT, "KS-4.4": HANGS_AFTER_A_FAULT}
    assert noted(both, {"KS-4.1": frozenset({"KS-4.4"})}) == {"KS-4.1": "KS-4.4"}
    assert noted(both, {"KS-4.4": frozenset({"KS-4.1"})}) == {}, "they are free too early without a doubt as well"


ABORTED = Trace(Setup(), (OPEN, SEND, Step(Call.ABORT)))
CLEARED = Trace(Setup(), (OPEN, SEND, Step(Call.CLEAR)))


@pytest.mark.parametrize(("trace", "cause"), [(ABORTED, "KS-5.1"), (CLEARED, "KS-5.2")])
def test_a_sender_whose_answer_changes_tells_the_peer_of_it(trace: Trace, cause: str) -> None:
    def noted_with(observed: str, told: Trace) -> dict[str, str]:
        after: dict[str, str] = {}
        evidence = {
            "KS-6.1": Evidence(Violation("KS-6.1", "", observed), trace=told),
            cause: Evidence(Violation(cause, "", ""), trace=trace),
        }
        note_consequences(evidence, after, {})
        return after

    assert noted_with("it was told failure as well", trace) == {"KS-6.1": cause}
    assert noted_with("it was told failure as well", WHOLE) == {}, "it is told twice without being given up"
    assert noted_with("it was told nothing of the end", trace) == {}
