"""An adapter whose module cannot be imported without nixl (KS-1.5)."""

from __future__ import annotations

import nixl._bindings as bindings
from tests.mutants.inline import InlineAdapter, InlineSender


class NeedsNixl(InlineAdapter):
    """The small sender, in a module that imports the bindings at its top."""

    disconnect = bindings.nixlRemoteDisconnectError


adapter = NeedsNixl(InlineSender)
