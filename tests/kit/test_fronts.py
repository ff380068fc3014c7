"""The fronts of a check: what the options of the command do, and which files it writes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.kit.test_cli import kvsender
from tests.mutants.inline import InlineAdapter, InlineSystem
from tests.mutants.seed import BeforeTheFix, SeedAdapter

from kvsender_spec.clauses import BY_ID, CLAUSES, Level
from kvsender_spec.kit.adapter import World
from kvsender_spec.kit.check import Budget, check
from kvsender_spec.kit.search.sweep import SWEEP
from kvsender_spec.observe.verdict import worst_exit_code
from kvsender_spec.report.html import to_html
from kvsender_spec.report.json import load_report, to_json
from kvsender_spec.report.junit import to_junit

SMALL = InlineAdapter()


def counted(path: Path) -> Counter[str]:
    """What the test cases of a JUnit file hold."""
    cases = ElementTree.parse(path).getroot().iter("testcase")
    return Counter(child.tag for case in cases for child in case)


# ------------------------------------------------------------------------------------------------------- options


def test_another_profile_than_the_claimed_one_is_judged(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    arguments = ("check", "tests.mutants.seed:after_the_fix", "--examples", "5", "--json", str(path))
    done = kvsender(*arguments, "--profile", "full")
    assert "profile full (the adapter claims latch)" in " ".join(done.stdout.split())
    report = json.loads(path.read_text())
    assert (report["profile"], report["claims"]) == ("full", "latch")
    assert not any(row["verdict"] == "not claimed" for row in report["clauses"])
    kvsender(*arguments)
    report = json.loads(path.read_text())
    assert (report["profile"], report["claims"]) == ("latch", "latch")
    beyond = [row for row in report["clauses"] if row["verdict"] == "not claimed"]
    assert {row["note"] for row in beyond} == {"not claimed by profile latch"}
    assert any(row["broken"] for row in beyond), "it was watched all the same"


def test_a_should_that_fails_counts_only_when_it_is_asked_for(tmp_path: Path) -> None:
    arguments = ("check", "tests.mutants.seed:after_the_fix", "KS-2.8", "--junit", str(tmp_path / "junit.xml"))
    lenient = kvsender(*arguments)
    assert lenient.returncode == 0, lenient.stdout + lenient.stderr
    assert "1 fail" in lenient.stdout
    assert counted(tmp_path / "junit.xml") == Counter(skipped=1)
    strict = kvsender(*arguments, "--strict")
    assert strict.returncode == 1
    assert counted(tmp_path / "junit.xml") == Counter(failure=1)


def test_a_budget_is_a_number_of_runs_and_examples_outweigh_it(tmp_path: Path) -> None:
    assert {budget.value: budget.examples for budget in Budget} == {"quick": 100, "ci": 1000, "nightly": 10_000}
    path = tmp_path / "report.json"
    arguments = ("check", "tests.mutants.inline:adapter", "--json", str(path))
    kvsender(*arguments, "--budget", "quick")
    assert json.loads(path.read_text())["runs"] == len(SWEEP) + 100
    kvsender(*arguments, "--budget", "nightly", "--examples", "3")
    assert json.loads(path.read_text())["runs"] == len(SWEEP) + 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--junit", "/nosuch/r.xml"), "cannot write to /nosuch/r.xml: No such file or directory; choose"),
        (("--html", "/nosuch/r.html"), "choose another --html path"),
        (("--html", "/"), "cannot write to /: Is a directory"),
        (("--profile", "most"), "Invalid value for '--profile'"),
        (("--budget", "some"), "Invalid value for '--budget'"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_explored(arguments: tuple[str, ...], message: str) -> None:
    done = kvsender("check", "tests.mutants.inline:adapter", "--budget", "nightly", *arguments)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr


def test_the_command_writes_every_report(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("r.json", "r.xml", "r.html")}
    done = kvsender(
        "check",
        "tests.mutants.seed:before_the_fix",
        "--examples=30",
        *(
            word
            for option, path in zip(("--json", "--junit", "--html"), files.values(), strict=True)
            for word in (option, str(path))
        ),
    )
    assert done.returncode == 1, done.stdout + done.stderr
    (report,) = load_report(files["r.json"].read_text())
    failed = [row.id for row in report.clauses if row.verdict.failed and BY_ID[row.id].level is Level.MUST]
    assert counted(files["r.xml"])["failure"] == len(failed) > 1
    page = files["r.html"].read_text()
    assert all(f'data-clause="{clause.id}"' in page for clause in CLAUSES)
    assert page.count("<article") >= 1


def test_several_adapters_are_compared_and_the_worst_decides(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("r.json", "r.xml", "r.html")}
    adapters = ("tests.mutants.inline:adapter", "tests.mutants.seed:after_the_fix")
    done = kvsender(
        *("check", adapters[0], "KS-4.1", adapters[1], "KS-1.2", "--budget=quick"),
        *("--json", str(files["r.json"]), "--junit", str(files["r.xml"]), "--html", str(files["r.html"])),
    )
    assert done.returncode == 1, done.stdout + done.stderr
    matrix = [" ".join(line.split()) for line in done.stdout.partition("all adapters")[2].splitlines()]
    assert "│ KS-1.2 CATCH-SET │ pass │ fail │" in matrix
    assert any(line.startswith("│ KS-4.1 QUIESCE-BEFORE-FREE │ pass │ not claimed; broken ") for line in matrix)
    assert "│ result │ conforms │ does not conform │" in matrix
    document = json.loads(files["r.json"].read_text())
    assert (document["schema"], document["exit_code"]) == ("kvsender-reports/2", 1)
    assert [report["adapter"] for report in document["reports"]] == ["InlineSender", "AfterTheFix"]
    assert [report["exit_code"] for report in document["reports"]] == [0, 1]
    assert {report["schema"] for report in document["reports"]} == {"kvsender-report/2"}
    root = ElementTree.parse(files["r.xml"]).getroot()
    assert [suite.get("name") for suite in root] == ["kvsender check InlineSender", "kvsender check AfterTheFix"]
    assert counted(files["r.xml"]) == Counter(failure=1, skipped=1)
    assert (root.get("tests"), root.get("failures"), root.get("skipped")) == ("4", "1", "1")
    assert files["r.html"].read_text().count("data-matrix=") == 2, "a row for each clause that was asked for"


def test_the_worst_exit_code_is_a_failure() -> None:
    undecided, good = check(SMALL, examples=1, sweep=()), check(SMALL, examples=200, clauses=["KS-1.4"])
    broken = check(SeedAdapter(BeforeTheFix), examples=60, clauses=["KS-1.1"])
    assert [report.exit_code for report in (good, undecided, broken)] == [0, 3, 1]
    assert worst_exit_code([good, good]) == 0
    assert worst_exit_code([undecided, good]) == 3
    assert worst_exit_code([undecided, broken, good]) == 1


def test_an_adapter_that_breaks_is_shown_by_every_front() -> None:
    class Stumbles(InlineAdapter):
        def open(self, world: World) -> InlineSystem:
            raise OSError("no such device")

    report = check(Stumbles(), clauses=["KS-1.5"])
    assert report.exit_code == 2
    message = "open raised OSError: no such device"
    (document,) = [json.loads(to_json([report]))]
    assert message in document["errors"][0]["message"]
    case = ElementTree.fromstring(to_junit([report])).findall(".//testcase[@name='the adapter']/error")
    assert message in case[0].get("message", "")
    assert message in to_html([report])


# ----------------------------------------------------------------------------------------------------- histories


@pytest.mark.parametrize("adapter", ["tests.mutants.seed:after_the_fix", "tests.kit.test_replay:clear_forgets"])
def test_a_history_is_kept_for_each_clause_that_fails_and_trace_check_agrees(tmp_path: Path, adapter: str) -> None:
    folder, path = tmp_path / "new" / "histories", tmp_path / "report.json"
    done = kvsender("check", adapter, "--examples=50", "--json", str(path), "--histories", str(folder))
    assert done.returncode == 1, done.stdout + done.stderr
    (report,) = load_report(path.read_text())
    failed = {row.id: folder / f"{report.adapter}.{row.id}.ndjson" for row in report.clauses if row.verdict.failed}
    assert len(failed) > 1
    assert set(folder.iterdir()) == set(failed.values())
    assert {f"kept {kept}" for kept in failed.values()} <= set(done.stdout.splitlines())
    for clause, kept in list(failed.items())[::4]:  # all of them in tests/mutants/test_kept.py
        again = kvsender("trace", "check", str(kept))
        # A SHOULD alone fails nothing, and most of the rest is not observed in one run.
        expected = (1,) if BY_ID[clause].level is Level.MUST else (1, 3)
        assert again.returncode in expected, again.stdout + again.stderr
        (row,) = (line for line in again.stdout.splitlines() if line.startswith(f"{clause} ") and "  fail" in line)
        assert row.split()[3] == "fail"


def test_nothing_is_kept_of_a_sender_that_breaks_nothing_and_a_file_is_no_folder(tmp_path: Path) -> None:
    arguments = ("check", "tests.mutants.inline:adapter", "KS-1.4", "--examples=5", "--histories")
    done = kvsender(*arguments, str(tmp_path / "none"))
    assert "kept" not in done.stdout
    assert list((tmp_path / "none").iterdir()) == []
    (tmp_path / "file").touch()
    done = kvsender(*arguments, str(tmp_path / "file"))
    assert done.returncode == 2
    assert "choose another --histories folder" in " ".join(done.stderr.split())
