"""A chunk's transfers: the way to each peer of the room, and one transfer of pages, and of aux data, to each.

Nothing is posted here. What cannot be made is an answer (``Refusal``), not an exception: only the transport's own call
is inside a try, and only the transport's errors are caught (KS-1.3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from kvsender_nixl.chunks import Announcement, Route
from kvsender_nixl.exchange import Grant, TransferInfo
from kvsender_nixl.notifications import AuxNotification, ChunkNotification
from kvsender_nixl.transfers import NO_PAGES, Transfer
from kvsender_spec.contract import DlistT, HandleT, Operation

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kvsender_nixl.rooms import Room
    from kvsender_nixl.side import Side

STARTED_OVER: Final = "has started over: the pages that it named for this room are no longer its own"


class PeerUnusable(Exception):
    """A peer of the room is not connected, or what it offers does not fit the room."""


Misfit: TypeAlias = Callable[[TransferInfo, Announcement], str | None]
"""Why what a peer offers is not what the room needs, or None."""


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


def find_routes(
    side: Side[DlistT, HandleT], room: Room, announced: Announcement, misfit: Misfit
) -> list[Route[DlistT]] | Refusal:
    """The way to each peer that is no dummy, and whose offer fits."""
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
        if not connection.metadata.same_process(room.registrations[info.agent_name]):
            why = STARTED_OVER
        if why is not None:
            return Refusal(PeerUnusable(f"peer {info.agent_name!r} {why}"))
        routes.append(Route(info, connection))
    return routes


def make_chunk(
    made: list[Transfer[HandleT]], side: Side[DlistT, HandleT], routes: list[Route[DlistT]], chunk: Chunk
) -> Refusal | None:
    """Make the chunk's transfers to every peer, each of them in ``made`` as soon as there is one."""
    for route in routes:
        info, connection = route.info, route.connection
        # What the peer has already is left out. Most have nothing, and take the chunk as it is.
        skipped = max(info.num_cached - chunk.first, 0)
        pages = chunk.pages[skipped:] if skipped else chunk.pages
        count, first = len(pages), max(chunk.first - info.num_cached, 0)
        if count:
            notification = ChunkNotification(info.room, info.token, chunk.number).to_bytes()
            here, there = (
                side.kv.indices(pages),
                connection.metadata.kv.indices(info.dst_kv_indices[first : first + count]),
            )
            handle = _create(side, "WRITE", info.agent_name, side.local_kv, here, connection.kv, there, notification)
            if isinstance(handle, Refusal):
                return handle
            size = count * side.kv.bytes_per_item
            made.append(_transfer(side, handle, route, size, pages))
        if chunk.aux_slot is not None:
            aux = _make_aux(side, route, chunk.aux_slot)
            if isinstance(aux, Refusal):
                return aux
            made.append(aux)
    return None


def make_reads(
    made: list[Transfer[HandleT]],
    side: Side[DlistT, HandleT],
    routes: list[Route[DlistT]],
    chunk: Chunk,
    announced: int,
) -> Refusal | None:
    """Make a chunk's READs from every holder. They carry no notification: one that a stopped holder has not taken would
    hold up every later READ over its connection."""
    first, count = chunk.first, len(chunk.pages)
    for route in routes if count else ():
        grant, connection = granted(route), route.connection
        wanted = grant.dst_kv_indices[len(grant.dst_kv_indices) - announced :][first : first + count]
        here = side.kv.indices(chunk.pages, grant.regions)
        there = connection.metadata.kv.indices(wanted, grant.regions)
        handle = _create(side, "READ", grant.agent_name, side.local_kv, here, connection.kv, there, b"")
        if isinstance(handle, Refusal):
            return handle
        sizes = side.kv.item_bytes
        size = count * sum(sizes[region] for region in grant.regions or range(len(sizes)))
        made.append(_transfer(side, handle, route, size, chunk.pages))
    return None


def make_stamp_reads(
    made: list[Transfer[HandleT]], side: Side[DlistT, HandleT], routes: list[Route[DlistT]], pages: NDArray[np.int32]
) -> Refusal | None:
    """Make the READs of the stamps of all that was read, from each holder into slots of its own for these pages."""
    stamps = side.aux
    assert stamps is not None
    assert side.local_aux is not None
    for number, route in enumerate(routes):
        grant, connection = granted(route), route.connection
        assert connection.aux is not None
        assert connection.metadata.aux is not None
        here = stamps.indices(stamp_slots(side, number, pages))
        there = connection.metadata.aux.indices(grant.dst_kv_indices[len(grant.dst_kv_indices) - len(pages) :])
        handle = _create(side, "READ", grant.agent_name, side.local_aux, here, connection.aux, there, b"")
        if isinstance(handle, Refusal):
            return handle
        size = len(pages) * stamps.bytes_per_item
        # The slots belong to the pages: as long as this READ may land, the pages are not reused, nor are the slots.
        made.append(_transfer(side, handle, route, size, pages))
    return None


def granted(route: Route[DlistT]) -> Grant:
    """What the holder at the end of a reader's route has granted."""
    assert isinstance(route.info, Grant)
    return route.info


def stamp_slots(side: Side[DlistT, HandleT], holder: int, pages: NDArray[np.int32]) -> NDArray[np.int32]:
    """Where the stamps of these pages are put that come from the holder of that number: int32 of shape ``(n,)``."""
    return pages + np.int32(holder * side.kv.num_items)


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
    handle = _create(side, "WRITE", info.agent_name, side.local_aux, here, connection.aux, there, notification)
    if isinstance(handle, Refusal):
        return handle
    return _transfer(side, handle, route, aux.bytes_per_item, NO_PAGES, slot)


def _transfer(
    side: Side[DlistT, HandleT],
    handle: HandleT,
    route: Route[DlistT],
    size: int,
    pages: NDArray[np.int32],
    aux_slot: int | None = None,
) -> Transfer[HandleT]:
    peer, incarnation = route.info.agent_name, route.connection.metadata.incarnation
    return Transfer(
        side.transport, side.errors, handle, peer, size, pages=pages, aux_slot=aux_slot, incarnation=incarnation
    )


def _create(
    side: Side[DlistT, HandleT],
    operation: Operation,
    peer_name: str,
    local_list: DlistT,
    local: NDArray[np.int32],
    remote_list: DlistT,
    remote: NDArray[np.int32],
    notification: bytes,
) -> HandleT | Refusal:
    try:
        return side.transport.make_prepped_xfer(operation, local_list, local, remote_list, remote, notification)
    except side.errors as error:
        return Refusal(error, peer_name)
