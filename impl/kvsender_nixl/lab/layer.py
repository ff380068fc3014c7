"""The real layer: runs scenarios and gives each clause a verdict, in the words of the kit.

No vacuous pass: a clause that a scenario is there for, and did not observe, makes the scenario an error; so does
anything that is raised in it, or does not happen in time, and is not known to be the sender's fault. An error speaks
against every clause that the scenario is there for.
"""

from __future__ import annotations

import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from kvsender_nixl.lab.scenarios import SCENARIOS, Scenario
from kvsender_nixl.lab.stage import Stage
from kvsender_nixl.lab.trial import Broken, Trial
from kvsender_spec.clauses import CLAUSES, Clause, Layer
from kvsender_spec.kit.check import Outcome
from kvsender_spec.kit.judge import Violation


@dataclass(frozen=True, slots=True)
class ScenarioResult:
    scenario: Scenario
    outcome: Outcome
    held: Counter[str]
    violations: tuple[Violation, ...]
    note: str
    """Why it is an error, in full; empty otherwise."""
    seconds: float


@dataclass(frozen=True, slots=True)
class RealVerdict:
    clause: Clause
    outcome: Outcome
    observations: int
    note: str = ""
    violations: tuple[tuple[str, Violation], ...] = ()
    """With the name of the scenario."""


@dataclass(frozen=True, slots=True)
class RealReport:
    results: tuple[ScenarioResult, ...]
    verdicts: tuple[RealVerdict, ...]
    raised: Counter[tuple[str, str]]
    """How often each class of error was raised by which call of the real agent."""
    causes: Counter[str]
    """How often each class was the first cause that failure_exception() showed."""
    processes: int

    def verdict(self, clause: str) -> RealVerdict:
        return next(verdict for verdict in self.verdicts if verdict.clause.id == clause)


def run(
    stage: Stage, scenarios: Sequence[Scenario], on_start: Callable[[Scenario], None] = lambda _: None
) -> RealReport:
    """Run them one after the other; the stage's processes live on."""
    results = []
    for scenario in scenarios:
        on_start(scenario)
        results.append(run_scenario(stage, scenario))
    verdicts = tuple(_verdict(clause, results) for clause in CLAUSES)
    return RealReport(tuple(results), verdicts, stage.raised.copy(), stage.causes.copy(), stage.launched)


def run_scenario(stage: Stage, scenario: Scenario) -> ScenarioResult:
    began = time.monotonic()
    stage.warm()  # what the scenario may break starts while its prefill side does
    trial: Trial | None = None
    note = ""
    try:
        trial = Trial(stage, scenario.name, scenario.options)
        scenario.run(trial, stage)
    except Broken:
        pass  # the findings say what is broken
    except Exception as error:
        note = f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
    held = Counter[str]() if trial is None else trial.findings.held
    violations = () if trial is None else tuple(trial.findings.violations)
    if trial is not None:
        trial.close()
    unseen = [clause for clause in scenario.judges if not held[clause]]
    if not note and not violations and unseen:
        note = f"it is there for {', '.join(unseen)}, and has not observed it"
    outcome = Outcome.FAIL if violations else Outcome.ERROR if note else Outcome.PASS
    return ScenarioResult(scenario, outcome, held, violations, note, time.monotonic() - began)


def _verdict(clause: Clause, results: Iterable[ScenarioResult]) -> RealVerdict:
    results = tuple(results)
    violations = tuple(
        (result.scenario.name, violation)
        for result in results
        for violation in result.violations
        if violation.clause == clause.id
    )
    seen = sum(result.held[clause.id] for result in results) + len(violations)
    if violations:
        return RealVerdict(clause, Outcome.FAIL, seen, violations=violations)
    broke = [result for result in results if result.outcome is Outcome.ERROR and clause.id in result.scenario.judges]
    if broke:
        names = ", ".join(result.scenario.name for result in broke)
        return RealVerdict(clause, Outcome.ERROR, seen, f"not judged to the end: {names}")
    if seen:
        return RealVerdict(clause, Outcome.PASS, seen)
    whole = {result.scenario.name for result in results} == {scenario.name for scenario in SCENARIOS}
    if whole and Layer.REAL in clause.layers:
        return RealVerdict(clause, Outcome.INCONCLUSIVE, 0, "never observed")
    return RealVerdict(clause, Outcome.NOT_APPLICABLE, 0, "no scenario that ran is about it")
