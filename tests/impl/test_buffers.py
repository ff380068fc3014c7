"""Layouts: what NIXL is told about the memory, and which memory is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kvsender_nixl.buffers import AuxBuffers, KVPool, Layout, Region, mismatch
from kvsender_spec.contract import KVUsageError


def test_rows_and_indices() -> None:
    k, v = torch.zeros((4, 2, 3), dtype=torch.bfloat16), torch.zeros((4, 5), dtype=torch.float8_e4m3fn)
    layout = KVPool([k], [v]).layout
    assert layout.item_bytes == (12, 5)
    assert layout.bytes_per_item == 17
    assert layout.rows().dtype == np.uint64
    assert layout.rows().tolist() == [[k.data_ptr(), 12, 0, 12, 4], [v.data_ptr(), 5, 0, 5, 4]]
    assert layout.registrations() == [(k.data_ptr(), 48, 0, ""), (v.data_ptr(), 20, 0, "")]
    indices = layout.indices(np.array([3, 0], np.int32))
    assert indices.dtype == np.int32
    assert indices.tolist() == [3, 0, 7, 4]
    assert layout.index(2).tolist() == [2, 6]
    assert layout.indices(np.empty(0, np.int32)).shape == (0,)


def test_one_tensor_per_layer_and_one_dimension() -> None:
    assert KVPool([torch.zeros(4, 8), torch.zeros(4, 8)], []).num_pages == 4
    assert AuxBuffers([torch.zeros(3, dtype=torch.int64)]).layout.item_bytes == (8,)


def test_buffers_that_do_not_fit_are_named() -> None:
    good = torch.zeros(4, 8)
    for k, v, why in (
        ([good], [good, good], "1 K buffers and 2 V buffers"),
        ([], [], "no buffers"),
        ([good, torch.zeros(8, 4).T], [], r"k_buffers\[1\] is not contiguous"),
        ([good], [torch.zeros(5, 8)], r"v_buffers\[0\] has 5 items, k_buffers\[0\] has 4"),
        ([torch.tensor(1.0)], [], r"k_buffers\[0\] has shape \(\)"),
        ([torch.zeros(0, 8)], [], r"k_buffers\[0\] has shape \(0, 8\)"),
        ([torch.zeros(4, 8, device="meta")], [], r"k_buffers\[0\] is on meta"),
    ):
        with pytest.raises(KVUsageError, match=why):
            KVPool(k, v)
    with pytest.raises(KVUsageError, match=r"aux\[1\] has 2 items"):
        AuxBuffers([torch.zeros(3), torch.zeros(2)])


def test_layouts_that_cannot_be() -> None:
    with pytest.raises(KVUsageError, match="at least one region"):
        Layout(())
    with pytest.raises(KVUsageError, match="differ in num_items"):
        Layout((Region(1, 1, 1), Region(1, 1, 2)))
    with pytest.raises(KVUsageError, match="do not fit int32"):
        Layout((Region(1, 1, 2**30),) * 2)
    with pytest.raises(KVUsageError, match="at least one byte"):
        Region(0, 1, 1)


def test_mismatch() -> None:
    ours = Layout((Region(1, 16, 4), Region(1, 8, 4)))
    assert mismatch(ours, Layout((Region(9, 16, 99), Region(9, 8, 99)))) is None
    assert mismatch(None, None) is None
    assert mismatch(ours, None) == "only one side has such buffers"
    assert mismatch(ours, Layout((Region(1, 16, 4),))) == "1 regions where we have 2"
    assert mismatch(ours, Layout((Region(1, 16, 4), Region(1, 4, 4)))) == (
        "region 1 has items of 4 bytes where ours have 8"
    )
