"""A peer process and the line to it: start, ask, stop, resume, kill, reap.

The process is a fresh interpreter, never a fork: a forked child of a process with a NIXL agent breaks its parent.
Requests and replies are picklable objects over an inherited socket pair. Every wait has an end, and the error at that
end names the peer and the request. A request has a number, so that the reply that a resumed peer sends to a question
long given up is not taken for the reply to the next one.

The program of the peer calls ``serve``. Between requests it runs ``idle``: with NIXL's progress thread off, a receiver
moves data only while it calls into the library.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final, Generic, Self, TypeVar, cast

RequestT = TypeVar("RequestT")
ReplyT = TypeVar("ReplyT")

NIXL_ENV: Final[Mapping[str, str]] = {
    "NIXL_LOG_LEVEL": "FATAL",
    "UCX_LOG_LEVEL": "fatal",
    "UCX_TLS": "tcp",  # bytes move only while the peer lives
    "UCX_NET_DEVICES": "lo",
    "UCX_TCP_USER_TIMEOUT": "5s",  # without it a cut link takes a quarter of an hour to be noticed
    "UCX_TCP_SYN_CNT": "2",
    # UCX's module for EFA loads the system's libefa, and with it a second libnl-route beside that of nixl's wheel: the
    # process then dies of SIGSEGV in their destructors, after its work. The lab needs no RDMA. The user's value stays.
    "UCX_MODULES": os.environ.get("UCX_MODULES", "^ib"),
}
"""What makes NIXL quiet, deterministic and quick to notice faults on a plain machine, and lets it exit in order.

