"""What the commands have in common: how wrong use is refused, and where modules that the caller names are found."""

from __future__ import annotations

import os
import sys
from typing import Final

import typer
from rich.console import Console

USAGE: Final = 2


def refuse(message: str) -> typer.Exit:
    """Say on stderr what is wrong with the use of the command; raise what is returned."""
    Console(stderr=True, highlight=False).print(f"kvsender: {message}", markup=False, soft_wrap=True)
    return typer.Exit(USAGE)


def import_from_here() -> None:
    """A module beside the caller is importable, as with ``python -m``."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
