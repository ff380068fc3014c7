"""What the kit costs: ``python -m tests.kit.bench [REVISION]``, or ``make bench-kit BASE=REVISION``.

Prints the runs of the walk per CPU second against a checkout of the revision, what a run costs beside the bare cost of
its calls, and the parts of a run. Times are CPU seconds, because the machines that run this are shared, and each is the
least of several, base and head in turn: what counts are the ratios. Nothing is compared with a bar.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from tests.kit.shares import bare_s, parts, recorded, whole_s

from kvsender_connectors.connectors import BY_KEY
from kvsender_connectors.loading import FOLDER_VARIABLE, folder
from kvsender_spec.history.header import Ability
from kvsender_spec.kit.loading import load_adapter
from kvsender_spec.kit.parts import abilities

ROOT: Final = Path(__file__).parents[2]
REPEATS: Final = 5
SENDERS: Final = {
    "reference": "kvsender_nixl.adapter:adapter",
    "inline": "tests.mutants.inline:adapter",
    "toy": "kvsender_spec.kit.toy:adapter",
}
_CONNECTOR: Final = BY_KEY["sglang-0.5.23"]
TIMEOUT_S: Final = 600.0


def senders() -> dict[str, str]:
    """By name the adapters to measure: the published one only where its wheel is installed (``make connectors``)."""
    there = (folder() / str(_CONNECTOR.release)).is_dir()
    return {**SENDERS, _CONNECTOR.title: _CONNECTOR.adapter} if there else SENDERS


@contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """A tree of that revision, as long as the block lasts. Raises typer.BadParameter for one that git does not know."""
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch) / "base"
        added = _git("worktree", "add", "--detach", str(tree), revision)
        if added.returncode != 0:
            raise typer.BadParameter(added.stderr.strip().splitlines()[-1])
        try:
            yield tree
        finally:
            _git("worktree", "remove", "--force", str(tree))


def _git(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(("git", *words), cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


def walk_s(tree: Path, adapter: str, examples: int) -> float:
    """CPU seconds of one run of the walk with the kit, and the adapter, of a tree."""
    command = (sys.executable, "-P", str(ROOT / "tests/kit/bench_walk.py"), adapter, str(examples))
    path = os.pathsep.join(str(tree / part) for part in ("spec", "impl", "."))
    environment = {**os.environ, "PYTHONPATH": path, FOLDER_VARIABLE: str(folder())}
    done = subprocess.run(
        command, cwd=tree, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=True
    )
    runs, seconds = done.stdout.split()
    return float(seconds) / int(runs)


def compare(base: Path, adapters: Mapping[str, str], examples: int, console: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD, title="runs of the walk per CPU second", title_justify="left")
    for column in ("sender", "base", "head", "times"):
        table.add_column(column, justify="left" if column == "sender" else "right", no_wrap=True)
    for name, adapter in adapters.items():
        pairs = [[walk_s(tree, adapter, examples) for tree in (base, ROOT)] for _ in range(REPEATS)]
        old, new = map(min, zip(*pairs, strict=True))
        table.add_row(name, f"{1 / old:.0f}", f"{1 / new:.0f}", f"{old / new:.1f}")
    console.print(table)


def costs(adapters: Mapping[str, str], examples: int, console: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD, title="CPU ms a run, and the parts of a run", title_justify="left")
    table.add_column("")
    found: list[dict[str, str]] = []
    for name, adapter_name in adapters.items():
        table.add_column(name, justify="right", no_wrap=True)
        adapter = load_adapter(adapter_name)
        traces = recorded(adapter, examples)
        # Without the kit nothing holds a worker back that asks about a transfer again and again.
        inline = Ability.WORKERS not in abilities(adapter)
        pairs = [(whole_s(adapter, examples), bare_s(adapter, traces) if inline else 0.0) for _ in range(REPEATS)]
        whole, bare = (min(column) / examples * 1000 for column in zip(*pairs, strict=True))
        rows = {"a run": f"{whole:.2f}", "bare": "-", "times": "-"}
        rows |= {"bare": f"{bare:.2f}", "times": f"{whole / bare:.1f}"} if inline else {}
        shares = min((parts(adapter, examples) for _ in range(REPEATS)), key=lambda times: sum(times.values()))
        total = sum(shares.values())
        found.append(rows | {part: f"{seconds / total:.0%}" for part, seconds in shares.items()})
    for row in found[0]:
        table.add_row(row, *(column[row] for column in found))
    console.print(table)
    console.print("bare: the world, open(), and the same calls on the scripted agent; nothing is recorded or judged")
    console.print("-: not for a sender with threads, which would ask the agent without end")


def main(
    base: Annotated[str, typer.Argument(help="The revision to compare with; none when empty.")] = "",
    examples: Annotated[int, typer.Option(min=1, help="Runs of each sender, each time.")] = 100,
) -> None:
    """Print how fast the kit is: against another revision, against the bare cost, and where the time goes."""
    logging.disable(logging.CRITICAL)
    console = Console(highlight=False)
    if base:
        with checkout(base) as tree:
            compare(tree, senders(), examples, console)
    costs(senders(), examples, console)


if __name__ == "__main__":
    typer.run(main)
