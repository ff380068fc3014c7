"""Memory whose exported addresses can be taken away, by itself and under a holder."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.impl.holding import DONE, QUIESCED, Holding
from tests.impl.rig import ids

from kvsender_nixl.buffers import Stamps
from kvsender_nixl.holds import Holds, Withdrawable
from kvsender_nixl.remapped import RemappedBuffers
from kvsender_spec.contract import KVPoll, KVUsageError

PAGE = mmap.PAGESIZE


def exported(pool: RemappedBuffers, item: int) -> list[set[int]]:
    """The values of the bytes that are found at an item's exported addresses, region by region."""
    return [
        set(ctypes.string_at(region.address + item * region.item_bytes, region.item_bytes))
        for region in pool.layout.regions
    ]


def filled(*item_bytes: int, num_items: int = 6) -> RemappedBuffers:
    pool = RemappedBuffers(item_bytes, num_items)
    for region, array in enumerate(pool.arrays):
        array[:] = np.arange(num_items).reshape(-1, 1) + 10 * (region + 1)
    return pool


def test_withdrawn_items_are_zeros_at_their_addresses_and_their_owners_all_the_same() -> None:
    pool = filled(PAGE, 2 * PAGE)
    assert [exported(pool, item) for item in range(6)] == [[{10 + item}, {20 + item}] for item in range(6)]
    pool.withdraw(ids(4, 1, 2))
    assert [exported(pool, item)[1] for item in range(6)] == [{20}, {0}, {0}, {23}, {0}, {25}]
    assert [array[:, -1].tolist() for array in pool.arrays] == [list(range(10, 16)), list(range(20, 26))]
    pool.renew(ids(2))
    assert pool.arrays[1][:, 0].tolist() == [20, 21, 0, 23, 24, 25]
    pool.arrays[1][1:3] = 99
    assert exported(pool, 2) == [{0}, {0}]
    pool.restore(ids(1, 2, 4))
    assert [exported(pool, item)[1] for item in range(6)] == [{20}, {99}, {99}, {23}, {24}, {25}]
    pool.withdraw(ids())
    pool.arrays[0][3] = 7
    assert exported(pool, 3)[0] == {7}


def test_what_is_written_to_a_withdrawn_address_is_lost() -> None:
    pool = filled(PAGE)
    pool.withdraw(ids(2))
    ctypes.memset(pool.layout.regions[0].address + 2 * PAGE, 77, PAGE)
    assert pool.arrays[0][2, 0] == 12
    pool.restore(ids(2))
    assert exported(pool, 2) == [{12}]


@pytest.mark.parametrize("renewed", [True, False])
def test_a_copy_that_has_begun_ends_on_the_old_memory_and_renewing_keeps_refills_out_of_it(renewed: bool) -> None:
    """A page in a pipe stands for one that the kernel is copying: it has pinned it in the same way."""
    pool = filled(PAGE)
    reading, writing = os.pipe()
    piece = (ctypes.c_size_t * 2)(pool.layout.regions[0].address + 3 * PAGE, PAGE)  # a struct iovec
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.vmsplice(writing, ctypes.byref(piece), ctypes.c_ulong(1), ctypes.c_uint(0)) == PAGE
    pool.withdraw(ids(3))
    if renewed:
        pool.renew(ids(3))
    pool.arrays[0][3] = 99
    assert set(os.read(reading, PAGE)) == ({13} if renewed else {99})
    os.close(reading)
    os.close(writing)


def test_bad_input() -> None:
    for sizes, count, why in (
        ((PAGE, PAGE + 1), 4, f"region 1 has items of {PAGE + 1} bytes, which are not whole pages of {PAGE}"),
        ((), 4, "0 regions of 4 items"),
        ((PAGE,), 0, "1 regions of 0 items"),
    ):
        with pytest.raises(KVUsageError, match=why):
            RemappedBuffers(sizes, count)
    with pytest.raises(KVUsageError, match="items 5 to 6: there are 6"):
        filled(PAGE).withdraw(ids(6, 5))


def test_huge_pages_are_used_where_there_are_some() -> None:
    with pytest.raises(KVUsageError, match="not whole pages of"):
        RemappedBuffers((PAGE,), 2, huge=True)
    free = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("HugePages_Free"))
    if int(free.split()[1]) < 4:
        with pytest.raises(OSError, match="allocate memory"):
            RemappedBuffers((2**30,), 2, huge=True)
        return
    pool = RemappedBuffers((2**21,), 2, huge=True)
    pool.arrays[0][:] = 5
    pool.withdraw(ids(1))
    assert [exported(pool, item) for item in range(2)] == [[{5}], [{0}]]


