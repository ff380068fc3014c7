"""docs/plug-in/ works: its code is what `kvsender init-adapter` writes, it runs, and mypy judges it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import IO, Literal

import pytest

from kvsender_spec.advice import ADVICE
from kvsender_spec.contract import Attribution, KVPoll
from kvsender_spec.kit.check import Outcome, check, load_adapter
from kvsender_spec.kit.parts import parts_of
from kvsender_spec.kit.run.execute import run_trace
from kvsender_spec.kit.scripted.agent import ScriptedAgent
from kvsender_spec.kit.search.reads import READS
from kvsender_spec.kit.template import adapter_source, suite_source, write_template
from kvsender_spec.printed import parse_setup, parse_step
from kvsender_spec.report.text import counterexample
from kvsender_spec.trace import Call, Trace

ROOT = Path(__file__).parents[2]
SOURCES = os.pathsep.join(str(ROOT / root) for root in ("spec", "impl"))
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs" / "plug-in").glob("*.md"))}
START = PAGES["start.md"]
BLOCK = re.compile(r"^<!-- (\w+\.py) -->\n```python\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
BLOCKS_OF = {name: BLOCK.findall(page) for name, page in PAGES.items()}
BLOCKS: dict[str, str] = {name: text for blocks in BLOCKS_OF.values() for name, text in blocks}


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with the sources of this checkout, whatever is installed."""
    scrubbed = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "MYPY"))}
    environment = {**scrubbed, "PYTHONPATH": SOURCES, "MYPYPATH": SOURCES}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment,
        text=True,
        capture_output=True,
        check=False,
        timeout=200,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code of all pages, as files."""
    folder = tmp_path_factory.mktemp("page")
    for name, text in BLOCKS.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_no_block_of_the_pages_is_left_out() -> None:
    assert {page: [name for name, _ in blocks] for page, blocks in BLOCKS_OF.items()} == {
        "reference.md": ["test_my_adapter.py", "test_timed.py", "test_with_hypothesis.py", "engine.py", "fake.py"],
        "readers.md": ["my_reader.py"],
        "start.md": ["my_adapter.py", "timed.py"],
        "targets.md": [],
        "threads.md": ["pumped.py", "threaded.py"],
    }
    assert sum(page.count("```python") for page in PAGES.values()) == len(BLOCKS)


def test_the_pages_show_what_is_written() -> None:
    assert BLOCKS["my_adapter.py"] == adapter_source("my_adapter")
    assert BLOCKS["my_reader.py"] == adapter_source("my_reader", reader=True)
    assert BLOCKS["test_my_adapter.py"] == suite_source("my_adapter")


def test_the_page_of_readers_shows_one_that_conforms_and_what_it_costs_not_to_look(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(folder))
    report = check(load_adapter("my_reader:adapter"), examples=50)
    assert report.exit_code == 0
    assert f"{len(READS)} traces more" in PAGES["readers.md"]
    source = BLOCKS["my_reader.py"]
    first, last = (
        source.index("        if self.pages and not self.asked_for_stamps:"),
        source.index("    def failure_exc"),
    )
    careless = f"{source[:first]}        self.done = True\n\n{source[last:]}"
    (folder / "careless_reader.py").write_text(careless, encoding="utf-8")
    [verdict] = check(load_adapter("careless_reader:adapter"), examples=0, clauses=["KS-3.1"]).verdicts
    assert verdict.evidence is not None
    assert verdict.evidence.trace is not None
    shown = [f"    {number}. {step}" for number, step in enumerate(verdict.evidence.trace.told, 1)]
    for line in (verdict.evidence.violation.observed, f"setup     {verdict.evidence.trace.setup}", *shown):
        assert line in PAGES["readers.md"]


def test_the_adapter_gets_a_verdict(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(folder)
    report = check(load_adapter("my_adapter:adapter"), examples=500)
    assert (report.adapter, report.exit_code) == ("my_adapter", 0)
    passed = {verdict.clause.id for verdict in report.with_outcome(Outcome.PASS)}
    assert len(passed) == 19
    assert not report.with_outcome(Outcome.INCONCLUSIVE)


def test_the_broken_sender_fails_as_the_page_says(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(folder)
    (failed,) = check(load_adapter("timed:adapter"), examples=500).with_outcome(Outcome.FAIL)
    assert failed.clause.id == "KS-2.4"
    assert failed.evidence is not None
    assert re.search(r"\(asked at \d+\.0 s\)", failed.evidence.violation.observed)
    # Which error strikes first may change with the exploration. The trace of the page has to say what the page says.
    (block,) = re.findall(r"^```\n(KS-2\.4 .*?)\n```$", START, flags=re.MULTILINE | re.DOTALL)
    (setup,) = re.findall(r"^  setup +(.+)$", block, flags=re.MULTILINE)
    steps = re.findall(r"^    \d+\. (.+)$", block, flags=re.MULTILINE)
    trace = Trace(parse_setup(setup), tuple(parse_step(step) for step in steps))
    run = run_trace(load_adapter("timed:adapter"), trace)
    violation = next(found for found in run.observer.findings.violations if found.clause == "KS-2.4")
    evidence = replace(failed.evidence, violation=violation, trace=trace)
    assert counterexample(replace(failed, evidence=evidence)).plain == block
    assert f"*{ADVICE['KS-2.4'].repair}*" in " ".join(START.split())


def test_the_sender_with_a_worker_gets_a_verdict(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(folder)
    report = check(load_adapter("threaded:adapter"), examples=500)
    assert (report.adapter, report.exit_code, report.errors) == ("threaded", 0, ())
    assert len(report.with_outcome(Outcome.PASS)) == 18
    assert "KS-1.4" in {verdict.clause.id for verdict in report.with_outcome(Outcome.NOT_APPLICABLE)}


def test_the_sender_with_a_pump_gets_a_verdict(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(folder)
    adapter = load_adapter("pumped:adapter")
    assert parts_of(adapter).posts_in is Call.WORK
    report = check(adapter, examples=500)
    assert (report.adapter, report.exit_code, report.errors) == ("pumped", 0, ())
    assert len(report.with_outcome(Outcome.PASS)) == 19


def test_the_pytest_files_work(folder: Path) -> None:
    answer = python("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=folder)
    assert answer.returncode == 0, answer.stdout
    assert "38 passed, 32 skipped, 1 xfailed" in answer.stdout


def test_the_fake_works(folder: Path) -> None:
    assert python("fake.py", cwd=folder).stdout == "the second post has met the disconnect\n"


WRONG = """
from my_adapter import ToyAdapter, ToySystem

