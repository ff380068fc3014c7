"""Workers: posts after a failure, checks that no poll() makes, their end, and a transport that hides its errors."""

from __future__ import annotations

import msgspec
import pytest

from kvsender_spec.history import events as h
from kvsender_spec.history.header import Ability, Header, Limits, Source
from kvsender_spec.history.words import CallName, Destination, Origin
from kvsender_spec.observe.observer import Observer

HEADER = Header(
    source=Source.SCRIPTED,
    vantage=tuple(h.KINDS),
    can=(Ability.ABORT, Ability.WORKERS),
    profile="full",
    limits=Limits(transfer_timeout_s=30.0, drain_timeout_s=5.0),
)


class Seen:
    """An observer, and what it is shown."""

    def __init__(self, *further: Ability) -> None:
        self.observer = Observer(msgspec.structs.replace(HEADER, can=(*HEADER.can, *further)))
        self.seq = -1

    @property
    def next(self) -> int:
        self.seq += 1
        return self.seq

    def open(self, key: int = 0, *, pages: int = 1) -> None:
        peer = Destination(peer="decode0", generation=0, pages=(key,) if pages else (), aux=key)
        self.observer.see(
            h.RoomOpened(seq=self.next, t=0.0, room=key, id=key, pages=pages, aux=0, destinations=(peer,))
        )

    def call(self, what: CallName, value: str | None = None, *, room: int = 0, check: int | None = None) -> None:
        of = self.next
        pages, last = ((0,), True) if what is CallName.SEND else ((), False)
        self.observer.see(h.CallStarted(seq=of, t=0.0, room=room, what=what, pages=pages, last=last))
        if check is not None:
            self.check(check, call=of)
        self.observer.see(h.CallEnded(seq=self.next, t=0.0, of=of, room=room, value=value))

    def post(self, handle: int) -> None:
        """A worker makes and posts a transfer of room 0."""
        self.observer.see(
            h.TransferMade(
                seq=self.next, t=0.0, thread=2, peer="decode0", handle=handle, pages=(0,), target=(0,), room=0
            )
        )
        self.observer.see(h.TransferPosted(seq=self.next, t=0.0, thread=2, handle=handle, answer="PROC", room=0))

    def check(self, handle: int, *, call: int | None = None, answer: str = "PROC") -> None:
        """The caller's call asks about a transfer; without one, a worker."""
        self.observer.see(
            h.TransferChecked(seq=self.next, t=0.0, thread=2, call=call, handle=handle, answer=answer, room=0)
        )

    def failure(self, text: str) -> None:
        """failure_exception() raises an error with this text."""
        of = self.next
        self.observer.see(h.CallStarted(seq=of, t=0.0, room=0, what=CallName.FAILURE_EXCEPTION))
        error = h.ErrorSeen(seq=self.next, t=0.0, ref=0, type="KVTransferError", text=text, origin=Origin.OTHER)
        self.observer.see(error)
        self.observer.see(h.CallEnded(seq=self.next, t=0.0, of=of, room=0, error=0))

    @property
    def broken(self) -> list[tuple[str, int | None, str]]:
        return [(found.clause, found.room, found.after) for found in self.observer.findings.violations]


def test_a_post_of_a_worker_after_a_failure_breaks_2_5() -> None:
    seen = Seen()
    seen.open()
    seen.call(CallName.SEND)
    seen.call(CallName.ABORT)
    seen.post(0)
    seen.call(CallName.POLL, "Failed")
    assert ("KS-2.5", 0, "") in seen.broken


def test_a_post_of_a_worker_before_the_failure_is_fine() -> None:
    seen = Seen()
    seen.open()
    seen.call(CallName.SEND)
    seen.post(0)
    seen.call(CallName.POLL, "Transferring")
    seen.call(CallName.ABORT)
    assert not seen.broken


def failed() -> Seen:
    seen = Seen()
    seen.open()
    seen.call(CallName.SEND)
    seen.post(0)
    seen.call(CallName.ABORT)
    seen.call(CallName.POLL, "Failed")
    return seen


def test_a_check_is_a_polls_only_if_the_poll_makes_it() -> None:
    seen = failed()
    seen.check(0)
    seen.call(CallName.POLL, "Failed")
    assert "KS-2.6" not in {clause for clause, _, _ in seen.broken}
    seen.call(CallName.POLL, "Failed", check=0)
    assert "KS-2.6" in {clause for clause, _, _ in seen.broken}


def test_a_worker_within_a_polls_time_is_not_the_poll() -> None:
    seen = failed()
    of = seen.next
    seen.observer.see(h.CallStarted(seq=of, t=0.0, room=0, what=CallName.POLL))
    seen.check(0)
    seen.observer.see(h.CallEnded(seq=seen.next, t=0.0, of=of, room=0, value="Failed"))
    assert "KS-2.6" not in {clause for clause, _, _ in seen.broken}


def test_what_breaks_after_a_worker_has_ended_is_after_7_1_in_every_room() -> None:
    seen = Seen()
    seen.open(0)
    seen.observer.see(h.WorkerEnded(seq=seen.next, t=0.0, name="worker"))
    seen.open(1)
    for room in (0, 1):
        seen.call(CallName.POLL, "Failed", room=room)
    assert seen.broken == [("KS-7.1", None, ""), ("KS-3.5", 0, "KS-7.1"), ("KS-3.5", 1, "KS-7.1")]


@pytest.mark.parametrize(
    ("further", "broken"), [((), [("KS-2.3", 0, "")]), ((Ability.HIDES_ERRORS,), [])], ids=["shown", "hidden"]
)
def test_a_word_that_the_transport_hides_need_not_be_shown(
    further: tuple[Ability, ...], broken: list[tuple[str, int | None, str]]
) -> None:
    seen = Seen(*further)
    seen.open()
    seen.call(CallName.SEND)
    seen.post(0)
    seen.check(0, answer="ERR")
    seen.call(CallName.POLL, "Failed")
    seen.failure("Failed to send")
    assert [found for found in seen.broken if found[0] != "KS-4.1"] == broken


@pytest.mark.parametrize(("answer", "broken"), [("ERR", {"KS-3.4"}), ("DONE", {"KS-3.2", "KS-3.4"})])
def test_a_failed_room_without_pages_that_never_ends_is_not_held_up_by_them(answer: str, broken: set[str]) -> None:
    seen = Seen()
    seen.open(pages=0)
    seen.call(CallName.SEND)
    seen.post(0)
    seen.check(0, answer=answer)
    seen.observer.see(h.FaultsOver(seq=seen.next, t=0.0, settles=True))
    for _ in range(10):
        seen.call(CallName.POLL, "Transferring")
    assert {clause for clause, _, _ in seen.broken} == broken
