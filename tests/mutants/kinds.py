"""Broken senders of kinds that public bugs have and that the kit once missed.

Pages in part, errors that the sender brings about itself, first contacts, ends that are told, what is held for each
room, transfers that outlive their room's id.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Final
from weakref import WeakKeyDictionary

from tests.mutants.inline import NIXL_ERRORS, InlineAdapter, InlineSender, InlineSystem, Part

from kvsender_spec.contract import KVPoll
from kvsender_spec.kit.adapter import Destination, NotificationKind, Peer, RoomPlan, World
from kvsender_spec.machine import State

# ------------------------------------------------------------------------------------------------- pages in part


class CutsToThePeersPages(InlineSender):
    """Where a peer names fewer pages than the room has, it gets the first ones.

    SGLang 0.5.12 and 0.5.23 cut the longer of two page lists and log a warning; state that is not transferred at all is
    bug B21 of the field catalogue.
    """

    breaks: ClassVar = "KS-3.1"

    def wanted(self, target: Destination, pages: Sequence[int], first: int) -> tuple[Sequence[int], Sequence[int]]:
        theirs = target.pages[first : first + len(pages)]
        return pages[: len(theirs)], theirs


# ------------------------------------------------------------------------------ errors that the sender brings about


class AbortReconnects(InlineSender):
    """abort() connects anew to the peers of the room, and so ends what other rooms have in flight there.

    nixl #1983, as seen from SGLang: what is done about one transfer is done to the connection of all. Bug B10 of the
    field catalogue.
    """

    breaks: ClassVar = "KS-5.4"

    def abort(self) -> None:
        super().abort()
        for target in self.targets():
            self.agent.remove_remote_agent(target.peer.name)
            try:
                self.system.connect(target.peer)
            except NIXL_ERRORS:
                continue  # the peer is gone


class RegistersAnew(InlineSender):
    """abort() registers the memory anew, and so deregisters it under what is still in flight.

    sglang #38961: pages are given back while a transfer still reads them. Bug B06 of the field catalogue.
    """

    breaks: ClassVar = "KS-4.2"

    def abort(self) -> None:
        super().abort()
        self.agent.deregister_memory(self.system.registration)
        self.system.registration = self.agent.register_memory(self.system.registered, "DRAM")


class KeepsTheOldLists(InlineSystem):
    """Adds the agent of a peer that has returned, and goes on with the lists that it had prepared before.

    SGLang 0.5.23 drops a peer's prepared lists before it loads its metadata again; this sender does not. A list that is
    not found is bug B38 of the field catalogue.
    """

    breaks: ClassVar = "KS-6.3"
    takes_new_names: ClassVar = False

    def reconnect(self, peer: Peer) -> None:
        self.agent.remove_remote_agent(peer.name)
        self.agent.add_remote_agent(peer.agent.get_agent_metadata())


class KnowsThePeerByItsNumber(InlineSystem):
    """Has one prepared list for each decode side, made for the process of the first name that it had.

    SGLang ignores the registration of a peer that is in its table already, so that a restarted one is unusable. Bug B37
    of the field catalogue.
    """

    breaks: ClassVar = "KS-6.3"

    def reconnect(self, peer: Peer) -> None:
        if peer.name in self.remote:
            super().reconnect(peer)
        else:
            self.agent.add_remote_agent(peer.agent.get_agent_metadata())
            self.remote[peer.name] = self.remote[peer.name.partition(".")[0]]


class FirstContactRaises(InlineSystem):
    """Connects where the first room of a peer is opened, and lets what that raises go to the caller.

    nixl #1983: the first contact with a decode that has just started fails. Bug B10 of the field catalogue.
    """

    breaks: ClassVar = "KS-1.1"

    def __init__(self, world: World, sender_class: type[InlineSender]) -> None:
        super().__init__(dataclasses.replace(world, peers=()), sender_class)

    def uninitialised(self, plan: RoomPlan) -> InlineSender:
        for target in plan.destinations:
            if target.peer.name not in self.remote:
                self.connect(target.peer)
        return super().uninitialised(plan)

    def reconnect(self, peer: Peer) -> None:
        if peer.name in self.remote:
            super().reconnect(peer)
        else:
            self.connect(peer)


# ---------------------------------------------------------------------------------------------- ends that are told


class NeverTellsSuccess(InlineSender):
    """Tells its peers of failures only: who waits for the end of a good room waits for ever.

    sglang #28651: a decode that is told nothing keeps its slot for 300 s. Bug B19 of the field catalogue.
    """

    breaks: ClassVar = "KS-6.1"

    def notification(self, kind: NotificationKind, reason: str) -> bytes:
        return super().notification(kind, reason) if kind is NotificationKind.FAILURE else b""

    def tell(self, kind: NotificationKind, reason: str) -> None:
        if kind is NotificationKind.FAILURE:
            super().tell(kind, reason)


class TellsSuccessWithEachPart(NeverTellsSuccess):
    """The notification that travels with every transfer says that the room is complete.

    sglang #39846: the receiver declares a transfer complete after its first component. Bug B07 of the field catalogue.
    """

    breaks: ClassVar = "KS-6.1"

    def notification(self, kind: NotificationKind, reason: str) -> bytes:
        said = kind if kind is NotificationKind.FAILURE else NotificationKind.SUCCESS
        return InlineSender.notification(self, said, reason)


class TellsSuccessAtThePost(InlineSender):
    """Tells of success as soon as the last chunk is posted: a notification of its own overtakes the bytes.

    vllm-ascend #8810: a transfer that is still to end is published as complete. Bug B61 of the field catalogue.
    """

    breaks: ClassVar = "KS-6.1"

    def send(self, kv_indices: Sequence[int]) -> None:
        super().send(kv_indices)
        if self.closed and self.state is State.SENDING:
            super().tell(NotificationKind.SUCCESS, "")

    def tell(self, kind: NotificationKind, reason: str) -> None:
        if kind is NotificationKind.FAILURE:
            super().tell(kind, reason)


class TellsSuccessTwice(InlineSender):
    """Tells of success when it finds the room complete, and again when it is next polled.

    vllm #55181: a request is finished a second time. Bug B52 of the field catalogue.
    """

    breaks: ClassVar = "KS-6.1"
    again = True

    def poll(self) -> KVPoll:
        if self.state is State.DONE and self.again:
            self.again = False
            self.tell(NotificationKind.SUCCESS, "")
        return super().poll()


class TakesSuccessBack(InlineSender):
    """An abort() after the end tells the peers of a failure, although they have been told of success.

    sglang #30352: an abort that comes late changes what was decided. Bug B13 of the field catalogue.
    """

    breaks: ClassVar = "KS-6.1"

    def abort(self) -> None:
        if self.state is State.DONE:
            self.tell(NotificationKind.FAILURE, "aborted")
        super().abort()


class TellsTheFirstPeer(InlineSender):
    """Tells one of several peers of success, and no other.

    vllm-ascend #17044: "done" of one rank is taken for that of all. Bug B61 of the field catalogue.
    """

    breaks: ClassVar = "KS-6.1"

    def targets(self) -> list[Destination]:
        return super().targets()[: 1 if self.state is State.DONE else None]


class RefusedWordFailsOthers(InlineSender):
    """A notification that the transport refuses fails every other room of that peer.

    nixl #1983: one transient error takes the peer out of service. Bug B10 of the field catalogue.
    """

    breaks: ClassVar = "KS-5.4"

    def tell(self, kind: NotificationKind, reason: str) -> None:
        for target in self.targets():
            try:
                self.agent.send_notif(target.peer.name, self.notification(kind, reason))
            except NIXL_ERRORS as error:
                for room in self.system.rooms.values():
                    if room is not self and target.peer.name in {other.peer.name for other in room.targets()}:
                        room.fault(error)


# --------------------------------------------------------------------------------------- what is held for each room


class Slots(InlineSystem):
    """A prefill side with a pool of staging slots."""

    def __init__(self, world: World, sender_class: type[InlineSender]) -> None:
        super().__init__(world, sender_class)
        self.free = 16


class LosesItsSlot(InlineSender):
    """Takes a staging slot for its first chunk, and gives it back only where the room succeeds.

    LMCache #2972: the buffer of a write that has failed is never given back. Bug B59 of the field catalogue.
    """

    breaks: ClassVar = "KS-4.3"
    holds = False

    def send(self, kv_indices: Sequence[int]) -> None:
        if self.state is State.IDLE and not self.holds:
            assert isinstance(self.system, Slots)
            if self.system.free == 0:
                self.without_slot()
                return
            self.system.free -= 1
            self.holds = True
        super().send(kv_indices)

    def without_slot(self) -> None:
        self.fault(MemoryError("no staging slot is free"))

    def poll(self) -> KVPoll:
        answer = super().poll()
        if answer is KVPoll.Success and self.holds:
            assert isinstance(self.system, Slots)
            self.holds = False
            self.system.free += 1
        return answer


class WaitsForALostSlot(LosesItsSlot):
    """The same, and a chunk without a slot waits until there is one.

    LMCache #2972, as above: who comes next waits for a buffer that nobody will free. Bug B59 of the field catalogue.
    """

    breaks: ClassVar = "KS-4.3"

    def without_slot(self) -> None:
        """It has kept the chunk, and tries again whenever it is polled."""


class PreparesForEachChunk(InlineSender):
    """Prepares the peer's list anew for every chunk, and releases none of them.

    TensorRT-LLM #13056: what a request allocates is not given back when it is cancelled. Bug B62 of the catalogue.
    """

    breaks: ClassVar = "KS-4.3"
    kept: ClassVar[WeakKeyDictionary[object, list[object]]] = WeakKeyDictionary()

    def make(self, target: Destination, mine: Sequence[int], theirs: Sequence[int], last: bool) -> Part:
        kept = self.kept.setdefault(self.system, [])
        kept.append(self.agent.prep_xfer_dlist(target.peer.name, self.system.rows(target.peer.memory), "DRAM"))
        return super().make(target, mine, theirs, last)


class ById(InlineSystem):
    """Finds the room of a late transfer by the room's id."""

    def __init__(self, world: World, sender_class: type[InlineSender]) -> None:
        super().__init__(world, sender_class)
        self.newest: dict[int, InlineSender] = {}
        self.ids: dict[Part, int] = {}

    def uninitialised(self, plan: RoomPlan) -> InlineSender:
        sender = self.newest[plan.room] = super().uninitialised(plan)
        return sender

    def settle(self) -> None:
        waiting = [part for part in self.unsettled if part.handle is not None and part.state == "flying"]
        super().settle()
        for part in waiting:
            if part.state == "errored":
                self.newest[self.ids[part]].fault(RuntimeError("a transfer of the room has failed"))


