"""The whole sweep: what all run, and what those run to whose systems it means something."""

from __future__ import annotations

from kvsender_spec.contract import Operation, Role
from kvsender_spec.kit.search.aborts import ABORTS
from kvsender_spec.kit.search.reads import READS
from kvsender_spec.kit.search.sweep import SWEEP
from kvsender_spec.kit.targets.sweep import target_sweep
from kvsender_spec.trace import Trace


def sweep_of(operation: Operation, role: Role = "initiator") -> tuple[Trace, ...]:
    """What every check runs first; ``Parts.plays`` leaves out what the system does not declare."""
    if role == "target":
        return target_sweep(operation)
    return (*SWEEP, *ABORTS, *(READS if operation == "READ" else ()))
