"""The histories that a check keeps: each, read back from its file, must show the clause that it was kept for."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from kvsender_spec.history.events import History
from kvsender_spec.history.ndjson import read, write
from kvsender_spec.machine import Profile
from kvsender_spec.observe.observer import observe
from kvsender_spec.observe.verdict import Report


def shown(history: History, path: Path, profile: Profile) -> frozenset[str]:
    """The clauses that ``kvsender trace check`` says fail in the history, once it has been written there."""
    write(history, path)
    verdicts = observe(read(path)).verdicts(profile)
    return frozenset(verdict.clause.id for verdict in verdicts if verdict.outcome.failed)


def disagreeing(report: Report) -> tuple[str, ...]:
    """The clauses that fail in the report, and do not in the history that was kept for them, or have none."""
    wrong: list[str] = []
    with TemporaryDirectory(prefix="kvsender-histories-") as folder:
        for verdict in report.verdicts:
            history = None if verdict.evidence is None else verdict.evidence.history
            file = Path(folder, f"{verdict.clause.id}.ndjson")
            seen = frozenset[str]() if history is None else shown(history, file, report.profile)
            if verdict.outcome.failed and verdict.clause.id not in seen:
                wrong.append(verdict.clause.id)
    return tuple(wrong)
