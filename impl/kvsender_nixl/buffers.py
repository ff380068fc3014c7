"""Torch KV pools and aux buffers as NIXL sees them: regions of equally many items, described once.

A *region* is one contiguous tensor; an *item* is a page of a KV region or a slot of an aux region. Item ``i`` of region
``r`` has the descriptor index ``r * num_items + i`` in the list that is prepared from ``Layout.rows``, so that the
descriptors of a chunk are one broadcast addition.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias, get_args

import numpy as np

from kvsender_spec.contract import KVUsageError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

MemType: TypeAlias = Literal["DRAM", "VRAM"]
MEM_TYPES: Final[tuple[MemType, ...]] = get_args(MemType)
MAX_DESCRIPTORS: Final = 2**31 - 1
"""Descriptor indices are int32."""


@dataclass(frozen=True, slots=True)
class Region:
    """``num_items`` items of ``item_bytes`` bytes each, one after the other from ``address`` on."""

    address: int
    item_bytes: int
    num_items: int

    def __post_init__(self) -> None:
        if self.address <= 0 or self.item_bytes <= 0 or self.num_items <= 0:
            raise KVUsageError(f"a region needs an address, and items of at least one byte: {self}")


@dataclass(frozen=True)
class Layout:
    """Regions of one kind of memory on one device, all with the same number of items.

    Raises KVUsageError where they cannot be described as one list.
    """

    regions: tuple[Region, ...]
    mem_type: MemType = "DRAM"
    device: int = 0

    def __post_init__(self) -> None:
        if not self.regions:
            raise KVUsageError("a layout needs at least one region")
        if len({region.num_items for region in self.regions}) != 1:
            raise KVUsageError(f"regions differ in num_items: {[region.num_items for region in self.regions]}")
        if len(self.regions) * self.num_items > MAX_DESCRIPTORS:
            raise KVUsageError(f"{len(self.regions)} regions x {self.num_items} items do not fit int32 indices")
        if self.mem_type not in MEM_TYPES or self.device < 0:
            raise KVUsageError(f"no memory of NIXL's: {self.mem_type!r}, device {self.device!r}")

    @property
    def num_items(self) -> int:
        return self.regions[0].num_items

    @cached_property
    def item_bytes(self) -> tuple[int, ...]:
        return tuple(region.item_bytes for region in self.regions)

    @cached_property
    def bytes_per_item(self) -> int:
        """The bytes of one item in all regions together."""
        return sum(self.item_bytes)

    @cached_property
    def _bases(self) -> NDArray[np.int32]:
        """The first descriptor index of each region, shape ``(regions, 1)``."""
        return (np.arange(len(self.regions), dtype=np.int32) * np.int32(self.num_items)).reshape(-1, 1)

    def rows(self) -> NDArray[np.uint64]:
        """NIXL's strided descriptors, shape ``(regions, 5)``: address, bytes, device, stride, count."""
        return np.array(
            [(r.address, r.item_bytes, self.device, r.item_bytes, r.num_items) for r in self.regions], dtype=np.uint64
        )

    def registrations(self) -> list[tuple[int, int, int, str]]:
        """What ``register_memory`` takes: address, bytes, device, tag."""
        return [(r.address, r.item_bytes * r.num_items, self.device, "") for r in self.regions]

    def indices(self, items: NDArray[np.int32], regions: Sequence[int] = ()) -> NDArray[np.int32]:
        """The descriptor indices of ``items``, shape ``(n,)``, in every region, or in some: shape ``(regions * n,)``.

        Regions in order, and in each region the items as given. Nothing is checked here: this is on the path of send().
        """
        return ((self._bases[list(regions)] if regions else self._bases) + items).reshape(-1)

    def index(self, item: int) -> NDArray[np.int32]:
        """The descriptor indices of one item in every region, shape ``(regions,)``."""
        return (self._bases + np.int32(item)).reshape(-1)


def mismatch(ours: Layout | None, theirs: Layout | None) -> str | None:
    """Why items of ``ours`` cannot be written to items of ``theirs``, or None. The numbers of items may differ."""
    if ours is None or theirs is None:
        return None if ours is theirs else "only one side has such buffers"
    if len(ours.regions) != len(theirs.regions):
        return f"{len(theirs.regions)} regions where we have {len(ours.regions)}"
    for number, (mine, other) in enumerate(zip(ours.item_bytes, theirs.item_bytes, strict=True)):
        if mine != other:
            return f"region {number} has items of {other} bytes where ours have {mine}"
    return None


