"""KS-1.5 asks about the adapter's module wherever it comes from, also where its name leads nowhere."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import cast

import pytest

from kvsender_spec.clauses import CLAUSES
from kvsender_spec.kit import probe
from kvsender_spec.kit.adapter import Adapter
from kvsender_spec.kit.check import Outcome, check
from kvsender_spec.observe.verdict import Verdict

pytest_plugins = ["pytester"]

ADAPTER = "from kvsender_spec.kit.toy import ToyAdapter\nclass Mine(ToyAdapter): pass\nadapter = Mine()\n"


@pytest.fixture(autouse=True, params=["fresh", "fork"])
def _forget_modules(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test is made in a fresh interpreter, and in a fork, which the probe makes where torch is loaded."""
    before = set(sys.modules)
    if request.param == "fork":
        monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))
    else:
        monkeypatch.delitem(sys.modules, "torch", raising=False)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def loaded(path: Path, name: str) -> Adapter:
    """The adapter of a file that is imported as pytest's importlib mode imports it: under a name that leads nowhere."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return cast("Adapter", module.adapter)


def judged(adapter: Adapter) -> Verdict:
    (verdict,) = check(adapter, examples=1, sweep=(), clauses=["KS-1.5"]).verdicts
    return verdict


def observed(verdict: Verdict) -> str:
    assert verdict.outcome is Outcome.FAIL
    assert verdict.evidence is not None
    return verdict.evidence.violation.observed


@pytest.mark.parametrize("name", ["mine_of_nobody", "no.such.package.mine", "kvsender_spec.nothing.mine", "json"])
def test_a_module_whose_name_leads_elsewhere_is_loaded_from_its_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name in sys.modules:
        monkeypatch.setitem(sys.modules, name, sys.modules[name])  # put back what the file takes the place of
    (tmp_path / "mine.py").write_text(ADAPTER)
    assert judged(loaded(tmp_path / "mine.py", name)).outcome is Outcome.PASS


def test_such_a_module_that_needs_nixl_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nixl", ModuleType("nixl"))
    (tmp_path / "mine.py").write_text(f"import nixl\n{ADAPTER}")
    assert "nixl" in observed(judged(loaded(tmp_path / "mine.py", "mine_of_nobody")))


def test_a_package_above_the_module_that_needs_nixl_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nixl", ModuleType("nixl"))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "heavy_package").mkdir()
    (tmp_path / "heavy_package" / "__init__.py").write_text("import nixl\n")
    (tmp_path / "heavy_package" / "mine.py").write_text(ADAPTER)
    module = importlib.import_module("heavy_package.mine")
    assert "nixl" in observed(judged(cast("Adapter", module.adapter)))


def test_a_good_module_needs_no_fresh_interpreter_where_torch_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = "torch" not in sys.modules
    asked: list[str] = []

    def noted(name: str, path: str) -> str:
        asked.append(name)
        return ""

    monkeypatch.setattr(probe, "_failure_in_fresh_interpreter", noted)
    (tmp_path / "mine.py").write_text(ADAPTER)
    assert judged(loaded(tmp_path / "mine.py", "mine_of_nobody")).outcome is Outcome.PASS
    assert asked == ["mine_of_nobody"] * needed


def test_what_the_fork_would_not_forget_would_be_taken_for_importable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why the fork forgets everything of which it is not known that it imports no nixl."""
    monkeypatch.setitem(sys.modules, "nixl", ModuleType("nixl"))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "heavy.py").write_text("import nixl\n")
    (tmp_path / "mine_of_heavy.py").write_text(f"import heavy\n{ADAPTER}")
    adapter = cast("Adapter", importlib.import_module("mine_of_heavy").adapter)
    assert "nixl" in observed(judged(adapter))
    monkeypatch.setattr(probe, "_KEPT", probe._KEPT | {"heavy"})
    assert judged(adapter).outcome is (Outcome.PASS if "torch" in sys.modules else Outcome.FAIL)


def test_a_module_that_lacks_something_else_is_told_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "a_package_of_nobody", ModuleType("a_package_of_nobody"))
    (tmp_path / "mine.py").write_text(f"import a_package_of_nobody\n{ADAPTER}")
    assert "a_package_of_nobody" in observed(judged(loaded(tmp_path / "mine.py", "mine_of_nobody")))


def test_a_module_without_a_file_is_not_judged() -> None:
    module = ModuleType("typed_at_a_prompt")
    sys.modules[module.__name__] = module
    exec(ADAPTER, vars(module))
    assert judged(cast("Adapter", module.adapter)).outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize(
    ("head", "outcome"), [("", "passed"), ("import sys\nif 'pytest' not in sys.modules: import nixl\n", "failed")]
)
def test_an_adapter_may_live_in_the_test_file(head: str, outcome: str, pytester: pytest.Pytester) -> None:
    folder = pytester.mkdir("deep")
    (folder / "test_mine.py").write_text(
        f"{head}from kvsender_spec.kit.suite import SenderConformance\n{ADAPTER}"
        "class TestMine(SenderConformance):\n    adapter = adapter\n    budget = 'quick'\n"
    )
    answer = pytester.runpytest_subprocess("--import-mode=importlib", "-k", "KS-1.5")
    answer.assert_outcomes(**{outcome: 1}, deselected=len(CLAUSES) - 1)
