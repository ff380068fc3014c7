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
    gc.collect()
    nothing_s = _collected_s()
    ends: list[float] = []
    began = time.process_time()
    walk(adapter, seed=1, examples=examples, on_run=lambda _: ends.append(time.process_time()))
    garbage_s = _collected_s() - nothing_s  # what the runs have left behind counts as well
    print(len(ends), ends[-1] - began + max(0.0, garbage_s))


def _collected_s() -> float:
    began = time.process_time()
    gc.collect()
    return time.process_time() - began


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
