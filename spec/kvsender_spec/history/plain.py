"""Text that a sender, its transport or an adapter wrote, made fit to be shown. It may hold anything."""

from __future__ import annotations


def printable(words: str, keep: str = "\t\n\r") -> str:
    """Spell out, as Python would, what neither a terminal nor HTML nor XML 1.0 can hold, except what is to be kept."""
    if words.isprintable():
        return words
    return "".join(letter if letter.isprintable() or letter in keep else ascii(letter)[1:-1] for letter in words)


def short(words: str, limit: int) -> str:
    """The first ``limit`` characters, and how many are left out. An error may quote all that a sender knows."""
    return words if len(words) <= limit else f"{words[:limit]} ... ({len(words) - limit} more characters)"


def one_line(words: str, limit: int) -> str:
    """The same in one printable line: a line of a report can then not be made up by what it quotes."""
    return printable(short(words, limit), keep="")


def count(number: int, what: str) -> str:
    """The number with its noun, which takes an s."""
    return f"{number} {what}{'' if number == 1 else 's'}"
