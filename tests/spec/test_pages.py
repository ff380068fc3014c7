"""The generated pages are fresh, and the package stays free of what it must not need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kvsender_spec.clauses import BY_ID, CLAUSES, EVERY_CLAUSE, TARGET_CLAUSES, Layer, Level, claimed
from kvsender_spec.diagram import PAGES
from kvsender_spec.machine import Profile

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_what_the_tables_say(name: str) -> None:
    written = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert written == PAGES[name](), f"docs/{name} is stale: run `make docs`"


def test_a_stale_page_would_be_noticed() -> None:
    fresh = PAGES["machine.md"]()
    assert "| **idle** | sending | never | failed | never |" in fresh
    assert fresh.replace("| **idle** | sending |", "| **idle** | done |") != fresh


def test_clause_ids_are_unique_and_in_order() -> None:
    ids = [clause.id for clause in CLAUSES]
    assert ids == sorted(ids)
    assert len(CLAUSES) == 35
    assert len(BY_ID) == len(EVERY_CLAUSE) == 35 + len(TARGET_CLAUSES) == 51
    assert [clause.id for clause in EVERY_CLAUSE if clause.level is Level.SHOULD] == ["KS-2.6", "KS-2.8", "KS-9.16"]
    assert {clause.role for clause in CLAUSES} == {"initiator"}
    assert {clause.role for clause in TARGET_CLAUSES} == {"target"}


def test_every_clause_says_what_judges_it() -> None:
    for clause in EVERY_CLAUSE:
        assert clause.text.endswith(".")
        assert clause.source
        assert clause.observation
        assert clause.layers
    assert sum(Layer.SCRIPTED in clause.layers and clause.level is Level.MUST for clause in CLAUSES) >= 24


def test_profiles_grow() -> None:
    latch, quiescent, full = (frozenset(clause.id for clause in claimed(profile)) for profile in Profile)
    assert latch < quiescent < full == {clause.id for clause in CLAUSES}
    assert "KS-4.1" in quiescent - latch


def test_the_specification_needs_neither_nixl_nor_torch_nor_numpy() -> None:
    program = (
        "import sys, pkgutil, importlib\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('nixl', 'nixl_cu13', 'nixl_cu12', 'torch', 'numpy'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import kvsender_spec\n"
        "for found in pkgutil.walk_packages(kvsender_spec.__path__, 'kvsender_spec.'):\n"
        "    importlib.import_module(found.name)\n"
        "    print(found.name)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "kvsender_spec.cli" in done.stdout
    assert "kvsender_spec.machine" in done.stdout


def test_tables_and_clauses_import_nothing_of_the_kit() -> None:
    for name in ("machine.py", "live_machines.py", "clauses.py", "contract.py", "oracle.py", "faults.py", "trace.py"):
        text = (ROOT / "spec" / "kvsender_spec" / name).read_text(encoding="utf-8")
        assert "kvsender_spec.kit" not in text.replace("``kvsender_spec.kit", ""), name
        assert "import torch" not in text
