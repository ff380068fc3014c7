"""``kvsender prove``: a front over ``kvsender_spec.formal.prove``.

Exit codes: 0 everything holds, 1 something does not, 2 the command was used wrongly or an engine is missing.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from kvsender_spec.formal.engines.engine import EngineFailed, ToolMissing
from kvsender_spec.formal.explicit.generate import Generated
from kvsender_spec.formal.explicit.runnable import NotRunnable, runnable
from kvsender_spec.formal.explicit.search import Found
from kvsender_spec.formal.model.predicates import PROPERTIES, STATE_PROPERTIES
from kvsender_spec.formal.model.state import Bounds
from kvsender_spec.formal.prove import Engine, Line, prove
from kvsender_spec.formal.rules import Rules
from kvsender_spec.front import import_from_here, refuse, require_writable


def load_rules(name: str) -> Rules:
    """Rules by ``module:attribute``. Raises ValueError with the reason for whatever is none."""
    module, colon, attribute = name.partition(":")
    if not colon:
        raise ValueError(f"{name!r} names no rules: write module:attribute, e.g. kvsender_spec.formal.rules:SPEC")
    import_from_here()
    try:
        found: object = getattr(importlib.import_module(module), attribute, None)
    except ImportError as error:
        raise ValueError(f"cannot import {module!r}: {error}") from error
    if not isinstance(found, Rules):
        raise ValueError(f"{name} is no Rules but {type(found).__name__}")
    return found


def prove_command(
    engine: Annotated[list[Engine] | None, typer.Option(help="only these; may be given again")] = None,
    chunks: Annotated[int, typer.Option(min=1, help="chunks that the room id has in all")] = 3,
    peers: Annotated[int, typer.Option(min=1, help="peers that every chunk goes to")] = 2,
    rules_name: Annotated[
        str, typer.Option("--rules", metavar="MODULE:RULES", help="other tables than the specification's")
    ] = "kvsender_spec.formal.rules:SPEC",
    trace_path: Annotated[
        Path | None, typer.Option("--trace", help="write the shortest trace of a violation there, for kvsender replay")
    ] = None,
) -> None:
    """Prove the specification: every layer on the tables, and one table of what came of it."""
    require_writable(trace_path, "--trace")
    console = Console(highlight=False)
    try:
        bounds = Bounds(chunks, peers)
        rules = load_rules(rules_name)
        lines = list(prove(rules, bounds, engine or list(Engine)))
    except (ValueError, ToolMissing, EngineFailed) as error:
        raise refuse(str(error)) from error
    console.print(_table(lines))
    _show_clauses(lines, console)
    found = [violation for line in lines for violation in line.found]
    for violation in found:
        _show(violation, console)
    if found:
        _show_trace(Generated(rules, _bounds_of(lines, found[0])), found[0], trace_path, console)
    raise typer.Exit(0 if all(line.holds for line in lines) else 1)


def _bounds_of(lines: list[Line], found: Found) -> Bounds:
    """The bound at which it was found."""
    text = next(line.bound for line in lines if found in line.found)
    chunks, _, peers = text.partition("x")
    return Bounds(int(chunks), int(peers))


def _table(lines: list[Line]) -> Table:
    table = Table()
    for heading in ("layer", "engine", "chunks x peers", "looked at", "CPU s", "verdict"):
        table.add_column(heading, overflow="fold", justify="right" if heading == "CPU s" else "left")
    for line in lines:
        verdict = "holds" if line.holds else f"broken: {len(line.found) + len(line.broken)}"
        table.add_row(line.layer, line.engine.value, line.bound, line.looked_at, f"{line.seconds:.2f}", verdict)
    return table


def _show_clauses(lines: list[Line], console: Console) -> None:
    """Which clauses a model can state, and which of them the exploration found broken."""
    if not any(line.layer == "states" for line in lines):
        return
    texts = [(rule.name, rule.text) for rule in (*PROPERTIES, *STATE_PROPERTIES)]
    broken = {(violation.clause, violation.text) for line in lines for violation in line.found}
    for clause, text in sorted(texts):
        mark = "broken" if (clause, text) in broken else "holds"
        console.print(f"{clause}  {mark:6}  {text}", markup=False, soft_wrap=True)
    for line in lines:
        for reason in line.broken:
            console.print(f"{line.layer} ({line.engine.value}): {reason}", markup=False, soft_wrap=True)


def _show(found: Found, console: Console) -> None:
    console.print(f"\n{found.clause} is broken: {found.text}", markup=False, soft_wrap=True)
    for number, action in enumerate(found.trace, 1):
        console.print(f"  {number:2}. {action}", markup=False)
    if found.repeated:
        console.print(f"  and then for ever: {'; '.join(map(str, found.repeated))}", markup=False, soft_wrap=True)


def _show_trace(model: Generated, found: Found, path: Path | None, console: Console) -> None:
    """The trace in the format of the kit, or why there is none."""
    try:
        text = runnable(model, found.trace).dump()
    except NotRunnable as error:
        console.print(f"\nno trace for kvsender replay: {error}", markup=False, soft_wrap=True)
        return
    if path is None:
        console.print(f"\nfor kvsender replay:\n{text}", markup=False, soft_wrap=True, end="")
        return
    path.write_text(text, encoding="utf-8")
    console.print(f"\nwrote {path}: kvsender replay {path} module:adapter", markup=False, soft_wrap=True)
