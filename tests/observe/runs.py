"""The histories that the observer is tested over: the files of tests/histories, and runs of the kit."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from tests.mutants.inline import InlineAdapter
from tests.mutants.registry import MUTANTS
from tests.mutants.workers import WorkerAdapter

from kvsender_spec.history.events import History
from kvsender_spec.history.ndjson import read
from kvsender_spec.kit.adapter import Adapter
from kvsender_spec.kit.run.execute import run_trace
from kvsender_spec.kit.search.explore import explore
from kvsender_spec.observe.attribution import Tally
from kvsender_spec.observe.verdict import Findings
from kvsender_spec.trace import Trace

FILES: Final = {path.stem: path for path in sorted((Path(__file__).parents[1] / "histories").glob("*.ndjson"))}
SEED: Final = 20
RUNS: Final = 100
_VARIED: Final = (
    "NotSticky",
    "ReleaseErrorEscapes",
    "AbortReplacesCause",
    "ClearedRoomRevives",
    "InOrderOnly",
    "FreesPagesInFlight",
    "OneErrorFailsEveryRoom",
    "PollSeesHalfAChunk",
    "WorkerDies",
    "PeerFailedForEver",
)
"""Mutants of every family of clauses, with and without worker threads."""


class _Kept(Tally):
    """Keeps the traces as well."""

    def __init__(self) -> None:
        super().__init__()
        self.traces: list[Trace] = []

    def add(self, trace: Trace, findings: Findings) -> None:
        self.traces.append(trace)
        super().add(trace, findings)


@dataclass(frozen=True, slots=True)
class Seen:
    """A run, and what the observer found while it went on."""

    history: History
    findings: Findings


@cache
def kit_runs() -> tuple[Seen, ...]:
    """Runs of right senders and of broken ones, of the same traces every time, the senders in turn."""
    by_name = {mutant.name: mutant.adapter for mutant in MUTANTS}
    adapters: list[Adapter] = [InlineAdapter(), WorkerAdapter(), *(by_name[name] for name in _VARIED)]
    each = -(-RUNS // len(adapters))
    found: list[list[Seen]] = []
    logging.disable(logging.CRITICAL)
    try:
        for adapter in adapters:
            kept = _Kept()
            explore(adapter, kept, seed=SEED, examples=each, first=())
            runs = [run_trace(adapter, trace, as_it_is=True) for trace in kept.traces]
            found.append([Seen(run.history, run.observer.findings) for run in runs])
    finally:
        logging.disable(logging.NOTSET)
    return tuple(run for runs in zip(*found, strict=True) for run in runs)[:RUNS]


@cache
def files() -> dict[str, History]:
    """The histories of tests/histories by the name of the file."""
    return {name: read(path) for name, path in FILES.items()}


def every_history(runs: int = RUNS) -> list[tuple[str, History]]:
    """All files and so many runs, named."""
    return [*files().items(), *((f"run {number}", run.history) for number, run in enumerate(kit_runs()[:runs]))]
