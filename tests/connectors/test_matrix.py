"""The matrix, its page and its complaints, from findings that no release has made; and the seed's own check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec
import pytest

from kvsender_connectors.adapters import seed
from kvsender_connectors.connectors import BY_KEY, CONNECTORS
from kvsender_connectors.findings import Findings, Result, Shown, examine
from kvsender_connectors.known import KNOWN, Kind, Known
from kvsender_connectors.page import Edition, write
from kvsender_spec.clauses import BY_ID, CLAUSES
from kvsender_spec.kit.adapter import RoomPlan, World
from kvsender_spec.kit.check import check
from kvsender_spec.kit.run.scripted_world import unrunnable
from kvsender_spec.machine import Profile
from kvsender_spec.observe.verdict import Breakdown, Evidence, Outcome, Report, Verdict, Violation
from kvsender_spec.printed import parse_step
from kvsender_spec.report.json import ReportError, document
from kvsender_spec.trace import Call, Setup, Step, Trace

SEED = BY_KEY["seed"]
TRACE = Trace(Setup(), (Step(Call.OPEN), Step(Call.SEND)))
OTHER_TRACE = Trace(Setup(), (*TRACE.steps, Step(Call.POLL)))
EDITION = Edition("2026-11-22", 0, 100, [("Python", "3.11")])
FOUND = Known(Kind.FOUND_HERE, ("seed",), ("KS-1.1",), "it <b>does</b> so")
TRACED = replace(FOUND, why="it shows so", trace=TRACE)


def fail(clause: str, observed: str = "bad", *, after: str = "", trace: Trace = TRACE) -> Verdict:
    evidence = Evidence(Violation(clause, "good", observed, seq=3, after=after), trace=trace)
    return Verdict(BY_ID[clause], Outcome.FAIL_AFTER if after else Outcome.FAIL, 2, 1, after, evidence=evidence)


def result(known: Sequence[Known], *fails: Verdict, shown: tuple[Shown, ...] = (), broke: bool = False) -> Result:
    """A check in which the given clauses fail and all others pass, as it comes out of the check's process."""
    failed = {verdict.clause.id: verdict for verdict in fails}
    verdicts = tuple(failed.get(clause.id, Verdict(clause, Outcome.PASS, 9)) for clause in CLAUSES)
    errors = (Breakdown("sender() raised", TRACE),) if broke else ()
    report = Report("the seed", Profile.FULL, 0, 10, 100, verdicts, errors=errors)
    return Result.read(SEED, msgspec.json.encode(Findings(document(report), shown)), known)


def test_a_fail_without_an_entry_and_an_entry_without_a_fail_are_said() -> None:
    assert result([FOUND], fail("KS-1.1")).complaints == []
    assert result([], fail("KS-1.1")).complaints == ["seed: KS-1.1 fails, and `known.py` does not say why"]
    (stale,) = result([FOUND]).complaints
    assert stale == "seed: KS-1.1 does not fail, and `known.py` says that it does: it <b>does</b> so"
    assert result([replace(FOUND, connectors=("sglang-0.5.11",))]).complaints == []


def test_a_fail_after_another_clause_is_explained_by_that_one() -> None:
    assert result([FOUND], fail("KS-1.1"), fail("KS-3.1", after="KS-1.1")).complaints == []


def test_an_adapter_that_breaks_is_said() -> None:
    assert result([], broke=True).complaints == ["seed: a run broke: sender() raised"]


def test_a_trace_that_comes_out_otherwise_is_said() -> None:
    def complaints(known: Known, *shown: bool) -> list[str]:
        return result([known], fail("KS-1.1"), shown=tuple(Shown(known.why, one, "x") for one in shown)).complaints

    elsewhere = replace(TRACED, connectors=("sglang-0.5.11",))
    assert complaints(TRACED, True) == []
    assert complaints(TRACED, False) == ["seed: “it shows so” was not shown, although it is known (x)"]
    assert complaints(TRACED) == ["seed: “it shows so” was not shown, although it is known (it was not run)"]
    assert [line.partition("“")[2] for line in complaints(elsewhere, True)[1:]] == [
        "it shows so” was shown, which is new (x)"
    ]
    assert len(complaints(elsewhere, False)) == 1, "only that nothing explains the fail"


def test_the_page_has_the_matrix_the_traces_and_each_fail() -> None:
    public = Known(Kind.PUBLIC, ("seed",), ("KS-1.1",), "it does so", ("sgl-project/sglang#24296",))
    page = write(
        EDITION,
        [
            result(
                [public, FOUND],
                fail("KS-1.1", "a|b *c* <d>"),
                fail("KS-2.7", trace=OTHER_TRACE),
                fail("KS-3.1", "later", after="KS-1.1", trace=OTHER_TRACE),
                shown=tuple(Shown(entry.why, True) for entry in KNOWN if entry.trace is not None),
            )
        ],
    )
    assert "*2026-11-22; seed 0, the sweep and 100 random runs for each; Python 3.11.*" in page
    assert "| KS-1.1 NO-ESCAPE | **fail**¹ |" in page
    assert "| KS-1.2 CATCH-SET | pass |" in page
    assert "| KS-3.1 NO-FALSE-SUCCESS | **fail after KS-1.1** |" in page
    assert "[sgl-project/sglang#24296](https://github.com/sgl-project/sglang/issues/24296)" in page
    assert "a|b &#42;c&#42; &lt;d&gt;" in page
    assert "it &lt;b&gt;does&lt;/b&gt; so" in page
    assert "1. open(0)\n2. send(0)\n```" in page
    assert "KS-1.1 NO-ESCAPE (MUST); with it KS-3.1: it does so</summary>" in page
    assert "KS-2.7 NOT-FAILED (MUST): not explained yet</summary>" in page
    assert "* trace: rooms of 1 pages, 1 peer: `open(0)`, `send(0)`, `poll(0)`" in page
    assert all(f"{entry.why} |" in page for entry in KNOWN if entry.trace is not None)
    assert page.count("<details>") == page.count("</details>") == 2


