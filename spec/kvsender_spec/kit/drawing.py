"""The pictures of a report, as SVG: one run as a sequence diagram, and the logical machine with the way it took.

The layout is by hand. Colours come from the page, by class, so that the pictures follow its light and its dark.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from kvsender_spec.faults import Point
from kvsender_spec.kit.markup import Markup, tag, text
from kvsender_spec.kit.narrative import answer, broken, deed, message, request
from kvsender_spec.kit.record import Moment
from kvsender_spec.kit.stage import SENDER_SIDE
from kvsender_spec.kit.transport import TransportEvent
from kvsender_spec.machine import NEXT, State
from kvsender_spec.trace import Call, Step

# ------------------------------------------------------------------------------------------------ sequence diagram

_GAP: Final = 236.0
_MARGIN: Final = 72.0
_LINE: Final = 15.0
_CHARACTER: Final = 7.4
"""The width of a character of the widest monospaced font in use, at 12 pixels: no browser is asked."""
_MOST_CALLS: Final = 8
"""Calls of the transport shown in one moment; the number of the others is written below them."""
_MOST_OF_THE_END: Final = 8


def sequence(moments: Sequence[Moment], clause: str = "") -> Markup:
    """Owner, sender, transport and peers, from the top down. What broke ``clause`` is told in full."""
    steps = [moment for moment in moments if not moment.ending]
    end = _alike(moment for moment in moments if moment.ending)
    drawing = _Sequence(_peers(moments), clause, several=len({m.incarnation for m in moments} - {None}) > 1)
    for number, moment in enumerate(steps, 1):
        drawing.moment(f"{number}. {deed(moment.what)}", moment)
    if end:
        left_out = max(0, len(end) - _MOST_OF_THE_END)
        drawing.remark("the end of the run" + (f", without its first {left_out} moments" if left_out else ""))
        for moment, _ in end[:left_out]:
            drawing.remember(moment.events)
        for moment, count in end[left_out:]:
            drawing.moment(deed(moment.what) + (f", {count} times alike" if count > 1 else ""), moment)
    return drawing.close()


def _alike(moments: Iterable[Moment]) -> list[tuple[Moment, int]]:
    """The moments with how often each was repeated, one after the other: the end of a run polls a lot."""
    found: list[tuple[Moment, int]] = []
    for moment in moments:
        if found and _look(found[-1][0]) == _look(moment):
            found[-1] = (found[-1][0], found[-1][1] + 1)
        else:
            found.append((moment, 1))
    return found


def _look(moment: Moment) -> tuple[str, str, list[tuple[str, str]], list[State], int]:
    """What a drawing would show of a moment."""
    calls = [(request(event), answer(event)) for event in moment.events]
    states = [possible.state for possible in moment.possible]
    return str(moment.what), moment.outcome, calls, states, len(moment.violations)


def _peers(moments: Iterable[Moment]) -> list[str]:
    names = {event.peer for moment in moments for event in moment.events if event.agent == SENDER_SIDE and event.peer}
    names |= {f"decode{number}" for moment in moments for number in _struck(moment.what)}
    return sorted(names) or ["decode0"]


def _struck(what: Step | str) -> tuple[int, ...]:
    """The peer to which a step happens."""
    happens = isinstance(what, Step) and what.call in (Call.KILL, Call.STOP, Call.RESTART)
    return (what.room,) if happens and isinstance(what, Step) else ()


class _Sequence:
    def __init__(self, peers: Sequence[str], clause: str, *, several: bool) -> None:
        self._clause: Final = clause
        self._several: Final = several
        self._lanes: Final = ["owner", "sender", "transport", *peers]
        self._width: Final = 2 * _MARGIN + _GAP * (len(self._lanes) - 1)
        self._parts: Final[list[Markup]] = []
        self._y = 52.0
        self._told_done: Final[set[int]] = set()
        self._attached: Final[dict[int, str]] = {}
        self._states: Final[dict[int | None, str]] = {}

    def _x(self, lane: int) -> float:
        return _MARGIN + _GAP * lane

    # -- one moment

    def moment(self, title: str, moment: Moment) -> None:
        self._band(title, "band end" if moment.ending else "band")
        call = moment.what.call if isinstance(moment.what, Step) else None
        if moment.outcome:
            self._arrow(0, 1, "" if call is None else f"{call.value}()")
        for number in _struck(moment.what):
            self._mark(self._lanes.index(f"decode{number}"), "" if call is None else call.value)
        mine = [event for event in moment.events if event.agent == SENDER_SIDE]
        for event in mine[:_MOST_CALLS]:
            self._event(event)
        if len(mine) > _MOST_CALLS:
            self.remark(f"{len(mine) - _MOST_CALLS} more calls of the transport")
            self.remember(mine[_MOST_CALLS:])
        if moment.outcome:
            raised = moment.outcome.startswith("raised")
            self._arrow(1, 0, moment.outcome, "bad" if moment.violations else "warn" if raised else "", reply=True)
        allowed = {possible.state for possible in moment.possible}
        states = " or ".join(state.value for state in State if state in allowed)
        if states and states != self._states.get(moment.incarnation) and not moment.violations:
            self._states[moment.incarnation] = states
            room = f"room {moment.what.room}: " if self._several and isinstance(moment.what, Step) else ""
            self._mark(1, room + states, "state")
        also: list[str] = []
        for violation in moment.violations:
            if violation.clause == self._clause:
                self._box(f"{broken(violation)}: expected {violation.expected}; observed: {violation.observed}")
            else:
                also.append(violation.clause)
        if also:
            self.remark(f"breaks {', '.join(also)} as well", "bad")

    def remember(self, events: Iterable[TransportEvent]) -> None:
        """Take note of what is not drawn, so that nothing old looks new later."""
        for event in events:
            if event.handle is not None and event.point is Point.MAKE:
                self._attached[event.handle] = message(event)
            if event.handle is not None and event.answer == "DONE":
                self._told_done.add(event.handle)

    def _event(self, event: TransportEvent) -> None:
        failed = event.error is not None or event.answer in ("ERR", "LOST")
        self._arrow(1, 2, request(event))
        peer = self._lanes.index(event.peer) if event.peer in self._lanes else len(self._lanes) - 1
        if event.point is Point.NOTIFY and not failed:
            self._arrow(2, peer, message(event))
        if event.point in (Point.POST, Point.CHECK) and event.handle is not None and not failed:
            if event.answer == "DONE" and event.handle not in self._told_done:
                attached = self._attached.get(event.handle, "")
                self._arrow(2, peer, f"handle {event.handle}: all bytes" + (f", and {attached}" if attached else ""))
            elif event.point is Point.POST:
                self._arrow(2, peer, f"handle {event.handle}: bytes on their way", reply=True)
        if failed or event.point in (Point.POST, Point.CHECK):
            self._arrow(2, 1, answer(event), "warn" if failed else "", reply=True)
        self.remember([event])

    # -- what can be drawn

    def _lines(self, words: str, width: float) -> list[str]:
        return textwrap.wrap(words, max(12, int(width / _CHARACTER)), max_lines=8, placeholder=" ...") or [""]

    def _text(self, x: float, y: float, words: str, class_: str, anchor: str = "middle") -> None:
        self._parts.append(tag("text", text(words), x=x, y=y, class_=class_, text_anchor=anchor))

    def _band(self, words: str, class_: str) -> None:
        lines = self._lines(words, self._width - 40)
        height = _LINE * len(lines) + 8
        self._y += 8
        self._parts.append(tag("rect", x=8, y=self._y, width=self._width - 16, height=height, rx=4, class_=class_))
        for number, line in enumerate(lines):
            self._text(18, self._y + 16 + _LINE * number, line, "title", "start")
        self._y += height + 4

    def remark(self, words: str, class_: str = "remark") -> None:
        self._y += 18
        self._text(self._width / 2, self._y, words, class_)
        self._y += 6

    def _box(self, words: str) -> None:
        lines = self._lines(words, self._width - 60)
        height = _LINE * len(lines) + 12
        self._y += 8
        self._parts.append(tag("rect", x=16, y=self._y, width=self._width - 32, height=height, rx=4, class_="broken"))
        for number, line in enumerate(lines):
            self._text(28, self._y + 18 + _LINE * number, line, "bad", "start")
        self._y += height + 4

    def _mark(self, lane: int, words: str, class_: str = "struck") -> None:
        width = _CHARACTER * len(words) + 20
        self._y += 6
        x = self._x(lane) - width / 2
        self._parts.append(tag("rect", x=x, y=self._y, width=width, height=22, rx=11, class_=class_))
        self._text(self._x(lane), self._y + 15, words, class_)
        self._y += 28

    def _arrow(self, source: int, target: int, words: str, class_: str = "", *, reply: bool = False) -> None:
        left, right = self._x(source), self._x(target)
        # The label stays between two lanes, next to where the arrow comes from, however far the arrow goes.
        near = left + _GAP / 2 * (1 if right > left else -1)
        lines = self._lines(words, _GAP - 26)
        for number, line in enumerate(lines):
            self._text(near, self._y + 14 + _LINE * number, line, class_)
        self._y += _LINE * len(lines) + 6
        style = f"arrow {'reply ' if reply else ''}{class_}".strip()
        self._parts.append(tag("path", d=f"M{left:g} {self._y:g}H{right:g}", class_=style))
        back = right + (-8 if right > left else 8)
        head = f"M{right:g} {self._y:g}L{back:g} {self._y - 4:g}V{self._y + 4:g}Z"
        self._parts.append(tag("path", d=head, class_=f"head {class_}".strip()))
        self._y += 6

    def close(self) -> Markup:
        height = self._y + 16
        back: list[Markup] = []
        for number, name in enumerate(self._lanes):
            x = self._x(number)
            back.append(tag("path", d=f"M{x:g} 40V{height - 6:g}", class_="lane"))
            back.append(tag("rect", x=x - 62, y=8, width=124, height=32, rx=6, class_="lane-head"))
            back.append(tag("text", text(name), x=x, y=29, class_="lane-head", text_anchor="middle"))
        return _svg(self._width, height, "Sequence diagram of the shortest trace found", *back, *self._parts)


def _svg(width: float, height: float, label: str, *parts: Markup) -> Markup:
    return tag(
        "svg",
        *parts,
        viewBox=f"0 0 {width:g} {height:g}",
        width=width,
        height=height,
        role="img",
        aria_label=label,
    )


# --------------------------------------------------------------------------------------------------- state diagram

_NODE: Final = {
    State.IDLE: (110.0, 90.0),
    State.SENDING: (360.0, 90.0),
    State.DONE: (640.0, 90.0),
    State.FAILED: (360.0, 240.0),
    State.STICKY_FAILED: (640.0, 240.0),
}
_HALF_W: Final = 68.0
_HALF_H: Final = 22.0


@dataclass(frozen=True, slots=True)
class _Line:
    """An arrow: its path, where its head points (``right`` or ``down``), and where its label begins or is centred."""

    path: str
    head: tuple[float, float, str]
    label: tuple[float, float, str]


def _loop(state: State, *, above: bool) -> _Line:
    x, y = _NODE[state]
    side = -1 if above else 1
    edge, far = y + side * _HALF_H, y + side * 62
    path = f"M{x - 24:g} {edge:g}C{x - 34:g} {far:g} {x + 34:g} {far:g} {x + 24:g} {edge:g}"
    return _Line(path, (x + 24, edge, "down" if above else "up"), (x, y - 60 if above else y + 69, "middle"))


_LINES: Final = {
    (State.IDLE, State.SENDING): _Line("M178 90H292", (292, 90, "right"), (235, 82, "middle")),
    (State.IDLE, State.FAILED): _Line("M110 112V240H292", (292, 240, "right"), (201, 232, "middle")),
    (State.SENDING, State.SENDING): _loop(State.SENDING, above=True),
    (State.SENDING, State.DONE): _Line("M428 90H572", (572, 90, "right"), (500, 82, "middle")),
    (State.SENDING, State.FAILED): _Line("M360 112V218", (360, 218, "down"), (370, 170, "start")),
    (State.DONE, State.DONE): _loop(State.DONE, above=True),
    (State.FAILED, State.FAILED): _loop(State.FAILED, above=False),
    (State.FAILED, State.STICKY_FAILED): _Line("M428 240H572", (572, 240, "right"), (500, 232, "middle")),
    (State.STICKY_FAILED, State.STICKY_FAILED): _loop(State.STICKY_FAILED, above=False),
}
"""Where each arrow of NEXT goes. An arrow that is missing here is a KeyError, and a test draws them all."""


def machine(moments: Sequence[Moment] = (), clause: str = "") -> Markup:
    """The logical machine. The states that one room may have been in are marked, and the shortest ways between them."""
    states, ways, last = _walked(moments, clause)
    parts: list[Markup] = [tag("circle", cx=14, cy=90, r=6, class_="start"), tag("path", d="M20 90H34", class_="edge")]
    parts.append(_head((42, 90, "right"), "head"))
    for source, row in NEXT.items():
        events: dict[State, list[str]] = {}
        for event, target in row.items():
            if target is not None:
                events.setdefault(target, []).append(event.value)
        for target, names in events.items():
            line = _LINES[source, target]
            walked = " walked" if (source, target) in ways else ""
            x, y, anchor = line.label
            parts.append(tag("path", d=line.path, class_=f"edge{walked}"))
            parts.append(_head(line.head, f"head{walked}"))
            label = text(", ".join(names))
            parts.append(tag("text", label, x=x, y=y, text_anchor=anchor, class_=f"edge{walked}"))
    for state, (x, y) in _NODE.items():
        style = "node last" if state in last else "node walked" if state in states else "node"
        box = tag("rect", x=x - _HALF_W, y=y - _HALF_H, width=2 * _HALF_W, height=2 * _HALF_H, rx=10, class_=style)
        parts += [box, tag("text", text(state.value), x=x, y=y + 4, text_anchor="middle", class_=style)]
    return _svg(770, 322, "State diagram of the logical machine", *parts)


def _head(at: tuple[float, float, str], class_: str) -> Markup:
    x, y, way = at
    match way:
        case "right":
            path = f"M{x:g} {y:g}l-8 -4v8z"
        case "down":
            path = f"M{x:g} {y:g}l-4 -8h8z"
        case _:
            path = f"M{x:g} {y:g}l-4 8h8z"
    return tag("path", d=path, class_=class_)


def _walked(
    moments: Sequence[Moment], clause: str
) -> tuple[frozenset[State], frozenset[tuple[State, State]], frozenset[State]]:
    """The states that the room at fault may have been in, the arrows between them, and where it may be at the end."""
    concerned = [m for m in moments if m.incarnation is not None]
    at_fault = [m for m in concerned if any(violation.clause == clause for violation in m.violations)]
    if not concerned:
        return frozenset(), frozenset(), frozenset()
    room = (at_fault or concerned)[-1].incarnation
    now = frozenset({State.IDLE})
    seen: set[State] = set(now)
    ways: set[tuple[State, State]] = set()
    for moment in concerned:
        if moment.incarnation == room and moment.possible:
            after = frozenset(possible.state for possible in moment.possible)
            for target in after - now:
                ways |= _way(now, target)
            seen |= after | {state for way in ways for state in way}
            now = after
    return frozenset(seen), frozenset(ways), now


def _way(sources: frozenset[State], target: State) -> set[tuple[State, State]]:
    """The arrows of one shortest way. One poll may find a fault and report it, which is two arrows."""
    came_from: dict[State, State] = {}
    edge = [state for state in State if state in sources]
    while edge and target not in came_from:
        state = edge.pop(0)
        for following in NEXT[state].values():
            if following is not None and following not in sources and following not in came_from:
                came_from[following] = state
                edge.append(following)
    way: set[tuple[State, State]] = set()
    while target in came_from:
        way.add((came_from[target], target))
        target = came_from[target]
    return way
