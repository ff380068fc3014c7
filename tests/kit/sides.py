"""The two sides of a differential run: two scripted agents, and two real ones, with memory of the same size."""

from __future__ import annotations

import itertools
import time
from abc import ABC, abstractmethod
from typing import Any, Final, TypeAlias

import numpy as np
from tests.kit.pair import Agent, Bytes

from kvsender_spec.kit.scripted.fabric import Fabric

PAGE: Final = 4096
PAGES: Final = 6
SIZE: Final = PAGE * PAGES
SETTLE_S: Final = 5.0
NAMES: Final = ("a", "b")
CUTS: Final = ("in the name", "in the connection", "in the number of lists", "before the lists", "in the last list")
"""Where metadata can end early; without registrations there are no lists, and it ends with their number."""

Span: TypeAlias = tuple[int, int]
"""A first byte in an agent's memory, and a number of bytes."""
_NUMBERS = itertools.count()


class Side(ABC):
    """Two agents in this process, with memory of the same size, and what they have answered so far."""

    def __init__(self, agents: dict[str, Agent], names: dict[str, str]) -> None:
        self.agents: Final = agents
        self.names: Final = names
        self.memory: Final[dict[str, Bytes]] = {name: np.zeros(SIZE, np.uint8) for name in NAMES}
        for name, first in zip(NAMES, (1, 101), strict=True):
            self.memory[name][:] = np.repeat(np.arange(first, first + PAGES, dtype=np.uint8), PAGE)
        self.objects: Final[list[Any]] = []

    def address(self, owner: str, span: Span) -> int:
        return int(self.memory[owner].ctypes.data) + span[0]

    @abstractmethod
    def breathe(self) -> None:
        """Both agents get time; what has arrived is asked for by a rule."""

    @abstractmethod
    def end(self, blob: bytes, cut: str) -> int:
        """The length of metadata that ends there."""

    @abstractmethod
    def wait_for(self, owner: str, notifications: int) -> None:
        """Until so many have arrived, or for a while: on a loaded machine the way takes its time."""

    def settle(self, owner: str, handle: Any) -> str:
        """Check until the answer is not PROC."""
        deadline = time.monotonic() + SETTLE_S
        while (answer := self.agents[owner].check_xfer_state(handle)) == "PROC":
            assert time.monotonic() < deadline, "it stayed PROC"
            self.breathe()
        return answer

    def notifs(self, owner: str) -> list[tuple[str, bytes]]:
        short = {long: name for name, long in self.names.items()}
        received = self.agents[owner].get_new_notifs()
        return sorted((short[sender], message) for sender, messages in received.items() for message in messages)


class ScriptedSide(Side):
    def __init__(self, fabric: Fabric) -> None:
        super().__init__(
            {name: fabric.agent(name, scripted=True) for name in NAMES}, dict(zip(NAMES, NAMES, strict=True))
        )

    def breathe(self) -> None:
        """A check lets what is in flight finish."""

    def end(self, blob: bytes, cut: str) -> int:
        connection, number = blob.index(b"connection|"), blob.index(b"lists:")
        behind = blob.index(b"|", number) + 1
        return dict(zip(CUTS, (connection - 1, number - 1, behind - 1, behind, len(blob) - 1), strict=True))[cut]

    def wait_for(self, owner: str, notifications: int) -> None:
        """They are there at once."""


class RealSide(Side):
    def __init__(self) -> None:
        # Here, because the environment of NIXL must be set by then.
        from nixl._api import nixl_agent, nixl_agent_config

        number = next(_NUMBERS)
        names = {name: f"{name}-{number}" for name in NAMES}
        config = nixl_agent_config(enable_prog_thread=False)
        super().__init__({name: nixl_agent(long, config) for name, long in names.items()}, names)
        self._kept: dict[str, list[tuple[str, bytes]]] = {name: [] for name in NAMES}

    def end(self, blob: bytes, cut: str) -> int:
        # The number's marker counts as the connection's: whoever gets all of the connection without it can notify.
        connection, number = blob.index(b"|Conns"), blob.index(b"MemSection") - 20
        behind = blob.index(b"nixlSecElms") + len(b"nixlSecElms") + 8 + 8 + 1  # a length, a number, a bar
        return dict(zip(CUTS, (connection - 1, number - 1, behind - 1, behind, len(blob) - 1), strict=True))[cut]

    def breathe(self) -> None:
        for name in NAMES:
            self._kept[name] += super().notifs(name)

    def wait_for(self, owner: str, notifications: int) -> None:
        deadline = time.monotonic() + SETTLE_S
        while len(self._kept[owner]) < notifications and time.monotonic() < deadline:
            self.breathe()
            time.sleep(0.001)

    def notifs(self, owner: str) -> list[tuple[str, bytes]]:
        """A notification needs a moment over tcp, and both agents' time."""
        for _ in range(3):
            self.breathe()
            time.sleep(0.001)
        kept, self._kept[owner] = self._kept[owner], []
        return sorted(kept)