It must be in the environment before the first agent is made. ``create_agent`` does not set it: it must not take RDMA
away from a host that has it.
"""

_SOCKET_VARIABLE: Final = "KVSENDER_LAB_SOCKET"
LIMIT_S: Final = 10.0
"""How long anything is waited for that should happen at once. Long, because other jobs may share the machine."""
STEP_S: Final = 0.0005


class TimeUp(Exception):
    """Something did not happen in time."""


def until(what: str, done: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
    """Wait. Raises TimeUp, which says what for, when the time is up."""
    deadline = time.monotonic() + limit_s
    while not done():
        if time.monotonic() > deadline:
            raise TimeUp(f"not within {limit_s} s: {what}")
        time.sleep(STEP_S)


class PeerError(Exception):
    """The peer did not answer: it ended, or the time was up."""


class PeerRaised(PeerError):
    """The peer answered a request with an exception; ``error`` is the name of its class."""

    def __init__(self, message: str, error: str) -> None:
        super().__init__(message)
        self.error: Final = error


@dataclass(frozen=True, slots=True)
class _Request:
    number: int
    body: object


@dataclass(frozen=True, slots=True)
class _Reply:
    number: int
    body: object
    error: str = ""
    """The class of the exception that the request has raised, if it did; then ``body`` is its traceback."""


class PeerProcess(Generic[RequestT, ReplyT]):
    """One process that runs ``python -m module`` and answers requests.

    ``env`` comes on top of this process's environment and ``NIXL_ENV``. ``timeout_s`` bounds each wait for which
    nothing else is given, and the first one, which includes the start of the interpreter.
    """

    def __init__(
        self,
        module: str,
        name: str,
        arguments: Sequence[str] = (),
        *,
        env: Mapping[str, str] | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        self.name: Final = name
        self.timeout_s: Final = timeout_s
        self._asked = 0
        self._stopped = False
        ours, theirs = socket.socketpair()
        with theirs:
            _bound_blocking(ours, timeout_s)
            self._output = tempfile.TemporaryFile()  # noqa: SIM115 - close() closes it
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env={
                    **os.environ,
                    **NIXL_ENV,
                    # The peer finds modules where this process finds them.
                    "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
                    **(env or {}),
                    _SOCKET_VARIABLE: str(theirs.fileno()),
                },
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
            )
        self._connection: Final[Connection] = Connection(ours.detach())
        # Runs at interpreter exit as well, so that no peer outlives the tests, not even a stopped one.
        self._finalizer = weakref.finalize(self, _end, self._process)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; None while the process lives."""
        return self._process.poll()

    # ------------------------------------------------------------------------------------------------ requests

    def request(self, body: RequestT, timeout_s: float | None = None) -> ReplyT:
        """Ask and wait for the reply."""
        return self.receive(self.send(body), timeout_s, f"the request {body!r}")

    def send(self, body: RequestT) -> int:
        """Ask without waiting. The number is what ``receive`` takes."""
        self._asked += 1
        try:
            self._connection.send(_Request(self._asked, body))
        except OSError as error:
            raise self._silence(f"the request {body!r} could not be sent ({error})") from error
        return self._asked

    def receive(self, number: int, timeout_s: float | None = None, what: str = "a request") -> ReplyT:
        """The reply to an earlier ``send``; replies to requests before that one are thrown away."""
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + limit_s
        while True:
            try:
                if not self._connection.poll(max(0.0, deadline - time.monotonic())):
                    raise self._silence(f"no reply to {what} within {limit_s} s")
                reply = cast(_Reply, self._connection.recv())
            except (EOFError, OSError) as error:
                self._wait(1.0)
                raise self._silence(f"no reply to {what}: {type(error).__name__}") from error
            if reply.number != number:
                continue
            if reply.error:
                raise PeerRaised(f"peer {self.name}: {what} raised\n{reply.body}", reply.error)
            return cast(ReplyT, reply.body)

    def _silence(self, what: str) -> PeerError:
        code = self.exit_code
        state = f"ended with {code}" if code is not None else "stopped" if self._stopped else "running"
        return PeerError(f"peer {self.name} (pid {self.pid}, {state}): {what}{self._tail()}")

    def _tail(self) -> str:
        # The peer writes through the same file description: a seek here would move where it writes.
        size = os.fstat(self._output.fileno()).st_size
        text = os.pread(self._output.fileno(), 2000, max(0, size - 2000)).decode(errors="replace").strip()
        return f"\n--- end of its output ---\n{text}" if text else ""

    # ------------------------------------------------------------------------------------------------- signals

    def sigkill(self) -> None:
        """Kill and reap; when this returns the process is gone."""
        if self.exit_code is None:
            os.kill(self.pid, signal.SIGKILL)
        if not self._wait(self.timeout_s):
            raise self._silence("SIGKILL did not end it")

    def stop(self) -> None:
        """SIGSTOP; when this returns the process is stopped."""
        os.kill(self.pid, signal.SIGSTOP)
        self._stopped = True
        try:
            until("SIGSTOP stops it", lambda: _scheduling_state(self.pid) == "T", self.timeout_s)
        except TimeUp as error:
            raise self._silence(str(error)) from error

    def cont(self) -> None:
        os.kill(self.pid, signal.SIGCONT)
        self._stopped = False

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait until the process has ended by itself; the exit code."""
        if not self._wait(self.timeout_s if timeout_s is None else timeout_s):
            raise self._silence("it did not end")
        return self._process.returncode

    def _wait(self, timeout_s: float) -> bool:
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    # ----------------------------------------------------------------------------------------------------- end

    def close(self, grace_s: float = 5.0) -> None:
        """Hang up, let the process end by itself for a while, then kill it. May be called again."""
        self._connection.close()
        if self._stopped and self.exit_code is None:
            self.cont()
        self._wait(grace_s)
        self._finalizer()
        self._output.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def serve(
    answer: Callable[[RequestT], ReplyT], idle: Callable[[], None] | None = None, idle_period_s: float = 0.001
) -> None:
    """Answer requests until the other side hangs up. Runs in the peer; an exception is a reply, not the end."""
    connection: Connection = Connection(int(os.environ[_SOCKET_VARIABLE]))
    with connection:
        while True:
            if not connection.poll(None if idle is None else idle_period_s):
                if idle is not None:
                    idle()
                continue
            try:
                request = cast(_Request, connection.recv())
            except (EOFError, ConnectionResetError):
                return
            try:
                reply = _Reply(request.number, answer(cast(RequestT, request.body)))
            except Exception as error:
                reply = _Reply(request.number, traceback.format_exc(), type(error).__name__)
            try:
                connection.send(reply)
            except BrokenPipeError:
                return


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait(10.0)


def _scheduling_state(pid: int) -> str:
    """The letter that the kernel shows: T is stopped. It follows the name, which may hold brackets itself."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _bound_blocking(end: socket.socket, timeout_s: float) -> None:
    """No single read or write of a message blocks for longer, not even on a peer stopped half-way through it."""
    limit = struct.pack("ll", int(timeout_s) + 1, 0)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
