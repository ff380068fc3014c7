"""What the reports say of the right senders and readers and of the foreign wrong ones: ``make foreign``.

Exit codes: 0 no right one is failed, 1 one is.
"""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer
from tests.foreign import RIGHT, RIGHT_READERS, WRONG, WRONG_READERS
from tests.mutants.inline_reader import ReaderAdapter
from tests.mutants.pool import each
from tests.mutants.reader_pump import adapter as pump
from tests.mutants.registry import CORRECT

from kvsender_nixl.adapter import adapter as reference
from kvsender_nixl.reader_adapter import adapter as reference_reader
from kvsender_spec.kit.adapter import Adapter
from kvsender_spec.kit.check import Budget, check

CONTROLS = (reference, *CORRECT, *RIGHT, reference_reader, ReaderAdapter(), pump, *RIGHT_READERS)
"""Every right sender and reader there is: no verdict may fail one."""
WRONG_ONES = (*WRONG, *WRONG_READERS)
SENDERS: tuple[Adapter, ...] = (*CONTROLS, *(adapter for adapter, _ in WRONG_ONES))


def blamed(wanted: tuple[int, Budget, int]) -> list[str]:
    """The clauses that fail, in the report's order, and errors. ``wanted``: the number of the sender, budget, seed."""
    number, budget, seed = wanted
    logging.disable(logging.CRITICAL)
    report = check(SENDERS[number], examples=budget.examples, seed=seed)
    failed = [v.clause.id for group in report.groups for v in (group.cause, *group.consequences)]
    return [*failed, *(f"error: {error.message}" for error in report.errors)]


def main(
    budget: Annotated[Budget, typer.Option(help="How many runs a check may take.")] = Budget.QUICK,
    seed: Annotated[list[int] | None, typer.Option(help="Of every check; more than one for the right ones.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    controls: Annotated[bool, typer.Option(help="The right ones only.")] = False,
) -> None:
    """Check all of them, and print a line each."""
    seeds = seed or [0]
    wanted = [(n, budget, number) for n in range(len(CONTROLS)) for number in seeds]
    wrongly = set()
    for (n, _, number), found in zip(wanted, each(blamed, wanted, jobs=jobs), strict=True):
        wrongly.update([n] if found else [])
        print(f"right {CONTROLS[n].name}, seed {number}: {' '.join(found) or 'nothing fails'}", flush=True)
    caught = first = 0
    wrong = () if controls else WRONG_ONES
    last = [(len(CONTROLS) + n, budget, seeds[0]) for n in range(len(wrong))]
    for (adapter, own), found in zip(wrong, each(blamed, last, jobs=jobs), strict=True):
        caught += own in found
        first += found[:1] == [own]
        print(f"wrong {adapter.name} {own}: {' '.join(found) or 'MISSED'}", flush=True)
    print(
        f"{budget.value}, seeds {' '.join(map(str, seeds))}: {len(wrongly)} of {len(CONTROLS)} right ones failed",
        end="",
    )
    print(f"; of {len(wrong)} wrong ones {caught} caught by their own clause, {first} with it first" if wrong else "")
    sys.exit(1 if wrongly else 0)


if __name__ == "__main__":
    typer.run(main)
