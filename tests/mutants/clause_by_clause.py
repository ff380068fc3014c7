"""A broken sender for each clause that the twelve of the issue leave out, so that every check is seen to fail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NoReturn
from weakref import WeakKeyDictionary

from tests.mutants.inline import BACKEND, InlineAdapter, InlineSender, InlineSystem, Part, Prefill

from kvsender_spec.contract import Attribution, KVPoll, KVUsageError
from kvsender_spec.kit.adapter import NotificationKind, Peer, RoomPlan, World
from kvsender_spec.machine import State


class ReleaseErrorEscapes(InlineSender):
    """Guards the checks, and not the release that follows them.

    vllm #41853: releasing the handle of a failed transfer raises, and nobody catches it. Bug B42 of the field
    catalogue.
    """

    breaks: ClassVar = "KS-1.1"

    def release_settled(self) -> None:
        for part in self.parts:
            if part.state != "flying" and part.handle is not None:
                self.agent.release_xfer_handle(part.handle)
                part.handle = None


class TakesErrForTheEnd(InlineSender):
    """Waits until a handle is no longer PROC, and takes that for success.

    LMCache #2972: a write that has failed falls through to "done". Bug B59 of the field catalogue.
    """

    breaks: ClassVar = "KS-1.2"

    @classmethod
    def ask(cls, system: Prefill, part: Part) -> Exception | None:
        error = super().ask(system, part)
        if type(error) is RuntimeError and str(error).startswith("check_xfer_state() answered"):
            part.state = "done"
            return None
        return error


class ForgetsSuccess(InlineSender):
    """Answers Success once; the next poll knows nothing of the room.

    vllm #55181: a request is finished a second time, because its end was not kept. Bug B52 of the field catalogue.
    """

    breaks: ClassVar = "KS-2.1"
    said = False

    def poll(self) -> KVPoll:
        answer = super().poll()
        if answer is KVPoll.Success and self.said:
            return KVPoll.Transferring
        self.said = answer is KVPoll.Success
        return answer


class DisguisesBugs(InlineSender):
    """Shows a KeyError of its own as a failure of the transport.

    sglang #23488: an except block hides the error that it was written for. Bug B39 of the field catalogue.
    """

    breaks: ClassVar = "KS-1.3"

    def fault(self, error: BaseException, attribution: Attribution | None = None) -> None:
        disguised = BACKEND("transfer failed") if isinstance(error, (KeyError, TypeError)) else error
        super().fault(disguised, attribution)


class AsksAgain(InlineSender):
    """Goes on asking the transport after it has reported Failed.

    No report of the field catalogue.
    """

    breaks: ClassVar = "KS-2.6"

    def poll(self) -> KVPoll:
        if self.state is State.STICKY_FAILED:
            for part in self.system.unsettled:
                if part.state == "flying" and part in self.parts:
                    self.ask(self.system, part)
        return super().poll()


class LatchesWhenAsked(InlineSender):
    """failure_exception() on a good room makes it a failed one, as in SGLang 0.5.23.

    Bug B05 of the field catalogue.
    """

    breaks: ClassVar = "KS-2.7"

    def failure_exception(self) -> NoReturn:
        if self.state not in (State.FAILED, State.STICKY_FAILED):
            self.cause = RuntimeError("unknown reason")
            self.state = State.FAILED
            raise KVUsageError("has not failed; it has now")
        super().failure_exception()


class BlamesItself(InlineSender):
    """Says of every failure that its cause is local.

    sglang #30551: ranks give different reasons for one failure. Bug B40 of the field catalogue.
    """

    breaks: ClassVar = "KS-2.8"

    def fault(self, error: BaseException, attribution: Attribution | None = None) -> None:
        super().fault(error, Attribution.LOCAL)


class SucceedsWhenPosted(InlineSender):
    """Takes a posted last chunk for a finished room.

    sglang #39846: a transfer of several parts is declared complete after the first. Bug B07 of the field catalogue.
    """

    breaks: ClassVar = "KS-3.1"

    def complete(self) -> bool:
        return self.closed


class LosesAuxOfEmptyChunk(InlineSender):
    """Posts nothing for a last chunk without pages, and so loses the aux data.

    sglang #25698. Bug B20 of the field catalogue.
    """

    breaks: ClassVar = "KS-3.2"

    def send(self, kv_indices: Sequence[int]) -> None:
        if self.state is State.IDLE and not kv_indices and self.num_pages == 0:
            self.closed = True
            self.state = State.SENDING
            return
        super().send(kv_indices)


class HasNoDeadline(InlineSender):
    """Waits for a silent peer for ever.

    nixl #2047; SGLang 0.5.12 and 0.5.23. Bug B32 of the field catalogue.
    """

    breaks: ClassVar = "KS-3.4"

    def overdue(self) -> bool:
        return False


class DeadlineFirst(InlineSender):
    """Looks at the clock before it looks at the handles.

    sglang #32267. Bug B23 of the field catalogue.
    """

    breaks: ClassVar = "KS-3.5"

    def observe(self) -> None:
        if self.state is State.SENDING and self.overdue():
            self.fault(TimeoutError("too late"), Attribution.DEADLINE)
        super().observe()


class InOrderOnly(InlineSender):
    """Does not see a handle that finishes before an earlier one.

    sglang #37697: a chunk that arrives after the last one hangs. Bug B22 of the field catalogue.
    """

    breaks: ClassVar = "KS-3.6"

    def observe(self) -> None:
        before = [part.state for part in self.parts]
        super().observe()
        for number, part in enumerate(self.parts):
            newly = before[number] == "flying" and part.state == "done"
            if newly and any(earlier.state == "flying" for earlier in self.parts[:number]):
                part.state = "missed"


class FreesPagesInFlight(InlineSender):
    """Quarantines the pages of rejected posts only.

    sglang #38961: source pages are freed while they are read. Bug B06 of the field catalogue.
    """

    breaks: ClassVar = "KS-4.1"

    def quarantine(self) -> None:
        self.system.doubtful += [part for part in self.parts if part.state == "rejected"]


class FreesRejectedPages(InlineSender):
    """Takes a rejected post for one that never was.

    Mooncake #398: a call that returns an error, with its batch still running. Bug B64 of the field catalogue.
    """

    breaks: ClassVar = "KS-4.4"

    def quarantine(self) -> None:
        self.system.doubtful += [part for part in self.parts if part.state in ("flying", "errored")]


class AbortReplacesCause(InlineSender):
    """An abort after the failure overwrites the cause, as in SGLang 0.5.23.

    Bug B03 of the field catalogue.
    """

    breaks: ClassVar = "KS-5.1"

    def abort(self) -> None:
        super().abort()
        if self.state in (State.FAILED, State.STICKY_FAILED):
            self.cause = InterruptedError("Aborted by AbortReq.")


class ClearForgets(InlineSender):
    """A cleared room does not remember how it ended.

    sglang #27643: what poll() needs is gone after clear(). Bug B28 of the field catalogue.
    """

    breaks: ClassVar = "KS-5.2"

    def clear(self) -> None:
        super().clear()
        if self.state in (State.DONE, State.STICKY_FAILED):
            self.state = State.IDLE


class ClearedRoomRevives(InlineSender):
    """A late completion turns a cleared room into a finished one.

    SGLang 0.5.10 to 0.5.12; sglang #24539. Bug B15 of the field catalogue.
    """

    breaks: ClassVar = "KS-5.3"

    waited = False

    def answer(self) -> KVPoll:
        if self.state is State.FAILED and self.waited and self.complete():
            self.state = State.DONE
        cleared = self.plan.incarnation not in self.system.rooms
        self.waited = self.waited or (cleared and any(part.state == "flying" for part in self.parts))
        return super().answer()


class PoisonsTheRoom(InlineSender):
    """Keeps failures by room id, and finds them again when the id comes back (SGLang 0.5.23).

    Bug B02 of the field catalogue.
    """

    breaks: ClassVar = "KS-5.4"
    records: ClassVar[WeakKeyDictionary[Prefill, dict[int, BaseException]]] = WeakKeyDictionary()

    def __init__(self, system: Prefill, plan: RoomPlan) -> None:
        super().__init__(system, plan)
        known = self.records.setdefault(system, {}).get(plan.room)
        if known is not None:
            super().fault(known)

    def fault(self, error: BaseException, attribution: Attribution | None = None) -> None:
        self.records[self.system][self.plan.room] = error
        super().fault(error, attribution)


class Mute(InlineSender):
    """Does not tell its peers that the room has failed.

    sglang #36033: NIXL had no failure notification. Bug B18 of the field catalogue.
    """

    breaks: ClassVar = "KS-6.1"

    def tell(self, kind: NotificationKind, reason: str) -> None:
        if kind is not NotificationKind.FAILURE:
            super().tell(kind, reason)


class Panics(InlineSender):
    """Fails the rooms of all other peers as well when one peer is gone.

    nixl #1983, seen through sglang: after one disconnect everything to a peer fails. Bug B10 of the field catalogue.
    """

    breaks: ClassVar = "KS-6.2"

    def fault(self, error: BaseException, attribution: Attribution | None = None) -> None:
        super().fault(error, attribution)
        if self.attribution is Attribution.PEER:
            mine = {target.peer.name for target in self.targets()}
            for other in self.system.rooms.values():
                if not mine & {target.peer.name for target in other.targets()}:
                    InlineSender.fault(other, error, attribution)


class NeverReconnects(InlineSender):
    """Stays with the connection that it had.

    sglang #40108 and #33789. Bug B09 of the field catalogue.
    """

    breaks: ClassVar = "KS-6.3"


class Careless(InlineSender):
    """Believes whatever page ids its caller gives it.

    sglang #7330: misuse of descriptors surfaces as NotFound. Bug B38 of the field catalogue.
    """

    breaks: ClassVar = "KS-8.1"

    def admit(self, pages: Sequence[int]) -> bool:
        return len(self.sent) + len(pages) == self.num_pages


class DeafSystem(InlineSystem):
    takes_new_names = False

    def reconnect(self, peer: Peer) -> None:
        pass


class DeafAdapter(InlineAdapter):
    def open(self, world: World) -> InlineSystem:
        return DeafSystem(world, self.sender_class)


ONE_FOR_EACH: tuple[type[InlineSender], ...] = (
    ReleaseErrorEscapes,
    TakesErrForTheEnd,
    ForgetsSuccess,
    DisguisesBugs,
    AsksAgain,
    LatchesWhenAsked,
    BlamesItself,
    SucceedsWhenPosted,
    LosesAuxOfEmptyChunk,
    HasNoDeadline,
    DeadlineFirst,
    InOrderOnly,
    FreesPagesInFlight,
    FreesRejectedPages,
    AbortReplacesCause,
    ClearForgets,
    ClearedRoomRevives,
    PoisonsTheRoom,
    Mute,
    Panics,
    NeverReconnects,
    Careless,
)
ADAPTERS = [DeafAdapter(m) if m is NeverReconnects else InlineAdapter(m) for m in ONE_FOR_EACH]
