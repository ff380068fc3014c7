"""The JSON of a report: what is in it, and that it is read back as it was written."""

from __future__ import annotations

import json
from collections.abc import Callable

import msgspec
import pytest
from tests.report.made import HOSTILE, LONG, TRACE, breaking, failing, hostile, passing, undecided

from kvsender_spec.clauses import CLAUSES
from kvsender_spec.machine import Profile
from kvsender_spec.observe.verdict import Outcome, Report
from kvsender_spec.report.json import ReportError, document, load_report, to_json

OLD_FIELDS = {"schema", "adapter", "profile", "claims", "strict", "seed", "runs", "steps", "exit_code", "errors"}


def test_every_field_is_there() -> None:
    written = json.loads(to_json([failing()]))
    assert written.keys() == OLD_FIELDS | {"clauses"}
    assert (written["schema"], written["profile"], written["claims"]) == ("kvsender-report/2", "quiescent", "full")
    assert (written["seed"], written["runs"], written["steps"], written["exit_code"]) == (0, 100, 1234, 1)
    rows = {row["id"]: row for row in written["clauses"]}
    assert list(rows) == [clause.id for clause in CLAUSES]
    always = {"id", "name", "level", "verdict", "observations", "broken", "after", "contexts", "note", "text"}
    assert rows["KS-1.1"].keys() == always
    assert rows["KS-2.2"].keys() == always | {"expected", "observed", "first_event", "trace"}
    assert (rows["KS-3.1"]["verdict"], rows["KS-3.1"]["after"]) == ("fail after", "KS-2.2")
    unclaimed = rows["KS-8.1"]
    assert (unclaimed["verdict"], unclaimed["broken"], unclaimed["observations"]) == ("not claimed", 2, 4)
    assert rows["KS-3.6"]["note"] == "never observed"
    assert rows["KS-2.2"]["trace"] == TRACE.dump().splitlines()
    assert "first_event" not in rows["KS-6.1"]


@pytest.mark.parametrize("make", [failing, passing, undecided, breaking, hostile])
def test_it_is_read_back(make: Callable[[], Report]) -> None:
    report = make()
    (read,) = load_report(to_json([report]))
    assert read == document(report)
    assert read.exit_code == report.exit_code
    assert document(read.restored()) == msgspec.structs.replace(read, suite=None)
    assert [clause.verdict for clause in read.clauses] == [verdict.outcome for verdict in report.verdicts]
    for clause, verdict in zip(read.clauses, report.verdicts, strict=True):
        if verdict.evidence is not None and verdict.evidence.trace is not None:
            assert clause.load_trace() == verdict.evidence.trace


def test_several_reports_are_one_document_and_the_worst_decides() -> None:
    written = json.loads(to_json([passing(), failing(), undecided()]))
    assert (written["schema"], written["exit_code"]) == ("kvsender-reports/2", 1)
    assert [report["exit_code"] for report in written["reports"]] == [0, 1, 3]
    assert {report["schema"] for report in written["reports"]} == {"kvsender-report/2"}
    read = load_report(to_json([passing(), failing()]))
    assert [report.adapter for report in read] == ["good", "swallows"]
    assert json.loads(to_json([passing(), undecided()]))["exit_code"] == 3


def test_what_does_not_exist_is_not_restored() -> None:
    (read,) = load_report(to_json([failing()]))
    for change in ({"id": "KS-9.99"}, {"expected": "x", "trace": ("nonsense",)}):
        clause = msgspec.structs.replace(read.clauses[0], **change)
        with pytest.raises(ReportError, match=r"KS-9\.99|KS-1\.1"):
            msgspec.structs.replace(read, clauses=(clause,)).restored()


def test_a_clause_is_found_and_what_is_missing_is_named() -> None:
    (read,) = load_report(to_json([failing()]))
    assert read.profile is Profile.QUIESCENT
    assert read.clause("KS-2.2").verdict is Outcome.FAIL
    assert read.clause("KS-2.2").load_trace() == TRACE
    with pytest.raises(ReportError, match=r"KS-1\.1 has no trace: its verdict is 'pass'"):
        read.clause("KS-1.1").load_trace()
    with pytest.raises(ReportError, match=r"about KS-1\.1, .*, not 'KS-9\.9'"):
        read.clause("KS-9.9")


def test_hostile_texts_are_written_whole() -> None:
    text = to_json([hostile()])
    (read,) = load_report(text)
    expected = (LONG + HOSTILE).replace("\ud800", "\\ud800")
    assert read.clause("KS-5.1").observed == expected
    assert read.clause("KS-5.1").contexts == ("KS-5.2",)
    assert json.loads(text)["suite"]["verdict"] == "fail"
    assert text.encode("utf-8").decode() == text
    assert len(read.errors) == 3
    assert read.errors[0].frames[0] == "adapter.py:12 in open"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("kvsender-report/2", "kvsender-report/1"), "not 'kvsender-report/1'"),
        (('"schema"', '"form"'), "missing required field `schema`"),
        (('"verdict": "fail"', '"verdict": "wrong"'), r"'wrong' - at `\$\.clauses\[1\]\.verdict`"),
        (('"seed": 0', '"seed": "zero"'), r"Expected `int`, got `str` - at `\$\.seed`"),
        (('"profile": "quiescent"', '"profile": "most"'), "'most'"),
        (("{", "["), "not a report: "),
        (('"adapter"', '"suite": ' + "[" * 9000 + '"adapter"'), "not a report: "),
    ],
)
def test_what_is_no_report_is_refused_by_name(change: tuple[str, str], message: str) -> None:
    text = to_json([failing()])
    assert change[0] in text
    with pytest.raises(ReportError, match=message):
        load_report(text.replace(*change))
    for nonsense in (b"\xff", "", "\ud800", "{}"):
        with pytest.raises(ReportError):
            load_report(nonsense)


def test_a_trace_that_cannot_be_read_is_named() -> None:
    text = to_json([failing()]).replace("kvsender-trace/2", "kvsender-trace/7")
    (read,) = load_report(text)
    with pytest.raises(ReportError, match=r"the trace of KS-2\.2: line 1: format must be .*, not 'kvsender-trace/7'"):
        read.clause("KS-2.2").load_trace()


def test_a_reader_ignores_fields_that_it_does_not_know() -> None:
    text = to_json([failing()]).replace('"seed": 0', '"seed": 0, "later": [1]').replace('"after"', '"new": 1, "after"')
    assert load_report(text) == load_report(to_json([failing()]))
