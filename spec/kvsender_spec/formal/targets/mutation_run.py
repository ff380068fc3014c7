"""Mutates the target's tables: every single change, and who notices it. Writes ``docs/records/target-mutants.md``.

``python -m kvsender_spec.formal.targets.mutation_run [PAGE]`` ends with 1 if a change survives that ``EQUIVALENT`` does
not explain, or if it explains one that does not survive; with 2 where z3 is missing.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from kvsender_spec.formal.engines.engine import ToolMissing
from kvsender_spec.formal.smt.proof import require_z3
from kvsender_spec.formal.targets.mutate import TargetMutant, target_mutants
from kvsender_spec.formal.targets.rules import Target, ill_formed, undecided
from kvsender_spec.formal.targets.search import GOALS, INITIATORS, broken_in, stranded_in
from kvsender_spec.formal.targets.world import World

TABLES: Final = "tables"
STATES: Final = "states"
IN_THE_END: Final = "in the end"
ANY_NUMBER: Final = "any number"
LAYERS: Final[tuple[str, ...]] = (TABLES, STATES, IN_THE_END, ANY_NUMBER)

_NEVER_SO: Final = "no hold of a request that has ended may be announced: HOLD_NEXT says never, and nothing is told"
EQUIVALENT: Final[Mapping[str, str]] = {
    "announce in done: allowed, with event announced": _NEVER_SO,
    "announce in failed: allowed, with event announced": _NEVER_SO,
}
"""Changes that change nothing that a target does, and why."""


@dataclass(frozen=True, slots=True)
class TargetMutation:
    """One changed table: the layers that notice it, each with what it says."""

    what: str
    noticed: Mapping[str, str]


def _explored(target: Target) -> Iterator[tuple[str, str]]:
    """With one initiator, and with two where that shows nothing."""
    for initiators in range(1, INITIATORS + 1):
        world = World(target, initiators)
        broken = broken_in(world)
        if broken:
            yield STATES, broken
            return
        missed = [goal.text for goal in GOALS if stranded_in(world, goal, goal.needs)]
        if missed:
            yield IN_THE_END, missed[0]
            return


def _unproved(target: Target) -> Iterator[tuple[str, str]]:
    from kvsender_spec.formal.smt.target import unproved

    _, failed = unproved(target, first_only=True)
    if failed:
        yield ANY_NUMBER, failed[0]


def run_target_mutation(mutant: TargetMutant, *, every: bool) -> TargetMutation:
    """Who notices it. With ``every`` it is shown to every layer that it can be shown to, not only until one does."""
    reason = ill_formed(mutant.target)
    noticed = {} if reason is None else {TABLES: reason}
    if reason is None or (every and undecided(mutant.target) is None):
        noticed |= dict(_explored(mutant.target))
        noticed |= dict(_unproved(mutant.target))
    return TargetMutation(mutant.what, noticed)


def unexplained(runs: Sequence[TargetMutation]) -> list[str]:
    """What is wrong with the runs, in words: a survivor without a reason, a reason without a survivor."""
    survivors = [run.what for run in runs if not run.noticed]
    wrong = [f"survives, and nothing says why: {what}" for what in survivors if what not in EQUIVALENT]
    return wrong + [f"does not survive: {what}" for what in EQUIVALENT if what not in survivors]


GENERATED: Final = (
    "<!-- Written by `python -m kvsender_spec.formal.targets.mutation_run docs/records/target-mutants.md`. -->"
)


def page(runs: Sequence[TargetMutation]) -> str:
    """``docs/records/target-mutants.md``."""
    counts = Counter(layer for run in runs for layer in run.noticed)
    again = [run for run in runs if len(run.noticed) > (TABLES in run.noticed)]
    lines = [
        GENERATED,
        "",
        "# The mutants of the target's tables",
        "",
        "Every single change of the tables in `spec/kvsender_spec/target_machine.py`:"
        f" {len(runs)} changed tables. A row",
        "is taken out, moved behind its rival, or has another event, guard, reply or state, one effect more or less; a",
        "cell leads elsewhere; a forbidden pair is allowed.",
        "",
        "| noticed by | changes |",
        "| --- | --- |",
        *(f"| {layer} | {counts[layer]} |" for layer in LAYERS),
        f"| nobody | {sum(not run.noticed for run in runs)} |",
        "",
        "The rules that a table must satisfy to be one pin every cell and every row, so they notice nearly all. The",
        f"other layers have none of these rules; they notice {len(again)} changes by what a target then does to its",
        "initiators. Most of the rest changes nothing there: an event where it leads nowhere, a cell that no row",
        "reaches, an effect that happens once anyway; or it is about what the model has not (leases, counts, replies",
        "to the owner other than poll()'s).",
        "",
        "## Noticed by nobody",
        "",
        *_table(("change", "why it changes nothing"), ([what, why] for what, why in EQUIVALENT.items())),
        "",
        "## Noticed by what a target does",
        "",
        *_table(
            ("change", STATES, IN_THE_END, ANY_NUMBER),
            ([run.what, *(run.noticed.get(layer, "") for layer in LAYERS[1:])] for run in again),
        ),
        "",
    ]
    return "\n".join(lines)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(head) + " |",
        "|" + " --- |" * len(head),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def main(arguments: Sequence[str]) -> int:
    try:
        require_z3()
    except ToolMissing as error:
        print(error, file=sys.stderr)
        return 2
    with ProcessPoolExecutor() as processes:
        runs = list(processes.map(partial(run_target_mutation, every=True), target_mutants(), chunksize=8))
    wrong = unexplained(runs)
    print(*wrong, sep="\n", end="\n" if wrong else "")
    survivors = sum(1 for run in runs if not run.noticed)
    noticed = len(runs) - survivors
    print(f"{len(runs)} changed tables: {noticed} noticed, {survivors} survive, {len(wrong)} unexplained")
    if arguments and not wrong:
        Path(arguments[0]).write_text(page(runs), encoding="utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
