"""Finds an adapter by name."""

from __future__ import annotations

import importlib

from kvsender_spec.kit.adapter import Adapter
from kvsender_spec.kit.parts import LoadError


def load_adapter(name: str) -> Adapter:
    """Import ``module:attribute``. Raises LoadError for anything that is not an adapter."""
    module_name, colon, attribute = name.partition(":")
    if not colon or not module_name or not attribute:
        raise LoadError(
            f"{name!r} does not name an adapter: write module:attribute, e.g. kvsender_nixl.adapter:adapter"
        )
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing_name = error.name or module_name
        if f"{module_name}.".startswith(f"{missing_name}."):
            raise LoadError(f"there is no module {module_name!r}: is the name right, and is it on the path?") from error
        raise LoadError(
            f"module {module_name!r} needs {missing_name!r}, which is not installed: pip install it"
            " (for kvsender_nixl: pip install 'kvsender-spec[nixl]')"
        ) from error
    except Exception as error:
        raise LoadError(f"module {module_name!r} fails at its import: {type(error).__name__}: {error}") from error
    found: object = getattr(module, attribute, None)
    if found is None:
        public = ", ".join(key for key in dir(module) if not key.startswith("_")) or "nothing"
        raise LoadError(f"module {module_name!r} has no {attribute!r}; it has: {public}")
    missing = [key for key in ("name", "profile", "errors", "usage_errors", "open") if not hasattr(found, key)]
    if missing:
        raise LoadError(
            f"{name} is not an adapter: it lacks {', '.join(missing)} (see kvsender_spec.kit.adapter.Adapter)"
        )
    if not isinstance(found, Adapter):
        raise LoadError(f"{name} is not an adapter (see kvsender_spec.kit.adapter.Adapter)")
    return found
