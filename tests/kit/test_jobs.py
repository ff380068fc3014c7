"""Runs that are made in several processes: the report is the one that a single process makes."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
from tests.kit.breaks_often import adapter as breaks_often
from tests.mutants.inline import adapter as inline
from tests.mutants.registry import MUTANTS

from kvsender_spec.kit.adapter import Adapter
from kvsender_spec.kit.check import check
from kvsender_spec.kit.loading import load_adapter
from kvsender_spec.kit.search import explore
from kvsender_spec.kit.search.processes import in_processes
from kvsender_spec.kit.search.sweep import SWEEP
from kvsender_spec.report.json import ReportDocument, load_report, to_json

_W = TypeVar("_W")
_R = TypeVar("_R")
JOBS = 3
SOME = SWEEP[::4]
BY_NAME = {mutant.name: mutant.adapter for mutant in MUTANTS}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def report(adapter: Adapter, jobs: int, *clauses: str) -> str:
    return to_json([check(adapter, examples=30, sweep=SOME, clauses=clauses, jobs=jobs)])


@pytest.mark.parametrize(
    "adapter",
    [inline, *(BY_NAME[name] for name in ("NotSticky", "ClearForgets", "HidesOnePeer", "DisguisesBugs")), breaks_often],
    ids=lambda adapter: adapter.name,
)
def test_the_report_does_not_depend_on_how_many_processes_there_are(adapter: Adapter) -> None:
    assert report(adapter, JOBS) == report(adapter, 1)


def test_runs_end_where_they_end_in_one_process() -> None:
    """A check for some clauses ends when each is shown, whatever other processes have done by then."""
    mutant = BY_NAME["NotSticky"]
    found = report(mutant, JOBS, "KS-2.1")
    assert found == report(mutant, 1, "KS-2.1")
    assert f'"runs": {len(SOME) + 30}' not in found


def test_runs_in_another_order_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def backwards(work: Callable[[_W], _R], parts: Iterable[_W], jobs: int) -> Generator[_R, None, None]:
        yield from reversed(list(in_processes(work, parts, jobs)))

    monkeypatch.setattr(explore, "in_processes", backwards)
    assert report(breaks_often, JOBS) != report(breaks_often, 1)


def test_an_adapter_that_cannot_be_pickled_is_loaded_in_each_process() -> None:
    name = "tests.kit.breaks_often:unpicklable"
    adapter = load_adapter(name)
    found = check(adapter, examples=30, sweep=SOME, jobs=JOBS, load=partial(load_adapter, name))
    assert to_json([found]) == report(adapter, 1)


def test_the_command_takes_jobs_for_one_adapter_and_for_several(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from kvsender_spec.kit.toy import ToyAdapter\nclass Mine(ToyAdapter): name = 'mine'\nadapter = Mine()\n"
    )
    for names in (["mine:adapter"], ["mine:adapter", "kvsender_spec.kit.toy:adapter"]):
        for jobs in ("1", "2"):
            program = "from kvsender_spec.cli import main; main()"
            options = ("--examples", "5", "--jobs", jobs, "--json", f"{jobs}.json")
            done = subprocess.run(
                [sys.executable, "-c", program, "check", *names, *options],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=False,
                timeout=240,
            )
            assert (done.returncode, done.stderr) == (0, "")
        one, two = (_without_provenance(tmp_path / f"{jobs}.json") for jobs in (1, 2))
        assert one == two


def _without_provenance(path: Path) -> list[ReportDocument]:
    """What a report says, but for the command and the time that made it."""
    return [msgspec.structs.replace(document, made_by=None) for document in load_report(path.read_bytes())]
