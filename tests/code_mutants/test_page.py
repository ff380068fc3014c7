"""The page of the mutants that the kit does not catch: it parses, and names what exists. ``make mutants`` says more."""

from __future__ import annotations

import pytest
from tests.code_mutants.campaign import COVERED
from tests.code_mutants.survivors import PAGE, Mutant, PageError, changed, missing, parse

BEFORE = """def f(self):
    if a and b:
        return g(
            1,
            2,
        )
"""


def test_every_mutant_on_the_page_is_of_code_that_is_still_there() -> None:
    explained = parse(PAGE.read_text())
    assert explained
    assert missing(explained) == []
    assert {mutant.file for mutant in explained} <= set(COVERED)


@pytest.mark.parametrize(
    ("after", "difference"),
    [
        (BEFORE.replace("and", "or"), ("if a and b:", "if a or b:")),
        (BEFORE.replace("            2,\n", ""), ("2,", "")),
    ],
)
def test_a_mutant_is_known_by_its_changed_lines(after: str, difference: tuple[str, str]) -> None:
    assert changed(BEFORE, after) == difference


def test_a_line_that_is_no_mutant_is_refused() -> None:
    page = "# Prose\n\n## rooms.py\n\n### `Rooms.add`\n\n- `a` → `b`: x\n- `a` → nothing: y\n"
    assert parse(page) == {
        Mutant("rooms.py", "Rooms.add", "a", "b"): "x",
        Mutant("rooms.py", "Rooms.add", "a"): "y",
    }
    for line in ("- `a` → `b`", "- `a` → `b`: again", "more prose"):
        with pytest.raises(PageError, match="line 9"):
            parse(page + line)


def test_what_is_gone_is_missed() -> None:
    there = Mutant("rooms.py", "Rooms.senders", "return (*bound, *self._draining)", "return (*bound, )")
    gone = Mutant("rooms.py", "Rooms.senders", "return 3", "return 4")
    nowhere = Mutant("rooms.py", "Rooms.dreaming")
    assert missing([there, gone, nowhere]) == [gone, nowhere]
