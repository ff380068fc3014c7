"""What the effects of a row change, and what a call changes besides: the one definition that every engine renders.

The changes of one effect happen one after the other. None reads what an earlier one has changed, apart from the
variable that it sets itself, so an engine may also take them at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kvsender_spec.formal.model.handles import Op
from kvsender_spec.formal.model.state import Cause, Told
from kvsender_spec.formal.model.terms import Change, Demand, Map, Not, Scope, Set, Var, both, either, var
from kvsender_spec.machine import LATCHED, Effect, Reply, State

SILENT: Final = var(Var.SAID, Told.NOTHING)
"""The caller has been told nothing yet."""
IS_LATCHED: Final = var(Var.LOGICAL, *sorted(LATCHED, key=list(State).index))


def _tell(word: Told) -> tuple[Change, ...]:
    return Demand(var(Var.TOLD, Told.NOTHING), "KS-6.1"), Set(Var.TOLD, word)


EFFECTS: Final[Mapping[Effect, tuple[Change, ...]]] = {
    Effect.ADOPT: (Set(Var.ADOPTED, True),),
    Effect.CLOSE: (Set(Var.CLOSED, True),),
    Effect.LATCH: (Set(Var.CAUSE, Var.CAUSE_NOW, var(Var.CAUSE, Cause.NONE)),),
    Effect.RELEASE: (Map(Op.RELEASED),),
    Effect.QUARANTINE: (Set(Var.QUARANTINED, True), Map(Op.OVERDUE)),
    Effect.TELL_SUCCESS: _tell(Told.SUCCESS),
    Effect.TELL_FAILURE: _tell(Told.FAILURE),
    Effect.FORGET: (Set(Var.CLEARED, True),),
}

ARRIVE: Final = (Set(Var.CLOSED, False, IS_LATCHED),)
"""After every move: that no chunk follows is forgotten with the failure, since nothing depends on it any more."""

_FIRST: Final = both(SILENT, Not(var(Var.FAULTED)))
BLAME: Final = (
    Set(Var.CAUSE_NOW, Cause.LATER),
    Set(Var.CAUSE_NOW, Cause.FIRST, _FIRST),
    Set(Var.FAULTED, True, _FIRST),
)
"""Something goes wrong. If it is the first such thing in a room that is not over, it is owed to the caller."""
BLAMES: Final = either(var(Var.ERROR_SEEN), both(var(Var.DEADLINE_PASSED), Not(var(Var.ALL_DONE))))
"""What a look at the handles is to blame for. A deadline is no blame where everything is done (KS-3.5)."""

SPOKEN: Final[Mapping[Reply, Told]] = {Reply.SUCCESS: Told.SUCCESS, Reply.FAILED: Told.FAILURE}
SAY: Final = tuple(Set(Var.SAID, word, both(SILENT, var(Var.REPLY, reply))) for reply, word in SPOKEN.items())
"""poll() returns: its first terminal value is the room's."""
LEAVE: Final = (Map(Op.FORGOTTEN, when=Not(SILENT)),)
"""And once there is one, what is settled and released needs no place any more."""

OPEN: Final[tuple[Change, ...]] = (
    Map(Op.OVERDUE, Scope.ALL),
    Map(Op.FORGOTTEN, Scope.ALL),
    Set(Var.LOGICAL, State.IDLE),
    Set(Var.CAUSE, Cause.NONE),
    *(Set(flag, False) for flag in (Var.FAULTED, Var.CLOSED, Var.CLEARED, Var.QUARANTINED)),
    Set(Var.BASE, Var.POSTED),
    Set(Var.SAID, Told.NOTHING),
    Set(Var.TOLD, Told.NOTHING),
)
"""The caller opens the room id again; what the old room left in flight is in doubt."""
