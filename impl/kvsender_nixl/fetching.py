"""How one agent learns another one from its listener, before anything else is told."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from kvsender_spec.contract import Clock


class MetadataTransport(Protocol):
    """The slice of a ``nixl_agent`` that fetches another agent's metadata from its listener."""

    def fetch_remote_metadata(self, remote_agent: str, ip_addr: str, port: int) -> None: ...

    def check_remote_metadata(self, agent: str) -> bool: ...


def fetch_metadata(
    agent: MetadataTransport,
    name: str,
    ip_addr: str,
    port: int,
    *,
    timeout_s: float = 10.0,
    clock: Clock = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Learn the agent ``name`` from its listener, so that notifications can be sent to it; both sides must listen.

    The decode side calls it once, at start-up; then it sends ``PeerMetadata`` to that agent with ``send_notif``.
    Raises TimeoutError: NIXL itself reports no failure of a fetch, and loses the first one after a peer's restart, so
    the request is repeated every second until the deadline.
    """
    deadline = clock() + timeout_s
    retry = clock()
    while not agent.check_remote_metadata(name):
        now = clock()
        if now >= deadline:
            raise TimeoutError(f"no metadata of agent {name!r} from {ip_addr}:{port} within {timeout_s} s")
        if now >= retry:
            agent.fetch_remote_metadata(name, ip_addr, port)
            retry = now + 1.0
        sleep(0.01)
