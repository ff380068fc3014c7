"""What a clause of the contract is made of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from kvsender_spec.contract import Role
from kvsender_spec.machine import Profile


class Level(Enum):
    MUST = "MUST"
    SHOULD = "SHOULD"


class Layer(Enum):
    """A kind of evidence."""

    SCRIPTED = "scripted"
    """Randomised calls and faults on the scripted agent, with real bytes, judged by the machines of the spec."""
    REAL = "real"
    """The real library between real processes that are killed, stopped and restarted."""


SCRIPTED: Final = frozenset({Layer.SCRIPTED})
BOTH: Final = frozenset({Layer.SCRIPTED, Layer.REAL})
_LATCH: Final = frozenset({"KS-9.7", "KS-9.8", "KS-9.11", "KS-9.14"})
_FULL: Final = frozenset({"KS-9.3", "KS-9.9", "KS-9.10", "KS-9.16"})
"""Of a target's clauses: what its owner is told, and what it tells others. The rest is about pages."""


@dataclass(frozen=True, slots=True)
class Clause:
    """One rule of the contract. Most are a MUST that both kinds of evidence can observe."""

    id: str
    name: str
    text: str
    source: str
    """Where the rule comes from."""
    observation: str
    """What judges it."""
    level: Level = Level.MUST
    layers: frozenset[Layer] = BOTH

    @property
    def profile(self) -> Profile:
        """The smallest profile that claims the clause."""
        if self.role == "target":
            return Profile.LATCH if self.id in _LATCH else Profile.FULL if self.id in _FULL else Profile.QUIESCENT
        match self.id[3]:
            case "1" | "2" | "3":
                return Profile.LATCH
            case "4":
                return Profile.QUIESCENT
            case _:
                return Profile.FULL

    @property
    def role(self) -> Role:
        """Whom it is about."""
        return "target" if self.id.startswith("KS-9.") else "initiator"
