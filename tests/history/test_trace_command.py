"""``kvsender trace``: what it prints, what it refuses, and its exit codes."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from kvsender_spec import recorded
from kvsender_spec.clauses import BY_ID, CLAUSES
from kvsender_spec.history.events import AnyEvent, CallEnded
from kvsender_spec.history.header import Header
from kvsender_spec.history.ndjson import check, read
from kvsender_spec.history.schema import schema_page
from kvsender_spec.machine import Profile
from kvsender_spec.observe.observer import Observer
from kvsender_spec.observe.verdict import Evidence, Outcome, Verdict, Violation
from kvsender_spec.recorded import merged
from kvsender_spec.trace_command import trace_app

HISTORIES = Path(__file__).parents[1] / "histories"
GOOD = HISTORIES / "foreign-engine.ndjson"
BUG = HISTORIES / "foreign-engine-bug.ndjson"
SWITCHED = 44
"""The event at which the failed room of the engine with the bug answers Success."""


class Sticky:
    """Stands in for the observer: it knows KS-2.1, claims KS-2.8 and KS-8.1 for nobody, and passes the rest."""

    def __init__(self, header: Header) -> None:
        self.terminal: dict[int | None, str] = {}
        self.broken: list[Violation] = []
        self.claimed = header.profile

    def see(self, event: AnyEvent) -> None:
        if isinstance(event, CallEnded) and event.value is not None:
            before = self.terminal.get(event.room)
            if before not in (None, event.value):
                said = f"poll() answered {event.value}"
                self.broken.append(
                    Violation("KS-2.1", str(before), said, event.seq, event.room, contexts=frozenset({"KS-5.1"}))
                )
            if event.value in ("Success", "Failed"):
                self.terminal[event.room] = event.value

    def verdicts(self, profile: Profile | None = None) -> tuple[Verdict, ...]:
        verdicts = {clause.id: Verdict(clause, Outcome.PASS, 1) for clause in CLAUSES}
        against = self.claimed if profile is None else profile.value
        verdicts["KS-8.1"] = Verdict(BY_ID["KS-8.1"], Outcome.NOT_CLAIMED, note=f"not claimed by profile {against}")
        if self.broken:
            evidence = Evidence(self.broken[0])
            verdicts["KS-2.1"] = Verdict(BY_ID["KS-2.1"], Outcome.FAIL, 2, len(self.broken), evidence=evidence)
        return tuple(verdicts.values())


class Blind(Sticky):
    """It can tell nothing of KS-3.1, and breaks a SHOULD."""

    def verdicts(self, profile: Profile | None = None) -> tuple[Verdict, ...]:
        changed = {"KS-3.1": Outcome.INCONCLUSIVE, "KS-2.8": Outcome.FAIL}
        return tuple(replace(one, outcome=changed.get(one.clause.id, one.outcome)) for one in super().verdicts(profile))


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "observer_of", Sticky)


def invoke(*arguments: str | Path, stdin: bytes | None = None) -> Result:
    result = CliRunner().invoke(trace_app, [str(argument) for argument in arguments], input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


# ------------------------------------------------------------------------------------------------- check


def test_the_engines_histories_are_whole_and_differ_in_one_answer() -> None:
    good, bug = GOOD.read_text().splitlines(), BUG.read_text().splitlines()
    assert [number for number, (a, b) in enumerate(zip(good, bug, strict=True)) if a != b] == [SWITCHED + 1]
    for path in (GOOD, BUG):
        check(read(path))


def test_a_history_that_keeps_every_clause_passes() -> None:
    result = invoke("check", GOOD)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[: len(CLAUSES)]] == [clause.id for clause in CLAUSES]
    assert lines[5] == "KS-2.1 STICKY                 MUST    pass             1"
    assert lines[len(CLAUSES) - 1].endswith("not claimed by profile latch")
    assert lines[len(CLAUSES) :] == ["No MUST clause failed, and all that apply were observed."]


def test_a_broken_clause_is_told_with_the_first_event_that_shows_it() -> None:
    result = invoke("check", BUG)
    assert result.exit_code == 1
    assert result.stdout.splitlines()[len(CLAUSES) :] == [
        "KS-2.1 STICKY (MUST)",
        f"  rule      {BY_ID['KS-2.1'].text}",
        f"  source    {BY_ID['KS-2.1'].source}",
        "  expected  Failed",
        "  observed  poll() answered Success",
        f"  where     {BUG}, event {SWITCHED} at 0.015001 s, room 8042: poll() answered Success",
        "  contexts  KS-5.1 may be why",
        "At least one MUST clause failed.",
    ]


def test_of_several_histories_the_worst_counts_and_observations_add_up() -> None:
    result = invoke("check", GOOD, BUG)
    assert result.exit_code == 1
    assert "KS-2.1 STICKY                 MUST    fail             3" in result.stdout
    assert "KS-1.1 NO-ESCAPE              MUST    pass             2" in result.stdout
    assert f"{BUG}, event {SWITCHED}" in result.stdout
    assert invoke("check", BUG, GOOD).stdout == result.stdout


def test_what_cannot_be_decided_is_3_and_a_should_counts_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "observer_of", Blind)
    result = invoke("check", GOOD)
    assert result.exit_code == 3
    assert result.stdout.endswith("Undecided: no MUST clause failed, but at least one could not be decided.\n")
    strict = invoke("check", GOOD, "--strict")
    assert strict.exit_code == 1
    assert strict.stdout.endswith("At least one clause failed.\n")


def test_another_profile_is_checked_when_asked() -> None:
    assert "not claimed by profile quiescent" in invoke("check", GOOD, "--profile", "quiescent").stdout
    assert invoke("check", GOOD, "--profile", "best").exit_code == 2


def test_standard_input_is_read() -> None:
    result = invoke("check", "-", GOOD, stdin=BUG.read_bytes())
    assert result.exit_code == 1
    assert f"where     standard input, event {SWITCHED}" in result.stdout


def test_an_incomplete_history_is_named(tmp_path: Path) -> None:
    cut = tmp_path / "cut.ndjson"
    lines = GOOD.read_text().splitlines(keepends=True)
    cut.write_text("".join(lines[:-1]))
    assert f"{cut} is incomplete: it does not say how the run ended." in invoke("check", cut).stdout
    cut.write_text("".join(lines[:-1]) + lines[-1].replace('"why"', '"complete":false,"why"'))
    assert f"{cut} is incomplete: the run is cut off: the worker was stopped." in invoke("check", cut).stdout


def test_every_file_is_read_before_any_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Header] = []

    def new_observer(header: Header) -> Sticky:
        made.append(header)
        return Sticky(header)

    monkeypatch.setattr(recorded, "observer_of", new_observer)
    bad = tmp_path / "bad.ndjson"
    bad.write_text(GOOD.read_text().replace('"seq":3,', '"seq":4,'))
    result = invoke("check", GOOD, bad)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == f"kvsender trace: {bad}: line 5: seq must be 3, not 4\n"
    assert made == []
    assert invoke("check", GOOD).exit_code == 0
    assert len(made) == 1


@pytest.mark.parametrize("command", ["check", "show"])
def test_what_cannot_be_read_is_refused(command: str, tmp_path: Path) -> None:
    missing = tmp_path / "missing.ndjson"
    for path, reason in ((missing, "No such file or directory"), (tmp_path, "Is a directory")):
        result = invoke(command, path)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr == f"kvsender trace: cannot read {path}: {reason}\n"
    deep = invoke(command, "-", stdin=GOOD.read_bytes() + b"[" * 100_000)
    assert deep.exit_code == 2
    assert deep.stderr.startswith("kvsender trace: -: line 50: ")
    assert invoke(command).exit_code == 2


def test_a_file_that_is_named_twice_is_refused() -> None:
    result = invoke("check", GOOD, GOOD)
    assert result.exit_code == 2
    assert result.stderr == f"kvsender trace: {GOOD} is named twice\n"


def test_evidence_without_an_event_and_hostile_words_are_told_in_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    violation = Violation("KS-4.3", "released\x1b[2J", "not\nreleased", frames=("a.py:1 in \x07f",))
    verdict = Verdict(BY_ID["KS-4.3"], Outcome.FAIL_AFTER, 1, 1, "KS-1.1", evidence=Evidence(violation))

    def told(found: Verdict) -> list[str]:
        class Leaky(Sticky):
            def verdicts(self, profile: Profile | None = None) -> tuple[Verdict, ...]:
                return (found,)

        monkeypatch.setattr(recorded, "observer_of", Leaky)
        return invoke("check", GOOD).stdout.splitlines()[1:-1]

    rule = [f"  rule      {BY_ID['KS-4.3'].text}", f"  source    {BY_ID['KS-4.3'].source}"]
    assert told(verdict) == [
        "KS-4.3 NO-LEAK (MUST), only after KS-1.1",
        *rule,
        "  expected  released\\x1b[2J",
        "  observed  not",
        "            released",
        f"  where     {GOOD}: the whole of it, no single event",
        "  last frames of the error:",
        "    a.py:1 in \\x07f",
    ]
    assert told(replace(verdict, evidence=None)) == ["KS-4.3 NO-LEAK (MUST), only after KS-1.1", *rule]
    assert told(replace(verdict, outcome=Outcome.NOT_CLAIMED)) == []


def test_merging_keeps_the_order_of_the_contract() -> None:
    some = [Verdict(clause, Outcome.PASS, 1) for clause in reversed(CLAUSES)]
    assert [one.clause for one in merged([some, some[:3]])] == list(CLAUSES)
    assert merged([]) == ()


# ------------------------------------------------------------------------------------------------- show, schema


def test_show_tells_the_history() -> None:
    lines = invoke("show", GOOD).stdout.splitlines()
    assert lines[0].startswith("kvsender-history/1, foreign: example-engine prefill worker, profile latch, WRITE")
    assert lines[1] == "time 0 is 2025-11-03T09:14:07.250Z"
    assert lines[2].startswith("not recorded, or not completely: call.stuck, notification.sent, ")
    assert (
        "   30   0.009015    room 8042: the transport was asked: check handle 1; it raised nixlRemoteDisconnectError:"
        " NIXL_ERR_REMOTE_DISCONNECT" in lines
    )
    assert lines[-1] == "   47   0.015900  the run is complete: the worker was stopped"
    assert len(lines) <= len(GOOD.read_text().splitlines()) + 3


def test_show_writes_for_perfetto(tmp_path: Path) -> None:
    target = tmp_path / "trace.json"
    result = invoke("show", GOOD, "--perfetto", target)
    assert (result.exit_code, result.stdout) == (0, f"wrote {target}\n")
    written = json.loads(target.read_text())
    # The header's vantage names the kind once.
    assert sum(entry["ph"] == "X" for entry in written["traceEvents"]) == GOOD.read_text().count("call.started") - 1
    refused = invoke("show", GOOD, "--perfetto", tmp_path / "nowhere" / "trace.json")
    assert refused.exit_code == 2
    assert refused.stderr.startswith(f"kvsender trace: cannot write to {tmp_path}{os.sep}nowhere")


def test_schema_prints_the_page() -> None:
    assert invoke("schema").stdout == schema_page()


# ------------------------------------------------------------------------------------------------- the observer itself


def test_the_observer_says_what_the_engine_with_the_bug_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "observer_of", Observer)
    good = invoke("check", GOOD)
    assert good.exit_code == 3, "the engine records too little for some clauses"
    assert "fail" not in good.stdout.replace("failed", "")
    bug = invoke("check", BUG)
    assert bug.exit_code == 1
    for clause in ("KS-2.1 STICKY", "KS-2.2 NO-SUCCESS-AFTER-FAIL"):
        assert f"\n{clause} (MUST)\n" in bug.stdout
    assert f"{BUG}, event {SWITCHED}" in bug.stdout
