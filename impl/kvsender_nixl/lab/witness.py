"""A transport that hands every call through, and one that also writes down what was answered.

The witness stands at the real agent. What it writes are the events that the kit's judge reads from the scripted agent,
so that one judge judges both layers. A lie that is planted for a test stands between the sender and the witness: the
witness knows what really happened.
"""

from __future__ import annotations

import itertools
import weakref
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Generic

from kvsender_spec.contract import INIT_AGENT, DlistT, HandleT, Operation, Transport
from kvsender_spec.faults import Point
from kvsender_spec.kit.transport import TransportEvent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Through(Generic[DlistT, HandleT]):
    """Hands every call of ``Transport`` through."""

    def __init__(self, inner: Transport[DlistT, HandleT]) -> None:
        self.inner: Final = inner

    @property
    def name(self) -> str:
        return self.inner.name

    def register_memory(self, reg_list: list[tuple[int, int, int, str]], mem_type: str) -> object:
        return self.inner.register_memory(reg_list, mem_type)

    def get_agent_metadata(self) -> bytes:
        return self.inner.get_agent_metadata()

    def add_remote_agent(self, metadata: bytes) -> str | bytes:
        return self.inner.add_remote_agent(metadata)

    def remove_remote_agent(self, agent: str) -> None:
        self.inner.remove_remote_agent(agent)

    def check_remote_metadata(self, agent: str) -> bool:
        return self.inner.check_remote_metadata(agent)

    def prep_xfer_dlist(self, agent_name: str, xfer_list: NDArray[np.uint64], mem_type: str) -> DlistT:
        return self.inner.prep_xfer_dlist(agent_name, xfer_list, mem_type)

    def release_dlist_handle(self, handle: DlistT) -> None:
        self.inner.release_dlist_handle(handle)

    def make_prepped_xfer(
        self,
        operation: Operation,
        local_xfer_side: DlistT,
        local_indices: NDArray[np.int32],
        remote_xfer_side: DlistT,
        remote_indices: NDArray[np.int32],
        notif_msg: bytes = b"",
    ) -> HandleT:
        return self.inner.make_prepped_xfer(
            operation, local_xfer_side, local_indices, remote_xfer_side, remote_indices, notif_msg
        )

    def transfer(self, handle: HandleT) -> str:
        return self.inner.transfer(handle)

    def check_xfer_state(self, handle: HandleT) -> str:
        return self.inner.check_xfer_state(handle)

    def release_xfer_handle(self, handle: HandleT) -> None:
        self.inner.release_xfer_handle(handle)

    def send_notif(self, remote_agent_name: str, notif_msg: bytes) -> None:
        self.inner.send_notif(remote_agent_name, notif_msg)

    def get_new_notifs(self) -> dict[str, list[bytes]]:
        return self.inner.get_new_notifs()


class Ticket(Generic[HandleT]):
    """What the sender holds in place of a handle. When its last reference goes unreleased, the witness knows."""

    __slots__ = ("__weakref__", "handle", "number", "peer")

    def __init__(self, handle: HandleT, number: int, peer: str) -> None:
        self.handle: Final = handle
        self.number: Final = number
        self.peer: Final = peer


