"""Loads some modules of an installed release, without the rest of it and without what that rest needs.

Nothing of the release is edited. Packages whose own ``__init__`` would pull in the world become empty shells that keep
their path, so that the modules below them are found; modules that are beside the point are replaced by stand-ins.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Final, TypeAlias

Attributes: TypeAlias = Mapping[str, object]

FOLDER_VARIABLE: Final = "KVSENDER_CONNECTORS_DIR"


class NotInstalled(ImportError):
    """A release is not in the folder of the releases."""


def folder() -> Path:
    """Where the releases lie, each in a subfolder of its own."""
    return Path(os.environ.get(FOLDER_VARIABLE, ".connectors")).resolve()


def release_root(release: str, package: str) -> Path:
    """The package's folder in an installed release. Raises NotInstalled where there is none."""
    root = folder() / release / package
    if not root.is_dir():
        raise NotInstalled(f"{package} {release} is not installed in {folder()}: run `make connectors`")
    return root


def put_in_place(root: Path, shells: Iterable[str], stand_ins: Mapping[str, Attributes]) -> None:
    """Put shells and stand-ins where the release's imports look for them.

    ``root`` is the folder of the top package. A name that is in both is a shell with attributes. What has been imported
    already, or is barred from being imported, stays as it is, so that a test may take a package away; but a second
    release in one process is refused.
    """
    if root.name in sys.modules:
        raise RuntimeError(f"{root.name} is loaded already, and one process holds only one release")
    shells = tuple(shells)
    for name in shells:
        shell = ModuleType(name)
        shell.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
        _enter(name, shell)
    for name, attributes in stand_ins.items():
        if _barred(name):
            continue
        if name not in shells and name not in sys.modules:
            module = ModuleType(name)
            module.__path__ = []  # a stand-in may have stand-ins below it
            _enter(name, module)
        found = sys.modules[name]
        if not hasattr(found, "__file__"):
            vars(found).update(attributes)


def _barred(name: str) -> bool:
    """Whether somebody has said that the module, or what it is part of, cannot be imported."""
    parts = name.split(".")
    above = [".".join(parts[: count + 1]) for count in range(len(parts))]
    return any(part in sys.modules and _module(part) is None for part in above)


def _module(name: str) -> ModuleType | None:
    """The entry of ``sys.modules``, which may be None although its annotation does not say so."""
    return sys.modules.get(name)


def _enter(name: str, module: ModuleType) -> None:
    sys.modules[name] = module
    parent, _, leaf = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], leaf, module)


def load_modules(*names: str) -> tuple[ModuleType, ...]:
    """Import the release's modules."""
    return tuple(import_module(name) for name in names)


def substitute(modules: Iterable[ModuleType], names: Attributes) -> None:
    """Give modules another object under a name that they have; a name that a module lacks is none of its business."""
    for module in modules:
        for name, value in names.items():
            if hasattr(module, name):
                setattr(module, name, value)
