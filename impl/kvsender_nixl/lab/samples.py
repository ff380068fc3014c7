"""Samples of a call of the sender or the reader beside samples of bare NIXL calls, and what they come to.

Machines are shared and noisy, so nothing here is compared across runs: both sides alternate in one process. Bars are
held against the minima, which noise cannot lower; the CPU time of the thread stands beside the wall time, because it
leaves out the time for which others had the core.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Final, TypeVar

import msgspec

_T = TypeVar("_T")

MIN_SAMPLES: Final = 3


class Times(msgspec.Struct, frozen=True):
    """What the samples of one call come to: by the wall clock, and CPU time of this thread."""

    samples: int
    min_us: float
    median_us: float
    cpu_min_us: float
    cpu_median_us: float


@dataclass(slots=True)
class Series:
    """Samples of one call, in microseconds."""

    wall_us: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)

    def time(self, call: Callable[[], _T], calls: int = 1) -> _T:
        """Take one sample, of a ``call`` that does the thing ``calls`` times, and return what it returned."""
        cpu = time.thread_time_ns()
        wall = time.perf_counter_ns()
        result = call()
        wall = time.perf_counter_ns() - wall
        cpu = time.thread_time_ns() - cpu
        self.wall_us.append(wall / calls / 1000)
        self.cpu_us.append(cpu / calls / 1000)
        return result

    @property
    def times(self) -> Times:
        return Times(
            len(self.wall_us),
            min(self.wall_us),
            statistics.median(self.wall_us),
            min(self.cpu_us),
            statistics.median(self.cpu_us),
        )


class Row(msgspec.Struct, frozen=True):
    """The sender or the reader, which are ours, beside the bare calls."""

    name: str
    ours: Times
    bare: Times
    ratio_min: float
    ratio_cpu_median: float
    indices: Times | None
    """What making the bare calls' index arrays from page ids took, which is in no time of theirs."""
    limit_us: float | None
    """Bounds our minimum; None where there is no bar."""
    verdict: str
    """"ok" or "over"; empty where there is no bar."""

    @classmethod
    def of(
        cls, name: str, ours: Times, bare: Times, limit_us: float | None = None, indices: Times | None = None
    ) -> Row:
        ratio_min, ratio_cpu = ours.min_us / bare.min_us, ours.cpu_median_us / bare.cpu_median_us
        verdict = "" if limit_us is None else "ok" if ours.min_us <= limit_us else "over"
        return cls(name, ours, bare, ratio_min, ratio_cpu, indices, limit_us, verdict)


class Part(msgspec.Struct, frozen=True):
    """Rows of one kind. ``what`` and ``bare`` say what is timed, ``bar`` what is asked of it."""

    key: str = msgspec.field(name="part")
    what: str
    bare: str
    bar: str
    rows: tuple[Row, ...]

    @property
    def missed(self) -> list[str]:
        """The rows that are over their bar."""
        return [f"{self.key}: {row.name}" for row in self.rows if row.verdict == "over"]


def alternate(ours: Callable[[], object], bare: Callable[[], object], seconds: float) -> None:
    """Take samples of both in turn. Who is first changes, so that neither always finds the other's cache."""
    # A collection in the middle of a sample would be most of that sample.
    gc.collect()
    gc.disable()
    try:
        until = time.perf_counter() + seconds
        for number in count():
            if number >= MIN_SAMPLES and time.perf_counter() >= until:
                return
            first, second = (ours, bare) if number % 2 else (bare, ours)
            first()
            second()
    finally:
        gc.enable()
