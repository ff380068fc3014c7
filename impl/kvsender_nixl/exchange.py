"""What the two sides tell each other, and its form on the wire.

The decode side sends ``PeerMetadata`` once and a ``TransferInfo`` per room; the prefill side answers with
notifications. All of them travel as NIXL notifications. Whatever arrives is judged here: a message that is not exactly
one of these raises ValueError, saying what is wrong with it, and nothing else (KS-7.1).

A ``token`` names one incarnation of a room. Room ids are chosen by clients and reused; a notification of an earlier
room of the same id carries another token and is nobody's (KS-5.4).

An ``incarnation`` names one process of a peer's name. Whatever a peer asks for carries it, because page ids mean
something in the memory of one process only: in a rolling update the old process may still ask when the new one has
registered, and its pages must not be written into the new one's memory.
"""

from __future__ import annotations

import base64
import hashlib
import logging
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Protocol

import numpy as np

from kvsender_nixl.buffers import MEM_TYPES, Layout, Region
from kvsender_nixl.notifications import TOKEN, require_incarnation
from kvsender_nixl.status import (
    AbortRequest,
    LeaseLost,
    StatusRequest,
    abort_request,
    lease_lost,
    status_request,
)
from kvsender_nixl.wire import Json, bool_field, bytes_field, envelope, fields_of, float_field, int_field, str_field
from kvsender_nixl.witness import ProcessIdentity, Question, Statement, identity_from_json, question_or_statement

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PeerMetadata:
    """A decode side: its NIXL agent, and where its pages and aux slots are (``aux`` None where it has none).

    ``incarnation`` is 0 to 64 letters, digits or ``._:-``, another one for each process of the name. Without one the
    peer can be told from its predecessor by its metadata alone. Raises ValueError for any other.
    """

    agent_name: str
    agent_metadata: bytes
    kv: Layout
    aux: Layout | None = None
    incarnation: str = ""
    process: ProcessIdentity | None = None
    """Who it is on its host, so that somebody there can say that it has ended; None where it does not know."""

    def __post_init__(self) -> None:
        require_incarnation(self.incarnation)

    def same_process(self, other: PeerMetadata) -> bool:
        """Whether both are of one process, though perhaps not as it is at one time."""
        return self == other or (self.incarnation != "" and self.incarnation == other.incarnation)

    @property
    def num_pages(self) -> int:
        return self.kv.num_items

    @property
    def num_aux_slots(self) -> int:
        return 0 if self.aux is None else self.aux.num_items

    def to_bytes(self) -> bytes:
        return envelope(
            "peer",
            {
                "agent_name": self.agent_name,
                "incarnation": self.incarnation,
                "process": None if self.process is None else self.process.to_json(),
                "agent_metadata": base64.b64encode(self.agent_metadata).decode(),
                # NIXL loses an agent's name for good when it is given a truncated blob of it; so a blob that has been
                # damaged on the way must never reach it.
                "agent_metadata_sha256": hashlib.sha256(self.agent_metadata).hexdigest(),
                "kv": _layout_to_json(self.kv),
                "aux": None if self.aux is None else _layout_to_json(self.aux),
            },
        )


@dataclass(frozen=True, eq=False)
class TransferInfo:
    """Where one peer wants one room: ``dst_kv_indices[i]`` is the page for the i-th page that the caller sends.

    ``dst_kv_indices`` is int32 of shape ``(num_kv_indices - num_cached,)``. The peer has the first ``num_cached`` pages
    of the room already and wants the others. A dummy takes part, names no pages and receives nothing.
    ``required_dst_info_num`` is how many peers the room has, dummies included; all of them must say the same.
    ``incarnation`` is the one that the peer has registered with: the pages are those of that process.
    Raises ValueError where the fields contradict themselves.
    """

    room: int
    token: str
    agent_name: str
    dst_kv_indices: NDArray[np.int32]
    dst_aux_index: int | None = None
    is_dummy: bool = False
    required_dst_info_num: int = 1
    num_cached: int = 0
    incarnation: str = ""

    def __post_init__(self) -> None:
        require_incarnation(self.incarnation)
        if not TOKEN.fullmatch(self.token):
            raise ValueError(f"token {self.token!r} is not 1 to 64 letters, digits or ._:-")
        if not self.agent_name:
            raise ValueError("agent_name is empty")
        if self.num_cached < 0:
            raise ValueError(f"num_cached is {self.num_cached}")
        if self.required_dst_info_num < 1:
            raise ValueError(f"required_dst_info_num is {self.required_dst_info_num}")
        if self.dst_kv_indices.dtype != np.int32 or self.dst_kv_indices.ndim != 1:
            raise ValueError(f"dst_kv_indices is {self.dst_kv_indices.dtype} of shape {self.dst_kv_indices.shape}")
        if len(np.unique(self.dst_kv_indices)) != len(self.dst_kv_indices):
            raise ValueError("dst_kv_indices names a page twice")

    def to_bytes(self) -> bytes:
        return envelope("room", self._fields())

    def _fields(self) -> dict[str, Json]:
        pages = self.dst_kv_indices.astype("<i4").tobytes()
        return {
            "room": self.room,
            "token": self.token,
            "agent_name": self.agent_name,
            "dst_kv_indices": base64.b64encode(pages).decode(),
            "dst_aux_index": self.dst_aux_index,
            "is_dummy": self.is_dummy,
            "required_dst_info_num": self.required_dst_info_num,
            "num_cached": self.num_cached,
            "incarnation": self.incarnation,
        }


