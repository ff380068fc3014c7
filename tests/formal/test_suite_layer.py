"""The complete suite as a layer of `kvsender check`: good senders pass it, broken ones are told apart and named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.formal.fast import DEEP, SHALLOW, Fast, ask
from tests.formal.test_mealy import machine_of
from tests.kit.test_cli import kvsender
from tests.mutants.inline import InlineAdapter, InlineSender
from tests.mutants.inline_reader import InlineReader, ReaderAdapter
from tests.mutants.readers import NeverLooksAtTheGrant
from tests.mutants.registry import CORRECT_READERS, Mutant
from tests.mutants.seed import AfterTheFix, SeedAdapter
from tests.mutants.suite_kills import INLINE, OUTSIDE, STRICT, hunt
from tests.mutants.workers import WorkerAdapter

import kvsender_nixl.adapter as reference
import kvsender_nixl.reader_adapter as reader
from kvsender_spec.contract import TransferAborted
from kvsender_spec.formal.suite.hsi import suite
from kvsender_spec.formal.suite.letters import Answer, Letter, Reading
from kvsender_spec.kit import toy, toy_reader
from kvsender_spec.kit.adapter import Adapter, World
from kvsender_spec.kit.check import Outcome, Report, check
from kvsender_spec.kit.parts import abilities
from kvsender_spec.kit.replay import replay
from kvsender_spec.kit.run import calls
from kvsender_spec.kit.search.complete import SuiteReport, run_suite
from kvsender_spec.kit.search.sequences import EVERY_CLAUSE, compare, reading_of, run_sequence, setup_of, too_long
from kvsender_spec.machine import State
from kvsender_spec.report.html import to_html
from kvsender_spec.report.json import to_json
from kvsender_spec.report.junit import to_junit
from kvsender_spec.trace import load


def report_of(adapter: Adapter, extra: int = 0) -> SuiteReport:
    return run_suite(adapter, abilities(adapter), extra)


# ------------------------------------------------------------------------------------------------- good senders


def test_the_reference_sender_answers_every_sequence_of_k_0() -> None:
    report = report_of(reference.adapter)
    assert report.passed, report.summary
    assert (report.states, report.letters, report.sequences) == (16, 17, 780)
    assert report.domain == (
        "complete for deterministic senders with at most 16+0 states under this alphabet of 17 inputs, one room,"
        " 2 peers, that report a failure when its handles have settled"
    )


def test_a_fast_sender_answers_every_sequence_of_k_1() -> None:
    machine = machine_of(Reading.PATIENT)
    sequences = suite(machine, 1)
    assert len(sequences) == 12005
    assert all(ask(Fast, sequence) == machine.run(sequence) for sequence in sequences)
    for mutant in (*SHALLOW, *DEEP):
        assert any(ask(mutant, sequence) != machine.run(sequence) for sequence in sequences), mutant


def test_a_state_too_many_takes_an_extra_state_to_find() -> None:
    machine = machine_of(Reading.PATIENT)
    sequences = suite(machine, 0)
    missed = [
        mutant.__name__ for mutant in (*SHALLOW, *DEEP) if all(ask(mutant, w) == machine.run(w) for w in sequences)
    ]
    assert missed == ["SecondAbortRevives"]


@pytest.mark.parametrize("adapter", [reader.adapter, *CORRECT_READERS], ids=lambda adapter: adapter.name)
def test_a_right_reader_answers_every_sequence_of_k_0(adapter: Adapter) -> None:
    report = report_of(adapter)
    assert report.passed, report.shown
    assert (report.states, report.letters, report.sequences) == (18, 17, 967)
    assert report.reading is Reading.PATIENT_LOOKING
    assert report.domain.startswith("complete for deterministic readers with at most 18+0 states")


def test_a_reader_that_has_no_need_of_its_holders_any_more_has_another_machine() -> None:
    assert reading_of(ReaderAdapter(NeverLooksAtTheGrant)) is Reading.PATIENT
    assert reading_of(toy_reader.adapter) is Reading.PROMPT_LOOKING


class LooksMuchLater(InlineReader):
    """Waits for some more polls before it looks at the grant. A letter does not stand for so many."""

    waits = 9

    def complete(self) -> bool:
        if self.grants is None and self.closed and self.state is State.SENDING and self.waits:
            self.waits -= all(part.state == "done" for part in self.parts)
            return False
        return super().complete()


def test_a_reader_that_takes_more_polls_than_a_letter_has_is_not_complete() -> None:
    adapter = ReaderAdapter(LooksMuchLater)
    seen = run_sequence(adapter, (Letter.LAST, Letter.POLL_ALL), ignoring=EVERY_CLAUSE)
    mismatch = compare(seen, reading_of(adapter))
    assert mismatch is not None
    assert (mismatch.expected, mismatch.observed) == (Answer.SUCCESS, Answer.PENDING)


def test_what_was_posted_before_a_letter_does_not_finish_with_what_is_posted_in_it() -> None:
    seen = run_sequence(ReaderAdapter(), (Letter.LAST, Letter.POLL_PEER_0, Letter.POLL, Letter.POLL_PEER_1))
    assert [s.answer for s in seen.seen] == [Answer.ASKS, Answer.PENDING, Answer.PENDING, Answer.SUCCESS]


class AbortsAtOnce(InlineSender):
    """Reports an abort at once and an error when it has drained. The contract allows both."""

    def may_report(self) -> bool:
        return isinstance(self.cause, TransferAborted) or super().may_report()


def test_a_sender_that_mixes_the_readings_is_not_accused() -> None:
    adapter = InlineAdapter(AbortsAtOnce)
    machine = machine_of(Reading.PATIENT)
    sequences = [sequence for sequence in suite(machine, 0) if Letter.ABORT in sequence or Letter.CLEAR in sequence]
    assert len(sequences) > 100
    freely = 0
    for sequence in sequences:
        seen = run_sequence(adapter, sequence)
        assert compare(seen, Reading.PATIENT) is None
        assert not [v for letter in seen.seen for v in letter.violations]
        freely += tuple(s.answer for s in seen.seen) != machine.run(sequence)
    assert freely  # the freedom was used


# ----------------------------------------------------------------------------------------------- broken senders


def test_every_inline_mutant_is_told_apart_or_it_is_said_why_not() -> None:
    assert OUTSIDE.keys() <= {mutant.name for mutant in INLINE}
    assert len(INLINE) - len(OUTSIDE) == 38 + 12


@pytest.mark.parametrize("mutant", [m for m in INLINE if m.name not in OUTSIDE], ids=lambda mutant: mutant.name)
def test_a_mutant_within_the_alphabet_is_told_apart(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "SENDER_LIMIT_S", 1.0)  # one of them waits, in eight runs
    report = hunt(mutant, 0)
    assert report.failed
    for clause, example in report.broken.items():
        assert example.trace is not None
        assert replay(mutant.adapter, example.trace).shows(clause)


@pytest.mark.parametrize("mutant", [m for m in INLINE if m.name in STRICT], ids=lambda mutant: mutant.name)
def test_a_should_is_judged_where_it_counts(mutant: Mutant) -> None:
    assert hunt(mutant, 0, strict=True).broken.keys() == {mutant.breaks}


class LazyDeadline(InlineSender):
    """Looks at the clock in every fifth poll only. No clause says how often."""

    looks = 0

    def overdue(self) -> bool:
        self.looks += 1
        return self.looks % 5 == 0 and super().overdue()


@pytest.fixture(scope="module")
def lazy() -> Report:
    return check(InlineAdapter(LazyDeadline), examples=2, clauses=["KS-2.1"], suite=0)


def test_a_difference_that_breaks_no_clause_is_told_and_decides_nothing(lazy: Report) -> None:
    assert lazy.suite is not None
    assert lazy.suite.outcome is Outcome.INCONCLUSIVE
    assert lazy.suite.facts["differences"]
    assert lazy.suite.facts["broken"] == {}
    assert lazy.exit_code == 3
    assert "differ and break no clause" in lazy.suite.lines[0]
    assert any("no clause is broken: a freedom of the contract, or a hole in it" in line for line in lazy.suite.lines)


# ------------------------------------------------------------------------------------------------------ reports


@pytest.fixture(scope="module")
def broken() -> Report:
    return check(SeedAdapter(AfterTheFix), examples=5, clauses=["KS-2.1"], suite=0)


def test_a_sequence_that_breaks_a_clause_fails_the_check(broken: Report) -> None:
    assert broken.suite is not None
    assert broken.with_outcome(Outcome.FAIL, Outcome.FAIL_AFTER) == ()
    assert (broken.suite.outcome, broken.exit_code) == (Outcome.FAIL, 1)


def test_the_sequences_that_break_a_clause_come_first_and_end_the_suite() -> None:
    report = report_of(SeedAdapter(AfterTheFix))
    assert report.failed
    assert {"KS-1.1", "KS-1.2"} <= report.broken.keys()
    assert report.sequences < report.planned
    shown = report.shown
    assert shown == sorted(
        shown, key=lambda d: (not d.clauses, len(d.sequence) if d.mismatch is None else d.mismatch.at + 1)
    )


def test_every_report_has_the_suite(broken: Report, lazy: Report) -> None:
    document = json.loads(to_json([broken]))["suite"]
    assert (document["schema"], document["verdict"], document["k"]) == ("kvsender-suite/1", "fail", 0)
    assert (document["states"], document["inputs"], document["dropped_inputs"]) == (12, 15, ["abort", "clear"])
    assert "at most 12+0 states under this alphabet of 15 inputs" in document["fault_domain"]
    assert load(document["broken"]["KS-1.2"]).steps
    assert load(document["differences"][0]["trace"]).steps
    for report, kind in ((broken, "failure"), (lazy, "error")):
        assert report.suite is not None
        root = ElementTree.fromstring(to_junit([report]))
        (case,) = [case for case in root.iter("testcase") if case.get("name") == "the complete suite"]
        assert [child.tag for child in case] == [kind]
        domain = str(report.suite.facts["fault_domain"])
        assert domain in (case[0].text or "")
        assert root.get("tests") == str(len(report.verdicts) + 1)
        assert domain in to_html([report])


def test_a_report_without_the_suite_does_not_mention_it(broken: Report) -> None:
    without = replace(broken, suite=None)
    assert without.exit_code == 0
    assert "suite" not in json.loads(to_json([without]))
    assert "complete suite" not in to_html([without]) + to_junit([without])


def test_a_passing_suite_is_a_junit_case_that_passes(broken: Report) -> None:
    passed = SuiteReport(0, states=12, letters=15, planned=5, sequences=5).summarised()
    report = replace(broken, suite=passed)
    (case,) = [c for c in ElementTree.fromstring(to_junit([report])).iter("testcase") if "suite" in c.get("name", "")]
    assert [child.tag for child in case] == ["system-out"]
    assert (passed.outcome, report.exit_code) == (Outcome.PASS, 0)


def test_workers_make_it_not_applicable() -> None:
    report = report_of(WorkerAdapter())
    assert "worker threads" in report.not_applicable
    assert (report.passed, report.failed, report.sequences) == (False, False, 0)
    assert "not applicable" in report.summary
    assert report.outcome is Outcome.NOT_APPLICABLE
    assert report.summarised().lines == (f"complete suite: not applicable: {report.not_applicable}",)


class Breaks(toy.ToyAdapter):
    """An adapter that breaks when its system is opened for the fourth time."""

    opened = 0

    def open(self, world: World) -> toy.ToySystem:
        self.opened += 1
        if self.opened > 3:
            raise RuntimeError("no room at the inn")
        return super().open(world)


def test_an_adapter_that_breaks_is_no_difference(broken: Report) -> None:
    report = report_of(Breaks())
    assert "no room at the inn" in report.error
    assert not report.differences
    wrapped = replace(broken, suite=report.summarised())
    assert (report.outcome, wrapped.exit_code) == (Outcome.ERROR, 3)


# ---------------------------------------------------------------------------------------------------- the command


def test_the_command_runs_it_and_says_what_a_pass_means(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    arguments = ("check", "kvsender_spec.kit.toy:adapter", "KS-2.1", "--examples", "20", "--suite", "0")
    done = kvsender(*arguments, "--json", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "complete suite: pass: 416 sequences" in done.stdout
    # The toy has neither abort() nor clear(), and reports at once: a smaller machine, and fewer letters.
    domain = "complete for deterministic senders with at most 12+0 states under this alphabet of 15 inputs"
    assert f"{domain} (without abort, clear: the sender has no such call), one room, 2 peers," in done.stdout
    assert json.loads(path.read_text())["suite"]["verdict"] == "pass"


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("-1", "--suite takes 0 to 3 extra states, not -1"),
        ("4", "--suite takes 0 to 3 extra states, not 4"),
        ("many", "Invalid value for '--suite'"),
    ],
)
def test_the_command_refuses_a_wrong_number(extra: str, message: str) -> None:
    done = kvsender("check", "kvsender_spec.kit.toy:adapter", f"--suite={extra}")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_number_is_named() -> None:
    with pytest.raises(ValueError, match="takes 0 to 3 extra states, not 4"):
        report_of(toy.adapter, 4)


# --------------------------------------------------------------------------------------------------------- sequences


def test_a_sequence_becomes_a_room_with_its_chunks() -> None:
    assert setup_of((Letter.SEND, Letter.POLL, Letter.LAST, Letter.SEND)).chunks == ((1, 1),)
    assert setup_of((Letter.SEND, Letter.SEND)).chunks == ((1, 1, 1),)
    sequence = (Letter.SEND,) * 8
    assert too_long(sequence)
    with pytest.raises(ValueError, match="a room has 8 pages; the sequence sends 9 chunks"):
        setup_of(sequence)


def test_what_is_not_asked_is_not_held_against_a_sender() -> None:
    # The seed asks nothing before the last chunk is posted: it cannot know that a peer is gone.
    seed = SeedAdapter(AfterTheFix)
    sequence = (Letter.SEND, Letter.POLL_LOST_0, Letter.POLL, Letter.FAILURE_EXCEPTION)
    seen = run_sequence(seed, sequence, ignoring=EVERY_CLAUSE, to_the_end=False)
    assert [s.answer for s in seen.seen] == [Answer.ASKS, Answer.PENDING, Answer.PENDING, Answer.USAGE]
    assert compare(seen, Reading.PROMPT) is None
    told = replace(seen, seen=tuple(replace(s, asked=True) for s in seen.seen))
    assert compare(told, Reading.PROMPT) is not None  # the control


def test_the_reading_is_found_by_asking() -> None:
    assert reading_of(reference.adapter) is Reading.PATIENT
    assert reading_of(reference.latch) is Reading.PROMPT
