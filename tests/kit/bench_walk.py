"""How fast one tree of this repository walks: ``tests.kit.bench`` runs this file with the PYTHONPATH of that tree.

It imports nothing but what every revision since 0.1 has. Prints how many runs the walk made, and their CPU seconds.
"""

from __future__ import annotations

import gc
import inspect
import logging
import sys
import time
from functools import partial

from kvsender_spec.kit.check import check, load_adapter


def main(name: str, examples: int) -> None:
    logging.disable(logging.CRITICAL)  # injected faults make a careful sender log thousands of times
    adapter = load_adapter(name)
    # The sweep is no part of the walk, and old revisions have none.
    walk = partial(check, sweep=()) if "sweep" in inspect.signature(check).parameters else check
    walk(adapter, seed=0, examples=5)  # what happens once only is not what is measured
    _collected_s()
    runs = 0
    began = time.process_time()

    def on_run(_: object) -> None:
        nonlocal runs
        runs += 1
        if runs == examples:  # what the runs have left behind counts as well; what explains them, later, does not
            spent_s = time.process_time() - began
            garbage_s = _collected_s() - _collected_s()
            print(runs, spent_s + garbage_s)

    walk(adapter, seed=1, examples=examples, on_run=on_run)


def _collected_s() -> float:
    """CPU seconds that the collector takes now."""
    began = time.process_time()
    gc.collect()
    return time.process_time() - began


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
