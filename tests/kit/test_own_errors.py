"""What is no clause's fault: the sender's own bugs, threads that nobody declares, adapters that break half-way."""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Sequence
from enum import IntEnum
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from threading import current_thread
from typing import ClassVar, Final, cast
from xml.etree import ElementTree

import pytest
from tests.kit.test_cli import ROOT, kvsender
from tests.mutants.broken import NotSticky
from tests.mutants.inline import NIXL_ERRORS, InlineAdapter, InlineSender, InlineSystem, Part

from kvsender_spec.contract import KVPoll
from kvsender_spec.faults import Fault, Kind, Point
from kvsender_spec.history.events import ErrorSeen
from kvsender_spec.kit import check as check_module
from kvsender_spec.kit.adapter import World
from kvsender_spec.kit.blame import attribute
from kvsender_spec.kit.check import Outcome, Report, check
from kvsender_spec.kit.replay import replay
from kvsender_spec.kit.run.execute import AnyRun, run_trace
from kvsender_spec.kit.run.threads import OTHER
from kvsender_spec.kit.toy import ToyAdapter, ToySender, ToySystem
from kvsender_spec.observe.attribution import OWN_ERROR
from kvsender_spec.trace import Call, Progress, Setup, Step, Trace

ROOM: Final = (Step(Call.OPEN), Step(Call.SEND), Step(Call.POLL, progress=Progress.ALL))


def not_blamed(report: Report) -> bool:
    """No clause fails."""
    return not report.with_outcome(Outcome.FAIL, Outcome.FAIL_AFTER)


# ------------------------------------------------------------------------------------- a thread that nobody declares


class PostsElsewhere(ToySystem):
    """Every send() is posted by a thread of its own, and the system does not say that it has one."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.work: SimpleQueue[tuple[PostingSender, Sequence[int], int] | None] = SimpleQueue()
        threading.Thread(target=self.serve, name="the poster", daemon=True).start()

    def serve(self) -> None:
        while (found := self.work.get()) is not None:
            sender, pages, first = found
            ToySender.post(sender, pages, first)
            sender.done.set()

    def sender(self, plan: object) -> PostingSender:
        return PostingSender(self, plan)  # type: ignore[arg-type]  # a RoomPlan, as for every toy


class PostingSender(ToySender):
    def post(self, pages: Sequence[int], first: int) -> None:
        self.done = threading.Event()
        assert isinstance(self.system, PostsElsewhere)
        self.system.work.put((self, pages, first))
        assert self.done.wait(10.0)


class Undeclared(ToyAdapter):
    name = "undeclared"

    def open(self, world: World) -> ToySystem:
        return PostsElsewhere(world)


class Declared(ToyAdapter):
    """The control: the same posts, by the thread that calls."""

    name = "declared"


def told(report: Report) -> list[tuple[str, str, int]]:
    return [(verdict.clause.id, verdict.text, verdict.observations) for verdict in report.verdicts]


def test_a_thread_that_nobody_declares_is_named_and_no_clause_is_blamed_for_it() -> None:
    reports = [check(Undeclared(), seed=3, examples=40, clauses=["KS-1.1", "KS-2.1", "KS-3.1"]) for _ in range(3)]
    for report in reports:
        assert not_blamed(report)
        assert report.exit_code == 2, "no run of it could be made"
        (message,) = {error.message for error in report.errors}
        assert "adapter undeclared: thread 'the poster' calls the transport and is not declared" in message
        assert "define workers(), busy() and close()" in message
    assert told(reports[0]) == told(reports[1]) == told(reports[2])
    done = replay(Undeclared(), Trace(Setup(), ROOM))
    assert (done.exit_code, done.violations) == (3, ())
    assert "the poster" in str(done.error)
    assert replay(Declared(), Trace(Setup(), ROOM)).exit_code == 0


# ------------------------------------------------------------------------------------------- a bug of the sender's own

WRAPPER = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
from kvsender_spec.kit.toy import ToyAdapter, ToySender, ToySystem


class Wrapped(ToySender):
    def send(self, kv_indices):
        super().send(kv_indices.tolist())  # which a numpy array has, and a list has not


class System(ToySystem):
    def sender(self, plan):
        return Wrapped(self, plan)


class Adapter(ToyAdapter):
    name = "wrapped"

    def open(self, world):
        return System(world)


adapter = Adapter()
"""


