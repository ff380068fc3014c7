"""The garbage collector while a run is made: it runs at steps of the run, and never by chance.

A handle in a reference cycle, as an exception with its traceback makes one, is released when the collector finds it
(KS-4.2). Left to itself it runs when enough objects have been made, so that the same trace would break the clause once,
and hold it the next time.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stepwise() -> Iterator[None]:
    """While it lasts the collector runs only where ``collect`` is called, and looks only at what was made meanwhile."""
    if not gc.isenabled():
        yield  # a run within a run, or whoever runs the kit wants it so
        return
    frozen = gc.get_freeze_count() > 0
    gc.disable()
    if not frozen:
        gc.freeze()
    try:
        yield
    finally:
        if not frozen:
            gc.unfreeze()
        gc.enable()


def collect() -> None:
    """Release what nobody refers to any more but itself."""
    if not gc.isenabled():
        gc.collect()
