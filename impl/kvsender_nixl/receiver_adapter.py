"""The reference receiver, for the kit: a ``Decode`` side on the scripted agent.

``kvsender check kvsender_nixl.receiver_adapter:adapter``
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from kvsender_nixl.adapter import attribution, buffers, incarnation
from kvsender_nixl.arriving import KVReceiver
from kvsender_nixl.exchange import parse_message
from kvsender_nixl.introduction import Introduction
from kvsender_nixl.notifications import (
    ChunkNotification,
    FailureNotification,
    QuiescedNotification,
    SuccessNotification,
)
from kvsender_nixl.receiver import Decode
from kvsender_nixl.status import AbortRequest, StatusRequest
from kvsender_spec.contract import Attribution, KVUsageError, Role
from kvsender_spec.faults import STAND_INS
from kvsender_spec.history.words import Says
from kvsender_spec.kit.adapter import Peer, World
from kvsender_spec.kit.scripted.fabric import ScriptedDlist, ScriptedHandle
from kvsender_spec.kit.targets.adapter import Notice, TargetPlan
from kvsender_spec.machine import Profile

TRANSPORT_ERRORS: Final[tuple[type[Exception], ...]] = (*STAND_INS.values(), RuntimeError)


def _at_once(work: Callable[[], None]) -> None:
    work()


def _unknown(_: object) -> str | None:
    """The kit's processes are not of this host: nobody can see that one has ended."""
    return None


class ReceivingSystem:
    """One decode side, in the kit's words."""

    asks_again: Final = True

    def __init__(self, world: World) -> None:
        pool, aux = buffers(world.memory)
        self._decode: Final[Decode[ScriptedDlist, ScriptedHandle]] = Decode(
            world.transport,
            pool,
            aux,
            timeout_s=world.transfer_timeout_s,
            ask_every_s=world.drain_timeout_s,
            clock=world.clock,
            transport_errors=TRANSPORT_ERRORS,
            spawn=_at_once,
            look=_unknown,
        )
        for peer in world.peers:
            self.reconnect(peer)

    def target(self, plan: TargetPlan) -> KVReceiver:
        names = tuple(peer.name for peer in plan.initiators)
        receiver = self._decode.receiver(plan.room, names, token=str(plan.incarnation))
        receiver.init(np.array(plan.pages, dtype=np.int32), plan.aux_index)
        return receiver

    def held_pages(self) -> frozenset[int]:
        return self._decode.quarantined_pages()

    def message(self, plan: TargetPlan, peer: Peer, notice: Notice) -> bytes | None:
        del peer  # who it is, the name of its agent says
        room, token = plan.room, str(plan.incarnation)
        match notice.says:
            case Says.PROGRESS:
                return ChunkNotification(room, token, notice.part).to_bytes()
            case Says.SUCCESS:
                return SuccessNotification(room, token, notice.parts, False).to_bytes()
            case Says.FAILURE:
                return FailureNotification(room, token, notice.quiesced, notice.reason).to_bytes()
            case Says.QUIESCED:
                return QuiescedNotification(room, token).to_bytes()
            case _:
                return None

    def read_message(self, message: bytes) -> Notice | None:
        said = parse_message(message)
        if isinstance(said, StatusRequest) and not said.given_up:
            return Notice(Says.ASK, room=said.room, incarnation=int(said.token))
        if isinstance(said, AbortRequest):
            return Notice(Says.ABORT, room=said.room, incarnation=int(said.token))
        return None

    def settle(self) -> None:
        self._decode.drain()

    def fence(self, peer: Peer, generation: int) -> None:
        self._decode.fence(peer.name, f"process-{generation}")

    def reconnect(self, peer: Peer) -> None:
        self._decode.add_initiator(Introduction(peer.name, peer.agent.get_agent_metadata(), incarnation(peer), None))

    def residue(self) -> int:
        return self._decode.residue()

    def attribution(self, error: BaseException) -> Attribution | None:
        return attribution(error)


class ReceiverAdapter:
    name: Final = "reference receiver"
    profile: Final = Profile.FULL
    role: Role = "target"
    errors: Final[Mapping[str, type[Exception]]] = STAND_INS
    usage_errors: Final[tuple[type[Exception], ...]] = (KVUsageError,)

    def open(self, world: World) -> ReceivingSystem:
        return ReceivingSystem(world)


adapter: Final = ReceiverAdapter()
