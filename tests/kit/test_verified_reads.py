"""READ on the scripted agent and on two real NIXL agents over UCX tcp, as ``test_verified_fake.py`` does for WRITE.

The initiator is a reader, the peer its holder. The reader has no progress thread, so that its bytes land by its own
calls only; the holder sends only where it moves: a test decides between which two calls a refill or a death falls.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from tests.kit.lies import CopiesAtThePost, DoneBeforeTheBytes, NotifiesWithTheBytes, ReleaseCancels, with_agents
from tests.kit.pair import PAGE, PAGES, SIZE, Pair, ScriptedPair
from tests.kit.vocabulary import (
    Pages,
    answer,
    arrives,
    complete,
    content,
    fails,
    full,
    indices,
    never,
    nothing_arrives,
    raises,
    rows,
    said,
    until,
)

from kvsender_spec.faults import Kind
from kvsender_spec.kit.scripted.copies import Copy
from kvsender_spec.kit.scripted.fabric import Fabric, Link, ScriptedAgent, ScriptedHandle
from kvsender_spec.machine import HandleEvent, HandleState

OLD, NEW = 0xAB, 0xCD
SPARE = PAGES - 1
"""The page by which a connection is tried before a test needs it."""
DISCONNECTED = Kind.REMOTE_DISCONNECT.value


class Reads(Pages):
    """Both sides as lists of pages. The holder has filled its own with OLD; ``source`` is where the reader reads to."""

    def __init__(self, pair: Pair, *, add: bool = True) -> None:
        super().__init__(pair, add=add)
        pair.fill(0, PAGES, OLD)

    def read(self, local: list[int], remote: list[int], message: bytes = b"") -> Any:
        return self.pair.sender.make_prepped_xfer(
            "READ", self.local, indices(local), self.remote, indices(remote), message
        )

    def all(self, message: bytes = b"") -> Any:
        return self.read(list(range(PAGES)), list(range(PAGES)), message)

    def connect(self) -> None:
        """Something was exchanged, and nothing of it is left in the reader's memory."""
        complete(self.pair, self.read([SPARE], [SPARE]))
        self.pair.source[:] = 0

    def posted(self, message: bytes = b"") -> Any:
        """A READ of page 0 that the held holder has not served."""
        self.connect()
        self.pair.hold()
        handle = self.read([0], [0], message)
        assert self.pair.sender.transfer(handle) == "PROC"
        return handle

    def sent(self, message: bytes = b"") -> Any:
        """A READ of page 0 of which all is sent and nothing has landed; the holder is held."""
        handle = self.posted(message)
        self.pair.send_ahead(handle)
        assert here(self.pair, 0) == full(0)
        return handle

    def arrived(self, message: bytes = b"") -> Any:
        """A READ of page 0 of which all has landed, and which nobody has checked."""
        handle = self.posted(message)
        self.pair.let_go()
        until(self.pair, lambda: here(self.pair, 0) == full(OLD))
        return handle

    def begun(self, message: bytes = b"") -> Any:
        """A READ of everything of which some has landed; the holder is held."""
        self.pair.hold()
        handle = self.all(message)
        assert self.pair.sender.transfer(handle) == "PROC"
        self.pair.begin(handle)
        assert 0 < landed(self.pair, OLD) < SIZE
        return handle


def here(pair: Pair, number: int) -> str:
    """A page of the reader's own."""
    return content(pair.source[number * PAGE : (number + 1) * PAGE].tobytes())


def landed(pair: Pair, value: int) -> int:
    """How many bytes of the reader's memory have this value."""
    return int(np.count_nonzero(pair.source == value))


def some(value: int) -> Callable[[Pair], bool]:
    return lambda pair: landed(pair, value) > 0


# ----------------------------------------------------------------------------------------------------------- DONE


def test_done_means_that_all_bytes_are_local(pair: Pair) -> None:
    reads = Reads(pair)
    remote, local = [5, 3, 900, 4, 77, 3], [0, 11, 12, 2, 900, 4]
    for value, number in enumerate(sorted(set(remote)), 1):
        pair.fill(number, 1, value)
    complete(pair, reads.read(local, remote))
    for ours, theirs in zip(local, remote, strict=True):
        assert here(pair, ours) == content(pair.read(theirs * PAGE, PAGE)) != full(0)
    for neighbour in (1, 3, 5, 10, 13, 899, 901):
        assert here(pair, neighbour) == full(0)


def test_done_for_a_large_read_means_that_all_bytes_are_local(pair: Pair) -> None:
    complete(pair, Reads(pair).all())
    assert landed(pair, OLD) == SIZE


def test_random_reads_are_done_with_all_their_bytes(pair: Pair) -> None:
    reads, draw = Reads(pair), np.random.default_rng(1)
    for number in range(64):
        pair.fill(number, 1, number + 1)
    for _ in range(20):
        count = int(draw.integers(1, 64))
        remote, local = draw.integers(0, 64, count), draw.permutation(PAGES)[:count]
        pair.source[:] = 0
        complete(pair, reads.read(local.tolist(), remote.tolist()))
        assert (pair.source.reshape(PAGES, PAGE)[local] == (remote + 1)[:, None]).all()
        assert np.count_nonzero(pair.source) == count * PAGE


