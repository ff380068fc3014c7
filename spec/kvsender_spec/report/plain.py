"""Text that a sender, its transport or an adapter wrote, made fit to be shown. It may hold anything."""

from __future__ import annotations

import re
from typing import Final

_NOT_PRINTABLE: Final = re.compile(r"[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def printable(words: str) -> str:
    """Spell out, as Python would, what neither a terminal nor HTML nor XML 1.0 can hold, not even escaped."""
    return _NOT_PRINTABLE.sub(_spelt_out, words)


def _spelt_out(found: re.Match[str]) -> str:
    return ascii(found[0])[1:-1]


def short(words: str, limit: int) -> str:
    """The first ``limit`` characters, and how many are left out. An error may quote all that a sender knows."""
    return words if len(words) <= limit else f"{words[:limit]} ... ({len(words) - limit} more characters)"


def one_line(words: str, limit: int) -> str:
    """The same in one line: a line of a report can then not be made up by what it quotes."""
    return short(words, limit).replace("\r", "\\r").replace("\n", "\\n")
