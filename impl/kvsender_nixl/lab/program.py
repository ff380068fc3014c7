"""The program of a peer process: a decode side or a holder, as it is started, that does what it is asked."""

from __future__ import annotations

import sys
from typing import Final

if __name__ == "__main__":
    # NIXL imports torch only to learn about CUDA, and that would be most of the start-up time of this process.
    sys.modules["torch"] = None  # type: ignore[assignment]

from kvsender_nixl.lab.decode import DecodeProcess
from kvsender_nixl.lab.holder import HolderProcess
from kvsender_nixl.lab.played import Played
from kvsender_nixl.lab.process import serve
from kvsender_nixl.lab.remote import Request, Start
from kvsender_spec.contract import Operation

_PLAYED: Final[dict[Operation, type[Played]]] = {"WRITE": DecodeProcess, "READ": HolderProcess}
"""What plays the peer of an initiator of these transfers."""


class Program:
    """What ``serve`` runs: nothing until it is started."""

    def __init__(self) -> None:
        self._played: Played | None = None

    def answer(self, request: Request) -> object:
        if isinstance(request, Start):
            if self._played is not None:
                raise ValueError("started twice")
            self._played = _PLAYED[request.operation](request)
            return self._played.metadata
        if self._played is None:
            raise ValueError(f"not started: {request!r}")
        answer: object = getattr(self._played, request.method)(*request.arguments, **request.named)
        return answer

    def idle(self) -> None:
        if self._played is not None:
            self._played.idle()


if __name__ == "__main__":
    program = Program()
    serve(program.answer, program.idle)
