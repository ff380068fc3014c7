"""Which clauses a word on the command line means."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

from kvsender_spec.clauses import EVERY_CLAUSE, Clause

_WORDS: Final = {word: clause for clause in EVERY_CLAUSE for word in (clause.id, clause.name)}
_FAMILIES: Final = {clause.id.partition(".")[0] for clause in EVERY_CLAUSE}


class UnknownClause(ValueError):
    """A word that means no clause; the message has the nearest ones."""


def is_clause(word: str) -> bool:
    """Whether a word is meant to be a clause: an id, a family or a name. A name with a colon is an adapter's."""
    upper = word.upper()
    return ":" not in word and (upper.startswith("KS-") or upper in _WORDS or upper == word)


def clauses_of(word: str) -> tuple[Clause, ...]:
    """What KS-2.3, KS-2 and STICKY mean, in any case of letters. Raises UnknownClause."""
    upper = word.upper()
    if upper in _FAMILIES:
        return tuple(clause for clause in EVERY_CLAUSE if clause.id.startswith(f"{upper}."))
    if upper in _WORDS:
        return (_WORDS[upper],)
    near = [found if "-" in found[:3] else f"{found} ({_WORDS[found].id})" for found in _near(upper)]
    hint = f"; the nearest: {', '.join(near)}" if near else ""
    raise UnknownClause(f"no such clause: {word}{hint}; `kvsender list` shows them all")


def _near(word: str) -> list[str]:
    return get_close_matches(word, [*_WORDS], n=3, cutoff=0.75)


def select(words: Iterable[str]) -> frozenset[str]:
    """The ids that the words mean; all of them when there is no word. Raises UnknownClause."""
    chosen = frozenset(clause.id for word in words for clause in clauses_of(word))
    return chosen or frozenset(clause.id for clause in EVERY_CLAUSE)
