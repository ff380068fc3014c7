"""What may not have been seen, case by case: where each of these was missing, a right sender was blamed for a loss."""

from __future__ import annotations

from msgspec.structs import replace
from tests.observe.runs import files
from tests.observe.script import FULL, Script
from tests.observe.watching import failing, observations

from kvsender_spec.history.events import EventsDropped, History, RoomOpened
from kvsender_spec.history.words import CallName, Origin
from kvsender_spec.observe.attribution import OWN_ERROR
from kvsender_spec.observe.observer import Observer, observe

POLL, FAILURE = CallName.POLL, CallName.FAILURE_EXCEPTION
LOST = EventsDropped(seq=-1, t=0.0, count=1)


def after_a_loss(history: History) -> History:
    return History(header=history.header, events=[LOST, *history.events])


def _rooms(history: History) -> list[int | None]:
    return [event.room for event in history.events if isinstance(event, RoomOpened)]


# ---------------------------------------------------------------- rooms that were open, and calls that were under way


def test_no_answer_of_a_room_that_lost_events_counts_as_right() -> None:
    """Two answers that agree, and what was compared or released, are all that a whole history is not needed for."""
    for name, history in files().items():
        if name.endswith("-holds") and history.header.role == "initiator" and len(_rooms(history)) == 1:
            events = [*history.events[:1], LOST, *history.events[1:]]
            held = {clause for clause, holds, _ in observations(history.header, events) if holds}
            assert held <= {"KS-2.1", "KS-3.1", "KS-3.2", "KS-3.4", "KS-3.6", "KS-4.2"}, name


def test_a_call_that_was_under_way_is_forgotten() -> None:
    script = Script()
    script.opened()
    of = script.call(POLL)
    script.nothing()
    script.back(of, "Success")
    observer = observe(script.history())
    assert isinstance(observer, Observer)
    assert not observer.rooms[1].calls
    assert not observer.rooms[1].ended


def test_a_sender_that_was_interrupted_unseen_says_what_it_likes() -> None:
    script = Script()
    script.opened()
    script.sent()
    of = script.call(POLL)
    script.checked("DONE")
    script.back(of, "Success")
    of = script.call(POLL)
    script.error(origin=Origin.BASE)
    script.checked(error=0)
    end = script.back(of, error=0)
    script.asked(POLL, "Failed")
    assert failing(script.history()) == set()
    assert failing(script.history(end)) == set()


def test_the_callers_mistake_that_was_lost_still_excuses() -> None:
    """Of a profile that does not claim KS-8.1."""
    script = Script()
    script.opened()
    mistake = script.call(CallName.SEND, misuse="negative page")
    script.error(origin=Origin.USAGE)
    script.back(mistake, error=0)
    script.asked(POLL, "Success")
    script.asked(POLL, "Failed")
    latch = replace(FULL, profile="latch")
    for lost in ((), (mistake,)):
        assert failing(History(header=latch, events=script.history(*lost).events)) == set()
    assert "KS-2.1" in failing(script.history(mistake))


def test_pages_that_are_told_after_a_loss_belong_to_another_answer() -> None:
    script = Script()
    script.opened()
    script.sent()
    of = script.call(POLL)
    script.error()
    script.checked(error=0)
    script.back(of, "Failed")
    told = script.held(3)
    script.held()
    assert failing(script.history()) == set()
    assert failing(script.history(told)) == set()


# ------------------------------------------------------------------------------------- errors that were not written


def test_a_post_with_an_error_that_was_lost_says_nothing_about_the_handle() -> None:
    """The error was the program's own: nothing was posted, and the handle may be posted again."""
    script = Script()
    error = script.error(origin=Origin.OTHER)
    script.opened()
    of = script.call(CallName.SEND, last=True)
    script.made()
    script.posted(error=0)
    script.posted()
    script.back(of)
    assert failing(script.history()) == set()
    assert failing(script.history(error)) == set()


def test_a_call_that_ended_with_an_error_that_was_lost_is_not_judged() -> None:
    script = Script()
    error = script.error(origin=Origin.USAGE)
    script.opened()
    script.back(script.call(CallName.SEND, misuse="negative page"), error=0)
    assert failing(script.history()) == set()
    assert failing(script.history(error)) == set()


def test_an_error_is_nobodys_own_where_its_reason_may_be_lost() -> None:
    script = Script()
    script.opened()
    script.error(origin=Origin.OTHER)
    script.asked(POLL, error=0)
    assert [found.clause for found in observe(script.history()).findings.violations] == [OWN_ERROR]
    assert not observe(after_a_loss(script.history())).findings.violations


# ----------------------------------------------------------------------------------- rooms that are opened afterwards


def test_a_failure_that_nothing_explains_is_not_asked_for_its_pages() -> None:
    script = Script()
    script.opened()
    script.sent()
    of = script.call(POLL)
    script.checked("PROC")
    script.back(of, "Failed")
    script.held()
    assert failing(script.history()) == {"KS-3.5"}
    assert failing(after_a_loss(script.history())) == set()


def test_whether_a_room_has_failed_may_not_be_known_when_it_is_asked_for_its_reason() -> None:
    script = Script()
    script.opened()
    script.sent()
    script.asked(FAILURE)
    assert failing(script.history()) == {"KS-2.7"}
    assert failing(after_a_loss(script.history())) == set()


def test_a_reason_that_may_be_one_that_was_lost_is_not_held_against_the_next_one() -> None:
    script = Script()
    script.opened()
    script.asked(CallName.ABORT)
    script.asked(POLL, "Failed")
    of = script.call(CallName.SEND, last=True)
    script.made()
    script.error(0)
    script.posted(error=0)
    script.back(of)
    script.asked(FAILURE, error=0)
    script.error(1, text="aborted by the caller")
    script.asked(FAILURE, error=1)
    assert {"KS-2.3", "KS-2.4"} & failing(script.history()) == {"KS-2.3"}
    assert {"KS-2.3", "KS-2.4"} & failing(after_a_loss(script.history())) == set()


def test_that_a_rooms_own_peers_are_well_is_not_known() -> None:
    history = files()["ks-6.2-holds"]
    assert observe(history).findings.held["KS-6.2"] == 1
    assert observe(after_a_loss(history)).findings.held["KS-6.2"] == 0


# ------------------------------------------------------------------------------------------------ handles, by the way


def test_a_misuse_of_a_handle_is_told_once() -> None:
    """The next event is about a handle that was never made: it says nothing, and repeats nothing."""
    script = Script()
    script.opened()
    script.sent()
    script.posted()
    again = script.history()
    unknown = replace(again.events[-1], handle=7)
    assert [found.clause for found in observe(again).findings.violations] == ["KS-4.3"]
    again.events.append(unknown)
    assert [found.clause for found in observe(again).findings.violations] == ["KS-4.3"]


def test_a_release_that_raises_is_none() -> None:
    script = Script()
    script.opened()
    script.sent()
    script.checked("DONE")
    script.released()
    script.error()
    script.released(error=0)
    assert failing(script.history()) == set()
    second = script.released()
    script.released(error=0)
    assert [found.seq for found in observe(script.history()).findings.violations] == [second]
