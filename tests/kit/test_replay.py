"""Replay: a counterexample that is written down and run again breaks the same clause; what cannot be run is refused."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from tests.kit.test_cli import ROOT, kvsender
from tests.mutants.broken import ReleasesInFlight, SuccessAfterFailed
from tests.mutants.clause_by_clause import BlamesItself, ClearForgets
from tests.mutants.inline import InlineAdapter, InlineSender
from tests.mutants.seed import AfterTheFix, SeedAdapter

from kvsender_spec.faults import Fault, Kind, Point
from kvsender_spec.history.events import StepStarted
from kvsender_spec.history.telling import LINE_LIMIT, Teller, TransportCall
from kvsender_spec.kit.adapter import Adapter, World
from kvsender_spec.kit.check import check
from kvsender_spec.kit.replay import read_trace, replay
from kvsender_spec.kit.run.execute import run_trace
from kvsender_spec.kit.run.scripted_world import SENDER_SIDE, unrunnable_setup
from kvsender_spec.machine import Profile
from kvsender_spec.report.json import to_json
from kvsender_spec.report.text import narrate
from kvsender_spec.trace import Call, Progress, Setup, Step, Trace, TraceError

SMALL = InlineAdapter(InlineSender)
blames_itself = InlineAdapter(BlamesItself)
clear_forgets = InlineAdapter(ClearForgets)
ESCAPES = Trace(Setup(), (Step(Call.OPEN), Step(Call.SEND, fault=Fault(Point.POST, Kind.NOT_FOUND))))


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "trace.ndjson"
    path.write_text(text)
    return path


def replayed(tmp_path: Path, trace: Trace, adapter: str) -> subprocess.CompletedProcess[str]:
    return kvsender("replay", str(written(tmp_path, trace.dump())), adapter)


@pytest.mark.parametrize(
    ("adapter", "clause"),
    [
        (SeedAdapter(AfterTheFix), "KS-1.2"),
        (InlineAdapter(ReleasesInFlight), "KS-4.2"),
        (InlineAdapter(SuccessAfterFailed), "KS-2.2"),
    ],
    ids=["escape", "release", "success"],
)
def test_a_counterexample_breaks_the_same_clause_when_it_is_replayed(
    tmp_path: Path, adapter: Adapter, clause: str
) -> None:
    (verdict,) = check(adapter, clauses=[clause]).verdicts
    assert verdict.evidence is not None
    assert verdict.evidence.trace is not None
    assert verdict.evidence.history is not None
    trace, named, judged = read_trace(written(tmp_path, verdict.evidence.trace.dump()))
    assert (trace, named, judged) == (verdict.evidence.trace, None, None)
    done = replay(adapter, trace)
    assert clause in {violation.clause for violation in done.violations}
    assert done.exit_code == 1
    assert done.left_out == ()
    # The run that was kept for the report's pictures is this very run, up to what shows the violation.
    shown = verdict.evidence.violation.seq + 1
    assert done.history is not None
    assert done.history.events[:shown] == verdict.evidence.history.events[:shown]


def test_the_command_tells_the_run_and_what_broke(tmp_path: Path) -> None:
    done = replayed(tmp_path, ESCAPES, "tests.mutants.seed:after_the_fix")
    assert done.returncode == 1, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert "2. send(0) with post=nixlNotFoundError" in lines
    asked = "the transport was asked: make handle 0 for decode0, pages 39, then notify 'progress|7|0|'"
    assert f"    6   0.000000    {asked}" in lines
    asked = "the transport was asked: post handle 0; it raised nixlNotFoundError: injected nixlNotFoundError"
    assert f"    8   0.000000    {asked}" in lines
    shown = lines.index("    9   0.000000  send() raised nixlNotFoundError: injected nixlNotFoundError")
    assert lines[shown + 1] == "!      breaks KS-1.2 CATCH-SET (MUST)"
    assert "  observed  send() raised nixlNotFoundError: injected nixlNotFoundError instead of returning" in lines


def test_a_good_sender_gets_through_the_same_trace_to_the_end(tmp_path: Path) -> None:
    done = replayed(tmp_path, ESCAPES, "tests.mutants.inline:adapter")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\n3. faults_over\n" in done.stdout, "the end of the run is made of ordinary steps"
    assert "   16   0.000000  poll() answered Failed\n" in done.stdout
    assert "  decode0 is told: failure of room 7: nixlNotFoundError: injected nixlNotFoundError\n" in done.stdout
    assert done.stdout.endswith("no clause was broken\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: the trace is empty"),
        ("{", "line 1: not JSON"),
        ('{"format": "other"}', "line 1: format must be 'kvsender-trace/2', not 'other'"),
        (ESCAPES.dump().replace("nixlNotFoundError", "nosuch"), "line 3: fault.kind: Invalid enum value 'nosuch'"),
        (Trace(Setup(chunks=((1,),) * 9), ()).dump(), "line 1: the setup has 9 rooms; the kit runs 1 to 3"),
        (Trace(Setup(peers=0), ()).dump(), "line 1: the setup has 0 peers; the kit runs 1 to 4"),
        (Trace(Setup(chunks=((9,),)), ()).dump(), "line 1: the setup has 9 pages in a room; the kit runs 0 to 8"),
        (
            Trace(Setup(chunks=((1, 0),)), ()).dump(),
            "line 1: a room of 1+0 pages has an empty chunk after its last page",
        ),
        (Trace(Setup(), (Step(Call.OPEN), Step(Call.POLL, 1))).dump(), "line 3: poll(1): room 1 was not opened before"),
        (Trace(Setup(), (Step(Call.SEND), Step(Call.OPEN))).dump(), "line 2: send(0): room 0 was not opened before"),
        (Trace(Setup(), (Step(Call.OPEN, 1),)).dump(), "line 2: open(1): the setup has 1 rooms"),
        (Trace(Setup(), (Step(Call.OPEN), Step(Call.KILL, 1))).dump(), "line 3: kill(1): the setup has 1 peers"),
        *(
            (
                Trace(Setup(), (Step(Call.OPEN), Step(Call.SEND, fault=Fault(Point.MAKE, kind)))).dump(),
                f"line 3: send(0) with make={kind.value}: make raises or succeeds, and returns no state",
            )
            for kind in (Kind.RETURNS_ERR, Kind.RETURNS_NONSENSE)
        ),
    ],
)
def test_what_is_no_trace_is_refused(tmp_path: Path, text: str, message: str) -> None:
    done = kvsender("replay", str(written(tmp_path, text)), "tests.mutants.inline:adapter")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(TraceError, match="not UTF-8: invalid start byte at byte 0"):
        read_trace(tmp_path / "bytes")
    for path in (tmp_path / "nosuch", tmp_path):
        done = kvsender("replay", str(path), "tests.mutants.inline:adapter")
        assert done.returncode == 2
        assert "cannot be read" in done.stderr
    good = written(tmp_path, ESCAPES.dump())
    done = kvsender("replay", str(good), "nosuch:adapter")
    assert done.returncode == 2
    assert "there is no module 'nosuch'" in done.stderr


def test_an_adapter_that_breaks_is_told_apart_and_what_happened_before_is_shown(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from tests.mutants.inline import InlineAdapter, InlineSender\n"
        "class Odd(InlineSender):\n"
        "    def poll(self): return 'soon'\n"
        "adapter = InlineAdapter(Odd)\n"
    )
    path = written(tmp_path, Trace(Setup(), (Step(Call.OPEN), Step(Call.POLL))).dump())
    done = kvsender("replay", str(path), "mine:adapter", cwd=tmp_path)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "\n1. open(0)\n" in done.stdout
    assert "stopped: adapter Odd: poll() answered 'soon', which is no KVPoll" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_system_that_does_not_open_is_the_adapters_fault() -> None:
    class Stumbles(InlineAdapter):
        def open(self, world: World) -> object:  # type: ignore[override]
            raise OSError("no such device")

    done = replay(Stumbles(), ESCAPES)  # type: ignore[arg-type]
    assert done.exit_code == 3
    assert "no such device" in str(done.error)


def test_steps_that_make_no_sense_are_named() -> None:
    stray = (Step(Call.POLL), Step(Call.OPEN, 5))
    done = replay(SMALL, Trace(Setup(), (*stray, Step(Call.OPEN))))
    assert done.left_out == stray
    assert done.exit_code == 0


def test_every_event_of_a_run_belongs_to_one_step() -> None:
    setup = Setup(chunks=((1, 1), (1,)), peers=2, silent=True)
    steps = (
        *(Step(Call.OPEN, room) for room in (0, 1)),
        *(Step(Call.SEND, room) for room in (0, 1)),
        Step(Call.KILL, 1),
        Step(Call.POLL, 0, Progress.ALL),
        Step(Call.SEND, 0),
    )
    run = run_trace(SMALL, Trace(setup, steps))
    told = Teller(run.history).steps()
    assert run.steps[: len(steps)] == list(steps)
    assert [step.title for step in told if step.title != "before the first step"] == list(map(str, run.steps))
    assert [event for step in told for event in step.events] == [
        event for event in run.history.events if not isinstance(event, StepStarted)
    ]
    asked = [event for event in run.world.fabric.events if event.agent == SENDER_SIDE]
    assert asked
    assert sum(isinstance(event, TransportCall) for event in run.history.events) >= len(asked)


def test_what_the_caller_got_back_is_kept_short() -> None:
    class Wordy(InlineSender):
        def send(self, kv_indices: object) -> None:
            raise ValueError("x" * 10_000)

    run = run_trace(InlineAdapter(Wordy), Trace(Setup(), (Step(Call.OPEN), Step(Call.SEND))))
    lines = narrate(run.history, run.observer.findings.violations)
    assert any("ValueError: xxx" in line for line in lines)
    assert max(map(len, lines)) <= LINE_LIMIT


# ------------------------------------------------------------------------------------------------------- profiles


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ((), 0, "not claimed, and broken: KS-4.3: handles [0] are not"),
        (("--profile", "quiescent"), 1, "!      breaks KS-4.3 NO-LEAK (MUST)"),
    ],
)
def test_a_clause_counts_where_the_profile_claims_it(
    tmp_path: Path, options: tuple[str, ...], code: int, said: str
) -> None:
    """The toy keeps what the latch profile asks for, and releases no handle: no promise of that profile."""
    path = written(tmp_path, Trace(Setup(), (Step(Call.OPEN), Step(Call.SEND))).dump())
    done = kvsender("replay", str(path), "kvsender_spec.kit.toy:adapter", *options)
    assert done.returncode == code, done.stdout + done.stderr
    assert said in done.stdout.splitlines()
    assert ("no clause was broken" in done.stdout) is (code == 0)


@pytest.mark.parametrize(("options", "code"), [((), 0), (("--strict",), 1)])
def test_a_should_counts_where_it_is_asked_for(tmp_path: Path, options: tuple[str, ...], code: int) -> None:
    (verdict,) = check(InlineAdapter(BlamesItself), clauses=["KS-2.8"]).verdicts
    assert verdict.evidence is not None
    assert verdict.evidence.trace is not None
    path = written(tmp_path, verdict.evidence.trace.dump())
    done = kvsender("replay", str(path), "tests.kit.test_replay:blames_itself", *options)
    assert done.returncode == code, done.stdout + done.stderr
    assert "breaks KS-2.8 ATTRIBUTION (SHOULD)" in done.stdout


# -------------------------------------------------------------------------------------------------------- reports


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a check of a sender that forgets how a cleared room ended has written."""
    path = tmp_path_factory.mktemp("report") / "report.json"
    path.write_text(to_json([check(InlineAdapter(ClearForgets), examples=100)]), encoding="utf-8")
    return path


