"""The mutants of the code: ``make mutants``. mutmut changes the reference sender, and the kit has to notice.

Works in a copy of its own and leaves nothing behind. Exit codes: 0 the mutants that the kit does not catch are those
that docs/records/code-mutants.md explains; 1 another one is not caught, or one of those is; 2 the command was used
wrongly.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final, TypedDict

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from tests.code_mutants.survivors import PAGE, ROOT, SOURCES, Mutant, changed, parse

COVERED: Final = (
    "initiator.py",
    "sender.py",
    "failing.py",
    "making.py",
    "transfers.py",
    "rooms.py",
    "chunks.py",
    "peers.py",
    "front.py",
)
"""What decides about a room, and the front of the process. The page says why the other files are not there."""
MUTATION_RUN: Final = Path(__file__).with_name("mutation_run.py")
LIMIT_S: Final = 4 * 3600
"""For the whole campaign; each mutant has its own, much shorter one."""

# Log lines and the texts of usage errors are for a human: no clause is about them. A mutant may take as long as the
# unchanged sender and two minutes more, by the wall clock; a call that does not return is ended by the kit itself.
_CONFIG: Final = f"""
[tool.mutmut]
source_paths = ["kvsender_nixl"]
only_mutate = {[f"kvsender_nixl/{name}" for name in COVERED]}
do_not_mutate_patterns = ["logger[.]", "raise KVUsageError"]
also_copy = ["{MUTATION_RUN.name}"]
pytest_add_cli_args_test_selection = ["{MUTATION_RUN.name}"]
use_git_change_detection = false
track_dependencies = false
timeout_multiplier = 1.0
timeout_constant = 120.0
"""

SURVIVED: Final = "survived"
NOT_REACHED: Final = "not reached"
UNCAUGHT: Final = (SURVIVED, NOT_REACHED)
CAUGHT: Final = ("killed", "timeout")
_OUTCOMES: Final = {0: SURVIVED, 33: NOT_REACHED, 1: "killed", 3: "killed", -24: "timeout", -9: "timeout"}
"""What mutmut's exit codes mean: pytest's own, the signals that end a process which takes too long, and 33 for a
function that the run never calls."""


class _Meta(TypedDict):
    """The file that mutmut keeps beside each mutated one."""

    exit_code_by_key: dict[str, int | None]


class _Spans(TypedDict):
    """The lines, from 1, of each function that mutmut wrote into a mutated file."""

    spans: dict[str, tuple[int, int]]


def outcomes(scratch: Path, file: str) -> dict[str, str]:
    """What has become of each mutant of a file so far, by mutmut's name for it."""
    meta = scratch / "mutants" / "kvsender_nixl" / f"{file}.meta"
    if not meta.exists():
        return {}
    # mutmut may be writing it at this moment; the next look finds it whole.
    try:
        found: _Meta = json.loads(meta.read_text())
    except json.JSONDecodeError:
        return {}
    codes = found["exit_code_by_key"]
    return {name: "" if code is None else _OUTCOMES.get(code, f"exit code {code}") for name, code in codes.items()}


def describe(scratch: Path, file: str, name: str, outcome: str) -> Mutant:
    """A mutant by what it changes. mutmut writes all versions of a function into one file, each under its own name."""
    written = scratch / "mutants" / "kvsender_nixl" / file
    spans: _Spans = json.loads(written.with_name(f"{file}.spans").read_text())
    lines = written.read_text().splitlines()
    mangled = name.rpartition(".")[2]
    stem = mangled.partition("__mutmut_")[0]
    function = stem.removeprefix("x_") if stem.startswith("x_") else ".".join(stem.split("ǁ")[1:])
    if outcome == NOT_REACHED:
        return Mutant(file, function)

    def text(version: str) -> str:
        first, last = spans["spans"][version]
        return "\n".join(lines[first - 1 : last]).replace(version, function.rpartition(".")[2], 1)

    return Mutant(file, function, *changed(text(f"{stem}__mutmut_orig"), text(mangled)))


