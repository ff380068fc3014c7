"""The letters of the Mealy machine: what they say, what the sender answers, and the readings of the contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

PEERS: Final = 2


class Letter(StrEnum):
    """One input. The order is the order of the suite, so it does not change lightly."""

    SEND = "send"
    """The next chunk, not the last one. A peer that is gone refuses it."""
    LAST = "last"
    """The last chunk, with the aux data. After it the caller has nothing to send, and a send letter is no call."""
    SEND_FIRST_REJECTED = "send, first post rejected"
    SEND_SECOND_REJECTED = "send, second post rejected"
    """What was posted to the first peer stays in flight."""
    LAST_SECOND_REJECTED = "last, second post rejected"
    POLL = "poll"
    POLL_PEER_0 = "poll, peer 0 finished"
    """All that is in flight to this peer is complete."""
    POLL_PEER_1 = "poll, peer 1 finished"
    POLL_ALL = "poll, all finished"
    POLL_ERROR = "poll, one error and the rest finished"
    """A check answers an error; nothing stays in flight, so whose check it was does not matter."""
    POLL_LOST_0 = "poll, peer 0 gone"
    """The peer's process is gone, for good: checks of and posts to it raise a disconnect."""
    POLL_LOST_1 = "poll, peer 1 gone"
    POLL_LATE = "poll, past the deadline"
    """The transfer deadline has passed, and with it any drain deadline."""
    POLL_LATE_ALL = "poll, past the deadline and all finished"
    """A completion that is there beats the deadline (KS-3.5)."""
    FAILURE_EXCEPTION = "failure_exception"
    ABORT = "abort"
    CLEAR = "clear"


class Answer(StrEnum):
    """One output: as much of what the caller gets back, and the transport is asked, as the contract fixes."""

    RETURNS = "returns"
    ASKS = "asks the transport"
    """send() returns, and has asked for transfers."""
    PENDING = "pending"
    """Any of poll()'s values that is not terminal."""
    SUCCESS = "Success"
    FAILED = "Failed"
    CAUSE = "raises a cause"
    USAGE = "raises a usage error"
    RAISES = "raises what it may not"
    BREAKS = "breaks a clause"
    """Seen by the observer, and by no reply. The specification never does this."""


CallSequence: TypeAlias = tuple[Letter, ...]


class Reading(StrEnum):
    """When a room that has failed says so, and whether a reader still needs a holder whose data are here.

    The contract allows all of them (KS-4.1, KS-3.1). A reader that looks at each grant when all data of its room are
    here cannot look at that of a holder which is gone by then, and fails; one that has looked before, or finds it out
    in another way, may end with Success.
    """

    PATIENT = "when its handles have settled"
    PROMPT = "at once"
    PATIENT_LOOKING = "when its handles have settled, and look at their grants when all data are here"
    PROMPT_LOOKING = "at once, and look at their grants when all data are here"

    @property
    def prompt(self) -> bool:
        return self in (Reading.PROMPT, Reading.PROMPT_LOOKING)

    @property
    def looks(self) -> bool:
        return self in (Reading.PATIENT_LOOKING, Reading.PROMPT_LOOKING)


@dataclass(frozen=True, slots=True)
class Poll:
    """What happens before the first of a letter's polls."""

    finished: tuple[int, ...] = ()
    """The peers to which everything in flight is complete."""
    lost: tuple[int, ...] = ()
    error: bool = False
    late: bool = False


POLLS: Final[Mapping[Letter, Poll]] = {
    Letter.POLL: Poll(),
    Letter.POLL_PEER_0: Poll(finished=(0,)),
    Letter.POLL_PEER_1: Poll(finished=(1,)),
    Letter.POLL_ALL: Poll(finished=(0, 1)),
    Letter.POLL_ERROR: Poll(finished=(0, 1), error=True),
    Letter.POLL_LOST_0: Poll(lost=(0,)),
    Letter.POLL_LOST_1: Poll(lost=(1,)),
    Letter.POLL_LATE: Poll(late=True),
    Letter.POLL_LATE_ALL: Poll(finished=(0, 1), late=True),
}


@dataclass(frozen=True, slots=True)
class Send:
    """Which chunk, and which post the transport rejects."""

    last: bool = False
    rejected: int | None = None


SENDS: Final[Mapping[Letter, Send]] = {
    Letter.SEND: Send(),
    Letter.LAST: Send(last=True),
    Letter.SEND_FIRST_REJECTED: Send(rejected=0),
    Letter.SEND_SECOND_REJECTED: Send(rejected=1),
    Letter.LAST_SECOND_REJECTED: Send(last=True, rejected=1),
}
