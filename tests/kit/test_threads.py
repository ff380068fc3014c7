"""The threads of a run: calls that never return, calls of two threads that overlap, workers that wait."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import numpy as np
import pytest
from tests.mutants.inline import InlineAdapter, InlineSender, InlineSystem
from tests.mutants.styles import COUNTS_WAITING
from tests.mutants.workers import WorkerAdapter

from kvsender_spec.contract import INIT_AGENT, KVPoll
from kvsender_spec.faults import Fault, Kind, Point
from kvsender_spec.kit.adapter import RoomPlan, World
from kvsender_spec.kit.check import Outcome, check
from kvsender_spec.kit.parts import parts_of
from kvsender_spec.kit.run import calls
from kvsender_spec.kit.run.calls import AdapterError
from kvsender_spec.kit.run.execute import Run, run_trace
from kvsender_spec.kit.run.resting import Resting
from kvsender_spec.kit.scripted.fabric import Fabric, ScriptedAgent, ScriptedHandle
from kvsender_spec.kit.search.explore import MOST_WAITS
from kvsender_spec.kit.search.sweep import SWEEP
from kvsender_spec.trace import Call, Overlap, Progress, Setup, Step, Trace

# ------------------------------------------------------------------------------------------- what an adapter may break


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "CALL_LIMIT_S", 0.2)
    monkeypatch.setattr(calls, "SENDER_LIMIT_S", 0.2)


@pytest.mark.usefixtures("impatient")
def test_a_call_that_never_returns_breaks_3_7_and_ends_the_check() -> None:
    gate = threading.Event()

    class Hangs(InlineSender):
        def poll(self) -> KVPoll:
            gate.wait(60.0)
            return super().poll()

    try:
        report = check(InlineAdapter(Hangs), examples=60)
    finally:
        gate.set()
    outcomes = {verdict.clause.id: verdict.outcome for verdict in report.verdicts}
    assert outcomes.pop("KS-3.7") is Outcome.FAIL
    assert set(outcomes.values()) == {Outcome.ERROR, Outcome.NOT_APPLICABLE}
    assert report.runs == MOST_WAITS, "the exploration has an end"
    (verdict,) = (verdict for verdict in report.verdicts if verdict.clause.id == "KS-3.7")
    assert verdict.evidence is not None
    assert verdict.evidence.trace is not None
    assert [step.call for step in verdict.evidence.trace.steps] == [Call.OPEN, Call.POLL]
    violation = verdict.evidence.violation
    assert violation.observed == "poll() had not come back after 0.2 s"
    assert any(frame.endswith("in poll") for frame in violation.frames)
    assert report.exit_code == 1


@pytest.mark.usefixtures("impatient")
def test_after_a_call_that_never_returned_others_do() -> None:
    gate = threading.Event()

    class HangsOnce(InlineSender):
        def get_transfer_metric(self) -> int:
            gate.wait(60.0)
            return super().get_transfer_metric()

    trace = Trace(Setup(), (Step(Call.OPEN), Step(Call.METRIC)))
    try:
        run = run_trace(InlineAdapter(HangsOnce), trace)
    finally:
        gate.set()
    assert [violation.clause for violation in run.observer.findings.violations] == ["KS-3.7"]
    assert run_trace(InlineAdapter(InlineSender), trace).observer.findings.violations == []


@pytest.mark.usefixtures("impatient")
def test_a_run_that_was_left_behind_ends_when_its_call_returns() -> None:
    gate, returned = threading.Event(), threading.Event()

    class HangsOnce(InlineSender):
        def get_transfer_metric(self) -> int:
            gate.wait(60.0)
            returned.set()
            return super().get_transfer_metric()

    runs: list[Run] = []

    def whole() -> None:
        runs.append(Run(InlineAdapter(HangsOnce), Setup()))
        runs[0].take((Step(Call.OPEN), Step(Call.METRIC), Step(Call.POLL)))

    with pytest.raises(AdapterError, match="did not return"):
        calls.supervised(whole)
    # It must not take the next run's call, which begins meanwhile, for one of its own that is over.
    under_way = calls.Calls("next", runs[0].scripted_world.fabric)
    calls._UNDER_WAY.begin(under_way, "poll()")
    gate.set()
    assert returned.wait(5.0)
    time.sleep(0.3)
    assert calls._UNDER_WAY.calls is under_way
    calls._UNDER_WAY.end()


def test_one_broken_run_is_told_and_the_others_are_judged() -> None:
    left = [1]

    class OddOnce(InlineSender):
        def poll(self) -> KVPoll:
            if left and self.system.world.clock() > 1000.0:
                left.pop()
                return 7  # type: ignore[return-value]  # that is the mistake
            return super().poll()

    report = check(InlineAdapter(OddOnce), examples=60, clauses=["KS-2.1", "KS-2.7"])
    (broken,) = report.errors
    assert broken.message == "adapter OddOnce: poll() answered 7, which is no KVPoll"
    assert broken.trace.steps
    assert {verdict.outcome for verdict in report.verdicts} == {Outcome.PASS}
    assert report.exit_code == 3, "an adapter that breaks is not fine"


def test_what_only_broken_runs_could_have_shown_is_an_error() -> None:
    class Stumbles(InlineSystem):
        def reconnect(self, peer: object) -> None:
            raise LookupError("no such peer")

    class Adapter(InlineAdapter):
        def open(self, world: World) -> InlineSystem:
            return Stumbles(world, InlineSender)

    report = check(Adapter(), examples=300, clauses=["KS-6.3"])
    (verdict,) = report.verdicts
    assert verdict.outcome is Outcome.ERROR
    assert "reconnect raised LookupError: no such peer" in verdict.note


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # threads are what this is about
def test_a_forked_process_has_callers_of_its_own() -> None:
    trace = Trace(Setup(), (Step(Call.OPEN), Step(Call.SEND), Step(Call.POLL, progress=Progress.ALL)))
    run_trace(InlineAdapter(), trace)
    child = os.fork()
    if child == 0:
        try:
            os._exit(len(run_trace(InlineAdapter(), trace).observer.findings.violations))
        finally:
            os._exit(100)  # an AdapterError: the call did not return
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# ----------------------------------------------------------------------------------------------------------- overlaps


class RecordsThreads(InlineSender):
    """Notes which thread makes which call."""

    def __init__(self, system: InlineSystem, plan: RoomPlan) -> None:
        super().__init__(system, plan)
        self.seen: list[tuple[str, str]] = []

    def abort(self) -> None:
        self.seen.append(("abort", threading.current_thread().name))
        super().abort()

    def poll(self) -> KVPoll:
        self.seen.append(("poll", threading.current_thread().name))
        return super().poll()


def test_the_second_caller_comes_at_the_call_of_the_transport_and_from_another_thread() -> None:
    made: list[RecordsThreads] = []

    class Keeps(InlineAdapter):
        def open(self, world: World) -> InlineSystem:
            class System(InlineSystem):
                def sender(self, plan: RoomPlan) -> InlineSender:
                    sender = super().sender(plan)
                    assert isinstance(sender, RecordsThreads)
                    made.append(sender)
                    return sender

            return System(world, RecordsThreads)

    overlap = Overlap(Call.ABORT, Point.CHECK)
    run = run_trace(
        Keeps(), Trace(Setup(), (Step(Call.OPEN), Step(Call.SEND), Step(Call.POLL, overlap=overlap), Step(Call.POLL)))
    )
    assert made[-1].seen[:2] == [("poll", "kvsender-caller"), ("abort", "kvsender-other")]
    assert run.observer.findings.violations == []
    assert run.observer.findings.held["KS-7.2"] == 2, "each of the two calls is an observation"


def test_an_overlap_whose_point_is_never_reached_is_no_observation() -> None:
    overlap = Overlap(Call.ABORT, Point.CHECK, nth=1)
    steps = (Step(Call.OPEN), Step(Call.SEND), Step(Call.POLL, overlap=overlap))
    run = run_trace(InlineAdapter(InlineSender), Trace(Setup(), steps))
    assert run.observer.findings.held["KS-7.2"] == 0
    assert run.observer.findings.violations == []


def test_what_goes_wrong_only_with_two_threads_is_blamed_on_nothing_else() -> None:
    class Unlocked(InlineSender):
        def __init__(self, system: InlineSystem, plan: RoomPlan) -> None:
            super().__init__(system, plan)
            self.lock = nullcontext()

    report = check(InlineAdapter(Unlocked), examples=500)
    (verdict,) = report.with_outcome(Outcome.FAIL)
    assert verdict.clause.id == "KS-7.2"
    # The rules that two calls at once break are told, and are told to be that clause's.
    assert {other.after for other in report.with_outcome(Outcome.FAIL_AFTER)} == {"KS-7.2"}
    assert verdict.evidence is not None
    assert verdict.evidence.trace is not None
    assert any(step.overlap is not None for step in verdict.evidence.trace.steps)
    assert len(verdict.evidence.trace.steps) <= 8


def test_of_two_polls_that_overlap_the_one_that_ends_the_room_came_last() -> None:
    overlap = Overlap(Call.POLL, Point.CHECK)
    steps = (Step(Call.OPEN), Step(Call.SEND), Step(Call.POLL, progress=Progress.ALL, overlap=overlap))
    run = run_trace(InlineAdapter(InlineSender), Trace(Setup(), steps))
    assert run.observer.findings.violations == []
    assert run.observer.findings.held["KS-7.2"] == 2, "each of the two calls is an observation"


# ------------------------------------------------------------------------------------------------------------ parking


class Bench:
    """An agent with one transfer in flight, and a worker that waits for it in a loop."""

    def __init__(self) -> None:
        self.fabric = Fabric(automatic=False)
        self.agent: ScriptedAgent = self.fabric.agent("prefill", scripted=True)
        peer = self.fabric.agent("decode")
        self.memory = bytearray(64)
        here = np.frombuffer(self.memory, np.uint8).ctypes.data
        for agent in (self.agent, peer):
            agent.register_memory([(here, 64, 0, "")], "DRAM")
        self.agent.add_remote_agent(peer.get_agent_metadata())
        local = self.agent.prep_xfer_dlist(INIT_AGENT, [(here, 32, 0)], "DRAM")
        remote = self.agent.prep_xfer_dlist("decode", [(here + 32, 32, 0)], "DRAM")
        self.handle: ScriptedHandle = self.agent.make_prepped_xfer("WRITE", local, [0], remote, [0])
        self.agent.transfer(self.handle)
        self.answers: list[str] = []
        self.ended = False
        self.worker = threading.Thread(target=self._wait, daemon=True)

    def _wait(self) -> None:
        try:
            while not self.answers or self.answers[-1] == "PROC":
                self.answers.append(self.agent.check_xfer_state(self.handle))
        except Exception as error:
            self.answers.append(type(error).__name__)
        self.ended = True

    def busy(self) -> int:
        return int(not self.ended)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    bench.fabric.parking.only_for_others_than(threading.get_ident())
    bench.worker.start()
    yield bench
    bench.fabric.shut_down()
    bench.worker.join(10.0)
    assert not bench.worker.is_alive()


def test_a_worker_that_waits_goes_round_once_for_each_move_of_the_kit(bench: Bench) -> None:
    parking = bench.fabric.parking
    for rounds in (1, 2, 3):
        assert parking.wait_until_idle(bench.busy)
        assert bench.answers == ["PROC"] * rounds
        time.sleep(0.01)
        assert bench.answers == ["PROC"] * rounds, "nothing moves by itself"
        assert parking.let_each_go_on(bench.busy)
    bench.fabric.finish(bench.handle)
    assert parking.let_each_go_on(bench.busy)
    assert bench.answers[-1] == "DONE"
    assert bench.ended


def test_who_is_parked_when_the_run_ends_is_let_go_with_an_error(bench: Bench) -> None:
    assert bench.fabric.parking.wait_until_idle(bench.busy)
    bench.fabric.shut_down()
    bench.worker.join(10.0)
    assert bench.answers == ["PROC", "nixlCancelledError"]


def test_a_worker_that_is_busy_with_something_else_is_not_idle(bench: Bench) -> None:
    assert not bench.fabric.parking.wait_until_idle(lambda: 2, limit_s=0.05)


def test_a_caller_is_never_parked(bench: Bench) -> None:
    answers: Sequence[str] = [bench.agent.check_xfer_state(bench.handle) for _ in range(3)]
    assert answers == ["PROC"] * 3


def test_an_exit_never_strikes_a_worker(bench: Bench) -> None:
    assert bench.fabric.parking.wait_until_idle(bench.busy)
    bench.fabric.plan.arm(Fault(Point.CHECK, Kind.SYSTEM_EXIT))
    assert bench.fabric.parking.let_each_go_on(bench.busy)
    assert bench.answers == ["PROC", "PROC"]
    bench.fabric.plan.arm(Fault(Point.CHECK, Kind.SYSTEM_EXIT))
    with pytest.raises(SystemExit):
        bench.agent.check_xfer_state(bench.handle)


def test_workers_that_count_as_busy_while_they_wait_for_work() -> None:
    """The kit tells them from working ones by their threads, and no clause fails."""
    assert parts_of(COUNTS_WAITING).counts_waiting
    assert not parts_of(WorkerAdapter()).counts_waiting
    report = check(COUNTS_WAITING, examples=5, sweep=SWEEP[::40])
    assert [verdict.clause.id for verdict in report.verdicts if verdict.outcome.failed] == []
    assert report.errors == ()


def test_a_thread_rests_where_it_stands_still() -> None:
    go, spins = threading.Event(), threading.Event()

    def work() -> None:
        go.wait(5.0)
        while not spins.is_set():
            pass

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    resting = Resting(lambda: [worker], {})
    counts = []
    for _ in range(20):
        counts.append(resting())
        time.sleep(0.001)
    assert counts[-1] == 1
    go.set()
    time.sleep(0.01)
    assert max(resting() for _ in range(20)) == 0
    spins.set()
    worker.join(5.0)
    assert resting() == 0, "a thread that has ended is not there"


class _Pool:
    """Two workers: one has ended with its job, which busy() still counts, and one waits for a job."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.threads = [threading.Thread(target=lambda: None), threading.Thread(target=self.gate.wait, args=(60.0,))]
        for thread in self.threads:
            thread.start()
        self.threads[0].join()

    def workers(self) -> Sequence[threading.Thread]:
        return self.threads

    def busy(self) -> int:
        return 1

    def close(self) -> None:
        self.gate.set()


@pytest.mark.usefixtures("impatient")
def test_the_job_of_a_worker_that_has_ended_is_waited_for_by_nobody() -> None:
    pool = _Pool()
    try:
        calls.Calls("pool", Fabric(), system=pool).let_workers(round_=True)
    finally:
        pool.close()
