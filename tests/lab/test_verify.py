"""The real layer passes on the reference sender and reader, and fails by the right clause for a planted mistake."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kvsender_nixl.agent import ERROR_CLASSES
from kvsender_nixl.exchange import FailureNotification, parse_notification
from kvsender_nixl.lab import scenario_run as lab_run
from kvsender_nixl.lab.layer import ScenarioResult, run
from kvsender_nixl.lab.process import NIXL_ENV
from kvsender_nixl.lab.real_world import Plant, RealWorld
from kvsender_nixl.lab.scenario_run import ScenarioRun
from kvsender_nixl.lab.scenarios import SCENARIOS, SILENCE, Scenario
from kvsender_nixl.lab.verify import VerifyDocument
from kvsender_spec.clauses import CLAUSES, Layer
from kvsender_spec.contract import KVPoll, KVTransferError, Operation
from kvsender_spec.history.events import RoomOpened, RunEnded
from kvsender_spec.history.header import Source
from kvsender_spec.history.ndjson import read, write
from kvsender_spec.history.recording_agent import ReleasedHandle, Through
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


# --------------------------------------------------------------------------------------------------- planted mistakes


class EarlySuccess(Through[Any, Any]):
    """What still runs is called DONE, and is kept when it is released."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.kept: list[Any] = []

    def check_xfer_state(self, handle: Any) -> str:
        super().check_xfer_state(handle)
        return "DONE"

    def release_xfer_handle(self, handle: Any) -> None:
        self.kept.append(handle)


class DeafToDisconnects(Through[Any, Any]):
    def check_xfer_state(self, handle: Any) -> str:
        try:
            return super().check_xfer_state(handle)
        except ERROR_CLASSES["nixlRemoteDisconnectError"]:
            return "PROC"


class MuteAboutFailures(Through[Any, Any]):
    def send_notif(self, remote_agent_name: str, notif_msg: bytes) -> None:
        if not isinstance(parse_notification(notif_msg), FailureNotification):
            super().send_notif(remote_agent_name, notif_msg)


class NextPage(Through[Any, Any]):
    """The last descriptor of each transfer of pages goes to the page beside the right one."""

    def make_prepped_xfer(
        self,
        operation: Any,
        local_xfer_side: Any,
        local_indices: Any,
        remote_xfer_side: Any,
        remote_indices: Any,
        *a: Any,
    ) -> Any:
        bent = remote_indices.copy()
        bent[-1] ^= 1
        return super().make_prepped_xfer(operation, local_xfer_side, local_indices, remote_xfer_side, bent, *a)


class FalseAlarm(Through[Any, Any]):
    """What still runs is called failed, so that the sender releases it in flight."""

    def check_xfer_state(self, handle: Any) -> str:
        state = super().check_xfer_state(handle)
        if state == "PROC":
            raise ERROR_CLASSES["nixlBackendError"]("a false alarm")
        return state


class Reuser(Through[Any, Any]):
    """A released handle is asked about once more, and nobody sees what is raised."""

    def release_xfer_handle(self, handle: Any) -> None:
        super().release_xfer_handle(handle)
        with suppress(ReleasedHandle):
            super().check_xfer_state(handle)


def letting_escape(prefill: Any) -> None:
    """An error of connecting to a peer leaves register_peer()."""
    connect = prefill._peers._open

    def open_(metadata: Any) -> Any:
        try:
            return connect(metadata)
        except Exception as error:
            raised.append(error)
            raise

    def register_peer(metadata: Any) -> None:
        register(metadata)
        if raised:
            raise raised.pop()

    raised: list[Exception] = []
    register = prefill.register_peer
    prefill._peers._open = open_
    prefill.register_peer = register_peer


def of_each(maker: str) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """A plant in everything that this method of a side makes."""

    def decorate(change: Callable[[Any], None]) -> Callable[[Any], None]:
        def plant(front: Any) -> None:
            make = getattr(front, maker)

            def changed(room: int) -> Any:
                made = make(room)
                change(made)
                return made

            setattr(front, maker, changed)

        return plant

    return decorate


@of_each("sender")
def endless(sender: Any) -> None:
    """poll() never answers a terminal value."""
    poll = sender.poll

    def never() -> KVPoll:
        answer: KVPoll = poll()
        return KVPoll.Transferring if answer.terminal else answer

    sender.poll = never


@of_each("sender")
def escaping(sender: Any) -> None:
    """poll() raises the first cause once, instead of answering Failed."""
    poll = sender.poll
    raised: list[Exception] = []

    def raise_once() -> KVPoll:
        answer: KVPoll = poll()
        if answer is KVPoll.Failed and not raised:
            with pytest.raises(KVTransferError) as caught:
                sender.failure_exception()
            cause = caught.value.__cause__
            assert isinstance(cause, Exception)
            raised.append(cause)
            raise cause
        return answer

    sender.poll = raise_once


def forgetful(prefill: Any) -> None:
    """The prefill side says that every page is free."""
    prefill.quarantined_pages = frozenset


@of_each("sender")
def two_faced(sender: Any) -> None:
    """The sender sends a failure notification after a success."""
    complete = sender._complete

    def tell_twice() -> Any:
        answer = complete()
        for info in sender._room.infos.values():
            notification = FailureNotification(info.room, info.token, True, "never mind")
            sender._side.transport.send_notif(info.agent_name, notification.to_bytes())
        return answer

    sender._complete = tell_twice


@of_each("sender")
def relapsing(sender: Any) -> None:
    """poll() answers Success after it has answered Failed."""
    poll = sender.poll
    answers: list[KVPoll] = []

    def relapse() -> KVPoll:
        answers.append(poll())
        return KVPoll.Success if answers[:-1] and answers[-2] is KVPoll.Failed else answers[-1]

    sender.poll = relapse


