"""The sweep: the same traces every time, every cell of the table, and what random walks of some seeds do not meet."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import NoReturn

import pytest
from tests.kit.shares import recorded
from tests.mutants.cells import reached, wanted
from tests.mutants.inline import InlineAdapter, InlineSender, InlineSystem
from tests.mutants.inline_reader import ReaderAdapter

from kvsender_spec.contract import KVPoll, KVTransferError
from kvsender_spec.kit.adapter import Adapter
from kvsender_spec.kit.check import Outcome, check
from kvsender_spec.kit.search import sweep
from kvsender_spec.kit.search.sweep import SWEEP
from kvsender_spec.machine import State
from kvsender_spec.trace import Call


def test_no_trace_comes_twice_and_each_opens_a_room() -> None:
    assert len(set(SWEEP)) == len(SWEEP)
    assert all(any(step.call is Call.OPEN for step in trace.steps) for trace in SWEEP)


def test_the_documentation_says_how_many_there_are() -> None:
    page = (Path(__file__).parents[2] / "docs" / "plug-in" / "start.md").read_text(encoding="utf-8")
    assert f"the same {len(SWEEP)} short traces" in page


@pytest.mark.parametrize("adapter", [InlineAdapter(), ReaderAdapter()], ids=lambda adapter: adapter.name)
def test_every_cell_of_the_table_is_reached(adapter: Adapter) -> None:
    there = reached(adapter)
    assert [cell for cell in wanted() if not there[cell]] == []


def test_a_cell_that_is_not_reached_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.mutants.cells.played", lambda _: tuple(sweep._good_ends()))
    there: Counter[object] = Counter(reached(InlineAdapter()))
    assert any(not there[cell] for cell in wanted())


class NamesTheReturnedErrorOnce(InlineSender):
    """A returned "ERR" is no object that could be kept: the second failure_exception() shows something else."""

    asked = False

    def failure_exception(self) -> NoReturn:
        if self.asked and isinstance(self.cause, RuntimeError) and "ERR" in str(self.cause):
            raise KVTransferError(self.plan.room, "unknown reason", self.attribution)
        self.asked = self.asked or self.state in (State.FAILED, State.STICKY_FAILED)
        super().failure_exception()


class AnswersTheReturnedErrorOnce(InlineSender):
    """A returned "ERR" is answered Failed once and not stored: the next poll() says Success."""

    def poll(self) -> KVPoll:
        answer = super().poll()
        if answer is KVPoll.Failed and isinstance(self.cause, RuntimeError) and "ERR" in str(self.cause):
            self.state = State.DONE
        return answer


@pytest.mark.parametrize(
    ("sender", "clause"),
    [(NamesTheReturnedErrorOnce, "KS-2.4"), (AnswersTheReturnedErrorOnce, "KS-2.1")],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_what_is_not_kept_of_a_returned_error_is_found_without_a_random_run(
    sender: type[InlineSender], clause: str, seed: int
) -> None:
    logging.disable(logging.CRITICAL)
    report = check(InlineAdapter(sender), seed=seed, examples=0)
    logging.disable(logging.NOTSET)
    assert clause in {verdict.clause.id for verdict in report.with_outcome(Outcome.FAIL)}


class _OneName(InlineSystem):
    """Its peers keep their names, and what it declares says nothing else."""

    takes_new_names = False


@pytest.mark.parametrize(("system", "sweep", "walk"), [(InlineSystem, 4, True), (_OneName, 0, False)])
def test_peers_get_new_names_only_where_the_system_takes_them(
    system: type[InlineSystem], sweep: int, walk: bool
) -> None:
    sender = InlineAdapter(InlineSender, system)
    assert sum(trace.setup.renames for trace in recorded(sender, 0, first=SWEEP)) == sweep
    assert any(trace.setup.renames for trace in recorded(sender, 60)) == walk
