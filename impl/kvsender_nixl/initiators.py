"""What a decode side knows of the prefill sides that write to it, and the way to each of them.

A target has no handle that could fail, so a prefill side that has died is noticed in two ways: what it is told is
refused, or a look at its host shows that its process has ended (``witness``). A connection that is lost is remade in
the background, once for each time that it is lost.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from kvsender_nixl.evidence import Evidence, Look
from kvsender_nixl.peers import DISCONNECT, NOT_FOUND, Spawn
from kvsender_nixl.side import NEVER
from kvsender_nixl.witness import gone

if TYPE_CHECKING:
    from kvsender_nixl.introduction import Introduction
    from kvsender_spec.contract import Clock

logger = logging.getLogger(__name__)

MOST_UNSENT: Final = 1024
"""More words that were refused are not kept: the oldest are given up, and said again when the room is asked about."""


class Line(Protocol):
    """What of an agent is needed to speak to another one."""

    def send_notif(self, remote_agent_name: str, notif_msg: bytes) -> None: ...

    def add_remote_agent(self, metadata: bytes) -> str | bytes: ...

    def remove_remote_agent(self, agent: str) -> None: ...


@dataclass(slots=True, eq=False)
class _Initiator:
    introduction: Introduction | None = None
    spoken: bool = False
    """Something was sent to it, so there was a connection."""
    lost_at: float = NEVER
    remaking: bool = False
    connected: bool = False
    """We have connected to a process of the name: NIXL refuses another one until that is removed."""


class Initiators:
    """Every method may be called from any thread, and none raises an error of the transport."""

    def __init__(
        self,
        line: Line,
        errors: tuple[type[Exception], ...],
        clock: Clock,
        *,
        spawn: Spawn,
        look: Look = gone,
    ) -> None:
        self._line: Final = line
        self._errors: Final = errors
        self._clock: Final = clock
        self._spawn: Final = spawn
        self.ended: Final = Evidence(look)
        """Which of their processes have ended."""
        self._known: dict[str, _Initiator] = {}
        self._unsent: deque[tuple[str, bytes]] = deque(maxlen=MOST_UNSENT)
        self._lock: Final = threading.Lock()

    # -------------------------------------------------------------------------------------------------- who they are

    def introduce(self, introduction: Introduction, *, connect: bool) -> None:
        """An initiator says who it is. A new process of its name is connected to in the background, and so is any with
        ``connect``, at once."""
        name = introduction.agent_name
        with self._lock:
            known = self._known.setdefault(name, _Initiator())
            before, known.introduction = known.introduction, introduction
            self.ended.speaks(name, introduction.incarnation, introduction.process)
            other = before is not None and before.incarnation != introduction.incarnation
            if not (other or connect) or known.remaking:
                return
            known.remaking = True
        if connect and not other:
            self._connect(name, known)
        else:
            self._spawn(lambda: self._connect(name, known))

    def incarnation(self, name: str) -> str:
        """Which process of the name is known to be in force; empty where none has introduced itself."""
        with self._lock:
            known = self._known.get(name)
            return "" if known is None or known.introduction is None else known.introduction.incarnation

    def lost_since(self, name: str) -> float:
        with self._lock:
            known = self._known.get(name)
            return NEVER if known is None else known.lost_at

    @property
    def any_lost(self) -> bool:
        with self._lock:
            return any(known.lost_at < NEVER for known in self._known.values())

    # ------------------------------------------------------------------------------------------------------ the way

    def tell(self, name: str, message: bytes, *, again: bool = False) -> bool:
        """Send it. False where it is refused; with ``again`` it is kept then until the connection is back."""
        try:
            self._line.send_notif(name, message)
        except Exception as error:
            if not isinstance(error, self._errors):
                logger.exception("telling initiator %r", name)
            elif again:
                self._unsent.append((name, message))
            self._refused(name, error)
            return False
        with self._lock:
            self._known.setdefault(name, _Initiator()).spoken = True
        return True

    def tell_again(self, limit: int) -> None:
        """Send at most ``limit`` of what was refused, where there is a connection again."""
        for _ in range(min(limit, len(self._unsent))):
            try:
                name, message = self._unsent.popleft()
            except IndexError:  # another thread has taken it
                return
            if self.lost_since(name) < NEVER:
                self._unsent.append((name, message))
            else:
                self.tell(name, message, again=True)

    def _refused(self, name: str, error: Exception) -> None:
        """A disconnect says that the connection is lost; and so may nixlNotFoundError, where there was one."""
        kind = type(error).__name__
        with self._lock:
            known = self._known.setdefault(name, _Initiator())
            lost = kind == DISCONNECT or (kind == NOT_FOUND and (known.spoken or known.introduction is not None))
            if not lost or known.lost_at < NEVER:
                return
            known.lost_at = self._clock()
            if known.introduction is None or known.remaking:
                return
            known.remaking = True
        logger.warning("the connection to initiator %r is lost: %r", name, error)
        self._spawn(lambda: self._connect(name, known))

    def _connect(self, name: str, known: _Initiator) -> None:
        """Connect to the process that has introduced itself last. What was there before is removed."""
        introduction = known.introduction
        assert introduction is not None
        connected = False
        try:
            if known.connected or known.spoken or known.lost_at < NEVER:
                self._line.remove_remote_agent(name)
            self._line.add_remote_agent(introduction.agent_metadata)
            connected = known.connected = True
        except Exception as error:
            log = logger.warning if isinstance(error, self._errors) else logger.exception
            log("initiator %r cannot be connected: %r", name, error)
        finally:
            with self._lock:
                known.remaking = False
                if connected:
                    known.lost_at = NEVER
                elif known.lost_at == NEVER:
                    known.lost_at = self._clock()