class LateErrorHitsTheNewRoom(InlineSender):
    """A transfer that outlives its room fails the room that has its id by then.

    sglang #40125: a record of an earlier room is found under the id of the next. Bug B08 of the field catalogue.
    """

    breaks: ClassVar = "KS-5.4"

    def make(self, target: Destination, mine: Sequence[int], theirs: Sequence[int], last: bool) -> Part:
        assert isinstance(self.system, ById)
        part = super().make(target, mine, theirs, last)
        self.system.ids[part] = self.plan.room
        return part


SENDERS: Final = (
    PreparesForEachChunk,
    CutsToThePeersPages,
    AbortReconnects,
    RegistersAnew,
    NeverTellsSuccess,
    TellsSuccessWithEachPart,
    TellsSuccessAtThePost,
    TellsSuccessTwice,
    TakesSuccessBack,
    TellsTheFirstPeer,
    RefusedWordFailsOthers,
)
SYSTEMS: Final = (KeepsTheOldLists, KnowsThePeerByItsNumber, FirstContactRaises)
ON_SYSTEMS: Final = ((LosesItsSlot, Slots), (WaitsForALostSlot, Slots), (LateErrorHitsTheNewRoom, ById))


def _of_system(system: type[InlineSystem]) -> InlineAdapter:
    made = InlineAdapter(InlineSender, system)
    made.name = system.__name__
    return made


ADAPTERS: Final = (
    *((InlineAdapter(sender), sender) for sender in SENDERS),
    *((_of_system(system), system) for system in SYSTEMS),
    *((InlineAdapter(sender, system), sender) for sender, system in ON_SYSTEMS),
)
"""Each with the class that says which clause it breaks."""
