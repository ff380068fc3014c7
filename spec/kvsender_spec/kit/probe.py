"""KS-1.5: the adapter's module is imported in a fresh interpreter in which nixl cannot be imported.

Importing torch takes seconds. Where it is loaded already, the module is first imported in a forked process that has
forgotten every module but those of ``_KEPT``, none of which imports nixl: what can be imported there without nixl can
be imported in a fresh interpreter. Whatever else comes of the fork says nothing, and a fresh interpreter has the word.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from typing import Final

from kvsender_spec.history.events import History, ImportProbed, RunEnded
from kvsender_spec.history.header import Header, Source
from kvsender_spec.kit.adapter import Adapter
from kvsender_spec.kit.parts import Claiming

IMPORT_TIMEOUT_S: Final = 60.0
_LOOK_S: Final = 0.01
_KEPT: Final = sys.stdlib_module_names | {"torch", "numpy", "kvsender_spec", "__main__"}
_IMPORT: Final = """
import importlib.util, sys
for library in ("nixl", "nixl_cu12", "nixl_cu13", "nixl_rocm"):
    sys.modules[library] = None
try:
    spec = importlib.util.find_spec(name)
except ModuleNotFoundError as error:
    if not f"{name}.".startswith(f"{error.name}."):
        raise
    spec = None
if spec is None or spec.origin != path:
    spec = importlib.util.spec_from_file_location(name, path)
module = sys.modules[name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
"""
"""By its name where the name leads to the file, and from the file where it does not: a test module under pytest's
importlib mode has a name that nobody else can import."""


def probe_import(adapter: Adapter) -> History | None:
    """The history of one import; None for a module that cannot be imported again.

    A script that runs as ``__main__``, and a module without a file, are such: nothing is observed.
    """
    name = type(adapter.adapter if isinstance(adapter, Claiming) else adapter).__module__
    path: object = getattr(sys.modules.get(name), "__file__", None)
    if name == "__main__" or not isinstance(path, str):
        return None
    imported = "torch" in sys.modules and hasattr(os, "fork") and _imports_in_fork(name, path)
    failure = "" if imported else _failure_in_fresh_interpreter(name, path)
    header = Header(source=Source.SCRIPTED, vantage=("import.probed",), subject=adapter.name)
    probed = ImportProbed(seq=0, t=0.0, module=name, failure=failure)
    return History(header=header, events=[probed, RunEnded(seq=1, t=0.0)])


def _failure_in_fresh_interpreter(name: str, path: str) -> str:
    """Why the import fails; empty if it does not."""
    program = f"import sys\nsys.path[:0] = {sys.path!r}\nname, path = sys.argv[1:]\n{_IMPORT}"
    done = subprocess.run(
        [sys.executable, "-c", program, name, path],
        capture_output=True,
        text=True,
        timeout=IMPORT_TIMEOUT_S,
        check=False,
    )
    last = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit code {done.returncode}"
    return "" if done.returncode == 0 else last


def _imports_in_fork(name: str, path: str) -> bool:
    """Whether the import succeeds in a forked process, in time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the other threads, which the child lacks, only wait
        child = os.fork()
    if child == 0:
        _import_and_exit(name, path)
    for _ in range(round(IMPORT_TIMEOUT_S / _LOOK_S)):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(_LOOK_S)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def _import_and_exit(name: str, path: str) -> None:
    """The forked process: it imports the module, in silence, and says by its exit code whether that went well."""
    code = 1
    try:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        for module in [module for module in sys.modules if module.partition(".")[0] not in _KEPT]:
            del sys.modules[module]
        sys.modules.pop(name, None)
        known: dict[str, object] = {"name": name, "path": path}
        exec(_IMPORT, known)
        code = 0
    finally:
        os._exit(code)
