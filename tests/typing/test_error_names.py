"""NIXL's error classes, counted in every place that lists them.

They share no base but ``Exception``, so "a transport error" is a list that somebody has to keep. A class that a newer
NIXL adds and one of the lists lacks would escape through the sender's ``poll``; this test fails first.
"""

import ast
from pathlib import Path

import nixl._bindings as installed
import pytest

from kvsender_nixl.agent import ERROR_CLASSES, TRANSPORT_ERRORS
from kvsender_spec.faults import NIXL_KINDS

STUB = Path(__file__).parents[2] / "stubs" / "nixl" / "_bindings.pyi"


def error_names(module: object) -> set[str]:
    return {name for name in dir(module) if name.endswith("Error")}


def incomplete_lists() -> list[str]:
    """The places whose list of error classes is not that of the installed bindings, with what differs."""
    stubbed = {node.name for node in ast.parse(STUB.read_text()).body if isinstance(node, ast.ClassDef)}
    lists = {
        "faults.NIXL_KINDS": {kind.value for kind in NIXL_KINDS},
        "the stub": {name for name in stubbed if name.endswith("Error")},
        "agent.ERROR_CLASSES": set(ERROR_CLASSES),
        "agent.TRANSPORT_ERRORS": {error.__name__ for error in TRANSPORT_ERRORS if error is not RuntimeError},
    }
    expected = error_names(installed)
    return [
        f"{place}: lacks {sorted(expected - names)}, has too many {sorted(names - expected)}"
        for place, names in lists.items()
        if names != expected
    ]


def test_every_list_is_complete() -> None:
    assert len(error_names(installed)) == 12
    assert incomplete_lists() == []


def test_a_new_class_is_noticed_in_every_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "nixlImaginaryError", type("nixlImaginaryError", (Exception,), {}), raising=False)
    places = ("faults.NIXL_KINDS", "the stub", "agent.ERROR_CLASSES", "agent.TRANSPORT_ERRORS")
    assert incomplete_lists() == [f"{place}: lacks ['nixlImaginaryError'], has too many []" for place in places]


def test_a_class_that_went_away_is_noticed_in_every_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(installed, "nixlCancelledError")
    assert [line.split(": ")[1] for line in incomplete_lists()] == ["lacks [], has too many ['nixlCancelledError']"] * 4


def test_the_agent_catches_the_very_classes_of_the_bindings() -> None:
    # Equal names are not enough: two backend wheels of NIXL have classes of the same names.
    real = {name: vars(installed)[name] for name in error_names(installed)}
    assert dict(ERROR_CLASSES) == real
    assert set(TRANSPORT_ERRORS) == {*real.values(), RuntimeError}


def test_no_class_can_be_caught_through_another() -> None:
    assert {error.__bases__ for error in ERROR_CLASSES.values()} == {(Exception,)}
