"""KS-1.5: the adapter's module is imported in a fresh interpreter in which nixl cannot be imported."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

from kvsender_spec.history.events import History, ImportProbed, RunEnded
from kvsender_spec.history.header import Header, Source
from kvsender_spec.kit.adapter import Adapter

IMPORT_TIMEOUT_S: Final = 60.0
_IMPORT: Final = """
import importlib.util, sys
name, path = sys.argv[1:]
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
    name = type(adapter).__module__
    path: object = getattr(sys.modules.get(name), "__file__", None)
    if name == "__main__" or not isinstance(path, str):
        return None
    program = f"import sys\nsys.path[:0] = {sys.path!r}\n{_IMPORT}"
    done = subprocess.run(
        [sys.executable, "-c", program, name, path],
        capture_output=True,
        text=True,
        timeout=IMPORT_TIMEOUT_S,
        check=False,
    )
    last = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit code {done.returncode}"
    header = Header(source=Source.SCRIPTED, vantage=("import.probed",), subject=adapter.name)
    probed = ImportProbed(seq=0, t=0.0, module=name, failure="" if done.returncode == 0 else last)
    return History(header=header, events=[probed, RunEnded(seq=1, t=0.0)])
