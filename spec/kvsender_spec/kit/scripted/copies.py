"""What travels between scripted agents: descriptors, links, the bytes of a transfer, and the handle on them.

The bytes (``Copy``) are apart from the handle, because in NIXL they are: releasing a handle, removing the peer and an
error all end what the sender hears of a transfer, and none of them ends the transfer.
"""

from __future__ import annotations

import ctypes
from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias, TypeGuard, cast

from kvsender_spec.contract import Operation
from kvsender_spec.faults import Kind
from kvsender_spec.machine import HandleState
from kvsender_spec.oracle import TrackedHandle

Span: TypeAlias = tuple[int, int]
"""An address and a number of bytes."""
Region: TypeAlias = tuple[int, int, int, str]
"""A registered address, its bytes, its device and its kind of memory."""

MEMORY: Final[Mapping[str, str]] = {"DRAM": "DRAM", "VRAM": "VRAM", "cpu": "DRAM", "cuda": "VRAM"}
"""NIXL's names for kinds of memory; the last two are deprecated ones."""

WRITES: Final[Mapping[str, bool]] = {"WRITE": True, "READ": False}


class Rows(Protocol):
    """A table of integers, such as a numpy array of shape (n, 3) or (n, 5)."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> Hashable: ...
    def __len__(self) -> int: ...

    def tolist(self) -> list[list[int]]: ...


class Indices(Protocol):
    """A row of integers, such as a numpy array of shape (n,)."""

    def __len__(self) -> int: ...

    def tolist(self) -> list[int]: ...


class Process(Protocol):
    """One process with its agent, as a connection to it sees it."""

    @property
    def name(self) -> str: ...
    @property
    def generation(self) -> int: ...
    @property
    def moves(self) -> bool:
        """It lives and is not stopped: bytes go to it and come from it."""

    alive: bool
    stopped: bool
    regions: list[Region]
    hollow: bool

    def deliver(self, sender: str, message: bytes) -> None:
        """A notification arrives."""


@dataclass(slots=True, eq=False)
class Link:
    """One agent's connection to one process of a peer, from ``add_remote_agent`` until it is removed."""

    agent: Process
    peer: Process
    regions: list[Region]
    """What the peer had registered when its metadata was added. It is never validated against the peer again."""
    cut: bool = False
    removed: bool = False
    given_up: bool = False
    """It was well when its own agent removed it: what this breaks is no fault of the transport."""

    @property
    def broken(self) -> bool:
        return self.cut or not self.peer.alive


