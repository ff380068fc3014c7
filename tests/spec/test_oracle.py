"""The oracle allows what the contract leaves open, and nothing else."""

from __future__ import annotations

from kvsender_spec.contract import KVPoll
from kvsender_spec.history.events import ErrorSeen
from kvsender_spec.history.words import Origin
from kvsender_spec.machine import HandleEvent, Input, State
from kvsender_spec.oracle import ABORTED, DEADLINE, PEER_LOST, Cause, CauseKind, RoomOracle


def cause(ref: int, text: str) -> Cause:
    error = ErrorSeen(seq=ref, t=0.0, ref=ref, type="ConnectionError", text=text, origin=Origin.TRANSPORT)
    return Cause(CauseKind.RAISED, error)


ERROR = cause(0, "gone")
LATER = cause(1, "later")


def posted(*, chunks: int = 1, now: float = 0.0) -> RoomOracle:
    """A room all of whose chunks are posted and in flight."""
    oracle = RoomOracle(transfer_timeout_s=30.0)
    for number in range(chunks):
        oracle.adopt(number)
        oracle.handle_event(number, HandleEvent.ACCEPTED, now)
        last = number == chunks - 1
        assert oracle.take(Input.SEND_LAST_ACCEPTED if last else Input.SEND_ACCEPTED) is None
    return oracle


def poll(oracle: RoomOracle, value: KVPoll, error: Cause | None = None, now: float = 0.0, there: bool = False) -> bool:
    return oracle.polled(value, error, now, completion_is_there=there)


def states(oracle: RoomOracle) -> set[State]:
    return {possible.state for possible in oracle.possible}


def test_success_needs_the_last_chunk_and_every_handle() -> None:
    assert not poll(RoomOracle(30.0), KVPoll.Success)
    oracle = posted(chunks=2)
    oracle.handle_event(1, HandleEvent.FINISHED, 0.0)
    assert not poll(oracle, KVPoll.Success)
    oracle.handle_event(0, HandleEvent.FINISHED, 0.0)
    assert poll(oracle, KVPoll.Success)
    assert states(oracle) == {State.DONE}
    assert not poll(oracle, KVPoll.Transferring)
    assert not poll(oracle, KVPoll.Failed)


def test_a_completion_may_be_noticed_late() -> None:
    oracle = posted()
    oracle.handle_event(0, HandleEvent.FINISHED, 0.0)
    assert poll(oracle, KVPoll.Transferring)
    assert states(oracle) == {State.SENDING}
    assert poll(oracle, KVPoll.Success)
    assert states(oracle) == {State.DONE}


def test_failed_needs_a_cause() -> None:
    assert not poll(posted(), KVPoll.Failed)
    assert not poll(RoomOracle(30.0), KVPoll.Failed)
    assert poll(posted(), KVPoll.Failed, ERROR)


def test_an_error_that_was_answered_is_latched_at_once() -> None:
    oracle = posted()
    assert poll(oracle, KVPoll.Transferring, ERROR)
    assert states(oracle) == {State.FAILED}
    oracle.handle_event(0, HandleEvent.FINISHED, 0.0)
    assert not poll(oracle, KVPoll.Success)
    assert poll(oracle, KVPoll.Failed, LATER)
    assert [possible.cause for possible in oracle.possible] == [ERROR]
    assert states(oracle) == {State.STICKY_FAILED}
    assert not poll(oracle, KVPoll.Transferring)


def test_a_deadline_may_be_noticed_late_and_never_early() -> None:
    oracle = posted()
    assert not poll(oracle, KVPoll.Failed, now=29.9)
    assert poll(oracle, KVPoll.Transferring, now=30.0)
    assert states(oracle) == {State.SENDING, State.FAILED}
    assert poll(oracle, KVPoll.Failed, now=30.0)
    assert [possible.cause for possible in oracle.possible] == [DEADLINE]


def test_a_completion_that_is_there_beats_the_deadline() -> None:
    assert not poll(posted(), KVPoll.Failed, now=31.0, there=True)
    assert poll(posted(), KVPoll.Transferring, now=31.0, there=True)


def test_abort_fails_a_live_room_and_no_other() -> None:
    oracle = posted()
    assert oracle.take(Input.ABORT, ABORTED) is None
    assert poll(oracle, KVPoll.Failed)
    assert [possible.cause for possible in oracle.possible] == [ABORTED]
    done = posted()
    done.handle_event(0, HandleEvent.FINISHED, 0.0)
    assert poll(done, KVPoll.Success)
    assert done.take(Input.ABORT, ABORTED) is None
    assert states(done) == {State.DONE}


def test_a_post_after_the_failure_breaks_its_clause() -> None:
    oracle = posted(chunks=1)
    oracle.take(Input.ABORT, ABORTED)
    assert oracle.take(Input.SEND_ACCEPTED) == "KS-2.5"
    assert oracle.take(Input.SEND_NOTHING) is None


def test_what_a_sender_may_take_for_a_failure_is_optional() -> None:
    oracle = posted()
    oracle.may_fault(ERROR)
    assert states(oracle) == {State.SENDING, State.FAILED}
    oracle.handle_event(0, HandleEvent.FINISHED, 0.0)
    assert poll(oracle, KVPoll.Success)
    assert states(oracle) == {State.DONE}


def test_a_restarted_peer_may_be_noticed_at_any_time() -> None:
    oracle = posted()
    oracle.may_fault(PEER_LOST, from_now_on=True)
    oracle.keep([possible for possible in oracle.possible if possible.state is State.SENDING])
    assert states(oracle) == {State.SENDING, State.FAILED}
    assert poll(oracle, KVPoll.Failed)


def test_after_the_end_no_standing_cause_applies() -> None:
    oracle = posted()
    oracle.handle_event(0, HandleEvent.FINISHED, 0.0)
    assert poll(oracle, KVPoll.Success)
    oracle.may_fault(PEER_LOST, from_now_on=True)
    assert states(oracle) == {State.DONE}
