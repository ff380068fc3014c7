"""The reference sender, as the conformance kit sees it: ``kvsender check kvsender_nixl.adapter:adapter``.

The sender runs unchanged; only its transport, its clock and its memory are the kit's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import numpy as np
import torch

from kvsender_nixl.agent import ERROR_CLASSES
from kvsender_nixl.buffers import AuxBuffers, KVPool
from kvsender_nixl.exchange import PeerMetadata, TransferInfo
from kvsender_nixl.front import Front
from kvsender_nixl.initiator import Initiator
from kvsender_nixl.notifications import (
    AuxNotification,
    ChunkNotification,
    FailureNotification,
    QuiescedNotification,
    StateNotification,
    parse_notification,
)
from kvsender_nixl.prefill import Prefill
from kvsender_nixl.sender import KVSender, SenderOptions
from kvsender_nixl.side import KVTransferMetric
from kvsender_nixl.status import AbortRequest
from kvsender_spec.contract import Attribution, KVPoll, KVTransferError, KVUsageError
from kvsender_spec.faults import STAND_INS
from kvsender_spec.kit.adapter import Memory, Notification, NotificationKind, Peer, RoomPlan, World
from kvsender_spec.kit.scripted.fabric import ScriptedDlist, ScriptedHandle
from kvsender_spec.machine import Profile

if TYPE_CHECKING:
    from numpy.typing import NDArray

FrontT = TypeVar("FrontT", bound="Front[ScriptedDlist, ScriptedHandle]")


def kv_pool(memory: Memory) -> KVPool:
    """The kit's bytes as torch tensors; its regions are K and V of each layer in turn."""
    kv = [
        torch.frombuffer(region, dtype=torch.uint8).view(-1, size)
        for region, size in zip(memory.kv, memory.PAGE_BYTES, strict=True)
    ]
    return KVPool(kv[::2], kv[1::2])


def buffers(memory: Memory) -> tuple[KVPool, AuxBuffers]:
    aux = [
        torch.frombuffer(region, dtype=torch.uint8).view(-1, size)
        for region, size in zip(memory.aux, memory.AUX_BYTES, strict=True)
    ]
    return kv_pool(memory), AuxBuffers(aux)


def _metadata(peer: Peer) -> PeerMetadata:
    pool, aux = buffers(peer.memory)
    return PeerMetadata(peer.name, peer.agent.get_agent_metadata(), pool.layout, aux.layout, incarnation(peer))


def incarnation(peer: Peer) -> str:
    """Which process of the peer's name this is, in the words of the reference."""
    return f"process-{peer.generation}"


def attribution(error: BaseException) -> Attribution | None:
    """Who caused what ``failure_exception`` raised."""
    return error.attribution if isinstance(error, KVTransferError) else None


def read_notification(message: bytes) -> Notification | None:
    """A notification in the kit's words; None for one that says nothing of bytes. Raises ValueError for any other
    message."""
    notification = parse_notification(message)
    if isinstance(notification, StateNotification):
        return None
    if isinstance(notification, FailureNotification):
        return Notification(
            NotificationKind.FAILURE,
            notification.room,
            int(notification.token),
            notification.reason,
            notification.quiesced,
        )
    if isinstance(notification, QuiescedNotification):
        return Notification(NotificationKind.QUIESCED, notification.room, int(notification.token))
    progress = isinstance(notification, (ChunkNotification, AuxNotification))
    kind = NotificationKind.PROGRESS if progress else NotificationKind.SUCCESS
    return Notification(kind, notification.room, int(notification.token))


class InKitsWords:
    """What is the same for a sender and a reader: the kit calls them as they are."""

    def __init__(self, initiator: Initiator[ScriptedDlist, ScriptedHandle]) -> None:
        self.poll: Final[Callable[[], KVPoll]] = initiator.poll
        self.failure_exception: Final = initiator.failure_exception
        self.abort: Final = initiator.abort
        self.clear: Final = initiator.clear
        self.get_transfer_metric: Final[Callable[[], KVTransferMetric]] = initiator.get_transfer_metric


