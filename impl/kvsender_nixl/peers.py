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

        The first connection is made before this returns, unless ``background``. Raises KVUsageError when the peer's
        memory does not fit ours.
        """
        for kind, ours, theirs in (("KV", self._kv, metadata.kv), ("aux", self._aux, metadata.aux)):
            if (why := mismatch(ours, theirs)) is not None:
                raise KVUsageError(f"peer {metadata.agent_name!r} does not fit our {kind} buffers: {why}")
        with self._lock:
            peer = self._peers.get(metadata.agent_name)
            if peer is None:
                peer = self._peers[metadata.agent_name] = Peer(metadata)
            elif peer.state is PeerState.CONNECTED and peer.metadata == metadata:
                return
            elif peer.state is PeerState.CONNECTING:
                peer.metadata = metadata  # whoever is connecting looks again when it is done
                return
            else:
                peer.metadata = metadata
                peer.state = PeerState.CONNECTING
                background = True
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
                if connection.retired:
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

    def _open(self, metadata: PeerMetadata) -> Connection[DlistT]:
        name: object = self._transport.add_remote_agent(metadata.agent_metadata)  # bytes, whatever its annotation says
        if name not in (metadata.agent_name, metadata.agent_name.encode()):
            raise ConnectionError(f"peer {metadata.agent_name!r} gave the metadata of agent {name!r}")
        kv = self._prepare(metadata.agent_name, metadata.kv)
        aux: DlistT | None = None
        if metadata.aux is not None:
            try:
                aux = self._prepare(metadata.agent_name, metadata.aux)
            except BaseException:
                self._transport.release_dlist_handle(kv)
                raise
        return Connection(metadata, kv, aux)

    def _prepare(self, name: str, layout: Layout) -> DlistT:
        return self._transport.prep_xfer_dlist(name, layout.rows(), layout.mem_type)

    def _retire(self, connection: Connection[DlistT]) -> None:
        """Release the connection's lists once no sender is between make and post: NIXL reads freed memory otherwise."""
        with self._lock:
            connection.retired = True
            self._idle.wait_for(lambda: connection.users == 0)
        for dlist in (connection.kv, connection.aux):
            if dlist is not None:
                try:
                    self._transport.release_dlist_handle(dlist)
                except self._errors as error:
                    logger.warning(
                        "a descriptor list of %r was not released: %r", connection.metadata.agent_name, error
                    )
