"""What README.md shows is what the commands print and what the records say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RECORD = (ROOT / "docs" / "records" / "connectors.md").read_text(encoding="utf-8")


def rows(text: str, first: str) -> list[list[str]]:
    """The cells of the rows that follow the head that begins so."""
    after = text[text.index(f"| {first}") :].splitlines()
    table = after[: next(number for number, line in enumerate(after) if not line.startswith("|"))]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in (table[0], *table[2:])]


def counted(record: str) -> dict[str, tuple[int, int, int]]:
    """Of each sender in the record: how many clauses pass, fail, and fail only after another one."""
    (_, *senders), *clauses = rows(record, "clause |")
    assert len(clauses) == 35
    found: dict[str, tuple[int, int, int]] = {}
    for column, sender in enumerate(senders, 1):
        words = Counter(re.sub(r"KS-[\d.]+|[*¹²³]", "", clause[column]).strip() for clause in clauses)
        found[sender] = words["pass"], words["fail"], words["fail after"]
    return found


def test_the_matrix_in_small_is_the_record() -> None:
    shown = {row[0]: tuple(map(int, row[1:4])) for row in rows(README, "sender, of 35 clauses")[1:]}
    assert list(shown) == ["SGLang 0.5.11, NIXL", "SGLang 0.5.12, NIXL", "SGLang 0.5.23, NIXL"]
    record = counted(RECORD)
    assert shown == {sender: record[sender] for sender in shown}
    assert counted(RECORD.replace("| pass |", "| **fail**¹ |")) != record


def test_what_is_most_telling_fails_in_the_record() -> None:
    (_, *senders), *clauses = rows(RECORD, "clause |")
    verdicts = {cells[0].split()[0]: dict(zip(senders, cells[1:], strict=True)) for cells in clauses}
    for sender, *_, telling in rows(README, "sender, of 35 clauses")[1:]:
        named = re.findall(r"KS-\d\.\d", telling)
        assert named
        assert [clause for clause in named if not re.match(r"\*\*fail\*\*", verdicts[clause][sender])] == []


def is_shortened(block: list[str], printed: list[str]) -> bool:
    """Whether the block is what was printed, in its order, with a line of dots for each part that is left out."""
    pattern = "".join(r"(?:.*\n)*?" if line.strip() == "..." else re.escape(line) + r"\n" for line in block)
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in printed)) is not None


def test_the_example_is_what_the_command_prints() -> None:
    (command, block) = re.findall(r"`kvsender (check tests\S+ KS-1\.2)`[^`]*```\n(.*?)```", README, flags=re.DOTALL)[0]
    paths = os.pathsep.join(str(ROOT / source) for source in ("spec", "impl", "."))
    done = subprocess.run(
        [sys.executable, "-m", "kvsender_spec", *command.split()],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths},
        text=True,
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1
    assert re.fullmatch(r"AfterTheFix: run 1 breaks KS-1\.2: .*\n", done.stderr), "at once, while it explores"
    assert is_shortened(block.splitlines(), done.stdout.splitlines())


@pytest.mark.parametrize(
    ("block", "same"),
    [
        (["a", "b", "c"], True),
        (["a", "  ...", "c"], True),
        (["a", "..."], True),
        (["a", "c"], False),
        (["a", "...", "b"], False),
    ],
)
def test_only_visible_cuts_shorten_it(block: list[str], same: bool) -> None:
    assert is_shortened(block, ["a", "b", "c"]) is same
