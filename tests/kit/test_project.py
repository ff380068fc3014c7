"""The project file, known failures, and where reports go, as somebody meets them who has a project of his own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
from tests.kit.test_cli import ROOT

from kvsender_spec.clauses import BY_ID
from kvsender_spec.deviations import Deviation, DeviationError, read_baseline, to_write, with_deviations, write_baseline
from kvsender_spec.machine import Profile
from kvsender_spec.observe.verdict import Outcome, Report, Verdict
from kvsender_spec.project import Settings, find_project
from kvsender_spec.project_schema import project_schema
from kvsender_spec.report.json import load_report

MINE = """\
import sys
from tests.mutants.broken import LastErrorWins
from tests.mutants.inline import InlineAdapter
print("the adapter prints this")
print("and this", file=sys.stderr)
right = InlineAdapter()
right.name = "right"
wrong = InlineAdapter(LastErrorWins)
wrong.name = "wrong"
"""
WRONG = '[tool.kvsender]\nadapters = ["mine:wrong"]\nbudget = "quick"\nclauses = ["KS-2"]\n'


def kvsender(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    program = "from kvsender_spec.cli import main; main()"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(ROOT)])}
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env=environment,
    )


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path


# ------------------------------------------------------------------------------------------------- the project file


def test_check_without_arguments_does_what_the_project_file_says(here: Path) -> None:
    (here / "pyproject.toml").write_text(
        '[project]\nname = "theirs"\n[tool.kvsender]\nadapters = ["mine:right"]\nbudget = "quick"\nseed = 3\n'
        'profile = "latch"\nclauses = ["STICKY", "KS-1.5"]\nreports = {json = "out/../r.json"}\n'
    )
    below = here / "tests" / "deep"
    below.mkdir(parents=True)
    (here / "out").mkdir()
    done = kvsender("check", cwd=below)
    assert done.returncode == 0, done.stdout + done.stderr
    (document,) = load_report((here / "r.json").read_bytes())
    assert (document.adapter, document.seed, document.profile) == ("right", 3, Profile.LATCH)
    assert [clause.id for clause in document.clauses] == ["KS-1.5", "KS-2.1"]
    assert document.made_by is not None
    assert document.made_by.budget == "quick"


def test_the_command_line_comes_before_the_project_file(here: Path) -> None:
    (here / "kvsender.toml").write_text(
        'adapters = ["nobody:adapter"]\nbudget = "nightly"\nreports = {json = "r.json"}\n'
    )
    done = kvsender("check", "mine:right", "KS-2.1", "--examples", "3", "--seed", "9", "--json", "mine.json", cwd=here)
    assert done.returncode == 0, done.stdout + done.stderr
    (document,) = load_report((here / "mine.json").read_bytes())
    assert document.seed == 9
    assert document.made_by is not None
    assert document.made_by.budget == "3 runs"
    assert not (here / "r.json").exists(), "where reports of other adapters go, the project file does not say"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[tool.kvsender]\nadapter = []\n", "pyproject.toml: Object contains unknown field `adapter`"),
        (
            '[tool.kvsender]\nbudget = "huge"\n',
            "pyproject.toml: Invalid enum value 'huge' - at `$.tool.kvsender.budget`",
        ),
        ("[tool.kvsender]\njobs = 0\n", "pyproject.toml: Expected `int` >= 1"),
        ("[tool.kvsender\n", "pyproject.toml: "),
        ('[tool.kvsender]\nclauses = ["KS-9.99"]\n', "pyproject.toml: no such clause: KS-9.99"),
        (
            '[[tool.kvsender.deviations]]\nclause = "KS-2"\nreason = "x"\n',
            "'KS-2' is the id of no clause: write one of",
        ),
        ('[[tool.kvsender.deviations]]\nclause = "KS-2.1"\nreason = " "\n', "there is no reason for KS-2.1"),
        ("[tool.other]\n", "names no adapter: write module:attribute"),
    ],
)
def test_a_project_file_that_cannot_be_used_is_refused(here: Path, text: str, said: str) -> None:
    (here / "pyproject.toml").write_text(
        text.replace("[tool.kvsender]\n", '[tool.kvsender]\nadapters = ["mine:right"]\n')
    )
    done = kvsender("check", cwd=here)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_is_not_text_is_refused(here: Path) -> None:
    (here / "kvsender.toml").write_bytes(b"\xff\xfe")
    done = kvsender("check", cwd=here)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "kvsender.toml: " in done.stderr


def test_the_schema_has_every_setting() -> None:
    shipped = json.loads(project_schema())
    assert set(shipped["$defs"]["Settings"]["properties"]) == set(Settings.__struct_fields__)
    assert shipped["$defs"]["Settings"]["additionalProperties"] is False
    assert (ROOT / "docs" / "project.schema.json").read_text() == project_schema()


def test_the_nearest_project_file_counts(here: Path) -> None:
    (here / "pyproject.toml").write_text("[tool.kvsender]\nseed = 1\n")
    below = here / "below"
    below.mkdir()
    (below / "pyproject.toml").write_text("[tool.ruff]\n")
    assert find_project(below).settings.seed == 1, "a pyproject.toml without the table is somebody else's"
    (below / "kvsender.toml").write_text("seed = 2\n")
    assert find_project(below).settings.seed == 2
    assert find_project(here).settings.seed == 1


# ------------------------------------------------------------------------------------------------- known failures


def test_with_a_baseline_only_new_failures_fail(here: Path) -> None:
    (here / "pyproject.toml").write_text(WRONG)
    assert kvsender("check", cwd=here).returncode == 1
    wrote = kvsender("baseline", "--reason", "kept on purpose", "--reference", "https://example.org/71", cwd=here)
    assert wrote.returncode == 0, wrote.stderr
    baseline = here / "kvsender-baseline.toml"
    entries = read_baseline(baseline)
    assert [(entry.clause, entry.adapter) for entry in entries] == [("KS-2.3", "wrong"), ("KS-2.4", "wrong")]
    assert str(entries[0]) == "kept on purpose (https://example.org/71)"
    known = kvsender("check", "--json", "r.json", "--junit", "r.xml", "--html", "r.html", cwd=here)
    assert known.returncode == 0, known.stdout + known.stderr
    assert "Conforms but for 3 failures that are known" in known.stdout
    (document,) = load_report((here / "r.json").read_bytes())
    assert {clause.id for clause in document.clauses if clause.known} == {"KS-2.3", "KS-2.4", "KS-2.8"}
    assert ElementTree.parse(here / "r.xml").getroot().get("failures") == "0"
    assert "kept on purpose" in (here / "r.html").read_text()

    write_baseline(baseline, entries[1:])
    new = kvsender("check", cwd=here)
    assert new.returncode == 1
    assert "KS-2.3 FIRST-CAUSE (MUST)" in new.stdout

    write_baseline(baseline, [*entries, Deviation(clause="KS-2.1", reason="it was so", adapter="wrong")])
    stale = kvsender("check", "--junit", "r.xml", cwd=here)
    assert stale.returncode == 1
    assert "KS-2.1 is among the known failures, and does not fail: take it out" in stale.stdout
    assert ElementTree.parse(here / "r.xml").getroot().get("failures") == "1"

    again = kvsender("baseline", cwd=here)
    assert "stale KS-2.1 wrong: it was so" in again.stdout
    assert read_baseline(baseline) == entries, "what was there keeps its reason"


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (
            'clause = "KS-2.3"\nreason = "x"\nadapter = "nobody"',
            "KS-2.3, is of 'nobody', and no such adapter is checked",
        ),
        ('clause = "KS-2.3"', "Object missing required field `reason`"),
        ('clause = "KS-2.3"\nreason = "x"\nbug = 1', "Object contains unknown field `bug`"),
        ('clause = "KS-0.3"\nreason = "x"', "no such clause: KS-0.3"),
    ],
)
def test_a_known_failure_that_cannot_be_meant_is_refused(here: Path, entry: str, said: str) -> None:
    (here / "pyproject.toml").write_text(WRONG)
    (here / "kvsender-baseline.toml").write_text(f"[[deviations]]\n{entry}\n")
    done = kvsender("check", cwd=here)
    assert done.returncode == 2
    assert said in done.stderr


def test_what_both_files_list_is_listed_twice(here: Path) -> None:
    listed = '[[{}deviations]]\nclause = "KS-2.3"\nreason = "x"\n'
    (here / "pyproject.toml").write_text(WRONG + listed.format("tool.kvsender."))
    (here / "kvsender-baseline.toml").write_text(listed.format(""))
    done = kvsender("check", cwd=here)
    assert (done.returncode, "there are two entries for KS-2.3" in done.stderr) == (2, True)


def report(**outcomes: Outcome) -> Report:
    clauses = {name.replace("_", "-", 1).replace("_", "."): outcome for name, outcome in outcomes.items()}
    verdicts = tuple(
        Verdict(BY_ID[clause], outcome, 1, 1, after="KS-2.3" if outcome is Outcome.FAIL_AFTER else "")
        for clause, outcome in clauses.items()
    )
    return Report("theirs", Profile.FULL, 0, 1, 1, verdicts)


def known(*clauses: str, adapter: str = "") -> list[Deviation]:
    return [Deviation(clause=clause, reason="because", adapter=adapter) for clause in clauses]


def test_what_is_only_broken_after_a_known_failure_goes_with_it() -> None:
    found = report(KS_2_3=Outcome.FAIL, KS_2_8=Outcome.FAIL_AFTER)
    assert with_deviations(found, known("KS-2.3")).exit_code == 0
    assert with_deviations(found, known("KS-2.8")).exit_code == 1
    assert [entry.clause for entry in to_write([found], [], reason="", reference="")] == ["KS-2.3"]


@pytest.mark.parametrize("outcome", [Outcome.PASS, Outcome.NOT_APPLICABLE, Outcome.NOT_CLAIMED])
def test_an_entry_whose_clause_does_not_fail_is_stale(outcome: Outcome) -> None:
    assert with_deviations(report(KS_2_3=outcome), known("KS-2.3")).stale == ("KS-2.3",)
    assert with_deviations(report(KS_2_3=outcome), known("KS-2.3", adapter="another")).stale == ()


@pytest.mark.parametrize("outcome", [Outcome.INCONCLUSIVE, Outcome.ERROR])
def test_an_entry_excuses_no_clause_that_could_not_be_judged(outcome: Outcome) -> None:
    found = with_deviations(report(KS_2_3=outcome), known("KS-2.3"))
    assert (found.exit_code, found.stale) == (3, ())
    assert to_write([found], known("KS-2.3"), reason="", reference="") == known("KS-2.3")


def test_an_entry_of_one_adapter_comes_before_one_for_all() -> None:
    both = [Deviation(clause="KS-2.3", reason="mine", adapter="theirs"), *known("KS-2.3")]
    assert with_deviations(report(KS_2_3=Outcome.FAIL), both).verdicts[0].known == "mine"


def test_what_was_not_judged_stays_in_the_baseline() -> None:
    before = [*known("KS-2.4"), *known("KS-2.1", adapter="another")]
    assert to_write([report(KS_2_3=Outcome.PASS)], before, reason="", reference="") == before


def test_a_baseline_is_read_as_it_was_written(tmp_path: Path) -> None:
    entries = (Deviation(clause="KS-2.1", reason='says "no"\n\\ and ü', reference="https://example.org/?a=1#b"),)
    write_baseline(tmp_path / "b.toml", entries)
    assert read_baseline(tmp_path / "b.toml") == entries
    with pytest.raises(DeviationError, match=r"none\.toml: No such file"):
        read_baseline(tmp_path / "none.toml")


def test_a_named_baseline_that_is_not_there_is_refused(here: Path) -> None:
    done = kvsender("check", "mine:right", "--baseline", "no.toml", cwd=here)
    assert (done.returncode, "there is no baseline no.toml" in done.stderr) == (2, True)


# ------------------------------------------------------------------------------------------------- reports


def test_json_on_standard_output_is_json_and_nothing_else(here: Path) -> None:
    done = kvsender("check", "mine:wrong", "KS-2.1", "--budget", "quick", "--json", "-", cwd=here)
    (document,) = load_report(done.stdout)
    assert document.adapter == "wrong"
    assert "the adapter prints this" in done.stderr
    assert "and this" in done.stderr
    assert "KS-2.1 STICKY" in done.stderr, "the text goes to standard error"


def test_a_report_says_what_made_it(here: Path) -> None:
    done = kvsender("check", "mine:wrong", "KS-2", "--examples", "7", "--json", "r.json", "--html", "r.html", cwd=here)
    assert done.returncode == 1
    (document,) = load_report((here / "r.json").read_bytes())
    made = document.made_by
    assert made is not None
    assert made.command.endswith("check mine:wrong KS-2 --examples 7 --json r.json --html r.html")
    assert made.python == sys.version.split()[0]
    assert {clause.text for clause in document.clauses} == {BY_ID[c].text for c in BY_ID if c.startswith("KS-2.")}
    assert made.contract in (here / "r.html").read_text()
    assert msgspec.structs.replace(document).restored().made_by == made


def test_a_failing_check_says_how_to_go_on(here: Path) -> None:
    done = kvsender("check", "mine:wrong", "--budget", "quick", "--json", "r.json", cwd=here)
    assert [line.split(":")[0].strip() for line in done.stdout.splitlines()[-3:]] == [
        "to repeat it",
        "to see it told",
        "what it means",
    ]
    for line in done.stdout.splitlines()[-3:]:
        command = line.partition(":  kvsender ")[2].split()
        assert kvsender(*command, cwd=here).returncode in (0, 1), line
    assert "wrong: run " in done.stderr, "the first failure is told at once"


def test_the_summary_is_markdown(here: Path) -> None:
    done = kvsender("check", "mine:wrong", "mine:right", "KS-2", "--budget", "quick", "--summary", "markdown", cwd=here)
    lines = done.stdout.splitlines()
    assert lines[0] == "## ❌ wrong"
    assert "## ✅ right" in lines
    assert any(line.startswith("- **KS-2.4 REPEATABLE (MUST)**") for line in lines)
    assert "  1. open(0)" in lines


def test_a_badge_is_what_shields_reads(here: Path) -> None:
    kvsender("check", "mine:wrong", "KS-2", "--budget", "quick", "--badge", "b.json", cwd=here)
    badge = json.loads((here / "b.json").read_text())
    assert badge == {
        "schemaVersion": 1,
        "label": "kv sender contract",
        "message": "5 of 8 clauses pass",
        "color": "red",
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--json", "x", "--html", "./x"), "--json and --html would both write to ./x"),
        (("--json", "-", "--summary", "markdown"), "--json and --summary would both write to -"),
    ],
)
def test_two_reports_to_one_place_are_refused(here: Path, options: tuple[str, ...], said: str) -> None:
    done = kvsender("check", "mine:right", *options, cwd=here)
    assert done.returncode == 2
    assert said in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full on this system")
def test_a_full_disk_is_said_after_the_verdicts(here: Path) -> None:
    options = ("--examples", "3", "--json", "/dev/full", "--html", "r.html")
    done = kvsender("check", "mine:right", "KS-2.1", *options, cwd=here)
    assert done.returncode == 2
    assert "KS-2.1 STICKY" in done.stdout
    assert "a report could not be written: --json /dev/full: No space left on device" in done.stderr
    assert (here / "r.html").exists(), "the other one is written"


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupted_check_reports_what_it_has_seen(here: Path, jobs: int) -> None:
    program = "from kvsender_spec.cli import main; main()"
    arguments = ("check", "mine:wrong", "--budget", "nightly", "--jobs", str(jobs), "--json", "r.json")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(ROOT)])}
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        cwd=here,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stderr is not None
        for _ in range(20):  # until it has said that something broke
            if process.stderr.readline().startswith("wrong: run"):
                break
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=60)
    assert process.returncode == 130, out + errors
    assert "interrupted: what was seen so far is reported" in errors
    assert "Cut off: the check was interrupted; " in out
    (document,) = load_report((here / "r.json").read_bytes())
    assert document.cut_off
    assert 0 < document.runs < 10_000
    assert any(clause.verdict.failed for clause in document.clauses)


def test_the_settings_that_count_are_named(here: Path) -> None:
    (here / "pyproject.toml").write_text('[tool.kvsender]\nbudget = "quick"\n')
    done = kvsender("check", "mine:right", "KS-1.5", cwd=here)
    assert f"settings: {here / 'pyproject.toml'}" in done.stdout
    assert "right, profile full, seed 0, budget quick\n" in done.stdout


def test_known_failures_are_explained_as_known_and_what_comes_next_can_be_pasted(here: Path) -> None:
    (here / "kvsender-baseline.toml").write_text('[[deviations]]\nclause = "KS-2.4"\nreason = "because"\n')
    (here / "kvsender.toml").write_text('adapters = ["mine:wrong"]\nbudget = "quick"\nreports = {json = "r.json"}\n')
    assert kvsender("check", cwd=here).returncode == 1
    explained = kvsender("explain", "r.json", cwd=here).stdout
    assert explained.startswith("wrong: to repair: 1, known: 1\n")
    assert "   known:     because\n" in explained
    assert "   next:      kvsender replay r.json KS-2.3 mine:wrong\n" in explained


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("trace", "show", "r.json"), "r.json: a report, not a history: `kvsender explain` explains it"),
        (("replay", "h/wrong.KS-2.3.ndjson", "mine:wrong"), "a history, which was recorded: `kvsender trace show`"),
        (("check", "mine.py"), "write module:attribute, e.g. mine.py:adapter"),
    ],
)
def test_a_file_of_another_kind_is_answered_with_its_command(here: Path, command: tuple[str, ...], said: str) -> None:
    kvsender("check", "mine:wrong", "KS-2.3", "--examples", "1", "--json", "r.json", "--histories", "h", cwd=here)
    done = kvsender(*command, cwd=here)
    assert done.returncode == 2
    assert said in done.stderr


def test_a_report_is_replayed_against_its_own_profile(here: Path) -> None:
    (here / "toy.py").write_text("from kvsender_spec.kit.toy import adapter\n")
    options = ("--profile", "quiescent", "--json", "r.json", "--examples", "1")
    assert kvsender("check", "toy:adapter", "KS-4.3", *options, cwd=here).returncode == 1
    assert kvsender("replay", "r.json", "KS-4.3", "toy:adapter", cwd=here).returncode == 1
    assert kvsender("replay", "r.json", "KS-4.3", "toy:adapter", "--profile", "latch", cwd=here).returncode == 0


def test_a_clause_that_needs_no_run_makes_none(here: Path) -> None:
    done = kvsender("check", "mine:right", "KS-1.5", "--json", "r.json", cwd=here)
    assert done.returncode == 0, done.stdout
    assert load_report((here / "r.json").read_bytes())[0].runs == 0
