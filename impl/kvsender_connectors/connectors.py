"""The senders that are checked, oldest first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Connector:
    key: str
    """Its name on the command line."""
    title: str
    adapter: str
    """As ``kvsender check`` takes it."""
    release: str | None
    """The version of the wheel that it needs, if any."""


_ADAPTERS: Final = "kvsender_connectors.adapters"

CONNECTORS: Final = (
    Connector("sglang-0.5.11", "SGLang 0.5.11, NIXL", f"{_ADAPTERS}.sglang_0_5_11:adapter", "0.5.11"),
    Connector("seed", "seed, transcribed", f"{_ADAPTERS}.seed:adapter", None),
    Connector("sglang-0.5.12", "SGLang 0.5.12, NIXL", f"{_ADAPTERS}.sglang_0_5_12:adapter", "0.5.12"),
    Connector("sglang-0.5.23", "SGLang 0.5.23, NIXL", f"{_ADAPTERS}.sglang_0_5_23:adapter", "0.5.23"),
    Connector("mooncake-0.5.23", "SGLang 0.5.23, Mooncake", f"{_ADAPTERS}.mooncake_0_5_23:adapter", "0.5.23"),
)
BY_KEY: Final = {connector.key: connector for connector in CONNECTORS}
RELEASES: Final = tuple(sorted({connector.release for connector in CONNECTORS if connector.release is not None}))