def test_a_read_changes_nothing_at_its_holder(pair: Pair) -> None:
    reads = Reads(pair)
    pair.source[:] = 1
    complete(pair, reads.all())
    assert pair.count(OLD) == SIZE


def test_initialize_reads_like_make(pair: Pair) -> None:
    Reads(pair)
    pair.fill(7, 1, 77)
    ours = pair.sender.get_xfer_descs([(pair.source.ctypes.data + PAGE, PAGE, 0)], "DRAM")
    theirs = pair.sender.get_xfer_descs(rows((pair.peer_address + 7 * PAGE, PAGE, 0)), "DRAM")
    complete(pair, pair.sender.initialize_xfer("READ", ours, theirs, pair.peer_name, b"read"))
    assert (here(pair, 0), here(pair, 1)) == (full(0), full(77))
    arrives(pair, b"read")


def test_done_of_a_read_is_sticky_whatever_the_holder_does(pair: Pair) -> None:
    handle = Reads(pair).read([0], [0])
    complete(pair, handle)
    pair.fill(0, 1, NEW)
    assert {said(pair, handle) for _ in range(5)} == {"DONE"}
    never(pair, lambda: here(pair, 0) != full(OLD), 0.05)


# -------------------------------------------------------------------------------------------------- notifications


def test_the_readers_check_sends_the_notification(pair: Pair) -> None:
    handle = Reads(pair).arrived(b"read")
    nothing_arrives(pair)
    assert answer(pair, handle) == "DONE"
    arrives(pair, b"read")


def test_a_reads_notification_is_sent_once(pair: Pair) -> None:
    handle = Reads(pair).read([0], [0], b"read")
    complete(pair, handle)
    for _ in range(3):
        assert said(pair, handle) == "DONE"
    pair.sender.release_xfer_handle(handle)
    arrives(pair, b"read")
    nothing_arrives(pair)


def test_the_release_of_a_complete_read_that_nobody_checked_sends_the_notification(pair: Pair) -> None:
    handle = Reads(pair).arrived(b"read")
    nothing_arrives(pair)
    pair.sender.release_xfer_handle(handle)
    arrives(pair, b"read")


def test_the_release_of_a_read_that_was_sent_finds_it_complete(pair: Pair) -> None:
    handle = Reads(pair).sent(b"read")
    pair.sender.release_xfer_handle(handle)
    assert here(pair, 0) == full(OLD)
    pair.let_go()
    arrives(pair, b"read")


def test_nobody_is_notified_of_a_read_that_was_released_in_flight(pair: Pair) -> None:
    handle = Reads(pair).posted(b"never")
    pair.sender.release_xfer_handle(handle)
    pair.let_go()
    until(pair, lambda: here(pair, 0) == full(OLD))
    nothing_arrives(pair)


def test_notifications_of_reads_come_in_the_order_of_the_checks(pair: Pair) -> None:
    reads = Reads(pair)
    reads.connect()
    pair.hold()
    handles = [reads.read([n], [n], b"%d" % n) for n in range(4)]
    assert [pair.sender.transfer(handle) for handle in handles] == ["PROC"] * 4
    pair.let_go()
    until(pair, lambda: landed(pair, OLD) == 4 * PAGE)
    for handle in reversed(handles):
        assert answer(pair, handle) == "DONE"
    arrives(pair, b"3", b"2", b"1", b"0")


def test_a_standalone_notification_overtakes_the_bytes_of_a_read(pair: Pair) -> None:
    reads = Reads(pair)
    handle = reads.begun(b"attached")
    pair.sender.send_notif(pair.peer_name, b"standalone")
    pair.let_go()
    arrives(pair, b"standalone")
    assert answer(pair, handle) == "DONE"
    arrives(pair, b"attached")


def test_the_notification_says_that_the_pages_may_be_refilled(pair: Pair) -> None:
    reads = Reads(pair)
    for round_ in range(10):
        pair.fill(0, 64, OLD)
        pair.source[:] = 0
        handle = reads.read(list(range(64)), list(range(64)), b"%d" % round_)
        complete(pair, handle)
        arrives(pair, b"%d" % round_)
        pair.fill(0, 64, NEW)
        pair.breathe()
        assert (landed(pair, OLD), landed(pair, NEW)) == (64 * PAGE, 0)


# ------------------------------------------------------------------------ which of the holder's bytes a READ brings


def test_a_refill_before_the_post_is_what_is_read(pair: Pair) -> None:
    reads = Reads(pair)
    reads.connect()
    handle = reads.read([0], [0])
    pair.fill(0, 1, NEW)
    complete(pair, handle)
    assert here(pair, 0) == full(NEW)


def test_a_refill_before_the_holder_sends_is_what_is_read(pair: Pair) -> None:
    reads = Reads(pair)
    handle = reads.posted()
    pair.fill(0, 1, NEW)
    pair.let_go()
    assert answer(pair, handle) == "DONE"
    assert here(pair, 0) == full(NEW)


