"""Why each clause fails in each release: known in public, found here, or no promise of theirs. One entry a fail.

An entry that no fail needs is stale, and a fail without an entry is news; the command says both and ends with an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    PUBLIC = "known public issue"
    FOUND_HERE = "we found no public issue"
    OURS = "a clause of this project, beyond their documented contract"


@dataclass(frozen=True, slots=True)
class Known:
    kind: Kind
    why: str
    """What the sender does, in a sentence."""
    references: tuple[str, ...] = ()
    """Public issues and pull requests, as ``owner/repository#number``."""


KNOWN: Final[Mapping[tuple[str, str], Known]] = {}
"""By connector and clause."""
