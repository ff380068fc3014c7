"""Wrong senders. Each is a right one with one bug; ``BREAKS`` is the clause that the bug violates first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar, NoReturn

from kvsender_spec.contract import Attribution, KVPoll, KVTransferError, KVUsageError, TransferAborted
from kvsender_spec.faults import STAND_INS
from kvsender_spec.kit.adapter import NUM_PAGES, Peer, RoomPlan, World

from .right import (
    TRANSPORT_ERRORS,
    BadAnswer,
    Chunk,
    Collecting,
    Flight,
    Foreign,
    Inline,
    OldestFirst,
    PerPage,
    Plant,
    Pumped,
    PumpPlant,
    Room,
    Stage,
    Staged,
    Step,
    Told,
    Worked,
    WorkPlant,
)


class Narrow(Inline):
    """The except tuple names the disconnect, the backend's error and RuntimeError; the other classes get out."""

    BREAKS = "KS-1.1"
    CATCH: ClassVar[tuple[type[Exception], ...]] = (
        STAND_INS["nixlRemoteDisconnectError"],
        STAND_INS["nixlBackendError"],
        RuntimeError,
    )


class ErrIsRunning(Plant):
    """A returned "ERR" counts as still running. On the staged sender."""

    BREAKS = "KS-1.2"

    def read(self, answer: str) -> Stage:
        return Stage.FLYING if answer == "ERR" else super().read(answer)


class Disguised(PerPage):
    """A KeyError or TypeError is dressed up as something the transport has said."""

    BREAKS = "KS-1.3"

    @contextmanager
    def latching(self) -> Iterator[None]:
        with super().latching():
            try:
                yield
            except (KeyError, TypeError) as error:
                raise BadAnswer(f"transfer failed: {error}") from None


