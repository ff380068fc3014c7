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


MORE = """
import pytest
import theirs


def disconnected(history):
    agent = history.agent(theirs.FakeNixlAgent())
    sender = history.sender(theirs.TheirSender(agent, 7), room=7, pages=2, peers=("decode0",))
    sender.send([0, 1])
    agent.states[0] = theirs.nixlRemoteDisconnectError("connection reset")
    with pytest.raises(theirs.nixlRemoteDisconnectError):
        sender.poll()


@pytest.mark.xfail(reason="issue 71", strict=True)
def test_known(kvsender_history):
    disconnected(kvsender_history)


def test_fails_itself(kvsender_history):
    disconnected(kvsender_history)
    assert "their own" == "failure"


def test_skipped(kvsender_history):
    disconnected(kvsender_history)
    pytest.skip("later")


def test_unused(kvsender_history):
    pass


@pytest.mark.parametrize("odd", ["/", "..", "a\\x00b", "\\udc80", "\u00fc", "x" * 5000])
def test_odd(kvsender_history, odd):
    disconnected(kvsender_history)


class TestMethod:
    def test_odd(self, kvsender_history):
        disconnected(kvsender_history)
"""


def test_marks_own_failures_and_odd_names(tmp_path: Path) -> None:
    (tmp_path / "theirs.py").write_text(BLOCKS["theirs.py"])
    (tmp_path / "test_more.py").write_text(MORE)
    plain = run(tmp_path)
    assert "2 failed, 8 passed, 1 skipped" in plain.stdout, plain.stdout  # xfail: strict, and it passes
    answer = run(tmp_path, "--kvsender-history", "out", "--junitxml=out.xml")
    assert "8 failed, 1 passed, 1 skipped, 1 xfailed" in answer.stdout, answer.stdout
    failures = {case.attrib["name"]: case for case in ET.parse(tmp_path / "out.xml").iter("testcase")}
    own = failures["test_fails_itself"].find("failure")
    assert own is not None
    assert "their own" in str(own.get("message"))
    assert "KS-1.1 NO-ESCAPE (MUST)" in answer.stdout.partition("test_fails_itself")[2].partition("test_odd")[0]
    files = list((tmp_path / "out").iterdir())
    assert len(files) == 10  # all but the one that records nothing
    assert all(path.suffix == ".ndjson" for path in files)
    (cut,) = (path for path in files if "fails_itself" in path.name)
    assert "is incomplete: the run is cut off: the test ended with AssertionError" in kvsender(
        "trace", "check", str(cut)
    ).stdout.replace("\n", " ")


def test_a_folder_that_cannot_be_made_is_refused(project: Path) -> None:
    answer = run(project, "--kvsender-history", "theirs.py/out")
    assert answer.returncode == 4
    assert "--kvsender-history: cannot write to theirs.py/out: Not a directory" in answer.stderr
