"""Pages and slots that must not be reused, counted: one may be held for several reasons at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class CountedPages:
    """How often each page is held. What it costs to hold or free pages does not depend on how many others are held.

    Not thread-safe: whoever owns it holds a lock. The set is made when it is asked for, and kept until it changes.
    """

    __slots__ = ("_counts", "_set")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._set: frozenset[int] | None = frozenset()

    def hold(self, pages: NDArray[np.int32]) -> None:
        counts, new = self._counts, False
        for page in pages.tolist():
            before = counts.get(page, 0)
            counts[page] = before + 1
            new = new or not before
        if new:
            self._set = None

    def free(self, pages: NDArray[np.int32]) -> None:
        """Each of these was held before."""
        counts, gone = self._counts, False
        for page in pages.tolist():
            left = counts[page] - 1
            if left:
                counts[page] = left
            else:
                del counts[page]
                gone = True
        if gone:
            self._set = None

    @property
    def pages(self) -> frozenset[int]:
        if self._set is None:
            self._set = frozenset(self._counts)
        return self._set