class Swallowing(OldestFirst):
    """A bare except latches Ctrl-C and SystemExit as well."""

    BREAKS = "KS-1.4"

    @contextmanager
    def latching(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.fail(error)


class LateSuccess(Collecting):
    """After Failed, a late completion that the janitor finds turns the room to Success."""

    BREAKS = "KS-2.1"

    def drain(self) -> None:
        super().drain()
        if self.over and not self.cleared and self.closed and all(f.stage is Stage.DONE for f in self.flights):
            self.cause = None


class LatePumped(Pumped):
    """After Failed, a late completion that the pump finds in another room's poll() turns the room to Success."""

    BREAKS = "KS-2.1"

    def drain(self) -> None:
        super().drain()
        if self.over and not self.cleared and self.closed and all(f.stage is Stage.DONE for f in self.flights):
            self.cause = None


class LargerWins(PerPage):
    """The larger of two states is kept, and Failed is 0: Success wins over an abort or an error before it."""

    BREAKS = "KS-2.2"

    def verdict(self) -> KVPoll:
        landed = self.closed and all(flight.stage is Stage.DONE for flight in self.flights)
        return max(super().verdict(), KVPoll.Success if landed else KVPoll.Failed)


class LastWins(PerPage):
    """Each error overwrites the one before it while the room drains."""

    BREAKS = "KS-2.3"

    def fail(self, cause: BaseException) -> None:
        with self.lock:
            if self.cause is not None and not self.over:
                self.cause = cause
            super().fail(cause)

    def drain(self) -> None:
        for flight in self.flights:
            try:
                self.plant.check(flight)
            except TRANSPORT_ERRORS as error:
                self.fail(error)
            self.plant.free(flight)


class Popped(Staged):
    """The reason is popped by the first who reads it."""

    BREAKS = "KS-2.4"
    seen = False

    def failure_exception(self) -> NoReturn:
        if self.cause is not None and self.seen:
            raise KVTransferError(self.plan.room, "for an unknown reason, from another rank", Attribution.PEER)
        self.seen = self.cause is not None
        super().failure_exception()


class SendsOn(Inline):
    """send() does not look whether the room has failed."""

    BREAKS = "KS-2.5"

    def send(self, kv_indices: Sequence[int]) -> None:
        with self.lock:
            if (chunk := self.accept(kv_indices)) is not None:
                with self.latching():
                    self.post_chunk(chunk)


class AsksAgain(Pumped):
    """poll() turns the pump even when its own room has reported Failed long ago."""

    BREAKS = "KS-2.6"

    def poll(self) -> KVPoll:
        with self.lock:
            if self.over:
                self.pump.turn()
            return super().poll()


class LatchesOnAsk(Told):
    """Who asks a room for its failure has failed it."""

    BREAKS = "KS-2.7"

    def failure_exception(self) -> NoReturn:
        if self.cause is None:
            self.fail(KVUsageError(f"room {self.plan.room} has failed for an unknown reason"))
        super().failure_exception()


class BlamesPeer(Plant):
    """The caller's abort is said to be the peer's. On the collecting sender."""

    BREAKS = "KS-2.8"

    def attribution(self, error: BaseException) -> Attribution | None:
        found = super().attribution(error)
        return Attribution.PEER if found is Attribution.CALLER else found


class LastChunkOnly(Inline):
    """Success as soon as the last chunk's handles are done; the chunks before it are forgotten."""

    BREAKS = "KS-3.1"

    def complete(self) -> bool:
        newest = self.flights[-len(self.targets) :]
        return self.cause is None and self.closed and all(flight.stage is Stage.DONE for flight in newest)


class FalsyChunk(OldestFirst):
    """A room of zero pages: its empty last chunk is taken for no chunk, and the aux data never goes out."""

    BREAKS = "KS-3.2"

    def accept(self, kv_indices: Sequence[int]) -> Chunk | None:
        chunk = super().accept(kv_indices)
        return chunk if chunk is not None and chunk.pages else None


class EmptySuccess(Staged):
    """all() over no handles: a room that has sent nothing yet is complete."""

    BREAKS = "KS-3.3"

    def complete(self) -> bool:
        return self.cause is None and all(flight.stage is Stage.DONE for flight in self.flights)


class SignOfLife(Told):
    """One landed transfer is taken for a sign of life of every peer: the deadline no longer counts."""

    BREAKS = "KS-3.4"

    def count_deadline(self, flights: Sequence[Flight]) -> None:
        if not any(flight.stage is Stage.DONE for flight in self.flights):
            super().count_deadline(flights)


class HastyDeadline(Staged):
    """The deadline is counted before the look at what has landed."""

    BREAKS = "KS-3.5"

    def look(self) -> None:
        if self.cause is None:
            self.count_deadline(self.flights)
        super().look()


class InOrder(PerPage):
    """Completions carry a number, and one that comes out of turn is not counted: the room hangs."""

    BREAKS = "KS-3.6"

    def __init__(self, plant: Plant, plan: RoomPlan) -> None:
        super().__init__(plant, plan)
        self.landed = 0
        self.seen: set[int] = set()

    def look(self) -> None:
        super().look()
        for number, flight in enumerate(self.flights):
            if flight.stage is Stage.DONE and number not in self.seen:
                self.seen.add(number)
                self.landed += number == self.landed

    def complete(self) -> bool:
        return super().complete() and self.landed == len(self.flights)


class FreesFlying(Told):
    """At the drain deadline the pages of handles in flight are free; only rejected posts are in quarantine."""

    BREAKS = "KS-4.1"

    def quarantine(self) -> None:
        self.plant.ward.extend(f for f in self.flights if f.stage in (Stage.REJECTED, Stage.ERRORED))


class TrustsRejection(Staged):
    """A rejected post is believed to have moved nothing: its pages are not in quarantine."""

    BREAKS = "KS-4.4"

    def quarantine(self) -> None:
        self.plant.ward.extend(f for f in self.flights if not f.quiesced and f.stage is not Stage.REJECTED)


class AbortReleases(Inline):
    """abort() releases every handle, as if that would stop the transfer."""

    BREAKS = "KS-4.2"

    def give_up(self, how: str) -> None:
        super().give_up(how)
        for flight in self.flights:
            if self.cause is not None and not self.over and flight.stage is Stage.FLYING:
                flight.stage = Stage.ERRORED
                self.plant.free(flight)


class LeaksErrors(Plant):
    """A handle whose check has raised is never released. On the collecting sender."""

    BREAKS = "KS-4.3"

    def free(self, flight: Flight) -> None:
        if flight.stage is not Stage.ERRORED:
            super().free(flight)


class LateAbort(Told):
    """abort() after Success makes the room a failed one."""

    BREAKS = "KS-5.1"

    def abort(self) -> None:
        with self.lock:
            super().abort()
            self.cause = self.cause or TransferAborted(f"room {self.plan.room} was aborted by its caller")


class ForgetsEnd(PerPage):
    """poll() looks its answer up in a table from which clear() has removed it."""

    BREAKS = "KS-5.2"

    def poll(self) -> KVPoll:
        value = super().poll()
        return KVPoll.WaitingForInput if self.over and self.cleared else value


class Resurrecting(Collecting):
    """A completion that comes after clear() writes the room's status anew."""

    BREAKS = "KS-5.3"

    def drain(self) -> None:
        flying = self.in_the_air()
        super().drain()
        if flying and self.cleared and self.over and not self.in_the_air():
            self.cause = None


class RecordingPlant(Plant):
    """Keeps the failure of each room id, and nobody removes it."""

    def __init__(self, world: World, room: type[Room]) -> None:
        super().__init__(world, room)
        self.records: dict[int, BaseException] = {}


class Poisoned(Told):
    """The failure record of a cleared room is read by the next room of the same id."""

    BREAKS = "KS-5.4"

    def fail(self, cause: BaseException) -> None:
        super().fail(cause)
        if self.cause is not None and isinstance(self.plant, RecordingPlant):
            self.plant.records[self.plan.room] = self.cause

    def look(self) -> None:
        if self.cause is None and isinstance(self.plant, RecordingPlant) and self.plan.room in self.plant.records:
            self.fail(self.plant.records[self.plan.room])
        super().look()


class DownPlant(Plant):
    """Remembers a lost connection, but not to whom."""

    def __init__(self, world: World, room: type[Room]) -> None:
        super().__init__(world, room)
        self.down: BaseException | None = None

    def reconnect(self, peer: Peer) -> None:
        super().reconnect(peer)
        self.down = None


class OneForAll(Inline):
    """A peer that has hung up fails the rooms of all peers."""

    BREAKS = "KS-6.2"

    def fail(self, cause: BaseException) -> None:
        super().fail(cause)
        if isinstance(self.plant, DownPlant) and isinstance(cause, STAND_INS["nixlRemoteDisconnectError"]):
            self.plant.down = cause

    def broken(self) -> BaseException | None:
        return super().broken() or (self.plant.down if isinstance(self.plant, DownPlant) else None)


class TellsTwice(PerPage):
    """abort() tells the peers at once, and the end of the room tells them again."""

    BREAKS = "KS-6.1"

    def give_up(self, how: str) -> None:
        live = self.cause is None and not self.over
        super().give_up(how)
        if live:
            for _, link in self.targets:
                self.tell(link)


class Relinking(Plant):
    """A peer that is back is connected to twice: by the registration, and by the heartbeat. On the staged sender."""

    BREAKS = "KS-6.3"

    def reconnect(self, peer: Peer) -> None:
        super().reconnect(peer)
        self.links[peer.name] = self.connect(peer)


class FrameKills(WorkPlant):
    """A control message that cannot be read ends the worker."""

    BREAKS = "KS-7.1"

    def hear_safely(self, message: bytes) -> None:
        self.hear(message)


class CountingPlant(WorkPlant):
    """Knows that a dead worker has no work."""

    def busy(self) -> int:
        return super().busy() if self.worker.is_alive() else 0


class ErrorKills(Worked):
    """The worker catches the transport's errors when it posts, and dies of any other."""

    BREAKS = "KS-7.1"

    def fail(self, cause: BaseException) -> None:
        if isinstance(cause, KeyError | TypeError):
            raise cause
        super().fail(cause)


class LostAbort(Staged):
    """abort() takes no lock, and a send() that is posting meanwhile writes its own state over it."""

    BREAKS = "KS-7.2"

    def abort(self) -> None:
        if self.step in (Step.IDLE, Step.SENDING):
            self.cause, self.failed_s = TransferAborted(f"room {self.plan.room} was aborted"), self.plant.clock()
            self.step = Step.DRAINING

    def post_chunk(self, chunk: Chunk) -> None:
        super().post_chunk(chunk)
        self.step, self.cause = Step.SENDING, None  # it went well, so the room is well


class SendsTwice(PerPage):
    """A page that a chunk before has sent is not refused; only duplicates inside one chunk are."""

    BREAKS = "KS-8.1"

    def check_pages(self, pages: Sequence[int]) -> None:
        if any(not 0 <= page < NUM_PAGES for page in pages) or len(set(pages)) < len(pages):
            raise KVUsageError(f"{pages}: the page ids go from 0 to {NUM_PAGES - 1}, each once")


WRONG: tuple[tuple[Foreign, str], ...] = (
    (Foreign("foreign-narrow", Narrow), Narrow.BREAKS),
    (Foreign("foreign-err-is-running", Staged, ErrIsRunning), ErrIsRunning.BREAKS),
    (Foreign("foreign-disguised", Disguised), Disguised.BREAKS),
    (Foreign("foreign-swallowing", Swallowing), Swallowing.BREAKS),
    (Foreign("foreign-late-success", LateSuccess), LateSuccess.BREAKS),
    (Foreign("foreign-late-pumped", LatePumped, PumpPlant), LatePumped.BREAKS),
    (Foreign("foreign-larger-wins", LargerWins), LargerWins.BREAKS),
    (Foreign("foreign-last-wins", LastWins), LastWins.BREAKS),
    (Foreign("foreign-popped", Popped), Popped.BREAKS),
    (Foreign("foreign-sends-on", SendsOn), SendsOn.BREAKS),
    (Foreign("foreign-asks-again", AsksAgain, PumpPlant), AsksAgain.BREAKS),
    (Foreign("foreign-latches-on-ask", LatchesOnAsk), LatchesOnAsk.BREAKS),
    (Foreign("foreign-blames-peer", Collecting, BlamesPeer), BlamesPeer.BREAKS),
    (Foreign("foreign-last-chunk-only", LastChunkOnly), LastChunkOnly.BREAKS),
    (Foreign("foreign-falsy-chunk", FalsyChunk), FalsyChunk.BREAKS),
    (Foreign("foreign-empty-success", EmptySuccess), EmptySuccess.BREAKS),
    (Foreign("foreign-sign-of-life", SignOfLife), SignOfLife.BREAKS),
    (Foreign("foreign-hasty-deadline", HastyDeadline), HastyDeadline.BREAKS),
    (Foreign("foreign-in-order", InOrder), InOrder.BREAKS),
    (Foreign("foreign-frees-flying", FreesFlying), FreesFlying.BREAKS),
    (Foreign("foreign-trusts-rejection", TrustsRejection), TrustsRejection.BREAKS),
    (Foreign("foreign-abort-releases", AbortReleases), AbortReleases.BREAKS),
    (Foreign("foreign-leaks-errors", Collecting, LeaksErrors), LeaksErrors.BREAKS),
    (Foreign("foreign-late-abort", LateAbort), LateAbort.BREAKS),
    (Foreign("foreign-forgets-end", ForgetsEnd), ForgetsEnd.BREAKS),
    (Foreign("foreign-resurrecting", Resurrecting), Resurrecting.BREAKS),
    (Foreign("foreign-poisoned", Poisoned, RecordingPlant), Poisoned.BREAKS),
    (Foreign("foreign-one-for-all", OneForAll, DownPlant), OneForAll.BREAKS),
    (Foreign("foreign-tells-twice", TellsTwice), TellsTwice.BREAKS),
    (Foreign("foreign-relinking", Staged, Relinking), Relinking.BREAKS),
    (Foreign("foreign-frame-kills", Worked, FrameKills), FrameKills.BREAKS),
    (Foreign("foreign-error-kills", ErrorKills, CountingPlant), ErrorKills.BREAKS),
    (Foreign("foreign-lost-abort", LostAbort), LostAbort.BREAKS),
    (Foreign("foreign-sends-twice", SendsTwice), SendsTwice.BREAKS),
)


def __getattr__(name: str) -> Foreign:
    """``foreign.wrong:late_abort`` on the command line is the adapter "foreign-late-abort"."""
    for adapter, _ in WRONG:
        if adapter.name == f"foreign-{name.replace('_', '-')}":
            return adapter
    raise AttributeError(name)
