"""SGLang 0.5.12, NIXL: send() queues, worker threads post and wait, poll() reads a table."""

from __future__ import annotations

from typing import Final

from kvsender_connectors.nixl_system import NixlAdapter
from kvsender_connectors.release import Release
from kvsender_connectors.stand_ins import UNTIL_0_5_12

adapter: Final = NixlAdapter(Release("0.5.12", "nixl", "Nixl", UNTIL_0_5_12))
