"""Puts a set of rules before every layer, and says in one table what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from kvsender_spec.formal.explore import Found
from kvsender_spec.formal.generate import TooLarge, explore_generated
from kvsender_spec.formal.liveness import live
from kvsender_spec.formal.model import Bounds
from kvsender_spec.formal.rules import Rules, ill_formed

MOST_EXPLORED: Final = 9
"""Handles. 3x3 has 3.5 million states, which fit into 2 GiB; a tenth handle would make that 20 million."""
MOST_WITH_EDGES: Final = 6
"""Handles. The liveness layer keeps every edge, and the other engines take minutes beyond this."""


class Engine(StrEnum):
    """Who looks."""

    PYTHON = "python"
    Z3 = "z3"
    TLC = "tlc"
    SPIN = "spin"


@dataclass(frozen=True, slots=True)
class Line:
    """One layer's verdict."""

    layer: str
    engine: Engine
    bound: str
    looked_at: str
    found: tuple[Found, ...] = ()
    """Violations whose way is known."""
    broken: tuple[str, ...] = ()
    """What else does not hold, in words."""
    seconds: float = 0.0
    """CPU time of this process, or of the engine's where it has one of its own."""

    @property
    def holds(self) -> bool:
        return not self.found and not self.broken


def bounded(bounds: Bounds, most: int) -> Bounds:
    """The bound, or TooLarge with the nearest that fits."""
    if bounds.handles > most:
        chunks = most // bounds.peers
        fits = f"{Bounds(chunks, bounds.peers)} fits" if chunks else f"at most {most} peers fit"
        raise TooLarge(f"{bounds} has {bounds.handles} handles, and the graph would not fit into memory: {fits}")
    return bounds


def smaller(bounds: Bounds, most: int) -> Bounds:
    """The largest bound with as many peers that a layer can take; with fewer peers where even one chunk is too much."""
    peers = min(bounds.peers, most)
    return Bounds(max(1, min(bounds.chunks, most // peers)), peers)


def _tables(rules: Rules, _: Bounds) -> Line:
    reason = ill_formed(rules)
    cells = sum(map(len, rules.next.values())) + sum(map(len, rules.handle_next.values()))
    looked_at = f"{len(rules.table)} rows, {cells} cells"
    return Line("tables", Engine.PYTHON, "any", looked_at, broken=() if reason is None else (reason,))


def _states(rules: Rules, bounds: Bounds) -> Line:
    result, _ = explore_generated(rules, bounded(bounds, MOST_EXPLORED))
    looked_at = f"{result.states:,} states, {result.transitions:,} steps"
    return Line("states", Engine.PYTHON, str(bounds), looked_at, tuple(result.found))


def _fair_runs(rules: Rules, bounds: Bounds) -> Line:
    small = smaller(bounds, MOST_WITH_EDGES)
    _, graph = explore_generated(rules, small, keep_edges=True)
    lives = live(graph)
    looked_at = f"{len(lives)} goals, {sum(len(life.goal.assumes) for life in lives)} fairness assumptions"
    needless = [f"{life.goal.text}: not needed: {name}" for life in lives for name in life.unneeded]
    found = tuple(life.found for life in lives if life.found is not None)
    return Line("fair runs", Engine.PYTHON, str(small), looked_at, found, tuple(needless))


Layer = Callable[[Rules, Bounds], Line]
LAYERS: Final[dict[Engine, tuple[Layer, ...]]] = {Engine.PYTHON: (_tables, _states, _fair_runs)}


def prove(rules: Rules, bounds: Bounds, engines: Sequence[Engine]) -> Iterator[Line]:
    """Each layer of each engine, as it is done. After tables that are ill-formed nothing else has a meaning.

    Raises TooLarge for a bound that does not fit, and ToolMissing for an engine that is not there.
    """
    for engine in (engine for engine in Engine if engine in engines):
        for layer in LAYERS[engine]:
            started = time.process_time()
            line = layer(rules, bounds)
            spent = line.seconds or time.process_time() - started
            yield Line(line.layer, line.engine, line.bound, line.looked_at, line.found, line.broken, spent)
            if layer is _tables and not line.holds:
                return
