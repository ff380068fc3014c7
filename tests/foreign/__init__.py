"""Senders and readers of other projects, right and wrong, to judge the kit by."""

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
    reader_right_alone,
    reader_right_pump,
    reader_right_retries,
    reader_right_styles,
    reader_right_threads,
    reader_wrong,
    reader_wrong_alone,
    reader_wrong_more,
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

RIGHT_READERS: tuple[Adapter, ...] = (
    *reader_right_pump.RIGHT,
    *reader_right_styles.RIGHT,
    *reader_right_retries.RIGHT,
    *reader_right_threads.RIGHT,
    *reader_right_alone.RIGHT,
)
WRONG_READERS: tuple[tuple[Adapter, str], ...] = (
    *reader_wrong.WRONG,
    *reader_wrong_more.WRONG,
    *reader_wrong_alone.WRONG,
)
"""Each with the clause that its bug violates, which another one may precede: its docstring says so."""
