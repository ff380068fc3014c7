"""What a target asks of an initiator about a room: to end it, and how it stands.

A target gets no event but notifications, and one that is lost is not repeated by itself. So it asks; the initiator
answers by repeating how the room has ended, or with a ``StateNotification``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from kvsender_nixl.notifications import require_incarnation, token_of
from kvsender_nixl.wire import Json, bool_field, envelope, int_field, str_field


@dataclass(frozen=True, slots=True)
class AbortRequest:
    """A peer gives up one incarnation of a room. Once nothing of it can touch the peer's pages any more it is told so:
    by a failure that is quiesced, or by a ``QuiescedNotification``. ``incarnation`` is the peer's own."""

    kind: ClassVar[str] = "abort"
    says: ClassVar[str] = "given up by peer"

    room: int
    token: str
    agent_name: str
    incarnation: str = ""

    def to_bytes(self) -> bytes:
        fields: dict[str, Json] = {"room": self.room, "token": self.token, "agent_name": self.agent_name}
        return envelope(self.kind, {**fields, "incarnation": self.incarnation})


@dataclass(frozen=True, slots=True)
class LeaseLost(AbortRequest):
    """A holder no longer promises to keep the pages of one incarnation of a room, or has never done so. For a reader
    that is a request like any other to let go of the room; a renewal for such a room is answered with it."""

    kind: ClassVar[str] = "lease lost"
    says: ClassVar[str] = "there is no lease at peer"


@dataclass(frozen=True, slots=True)
class StatusRequest:
    """A peer has heard nothing of a room for a while. With ``given_up`` it has given the room up, and waits for its
    pages: then it is an ``AbortRequest`` as well."""

    room: int
    token: str
    agent_name: str
    incarnation: str = ""
    given_up: bool = False

    @property
    def abort(self) -> AbortRequest:
        return AbortRequest(self.room, self.token, self.agent_name, self.incarnation)

    def to_bytes(self) -> bytes:
        fields: dict[str, Json] = {"room": self.room, "token": self.token, "agent_name": self.agent_name}
        return envelope("status", {**fields, "incarnation": self.incarnation, "given_up": self.given_up})


def abort_request(fields: Mapping[str, Json]) -> AbortRequest:
    """Raises ValueError where the fields do not say one."""
    token, incarnation = token_of(str_field(fields, "token")), str_field(fields, "incarnation")
    require_incarnation(incarnation)
    return AbortRequest(int_field(fields, "room"), token, str_field(fields, "agent_name"), incarnation)


def lease_lost(fields: Mapping[str, Json]) -> LeaseLost:
    """Raises ValueError where the fields do not say one."""
    said = abort_request(fields)
    return LeaseLost(said.room, said.token, said.agent_name, said.incarnation)


def status_request(fields: Mapping[str, Json]) -> StatusRequest:
    """Raises ValueError where the fields do not say one."""
    said = abort_request(fields)
    given_up = bool_field(fields, "given_up")
    return StatusRequest(said.room, said.token, said.agent_name, said.incarnation, given_up)
