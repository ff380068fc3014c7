"""The bar that ``kvsender check`` shows while it works."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from kvsender_spec.observe.attribution import Tally

if TYPE_CHECKING:
    from kvsender_spec.kit.search.complete import SuiteReport


class Bar:
    """On stderr, as long as a block lasts."""

    def __init__(self, name: str, planned: int) -> None:
        self._name: Final = name
        self._planned: Final = planned
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress: Final = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task: Final = self._progress.add_task(f"{name}: exploring", total=planned)

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._progress.stop()

    def run(self, found: Tally) -> None:
        """One more run was made."""
        if found.runs == self._planned:
            what = "shortening what broke" if found.broken else "concluding"
            self._progress.update(self._task, description=f"{self._name}: {what}")
        self._progress.update(self._task, completed=found.runs)

    def sequence(self, report: SuiteReport) -> None:
        """One more test sequence of the complete suite was run."""
        what = f"{self._name}: the complete suite"
        self._progress.update(self._task, description=what, total=report.planned, completed=report.sequences)
