"""What the observer must be, whatever it observes.

Planted faults show that tests can fail: a checker that declares too little, a verdict that is taken back, a transfer
that is given to the wrong room, a view that forgets when it is asked.
"""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.history.drawn import HEADER, histories
from tests.observe.runs import every_history, files, kit_runs
from tests.observe.watching import Observation, failing, observations

from kvsender_spec.history.events import (
    KINDS,
    AnyEvent,
    BytesLanded,
    CallEnded,
    CallStarted,
    ErrorSeen,
    EventsDropped,
    History,
    RoomOpened,
    RunEnded,
    TransferChecked,
    TransferMade,
    TransferPosted,
    TransferReleased,
    kind_of,
)
from kvsender_spec.history.ndjson import read, write
from kvsender_spec.history.words import CallName
from kvsender_spec.observe.checkers import CHECKERS
from kvsender_spec.observe.checkers.base import ANSWERS, Checker
from kvsender_spec.observe.checkers.ks4_pages import Pages
from kvsender_spec.observe.observer import Observer, observe
from kvsender_spec.observe.room import RoomView
from kvsender_spec.observe.routing import Routing

# ------------------------------------------------------------------------------------- what a checker declares


def says_the_same_without_the_rest(checker: type[Checker], history: History) -> bool:
    stripped = [event for event in history.events if kind_of(type(event)) in checker.kinds]
    return observations(history.header, stripped, [checker]) == observations(history.header, history.events, [checker])


@pytest.mark.parametrize("checker", CHECKERS)
def test_a_checker_needs_no_kind_that_it_does_not_declare(checker: type[Checker]) -> None:
    assert checker.sees <= checker.kinds <= set(KINDS)
    assert [name for name, history in every_history() if not says_the_same_without_the_rest(checker, history)] == []


@pytest.mark.parametrize("kind", sorted(Pages.kinds - ANSWERS))
def test_a_kind_that_is_needed_and_not_declared_is_noticed(kind: str) -> None:
    class Careless(Pages):
        kinds = Pages.kinds - {kind}

    assert not all(says_the_same_without_the_rest(Careless, history) for _, history in every_history(runs=20))


@pytest.mark.parametrize("checker", CHECKERS)
def test_a_checker_declares_no_kind_beside_the_common_ones_that_it_does_not_need(checker: type[Checker]) -> None:
    for kind in sorted(checker.kinds - ANSWERS):

        class Without(checker):  # type: ignore[misc, valid-type]
            kinds = checker.kinds - {kind}

        assert not all(says_the_same_without_the_rest(Without, history) for _, history in every_history()), kind


# ------------------------------------------------------------------------------------------- verdicts only grow


def taken_back(history: History) -> list[str]:
    """Clauses that fail in a beginning of the history, and not in a longer one."""
    observer = Observer(history.header)
    failed: set[str] = set()
    found: list[str] = []
    for event in history.events:
        observer.see(event)
        now = {verdict.clause.id for verdict in observer.verdicts() if verdict.outcome.failed}
        found += failed - now
        failed = now
    return found


def test_a_fail_stays_one_however_a_history_goes_on() -> None:
    assert [name for name, history in every_history(runs=24) if taken_back(history)] == []


def test_a_fail_that_is_taken_back_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    fold = Observer._fold

    def forgetful(self: Observer, event: AnyEvent) -> RoomView | None:
        if isinstance(event, RunEnded):
            self.findings.violations.clear()
        return fold(self, event)

    monkeypatch.setattr(Observer, "_fold", forgetful)
    assert taken_back(files()["ks-2.1-breaks"]) == ["KS-2.1"]


# --------------------------------------------------------------------------------------- rooms side by side

_OF_ONE_ROOM: Final = (
    *(RoomOpened, CallStarted, CallEnded, ErrorSeen, TransferMade, TransferPosted, TransferChecked, TransferReleased),
    *(BytesLanded, RunEnded),
    *(KINDS["pages.held"], KINDS["bytes.compared"]),
)
_ABOUT_THE_OTHERS: Final = ("KS-5.4", "KS-6.2")
"""That another room had a fault, and changed nothing, is what these clauses count."""


def _alone(history: History) -> bool:
    return all(isinstance(event, _OF_ONE_ROOM) for event in history.events) and len(_rooms(history.events)) == 1


def _rooms(events: Sequence[AnyEvent]) -> list[RoomOpened]:
    return [event for event in events if isinstance(event, RoomOpened)]


def _without_rooms(events: Sequence[AnyEvent]) -> list[AnyEvent]:
    """Where a recorder does not know whose a transfer is, the observer finds its room."""
    transfers = (TransferMade, TransferPosted, TransferChecked, TransferReleased)
    return [replace(event, room=None) if isinstance(event, transfers) else event for event in events]


