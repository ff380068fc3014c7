"""What frees the pages of an initiator that no DONE frees: the evidence that the peer's process has ended.

A fence names its evidence and covers one incarnation of one peer. That the end of the other process ends what touches
this side's pages was measured for host memory only, and for transfers of which the transport has said its last word.
On a GPU this side's own queued copies go on; there only the caller can know (``Front.fence``).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, Generic

from kvsender_nixl.evidence import LOOK_EVERY_S, Evidence, Look
from kvsender_nixl.witness import Question, Statement, answer, gone
from kvsender_spec.contract import Clock, DlistT, HandleT, Transport

if TYPE_CHECKING:
    from kvsender_nixl.exchange import PeerMetadata
    from kvsender_nixl.quarantine import Quarantine

logger = logging.getLogger(__name__)


class Fences(Generic[DlistT, HandleT]):
    """Every method may be called from any thread, and none raises an error of the transport."""

    def __init__(
        self,
        transport: Transport[DlistT, HandleT],
        errors: tuple[type[Exception], ...],
        clock: Clock,
        quarantine: Quarantine,
        *,
        in_host_memory: bool,
        look: Look = gone,
    ) -> None:
        self._transport: Final = transport
        self._errors: Final = errors
        self._clock: Final = clock
        self._quarantine: Final = quarantine
        self._in_host_memory: Final = in_host_memory
        self._evidence: Final = Evidence(look)
        self._next_look = clock()

    def registered(self, metadata: PeerMetadata) -> None:
        self._evidence.speaks(metadata.agent_name, metadata.incarnation, metadata.process)

    def look(self) -> None:
        """Free what is held because of processes that have ended. Does nothing but now and then."""
        now = self._clock()
        if now < self._next_look or not self._in_host_memory:
            return
        self._next_look = now + LOOK_EVERY_S
        for name, incarnation in sorted(self._quarantine.processes()):
            evidence = self._evidence.of(name, incarnation)
            if evidence is not None:
                count = self._quarantine.fence(name, incarnation, settled=True)
                if count:
                    logger.warning("%d transfers of %r %r are fenced: %s", count, name, incarnation, evidence)
            elif (process := self._evidence.whom_to_ask_about(name, incarnation)) is not None:
                self._tell(name, Question(process))

    def hear(self, name: str, said: Question | Statement) -> bool:
        """A peer asks about a process, or says that one has ended. False where it cannot know that."""
        if isinstance(said, Statement):
            return self._evidence.testified(name, said)
        statement = answer(said)
        if statement is not None:
            self._tell(name, statement)
        return True

    def _tell(self, name: str, said: Question | Statement) -> None:
        try:
            self._transport.send_notif(name, said.to_bytes())
        except Exception as error:
            log = logger.info if isinstance(error, self._errors) else logger.exception
            log("peer %r could not be told of a process: %r", name, error)
