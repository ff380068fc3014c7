"""The two sides of the verified-fake suites, as fixtures: scripted agents, and real ones in two processes."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator

import pytest
from tests.kit.pair import Pair, RawProcess, RealPair, ScriptedPair, launch

from kvsender_nixl.lab.process import NIXL_ENV


@pytest.fixture(scope="module")
def nixl_here() -> Iterator[None]:
    """NIXL in this process, quiet, and quick to give up on a connection that takes nothing."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**NIXL_ENV, "UCX_TCP_USER_TIMEOUT": "2s"}.items():
            patch.setenv(name, value)
        if "torch" not in sys.modules:
            patch.setitem(sys.modules, "torch", None)  # importing it takes longer than a dozen behaviours
        importlib.import_module("nixl._api")  # a missing library is a failure here, never a skipped suite
        yield


@pytest.fixture(scope="module")
def shared_process(nixl_here: None) -> Iterator[RawProcess]:
    with launch("shared") as process:
        yield process


class Spare:
    """The next process, started while the current test runs, because starting one takes half a second."""

    def __init__(self) -> None:
        self.waiting = launch("spare")

    def take(self, name: str) -> RawProcess:
        taken, self.waiting = self.waiting, launch("spare")
        return taken


@pytest.fixture(scope="module")
def spare(nixl_here: None) -> Iterator[Spare]:
    spare = Spare()
    yield spare
    spare.waiting.close()


@pytest.fixture(params=["scripted", "real"])
def pair(request: pytest.FixtureRequest) -> Pair:
    """New agents on both sides. The peer's process is shared: nothing that a test does with it may break it."""
    if request.param == "scripted":
        return ScriptedPair()
    return RealPair(request.getfixturevalue("shared_process"))


@pytest.fixture(params=["scripted", "real"])
def mortal(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """New agents on both sides, the peer's in a process of its own."""
    if request.param == "scripted":
        yield ScriptedPair()
        return
    spare: Spare = request.getfixturevalue("spare")
    pair = RealPair(spare.take("mortal"), spare.take)
    yield pair
    pair.close()
