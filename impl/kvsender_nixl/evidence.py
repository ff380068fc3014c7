"""Which processes of the agents that this side knows have ended, by a look from here or by the word of a witness."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final, TypeAlias, TypeVar

from kvsender_nixl.witness import ProcessIdentity, Statement, gone

logger = logging.getLogger(__name__)

_K = TypeVar("_K")
_V = TypeVar("_V")

Look: TypeAlias = Callable[[ProcessIdentity], "str | None"]
"""The evidence that a process has ended, or None (``witness.gone``)."""
MOST_PROCESSES: Final = 2048
LOOK_EVERY_S: Final = 1.0
"""How often it is looked whether processes have ended."""


class Evidence:
    """A process is known by its agent's name and its incarnation. Every method may be called from any thread."""

    def __init__(self, look: Look = gone) -> None:
        self._look: Final = look
        self._processes: dict[tuple[str, str], ProcessIdentity] = {}
        self._in_force: dict[str, str] = {}
        self._gone: dict[tuple[str, str], str] = {}
        self._lock: Final = threading.Lock()

    def speaks(self, name: str, incarnation: str, process: ProcessIdentity | None) -> None:
        """This process of the name is in force from now on."""
        with self._lock:
            self._in_force[name] = incarnation
            if process is not None:
                self._processes[name, incarnation] = process
            _shorten(self._processes)
            _shorten(self._in_force)

    def of(self, name: str, incarnation: str) -> str | None:
        """That it has ended; None where that is not known."""
        key = (name, incarnation)
        with self._lock:
            process = self._processes.get(key)
            if key in self._gone or process is None:
                return self._gone.get(key)
        found = self._look(process)
        if found is not None:
            self._ended(key, found)
        return found

    def whom_to_ask_about(self, name: str, incarnation: str) -> ProcessIdentity | None:
        """The process that the one in force can be asked about, because it is another one in the same place."""
        with self._lock:
            now = self._in_force.get(name, "")
            process, witness = self._processes.get((name, incarnation)), self._processes.get((name, now))
        if process is None or witness is None or process == witness:
            return None
        return process if process.place == witness.place else None

    def testified(self, name: str, statement: Statement) -> bool:
        """The process of this name says that another one has ended. False where it is none of that name before it, or
        one in another place."""
        with self._lock:
            mine = [(key, process) for key, process in self._processes.items() if key[0] == name]
            witness = self._processes.get((name, self._in_force.get(name, "")))
        ended = [key for key, process in mine if process == statement.process]
        if witness is None or witness == statement.process or witness.place != statement.process.place or not ended:
            return False
        for key in ended:
            self._ended(key, f"{name!r} says: {statement.evidence}")
        return True

    def _ended(self, key: tuple[str, str], evidence: str) -> None:
        with self._lock:
            self._gone[key] = evidence
            _shorten(self._gone)
        logger.warning("incarnation %r of %r has ended: %s", key[1], key[0], evidence)


def _shorten(kept: dict[_K, _V]) -> None:
    """Drop the oldest of too many."""
    while len(kept) > MOST_PROCESSES:
        del kept[next(iter(kept))]
