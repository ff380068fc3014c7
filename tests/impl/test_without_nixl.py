"""Without nixl and torch every module imports, and says what is missing when it is needed (KS-1.5)."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import importlib, pkgutil, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("nixl", "nixl_cu12", "nixl_cu13", "torch"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
import kvsender_nixl
from kvsender_nixl import agent
modules = [module.name for module in pkgutil.iter_modules(kvsender_nixl.__path__) if not module.ispkg]
for adapter in ("adapter", "reader_adapter", "receiver_adapter"):
    modules.remove(adapter)  # it puts torch over the kit's memory
assert "prefill" in modules
for name in modules:
    importlib.import_module(f"kvsender_nixl.{name}")
assert agent.TRANSPORT_ERRORS == (RuntimeError,), agent.TRANSPORT_ERRORS
assert not agent.ERROR_CLASSES
try:
    agent.create_agent("a")
except ImportError as error:
    print(error)
"""


def test_imports_without_nixl_and_torch() -> None:
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    assert "pip install nixl==" in run.stdout


def test_the_classes_of_the_installed_bindings() -> None:
    from kvsender_nixl.agent import ERROR_CLASSES, TRANSPORT_ERRORS
    from kvsender_spec.faults import NIXL_KINDS

    assert set(ERROR_CLASSES) == {kind.value for kind in NIXL_KINDS}
    assert (*ERROR_CLASSES.values(), RuntimeError) == TRANSPORT_ERRORS
    assert not any(issubclass(error, RuntimeError) for error in ERROR_CLASSES.values())
