"""Lost events: from there on nothing fails that the whole history does not show to be broken.

``python -m tests.observe.test_loss`` loses every single event of every history, which takes minutes.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from itertools import combinations

import pytest
from msgspec.structs import replace
from tests.observe.runs import every_history, files
from tests.observe.watching import failing

from kvsender_spec.history.events import (
    AnyEvent,
    ErrorSeen,
    Event,
    EventsDropped,
    History,
    NotificationHeard,
    RunEnded,
    TransferChecked,
    kind_of,
)
from kvsender_spec.observe.observer import Observer, observe
from kvsender_spec.observe.room import RoomView
from kvsender_spec.observe.verdict import Outcome

EXAMPLES = 12
"""How many losses are tried in a run of the kit."""


def losing(history: History, *lost: int) -> list[AnyEvent]:
    """The history with these events lost. Two that stand together are one loss."""
    events = list(history.events)
    for seq in lost:
        events[seq] = EventsDropped(seq=seq, t=events[seq].t, count=1)
    return events


def new_fails(history: History, choices: Iterator[tuple[int, ...]]) -> Iterator[str]:
    """What fails only because events were lost."""
    before = failing(history)
    for lost in choices:
        for clause in sorted(failing(history, losing(history, *lost)) - before):
            kinds = ", ".join(kind_of(type(history.events[seq])) for seq in lost)
            yield f"{clause} without {kinds} (events {lost})"


def _some(history: History, chance: random.Random) -> Iterator[tuple[int, ...]]:
    everything = range(len(history.events))
    for _ in range(EXAMPLES):
        yield (chance.choice(everything),)
        yield tuple(chance.sample(everything, 2))


def lost_in_files(size: int) -> dict[str, list[str]]:
    found = {
        name: list(new_fails(history, combinations(range(len(history.events)), size)))
        for name, history in files().items()
    }
    return {name: fails for name, fails in found.items() if fails}


@pytest.mark.parametrize("size", [1, 2])
def test_losing_any_events_of_a_file_makes_nothing_fail(size: int) -> None:
    assert lost_in_files(size) == {}


def test_losing_some_events_of_a_run_makes_nothing_fail() -> None:
    chance = random.Random(3)
    for name, history in every_history(runs=50):
        assert list(new_fails(history, _some(history, chance))) == [], name


def _forgets_nothing(self: RoomView) -> None:
    """Planted: the room goes on as if nothing had been lost."""
    self.calls.clear()


def _keeps_its_handles(self: RoomView) -> None:
    """Planted: the states of the room are widened, and its handles are thought to be known."""
    self.untracked = True
    self.oracle.widen()
    self.calls.clear()


@pytest.mark.parametrize("planted", [_forgets_nothing, _keeps_its_handles])
def test_a_view_that_ignores_a_loss_would_be_noticed(
    planted: Callable[[RoomView], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RoomView, "lose_track", planted)
    assert lost_in_files(1) != {}


# ----------------------------------------------------------------------------------- what was wrong once, by hand


def fails_without(name: str, *lost: int) -> set[str]:
    return failing(files()[name], losing(files()[name], *lost))


def _first(name: str, kind: type[Event]) -> int:
    return next(event.seq for event in files()[name].events if isinstance(event, kind))


def test_a_release_after_a_lost_answer_is_not_called_early() -> None:
    assert fails_without("ks-4.2-holds", _first("ks-4.2-holds", TransferChecked)) == set()


def test_an_error_that_was_lost_is_not_called_none() -> None:
    assert fails_without("ks-8.1-holds", _first("ks-8.1-holds", ErrorSeen)) == set()


def test_two_answers_that_contradict_each_other_do_so_whatever_was_lost() -> None:
    assert fails_without("ks-2.1-breaks", 3) == {"KS-2.1"}
    assert fails_without("ks-1.1-breaks", 1) == {"KS-1.1"}


def test_a_notification_without_an_incarnation_is_given_to_no_room_that_may_be_an_older_one() -> None:
    history = files()["ks-6.1-holds"]
    heard = history.events[_first("ks-6.1-holds", NotificationHeard)]
    again = [replace(heard, incarnation=None), replace(heard, incarnation=None)]
    lost = EventsDropped(seq=0, t=0.0, count=2)
    ended = history.events[-1]
    assert failing(history, [*history.events[: heard.seq], *again, ended]) == {"KS-6.1"}
    assert failing(history, [*history.events[: heard.seq], lost, *again, ended]) == set()


def test_a_room_that_is_opened_after_a_loss_is_judged() -> None:
    for name in ("ks-2.2-breaks", "ks-3.1-breaks", "ks-4.2-breaks", "ks-8.1-breaks"):
        history = files()[name]
        lost = EventsDropped(seq=0, t=0.0, count=9)
        assert failing(history, [lost, *history.events]) == failing(history), name


def test_a_room_that_is_opened_after_a_loss_may_fail_for_what_was_not_seen() -> None:
    history = files()["ks-3.5-breaks"]
    assert failing(history) == {"KS-3.5"}
    assert failing(history, [EventsDropped(seq=0, t=0.0, count=1), *history.events]) == set()


def test_what_was_lost_is_the_reason_where_nothing_was_observed() -> None:
    found = {verdict.clause.id: verdict for verdict in observe(files()["lossy"]).verdicts()}
    assert found["KS-2.1"].outcome is Outcome.INCONCLUSIVE
    assert found["KS-2.1"].note == "events were lost"


def test_losses_in_a_history_without_its_end_do_not_hide_that_it_was_cut_off() -> None:
    history = files()["ks-2.1-holds"]
    observer = Observer(history.header)
    for event in losing(history, len(history.events) - 1):
        observer.see(event)
    assert isinstance(history.events[-1], RunEnded)
    assert not observer.complete


def main() -> int:
    """Lose every single event of every history, and print what fails for it. Returns an exit code."""
    found = 0
    for name, history in every_history():
        for line in new_fails(history, ((seq,) for seq in range(len(history.events)))):
            print(f"{name}: {line}")
            found += 1
    print(f"{found} new fails")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
