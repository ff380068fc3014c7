"""A decode process, from outside: what it can be asked, and typed questions.

The questions live apart from the program that answers them, because that program runs as ``__main__`` and its own
classes would be other classes here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeAlias, TypeVar

import numpy as np

from kvsender_nixl.exchange import PeerMetadata, TransferInfo
from kvsender_nixl.lab.memory import NUM_PAGES, Tally
from kvsender_nixl.lab.process import PeerProcess
from kvsender_spec.contract import KVPoll

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ids: TypeAlias = NDArray[np.int32]

PROGRAM: Final = "kvsender_nixl.lab.decode"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Start:
    """Make an agent of this name, with memory of its own. Answers ``PeerMetadata``."""

    name: str
    seed: int
    num_pages: int


@dataclass(frozen=True, slots=True)
class Open:
    """Make a receiver. Answers ``TransferInfo``."""

    room: int
    token: str
    sender_name: str
    pages: tuple[int, ...]
    slot: int | None
    is_dummy: bool
    required: int


@dataclass(frozen=True, slots=True)
class Look:
    """Answers ``Standing``: how the receiver of this token stands."""

    token: str


@dataclass(frozen=True, slots=True)
class TakeNotices:
    """Answers every notification since the last time, in order, as the list of (sender, message)."""


@dataclass(frozen=True, slots=True)
class Hold:
    """While held, the process does not call NIXL, and takes nothing from its sockets."""

    held: bool


@dataclass(frozen=True, slots=True)
class Progress:
    """Call NIXL so many times, held or not."""

    calls: int


@dataclass(frozen=True, slots=True)
class Count:
    """Answers ``Tally`` of these pages."""

    pages: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Compare:
    """Answers how many bytes of the target pages and slots differ from the owner's source pages and slots."""

    source: tuple[int, ...]
    target: tuple[int, ...]
    source_slots: tuple[int, ...]
    target_slots: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Touched:
    """Answers how many bytes outside these pages and slots have changed."""

    pages: tuple[int, ...]
    slots: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reset:
    """Forget every receiver, and make the memory what it was in the beginning."""


@dataclass(frozen=True, slots=True)
class Standing:
    poll: KVPoll
    reason: str
    quarantined: frozenset[int]


Request: TypeAlias = Start | Open | Look | TakeNotices | Hold | Progress | Count | Compare | Touched | Reset
Notices: TypeAlias = list[tuple[str, bytes]]
Reply: TypeAlias = PeerMetadata | TransferInfo | Standing | Notices | Tally | int | None


class DecodePeer:
    """One decode process. Its interpreter starts at once; ``start`` gives it a name and an agent."""

    def __init__(self, seed: int, *, env: Mapping[str, str] | None = None, num_pages: int = NUM_PAGES) -> None:
        self.name = ""
        self._seed: Final = seed
        self._num_pages: Final = num_pages
        self.process: Final[PeerProcess[Request, Reply]] = PeerProcess(PROGRAM, "decode", env=env)
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
            self._metadata = _is(PeerMetadata, self.process.receive(self._starting, None, f"the start of {self.name}"))
        return self._metadata

    def _ask(self, request: Request) -> Reply:
        assert self.metadata.agent_name == self.name  # its reply must have been taken before the next one is awaited
        return self.process.request(request)

    def open(
        self,
        room: int,
        token: str,
        sender_name: str,
        pages: Sequence[int],
        slot: int | None,
        *,
        is_dummy: bool,
        required: int,
    ) -> TransferInfo:
        request = Open(room, token, sender_name, tuple(pages), slot, is_dummy, required)
        return _is(TransferInfo, self._ask(request))

    def look(self, token: str) -> Standing:
        return _is(Standing, self._ask(Look(token)))

    def take_notices(self) -> Notices:
        return _is(list, self._ask(TakeNotices()))

    def hold(self, held: bool) -> None:
        self._ask(Hold(held))

    def progress(self, calls: int) -> None:
        self._ask(Progress(calls))

    def count(self, pages: Sequence[int]) -> Tally:
        return _is(Tally, self._ask(Count(tuple(pages))))

    def compare(
        self, source: Sequence[int], target: Sequence[int], source_slots: Sequence[int], target_slots: Sequence[int]
    ) -> int:
        request = Compare(tuple(source), tuple(target), tuple(source_slots), tuple(target_slots))
        return _is(int, self._ask(request))

    def touched(self, pages: Sequence[int], slots: Sequence[int]) -> int:
        return _is(int, self._ask(Touched(tuple(pages), tuple(slots))))

    def reset(self) -> None:
        self._ask(Reset())

    def close(self) -> None:
        """End the process, also a stopped one."""
        if self.process.exit_code is None:
            self.process.sigkill()
        self.process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _is(kind: type[_T], reply: object) -> _T:
    if not isinstance(reply, kind):
        raise TypeError(f"the peer answered {reply!r}, not a {kind.__name__}")
    return reply
