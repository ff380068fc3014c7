"""SGLang 0.5.11, NIXL: the last release before the pull request of the seed. send() posts, poll() asks the transport.

It has no clear(): the sender drops the room's status itself when it posts the last chunk.
"""

from __future__ import annotations

from typing import Final

from kvsender_connectors.nixl_system import NixlAdapter
from kvsender_connectors.release import Release
from kvsender_connectors.stand_ins import UNTIL_0_5_12

adapter: Final = NixlAdapter(Release("0.5.11", "nixl", "Nixl", UNTIL_0_5_12), queues=False)