class Witness(Generic[DlistT, HandleT]):
    """Writes down each call about a transfer, with what it was answered, and what every call raised."""

    def __init__(self, inner: Transport[DlistT, HandleT]) -> None:
        self.inner: Final = inner
        self.events: Final[list[TransportEvent]] = []
        self.raised: Final[Counter[tuple[str, str]]] = Counter()
        """How often a class of error was raised, by its name and the call that raised it."""
        self.added: Final[list[str]] = []
        """The peers that were added, again where they were added again."""
        self.connect_errors: Final[list[Exception]] = []
        """What adding a peer has raised."""
        self.indices: Final[dict[int, tuple[int, ...]]] = {}
        """The local descriptors of each handle of KV pages; none for aux data."""
        self.in_flight: Final[set[int]] = set()
        """The handles that were posted and have not been answered DONE or with an error."""
        self._kv: int | None = None
        self._peers: Final[dict[int, str]] = {}
        self._released: Final[set[int]] = set()
        self._numbers: Final = itertools.count()

    @property
    def name(self) -> str:
        return self.inner.name

    def register_memory(self, reg_list: list[tuple[int, int, int, str]], mem_type: str) -> object:
        return self.inner.register_memory(reg_list, mem_type)

    def get_agent_metadata(self) -> bytes:
        return self.inner.get_agent_metadata()

    def add_remote_agent(self, metadata: bytes) -> str | bytes:
        try:
            name = self.inner.add_remote_agent(metadata)
        except Exception as error:
            self.raised[type(error).__name__, "connect"] += 1
            self.connect_errors.append(error)
            raise
        self.added.append(name.decode() if isinstance(name, bytes) else name)
        return name

    def remove_remote_agent(self, agent: str) -> None:
        self.inner.remove_remote_agent(agent)

    def check_remote_metadata(self, agent: str) -> bool:
        return self.inner.check_remote_metadata(agent)

    def prep_xfer_dlist(self, agent_name: str, xfer_list: NDArray[np.uint64], mem_type: str) -> DlistT:
        dlist = self.inner.prep_xfer_dlist(agent_name, xfer_list, mem_type)
        if agent_name == INIT_AGENT and self._kv is None:
            self._kv = id(dlist)  # the pool comes first, then the aux buffers; both live as long as the prefill side
        self._peers[id(dlist)] = agent_name
        return dlist

    def release_dlist_handle(self, handle: DlistT) -> None:
        self.inner.release_dlist_handle(handle)

    def make_prepped_xfer(
        self,
        operation: Operation,
        local_xfer_side: DlistT,
        local_indices: NDArray[np.int32],
        remote_xfer_side: DlistT,
        remote_indices: NDArray[np.int32],
        notif_msg: bytes = b"",
    ) -> Ticket[HandleT]:
        peer = self._peers.get(id(remote_xfer_side), "")
        try:
            handle = self.inner.make_prepped_xfer(
                operation, local_xfer_side, local_indices, remote_xfer_side, remote_indices, notif_msg
            )
        except BaseException as error:
            self._raised(Point.MAKE, peer, None, error)
            raise
        ticket = Ticket(handle, next(self._numbers), peer)
        self.indices[ticket.number] = tuple(local_indices.tolist()) if id(local_xfer_side) == self._kv else ()
        weakref.finalize(ticket, self._dropped, ticket.number, peer).atexit = False
        self._log(Point.MAKE, peer, ticket.number, "made", notif_msg)
        return ticket

    def transfer(self, handle: Ticket[HandleT]) -> str:
        self.in_flight.add(handle.number)
        return self._asked(Point.POST, handle, self.inner.transfer)

    def check_xfer_state(self, handle: Ticket[HandleT]) -> str:
        return self._asked(Point.CHECK, handle, self.inner.check_xfer_state)

    def _asked(self, point: Point, ticket: Ticket[HandleT], call: Callable[[HandleT], str]) -> str:
        if ticket.number in self._released:
            # The real library would crash here, or act on another transfer.
            raise AssertionError(f"handle {ticket.number} is used after its release")
        try:
            answer = call(ticket.handle)
        except BaseException as error:
            self.in_flight.discard(ticket.number)
            self._raised(point, ticket.peer, ticket.number, error)
            raise
        if answer != "PROC":
            self.in_flight.discard(ticket.number)
        self._log(point, ticket.peer, ticket.number, answer)
        return answer

    def release_xfer_handle(self, handle: Ticket[HandleT]) -> None:
        try:
            self.inner.release_xfer_handle(handle.handle)
        except BaseException as error:
            self._raised(Point.RELEASE, handle.peer, handle.number, error)
            raise
        self._released.add(handle.number)
        self._log(Point.RELEASE, handle.peer, handle.number, "released")

    def _dropped(self, number: int, peer: str) -> None:
        if number not in self._released:
            self._log(Point.RELEASE, peer, number, "dropped")

    def send_notif(self, remote_agent_name: str, notif_msg: bytes) -> None:
        try:
            self.inner.send_notif(remote_agent_name, notif_msg)
        except BaseException as error:
            self._raised(Point.NOTIFY, remote_agent_name, None, error)
            raise
        self._log(Point.NOTIFY, remote_agent_name, None, "sent", notif_msg)

    def get_new_notifs(self) -> dict[str, list[bytes]]:
        return self.inner.get_new_notifs()

    def _raised(self, point: Point, peer: str, handle: int | None, error: BaseException) -> None:
        self.raised[type(error).__name__, point.value] += 1
        self.events.append(TransportEvent(point, self.name, peer, handle, "raised", error))

    def _log(self, point: Point, peer: str, handle: int | None, answer: str, message: bytes = b"") -> None:
        self.events.append(TransportEvent(point, self.name, peer, handle, answer, None, message))
