"""The peers of the prefill side and the connections to them, each of which fails as a whole.

NIXL fails a connection, not a transfer: after one error every later call for that peer raises until the peer is removed
and added again. Adding may block for minutes when a host is silent, so all but the very first connection to a peer is
made off the hot path (KS-6.3), by one thread per peer at most.

While an agent blocks in ``add_remote_agent``, its lock stalls its other calls too. Nothing here can change that; set
``UCX_TCP_SYN_CNT=2`` where hosts may vanish, which bounds it to 7 s.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, Generic, TypeAlias

from kvsender_nixl.buffers import Layout, mismatch
from kvsender_spec.contract import Attribution, DlistT, HandleT, KVUsageError, Transport

if TYPE_CHECKING:
    from kvsender_nixl.exchange import PeerMetadata

logger = logging.getLogger(__name__)

DISCONNECT: Final = "nixlRemoteDisconnectError"
NOT_FOUND: Final = "nixlNotFoundError"
# By name, so that the classes of any release, and those of a scripted agent, are known.

MOST_TO_A_POST_S: Final = 10.0
"""No sender is longer between make and post."""

Spawn: TypeAlias = Callable[[Callable[[], None]], None]
"""How background work is run. Work that is handed over never raises an Exception."""


def spawn_daemon(work: Callable[[], None]) -> None:
    """Run ``work`` in a thread of its own. There is at most one per peer, and none delays the end of the process."""
    threading.Thread(target=work, name="kvsender-connect", daemon=True).start()


class PeerState(Enum):
    CONNECTING = "connecting"
    CONNECTED = "connected"
    BROKEN = "broken"
    """A call has raised a disconnect, or connecting has failed. It stays so until it is remade."""


@dataclass(slots=True, eq=False)
class Connection(Generic[DlistT]):
    """One connection to one process of a peer, with the peer's descriptor lists, prepared once.

    ``retired`` means that it is being, or has been, replaced; nothing new may use it. ``users`` counts the senders
    between make and post: its lists live until there is none.
    """

    metadata: PeerMetadata
    kv: DlistT
    aux: DlistT | None
    error: Exception | None = None
    retired: bool = False
    users: int = 0

    @property
    def lost(self) -> bool:
        return self.retired or self.error is not None


@dataclass(slots=True, eq=False)
class Peer(Generic[DlistT]):
    """A peer by its agent name. ``metadata`` is the newest it has registered with."""

    metadata: PeerMetadata
    state: PeerState = PeerState.CONNECTING
    connection: Connection[DlistT] | None = None
    error: Exception | None = None
    """Why it is broken."""
    newer: PeerMetadata | None = None
    """What the process that is connected has registered with since, while that is being made known to NIXL."""


class Peers(Generic[DlistT, HandleT]):
    """Every peer, by agent name. Every method may be called from any thread, and none raises a transport error."""

    def __init__(
        self,
        transport: Transport[DlistT, HandleT],
        kv: Layout,
        aux: Layout | None,
        errors: tuple[type[Exception], ...],
        *,
        spawn: Spawn,
    ) -> None:
        self._transport: Final = transport
        self._kv: Final = kv
        self._aux: Final = aux
        self._errors: Final = errors
        self._spawn: Final = spawn
        self._peers: dict[str, Peer[DlistT]] = {}
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)  # a retired connection has lost its last user

    def get(self, name: str) -> Peer[DlistT] | None:
        return self._peers.get(name)

    def connecting(self, name: str) -> bool:
        peer = self._peers.get(name)
        return peer is not None and peer.state is PeerState.CONNECTING

    def register(self, metadata: PeerMetadata, *, background: bool = False) -> None:
        """Make the peer known, and connect to it unless it is connected with this very metadata.

        The first connection is made before this returns, unless ``background``. Newer metadata of a process that is
        connected change nothing for what is under way. Raises KVUsageError when the peer's memory does not fit ours, or
        is not what the same process has registered with before.
        """
        for kind, ours, theirs in (("KV", self._kv, metadata.kv), ("aux", self._aux, metadata.aux)):
            if (why := mismatch(ours, theirs)) is not None:
                raise KVUsageError(f"peer {metadata.agent_name!r} does not fit our {kind} buffers: {why}")
        with self._lock:
            peer, refresh = self._peers.get(metadata.agent_name), False
            if peer is None:
                peer = self._peers[metadata.agent_name] = Peer(metadata)
            elif peer.state is PeerState.CONNECTED and peer.metadata == metadata:
                return
            elif peer.metadata.same_process(metadata) and (peer.metadata.kv, peer.metadata.aux) != (
                metadata.kv,
                metadata.aux,
            ):
                raise KVUsageError(f"peer {metadata.agent_name!r} is the same process, and names other buffers")
            elif peer.state is PeerState.CONNECTED and peer.metadata.same_process(metadata):
                refreshing, peer.newer = peer.newer is not None, metadata
                if refreshing:
                    return
                refresh = True
            elif peer.state is PeerState.CONNECTING:
                peer.metadata = metadata  # whoever is connecting looks again when it is done
                return
            else:
                peer.metadata = metadata
                peer.state = PeerState.CONNECTING
                background = True
        if refresh:
            self._spawn(lambda: self._refresh(peer))
        else:
            self._run(peer, background)

    def revive(self, name: str) -> None:
        """Remake a broken connection: the peer has just shown that it lives."""
        with self._lock:
            peer = self._peers.get(name)
            if peer is None or peer.state is not PeerState.BROKEN:
                return
            peer.state = PeerState.CONNECTING
        self._run(peer, True)

    def blame(self, error: Exception, name: str, used: Connection[DlistT] | None) -> Attribution:
        """Whose fault an error of the transport is (KS-2.8), in a call for the peer ``name`` over the connection
        ``used``, or over its newest one.

        A connection that is lost is marked so. A disconnect says that it is; nixlNotFoundError may say so, too, because
        NIXL 0.6 to 1.0 forget a peer whose connection breaks.
        """
        peer, kind = self._peers.get(name), type(error).__name__
        connection = used if used is not None or peer is None else peer.connection
        lost = kind == DISCONNECT
        if kind == NOT_FOUND:
            lost = connection is None or connection.lost or not self._knows(name)
        if not lost:
            return Attribution.LOCAL
        if connection is not None:
            with self._lock:
                connection.error = connection.error or error
                if peer is not None and peer.connection is connection and peer.state is PeerState.CONNECTED:
                    peer.state = PeerState.BROKEN
                    peer.error = error
        return Attribution.PEER

    def _knows(self, name: str) -> bool:
        try:
            return self._transport.check_remote_metadata(name)
        except self._errors:
            return False

    def borrow(self, connections: Sequence[Connection[DlistT]]) -> Connection[DlistT] | None:
        """Keep the connections' lists alive until ``give_back``; or return one that is retired, and keep none."""
        with self._lock:
            for connection in connections:
                if connection.retired:
                    return connection
            for connection in connections:
                connection.users += 1
            return None

    def give_back(self, connections: Sequence[Connection[DlistT]]) -> None:
        with self._lock:
            for connection in connections:
                connection.users -= 1
                if connection.users == 0:
                    self._idle.notify_all()

    def close(self) -> None:
        """Release every descriptor list. Transfers that were made from them stay valid."""
        with self._lock:
            peers = list(self._peers.values())
            self._peers.clear()
        for peer in peers:
            if peer.connection is not None:
                self._retire(peer.connection)

    def _run(self, peer: Peer[DlistT], background: bool) -> None:
        if background:
            self._spawn(lambda: self._connect(peer))
        else:
            self._connect(peer)

    def _connect(self, peer: Peer[DlistT]) -> None:
        """Connect to the peer as it registered last; again, when it has registered anew meanwhile."""
        while True:
            metadata = peer.metadata
            connection: Connection[DlistT] | None = None
            error: Exception | None = None
            try:
                old, peer.connection = peer.connection, None
                if old is not None:
                    self._retire(old)
                if old is not None or peer.error is not None:
                    # Without this NIXL refuses other metadata of a name, and ignores the same.
                    self._transport.remove_remote_agent(metadata.agent_name)
                connection = self._open(metadata)
            except Exception as caught:
                error = caught.with_traceback(None)
                if not isinstance(caught, self._errors):
                    logger.exception("connecting to peer %r", metadata.agent_name)
            finally:
                # In any case, also when the interpreter is shutting the thread down: a peer that stayed CONNECTING
                # would never be tried again.
                with self._lock:
                    again = peer.metadata != metadata
                    peer.connection = connection
                    peer.error = error
                    if not again:
                        connected = connection is not None
                        peer.state = PeerState.CONNECTED if connected else PeerState.BROKEN
            if error is not None:
                logger.warning("peer %r cannot be connected: %r", metadata.agent_name, error)
            if not again:
                return

    def _refresh(self, peer: Peer[DlistT]) -> None:
        """Add the newer metadata of a process that is connected. Without a removal that only adds to what NIXL knows,
        so that transfers in flight stay valid (seen for host memory; on a GPU it was seen to cost the connection)."""
        while True:
            metadata, connection = peer.newer, peer.connection
            lists: tuple[DlistT, DlistT | None] | None = None
            known = metadata is not None and (metadata.kv.mem_type != "DRAM")
            try:
                if metadata is not None and connection is not None and not connection.lost and not known:
                    self._transport.add_remote_agent(metadata.agent_metadata)
                    lists = self._lists(metadata)
            except Exception as error:
                log = logger.warning if isinstance(error, self._errors) else logger.exception
                log("newer metadata of peer %r are not taken: %r", peer.metadata.agent_name, error)
            finally:
                old: tuple[DlistT | None, ...] = () if lists is None else lists
                with self._lock:
                    again = peer.newer is not metadata
                    if not again:
                        peer.newer = None
                    if metadata is not None and connection is not None and peer.connection is connection:
                        if lists is not None or known:
                            peer.metadata = connection.metadata = metadata
                        if lists is not None:
                            old = (connection.kv, connection.aux)
                            connection.kv, connection.aux = lists
                        self._wait_until_unused(connection, MOST_TO_A_POST_S)
                self._release_lists(peer.metadata.agent_name, old)
            if not again:
                return

    def _open(self, metadata: PeerMetadata) -> Connection[DlistT]:
        name: object = self._transport.add_remote_agent(metadata.agent_metadata)  # bytes, whatever its annotation says
        if name not in (metadata.agent_name, metadata.agent_name.encode()):
            raise ConnectionError(f"peer {metadata.agent_name!r} gave the metadata of agent {name!r}")
        return Connection(metadata, *self._lists(metadata))

    def _lists(self, metadata: PeerMetadata) -> tuple[DlistT, DlistT | None]:
        """The peer's descriptor lists, of its pages and of its aux slots."""
        kv = self._prepare(metadata.agent_name, metadata.kv)
        aux: DlistT | None = None
        if metadata.aux is not None:
            try:
                aux = self._prepare(metadata.agent_name, metadata.aux)
            except BaseException:
                self._transport.release_dlist_handle(kv)
                raise
        return kv, aux

    def _prepare(self, name: str, layout: Layout) -> DlistT:
        return self._transport.prep_xfer_dlist(name, layout.rows(), layout.mem_type)

    def _retire(self, connection: Connection[DlistT]) -> None:
        """Release the connection's lists once no sender is between make and post: NIXL reads freed memory otherwise."""
        with self._lock:
            connection.retired = True
            self._wait_until_unused(connection)
        self._release_lists(connection.metadata.agent_name, (connection.kv, connection.aux))

    def _wait_until_unused(self, connection: Connection[DlistT], timeout_s: float | None = None) -> None:
        self._idle.wait_for(lambda: connection.users == 0, timeout_s)

    def _release_lists(self, name: str, lists: tuple[DlistT | None, ...]) -> None:
        for dlist in lists:
            if dlist is not None:
                try:
                    self._transport.release_dlist_handle(dlist)
                except self._errors as error:
                    logger.warning("a descriptor list of %r was not released: %r", name, error)
