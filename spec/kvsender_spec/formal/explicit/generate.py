"""Writes the composed model as Python code and explores that: one straight-line function for each control point.

A control point is a state without its handles. Everything that depends on it alone is decided while the code is
written: which rows apply, what their effects come to, which properties hold whatever the handles are. What is left is
a few ``bytes`` operations and the conditions on handles. The rows and effects are lowered here a second time, on
purpose: the interpreted explorer and this one must have the same graph and find the same violations.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias, assert_never

from kvsender_spec.formal.explicit.explore import Exploration, Found, Tree
from kvsender_spec.formal.model.handles import (
    CREATED,
    DONE,
    IN_FLIGHT,
    NONE,
    SILENT,
    STRAY,
    UNSETTLED,
    HandleOps,
    handle_ops,
)
from kvsender_spec.formal.model.predicates import PROPERTIES, STATE_PROPERTIES, UNDECIDED, Control, Taken, Where
from kvsender_spec.formal.model.state import (
    EVERYBODY,
    NOBODY,
    Act,
    Action,
    Bounds,
    Cause,
    ModelState,
    Told,
    TooLarge,
    lost_peer,
)
from kvsender_spec.formal.rules import Rules
from kvsender_spec.machine import LATCHED, Effect, Guard, Input, Reply, Row, State

Step: TypeAlias = Callable[[bytes], "list[tuple[int, int, bytes]]"]
"""From the handles of one control point: (number of the action, number of the next control point, its handles)."""

_ANYTHING: Final = bytes(range(256))
_IDENTITY: Final = _ANYTHING


def _without(codes: bytes) -> bytes:
    return bytes(set(_ANYTHING) - set(codes))


@dataclass(frozen=True, slots=True)
class _Came:
    """What a row has come to: the next control point, the reply, and a map for the room's own handles."""

    control: Control
    reply: Reply
    own: bytes
    adopted: bool = False
    broken: str = ""


class _Lowering:
    """The rows of one set of rules, applied to a control point."""

    def __init__(self, rules: Rules) -> None:
        self.rules: Final = rules
        self.ops: Final = handle_ops(rules)

    def row(self, source: State, what: Input, facts: frozenset[Guard]) -> Row | None:
        """The row that decides this, or None where the pair is forbidden."""
        if self.rules.breaks(source, what) is not None:
            return None
        for row in self.rules.rows_for(source, what):
            match row.guard:
                case None:
                    return row
                case Guard.ERROR_SEEN | Guard.ALL_DONE | Guard.DEADLINE_PASSED | Guard.MAY_REPORT:
                    if row.guard in facts:
                        return row
                case _:
                    assert_never(row.guard)
        raise AssertionError(f"no row for {what.value} in {source.value}")

    def take(self, control: Control, what: Input, facts: frozenset[Guard], latches: Cause) -> _Came:
        row = self.row(control.logical, what, facts)
        if row is None:
            return _Came(control, Reply.NOTHING, _IDENTITY, broken=self.rules.breaks(control.logical, what) or "")
        own, adopted, broken = _IDENTITY, False, ""
        for effect in row.effects:
            match effect:
                case Effect.ADOPT:
                    adopted = True
                case Effect.CLOSE:
                    control = control._replace(closed=True)
                case Effect.LATCH:
                    control = control if control.cause else control._replace(cause=latches)
                case Effect.RELEASE:
                    own = own.translate(self.ops.release)
                case Effect.QUARANTINE:
                    control, own = control._replace(quarantined=True), own.translate(self.ops.overdue)
                case Effect.TELL_SUCCESS:
                    broken = broken or ("KS-6.1" if control.told else "")
                    control = control._replace(told=Told.SUCCESS)
                case Effect.TELL_FAILURE:
                    broken = broken or ("KS-6.1" if control.told else "")
                    control = control._replace(told=Told.FAILURE)
                case Effect.FORGET:
                    control = control._replace(cleared=True)
                case _:
                    assert_never(effect)
        dest = self.rules.destination(control.logical, row.event)
        assert dest is not None, row
        control = control._replace(logical=dest, closed=control.closed and dest not in LATCHED)
        return _Came(control, row.reply, own, adopted, broken)


def _blamed(control: Control) -> tuple[Control, Cause]:
    if control.said is Told.NOTHING and not control.faulted:
        return control._replace(faulted=True), Cause.FIRST
    return control, Cause.LATER