def test_the_table_is_about_connectors_and_clauses_that_exist() -> None:
    for entry in KNOWN:
        assert entry.connectors
        assert set(entry.connectors) <= BY_KEY.keys()
        assert entry.clauses
        assert set(entry.clauses) <= BY_ID.keys()
        assert bool(entry.references) is (entry.kind is Kind.PUBLIC), entry.why
        assert entry.trace is None or not unrunnable(entry.trace), entry.why
    traced = [entry.why for entry in KNOWN if entry.trace is not None]
    assert len(set(traced)) == len(traced)
    assert len(BY_KEY) == len(CONNECTORS)


@pytest.mark.parametrize("change", [("{", ""), ("/2", "/1"), ("KS-1.1", "KS-9.99"), ('"shown"', '"nothing"')])
def test_what_is_no_findings_is_refused(change: tuple[str, str]) -> None:
    report = document(Report("the seed", Profile.FULL, 0, 1, 1, (Verdict(BY_ID["KS-1.1"], Outcome.PASS, 1),)))
    text = msgspec.json.encode(Findings(report, (Shown("x", True),))).decode()
    Result.read(SEED, text)
    with pytest.raises(ReportError):
        Result.read(SEED, text.replace(*change))


@pytest.fixture(scope="module")
def seed_result() -> Result:
    """The check of the seed's sender, as it travels between processes."""
    return Result.read(SEED, msgspec.json.encode(examine(seed.adapter, seed=0, examples=60)))


def test_the_seed_comes_out_as_it_is_known_to(seed_result: Result) -> None:
    assert seed_result.complaints == []


def test_the_seed_catches_three_classes_and_no_other(seed_result: Result) -> None:
    verdicts = {verdict.clause.id: verdict for verdict in seed_result.report.verdicts}
    assert all(verdicts[clause].outcome is Outcome.FAIL for clause in ("KS-1.1", "KS-1.2"))
    assert all(verdicts[clause].outcome is Outcome.PASS for clause in ("KS-1.5", "KS-2.1"))
    # A caller that catches what escaped and goes on gets Success without the chunk.
    assert (verdicts["KS-3.1"].outcome, verdicts["KS-3.1"].after) == (Outcome.FAIL_AFTER, "KS-1.2")


SILENT = "a worker waits for one room's transfers"


def test_a_trace_shows_a_circumstance_only_where_it_needs_it() -> None:
    """The seed never ends a room with a silent peer, of whatever other room: no other room's peer is why."""
    (entry,) = (entry for entry in KNOWN if entry.why.startswith(SILENT))
    both = Trace(
        replace(Setup(), chunks=((1,), (1,)), peers=2, shared=False, silent=True), (entry.trace or TRACE).steps
    )
    findings = examine(seed.adapter, seed=0, examples=1, known=[replace(entry, trace=both)])
    (shown,) = findings.shown
    assert not shown.shown
    assert "KS-3.4" in shown.observed


def test_what_only_breaks_later_is_named_by_the_circumstance_of_its_shortest_trace() -> None:
    """KS-2.7 breaks first in this run; the shortened trace leaves it out, and keeps the caller's mistake."""
    calls = ["open(0)", "failure_exception(0)", "send(0) with more pages than announced", "send(0)"]
    trace = Trace(Setup(chunks=((0,),)), tuple(map(parse_step, calls)))
    report = check(seed.adapter, examples=1, sweep=(), profile=Profile.FULL, clauses=["KS-3.2"], traces=[trace])
    (verdict,) = report.verdicts
    assert (verdict.outcome, verdict.after) == (Outcome.FAIL_AFTER, "KS-8.1")


class _Flipping(seed.SeedSender):
    """abort() makes a failure of whatever the room has come to."""

    def abort(self) -> None:
        self._send_failed = True


class _FlippingSystem(seed.SeedSystem):
    def sender(self, plan: RoomPlan) -> _Flipping:
        return _Flipping(self._world, plan)


class _FlippingAdapter(seed.Adapter):
    def open(self, world: World) -> _FlippingSystem:
        return _FlippingSystem(world)


def test_a_circumstance_that_a_trace_needs_is_evidence_for_its_clause() -> None:
    entry = next(entry for entry in KNOWN if entry.why == "a late abort() turns Success into Failed")
    findings = examine(_FlippingAdapter(), seed=0, examples=1, known=[entry])
    assert findings.shown == (Shown(entry.why, True, "KS-2.1: poll() answered Failed"),)
    assert findings.report.clause("KS-5.1").verdict is Outcome.FAIL
    without = examine(seed.adapter, seed=0, examples=1, known=[entry])
    assert without.shown == (Shown(entry.why, False),), "the seed has no abort()"