def test_a_refill_in_flight_is_read_torn_and_done(pair: Pair) -> None:
    handle = Reads(pair).begun()
    pair.fill(0, PAGES, NEW)
    pair.let_go()
    assert answer(pair, handle) == "DONE"
    assert landed(pair, OLD) > 0
    assert landed(pair, NEW) > 0
    assert landed(pair, OLD) + landed(pair, NEW) == SIZE


def test_a_refill_after_the_holder_has_sent_is_not_read(pair: Pair) -> None:
    handle = Reads(pair).sent()
    pair.fill(0, 1, NEW)
    pair.let_go()
    assert answer(pair, handle) == "DONE"
    assert here(pair, 0) == full(OLD)


def test_memory_that_the_holder_deregistered_is_still_read(pair: Pair) -> None:
    reads = Reads(pair)
    pair.deregister()
    pair.fill(0, 1, NEW)
    complete(pair, reads.read([0], [0]))
    assert here(pair, 0) == full(NEW)


def test_a_done_read_that_is_posted_again_reads_again(pair: Pair) -> None:
    handle = Reads(pair).read([0], [0], b"kept")
    complete(pair, handle)
    arrives(pair, b"kept")
    pair.fill(0, 1, NEW)
    complete(pair, handle)
    assert here(pair, 0) == full(NEW)
    arrives(pair, b"kept")


def test_a_read_that_is_posted_again_too_soon_is_refused_and_undisturbed(pair: Pair) -> None:
    handle = Reads(pair).posted(b"first")
    raises(pair, Kind.REPOST_ACTIVE, lambda: pair.sender.transfer(handle, b"second"))
    pair.let_go()
    assert answer(pair, handle) == "DONE"
    assert here(pair, 0) == full(OLD)
    arrives(pair, b"first")


# --------------------------------------------------------------------------------------------------------- stamps

STAMP = SPARE
"""The page in which the holder keeps the generation of the others. It is bumped before they are refilled, and after."""


def stamp(reads: Reads) -> int:
    """READ the stamp, by a transfer of its own."""
    complete(reads.pair, reads.read([STAMP], [STAMP]))
    (value,) = set(reads.pair.source[STAMP * PAGE :].tolist())
    assert isinstance(value, int)
    return value


def read_while_refilled(reads: Reads) -> None:
    """DONE, with the bytes of two generations."""
    pair = reads.pair
    pair.source[:] = 0
    handle = reads.begun()
    pair.fill(STAMP, 1, 2)
    pair.fill(0, STAMP, NEW)
    pair.fill(STAMP, 1, 3)
    pair.let_go()
    assert answer(pair, handle) == "DONE"
    assert landed(pair, NEW) > 0


def test_a_stamp_read_after_the_data_tells_of_a_refill(pair: Pair) -> None:
    reads = Reads(pair)
    pair.fill(STAMP, 1, 1)
    complete(pair, reads.all())
    assert stamp(reads) == 1
    read_while_refilled(reads)
    assert stamp(reads) == 3


def test_a_stamp_read_in_the_middle_of_a_refill_is_bumped_already(pair: Pair) -> None:
    reads = Reads(pair)
    pair.fill(STAMP, 1, 1)
    assert stamp(reads) == 1
    complete(pair, reads.read([0], [0]))
    pair.fill(STAMP, 1, 2)
    pair.fill(0, 1, NEW)
    assert stamp(reads) == 2


def test_a_stamp_read_before_the_data_tells_nothing(pair: Pair) -> None:
    reads = Reads(pair)
    pair.fill(STAMP, 1, 1)
    assert stamp(reads) == 1
    read_while_refilled(reads)


# ---------------------------------------------------------------------------------------------- PROC, and a stop


def test_proc_with_no_byte(pair: Pair) -> None:
    handle = Reads(pair).posted()
    never(pair, lambda: said(pair, handle) != "PROC" or here(pair, 0) != full(0))
    pair.let_go()
    assert answer(pair, handle) == "DONE"


def test_proc_with_some_bytes(pair: Pair) -> None:
    handle = Reads(pair).begun()
    # What was sent before it was held lands first; then nothing moves.
    assert {said(pair, handle) for _ in range(50)} == {"PROC"}
    assert 0 < landed(pair, OLD) < SIZE
    pair.let_go()
    assert answer(pair, handle) == "DONE"
    assert landed(pair, OLD) == SIZE


def test_a_held_holder_that_has_sent_everything_is_not_waited_for(pair: Pair) -> None:
    handle = Reads(pair).sent(b"read")
    assert answer(pair, handle) == "DONE"
    assert here(pair, 0) == full(OLD)
    pair.let_go()
    arrives(pair, b"read")


def test_a_stopped_holder_is_proc_and_then_read_as_it_is(mortal: Pair) -> None:
    reads = Reads(mortal)
    handle = reads.posted(b"read")
    mortal.stop()
    never(mortal, lambda: said(mortal, handle) != "PROC" or here(mortal, 0) != full(0), 1.0)
    mortal.cont()
    mortal.fill(0, 1, NEW)
    mortal.let_go()
    assert answer(mortal, handle) == "DONE"
    assert here(mortal, 0) == full(NEW)
    arrives(mortal, b"read")


