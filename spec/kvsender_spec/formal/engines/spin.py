"""SPIN on the generated Promela: finds spin and gcc, builds the checker of a model, runs it, reads what it found."""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from kvsender_spec.formal.engines import promela, promela_processes
from kvsender_spec.formal.engines.engine import (
    EngineFailed,
    EngineResult,
    Fair,
    ToolMissing,
    Violation,
    fit,
    last_lines,
    run,
    spent,
)
from kvsender_spec.formal.engines.lowering import ANSWERED
from kvsender_spec.formal.model.state import Bounds
from kvsender_spec.formal.rules import Rules

ENGINE: Final = "SPIN"
MOST_HANDLES: Final = 8
MOST_LIVE: Final = 6
MEMORY_MB: Final = 2048
DEPTH: Final = 1_000_000
"""SPIN goes depth first; this is how deep it may."""


def find_tool(name: str) -> Path:
    found = shutil.which(name)
    if found is None:
        raise ToolMissing(f"SPIN needs {name}: apt-get install spin gcc libc6-dev")
    return Path(found)


def require_spin() -> None:
    find_tool("spin")
    find_tool("gcc")


def run_spin(
    rules: Rules, bounds: Bounds, workdir: Path, timeout_s: float, *, fair: frozenset[Fair] | None = None
) -> EngineResult:
    """Check safety, or, under these fairness assumptions, that the caller gets its answer."""
    fit(ENGINE, bounds, MOST_HANDLES if fair is None else MOST_LIVE)
    spin, gcc = find_tool("spin"), find_tool("gcc")
    with tempfile.TemporaryDirectory(prefix="spin-", dir=workdir) as name:
        directory = Path(name)
        (directory / "kvsender.pml").write_text(promela.model(rules, bounds), encoding="utf-8")
        before = spent()
        end = time.monotonic() + timeout_s  # one limit for several programs

        def left() -> float:
            return max(0.1, end - time.monotonic())

        lazy = () if fair is None else promela_processes.lazy(fair)
        made = run([spin, *(f"-D{macro}" for macro in lazy), "-a", "kvsender.pml"], directory, left())
        if made.code or "Error" in made.output:
            raise EngineFailed(f"spin refuses the model:\n{last_lines(made.output)}")
        # Fairness over as many processes as there are handles needs more than the two words that it gets by default.
        # Up to six handles, gcc takes longer to optimise the checker than the checker then saves.
        level = "-O0" if bounds.handles <= 6 else "-O2"
        kind = (level, "-DSAFETY", "-DNOCLAIM") if fair is None else (level, "-DNFAIR=4")
        how = (f"-m{DEPTH}", "-w20") if fair is None else (f"-m{DEPTH}", "-w20", "-a", "-f")
        _build(gcc, "pan", kind, directory, left())
        output = run([directory / "pan", *how], directory, left()).output
        states = _number(r"([\d.e+]+) states, stored", output)
        errors = _number(r"^State-vector .*errors: (\d+)", output)
        unfinished = any(
            words in output for words in ("max search depth too small", "reached -DMEMLIM", "out of memory")
        )
        if states is None or errors is None or unfinished:
            raise EngineFailed(f"SPIN has not finished:\n{last_lines(output)}")
        violations: tuple[Violation, ...] = ()
        if errors:
            # What goes deep first finds long counterexamples, so a second run looks for the shortest.
            if fair is None:
                _build(gcc, "short", (*kind, "-DREACH"), directory, left())
                output = run([directory / "short", *how, "-i"], directory, left()).output
            trace = run([directory / "pan", "-r"], directory, left()).output
            violations = (Violation(_violated(output), _trace(trace)),)
        seconds = spent() - before
        return EngineResult(ENGINE, bounds, states, None, violations, seconds)


def _build(gcc: Path, name: str, macros: Sequence[str], directory: Path, timeout_s: float) -> None:
    # Without reduction: the states are to be counted, not only to be sufficient.
    words = ["-w", "-DNOREDUCE", f"-DMEMLIM={MEMORY_MB}", *macros, "-o", name, "pan.c"]
    made = run([gcc, *words], directory, timeout_s)
    if made.code:
        raise EngineFailed(f"gcc refuses what spin made of the model:\n{last_lines(made.output)}")


def _number(pattern: str, output: str) -> int | None:
    """The number in the first line that has one there."""
    found = re.search(pattern, output, re.MULTILINE)
    return None if found is None else int(float(found[1]))


def _violated(output: str) -> str:
    """The shallowest of the lines like "pan:1: assertion violated PeersAreTold (at depth 12)", the first of them."""
    found, shallowest = last_lines(output, 1), DEPTH
    for line in output.splitlines():
        _, asserted, rest = line.partition("assertion violated ")
        name, _, depth = rest.partition(" (at depth ")
        if asserted and int(depth.rstrip(")")) < shallowest:
            found, shallowest = promela.clause(name.strip("()")), int(depth.rstrip(")"))
        elif "acceptance cycle" in line:
            found = ANSWERED
    return found


def _trace(output: str) -> str:
    """The steps that a replay prints, and where they begin to repeat themselves."""
    kept: list[str] = []
    for line in output.splitlines():
        _, found, words = line.partition("> ")
        if "START OF CYCLE" in line:
            kept.append("and then for ever:")
        elif found and line.strip().startswith(">") and words != "properties":
            kept.append(words)
    return "\n".join(kept)
