"""Which mutants a command is about, and one process for each core: their threads and hypothesis' state stay apart."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Final, TypeVar

import typer
from tests.mutants.registry import EVERY

CORES: Final = len(os.sched_getaffinity(0))
_A = TypeVar("_A")
_T = TypeVar("_T")


def chosen(only: Iterable[str]) -> list[int]:
    """The numbers of the mutants: all of them, or those that are named or whose clause is, or the senders or readers.

    Raises typer.BadParameter for a name that is neither.
    """
    wanted = set(only)
    names = [{mutant.name, mutant.breaks, "readers" if mutant.reads else "senders"} for mutant in EVERY]
    known = set().union(*names)
    if unknown := sorted(wanted - known):
        raise typer.BadParameter(f"no such mutant or clause: {', '.join(unknown)}")
    return [number for number, own in enumerate(names) if not wanted or own & wanted]


def each(work: Callable[[_A], _T], numbers: Iterable[_A], *, jobs: int) -> Iterator[_T]:
    """What comes of the work for each mutant, by its number in the registry, in order."""
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, numbers)
