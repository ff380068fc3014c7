"""Puts a set of rules before every layer, and says in one table what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Protocol

from kvsender_spec.formal import grant
from kvsender_spec.formal.engines.engine import PEERS_ANSWER, PEERS_SILENT, EngineResult, Fair
from kvsender_spec.formal.engines.spin import require_spin, run_spin
from kvsender_spec.formal.engines.tlc import require_tlc, run_tlc, violates
from kvsender_spec.formal.explicit.liveness import live
from kvsender_spec.formal.explicit.search import Found, explore_generated
from kvsender_spec.formal.model.state import Bounds, TooLarge
from kvsender_spec.formal.rules import SPEC, Rules, ill_formed
from kvsender_spec.formal.smt import proof
from kvsender_spec.formal.targets import judge

MOST_EXPLORED: Final = 9
"""Handles. 3x3 has 3.5 million states, which fit into 2 GiB; a tenth handle would make that 20 million."""
MOST_WITH_EDGES: Final = 6
"""Handles. The fair runs need every edge in memory."""
MOST_ELSEWHERE: Final = 4
"""Handles. TLC takes minutes for the goals of a larger bound."""


ENGINE_TIMEOUT_S: Final = 300.0
"""For each of the questions to an engine that is a program of its own."""


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
    """CPU time, of an engine that is a program of its own too."""

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


def _any_bound(rules: Rules, _: Bounds) -> Line:
    result = proof.prove(rules)
    failures = [f"{failure.lemma}, {failure.action}: {failure.text}" for failure in result.failures]
    looked_at = f"{result.obligations:,} obligations"
    return Line("any bound", Engine.Z3, "any", looked_at, (), tuple(failures), result.seconds)


class Run(Protocol):
    """``run_tlc`` and ``run_spin``."""

    def __call__(
        self, rules: Rules, bounds: Bounds, workdir: Path, timeout_s: float, *, fair: frozenset[Fair] | None
    ) -> EngineResult: ...


def _elsewhere(layer: str, engine: Engine, run: Run) -> Layer:
    """The same model in another program: as many states as here, its properties, and its fair runs."""

    def look(rules: Rules, bounds: Bounds) -> Line:
        small = smaller(bounds, MOST_ELSEWHERE)
        expected, _ = explore_generated(rules, small)
        with TemporaryDirectory() as name:
            kinds = (None, PEERS_ANSWER, PEERS_SILENT)
            results = [run(rules, small, Path(name), ENGINE_TIMEOUT_S, fair=fair) for fair in kinds]
        broken = [f"{violation.property}\n{violation.trace}" for result in results for violation in result.violations]
        states = results[0].states
        if states != expected.states and not results[0].violations:
            broken.append(f"it has {states:,} states, and there are {expected.states:,}")
        looked_at = f"{states:,} states, 2 goals"
        return Line(layer, engine, str(small), looked_at, (), tuple(broken), sum(result.seconds for result in results))

    return look


def _said(look: grant.Look, bump: grant.Bump, holds: bool) -> str:
    wanted = "only what was granted" if holds else "a foreign page"
    return f"a look {look} the data, stamps raised {bump}: {wanted} should have been accepted"


def _grants(_: Rules, __: Bounds) -> Line:
    """A reader accepts only what was granted if it looks after its data, and not otherwise."""
    states, broken = 0, list[str]()
    for look, bump, holds in grant.CASES:
        count, foreign = grant.search(look, bump)
        states += count
        if (foreign is None) is not holds:
            broken.append(_said(look, bump, holds))
    bound, looked_at = f"{grant.MOST_REFILLS} refills", f"{states:,} states, {len(grant.CASES)} ways to look"
    return Line("grants", Engine.PYTHON, bound, looked_at, broken=tuple(broken))


def _grants_any(_: Rules, __: Bounds) -> Line:
    from kvsender_spec.formal.smt.grant import OBLIGATIONS, unproved

    broken = [f"a look after the data: {name}" for name in unproved()]
    if not unproved(grant.Bump.AFTER):
        broken.append(_said(grant.Look.AFTER, grant.Bump.AFTER, holds=False))
    return Line("grants", Engine.Z3, "any", f"{OBLIGATIONS} obligations", broken=tuple(broken))


def _grants_elsewhere(_: Rules, __: Bounds) -> Line:
    states, spent_s, broken = 0, 0.0, list[str]()
    with TemporaryDirectory() as name:
        for look, bump, holds in grant.CASES:
            module, config = grant.module(look, bump), grant.config()
            found, count, seconds = violates(module, config, grant.MODULE, Path(name), ENGINE_TIMEOUT_S)
            states, spent_s = states + count, spent_s + seconds
            if found is holds:
                broken.append(_said(look, bump, holds))
    looked_at = f"{states:,} states, {len(grant.CASES)} ways to look"
    return Line("grants", Engine.TLC, f"{grant.MOST_REFILLS} refills", looked_at, (), tuple(broken), spent_s)


def _line(engine: Engine, bound: str, judged: judge.Judged) -> Line:
    return Line("targets", engine, bound, judged.looked_at, (), judged.broken, judged.seconds)


def _targets(_: Rules, __: Bounds) -> Line:
    """Whose pages may be given to somebody else, and when: the target's tables among initiators and a network."""
    return _line(Engine.PYTHON, judge.BOUND, judge.by_search())


