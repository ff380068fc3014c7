"""mypy's stubtest holds ``stubs/nixl`` and ``stubs/z3`` against the installed packages.

It sees names, and the signatures of the Python layer (``nixl._api``). It is blind to the signatures of pybind11
functions; those are the business of ``test_bindings_stub.py``.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ALLOWLIST = Path(__file__).with_name("stubtest-allowlist.txt")


def stubtest(stubs: Path, cwd: Path, package: str = "nixl") -> subprocess.CompletedProcess[str]:
    """Run stubtest over the stubs of a package in ``stubs``.

    No mypy configuration is given, because ours puts the repository's own stubs on the path, and the planted copies
    would then never be read.
    """
    allowed = ("--allowlist", str(ALLOWLIST)) if package == "nixl" else ()
    arguments = ("--ignore-missing-stub", "--concise", *allowed, package)
    environment = {**os.environ, "MYPYPATH": str(stubs)}
    return subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", *arguments],
        cwd=cwd,
        env=environment,
        text=True,
        capture_output=True,
        check=False,
        timeout=200,
    )


def test_the_stub_agrees_with_the_installed_package(tmp_path: Path) -> None:
    answer = stubtest(ROOT / "stubs", tmp_path)
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")


def test_the_stub_of_what_learns_agrees_and_a_planted_mistake_is_reported(tmp_path: Path) -> None:
    answer = stubtest(ROOT / "stubs", tmp_path, "aalpy")
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")
    shutil.copytree(ROOT / "stubs" / "aalpy", tmp_path / "stubs" / "aalpy")
    stub = tmp_path / "stubs" / "aalpy" / "__init__.pyi"
    stub.write_text(stub.read_text().replace("eq_oracle: Oracle", "oracle: Oracle"))
    answer = stubtest(tmp_path / "stubs", tmp_path, "aalpy")
    assert answer.returncode == 1
    assert "aalpy.run_KV" in answer.stdout


def test_the_stub_of_what_makes_processes_agrees_and_a_planted_mistake_is_reported(tmp_path: Path) -> None:
    answer = stubtest(ROOT / "stubs", tmp_path, "joblib")
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")
    shutil.copytree(ROOT / "stubs" / "joblib", tmp_path / "stubs" / "joblib")
    stub = tmp_path / "stubs" / "joblib" / "__init__.pyi"
    stub.write_text(stub.read_text().replace("n_jobs: int", "jobs: int"))
    answer = stubtest(tmp_path / "stubs", tmp_path, "joblib")
    assert answer.returncode == 1
    assert "joblib.Parallel.__init__" in answer.stdout


def test_planted_mistakes_are_reported(tmp_path: Path) -> None:
    # Without this control a stub that stubtest silently does not read would pass as well.
    shutil.copytree(ROOT / "stubs" / "nixl", tmp_path / "stubs" / "nixl")
    bindings = tmp_path / "stubs" / "nixl" / "_bindings.pyi"
    bindings.write_text(bindings.read_text() + "\nclass nixlImaginaryError(Exception): ...\n")
    api = tmp_path / "stubs" / "nixl" / "_api.pyi"
    for old, new in (
        ("def transfer(self, handle: nixl_xfer_handle,", "def transfer(self, xfer: nixl_xfer_handle,"),
        ("enable_prog_thread: bool = True", "enable_prog_thread: bool = False"),
        ("skip_desc_merge: bool = False,", "skip_desc_merge: bool = False, force: bool = False,"),
    ):
        assert api.read_text().count(old) == 1
        api.write_text(api.read_text().replace(old, new))
    answer = stubtest(tmp_path / "stubs", tmp_path)
    assert answer.returncode == 1
    reported = [line.split(" ")[0] for line in answer.stdout.splitlines()]
    assert reported == [
        "nixl._api.nixl_agent.make_prepped_xfer",
        "nixl._api.nixl_agent.transfer",
        "nixl._api.nixl_agent_config.__init__",
        "nixl._bindings.nixlImaginaryError",
    ]


def test_the_stub_of_z3_agrees_with_the_installed_package(tmp_path: Path) -> None:
    answer = stubtest(ROOT / "stubs", tmp_path, "z3")
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")
    # The control: a mistake in the stub is reported.
    shutil.copytree(ROOT / "stubs" / "z3", tmp_path / "stubs" / "z3")
    planted = tmp_path / "stubs" / "z3" / "__init__.pyi"
    assert planted.read_text().count("def Not(a: ") == 1
    planted.write_text(planted.read_text().replace("def Not(a: ", "def Not(term: "))
    answer = stubtest(tmp_path / "stubs", tmp_path, "z3")
    assert answer.returncode == 1
    assert [line.split(" ")[0] for line in answer.stdout.splitlines()] == ["z3.Not"]
