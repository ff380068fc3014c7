"""Who imports whom, read from the source. Imports for type checkers, and those inside functions, count as well."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
SPEC: Final = "kvsender_spec"
_BASIS: Final = ("contract", "faults")
MAY: Final[dict[str, tuple[str, ...]]] = {
    "history": ("lines", *_BASIS),
    "observe": ("history", "oracle", "clauses", "machine", "target_machine", "trace", *_BASIS),
    "report": ("observe", "history", "clauses", "machine", "trace", *_BASIS),
}
"""What the packages of the specification may import beside themselves."""
MAY_NOT: Final[dict[str, tuple[str, ...]]] = {"formal": ("kit", "observe"), "oracle": ("kit", "observe")}
OF_THE_OBSERVER: Final = (
    "observer",
    "verdict",
    "verdicts",
    "attribution",
    "room",
    "targets.observer",
    "targets.room",
)
"""What the kit, the lab and the connectors may use of it. ``room`` is what ``Observer.rooms`` holds."""
COMMANDS: Final = frozenset(
    {
        "kvsender_spec.cli",
        "kvsender_spec.__main__",
        "kvsender_spec.baseline_command",
        "kvsender_spec.check_command",
        "kvsender_spec.explain_command",
        "kvsender_spec.learn_command",
        "kvsender_spec.replay_command",
        "kvsender_spec.trace_command",
        "kvsender_spec.formal.command",
        "kvsender_connectors.command",
        "kvsender_connectors.__main__",
        "kvsender_nixl.lab.verify",
        "kvsender_nixl.lab.bench",
    }
)
"""The modules of the command line; they import each other and nobody imports them."""

Graph = Mapping[str, frozenset[str]]
"""By module: what it imports, of the modules of this repository."""


def graph(sources: Mapping[str, str]) -> Graph:
    """Of modules, by name, with their text."""
    found: dict[str, frozenset[str]] = {}
    for name, text in sources.items():
        imported: set[str] = set()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{name} imports relatively"
                submodules = {f"{node.module}.{alias.name}" for alias in node.names} & sources.keys()
                imported |= submodules or {node.module or ""}
        found[name] = frozenset(imported & sources.keys())
    return found


def _name(path: Path, base: Path) -> str:
    parts = path.relative_to(base).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def house() -> Graph:
    """Of everything under spec and impl."""
    bases = (ROOT / "spec", ROOT / "impl")
    return graph({_name(path, base): path.read_text() for base in bases for path in sorted(base.rglob("*.py"))})


def part(module: str) -> str:
    """The package or the module right under ``kvsender_spec``; empty for any other."""
    names = module.split(".")
    return names[1] if names[0] == SPEC and len(names) > 1 else ""


# ------------------------------------------------------------------------------------------------- the rules


def forbidden(imports: Graph) -> list[str]:
    """Imports that a rule about packages forbids."""
    return [
        f"{module} imports {other}"
        for module, others in imports.items()
        for other in others
        if (part(module) in MAY and part(other) not in (part(module), *MAY[part(module)]))
        or part(other) in MAY_NOT.get(part(module), ())
    ]


def reaching_in(imports: Graph) -> list[str]:
    """Imports of the observer's insides from outside."""
    inside = f"{SPEC}.observe."
    return [
        f"{module} imports {other}"
        for module, others in imports.items()
        for other in others
        if part(module) != "observe" and other.startswith(inside) and other[len(inside) :] not in OF_THE_OBSERVER
    ]


def of_commands(imports: Graph) -> list[str]:
    """Imports of the command line."""
    return [
        f"{module} imports {other}"
        for module, others in imports.items()
        for other in others & COMMANDS
        if module not in COMMANDS
    ]


def circles(imports: Graph) -> list[frozenset[str]]:
    """Groups of modules that import each other, in however many steps."""
    reach = {module: set(others) for module, others in imports.items()}
    for between in reach:
        for reached in reach.values():
            if between in reached:
                reached |= reach[between]
    groups = {frozenset(o for o in reach[m] if m in reach[o]) for m in reach if m in reach[m]}
    return sorted(groups, key=sorted)


def test_packages_import_what_they_may() -> None:
    assert set(MAY) | set(MAY_NOT) <= {part(module) for module in house()}
    assert forbidden(house()) == []


def test_nobody_reaches_into_the_observer() -> None:
    assert reaching_in(house()) == []


def test_nobody_imports_the_command_line() -> None:
    assert set(house()) >= COMMANDS
    assert of_commands(house()) == []


def test_there_are_no_circles() -> None:
    assert circles(house()) == []


# ------------------------------------------------------------------------------------------------- planted faults


def with_import(module: str, line: str) -> Graph:
    """The house with one more import."""
    names: Iterable[str] = house()
    sources = {name: "" for name in names} | {module: line}
    return {**house(), module: house()[module] | graph(sources)[module]}


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("history.record", "from kvsender_spec.machine import State"),
        ("history.events", "def f():\n    from kvsender_spec import oracle"),
        ("observe.room", "from kvsender_spec.kit.run.rooms import Room"),
        ("observe.room", "import kvsender_spec.report.text"),
        ("report.text", "if TYPE_CHECKING:\n    from kvsender_spec.kit.run.execute import Run"),
        ("formal.rules", "from kvsender_spec.observe import verdict"),
        ("oracle", "from kvsender_spec.observe.verdict import Verdict"),
    ],
)
def test_an_import_across_layers_would_be_noticed(module: str, line: str) -> None:
    assert len(forbidden(with_import(f"{SPEC}.{module}", line))) == 1


def test_a_checker_that_is_used_outside_would_be_noticed() -> None:
    line = "from kvsender_spec.observe.checkers import CHECKERS"
    for module in ("kvsender_spec.kit.run.execute", "kvsender_nixl.adapter", "kvsender_spec.report.text"):
        assert len(reaching_in(with_import(module, line))) == 1


def test_a_use_of_the_command_line_would_be_noticed() -> None:
    assert len(of_commands(with_import("kvsender_spec.kit.check", "from kvsender_spec import cli"))) == 1


def inner_imports() -> dict[str, tuple[str, str]]:
    """One import inside each package that has any: the package, then who imports whom."""
    found: dict[str, tuple[str, str]] = {}
    for module, others in sorted(house().items()):
        package = module.rpartition(".")[0]
        for other in sorted(others):
            if other.rpartition(".")[0] == package:
                found.setdefault(package, (module, other))
    return found


def test_the_packages_that_are_watched_for_circles() -> None:
    assert set(inner_imports()) > {f"{SPEC}.formal.{name}" for name in ("engines", "explicit", "model", "smt", "suite")}


@pytest.mark.parametrize(("module", "other"), inner_imports().values(), ids=inner_imports())
@pytest.mark.parametrize("line", ["import {}", "if TYPE_CHECKING:\n    import {}", "def f():\n    import {}"])
def test_a_circle_would_be_noticed_in_every_package(module: str, other: str, line: str) -> None:
    (found,) = circles(with_import(other, line.format(module)))
    assert {module, other} <= found


def test_a_circle_across_packages_would_be_noticed() -> None:
    (found,) = circles(with_import("kvsender_spec.trace", "import kvsender_spec.kit.run.scripted_world"))
    assert {"kvsender_spec.trace", "kvsender_spec.kit.run.scripted_world"} <= found
