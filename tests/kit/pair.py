"""A sender's agent and a peer that obeys, once scripted and once real, behind one protocol.

The verified-fake suite is written against ``Pair``. Time is part of it: ``breathe`` lets things happen that need no
check by the sender, and every wait of the suite calls it.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

import numpy as np

from kvsender_nixl.lab.process import PeerError, PeerProcess, PeerRaised
from kvsender_spec.contract import Operation, Transport
from kvsender_spec.faults import Kind
from kvsender_spec.kit.scripted.fabric import Fabric, UseAfterRelease

Bytes: TypeAlias = np.ndarray[tuple[int], np.dtype[np.uint8]]

PAGE: Final = 4096
PAGES: Final = 8192
SIZE: Final = PAGE * PAGES
"""32 MiB: more than the sockets between two processes hold, so that a held transfer is still being read."""


class Agent(Transport[Any, Any], Protocol):
    """What the suite calls besides the slice that senders use. Handles are opaque to it, hence Any."""

    def deregister_memory(self, dereg_list: Any) -> None: ...

    def get_xfer_descs(self, descs: Any, mem_type: str) -> Any: ...

    def initialize_xfer(
        self, operation: Operation, local_descs: Any, remote_descs: Any, remote_agent: str, notif_msg: bytes = b""
    ) -> Any: ...

    def transfer(self, handle: Any, notif_msg: bytes = b"") -> str: ...


class Pair(Protocol):
    """``sender`` has registered ``source``; the peer has registered SIZE bytes at ``peer_address``."""

    sender: Agent
    registration: Any
    source: Bytes
    peer_name: str
    peer_address: int

    def error(self, kind: Kind) -> type[Exception]: ...

    def metadata(self) -> bytes:
        """The peer's, as it is now."""

    def read(self, offset: int, length: int) -> bytes:
        """The peer's memory."""

    def count(self, value: int) -> int:
        """How many bytes of the peer's memory have this value."""

    def zero(self) -> None: ...

    def fill(self, first: int, count: int, value: int) -> None:
        """The peer writes this value into so many of its own pages, whatever it takes from NIXL."""

    def notifs(self) -> list[tuple[str, bytes]]:
        """What the peer has received since the last time."""

    def register_more(self, length: int) -> int:
        """The peer registers another region; its address."""

    def deregister(self) -> None:
        """The peer deregisters its first region, and keeps the memory."""

    def hold(self) -> None:
        """The peer's process lives, but its NIXL takes nothing until ``let_go``."""

    def let_go(self) -> None: ...

    def send_ahead(self, handle: Any) -> None:
        """The peer sends all that a posted READ of a few pages asks for; none of it lands yet. It is held from then on.

        The peers must have exchanged something before: the first bytes need both.
        """

    def begin(self, handle: Any) -> None:
        """Some bytes of a posted READ of everything land in ``source``, which was zero. Then the peer is held."""

    def lose_connection(self) -> None:
        """The connection fails for a reason that leaves both processes alive. What is in flight must be held."""

    def breathe(self) -> None:
        """A moment passes, and the sender calls into its library without checking any transfer."""

    def kill(self) -> None: ...

    def stop(self) -> None: ...

    def cont(self) -> None: ...

    def restart(self) -> None:
        """A new process, and an agent with the old name, in the place of the killed one."""

    def other(self) -> Pair:
        """Another peer, in a process of its own, of the same sender."""

    def post_after_release(self) -> str:
        """``crashes``, or what the misuse answers."""

    def close(self) -> None: ...