@pytest.mark.parametrize("clause", ["KS-5.2", "KS-2.1"], ids=["circumstance", "rule"])
def test_a_trace_is_taken_from_a_report_and_it_is_said_whether_its_clause_still_breaks(
    report: Path, clause: str
) -> None:
    broken = kvsender("replay", str(report), clause, "tests.kit.test_replay:clear_forgets")
    assert broken.returncode == 1, broken.stdout + broken.stderr
    assert broken.stdout.splitlines()[-1] == f"{clause} still breaks"
    good = kvsender("replay", str(report), clause, "tests.mutants.inline:adapter")
    assert good.returncode == 0, good.stdout + good.stderr
    assert good.stdout.splitlines()[-1] == f"{clause} does not break any more"


def test_of_a_report_with_one_trace_no_clause_need_be_named(tmp_path: Path) -> None:
    found = check(SeedAdapter(AfterTheFix), clauses=["KS-1.2"])
    path = written(tmp_path, to_json([found]))
    trace, clause, judged = read_trace(path)
    (verdict,) = found.verdicts
    assert verdict.evidence is not None
    assert (trace, clause, judged) == (verdict.evidence.trace, "KS-1.2", Profile.LATCH)
    # Of several reports as well, and a trace that cannot be run is refused there as elsewhere.
    several = written(tmp_path, to_json([found, check(SMALL, examples=10, clauses=["KS-1.4"])]))
    assert read_trace(several) == (trace, clause, judged)
    several.write_text(several.read_text().replace('\\"call\\": \\"open\\"', '\\"call\\": \\"poll\\"'))
    with pytest.raises(TraceError, match="was not opened before"):
        read_trace(several)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ((), ": say of which one, as KS-2.2"),
        (("KS-1.4",), "the report has no trace of KS-1.4, only of "),
        (("KS-9.99",), "no such clause: KS-9.99"),
        (("KS-2.1", "KS-5.2"), "replay takes one adapter and at most one clause, not KS-2.1 KS-5.2 tests.mutants."),
        (("tests.mutants.seed:after_the_fix",), "replay takes one adapter and at most one clause"),
    ],
)
def test_what_a_report_cannot_give_is_refused(report: Path, named: tuple[str, ...], message: str) -> None:
    done = kvsender("replay", str(report), *named, "tests.mutants.inline:adapter")
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("schema", ['"kvsender-report/1"', "3", '"kvsender-report/2"'])
def test_what_is_no_report_is_refused(tmp_path: Path, schema: str) -> None:
    with pytest.raises(TraceError, match="report"):
        read_trace(written(tmp_path, f'{{"schema": {schema}}}'))


def test_every_setup_that_the_exploration_draws_can_be_replayed() -> None:
    assert unrunnable_setup(Setup(chunks=((2, 1), (1, 1, 1)), peers=2, dummies=1)) == ""
    assert unrunnable_setup(replace(Setup(), dummies=5)) == "the setup has 5 dummies; the kit runs 0 to 4"


@pytest.mark.parametrize(
    ("setup", "lacks"), [(Setup(renames=True), "takes_new_names"), (Setup(cached=1), "takes_parts")]
)
def test_a_world_for_which_the_system_is_not_made_is_refused(tmp_path: Path, setup: Setup, lacks: str) -> None:
    path = written(tmp_path, Trace(setup, (Step(Call.OPEN), Step(Call.SEND))).dump())
    done = kvsender("replay", str(path), "kvsender_spec.kit.toy:adapter")
    assert done.returncode == 2
    assert f"a setup with {setup} is for systems that declare {lacks}" in " ".join(done.stderr.split())
