"""Broken senders that wait: for the transport, for a peer, for a worker."""

from __future__ import annotations

import threading
import time
from typing import ClassVar, Final

from tests.mutants.inline import NIXL_ERRORS, InlineAdapter, InlineSender, Part

from kvsender_spec.contract import KVPoll
from kvsender_spec.kit.adapter import Destination
from kvsender_spec.machine import State


class PollsUntilDone(InlineSender):
    """poll() asks about what is in flight until nothing is.

    SGLang 0.5.12: ``while handles`` in the transfer worker; a silent peer holds it for ever. Bug B32 of the field
    catalogue, moved into the caller's own call.
    """

    breaks: ClassVar = "KS-3.7"
    pause_s = 0.0

    def observe(self) -> None:
        super().observe()
        while self.state is State.SENDING and any(part.state == "flying" for part in self.parts):
            time.sleep(self.pause_s)
            super().observe()


class SleepsUntilDone(PollsUntilDone):
    """The same, with a pause between two looks.

    SGLang 0.5.12, as above. Bug B32 of the field catalogue.
    """

    breaks: ClassVar = "KS-3.7"
    pause_s = 0.0005


class MakesUntilMade(InlineSender):
    """send() tries a transfer that is refused again and again.

    TensorRT-LLM #12313: what is tried again needs what it holds itself. Bug B63 of the field catalogue.
    """

    breaks: ClassVar = "KS-3.7"

    def make(self, target: Destination, mine: object, theirs: object, last: bool) -> Part:
        while True:
            try:
                return super().make(target, mine, theirs, last)  # type: ignore[arg-type]  # passed on as they are
            except NIXL_ERRORS:
                continue


class AbortWaits(InlineSender):
    """abort() waits until somebody has seen the last transfer end, and nobody else looks.

    TensorRT-LLM #14414: ``future.get()`` blocks the executor that has to make the future ready. Bug B63 of the field
    catalogue.
    """

    breaks: ClassVar = "KS-3.7"

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]  # passed on as they are
        self.quiet = threading.Event()

    def poll(self) -> KVPoll:
        answer = super().poll()
        if not any(part.state == "flying" for part in self.parts):
            self.quiet.set()
        return answer

    def abort(self) -> None:
        if any(part.state == "flying" for part in self.parts):
            self.quiet.wait(60.0)
        super().abort()


SENDERS: Final = (PollsUntilDone, SleepsUntilDone, MakesUntilMade, AbortWaits)
ADAPTERS: Final = tuple((InlineAdapter(sender), sender) for sender in SENDERS)
