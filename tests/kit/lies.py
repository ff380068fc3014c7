"""Lies that are planted in the scripted agent, and that each of the verified-fake suites must catch."""

from __future__ import annotations

from collections.abc import Callable

from kvsender_spec.kit.scripted.fabric import Fabric, ScriptedAgent, ScriptedHandle
from kvsender_spec.machine import HandleEvent, HandleState


def with_agents(lie: type[ScriptedAgent]) -> Callable[[], Fabric]:
    class Lying(Fabric):
        def start(self, name: str, generation: int, scripted: bool) -> ScriptedAgent:
            return lie(self, name, generation, scripted)

    return Lying


class DoneBeforeTheBytes(Fabric):
    def finish(self, handle: ScriptedHandle) -> None:
        if handle.unsettled and not handle.copy.link.peer.stopped:
            handle.machine.fire(HandleEvent.FINISHED)


class ReleaseCancels(Fabric):
    def end(self, handle: ScriptedHandle, answer: str) -> None:
        if handle.state is HandleState.IN_FLIGHT:
            self.copies_in_flight.remove(handle.copy)
        super().end(handle, answer)


class CopiesAtThePost(ScriptedAgent):
    """The late bytes are those of the time of the post, so that reusing the pages seems to be safe."""

    def transfer(self, handle: ScriptedHandle, notif_msg: bytes = b"") -> str:
        said = super().transfer(handle, notif_msg)
        if handle.unsettled:
            handle.copy.land()
        return said


class NotifiesWithTheBytes(Fabric):
    def finish(self, handle: ScriptedHandle) -> None:
        super().finish(handle)
        if handle.state is HandleState.DONE and handle.message:
            handle.copy.link.peer.deliver(handle.agent, handle.message)
            handle.message = b""
