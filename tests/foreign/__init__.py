"""Senders of another project, right and wrong, to judge the kit by."""

from __future__ import annotations

from kvsender_spec.kit.adapter import Adapter

from . import right, wrong

RIGHT: tuple[Adapter, ...] = right.RIGHT
WRONG: tuple[tuple[Adapter, str], ...] = wrong.WRONG
"""Each with the clause that its bug violates first."""
