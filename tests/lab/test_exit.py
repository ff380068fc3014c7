"""A process that has made an agent exits with the code that it means, also beside the system's RDMA libraries.

With ``UCX_MODULES=all`` the same processes die of SIGSEGV as they exit: so these tests can fail, and a value of the
user's is kept. Where a newer nixl exits in order with ``all`` too, ``NIXL_ENV`` no longer needs the variable.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kvsender_nixl.lab.peer import PROGRAM
from kvsender_nixl.lab.process import PeerProcess
from kvsender_nixl.lab.remote import Request, Start

pytestmark = pytest.mark.timeout(120)


def run(*arguments: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    rest = {name: value for name, value in os.environ.items() if name != "UCX_MODULES"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=rest | env, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture(scope="module", autouse=True)
def _libefa(tmp_path_factory: pytest.TempPathFactory) -> None:
    """In a process of its own, because this one makes agents too. libefa loads libibverbs."""
    done = run("-c", "import ctypes; ctypes.CDLL('libefa.so.1')", cwd=tmp_path_factory.mktemp("libefa"))
    assert done.returncode == 0, f"without libefa nothing is seen here; `make rdma` installs it\n{done.stderr}"


@pytest.mark.parametrize(("env", "code"), [({}, 0), ({"UCX_MODULES": "all"}, -signal.SIGSEGV)])
def test_the_command_exits_with_its_code(env: dict[str, str], code: int, tmp_path: Path) -> None:
    done = run("-m", "kvsender_nixl.lab.verify", "--only", "no-pages", cwd=tmp_path, **env)
    assert "verify: pass" in done.stdout, done.stderr
    assert done.returncode == code


@pytest.mark.parametrize(
    ("env", "code"),
    [({}, 0), ({"UCX_MODULES": "^efa"}, 0), ({"UCX_MODULES": "all"}, -signal.SIGSEGV)],
)
def test_the_peer_exits_with_its_code(env: dict[str, str], code: int) -> None:
    with PeerProcess[Request, object](PROGRAM, "exit", env=env) as peer:
        peer.request(Start("exit", 0, 8))
        peer.close(grace_s=30.0)
    assert peer.exit_code == code
