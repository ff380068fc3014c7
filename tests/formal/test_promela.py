"""SPIN, on the generated Promela, counts our states, and finds what is planted."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.formal import tables
from tests.formal.faults import FAULTS
from tests.formal.tools import needs_spin

from kvsender_spec.formal.engines import promela
from kvsender_spec.formal.engines.engine import PEERS_ANSWER, PEERS_SILENT, EngineFailed, Fair, ToolMissing
from kvsender_spec.formal.engines.lowering import ANSWERED, CHECKED
from kvsender_spec.formal.engines.spin import find_tool, run_spin
from kvsender_spec.formal.model.state import Bounds, TooLarge
from kvsender_spec.formal.pages import PAGES
from kvsender_spec.formal.rules import SPEC

ROOT = Path(__file__).parents[2]
LIMIT_S = 120.0
STATES = {Bounds(1, 1): 22, Bounds(2, 1): 181, Bounds(2, 2): 2151, Bounds(3, 2): 50199}


def test_the_page_is_what_the_tables_say() -> None:
    written = (ROOT / "docs" / "formal" / "kvsender.pml").read_text(encoding="utf-8")
    assert written == PAGES["kvsender.pml"](), "docs/formal/kvsender.pml is stale: run `make docs`"


def test_a_changed_table_would_make_the_page_stale() -> None:
    assert promela.model(tables.NEVER_CLOSES, Bounds(2, 2)) != PAGES["kvsender.pml"]()


def test_undecided_tables_are_refused() -> None:
    with pytest.raises(ValueError, match="undecided"):
        promela.model(tables.UNDECIDED, Bounds(1, 1))


def test_lines_fit_the_page() -> None:
    assert max(map(len, PAGES["kvsender.pml"]().splitlines())) <= 120


def test_without_spin_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ToolMissing, match="apt-get install spin gcc"):
        find_tool("spin")


def test_a_bound_that_is_too_large_is_refused_with_one_that_fits(tmp_path: Path) -> None:
    with pytest.raises(TooLarge, match="4x2 fits"):
        run_spin(SPEC, Bounds(5, 2), tmp_path, LIMIT_S)
    with pytest.raises(TooLarge, match="3x2 fits"):
        run_spin(SPEC, Bounds(4, 2), tmp_path, LIMIT_S, fair=PEERS_ANSWER)


@needs_spin
def test_there_is_a_time_limit(tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match="longer than"):
        run_spin(SPEC, Bounds(2, 2), tmp_path, 0.1)
    assert not list(tmp_path.iterdir())


@needs_spin
@pytest.mark.parametrize("bounds", STATES, ids=str)
def test_spin_counts_the_same_states_and_finds_nothing_wrong(bounds: Bounds, tmp_path: Path) -> None:
    result = run_spin(SPEC, bounds, tmp_path, LIMIT_S)
    assert (result.states, result.violations) == (STATES[bounds], ())


@needs_spin
def test_a_model_that_differs_in_one_step_has_another_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = promela.model(SPEC, Bounds(2, 1))
    changed = text.replace("cleared && posted < CHUNKS", "cleared && posted < CHUNKS && posted == 0")
    assert changed != text
    monkeypatch.setattr(promela, "model", lambda rules, bounds: changed)
    assert run_spin(SPEC, Bounds(2, 1), tmp_path, LIMIT_S).states < STATES[Bounds(2, 1)]


@needs_spin
@pytest.mark.parametrize("name", FAULTS)
def test_spin_finds_a_planted_fault(name: str, tmp_path: Path) -> None:
    result = run_spin(FAULTS[name], Bounds(1 if name != "KS-2.5" else 2, 1), tmp_path, LIMIT_S)
    assert [violation.property for violation in result.violations] == [name]
    assert result.violations[0].trace


def test_every_property_has_a_planted_fault() -> None:
    assert set(CHECKED) <= set(FAULTS)


@needs_spin
@pytest.mark.parametrize("fair", [PEERS_ANSWER, PEERS_SILENT], ids=["peers answer", "peers are silent"])
def test_the_caller_gets_its_answer_and_no_fairness_is_idle(fair: frozenset[Fair], tmp_path: Path) -> None:
    assert run_spin(SPEC, Bounds(2, 1), tmp_path, LIMIT_S, fair=fair).violations == ()
    for dropped in fair:
        result = run_spin(SPEC, Bounds(1, 1), tmp_path, LIMIT_S, fair=fair - {dropped})
        assert [violation.property for violation in result.violations] == [ANSWERED], dropped
        assert "and then for ever:" in result.violations[0].trace


@needs_spin
def test_a_room_that_never_completes_is_found(tmp_path: Path) -> None:
    (violation,) = run_spin(tables.NEVER_CLOSES, Bounds(1, 1), tmp_path, LIMIT_S, fair=PEERS_ANSWER).violations
    assert violation.property == ANSWERED
    assert "send_last" in violation.trace
