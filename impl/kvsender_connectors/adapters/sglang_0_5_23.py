"""SGLang 0.5.23, NIXL: the sender shared by every transport, and workers that settle a batch before they report it."""

from __future__ import annotations

import os
from typing import Final

from kvsender_connectors.nixl_system import NixlAdapter
from kvsender_connectors.release import Release
from kvsender_connectors.stand_ins import SINCE_0_5_23

# It spreads rooms over four workers by their peers' ports, which are consecutive here: two peers would never meet in a
# queue, and decode sides of the field, whose ports are anything, do. With one queue what a worker does is seen.
os.environ["SGLANG_DISAGGREGATION_QUEUE_SIZE"] = "1"
adapter: Final = NixlAdapter(Release("0.5.23", "nixl", "Nixl", SINCE_0_5_23), names_dummies=True, takes_ranks=False)
