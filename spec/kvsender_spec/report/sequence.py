"""A history as a sequence diagram: caller, sender, transport and peers, from the top down.

The layout is by hand. Colours come from the page, by class, so that the picture follows its light and its dark.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Final

from kvsender_spec.history import events as h
from kvsender_spec.history.plain import printable
from kvsender_spec.history.telling import AboutPeer, StepEvents, Teller, TransportCall, asked
from kvsender_spec.observe.verdict import Violation
from kvsender_spec.report.svg import Path, Picture, Rect, Shape, Words
from kvsender_spec.report.text import broken

MOST_EVENTS: Final = 16
"""Events shown in one step; the number of the others is written below them."""
MOST_STEPS: Final = 24
"""Steps shown: the first ones, the last ones, and every one that shows a violation."""
MOST_PEERS: Final = 6
"""Peers with a lane of their own; the others share one."""
_FIRST: Final = MOST_STEPS // 3
_OTHERS: Final = "other peers"
_GAP: Final = 236.0
_MARGIN: Final = 72.0
_LINE: Final = 15.0
_CHARACTER: Final = 7.4
"""The width of a character of the widest monospaced font in use, at 12 pixels: no browser is asked."""
_CALLER: Final = 0
_SENDER: Final = 1
_TRANSPORT: Final = 2
_HAPPENS_TO_PEER: Final[dict[type[h.Event], str]] = {
    h.PeerLost: "process gone",
    h.PeerSilent: "stopped",
    h.PagesRefilled: "refills what it granted",
    h.PeerResumed: "goes on",
    h.PeerReturned: "new process",
    h.LinkCut: "connection cut",
}
_ALARMING: Final = (h.CallStuck, h.WorkerEnded, h.EventsDropped)


def sequence(history: h.History, violations: Sequence[Violation] = ()) -> Picture:
    """Draw the history. The first violation is told in full, in a red box below the event that shows it."""
    teller = Teller(history)
    drawing = _Sequence(history, teller, violations)
    shown = {violation.seq for violation in violations}
    found = _alike(teller, shown)
    last = len(found) - (MOST_STEPS - _FIRST)
    left_out = 0
    for place, (times, step) in enumerate(found):
        if _FIRST <= place < last and not _shows(step, shown):
            left_out += times
            continue
        if left_out:
            drawing.remark(f"{left_out} steps are left out here")
            left_out = 0
        numbers = f"{step.number}" if times == 1 else f"{step.number} to {step.number + times - 1}"
        title = f"{numbers}. {step.title}" if step.number else step.title
        drawing.step(title + (f", {times} times alike" if times > 1 else ""), step)
    return drawing.close()


def _shows(step: StepEvents, shown: set[int]) -> bool:
    return any(event.seq in shown for event in step.events)


def _alike(teller: Teller, shown: set[int]) -> list[tuple[int, StepEvents]]:
    """How often each step came in a row, and the first of them: the end of a run polls a lot.

    What shows a violation is drawn alone.
    """
    found: list[tuple[int, StepEvents]] = []
    before: list[str] = []
    for step in teller.steps():
        look = [step.title, *map(teller.words, step.events)]
        if _shows(step, shown):
            look = []
        if look and look == before:
            times, earlier = found[-1]
            found[-1] = (times + 1, earlier)
        else:
            found.append((1, step))
        before = look
    return found


def _peers(history: h.History) -> list[str]:
    rooms = [event for event in history.events if isinstance(event, h.RoomOpened)]
    names = {destination.peer for room in rooms for destination in room.destinations}
    names |= {event.peer for event in history.events if isinstance(event, (AboutPeer, h.TransferMade))}
    found = sorted(names)
    return found if len(found) <= MOST_PEERS else [*found[:MOST_PEERS], _OTHERS]


class _Sequence:
    """The shapes so far, and how far down they go."""

    def __init__(self, history: h.History, teller: Teller, violations: Sequence[Violation]) -> None:
        self._teller: Final = teller
        self._violations: Final = violations
        self._drawn: Final[set[int]] = set()
        """The places in ``violations`` that have their box."""
        self._lanes: Final = ["caller", "sender", "transport", *_peers(history)]
        self._width: Final = 2 * _MARGIN + _GAP * max(2, len(self._lanes) - 1)
        self._peer_of: Final = {
            e.handle: e.peer for e in history.events if isinstance(e, h.TransferMade) and e.handle is not None
        }
        self._landed: Final[set[int]] = set()
        """Handles whose last bytes are drawn."""
        self._shapes: Final[list[Shape]] = []
        self._y = 52.0

    def _x(self, lane: int) -> float:
        return _MARGIN + _GAP * lane

    def _lane(self, peer: str) -> int:
        return self._lanes.index(peer) if peer in self._lanes else len(self._lanes) - 1

    # -- one step

    def step(self, title: str, step: StepEvents) -> None:
        """Its title, then its events."""
        self._band(title)
        told = [event for event in step.events if self._teller.told(event)]
        shown = {violation.seq for violation in self._violations}
        left_out = 0
        for place, event in enumerate(told):
            if place < MOST_EVENTS or place == len(told) - 1 or event.seq in shown:
                self._event(event)
                self._boxes(event.seq)
            else:
                left_out += 1
        if left_out:
            self.remark(f"{left_out} more events of this step are not shown")

    def _boxes(self, seq: int | None) -> None:
        """The violations that an event shows; with None those that nothing drawn has shown."""
        for place, violation in enumerate(self._violations):
            if place not in self._drawn and (seq is None or violation.seq == seq):
                self._drawn.add(place)
                full = f": expected {violation.expected}; observed: {violation.observed}"
                self._box(broken(violation) + (full if place == 0 else ""))

    def _event(self, event: h.AnyEvent) -> None:
        if isinstance(event, TransportCall):
            self._asked(event)
            return
        match event:
            case h.CallStarted():
                self._arrow(_CALLER, _SENDER, self._teller.about(event, asked(event)))
            case h.CallEnded():
                shows = any(violation.seq == event.seq for violation in self._violations)
                look = "bad" if shows else "" if event.error is None else "warn"
                self._arrow(_SENDER, _CALLER, self._teller.outcome(event), look, reply=True)
            case h.PeerLost() | h.PeerSilent() | h.PeerResumed() | h.PeerReturned() | h.LinkCut() | h.PagesRefilled():
                self._mark(self._lane(event.peer), _HAPPENS_TO_PEER[type(event)])
            case h.NotificationHeard():
                self._arrow(_TRANSPORT, self._lane(event.peer), self._teller.heard(event))
            case h.BytesLanded():
                wrong = "warn" if event.late or event.foreign else ""
                if event.handle is None:
                    self.remark(self._teller.words(event), wrong or "remark")
                    return
                self._lands(event.handle, self._teller.words(event), wrong)
                if event.whole:
                    self._landed.add(event.handle)
            case h.BytesCompared():
                self.remark(self._teller.words(event), "bad" if event.differ else "remark")
            case _:
                self.remark(self._teller.words(event), "bad" if isinstance(event, _ALARMING) else "remark")

    def _asked(self, event: TransportCall) -> None:
        """A call of the transport, and its answer."""
        self._arrow(_SENDER, _TRANSPORT, self._teller.request(event))
        answer = self._teller.answer(event)
        if isinstance(event, h.TransferPosted | h.TransferChecked):
            if event.answer == "DONE" and event.handle not in self._landed:
                self._landed.add(event.handle)
                self._lands(event.handle, f"handle {event.handle}: all bytes", "")
            failed = event.answer not in ("PROC", "DONE")
        else:
            failed = bool(answer)
        if answer:
            self._arrow(_TRANSPORT, _SENDER, answer, "warn" if failed else "", reply=True)

    def _lands(self, handle: int, words: str, class_: str) -> None:
        """Bytes at a peer; without an arrow where nobody saw the handle being made."""
        peer = self._peer_of.get(handle)
        if peer is None:
            self.remark(words, class_ or "remark")
        else:
            self._arrow(_TRANSPORT, self._lane(peer), words, class_)

    # -- what can be drawn

    def _wrapped(self, words: str, width: float) -> list[str]:
        columns = max(12, int(width / _CHARACTER))
        return textwrap.wrap(printable(words[:2000]), columns, max_lines=8, placeholder=" ...") or [""]

    def _band(self, words: str) -> None:
        lines = self._wrapped(words, self._width - 40)
        self._panel(lines, 8, "band", "title")

    def _box(self, words: str) -> None:
        self._panel(self._wrapped(words, self._width - 60), 16, "broken", "bad")

    def _panel(self, lines: Sequence[str], x: float, rect: str, text: str) -> None:
        """A box as wide as the picture, with lines of text in it."""
        height = _LINE * len(lines) + 10
        self._y += 8
        self._shapes.append(Rect(x, self._y, self._width - 2 * x, height, 4, rect))
        for number, line in enumerate(lines):
            self._shapes.append(Words(x + 10, self._y + 16 + _LINE * number, line, text))
        self._y += height + 4

    def remark(self, words: str, class_: str = "remark") -> None:
        """A line in the middle."""
        self._y += 4
        for line in self._wrapped(words, self._width - 40):
            self._y += _LINE
            self._shapes.append(Words(self._width / 2, self._y, line, class_, "middle"))
        self._y += 6

    def _mark(self, lane: int, words: str) -> None:
        width = _CHARACTER * len(words) + 20
        self._y += 6
        self._shapes.append(Rect(self._x(lane) - width / 2, self._y, width, 22, 11, "struck"))
        self._shapes.append(Words(self._x(lane), self._y + 15, words, "struck", "middle"))
        self._y += 28

    def _arrow(self, source: int, target: int, words: str, class_: str = "", *, reply: bool = False) -> None:
        left, right = self._x(source), self._x(target)
        # The label stays between two lanes, next to where the arrow comes from, however far the arrow goes.
        near = left + _GAP / 2 * (1 if right > left else -1)
        lines = self._wrapped(words, _GAP - 26)
        for number, line in enumerate(lines):
            self._shapes.append(Words(near, self._y + 14 + _LINE * number, line, class_, "middle"))
        self._y += _LINE * len(lines) + 6
        style = f"arrow {'reply ' if reply else ''}{class_}".strip()
        self._shapes.append(Path(f"M{left:g} {self._y:g}H{right:g}", style))
        back = right + (-8 if right > left else 8)
        head = f"M{right:g} {self._y:g}L{back:g} {self._y - 4:g}V{self._y + 4:g}Z"
        self._shapes.append(Path(head, f"head {class_}".strip()))
        self._y += 6

    def close(self) -> Picture:
        """The picture, with its lanes behind all the rest."""
        self._boxes(None)
        height = self._y + 16
        back: list[Shape] = []
        for number, name in enumerate(self._lanes):
            x = self._x(number)
            back.append(Path(f"M{x:g} 40V{height - 6:g}", "lane"))
            back.append(Rect(x - 62, 8, 124, 32, 6, "lane-head"))
            (line,) = self._wrapped(name, 116)[:1]
            back.append(Words(x, 29, line, "lane-head", "middle"))
        return Picture(self._width, height, "Sequence diagram of the history", (*back, *self._shapes))
