"""A look at the stamps after the data accepts only what was granted; every engine sees what the others see."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.formal.tools import needs_tlc

from kvsender_spec.formal import grant
from kvsender_spec.formal.engines.tlc import violates
from kvsender_spec.formal.grant import CASES, Bump, Look, search
from kvsender_spec.formal.smt.grant import unproved


@pytest.mark.parametrize(("look", "bump", "holds"), CASES)
def test_the_search_finds_a_foreign_page_where_there_is_one(look: Look, bump: Bump, holds: bool) -> None:
    states, foreign = search(look, bump)
    assert states > 100
    assert (foreign is None) is holds


def test_the_shortest_way_to_a_foreign_page_is_a_refill_after_the_look() -> None:
    _, way = search(Look.BEFORE, Bump.BOTH)
    assert way is not None
    assert way[0] == "look at the stamp"
    assert "raise" in way[1:]


def test_any_number_of_refills() -> None:
    assert unproved() == []
    assert unproved(Bump.AFTER) == ["raise"], "the stamp says nothing about a refill under way"


@needs_tlc
@pytest.mark.parametrize(("look", "bump", "holds"), CASES)
def test_tlc_agrees(look: Look, bump: Bump, holds: bool, tmp_path: Path) -> None:
    found, states, _ = violates(grant.module(look, bump), grant.config(), grant.MODULE, tmp_path, 120)
    assert found is not holds
    if holds:
        assert states == search(look, bump)[0]