def pages(kv_indices: Sequence[int]) -> NDArray[np.int32]:
    """The kit's plain list of page ids. What is not an int stays as it is, to be refused."""
    whole = all(isinstance(page, int) for page in kv_indices)
    return np.array(kv_indices, dtype=np.int32) if whole else np.array(kv_indices)


class ListSender(InKitsWords):
    """A sender that takes the kit's plain lists of page ids."""

    def __init__(self, sender: KVSender[ScriptedDlist, ScriptedHandle]) -> None:
        super().__init__(sender)
        self._sender: Final = sender

    def send(self, kv_indices: Sequence[int]) -> None:
        self._sender.send(pages(kv_indices))


class SystemOf(Generic[FrontT]):
    """What is the same for both directions: one side, in the kit's words."""

    takes_new_names: Final = True

    def __init__(self, front: FrontT) -> None:
        self._front: Final = front
        self.settle: Final = front.sweep
        self.quarantined_pages: Final[Callable[[], frozenset[int]]] = front.quarantined_pages
        self.residue: Final[Callable[[], int]] = front.residue

    def attribution(self, error: BaseException) -> Attribution | None:
        return attribution(error)

    def target_aborts(self, plan: RoomPlan, peer: Peer) -> None:
        self._front.peer_aborts(AbortRequest(plan.room, str(plan.incarnation), peer.name, incarnation(peer)))

    def read_notification(self, message: bytes) -> Notification | None:
        return read_notification(message)


class ReferenceSystem(SystemOf[Prefill[ScriptedDlist, ScriptedHandle]]):
    """One prefill side of the reference sender."""

    takes_parts: Final = True

    def __init__(self, world: World, options: SenderOptions, errors: Mapping[str, type[Exception]]) -> None:
        pool, aux = buffers(world.memory)
        super().__init__(
            Prefill(
                world.transport,
                pool,
                aux,
                options,
                clock=world.clock,
                transport_errors=(*errors.values(), RuntimeError),
                spawn=lambda work: work(),
            )
        )
        for peer in world.peers:
            self.reconnect(peer)

    def sender(self, plan: RoomPlan) -> ListSender:
        sender = self._bound(plan)
        sender.init(plan.num_pages, plan.aux_index)
        return ListSender(sender)

    def uninitialised(self, plan: RoomPlan) -> ListSender:
        return ListSender(self._bound(plan))

    def _bound(self, plan: RoomPlan) -> KVSender[ScriptedDlist, ScriptedHandle]:
        for target in plan.destinations:
            self._front.add_transfer_info(
                TransferInfo(
                    room=plan.room,
                    token=str(plan.incarnation),
                    agent_name=target.peer.name,
                    dst_kv_indices=np.array(target.pages, dtype=np.int32),
                    dst_aux_index=None if target.dummy else target.aux_index,
                    is_dummy=target.dummy,
                    required_dst_info_num=len(plan.destinations),
                    num_cached=0 if target.dummy else plan.num_pages - len(target.pages),
                    incarnation=incarnation(target.peer),
                )
            )
        return self._front.sender(plan.room)

    def reconnect(self, peer: Peer) -> None:
        self._front.register_peer(_metadata(peer))


def options_of(world: World, profile: Profile) -> SenderOptions:
    """The limits that the kit gives."""
    return SenderOptions(
        profile=profile, transfer_timeout_s=world.transfer_timeout_s, drain_timeout_s=world.drain_timeout_s
    )


class ReferenceAdapter:
    """The reference sender in one of its profiles. Without nixl it runs on stand-ins for NIXL's error classes."""

    errors: Final[Mapping[str, type[Exception]]] = ERROR_CLASSES or STAND_INS
    usage_errors: Final[tuple[type[Exception], ...]] = (KVUsageError,)

    def __init__(self, profile: Profile) -> None:
        self.name: Final = f"kvsender_nixl ({profile.value})"
        self.profile: Final = profile

    def open(self, world: World) -> ReferenceSystem:
        return ReferenceSystem(world, options_of(world, self.profile), self.errors)


adapter: Final = ReferenceAdapter(Profile.FULL)
latch: Final = ReferenceAdapter(Profile.LATCH)
