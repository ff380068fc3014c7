"""What the two ends of a transfer are called, by what the initiator does. Needs no nixl."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kvsender_spec.contract import Operation

INITIATORS: Final[Mapping[Operation, str]] = {"WRITE": "sender", "READ": "reader"}
PEERS: Final[Mapping[Operation, str]] = {"WRITE": "decode", "READ": "holder"}
