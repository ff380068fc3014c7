"""The prefill side, which sends."""

from __future__ import annotations

from kvsender_nixl.front import Front
from kvsender_nixl.sender import KVSender
from kvsender_spec.contract import DlistT, HandleT


class Prefill(Front[DlistT, HandleT]):
    """Makes a sender for each room. ``Front`` says what it takes, and what else it offers."""

    def sender(self, room: int) -> KVSender[DlistT, HandleT]:
        """The sender of a room, before or after its peers are known. Sweeps a little.

        Raises KVUsageError while an earlier sender of this room is neither over nor cleared, and after ``close``.
        """
        return self._bind(room, lambda entry: KVSender(self._side, entry))