def run(scratch: Path, jobs: int, only: Iterable[str], console: Console) -> None:
    """Run mutmut in an empty folder, and say once a minute how far it is."""
    shutil.copytree(SOURCES, scratch / "kvsender_nixl", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(MUTATION_RUN, scratch)
    (scratch / "pyproject.toml").write_text(_CONFIG)
    command = [str(Path(sys.executable).with_name("mutmut")), "run", "--max-children", str(jobs), *only]
    # The kit is this tree's own; the sender is the copy's, which mutmut puts before it.
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "spec")}
    log = scratch / "log.txt"
    began = time.monotonic()
    with (
        log.open("w") as out,
        subprocess.Popen(command, cwd=scratch, env=environment, stdout=out, stderr=out) as mutmut,
    ):
        while mutmut.poll() is None:
            if time.monotonic() - began > LIMIT_S:
                mutmut.kill()
            try:
                mutmut.wait(60.0)
            except subprocess.TimeoutExpired:
                told = [outcome for file in COVERED for outcome in outcomes(scratch, file).values()]
                done = sum(map(bool, told))
                uncaught = sum(outcome in UNCAUGHT for outcome in told)
                console.print(f"{done} of {len(told)} mutants, {uncaught} not caught", style="dim", highlight=False)
    if mutmut.returncode != 0:
        # Its progress is one line that is written again and again.
        last = re.split(r"[\r\n]+", log.read_text())[-40:]
        sys.exit("\n".join([*last, f"mutmut ended with {mutmut.returncode}"]))


def summary(found: dict[str, Counter[str]]) -> Table:
    names = list(dict.fromkeys((*CAUGHT, *UNCAUGHT, *(name for row in found.values() for name in row))))
    table = Table(box=box.SIMPLE_HEAD, title="mutants of the reference sender", title_justify="left")
    table.add_column("file", no_wrap=True)
    for name in ("mutants", *names):
        table.add_column(name, justify="right", no_wrap=True)
    for file, row in {**found, "all": sum(found.values(), Counter())}.items():
        table.add_row(file, str(row.total()), *(str(row[name]) for name in names))
    return table


def main(
    only: Annotated[list[str] | None, typer.Argument(help="mutmut's names, with *; all when none is given.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = len(os.sched_getaffinity(0)),
) -> None:
    """Let the kit judge every mutant of the reference sender, and compare what it misses with the page."""
    explained = parse(PAGE.read_text())
    console = Console(highlight=False, soft_wrap=True)
    with TemporaryDirectory(prefix="kvsender-mutants-") as folder:
        scratch = Path(folder)
        run(scratch, jobs, only or (), Console(stderr=True))
        told = {(file, name): said for file in COVERED for name, said in outcomes(scratch, file).items() if said}
        others = {name: said for name, said in told.items() if said not in CAUGHT}
        mutants = {name: describe(scratch, *name, said) for name, said in others.items()}
    found = {file: Counter(said for (other, _), said in told.items() if other == file) for file in COVERED}
    console.print(summary(found))
    uncaught = {mutant for name, mutant in mutants.items() if told[name] in UNCAUGHT}
    # What neither pytest nor the time limit has ended says nothing about the kit.
    broken = set(mutants.values()) - uncaught
    unexplained = uncaught - explained.keys()
    stale = set() if only else explained.keys() - uncaught
    for what, some in (
        ("not caught, and not explained", unexplained),
        ("explained, but caught or gone", stale),
        ("ended in no known way", broken),
    ):
        if some:
            console.print(f"{what}:")
            for mutant in sorted(some):
                console.print(f"  {mutant}", markup=False)
    verdict = "fail" if unexplained or stale or broken else "pass"
    console.print(
        f"mutants: {verdict}; {len(uncaught)} not caught, {len(uncaught) - len(unexplained)} of them explained"
    )
    sys.exit(0 if verdict == "pass" else 1)


if __name__ == "__main__":
    typer.run(main)