@dataclass(frozen=True, eq=False)
class Grant(TransferInfo):
    """From where a reader may read one room: ``dst_kv_indices`` are pages of the peer, the holder, and ``stamps`` what
    their stamps were when they had the room's content: uint64 of the same shape.

    A holder may grant more pages than the room reads; the last ones are meant. ``regions`` are the numbers of those
    that it has filled, as a rank of pipeline parallelism its layers; none stands for all. ``lease_s`` is for how many
    seconds from now on the holder promises to keep them, unless it is renewed (``RenewNotification``); None where it
    takes no renewals. Raises ValueError.
    """

    stamps: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    regions: tuple[int, ...] = ()
    lease_s: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stamps.dtype != np.uint64 or self.stamps.shape != self.dst_kv_indices.shape:
            pages = self.dst_kv_indices.shape
            raise ValueError(f"stamps is {self.stamps.dtype} of shape {self.stamps.shape}, for pages of shape {pages}")
        if len(set(self.regions)) < len(self.regions) or min(self.regions, default=0) < 0:
            raise ValueError(f"regions are {self.regions}: each is named once, and counted from 0")
        if self.lease_s is not None and not 0 < self.lease_s < inf:
            raise ValueError(f"lease_s is {self.lease_s}: a lease takes a time")

    def to_bytes(self) -> bytes:
        fields = self._fields()
        fields["stamps"] = base64.b64encode(self.stamps.astype("<u8").tobytes()).decode()
        fields["regions"] = list(self.regions)
        fields["lease_s"] = None if self.lease_s is None else float(self.lease_s)
        return envelope("grant", fields)


# ------------------------------------------------------------------------------------- messages, decode to prefill


def parse_message(
    message: bytes,
) -> PeerMetadata | TransferInfo | AbortRequest | StatusRequest | Question | Statement:
    """Read what a decode side sends; raises ValueError for anything else."""
    fields = fields_of(message)
    match fields.get("kind"):
        case "peer":
            return _peer_metadata(fields)
        case "room":
            return _transfer_info(fields)
        case "grant":
            return _grant(fields)
        case AbortRequest.kind:
            return abort_request(fields)
        case LeaseLost.kind:
            return lease_lost(fields)
        case "status":
            return status_request(fields)
        case other:
            about_a_process = question_or_statement(fields)
            if about_a_process is None:
                raise ValueError(f"unknown kind {other!r}")
            return about_a_process


def _peer_metadata(fields: dict[str, Json]) -> PeerMetadata:
    blob = bytes_field(fields, "agent_metadata")
    if hashlib.sha256(blob).hexdigest() != str_field(fields, "agent_metadata_sha256"):
        raise ValueError("agent_metadata is damaged: its sha256 does not match")
    name = str_field(fields, "agent_name")
    if not name:
        raise ValueError("agent_name is empty")
    kv = _layout_from_json("kv", fields.get("kv"))
    aux = fields.get("aux")
    aux_layout = None if aux is None else _layout_from_json("aux", aux)
    process = identity_from_json(fields.get("process"))
    return PeerMetadata(name, blob, kv, aux_layout, str_field(fields, "incarnation"), process)


