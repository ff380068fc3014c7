"""`kvsender learn`: the right machine of good senders, another one of broken ones, and no end without a bound."""

from __future__ import annotations

import subprocess
import sys
from itertools import count
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.formal.fast import DEEP, Fast, ask
from tests.formal.test_mealy import machine_of
from tests.kit.test_cli import ROOT, kvsender
from tests.mutants.seed import AfterTheFix, SeedAdapter
from tests.mutants.workers import WorkerAdapter

from kvsender_spec.formal.suite.hsi import suite
from kvsender_spec.formal.suite.letters import Answer, CallSequence, Letter, Reading
from kvsender_spec.formal.suite.mealy import difference
from kvsender_spec.kit import toy
from kvsender_spec.kit.adapter import Adapter
from kvsender_spec.kit.replay import read_trace, replay
from kvsender_spec.kit.search.automata import to_markdown, to_svg, verdict
from kvsender_spec.kit.search.learn import CannotLearn, Learned, learn, learn_machine

SVG = "{http://www.w3.org/2000/svg}"


def learned(adapter: Adapter, **bounds: int) -> Learned:
    return learn(adapter, **bounds)


@pytest.fixture(scope="module")
def good() -> Learned:
    return learned(toy.adapter, random_sequences=0)


def test_a_good_sender_is_bisimilar(good: Learned) -> None:
    assert (good.sequence, good.stopped, good.exit_code) == (None, "", 0)
    assert good.sender.size == good.spec.size == 12
    assert difference(good.sender, good.spec) is None
    assert verdict(good)[-1] == "the two are bisimilar"


@pytest.mark.parametrize("sender", [Fast, *DEEP])
def test_states_too_many_are_counted_and_told_apart_by_a_short_sequence(sender: type[Fast]) -> None:
    spec = machine_of(Reading.PATIENT)
    machine, sequences, stopped = learn_machine(lambda sequence: ask(sender, sequence), spec.inputs, suite(spec, 0))
    assert (stopped, sequences > 700) == ("", True)
    sequence = difference(spec, machine)
    if sender is Fast:
        assert (machine.size, sequence) == (16, None)
    else:
        assert machine.size > 16
        assert sequence is not None
        assert 3 <= len(sequence) <= 4
        assert ask(sender, sequence) == machine.run(sequence) != spec.run(sequence)


def test_the_command_draws_both_and_writes_the_trace(tmp_path: Path) -> None:
    done = kvsender("learn", "tests.mutants.seed:after_the_fix", "--out", str(tmp_path / "new"))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "specification: 12 states, 15 inputs" in done.stdout
    assert "AfterTheFix: 13 states, learned from" in done.stdout
    assert "1. send, first post rejected: the specification asks the transport, the sender raises" in done.stdout
    assert "it breaks KS-1.1, KS-1.2" in done.stdout
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"machines.md", "machines.svg", "difference.ndjson"}
    trace, clause, _ = read_trace(tmp_path / "new" / "difference.ndjson")
    assert clause is None
    again = replay(SeedAdapter(AfterTheFix), trace)
    assert again.exit_code == 1
    assert "KS-1.2" in {violation.clause for violation in again.violations}


def test_the_drawings_have_every_state_of_both(good: Learned) -> None:
    root = ElementTree.fromstring(str(to_svg(good)))
    assert len(list(root.iter(f"{SVG}rect"))) == 24
    texts = [element.text or "" for element in root.iter(f"{SVG}text")]
    assert [text for text in texts if text.startswith("the specification: 12")]
    assert all(any(str(letter) in text for text in texts) for letter in good.spec.inputs)
    page = to_markdown(good)
    assert page.count("```mermaid") == 2
    assert page.count("    s11: s11 ") == 2
    assert page.count("[*] --> s0") == 2


def test_a_sequence_that_differs_is_in_the_drawings(good: Learned) -> None:
    sequence = (Letter.LAST, Letter.POLL_ALL)
    differing = Learned(good.adapter, good.reading, good.spec, good.sender, 1, sequence=sequence)
    assert str(to_svg(differing)).count('class="node way"') == 6
    assert str(to_svg(good)).count('class="node way"') == 0
    assert to_markdown(differing).count("class s0,s2,s9 way") == 2
    assert verdict(differing)[-1] == "it breaks no clause: the contract leaves the sender this freedom"


# -------------------------------------------------------------------------------------------------- bad input


def test_without_aalpy_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aalpy", None)
    with pytest.raises(CannotLearn, match="pip install aalpy"):
        learned(toy.adapter)


def test_the_command_without_aalpy_is_wrong_use() -> None:
    program = "import sys; sys.modules['aalpy'] = None; from kvsender_spec.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "learn", "kvsender_spec.kit.toy:adapter"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "kvsender: learning needs AALpy, which is not installed: pip install aalpy" in done.stderr


def test_a_sender_with_workers_is_refused() -> None:
    with pytest.raises(CannotLearn, match="cannot be learned: the system has worker threads"):
        learned(WorkerAdapter())


def test_a_sender_that_is_not_deterministic_is_named() -> None:
    numbers = count()

    def fickle(sequence: CallSequence) -> tuple[Answer, ...]:
        return tuple(Answer.PENDING if next(numbers) % 7 else Answer.FAILED for _ in sequence)

    with pytest.raises(CannotLearn, match="the sender is not deterministic: to "):
        learn_machine(fickle, tuple(Letter))


def test_learning_ends_when_its_sequences_are_used_up() -> None:
    endless = learned(toy.adapter, most_sequences=120)
    assert endless.stopped == "120 sequences were asked"
    assert endless.exit_code in (1, 3)
    assert any("cut short after 120 sequences" in line for line in verdict(endless))
    with pytest.raises(CannotLearn, match="nothing was learned before 3 sequences were asked: allow more"):
        learned(toy.adapter, most_sequences=3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nosuch:adapter",), "there is no module 'nosuch'"),
        (("tests.mutants.inline:adapter", "--out", "/dev/null/x"), "cannot write into /dev/null/x"),
        (("tests.mutants.inline:adapter", "--sequences", "0"), "Invalid value for '--sequences'"),
        (("tests.mutants.queued:adapter",), "has no 'adapter'"),
    ],
)
def test_wrong_use_says_what_is_wrong(arguments: tuple[str, ...], message: str) -> None:
    done = kvsender("learn", *arguments)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
