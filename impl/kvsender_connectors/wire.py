"""The messages by which a decode side makes itself and its rooms known to SGLang's prefill side, frame by frame.

They go through the release's own control thread, so that its parser, its tables and its statuses are the real ones.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from kvsender_spec.kit.adapter import NUM_PAGES, Destination, Memory, Peer, RoomPlan

HOST: Final = "127.0.0.1"
FIRST_PORT: Final = 30_000
GUARD: Final = b"NixlMsgGuard"
REGISTRATION: Final = b"None"
"""What stands where a room's number would."""
FULL_PREFIX_HIT: Final = 64
"""Tokens that the decode side has already. A room of zero pages is a full hit; that is what tells it from a dummy."""
STATUS: Final = b"KV_STATUS"
"""The tag of 0.5.23's message about a room's end, over NIXL."""

Block: TypeAlias = tuple[int, int, int]
"""Address, length and device of some bytes."""
LAYERS: Final = len(Memory.PAGE_BYTES) // 2
ORDER: Final = (*range(0, 2 * LAYERS, 2), *range(1, 2 * LAYERS, 2))
"""SGLang lists the keys of every layer before the values of every layer; the kit's regions alternate."""


@dataclass(frozen=True, slots=True)
class Layout:
    """One side's memory in SGLang's order."""

    kv_pointers: tuple[int, ...]
    kv_item_bytes: tuple[int, ...]
    aux_pointers: tuple[int, ...]
    aux_item_bytes: tuple[int, ...]

    @classmethod
    def of(cls, memory: Memory) -> Layout:
        return cls(
            tuple(memory.address(memory.kv[region]) for region in ORDER),
            tuple(memory.PAGE_BYTES[region] for region in ORDER),
            tuple(memory.address(region) for region in memory.aux),
            tuple(memory.AUX_BYTES),
        )

    def kv_rows(self, pages: Sequence[int]) -> list[Block]:
        """Where these pages are, region by region."""
        regions = zip(self.kv_pointers, self.kv_item_bytes, strict=True)
        return [(base + page * size, size, 0) for base, size in regions for page in pages]

    def aux_rows(self, slot: int) -> list[Block]:
        """Where this aux slot is."""
        regions = zip(self.aux_pointers, self.aux_item_bytes, strict=True)
        return [(base + slot * size, size, 0) for base, size in regions]


def port(peers: Sequence[Peer], peer: Peer) -> int:
    """The port on which a peer hears. SGLang spreads rooms over its workers by it."""
    return FIRST_PORT + [other.name for other in peers].index(peer.name)


def session(number: int) -> str:
    """Mooncake's name of a peer's engine."""
    return f"{HOST}:{number}"


def nixl_registration(peer: Peer, number: int) -> list[bytes]:
    """A peer's agent and memory. Releases before 0.5.23 read the first fifteen frames of it."""
    layout = Layout.of(peer.memory)
    return [
        GUARD,
        REGISTRATION,
        HOST.encode(),
        _ascii(number),
        peer.name.encode(),
        peer.agent.get_agent_metadata(),
        _pack("Q", layout.kv_pointers),
        _pack("Q", layout.aux_pointers),
        b"",  # state pools: none
        _ascii(0),  # GPU
        _ascii(1),  # ranks
        _ascii(0),  # rank
        _ascii(layout.kv_item_bytes[0]),
        *[b""] * 4,  # staging buffer: none
        _ascii(NUM_PAGES),
        b"",  # kinds of memory: device memory throughout
        _pack("Q", layout.kv_item_bytes),
        b"",
        b"",
        _ascii(1),
        _ascii(0),
        b"",
    ]


def nixl_room(plan: RoomPlan, target: Destination, number: int, *, names_dummies: bool) -> list[bytes]:
    """Where a peer wants a room. 0.5.23 has a frame that says whether the peer is a dummy; before, it is guessed."""
    frames = [
        GUARD,
        _ascii(plan.room),
        HOST.encode(),
        _ascii(number),
        target.peer.name.encode(),
        _pack("i", target.pages),
        _ascii(target.aux_index),
        _ascii(len(plan.destinations)),
        b"",
        b"" if target.dummy or target.pages else _ascii(FULL_PREFIX_HIT),
    ]
    return [*frames, _ascii(int(target.dummy))] if names_dummies else frames


def mooncake_registration(peer: Peer, number: int) -> list[bytes]:
    layout = Layout.of(peer.memory)
    return [
        REGISTRATION,
        HOST.encode(),
        _ascii(number),
        session(number).encode(),
        _pack("Q", layout.kv_pointers),
        _pack("Q", layout.aux_pointers),
        b"",  # state pools: none
        _ascii(0),  # rank
        _ascii(1),  # ranks
        _ascii(layout.kv_item_bytes[0]),
        b"",
        b"",
        *[b""] * 4,  # staging buffer: none
        _ascii(1),
        _ascii(0),
        b"",
        _pack("Q", layout.kv_item_bytes),
    ]


def mooncake_room(plan: RoomPlan, target: Destination, peers: int, number: int) -> list[bytes]:
    """Where one of the room's peers wants it."""
    return [
        _ascii(plan.room),
        HOST.encode(),
        _ascii(number),
        session(number).encode(),
        _pack("i", target.pages),
        _ascii(target.aux_index),
        b"",
        _ascii(peers),
        b"" if target.pages else _ascii(FULL_PREFIX_HIT),
    ]


def _ascii(value: int) -> bytes:
    return str(value).encode("ascii")


def _pack(form: str, values: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(values)}{form}", *values)
