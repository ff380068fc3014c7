"""Senders of another project, right and wrong, to judge the kit by."""

from __future__ import annotations

from kvsender_spec.kit.adapter import Adapter

from . import (
    adopter_right,
    adopter_right_loop,
    adopter_right_more,
    adopter_right_pool,
    adopter_right_queues,
    adopter_wrong,
    adopter_wrong_more,
    right,
    right_kinds,
    wrong,
    wrong_kinds,
)

RIGHT: tuple[Adapter, ...] = (
    *right.RIGHT,
    *right_kinds.RIGHT,
    *adopter_right.RIGHT,
    *adopter_right_more.RIGHT,
    *adopter_right_loop.RIGHT,
    *adopter_right_queues.RIGHT,
    *adopter_right_pool.RIGHT,
)
WRONG: tuple[tuple[Adapter, str], ...] = (
    *wrong.WRONG,
    *wrong_kinds.WRONG,
    *adopter_wrong.WRONG,
    *adopter_wrong_more.WRONG,
)
"""Each with the clause that its bug violates first."""
