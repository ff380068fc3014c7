"""docs/own-tests.md works: its tests pass as they are, and one fails where the recording is judged."""

from __future__ import annotations

import re
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from tests.kit.test_cli import kvsender
from tests.kit.test_plug_in import ROOT, python

PAGE = (ROOT / "docs" / "own-tests.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"^<!-- (\w+\.py) -->\n```python\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL))
CAUGHT = "= (RuntimeError,)"
REPAIRED = "= (RuntimeError, nixlRemoteDisconnectError)"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with the tests of the page."""
    for name, text in BLOCKS.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def run(project: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return python("-m", "pytest", "-p", "no:cacheprovider", "-q", *options, cwd=project)


def summary(answer: subprocess.CompletedProcess[str]) -> dict[str, dict[str, list[str]]]:
    """By test: what the summary says, with the clauses that it says it of."""
    found: dict[str, dict[str, list[str]]] = {}
    lines = answer.stdout.partition("kvsender histories")[2].splitlines()[1:]
    test = ""
    for line in lines:
        if head := re.match(r"\S+::(\w+)\S*: ", line):
            test = head[1]
        elif said := re.match(r"  (\w+(?:[ ,]+\S*\w+\)?)?) {2,}(KS-.*)", line):
            found.setdefault(test, {}).setdefault(said[1], []).extend(re.findall(r"KS-\d\.\d", said[2]))
    return found


def test_no_block_of_the_page_is_left_out() -> None:
    assert list(BLOCKS) == ["theirs.py", "test_theirs.py"]
    assert PAGE.count("```python") == len(BLOCKS)
    assert CAUGHT in BLOCKS["theirs.py"]


def test_without_the_option_the_tests_are_as_before(project: Path) -> None:
    answer = run(project)
    assert answer.returncode == 0, answer.stdout
    assert "2 passed" in answer.stdout
    assert "kvsender histories" not in answer.stdout
    assert {path.name for path in project.iterdir()} - {"__pycache__"} == set(BLOCKS)


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_the_test_that_meets_the_disconnect_fails(project: Path, workers: tuple[str, ...]) -> None:
    answer = run(project, "--kvsender-history", "out/new", "--junitxml=out.xml", *workers)
    assert answer.returncode == 1, answer.stdout + answer.stderr
    assert "1 failed, 1 passed" in answer.stdout
    (failed,) = ET.parse(project / "out.xml").iter("failure")
    told = failed.text or ""
    assert told.startswith("KS-1.1 NO-ESCAPE (MUST)\n")
    assert "  expected  poll() returns\n" in told
    assert "  observed  poll() raised nixlRemoteDisconnectError: connection reset\n" in told
    files = {path.name.rpartition("-")[0]: path for path in (project / "out" / "new").iterdir()}
    assert set(files) == {"test_theirs.py_test_a_transfer", "test_theirs.py_test_disconnect"}
    said = summary(answer)
    assert set(said) == {"test_a_transfer", "test_disconnect"}
    assert said["test_disconnect"]["broke"] == ["KS-1.1", "KS-1.2"]
    assert "broke" not in said["test_a_transfer"]
    assert {"KS-1.5", "KS-3.1", "KS-3.4", "KS-3.5"} <= set(said["test_a_transfer"]["inconclusive"])
    # The file gets the same verdict, in the same words.
    again = kvsender("trace", "check", str(files["test_theirs.py_test_disconnect"]))
    assert again.returncode == 1
    where = re.compile("  where .*")
    assert where.sub("", told.partition("  judge it again")[0].strip()) in where.sub("", again.stdout)
    assert kvsender("trace", "check", str(files["test_theirs.py_test_a_transfer"])).returncode == 3


def test_the_repaired_sender_is_green_and_its_clauses_hold(project: Path) -> None:
    theirs = project / "theirs.py"
    theirs.write_text(theirs.read_text().replace(CAUGHT, REPAIRED))
    assert run(project).returncode == 0
    answer = run(project, "--kvsender-history", "out")
    assert answer.returncode == 0, answer.stdout
    said = summary(answer)["test_disconnect"]
    assert said["held"] == ["KS-1.1", "KS-1.2", "KS-2.2"]
    assert "broke" not in said


def test_mypy_takes_the_page(project: Path) -> None:
    options = ("--strict", "--config-file=", "--cache-dir", str(ROOT / ".mypy_cache" / "own-tests"))
    answer = python("-m", "mypy", *options, *BLOCKS, cwd=project)
    assert answer.returncode == 0, answer.stdout + answer.stderr
