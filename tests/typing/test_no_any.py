"""No public signature says ``Any``, and no comment silences a type checker without naming what it silences.

mypy's ``disallow_any_explicit`` covers the specification; this covers every source root, and what others import.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def sources(*roots: str) -> list[Path]:
    """The Python files and stubs under the roots; at least one under each, so that no root is missed by its name."""
    found = []
    for root in roots:
        files = sorted(path for path in (ROOT / root).rglob("*.py*") if path.suffix in (".py", ".pyi"))
        assert files, f"nothing to check under {root}"
        found += files
    return found


def is_public(name: str) -> bool:
    return not name.startswith("_") or (name.startswith("__") and name.endswith("__"))


def names_of_any(tree: ast.Module) -> set[str]:
    """The ways in which this file can say Any: ``Any``, ``typing.Any``, or whatever it was imported as."""
    names = {"Any", "typing.Any", "typing_extensions.Any"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in ("typing", "typing_extensions"):
            names |= {alias.asname or alias.name for alias in node.names if alias.name == "Any"}
        elif isinstance(node, ast.Import):
            names |= {f"{alias.asname}.Any" for alias in node.names if alias.name == "typing" and alias.asname}
    return names


def says_any(annotation: ast.expr | None, names: set[str]) -> bool:
    """True when an annotation names Any anywhere inside, in quotes too."""
    if annotation is None:
        return False
    for node in ast.walk(annotation):
        if isinstance(node, ast.Name | ast.Attribute) and ast.unparse(node) in names:
            return True
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            try:
                quoted = ast.parse(node.value, mode="eval").body
            except SyntaxError:
                continue  # A string inside Literal[...] need not be Python.
            if not isinstance(quoted, ast.Constant) and says_any(quoted, names):
                return True
    return False


def public_anys(body: list[ast.stmt], names: set[str], prefix: str = "") -> Iterator[str]:
    """The public functions, methods, attributes and aliases under ``body`` that say Any.

    What is defined inside a function is nobody else's business; what is under an ``if`` or a ``try`` is public.
    """
    for node in body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) if is_public(name):
                arguments = node.args
                extra = [argument for argument in (arguments.vararg, arguments.kwarg) if argument is not None]
                every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *extra]
                annotations = [*(argument.annotation for argument in every), node.returns]
                if any(says_any(annotation, names) for annotation in annotations):
                    yield prefix + name
            case ast.ClassDef(name=name) if is_public(name):
                if any(says_any(base, names) for base in node.bases):
                    yield prefix + name
                yield from public_anys(node.body, names, f"{prefix}{name}.")
            case ast.AnnAssign(target=ast.Name(id=name)) if is_public(name):
                alias = node.value if ast.unparse(node.annotation).endswith("TypeAlias") else None
                if says_any(node.annotation, names) or says_any(alias, names):
                    yield prefix + name
            case ast.If() | ast.Try() | ast.With():
                blocks = [getattr(node, field, []) for field in ("body", "orelse", "finalbody")]
                blocks += [handler.body for handler in getattr(node, "handlers", [])]
                for block in blocks:
                    yield from public_anys(block, names, prefix)
            case _:
                pass


def find_anys(source: str) -> list[str]:
    tree = ast.parse(source)
    return list(public_anys(tree.body, names_of_any(tree)))


def find_bare_ignores(source: str) -> list[int]:
    """The lines with a ``type: ignore`` comment that names no error code. Strings that hold one do not count."""
    return [
        token.start[0]
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT and re.search(r"#\s*type:\s*ignore(?!\s*\[[\w-])", token.string)
    ]


def test_no_public_signature_says_any() -> None:
    found = {str(path.relative_to(ROOT)): find_anys(path.read_text()) for path in sources("spec", "impl", "stubs")}
    assert {path: names for path, names in found.items() if names} == {}


def test_every_ignore_names_its_error() -> None:
    paths = sources("spec", "impl", "stubs", "tests")
    found = {str(path.relative_to(ROOT)): find_bare_ignores(path.read_text()) for path in paths}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("def f(x: Any) -> None: ...", ["f"]),
        ("def f(*x: Any) -> None: ...", ["f"]),
        ("def f(*, x: int, **y: list[Any]) -> None: ...", ["f"]),
        ("async def f() -> dict[str, typing.Any]: ...", ["f"]),
        ("from typing import Any as Whatever\ndef f(x: Whatever) -> None: ...", ["f"]),
        ("import typing as t\ndef f(x: t.Any) -> None: ...", ["f"]),
        ("def f(x: 'list[Any]') -> None: ...", ["f"]),
        ("class C:\n    x: Any\n    def __init__(self, y: Any) -> None: ...", ["C.x", "C.__init__"]),
        ("class C:\n    class D:\n        x: Any = 0", ["C.D.x"]),
        ("class C(list[Any]): ...", ["C"]),
        ("if True:\n    x: Any = 0\nelse:\n    y: Any = 0", ["x", "y"]),
        ("try:\n    x: Any = 0\nexcept OSError:\n    y: Any = 0", ["x", "y"]),
        ("X: TypeAlias = list[Any]", ["X"]),
        ("def _f(x: Any) -> None: ...\n_x: Any = 0\nclass _C:\n    x: Any", []),
        ("def f(x: int) -> None:\n    y: Any = x", []),
        ("x: Literal['not Python']", []),
        ("def f(x: Anyone) -> Company.Any_: ...", []),
    ],
)
def test_planted_anys_are_found(source: str, found: list[str]) -> None:
    assert find_anys(source) == found


def test_planted_ignores_are_found() -> None:
    ignore = "# type: " + "ignore"
    lines = (
        f"a = 1  {ignore}",
        f"b = 1  {ignore}[assignment]",
        f"c = 1  {ignore} [assignment]",
        f"d = 1  {ignore}[]",
        f"e = '{ignore}'",
    )
    assert find_bare_ignores("\n".join(lines) + "\n") == [1, 4]
