"""Work in several processes, whose results come in the order of the work: nothing depends on how many there are."""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from typing import TypeVar

_Work = TypeVar("_Work")
_Result = TypeVar("_Result")


def in_processes(work: Callable[[_Work], _Result], parts: Iterable[_Work], jobs: int) -> Generator[_Result, None, None]:
    """What comes of the work for each part, in order; closing it gives up what has not been begun.

    The work and its parts are pickled. Raises what the work raises.
    """
    from joblib import Parallel, delayed  # it takes a while to import, and most checks need one process

    level = logging.root.manager.disable
    results = Parallel(jobs, return_as="generator")(delayed(_quietly)(work, part, level) for part in parts)
    try:
        for result in results:  # noqa: UP028  (a ``yield from`` would close it outside of the block below)
            yield result
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that something is given up is no news
            results.close()


def _quietly(work: Callable[[_Work], _Result], part: _Work, level: int) -> _Result:
    """Do the work, and log no more than the process that asks for it. Ctrl-C is that one's to deal with."""
    logging.disable(level)
    with suppress(ValueError):  # outside the main thread
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return work(part)
