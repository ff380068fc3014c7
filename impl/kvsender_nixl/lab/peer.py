"""A peer process, from outside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, cast

from kvsender_nixl.exchange import PeerMetadata
from kvsender_nixl.lab.memory import NUM_PAGES
from kvsender_nixl.lab.process import PeerProcess
from kvsender_nixl.lab.remote import Call, Remote, Request, Start
from kvsender_nixl.lab.words import PEERS
from kvsender_spec.contract import Operation

if TYPE_CHECKING:
    # At run time only its process imports them: they load NIXL, which reads the environment as it is by then.
    from kvsender_nixl.lab.decode import DecodeProcess
    from kvsender_nixl.lab.holder import HolderProcess
    from kvsender_nixl.lab.played import Played

PROGRAM: Final = "kvsender_nixl.lab.program"


class LabPeer:
    """One peer process. Its interpreter starts at once; ``begin`` gives it a name and an agent.

    ``remote`` is what it does, when asked, whatever it plays; ``decode`` and ``holder`` are what it does as that. All
    of them raise PeerError where it does not answer, or answers with an exception.
    """

    def __init__(
        self,
        seed: int,
        operation: Operation = "WRITE",
        number: int = 0,
        *,
        env: Mapping[str, str] | None = None,
        num_pages: int = NUM_PAGES,
    ) -> None:
        self.name = ""
        self.number: Final = number
        self._seed: Final = seed
        self._operation: Final[Operation] = operation
        self._num_pages: Final = num_pages
        self.process: Final[PeerProcess[Request, object]] = PeerProcess(PROGRAM, PEERS[operation], env=env)
        remote = Remote(self._ask)
        self.remote: Final = cast("Played", remote)
        self.decode: Final = cast("DecodeProcess", remote)
        self.holder: Final = cast("HolderProcess", remote)
        self._starting: int | None = None
        self._metadata: PeerMetadata | None = None

    def begin(self, name: str) -> None:
        """Start the agent, without waiting for it."""
        self.name = name
        start = Start(name, self._seed, self._num_pages, self._operation, self.number)
        self._starting = self.process.send(start)

    @property
    def metadata(self) -> PeerMetadata:
        """What the initiator must be told; the first use waits for the agent."""
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