def test_a_holder_stopped_before_the_post_serves_it_later(mortal: Pair) -> None:
    reads = Reads(mortal)
    reads.connect()
    mortal.stop()
    handle = reads.read([0], [0], b"read")
    assert mortal.sender.transfer(handle) == "PROC"
    never(mortal, lambda: said(mortal, handle) != "PROC" or here(mortal, 0) != full(0))
    mortal.cont()
    assert answer(mortal, handle) == "DONE"
    assert here(mortal, 0) == full(OLD)
    arrives(mortal, b"read")


# ------------------------------------------------------------------------------------------------- a dead holder


@pytest.mark.parametrize("connected", [True, False], ids=["warm", "cold"])
def test_a_holder_killed_before_the_post_fails_it_and_gives_nothing(mortal: Pair, connected: bool) -> None:
    reads = Reads(mortal)
    if connected:
        reads.connect()
    handle = reads.read([0], [0], b"never")
    mortal.kill()
    fails(mortal, handle)
    assert mortal.sender.check_remote_metadata(mortal.peer_name)
    fails(mortal, reads.read([1], [1]))
    never(mortal, lambda: bool(mortal.source.any()), 0.05)


def test_a_holder_killed_in_flight_fails_the_read_and_nothing_lands_after_the_error(mortal: Pair) -> None:
    reads = Reads(mortal)
    handle = reads.begun(b"never")
    mortal.kill()
    for _ in range(2):
        raises(mortal, Kind.REMOTE_DISCONNECT, lambda: answer(mortal, handle))
    assert 0 < landed(mortal, OLD) < SIZE
    mortal.source[:] = 0
    never(mortal, lambda: bool(mortal.source.any()))
    raises(mortal, Kind.REMOTE_DISCONNECT, lambda: mortal.sender.check_xfer_state(handle))


def test_a_stopped_holder_that_is_killed_fails_the_read(mortal: Pair) -> None:
    handle = Reads(mortal).posted()
    mortal.stop()
    mortal.kill()
    raises(mortal, Kind.REMOTE_DISCONNECT, lambda: answer(mortal, handle))
    never(mortal, lambda: bool(mortal.source.any()), 0.05)


OWED = pytest.mark.parametrize(("message", "expected"), [(b"", "DONE"), (b"owed", DISCONNECTED)], ids=["mute", "owed"])
"""What a check says of a READ that is complete when its holder is dead: the notification cannot be sent any more."""


@OWED
def test_what_is_local_before_the_kill_is_done_unless_a_notification_is_owed(
    mortal: Pair, message: bytes, expected: str
) -> None:
    handle = Reads(mortal).arrived(message)
    mortal.kill()
    assert [said(mortal, handle) for _ in range(3)] == [expected] * 3
    assert here(mortal, 0) == full(OLD)


@OWED
def test_a_sibling_that_fails_by_the_death_changes_nothing_for_what_is_local(
    mortal: Pair, message: bytes, expected: str
) -> None:
    reads = Reads(mortal)
    local = reads.arrived(message)
    mortal.source[:] = 0
    sibling = reads.begun()
    mortal.kill()
    raises(mortal, Kind.REMOTE_DISCONNECT, lambda: answer(mortal, sibling))
    assert [said(mortal, local) for _ in range(3)] == [expected] * 3


@OWED
def test_what_was_sent_before_the_kill_lands_after_it(mortal: Pair, message: bytes, expected: str) -> None:
    handle = Reads(mortal).sent(message)
    mortal.fill(0, 1, NEW)
    mortal.kill()
    assert here(mortal, 0) == full(0)
    until(mortal, lambda: said(mortal, handle) != "PROC")
    assert [said(mortal, handle) for _ in range(3)] == [expected] * 3
    assert here(mortal, 0) == full(OLD)


def release(pair: Pair, handle: Any) -> None:
    pair.sender.release_xfer_handle(handle)


def remove(pair: Pair, handle: Any) -> None:
    pair.sender.remove_remote_agent(pair.peer_name)


@pytest.mark.parametrize("let_go", [release, remove])
def test_what_was_sent_lands_after_the_reader_let_go_and_the_holder_died(
    mortal: Pair, let_go: Callable[[Pair, Any], None]
) -> None:
    """A holder that is known to be dead is no fence: only what NIXL answers after its death is."""
    handle = Reads(mortal).posted(b"never")
    let_go(mortal, handle)
    mortal.send_ahead(handle)
    mortal.kill()
    mortal.source[:] = 0
    until(mortal, lambda: here(mortal, 0) == full(OLD))


def test_a_done_read_stays_done_when_its_holder_dies(mortal: Pair) -> None:
    handle = Reads(mortal).read([0], [0], b"read")
    complete(mortal, handle)
    mortal.kill()
    assert {said(mortal, handle) for _ in range(3)} == {"DONE"}
    fails(mortal, handle)