class SwappedPages(Through[Any, Any]):
    """The content of a transfer's first two pages is put in each other's place. The stamps stay right."""

    pool: Any = None

    def prep_xfer_dlist(self, agent_name: str, *a: Any) -> Any:
        dlist = super().prep_xfer_dlist(agent_name, *a)
        if self.pool is None:  # that of its own pages is the first one
            self.pool = dlist
        return dlist

    def make_prepped_xfer(self, operation: Any, local_xfer_side: Any, local_indices: Any, *a: Any) -> Any:
        bent = local_indices.copy()
        if local_xfer_side is self.pool:
            bent[:2] = local_indices[:2][::-1]
        return super().make_prepped_xfer(operation, local_xfer_side, bent, *a)


class MuteAtTheEnd(Through[Any, Any]):
    def send_notif(self, remote_agent_name: str, notif_msg: bytes) -> None:
        """The holder is told nothing."""


@of_each("reader")
def blind_to_stamps(reader: Any) -> None:
    """The reader never looks at the stamps of what it has read."""
    reader._concluded = reader._complete


def of_one_operation(operation: Operation) -> Iterator[RealWorld]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in NIXL_ENV.items():
            patch.setenv(name, value)
        world = RealWorld(1, operation)
        yield world
        world.close()


@pytest.fixture(scope="module")
def world() -> Iterator[RealWorld]:
    yield from of_one_operation("WRITE")


@pytest.fixture(scope="module")
def holders() -> Iterator[RealWorld]:
    yield from of_one_operation("READ")


@pytest.mark.parametrize(
    ("plant", "scenario", "clauses"),
    [
        pytest.param(Plant(wire=EarlySuccess), "one-peer-scattered", {"KS-3.1"}, id="early-success"),
        pytest.param(Plant(wire=DeafToDisconnects), "killed-in-flight", {"KS-2.3"}, id="deaf-to-disconnects"),
        pytest.param(Plant(wire=MuteAboutFailures), "one-of-three-killed", {"KS-6.1"}, id="mute-about-failures"),
        pytest.param(Plant(wire=NextPage), "one-peer-contiguous", {"KS-3.1"}, id="next-page"),
        pytest.param(Plant(wire=FalseAlarm), "out-of-order", {"KS-4.2"}, id="false-alarm"),
        pytest.param(Plant(wire=Reuser), "misuse", {"KS-4.3"}, id="reuser"),
        pytest.param(Plant(front=letting_escape), "unreachable", {"KS-1.1"}, id="letting-escape"),
        pytest.param(Plant(front=escaping), "killed-before-post", {"KS-1.1"}, id="escaping"),
        pytest.param(Plant(front=endless), "no-pages", {"KS-3.2", "KS-3.4"}, id="endless"),
        pytest.param(Plant(front=forgetful), "stopped", {"KS-4.1", "KS-4.4"}, id="forgetful"),
        pytest.param(Plant(front=two_faced), "no-pages", {"KS-6.1"}, id="two-faced"),
        pytest.param(Plant(front=relapsing), "killed-before-post", {"KS-2.1"}, id="relapsing"),
    ],
)
def test_planted_mistake_is_found(
    world: RealWorld, plant: Plant, scenario: str, clauses: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_found(world, plant, scenario, clauses, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("plant", "scenario", "clauses"),
    [
        pytest.param(Plant(front=blind_to_stamps), "read-refilled-before", {"KS-3.1"}, id="blind-to-stamps"),
        pytest.param(Plant(front=blind_to_stamps), "read-refilled-in-flight", {"KS-3.1"}, id="blind-in-flight"),
        pytest.param(Plant(wire=EarlySuccess), "read-one-peer-scattered", {"KS-3.1"}, id="early-success"),
        pytest.param(Plant(wire=SwappedPages), "read-three-peers-scattered", {"KS-3.1"}, id="swapped-pages"),
        pytest.param(Plant(wire=FalseAlarm), "read-out-of-order", {"KS-4.2"}, id="false-alarm"),
        pytest.param(Plant(front=forgetful), "read-stopped", {"KS-4.1", "KS-4.4"}, id="forgetful"),
        pytest.param(Plant(wire=MuteAtTheEnd), "read-no-pages", {"KS-6.1"}, id="mute-at-the-end"),
        pytest.param(Plant(front=letting_escape), "read-unreachable", {"KS-1.1"}, id="letting-escape"),
    ],
)
def test_planted_mistake_of_a_reader_is_found(
    holders: RealWorld, plant: Plant, scenario: str, clauses: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_found(holders, plant, scenario, clauses, tmp_path, monkeypatch)


def assert_found(
    world: RealWorld, plant: Plant, scenario: str, clauses: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With short deadlines no planted silence takes long.
    monkeypatch.setattr(lab_run, "LIMIT_S", 2.0)
    chosen = replace(BY_NAME[scenario], options=SILENCE)
    world.plant = plant
    try:
        real = run(world, [chosen])
    finally:
        world.plant = Plant()
    (result,) = real.results
    assert result.outcome is Outcome.FAIL, result.note
    first = {violation.clause for violation in result.violations if violation.after in ("", violation.clause)}
    assert clauses <= first, result.violations
    assert real.report.exit_code == 1
    verdict = next(verdict for verdict in real.report.verdicts if verdict.clause.id in clauses)
    assert verdict.outcome is Outcome.FAIL
    assert verdict.evidence is not None
    assert verdict.evidence.where == f"scenario {scenario}"
    assert_same_from_file(result, tmp_path / "history.ndjson")


def assert_same_from_file(result: ScenarioResult, path: Path) -> None:
    assert result.history is not None
    write(result.history, path)
    assert observe(read(path)).findings == result.findings


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
