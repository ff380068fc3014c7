"""Mutates the tables: every single change of them, and which layer notices it. Writes ``docs/records/spec-mutants.md``.

``python -m kvsender_spec.formal.mutation_run [PAGE]`` runs every layer on every changed table that it can run on, and
ends with 1 if a change survives that ``EQUIVALENT`` does not explain, or if it explains one that does not survive; with
2 where z3, SPIN or TLC is missing.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from kvsender_spec.formal.engines.engine import PEERS_ANSWER, PEERS_SILENT, EngineFailed, ToolMissing
from kvsender_spec.formal.engines.spin import run_spin
from kvsender_spec.formal.engines.tlc import run_tlc
from kvsender_spec.formal.explicit.liveness import live
from kvsender_spec.formal.explicit.search import explore_generated
from kvsender_spec.formal.model.state import Bounds
from kvsender_spec.formal.mutate import Mutant, mutants
from kvsender_spec.formal.prove import ENGINE_TIMEOUT_S, Engine, Run, require
from kvsender_spec.formal.rules import Rules, ill_formed, undecided
from kvsender_spec.formal.smt import proof

TABLES: Final = "tables"
STATES: Final = "states"
RUNS: Final = "fair runs"
ANY_BOUND: Final = "any bound"
TLA: Final = "TLA+"
PROMELA: Final = "Promela"
LAYERS: Final = (TABLES, STATES, RUNS, ANY_BOUND, TLA, PROMELA)
OTHERS: Final[Mapping[str, Run]] = {TLA: run_tlc, PROMELA: run_spin}
BOUNDS: Final = (Bounds(2, 1), Bounds(2, 2))

_ORDER: Final = "a handle that has raised is not DONE, so the two guards exclude each other"
_ALIKE: Final = (
    "a caller does the same on WaitingForInput and on Transferring: the contract tells apart what it acts on"
)
EQUIVALENT: Final[Mapping[str, str]] = {
    "observe in idle: with release": "a room in idle has no handles: it asks nothing, and there is nothing to release",
    "observe in sending if error_seen: after the next row": _ORDER,
    "answer in idle: reply transferring": _ALIKE,
    "answer in sending: reply waiting": _ALIKE,
    "answer in failed: reply waiting": _ALIKE,
    "answer in sticky_failed: with quarantine": "what is not quiesced was quarantined when Failed was first reported",
}
"""Changes that change nothing that the contract speaks of, and why."""


@dataclass(frozen=True, slots=True)
class MutationRun:
    """One changed table: the layers that notice it, each with what it says."""

    what: str
    noticed: Mapping[str, str]


def _explored(rules: Rules, *, every: bool) -> Iterator[tuple[str, str]]:
    """Without ``every``, no more than one answer: the first."""
    for bounds in BOUNDS:
        result, graph = explore_generated(rules, bounds, keep_edges=True, first_only=not every)
        if result.found:
            yield STATES, f"{result.found[0].clause} at {bounds}"
            if not every:
                return
        missed = next((life.found for life in live(graph, necessity=False) if life.found is not None), None)
        if missed is not None:
            yield RUNS, f"{missed.clause} at {bounds}"
        if result.found or missed is not None:
            return


def _unproved(rules: Rules) -> Iterator[tuple[str, str]]:
    failures = proof.prove(rules).failures
    if failures:
        yield ANY_BOUND, failures[0].lemma


def _elsewhere(rules: Rules, layer: str) -> Iterator[tuple[str, str]]:
    """What another program makes of the same model: of its states, and then of its fair runs."""
    for bounds in BOUNDS:
        for fair in (None, PEERS_ANSWER, PEERS_SILENT):
            with TemporaryDirectory() as name:
                result = OTHERS[layer](rules, bounds, Path(name), ENGINE_TIMEOUT_S, fair=fair)
            if result.violations:
                yield layer, f"{result.violations[0].property} at {bounds}"
                return


def run_mutation(mutant: Mutant, *, every: bool) -> MutationRun:
    """Who notices it. With ``every`` it is shown to every layer that it can be shown to, not only until one does.

    The programs that are not Python take seconds for each table. They are shown what the rules for tables let pass.
    """
    noticed: dict[str, str] = {}
    reason = ill_formed(mutant.rules)
    if reason is not None:
        noticed[TABLES] = reason
    if reason is None or (every and not undecided(mutant.rules)):
        noticed |= dict(_explored(mutant.rules, every=every))
        noticed |= dict(_unproved(mutant.rules)) if every else {}
    if reason is None and every:
        noticed |= {layer: said for other in OTHERS for layer, said in _elsewhere(mutant.rules, other)}
    return MutationRun(mutant.what, noticed)


def unexplained(runs: Sequence[MutationRun]) -> list[str]:
    """What is wrong with the runs, in words: a survivor without a reason, a reason without a survivor."""
    survivors = [run.what for run in runs if not run.noticed]
    wrong = [f"survives, and nothing says why: {what}" for what in survivors if what not in EQUIVALENT]
    return wrong + [f"does not survive: {what}" for what in EQUIVALENT if what not in survivors]


def page(runs: Sequence[MutationRun]) -> str:
    """``docs/records/spec-mutants.md``."""
    first = Counter(next(iter(run.noticed), "nobody") for run in runs)
    beyond = [run for run in runs if TABLES not in run.noticed]
    also = Counter(layer for run in runs if TABLES in run.noticed for layer in run.noticed if layer != TABLES)
    again = sum(1 for run in runs if TABLES in run.noticed and len(run.noticed) > 1)
    others = (ANY_BOUND, *OTHERS)
    lines = [
        GENERATED,
        "",
        "# The mutants of the specification",
        "",
        f"Every single change of the tables in `spec/kvsender_spec/machine.py`: {len(runs)} changed tables. A row",
        "is taken out, moved behind its rival, or has another event, guard, reply or state, one effect more or less; a",
        "cell leads elsewhere; a forbidden pair is allowed; a set of handle states has one member more or less.",
        "",
        "| first noticed by | changes |",
        "| --- | --- |",
        *(f"| {layer} | {first[layer]} |" for layer in (*LAYERS, "nobody")),
        "",
        f"The rules that a table must satisfy to be one are strict, and notice most. Of the {first[TABLES]} that they",
        f"notice, another layer notices {again} again where they can be explored at all: {also[STATES]} break a",
        f"property of the states, {also[RUNS]} have a fair run that never ends, and z3 cannot prove {also[ANY_BOUND]}.",
        "The layers are not the same check twice. SPIN and TLC are shown what the rules for tables let pass.",
        "",
        "## Noticed by nobody",
        "",
        *_table(("change", "why it changes nothing"), ((what, why) for what, why in EQUIVALENT.items())),
        "",
        "## Noticed by the model, and not by the tables",
        "",
        "What each engine names first: a clause or a property, and for z3 a lemma or a ranking that it cannot prove.",
        "",
        *_table(
            ("change", "layer", "what it breaks", *(f"{layer}: {_count(beyond, layer)}" for layer in others)),
            (
                (run.what, *next(iter(run.noticed.items())), *(run.noticed.get(layer, "") for layer in others))
                for run in beyond
                if run.noticed
            ),
        ),
        "",
    ]
    return "\n".join(lines)


GENERATED: Final = "<!-- Written by `python -m kvsender_spec.formal.mutation_run docs/records/spec-mutants.md`. -->"


def _count(runs: Sequence[MutationRun], layer: str) -> int:
    return sum(1 for run in runs if layer in run.noticed)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(head) + " |",
        "|" + " --- |" * len(head),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def main(arguments: Sequence[str]) -> int:
    try:
        require(Engine)
        with ProcessPoolExecutor() as processes:
            runs = list(processes.map(partial(run_mutation, every=True), mutants(), chunksize=8))
    except (ToolMissing, EngineFailed) as error:
        print(error, file=sys.stderr)
        return 2
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
