"""What SGLang's decode side is told, over NIXL's notifications or over a control socket, in the kit's words."""

from __future__ import annotations

from typing import Final

from kvsender_connectors.wire import STATUS
from kvsender_spec.contract import KVPoll
from kvsender_spec.kit.adapter import Notification, NotificationKind

SEPARATOR: Final = b"\x00"
"""Between the frames of a control message, which the kit keeps as one."""


def read_status(message: bytes) -> Notification | None:
    """0.5.23's message about the end of a room: a tag where the transport is NIXL, room, status, rank, and the reason
    where the transport is NIXL."""
    parts = message.split(SEPARATOR)
    tagged = parts[0] == STATUS
    fields = parts[1:] if tagged else parts
    if len(fields) < 3 or not (fields[0].isdigit() and fields[1].isdigit()):
        return None
    room, status = int(fields[0]), int(fields[1])
    if status not in (KVPoll.Failed, KVPoll.Success):
        return None
    kind = NotificationKind.FAILURE if status == KVPoll.Failed else NotificationKind.SUCCESS
    reason = fields[3].decode("utf-8", "replace") if len(fields) > 3 else ""
    return Notification(kind, room, reason=reason)


def read_chunk(message: bytes) -> Notification | None:
    """The notification that travels with a transfer up to 0.5.12: the room, what it was, and counters."""
    room, underscore, _ = message.partition(b"_")
    return Notification(NotificationKind.PROGRESS, int(room)) if underscore and room.isdigit() else None
