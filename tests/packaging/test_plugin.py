"""The pytest plugin, as pytest loads it through its entry point in somebody else's project."""

from importlib.metadata import version

import pytest

pytest_plugins = ["pytester"]

MARKED = """
import pytest

@pytest.mark.kvsender_clause("KS-2.1")
def test_marked():
    pass
"""

LOADED = """
import sys

def test_what_is_loaded():
    assert "_kvsender_pytest.plugin" in sys.modules
    heavy = {"hypothesis", "transitions", "rich", "typer", "torch", "nixl", "kvsender_spec", "kvsender_nixl"}
    assert sorted(heavy & set(sys.modules)) == []
"""


def test_the_header_names_the_version(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(MARKED)
    answer = pytester.runpytest_subprocess()
    answer.stdout.fnmatch_lines(["kvsender-spec: " + version("kvsender-spec")])
    without = pytester.runpytest_subprocess("-p", "no:kvsender")
    without.stdout.no_fnmatch_line("kvsender-spec: *")


def test_the_marker_is_registered(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(MARKED)
    pytester.runpytest_subprocess("--strict-markers").assert_outcomes(passed=1)
    without = pytester.runpytest_subprocess("--strict-markers", "-p", "no:kvsender")
    without.assert_outcomes(errors=1)
    without.stdout.fnmatch_lines(["*'kvsender_clause' not found in `markers` configuration option*"])


def test_loading_it_imports_nothing_heavy(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(LOADED)
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


@pytest.mark.parametrize("heavy", ["hypothesis", "kvsender_spec"])
def test_a_heavy_import_would_be_noticed(heavy: str, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(LOADED)
    pytester.makeconftest(f"import {heavy}")
    answer = pytester.runpytest_subprocess()
    answer.assert_outcomes(failed=1)
    answer.stdout.fnmatch_lines([f"*assert [[]'{heavy}'*[]] == [[][]]*"])