def test_one_holders_death_is_nothing_to_a_read_from_another(mortal: Pair) -> None:
    reads = Reads(mortal)
    other = mortal.other()
    others = Reads(other)
    kept = others.begun(b"kept")
    lost = reads.read([0], [0])
    mortal.kill()
    fails(mortal, lost)
    assert said(mortal, kept) == "PROC"
    other.let_go()
    assert answer(other, kept) == "DONE"
    assert landed(other, OLD) == SIZE
    arrives(other, b"kept")


def test_a_restarted_holder_must_be_removed_and_added(mortal: Pair) -> None:
    reads = Reads(mortal)
    reads.connect()
    in_flight, never_posted = reads.posted(b"never"), reads.read([1], [1])
    mortal.kill()
    mortal.restart()
    mortal.fill(0, PAGES, NEW)
    raises(mortal, Kind.NOT_ALLOWED, lambda: mortal.sender.add_remote_agent(mortal.metadata()))
    raises(mortal, Kind.REMOTE_DISCONNECT, lambda: answer(mortal, in_flight))
    fails(mortal, reads.read([2], [2]))
    mortal.sender.remove_remote_agent(mortal.peer_name)
    mortal.sender.add_remote_agent(mortal.metadata())
    raises(mortal, Kind.REMOTE_DISCONNECT, lambda: answer(mortal, in_flight))
    raises(mortal, Kind.NOT_FOUND, lambda: mortal.sender.transfer(never_posted))
    raises(mortal, Kind.NOT_FOUND, lambda: reads.read([3], [3]))
    assert not mortal.source.any()
    again = Reads(mortal, add=False)
    mortal.fill(0, PAGES, NEW)
    complete(mortal, again.read([4], [4], b"hello again"))
    assert here(mortal, 4) == full(NEW)
    arrives(mortal, b"hello again")


def test_a_read_unchecked_until_its_holder_was_removed_is_not_found(mortal: Pair) -> None:
    handle = Reads(mortal).posted()
    mortal.kill()
    mortal.restart()
    mortal.sender.remove_remote_agent(mortal.peer_name)
    mortal.sender.add_remote_agent(mortal.metadata())
    raises(mortal, Kind.NOT_FOUND, lambda: mortal.sender.check_xfer_state(handle))


# ---------------------------------------------------------------------------------------------------- letting go


def lands_in_reused_pages(pair: Pair, let_go: Callable[[Pair, Any], None]) -> None:
    """The reader lets go of a READ in flight and reuses its pages; the holder refills its own, and sends on."""
    handle = Reads(pair).begun(b"never")
    let_go(pair, handle)
    pair.source[:] = 0
    pair.fill(0, PAGES, NEW)
    pair.let_go()
    until(pair, partial(some(NEW), pair))
    nothing_arrives(pair)


def release_and_deregister(pair: Pair, handle: Any) -> None:
    pair.sender.release_xfer_handle(handle)
    pair.sender.deregister_memory(pair.registration)


def release_and_remove(pair: Pair, handle: Any) -> None:
    pair.sender.release_xfer_handle(handle)
    pair.sender.remove_remote_agent(pair.peer_name)


@pytest.mark.parametrize("let_go", [release, remove, release_and_remove, release_and_deregister])
def test_a_read_that_the_reader_let_go_of_lands_in_its_reused_pages(
    pair: Pair, let_go: Callable[[Pair, Any], None]
) -> None:
    lands_in_reused_pages(pair, let_go)


def test_a_read_of_which_the_last_reference_is_dropped_lands_as_well(pair: Pair) -> None:
    handle = Reads(pair).posted(b"never")
    del handle
    pair.fill(0, 1, NEW)
    pair.let_go()
    until(pair, lambda: here(pair, 0) == full(NEW))
    nothing_arrives(pair)


def test_deregistering_its_pages_stops_no_read(pair: Pair) -> None:
    handle = Reads(pair).begun(b"read")
    pair.sender.deregister_memory(pair.registration)
    pair.fill(0, PAGES, NEW)
    pair.let_go()
    assert answer(pair, handle) == "DONE"
    assert landed(pair, OLD) + landed(pair, NEW) == SIZE
    arrives(pair, b"read")


def test_a_read_released_while_its_holder_is_stopped_lands_when_it_goes_on(mortal: Pair) -> None:
    reads = Reads(mortal)
    reads.connect()
    mortal.stop()
    handle = reads.read([0], [0], b"never")
    assert mortal.sender.transfer(handle) == "PROC"
    mortal.sender.release_xfer_handle(handle)
    never(mortal, lambda: bool(mortal.source.any()))
    mortal.cont()
    until(mortal, lambda: here(mortal, 0) == full(OLD))
    nothing_arrives(mortal)


def test_removing_the_holder_fails_the_read_even_where_all_is_local(pair: Pair) -> None:
    handle = Reads(pair).arrived(b"never")
    pair.sender.remove_remote_agent(pair.peer_name)
    for call in (pair.sender.check_xfer_state, pair.sender.transfer):
        raises(pair, Kind.NOT_FOUND, lambda call=call: call(handle))  # type: ignore[misc]
    nothing_arrives(pair)


# ---------------------------------------------------------------------------------------------------- wrong calls


