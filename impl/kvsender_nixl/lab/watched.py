"""One incarnation of a room in a run: every call of the caller, and what is looked at after it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from kvsender_nixl.exchange import TransferInfo
from kvsender_nixl.lab.peer import DecodePeer
from kvsender_nixl.lab.process import until
from kvsender_nixl.lab.recording import Recording
from kvsender_spec.contract import KVPoll
from kvsender_spec.history.events import BytesCompared, CallEnded
from kvsender_spec.history.words import CallName
from kvsender_spec.machine import HandleState
from kvsender_spec.observe.room import RoomView
from kvsender_spec.trace import Misuse

if TYPE_CHECKING:
    from kvsender_nixl.lab.real_world import RealPrefill, RealSender


class WatchedRoom:
    """``view`` is what the observer knows of it."""

    def __init__(
        self,
        run: Recording,
        prefill: RealPrefill,
        view: RoomView,
        chunks: Sequence[int],
        source: Sequence[int],
        peers: dict[str, DecodePeer],
    ) -> None:
        self._run: Final = run
        self._prefill: Final = prefill
        self._left: Final = list(source)
        self._made: RealSender | None = None
        self._compared = False
        self.view: Final = view
        self.key: Final = view.key
        self.number: Final = view.opened.id
        self.chunks: Final = list(chunks)
        self.source: Final = tuple(source)
        self.peers: Final = peers
        """The processes as they were when the room was opened, without dummies: one that restarts is another one."""
        self.sent_pages: Final[list[int]] = []

    def init(self, infos: Sequence[TransferInfo], slot: int) -> None:
        """What the peers want arrives, and the caller makes the sender."""

        def init() -> None:
            prefill = self._prefill
            for info in infos:
                prefill.add_transfer_info(info)
            self._made = prefill.sender(self.number)
            self._made.init(self.view.opened.pages, slot)

        self._run.call(CallName.INIT, init, self.key)

    @property
    def _sender(self) -> RealSender:
        if self._made is None:
            raise RuntimeError(f"room {self.number} has no sender: init() raised {self._run.history.events[-2]}")
        return self._made

    def target(self, peer: DecodePeer) -> tuple[int, ...]:
        """This room's pages at a peer."""
        return self.view.targets[peer.name].pages

    @property
    def states(self) -> str:
        """The states that it may be in, in words."""
        return " or ".join(str(possible) for possible in self.view.oracle.possible)

    @property
    def in_flight(self) -> bool:
        """The transport has not said its last word on some handle of this room."""
        return any(machine.state is HandleState.IN_FLIGHT for machine in self.view.oracle.handles.values())

    def ready(self) -> None:
        """Wait until poll() says that the peers are known and connected."""
        until(f"room {self.number} waits for input", lambda: self.poll() is not KVPoll.Bootstrapping)

    def send(self, chunks: int = 1) -> None:
        """Send the next chunks."""
        for _ in range(chunks):
            count = self.chunks.pop(0)
            pages, self._left[:] = self._left[:count], self._left[count:]
            self.sent_pages.extend(pages)
            chunk = partial(self._sender.send, np.array(pages, np.int32))
            self._run.call(CallName.SEND, chunk, self.key, pages=pages, last=not self.chunks)

    def send_all(self) -> None:
        self.send(len(self.chunks))

    def misuse(self, misuse: Misuse, pages: Sequence[float]) -> None:
        """send() with what it must refuse (KS-8.1)."""
        wrong = np.array(pages) if misuse is Misuse.WRONG_DTYPE else np.array(pages, np.int32)
        send = partial(self._sender.send, wrong)
        self._run.call(CallName.SEND, send, self.key, pages=pages, misuse=misuse.value)

    def poll(self) -> KVPoll | None:
        """None where it raised. The first Success is followed by a comparison, each terminal answer by a question."""
        answer = self._run.call(CallName.POLL, self._sender.poll, self.key)
        if self.view.terminal is KVPoll.Success and not self._compared:
            self._compared = True
            self._compare()
        if self.view.ended:
            self._run.held(self._prefill.quarantined_pages(), self.key)
        return answer if isinstance(answer, KVPoll) else None

    def failure(self) -> str | None:
        """Call failure_exception(). Returns whom it names as the cause."""
        self._run.call(CallName.FAILURE_EXCEPTION, self._sender.failure_exception, self.key)
        ended = self._run.history.events[-1]
        return ended.attribution if isinstance(ended, CallEnded) else None

    def abort(self) -> None:
        self._run.call(CallName.ABORT, self._sender.abort, self.key)

    def clear(self) -> None:
        self._run.call(CallName.CLEAR, self._sender.clear, self.key)

    def ask_everything(self) -> None:
        """Of a room that has ended: nothing that its caller may still call changes anything."""
        if self.chunks:
            self.send()  # it has failed, so nothing is posted (KS-2.5)
        failure, poll, abort, clear = self.failure, self.poll, self.abort, self.clear
        for call in (failure, failure, poll, abort, failure, poll, clear, poll, clear, failure, poll):
            call()

    def _compare(self) -> None:
        """Where the memory of peers differs from the caller's. A peer that is gone or stopped cannot be asked."""
        opened = self.view.opened
        differ = ""
        if len(self.sent_pages) < opened.pages:
            differ = f"only {len(self.sent_pages)} of {opened.pages} pages were sent"
        for name, peer in self.peers.items():
            if not differ and self._run.observer.subject.peer(name).healthy:
                place = self.view.targets[name]
                slots = [] if place.aux is None else [place.aux]
                wrong = peer.remote.compare(self.sent_pages, place.pages, [opened.aux], slots)
                differ = f"{wrong} bytes at {name} differ from the sender's" if wrong else ""
        self._run.tell(partial(BytesCompared, room=self.key, differ=differ))
