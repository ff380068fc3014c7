"""What kvsender_history records: tests behave as before, and what the wrappers cannot see is never judged."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import Enum
from operator import attrgetter
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import MagicMock

import pytest
from tests.mutants import inline, seed, workers

from kvsender_spec.contract import Attribution, KVPoll, Sender
from kvsender_spec.faults import STAND_INS
from kvsender_spec.fronts.own.fixture import Moves, OwnHistory
from kvsender_spec.fronts.own.judging import file_name, judge
from kvsender_spec.history.events import (
    CallEnded,
    CallStarted,
    ErrorSeen,
    Event,
    EventsDropped,
    PeerAdded,
    RoomOpened,
    TransferChecked,
    TransferMade,
    TransferReleased,
)
from kvsender_spec.history.header import Source
from kvsender_spec.history.ndjson import check, read
from kvsender_spec.history.words import Origin
from kvsender_spec.kit.adapter import Adapter, RoomPlan, World
from kvsender_spec.kit.parts import parts_of
from kvsender_spec.kit.run.execute import run_trace
from kvsender_spec.kit.search.sweep import SWEEP
from kvsender_spec.machine import Profile
from kvsender_spec.observe.verdict import Outcome, Verdict
from kvsender_spec.recorded import Recorded

Lost = STAND_INS["nixlRemoteDisconnectError"]


class Handle:
    """As nixl's: an object, which others may refer to weakly."""


class Agent:
    """A fake with as little as a sender needs."""

    def __init__(self, kind: Callable[[], Any] = Handle) -> None:
        self.kind = kind
        self.answer: str | BaseException = "PROC"
        self.asked: list[Any] = []

    def add_remote_agent(self, metadata: bytes) -> bytes:
        return metadata

    def initialize_xfer(
        self, operation: str, local: Any, remote: Any, remote_agent: str, notif_msg: bytes = b""
    ) -> Any:
        return self.kind()

    def transfer(self, handle: Any) -> str:
        return self.check_xfer_state(handle)

    def check_xfer_state(self, handle: Any) -> str:
        self.asked.append(handle)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def release_xfer_handle(self, handle: Any) -> None:
        self.asked.append(handle)


class MySender:
    """Posts in send(), checks in poll(); a right one, unless it is told otherwise."""

    def __init__(self, agent: Any, peer: str = "decode0") -> None:
        self.agent, self.peer = agent, peer
        self.handles: list[Any] = []
        self.error: Exception | None = None
        self.known = range(100)

    def send(self, kv_indices: Any) -> None:
        pages = list(kv_indices)
        if not set(pages) <= set(self.known) or len(set(pages)) < len(pages):
            raise ValueError(f"{pages}: no such pages")
        self.handles.append(self.agent.initialize_xfer("WRITE", pages, [], self.peer))
        self.agent.transfer(self.handles[-1])

    def poll(self) -> Any:
        try:
            if self.error is None:
                done = [self.agent.check_xfer_state(handle) == "DONE" for handle in self.handles]
                return KVPoll.Success if done and all(done) else KVPoll.Transferring
        except tuple(STAND_INS.values()) as error:
            self.error = error
        return KVPoll.Failed

    def failure_exception(self) -> NoReturn:
        raise self.error or ValueError("it has not failed")

    def abort(self) -> None:
        self.error = self.error or ConnectionAbortedError("aborted")


class Wired:
    """A sender and its agent, both wrapped, and what is recorded of them."""

    def __init__(self, agent: Agent | None = None, **settings: Any) -> None:
        self.own = OwnHistory("a test")
        self.own.settings(profile="full", **settings)
        self.fake = Agent() if agent is None else agent
        self.agent = self.own.agent(self.fake)

    def sender(self, made: Any = None, **options: Any) -> Any:
        given = {"room": 7, "pages": 2, "peers": ("decode0",), **options}
        return self.own.sender(MySender(self.agent) if made is None else made, **given)

    def events(self, *kinds: type[Event]) -> list[Any]:
        return [event for event in self.own.history.events if isinstance(event, kinds)]

    def verdicts(self) -> dict[str, Verdict]:
        history = self.own.end()
        check(history)
        return {verdict.clause.id: verdict for verdict in Recorded("it", history).verdicts(None)}

    def broken(self) -> set[str]:
        return {clause for clause, verdict in self.verdicts().items() if verdict.outcome.failed}