from kvsender_spec.kit.adapter import Adapter, World
from kvsender_spec.kit.suite import SenderConformance


class Nameless:
    profile = ToyAdapter.profile
    errors = ToyAdapter.errors
    usage_errors = ToyAdapter.usage_errors

    def open(self, world: World) -> ToySystem:
        return ToySystem(world)


adapter: Adapter = Nameless()


class TestNameless(SenderConformance):
    adapter = Nameless()
    budget = "none"

    def test_clause(self, clause: str) -> None:
        pass
"""


def test_mypy_takes_the_pages_and_refuses_a_wrong_adapter(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(WRONG, encoding="utf-8")
    # As an adopter's mypy sees it, without the configuration of this repository, and with a cache of its own.
    options = ("--strict", "--config-file=", "--cache-dir", str(ROOT / ".mypy_cache" / "plug-in"))
    answer = python(
        "-m", "mypy", *options, *(str(folder / name) for name in BLOCKS), str(tmp_path / "wrong.py"), cwd=folder
    )
    assert answer.stderr == ""
    wrong = dict(re.findall(r"wrong\.py:(\d+): error: .*\[([\w-]+)\]$", answer.stdout, re.MULTILINE))
    assert wrong == {"17": "assignment", "21": "assignment", "22": "assignment", "24": "misc"}
    assert "Found 4 errors in 1 file" in answer.stdout, answer.stdout


def test_the_template_is_written_and_never_over_a_file(tmp_path: Path) -> None:
    written = write_template(tmp_path, "their_adapter")
    assert [path.name for path in written] == ["their_adapter.py", "test_their_adapter.py"]
    before = [path.read_text() for path in written]
    with pytest.raises(ValueError, match=r"their_adapter\.py exists already"):
        write_template(tmp_path, "their_adapter")
    written[0].unlink()
    with pytest.raises(ValueError, match=r"test_their_adapter\.py exists already"):
        write_template(tmp_path, "their_adapter")
    assert [path.name for path in tmp_path.iterdir()] == ["test_their_adapter.py"]
    assert written[1].read_text() == before[1]


@pytest.mark.parametrize("name", ["", "my-adapter", "my.adapter", "../up", "2nd", "class", "json", "__main__"])
def test_a_name_that_no_module_can_have_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(name))):
        write_template(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot write .*missing.*No such file or directory"):
        write_template(tmp_path / "missing", "their_adapter")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"cannot write .*file.*Not a directory"):
        write_template(tmp_path / "file", "their_adapter")


def test_nothing_is_left_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, honest = tmp_path / "their_adapter.py", Path.open

    def full(path: Path, mode: Literal["x"], encoding: str) -> IO[str]:
        if path != first:
            assert first.exists()
            raise OSError(28, "No space left on device")
        return honest(path, mode, encoding=encoding)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(ValueError, match=r"test_their_adapter\.py: No space left on device"):
        write_template(tmp_path, "their_adapter")
    assert list(tmp_path.iterdir()) == []


def test_the_pages_name_every_method_of_the_transport_and_every_answer() -> None:
    methods = [name for name, found in vars(ScriptedAgent).items() if not name.startswith("_") and callable(found)]
    assert len(methods) == 16
    assert [name for name in methods if f"`{name}`" not in START] == []
    answers = (*KVPoll.__members__, *Attribution.__members__)
    assert [word for word in answers if f"`{word}`" not in PAGES["reference.md"]] == []
