"""Finds an adapter by name."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from kvsender_spec.kit.adapter import Adapter
from kvsender_spec.kit.parts import LoadError, claiming
from kvsender_spec.machine import Profile


def load_adapter(name: str) -> Adapter:
    """Import ``module:attribute`` or ``path/to/module.py:attribute``. Raises LoadError for what is not an adapter."""
    module_name, colon, attribute = name.rpartition(":")
    if not colon or not module_name or not attribute:
        example = f"{name}:adapter" if name.endswith(".py") else "kvsender_nixl.adapter:adapter"
        raise LoadError(f"{name!r} does not name an adapter: write module:attribute, e.g. {example}")
    module = _of_a_file(Path(module_name)) if module_name.endswith(".py") else _imported(module_name)
    found: object = getattr(module, attribute, None)
    if found is None:
        public = ", ".join(key for key in dir(module) if not key.startswith("_")) or "nothing"
        raise LoadError(f"module {module_name!r} has no {attribute!r}; it has: {public}")
    missing = [key for key in ("name", "profile", "errors", "usage_errors", "open") if not hasattr(found, key)]
    if missing:
        raise LoadError(
            f"{name} is not an adapter: it lacks {', '.join(missing)} (see kvsender_spec.kit.adapter.Adapter)"
        )
    if hasattr(found, "__mro__"):
        raise LoadError(f"{name} is a class: make an instance, as in adapter = {attribute}(), and name that")
    if not isinstance(found, Adapter):
        raise LoadError(f"{name} is not an adapter (see kvsender_spec.kit.adapter.Adapter)")
    return _well_formed(name, found)


def _well_formed(name: str, found: Adapter) -> Adapter:
    """Its name and its profile are what they must be; a profile may be the word for it."""
    title: object = found.name
    profile: object = found.profile
    if not isinstance(title, str) or not title:
        raise LoadError(f"{name} is not an adapter: its name is {title!r}, and must be a string that is not empty")
    if isinstance(profile, Profile):
        return found
    try:
        return claiming(found, Profile(profile))
    except ValueError:
        words = ", ".join(known.value for known in Profile)
        raise LoadError(f"{name} is not an adapter: its profile is {profile!r}, and must be one of {words}") from None


def _of_a_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise LoadError(f"there is no file {str(path)!r}")
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return _imported(path.stem)


def _imported(module_name: str) -> ModuleType:
    with _its_arguments_only():
        try:
            return importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            missing_name = error.name or module_name
            if f"{module_name}.".startswith(f"{missing_name}."):
                said = f"there is no module {module_name!r}: is the name right, and is it on the path?"
                raise LoadError(said) from error
            raise LoadError(
                f"module {module_name!r} needs {missing_name!r}, which is not installed: pip install it"
                " (for kvsender_nixl: the extra nixl of kvsender-spec)"
            ) from error
        except SystemExit as error:
            said = f"module {module_name!r} ends the program at its import (SystemExit {error.code})"
            raise LoadError(f"{said}: it may be a script, or read the command line") from error
        except Exception as error:
            raise LoadError(f"module {module_name!r} fails at its import: {type(error).__name__}: {error}") from error


@contextmanager
def _its_arguments_only() -> Iterator[None]:
    """A module that reads the command line when it is imported does not see that of the kit."""
    arguments = sys.argv
    sys.argv = arguments[:1]
    try:
        yield
    finally:
        sys.argv = arguments
