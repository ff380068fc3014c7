"""One exploration for all workers of a run of pytest-xdist.

xdist hands the tests of a class to several processes, each of which would explore the sender anew. The first worker
that needs a report explores under a lock and leaves the report in a folder of the run; the others wait and read it.

The lock is the operating system's, on a file: it ends with the process that holds it, so that a worker that crashes
while it explores holds up nobody. The next worker then explores. The folder lies in the run's own temporary directory,
beside those of the workers, which pytest makes for its user alone: what is unpickled comes from the run itself.

Only the workers of one machine share a temporary directory. A worker that was started elsewhere (``--tx ssh=...``)
explores for itself, as does every process where the platform has no ``fcntl``.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

import pytest

from kvsender_spec.observe.verdict import Report

WAIT_S: Final = 4 * 3600.0
"""How long a worker waits for another one's exploration: longer than the largest budget takes."""
_LOOK_S: Final = 0.05


class SharingError(Exception):
    """The report that another worker explores could not be had; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the workers of one run keep one report, under a name that is the same in all of them."""

    folder: Path
    name: str

    @property
    def report(self) -> Path:
        return self.folder / f"{self._stem}.pickle"

    @property
    def lock(self) -> Path:
        return self.folder / f"{self._stem}.lock"

    @property
    def _stem(self) -> str:
        return sha256(self.name.encode("utf-8", "surrogatepass")).hexdigest()


def place_of(config: pytest.Config, name: str) -> Place | None:
    """Where a worker of xdist shares a report; None in any other process, and where there is nothing to share.

    The configuration is asked and not the environment, which a pytest that a test starts would inherit.
    """
    given: object = getattr(config, "workerinput", None)
    basetemp: object = getattr(config.option, "basetemp", None)
    if sys.platform == "win32" or not isinstance(given, dict) or not isinstance(basetemp, str):
        return None
    run = sha256(str(given.get("testrunuid", "")).encode("utf-8", "surrogatepass")).hexdigest()
    return Place(Path(basetemp).parent / f"kvsender-{run[:16]}", name)


def shared(place: Place | None, explore: Callable[[], Report], *, wait_s: float = WAIT_S) -> Report:
    """The report of ``explore``, which one process of those that name this place calls, and once.

    Raises SharingError where another process has not come to an end with it after ``wait_s``, or where there can be no
    lock. What ``explore`` raises is passed on, and the next process explores.
    """
    if place is None:
        return explore()
    with _locked(place, wait_s):
        if place.report.exists():
            return _read(place.report)
        report = explore()
        _write(report, place.report)
        return report


@contextmanager
def _locked(place: Place, wait_s: float) -> Iterator[None]:
    """Hold the lock. Raises SharingError where it cannot be had in time, or at all."""
    if sys.platform == "win32":
        raise SharingError("there are no such locks here")
    import fcntl

    with ExitStack() as stack:
        try:
            place.folder.mkdir(mode=0o700, exist_ok=True)
            file = stack.enter_context(place.lock.open("ab"))
        except OSError as error:
            raise SharingError(f"cannot share the exploration in {place.folder}: {error}; run without -n") from error
        deadline = time.monotonic() + wait_s
        while True:
            try:
                # A lock of the process, not of the file's description: a process that it forks does not inherit it.
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except (BlockingIOError, PermissionError):
                if time.monotonic() >= deadline:
                    raise SharingError(
                        f"another worker of this run has explored for more than {wait_s:g} s and is not done;"
                        " take a smaller budget, or run without -n"
                    ) from None
                time.sleep(_LOOK_S)
        yield  # closing the file gives the lock back


def _read(path: Path) -> Report:
    report: object = pickle.loads(path.read_bytes())
    if not isinstance(report, Report):
        raise SharingError(f"{path} holds no report; remove it")
    return report


def _write(report: Report, path: Path) -> None:
    """All of it or nothing, so that a worker that ends here leaves no half of a report.

    Where the disk takes no more the report is still this worker's; the others explore for themselves.
    """
    part = path.with_suffix(f".{os.getpid()}")
    with suppress(OSError):
        part.write_bytes(pickle.dumps(report))
        part.replace(path)
