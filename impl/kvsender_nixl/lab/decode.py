"""The program of a decode process: a ``Decode`` on real NIXL that does what it is asked (see ``lab.remote``).

Its agent has no progress thread, so it takes bytes only while it is called: every millisecond, unless it is held. That
makes "in the middle of a transfer" a place where a scenario can wait.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

if __name__ == "__main__":
    # NIXL imports torch only to learn about CUDA, and that would be most of the start-up time of this process.
    sys.modules["torch"] = None  # type: ignore[assignment]


from kvsender_nixl.agent import create_agent
from kvsender_nixl.exchange import TransferInfo
from kvsender_nixl.lab.memory import BEFORE, REQUEST, Arrays, Memory, Tally, tally, touched_bytes, wrong_bytes
from kvsender_nixl.lab.process import serve
from kvsender_nixl.lab.remote import Request, Standing, Start
from kvsender_nixl.receiver import Decode, KVReceiver
from kvsender_spec.contract import DlistT, HandleT, KVPoll, KVTransferError
from kvsender_spec.history.recording_agent import Through


class Ear(Through[DlistT, HandleT]):
    """The agent; what it receives is kept as it came, beside what ``Decode`` makes of it."""

    heard: list[tuple[str, bytes]]

    def get_new_notifs(self) -> dict[str, list[bytes]]:
        arrived = super().get_new_notifs()
        for sender, messages in arrived.items():
            self.heard += ((sender, message) for message in messages)
        return arrived


class DecodeProcess:
    """One decode side, once it is started. Other processes call it through ``DecodePeer.remote``."""

    def __init__(self, start: Start) -> None:
        # Seeded as the prefill side's: these are the caller's bytes.
        self._source = Memory.filled(start.seed, REQUEST, start.num_pages)
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

    def open(
        self,
        room: int,
        token: str,
        sender_name: str,
        pages: Sequence[int],
        slot: int | None,
        *,
        is_dummy: bool,
        required: int,
    ) -> TransferInfo:
        """Make a receiver. Returns what the prefill side must be told."""
        receiver = self._receivers[token] = self._decode.receiver(room, sender_name, token=token)
        return receiver.init(_ids(pages), slot, is_dummy=is_dummy, required_dst_info_num=required)

    def look(self, token: str) -> Standing:
        """How the receiver of this token stands."""
        receiver = self._receivers[token]
        poll, reason = receiver.poll(), ""
        if poll is KVPoll.Failed:
            try:
                receiver.failure_exception()
            except KVTransferError as error:
                reason = error.reason
        return Standing(poll, reason)

    def take_notifications(self) -> list[tuple[str, bytes]]:
        """Every notification since the last time, in order: sender and message."""
        heard, self._ear.heard = self._ear.heard, []
        return heard

    def hold(self, held: bool) -> None:
        """While held, the process does not call NIXL, and takes nothing from its sockets."""
        self._held = held

    def progress(self, calls: int) -> None:
        """Call NIXL so many times, held or not."""
        for _ in range(calls):
            self._decode.drain()

    def count(self, pages: Sequence[int]) -> Tally:
        return tally(self._memory, _ids(pages))

    def compare(
        self, source: Sequence[int], target: Sequence[int], source_slots: Sequence[int], target_slots: Sequence[int]
    ) -> int:
        """How many bytes of the target pages and slots differ from the caller's source pages and slots."""
        ours, mine = self._source, self._memory
        pages = wrong_bytes(ours.regions, mine.regions, _ids(source), _ids(target))
        return pages + wrong_bytes(ours.slots, mine.slots, _ids(source_slots), _ids(target_slots))

    def touched(self, pages: Sequence[int], slots: Sequence[int]) -> int:
        """How many bytes outside these pages and slots have changed."""
        before, now = self._before, self._memory
        return touched_bytes(before.regions, now.regions, _ids(pages)) + touched_bytes(
            before.slots, now.slots, _ids(slots)
        )

    def reset(self) -> None:
        """Forget every receiver, and make the memory what it was in the beginning."""
        for receiver in self._receivers.values():
            receiver.clear()
            self._decode.fence(receiver.sender_name)
        self._receivers.clear()
        self._memory.restore(self._before)
        self._held = False


def _ids(values: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    return np.array(values, np.int32)


class Program:
    """What ``serve`` runs: nothing until it is started."""

    def __init__(self) -> None:
        self._decode: DecodeProcess | None = None

    def answer(self, request: Request) -> object:
        if isinstance(request, Start):
            if self._decode is not None:
                raise ValueError("started twice")
            self._decode = DecodeProcess(request)
            return self._decode.metadata
        if self._decode is None:
            raise ValueError(f"not started: {request!r}")
        answer: object = getattr(self._decode, request.method)(*request.arguments, **request.named)
        return answer

    def idle(self) -> None:
        if self._decode is not None:
            self._decode.idle()


if __name__ == "__main__":
    program = Program()
    serve(program.answer, program.idle)