class ScriptedPair:
    """Both agents on one fabric, which may be a lying one."""

    sender: Agent

    def __init__(self, fabric: Fabric | None = None, beside: ScriptedPair | None = None) -> None:
        self.fabric = Fabric() if fabric is None else fabric
        self.peer_name: str = "peer" if beside is None else f"{beside.peer_name}'s neighbour"
        self._memories: list[bytearray] = []
        self.source: Bytes
        self.registration: Any
        if beside is None:
            self.source = np.zeros(SIZE, np.uint8)
            self.sender = agent = self.fabric.agent("sender", scripted=True)
            self.registration = agent.register_memory([(self.source.ctypes.data, SIZE, 0, "")], "DRAM")
        else:
            self.sender, self.source, self.registration = beside.sender, beside.source, beside.registration
        self._launch()

    def _launch(self) -> None:
        self._peer = self.fabric.agent(self.peer_name)
        # The memory of a dead process stays allocated, so that a late write into it would not crash the tests.
        self._memory = bytearray(SIZE)
        self._memories.append(self._memory)
        self.peer_address = _address(self._memory)
        self._registration = self._peer.register_memory([(self.peer_address, SIZE, 0, "")], "DRAM")

    def error(self, kind: Kind) -> type[Exception]:
        return self.fabric.errors[kind.value]

    def metadata(self) -> bytes:
        return self._peer.get_agent_metadata()

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self._memory[offset : offset + length])

    def count(self, value: int) -> int:
        return self._memory.count(value)

    def zero(self) -> None:
        self._memory[:] = bytes(SIZE)

    def fill(self, first: int, count: int, value: int) -> None:
        self._memory[first * PAGE : (first + count) * PAGE] = bytes([value]) * (count * PAGE)

    def notifs(self) -> list[tuple[str, bytes]]:
        return [(name, message) for name, messages in self._peer.get_new_notifs().items() for message in messages]

    def register_more(self, length: int) -> int:
        self._memories.append(bytearray(length))
        address = _address(self._memories[-1])
        self._peer.register_memory([(address, length, 0, "")], "DRAM")
        return address

    def deregister(self) -> None:
        self._peer.deregister_memory(self._registration)

    def hold(self) -> None:
        self.fabric.stop(self.peer_name)

    def let_go(self) -> None:
        self.fabric.cont(self.peer_name)

    def send_ahead(self, handle: Any) -> None:
        self.let_go()
        self.fabric.send_ahead(handle)
        self.hold()

    def begin(self, handle: Any) -> None:
        self.let_go()
        self.fabric.begin(handle, 0.5)
        self.hold()

    def lose_connection(self) -> None:
        self.fabric.disconnect("sender", self.peer_name)

    def breathe(self) -> None:
        for handle in self.fabric.in_flight("sender"):
            self.fabric.finish(handle)
        self.fabric.land_late("sender", self.peer_name)

    def kill(self) -> None:
        self.fabric.kill(self.peer_name)

    def stop(self) -> None:
        self.fabric.stop(self.peer_name)

    def cont(self) -> None:
        self.fabric.cont(self.peer_name)

    def restart(self) -> None:
        self._launch()

    def other(self) -> ScriptedPair:
        return ScriptedPair(self.fabric, self)

    def post_after_release(self) -> str:
        self.sender.add_remote_agent(self.metadata())
        local = self.sender.get_xfer_descs([(self.source.ctypes.data, PAGE, 0)], "DRAM")
        remote = self.sender.get_xfer_descs([(self.peer_address, PAGE, 0)], "DRAM")
        handle = self.sender.initialize_xfer("WRITE", local, remote, self.peer_name)
        self.sender.release_xfer_handle(handle)
        try:
            return self.sender.transfer(handle)
        except UseAfterRelease:
            return "crashes" if self.fabric.handle_misuses else "raises, and forgets"

    def close(self) -> None:
        pass


# ------------------------------------------------------------------------- the requests to tests.kit.raw_peer


@dataclass(frozen=True, slots=True)
class Start:
    name: str
    length: int


@dataclass(frozen=True, slots=True)
class Register:
    length: int


@dataclass(frozen=True, slots=True)
class Deregister:
    pass


@dataclass(frozen=True, slots=True)
class Metadata:
    pass


@dataclass(frozen=True, slots=True)
class Read:
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Count:
    value: int


@dataclass(frozen=True, slots=True)
class Zero:
    pass


@dataclass(frozen=True, slots=True)
class Fill:
    first: int
    count: int
    value: int


@dataclass(frozen=True, slots=True)
class Notifs:
    pass


@dataclass(frozen=True, slots=True)
class Hold:
    held: bool


@dataclass(frozen=True, slots=True)
class Pump:
    """One call into NIXL, also while held."""


@dataclass(frozen=True, slots=True)
class PostAfterRelease:
    pass


Request: TypeAlias = (
    Start | Register | Deregister | Metadata | Read | Count | Zero | Fill | Notifs | Hold | Pump | PostAfterRelease
)
Reply: TypeAlias = int | bytes | str | list[tuple[str, bytes]] | None
RawProcess: TypeAlias = PeerProcess[Request, Reply]


