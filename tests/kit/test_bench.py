"""What ``make bench-kit`` compares with is what it says: the same calls, and a tree that it leaves no trace of."""

from __future__ import annotations

import logging
import subprocess
from collections import Counter
from collections.abc import Iterator

import pytest
import typer
from tests.kit.bench import ROOT, checkout, walk_s
from tests.kit.shares import BareRun, bare_s, parts, recorded
from tests.mutants.inline import adapter

from kvsender_spec.history.events import History, TransferChecked, TransferMade, TransferPosted
from kvsender_spec.kit.run.execute import run_trace
from kvsender_spec.kit.run.scripted_world import SENDER_SIDE

RUNS = 20
KINDS = {TransferMade: "make", TransferPosted: "post", TransferChecked: "check"}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def asked(history: History) -> Counter[str]:
    """How often the sender asked what of the transport."""
    return Counter(KINDS[type(event)] for event in history.events if type(event) in KINDS)


def test_a_bare_run_makes_the_same_calls() -> None:
    traces = [t for t in recorded(adapter, RUNS) if all(step.overlap is None for step in t.steps)]
    assert len(traces) > RUNS // 2
    for trace in traces:
        events = BareRun(adapter, trace).scripted_world.fabric.events
        bare = Counter(event.point.value for event in events if event.agent == SENDER_SIDE)
        assert {word: bare[word] for word in KINDS.values()} == {
            word: asked(run_trace(adapter, trace).history)[word] for word in KINDS.values()
        }


def test_every_part_of_a_run_has_a_share() -> None:
    shares = parts(adapter, RUNS)
    assert all(seconds > 0 for seconds in shares.values())
    assert bare_s(adapter, recorded(adapter, RUNS)) < sum(shares.values())


def test_the_tree_of_a_revision_is_there_as_long_as_it_is_measured() -> None:
    worktrees = ("git", "worktree", "list")
    before = subprocess.run(worktrees, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    with checkout("HEAD") as tree:
        assert walk_s(tree, "kvsender_spec.kit.toy:adapter", 3) > 0
    assert not tree.exists()
    assert subprocess.run(worktrees, cwd=ROOT, capture_output=True, text=True, check=True).stdout == before


def test_an_unknown_revision_is_refused() -> None:
    with pytest.raises(typer.BadParameter, match="no-such-revision"), checkout("no-such-revision"):
        pass
