"""How long the tests let a check of a right sender run: ``make test`` within quick, ``make test-all`` within ci."""

from __future__ import annotations

import os
from typing import Final

from kvsender_spec.kit.check import Budget
from kvsender_spec.kit.search.sweep import SWEEP
from kvsender_spec.trace import Trace

BUDGET: Final = Budget(os.environ.get("KVSENDER_TEST_BUDGET", "quick"))
RUNS: Final = BUDGET.examples


def share(number: int, sweep: tuple[Trace, ...] = SWEEP, among: int = 3) -> tuple[tuple[Trace, ...], int]:
    """Of many right senders each gets a part of the sweep and of the runs, one ``among`` so many: together they get all
    of it, and ``make foreign`` and ``make test-all`` give all of it to each."""
    return (sweep, RUNS) if BUDGET is not Budget.QUICK else (sweep[number % among :: among], RUNS // among)
