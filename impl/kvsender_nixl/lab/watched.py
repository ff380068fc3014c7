"""One incarnation of a room in a run: every call of the caller, and what is looked at after it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from kvsender_nixl.exchange import TransferInfo
from kvsender_nixl.lab.opened import OpenedRoom
from kvsender_nixl.lab.peer import LabPeer
from kvsender_nixl.lab.process import until
from kvsender_nixl.lab.recording import Recording
from kvsender_spec.contract import KVPoll
from kvsender_spec.history.events import BytesCompared, CallEnded
from kvsender_spec.history.words import CallName
from kvsender_spec.machine import HandleState
from kvsender_spec.observe.room import RoomView
from kvsender_spec.trace import Misuse

if TYPE_CHECKING:
    from kvsender_nixl.lab.direction import Bound, Direction


class WatchedRoom(OpenedRoom):
    """Its calls go through the run, which records them."""

    def __init__(
        self,
        run: Recording,
        direction: Direction,
        view: RoomView,
        chunks: Sequence[int],
        source: Sequence[int],
        peers: dict[str, LabPeer],
    ) -> None:
        super().__init__(view, chunks, source, peers)
        self._run: Final = run
        self._direction: Final = direction
        self._left: Final = list(source)
        self._made: Bound | None = None
        self._compared = False

    def init(self, infos: Sequence[TransferInfo], slot: int | None) -> None:
        """What the peers want or grant arrives, and the caller makes the sender or the reader."""

        def init() -> None:
            for info in infos:
                self._direction.front.add_transfer_info(info)
            self._made = self._direction.bind(self.number)
            self._made.initiator.init(self.view.opened.pages, slot)

        self._run.call(CallName.INIT, init, self.key)

    @property
    def _bound(self) -> Bound:
        if self._made is None:
            raise RuntimeError(f"nothing serves room {self.number}: init() raised {self._run.history.events[-2]}")
        return self._made

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
        """Send or read the next chunks."""
        for _ in range(chunks):
            count = self.chunks.pop(0)
            pages, self._left[:] = self._left[:count], self._left[count:]
            self.handed_over.extend(pages)
            chunk = partial(self._bound.hand_over, np.array(pages, np.int32))
            self._run.call(self._direction.call, chunk, self.key, pages=pages, last=not self.chunks)

    def send_all(self) -> None:
        self.send(len(self.chunks))

    def misuse(self, misuse: Misuse, pages: Sequence[float]) -> None:
        """A chunk that must be refused (KS-8.1)."""
        wrong = np.array(pages) if misuse is Misuse.WRONG_DTYPE else np.array(pages, np.int32)
        chunk = partial(self._bound.hand_over, wrong)
        self._run.call(self._direction.call, chunk, self.key, pages=pages, misuse=misuse.value)

    def poll(self) -> KVPoll | None:
        """None where it raised. The first Success is followed by a comparison, each terminal answer by a question."""
        answer = self._run.call(CallName.POLL, self._bound.initiator.poll, self.key)
        if self.view.terminal is KVPoll.Success and not self._compared:
            self._compared = True
            self._compare()
        if self.view.ended:
            self._run.held(self._direction.front.quarantined_pages(), self.key)
        return answer if isinstance(answer, KVPoll) else None

    def failure(self) -> str | None:
        """Call failure_exception(). Returns whom it names as the cause."""
        self._run.call(CallName.FAILURE_EXCEPTION, self._bound.initiator.failure_exception, self.key)
        ended = self._run.history.events[-1]
        return ended.attribution if isinstance(ended, CallEnded) else None

    def abort(self) -> None:
        self._run.call(CallName.ABORT, self._bound.initiator.abort, self.key)

    def clear(self) -> None:
        self._run.call(CallName.CLEAR, self._bound.initiator.clear, self.key)

    def ask_everything(self) -> None:
        """Of a room that has ended: nothing that its caller may still call changes anything."""
        if self.chunks:
            self.send()  # it has failed, so nothing is posted (KS-2.5)
        failure, poll, abort, clear = self.failure, self.poll, self.abort, self.clear
        for call in (failure, failure, poll, abort, failure, poll, clear, poll, clear, failure, poll):
            call()

    def _compare(self) -> None:
        """Where what has arrived differs. A peer that is gone or stopped cannot be asked."""
        announced, handed_over = self.view.opened.pages, len(self.handed_over)
        if handed_over < announced:
            differ = f"only {handed_over} of {announced} pages were handed over"
        else:
            differ = self._direction.differ(
                self, {n: peer for n, peer in self.peers.items() if self._run.observer.subject.peer(n).healthy}
            )
        self._run.tell(partial(BytesCompared, room=self.key, differ=differ))