class Buffers(Protocol):
    """Memory with a layout. Whoever registers it keeps the object, and with it the memory, alive."""

    @property
    def layout(self) -> Layout: ...


class KVPool:
    """A paged KV cache: for each layer a K and a V tensor of any dtype, whose first dimension is the page.

    ``v_buffers`` may be empty, for caches that keep one tensor per layer (MLA). K and V may differ in the bytes of a
    page. The tensors must be contiguous and on one device, and have equally many pages; a pool of single tokens is
    viewed as ``(num_pages, page_size, ...)`` first. Raises KVUsageError naming the tensor that does not fit.
    """

    def __init__(self, k_buffers: Sequence[torch.Tensor], v_buffers: Sequence[torch.Tensor]) -> None:
        if len(v_buffers) not in (0, len(k_buffers)):
            raise KVUsageError(f"{len(k_buffers)} K buffers and {len(v_buffers)} V buffers: one of each per layer")
        named = [(f"k_buffers[{i}]", tensor) for i, tensor in enumerate(k_buffers)]
        named += [(f"v_buffers[{i}]", tensor) for i, tensor in enumerate(v_buffers)]
        self.k_buffers: Final = tuple(k_buffers)
        self.v_buffers: Final = tuple(v_buffers)
        self._layout: Final = _layout_of(named)

    @property
    def layout(self) -> Layout:
        """K of each layer, then V of each layer."""
        return self._layout

    @property
    def num_pages(self) -> int:
        return self._layout.num_items


class AuxBuffers:
    """What a room carries besides pages (first token, logprobs, ...): tensors whose first dimension is the slot.

    Like ``KVPool``: contiguous, on one device, equally many slots, any dtype. Raises KVUsageError.
    """

    def __init__(self, tensors: Sequence[torch.Tensor]) -> None:
        self.tensors: Final = tuple(tensors)
        self._layout: Final = _layout_of([(f"aux[{i}]", tensor) for i, tensor in enumerate(tensors)])

    @property
    def layout(self) -> Layout:
        return self._layout

    @property
    def num_slots(self) -> int:
        return self._layout.num_items


class Stamps:
    """A generation number a page, beside a pool whose pages are read by others: uint64 of shape ``(num_pages,)``.

    Whoever grants pages says with which stamps; whoever reads them reads the stamps after the data, and has the granted
    content where they are still those. ``refilling`` is the holder's half of that.
    """

    def __init__(self, num_pages: int) -> None:
        self.values: Final = np.zeros(num_pages, np.uint64)

    @property
    def layout(self) -> Layout:
        return Layout((Region(self.values.ctypes.data, self.values.itemsize, len(self.values)),))

    @contextmanager
    def refilling(self, pages: NDArray[np.int32]) -> Iterator[None]:
        """Write other content to ``pages`` in here. Where the content is written on a GPU, its stream must have come to
        the end of it before this is left."""
        self.values[pages] += np.uint64(1)
        try:
            yield
        finally:
            self.values[pages] += np.uint64(1)


def _layout_of(named: Sequence[tuple[str, torch.Tensor]]) -> Layout:
    if not named:
        raise KVUsageError("no buffers")
    first_name, first = named[0]
    kinds: dict[str, MemType] = {"cpu": "DRAM", "cuda": "VRAM"}
    for name, tensor in named:
        if tensor.ndim == 0 or tensor.numel() == 0:
            raise KVUsageError(f"{name} has shape {tuple(tensor.shape)}: the first dimension must count items")
        if not tensor.is_contiguous():
            raise KVUsageError(f"{name} is not contiguous: shape {tuple(tensor.shape)}, strides {tensor.stride()}")
        if tensor.device.type not in kinds:
            raise KVUsageError(f"{name} is on {tensor.device}, which NIXL cannot transfer from")
        if tensor.device != first.device:
            raise KVUsageError(f"{name} is on {tensor.device}, {first_name} on {first.device}")
        if tensor.shape[0] != first.shape[0]:
            raise KVUsageError(f"{name} has {tensor.shape[0]} items, {first_name} has {first.shape[0]}")
    regions = tuple(
        Region(tensor.data_ptr(), tensor.numel() * tensor.element_size() // tensor.shape[0], tensor.shape[0])
        for _, tensor in named
    )
    return Layout(regions, kinds[first.device.type], max(first.get_device(), 0))