class _Writer:
    """Writes the function of one control point. Its constants go into ``space``."""

    def __init__(self, graph: Generated, control: Control) -> None:
        self.graph: Final = graph
        self.rules: Final = graph.lowering.rules
        self.ops: Final[HandleOps] = graph.lowering.ops
        self.control: Final = control
        self.peers: Final = graph.bounds.peers
        self.total: Final = graph.bounds.handles
        self.first: Final = control.base * self.peers
        self.lines: list[str] = []
        self.depth = 1

    def line(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    def write(self) -> str:
        self.line(f"o = h[{self.first}:]" if self.first else "o = h")
        for part in (self._finish, self._sends, self._nothing, self._polls, self._others, self._open, self._sweeps):
            part()
        self.line("return r")
        return "\n".join(["def step(h):", "    r = []", *self.lines, ""])

    # -- pieces

    def const(self, value: bytes) -> str:
        return self.graph.const(value)

    def old(self, own: str) -> str:
        """All handles, once the room's own are ``own``."""
        return f"h[:{self.first}] + {own}" if self.first else own

    def emit(
        self,
        action: Action,
        came: _Came,
        *,
        after: str,
        seen: str,
        posted: int = 0,
        asks: bool = False,
    ) -> None:
        """One step: judged as far as its control goes, then written, with the conditions that are left."""
        number = self.graph.action(action)
        taken = Taken(self.control, action.act, action.at, action.late, came.reply, posted, asks, came.control)
        if came.broken:
            self.line(f"bad({came.broken!r}, {UNDECIDED!r}, h, {number})")
        names = ("o", seen)
        for rule in PROPERTIES:
            verdict = rule.judge(taken)
            if not verdict.broken and not verdict.conditions:
                continue
            tests = [self._clean(where, names, holds=True) for where in verdict.premises]
            if not verdict.broken:
                tests.append(" or ".join(self._clean(where, names, holds=False) for where in verdict.conditions))
            self.line(f"if {' and '.join(f'({test})' for test in tests) or 'True'}:")
            self.line(f"    bad({rule.clause!r}, {rule.text!r}, h, {number})")
        self.line(f"r.append(({number}, {self.graph.number(came.control)}, {after}))")

    def _clean(self, where: Where, names: tuple[str, str], *, holds: bool) -> str:
        """That no code of ``where.never`` is there: what is left after all others are deleted is empty."""
        rest = f"{names[where.seen]}.translate(None, {self.const(_without(where.never))})"
        return f"not {rest}" if holds else rest

    # -- the transport

    def _finish(self) -> None:
        for place in range(self.total):
            self.line(f"if h[{place}] in {self.const(SILENT)}:")
            finish = self.const(self.ops.finish)
            self.depth += 1
            same = _Came(self.control, Reply.NOTHING, _IDENTITY)
            after = f"h[:{place}] + h[{place}:{place + 1}].translate({finish}) + h[{place + 1}:]"
            self.emit(Action(Act.FINISH, place), same, after=after, seen="b''")
            self.depth -= 1

    # -- the owner

    def _sends(self) -> None:
        control, chunks = self.control, self.graph.bounds.chunks
        if control.closed or control.posted >= chunks or not self.rules.posts(control.logical):
            return
        acts = [Act.SEND] if control.posted + 1 < chunks else []
        for act in (*acts, Act.SEND_LAST):
            for at in range(NOBODY, self.peers):
                self._send(Action(act, at))

    def _send(self, action: Action) -> None:
        chunk = bytearray([self.ops.accepted] * self.peers)
        control = self.control._replace(posted=self.control.posted + 1)
        if action.at == NOBODY:
            what = Input.SEND_LAST_ACCEPTED if action.act is Act.SEND_LAST else Input.SEND_ACCEPTED
            latches = Cause.NONE
        else:
            what = Input.SEND_REJECTED
            chunk[action.at :] = bytes([self.ops.rejected] + [CREATED] * (self.peers - action.at - 1))
            control, latches = _blamed(control)
        came = self.graph.lowering.take(control, what, frozenset(), latches)
        start = (self.control.posted - self.control.base) * self.peers
        fresh = bytes(chunk).translate(came.own) if came.adopted else bytes([STRAY] * self.peers)
        before, behind = f"o[:{start}]", f"o[{start + self.peers}:]"
        if came.own != _IDENTITY:
            before, behind = (f"{part}.translate({self.const(came.own)})" for part in (before, behind))
        self.line(f"t = {before} + {self.const(fresh)} + {behind}")
        self.emit(action, came, after=self.old("t"), seen="t", posted=self.peers)

    def _simple(self, act: Act, what: Input, control: Control, latches: Cause = Cause.NONE) -> None:
        came = self.graph.lowering.take(control, what, frozenset(), latches)
        self.line("t = o" if came.own == _IDENTITY else f"t = o.translate({self.const(came.own)})")
        self.emit(Action(act), came, after=self.old("t"), seen="t")

    def _nothing(self) -> None:
        self._simple(Act.SEND_NOTHING, Input.SEND_NOTHING, self.control)

    def _others(self) -> None:
        self._simple(Act.FAILURE_EXCEPTION, Input.FAILURE_EXCEPTION, self.control)
        for act, what in ((Act.ABORT, Input.ABORT), (Act.CLEAR, Input.CLEAR)):
            control, latches = _blamed(self.control)
            self._simple(act, what, control, latches)

    def _open(self) -> None:
        control = self.control
        if control.cleared and control.posted < self.graph.bounds.chunks:
            posted = control.posted
            unused = (False, False, False, False)
            fresh = Control(State.IDLE, Cause.NONE, *unused, posted, posted, Told.NOTHING, Told.NOTHING)
            late = self.const(self.ops.overdue.translate(self.ops.forget))
            self.emit(
                Action(Act.OPEN), _Came(fresh, Reply.NOTHING, _IDENTITY), after=f"h.translate({late})", seen="b''"
            )

    # -- poll

    def _polls(self) -> None:
        if not self.rules.asks(self.control.logical):
            self.line("t = o")
            self._conclude(Action(Act.POLL), frozenset(), asks=False)
            return
        answer, fail, silent = self.const(self.ops.answer), self.const(self.ops.fail), self.const(SILENT)
        self.line(f"a = o.translate({answer})")
        self.line("t = a")
        self._conclude(Action(Act.POLL), frozenset(), asks=True)
        rows = self.rules.rows_for(self.control.logical, Input.OBSERVE)
        if any(row.guard is Guard.DEADLINE_PASSED for row in rows):
            self.line(f"if o.translate(None, {self.const(_without(IN_FLIGHT))}):")
            self.depth += 1
            self.line("t = a")
            self._conclude(Action(Act.POLL, late=True), frozenset({Guard.DEADLINE_PASSED}), asks=True)
            self.depth -= 1
        self._troubles("o", self.first, self.total, silent, fail, lambda at: Action(Act.POLL, at))

    def _troubles(
        self, source: str, first: int, end: int, silent: str, fail: str, action: Callable[[int], Action]
    ) -> None:
        """What may raise in one look at ``source``; ``a`` is what the same look makes of it if nothing does."""
        error = frozenset({Guard.ERROR_SEEN})

        def concluded(at: int) -> None:
            if action(at).act is Act.POLL:
                self._conclude(action(at), error, asks=True)
            else:
                self._swept(action(at))

        for place in range(end - first):
            self.line(f"if {source}[{place}] in {silent}:")
            self.depth += 1
            one = f"{source}[{place}:{place + 1}].translate({fail})"
            self.line(f"t = a[:{place}] + {one} + a[{place + 1}:]")
            concluded(first + place)
            self.depth -= 1
        for peer in range(self.peers):
            # The first place of ``source`` is the first peer's: whole chunks were posted before it.
            share = f"{source}[{peer}::{self.peers}]"
            self.line(f"if {share}.translate(None, {self.const(_without(SILENT))}):")
            self.depth += 1
            self.line("x = bytearray(a)")
            self.line(f"x[{peer}::{self.peers}] = {share}.translate({fail})")
            self.line("t = bytes(x)")
            concluded(lost_peer(peer))
            self.depth -= 1
        if self.peers > 1:
            rest = (
                f"bool({source}[{p}::{self.peers}].translate(None, {self.const(_without(SILENT))}))"
                for p in range(self.peers)
            )
            self.line(f"if {' + '.join(rest)} > 1:")
            self.depth += 1
            self.line(f"t = {source}.translate({fail})")
            concluded(EVERYBODY)
            self.depth -= 1

    def _conclude(self, action: Action, facts: frozenset[Guard], *, asks: bool) -> None:
        """The handles ``t`` have been asked: what the room makes of it, and what the owner is told."""
        if self.control.closed and asks:
            self.line(f"if not t.translate(None, {self.const(DONE + bytes([NONE]))}):")
            self.depth += 1
            self._observed(action, facts | {Guard.ALL_DONE}, asks=asks)
            self.depth -= 1
            self.line("else:")
            self.depth += 1
            self._observed(action, facts, asks=asks)
            self.depth -= 1
        else:
            self._observed(action, facts, asks=asks)

    def _observed(self, action: Action, facts: frozenset[Guard], *, asks: bool) -> None:
        control, latches = self.control, Cause.NONE
        if Guard.ERROR_SEEN in facts or (action.late and Guard.ALL_DONE not in facts):
            control, latches = _blamed(control)
        observed = self.graph.lowering.take(control, Input.OBSERVE, facts, latches)
        own = "t"
        if observed.own != _IDENTITY:
            self.line(f"u = t.translate({self.const(observed.own)})")
            own = "u"
        rows = self.rules.rows_for(observed.control.logical, Input.ANSWER)
        if not any(row.guard is Guard.MAY_REPORT for row in rows):
            self._answered(action, observed, own, frozenset(), asks=asks)
            return
        may = frozenset({Guard.MAY_REPORT})
        self.line(f"if not {own}.translate(None, {self.const(self.ops.settled)}):")
        self.depth += 1
        self._answered(action, observed, own, may, asks=asks)
        self.depth -= 1
        self.line("else:")
        self.depth += 1
        self._answered(action, observed, own, frozenset(), asks=asks)
        self._answered(action._replace(drained=True), observed, own, may, asks=asks)
        self.depth -= 1

    def _answered(self, action: Action, observed: _Came, own: str, facts: frozenset[Guard], *, asks: bool) -> None:
        answered = self.graph.lowering.take(observed.control, Input.ANSWER, facts, Cause.NONE)
        control, seen = answered.control, own
        if answered.own != _IDENTITY:
            self.line(f"v = {own}.translate({self.const(answered.own)})")
            seen = "v"
        if control.said is Told.NOTHING:
            said = {Reply.SUCCESS: Told.SUCCESS, Reply.FAILED: Told.FAILURE}.get(answered.reply, Told.NOTHING)
            control = control._replace(said=said)
        after = seen
        if control.said is not Told.NOTHING:
            after = f"{seen}.translate({self.const(self.ops.forget)})"
        came = _Came(control, answered.reply, _IDENTITY, broken=observed.broken or answered.broken)
        self.emit(action, came, after=self.old(after), seen=seen, asks=asks)

    # -- the system

    def _sweeps(self) -> None:
        over = self.control.cleared or self.control.said is not Told.NOTHING
        swept = (self.control.posted if over else self.control.base) * self.peers
        if not swept:
            return
        due = bytes(code for code in range(256) if code in UNSETTLED or self.ops.release[code] != code)
        settle = self.ops.release.translate(self.ops.forget)
        self.line(f"s = h[:{swept}]")
        self.line(f"e = h[{swept}:]")
        self.line(f"if s.translate(None, {self.const(_without(due))}):")
        self.depth += 1
        self.line(f"a = s.translate({self.const(self.ops.answer.translate(settle))})")
        self.line("t = a")
        self._swept(Action(Act.SWEEP))
        fail = self.const(self.ops.fail.translate(settle))
        self._troubles("s", 0, swept, self.const(SILENT), fail, lambda at: Action(Act.SWEEP, at))
        self.depth -= 1

    def _swept(self, action: Action) -> None:
        self.emit(action, _Came(self.control, Reply.NOTHING, _IDENTITY), after="t + e", seen="b''")


class Generated:
    """The graph of one set of rules at one bound. Functions are written when their control point is first reached."""

    def __init__(self, rules: Rules, bounds: Bounds) -> None:
        self.bounds: Final = bounds
        self.lowering: Final = _Lowering(rules)
        self.controls: list[Control] = []
        self.actions: list[Action] = []
        self.broken: dict[str, tuple[str, int, bytes, int]] = {}
        """By clause: the text of the property, and the control point, handles and action of the first step."""
        self._steps: list[Step | None] = []
        self._numbers: dict[Control, int] = {}
        self._action_numbers: dict[Action, int] = {}
        self._names: dict[bytes, str] = {}

    def const(self, value: bytes) -> str:
        return self._names.setdefault(value, f"K{len(self._names)}")

    def number(self, control: Control) -> int:
        if control not in self._numbers:
            self._numbers[control] = len(self.controls)
            self.controls.append(control)
            self._steps.append(None)
        return self._numbers[control]

    def action(self, action: Action) -> int:
        if action not in self._action_numbers:
            self._action_numbers[action] = len(self.actions)
            self.actions.append(action)
        return self._action_numbers[action]

    def source(self, number: int) -> str:
        """The code for one control point."""
        return _Writer(self, self.controls[number]).write()

    def step(self, number: int) -> Step:
        """The function of one control point."""
        written = self._steps[number]
        if written is None:
            source = self.source(number)

            def bad(clause: str, text: str, handles: bytes, action: int) -> None:
                self.broken.setdefault(clause, (text, number, handles, action))

            space: dict[str, object] = {name: value for value, name in self._names.items()}
            space["bad"] = bad
            exec(compile(source, f"<control point {number}>", "exec"), space)
            step = space["step"]
            assert callable(step)
            written = self._steps[number] = step
        return written

    def note_state(self, found: bytes, control: int, handles: bytes, action: int) -> None:
        """A step from ``handles`` has led to handles with codes that no handle may have."""
        for clause, text, never in STATE_PROPERTIES:
            if found.translate(None, _without(never)):
                self.broken.setdefault(clause, (text, control, handles, action))

    def state(self, number: int, handles: bytes) -> ModelState:
        return ModelState(*self.controls[number], handles)


@dataclass(slots=True)
class Graph:
    """What was reached: states by number, and, if asked for, every edge as (action, to)."""

    generated: Generated
    controls: list[int]
    handles: list[bytes]
    edges: list[list[tuple[int, int]]]
    tree: Tree

    def states(self) -> Iterator[ModelState]:
        return (self.generated.state(c, h) for c, h in zip(self.controls, self.handles, strict=True))


MOST_STATES: Final = 6_000_000
"""About 2 GiB. A bound that has more is refused while it is explored, and nothing is left of it."""


def explore_generated(
    rules: Rules, bounds: Bounds, *, first_only: bool = False, keep_edges: bool = False
) -> tuple[Exploration, Graph]:
    """Search everything with generated code. Raises TooLarge where the memory would not do."""
    started = time.process_time()
    generated = Generated(rules, bounds)
    start = generated.number(
        Control(State.IDLE, Cause.NONE, False, False, False, False, 0, 0, Told.NOTHING, Told.NOTHING)
    )
    handles: list[bytes] = [bytes(bounds.handles)]
    controls = [start]
    numbers: dict[tuple[int, bytes], int] = {(start, handles[0]): 0}
    parents, actions = [-1], [-1]
    edges: list[list[tuple[int, int]]] = []
    transitions = 0
    harmless = _without(b"".join(never for _, _, never in STATE_PROPERTIES))
    here = 0
    while here < len(handles) and not (first_only and generated.broken):
        out = generated.step(controls[here])(handles[here])
        transitions += len(out)
        targets: list[tuple[int, int]] = []
        for action, control, after in out:
            key = (control, after)
            to = numbers.get(key)
            if to is None:
                to = numbers[key] = len(handles)
                controls.append(control)
                handles.append(after)
                parents.append(here)
                actions.append(action)
                if after.translate(None, harmless):
                    generated.note_state(after, controls[here], handles[here], action)
            if keep_edges:
                targets.append((action, to))
        if keep_edges:
            edges.append(targets)
        here += 1
        if len(handles) > MOST_STATES:
            raise TooLarge(f"{bounds} has more than {MOST_STATES} states; 4x2 and 3x2 fit")
    tree = Tree()
    tree.parents = parents
    tree.actions = [None if action < 0 else generated.actions[action] for action in actions]
    result = Exploration(bounds, len(handles), transitions)
    for clause, (text, control, at, action) in generated.broken.items():
        way = tree.way(numbers[control, at])
        result.found.append(Found(clause, text, (*way, generated.actions[action])))
    result.seconds = time.process_time() - started
    return result, Graph(generated, controls, handles, edges, tree)
