"""The report in a terminal: the causes first, then the table, and nothing that a sender wrote does harm there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.report.made import breaking, evidence, failing, hostile, passing, printed, success_after_failure, undecided
from tests.report.made import broken as failed

from kvsender_spec.clauses import BY_ID, CLAUSES, Level
from kvsender_spec.history.plain import one_line, printable, short
from kvsender_spec.observe.verdict import Outcome, Report, SuiteSummary, Violation
from kvsender_spec.report.text import (
    breakdowns,
    causes,
    conclusion,
    counterexample,
    of_one_trace,
    render,
    render_matrix,
    render_run,
    style,
    summary,
)


def text_of(report: Report, width: int = 160) -> str:
    console, out = printed(width)
    render(report, console)
    return out.getvalue()


def test_the_causes_come_first_then_the_table() -> None:
    text = text_of(failing())
    places = [
        text.index(words)
        for words in (
            "swallows, profile quiescent (the adapter claims full), seed 0",
            "Does not conform: 4 MUST clauses failed.",
            "KS-2.2 NO-SUCCESS-AFTER-FAIL (MUST); with it KS-1.2, KS-3.1\n",
            "KS-6.1 NOTIFY-PEER (MUST)\n",
            "KS-1.1 NO-ESCAPE",
            "not claimed, and broken:",
            "\n3 fail, 1 fail after, 1 inconclusive, ",
        )
    ]
    assert places == sorted(places)
    assert text.rstrip().endswith(summary(failing()))


def test_a_group_reads_alone() -> None:
    group = causes(failing())[0]
    lines = str(counterexample(group.cause, group.consequences)).splitlines()
    assert lines == [
        "KS-2.2 NO-SUCCESS-AFTER-FAIL (MUST); with it KS-1.2, KS-3.1",
        f"  rule      {BY_ID['KS-2.2'].text}",
        f"  source    {BY_ID['KS-2.2'].source}",
        "  expected  Failed, because handle 2 was refused",
        "  observed  Success after injected nixlBackendError",
        "  setup     rooms of 1+1 pages, 2 peers",
        "  shortest trace found:",
        "    1. open(0)",
        "    2. send(0) with post[1]=nixlBackendError",
        "    3. poll(0) after all finished",
        "    4. poll(0)",
        "  with it   KS-1.2 CATCH-SET (MUST), broken by the same trace as KS-2.2: expected the room fails; observed:"
        " injected nixlBackendError",
        "  with it   KS-3.1 NO-FALSE-SUCCESS (MUST), broken only after KS-2.2: expected equal bytes; observed: page 0"
        " differs",
    ]


def test_the_verdicts_of_one_trace_are_told_from_the_others() -> None:
    group = causes(failing())[0]
    assert [verdict.clause.id for verdict in of_one_trace(group)] == ["KS-2.2", "KS-1.2", "KS-3.1"]
    history, shown = success_after_failure()
    elsewhere = failed("KS-3.1", evidence("KS-3.1", shown, history, None, after="KS-2.2"))
    assert [v.clause.id for v in of_one_trace(replace(group, consequences=(elsewhere,)))] == ["KS-2.2"]


def test_what_breaks_only_after_a_clause_that_did_not_fail_comes_last() -> None:
    history, shown = success_after_failure()
    orphan = failed("KS-1.1", evidence("KS-1.1", shown, history, after="KS-5.2"))
    report = failing()
    report = replace(report, verdicts=(orphan, *report.verdicts[1:]))
    assert [group.cause.clause.id for group in causes(report)] == ["KS-2.2", "KS-6.1", "KS-1.1"]
    assert "KS-1.1 NO-ESCAPE (MUST), only after KS-5.2\n" in text_of(report)
    assert "fail after KS-5.2" in text_of(report)


def test_what_is_not_claimed_stands_apart_with_its_first_trace() -> None:
    text = text_of(failing())
    assert (
        "\nnot claimed, and broken:\n  KS-8.1 BAD-INPUT: not claimed; broken 2 of 4; first by rooms of 1 pages, 1 peer:"
        " open(0); kill(0); send(0); abort(0); poll(0)\n"
    ) in text
    assert "KS-7.2: not claimed by profile quiescent" in text
    assert "KS-7.1: not applicable: the system has no workers" in text
    assert "KS-3.6: inconclusive: never observed" in text


def test_how_the_adapter_broke_is_said_once_with_its_last_frames() -> None:
    report = breaking()
    assert [error.message for error in breakdowns(report)] == [
        "open raised OSError: no such device",
        "sender raised KeyError: 3",
    ]
    text = text_of(report)
    assert text.count("the adapter broke: ") == 2
    assert text.count("    adapter.py:12 in open\n") == 1
    assert "Undecided: no MUST clause failed" in text


def test_frames_contexts_and_where_are_shown() -> None:
    found = evidence("KS-1.1", 0, None, None, where="trace.ndjson")
    violation = replace(found.violation, frames=("sender.py:3 in poll",), contexts=frozenset({"KS-5.3", "KS-5.2"}))
    lines = str(counterexample(failed("KS-1.1", replace(found, violation=violation)))).splitlines()
    assert "  where     trace.ndjson" in lines
    assert "  contexts  KS-5.2, KS-5.3 may be why" in lines
    assert lines[-2:] == ["  last frames of the error:", "    sender.py:3 in poll"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (failing, "Does not conform: 4 MUST clauses failed."),
        (passing, "Conforms: every MUST clause that applies passes."),
        (undecided, "Undecided: no MUST clause failed, but at least one could not be decided, or the adapter broke."),
    ],
)
def test_the_conclusion_agrees_with_the_exit_code(make: Callable[[], Report], words: str) -> None:
    report = make()
    assert conclusion(report) == words
    assert report.exit_code == {"D": 1, "C": 0, "U": 3}[words[0]]


def test_a_should_counts_only_when_strict() -> None:
    should = next(clause for clause in CLAUSES if clause.level is Level.SHOULD)
    found = failed(should.id, evidence(should.id, -1, None))
    report = replace(passing(), verdicts=(found,))
    assert conclusion(report).startswith("Conforms: every MUST clause")
    assert conclusion(replace(report, strict=True)) == "Does not conform: 1 clause failed."


def test_the_complete_suite_is_told() -> None:
    suite = SuiteSummary(Outcome.FAIL, ("complete suite: fail: 3 sequences", "  poll; poll"), {})
    report = replace(passing(), suite=suite)
    assert "complete suite: fail: 3 sequences\n  poll; poll\n" in text_of(report)
    assert conclusion(report) == "Does not conform: the complete suite failed."


def test_several_senders_are_compared() -> None:
    console, out = printed()
    render_matrix([passing(), failing(), replace(undecided(), verdicts=undecided().verdicts[:-1])], console)
    rows = [" ".join(line.split()) for line in out.getvalue().splitlines()]
    assert "│ KS-2.2 NO-SUCCESS-AFTER-FAIL │ pass │ fail │ pass │" in rows
    assert "│ KS-3.1 NO-FALSE-SUCCESS │ pass │ fail after KS-2.2 │ pass │" in rows
    assert "│ KS-7.1 NO-WORKER-DEATH │ pass │ - │ pass │" in rows
    assert "│ KS-8.1 BAD-INPUT │ pass │ not claimed; broken 2 of 4 │ │" in rows
    assert "│ result │ conforms │ does not conform │ undecided │" in rows


def test_a_run_is_told_with_what_it_broke() -> None:
    history, shown = success_after_failure()
    console, out = printed(40)
    render_run(history, [Violation("KS-2.2", "Failed", "Success", seq=shown, frames=("a.py:1",))], console)
    assert "!      breaks KS-2.2 NO-SUCCESS-AFTER-FAIL (MUST)\n" in out.getvalue()
    assert "\n  expected  Failed\n  observed  Success\n  last frames of the error:\n    a.py:1\n" in out.getvalue()
    console, out = printed()
    render_run(history, [], console)
    assert out.getvalue().endswith("no clause was broken\n")


@pytest.mark.parametrize("width", [40, 160])
def test_hostile_texts_do_no_harm(width: int) -> None:
    text = text_of(hostile(), width)
    assert text.replace("\n", "").isprintable()
    assert "\\x1b[31m]]>&amp;\\ud800😀{{7*7}}" in text
    assert len(text) < 40_000
    assert "98000 more characters" in text.replace("\n", " ") or "more characters)" in text
    console, out = printed(width)
    render_matrix([hostile(), passing()], console)
    assert "\x1b" not in out.getvalue()


def test_an_error_text_cannot_pass_for_a_field() -> None:
    found = evidence("KS-1.1", 0, None, observed="no\n  expected  all is well\r\nKS-1.1 passes")
    lines = str(counterexample(failed("KS-1.1", found))).splitlines()
    assert not any(line.startswith(("  expected  all", "KS-1.1 passes")) for line in lines)


def test_every_outcome_has_a_colour() -> None:
    assert {style(outcome) for outcome in Outcome} == {"bold red", "yellow", "green", "dim"}


def test_printable_and_short() -> None:
    assert printable("a\x00\ud800\n\tä😀\x7f\x9b") == "a\\x00\\ud800\n\tä😀\\x7f\\x9b"
    assert short("abc", 3) == "abc"
    assert one_line("a\r\nb", 9) == "a\\r\\nb"
    assert short("abcd", 3) == "abc ... (1 more characters)"
