"""The tables on trial: no single change of them goes unnoticed without a reason."""

from __future__ import annotations

from pathlib import Path

from tests.formal.tools import needs_engines

from kvsender_spec.formal.mutate import mutants
from kvsender_spec.formal.rules import ill_formed
from kvsender_spec.formal.trial import EQUIVALENT, LAYERS, Trial, judge, unexplained

PAGE = Path(__file__).parents[2] / "docs" / "spec-mutants.md"


def test_every_change_of_the_tables_is_noticed_or_explained() -> None:
    trials = [judge(mutant, every=False) for mutant in mutants()]
    assert len({trial.what for trial in trials}) == len(trials) > 900
    assert unexplained(trials) == []
    assert {next(iter(trial.noticed)) for trial in trials if trial.noticed} == set(LAYERS[:3])
    page = PAGE.read_text(encoding="utf-8")
    assert f": {len(trials)} changed tables." in page
    for trial in trials:
        for layer, what in trial.noticed.items():
            assert layer == LAYERS[0] or f"| {trial.what} | {layer} | {what} |" in page, trial
    for what, why in EQUIVALENT.items():
        assert f"| {what} | {why} |" in page


@needs_engines
def test_a_change_that_is_no_sender_is_noticed_by_every_layer_that_is_shown_it() -> None:
    trial = judge(next(mutant for mutant in mutants() if ill_formed(mutant.rules) is None), every=True)
    assert tuple(trial.noticed) == LAYERS[1:]
    assert f"| {trial.what} | {LAYERS[1]} | {trial.noticed[LAYERS[1]]} | " in PAGE.read_text(encoding="utf-8")
    elsewhere = " | ".join(trial.noticed[layer] for layer in LAYERS[3:])
    assert f" | {elsewhere} |\n" in PAGE.read_text(encoding="utf-8")


def test_a_survivor_without_a_reason_and_a_reason_without_a_survivor_are_told() -> None:
    survivors = [Trial(what, {}) for what in EQUIVALENT]
    assert unexplained([*survivors, Trial("a new one", {})]) == ["survives, and nothing says why: a new one"]
    first, *rest = survivors
    assert unexplained([*rest, Trial(first.what, {"states": "KS-2.1 at 2x1"})]) == [f"does not survive: {first.what}"]
