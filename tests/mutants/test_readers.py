"""Right readers pass every clause, and each broken one is blamed for what is wrong with it."""

from __future__ import annotations

import pytest
from rich.console import Console
from tests.mutants.broken import NotSticky
from tests.mutants.hunt import Campaign
from tests.mutants.inline import InlineAdapter
from tests.mutants.inline_reader import ReaderAdapter
from tests.mutants.matrix import by_the_sweep
from tests.mutants.pool import chosen
from tests.mutants.readers import turned_round
from tests.mutants.registry import CORRECT_READERS, EVERY, READERS, Mutant
from typer import BadParameter

from kvsender_nixl.reader_adapter import adapter as reference
from kvsender_spec.history.header import Ability
from kvsender_spec.kit.adapter import Adapter
from kvsender_spec.kit.check import Budget, check
from kvsender_spec.kit.parts import abilities
from kvsender_spec.kit.run.execute import Run
from kvsender_spec.kit.search.aborts import ABORTS
from kvsender_spec.kit.search.reads import READS
from kvsender_spec.kit.search.sweep import SWEEP
from kvsender_spec.kit.search.whole import sweep_of
from kvsender_spec.observe.verdict import Outcome
from kvsender_spec.trace import Call

EXAMPLES = Budget.QUICK.examples


@pytest.mark.parametrize("mutant", READERS, ids=[mutant.name for mutant in READERS])
def test_the_sweep_alone_blames_the_clause_that_a_reader_breaks(mutant: Mutant) -> None:
    report = check(mutant.adapter, examples=0)
    assert not report.errors
    assert mutant.breaks in {verdict.clause.id for verdict in report.verdicts if verdict.outcome is Outcome.FAIL}


def test_the_names_of_mutants_tell_senders_and_readers_apart() -> None:
    assert len({mutant.name for mutant in EVERY}) == len(EVERY)
    assert all(mutant.reads for mutant in READERS)
    assert sum(mutant.reads for mutant in EVERY) == len(READERS)


@pytest.mark.parametrize("adapter", [*CORRECT_READERS, reference], ids=lambda adapter: adapter.name)
def test_a_right_reader_conforms(adapter: Adapter) -> None:
    report = check(adapter, examples=EXAMPLES)
    assert not report.errors
    wrong = [str(verdict.clause.id) for verdict in report.verdicts if verdict.outcome is not Outcome.PASS]
    deaf = Ability.TARGET_ABORTS not in abilities(adapter)
    assert wrong == [*["KS-6.4"] * deaf, "KS-7.1"], "which need target_aborts() and workers()"


def test_readers_have_traces_of_their_own_and_senders_run_none_of_them() -> None:
    assert sweep_of("WRITE") == (*SWEEP, *ABORTS)
    assert sweep_of("READ") == (*SWEEP, *ABORTS, *READS)
    assert not any(step.call is Call.REFILL for trace in SWEEP for step in trace.steps)
    sender = Run(InlineAdapter(), READS[0].setup)
    sender.take(READS[0].steps)
    assert Call.REFILL not in [step.call for step in sender.steps], "a sender's peers grant nothing"


def test_readers_are_chosen_by_name() -> None:
    assert [EVERY[number] for number in chosen(["readers"])] == list(READERS)
    assert len(chosen([])) == len(EVERY)
    with pytest.raises(BadParameter, match=r"no such mutant or clause: reader$"):
        chosen(["reader"])


@pytest.mark.parametrize(("run", "good"), [(860, True), (861, False)])
def test_the_matrix_wants_each_reader_killed_by_the_sweep(run: int, good: bool) -> None:
    row = Campaign(len(EVERY) - 1, (0,), (), 860, (run,), 0.0, 1, 1, frozenset(), 1, "")
    assert by_the_sweep([row], Console(quiet=True)) is good


def test_a_mutant_of_the_sender_is_one_of_the_reader() -> None:
    report = check(ReaderAdapter(turned_round(NotSticky)), examples=0)
    assert "KS-2.1" in {verdict.clause.id for verdict in report.verdicts if verdict.outcome is Outcome.FAIL}
