"""What a loaded release is given in place of the world: the kit's clock, threads that end, sockets without a network.

A release asks for these by name, as attributes of its own modules (``time``, ``threading``, ``zmq``); there they are
put, anew for each world.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import Final, Generic, NoReturn, TypeVar

from kvsender_connectors.loading import Attributes
from kvsender_connectors.stand_ins import ZmqAgain
from kvsender_spec.contract import Clock

_T = TypeVar("_T")
Deliver = Callable[[str, Sequence[bytes]], None]
"""Takes what was sent to an endpoint."""

CONTROL_TIMEOUT_S: Final = 10.0


class WorldTime:
    """The module ``time``, of the kit's clock. Nobody sleeps: the kit says when time passes."""

    def __init__(self, clock: Clock) -> None:
        self.time: Final = clock
        self.monotonic: Final = clock
        self.perf_counter: Final = clock

    def sleep(self, seconds: float) -> None:
        pass


class Inbox(Generic[_T]):
    """A queue that knows whether its reader waits, and that can be closed. It has the calls of the releases' own."""

    def __init__(self) -> None:
        self._items: Final[deque[_T]] = deque()
        self._changed: Final = threading.Condition()
        self._waits = False
        self._closed = False
        self._reader: threading.Thread | None = None

    def put(self, item: _T) -> None:
        with self._changed:
            self._items.append(item)
            self._waits = False
            self._changed.notify_all()

    def get(self) -> _T:
        """The next item. Once closed, ends the thread that asks."""
        with self._changed:
            self._reader = threading.current_thread()
            while not self._items:
                if self._closed:
                    raise SystemExit
                self._waits = True
                self._changed.notify_all()
                self._changed.wait()
            return self._items.popleft()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def busy(self) -> bool:
        """Whether there is work, done or waiting, of a reader that lives."""
        with self._changed:
            return not self._waits and not self._dead

    @property
    def _dead(self) -> bool:
        return self._reader is not None and not self._reader.is_alive()

    def wait_until_read(self, timeout_s: float = CONTROL_TIMEOUT_S) -> bool:
        """Wait until the reader has dealt with everything; False if it is dead, or takes too long."""
        with self._changed:
            for _ in range(int(timeout_s / 0.01)):
                # A reader that dies tells nobody, so the wait looks again.
                if self._waits or self._dead or (self._changed.wait(0.01) and self._waits):
                    break
            return self._waits and not self._dead


class Interval(threading.Event):
    """An event on which a loop waits between two rounds: the kit, not the time, says when the next round is due."""

    def __init__(self) -> None:
        super().__init__()
        self._bell: Final = threading.Condition()
        self._rings = 0
        self._begun = 0
        """How often somebody has begun to wait."""

    def wait(self, timeout: float | None = None) -> bool:
        if timeout is None:
            return super().wait()
        with self._bell:
            heard = self._rings
            self._begun += 1
            self._bell.notify_all()
            self._bell.wait_for(lambda: self.is_set() or self._rings > heard)
        return self.is_set()

    def set(self) -> None:
        super().set()
        with self._bell:
            self._bell.notify_all()

    def ring(self, timeout_s: float = CONTROL_TIMEOUT_S) -> None:
        """Let one round go by, and wait for its end. Nothing happens where no loop waits."""
        with self._bell:
            before = self._begun
            if before:
                self._rings += 1
                self._bell.notify_all()
                self._bell.wait_for(lambda: self._begun > before or self.is_set(), timeout_s)


class ControlSocket:
    """The socket on which a prefill side hears from its peers."""

    def __init__(self) -> None:
        self.inbox: Final[Inbox[list[bytes]]] = Inbox()

    def recv_multipart(self) -> list[bytes]:
        return self.inbox.get()

    def deliver(self, frames: Sequence[bytes]) -> bool:
        """A message arrives and is dealt with; False if nobody lives who reads."""
        self.inbox.put(list(frames))
        return self.inbox.wait_until_read()


class _Monitor:
    """Reports no disconnect."""

    def recv_multipart(self, _flags: int) -> NoReturn:
        raise ZmqAgain

    def close(self) -> None:
        pass


class PushSocket:
    """A socket towards one peer."""

    def __init__(self, deliver: Deliver) -> None:
        self._deliver: Final = deliver
        self._endpoint = ""

    def setsockopt(self, option: int, value: int) -> None:
        pass

    def connect(self, endpoint: str) -> None:
        self._endpoint = endpoint

    def get_monitor_socket(self, events: int) -> _Monitor:
        return _Monitor()

    def send_multipart(self, parts: Sequence[bytes]) -> None:
        self._deliver(self._endpoint, parts)

    def close(self, linger: int = 0) -> None:
        pass


class Seams:
    """Everything that one system under test is given, and what it has started."""

    def __init__(self, clock: Clock, deliver: Deliver) -> None:
        self.control: Final = ControlSocket()
        self.queues: Final[list[Inbox[object]]] = []
        self.threads: Final[list[threading.Thread]] = []
        self.intervals: Final[list[Interval]] = []
        self._time: Final = WorldTime(clock)
        self._deliver: Final = deliver

    def attributes(self, zmq: object, requests: object) -> Attributes:
        """The names that a release's modules get. ``zmq`` and ``requests`` are the modules that they have now."""
        started = self.threads

        class RecordedThread(threading.Thread):
            """Ends with the process, dies without a word, and is known to the kit."""

            def start(self) -> None:
                self.daemon = True
                started.append(self)
                super().start()

            def run(self) -> None:
                with suppress(Exception):
                    super().run()

        return {
            "time": self._time,
            "threading": SimpleNamespace(**{**vars(threading), "Thread": RecordedThread, "Event": self._interval}),
            "FastQueue": self._queue,
            "zmq": _Overlay(zmq, {"Context": self._context}),
            "requests": _Overlay(requests, {"put": _accept, "post": _accept}),
            "get_zmq_socket_on_host": lambda *_, **__: (1, self.control),
            "get_local_ip_auto": lambda *_, **__: "127.0.0.1",
        }

    def _context(self) -> SimpleNamespace:
        """Makes sockets towards peers. Its options are none here."""
        return SimpleNamespace(set=lambda *_: None, socket=lambda _kind: PushSocket(self._deliver))

    def _queue(self) -> Inbox[object]:
        queue: Inbox[object] = Inbox()
        self.queues.append(queue)
        return queue

    def _interval(self) -> Interval:
        interval = Interval()
        self.intervals.append(interval)
        return interval

    @property
    def busy(self) -> int:
        return sum(queue.busy for queue in self.queues) + self.control.inbox.busy

    def close(self) -> None:
        """Let every thread end that waits for work, or will."""
        for queue in self.queues:
            queue.close()
        self.control.inbox.close()
        for interval in self.intervals:
            interval.set()


class _Overlay:
    """A module with some names replaced."""

    def __init__(self, module: object, names: Attributes) -> None:
        self._module: Final = module
        self.__dict__.update(names)

    def __getattr__(self, name: str) -> object:
        found: object = getattr(self._module, name)
        return found


def _accept(*_: object, **__: object) -> SimpleNamespace:
    """The bootstrap server's answer to whatever it is told."""
    return SimpleNamespace(status_code=200, text="")
