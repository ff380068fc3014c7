"""The pytest class: what its tests are called, what makes each pass, fail or be skipped, and what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from kvsender_spec.clauses import CLAUSES
from kvsender_spec.kit.check import Budget
from kvsender_spec.kit.suite import DeclarationError, SenderConformance
from kvsender_spec.kit.toy import ToyAdapter

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]

SENDERS = """
from kvsender_spec.kit.suite import SenderConformance
from kvsender_spec.kit.toy import ToyAdapter, ToySender, ToySystem


class TimedSender(ToySender):
    def failure_exception(self):
        if self.cause is None:
            super().failure_exception()
        now_s = self.system.world.clock()
        raise RuntimeError(f"{type(self.cause).__name__}: {self.cause} (at {now_s} s)") from self.cause


class TimedSystem(ToySystem):
    def sender(self, plan):
        return TimedSender(self, plan)


class TimedAdapter(ToyAdapter):
    def open(self, world):
        return TimedSystem(world)


class BrokenAdapter(ToyAdapter):
    def open(self, world):
        raise OSError("no such device")
"""

CLASSES = """
class TestGood(SenderConformance):
    adapter = ToyAdapter()
    deviations = {"KS-2.4": "not needed"}


class TestTimed(SenderConformance):
    adapter = TimedAdapter()


class TestExcused(SenderConformance):
    adapter = TimedAdapter()
    deviations = {"KS-2.4": "the text holds the time"}


class TestBroken(SenderConformance):
    adapter = BrokenAdapter()
    deviations = {"KS-2.4": "the text holds the time"}