def initialize(pair: Pair, peer: str, local: tuple[int, int], remote: tuple[int, int]) -> Any:
    """A READ between an address and a number of bytes on each side."""
    ours, theirs = (pair.sender.get_xfer_descs([(address, length, 0)], "DRAM") for address, length in (local, remote))
    return pair.sender.initialize_xfer("READ", ours, theirs, peer)


def test_a_read_that_cannot_be_made_is_refused(pair: Pair) -> None:
    Reads(pair)
    ours, theirs = (int(pair.source.ctypes.data), PAGE), (pair.peer_address, PAGE)
    make = partial(initialize, pair)
    complete(pair, make(pair.peer_name, ours, theirs))
    outside = [
        (pair.peer_address + SIZE - PAGE + 1, PAGE),
        (pair.peer_address - 1, PAGE),
        (pair.peer_address, SIZE + 1),
    ]
    for remote in outside:
        raises(pair, Kind.NOT_FOUND, lambda remote=remote: make(pair.peer_name, (ours[0], remote[1]), remote))  # type: ignore[misc]
    unregistered = np.zeros(PAGE, np.uint8)
    raises(pair, Kind.NOT_FOUND, lambda: make(pair.peer_name, (unregistered.ctypes.data, PAGE), theirs))
    raises(pair, Kind.NOT_FOUND, lambda: make("nobody", ours, theirs))
    raises(pair, Kind.NOT_FOUND, lambda: make(pair.sender.name, ours, theirs))
    for length in (PAGE - 1, PAGE + 1):
        raises(pair, Kind.INVALID_PARAM, lambda length=length: make(pair.peer_name, ours, (theirs[0], length)))  # type: ignore[misc]


def test_a_prepared_read_that_cannot_be_made_is_refused(pair: Pair) -> None:
    reads = Reads(pair)
    for local, remote in (([PAGES], [0]), ([0], [PAGES]), ([0, 1], [0]), ([], []), ([-1], [0])):
        raises(pair, Kind.INVALID_PARAM, lambda local=local, remote=remote: reads.read(local, remote))  # type: ignore[misc]
    make, only = pair.sender.make_prepped_xfer, indices([0])
    raises(pair, Kind.INVALID_PARAM, lambda: make("READ", reads.remote, only, reads.local, only))
    raises(pair, Kind.INVALID_PARAM, lambda: make("READ", reads.local, only, reads.local, only))
    longer = pair.sender.prep_xfer_dlist(pair.peer_name, rows((pair.peer_address, 2 * PAGE, 0)), "DRAM")
    raises(pair, Kind.INVALID_PARAM, lambda: make("READ", reads.local, only, longer, only))


def test_a_wrong_page_within_the_registration_is_read_without_a_word(pair: Pair) -> None:
    reads = Reads(pair)
    pair.fill(1, 1, NEW)
    complete(pair, reads.read([0], [1]))
    assert here(pair, 0) == full(NEW)


def test_oneself_can_be_read(pair: Pair) -> None:
    pair.source[PAGE : 2 * PAGE] = NEW
    start = int(pair.source.ctypes.data)
    complete(pair, initialize(pair, pair.sender.name, (start, PAGE), (start + PAGE, PAGE)))
    assert here(pair, 0) == full(NEW)


def test_two_remote_pages_into_one_local_page_are_done_with_one_of_them(pair: Pair) -> None:
    reads = Reads(pair)
    pair.fill(1, 1, NEW)
    complete(pair, reads.read([0, 0], [0, 1]))
    assert here(pair, 0) in (full(OLD), full(NEW))


def test_one_remote_page_into_two_local_ones_is_done(pair: Pair) -> None:
    complete(pair, Reads(pair).read([0, 2], [0, 0]))
    assert [here(pair, number) for number in range(4)] == [full(value) for value in (OLD, 0, OLD, 0)]


def test_reading_nothing_is_done(pair: Pair) -> None:
    Reads(pair)
    handle = initialize(pair, pair.peer_name, (int(pair.source.ctypes.data), 0), (pair.peer_address, 0))
    complete(pair, handle)
    assert not pair.source.any()


def test_two_reads_into_one_page_are_both_done(pair: Pair) -> None:
    reads = Reads(pair)
    pair.fill(1, 1, NEW)
    both = [reads.read([0], [number]) for number in (0, 1)]
    for handle in both:
        assert pair.sender.transfer(handle) in ("PROC", "DONE")
    assert [answer(pair, handle) for handle in both] == ["DONE", "DONE"]
    assert here(pair, 0) in (full(OLD), full(NEW))


def test_check_before_the_post_of_a_read_raises(pair: Pair) -> None:
    handle = Reads(pair).read([0], [0])
    raises(pair, Kind.NOT_POSTED, lambda: pair.sender.check_xfer_state(handle))
    assert not pair.source.any()


# --------------------------------------------------------------------------------------------------- planted lies


class SendsWhatItHoldsLater(Fabric):
    """What was sent changes with the holder's memory."""

    def send_ahead(self, handle: ScriptedHandle, share: float = 1.0) -> None:
        """Nothing is kept."""


class DeathIsAFence(Fabric):
    """What a dead holder has sent is lost with it."""

    def kill(self, name: str) -> None:
        super().kill(name)
        for copy in self.copies_in_flight:
            if copy.link.peer.name == name:
                copy.sent, copy.underway = 0, b""


