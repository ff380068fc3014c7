"""Mutants of the reference sender by what they change, and the page that lists those which the kit does not catch.

A mutant is known by its function and its changed lines. mutmut's own numbers move with every edit of a function.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
SOURCES: Final = ROOT / "impl" / "kvsender_nixl"
PAGE: Final = ROOT / "docs" / "records" / "code-mutants.md"

_FILE: Final = re.compile(r"## (\w+\.py)")
_FUNCTION: Final = re.compile(r"### `([\w.]+)`")
_ENTRY: Final = re.compile(r"- (?:`(?P<old>[^`]+)` → (?:`(?P<new>[^`]+)`|nothing)|never called): (?P<why>.+)")


@dataclass(frozen=True, slots=True, order=True)
class Mutant:
    file: str
    function: str
    """Its name, with the class's where it has one."""
    old: str = ""
    new: str = ""
    """The lines that were there and those in their place, each without indentation, joined by blanks. Where both are
    empty, all the mutants of a function that the kit never calls."""

    def __str__(self) -> str:
        new = f"`{self.new}`" if self.new else "nothing"
        return f"{self.file} {self.function}: {f'`{self.old}` → {new}' if self.old else 'never called'}"


class PageError(ValueError):
    """A line of the page that is none of a heading, a mutant or prose; the message names it."""


def parse(text: str) -> dict[Mutant, str]:
    """The mutants that a page lists, each with the reason why it survives. Before the first file is prose."""
    found: dict[Mutant, str] = {}
    file = function = ""
    for number, line in enumerate(text.splitlines(), 1):
        if heading := _FILE.fullmatch(line):
            file, function = heading[1], ""
        elif heading := _FUNCTION.fullmatch(line):
            function = heading[1]
        elif file and line:
            entry = _ENTRY.fullmatch(line)
            if entry is None or not function:
                raise PageError(f"line {number} is no mutant: {line}")
            mutant = Mutant(file, function, entry["old"] or "", entry["new"] or "")
            if mutant in found:
                raise PageError(f"line {number} lists a mutant again: {line}")
            found[mutant] = entry["why"]
    return found


def changed(original: str, mutated: str) -> tuple[str, str]:
    """The lines that differ between two versions of a function: those of the first, and those of the second."""
    diff = list(unified_diff(original.splitlines(), mutated.splitlines(), n=0, lineterm=""))[2:]
    old, new = (" ".join(line[1:].strip() for line in diff if line.startswith(sign)) for sign in "-+")
    return old, new


def functions(source: str) -> Mapping[str, str]:
    """Every function of a module with its text, its lines joined as those of a mutant are."""
    lines = source.splitlines()
    found: dict[str, str] = {}

    def look(body: Iterable[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef):
                look(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.FunctionDef):
                found[f"{prefix}{node.name}"] = " ".join(x.strip() for x in lines[node.lineno - 1 : node.end_lineno])

    look(ast.parse(source).body, "")
    return found


def missing(mutants: Iterable[Mutant]) -> list[Mutant]:
    """Those whose function is gone, or no longer has the lines that they change."""
    texts = {path.name: functions(path.read_text()) for path in SOURCES.glob("*.py")}
    return [m for m in mutants if m.old not in (text := texts.get(m.file, {}).get(m.function, "")) or not text]
