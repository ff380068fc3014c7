"""Which of the engines that are programs of their own are on this machine; ``make provers`` installs them."""

from __future__ import annotations

from typing import Final

import pytest

from kvsender_spec.formal.engines.engine import ToolMissing
from kvsender_spec.formal.prove import Engine, require


def _needs(*engines: Engine) -> pytest.MarkDecorator:
    try:
        require(engines)
    except ToolMissing as missing:
        return pytest.mark.skip(reason=str(missing))
    return pytest.mark.skipif(False, reason="they are here")


needs_spin: Final = _needs(Engine.SPIN)
needs_tlc: Final = _needs(Engine.TLC)
needs_engines: Final = _needs(*Engine)
