"""What the commands about adapters have in common: the adapters and clauses that a command line names."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import NoReturn

from rich.console import Console

from kvsender_spec.front import USAGE, import_from_here, refuse
from kvsender_spec.history.errors import stack_of
from kvsender_spec.kit.adapter import Adapter
from kvsender_spec.kit.loading import load_adapter
from kvsender_spec.kit.parts import LoadError


@contextmanager
def refusing(*errors: type[Exception], about: str = "") -> Iterator[None]:
    """What the block raises of these errors is wrong use of the command."""
    try:
        yield
    except errors as error:
        raise refuse(f"{about}{error}") from error


def plain_console() -> Console:
    """Where a command prints. What it quotes is no markup and is not broken into lines; a table is asked to fit."""
    return Console(highlight=False, markup=False, soft_wrap=True)


def load(adapter_name: str, *, verbose: bool) -> Adapter:
    """The adapter of that name, or a refusal."""
    import_from_here()
    if not verbose:
        logging.disable(logging.CRITICAL)  # injected faults make a careful sender log thousands of times
    with refusing(LoadError):
        adapter = load_adapter(adapter_name)
    _notice_exits()
    return adapter


def _notice_exits() -> None:
    """What ends this process from within ends the check as well. That must not look like a pass."""
    own, leave = os.getpid(), os._exit

    def ended(status: int) -> NoReturn:
        if os.getpid() != own:
            leave(status)
        where = "\n".join(f"  {frame}" for frame in stack_of(get_ident())[:-2])
        refuse(f"the adapter has ended the process with os._exit({status}):\n{where}")
        leave(USAGE)

    if os._exit.__module__ != __name__:
        os._exit = ended  # in this process alone