@pytest.fixture
def wired() -> Wired:
    return Wired()


# ------------------------------------------------------------------------------------------- the test is as before


def test_a_wrapped_object_is_the_real_one_for_its_test(wired: Wired) -> None:
    real = MySender(wired.agent)
    sender = wired.sender(real)
    assert isinstance(sender, MySender)
    assert isinstance(wired.agent, Agent)
    assert sender == real
    assert hash(sender) == hash(real)
    assert repr(sender) == repr(real)
    assert dir(sender) == dir(real)
    sender.peer = "decode1"
    assert real.peer == "decode1"
    del sender.peer
    assert not hasattr(real, "peer")
    assert not hasattr(sender, "clear")
    with pytest.raises(AttributeError, match="nonsense"):
        attrgetter("nonsense")(sender)


def test_handles_and_answers_pass_as_they_are(wired: Wired) -> None:
    sender = wired.sender()
    sender.send([0, 1])
    assert type(sender.handles[0]) is Handle
    assert sender.poll() is KVPoll.Transferring
    assert wired.fake.asked == [sender.handles[0]] * 2


@pytest.mark.parametrize("error", [Lost("gone"), KeyError("own"), KeyboardInterrupt(), SystemExit(3)])
def test_the_very_error_passes(wired: Wired, error: BaseException) -> None:
    sender = wired.sender()
    wired.fake.answer = error
    with pytest.raises(type(error)) as caught:
        sender.send([0, 1])
    assert caught.value is error
    seen, ended = wired.events(ErrorSeen)[0], wired.events(CallEnded)[0]
    assert ended.error == seen.ref


