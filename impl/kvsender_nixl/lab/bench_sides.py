"""The two sides of the bench: a peer that owns a pool, and a front beside the bare calls that do the same.

The front is a prefill side, which WRITEs into the peer's pool, or a decode side, which READs from it. Bare means the
best way known from the same page ids: the whole pool prepared once as descriptors, then one broadcast to int32 indices
for each side and ``make_prepped_xfer``; a WRITE has a notification, which was ready before the clock started.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count, repeat
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from kvsender_nixl.agent import create_agent
from kvsender_nixl.buffers import Stamps
from kvsender_nixl.exchange import Grant, PeerMetadata, TransferInfo
from kvsender_nixl.lab.memory import Arrays
from kvsender_nixl.lab.process import serve
from kvsender_nixl.notifications import ChunkNotification
from kvsender_nixl.prefill import Prefill
from kvsender_nixl.pull import PullDecode
from kvsender_nixl.side import SenderOptions
from kvsender_nixl.transfers import DONE, PROC
from kvsender_spec.contract import INIT_AGENT, DlistT, HandleT, KVPoll, Operation, Transport
from kvsender_spec.history.recording_agent import Through

if TYPE_CHECKING:
    from nixl._api import nixl_prepped_dlist_handle, nixl_xfer_handle
    from numpy.typing import NDArray

    from kvsender_nixl.initiator import Initiator

    Ids: TypeAlias = NDArray[np.int32]
    NixlInitiator: TypeAlias = Initiator[nixl_prepped_dlist_handle, nixl_xfer_handle]
    NixlTransport: TypeAlias = Transport[nixl_prepped_dlist_handle, nixl_xfer_handle]
    Wrap: TypeAlias = "Callable[[Measured], Measured]"
    Bind: TypeAlias = Callable[[int, Ids], tuple[NixlInitiator, Callable[[Ids], None]]]

REGIONS: Final = 64
"""32 layers of K and V."""
NUM_PAGES: Final = 1024
ITEM_BYTES: Final = 256
"""So few that what is measured is the calls and not the copying."""
MAX_ASKED: Final = 10_000_000
"""How often a transfer or a room is asked before it counts as hung: some ten seconds."""


class Unmeasured(Exception):
    """Something did not go as it must for its time to mean anything."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What is called of the initiator of a room: send() or read(), poll() and clear()."""

    hand_over: Callable[[Ids], None]
    poll: Callable[[], KVPoll]
    clear: Callable[[], None]


def unwrapped(measured: Measured) -> Measured:
    return measured


def make_pool() -> Arrays:
    """The pages of one side: one array, cut into regions. Written, so that the memory is really there."""
    return Arrays([*np.ones((REGIONS, NUM_PAGES, ITEM_BYTES), np.uint8)])


def run_peer(name: str) -> None:
    """Own a pool and its stamps, answer any request with the ``PeerMetadata``, and drain notifications until this side
    hangs up."""
    agent, pool, stamps = create_agent(name), make_pool(), Stamps(NUM_PAGES)
    for layout in (pool.layout, stamps.layout):
        agent.register_memory(layout.registrations(), layout.mem_type)
    metadata = PeerMetadata(name, agent.get_agent_metadata(), pool.layout, stamps.layout)

    def answer(_: None) -> PeerMetadata:
        return metadata

    def idle() -> None:
        agent.get_new_notifs()

    serve(answer, idle, idle_period_s=0.0)


class Unposted(Through[DlistT, HandleT]):
    """An agent of which all is real but the post: ``transfer`` answers DONE and reaches no NIXL.

    So what comes before the post can be taken by itself, of ours and of the bare calls alike.
    """

    def transfer(self, handle: HandleT) -> str:  # noqa: ARG002 - the transport's signature
        return DONE

    def send_notif(self, remote_agent_name: str, notif_msg: bytes) -> None:
        """The peer has no part in what is not posted."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk: page ids of both sides, and a notification for the bare calls."""

    pages: Ids
    target: Ids
    notification: bytes