# ------------------------------------------------------------------------------------------------- under a holder


class Log:
    """Exports that only write down what is asked of them. ``broken`` calls raise."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[int]]] = []
        self.broken: set[str] = set()

    def _call(self, name: str, items: Any) -> None:
        self.calls.append((name, items.tolist()))
        if name in self.broken:
            raise OSError(12, f"no memory to {name}")

    def withdraw(self, items: Any) -> None:
        self._call("withdraw", items)

    def renew(self, items: Any) -> None:
        self._call("renew", items)

    def restore(self, items: Any) -> None:
        self._call("restore", items)


def expired(log: Log) -> tuple[Holding, Any]:
    """A holder whose room of pages 1 and 2 has lost its lease."""
    side = Holding(exports=log)
    held = side.hold(1, 2)
    side.clock.now += 31
    assert held.poll() is KVPoll.Failed
    return side, held


def test_pages_are_withdrawn_with_the_lease_and_exported_again_when_the_reader_is_finished() -> None:
    log = Log()
    side, held = expired(log)
    assert log.calls == [("withdraw", [1, 2])]
    assert side.holder.quarantined_pages() == held.quarantined_pages() == frozenset()
    assert side.holder.withdrawn_pages() == {1, 2}
    side.refill(2, 3)
    assert log.calls.pop() == ("renew", [2])
    with pytest.raises(KVUsageError, match="page 2 is withdrawn, and a reader of an earlier room may still read it"):
        side.hold(2, 3, token="u")
    side.say(QUIESCED)
    assert log.calls.pop() == ("restore", [1, 2])
    assert side.holder.withdrawn_pages() == frozenset()
    side.hold(2, 3, token="u")


def test_zeros_come_with_another_stamp() -> None:
    log = Log()
    side = Holding(exports=log)
    grant = side.hold(1, 2).grant("decode0")
    assert grant is not None
    side.clock.now += 31
    side.holder.sweep()
    again = side.hold(3, token="u").grant("decode0")
    assert again is not None
    side.say(DONE)
    fresh = side.hold(1, 2, token="v").grant("decode0")
    assert fresh is not None
    assert (grant.stamps.tolist(), fresh.stamps.tolist()) == ([2, 2], [4, 4])


def test_a_page_that_another_room_holds_is_withdrawn_when_that_room_has_ended() -> None:
    log = Log()
    side = Holding(exports=log)
    side.hold(1, 2)
    side.clock.now += 20
    side.hold(2, 3, room=8, token="u", lease_s=60.0)
    side.clock.now += 11
    side.holder.sweep()
    assert log.calls == [("withdraw", [1])]
    assert sorted(side.holder.quarantined_pages()) == [2]
    assert sorted(side.holder.withdrawn_pages()) == [1]
    side.say(type(DONE)(8, "u", 1, False))
    assert log.calls[1:] == [("withdraw", [2])]
    side.say(DONE)
    assert log.calls[2:] == [("restore", [1, 2])]


def test_pages_that_cannot_be_withdrawn_stay_in_quarantine() -> None:
    log = Log()
    log.broken.add("withdraw")
    side, _ = expired(log)
    assert log.calls == [("withdraw", [1, 2]), ("restore", [1, 2])]
    assert side.holder.quarantined_pages() == {1, 2}
    side.say(DONE)
    side.refill(1, 2)


def test_pages_that_cannot_be_exported_again_are_granted_no_more() -> None:
    log = Log()
    side, _ = expired(log)
    log.broken |= {"restore", "renew"}
    side.say(DONE)
    assert side.holder.withdrawn_pages() == {1, 2}
    with pytest.raises(OSError, match="no memory to renew"), side.holder.refilling(ids(1)):
        pass
    log.broken.clear()
    side.refill(1)
    with pytest.raises(KVUsageError, match="page 1 is withdrawn"):
        side.hold(1, token="u")


def test_real_memory_under_the_ledger() -> None:
    pool = filled(PAGE)
    exports: Withdrawable = pool
    holds = Holds(pool, Stamps(6), exports)
    holds.begin_refill(ids(1, 2))
    holds.end_refill(ids(1, 2), filled=True)
    holds.take(ids(1, 2), None)
    holds.quarantine(ids(1, 2))
    assert exported(pool, 1) == [{0}]
    holds.begin_refill(ids(1))
    pool.arrays[0][1] = 99
    holds.end_refill(ids(1), filled=True)
    assert exported(pool, 1) == [{0}]
    holds.free(ids(1, 2), quarantined=True)
    assert (exported(pool, 1), exported(pool, 2)) == ([{99}], [{12}])
