"""What the commands have in common: how wrong use is refused, and where what the caller names is found or written."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

import typer
from rich.console import Console

USAGE: Final = 2


def refuse(message: str, command: str = "kvsender") -> typer.Exit:
    """Say on stderr what is wrong with the use of the command; raise what is returned."""
    Console(stderr=True, highlight=False).print(f"{command}: {message}", markup=False, soft_wrap=True)
    return typer.Exit(USAGE)


def require_writable(path: Path | None, option: str, command: str = "kvsender") -> None:
    """Refuse a path that cannot be written now rather than after the work is done. Nothing is left there."""
    if path is None:
        return
    there = path.exists()
    try:
        with path.open("a", encoding="utf-8"):
            pass
        if not there:
            path.unlink()
    except OSError as error:
        message = f"cannot write to {path}: {error.strerror}; choose another {option} path"
        raise refuse(message, command) from error


def import_from_here() -> None:
    """A module beside the caller is importable, as with ``python -m``."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
