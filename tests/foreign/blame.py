"""What the reports say of the foreign senders: ``python -m tests.foreign.blame [quick|ci]``.

Exit codes: 0 no right sender is failed, 1 one is.
"""

from __future__ import annotations

import logging
import sys

from tests.foreign import RIGHT, WRONG

from kvsender_spec.kit.check import Budget, check


def main() -> None:
    """Check all of them, and print a line each."""
    logging.disable(logging.CRITICAL)
    budget = Budget(*sys.argv[1:2] or ("quick",))
    wrongly = caught = first = 0
    for adapter in RIGHT:
        report = check(adapter, examples=budget.examples)
        failed = [verdict.clause.id for verdict in report.verdicts if verdict.outcome.failed]
        wrongly += bool(failed)
        print(f"right {adapter.name}: {' '.join(failed) or 'nothing fails'}", flush=True)
    for adapter, own in WRONG:
        groups = check(adapter, examples=budget.examples).groups
        causes = [group.cause.clause.id for group in groups]
        failed = [verdict.clause.id for group in groups for verdict in (group.cause, *group.consequences)]
        caught += own in failed
        first += causes[:1] == [own]
        print(f"wrong {adapter.name} {own}: {' '.join(failed) or 'MISSED'}", flush=True)
    print(f"{budget.value}: {wrongly} of {len(RIGHT)} right senders failed;", end=" ")
    print(f"of {len(WRONG)} wrong ones {caught} caught by their own clause, {first} with it first")
    sys.exit(1 if wrongly else 0)


if __name__ == "__main__":
    main()