def _moved(event: AnyEvent, side: int, seq: int, seqs: dict[int, int]) -> AnyEvent:
    """The event with numbers and names that the other side does not use."""
    changes: dict[str, object] = {"seq": seq, "t": 0.0}
    for name in ("call", "of"):
        old = getattr(event, name, None)
        if old is not None:
            changes[name] = seqs[old]
    for name, step in (("room", 50), ("handle", 50), ("ref", 50), ("error", 50), ("cause", 50), ("id", 1000)):
        old = getattr(event, name, None)
        if old is not None:
            changes[name] = old + side * step
    if isinstance(event, RoomOpened):
        changes["destinations"] = tuple(replace(d, peer=f"{d.peer} {side}") for d in event.destinations)
    elif isinstance(event, TransferMade):
        changes["peer"] = f"{event.peer} {side}"
    return replace(event, **changes)


def interleaved(sides: Sequence[Sequence[AnyEvent]], order: Sequence[int]) -> list[list[Observation]]:
    """What is observed of each side, with the seqs of its own history, when they are seen in this order."""
    waiting = [list(events) for events in sides]
    seqs: tuple[dict[int, int], ...] = tuple({} for _ in sides)
    events: list[AnyEvent] = []
    for side in order:
        event = waiting[side].pop(0)
        seqs[side][event.seq] = len(events)
        events.append(_moved(event, side, len(events), seqs[side]))
    assert not any(waiting)
    own = {new: (side, old) for side, numbers in enumerate(seqs) for old, new in numbers.items()}
    found: list[list[Observation]] = [[] for _ in sides]
    for clause, holds, seq in observations(HEADER_OF_ALL, events):
        side, old = own[seq]
        if not (holds and clause in _ABOUT_THE_OTHERS):
            found[side].append((clause, holds, old))
    return found


HEADER_OF_ALL: Final = replace(HEADER, can=files()["ks-2.1-breaks"].header.can)
ALONE: Final = {
    name: _without_rooms(history.events[:-1])
    for name, history in files().items()
    if _alone(history) and history.header.can == HEADER_OF_ALL.can
}


def test_most_files_are_of_one_room() -> None:
    assert len(ALONE) >= 40


@given(st.data(), st.sampled_from(sorted(ALONE)), st.sampled_from(sorted(ALONE)))
@settings(deadline=None, max_examples=200)
def test_two_rooms_read_the_same_in_any_order(data: st.DataObject, one: str, other: str) -> None:
    sides = [ALONE[one], ALONE[other]]
    order = data.draw(st.permutations([0] * len(sides[0]) + [1] * len(sides[1])))
    alone = [interleaved([side], [0] * len(side))[0] for side in sides]
    assert interleaved(sides, order) == alone


def test_a_transfer_in_the_wrong_room_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def newest(self: Routing, event: AnyEvent) -> RoomView | None:
        return next(reversed(self.rooms.values()), None)

    monkeypatch.setattr(Routing, "of_transfer", newest)
    sides = [ALONE["ks-2.1-holds"], ALONE["ks-2.2-holds"]]
    order = [0] * 2 + [1] * len(sides[1]) + [0] * (len(sides[0]) - 2)
    assert interleaved(sides, order) != [interleaved([side], [0] * len(side))[0] for side in sides]


# ------------------------------------------------------------------------------- replay, and the same every time


def test_a_run_and_its_file_read_the_same() -> None:
    for run in kit_runs():
        file = io.BytesIO()
        write(run.history, file)
        file.seek(0)
        assert observe(read(file)).findings == run.findings


def test_the_same_history_reads_the_same_every_time() -> None:
    for name, history in every_history():
        first, second = observe(history), observe(history)
        assert first.findings == second.findings, name
        assert first.verdicts() == first.verdicts() == second.verdicts(), name


# --------------------------------------------------------------------------------------------------- robustness


@given(histories())
@settings(deadline=None, max_examples=200)
def test_any_history_can_be_observed(history: History) -> None:
    observe(history).verdicts()


def shuffled(history: History, chance: random.Random) -> list[AnyEvent]:
    """Some events of the history in any order, after events were lost: whatever they refer to may be missing."""
    some = chance.sample(history.events, chance.randint(1, len(history.events)))
    if chance.random() < 0.5:
        some.sort(key=lambda event: event.seq)  # holes alone let more of it make sense
    return [EventsDropped(seq=0, t=0.0, count=1), *some]


def test_a_history_full_of_holes_can_be_observed() -> None:
    chance = random.Random(7)
    for _, history in every_history():
        for _ in range(3):
            failing(history, shuffled(history, chance))


def test_what_two_answers_crashed_on_once_can_be_observed() -> None:
    """A poll() that is said to be a misuse, and a transfer that was made although it raised."""
    history = files()["ks-1.1-holds"]
    wrong = [
        replace(event, misuse="of poll()", what=CallName.POLL)
        if isinstance(event, CallStarted)
        else replace(event, error=0)
        if isinstance(event, TransferMade)
        else replace(event, value="Failed")
        if isinstance(event, CallEnded)
        else event
        for event in history.events
    ]
    failing(history, wrong)