def _transfer_info(fields: dict[str, Json]) -> TransferInfo:
    pages = bytes_field(fields, "dst_kv_indices")
    if len(pages) % 4:
        raise ValueError(f"dst_kv_indices is {len(pages)} bytes of int32")
    return TransferInfo(
        room=int_field(fields, "room"),
        token=str_field(fields, "token"),
        agent_name=str_field(fields, "agent_name"),
        dst_kv_indices=np.frombuffer(pages, dtype="<i4").astype(np.int32),
        dst_aux_index=None if fields.get("dst_aux_index") is None else int_field(fields, "dst_aux_index"),
        is_dummy=bool_field(fields, "is_dummy"),
        required_dst_info_num=int_field(fields, "required_dst_info_num"),
        num_cached=int_field({"num_cached": 0, **fields}, "num_cached"),
        incarnation=str_field(fields, "incarnation"),
    )


def _grant(fields: dict[str, Json]) -> Grant:
    info, stamps = _transfer_info(fields), bytes_field(fields, "stamps")
    if len(stamps) % 8:
        raise ValueError(f"stamps is {len(stamps)} bytes of uint64")
    return Grant(
        room=info.room,
        token=info.token,
        agent_name=info.agent_name,
        dst_kv_indices=info.dst_kv_indices,
        is_dummy=info.is_dummy,
        required_dst_info_num=info.required_dst_info_num,
        incarnation=info.incarnation,
        stamps=np.frombuffer(stamps, dtype="<u8").astype(np.uint64),
        regions=_regions(fields),
        lease_s=None if fields.get("lease_s") is None else float_field(fields, "lease_s"),
    )


def _regions(fields: dict[str, Json]) -> tuple[int, ...]:
    named = fields.get("regions")
    if not isinstance(named, list):
        raise ValueError(f"regions is {named!r:.80}, not a list")
    numbers = tuple(region for region in named if isinstance(region, int) and not isinstance(region, bool))
    if len(numbers) != len(named):
        raise ValueError(f"regions has more than integers: {named!r:.80}")
    return numbers


def _layout_to_json(layout: Layout) -> Json:
    regions: list[Json] = [[r.address, r.item_bytes, r.num_items] for r in layout.regions]
    return {"mem_type": layout.mem_type, "device": layout.device, "regions": regions}


def _layout_from_json(name: str, value: Json) -> Layout:
    if not isinstance(value, dict) or not isinstance(rows := value.get("regions"), list):
        raise ValueError(f"{name} is not a layout: {value!r:.80}")
    mem_type = next((known for known in MEM_TYPES if known == value.get("mem_type")), None)
    if mem_type is None:
        raise ValueError(f"{name}.mem_type is {value.get('mem_type')!r}")
    regions: list[Region] = []
    for row in rows:
        match row:
            case [int(address), int(item_bytes), int(num_items)] if max(address, item_bytes, num_items) < 2**64:
                regions.append(Region(address, item_bytes, num_items))
            case _:
                raise ValueError(f"{name}.regions has {row!r:.80}")
    return Layout(tuple(regions), mem_type, int_field(value, "device"))


# ------------------------------------------------------------------------------------------- over NIXL's own socket


class Inbox(Protocol):
    """What of an agent is needed to take its notifications."""

    def get_new_notifs(self) -> dict[str, list[bytes]]: ...


class Counts(Protocol):
    """Where it is counted what was lost."""

    lost: int


def take_arrived(agent: Inbox, errors: tuple[type[Exception], ...], counts: Counts) -> list[tuple[str, bytes]]:
    """The notifications that have arrived since the last call, each with the agent that sent it. Raises no Exception.

    Empty where the transport refuses to say: a caller's loop must not die of that (KS-7.1), and nothing is lost by it.
    But NIXL's binding makes the names of agents text when it hands over all that has arrived: one name that is not
    UTF-8 makes the whole of it fail, and by then the library has given it away (seen on 1.5.1, whose agents can be made
    with such a name). Nothing here can bring it back. It is counted in ``counts.lost``, and whoever misses an answer
    asks again.
    """
    try:
        arrived = agent.get_new_notifs()
    except errors as error:
        logger.warning("notifications could not be taken: %r", error)
        return []
    except UnicodeError as error:
        counts.lost += 1
        logger.error("notifications are lost, because an agent among their senders has no text as its name: %r", error)
        return []
    except Exception:
        logger.exception("taking notifications")
        return []
    return [(name, message) for name, messages in arrived.items() for message in messages]
