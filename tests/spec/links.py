"""The links of Markdown pages: which there are, and which lead nowhere."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

_PARSER: Final = MarkdownIt("commonmark").enable("table")
_BUILT: Final = frozenset({"build", "dist"})


def pages(root: Path) -> list[Path]:
    """Every Markdown page below the folder, without what is hidden (.git, .venv) or built."""
    found: list[Path] = []
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _BUILT)
        found += [Path(folder, name) for name in sorted(files) if name.endswith(".md")]
    return found


def links(text: str) -> list[str]:
    """Where the links and images of a page lead, as it is written; what stands in code is no link."""
    inline = (child for token in _PARSER.parse(text) for child in token.children or ())
    targets = (token.attrGet("href" if token.type == "link_open" else "src") for token in inline)
    return [str(target) for target in targets if target is not None]


def anchors(text: str) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    found: set[str] = set()
    tokens = _PARSER.parse(text)
    for opening, heading in pairwise(tokens):
        if opening.type == "heading_open":
            slug = re.sub(r"[^\w\- ]", "", _plain(heading).lower()).replace(" ", "-")
            numbered = (f"{slug}-{number}" if number else slug for number in range(len(found) + 1))
            found.add(next(name for name in numbered if name not in found))
    return found


def _plain(heading: Token) -> str:
    return "".join(child.content for child in heading.children or () if child.type in ("text", "code_inline"))


def is_relative(link: str) -> bool:
    """Whether it depends on where the page is: a path, or a place in the page itself."""
    parts = urlsplit(link)
    return not parts.scheme and not parts.netloc


def broken(root: Path) -> Iterator[str]:
    """What is wrong with the relative links of the pages below the folder, one line each."""
    for page in pages(root):
        for link in links(page.read_text(encoding="utf-8")):
            if is_relative(link) and (problem := _problem(root, page, link)):
                yield f"{page.relative_to(root)}: {link}: {problem}"


def _problem(root: Path, page: Path, link: str) -> str:
    parts = urlsplit(link)
    target = Path(os.path.normpath(page.parent / unquote(parts.path))) if parts.path else page
    if not target.is_relative_to(root):
        return "leads out of the repository"
    if not target.exists():
        return "no such file"
    if not parts.fragment:
        return ""
    if target.suffix != ".md":
        return "an anchor in what is no page"
    known = anchors(target.read_text(encoding="utf-8"))
    return "" if unquote(parts.fragment) in known else "no such heading"