class Bench:
    """A front on ``transport`` that is connected to ``peer``, and the bare calls on the same transport."""

    def __init__(self, transport: NixlTransport, peer: PeerMetadata, wrap: Wrap, operation: Operation) -> None:
        self._pool: Final = make_pool()
        self._peer: Final = peer
        self._wrap: Final = wrap
        self._operation: Final[Operation] = operation
        self._room_ids: Final = count()
        options = SenderOptions(transfer_timeout_s=600.0)
        if operation == "WRITE":
            self._bind = self._writing(Prefill(transport, self._pool, None, options))
        else:
            self._bind = self._reading(PullDecode(transport, self._pool, options))
        self.transport: Final = transport
        self._local: Final = transport.prep_xfer_dlist(INIT_AGENT, self._pool.layout.rows(), "DRAM")
        self._remote: Final = transport.prep_xfer_dlist(peer.agent_name, peer.kv.rows(), "DRAM")

    def _writing(self, prefill: Prefill[nixl_prepped_dlist_handle, nixl_xfer_handle]) -> Bind:
        prefill.register_peer(replace(self._peer, aux=None))

        def bind(room: int, pages: Ids) -> tuple[NixlInitiator, Callable[[Ids], None]]:
            prefill.add_transfer_info(TransferInfo(room, f"bench-{room}", self._peer.agent_name, pages))
            sender = prefill.sender(room)
            return sender, sender.send

        return bind

    def _reading(self, decode: PullDecode[nixl_prepped_dlist_handle, nixl_xfer_handle]) -> Bind:
        decode.register_peer(self._peer)

        def bind(room: int, pages: Ids) -> tuple[NixlInitiator, Callable[[Ids], None]]:
            stamps = np.zeros(len(pages), np.uint64)  # the peer never refills
            decode.add_transfer_info(Grant(room, f"bench-{room}", self._peer.agent_name, pages, stamps=stamps))
            reader = decode.reader(room)
            return reader, reader.read

        return bind

    def chunks(self, scattered: bool, *sizes: int) -> list[Chunk]:
        """The chunks of one room. Of scattered pages hardly two are neighbours on both sides, so that none merge."""
        total = sum(sizes)
        here = there = np.arange(total, dtype=np.int32)
        if scattered:
            random = np.random.default_rng(total)
            here, there = (random.permutation(NUM_PAGES)[:total].astype(np.int32) for _ in range(2))
        ends = np.cumsum(sizes)[:-1]
        return [
            Chunk(pages, target, ChunkNotification(0, "bench-0", number).to_bytes() * (self._operation == "WRITE"))
            for number, (pages, target) in enumerate(zip(np.split(here, ends), np.split(there, ends), strict=True))
        ]

    def open(self, chunks: list[Chunk]) -> Measured:
        """A room that waits for these chunks."""
        target = np.concatenate([chunk.target for chunk in chunks])
        initiator, hand_over = self._bind(next(self._room_ids), target)
        initiator.init(len(target))
        if (answer := initiator.poll()) is not KVPoll.WaitingForInput:
            raise Unmeasured(f"a new room says {answer!r}")
        return self._wrap(Measured(hand_over, initiator.poll, initiator.clear))

    def indices(self, chunk: Chunk) -> tuple[Ids, Ids]:
        """The least that has to be done about page ids before a bare call: one broadcast for each side."""
        return self._pool.layout.indices(chunk.pages), self._peer.kv.indices(chunk.target)

    def make(self, chunk: Chunk) -> nixl_xfer_handle:
        local, remote = self.indices(chunk)
        return self.transport.make_prepped_xfer(
            self._operation, self._local, local, self._remote, remote, chunk.notification
        )

    def make_and_post(self, chunk: Chunk) -> tuple[nixl_xfer_handle, str]:
        handle = self.make(chunk)
        return handle, self.transport.transfer(handle)

    def settle(self, handle: nixl_xfer_handle, answer: str) -> None:
        """Wait for a bare transfer, whose post had this ``answer``, and release it."""
        if answer == PROC:
            check = self.transport.check_xfer_state
            for _ in repeat(None, MAX_ASKED):
                answer = check(handle)
                if answer != PROC:
                    break
        if answer != DONE:
            raise Unmeasured(f"a bare transfer says {answer!r}")
        self.transport.release_xfer_handle(handle)


def complete(room: Measured) -> None:
    """Poll until the room is complete. As the chunks' calls do not raise, only this shows that they have worked."""
    answer = KVPoll.Transferring
    for _ in repeat(None, MAX_ASKED):
        answer = room.poll()
        if answer is not KVPoll.Transferring:
            break
    if answer is not KVPoll.Success:
        raise Unmeasured(f"a room that must be complete says {answer!r}")
