"""The two files that somebody starts from: an adapter that runs at once, and a test file that asks for every clause.

The adapter is the source of ``kvsender_spec.kit.toy``, or of ``toy_reader`` for one that reads, so that what is written
is code that mypy and the kit judge.
"""

from __future__ import annotations

import importlib.util
import inspect
import keyword
from pathlib import Path
from typing import Final

from kvsender_spec.kit import toy, toy_reader

_TEST: Final = '''"""The clauses of kvsender-spec as tests of {name}.adapter. `-rs` says why one is skipped."""

import {name}

from kvsender_spec.kit.suite import SenderConformance


class TestConformance(SenderConformance):
    adapter = {name}.adapter
'''


def adapter_source(name: str, *, reader: bool = False) -> str:
    """The adapter's module, of a sender or a reader, under the name of its reports."""
    return inspect.getsource(toy_reader if reader else toy).replace('name = "toy"', f'name = "{name}"')


def suite_source(name: str) -> str:
    """The pytest file for the adapter module ``name``."""
    return _TEST.format(name=name)


def write_template(directory: Path, name: str, *, reader: bool = False) -> list[Path]:
    """Write ``NAME.py`` and ``test_NAME.py`` and answer their paths.

    Raises ValueError, which names what is wrong, for a name that no module can have or that one has already, for a
    file that exists, and for a directory that is missing or cannot be written to. Nothing is left half-written.
    """
    if not name.isidentifier() or keyword.iskeyword(name):
        raise ValueError(f"{name!r} is no name for a Python module; take letters, digits and _, e.g. my_adapter")
    texts = {
        directory / f"{name}.py": adapter_source(name, reader=reader),
        directory / f"test_{name}.py": suite_source(name),
    }
    for path in texts:
        if path.exists():
            raise ValueError(f"{path} exists already; remove it, or take another name")
    if name == "__main__" or importlib.util.find_spec(name) is not None:
        raise ValueError(f"{name!r} is a module already, which a file of that name would hide; take another name")
    written: list[Path] = []
    for path, text in texts.items():
        try:
            # "x" refuses a file that somebody has made since.
            with path.open("x", encoding="utf-8") as file:
                written.append(path)
                file.write(text)
        except OSError as error:
            for half in written:
                half.unlink(missing_ok=True)
            raise ValueError(f"cannot write {path}: {error.strerror}; choose another directory") from error
    return written