def _targets_any(_: Rules, __: Bounds) -> Line:
    return _line(Engine.Z3, "any", judge.by_induction())


def _targets_elsewhere(_: Rules, __: Bounds) -> Line:
    with TemporaryDirectory() as name:
        return _line(Engine.TLC, judge.BOUND_OF_TLC, judge.by_tlc(Path(name), ENGINE_TIMEOUT_S))


Layer = Callable[[Rules, Bounds], Line]
LAYERS: Final[Mapping[Engine, tuple[Layer, ...]]] = {
    Engine.PYTHON: (_tables, _states, _fair_runs),
    Engine.Z3: (_any_bound,),
    Engine.TLC: (_elsewhere("TLA+", Engine.TLC, run_tlc),),
    Engine.SPIN: (_elsewhere("Promela", Engine.SPIN, run_spin),),
}
OTHER_SIDE: Final[Mapping[Engine, tuple[Layer, ...]]] = {
    Engine.PYTHON: (_grants, _targets),
    Engine.Z3: (_grants_any, _targets_any),
    Engine.TLC: (_grants_elsewhere, _targets_elsewhere),
    Engine.SPIN: (),
}
"""What is not about a sender's tables, and so is looked at with the specification's only."""


_NEEDS: Final[Mapping[Engine, Callable[[], None]]] = {
    Engine.PYTHON: lambda: None,
    Engine.Z3: proof.require_z3,
    Engine.TLC: require_tlc,
    Engine.SPIN: require_spin,
}


def require(engines: Iterable[Engine]) -> None:
    """Raise ToolMissing for the first of these that is not on this machine, and say what to install."""
    for engine in engines:
        _NEEDS[engine]()


def prove(rules: Rules, bounds: Bounds, engines: Sequence[Engine]) -> Iterator[Line]:
    """Each layer of each engine, as it is done. After tables that are ill-formed nothing else has a meaning.

    Raises TooLarge for a bound that does not fit, ToolMissing for an engine that is not there, and EngineFailed for
    one that gives no answer.
    """
    require(engines)
    for engine in (engine for engine in Engine if engine in engines):
        for layer in (*LAYERS[engine], *(OTHER_SIDE[engine] if rules is SPEC else ())):
            started = time.process_time()
            line = layer(rules, bounds)
            yield replace(line, seconds=line.seconds or time.process_time() - started)
            if layer is _tables and not line.holds:
                return
