"""HTML and SVG as typed text: only what went through ``text`` or ``tag`` is ``Markup``, so nothing is left unescaped.

A report quotes whatever a sender's errors say, and that may be anything.
"""

from __future__ import annotations

import re
from html import escape
from typing import Final, NewType

Markup = NewType("Markup", str)

_VOID: Final = frozenset({"meta"})
_NOT_PRINTABLE: Final = re.compile(r"[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def printable(words: str) -> str:
    """What neither HTML nor XML 1.0 can hold, not even escaped, as Python would write it."""
    return _NOT_PRINTABLE.sub(_spelt_out, words)


def _spelt_out(found: re.Match[str]) -> str:
    return ascii(found[0])[1:-1]


def text(words: str) -> Markup:
    return Markup(escape(printable(words)))


def tag(name: str, /, *children: Markup, **attributes: str | float) -> Markup:
    """An element. ``class_`` stands for class, ``text_anchor`` for text-anchor."""
    words = [name]
    for key, value in attributes.items():
        attribute = key.rstrip("_").replace("_", "-")
        shown = value if isinstance(value, str) else f"{value:g}"
        words.append(f'{attribute}="{text(shown)}"')
    inside = "".join(children)
    return Markup(f"<{' '.join(words)}>" if name in _VOID else f"<{' '.join(words)}>{inside}</{name}>")
