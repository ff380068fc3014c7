"""``kvsender prove`` as its user meets it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.formal.tools import needs_engines
from tests.kit.test_cli import kvsender
from tests.mutants import inline

from kvsender_spec.formal.engines.engine import ToolMissing
from kvsender_spec.formal.explicit.generate import Generated
from kvsender_spec.formal.explicit.runnable import NotRunnable, runnable
from kvsender_spec.formal.model.state import EVERYBODY, Act, Action, AtHandle, AtPeer, Bounds
from kvsender_spec.formal.prove import Engine, prove
from kvsender_spec.formal.rules import SPEC
from kvsender_spec.kit.run.execute import run_trace
from kvsender_spec.trace import load

WRONG = "tests.formal.tables:FORGETS_THE_PAGES"


def test_the_specification_is_proved_and_no_trace_is_written(tmp_path: Path) -> None:
    path = tmp_path / "trace.ndjson"
    done = kvsender("prove", "--engine", "python", "--chunks", "2", "--trace", str(path))
    assert not path.exists()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2,151 states" in done.stdout
    assert "KS-2.3  holds" in done.stdout
    assert "broken" not in done.stdout


ENGINES = ("python", "z3", "tlc", "spin")


@needs_engines
def test_every_engine_proves_the_specification_and_all_say_so_in_one_table() -> None:
    done = kvsender("prove", "--chunks", "1", "--peers", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split("│")[1:-1] for line in done.stdout.splitlines() if line.startswith("│")]
    lines = [cells for cells in lines if cells[1].strip()]  # a cell that is folded has lines of its own
    assert [(cells[1].strip(), cells[-1].strip()) for cells in lines] == [
        *[("python", "holds")] * 5,
        *[("z3", "holds")] * 3,
        *[("tlc", "holds")] * 3,
        ("spin", "holds"),
    ]
    layers = [cells[0].strip() for cells in lines]
    assert layers.count("grants") == layers.count("targets") == 3


@needs_engines
@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_notices_a_wrong_table(engine: str) -> None:
    done = kvsender("prove", "--chunks", "1", "--peers", "1", "--engine", engine, "--rules", WRONG)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "broken" in done.stdout


def test_a_wrong_table_ends_with_1_and_a_trace_that_a_sender_can_be_asked(tmp_path: Path) -> None:
    path = tmp_path / "trace.ndjson"
    done = kvsender("prove", "--engine", "python", "--chunks", "2", "--rules", WRONG, "--trace", str(path))
    assert done.returncode == 1
    assert "KS-4.1 is broken" in done.stdout
    with path.open(encoding="utf-8") as lines:
        trace = load(lines)
    assert trace.steps[0].call.value == "open"
    # The reference sender does what the real tables say; one without a quarantine does what these say.
    assert run_trace(inline.adapter, trace).observer.findings.violations == []
    assert kvsender("replay", str(path), "kvsender_nixl.adapter:adapter").returncode == 0
    shown = kvsender("prove", "--engine", "python", "--chunks", "2", "--rules", WRONG)
    assert path.read_text(encoding="utf-8") in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--engine", "nusmv"), "nusmv"),
        (("--chunks", "0"), "greater than or equal to 1"),
        (("--chunks", "5", "--peers", "3", "--engine", "python"), "3x3 fits"),
        (("--rules", "nothing"), "'nothing' names no rules"),
        (("--rules", "nowhere:RULES"), "cannot import 'nowhere'"),
        (("--rules", "kvsender_spec.machine:TABLE"), "is no Rules but tuple"),
        (("--trace", "/nowhere/x.ndjson", "--rules", WRONG, "--engine", "python"), "/nowhere/x.ndjson"),
    ],
)
def test_wrong_use_is_refused_with_2(arguments: tuple[str, ...], says: str) -> None:
    done = kvsender("prove", *arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_an_engine_that_is_missing_shows_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    for engine in (Engine.TLC, Engine.SPIN):
        with pytest.raises(ToolMissing, match="apt-get install"):
            next(prove(SPEC, Bounds(1, 1), [Engine.PYTHON, engine]))
    assert next(prove(SPEC, Bounds(1, 1), [Engine.PYTHON])).holds


def test_a_trace_of_the_model_is_told_in_the_words_of_the_kit() -> None:
    model = Generated(SPEC, Bounds(2, 2))
    actions = [
        Action(Act.SEND),
        Action(Act.FINISH, AtHandle(0)),
        Action(Act.FINISH, AtHandle(1)),
        Action(Act.POLL),
        Action(Act.SEND_LAST, AtPeer(1)),
        Action(Act.POLL, AtPeer(0)),
        Action(Act.SEND_NOTHING),
        Action(Act.FAILURE_EXCEPTION),
        Action(Act.CLEAR),
    ]
    trace = runnable(model, actions)
    assert list(map(str, trace.steps)) == [
        "open(0)",
        "send(0)",
        "poll(0) after all finished",
        "send(0) with post[1]=nixlBackendError",
        "kill(0)",
        "poll(0)",
        "failure_exception(0)",
        "clear(0)",
    ]
    assert run_trace(inline.adapter, trace).observer.findings.violations == []


def test_deadlines_and_a_disconnect_of_everybody_are_steps_of_the_world() -> None:
    model = Generated(SPEC, Bounds(1, 2))
    late = runnable(model, [Action(Act.SEND_LAST), Action(Act.POLL, late=True, drained=True)])
    assert [step.call.value for step in late.steps] == ["open", "send", "wait_long", "wait", "poll"]
    lost = runnable(model, [Action(Act.SEND_LAST), Action(Act.POLL, EVERYBODY)])
    assert [step.call.value for step in lost.steps] == ["open", "send", "kill", "kill", "poll"]


def test_what_the_kit_has_no_words_for_is_refused() -> None:
    model = Generated(SPEC, Bounds(3, 1))
    actions = [
        Action(Act.SEND),
        Action(Act.SEND),
        Action(Act.SEND_LAST),
        Action(Act.FINISH, AtHandle(1)),
        Action(Act.POLL),
    ]
    with pytest.raises(NotRunnable, match=r"just handles \[1\] of \[0, 1, 2\]"):
        runnable(model, actions)
