"""The race of the two searches measures what it says: each finds a broken sender, and none in a right one."""

from __future__ import annotations

from tests.kit.front_race import hypothesis, walk
from tests.mutants.inline import InlineAdapter
from tests.mutants.seed import BeforeTheFix, SeedAdapter


def test_both_find_the_seeds_bug_and_nothing_in_a_right_sender() -> None:
    for race in (walk, hypothesis):
        broken, seconds = race(SeedAdapter(BeforeTheFix), 200, 0)
        assert broken
        assert seconds > 0
        assert not race(InlineAdapter(), 15, 0)[0]
