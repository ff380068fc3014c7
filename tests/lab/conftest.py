"""The peer processes that the tests of a module share, by direction."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kvsender_nixl.lab.process import NIXL_ENV
from kvsender_nixl.lab.real_world import RealWorld
from kvsender_spec.contract import Operation


def of_one_operation(operation: Operation) -> Iterator[RealWorld]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in NIXL_ENV.items():
            patch.setenv(name, value)
        world = RealWorld(1, operation)
        yield world
        world.close()


@pytest.fixture(scope="module")
def world() -> Iterator[RealWorld]:
    yield from of_one_operation("WRITE")


@pytest.fixture(scope="module")
def holders() -> Iterator[RealWorld]:
    yield from of_one_operation("READ")
