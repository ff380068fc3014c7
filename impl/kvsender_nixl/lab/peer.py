"""A decode process, from outside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, cast

from kvsender_nixl.exchange import PeerMetadata
from kvsender_nixl.lab.memory import NUM_PAGES
from kvsender_nixl.lab.process import PeerProcess
from kvsender_nixl.lab.remote import Call, Remote, Request, Start

if TYPE_CHECKING:
    # At run time only its process imports it: it loads NIXL, which reads the environment as it is by then.
    from kvsender_nixl.lab.decode import DecodeProcess

PROGRAM: Final = "kvsender_nixl.lab.decode"


class DecodePeer:
    """One decode process. Its interpreter starts at once; ``begin`` gives it a name and an agent."""

    def __init__(self, seed: int, *, env: Mapping[str, str] | None = None, num_pages: int = NUM_PAGES) -> None:
        self.name = ""
        self._seed: Final = seed
        self._num_pages: Final = num_pages
        self.process: Final[PeerProcess[Request, object]] = PeerProcess(PROGRAM, "decode", env=env)
        self.remote: Final = cast("DecodeProcess", Remote(self._ask))
        """What it does, when asked. Raises PeerError where it does not answer, or answers with an exception."""
        self._starting: int | None = None
        self._metadata: PeerMetadata | None = None

    def begin(self, name: str) -> None:
        """Start the agent, without waiting for it."""
        self.name = name
        self._starting = self.process.send(Start(name, self._seed, self._num_pages))

    @property
    def metadata(self) -> PeerMetadata:
        """What the prefill side must be told; the first use waits for the agent."""
        if self._metadata is None:
            assert self._starting is not None
            self._metadata = cast(PeerMetadata, self.process.receive(self._starting, what=f"the start of {self.name}"))
        return self._metadata

    def _ask(self, call: Call) -> object:
        assert self.metadata.agent_name == self.name  # its reply must have been taken before the next one is awaited
        return self.process.request(call)

    def close(self) -> None:
        """End the process, also a stopped one."""
        if self.process.exit_code is None:
            self.process.sigkill()
        self.process.close()