class DeadHoldersServe(Fabric):
    """A holder gives its memory away after its death."""

    def start(self, name: str, generation: int, scripted: bool) -> ScriptedAgent:
        return _AsksTheDead(self, name, generation, scripted)


class _AsksTheDead(ScriptedAgent):
    def check_xfer_state(self, handle: ScriptedHandle) -> str:
        if handle.state is HandleState.IN_FLIGHT and not handle.copy.link.peer.alive:
            handle.copy.land()
        return super().check_xfer_state(handle)


class DeathTakesWhatIsLocal(ScriptedAgent):
    """Whatever was not checked before its holder died has failed."""

    def check_xfer_state(self, handle: ScriptedHandle) -> str:
        if not (handle.told or handle.copy.link.peer.alive):
            handle.outcome = Kind.REMOTE_DISCONNECT
        return super().check_xfer_state(handle)


class OwesNothing(ScriptedAgent):
    """What is local is DONE, although the notification cannot be sent any more."""

    def check_xfer_state(self, handle: ScriptedHandle) -> str:
        if not handle.copy.link.peer.alive:
            handle.message = b""
        return super().check_xfer_state(handle)


class StopsAreNoticed(ScriptedAgent):
    def check_xfer_state(self, handle: ScriptedHandle) -> str:
        link: Link = handle.copy.link
        link.cut = link.cut or link.peer.stopped
        return super().check_xfer_state(handle)


class ReadsOnce(ScriptedAgent):
    """A READ that is posted again, as one of a stamp may be, answers with what it has read before."""

    def transfer(self, handle: ScriptedHandle, notif_msg: bytes = b"") -> str:
        again = handle.state is HandleState.DONE
        answered = super().transfer(handle, notif_msg)
        if again:
            self.fabric.copies_in_flight.remove(handle.copy)
            handle.machine.fire(HandleEvent.FINISHED)
        return answered


class DeregisteringCancels(ScriptedAgent):
    def deregister_memory(self, dereg_list: Any) -> None:
        super().deregister_memory(dereg_list)
        mine: list[Copy] = [copy for copy in self.fabric.copies_in_flight if copy.link.agent is self]
        for copy in mine:
            self.fabric.copies_in_flight.remove(copy)


class KeepsPages(ScriptedAgent):
    """What was read once from an address is read from it for ever, as by a cache."""

    def __init__(self, fabric: Fabric, name: str, generation: int, scripted: bool) -> None:
        super().__init__(fabric, name, generation, scripted)
        self._kept: dict[int, bytes] = {}

    def check_xfer_state(self, handle: ScriptedHandle) -> str:
        answered = super().check_xfer_state(handle)
        for (remote, length), (local, _) in handle.copy.pairs:
            if handle.operation == "READ" and answered == "DONE":
                kept = self._kept.setdefault(remote, ctypes.string_at(local, length))
                ctypes.memmove(local, kept, length)
        return answered


class SkipsRepeatedPages(ScriptedAgent):
    """A remote page is read once in a transfer, however often it is named."""

    def make_prepped_xfer(self, *arguments: Any) -> ScriptedHandle:
        handle = super().make_prepped_xfer(*arguments)
        handle.copy.pairs = tuple({pair[0]: pair for pair in handle.copy.pairs}.values())
        return handle


class ReleasesNotifyNobody(Fabric):
    def end(self, handle: ScriptedHandle, answer: str) -> None:
        handle.message = b""
        super().end(handle, answer)


LIES: list[tuple[str, Callable[[], Fabric], Callable[[Pair], None]]] = [
    ("done before the bytes", DoneBeforeTheBytes, test_done_means_that_all_bytes_are_local),
    ("read at the post", with_agents(CopiesAtThePost), test_proc_with_no_byte),
    ("bytes notify", NotifiesWithTheBytes, test_the_readers_check_sends_the_notification),
    ("release cancels", ReleaseCancels, partial(lands_in_reused_pages, let_go=release)),
    ("drop cancels", ReleaseCancels, test_a_read_of_which_the_last_reference_is_dropped_lands_as_well),
    (
        "deregistering cancels",
        with_agents(DeregisteringCancels),
        partial(lands_in_reused_pages, let_go=release_and_deregister),
    ),
    ("sent later", SendsWhatItHoldsLater, test_a_refill_after_the_holder_has_sent_is_not_read),
    (
        "death is a fence",
        DeathIsAFence,
        partial(test_what_was_sent_lands_after_the_reader_let_go_and_the_holder_died, let_go=release),
    ),
    (
        "what was sent is lost",
        DeathIsAFence,
        partial(test_what_was_sent_before_the_kill_lands_after_it, message=b"", expected="DONE"),
    ),
    (
        "dead holders serve",
        DeadHoldersServe,
        test_a_holder_killed_in_flight_fails_the_read_and_nothing_lands_after_the_error,
    ),
    (
        "death takes what is local",
        with_agents(DeathTakesWhatIsLocal),
        partial(test_what_is_local_before_the_kill_is_done_unless_a_notification_is_owed, message=b"", expected="DONE"),
    ),
    (
        "nothing is owed",
        with_agents(OwesNothing),
        partial(
            test_what_is_local_before_the_kill_is_done_unless_a_notification_is_owed,
            message=b"owed",
            expected=DISCONNECTED,
        ),
    ),
    ("a stop is noticed", with_agents(StopsAreNoticed), test_a_stopped_holder_is_proc_and_then_read_as_it_is),
    ("read once", with_agents(ReadsOnce), test_a_done_read_that_is_posted_again_reads_again),
    (
        "releases are mute",
        ReleasesNotifyNobody,
        test_the_release_of_a_complete_read_that_nobody_checked_sends_the_notification,
    ),
    ("stamps are kept", with_agents(KeepsPages), test_a_stamp_read_in_the_middle_of_a_refill_is_bumped_already),
    (
        "repeated pages are skipped",
        with_agents(SkipsRepeatedPages),
        test_one_remote_page_into_two_local_ones_is_done,
    ),
]