"""


@dataclass(frozen=True)
class Result:
    outcome: str
    text: str


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    scrubbed = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    environment = {**scrubbed, "PYTHONPATH": os.pathsep.join([str(ROOT / "spec"), str(ROOT / "impl")])}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, text=True, capture_output=True, check=False, timeout=200
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Result]:
    """What became of each test, by its class and its name: one run of pytest for all classes."""
    folder = tmp_path_factory.mktemp("suite")
    (folder / "test_senders.py").write_text(SENDERS + CLASSES)
    answer = python("-m", "pytest", "-p", "no:cacheprovider", "--strict-markers", "--junitxml=out.xml", cwd=folder)
    assert answer.returncode == 1, answer.stdout
    found = {}
    for case in ET.parse(folder / "out.xml").iter("testcase"):
        child = next(iter(case), None)
        outcome = "passed" if child is None else child.get("type") or child.tag
        text = "" if child is None else f"{child.get('message')}\n{child.text}"
        found[case.attrib["classname"].rpartition(".")[2], case.attrib["name"]] = Result(outcome, text)
    return found


def outcomes(results: dict[tuple[str, str], Result], cls: str) -> dict[str, str]:
    return {name: result.outcome for (where, name), result in results.items() if where == cls}


def test_every_class_has_one_test_for_each_clause(results: dict[tuple[str, str], Result]) -> None:
    for cls in ("TestGood", "TestTimed", "TestExcused", "TestBroken"):
        assert list(outcomes(results, cls)) == [f"test_clause[{clause.id}]" for clause in CLAUSES]
    assert len(results) == 4 * len(CLAUSES)  # and nothing for SenderConformance itself, which the module imports


def test_what_is_not_claimed_is_skipped_and_not_passed(results: dict[tuple[str, str], Result]) -> None:
    good = outcomes(results, "TestGood")
    passed = {name for name, outcome in good.items() if outcome == "passed"}
    assert len(passed) == 18
    assert "test_clause[KS-4.1]" not in passed
    assert "not claimed by profile latch" in results["TestGood", "test_clause[KS-4.1]"].text
    assert "the system has no attribution()" in results["TestGood", "test_clause[KS-2.8]"].text


def test_a_deviation_that_is_not_needed_fails(results: dict[tuple[str, str], Result]) -> None:
    good = outcomes(results, "TestGood")
    assert [name for name, outcome in good.items() if outcome == "failure"] == ["test_clause[KS-2.4]"]
    text = results["TestGood", "test_clause[KS-2.4]"].text
    assert "its verdict is pass: take it out of TestGood.deviations" in text


def test_a_broken_clause_fails_and_its_report_reads_alone(results: dict[tuple[str, str], Result]) -> None:
    timed = outcomes(results, "TestTimed")
    assert [name for name, outcome in timed.items() if outcome == "failure"] == ["test_clause[KS-2.4]"]
    text = results["TestTimed", "test_clause[KS-2.4]"].text
    assert "KS-2.4 REPEATABLE (MUST)\n  rule      failure_exception() raises the same each time" in text
    for word in ("source  ", "expected  ", "observed  ", "shortest trace found", "1. open(0)", "seed 0, ci"):
        assert word in text
    assert "suite.py" not in text  # no traceback of the kit
    assert "Captured log" not in text


def test_a_deviation_is_an_expected_failure_with_its_reason(results: dict[tuple[str, str], Result]) -> None:
    excused = Counter(outcomes(results, "TestExcused").values())
    assert excused == {"passed": 18, "pytest.skip": 16, "pytest.xfail": 1}
    assert "declared deviation: the text holds the time" in results["TestExcused", "test_clause[KS-2.4]"].text


def test_a_broken_adapter_passes_nothing_and_no_deviation_excuses_it(results: dict[tuple[str, str], Result]) -> None:
    broken = outcomes(results, "TestBroken")
    assert Counter(broken.values()) == {"failure": 20, "pytest.skip": 15}
    assert "open raised OSError: no such device" in results["TestBroken", "test_clause[KS-1.1]"].text
    text = results["TestBroken", "test_clause[KS-2.4]"].text
    assert "its verdict is error (adapter toy: open raised OSError: no such device)" in text


# -- what a subclass may not do


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"test_clause": lambda self, clause: None}, "may not define test_clause"),
        ({"test_mine": lambda self: None}, "may not define test_mine"),
        ({"pytest_generate_tests": lambda self, metafunc: None}, "may not define pytest_generate_tests"),
        ({"setup_method": lambda self: None}, "may not define setup_method"),
        ({"clause": pytest.fixture(lambda: "KS-1.1")}, "may not define clause"),
        ({"__test__": False}, "may not define __test__"),
        ({"__init_subclass__": lambda: None}, "may not define __init_subclass__"),
        ({"__getattribute__": object.__getattribute__}, "may not define __getattribute__"),
        ({"deviation": {}}, "may not define deviation: .* sets only adapter, seed, budget, strict, deviations"),
        ({"deviations": {"KS-9.99": "a reason"}}, "names 'KS-9.99', which is no clause"),
        ({"deviations": {"KS-2.3": " "}}, "gives no reason for KS-2.3"),
        ({"deviations": {"KS-2.3": None}}, "gives no reason for KS-2.3"),
        ({"deviations": ["KS-2.3"]}, "deviations is no dict"),
        ({"budget": "none"}, "budget is 'none'; write 'quick' or 'ci' or 'nightly'"),
        ({"budget": 1}, "budget is 1"),
        ({"seed": "0"}, "seed is '0'"),
        ({"seed": True}, "seed is True"),
        ({"strict": 0}, "strict is 0"),
    ],
)
def test_a_declaration_that_weakens_or_means_nothing_is_refused(members: dict[str, object], message: str) -> None:
    with pytest.raises(DeclarationError, match=f"TestRefused.*{message}"):
        type("TestRefused", (SenderConformance,), members)


def test_a_base_class_cannot_bring_what_a_subclass_may_not() -> None:
    class Weak:
        def test_clause(self, clause: str) -> None:
            pass

    for bases in ((Weak, SenderConformance), (type("Quiet", (), {"setup_class": None}), SenderConformance)):
        with pytest.raises(DeclarationError, match="may not define"):
            type("TestRefused", bases, {})


def test_settings_may_come_from_a_base_class() -> None:
    base = type("Ours", (SenderConformance,), {"budget": Budget.NIGHTLY, "__doc__": "Ours."})
    assert type("TestOurs", (base,), {"adapter": ToyAdapter(), "seed": 3}).__mro__[1] is base


@pytest.mark.parametrize(
    ("before", "body", "after", "message"),
    [
        ("", "def test_clause(self, clause): pass", "", "TestMine may not define test_clause: *"),
        ("", "deviations = {'KS-9.99': 'a reason'}", "", "TestMine.deviations names 'KS-9.99', which is no clause; *"),
        ("", "deviations = {'KS-2.3': ''}", "", "TestMine.deviations gives no reason for KS-2.3; *"),
        ("", "adapter = None", "", "TestMine.adapter is no adapter: it lacks name, *"),
        ("", "adapter = ToyAdapter", "", "TestMine.adapter is a class; *"),
        ("@pytest.mark.xfail", "", "", "TestMine is marked xfail, *"),
        ("pytestmark = pytest.mark.xfail(strict=False)\n", "", "", "TestMine is marked xfail, *"),
        ("", "", "TestMine.test_clause = lambda self, clause: None", "TestMine may not define test_clause: *"),
        ("", "", "TestMine.deviations = {'KS-2.3': ''}", "TestMine.deviations gives no reason *"),
        ("@pytest.mark.parametrize('clause', ['KS-1.1'])", "", "", "*duplicate parametrization of 'clause'*"),
    ],
)
def test_a_refusal_is_an_error_at_collection(
    before: str, body: str, after: str, message: str, pytester: pytest.Pytester
) -> None:
    declared = f"class TestMine(SenderConformance):\n    adapter = ToyAdapter()\n    {body or 'pass'}\n"
    pytester.makepyfile(f"import pytest\n{SENDERS}\n{before}\n{declared}\n{after}\n")
    answer = pytester.runpytest_subprocess()
    answer.assert_outcomes(errors=1)
    answer.stdout.fnmatch_lines([f"*{message}"])


def test_a_class_without_an_adapter_is_an_error(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(f"{SENDERS}\nclass TestMine(SenderConformance):\n    pass\n")
    answer = pytester.runpytest_subprocess()
    answer.assert_outcomes(errors=1)
    answer.stdout.fnmatch_lines(["TestMine sets no adapter: write adapter = MyAdapter()"])


def test_an_adapter_without_a_method_is_refused_with_its_name(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        f"{SENDERS}\nclass Empty(ToyAdapter):\n    def open(self, world): return object()\n"
        "class TestMine(SenderConformance):\n    adapter = Empty()\n"
    )
    answer = pytester.runpytest_subprocess("-k", "KS-2.3")
    answer.assert_outcomes(failed=1, deselected=len(CLAUSES) - 1)
    answer.stdout.fnmatch_lines(["adapter toy: what open() returned, a object, lacks sender() *"])


def test_the_sender_is_explored_once_for_all_clauses(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        f"{SENDERS}\nfrom kvsender_spec.kit import suite\ncalls = []\nreal = suite.check\n"
        "def counted(adapter, **options):\n    calls.append(options)\n    return real(adapter, **options)\n"
        "suite.check = counted\n"
        "class TestMine(SenderConformance):\n    adapter = BrokenAdapter()\n    seed = 5\n    budget = 'quick'\n"
        "class TestTheirs(TestMine):\n    seed = 6\n"
        "def test_calls():\n    assert calls == [{'seed': 5, 'examples': 100}, {'seed': 6, 'examples': 100}]\n"
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1, failed=2 * 20, skipped=2 * 15)


def test_each_test_carries_the_marker_of_its_clause(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        f"{SENDERS}\nclass TestMine(SenderConformance):\n    adapter = BrokenAdapter()\ndef test_other(): pass\n"
    )
    answer = pytester.runpytest_subprocess("--strict-markers", "--collect-only", "-q", "-m", "kvsender_clause")
    answer.stdout.fnmatch_lines(["*::TestMine::test_clause[[]KS-2.3[]]"])
    answer.stdout.no_fnmatch_line("*test_other*")


def test_a_baseline_excuses_like_deviations_and_an_entry_that_is_stale_fails(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        f"{SENDERS}\nclass TestMine(SenderConformance):\n    adapter = TimedAdapter()\n    budget = 'quick'\n"
        "    baseline = 'known.toml'\n"
    )
    entry = '[[deviations]]\nclause = "{}"\nreason = "{}"\n'
    listed = entry.format("KS-2.4", "the text holds the time") + entry.format("KS-2.1", "it was so")
    Path("known.toml").write_text(listed)
    answer = pytester.runpytest_subprocess("-k", "KS-2.4 or KS-2.1 or KS-2.2", "-rx")
    answer.assert_outcomes(passed=1, xfailed=1, failed=1, deselected=len(CLAUSES) - 3)
    answer.stdout.fnmatch_lines(["*KS-2.4 REPEATABLE is a declared deviation: the text holds the time*"])
    answer.stdout.fnmatch_lines(
        ["*KS-2.1 STICKY is declared as a deviation (it was so)*TestMine.baseline, known.toml*"]
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "known.toml: No such file or directory"), ('[[deviations]]\nclause = "KS-2.4"\n', "field `reason`")],
)
def test_a_baseline_that_cannot_be_read_is_an_error_at_collection(
    text: str | None, message: str, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(
        f"{SENDERS}\nclass TestMine(SenderConformance):\n    adapter = TimedAdapter()\n    baseline = 'known.toml'\n"
    )
    if text is not None:
        Path("known.toml").write_text(text)
    answer = pytester.runpytest_subprocess()
    answer.assert_outcomes(errors=1)
    answer.stdout.fnmatch_lines([f"*TestMine.baseline: *{message}*"])
