"""The loader, on a made-up package: shells, stand-ins, substitution. Each case has a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = {
    "__init__.py": "raise AssertionError('the top package is a shell')",
    "deep/__init__.py": "import gigantic",
    "deep/sender.py": """
import time
from lib.settings import VERBOSE
from lib.deep.heavy import compute
try:
    from wire import Error
except ImportError:
    Error = RuntimeError

def answer():
    return VERBOSE, compute(), Error.__name__, time.time()
""",
    "deep/heavy.py": "import gigantic",
}

PROGRAM = """
import sys
from pathlib import Path
from kvsender_connectors.loading import put_in_place, load_modules, substitute

class Error(Exception): pass
stand_ins = {
    "wire": {"Error": Error},
    "lib.settings": {"VERBOSE": 7},
    "lib.deep.heavy": {"compute": lambda: "light"},
    "lib.deep": {"extra": 1},
}
root = Path(sys.argv[1])
"""


def run(tmp_path: Path, body: str) -> subprocess.CompletedProcess[str]:
    for name, text in PACKAGE.items():
        path = tmp_path / "lib" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return subprocess.run(
        [sys.executable, "-c", PROGRAM + body, str(tmp_path / "lib")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_module_is_loaded_without_what_surrounds_it(tmp_path: Path) -> None:
    body = """
put_in_place(root, ("lib", "lib.deep"), stand_ins)
(sender,) = load_modules("lib.deep.sender")
assert sender.__file__ == str(root / "deep" / "sender.py")
assert sys.modules["lib.deep"].extra == 1
class Clock:
    time = staticmethod(lambda: 5.0)
substitute([sender], {"time": Clock, "nothing_of_this_name": 1})
assert sender.answer() == (7, "light", "Error", 5.0), sender.answer()
assert not hasattr(sender, "nothing_of_this_name")
"""
    done = run(tmp_path, body)
    assert done.returncode == 0, done.stderr


def test_what_may_not_be_imported_gets_no_stand_in(tmp_path: Path) -> None:
    body = """
sys.modules["wire"] = None
put_in_place(root, ("lib", "lib.deep"), {**stand_ins, "wire.below": {}})
(sender,) = load_modules("lib.deep.sender")
assert sender.answer()[2] == "RuntimeError"
"""
    done = run(tmp_path, body)
    assert done.returncode == 0, done.stderr


def test_what_is_there_already_stays_as_it_is(tmp_path: Path) -> None:
    body = """
import json
put_in_place(root, ("lib",), {"json": {"dumps": None}})
assert json.dumps(1) == "1"
"""
    done = run(tmp_path, body)
    assert done.returncode == 0, done.stderr


def test_a_process_holds_one_release(tmp_path: Path) -> None:
    body = """
put_in_place(root, ("lib",), {})
put_in_place(root, ("lib",), {})
"""
    done = run(tmp_path, body)
    assert "RuntimeError: lib is loaded already" in done.stderr


@pytest.mark.parametrize("module", ["sglang_0_5_11", "sglang_0_5_12", "sglang_0_5_23", "mooncake_0_5_23"])
def test_a_release_that_is_not_there_says_what_to_do(module: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import kvsender_connectors.adapters.{module}"],
        env={"KVSENDER_CONNECTORS_DIR": str(tmp_path), "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    last = done.stderr.strip().splitlines()[-1]
    assert last.endswith(f"is not installed in {tmp_path}: run `make connectors`"), done.stderr


def test_the_package_needs_neither_torch_nor_nixl_nor_sglang() -> None:
    program = """
import importlib, pkgutil, sys
for name in ("nixl", "torch", "sglang", "mooncake", "zmq"):
    sys.modules[name] = None
import kvsender_connectors
for module in pkgutil.iter_modules(kvsender_connectors.__path__):
    if module.name != "__main__":
        importlib.import_module(f"kvsender_connectors.{module.name}")
importlib.import_module("kvsender_connectors.adapters.seed")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
