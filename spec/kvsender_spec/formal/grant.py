"""A reader and a holder that refills what it granted: when is DONE enough, and what must be looked at, and when?

The state table does not speak of bytes, so this is a model of its own, as small as the question: one granted page of
two halves, with a stamp. The holder refills it as often as it likes: it raises the stamp, writes one half and the
other, and raises the stamp again. The reader's transport lands each half at any time, in any order, as it is then, and
the reader looks at the stamp after its data, before them, or never. It accepts the page when both halves are here and
the stamp that it has seen is the granted one. Pages do not depend on each other, so one stands for all.

What must hold: an accepted page has the granted content. With a look after the data it does, for any number of refills
(z3, and at a bound by search and TLC); with a look before the data, or none, it does not, and neither does it where the
holder raises the stamp only when it has refilled. An engine that misses one of these is as wrong as one that finds too
much.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

MODULE: Final = "KVGrant"
MOST_REFILLS: Final = 3


class Look(StrEnum):
    """When the reader looks at the stamp."""

    AFTER = "after"
    BEFORE = "before"
    NEVER = "never"


class Bump(StrEnum):
    """When the holder raises the stamp."""

    BOTH = "both"
    """Before it writes, and again when it has."""
    AFTER = "after"
    """Only when it has."""


CASES: Final[tuple[tuple[Look, Bump, bool], ...]] = (
    (Look.AFTER, Bump.BOTH, True),
    (Look.BEFORE, Bump.BOTH, False),
    (Look.NEVER, Bump.BOTH, False),
    (Look.AFTER, Bump.AFTER, False),
)
"""What the two do, and whether what is accepted then is what was granted."""


@dataclass(frozen=True, slots=True)
class Page:
    """Contents are numbers of refills; the granted content is 0, the granted stamp is 0."""

    first: int = 0
    second: int = 0
    stamp: int = 0
    phase: int = 0
    """Of the refill under way: 0 none, 1 the stamp is raised, 2 the first half is written, 3 both are."""
    mine_first: int | None = None
    mine_second: int | None = None
    seen: int | None = None
    """The stamp that the reader has seen."""

    @property
    def landed(self) -> bool:
        return self.mine_first is not None and self.mine_second is not None

    def accepted(self, look: Look) -> bool:
        return self.landed and (look is Look.NEVER or self.seen == 0)

    @property
    def granted(self) -> bool:
        return self.mine_first == self.mine_second == 0


def steps(page: Page, look: Look, bump: Bump, most_refills: int = MOST_REFILLS) -> Iterator[tuple[str, Page]]:
    """What may happen next, with a name for each."""
    both = bump is Bump.BOTH
    match page.phase:
        case 0 if page.second < most_refills:
            yield "raise", replace(page, phase=1, stamp=page.stamp + both)
        case 1:
            yield "write the first half", replace(page, phase=2, first=page.first + 1)
        case 2:
            yield "write the second half", replace(page, phase=3, second=page.second + 1)
        case 3:
            yield "raise again", replace(page, phase=0, stamp=page.stamp + 1)
        case _:
            pass
    may_land = look is not Look.BEFORE or page.seen is not None
    if page.mine_first is None and may_land:
        yield "land the first half", replace(page, mine_first=page.first)
    if page.mine_second is None and may_land:
        yield "land the second half", replace(page, mine_second=page.second)
    if page.seen is None and (look is Look.BEFORE or (look is Look.AFTER and page.landed)):
        yield "look at the stamp", replace(page, seen=page.stamp)


def search(look: Look, bump: Bump) -> tuple[int, tuple[str, ...] | None]:
    """Every reachable state: how many, and a shortest way to a page that is accepted and was not granted, or None."""
    start = Page()
    ways: dict[Page, tuple[str, ...]] = {start: ()}
    queue, foreign = [start], None
    for page in queue:
        if foreign is None and page.accepted(look) and not page.granted:
            foreign = ways[page]
        for name, following in steps(page, look, bump):
            if following not in ways:
                ways[following] = (*ways[page], name)
                queue.append(following)
    return len(ways), foreign


def _refill(bump: Bump) -> str:
    raised = "stamp + 1" if bump is Bump.BOTH else "stamp"
    return f"""Raise == phase = 0 /\\ second < Refills /\\ phase' = 1 /\\ stamp' = {raised}
         /\\ UNCHANGED <<first, second, mine1, mine2, seen>>
WriteFirst == phase = 1 /\\ phase' = 2 /\\ first' = first + 1 /\\ UNCHANGED <<second, stamp, mine1, mine2, seen>>
WriteSecond == phase = 2 /\\ phase' = 3 /\\ second' = second + 1 /\\ UNCHANGED <<first, stamp, mine1, mine2, seen>>
RaiseAgain == phase = 3 /\\ phase' = 0 /\\ stamp' = stamp + 1 /\\ UNCHANGED <<first, second, mine1, mine2, seen>>"""


_MAY_LAND: Final = {Look.AFTER: "TRUE", Look.NEVER: "TRUE", Look.BEFORE: "seen # None"}
_MAY_LOOK: Final = {Look.AFTER: "mine1 # None /\\ mine2 # None", Look.NEVER: "FALSE", Look.BEFORE: "TRUE"}


def module(look: Look = Look.AFTER, bump: Bump = Bump.BOTH) -> str:
    """The model in TLA+."""
    accepted = "TRUE" if look is Look.NEVER else "seen = 0"
    return f"""---- MODULE {MODULE} ----
\\* Generated by kvsender_spec.formal.grant: the reader looks {look} its data, the holder raises the stamp {bump}.
EXTENDS Integers
CONSTANT Refills
VARIABLES first, second, stamp, phase, mine1, mine2, seen
None == -1
Init == /\\ first = 0 /\\ second = 0 /\\ stamp = 0 /\\ phase = 0
        /\\ mine1 = None /\\ mine2 = None /\\ seen = None
{_refill(bump)}
LandFirst == mine1 = None /\\ {_MAY_LAND[look]} /\\ mine1' = first
             /\\ UNCHANGED <<first, second, stamp, phase, mine2, seen>>
LandSecond == mine2 = None /\\ {_MAY_LAND[look]} /\\ mine2' = second
              /\\ UNCHANGED <<first, second, stamp, phase, mine1, seen>>
LookAt == seen = None /\\ {_MAY_LOOK[look]} /\\ seen' = stamp
          /\\ UNCHANGED <<first, second, stamp, phase, mine1, mine2>>
\\* The reader and the holder come to an end, which is no deadlock.
Rest == UNCHANGED <<first, second, stamp, phase, mine1, mine2, seen>>
Next == Raise \\/ WriteFirst \\/ WriteSecond \\/ RaiseAgain \\/ LandFirst \\/ LandSecond \\/ LookAt \\/ Rest
Spec == Init /\\ [][Next]_<<first, second, stamp, phase, mine1, mine2, seen>>
Accepted == mine1 # None /\\ mine2 # None /\\ {accepted}
OnlyWhatWasGranted == Accepted => mine1 = 0 /\\ mine2 = 0
====
"""


def config() -> str:
    """For TLC."""
    return f"SPECIFICATION Spec\nCONSTANT Refills = {MOST_REFILLS}\nINVARIANT OnlyWhatWasGranted\n"
