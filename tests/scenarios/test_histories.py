"""A history that was written to a file and read back is judged as the live run was: what is reported can be checked."""

from __future__ import annotations

from io import BytesIO
from typing import Final

import msgspec
import pytest
from tests.mutants.registry import MUTANTS
from tests.scenarios.scenario import parse, run_scenario
from tests.scenarios.test_scenarios import PATHS, subject

from kvsender_spec.history import events as h
from kvsender_spec.history import ndjson
from kvsender_spec.kit.blame import attribute
from kvsender_spec.kit.run.execute import AnyRun, Run, run_trace
from kvsender_spec.kit.search.explore import explore
from kvsender_spec.observe.attribution import Tally
from kvsender_spec.observe.observer import observe

EXAMPLES: Final = 100
"""Runs of a walk at most; it ends with the first one that breaks the clause, which takes these mutants about ten."""
CHOSEN: Final = (
    "BeforeTheFix",
    "LatchesWhenAsked",
    "CountsFromTheWrongEnd",
    "FreesPagesInFlight",
    "PoisonsTheRoom",
    "NeverReconnects",
    "Careless",
    "PollNeedsTheEntry",
    "DropsTheSiblings",
    "ControlThreadDies",
)
"""A clause of each chapter; the last three have worker threads."""
BY_NAME: Final = {mutant.name: mutant for mutant in MUTANTS}


def judged_alike(run: AnyRun, history: h.History) -> None:
    """Fails unless the history, written and read back, gives the findings of the live run."""
    ndjson.check(history)
    file = BytesIO()
    ndjson.write(history, file)
    file.seek(0)
    again = observe(ndjson.read(file))
    assert again.findings == run.observer.findings
    assert again.verdicts() == run.observer.verdicts()


def run_of(name: str) -> Run:
    path = next(path for path in PATHS if path.stem == name)
    scenario = parse(path.name, path.read_text(encoding="utf-8"))
    return run_scenario(scenario, subject(scenario))[1]


@pytest.mark.parametrize("name", [path.stem for path in PATHS])
def test_a_scenario_is_judged_alike_from_its_file(name: str) -> None:
    run = run_of(name)
    assert run.observer.findings.held
    judged_alike(run, run.history)


@pytest.mark.parametrize("name", CHOSEN)
def test_the_shortest_trace_of_a_mutant_is_judged_alike_from_its_file(name: str) -> None:
    mutant = BY_NAME[name]
    wanted = frozenset({mutant.breaks})
    tally = Tally()
    explore(mutant.adapter, tally, seed=1, examples=EXAMPLES, enough=lambda tally: tally.shows(wanted))
    evidence = attribute(mutant.adapter, tally, wanted).evidence
    assert evidence
    for shown in evidence.values():
        assert shown.trace is not None
        run = run_trace(mutant.adapter, shown.trace, as_it_is=True)
        assert run.observer.findings.violations
        judged_alike(run, run.history)


def test_another_answer_is_not_judged_alike() -> None:
    run = run_of("01-seed-disconnect")
    events = [
        msgspec.structs.replace(event, value="Success")
        if isinstance(event, h.CallEnded) and event.value == "Failed"
        else event
        for event in run.history.events
    ]
    with pytest.raises(AssertionError, match="KS-2"):
        judged_alike(run, h.History(header=run.history.header, events=events))


def test_a_room_that_nothing_introduces_is_not_accepted() -> None:
    run = run_of("01-seed-disconnect")
    events: list[h.AnyEvent] = [event for event in run.history.events if not isinstance(event, h.RoomOpened)]
    renumbered = [msgspec.structs.replace(event, seq=number) for number, event in enumerate(events)]
    with pytest.raises(ndjson.HistoryError, match="room"):
        judged_alike(run, h.History(header=run.history.header, events=renumbered))
