"""What mutmut runs once for each mutant of the reference sender: the conformance kit, and nothing else.

pytest collects this file only where it is named: `make test` checks the unchanged sender elsewhere.
"""

from __future__ import annotations

import logging
from typing import Final

import pytest

from kvsender_nixl.adapter import ReferenceAdapter, adapter, latch
from kvsender_spec.clauses import claimed
from kvsender_spec.kit.check import check
from kvsender_spec.observe.attribution import OWN_ERROR, Tally

SEED: Final = 0
EXAMPLES: Final = {adapter: 500, latch: 60}
"""Half of the ci budget; and for the other profile enough to see its clauses, because it shares all but two lines."""


@pytest.mark.parametrize("sender", EXAMPLES, ids=lambda sender: sender.profile.value)
def test_the_kit_finds_nothing(sender: ReferenceAdapter) -> None:
    # No mutant changes what an import does, and KS-1.5 imports torch once more to see it.
    judged = {clause.id for clause in claimed(sender.profile)} - {"KS-1.5"}

    def stop_at_the_first(found: Tally) -> None:
        # Most mutants break a clause in one of the first runs. What else they break would only cost time.
        broken = found.broken.keys() & (judged | {OWN_ERROR})
        assert not broken, [str(example.violation) for example in (*found.first.values(), *found.later.values())]
        assert not found.errors, found.errors[0].message

    logging.disable(logging.CRITICAL)  # a traceback for each injected error is a third of the time
    report = check(sender, seed=SEED, examples=EXAMPLES[sender], clauses=judged, strict=True, on_run=stop_at_the_first)
    assert report.exit_code == 0
