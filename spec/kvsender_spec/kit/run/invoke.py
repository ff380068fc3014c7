"""Makes one call of the caller's on a sender."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

from kvsender_spec.contract import Abortable, Clearable, Measured, Sender
from kvsender_spec.history.words import CallName
from kvsender_spec.trace import Call

CALL_NAMES: Final = {
    Call.SEND: CallName.SEND,
    Call.POLL: CallName.POLL,
    Call.FAILURE_EXCEPTION: CallName.FAILURE_EXCEPTION,
    Call.ABORT: CallName.ABORT,
    Call.CLEAR: CallName.CLEAR,
    Call.METRIC: CallName.METRICS,
}


def invoke(sender: Sender, call: Call, pages: Sequence[int]) -> object:
    match call:
        case Call.SEND:
            sender.send(pages)
        case Call.POLL:
            return sender.poll()
        case Call.FAILURE_EXCEPTION:
            sender.failure_exception()
        case Call.ABORT:
            cast("Abortable", sender).abort()
        case Call.CLEAR:
            cast("Clearable", sender).clear()
        case Call.METRIC:
            cast("Measured", sender).get_transfer_metric()
        case _:
            raise AssertionError(f"{call} is not a call of the caller")
    return None