def launch(name: str) -> RawProcess:
    return PeerProcess("tests.kit.raw_peer", name)


_NUMBERS = itertools.count()


class RealPair:
    """A NIXL agent in this process and another one in a process of its own. ``launch`` makes a restarted process."""

    sender: Agent

    def __init__(
        self, process: RawProcess, launch: Callable[[str], RawProcess] = launch, beside: RealPair | None = None
    ) -> None:
        # Here, because the environment of NIXL is set by then, and because the scripted half must run without NIXL.
        from nixl import _bindings
        from nixl._api import nixl_agent, nixl_agent_config

        number = next(_NUMBERS)
        self.peer_name = f"peer-{number}"
        self.source: Bytes
        self.registration: Any
        self._bindings = _bindings
        self._process = process
        self._launch = launch
        self._others: list[RealPair] = []
        if beside is None:
            self.source = np.zeros(SIZE, np.uint8)
            agent = nixl_agent(f"sender-{number}", nixl_agent_config(enable_prog_thread=False))
            self.registration = agent.register_memory([(self.source.ctypes.data, SIZE, 0, "")], "DRAM")
            self.sender = agent
        else:
            self.sender, self.source, self.registration = beside.sender, beside.source, beside.registration
        self._start()

    def _start(self) -> None:
        reply = self._process.request(Start(self.peer_name, SIZE))
        assert isinstance(reply, int)
        self.peer_address = reply

    def error(self, kind: Kind) -> type[Exception]:
        found: type[Exception] = getattr(self._bindings, kind.value)
        return found

    def metadata(self) -> bytes:
        return self._bytes(Metadata())

    def read(self, offset: int, length: int) -> bytes:
        return self._bytes(Read(offset, length))

    def _bytes(self, request: Request) -> bytes:
        reply = self._process.request(request)
        assert isinstance(reply, bytes)
        return reply

    def count(self, value: int) -> int:
        reply = self._process.request(Count(value))
        assert isinstance(reply, int)
        return reply

    def zero(self) -> None:
        self._process.request(Zero())

    def fill(self, first: int, count: int, value: int) -> None:
        self._process.request(Fill(first, count, value))

    def notifs(self) -> list[tuple[str, bytes]]:
        reply = self._process.request(Notifs())
        assert isinstance(reply, list)
        return reply

    def register_more(self, length: int) -> int:
        reply = self._process.request(Register(length))
        assert isinstance(reply, int)
        return reply

    def deregister(self) -> None:
        self._process.request(Deregister())

    def hold(self) -> None:
        self._process.request(Hold(True))

    def let_go(self) -> None:
        self._process.request(Hold(False))

    def send_ahead(self, handle: Any) -> None:
        self.hold()
        for _ in range(20):
            self._process.request(Pump())

    def begin(self, handle: Any) -> None:
        self.hold()
        # In turn, so that no more lands at once than the sockets between the two hold.
        for _ in range(1000):
            self._process.request(Pump())
            self.breathe()
            if self.source.any():
                return
        raise AssertionError("nothing landed")

    def lose_connection(self) -> None:
        """Nothing to do: the kernel gives up on a held connection after UCX_TCP_USER_TIMEOUT."""

    def breathe(self) -> None:
        self.sender.get_new_notifs()

    def kill(self) -> None:
        self._process.sigkill()

    def stop(self) -> None:
        self._process.stop()

    def cont(self) -> None:
        self._process.cont()

    def restart(self) -> None:
        self._process.close()
        self._process = self._launch(f"{self.peer_name} restarted")
        self._start()

    def other(self) -> RealPair:
        self._others.append(RealPair(self._launch(f"{self.peer_name}'s neighbour"), self._launch, self))
        return self._others[-1]

    def post_after_release(self) -> str:
        try:
            return f"answers {self._process.request(PostAfterRelease())!r}"
        except PeerRaised as error:
            return f"raises {error.error}"
        except PeerError:
            code = self._process.wait()
            return "crashes" if code < 0 else f"ends with {code}"

    def close(self) -> None:
        for other in self._others:
            other.close()
        self._process.close()


def _address(memory: bytearray) -> int:
    return ctypes.addressof((ctypes.c_char * len(memory)).from_buffer(memory))
