"""What a command imports before it begins to work, and what that costs."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Final

import pytest

ROOT: Final = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MOST_TIMES: Final = 5
"""So many times the CPU time of the libraries alone may `kvsender list` take: about twice what it does."""
REPEATS: Final = 3
LIST: Final = "import sys; sys.argv[1:] = ['list']; from kvsender_spec.cli import main; main()"
CHECK: Final = "import kvsender_spec.check_command"
LIBRARIES: Final = "import typer, msgspec"
LATE: Final = frozenset({"kvsender_spec.report.html", "rich.progress", "torch"})
"""What a command imports only when it comes to need it."""
HEAVY: Final = LATE | {"kvsender_spec.kit", "kvsender_spec.formal", "jinja2"}


def cpu_s(program: str) -> float:
    """CPU seconds of an interpreter that runs it."""
    child = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    return used.ru_utime + used.ru_stime


def modules(program: str) -> set[str]:
    """The modules that are loaded when it has run."""
    body = f"import atexit, sys\natexit.register(lambda: print(*sys.modules, file=sys.stderr))\n{program}"
    done = subprocess.run([sys.executable, "-c", body], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize(("program", "spared"), [(LIST, HEAVY), (CHECK, HEAVY - {"kvsender_spec.kit"})])
def test_a_command_imports_nothing_that_it_does_not_need(program: str, spared: frozenset[str]) -> None:
    there = modules(program)
    assert "kvsender_spec.front" in there
    assert sorted(there & spared) == []


def test_what_is_spared_is_what_all_commands_import() -> None:
    there = modules("from kvsender_spec import cli; [cli._add(name) for name in cli.COMMANDS]")
    assert sorted(HEAVY - there) == sorted(LATE)


def test_the_list_takes_little_more_than_its_libraries() -> None:
    libraries, command = (min(cpu_s(program) for _ in range(REPEATS)) for program in (LIBRARIES, LIST))
    assert command < MOST_TIMES * libraries


def test_a_list_that_imports_a_sender_would_be_noticed() -> None:
    assert cpu_s("import kvsender_nixl.adapter") > MOST_TIMES * min(cpu_s(LIBRARIES) for _ in range(REPEATS))
