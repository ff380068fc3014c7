"""What the independent engines have in common: how they are started, what they answer, and what can be asked of them.

An engine is a program that somebody else wrote. It gets the composed model in its own language and explores it in its
own way, so that a mistake of ours in exploring is not repeated there. It shares only the tables, and the lowering.
"""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final, TypeAlias

from kvsender_spec.formal.model.state import Act, Bounds, ModelState, TooLarge


class ToolMissing(RuntimeError):
    """An engine is not on this machine. The message says what to install."""


class EngineFailed(RuntimeError):
    """An engine ran and gave no answer: it stopped by itself, or its time or its memory was not enough."""


class Fair(Enum):
    """Who does not put off for ever what it may do all the time (weak fairness)."""

    SEND = "send"
    """The caller sends the chunks that it has."""
    POLL = "poll"
    """The caller polls, and nothing goes wrong in the poll."""
    FINISH = "finish"
    """The transport finishes every handle that is in flight."""
    LATE = "late"
    """The caller polls when a handle has been in flight for the whole transfer timeout."""
    DRAINED = "drained"
    """The caller polls when the drain deadline has passed."""


PEERS_ANSWER: Final = frozenset({Fair.SEND, Fair.POLL, Fair.FINISH})
"""Enough for an answer where peers are well: no deadline is needed."""
PEERS_SILENT: Final = frozenset({Fair.SEND, Fair.LATE, Fair.DRAINED})
"""Enough for an answer where no handle ever finishes: the deadlines do it."""

Edge: TypeAlias = tuple[ModelState, Act, ModelState]


@dataclass(frozen=True, slots=True)
class Violation:
    """A property that does not hold, and how: the engine's own account of it."""

    property: str
    trace: str


@dataclass(frozen=True, slots=True)
class EngineResult:
    engine: str
    bounds: Bounds
    states: int
    """Reachable states; fewer where a violation ended the search. For liveness, those of the product."""
    edges: frozenset[Edge] | None
    """The graph without the steps that change nothing, where it was asked for."""
    violations: tuple[Violation, ...]
    seconds: float
    """CPU time of the engine, and of what builds it."""


def fit(engine: str, bounds: Bounds, most_handles: int) -> None:
    """An engine that would take hours, or all the memory, is not started."""
    if bounds.handles > most_handles:
        fits = Bounds(max(1, most_handles // bounds.peers), min(bounds.peers, most_handles))
        raise TooLarge(f"{bounds} has {bounds.handles} handles, which would take {engine} too long: {fits} fits")


@dataclass(frozen=True, slots=True)
class Done:
    code: int
    output: str


def run(command: Sequence[str | Path], directory: Path, timeout_s: float) -> Done:
    """One program, with a time limit, both its streams as one text."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired:
        raise EngineFailed(f"{words[0]} took longer than {timeout_s:g} s; a smaller bound takes less") from None
    return Done(done.returncode, done.stdout)


def spent() -> float:
    """CPU seconds of all programs that have been run and have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def last_lines(text: str, count: int = 15) -> str:
    return "\n".join(text.splitlines()[-count:])
