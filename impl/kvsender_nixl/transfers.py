"""One transfer, and what becomes of it when its room is over.

A ``Transfer`` owns one handle of the transport and is the physical machine of the spec in the sender's own words:
``state`` is a ``HandleState``. Its owner changes over time. A live room keeps its transfers itself; a room that has
reported Failed hands those that are still in flight to the ``Unsettled`` ledger, because releasing one cancels nothing
and lets the transport read pages that hold another request's data by then (KS-4.2). The ``Quarantine`` says which
pages the caller must not reuse meanwhile (KS-4.1, KS-4.4).
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, Literal, Protocol, TypeAlias, TypeVar

import numpy as np

from kvsender_spec.contract import HandleT
from kvsender_spec.machine import RELEASABLE, HandleState

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

HandleT_contra = TypeVar("HandleT_contra", contravariant=True)


class HandleCalls(Protocol[HandleT_contra]):
    """The three calls of the transport that take a transfer handle."""

    def transfer(self, handle: HandleT_contra) -> str: ...

    def check_xfer_state(self, handle: HandleT_contra) -> str: ...

    def release_xfer_handle(self, handle: HandleT_contra) -> None: ...


class UnknownAnswer(Exception):
    """The transport returned a state that is neither PROC nor DONE; the message names it."""


@dataclass(frozen=True, slots=True)
class TransportFault:
    """The transport refused a call; ``error`` is what it raised, or names what it returned."""

    error: Exception


PROC: Final = "PROC"
DONE: Final = "DONE"
Answer: TypeAlias = Literal["PROC", "DONE"] | TransportFault
"""Everything that a transport can say about a transfer (KS-1.2). Errors that are not its own are raised (KS-1.3)."""

# Module constants: an attribute of an Enum class costs more than the comparison that it is for.
_CREATED = HandleState.CREATED
_NEVER_SUBMITTED = HandleState.NEVER_SUBMITTED
_IN_FLIGHT = HandleState.IN_FLIGHT
_DONE = HandleState.DONE
_ERRORED = HandleState.ERRORED
_REJECTED = HandleState.REJECTED
_IN_DOUBT = HandleState.IN_DOUBT

NO_PAGES: Final = np.empty(0, np.int32)


class Transfer(Generic[HandleT]):
    """One handle of the transport, from its creation to its only release.

    It reads the source ``pages`` (int32), or the source ``aux_slot``; ``deadline`` is a time on the sender's clock, and
    ``incarnation`` the process of the peer's name, where that is known. Not
    thread-safe: whoever owns the transfer holds a lock. Using it after its release raises AssertionError and reaches no
    transport, where the real library would crash or act on another transfer.
    """

    __slots__ = (
        "_calls",
        "_check",
        "_errors",
        "_handle",
        "aux_slot",
        "deadline",
        "incarnation",
        "pages",
        "peer",
        "state",
        "total_bytes",
    )

    def __init__(
        self,
        calls: HandleCalls[HandleT],
        errors: tuple[type[Exception], ...],
        handle: HandleT,
        peer: str,
        total_bytes: int,
        *,
        pages: NDArray[np.int32] = NO_PAGES,
        aux_slot: int | None = None,
        incarnation: str = "",
    ) -> None:
        self._calls = calls
        self._check = calls.check_xfer_state
        self._errors = errors
        self._handle: HandleT | None = handle
        self.peer = peer
        self.incarnation = incarnation
        self.total_bytes = total_bytes
        self.pages = pages
        self.aux_slot = aux_slot
        self.deadline = float("inf")
        self.state = _CREATED

    @property
    def settled(self) -> bool:
        """The transport has said its last word, so that a release hides nothing."""
        return self.state in RELEASABLE

    @property
    def released(self) -> bool:
        return self._handle is None

    def post(self) -> Answer:
        """Submit it, once."""
        handle = self._handle
        if handle is None or self.state is not _CREATED:
            raise AssertionError(f"{self!r} is posted a second time")
        # Set before the call: whatever else the call raises, the transport may have accepted, and then only asking it
        # can tell. A transport error says that the transport follows the transfer no further.
        self.state = _IN_FLIGHT
        try:
            answer = self._calls.transfer(handle)
        except self._errors as error:
            self.state = _REJECTED
            return TransportFault(error)
        return PROC if answer == PROC else self._last_word(answer, "post", _REJECTED)

    def check(self) -> Answer:
        """Ask how it stands. Not for a settled transfer: what has been said about that is final."""
        handle = self._handle
        if handle is None:
            raise AssertionError(f"{self!r} is asked for after its release")
        try:
            answer = self._check(handle)
        except self._errors as error:
            self.state = _ERRORED
            return TransportFault(error)
        return PROC if answer == PROC else self._last_word(answer, "check", _ERRORED)

    def _last_word(self, answer: str, call: str, failed: HandleState) -> Answer:
        """What an answer other than PROC means; anything but DONE is a failure, "ERR" among them."""
        if answer == DONE:
            self.state = _DONE
            return DONE
        self.state = failed
        return TransportFault(UnknownAnswer(f"the transport answered {answer!r} to a {call}"))

    def give_up(self) -> None:
        """Wait for it no longer: its bytes may land at any time, until it is found settled."""
        if self.state is _IN_FLIGHT:
            self.state = _IN_DOUBT

    def release(self) -> None:
        """Give the handle back; no effect where that has happened. What the transport raises is raised, and the handle
        is still owned then."""
        handle = self._handle
        if handle is None:
            return
        if not self.settled:
            raise AssertionError(f"{self!r} is released in flight")
        self._calls.release_xfer_handle(handle)
        self._handle = None
        if self.state is _CREATED:
            self.state = _NEVER_SUBMITTED

    def __repr__(self) -> str:
        return f"<Transfer to {self.peer}: {self.state.value}{', released' if self.released else ''}>"


@dataclass(slots=True, eq=False)
class Owed(Generic[HandleT]):
    """What is to be done when these transfers are DONE."""

    transfers: set[Transfer[HandleT]]
    then: Callable[[], None]


class Unsettled(Generic[HandleT]):
    """The transfers that outlive their room: in flight when it reported, or refused by the transport at release.

    Nothing happens to them but in ``sweep``, which the caller's loop calls. Every method may be called from any thread.
    ``owe`` says what is to be done when several of them are DONE, and only then; ``free`` gives the pages of one back.
    """

    def __init__(
        self,
        free: Callable[[Transfer[HandleT]], None],
        errors: tuple[type[Exception], ...],
        *,
        error_ends_reads: bool = False,
    ) -> None:
        self._owed: dict[Transfer[HandleT], Owed[HandleT]] = {}
        self._free: Final = free
        self._errors: Final = errors
        self._error_ends_reads: Final = error_ends_reads
        self._transfers: deque[Transfer[HandleT]] = deque()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._transfers)

    def adopt(self, transfers: Iterable[Transfer[HandleT]]) -> None:
        with self._lock:
            self._transfers.extend(transfers)

    def owe(self, transfers: Iterable[Transfer[HandleT]], then: Callable[[], None]) -> None:
        """Call ``then`` when all of these are DONE. One that ends in an error proves nothing, and cancels it."""
        owed = Owed(set(transfers), then)
        with self._lock:
            self._owed.update(dict.fromkeys(owed.transfers, owed))

    def _quiesced(self, transfer: Transfer[HandleT], *, done: bool) -> None:
        owed = self._owed.pop(transfer, None)
        if owed is None:
            return
        owed.transfers.discard(transfer)
        if not done:
            for other in owed.transfers:
                self._owed.pop(other, None)
        elif not owed.transfers:
            owed.then()

    def release(self, transfer: Transfer[HandleT]) -> None:
        """Release a settled transfer, or keep it for a later sweep when that raises.

        Errors of the transport end here. Others are raised to the caller, whose code has to answer for them (KS-1.3);
        the transfer is kept all the same.
        """
        try:
            transfer.release()
        except self._errors as error:
            logger.warning("%r could not be released: %r; it is tried again", transfer, error)
            self.adopt((transfer,))
        except Exception:
            self.adopt((transfer,))
            raise

    def sweep(self, limit: int) -> int:
        """Ask at most ``limit`` of them, and return how many are left. Never raises an Exception."""
        with self._lock:
            for _ in range(min(limit, len(self._transfers))):
                try:
                    over = self._settle(self._transfers[0])
                except Exception:
                    # Not the transport's, so a mistake of this project; the caller's loop must not die of it (KS-7.1).
                    logger.exception("sweeping %r", self._transfers[0])
                    over = False
                if over:
                    self._transfers.popleft()
                else:
                    self._transfers.rotate(-1)
            return len(self._transfers)

    def _settle(self, transfer: Transfer[HandleT]) -> bool:
        """True when the transfer is over and its handle given back."""
        if not transfer.settled:
            answer = transfer.check()
            if answer == PROC:
                return False
            if answer == DONE or self._error_ends_reads:
                self._free(transfer)
            self._quiesced(transfer, done=answer == DONE)
        try:
            transfer.release()
        except self._errors as error:
            logger.warning("%r could not be released: %r; it is tried again", transfer, error)
        return transfer.released
