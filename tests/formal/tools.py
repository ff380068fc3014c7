"""Which of the engines that are programs of their own are on this machine; ``make provers`` installs them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import pytest

from kvsender_spec.formal.engines.engine import ToolMissing
from kvsender_spec.formal.prove import Engine, require


def _missing(engines: Iterable[Engine]) -> str:
    """What the engines need and this machine lacks, in words; empty where it has all of it."""
    try:
        require(engines)
    except ToolMissing as missing:
        return str(missing)
    return ""


def _needs(*engines: Engine) -> pytest.MarkDecorator:
    missing = _missing(engines)
    return pytest.mark.skipif(bool(missing), reason=missing)


needs_spin: Final = _needs(Engine.SPIN)
needs_tlc: Final = _needs(Engine.TLC)
needs_engines: Final = _needs(*Engine)