@pytest.mark.parametrize(("fabric", "behaviour"), [lie[1:] for lie in LIES], ids=[lie[0] for lie in LIES])
def test_the_suite_catches_a_lie_about_reads(
    fabric: Callable[[], Fabric], behaviour: Callable[[Pair], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.kit.vocabulary.WAIT_S", 0.3)
    behaviour(ScriptedPair())
    with pytest.raises(AssertionError):
        behaviour(ScriptedPair(fabric()))


# --------------------------------------------------------------------- what only the scripted side can be asked for


def manual(message: bytes = b"") -> tuple[ScriptedPair, ScriptedHandle]:
    """A READ of two pages that is posted, on a fabric that does nothing by itself."""
    pair = ScriptedPair(Fabric(automatic=False))
    handle: ScriptedHandle = Reads(pair).read([0, 1], [0, 1], message)
    assert pair.sender.transfer(handle) == "PROC"
    return pair, handle


def test_all_may_be_local_and_proc() -> None:
    """As over shared memory, where the reader has copied everything and waits for its holder."""
    pair, handle = manual(b"read")
    pair.fabric.begin(handle, 1.0)
    assert landed(pair, OLD) == 2 * PAGE
    assert [said(pair, handle) for _ in range(3)] == ["PROC"] * 3
    assert pair.notifs() == []
    pair.fabric.finish(handle)
    assert said(pair, handle) == "DONE"
    assert pair.notifs() == [("sender", b"read")]


def test_what_is_sent_ahead_lands_in_its_order() -> None:
    pair, handle = manual()
    pair.fabric.begin(handle, 0.25)
    pair.fabric.send_ahead(handle, 0.75)
    pair.fill(0, 2, NEW)
    assert landed(pair, OLD) == PAGE // 2
    pair.fabric.begin(handle, 0.5)
    pair.fabric.finish(handle)
    assert pair.source[: PAGE * 3 // 2].tolist() == [OLD] * (PAGE * 3 // 2)
    assert pair.source[PAGE * 3 // 2 : 2 * PAGE].tolist() == [NEW] * (PAGE // 2)
    assert said(pair, handle) == "DONE"


def test_what_was_sent_in_part_lands_with_the_error() -> None:
    pair, handle = manual()
    seen: list[tuple[int, bool]] = []
    pair.fabric.on_landed = lambda _, count, whole: seen.append((count, whole))
    pair.fabric.send_ahead(handle, 0.5)
    pair.kill()
    raises(pair, Kind.REMOTE_DISCONNECT, lambda: pair.sender.check_xfer_state(handle))
    assert (landed(pair, OLD), seen) == (PAGE, [(PAGE, False)])
    pair.source[:] = 0
    assert pair.fabric.land_late("sender", "peer") == 0
    assert not pair.source.any()


def test_an_error_of_a_dead_holder_is_the_end_of_its_siblings_bytes() -> None:
    pair, handle = manual()
    sibling: ScriptedHandle = Reads(pair).read([4], [4])
    pair.sender.transfer(sibling)
    pair.fabric.send_ahead(handle)
    pair.sender.release_xfer_handle(handle)
    pair.kill()
    raises(pair, Kind.REMOTE_DISCONNECT, lambda: pair.sender.check_xfer_state(sibling))
    assert landed(pair, OLD) == 2 * PAGE
    assert pair.fabric.land_late("sender", "peer") == 0


def test_a_dead_a_stopped_or_a_lost_holder_sends_nothing_ahead() -> None:
    for stop in (ScriptedPair.kill, ScriptedPair.stop, ScriptedPair.lose_connection):
        pair, handle = manual()
        stop(pair)
        pair.fabric.send_ahead(handle)
        assert handle.copy.underway == b""


def test_a_write_has_no_holder_that_sends_ahead() -> None:
    pair = ScriptedPair(Fabric(automatic=False))
    handle: ScriptedHandle = Pages(pair).write(0, NEW)
    pair.sender.transfer(handle)
    pair.fabric.send_ahead(handle)
    pair.source[:PAGE] = OLD
    pair.fabric.finish(handle)
    assert content(pair.read(0, PAGE)) == full(OLD)
