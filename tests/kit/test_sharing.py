"""The workers of pytest-xdist share one exploration of a sender, and none of them waits for ever."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from tests.kit.test_suite import ROOT, SENDERS, python

from kvsender_spec.kit import sharing
from kvsender_spec.kit.check import check
from kvsender_spec.kit.sharing import Place, SharingError, place_of, shared
from kvsender_spec.kit.toy import ToyAdapter
from kvsender_spec.machine import Profile
from kvsender_spec.observe.verdict import Report

REPORT = Report("a sender", Profile.LATCH, 0, 1, 1, ())

COUNTED = f"""
import os
from pathlib import Path
{SENDERS}

class CountedAdapter(TimedAdapter):
    def __init__(self, whose):
        self.whose = whose

    def open(self, world):
        with open(Path(__file__).with_name("opened"), "a") as file:
            file.write(f"{{self.whose}} {{os.getpid()}}\\n")
        return super().open(world)


class TestCounted(SenderConformance):
    adapter = CountedAdapter("TestCounted")
    budget = "quick"


class TestOther(SenderConformance):
    adapter = CountedAdapter("TestOther")
    budget = "quick"
    seed = 1
"""


def outcomes(folder: Path, *options: str) -> tuple[dict[tuple[str, str], str], Counter[str]]:
    """What became of each test; and how often each class opened its system in each process."""
    (folder / "test_counted.py").write_text(COUNTED)
    (folder / "opened").write_text("")
    temporary = f"--basetemp={folder / 'temporary'}"
    answer = python("-m", "pytest", "-p", "no:cacheprovider", temporary, "--junitxml=out.xml", *options, cwd=folder)
    assert answer.returncode == 1, answer.stdout + answer.stderr
    found = {}
    for case in ET.parse(folder / "out.xml").iter("testcase"):
        child = next(iter(case), None)
        found[case.attrib["classname"], case.attrib["name"]] = "passed" if child is None else child.tag
    return found, Counter((folder / "opened").read_text().splitlines())


def test_two_workers_explore_once_and_say_what_one_process_says(tmp_path: Path) -> None:
    alone, _ = outcomes(tmp_path)
    together, opened = outcomes(tmp_path, "-n", "2")
    assert together == alone
    assert set(together.values()) == {"passed", "skipped", "failure"}
    assert sorted(line.split()[0] for line in opened) == ["TestCounted", "TestOther"]  # one process for each
    assert min(opened.values()) > 100, "a whole exploration"


def test_without_a_place_everybody_explores() -> None:
    assert shared(None, lambda: REPORT) is REPORT


def test_the_second_reads_what_the_first_has_explored(tmp_path: Path) -> None:
    place, report = Place(tmp_path / "run", "a test"), check(ToyAdapter(), examples=3)
    assert shared(place, lambda: report) is report
    again = shared(place, lambda: pytest.fail("explored again"))
    assert again == report
    assert again is not report
    assert shared(Place(tmp_path / "run", "another test"), lambda: REPORT) is REPORT


def test_an_exploration_that_raises_is_made_by_the_next_one(tmp_path: Path) -> None:
    place = Place(tmp_path / "run", "a test")

    def stumble() -> Report:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shared(place, stumble)
    assert shared(place, lambda: REPORT) is REPORT


HOLDER = """
import os, sys, time
from pathlib import Path
from kvsender_spec.kit.sharing import Place, shared

def explore():
    if sys.argv[3] == "forks" and os.fork() == 0:
        time.sleep(30)
        os._exit(0)
    Path(sys.argv[2]).touch()
    time.sleep(60)

shared(Place(Path(sys.argv[1]), "a test"), explore)
"""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "run", "a test")


def holder(place: Place, tmp_path: Path, how: str = "") -> subprocess.Popen[bytes]:
    """Another process, which explores and does not come to an end."""
    begun = tmp_path / "begun"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "spec")}
    command = [sys.executable, "-c", HOLDER, str(place.folder), str(begun), how]
    process = subprocess.Popen(command, env=environment)
    deadline = time.monotonic() + 60
    while not begun.exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    return process


@pytest.mark.parametrize("how", ["", "forks"])
def test_a_worker_that_dies_while_it_explores_holds_up_nobody(place: Place, tmp_path: Path, how: str) -> None:
    process = holder(place, tmp_path, how)
    try:
        with pytest.raises(SharingError):
            shared(place, lambda: REPORT, wait_s=0.1)  # the control: as long as it lives, nobody else explores
    finally:
        process.kill()
        process.wait(10)
    assert shared(place, lambda: REPORT, wait_s=10) is REPORT


def test_whoever_waits_too_long_is_told_what_to_do(place: Place, tmp_path: Path) -> None:
    process = holder(place, tmp_path)
    try:
        with pytest.raises(SharingError, match=r"explored for more than 0\.2 s and is not done; take a smaller budget"):
            shared(place, lambda: REPORT, wait_s=0.2)
    finally:
        process.kill()
        process.wait(10)


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SharingError, match=r"Not a directory.*; run without -n"):
        shared(Place(tmp_path / "file" / "run", "a test"), lambda: REPORT)


def test_a_report_that_cannot_be_kept_is_still_a_report(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert shared(place, lambda: REPORT) is REPORT
    assert shared(place, lambda: REPORT) is REPORT


def configured(basetemp: str | None, **known: object) -> pytest.Config:
    return cast("pytest.Config", SimpleNamespace(option=SimpleNamespace(basetemp=basetemp), **known))


def test_only_workers_that_have_a_temporary_folder_of_the_run_share(tmp_path: Path) -> None:
    worker = {"testrunuid": "one"}
    first = place_of(configured(str(tmp_path / "popen-gw0"), workerinput=worker), "a test")
    second = place_of(configured(str(tmp_path / "popen-gw1"), workerinput=worker), "a test")
    assert first == second
    assert first is not None
    assert first.folder.parent == tmp_path
    other = place_of(configured(str(tmp_path / "popen-gw0"), workerinput={"testrunuid": "two"}), "a test")
    assert other is not None
    assert other.folder != first.folder
    assert place_of(configured(str(tmp_path)), "a test") is None
    assert place_of(configured(None, workerinput=worker), "a test") is None
    # A pytest that a test of a worker starts inherits its environment, and is no worker.
    assert os.environ.get("PYTEST_XDIST_TESTRUNUID") is None or place_of(configured(str(tmp_path)), "a test") is None


def test_the_wait_is_longer_than_any_budget() -> None:
    assert sharing.WAIT_S > 3600