@pytest.fixture(scope="module")
def wrapped(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, int, Path]:
    """What the command printed, its exit code, and where it wrote its reports."""
    folder = tmp_path_factory.mktemp("wrapped")
    (folder / "wrapper.py").write_text(WRAPPER)
    files = [f"--{name}={folder / name}" for name in ("json", "junit", "html")]
    done = kvsender("check", "wrapper:adapter", "--examples=40", *files, cwd=folder)
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout, done.returncode, folder


SAID = "AttributeError: 'list' object has no attribute 'tolist'"
FRAME = "wrapper.py:8 in send"


def test_a_mistake_in_a_wrapper_is_the_senders_or_the_adapters_own_error(wrapped: tuple[str, int, Path]) -> None:
    text, code, _ = wrapped
    assert code == 3
    assert f"the adapter broke: the sender's or the adapter's own error: send() raised {SAID}" in text
    assert FRAME in text
    assert "Undecided: no MUST clause failed" in text
    assert "│ fail " not in text, "no clause is blamed"


def test_every_report_shows_where_it_was_raised(wrapped: tuple[str, int, Path]) -> None:
    folder = wrapped[2]
    document = json.loads((folder / "json").read_text())
    assert document["exit_code"] == 3
    assert not [row["id"] for row in document["clauses"] if row["verdict"].startswith("fail")]
    (error,) = document["errors"]
    assert SAID in error["message"]
    assert any(frame.endswith(FRAME) for frame in error["frames"]), error["frames"]
    assert [json.loads(line)["call"] for line in error["trace"][1:]] == ["open", "send"], "it was shortened"
    root = ElementTree.fromstring((folder / "junit").read_text())
    assert not list(root.iter("failure"))
    (case,) = root.findall(".//testcase[@name='the adapter']/error")
    assert SAID in case.get("message", "")
    assert FRAME in (case.text or "")
    page = (folder / "html").read_text()
    assert "AttributeError" in page
    assert FRAME in page


def test_such_a_mistake_is_no_clauses_either_where_the_caller_gives_rooms_up_or_makes_mistakes() -> None:
    """A sender of the full profile: abort() fails rooms before the first send(), and a misuse raises something else."""

    class Wrapped(InlineSender):
        def send(self, kv_indices: Sequence[int]) -> None:
            super().send(kv_indices.tolist())  # type: ignore[attr-defined]  # that is the mistake

    report = check(InlineAdapter(Wrapped), examples=100)
    assert not_blamed(report)
    assert report.exit_code == 3
    assert {SAID in error.message for error in report.errors} == {True}


def test_an_error_that_only_a_fault_brings_is_a_clauses_and_no_bug_of_its_own() -> None:
    """The control: the same kind of exception, where the transport has raised before."""

    class BreaksWhenItFails(InlineSender):
        def fault(self, error: BaseException, attribution: object = None) -> None:
            raise AttributeError("no such thing")

    report = check(InlineAdapter(BreaksWhenItFails), examples=60, clauses=["KS-1.1"])
    assert {verdict.outcome for verdict in report.verdicts} == {Outcome.FAIL}


# ------------------------------------------------------------------------ an adapter that breaks at an awkward moment


class BreaksAfterwards(InlineAdapter):
    """Its sender breaks KS-2.1; it breaks itself at some of the runs in which traces are shortened."""

    def __init__(self, breaks: Collection[int]) -> None:
        super().__init__(NotSticky)
        self.breaks = breaks
        self.runs: int | None = None
        """Since the walk has ended."""

    def open(self, world: World) -> InlineSystem:
        if self.runs is not None:
            self.runs += 1
            if self.runs in self.breaks:
                raise OSError("no such device")
        return super().open(world)


