"""Eleven broken senders: each is the small sender with one thing wrong, and names the clause that it breaks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NoReturn

from tests.mutants.inline import InlineSender, Part, Prefill

from kvsender_spec.contract import KVPoll
from kvsender_spec.kit.adapter import Destination
from kvsender_spec.machine import State


class NotSticky(InlineSender):
    """Forgets that it has failed as soon as it has said so: the next poll looks at the handles again.

    vllm #55181: a request that has failed is finished a second time. Bug B52 of the field catalogue.
    """

    breaks: ClassVar = "KS-2.1"

    def poll(self) -> KVPoll:
        answer = super().poll()
        if answer is KVPoll.Failed:
            self.state = State.SENDING if self.parts else State.IDLE
        return answer


class ForgetsTheError(InlineSender):
    """Hands out the cause once and drops it, as SGLang 0.5.23's failure records do.

    Bug B04 of the field catalogue.
    """

    breaks: ClassVar = "KS-2.4"

    def failure_exception(self) -> NoReturn:
        try:
            super().failure_exception()
        finally:
            if self.state in (State.FAILED, State.STICKY_FAILED):
                self.cause = ConnectionError("unknown reason from another rank")


class LastErrorWins(InlineSender):
    """Keeps the last error instead of the first.

    SGLang 0.5.23, ``record_failure``. Bug B03 of the field catalogue.
    """

    breaks: ClassVar = "KS-2.3"

    def fault(self, error: BaseException, attribution: object = None) -> None:
        if self.state is State.FAILED:
            self.cause = error
            self.attribution = self.attribute(error)
        super().fault(error)


class SuccessAfterFailed(InlineSender):
    """Lets a completion that arrives later outweigh the failure, as a status that only grows does.

    SGLang 0.5.10 to 0.5.12, ``update_status``. Bug B14 of the field catalogue.
    """

    breaks: ClassVar = "KS-2.2"

    def answer(self) -> KVPoll:
        if self.state is State.FAILED and self.complete():
            self.state = State.DONE
        return super().answer()


class PostsAfterFailure(InlineSender):
    """Goes on posting chunks after the room has failed.

    sglang #24522: the abort is invisible to what posts. Bug B29 of the field catalogue.
    """

    breaks: ClassVar = "KS-2.5"

    def send(self, kv_indices: Sequence[int]) -> None:
        state = self.state
        if state in (State.FAILED, State.STICKY_FAILED):
            self.state = State.SENDING
            super().send(kv_indices)
            self.state = state
        else:
            super().send(kv_indices)


class ReleasesInFlight(InlineSender):
    """Releases every handle when the room fails, whether it has settled or not.

    NIXL #1955 and #2067: a release in flight was taken for a cancellation. Bug B66 of the field catalogue.
    """

    breaks: ClassVar = "KS-4.2"

    def report(self) -> None:
        for part in self.parts:
            self.system.release(part)
        super().report()


class Leaks(InlineSender):
    """Releases nothing when a room ends well.

    sglang #14070 and #14072. Bug B30 of the field catalogue.
    """

    breaks: ClassVar = "KS-4.3"

    def release_settled(self) -> None:
        if self.state in (State.FAILED, State.STICKY_FAILED):
            super().release_settled()

    def answer(self) -> KVPoll:
        if self.state is State.DONE:
            self.system.unsettled = [part for part in self.system.unsettled if part not in self.parts]
        return super().answer()


class CatchesBaseException(InlineSender):
    """Takes Ctrl-C for a failed transfer.

    No report of the field catalogue; a worker that "must catch everything" (sglang #23967) is where it comes from.
    """

    breaks: ClassVar = "KS-1.4"

    @classmethod
    def ask(cls, system: Prefill, part: Part) -> Exception | None:
        try:
            return super().ask(system, part)
        except (KeyboardInterrupt, SystemExit) as error:
            part.state = "errored"
            return RuntimeError(f"caught {error!r}")

    def post(self, part: Part) -> None:
        try:
            super().post(part)
        except (KeyboardInterrupt, SystemExit) as error:
            raise RuntimeError(f"caught {error!r}") from error


class HidesOnePeer(InlineSender):
    """Is content when one peer has everything: the failure of another is hidden by that success.

    vllm-ascend #8810: "done" from one rank was taken for all. Bug B61 of the field catalogue.
    """

    breaks: ClassVar = "KS-2.2"

    def observe(self) -> None:
        super().observe()
        by_peer: dict[str, list[Part]] = {}
        for part in self.parts:
            by_peer.setdefault(part.peer, []).append(part)
        if self.state is State.FAILED and self.closed and any(self.all_done(parts) for parts in by_peer.values()):
            self.state = State.DONE

    @staticmethod
    def all_done(parts: list[Part]) -> bool:
        return all(part.state == "done" for part in parts)


class SuccessWithNothing(InlineSender):
    """Takes no handles for all handles: ``all()`` of nothing is true.

    sglang #25698 has the same shape: a room that has sent nothing of a kind reports Success. Bug B20 of the field
    catalogue.
    """

    breaks: ClassVar = "KS-3.3"

    def poll(self) -> KVPoll:
        if self.state is State.IDLE and all(part.state == "done" for part in self.parts):
            return KVPoll.Success
        return super().poll()


class CountsFromTheWrongEnd(InlineSender):
    """Takes the peer's pages from where the chunk ends, not from where it begins: no transfer fits, no room succeeds.

    No bug of the field catalogue: mutmut made it of the reference sender, and the kit missed it. SGLang 0.5.11 asserts
    against it in its sender.
    """

    breaks: ClassVar = "KS-3.5"

    def make(self, target: Destination, mine: Sequence[int], theirs: Sequence[int], last: bool) -> Part:
        after = target.pages.index(theirs[-1]) + 1 if theirs else 0
        return super().make(target, mine, target.pages[after : after + len(mine)], last)


BROKEN: tuple[type[InlineSender], ...] = (
    NotSticky,
    ForgetsTheError,
    LastErrorWins,
    SuccessAfterFailed,
    PostsAfterFailure,
    ReleasesInFlight,
    Leaks,
    CatchesBaseException,
    HidesOnePeer,
    SuccessWithNothing,
    CountsFromTheWrongEnd,
)
