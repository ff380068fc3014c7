"""The words at the boundary: what a sender offers its caller, and what a transport offers a sender.

The names are those of SGLang (``BaseKVSender``, ``KVPoll``) and of NIXL (``nixl_agent``), so that a reader who knows
either is at home. Nothing here imports nixl, torch or numpy at run time; the array types exist for type checkers only.
"""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Final, Literal, NoReturn, Protocol, TypeAlias, TypeVar, get_args, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray


class KVPoll(IntEnum):
    """What ``poll()`` answers. Ranks combine with MIN, so one Failed outweighs every other value."""

    Failed = 0
    Bootstrapping = 1
    WaitingForInput = 2
    Transferring = 3
    Success = 4

    @property
    def terminal(self) -> bool:
        """True for the two values after which nothing may change (KS-2.1)."""
        return self in _TERMINAL


_TERMINAL: Final = frozenset({KVPoll.Failed, KVPoll.Success})


class Attribution(Enum):
    """Who caused a failure (KS-2.8)."""

    LOCAL = "local"
    PEER = "peer"
    CALLER = "caller"
    DEADLINE = "deadline"
    INTERNAL = "internal"


class KVUsageError(ValueError):
    """The caller misused the sender (KS-2.7, KS-8.1). Nothing was posted and no state has moved."""


class KVTransferError(Exception):
    """The room has failed; ``__cause__`` is the first cause (KS-2.3).

    ``reason`` shows the class and the message of the cause; ``attribution`` says whose fault it was.
    """

    def __init__(self, room: int, reason: str, attribution: Attribution) -> None:
        super().__init__(f"room {room} failed ({attribution.value}): {reason}")
        self.room: Final = room
        self.reason: Final = reason
        self.attribution: Final = attribution


class TransferAborted(Exception):
    """The cause of a room that its caller aborted or cleared while it was live."""


class TransferTimeout(Exception):
    """The cause of a room whose peer stayed silent past the transfer deadline (NIXL itself has no timeout)."""


class Sender(Protocol):
    """One request's sender, as the scheduler of the prefill side calls it (SGLang's ``BaseKVSender``)."""

    def send(self, kv_indices: Sequence[int]) -> None:
        """Post the next chunk: the local page ids that hold it.

        The kit passes plain lists. A production sender also takes int32 arrays of shape ``(num_pages,)``; where it
        takes nothing else, the adapter converts.
        """

    def poll(self) -> int:
        """Answer a ``KVPoll`` value."""

    def failure_exception(self) -> NoReturn:
        """Raise the first cause of a failed room, or a usage error when the room has not failed."""


class Reader(Protocol):
    """One request's reader, as the caller on the decode side calls it: it initiates READs (vLLM's pull connector)."""

    def read(self, kv_indices: Sequence[int]) -> None:
        """Read the next chunk of what was granted into these local page ids. The kit passes plain lists."""

    def poll(self) -> int:
        """Answer a ``KVPoll`` value."""

    def failure_exception(self) -> NoReturn:
        """Raise the first cause of a failed room, or a usage error when the room has not failed."""


Initiator: TypeAlias = Sender | Reader
"""Who posts a room's transfers, has their handles and alone is told of errors."""


class Target(Protocol):
    """One request at the side whose memory the initiators use, as its owner calls it: a receiver, which is written, or
    a holder, which is read (SGLang's ``BaseKVReceiver``; vLLM's prefill side of a pull)."""

    def poll(self) -> int:
        """Answer a ``KVPoll`` value: Success when every initiator has finished, Failed when the request has ended
        otherwise. Neither says that the pages are free."""

    def failure_exception(self) -> NoReturn:
        """Raise the first cause of a failed room, or a usage error when the room has not failed."""


@runtime_checkable
class Abortable(Protocol):
    """A sender or reader whose caller may give the room up."""

    def abort(self) -> None: ...


@runtime_checkable
class Clearable(Protocol):
    """A sender or reader whose caller may drop what its side keeps about the room."""

    def clear(self) -> None: ...


@runtime_checkable
class Measured(Protocol):
    """A sender or reader that can say what it has transferred."""

    def get_transfer_metric(self) -> object: ...


DlistT = TypeVar("DlistT")
"""The transport's handle of a prepared descriptor list (``nixl_prepped_dlist_handle``)."""
HandleT = TypeVar("HandleT")
"""The transport's handle of one transfer (``nixl_xfer_handle``)."""

Operation: TypeAlias = Literal["WRITE", "READ"]
OPERATIONS: Final[tuple[Operation, ...]] = get_args(Operation)
Role: TypeAlias = Literal["initiator", "target"]
"""An initiator posts the transfers, has their handles and alone is told of errors. A target has the memory at the other
end: it gets no event but what initiators say."""
ROLES: Final[tuple[Role, ...]] = get_args(Role)
INIT_AGENT: Final = "NIXL_INIT_AGENT"
"""NIXL's name for the local side of a transfer in ``prep_xfer_dlist``."""


class Transport(Protocol[DlistT, HandleT]):
    """The slice of a ``nixl_agent`` that a sender and a receiver use; the scripted agent offers the same.

    ``transfer`` and ``check_xfer_state`` return ``"DONE"`` or ``"PROC"``, or raise. Other versions and wrappers may
    also return ``"ERR"`` or a string nobody knows; both mean that the transfer has failed (KS-1.2).
    """

    @property
    def name(self) -> str: ...

    def register_memory(self, reg_list: list[tuple[int, int, int, str]], mem_type: str) -> object:
        """Register ``(address, bytes, device, tag)`` regions."""

    def get_agent_metadata(self) -> bytes: ...

    def add_remote_agent(self, metadata: bytes) -> str | bytes:
        """Answer the peer's name. NIXL 1.5.1 answers bytes, although its own annotation says str."""

    def remove_remote_agent(self, agent: str) -> None: ...

    def check_remote_metadata(self, agent: str) -> bool: ...

    def prep_xfer_dlist(self, agent_name: str, xfer_list: NDArray[np.uint64], mem_type: str) -> DlistT:
        """Prepare ``(n, 3)`` rows of (address, bytes, device), or strided ``(n, 5)`` rows that add (stride, count)."""

    def release_dlist_handle(self, handle: DlistT) -> None: ...

    def make_prepped_xfer(
        self,
        operation: Operation,
        local_xfer_side: DlistT,
        local_indices: NDArray[np.int32],
        remote_xfer_side: DlistT,
        remote_indices: NDArray[np.int32],
        notif_msg: bytes = b"",
    ) -> HandleT: ...

    def transfer(self, handle: HandleT) -> str: ...

    def check_xfer_state(self, handle: HandleT) -> str: ...

    def release_xfer_handle(self, handle: HandleT) -> None: ...

    def send_notif(self, remote_agent_name: str, notif_msg: bytes) -> None: ...

    def get_new_notifs(self) -> dict[str, list[bytes]]: ...


class Clock(Protocol):
    """Seconds from an arbitrary start, never going back; ``time.monotonic`` in production."""

    def __call__(self) -> float: ...
