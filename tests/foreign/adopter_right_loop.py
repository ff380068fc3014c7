"""An adopter's right sender whose transfers are tasks that yield what they want of the transport."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import Final, TypeAlias

from tests.foreign.adopter_base import BaseSystem, Chunk, Flight, Pairs, Room
from tests.foreign.adopter_words import ERRORS, At, heard, interrupted, note
from tests.foreign.right_kinds import Kind

from kvsender_spec.contract import KVPoll, TransferAborted
from kvsender_spec.kit.adapter import Adapter, NotificationKind, RoomPlan, World
from kvsender_spec.kit.scripted.fabric import ScriptedDlist, ScriptedHandle

Answer: TypeAlias = ScriptedHandle | str


class Ask(Enum):
    """The calls of the transport that a task can want."""

    MAKE = auto()
    POST = auto()
    CHECK = auto()


@dataclass(frozen=True)
class Effect:
    """What a task wants of the transport."""

    ask: Ask
    call: Callable[[], Answer]


Steps: TypeAlias = Generator[Effect, Answer, None]


class LoopTask:
    """One transfer from its making to its end."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        self.effect = next(steps)


class LoopRoom(Room):
    """Reports a failure at once; what is still in flight then quarantines its pages until it has landed."""

    wraps = False

    def __init__(self, system: LoopSystem, plan: RoomPlan) -> None:
        super().__init__(system, plan)
        self.loop = system
        self.said: KVPoll | None = None
        self.flying: list[Flight] = []

    def latch(self, cause: Exception) -> None:
        if self.cause is None and self.said is not KVPoll.Success:
            note(cause)
            self.cause = cause

    def send(self, kv: Sequence[int]) -> None:
        with self.system.lock:
            chunk = self.accept(kv)
            if chunk is None:
                return
            try:
                self.start(chunk)
            except BaseException as error:
                self.latch(interrupted(error))
                raise

    def start(self, chunk: Chunk) -> None:
        for target, conn in self.targets:
            pairs = self.pairs(target, chunk)
            if not pairs and not chunk.last:
                continue
            aux = (self.plan.aux_index, target.aux_index) if chunk.last else None
            try:
                dlist = self.system.usable(conn)
            except Exception as error:
                self.latch(error)
            else:
                self.loop.start(LoopTask(self.move(dlist, pairs, aux)))
            if self.cause is not None:
                return
        self.closed = self.closed or chunk.last

    def move(self, dlist: ScriptedDlist, pairs: Pairs, aux: tuple[int, int] | None) -> Steps:
        transport = self.system.transport
        mine, theirs = self.system.index(pairs, aux)
        make = partial(transport.make_prepped_xfer, "WRITE", self.system.local, mine, dlist, theirs)
        try:
            handle = yield Effect(Ask.MAKE, make)
        except Exception as error:
            self.latch(error)
            return
        assert isinstance(handle, ScriptedHandle)
        flight = Flight(handle, [page for page, _ in pairs], self.system.world.clock())
        self.flying.append(flight)
        try:
            answer = yield Effect(Ask.POST, partial(transport.transfer, handle))
            while heard(str(answer)) is not At.DONE:
                answer = yield from self.wait(handle)
        except Exception as error:
            self.latch(error)
            if self.said is None:
                self.system.quarantine.update(flight.pages)
        else:
            if self.said is KVPoll.Failed:
                self.system.quarantine.subtract(flight.pages)
        self.flying.remove(flight)
        self.system.dead.append(handle)

    def wait(self, handle: ScriptedHandle) -> Generator[Effect, Answer, Answer]:
        """The next word about a transfer. An error that is not the transport's says nothing about it."""
        while True:
            try:
                return (yield Effect(Ask.CHECK, partial(self.system.transport.check_xfer_state, handle)))
            except ERRORS:
                raise
            except Exception as error:
                self.latch(error)

    def poll(self) -> KVPoll:
        with self.system.lock:
            if self.said is not None:
                return self.said
            if self.cause is None:
                self.loop.turn()
            if self.overdue(self.flying):
                self.latch(self.silent())
            return self.conclude()

    def conclude(self) -> KVPoll:
        if self.cause is not None:
            self.said = KVPoll.Failed
            for flight in self.flying:
                self.system.quarantine.update(flight.pages)
            self.tell(NotificationKind.FAILURE)
        elif self.closed and not self.flying:
            self.said = KVPoll.Success
            self.tell(NotificationKind.SUCCESS)
        else:
            return KVPoll.Transferring if self.sent or self.flying else KVPoll.WaitingForInput
        self.system.flush()
        return self.said

    def abort(self) -> None:
        with self.system.lock:
            if self.said is None:
                self.latch(TransferAborted("aborted by the caller"))

    def clear(self) -> None:
        with self.system.lock:
            self.system.rooms.discard(self)
            if self.said is None:
                self.latch(TransferAborted("cleared by the caller"))
                self.conclude()


class LoopSystem(BaseSystem):
    """A trampoline: tasks yield what they want of the transport; a room reports its failure at once."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.tasks: list[LoopTask] = []

    def room(self, plan: RoomPlan) -> LoopRoom:
        return LoopRoom(self, plan)

    def start(self, task: LoopTask) -> None:
        self.tasks.append(task)
        self.run(task)

    def run(self, task: LoopTask) -> None:
        while not self.perform(task):
            pass

    def perform(self, task: LoopTask) -> bool:
        """Do what the task wants; True when it has nothing more to do before the next round."""
        step: Callable[[], Effect]
        try:
            step = partial(task.steps.send, task.effect.call())
        except Exception as error:
            step = partial(task.steps.throw, error)
        except BaseException as error:
            if task.effect.ask is not Ask.CHECK:  # a check is asked again in the next round
                self.resume(task, partial(task.steps.throw, interrupted(error)))
            raise
        return self.resume(task, step)

    def resume(self, task: LoopTask, step: Callable[[], Effect]) -> bool:
        try:
            task.effect = step()
        except StopIteration:
            self.tasks.remove(task)
            return True
        return task.effect.ask is Ask.CHECK

    def turn(self) -> None:
        for task in list(self.tasks):
            if task in self.tasks:
                self.run(task)
        self.flush()

    def settle(self) -> None:
        with self.lock:
            self.turn()

    def residue(self) -> int:
        return super().residue() + len(self.tasks)


loop: Final = Kind("foreign-loop", LoopSystem)

RIGHT: Final[tuple[Adapter, ...]] = (loop,)
