"""Stands at a transport and tells the recorder of every call about peers, transfers and notifications.

It serves any ``Transport``, real or not. What only its user can know, it asks: whose metadata it is, and which pages
a transfer's descriptor indices stand for. A fault that is planted for a test stands between the subject and this
wrapper, so that the history says what really happened.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic

from kvsender_spec.contract import DlistT, HandleT, Operation, Transport
from kvsender_spec.history.events import PeerRemoved
from kvsender_spec.history.record import Place, Recorder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class ReleasedHandle(AssertionError):
    """A handle is used after its release. The real library would crash, or act on another transfer."""


class Calls(Generic[DlistT, HandleT]):
    """Hands the calls of ``Transport`` through that are not about one transfer."""

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

    def send_notif(self, remote_agent_name: str, notif_msg: bytes) -> None:
        self.inner.send_notif(remote_agent_name, notif_msg)

    def get_new_notifs(self) -> dict[str, list[bytes]]:
        return self.inner.get_new_notifs()


class Through(Calls[DlistT, HandleT]):
    """Hands every call of ``Transport`` through; a subclass changes some."""

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


@dataclass(frozen=True, slots=True)
class Listed:
    """A prepared descriptor list: of which agent, and the rows that it was prepared from."""

    agent: str
    rows: NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Transfer:
    """What a transfer is made of, for whoever knows which pages these descriptors are."""

    local: Listed
    local_indices: NDArray[np.int32]
    remote: Listed
    remote_indices: NDArray[np.int32]


class Ticket(Generic[HandleT]):
    """What the subject holds in place of a handle. When its last reference goes unreleased, the recorder is told."""

    __slots__ = ("__weakref__", "handle", "number")

    def __init__(self, handle: HandleT, number: int) -> None:
        self.handle: Final = handle
        self.number: Final = number


class RecordingAgent(Calls[DlistT, HandleT]):
    """Tells ``recorder`` what was asked and what was answered. Safe to call from any thread.

    ``peer_of`` answers the name and the generation of the peer whose metadata it is given, ``place_of`` what a transfer
    reads and writes. Every error is passed on as it is; ReleasedHandle is raised, and recorded, for the use of a handle
    after its release, which the transport never hears of.
    """

    def __init__(
        self,
        inner: Transport[DlistT, HandleT],
        recorder: Recorder,
        peer_of: Callable[[bytes], tuple[str, int]],
        place_of: Callable[[Transfer], Place],
    ) -> None:
        super().__init__(inner)
        self._recorder: Final = recorder
        self._peer_of: Final = peer_of
        self._place_of: Final = place_of
        self._lists: Final[dict[int, Listed]] = {}
        self._released: Final[set[int]] = set()
        self._numbers: Final = itertools.count()

    def add_remote_agent(self, metadata: bytes) -> str | bytes:
        peer, generation = self._peer_of(metadata)
        try:
            name = self.inner.add_remote_agent(metadata)
        except BaseException as error:
            self._recorder.peer_added(peer, generation, error)
            raise
        self._recorder.peer_added(peer, generation, None)
        return name

    def remove_remote_agent(self, agent: str) -> None:
        self.inner.remove_remote_agent(agent)
        self._recorder.add(lambda seq, t, thread, call: PeerRemoved(seq=seq, t=t, thread=thread, call=call, peer=agent))

    def prep_xfer_dlist(self, agent_name: str, xfer_list: NDArray[np.uint64], mem_type: str) -> DlistT:
        dlist = self.inner.prep_xfer_dlist(agent_name, xfer_list, mem_type)
        self._lists[_key(dlist)] = Listed(agent_name, xfer_list)
        return dlist

    def make_prepped_xfer(
        self,
        operation: Operation,
        local_xfer_side: DlistT,
        local_indices: NDArray[np.int32],
        remote_xfer_side: DlistT,
        remote_indices: NDArray[np.int32],
        notif_msg: bytes = b"",
    ) -> Ticket[HandleT]:
        remote = self._lists[_key(remote_xfer_side)]
        place = self._place_of(Transfer(self._lists[_key(local_xfer_side)], local_indices, remote, remote_indices))
        try:
            handle = self.inner.make_prepped_xfer(
                operation, local_xfer_side, local_indices, remote_xfer_side, remote_indices, notif_msg
            )
        except BaseException as error:
            self._recorder.made(remote.agent, None, place, notif_msg, error)
            raise
        ticket = Ticket(handle, next(self._numbers))
        self._recorder.made(remote.agent, ticket.number, place, notif_msg, None)
        weakref.finalize(ticket, self._dropped, ticket.number).atexit = False
        return ticket

    def transfer(self, handle: Ticket[HandleT]) -> str:
        return self._asked(handle, self.inner.transfer, self._recorder.posted)

    def check_xfer_state(self, handle: Ticket[HandleT]) -> str:
        return self._asked(handle, self.inner.check_xfer_state, self._recorder.checked)

    def _asked(
        self,
        ticket: Ticket[HandleT],
        ask: Callable[[HandleT], str],
        tell: Callable[[int, str | None, BaseException | None], None],
    ) -> str:
        try:
            if ticket.number in self._released:
                raise ReleasedHandle(f"handle {ticket.number} was used after its release")
            answer = ask(ticket.handle)
        except BaseException as error:
            tell(ticket.number, None, error)
            raise
        tell(ticket.number, answer, None)
        return answer

    def release_xfer_handle(self, handle: Ticket[HandleT]) -> None:
        number = handle.number
        again = number in self._released
        try:
            if not again:
                self.inner.release_xfer_handle(handle.handle)
        except BaseException as error:
            self._recorder.released(number, "call", error)
            raise
        self._released.add(number)
        self._recorder.released(number, "call", None)
        if again:
            raise ReleasedHandle(f"handle {number} was released again")

    def _dropped(self, number: int) -> None:
        if number not in self._released:
            self._recorder.released(number, "last reference", None)

    def send_notif(self, remote_agent_name: str, notif_msg: bytes) -> None:
        try:
            self.inner.send_notif(remote_agent_name, notif_msg)
        except BaseException as error:
            self._recorder.notified(remote_agent_name, notif_msg, error)
            raise
        self._recorder.notified(remote_agent_name, notif_msg, None)


def _key(dlist: object) -> int:
    """Lists are known by identity; releases before nixl 0.6 number them instead."""
    return dlist if isinstance(dlist, int) else id(dlist)
