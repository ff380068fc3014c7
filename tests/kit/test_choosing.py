"""Words that mean clauses, what `kvsender explain` says of them, and of a report."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from tests.kit.test_cli import ROOT, kvsender
from tests.mutants.broken import NotSticky
from tests.mutants.inline import InlineAdapter
from tests.mutants.inline import adapter as inline
from tests.mutants.inline_target import holder, receiver
from tests.mutants.registry import MUTANTS
from tests.mutants.targets import TARGET_MUTANTS

from kvsender_spec.advice import ADVICE
from kvsender_spec.choosing import UnknownClause, clauses_of, is_clause, select
from kvsender_spec.clauses import BY_ID, EVERY_CLAUSE
from kvsender_spec.kit.adapter import Adapter
from kvsender_spec.kit.check import check
from kvsender_spec.kit.run.execute import run_trace
from kvsender_spec.printed import parse_setup, parse_step
from kvsender_spec.report.json import to_json
from kvsender_spec.trace import Trace


@pytest.mark.parametrize(
    ("word", "ids"),
    [
        ("KS-2.4", ["KS-2.4"]),
        ("ks-2.4", ["KS-2.4"]),
        ("STICKY", ["KS-2.1"]),
        ("sticky", ["KS-2.1"]),
        ("ks-7", ["KS-7.1", "KS-7.2"]),
    ],
)
def test_a_clause_is_named_by_its_id_its_family_or_its_name(word: str, ids: list[str]) -> None:
    assert is_clause(word)
    assert [clause.id for clause in clauses_of(word)] == ids


def test_no_word_means_every_clause() -> None:
    assert select([]) == BY_ID.keys()
    assert select(["KS-8", "sticky"]) == {"KS-8.1", "KS-2.1"}


@pytest.mark.parametrize(
    ("word", "nearest"),
    [("STIKY", "STICKY (KS-2.1)"), ("KS-2.9", "KS-2.8"), ("KS-99", ""), ("NOTHING-LIKE-IT", "")],
)
def test_an_unknown_word_is_answered_with_the_nearest(word: str, nearest: str) -> None:
    assert is_clause(word)
    with pytest.raises(UnknownClause, match=f"^no such clause: {word}") as raised:
        clauses_of(word)
    assert nearest in str(raised.value)


@pytest.mark.parametrize("word", ["my_adapter", "my_adapter:STICKY", "KS-2.1:adapter", "report.json"])
def test_what_names_an_adapter_is_no_clause(word: str) -> None:
    assert not is_clause(word)


def test_every_clause_has_advice() -> None:
    assert list(ADVICE) == [clause.id for clause in EVERY_CLAUSE]
    for advice in ADVICE.values():
        assert advice.breaks.endswith(".")
        assert advice.repair.endswith(".")


@pytest.mark.parametrize("clause", [clause for clause, advice in ADVICE.items() if advice.example])
def test_the_example_of_a_clause_shows_it(clause: str) -> None:
    """On a broken sender that is meant to break the clause; some need a mutant of a kind of its own."""
    setup, steps = ADVICE[clause].example.split(": ", 1)
    trace = Trace(parse_setup(setup), tuple(map(parse_step, steps.split("; "))))
    breaking: list[Adapter] = [mutant.adapter for mutant in MUTANTS if mutant.breaks == clause]
    breaking += [mutant.adapter for mutant in TARGET_MUTANTS if mutant.breaks == clause]
    assert any(shows(adapter, trace, clause) for adapter in breaking)
    rights: dict[str, Adapter] = {"rooms": inline, "receiver's": receiver, "holder's": holder}
    right = rights[setup.partition(" ")[0]]
    assert not shows(right, trace, clause), "it shows nothing on a right one"


def shows(adapter: Adapter, trace: Trace, clause: str) -> bool:
    """Whether the run breaks the clause, or breaks another one in the circumstances that the clause is about."""
    found = run_trace(adapter, trace).observer.findings.violations
    return any(clause == violation.clause or clause in violation.contexts for violation in found)


def test_a_clause_is_explained() -> None:
    done = kvsender("explain", "sticky", "KS-8")
    assert done.returncode == 0
    for clause in (BY_ID["KS-2.1"], BY_ID["KS-8.1"]):
        for words in (clause.text, clause.source, clause.observation, ADVICE[clause.id].repair):
            assert words in done.stdout


def test_a_report_is_explained_cause_first_with_the_next_thing_to_do(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    report = check(InlineAdapter(NotSticky), examples=0)
    path.write_text(to_json([report]))
    done = kvsender("explain", str(path))
    assert done.returncode == 0
    numbered = [line.split()[1] for line in done.stdout.splitlines() if line[:1].isdigit()]
    assert numbered == [group.cause.clause.id for group in report.groups]
    assert numbered[0] == "KS-2.1"
    assert ADVICE["KS-2.1"].repair in done.stdout
    assert f"kvsender replay {path} KS-2.1 MODULE:ADAPTER" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("explain", "STIKY"), "the nearest: STICKY (KS-2.1)"),
        (("explain", "nosuch.json"), "nosuch.json: cannot be read: No such file"),
        (("explain", "pyproject.toml.json", "KS-1.1"), "explain takes clauses, or one report"),
        (("check", "tests.mutants.inline:adapter", "STIKY"), "the nearest: STICKY (KS-2.1)"),
    ],
)
def test_wrong_use_is_refused(arguments: tuple[str, ...], message: str) -> None:
    done = kvsender(*arguments)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_what_is_no_report_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text('{"schema": 3}')
    done = kvsender("explain", str(path))
    assert done.returncode == 2
    assert "not a report" in done.stderr


def test_a_family_is_checked_alone() -> None:
    done = kvsender("check", "kvsender_spec.kit.toy:adapter", "ks-2", "--examples", "1")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("KS-2.") >= 8
    assert "KS-3." not in done.stdout


def test_the_list_is_one_line_a_clause() -> None:
    lines = kvsender("list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == [clause.id for clause in EVERY_CLAUSE]
    assert all(clause.text in line for clause, line in zip(EVERY_CLAUSE, lines, strict=True))


@pytest.mark.parametrize("arguments", [("--version",), ("-h",), ("--show-completion",)])
def test_the_package_is_a_command_as_well(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kvsender_spec", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if arguments == ("--version",):
        assert done.stdout == f"kvsender-spec {version('kvsender-spec')}\n"
    assert "Traceback" not in done.stderr
    assert "No such option" not in done.stderr
