"""Which pages of a holder may be refilled, and which may be granted: counted page by page.

A page is *held* while a live room grants it, and in *quarantine* while a room that has ended did and its readers have
not shown that they are finished. Several rooms may hold one page, as those of a common prefix do. A held page, and one
in quarantine, is never refilled.

Where the exported addresses can be taken away (``remapped``), a page in quarantine that no live room holds is
*withdrawn*: its readers find zeros at its address, and another stamp. It may be refilled then, through the owner's
mapping, but not granted: it is mapped back when the last of its readers is finished, and not before.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from kvsender_spec.contract import KVUsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kvsender_nixl.buffers import Buffers, Stamps

    Pages = NDArray[np.int32]

logger = logging.getLogger(__name__)


class Withdrawable(Protocol):
    """Memory whose exported addresses can be taken away page by page. Page ids are int32 of shape ``(n,)``."""

    def withdraw(self, items: Pages) -> None:
        """From now on whoever reads these items at their exported addresses finds zeros. Raises OSError."""

    def renew(self, items: Pages) -> None:
        """Give withdrawn items fresh memory of zeros, which no read of the old one can reach. Raises OSError."""

    def restore(self, items: Pages) -> None:
        """Export these items again, with what their owner's mapping has now. Raises OSError."""


class Holds:
    """Nothing here is thread-safe: whoever owns it holds a lock. Page ids are int32 of shape ``(n,)``, each once."""

    def __init__(self, pool: Buffers, stamps: Stamps, exports: Withdrawable | None) -> None:
        count = pool.layout.num_items
        self._stamps: Final = stamps
        self._exports: Final = exports
        self._held: Final = np.zeros(count, np.int32)
        self._quarantined: Final = np.zeros(count, np.int32)
        self._withdrawn: Final = np.zeros(count, np.bool_)
        self._refilling: Final = np.zeros(count, np.bool_)
        self._filled: Final = np.zeros(count, np.bool_)

    # -------------------------------------------------------------------------------------------- a room's pages

    def take(self, pages: Pages, stamps: NDArray[np.uint64] | None) -> NDArray[np.uint64]:
        """A room holds these pages from now on. Returns their stamps, uint64 of shape ``(n,)``.

        Raises KVUsageError, naming a page, and holds none, where one has no content of its owner's or is withdrawn,
        or has other stamps than the caller believes.
        """
        _refuse(pages[self._refilling[pages]], "is being refilled")
        _refuse(pages[self._withdrawn[pages]], "is withdrawn, and a reader of an earlier room may still read it")
        _refuse(pages[~self._filled[pages]], "has no content: it was never filled within refilling()")
        now = self._stamps.values[pages]
        if stamps is not None:
            if stamps.dtype != np.uint64 or stamps.shape != pages.shape:
                raise KVUsageError(f"stamps is {stamps.dtype} of shape {stamps.shape}, for pages of {pages.shape}")
            _refuse(pages[stamps != now], "has been refilled, or withdrawn, since it had these stamps")
        self._held[pages] += 1
        return now

    def quarantine(self, pages: Pages) -> None:
        """A room that held these pages has ended, and some reader may still read them."""
        self._held[pages] -= 1
        self._quarantined[pages] += 1
        self._withdraw(pages)

    def free(self, pages: Pages, *, quarantined: bool) -> None:
        """Every reader of a room is finished with these pages, which it held, or had in quarantine."""
        (self._quarantined if quarantined else self._held)[pages] -= 1
        self._withdraw(pages)
        if self._exports is not None:
            self._restore(self._exports, pages[self._withdrawn[pages] & (self._quarantined[pages] == 0)])

    def _withdraw(self, pages: Pages) -> None:
        if self._exports is None:
            return
        old = pages[(self._held[pages] == 0) & (self._quarantined[pages] > 0) & ~self._withdrawn[pages]]
        if not len(old):
            return
        try:
            # A reader that finds zeros must find another stamp as well, so that it does not take them for content.
            with self._stamps.refilling(old):
                self._exports.withdraw(old)
        except OSError as error:
            logger.warning("%d pages are not withdrawn, and stay in quarantine: %r", len(old), error)
            # Some may be: they are all mapped back, so that what is exported is what the ledger says.
            self._restore(self._exports, old)
        else:
            self._withdrawn[old] = True

    def _restore(self, exports: Withdrawable, pages: Pages) -> None:
        if not len(pages):
            return
        try:
            exports.restore(pages)
        except OSError as error:
            self._withdrawn[pages] = True
            logger.warning("%d pages stay withdrawn, and can be granted no more: %r", len(pages), error)
        else:
            self._withdrawn[pages] = False

    # --------------------------------------------------------------------------------------------------- refills

    def begin_refill(self, pages: Pages) -> None:
        """The owner is about to write to these pages. Raises KVUsageError, naming a page, where one must stay as it is,
        and OSError where fresh memory for withdrawn ones is missing."""
        _refuse(pages[self._held[pages] > 0], "is held for a room")
        in_doubt = (self._quarantined[pages] > 0) & ~self._withdrawn[pages]
        _refuse(pages[in_doubt], "is in quarantine: a reader of a room that has ended may still read it")
        _refuse(pages[self._refilling[pages]], "is being refilled already")
        withdrawn = pages[self._withdrawn[pages]]
        if self._exports is not None and len(withdrawn):
            self._exports.renew(withdrawn)
        self._refilling[pages] = True
        self._filled[pages] = False

    def end_refill(self, pages: Pages, *, filled: bool) -> None:
        self._refilling[pages] = False
        self._filled[pages] = filled

    # ------------------------------------------------------------------------------------------------- questions

    def held(self) -> frozenset[int]:
        return _as_set(self._held > 0)

    def quarantined(self) -> frozenset[int]:
        return _as_set((self._quarantined > 0) & ~self._withdrawn)

    def withdrawn(self) -> frozenset[int]:
        return _as_set(self._withdrawn)

    def in_quarantine(self, pages: Pages) -> frozenset[int]:
        """Those of a room's pages in quarantine that must not be refilled."""
        return frozenset(pages[~self._withdrawn[pages]].tolist())


def _refuse(pages: Pages, why: str) -> None:
    if len(pages):
        raise KVUsageError(f"page {pages[0]} {why}")


def _as_set(of: NDArray[np.bool_]) -> frozenset[int]:
    return frozenset(np.flatnonzero(of).tolist())
