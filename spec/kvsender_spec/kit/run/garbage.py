"""The garbage collector while a run is made: it runs at steps of the run, and never by chance.

A handle in a reference cycle, as an exception with its traceback makes one, is released when the collector finds it
(KS-4.2). Left to itself it runs when enough objects have been made, so that the same trace would break the clause once,
and hold it the next time.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from threading import Event
from typing import Final

_RUNS: Final = count(1)
_MANY: Final = 1000
_FREEZES: Final = Event()
"""A run is made for which nothing is looked at that was there before."""


@contextmanager
def stepwise() -> Iterator[None]:
    """While it lasts the collector runs only where ``collect`` is called, and looks only at what was made meanwhile."""
    if not gc.isenabled():
        yield  # a run within a run, or whoever runs the kit wants it so
        return
    gc.disable()
    if gc.get_freeze_count() == 0:
        _FREEZES.set()
        gc.freeze()
    try:
        yield
    finally:
        if _FREEZES.is_set():
            _FREEZES.clear()
            gc.unfreeze()
        gc.enable()


def spare_what_there_is() -> None:
    """What there is now is there until the run has ended: the collector need not look at it again."""
    if _FREEZES.is_set():
        gc.freeze()


def collect() -> None:
    """Release what nobody refers to any more but itself."""
    if not gc.isenabled():
        gc.collect()


def another_run() -> None:
    """A run has been made. What senders leave behind in reference cycles is collected after many of them."""
    if next(_RUNS) % _MANY == 0:
        gc.collect()
