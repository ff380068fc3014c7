"""The real layer: runs scenarios, and makes one report of their histories.

No vacuous pass: a clause that a scenario is there for, and did not observe, makes the scenario an error; so does
anything that is raised in it, that does not happen in time, or that does not come out as planned, unless a violation
explains it. An error speaks against every clause that the scenario is there for.
"""

from __future__ import annotations

import time
import traceback
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from kvsender_nixl.lab.real_world import RealWorld
from kvsender_nixl.lab.scenario_run import ScenarioRun
from kvsender_nixl.lab.scenarios import SCENARIOS, Scenario
from kvsender_nixl.lab.words import INITIATORS
from kvsender_spec.clauses import CLAUSES, Clause, Layer
from kvsender_spec.history.events import (
    AnyEvent,
    CallEnded,
    CallStarted,
    ErrorSeen,
    History,
    MayFail,
    NotificationSent,
    PeerAdded,
    TransferChecked,
    TransferMade,
    TransferPosted,
    TransferReleased,
)
from kvsender_spec.history.words import CallName, Origin
from kvsender_spec.machine import Profile
from kvsender_spec.observe.attribution import OWN_ERROR
from kvsender_spec.observe.verdict import Breakdown, Findings, Outcome, Report, Verdict, Violation, merge
from kvsender_spec.observe.verdicts import verdict_of
from kvsender_spec.trace import Setup, Trace

_POINTS: Final[dict[type[MayFail], str]] = {
    TransferMade: "make",
    TransferPosted: "post",
    TransferChecked: "check",
    TransferReleased: "release",
    NotificationSent: "notify",
    PeerAdded: "connect",
}


@dataclass(frozen=True, slots=True)
class ScenarioResult:
    scenario: Scenario
    history: History | None
    """None where the side itself could not be made."""
    findings: Findings
    note: str
    """Why it is an error, in full; empty otherwise."""
    seconds: float

    @property
    def events(self) -> list[AnyEvent]:
        return [] if self.history is None else self.history.events

    def error(self, ref: int) -> ErrorSeen:
        """The error of that number."""
        return next(event for event in self.events if isinstance(event, ErrorSeen) and event.ref == ref)

    @property
    def causes(self) -> Counter[str]:
        """The classes of the first causes that failure_exception() showed last, once a room."""
        shown = CallName.FAILURE_EXCEPTION
        asked = {event.seq for event in self.events if isinstance(event, CallStarted) and event.what is shown}
        last: dict[int | None, str] = {}
        for event in self.events:
            if isinstance(event, CallEnded) and event.of in asked and event.error is not None:
                error = self.error(event.error)
                if error.origin is not Origin.USAGE:
                    while error.cause is not None:
                        error = self.error(error.cause)
                    last[event.room] = error.type
        return Counter(last.values())

    @property
    def violations(self) -> list[Violation]:
        return [violation for violation in self.findings.violations if violation.clause != OWN_ERROR]

    @property
    def outcome(self) -> Outcome:
        return Outcome.FAIL if self.violations else Outcome.ERROR if self.note else Outcome.PASS


@dataclass(frozen=True, slots=True)
class RealReport:
    report: Report
    results: tuple[ScenarioResult, ...]
    processes: int

    @property
    def raised(self) -> dict[str, Counter[str]]:
        """How often each class of error was raised, by the call of the real agent."""
        found: dict[str, Counter[str]] = {}
        for result in self.results:
            for event in result.events:
                if isinstance(event, MayFail) and type(event) in _POINTS and event.error is not None:
                    found.setdefault(result.error(event.error).type, Counter())[_POINTS[type(event)]] += 1
        return found

    @property
    def causes(self) -> Counter[str]:
        """How often each class was the first cause that failure_exception() showed last, once a room."""
        return sum((result.causes for result in self.results), Counter())


def run(world: RealWorld, scenarios: Iterable[Scenario]) -> RealReport:
    """Run them one after the other; the world's processes live on."""
    results = [run_scenario(world, scenario) for scenario in scenarios]
    broke = [result for result in results if result.outcome is Outcome.ERROR]
    whole = {result.scenario.name for result in results} >= {each.name for each in SCENARIOS[world.operation]}
    report = Report(
        adapter=f"the reference {INITIATORS[world.operation]} on real NIXL",
        profile=Profile.FULL,
        seed=world.seed,
        runs=len(results),
        steps=sum(isinstance(event, CallStarted) for result in results for event in result.events),
        verdicts=tuple(_verdict(clause, results, whole=whole) for clause in CLAUSES),
        errors=tuple(Breakdown(f"scenario {r.scenario.name}: {r.note}", Trace(Setup(), ())) for r in broke),
    )
    return RealReport(report, tuple(results), world.launched)


def run_scenario(world: RealWorld, scenario: Scenario) -> ScenarioResult:
    began = time.monotonic()
    world.warm()  # what the scenario may break starts while its own side does
    run: ScenarioRun | None = None
    note = why = ""
    try:
        run = ScenarioRun(world, scenario.name, scenario.options)
        scenario.run(run, world)
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        note = f"{why}\n{traceback.format_exc()}"
    if run is None:
        return ScenarioResult(scenario, None, Findings(), note, time.monotonic() - began)
    run.close(why)
    findings = run.findings
    unseen = [clause for clause in scenario.clauses if not findings.held[clause]]
    own = [violation.observed for violation in findings.violations if violation.clause == OWN_ERROR]
    if not note and own:
        note = f"the subject's or the lab's own error: {own[0]}"
    elif not note and run.unplanned:
        note = f"it did not come out as planned: {'; '.join(run.unplanned)}"
    elif not note and unseen:
        note = f"it is there for {', '.join(unseen)}, and has not observed it"
    return ScenarioResult(scenario, run.history, findings, note, time.monotonic() - began)


def _verdict(clause: Clause, results: Sequence[ScenarioResult], *, whole: bool) -> Verdict:
    """The worst of all scenarios; a scenario that did not come to its end speaks against what it is there for."""
    verdicts = [_of_one(clause, result) for result in results]
    broke = [r.scenario.name for r in results if r.outcome is Outcome.ERROR and clause.id in r.scenario.clauses]
    if broke:
        verdicts.append(Verdict(clause, Outcome.ERROR, note=f"not judged to the end: {', '.join(broke)}"))
    verdict = merge(verdicts)
    if verdict.outcome is Outcome.INCONCLUSIVE and not (whole and Layer.REAL in clause.layers):
        note = f"no scenario that ran is about it ({verdict.note})"
        return replace(verdict, outcome=Outcome.NOT_APPLICABLE, note=note)
    return verdict


def _of_one(clause: Clause, result: ScenarioResult) -> Verdict:
    headers = [] if result.history is None else [result.history.header]
    verdict = verdict_of(clause, Profile.FULL, headers, result.findings, history=result.history)
    evidence = verdict.evidence
    if evidence is None:
        return verdict
    return replace(verdict, evidence=replace(evidence, where=f"scenario {result.scenario.name}"))
