"""The mutants of the tables: no single change of them goes unnoticed without a reason."""

from __future__ import annotations

from pathlib import Path

from tests.formal.tools import needs_engines

from kvsender_spec.formal.mutate import mutants
from kvsender_spec.formal.mutation_run import EQUIVALENT, LAYERS, MutationRun, run_mutation, unexplained
from kvsender_spec.formal.rules import ill_formed
from kvsender_spec.formal.targets import mutation_run as targets
from kvsender_spec.formal.targets.mutate import target_mutants

PAGE = Path(__file__).parents[2] / "docs" / "records" / "spec-mutants.md"


def test_every_change_of_the_tables_is_noticed_or_explained() -> None:
    runs = [run_mutation(mutant, every=False) for mutant in mutants()]
    assert len({run.what for run in runs}) == len(runs) > 900
    assert unexplained(runs) == []
    assert {next(iter(run.noticed)) for run in runs if run.noticed} == set(LAYERS[:3])
    page = PAGE.read_text(encoding="utf-8")
    assert f": {len(runs)} changed tables." in page
    for run in runs:
        for layer, what in run.noticed.items():
            assert layer == LAYERS[0] or f"| {run.what} | {layer} | {what} |" in page, run
    for what, why in EQUIVALENT.items():
        assert f"| {what} | {why} |" in page


@needs_engines
def test_a_change_that_is_no_sender_is_noticed_by_every_layer_that_is_shown_it() -> None:
    run = run_mutation(next(mutant for mutant in mutants() if ill_formed(mutant.rules) is None), every=True)
    assert tuple(run.noticed) == LAYERS[1:]
    assert f"| {run.what} | {LAYERS[1]} | {run.noticed[LAYERS[1]]} | " in PAGE.read_text(encoding="utf-8")
    elsewhere = " | ".join(run.noticed[layer] for layer in LAYERS[3:])
    assert f" | {elsewhere} |\n" in PAGE.read_text(encoding="utf-8")


def test_a_survivor_without_a_reason_and_a_reason_without_a_survivor_are_told() -> None:
    survivors = [MutationRun(what, {}) for what in EQUIVALENT]
    assert unexplained([*survivors, MutationRun("a new one", {})]) == ["survives, and nothing says why: a new one"]
    first, *rest = survivors
    assert unexplained([*rest, MutationRun(first.what, {"states": "KS-2.1 at 2x1"})]) == [
        f"does not survive: {first.what}"
    ]


# ---------------------------------------------------------------------------------------------- the target's tables

TARGETS_PAGE = PAGE.with_name("target-mutants.md")


def test_every_change_of_the_targets_tables_is_noticed_or_explained() -> None:
    runs = [targets.run_target_mutation(mutant, every=False) for mutant in target_mutants()]
    assert len({run.what for run in runs}) == len(runs) > 900
    assert targets.unexplained(runs) == []
    page = TARGETS_PAGE.read_text(encoding="utf-8")
    assert f": {len(runs)} changed tables." in page
    for what, why in targets.EQUIVALENT.items():
        assert f"| {what} | {why} |" in page


def test_the_page_says_what_a_target_then_does_to_its_initiators() -> None:
    """A sample: all of it takes minutes."""
    page = TARGETS_PAGE.read_text(encoding="utf-8")
    for what in (
        "hold, ended in exposed: leads to drained",
        "hold, freed in drained: leads to never",
        "failure in done: without ask",
        "abort in waiting: hold's event proved",
        "time in waiting if all_confirmed: no such row",
    ):
        run = targets.run_target_mutation(next(one for one in target_mutants() if one.what == what), every=True)
        assert len(run.noticed) > 1, what
        cells = (run.what, *(run.noticed.get(layer, "") for layer in targets.LAYERS[1:]))
        assert f"| {' | '.join(cells)} |\n" in page


def test_an_unexplained_survivor_among_the_targets_mutants_is_told() -> None:
    survivors = [targets.TargetMutation(what, {}) for what in targets.EQUIVALENT]
    assert targets.unexplained(survivors) == []
    assert targets.unexplained([*survivors, targets.TargetMutation("a new one", {})]) == [
        "survives, and nothing says why: a new one"
    ]
    assert targets.unexplained(survivors[1:]) == [f"does not survive: {survivors[0].what}"]
