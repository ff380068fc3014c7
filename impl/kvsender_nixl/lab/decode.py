"""A decode process: a ``Decode`` on real NIXL, into whose memory a sender writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from kvsender_nixl.exchange import TransferInfo
from kvsender_nixl.lab.memory import BEFORE, REQUEST, Arrays, Memory, Tally, ids, tally, touched_bytes, wrong_bytes
from kvsender_nixl.lab.played import Played
from kvsender_nixl.lab.remote import Standing, Start
from kvsender_nixl.receiver import Decode, KVReceiver
from kvsender_spec.contract import KVPoll, KVTransferError


class DecodeProcess(Played):
    """One decode side."""

    def __init__(self, start: Start) -> None:
        super().__init__(start)
        # Seeded as the prefill side's: these are the caller's bytes.
        self._source: Final = Memory.filled(start.seed, REQUEST, start.num_pages)
        self._before: Final = Memory.filled(start.seed, BEFORE, start.num_pages)
        self._memory: Final = self._before.copy()
        self._decode: Final = Decode(self._ear, Arrays(self._memory.regions), Arrays(self._memory.slots))
        self._receivers: Final[dict[str, KVReceiver]] = {}
        self.metadata = self._decode.metadata()

    def _call_nixl(self) -> None:
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
        return receiver.init(ids(pages), slot, is_dummy=is_dummy, required_dst_info_num=required)

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

    def count(self, pages: Sequence[int]) -> Tally:
        return tally(self._memory, ids(pages))

    def compare(
        self, source: Sequence[int], target: Sequence[int], source_slots: Sequence[int], target_slots: Sequence[int]
    ) -> int:
        """How many bytes of the target pages and slots differ from the caller's source pages and slots."""
        ours, mine = self._source, self._memory
        pages = wrong_bytes(ours.regions, mine.regions, ids(source), ids(target))
        return pages + wrong_bytes(ours.slots, mine.slots, ids(source_slots), ids(target_slots))

    def touched(self, pages: Sequence[int], slots: Sequence[int]) -> int:
        """How many bytes outside these pages and slots have changed."""
        before, now = self._before, self._memory
        return touched_bytes(before.regions, now.regions, ids(pages)) + touched_bytes(
            before.slots, now.slots, ids(slots)
        )

    def reset(self) -> None:
        super().reset()
        for receiver in self._receivers.values():
            receiver.clear()
            self._decode.fence(receiver.sender_name)
        self._receivers.clear()
        self._memory.restore(self._before)