@dataclass(slots=True, eq=False)
class Copy:
    """The bytes of one transfer. They outlive its handle, because releasing a handle does not stop them."""

    link: Link
    pairs: tuple[tuple[Span, Span], ...]
    """For each descriptor the span that is read and the span that is written."""
    landed: bool = False
    """Every byte is in place."""
    orphaned: bool = False
    """Posted, and nobody will ever be told that it has landed."""
    begun: int = 0
    """So many bytes have landed before the others (``land_some``)."""
    sent: int = 0
    """So many bytes of a READ its holder has sent ahead of their landing (``send_some``)."""
    underway: bytes = b""
    """What is sent and has not landed, as it was when it was sent: it follows the ``begun`` first bytes."""

    @property
    def size(self) -> int:
        return sum(length for (_, length), _ in self.pairs)

    def land(self) -> int:
        """Copy everything that has not landed before, from the source as it is now. Returns the bytes.

        What the holder of a READ had sent before lands as it was then.
        """
        arrived = self.arrive()
        self.landed = True
        begun, self.begun, self.sent = self.begun, 0, 0
        return arrived + self._copy(begun, self.size)

    def land_half(self) -> None:
        self._copy(0, self.size // 2)

    def land_some(self, share: float) -> int:
        """Copy the first bytes, up to this share of all, which will not be copied again. Returns how many."""
        arrived = self.arrive()
        begun, self.begun = self.begun, max(self.begun, int(self.size * share))
        return arrived + self._copy(begun, self.begun)

    def send_some(self, share: float) -> None:
        """The holder of a READ sends the first bytes, up to this share of all, as they are now; none of them lands."""
        first, self.sent = max(self.begun, self.sent), max(self.begun, self.sent, int(self.size * share))
        self.underway += b"".join(
            ctypes.string_at(source + skip, stop - skip) for (source, _), _, skip, stop in self._parts(first, self.sent)
        )

    def arrive(self) -> int:
        """What was sent lands, and will not be copied again. Returns how many bytes."""
        if not self.underway:
            return 0
        begun, self.begun, at = self.begun, self.sent, 0
        for _, (target, _), skip, stop in self._parts(begun, self.sent):
            ctypes.memmove(target + skip, self.underway[at : at + stop - skip], stop - skip)
            at += stop - skip
        self.underway = b""
        return at

    def _copy(self, first: int, end: int) -> int:
        for (source, _), (target, _), skip, stop in self._parts(first, end):
            ctypes.memmove(target + skip, source + skip, stop - skip)
        return end - first

    def _parts(self, first: int, end: int) -> Iterator[tuple[Span, Span, int, int]]:
        """The pairs that hold these bytes of the transfer, each with the first and the end of them within it."""
        at = 0
        for source, target in self.pairs:
            length = source[1]
            skip, stop = max(first - at, 0), min(end - at, length)
            if skip < stop:
                yield source, target, skip, stop
            at += length


@dataclass(slots=True, eq=False, weakref_slot=True)
class ScriptedDlist:
    """A prepared descriptor list. ``link`` is None on the local side."""

    link: Link | None
    blocks: tuple[Span, ...]
    released: bool = False


@dataclass(frozen=True, slots=True)
class ScriptedDescs:
    """A descriptor list that is not prepared, for ``initialize_xfer``."""

    rows: tuple[tuple[int, int, int], ...]
    memory: str


@dataclass(eq=False)
class ScriptedHandle:
    """One transfer, as the sender holds it. Dropping the last reference releases it, as in NIXL."""

    number: Final[int]
    copy: Final[Copy]
    operation: Final[Operation]
    message: bytes
    on_drop: Final[Callable[[ScriptedHandle], None]]
    released: bool = False
    told: bool = False
    """A check, or the post, has answered the last word."""
    outcome: Kind | None = None
    """The error that every check answers from now on."""
    injected: bool = False
    """It was injected, and is not what the scripted agent itself has come to."""
    machine: TrackedHandle = field(default_factory=TrackedHandle)

    @property
    def agent(self) -> str:
        return self.copy.link.agent.name

    @property
    def peer(self) -> str:
        return self.copy.link.peer.name

    @property
    def local(self) -> tuple[Span, ...]:
        side = 0 if WRITES[self.operation] else 1
        return tuple(pair[side] for pair in self.copy.pairs)

    @property
    def remote(self) -> tuple[Span, ...]:
        side = 1 if WRITES[self.operation] else 0
        return tuple(pair[side] for pair in self.copy.pairs)

    @property
    def state(self) -> HandleState:
        """What is true, whether or not the sender knows: DONE as soon as all bytes are in place."""
        return self.machine.state

    @property
    def landed(self) -> bool:
        return self.copy.landed

    @property
    def unsettled(self) -> bool:
        """Posted, held by the sender, and nothing has decided yet how it ends."""
        link = self.copy.link
        open_ended = self.state is HandleState.IN_FLIGHT and self.outcome is None and not self.released
        return open_ended and not link.broken and not link.removed

    def __repr__(self) -> str:
        return f"<handle {self.number} {self.agent}->{self.peer} {self.state.value}>"

    def __del__(self) -> None:
        if not self.released:
            self.on_drop(self)


def rows_of(table: Rows | Sequence[Sequence[int]], widths: tuple[int, ...]) -> Sequence[Sequence[int]]:
    """The rows of a list of tuples of three integers, or of an array with that many columns.

    Raises:
        IndexError: it is empty.
        ValueError: tuples of different sizes, or an array of another type than 64-bit integers.
        TypeError: anything else. Where ``get_xfer_descs`` is asked, NIXL answers None and raises it at the next call.
    """
    if not isinstance(table, (list, tuple)) and _is_array(table):
        if len(table.shape) != 2 or table.shape[1] not in widths:
            raise TypeError(f"descriptors have {' or '.join(map(str, widths))} columns, not the shape {table.shape}")
        if not _is_integer64(table.dtype):
            raise ValueError(f"descriptors are uint64 or int64, not {table.dtype}")
        if table.shape == (0, 3):
            raise IndexError("index 0 is out of bounds for axis 0 with size 0")
        return table.tolist()
    rows = cast("Sequence[Sequence[int]]", table)
    first = rows[0]
    if not isinstance(rows, list) or not isinstance(first, tuple) or len(first) != 3:
        raise TypeError(f"descriptors are a list of tuples of three integers, not {type(rows).__name__} of {first!r}")
    if set(map(len, rows)) != {3}:
        raise ValueError("each descriptor must have three integers")
    return rows


def _is_array(table: object) -> TypeGuard[Rows]:
    return all(hasattr(table, name) for name in ("shape", "dtype", "tolist"))


_INTEGER64: Final[dict[Hashable, bool]] = {}
"""What was found of each type of arrays: its name takes a while to make."""


def _is_integer64(dtype: Hashable) -> bool:
    found = _INTEGER64.get(dtype)
    if found is None:
        found = _INTEGER64[dtype] = str(dtype).removeprefix("torch.") in ("uint64", "int64")
    return found


def blocks(regions: Sequence[Region], rows: Sequence[Sequence[int]], memory: str) -> tuple[Span, ...] | None:
    """The blocks that the rows name, or None where one of them lies in no single registration."""
    plain: Iterable[Sequence[int]] = rows
    if not rows:
        return None
    if len(rows[0]) == 5:
        strided = [(row[0], row[1], row[2], row[3], row[4]) for row in rows]
        if any(stride < length or count < 1 for _, length, _, stride, count in strided):
            return None
        plain = ((at + stride * n, size, device) for at, size, device, stride, count in strided for n in range(count))
    held = sorted((of, base, size) for base, size, of, kind in regions if kind == memory)
    found: list[Span] = []
    place, first, end, of = -2, 0, 0, -1
    for at, length, device in plain:
        # The one that holds the row before is asked first, then the one behind it, by NIXL as well.
        if not (of == device and first <= at and at + length <= end):
            place = _place(held, place + 1, at, length, device)
            if place < 0:
                return None
            of, first, size = held[place]
            end = first + size
        found.append((at, length))
    return tuple(found)


def _place(held: Sequence[tuple[int, int, int]], guess: int, at: int, length: int, device: int) -> int:
    """Which registration holds a span, -1 where none is found.

    After the guess those two are asked between which the span would stand in their order: where registrations overlap,
    neither of the two may hold a span that a third one holds.
    """
    behind = bisect_right(held, (device, at, length))
    return next((place for place in (guess, behind - 1, behind) if _holds(held, place, at, length, device)), -1)


def _holds(held: Sequence[tuple[int, int, int]], place: int, at: int, length: int, device: int) -> bool:
    if not 0 <= place < len(held):
        return False
    of, base, size = held[place]
    return of == device and base <= at and at + length <= base + size


def picked(blocks: Sequence[Span], indices: Indices | Sequence[int]) -> tuple[Span, ...] | None:
    """The blocks that the indices name, or None where one names none."""
    numbers = _numbers(indices)
    if not all(0 <= number < len(blocks) for number in numbers):
        return None
    return tuple(blocks[number] for number in numbers)


def _numbers(indices: Indices | Sequence[int]) -> Sequence[int]:
    if isinstance(indices, (list, tuple)):
        return indices
    return cast("Indices", indices).tolist() if hasattr(indices, "tolist") else indices


def covered(regions: Sequence[Region], spans: Iterable[Span]) -> bool:
    """Every span lies in some registration, of whatever device."""
    return all(
        any(base <= start and start + length <= base + size for base, size, _, _ in regions) for start, length in spans
    )
