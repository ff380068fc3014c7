"""An adapter whose module cannot be imported without nixl (KS-1.5)."""

from __future__ import annotations

from typing import ClassVar

import nixl._bindings as bindings
from tests.mutants.inline import InlineAdapter


class NeedsNixl(InlineAdapter):
    """The small sender, in a module that imports the bindings at its top.

    No report of the field catalogue; sglang #24296 brought the fallback for an ImportError that this one lacks.
    """

    breaks: ClassVar = "KS-1.5"
    disconnect = bindings.nixlRemoteDisconnectError

    def __init__(self) -> None:
        super().__init__()
        self.name = type(self).__name__


adapter = NeedsNixl()
