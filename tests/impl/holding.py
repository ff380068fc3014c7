"""A holder and its readers on the scripted fabric. Their clocks are apart by a million seconds (KS-9.3)."""

from __future__ import annotations

from typing import Any

import torch
from tests.impl.rig import ERRORS, ManualClock, ids, memory

from kvsender_nixl.exchange import parse_message
from kvsender_nixl.held import HeldRoom
from kvsender_nixl.holder import Holder
from kvsender_nixl.holding import HolderOptions
from kvsender_nixl.notifications import (
    FailureNotification,
    Notification,
    QuiescedNotification,
    RenewNotification,
    SuccessNotification,
)
from kvsender_nixl.pull import PullDecode
from kvsender_nixl.side import SenderOptions
from kvsender_nixl.status import AbortRequest, LeaseLost
from kvsender_spec.kit.scripted.fabric import Fabric

DONE = SuccessNotification(7, "t", 1, False)
FAILED = FailureNotification(7, "t", True, "broken")
LET_GO = FailureNotification(7, "t", False, "broken")
QUIESCED = QuiescedNotification(7, "t")


class Holding:
    """One holder ``prefill`` whose pages are filled, and decode sides ``decode0``, ``decode1``, ..."""

    def __init__(
        self, readers: int = 1, *, automatic: bool = True, options: HolderOptions | None = None, exports: Any = None
    ) -> None:
        self.fabric = Fabric(automatic=automatic)
        self.clock, self.readers_clock = ManualClock(), ManualClock()
        self.readers_clock.now += 1e6
        self.agent: Any = self.fabric.agent("prefill", scripted=True)
        self.pool, _ = memory(1)
        self.holder: Holder[Any, Any] = Holder(
            self.agent,
            self.pool,
            options,
            exports=exports,
            clock=self.clock,
            transport_errors=ERRORS,
            spawn=lambda work: work(),
        )
        with self.holder.refilling(ids(*range(8))):
            pass
        self.decodes: dict[str, PullDecode[Any, Any]] = {}
        self.agents: dict[str, Any] = {}
        self.pools: dict[str, Any] = {}
        for number in range(readers):
            self.start(f"decode{number}")

    def start(self, name: str) -> None:
        """Start, or restart, a decode process, and make the two sides known to each other."""
        agent: Any = self.fabric.agent(name, scripted=True)
        pool, _ = memory(None)
        decode: PullDecode[Any, Any] = PullDecode(
            agent,
            pool,
            SenderOptions(transfer_timeout_s=20.0, drain_timeout_s=5.0),
            clock=self.readers_clock,
            transport_errors=ERRORS,
            spawn=lambda work: work(),
        )
        decode.register_peer(self.holder.metadata())
        self.agents[name], self.decodes[name], self.pools[name] = agent, decode, pool
        agent.send_notif("prefill", decode.metadata().to_bytes())
        self.holder.drain()

    def hold(self, *pages: int, room: int = 7, token: str = "t", granted: bool = True, **more: Any) -> HeldRoom:
        """Hold a room for every reader, and grant it to them, without telling them."""
        held = self.holder.hold(room, ids(*(pages or (1, 2))), tuple(self.decodes), token=token, **more)
        for name in self.decodes if granted else ():
            assert held.grant(name) is not None
        return held

    def say(self, *notices: Notification | RenewNotification, name: str = "decode0") -> None:
        for notice in notices:
            self.agent.deliver(name, notice.to_bytes())
        self.holder.drain()

    def renew(self, *rooms: tuple[int, str], name: str = "decode0") -> None:
        self.say(RenewNotification(rooms), name=name)

    def told(self, name: str = "decode0") -> list[AbortRequest]:
        """What the holder has told a reader since the last time."""
        messages = self.agents[name].get_new_notifs().get("prefill", [])
        said = [parse_message(message) for message in messages]
        return [word for word in said if isinstance(word, AbortRequest)]

    def lost(self, room: int = 7, token: str = "t") -> LeaseLost:
        return LeaseLost(room, token, "prefill")

    def refill(self, *pages: int) -> None:
        with self.holder.refilling(ids(*pages)):
            for buffer in self.pool.k_buffers:
                buffer[torch.tensor(pages)] += 1
