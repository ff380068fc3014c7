"""The histories of tests/histories, each against its row of the table."""

from __future__ import annotations

import pytest
from tests.histories.table import TABLE
from tests.observe.runs import FILES, files

from kvsender_spec.clauses import CLAUSES
from kvsender_spec.history.ndjson import check
from kvsender_spec.observe.observer import observe
from kvsender_spec.observe.verdict import Outcome, Verdict

MOST_EVENTS = 50


def verdicts(name: str) -> dict[str, Verdict]:
    return {verdict.clause.id: verdict for verdict in observe(files()[name]).verdicts()}


def test_every_file_has_a_row_and_every_clause_both_files() -> None:
    assert set(FILES) == set(TABLE)
    assert {f"ks-{clause.id[3:]}-{what}" for clause in CLAUSES for what in ("breaks", "holds")} <= set(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_a_history_is_judged_as_the_table_says(name: str) -> None:
    row, found = TABLE[name], verdicts(name)
    assert {clause: verdict.after for clause, verdict in found.items() if verdict.outcome.failed} == row.fails
    for clause, after in row.fails.items():
        assert found[clause].outcome is (Outcome.FAIL_AFTER if after else Outcome.FAIL)
    for clause in row.passes:
        assert found[clause].outcome is Outcome.PASS, clause
    undecided = {clause: found[clause] for clause in row.undecided}
    assert all(verdict.outcome is Outcome.INCONCLUSIVE for verdict in undecided.values())
    assert {clause: verdict.note for clause, verdict in undecided.items()} == row.undecided


@pytest.mark.parametrize("name", TABLE)
def test_the_first_violation_is_at_the_event_that_the_table_names(name: str) -> None:
    row, violations = TABLE[name], observe(files()[name]).findings.violations
    assert (violations[0].seq if violations else -1) == row.at
    assert all(violation.seq == row.at and not violation.after for violation in violations[: len(row.fails)])


@pytest.mark.parametrize("name", TABLE)
def test_a_history_is_small_and_well_formed(name: str) -> None:
    check(files()[name])
    assert len(files()[name].events) <= MOST_EVENTS
