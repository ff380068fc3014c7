"""A chunk's transfers: the way to each peer of the room, and one transfer of pages, and of aux data, to each.

Nothing is posted here. What cannot be made is an answer (``Refusal``), not an exception: only the transport's own call
is inside a try, and only the transport's errors are caught (KS-1.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kvsender_nixl.chunks import Announcement, Route, misfit
from kvsender_nixl.exchange import AuxNotification, ChunkNotification
from kvsender_nixl.transfers import Transfer
from kvsender_spec.contract import DlistT, HandleT

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kvsender_nixl.rooms import Room
    from kvsender_nixl.side import Side

STARTED_OVER: Final = "has started over: the pages that it named for this room are no longer its own"


class PeerUnusable(Exception):
    """A peer of the room is not connected, or what it offers does not fit the room."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a chunk cannot be made. ``refused_to`` is the peer to which the transport would make no transfer; empty where
    the peer itself is to blame."""

    error: Exception
    refused_to: str = ""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Page ids, int32 of shape ``(n,)``, after the ``first`` ones of the room. The last chunk has the aux slot."""

    pages: NDArray[np.int32]
    first: int
    number: int
    aux_slot: int | None


def find_routes(side: Side[DlistT, HandleT], room: Room, announced: Announcement) -> list[Route[DlistT]] | Refusal:
    """The way to each peer that is no dummy."""
    routes: list[Route[DlistT]] = []
    for info in tuple(room.infos.values()):
        if info.is_dummy:
            continue
        peer = side.peers.get(info.agent_name)
        connection = None if peer is None else peer.connection
        if connection is None:
            lost = None if peer is None else peer.error
            return Refusal(lost or PeerUnusable(f"peer {info.agent_name!r} is not connected"))
        why = misfit(info, announced)
        if connection.metadata != room.registrations[info.agent_name]:
            why = STARTED_OVER
        if why is not None:
            return Refusal(PeerUnusable(f"peer {info.agent_name!r} {why}"))
        routes.append(Route(info, connection))
    return routes


def make_chunk(
    made: list[Transfer[HandleT]], side: Side[DlistT, HandleT], routes: list[Route[DlistT]], chunk: Chunk
) -> Refusal | None:
    """Make the chunk's transfers to every peer, each of them in ``made`` as soon as there is one."""
    first, count = chunk.first, len(chunk.pages)
    local, size = side.kv.indices(chunk.pages), count * side.kv.bytes_per_item
    for route in routes:
        info, connection = route.info, route.connection
        if count:
            notification = ChunkNotification(info.room, info.token, chunk.number).to_bytes()
            there = connection.metadata.kv.indices(info.dst_kv_indices[first : first + count])
            handle = _create(side, info.agent_name, side.local_kv, local, connection.kv, there, notification)
            if isinstance(handle, Refusal):
                return handle
            made.append(Transfer(side.transport, side.errors, handle, info.agent_name, size, pages=chunk.pages))
        if chunk.aux_slot is not None:
            aux = _make_aux(side, route, chunk.aux_slot)
            if isinstance(aux, Refusal):
                return aux
            made.append(aux)
    return None


def _make_aux(side: Side[DlistT, HandleT], route: Route[DlistT], slot: int) -> Transfer[HandleT] | Refusal:
    info, connection = route.info, route.connection
    aux, remote = side.aux, connection.metadata.aux
    # init(), the peer's registration and misfit() have refused everything else.
    assert aux is not None
    assert remote is not None
    assert side.local_aux is not None
    assert connection.aux is not None
    assert info.dst_aux_index is not None
    here, there = aux.index(slot), remote.index(info.dst_aux_index)
    notification = AuxNotification(info.room, info.token).to_bytes()
    handle = _create(side, info.agent_name, side.local_aux, here, connection.aux, there, notification)
    if isinstance(handle, Refusal):
        return handle
    return Transfer(side.transport, side.errors, handle, info.agent_name, aux.bytes_per_item, aux_slot=slot)


def _create(
    side: Side[DlistT, HandleT],
    peer_name: str,
    local_list: DlistT,
    local: NDArray[np.int32],
    remote_list: DlistT,
    remote: NDArray[np.int32],
    notification: bytes,
) -> HandleT | Refusal:
    try:
        return side.transport.make_prepped_xfer("WRITE", local_list, local, remote_list, remote, notification)
    except side.errors as error:
        return Refusal(error, peer_name)
