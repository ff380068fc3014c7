"""The command as a new user meets it: exit codes, messages that say what to do, and reports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def kvsender(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    program = "from kvsender_spec.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=240
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("check", "nosuch:adapter"), "there is no module 'nosuch': is the name right, and is it on the path?"),
        (("check", "tests.mutants.inline"), "does not name an adapter: write module:attribute"),
        (("check", "tests.mutants.inline:nothing"), "has no 'nothing'; it has: "),
        (("check", "tests.mutants.inline:InlineSender"), "is not an adapter: it lacks name, profile"),
        (
            ("check", "tests.mutants.inline:adapter", "KS-9.99"),
            "no such clause: KS-9.99; the nearest: KS-9.9, ",
        ),
        (("check", "tests.mutants.inline:adapter", "--json", "/nosuch/r.json"), "cannot write to /nosuch"),
        (("check", "tests.mutants.inline:adapter", "--examples", "0"), "Invalid value for '--examples'"),
        (("chek",), "No such command 'chek'"),
        (("check", "KS-1.1"), "names no adapter: write module:attribute"),
        (("check", "tests.mutants.inline:adapter", "nosuch:adapter"), "there is no module 'nosuch'"),
        (
            ("check", "tests.mutants.inline:adapter", "KS-1.1", "tests.mutants.inline:adapter"),
            "and tests.mutants.inline:adapter are both named 'InlineSender', and no report could tell them apart",
        ),
    ],
)
def test_wrong_use_says_what_is_wrong(arguments: tuple[str, ...], message: str) -> None:
    done = kvsender(*arguments)
    said = " ".join((done.stdout + done.stderr).replace("│", " ").split())
    assert done.returncode == 2, said
    assert message in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import a_package_of_nobody", "module 'mine' needs 'a_package_of_nobody', which is not installed"),
        ("1 / 0", "module 'mine' fails at its import: ZeroDivisionError: division by zero"),
    ],
)
def test_a_module_that_cannot_be_imported_says_why(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.py").write_text(text + "\n")
    done = kvsender("check", "mine:adapter", cwd=tmp_path)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_good_sender_passes_and_the_report_is_written(tmp_path: Path) -> None:
    done = kvsender("check", "tests.mutants.inline:adapter", "--json", str(tmp_path / "report.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "33 pass" in done.stdout
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["schema"] == "kvsender-report/2"
    assert [row["id"] for row in report["clauses"] if row["verdict"] != "pass"] == ["KS-6.4", "KS-7.1"]


def test_a_broken_sender_fails_with_the_shortest_trace(tmp_path: Path) -> None:
    done = kvsender("check", "tests.mutants.seed:after_the_fix", "KS-1.2", "--json", str(tmp_path / "report.json"))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "KS-1.2 CATCH-SET" in done.stdout
    assert "observed" in done.stdout
    (row,) = json.loads((tmp_path / "report.json").read_text())["clauses"]
    assert row["verdict"] == "fail"
    assert 2 <= len(row["trace"]) <= 9  # the setup, and at most eight steps


def test_an_adapter_beside_the_caller_is_found_and_its_own_errors_are_named(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from kvsender_spec.machine import Profile\n"
        "from kvsender_spec.faults import STAND_INS\n"
        "class Mine:\n"
        "    name = 'mine'; profile = Profile.LATCH; errors = STAND_INS; usage_errors = (ValueError,)\n"
        "    def open(self, world): raise RuntimeError('no room at the inn')\n"
        "adapter = Mine()\n"
    )
    done = kvsender("check", "mine:adapter", cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    said = " ".join(done.stdout.split())
    assert "the adapter broke: adapter mine: open raised RuntimeError: no room at the inn" in said
    assert "mine.py:5 in open" in said
    assert ": error: adapter mine: open raised RuntimeError: no room at the inn" in said, "and so no clause is judged"
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return object()", "what open() returned, a object, lacks sender()"),
        ("return type('S', (), {'sender': lambda s, plan: object()})()", "lacks send(), poll(), failure_exception()"),
        (
            "return type('S', (), {'sender': lambda s, plan: type('T', (), {'send': 1, 'poll': 2})()})()",
            "what sender() returned, a T, lacks failure_exception()",
        ),
    ],
)
def test_an_adapter_that_lacks_a_method_is_refused(tmp_path: Path, body: str, message: str) -> None:
    (tmp_path / "mine.py").write_text(
        "from kvsender_spec.machine import Profile\n"
        "from kvsender_spec.faults import STAND_INS\n"
        "class Mine:\n"
        "    name = 'mine'; profile = Profile.LATCH; errors = STAND_INS; usage_errors = (ValueError,)\n"
        f"    def open(self, world): {body}\n"
        "adapter = Mine()\n"
    )
    done = kvsender("check", "mine:adapter", cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stdout + done.stderr


def test_the_clauses_are_listed() -> None:
    done = kvsender("list")
    assert done.returncode == 0
    assert "KS-8.1" in done.stdout
