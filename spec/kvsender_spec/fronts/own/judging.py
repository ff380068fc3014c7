"""What the history of a test comes to: its file, its verdicts in words, and why the test fails."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import Final

from rich.console import Console

from kvsender_spec.clauses import Level
from kvsender_spec.history.events import History
from kvsender_spec.history.ndjson import write
from kvsender_spec.observe.verdict import Outcome, Verdict
from kvsender_spec.recorded import Recorded
from kvsender_spec.report.text import counterexample

_LONGEST: Final = 120
"""Characters of a test's id in the name of its file: with what is added it is a valid name everywhere."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """Of one test."""

    path: Path
    said: tuple[tuple[str, str], ...]
    """For the summary: what was found, and of which clauses."""
    failure: str
    """Why the test fails: each MUST clause that is broken, as ``kvsender trace check`` tells it; empty for none."""


def file_name(test: str) -> str:
    """The file of a test: its id, as far as file systems agree on it, and a digest, which keeps like ones apart."""
    digest = sha256(test.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '_', test)[-_LONGEST:].lstrip('.-')}-{digest}.ndjson"


def judge(history: History, folder: Path, test: str) -> Judgement:
    """Write the history of a test to a file in the folder, and judge it as ``kvsender trace check`` does.

    Raises HistoryError for a history that cannot be written as one, and OSError where there can be no file.
    """
    path = folder / file_name(test)
    folder.mkdir(parents=True, exist_ok=True)
    write(history, path)
    verdicts = Recorded(str(path), history).verdicts(None)
    failed = [verdict for verdict in verdicts if verdict.outcome.failed and verdict.counts(strict=False)]
    text = StringIO()
    console = Console(file=text, color_system=None, highlight=False, markup=False, soft_wrap=True)
    for verdict in failed:
        console.print(counterexample(verdict))
    return Judgement(path, tuple(_said(verdicts)), text.getvalue())


def _said(verdicts: tuple[Verdict, ...]) -> Iterator[tuple[str, str]]:
    """The clauses by what became of them; those that no verdict could be had on by the reason."""
    lines: dict[tuple[str, str], list[str]] = {}
    for verdict in verdicts:
        lines.setdefault(_standing(verdict), []).append(verdict.clause.id)
    order = ["broke", "broke (SHOULD)", "broke, not claimed", "held", "inconclusive"]
    for word in order:
        for (standing, why), clauses in lines.items():
            if standing == word:
                yield word, ", ".join(clauses) + (f": {why}" if why else "")


def _standing(verdict: Verdict) -> tuple[str, str]:
    match verdict.outcome:
        case Outcome.FAIL | Outcome.FAIL_AFTER:
            return ("broke" if verdict.clause.level is Level.MUST else "broke (SHOULD)"), ""
        case Outcome.PASS:
            return "held", ""
        case Outcome.INCONCLUSIVE | Outcome.ERROR:
            return "inconclusive", verdict.note
        case Outcome.NOT_CLAIMED if verdict.broken:
            return "broke, not claimed", ""
        case Outcome.NOT_CLAIMED | Outcome.NOT_APPLICABLE:
            return "", ""