def checked(breaks: Collection[int], monkeypatch: pytest.MonkeyPatch) -> Report:
    adapter = BreaksAfterwards(breaks)

    def attributed(*what: object) -> object:
        adapter.runs = 0
        return attribute(*what)  # type: ignore[arg-type]  # what check() gives it

    monkeypatch.setattr(check_module, "attribute", attributed)
    report = check(adapter, examples=40, clauses=["KS-2.1"])
    assert adapter.runs, "something was shortened"
    return report


def test_an_adapter_that_breaks_while_a_trace_is_shortened_does_not_end_the_check(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, broken = checked((), monkeypatch), checked(range(2, 8), monkeypatch)
    for report in (whole, broken):
        (verdict,) = report.verdicts
        assert verdict.outcome is Outcome.FAIL
        assert verdict.evidence is not None
        assert verdict.evidence.trace is not None
        assert len(verdict.evidence.trace.steps) <= 8
        assert (report.exit_code, report.errors) == (1, ())


def test_what_cannot_be_run_again_is_an_error_and_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    report = checked(range(1, 10_000), monkeypatch)
    assert not_blamed(report)
    assert report.exit_code == 3
    assert any(error.message.startswith("not repeatable: KS-2.1 broke once") for error in report.errors)


class LosesEveryThirdRace(InlineSender):
    """A poll() of the other thread answers Failed, although nothing has failed, whenever the machine has it so."""

    races: ClassVar = count()

    def poll(self) -> KVPoll:
        answer = super().poll()
        lost = current_thread().name == OTHER and next(self.races) % 3 == 1
        return KVPoll.Failed if lost else answer


def test_what_two_threads_break_is_run_again_until_it_breaks_again() -> None:
    report = check(InlineAdapter(LosesEveryThirdRace), examples=0)
    assert report.errors == ()
    assert "KS-7.2" in {verdict.clause.id for verdict in report.with_outcome(Outcome.FAIL)}


# ------------------------------------------------------------------------------------------------- injected, or not


class ChecksFirst(InlineSender):
    """Asks about a transfer before it is posted, as the scripted agent refuses like the real one."""

    def post(self, part: Part) -> None:
        assert part.handle is not None
        try:
            self.agent.check_xfer_state(part.handle)
        except NIXL_ERRORS as error:
            self.fault(error)
            return
        super().post(part)


def errors_of(run: AnyRun) -> list[str]:
    return [event.text for event in run.history.events if isinstance(event, ErrorSeen)]


def test_only_an_error_that_was_injected_is_called_so() -> None:
    run = run_trace(InlineAdapter(ChecksFirst), Trace(Setup(), ROOM))
    said = errors_of(run)
    assert "the transfer was not posted" in said
    assert not any("injected" in text for text in said)
    fault = Step(Call.SEND, fault=Fault(Point.POST, Kind.NOT_POSTED))
    injected = errors_of(run_trace(InlineAdapter(), Trace(Setup(), (ROOM[0], fault))))
    assert "injected nixlNotPostedError" in injected


def test_a_peer_that_is_gone_is_no_injected_error() -> None:
    steps = (Step(Call.OPEN), Step(Call.SEND), Step(Call.KILL), Step(Call.POLL))
    said = errors_of(run_trace(InlineAdapter(), Trace(Setup(), steps)))
    assert "the connection to the peer is broken" in said
    assert not any("injected" in text for text in said)


def test_the_rule_of_an_own_error_is_no_clause() -> None:
    class Slips(InlineSender):
        def send(self, kv_indices: Sequence[int]) -> None:
            raise LookupError("no such page")

    found = run_trace(InlineAdapter(Slips), Trace(Setup(), ROOM)).observer.findings.violations
    assert found[0].clause == OWN_ERROR
    assert any(frame.endswith("in send") for frame in found[0].frames)


class _Poll(IntEnum):
    """Numbers of its own."""

    SUCCESS = 3


class _OwnNumbers(InlineSender):
    def poll(self) -> KVPoll:
        return cast("KVPoll", _Poll.SUCCESS)


def test_an_enumeration_with_other_numbers_is_refused() -> None:
    report = check(InlineAdapter(_OwnNumbers), examples=0, clauses=["KS-2.1"])
    assert report.exit_code in (2, 3)
    assert "poll() answered <_Poll.SUCCESS: 3>, which is no KVPoll" in report.errors[0].message
