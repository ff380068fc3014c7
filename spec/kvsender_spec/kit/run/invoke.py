"""Makes one call of the caller's on a sender or reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, cast

from kvsender_spec.contract import Abortable, Clearable, Initiator, Measured, Operation, Reader, Sender
from kvsender_spec.history.words import CallName
from kvsender_spec.kit.adapter import AnySystem, ReaderSystem, RoomPlan, System
from kvsender_spec.trace import Call

_NAMES: Final = {
    Call.SEND: CallName.SEND,
    Call.POLL: CallName.POLL,
    Call.FAILURE_EXCEPTION: CallName.FAILURE_EXCEPTION,
    Call.ABORT: CallName.ABORT,
    Call.CLEAR: CallName.CLEAR,
    Call.METRIC: CallName.METRICS,
}
CALL_NAMES: Final[Mapping[Operation, Mapping[Call, CallName]]] = {
    "WRITE": _NAMES,
    "READ": {**_NAMES, Call.SEND: CallName.READ},
}
"""What each step is called in a history."""
MAKES: Final[Mapping[Operation, str]] = {"WRITE": "sender", "READ": "reader"}
"""The method of a system that makes what initiates a room's transfers, which is called the same."""


def made(system: AnySystem, operation: Operation, plan: RoomPlan) -> Initiator:
    """Have the system make a room's sender or reader."""
    if operation == "READ":
        return cast("ReaderSystem", system).reader(plan)
    return cast("System", system).sender(plan)


def invoke(initiator: Initiator, operation: Operation, call: Call, pages: Sequence[int]) -> object:
    match call:
        case Call.SEND if operation == "READ":
            cast("Reader", initiator).read(pages)
        case Call.SEND:
            cast("Sender", initiator).send(pages)
        case Call.POLL:
            return initiator.poll()
        case Call.FAILURE_EXCEPTION:
            initiator.failure_exception()
        case Call.ABORT:
            cast("Abortable", initiator).abort()
        case Call.CLEAR:
            cast("Clearable", initiator).clear()
        case Call.METRIC:
            cast("Measured", initiator).get_transfer_metric()
        case _:
            raise AssertionError(f"{call} is not a call of the caller")
    return None
