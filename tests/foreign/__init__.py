"""Senders of another project, right and wrong, to judge the kit by."""

from __future__ import annotations

from kvsender_spec.kit.adapter import Adapter

from . import right, right_kinds, wrong, wrong_kinds

RIGHT: tuple[Adapter, ...] = (*right.RIGHT, *right_kinds.RIGHT)
WRONG: tuple[tuple[Adapter, str], ...] = (*wrong.WRONG, *wrong_kinds.WRONG)
"""Each with the clause that its bug violates first."""
