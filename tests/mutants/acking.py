"""The inline sender with peers that may give a room up, and are told when it has drained; and what goes wrong there."""

from __future__ import annotations

from typing import ClassVar, Final

from tests.mutants.inline import InlineAdapter, InlineSender, InlineSystem, Part

from kvsender_spec.contract import Attribution, TransferAborted
from kvsender_spec.kit.adapter import NotificationKind, Peer, RoomPlan, World
from kvsender_spec.machine import State


class AckingSystem(InlineSystem):
    """The hooks that mutants override are small on purpose."""

    blamed: ClassVar = Attribution.PEER

    def __init__(self, world: World, sender_class: type[InlineSender]) -> None:
        super().__init__(world, sender_class)
        self.known: dict[int, InlineSender] = {}
        """By incarnation, also when the room was cleared."""
        self.owed: list[tuple[InlineSender, str]] = []
        """Who has given which room up, and was not told yet that it has drained."""
        self.told: set[tuple[InlineSender, str]] = set()

    def uninitialised(self, plan: RoomPlan) -> InlineSender:
        sender = self.known[plan.incarnation] = super().uninitialised(plan)
        return sender

    def target_aborts(self, plan: RoomPlan, peer: Peer) -> None:
        sender = self.known.get(plan.incarnation)
        if sender is None or (sender, peer.name) in self.owed or sender.state is State.DONE:
            return
        sender.fault(TransferAborted(f"given up by {peer.name}"), self.blamed)
        self.owed.append((sender, peer.name))

    def parts(self, sender: InlineSender, peer: str) -> list[Part]:
        return [part for part in sender.parts if part.peer == peer]

    def proven(self, sender: InlineSender, peer: str) -> bool:
        """Nothing of the room can touch the peer's pages any more, and nothing follows."""
        over = sender.state in (State.STICKY_FAILED, State.DONE)
        return over and all(part.state in ("done", "created") for part in self.parts(sender, peer))

    def settle(self) -> None:
        super().settle()
        for owed in [owed for owed in self.owed if self.proven(*owed)]:
            self.owed.remove(owed)
            self.acknowledge(*owed)

    def acknowledge(self, sender: InlineSender, peer: str) -> None:
        if (sender, peer) in self.told or sender.state is State.DONE:
            return
        self.told.add((sender, peer))
        try:
            self.agent.send_notif(peer, sender.notification(NotificationKind.QUIESCED, ""))
        except sender.transport_errors:
            return


class AcknowledgesAtOnce(AckingSystem):
    """Acknowledges that the word has arrived, and means that it has drained.

    sglang #31357: an ABORT_ACK confirms receipt only. Bug B12 of the field catalogue.
    """

    breaks: ClassVar = "KS-6.4"

    def proven(self, sender: InlineSender, peer: str) -> bool:
        return True


class AcknowledgesAnError(AckingSystem):
    """Takes a transfer that ended in an error for one that has stopped.

    sglang #36707: an acknowledgement while an errored group is unresolved. Bug B11 of the field catalogue.
    """

    breaks: ClassVar = "KS-6.4"

    def proven(self, sender: InlineSender, peer: str) -> bool:
        over = sender.state in (State.STICKY_FAILED, State.DONE)
        return over and all(part.state != "flying" for part in self.parts(sender, peer))


class NeverAcknowledges(AckingSystem):
    """Ends the room and tells nobody that it has drained: each abort waits out a time-out (sglang #35360).

    Bug B06 of the field catalogue.
    """

    breaks: ClassVar = "KS-6.4"

    def acknowledge(self, sender: InlineSender, peer: str) -> None:
        pass


class AcknowledgesTwice(AckingSystem):
    """Acknowledges once for each message, and the message came twice. Bug B43 of the field catalogue."""

    breaks: ClassVar = "KS-6.4"

    def target_aborts(self, plan: RoomPlan, peer: Peer) -> None:
        super().target_aborts(plan, peer)
        sender = self.known.get(plan.incarnation)
        if sender is not None and (sender, peer.name) in self.told:
            self.told.discard((sender, peer.name))
            self.owed.append((sender, peer.name))


class ForgetsWhomToTell(AckingSystem):
    """Drops whom it owes an acknowledgement when the room is cleared.

    sglang #38961: the target of the acknowledgement is gone before the drain. Bug B06 of the field catalogue.
    """

    breaks: ClassVar = "KS-6.4"

    def settle(self) -> None:
        self.owed = [owed for owed in self.owed if owed[0].plan.incarnation in self.rooms]
        super().settle()


class GoesOnAllTheSame(AckingSystem):
    """Takes the word and transfers on: a room that its peer has given up ends with Success.

    sglang #24522: an abort that what posts does not see. Bug B29 of the field catalogue.
    """

    breaks: ClassVar = "KS-6.4"

    def target_aborts(self, plan: RoomPlan, peer: Peer) -> None:
        sender = self.known.get(plan.incarnation)
        if sender is not None and sender.state is not State.DONE:
            self.owed.append((sender, peer.name))


class BlamesItsCaller(AckingSystem):
    """Says that its own caller has given the room up. Bug B04 of the field catalogue."""

    breaks: ClassVar = "KS-2.8"
    blamed: ClassVar = Attribution.CALLER


class TripsOverAnUnknownRoom(AckingSystem):
    """A word about a room that was cleared ends in a KeyError.

    vllm #50565: the completion of a request that is gone. Bug B53 of the field catalogue.
    """

    breaks: ClassVar = "KS-6.4"

    def target_aborts(self, plan: RoomPlan, peer: Peer) -> None:
        if plan.incarnation not in self.rooms:
            raise KeyError(plan.room)
        super().target_aborts(plan, peer)


class ActsOnTheNewestRoom(AckingSystem):
    """Looks a room up by its id, and gives up the one that has the id now. Bug B02 of the field catalogue."""

    breaks: ClassVar = "KS-5.4"

    def target_aborts(self, plan: RoomPlan, peer: Peer) -> None:
        newest = max(sender.plan.incarnation for sender in self.known.values() if sender.plan.room == plan.room)
        super().target_aborts(self.known[newest].plan, peer)


BROKEN: Final = (
    *(AcknowledgesAtOnce, AcknowledgesAnError, NeverAcknowledges, AcknowledgesTwice, ForgetsWhomToTell),
    *(GoesOnAllTheSame, BlamesItsCaller, TripsOverAnUnknownRoom, ActsOnTheNewestRoom),
)


class AckingAdapter(InlineAdapter):
    """Each is named after its system, because the sender is the same."""

    def __init__(self, system_class: type[AckingSystem] = AckingSystem) -> None:
        super().__init__(system_class=system_class)
        self.name = system_class.__name__


adapter: Final = AckingAdapter()
ADAPTERS: Final = tuple((AckingAdapter(broken), broken) for broken in BROKEN)
