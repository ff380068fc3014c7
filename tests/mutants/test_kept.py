"""Check and trace check agree on a dozen varied mutants; ``make blame`` asks the same of all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import msgspec
import pytest
from tests.mutants.kept import disagreeing
from tests.mutants.registry import MUTANTS

from kvsender_spec.kit.check import check
from kvsender_spec.observe.verdict import Outcome, Report

EXAMPLES: Final = 50
VARIED: Final = (
    "BeforeTheFix",
    "AfterTheFix",
    "NotSticky",
    "ReleasesInFlight",
    "Leaks",
    "InOrderOnly",
    "LosesAuxOfEmptyChunk",
    "ClearForgets",
    "PoisonsTheRoom",
    "NeedsNixl",
    "PollNeedsTheEntry",
    "WorkerDies",
)
"""Rules of every family, circumstances, an import, errors of the sender's own, and workers."""


def checked(name: str) -> Report:
    (mutant,) = (mutant for mutant in MUTANTS if mutant.name == name)
    return check(mutant.adapter, examples=EXAMPLES)


@pytest.mark.parametrize("name", VARIED)
def test_a_history_that_was_kept_shows_its_clause(name: str) -> None:
    report = checked(name)
    assert report.with_outcome(Outcome.FAIL)
    assert disagreeing(report) == ()


def test_a_history_that_does_not_show_it_would_be_noticed() -> None:
    report = checked("ClearForgets")
    for verdict in report.with_outcome(Outcome.FAIL):
        evidence = verdict.evidence
        assert evidence is not None
        assert evidence.history is not None
        header = evidence.history.header
        shortened = msgspec.structs.replace(evidence.history, events=evidence.history.events[:1])
        nameless = msgspec.structs.replace(evidence.history, header=msgspec.structs.replace(header, named={}))
        for history in (shortened, None, *([nameless] if header.named else [])):
            worse = replace(verdict, evidence=replace(evidence, history=history))
            told = tuple(worse if other is verdict else other for other in report.verdicts)
            assert disagreeing(replace(report, verdicts=told)) == (verdict.clause.id,)
