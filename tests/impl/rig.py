"""A prefill side and decode sides on torch memory, on the scripted fabric or on real agents of one process."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pytest
import torch

from kvsender_nixl.buffers import AuxBuffers, KVPool
from kvsender_nixl.exchange import TransferInfo
from kvsender_nixl.initiator import Initiator
from kvsender_nixl.prefill import Prefill
from kvsender_nixl.receiver import Decode, KVReceiver
from kvsender_nixl.sender import KVSender, SenderOptions
from kvsender_nixl.witness import ProcessIdentity
from kvsender_spec.contract import KVPoll, KVTransferError
from kvsender_spec.faults import Fault, Kind, Point
from kvsender_spec.kit.scripted.fabric import Fabric, ScriptedAgent, ScriptedHandle
from kvsender_spec.machine import Profile

LAYERS: Final = 2
PAGES: Final = 8
SLOTS: Final = 4
ERRORS: Final = (*Fabric().errors.values(), RuntimeError)


class ManualClock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def memory(seed: int | None, pages: int = PAGES) -> tuple[KVPool, AuxBuffers]:
    """K pages of 2 x 3 bfloat16, V pages of 4 int8, aux slots of 2 float32 and of 1 int64; zeros without a seed."""

    def filled(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        if seed is None:
            return torch.zeros(shape, dtype=dtype)
        generator = torch.Generator().manual_seed(seed * 100 + len(shape))
        return torch.randint(1, 100, shape, generator=generator).to(dtype)

    k = [filled((pages, 2, 3), torch.bfloat16) for _ in range(LAYERS)]
    v = [filled((pages, 4), torch.int8) for _ in range(LAYERS)]
    return KVPool(k, v), AuxBuffers([filled((SLOTS, 2), torch.float32), filled((SLOTS,), torch.int64)])


def ids(*pages: int) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    return np.array(pages, np.int32)


@dataclass
class Side:
    """One decode side of the rig."""

    agent: Any
    pool: KVPool
    aux: AuxBuffers
    decode: Decode[Any, Any]


@dataclass
class Rig:
    """``spawned`` collects background work where ``inline`` is False; run it with ``run_spawned``."""

    profile: Profile = Profile.FULL
    automatic: bool = True
    inline: bool = True
    drops_metadata: bool = False
    peers: tuple[str, ...] = ("decode0",)
    error_ends_reads: bool = False
    pages: int = PAGES
    ended: str | None = None
    """The evidence that the prefill side's process has ended, as the decode sides find it."""
    ended_peers: dict[ProcessIdentity, str] = field(default_factory=dict)
    """The evidence that processes of decode sides have ended, as the prefill side finds it."""
    spawned: list[Callable[[], None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.fabric = Fabric(automatic=self.automatic, drops_metadata=self.drops_metadata)
        self.clock = ManualClock()
        self.agent: ScriptedAgent = self.fabric.agent("prefill", scripted=True)
        self.pool, self.aux = memory(1, self.pages)
        options = SenderOptions(self.profile, 30.0, 5.0, 60.0, self.error_ends_reads)
        # The scripted agent answers bytes to add_remote_agent, as the real one does against its annotation.
        transport: Any = self.agent
        self.prefill: Prefill[Any, Any] = Prefill(
            transport,
            self.pool,
            self.aux,
            options,
            clock=self.clock,
            transport_errors=ERRORS,
            spawn=self._spawn,
            look=lambda process: self.ended_peers.get(process),
        )
        self.decodes: dict[str, Side] = {}
        for name in self.peers:
            self.start(name)
            self.prefill.register_peer(self.decodes[name].decode.metadata())

    def _spawn(self, work: Callable[[], None]) -> None:
        if self.inline:
            work()
        else:
            self.spawned.append(work)

    def run_spawned(self) -> None:
        work, self.spawned[:] = list(self.spawned), []
        for each in work:
            each()

    def start(self, name: str) -> Side:
        """Start, or restart, a decode process; it has not registered with the prefill side yet."""
        agent: Any = self.fabric.agent(name)
        pool, aux = memory(None, self.pages)
        decode: Decode[Any, Any] = Decode(
            agent,
            pool,
            aux,
            clock=self.clock,
            transport_errors=ERRORS,
            spawn=self._spawn,
            look=lambda _: self.ended,
        )
        self.decodes[name] = Side(agent, pool, aux, decode)
        return self.decodes[name]

    def introduce(self) -> None:
        """The decode sides know the prefill side, and are connected to it."""
        for side in self.decodes.values():
            side.decode.add_initiator(self.prefill.introduction())

    def talk(self, seconds: float = 0.0) -> None:
        """Each side reads what the other has said until then, and what it answers."""
        self.clock.now += seconds
        for _ in range(2):
            self.drain()
            self.prefill.drain()
        self.drain()

    def infos(
        self, room: int, pages: tuple[int, ...], aux: int | None = 1
    ) -> dict[str, tuple[KVReceiver, TransferInfo]]:
        made = {}
        for name, side in self.decodes.items():
            receiver = side.decode.receiver(room, "prefill")
            made[name] = (receiver, receiver.init(ids(*pages), aux, required_dst_info_num=len(self.decodes)))
        return made

    def open(
        self, room: int = 7, pages: tuple[int, ...] = (5, 6, 7), aux: int | None = 2
    ) -> tuple[KVSender[Any, Any], list[KVReceiver]]:
        """A sender that has been initialised, and the receivers, which want the pages at ``pages`` and the aux at 1."""
        receivers = []
        for receiver, info in self.infos(room, pages, None if aux is None else 1).values():
            self.prefill.add_transfer_info(info)
            receivers.append(receiver)
        sender = self.prefill.sender(room)
        sender.init(len(pages), aux)
        return sender, receivers

    def arm(self, point: Point, kind: Kind, nth: int = 0) -> None:
        self.fabric.plan.arm(Fault(point, kind, nth))

    def flying(self) -> list[ScriptedHandle]:
        return self.fabric.in_flight("prefill")

    def drain(self) -> None:
        for side in self.decodes.values():
            side.decode.drain()

    def same_bytes(self, name: str, source: tuple[int, ...], target: tuple[int, ...]) -> bool:
        side = self.decodes[name]
        ours = (*self.pool.k_buffers, *self.pool.v_buffers)
        theirs = (*side.pool.k_buffers, *side.pool.v_buffers)
        return all(torch.equal(a[list(source)], b[list(target)]) for a, b in zip(ours, theirs, strict=True))

    def same_aux(self, name: str, source: int, target: int) -> bool:
        pairs = zip(self.aux.tensors, self.decodes[name].aux.tensors, strict=True)
        return all(torch.equal(a[source], b[target]) for a, b in pairs)


def failure(sender: KVSender[Any, Any]) -> KVTransferError:
    with pytest.raises(KVTransferError) as caught:
        sender.failure_exception()
    return caught.value


def released_once(rig: Rig) -> bool:
    """Every handle of the prefill side is released, none twice and none by the garbage collector (KS-4.3)."""
    gc.collect()
    made = {event.handle for event in rig.fabric.events if event.agent == "prefill" and event.answer == "made"}
    releases = [event for event in rig.fabric.events if event.agent == "prefill" and event.point is Point.RELEASE]
    given_back = [event.handle for event in releases if event.answer == "released"]
    return sorted(given_back, key=str) == sorted(made, key=str) and not rig.fabric.handle_misuses


def end(sender: Initiator[Any, Any], polls: int = 20) -> KVPoll:
    """Poll until the answer is terminal."""
    for _ in range(polls):
        if (answer := sender.poll()).terminal:
            return answer
    raise AssertionError("not terminal")
