"""The reference receiver keeps KS-9."""

from __future__ import annotations

import pytest

from kvsender_nixl.receiver_adapter import adapter
from kvsender_spec.clauses import TARGET_CLAUSES
from kvsender_spec.kit.check import check
from kvsender_spec.observe.verdict import Outcome

NOT_APPLICABLE = {"KS-9.3", "KS-9.4", "KS-9.10", "KS-9.13"}
"""It is no holder, its caller sends the announcement, and it has no prefix cache."""


@pytest.mark.parametrize("seed", [0, 1])
def test_the_reference_receiver_keeps_every_clause_that_applies(seed: int) -> None:
    report = check(adapter, seed=seed, examples=400)
    passed = {verdict.clause.id for verdict in report.with_outcome(Outcome.PASS)}
    assert passed == {clause.id for clause in TARGET_CLAUSES} - NOT_APPLICABLE
    assert report.exit_code == 0
