"""The real layer passes on the reference sender and reader, and no verdict of it is vacuous."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from kvsender_nixl.lab.layer import run
from kvsender_nixl.lab.real_world import RealWorld
from kvsender_nixl.lab.scenario_run import ScenarioRun
from kvsender_nixl.lab.scenarios import SCENARIOS, Scenario
from kvsender_nixl.lab.verify import VerifyDocument
from kvsender_spec.clauses import CLAUSES, Layer
from kvsender_spec.history.events import RoomOpened, RunEnded
from kvsender_spec.history.header import Source
from kvsender_spec.history.ndjson import read
from kvsender_spec.observe.observer import observe
from kvsender_spec.observe.verdict import Outcome

pytestmark = pytest.mark.timeout(300)

VERIFY = (sys.executable, "-m", "kvsender_nixl.lab.verify")
SENDER, READER = SCENARIOS["WRITE"], SCENARIOS["READ"]
BY_NAME = {scenario.name: scenario for scenario in (*SENDER, *READER)}


def command(*arguments: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*VERIFY, *arguments], capture_output=True, text=True, timeout=timeout_s, check=False)


# ------------------------------------------------------------------------------------------------------ the command


@pytest.mark.timeout(400)
def test_whole_run(tmp_path: Path) -> None:
    path, histories = tmp_path / "report.json", tmp_path / "new" / "histories"
    done = command("--json", str(path), "--histories", str(histories), timeout_s=300)
    assert done.returncode == 0, done.stdout + done.stderr
    report = msgspec.json.decode(path.read_bytes(), type=VerifyDocument)
    assert report.exit_code == 0
    assert report.seconds < 200
    for judged, scenarios in ((report.sender, SENDER), (report.reader, READER)):
        assert judged.scripted is not None
        assert judged.real is not None
        for clause in CLAUSES:
            assert clause.id in done.stdout
            for layer, column in ((Layer.SCRIPTED, judged.scripted), (Layer.REAL, judged.real.report)):
                if layer in clause.layers and clause.id != "KS-7.1":  # neither has workers
                    assert column.clause(clause.id).verdict is Outcome.PASS, clause.id
                    assert column.clause(clause.id).observations >= 1, clause.id
        early = judged.real.report.clause("KS-3.5")
        assert early.verdict is Outcome.NOT_APPLICABLE
        assert "bytes.landed" in early.note
        assert [row.name for row in judged.real.scenarios] == [scenario.name for scenario in scenarios]
        assert judged.real.errors.keys() == {"nixlRemoteDisconnectError", "nixlNotFoundError", "nixlBackendError"}
        for scenario in judged.real.scenarios:
            found = observe(read(histories / f"{scenario.name}.ndjson"))
            assert found.complete
            assert dict(found.findings.held) == scenario.observations
            assert tuple(found.findings.violations) == scenario.violations
    assert report.reader.real is not None
    assert report.reader.real.causes["GrantEnded"] >= 4
    assert_one_operation(histories)
    shown = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert len(scripted_cells(done.stdout)) == len(CLAUSES)
    assert scripted_cells(shown) == scripted_cells(done.stdout), "the scripted numbers are the same every time"
    assert "nixlRemoteDisconnectError" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def scripted_cells(text: str) -> list[list[str]]:
    """Of each row of the table: clause, level, and what the scripted layers say of the sender and of the reader."""
    found = ([cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│ KS-"))
    return [[clause, level, sender, reader] for clause, level, sender, _, reader, _ in found]


def assert_one_operation(histories: Path) -> None:
    for path in histories.iterdir():
        history = read(path)
        operation = "READ" if path.name.startswith("read-") else "WRITE"
        opened = {event.operation for event in history.events if isinstance(event, RoomOpened)}
        assert {history.header.operation, *opened} == {operation}, path
        assert history.header.source is Source.REAL


def test_only_and_list() -> None:
    listed = command("--list")
    assert listed.returncode == 0
    assert all(name in listed.stdout for name in (*BY_NAME, "scripted", "read-scripted"))
    done = command("--only", "no-pages", "--only", "misuse", "--only", "read-misuse")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(
        r"sender: real \d+ pass in 2 of 2 scenarios.*; reader: real \d+ pass in 1 of 1 scenarios", done.stdout
    )


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--json", "/nowhere/report.json"), "/nowhere/report.json"),
        (("--histories", "/proc/nowhere"), "/proc/nowhere"),
        (("--only", "no-such"), "no-such"),
        (("--only", "misuse", "--seed", "x"), "seed"),
    ],
)
def test_used_wrongly(arguments: tuple[str, ...], word: str) -> None:
    done = command(*arguments)
    assert done.returncode == 2
    assert word in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("module", ["torch", "nixl"])
def test_not_installed(module: str) -> None:
    program = (
        f"import sys; sys.modules[{module!r}] = None; sys.argv = ['verify'];"
        " import runpy; runpy.run_module('kvsender_nixl.lab.verify', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert f"{module} is not installed" in done.stderr
    assert "pip install" in done.stderr
    assert "Traceback" not in done.stderr


# ------------------------------------------------------------------------------------------------- no vacuous verdicts


def test_error_is_no_pass(world: RealWorld) -> None:
    def raises(run: ScenarioRun, world: RealWorld) -> None:
        raise TimeoutError("nobody came")

    def sees_nothing(run: ScenarioRun, world: RealWorld) -> None:
        run.findings.held["KS-2.1"] += 1

    def misses_its_plan(run: ScenarioRun, world: RealWorld) -> None:
        run.findings.held["KS-3.3"] += 1
        run.plan(True, "the first thing", "")
        run.plan(False, "the second thing", "another one")

    scenarios = [
        Scenario("raises", "", ("KS-2.2",), raises),
        Scenario("sees-nothing", "", ("KS-2.1", "KS-6.1"), sees_nothing),
        Scenario("misses-its-plan", "", ("KS-3.3",), misses_its_plan),
    ]
    real = run(world, scenarios)
    raised, blind, unplanned = real.results
    assert raised.outcome is blind.outcome is unplanned.outcome is Outcome.ERROR
    assert "nobody came" in raised.note
    assert raised.history is not None
    ended = raised.history.events[-1]
    assert isinstance(ended, RunEnded)
    assert not ended.complete
    assert "nobody came" in ended.why
    assert "KS-6.1" in blind.note
    assert "the second thing; observed: another one" in unplanned.note
    assert "the first thing" not in unplanned.note
    outcomes = {verdict.clause.id: verdict.outcome for verdict in real.report.verdicts}
    assert outcomes["KS-2.2"] is outcomes["KS-6.1"] is outcomes["KS-3.3"] is Outcome.ERROR
    assert outcomes["KS-3.1"] is Outcome.NOT_APPLICABLE
    assert real.report.exit_code == 3


def test_blind_run_is_inconclusive(world: RealWorld) -> None:
    def sees_nothing(run: ScenarioRun, world: RealWorld) -> None: ...

    blind = [replace(scenario, run=sees_nothing, clauses=()) for scenario in SENDER]
    report = run(world, blind).report
    outcomes = {verdict.clause.id: verdict.outcome for verdict in report.verdicts}
    assert outcomes["KS-3.1"] is Outcome.INCONCLUSIVE
    assert outcomes["KS-1.4"] is Outcome.NOT_APPLICABLE
    assert report.exit_code == 3


def test_stopped_processes_are_ended() -> None:
    world = RealWorld(2)
    peer = world.mortal()
    peer.process.stop()
    world.close()
    assert peer.process.exit_code == -9


@pytest.mark.parametrize("scenarios", [SENDER, READER], ids=["sender", "reader"])
def test_every_real_clause_has_a_scenario(scenarios: tuple[Scenario, ...]) -> None:
    judged = {clause for scenario in scenarios for clause in scenario.clauses}
    assert {clause.id for clause in CLAUSES if Layer.REAL in clause.layers} <= judged
