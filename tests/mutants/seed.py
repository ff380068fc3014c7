"""The sender of SGLang's pull request 24296, before and after: its rules in our words, as two small senders.

Rules of the pull request: the first transport error is latched; from then on poll() answers Failed, send() does nothing
and failure_exception() raises the original error; three classes are the transport's, and only they are caught.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, NoReturn

from tests.mutants.inline import BACKEND, CANCELLED, REMOTE_DISCONNECT, Prefill

from kvsender_spec.contract import KVPoll, KVUsageError
from kvsender_spec.faults import STAND_INS
from kvsender_spec.kit.adapter import RoomPlan, World
from kvsender_spec.kit.scripted.fabric import ScriptedHandle
from kvsender_spec.machine import Profile


class BeforeTheFix:
    """Posts in send() and checks in poll(); whatever the transport raises goes to the scheduler.

    sglang #24296. Bug B16 of the field catalogue.
    """

    caught: ClassVar[tuple[type[Exception], ...]] = ()
    breaks: ClassVar = "KS-1.1"

    def __init__(self, system: Prefill, plan: RoomPlan) -> None:
        self.system = system
        self.plan = plan
        self.xfer_handles: list[ScriptedHandle] = []
        self.curr_idx = 0
        self.is_last = False
        self._send_failed = False
        self._send_error: Exception | None = None

    def send(self, kv_indices: Sequence[int]) -> None:
        if self._send_failed:
            return
        first = self.curr_idx
        self.curr_idx += len(kv_indices)
        self.is_last = self.curr_idx == self.plan.num_pages
        try:
            self.xfer_handles += self.add_transfer_request(kv_indices, first)
        except self.caught as error:
            self._fail(error)

    def add_transfer_request(self, kv_indices: Sequence[int], first: int) -> list[ScriptedHandle]:
        system, handles = self.system, []
        for target in self.plan.destinations:
            if target.dummy:
                continue
            handle = system.agent.make_prepped_xfer(
                "WRITE",
                system.local,
                system.indices(kv_indices, self.plan.aux_index if self.is_last else None),
                system.remote[target.peer.name],
                system.indices(
                    target.pages[first : first + len(kv_indices)], target.aux_index if self.is_last else None
                ),
                b"progress|%d|%d|" % (self.plan.room, self.plan.incarnation),
            )
            system.agent.transfer(handle)
            handles.append(handle)
        return handles

    def poll(self) -> KVPoll:
        if self._send_failed:
            return KVPoll.Failed
        if not self.is_last:
            return KVPoll.WaitingForInput
        try:
            states = [self.system.agent.check_xfer_state(handle) for handle in self.xfer_handles]
        except self.caught as error:
            self._fail(error)
            return KVPoll.Failed
        return KVPoll.Success if all(state == "DONE" for state in states) else KVPoll.WaitingForInput

    def failure_exception(self) -> NoReturn:
        if self._send_error is None:
            raise KVUsageError(f"room {self.plan.room} has not failed")
        raise self._send_error

    def _fail(self, error: Exception) -> None:
        self._send_failed = True
        self._send_error = error


class AfterTheFix(BeforeTheFix):
    """The pull request to the letter. ``nixlNotFoundError`` is not one of its three classes.

    sglang #23551. Bug B17 of the field catalogue.
    """

    caught: ClassVar[tuple[type[Exception], ...]] = (REMOTE_DISCONNECT, BACKEND, CANCELLED)
    breaks: ClassVar = "KS-1.2"


class SeedSystem(Prefill):
    """The prefill side for either; it has no quarantine and no ledger of its own."""

    def __init__(self, world: World, seed_class: type[BeforeTheFix]) -> None:
        super().__init__(world)
        self.seed_class = seed_class

    def sender(self, plan: RoomPlan) -> BeforeTheFix:
        return self.seed_class(self, plan)


class SeedAdapter:
    profile = Profile.LATCH
    errors: Mapping[str, type[Exception]] = STAND_INS
    usage_errors: tuple[type[Exception], ...] = (KVUsageError,)

    def __init__(self, seed_class: type[BeforeTheFix]) -> None:
        self.name = seed_class.__name__
        self.seed_class = seed_class

    def open(self, world: World) -> SeedSystem:
        return SeedSystem(world, self.seed_class)


before_the_fix = SeedAdapter(BeforeTheFix)
after_the_fix = SeedAdapter(AfterTheFix)
