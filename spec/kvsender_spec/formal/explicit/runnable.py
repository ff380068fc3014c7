"""Turns a trace of the model into one that the kit can run against a sender: what is wrong with the tables is a
question to every implementation of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from kvsender_spec.faults import Fault, Kind, Point
from kvsender_spec.formal.explicit.generate import Generated
from kvsender_spec.formal.model.handles import IN_FLIGHT, SILENT
from kvsender_spec.formal.model.state import Act, Action, AtHandle, AtPeer, Everybody, ModelState, initial
from kvsender_spec.machine import LATCHED
from kvsender_spec.trace import Call, Progress, Setup, Step, Trace

_PLAIN: Final = {
    Act.FAILURE_EXCEPTION: Call.FAILURE_EXCEPTION,
    Act.ABORT: Call.ABORT,
    Act.CLEAR: Call.CLEAR,
    Act.OPEN: Call.OPEN,
}


class NotRunnable(ValueError):
    """The kit has no words for this; the message says for what."""


class _Translation:
    """Follows the model, and says each of its actions in the words of the kit."""

    def __init__(self, model: Generated) -> None:
        self.model: Final = model
        self.state = initial(model.bounds)
        self.steps = [Step(Call.OPEN)]
        self.rooms: list[list[Act]] = [[]]
        """What each incarnation was asked to send."""
        self._landed: set[int] = set()
        """Handles that have finished since the last step."""

    def take(self, action: Action) -> None:
        before = self.state
        self.state = self.model.follow(before, action)
        match action.act:
            case Act.FINISH:
                assert isinstance(action.at, AtHandle), action
                self._landed.add(action.at.place)
            case Act.SWEEP:
                pass  # the system's own time, which the kit gives it after every step
            case Act.SEND_NOTHING:
                # Elsewhere it is a chunk without pages, of which the sender asks nothing.
                if before.control.logical in LATCHED and Act.SEND_LAST not in self.rooms[-1]:
                    self._send(before, action)
            case Act.SEND | Act.SEND_LAST:
                self._send(before, action)
            case Act.POLL:
                self._poll(before, action)
            case Act.FAILURE_EXCEPTION | Act.ABORT | Act.CLEAR:
                self.steps.append(Step(_PLAIN[action.act], progress=self._progress(before)))
            case Act.OPEN:
                self.rooms.append([])
                self.steps.append(Step(Call.OPEN))

    def _send(self, before: ModelState, action: Action) -> None:
        self.rooms[-1].append(action.act)
        fault = Fault(Point.POST, Kind.BACKEND, action.at.peer) if isinstance(action.at, AtPeer) else None
        self.steps.append(Step(Call.SEND, progress=self._progress(before), fault=fault))

    def _poll(self, before: ModelState, action: Action) -> None:
        asked = self._flying(before)
        progress = self._progress(before)
        if action.late:
            self.steps.append(Step(Call.WAIT_LONG))
        if action.drained:
            self.steps.append(Step(Call.WAIT))
        fault = None
        match action.at:
            case Everybody():
                self.steps += (Step(Call.KILL, peer) for peer in range(self.model.bounds.peers))
            case AtPeer(peer):
                self.steps.append(Step(Call.KILL, peer))
            case AtHandle(place):
                fault = Fault(Point.CHECK, Kind.BACKEND, asked.index(place))
            case None:
                pass
        self.steps.append(Step(Call.POLL, progress=progress, fault=fault))

    def _flying(self, state: ModelState) -> list[int]:
        """The places of the room's own handles that are in flight."""
        first = state.control.base * self.model.bounds.peers
        return [first + n for n, code in enumerate(state.handles[first:]) if code in IN_FLIGHT]

    def _progress(self, before: ModelState) -> Progress:
        """What the handles of the room do before this call, in the kit's words."""
        flying = self._flying(before)
        known = [place for place in flying if place in self._landed]
        flying = [place for place in flying if place in self._landed or before.handles[place] in SILENT]
        self._landed -= set(flying)
        for progress, chosen in (
            (Progress.NONE, []),
            (Progress.ALL, flying),
            (Progress.NEWEST, flying[-1:]),
            (Progress.HALF, flying[::2]),
        ):
            if known == chosen:
                return progress
        raise NotRunnable(f"the kit cannot let just handles {known} of {flying} finish")

    def setup(self) -> Setup:
        """One room with as many chunks as its incarnations were asked to send; each chunk has one page."""
        ended = {sends.index(Act.SEND_LAST) + 1 for sends in self.rooms if Act.SEND_LAST in sends}
        longest = max(len(sends) for sends in self.rooms)
        if len(ended) > 1 or (ended and longest > max(ended)):
            raise NotRunnable("the incarnations of the room do not have the same number of chunks")
        return Setup(chunks=((1,) * (max(ended) if ended else longest + 1),), peers=self.model.bounds.peers)


def runnable(model: Generated, actions: Sequence[Action]) -> Trace:
    """The trace for ``kvsender replay``. Raises NotRunnable for what the kit cannot do to a sender."""
    translation = _Translation(model)
    for action in actions:
        translation.take(action)
    return Trace(translation.setup(), tuple(translation.steps))
