"""The only module that imports nixl: its agent, and the classes of the errors that it raises.

Without nixl this module imports all the same (KS-1.5); ``create_agent`` then says what to install.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from nixl._api import nixl_agent

INSTALL: Final = "pip install nixl==1.5.1 nixl-cu13==1.5.1"
"""Both are pinned, because nixl alone may resolve to a newer backend wheel."""


def _error_classes() -> dict[str, type[Exception]]:
    try:
        from nixl import _bindings
    except ImportError:
        return {}
    # Read from the module instead of listed here: releases before 0.6 lack some of the classes.
    found = {name: getattr(_bindings, name) for name in dir(_bindings) if name.endswith("Error")}
    return {name: value for name, value in found.items() if isinstance(value, type) and issubclass(value, Exception)}


ERROR_CLASSES: Final[Mapping[str, type[Exception]]] = _error_classes()
"""NIXL's error classes by name. They share no base but Exception. Empty without nixl."""

TRANSPORT_ERRORS: Final[tuple[type[Exception], ...]] = (*ERROR_CLASSES.values(), RuntimeError)
"""What a call of the transport raises when the transport has failed (KS-1.2).

RuntimeError belongs to it because the bindings raise ``RuntimeError("BAD_STATUS")`` for a status that they do not know,
and releases before 0.6 for a dead peer. Without nixl it is all there is (KS-1.5).
"""


def create_agent(name: str, *, listen_port: int | None = None, progress_thread: bool = False) -> nixl_agent:
    """A NIXL agent (UCX backend) whose calls may come from any thread.

    ``listen_port`` opens NIXL's own metadata listener, which ``fetching.fetch_metadata`` needs on both sides.
    A ``progress_thread`` busy-polls a whole core; without one, a receiver makes progress only inside calls such as
    ``Decode.drain()``. Raises ImportError, saying what to install, when nixl is missing.

    Where the system has libefa, a process with an agent dies of SIGSEGV as it exits, unless its environment had
    ``UCX_MODULES=^efa`` before (README, "SIGSEGV at exit"). That is the operator's choice, so nothing is set here.
    """
    try:
        from nixl._api import nixl_agent, nixl_agent_config, nixl_thread_sync_t
    except ImportError as error:
        raise ImportError(f"the NIXL sender needs nixl: {INSTALL}") from error
    # NIXL's default is no locking, and that crashes the process under threads: peers are reconnected in the background.
    sync = nixl_thread_sync_t.NIXL_THREAD_SYNC_STRICT
    if listen_port is None:
        config = nixl_agent_config(enable_prog_thread=progress_thread, sync_mode=sync)
    else:
        config = nixl_agent_config(
            enable_prog_thread=progress_thread, enable_listen_thread=True, listen_port=listen_port, sync_mode=sync
        )
    return nixl_agent(name, config)
