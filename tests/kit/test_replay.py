"""Replay: a counterexample that is written down and run again breaks the same clause; what cannot be run is refused."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from kvsender_spec.kit.narrative import narrate
from kvsender_spec.kit.record import OUTCOME_LIMIT
from tests.kit.test_cli import ROOT, kvsender
from tests.mutants.broken import ReleasesInFlight, SuccessAfterFailed
from tests.mutants.inline import InlineAdapter, InlineSender
from tests.mutants.seed import AfterTheFix, SeedAdapter

from kvsender_spec.faults import Fault, Kind, Point
from kvsender_spec.kit.adapter import Adapter, World
from kvsender_spec.kit.check import check
from kvsender_spec.kit.replay import read_trace, replay
from kvsender_spec.kit.run.drive import run_trace
from kvsender_spec.kit.run.stage import SENDER_SIDE, unplayable
from kvsender_spec.trace import Call, Progress, Scene, Step, Trace, TraceError

SMALL = InlineAdapter(InlineSender)
ESCAPES = Trace(Scene(), (Step(Call.OPEN), Step(Call.SEND, fault=Fault(Point.POST, Kind.NOT_FOUND))))


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "trace.ndjson"
    path.write_text(text)
    return path


def played(tmp_path: Path, trace: Trace, adapter: str) -> subprocess.CompletedProcess[str]:
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
    assert verdict.counterexample is not None
    trace = read_trace(written(tmp_path, verdict.counterexample.trace.dump()))
    assert trace == verdict.counterexample.trace
    done = replay(adapter, trace)
    assert clause in {violation.clause for violation in done.violations}
    assert done.exit_code == 1
    assert done.left_out == ()
    # The run that was kept for the report's pictures is this very run.
    assert list(narrate(done.moments)) == list(narrate(verdict.counterexample.moments))


def test_the_command_tells_the_run_and_what_broke(tmp_path: Path) -> None:
    done = played(tmp_path, ESCAPES, "tests.mutants.seed:after_the_fix")
    assert done.returncode == 1, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert "  2. send(0) with post=nixlNotFoundError" in lines
    assert "       the transport was asked: make handle 0 for decode0; it answered made" in lines
    assert (
        "       the transport was asked: post handle 0; it raised nixlNotFoundError: injected nixlNotFoundError"
        in lines
    )
    assert "       the owner: the call raised nixlNotFoundError: injected nixlNotFoundError" in lines
    assert "!      breaks KS-1.2 CATCH-SET (MUST)" in lines
    assert "  observed  send() raised nixlNotFoundError: injected nixlNotFoundError instead of returning" in lines


def test_a_good_sender_gets_through_the_same_trace_to_the_end(tmp_path: Path) -> None:
    done = played(tmp_path, ESCAPES, "tests.mutants.inline:adapter")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the end of the run, which is in no trace:" in done.stdout
    assert "       the owner: the call answered Failed" in done.stdout
    assert "       decode0 was told: failure of room 7: nixlNotFoundError: injected nixlNotFoundError" in done.stdout
    assert done.stdout.endswith("no clause was broken\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: the trace is empty"),
        ("{", "line 1: not JSON"),
        ('{"format": "other"}', "line 1: format must be 'kvsender-trace/1', not 'other'"),
        (ESCAPES.dump().replace("nixlNotFoundError", "nosuch"), "line 3: fault.kind: Invalid enum value 'nosuch'"),
        (Trace(Scene(chunks=((1,),) * 9), ()).dump(), "line 1: the scene has 9 rooms; the kit plays 1 to 3"),
        (Trace(Scene(peers=0), ()).dump(), "line 1: the scene has 0 peers; the kit plays 1 to 4"),
        (Trace(Scene(chunks=((9,),)), ()).dump(), "line 1: the scene has 9 pages in a room; the kit plays 0 to 8"),
        (
            Trace(Scene(chunks=((1, 0),)), ()).dump(),
            "line 1: a room of 1+0 pages has an empty chunk after its last page",
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
    path = written(tmp_path, Trace(Scene(), (Step(Call.OPEN), Step(Call.POLL))).dump())
    done = kvsender("replay", str(path), "mine:adapter", cwd=tmp_path)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "  1. open(0)" in done.stdout
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
    done = replay(SMALL, Trace(Scene(), (*stray, Step(Call.OPEN))))
    assert done.left_out == stray
    assert done.exit_code == 0


def test_every_event_of_a_run_belongs_to_one_moment() -> None:
    scene = Scene(chunks=((1, 1), (1,)), peers=2, silent=True)
    steps = (
        *(Step(Call.OPEN, room) for room in (0, 1)),
        *(Step(Call.SEND, room) for room in (0, 1)),
        Step(Call.KILL, 1),
        Step(Call.POLL, 0, Progress.ALL),
        Step(Call.SEND, 0),
    )
    run = run_trace(SMALL, Trace(scene, steps))
    moments = run.record.moments
    assert [event for moment in moments for event in moment.events] == run.world.fabric.events
    assert [moment.what for moment in moments if not moment.ending] == list(steps)
    assert {event.agent for moment in moments for event in moment.events} == {SENDER_SIDE}
    assert "30 s pass" in [moment.what for moment in moments if moment.ending]
    assert [moment.possible for moment in moments if moment.what == Step(Call.KILL, 1)] == [()]


def test_what_the_owner_got_back_is_kept_short() -> None:
    class Wordy(InlineSender):
        def send(self, kv_indices: object) -> None:
            raise ValueError("x" * 10_000)

    moments = run_trace(InlineAdapter(Wordy), Trace(Scene(), (Step(Call.OPEN), Step(Call.SEND)))).record.moments
    assert len(moments[1].outcome) <= OUTCOME_LIMIT + 4
    assert [violation.clause for violation in moments[1].violations] == ["KS-1.1"]


def test_every_scene_that_the_exploration_draws_can_be_replayed() -> None:
    assert unplayable(Scene(chunks=((2, 1), (1, 1, 1)), peers=2, dummies=1)) == ""
    assert unplayable(replace(Scene(), dummies=5)) == "the scene has 5 dummies; the kit plays 0 to 4"