def test_monkeypatch_and_mocks_work_through_the_wrapper(wired: Wired) -> None:
    sender = wired.sender()
    sender.send([0, 1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wired.agent, "check_xfer_state", lambda handle: "DONE")
        assert sender.poll() is KVPoll.Success
    assert sender.poll() is KVPoll.Transferring
    before = wired.agent.check_xfer_state
    wired.agent.check_xfer_state = before  # type: ignore[method-assign]  # as pytest before 9 puts it back
    assert sender.poll() is KVPoll.Transferring
    assert [event.answer for event in wired.events(TransferChecked)] == ["DONE", "PROC", "PROC"]
    mock = MagicMock()
    wrapped = wired.own.agent(mock)
    wrapped.transfer(1)
    wrapped.transfer.assert_called_once_with(1)


def test_a_use_after_release_goes_through_and_is_told(wired: Wired) -> None:
    sender = wired.sender()
    sender.send([0, 1])
    wired.agent.release_xfer_handle(sender.handles[0])
    assert wired.agent.check_xfer_state(sender.handles[0]) == "PROC"
    assert wired.events(TransferReleased)[0].how == "call"
    assert wired.broken() == {"KS-4.2", "KS-4.3"}


def test_the_last_reference_is_seen_where_it_can_be(wired: Wired) -> None:
    sender = wired.sender()
    sender.send([0, 1])
    wired.fake.asked.clear()
    sender.handles.clear()
    (released,) = wired.events(TransferReleased)
    assert (released.handle, released.how) == (0, "last reference")


def test_an_iterator_of_pages_is_left_to_the_sender(wired: Wired) -> None:
    sender = wired.sender()
    sender.send(iter([0, 1]))
    assert len(sender.handles) == 1
    assert wired.events(EventsDropped), "how many pages there were is not known"
    assert wired.broken() == set()


# ------------------------------------------------------------------------------------------------ what is recorded


def test_a_room_from_its_opening_to_its_end(wired: Wired) -> None:
    wired.agent.add_remote_agent(b"decode0")
    sender = wired.sender(target={"decode0": [4, 5]}, dummies=("decode1",))
    sender.send([0])
    sender.send([1])
    wired.fake.answer = "DONE"
    assert sender.poll() is KVPoll.Success
    (added,), (opened,) = wired.events(PeerAdded), wired.events(RoomOpened)
    assert added.peer == "decode0"
    assert (opened.id, opened.pages) == (7, 2)
    first, dummy = opened.destinations
    assert (first.peer, first.pages, first.unseen) == ("decode0", (4, 5), False)
    assert (dummy.peer, dummy.dummy) == ("decode1", True)
    assert [(event.pages, event.last) for event in wired.events(CallStarted)] == [
        ((0,), False),
        ((1,), True),
        ((), False),
    ]
    assert [event.peer for event in wired.events(TransferMade)] == ["decode0", "decode0"]
    header = wired.own.history.header
    assert (header.source, header.profile) == (Source.LIVE, "full")
    assert wired.broken() == set()


def test_the_user_says_what_a_transfer_moves() -> None:
    own = OwnHistory("a test")
    agent: Any = own.agent(Agent(), moves=lambda *args, **kwargs: Moves(args[1], (8, 9), 3, room=7))
    sender = own.sender(MySender(agent), room=7, pages=2, peers=("decode0",))
    sender.send([0, 1])
    (made,) = [event for event in own.history.events if isinstance(event, TransferMade)]
    assert (made.pages, made.target, made.aux, made.room) == ((0, 1), (8, 9), 3, 0)


def test_the_clock_is_the_users() -> None:
    now = [100.0]
    wired = Wired(clock=lambda: now[0], transfer_timeout_s=2.0)
    sender = wired.sender()
    now[0] = 103.5
    sender.send([0, 1])
    assert wired.events(CallStarted)[0].t == 3.5
    assert wired.own.history.header.limits.transfer_timeout_s == 2.0
    with pytest.raises(RuntimeError, match="has begun"):
        wired.own.settings(profile="latch")
    with pytest.raises(ValueError, match="most"):
        OwnHistory("another").settings(profile="most")


class Theirs(Enum):
    """An engine's own words."""

    Failed = "f"
    OVER = "o"


@pytest.mark.parametrize(
    ("answer", "answers", "value"),
    [
        (0, None, "Failed"),
        (4, None, "Success"),
        (KVPoll.Transferring, None, "Transferring"),
        (Theirs.Failed, None, "Failed"),
        ("Success", None, "Success"),
        (Theirs.OVER, {Theirs.OVER: KVPoll.Success}, "Success"),
        (Theirs.OVER, None, None),
        (True, None, None),
        (99, None, None),
    ],
)
def test_answers_of_poll(
    wired: Wired, answer: object, answers: Mapping[object, KVPoll] | None, value: str | None
) -> None:
    made = MagicMock(spec=["poll"])
    made.poll.return_value = answer
    sender = wired.sender(made, answers=None if answers is None else answers.__getitem__)
    assert sender.poll() is answer
    (ended,) = wired.events(CallEnded)
    assert ended.value == value
    assert bool(wired.events(EventsDropped)) == (value is None)


def test_errors_are_told_apart_by_name_by_class_and_by_what_is_said(wired: Wired) -> None:
    class nixlBackendError(Exception):
        pass

    class Ours(Exception):
        pass

    class Reset(Exception):
        pass

    options: dict[str, Any] = {"errors": (Ours,), "disconnect": ("Reset",), "usage": (LookupError,)}
    sender = wired.sender(**options, attribution=lambda _: Attribution.PEER)
    sender.send([0, 1])
    for error in (nixlBackendError(), Ours(), Reset(), LookupError(), OSError(), Lost()):
        wired.fake.answer = error
        with pytest.raises(type(error)):
            wired.agent.check_xfer_state(sender.handles[0])
    with pytest.raises(ValueError, match="not failed"):
        sender.failure_exception()
    assert wired.events(CallEnded)[-1].attribution == "peer"
    origins = {event.type: (event.origin, event.disconnect) for event in wired.events(ErrorSeen)}
    assert origins == {
        "nixlBackendError": (Origin.TRANSPORT, False),
        "Ours": (Origin.TRANSPORT, False),
        "Reset": (Origin.TRANSPORT, True),
        "nixlRemoteDisconnectError": (Origin.TRANSPORT, True),
        "LookupError": (Origin.USAGE, False),
        "OSError": (Origin.OTHER, False),
        "ValueError": (Origin.OTHER, False),
    }


def test_what_is_asked_of_a_handle_that_nobody_knows_is_lost(wired: Wired) -> None:
    wired.agent.check_xfer_state(Handle())
    assert not wired.events(TransferChecked)
    assert wired.events(EventsDropped)


# ------------------------------------------------------------------------------------------------ what breaks clauses


class Escapes(MySender):
    def poll(self) -> Any:
        return KVPoll.Success if self.agent.check_xfer_state(self.handles[0]) == "DONE" else KVPoll.Transferring


class Relapses(MySender):
    def poll(self) -> Any:
        answer, self.error = super().poll(), None
        return answer


def test_an_error_that_escapes_is_ks_1_1(wired: Wired) -> None:
    sender = wired.sender(Escapes(wired.agent))
    sender.send([0, 1])
    wired.fake.answer = Lost("gone")
    with pytest.raises(Lost):
        sender.poll()
    assert wired.broken() == {"KS-1.1", "KS-1.2"}


def test_success_after_failed_is_ks_2_1_and_ks_2_2(wired: Wired) -> None:
    sender = wired.sender(Relapses(wired.agent))
    sender.send([0, 1])
    wired.fake.answer = Lost("gone")
    assert sender.poll() is KVPoll.Failed
    wired.fake.answer = "DONE"
    assert sender.poll() is KVPoll.Success
    assert {"KS-2.1", "KS-2.2"} <= wired.broken()


def test_success_before_the_transfer_is_done_is_ks_3_1(wired: Wired) -> None:
    made = MySender(wired.agent)
    sender = wired.sender(made)
    sender.send([0, 1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made, "poll", lambda: KVPoll.Success)
        sender.poll()
    assert wired.broken() == {"KS-3.1"}, (
        "and not KS-3.2: that the pages are not known does not mean that there are none"
    )


# --------------------------------------------------------------------------------------------- what is never judged


def test_what_rests_on_unseen_kinds_is_inconclusive_with_the_reason(wired: Wired) -> None:
    sender = wired.sender()
    sender.send([0, 1])
    wired.fake.answer = "DONE"
    assert sender.poll() is KVPoll.Success
    wired.agent.release_xfer_handle(sender.handles[0])
    verdicts = wired.verdicts()
    reasons = {
        "KS-1.5": "import.probed",
        "KS-3.1": "bytes.compared",
        "KS-3.4": "faults.over",
        "KS-4.1": "pages.held",
        "KS-4.3": "kept.counted",
        "KS-4.4": "pages.held",
        "KS-6.1": "notification.heard, faults.over",
        "KS-6.2": "peer.lost",
        "KS-6.3": "peer.returned",
    }
    for clause, kinds in reasons.items():
        assert verdicts[clause].outcome is Outcome.INCONCLUSIVE, clause
        assert verdicts[clause].note == f"the source does not record what it needs: {kinds}"
    assert verdicts["KS-4.2"].outcome is Outcome.PASS


def test_a_failure_that_nothing_explains_is_not_blamed(wired: Wired) -> None:
    """A heartbeat has told the sender, say."""
    made = MySender(wired.agent)
    sender = wired.sender(made)
    sender.send([0, 1])
    made.error = ConnectionError("no heartbeat")
    for _ in range(2):
        with pytest.raises(ConnectionError):
            sender.failure_exception()
    assert sender.poll() is KVPoll.Failed
    with pytest.raises(ConnectionError):
        sender.failure_exception()
    verdicts = wired.verdicts()
    assert not [verdict for verdict in verdicts.values() if verdict.outcome.failed]
    for clause in ("KS-2.3", "KS-2.7", "KS-3.5"):
        assert verdicts[clause].outcome is Outcome.INCONCLUSIVE, clause
        assert verdicts[clause].note.startswith("the source does not record what it needs: "), clause


def test_a_cause_that_is_lost_is_blamed_all_the_same(wired: Wired) -> None:
    """The control: the transport has told the sender, and the caller is told something else."""
    made = MySender(wired.agent)
    sender = wired.sender(made)
    sender.send([0, 1])
    wired.fake.answer = Lost("gone")
    assert sender.poll() is KVPoll.Failed
    made.error = OSError("something")
    with pytest.raises(OSError, match="something"):
        sender.failure_exception()
    assert wired.broken() == {"KS-2.3"}


def test_of_a_sender_whose_agent_is_not_wrapped_only_its_answers_are_judged() -> None:
    def verdicts(*answers: KVPoll) -> dict[str, Verdict]:
        wired = Wired()
        own = wired.own = OwnHistory("a test")
        own.settings(profile="full")
        made = MagicMock(spec=["poll"])
        made.poll.side_effect = answers
        sender = own.sender(made, room=7, pages=2, peers=("decode0",))
        for _ in answers:
            sender.poll()
        assert "transfer.made" not in own.history.header.vantage
        return wired.verdicts()

    good, bad = verdicts(KVPoll.Success, KVPoll.Success), verdicts(KVPoll.Failed, KVPoll.Success)
    assert {v.clause.id for v in good.values() if v.outcome is Outcome.PASS} == {"KS-2.1"}
    assert {v.clause.id for v in bad.values() if v.outcome.failed} == {"KS-2.1"}


def worked(work: Callable[[], object]) -> None:
    """In another thread."""
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


class Queues(MySender):
    """What send() takes, a worker posts."""

    def send(self, kv_indices: Any) -> None:
        worked(lambda: MySender.send(self, kv_indices))


def test_a_workers_transfer_belongs_to_the_only_room(wired: Wired) -> None:
    sender = wired.sender(Queues(wired.agent))
    sender.send([0, 1])
    wired.fake.answer = "DONE"
    assert sender.poll() is KVPoll.Success
    (made,) = wired.events(TransferMade)
    assert made.room == 0
    assert not wired.events(EventsDropped)
    assert wired.broken() == set()


@pytest.mark.parametrize("apart", [True, False])
def test_a_workers_transfer_belongs_to_the_room_of_its_peer_or_to_none(wired: Wired, apart: bool) -> None:
    first = wired.sender(Queues(wired.agent))
    second = wired.sender(
        Queues(wired.agent, "decode1" if apart else "decode0"), room=8, peers=(f"decode{int(apart)}",)
    )
    for sender in (first, second):
        sender.send([0, 1])
    wired.fake.answer = "DONE"
    assert [sender.poll() for sender in (first, second)] == [KVPoll.Success] * 2
    assert [made.room for made in wired.events(TransferMade)] == ([0, 1] if apart else [None, None])
    assert bool(wired.events(EventsDropped)) is not apart
    assert wired.broken() == set()


def test_two_transfers_with_one_handle_are_not_told_apart() -> None:
    wired = Wired(Agent(lambda: "the handle"))
    sender = wired.sender()
    sender.send([0])
    sender.send([1])
    wired.fake.answer = "DONE"
    assert sender.poll() is KVPoll.Success
    assert wired.events(EventsDropped)
    assert wired.broken() == set()


def test_a_handle_that_comes_back_after_its_end_is_another_one() -> None:
    wired = Wired(Agent(lambda: "the handle"))
    wired.fake.answer = "DONE"
    sender = wired.sender()
    sender.send([0])
    sender.send([1])
    assert sender.poll() is KVPoll.Success
    assert [made.handle for made in wired.events(TransferMade)] == [0, 1]
    assert not wired.events(EventsDropped)
    assert wired.broken() == set()


# ------------------------------------------------------------------------------------------- mistakes of the caller's


@pytest.mark.parametrize("pages", [[-1], [0, 0], [0, 1, 2], [0.5]])
def test_a_mistake_that_shows_is_judged(wired: Wired, pages: list[float]) -> None:
    made = MySender(wired.agent)
    made.known = range(2)
    sender = wired.sender(made)
    with pytest.raises(ValueError, match="no such pages"):
        sender.send(pages)
    sender.send([0, 1])
    wired.fake.answer = "DONE"
    assert sender.poll() is KVPoll.Success
    assert wired.verdicts()["KS-8.1"].outcome is Outcome.PASS
    assert wired.broken() == set()


def test_a_mistake_that_only_the_sender_sees_is_no_call_of_the_room(wired: Wired) -> None:
    sender = wired.sender()
    with pytest.raises(ValueError, match="no such pages"):
        sender.send([100, 101])
    sender.send([0, 1])
    wired.fake.answer = "DONE"
    assert sender.poll() is KVPoll.Success
    refused, *others = wired.events(CallStarted)
    assert refused.room is None
    assert {started.room for started in others} == {0}
    verdicts = wired.verdicts()
    assert not [verdict for verdict in verdicts.values() if verdict.outcome.failed]
    assert verdicts["KS-8.1"].outcome is Outcome.INCONCLUSIVE, "whether it was a mistake is not known"


# ----------------------------------------------------------------------------------------------- beside the kit itself


class Inside:
    """An adapter whose sender and transport are wrapped, as in a test of somebody's own."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter
        self.name, self.profile = adapter.name, adapter.profile
        self.errors, self.usage_errors = adapter.errors, adapter.usage_errors
        self.own = OwnHistory("none")

    def open(self, world: World) -> Any:
        own = self.own = OwnHistory("a run of the kit")
        own.settings(
            clock=world.clock,
            transfer_timeout_s=world.transfer_timeout_s,
            drain_timeout_s=world.drain_timeout_s,
            profile=Profile.FULL,
        )
        system: Any = self.adapter.open(replace(world, transport=own.agent(world.transport)))
        make: Callable[[RoomPlan], Sender] = system.sender

        def sender(plan: RoomPlan) -> Sender:
            return own.sender(
                make(plan),
                room=plan.room,
                pages=plan.num_pages,
                peers=[there.peer.name for there in plan.destinations if not there.dummy],
                dummies=[there.peer.name for there in plan.destinations if there.dummy],
                usage=self.usage_errors,
                attribution=getattr(system, "attribution", None),
            )

        system.sender = sender
        return system


def broken_inside(adapter: Adapter, every: int = 1) -> tuple[set[str], int]:
    """What the histories show to be broken, over the traces that every sender runs; and in how many of them."""
    inside, found, runs = Inside(adapter), set[str](), 0
    for trace in SWEEP[::every]:
        if not parts_of(inside).lacks(trace.setup):
            run_trace(inside, trace)
            history = inside.own.end()
            check(history)
            broken = {v.clause.id for v in Recorded("it", history).verdicts(None) if v.outcome.failed}
            found |= broken
            runs += bool(broken)
    return found, runs


@pytest.mark.parametrize("adapter", [inline.adapter, workers.adapter], ids=["inline", "workers"])
def test_nothing_is_blamed_on_a_right_sender_whatever_happens_to_it(adapter: Adapter) -> None:
    assert broken_inside(adapter) == (set(), 0)


def test_the_senders_before_the_fix_are_found() -> None:
    found, runs = broken_inside(seed.before_the_fix, every=4)
    assert {"KS-1.1", "KS-1.2", "KS-2.2"} <= found
    assert runs > 30


# -------------------------------------------------------------------------------------------------------- the files


def test_every_test_has_a_file_of_its_own_with_a_valid_name() -> None:
    tests = [
        "tests/test_a.py::TestA::test_x[1]",
        "tests/test_a.py::TestA::test_x[2]",
        "tests/test_a.py::TestA::test_X[1]",
        "tests/test_a.py::TestA::test_x[/../\x00\n]",
        "tests/test_a.py::TestA::test_x[\udc80]",
        "tests/test_a.py::TestA::test_x[größe]",
        "test_b.py::test_" + "y" * 5000,
        "test_b.py::test_" + "y" * 5001,
        "",
        "..",
    ]
    names = [file_name(test) for test in tests]
    assert len({name.lower() for name in names}) == len(tests)
    for name in names:
        assert name.isascii()
        assert name.isprintable()
        assert not set(name) & set('/\\:*?"<>| ')
        assert not name.startswith(".")
        assert len(name) < 200


def test_the_file_is_the_history(wired: Wired, tmp_path: Path) -> None:
    wired.sender().send([0, 1])
    judgement = judge(wired.own.end("the test was stopped"), tmp_path / "new", "a test")
    assert read(judgement.path) == wired.own.history
    assert judgement.failure == ""
