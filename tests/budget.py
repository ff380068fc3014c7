"""How long the tests let a check of a right sender run: ``make test`` within quick, ``make test-all`` within ci."""

from __future__ import annotations

import os
from typing import Final

from kvsender_spec.kit.check import Budget

RUNS: Final = Budget(os.environ.get("KVSENDER_TEST_BUDGET", "quick")).examples
