"""How a peer process is asked: a call of one of its methods is a request.

What both sides of the line need stands here, and not in ``lab.program``, because that runs as ``__main__`` and its own
classes would be other classes at the other side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from kvsender_spec.contract import KVPoll, Operation


@dataclass(frozen=True, slots=True)
class Start:
    """Make an agent of this name, with memory of its own. The first request; answers ``PeerMetadata``."""

    name: str
    seed: int
    num_pages: int
    operation: Operation = "WRITE"
    """What its initiator does: WRITE to a decode side, READ from a holder."""
    number: int = 0
    """Another one for each process of a run."""


@dataclass(frozen=True, slots=True)
class Call:
    """Answers what this method of what the process plays returns."""

    method: str
    arguments: tuple[object, ...]
    named: Mapping[str, object]


Request: TypeAlias = Start | Call


@dataclass(frozen=True, slots=True)
class Standing:
    """How a receiver stands; ``reason`` is empty unless it has failed."""

    poll: KVPoll
    reason: str


class Remote:
    """Has every method: a call of one is a request, and returns or raises what becomes of that."""

    def __init__(self, ask: Callable[[Call], object]) -> None:
        self._ask = ask

    def __getattr__(self, method: str) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            return self._ask(Call(method, arguments, named))

        return call
