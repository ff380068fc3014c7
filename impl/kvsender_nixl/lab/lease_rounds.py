"""Leases that end under slow READs, between two real processes: whose bytes arrive, and whose are accepted.

The reader is the reference reader with a clock that stands still, as that of a process that was stopped: it renews
nothing, has no deadline, and is not told that its lease is over before it has come to its own end. So the stamps alone
decide whether it accepts what it has read.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Self, TypeAlias, cast

import numpy as np

from kvsender_nixl.exchange import Grant, PeerMetadata, parse_message
from kvsender_nixl.lab.lease_words import NUM_PAGES, PAGE_BYTES, Counts, Granted, Look, Means, Open, Request, Start
from kvsender_nixl.lab.memory import Arrays, ids
from kvsender_nixl.lab.process import PeerProcess, until
from kvsender_nixl.pull import PullDecode
from kvsender_nixl.reader import GrantEnded, KVReader
from kvsender_nixl.side import SenderOptions
from kvsender_spec.contract import KVPoll, KVTransferError

if TYPE_CHECKING:
    from nixl._api import nixl_agent, nixl_prepped_dlist_handle, nixl_xfer_handle

PROGRAM: Final = "kvsender_nixl.lab.lease_holder"
READ_PAGES: Final = 96
"""6 MiB a READ."""
LONGEST_LEASE_S: Final = 0.015
LONGEST_WAIT_S: Final = 0.006
"""Before a reader posts its READ."""
LIMIT_S: Final = 20.0

Transport: TypeAlias = Literal["tcp", "shm"]
TLS: Final[dict[Transport, str]] = {"tcp": "tcp", "shm": "all"}
"""What UCX is told. Of all that it has, it takes shared memory between two processes of a host."""


@dataclass(slots=True)
class Rates:
    """What some READs have come to. READs and bytes; ``accepted`` and ``refused`` are READs."""

    accepted: int = 0
    refused: int = 0
    accepted_foreign: int = 0
    """Accepted, with at least one byte that was not granted."""
    foreign: int = 0
    """READs in which at least one byte of another prompt arrived: a reader that does not look accepts them."""
    foreign_bytes: int = 0
    zeros: int = 0
    """READs in which zeros of a withdrawn page arrived."""
    aside: int = 0
    """READs of another lease over the same connection, after each of these; ``aside_right`` had what was granted."""
    aside_right: int = 0
    ended: int = 0
    refilled: int = 0
    refills_refused: int = 0

    @property
    def reads(self) -> int:
        return self.accepted + self.refused


def _cause(reader: KVReader[nixl_prepped_dlist_handle, nixl_xfer_handle]) -> BaseException | None:
    try:
        reader.failure_exception()
    except KVTransferError as error:
        return error.__cause__


class LeaseRounds:
    """A reader in this process, and a holder in one of its own. ``agent`` was made under the same environment."""

    def __init__(self, agent: nixl_agent, means: Means, transport: Transport, seed: int) -> None:
        self.rates: Final = Rates()
        self._random: Final = np.random.default_rng(seed)
        self._process: Final[PeerProcess[Request, object]] = PeerProcess(
            PROGRAM, "holder", env={"UCX_TLS": TLS[transport]}
        )
        self._memory: Final = np.zeros((NUM_PAGES, PAGE_BYTES), np.uint8)
        self._words: Final = self._memory.view(np.uint64)
        self._front: Final[PullDecode[nixl_prepped_dlist_handle, nixl_xfer_handle]] = PullDecode(
            agent, Arrays([self._memory]), SenderOptions(transfer_timeout_s=1e-9), clock=lambda: 0.0
        )
        name = f"holder-{transport}-{means.value}-{seed}"
        self._holder: Final = cast(PeerMetadata, self._process.request(Start(name, means, seed)))
        self._front.register_peer(self._holder)
        self._rooms = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.close()

    def run(self, rounds: int) -> Rates:
        """So many leases that end at a random time, each with another one that does not."""
        self._read(self._open(1, LIMIT_S, aside=True))  # makes the connection
        for _ in range(rounds):
            undisturbed = self._open(1, LIMIT_S, aside=True)
            lease_s = self._random.uniform(0.0002, LONGEST_LEASE_S)
            disturbed = self._open(READ_PAGES, lease_s, aside=False)
            time.sleep(self._random.uniform(0, LONGEST_WAIT_S))
            self._count(disturbed, self._read(disturbed))
            answer = self._read(undisturbed)
            self.rates.aside += 1
            self.rates.aside_right += answer is KVPoll.Success and self._foreign(undisturbed) == (0, 0)
            until("the holder knows that its readers are finished", lambda: self._look().open == 0, LIMIT_S)
        counts = self._look()
        self.rates.ended = counts.ended
        self.rates.refilled, self.rates.refills_refused = counts.refilled, counts.refused
        return self.rates

    def _look(self) -> Counts:
        self._front.drain()
        self._front.sweep()
        return cast(Counts, self._process.request(Look()))

    def _open(self, pages: int, lease_s: float, *, aside: bool) -> Granted:
        self._rooms += 1
        wanted = Open(self._rooms, self._front.metadata(), pages, lease_s, aside)
        return cast(Granted, self._process.request(wanted))

    def _read(self, granted: Granted) -> KVPoll:
        """Read what was granted into the first pages, which are cleared before."""
        grant = parse_message(granted.grant)
        assert isinstance(grant, Grant)
        count = len(granted.numbers)
        self._words[:count] = 2**63
        self._front.add_transfer_info(grant)
        reader = self._front.reader(grant.room)
        reader.init(count)
        reader.read(ids(range(count)))
        until(f"room {grant.room} ends", lambda: reader.poll().terminal, LIMIT_S)
        if reader.poll() is KVPoll.Failed and not isinstance(cause := _cause(reader), GrantEnded):
            raise RuntimeError(f"a READ failed for another reason than its stamps: {cause!r}")
        reader.clear()
        return reader.poll()

    def _foreign(self, granted: Granted) -> tuple[int, int]:
        """How many bytes of another prompt, and how many that are zero or nothing at all, have arrived."""
        words, numbers = self._words[: len(granted.numbers)], np.array(granted.numbers, np.uint64).reshape(-1, 1)
        other = words != numbers
        nothing = int(np.count_nonzero(words == 0) + np.count_nonzero(words == 2**63))
        return 8 * (int(np.count_nonzero(other)) - nothing), 8 * nothing

    def _count(self, granted: Granted, answer: KVPoll) -> None:
        foreign, nothing = self._foreign(granted)
        rates = self.rates
        if answer is KVPoll.Success:
            rates.accepted += 1
            rates.accepted_foreign += foreign + nothing > 0
        else:
            rates.refused += 1
        rates.foreign += foreign > 0
        rates.foreign_bytes += foreign
        rates.zeros += nothing > 0
