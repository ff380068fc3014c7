"""The program of a decode process: a ``Decode`` on real NIXL that does what ``lab.peer`` asks.

Its agent has no progress thread, so it takes bytes only while it is called: every millisecond, unless it is held. That
makes "in the middle of a transfer" a place where a scenario can stand still.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np

if __name__ == "__main__":
    # NIXL imports torch only to learn about CUDA, and that would be most of the start-up time of this process.
    sys.modules["torch"] = None  # type: ignore[assignment]


from kvsender_nixl.agent import create_agent
from kvsender_nixl.lab.memory import BEFORE, OWNER, Arrays, Memory, tally, touched_bytes, wrong_bytes
from kvsender_nixl.lab.peer import (
    Compare,
    Count,
    Hold,
    Look,
    Notices,
    Open,
    Progress,
    Reply,
    Request,
    Reset,
    Standing,
    Start,
    TakeNotices,
    Touched,
)
from kvsender_nixl.lab.process import serve
from kvsender_nixl.receiver import Decode, KVReceiver
from kvsender_spec.contract import DlistT, HandleT, KVPoll, KVTransferError
from kvsender_spec.history.recording_agent import Through

if TYPE_CHECKING:
    pass


class Ear(Through[DlistT, HandleT]):
    """The agent; what it receives is kept as it came, beside what ``Decode`` makes of it."""

    heard: Notices

    def get_new_notifs(self) -> dict[str, list[bytes]]:
        arrived = super().get_new_notifs()
        for sender, messages in arrived.items():
            self.heard += ((sender, message) for message in messages)
        return arrived


class DecodeProcess:
    """One decode side, once it is started."""

    def __init__(self, start: Start) -> None:
        # Seeded as the prefill side's: these are the owner's bytes.
        self._source = Memory.filled(start.seed, OWNER, start.num_pages)
        self._before = Memory.filled(start.seed, BEFORE, start.num_pages)
        self._memory = self._before.copy()
        self._ear = Ear(create_agent(start.name))
        self._ear.heard = []
        self._decode = Decode(self._ear, Arrays(self._memory.regions), Arrays(self._memory.slots))
        self._receivers: dict[str, KVReceiver] = {}
        self._held = False
        self.metadata = self._decode.metadata()

    def idle(self) -> None:
        if not self._held:
            self._decode.drain()

    def answer(self, request: Request) -> Reply:
        memory, source = self._memory, self._source
        match request:
            case Open():
                return self._open(request)
            case Look(token):
                return _standing(self._receivers[token])
            case TakeNotices():
                heard, self._ear.heard = self._ear.heard, []
                return heard
            case Hold(held):
                self._held = held
            case Progress(calls):
                for _ in range(calls):
                    self._decode.drain()
            case Count(pages):
                return tally(memory, _ids(pages))
            case Compare():
                return wrong_bytes(
                    source.regions, memory.regions, _ids(request.source), _ids(request.target)
                ) + wrong_bytes(source.slots, memory.slots, _ids(request.source_slots), _ids(request.target_slots))
            case Touched(pages, slots):
                return touched_bytes(self._before.regions, memory.regions, _ids(pages)) + touched_bytes(
                    self._before.slots, memory.slots, _ids(slots)
                )
            case Reset():
                self._reset()
            case Start():
                raise ValueError("started twice")
        return None

    def _open(self, request: Open) -> Reply:
        receiver = self._decode.receiver(request.room, request.sender_name, token=request.token)
        self._receivers[request.token] = receiver
        return receiver.init(
            _ids(request.pages), request.slot, is_dummy=request.is_dummy, required_dst_info_num=request.required
        )

    def _reset(self) -> None:
        for receiver in self._receivers.values():
            receiver.clear()
            self._decode.fence(receiver.sender_name)
        self._receivers.clear()
        self._memory.restore(self._before)
        self._held = False


def _standing(receiver: KVReceiver) -> Standing:
    poll, reason = receiver.poll(), ""
    if poll is KVPoll.Failed:
        try:
            receiver.failure_exception()
        except KVTransferError as error:
            reason = error.reason
    return Standing(poll, reason, receiver.quarantined_pages())


def _ids(values: tuple[int, ...]) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    return np.array(values, np.int32)


class Program:
    """What ``serve`` runs: nothing until it is started."""

    def __init__(self) -> None:
        self._decode: DecodeProcess | None = None

    def answer(self, request: Request) -> Reply:
        if self._decode is not None:
            return self._decode.answer(request)
        if not isinstance(request, Start):
            raise ValueError(f"not started: {request!r}")
        self._decode = DecodeProcess(request)
        return self._decode.metadata

    def idle(self) -> None:
        if self._decode is not None:
            self._decode.idle()


if __name__ == "__main__":
    program = Program()
    serve(program.answer, program.idle)
