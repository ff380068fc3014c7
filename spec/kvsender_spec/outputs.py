"""Where ``kvsender check`` writes its reports, and how standard output stays clean for one of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from kvsender_spec.front import refuse, require_writable
from kvsender_spec.history.ndjson import write
from kvsender_spec.observe.verdict import Report

STDOUT: Final = "-"


def _json(reports: Sequence[Report]) -> str:
    from kvsender_spec.report.json import to_json

    return to_json(reports)


def _junit(reports: Sequence[Report]) -> str:
    from kvsender_spec.report.junit import to_junit

    return to_junit(reports)


def _html(reports: Sequence[Report]) -> str:
    from kvsender_spec.report.html import to_html

    return to_html(reports)


def _badge(reports: Sequence[Report]) -> str:
    from kvsender_spec.report.badge import to_badge

    return to_badge(reports)


def _markdown(reports: Sequence[Report]) -> str:
    from kvsender_spec.report.markdown import to_markdown

    return to_markdown(reports)


_MADE: Final[dict[str, Callable[[Sequence[Report]], str]]] = {
    "--json": _json,
    "--junit": _junit,
    "--html": _html,
    "--badge": _badge,
    "--summary": _markdown,
}
"""By option, what makes the text. It is imported only where it is asked for."""


@dataclass(slots=True)
class Outputs:
    """What was asked for, by option: paths, or ``-`` for standard output."""

    paths: dict[str, str]
    histories: Path | None = None
    _pure: int = field(default=-1, init=False)
    """The file descriptor of standard output, where it is kept clean."""

    def __post_init__(self) -> None:
        """Refuse, before anything is explored, what could not be written or would write over another report."""
        taken: dict[str, str] = {}
        for option, path in self.paths.items():
            place = path if path == STDOUT else str(Path(path).resolve())
            if place in taken:
                raise refuse(f"{taken[place]} and {option} would both write to {path}")
            taken[place] = option
            if path != STDOUT:
                require_writable(Path(path), option)
        if self.histories is not None:
            _make_folder(self.histories)

    def keep_clean(self) -> None:
        """Where a report goes to standard output, everything else goes to standard error: also what the sender, its
        libraries and its child processes print."""
        if STDOUT in self.paths.values():
            sys.stdout.flush()
            self._pure = os.dup(1)
            os.dup2(2, 1)

    def write(self, reports: Sequence[Report]) -> list[str]:
        """Write them all. Returns what could not be written, and why."""
        failed: list[str] = []
        for option, path in self.paths.items():
            text = _MADE[option](reports)
            try:
                self._write(text, path)
            except OSError as error:
                failed.append(f"{option} {path}: {error.strerror}")
        return failed

    def _write(self, text: str, path: str) -> None:
        if path != STDOUT:
            Path(path).write_text(text, encoding="utf-8")
            return
        with open(self._pure, "w", encoding="utf-8") as clean:
            clean.write(text)

    def keep_histories(self, reports: Sequence[Report]) -> list[Path]:
        """Write the history of each shortest failing run. Returns the files. Raises OSError."""
        paths: list[Path] = []
        for report in reports if self.histories is not None else ():
            sender = "".join(letter if letter.isalnum() else "-" for letter in report.adapter)
            for found in report.verdicts:
                evidence = found.evidence
                if found.outcome.failed and evidence is not None and evidence.history is not None:
                    paths.append(Path(self.histories or ".") / f"{sender}.{found.clause.id}.ndjson")
                    write(evidence.history, paths[-1])
        return paths


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise refuse(f"cannot write into {folder}: {error.strerror}; choose another --histories folder") from error
    require_writable(folder / ".kvsender", "--histories")
