"""Writes the composed model as Python code: one straight-line function for each control point.

A control point is a state without its handles. Everything that depends on it alone is decided while the code is
written: which rows apply, what their effects come to, which properties hold whatever the handles are. What is left is
a few ``bytes`` operations and the conditions on handles. A test compares the graph and the violations with those of the
interpreted explorer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from typing import Final, TypeAlias

from kvsender_spec.formal.explicit.owed import NEVER_REACHED, Step, owed
from kvsender_spec.formal.model.effects import BLAMES, OPEN
from kvsender_spec.formal.model.handles import IN_FLIGHT, SILENT, STRAY, Kind, Op, handle_ops
from kvsender_spec.formal.model.predicates import UNDECIDED
from kvsender_spec.formal.model.state import EVERYBODY, Act, Action, At, AtHandle, AtPeer, Bounds, Control, ModelState
from kvsender_spec.formal.model.steps import BLAMED, CALLS, Call, chunk, posting
from kvsender_spec.formal.model.terms import Atom, NoneOf, Scope, Text
from kvsender_spec.formal.rules import Rules
from kvsender_spec.machine import Guard, Input, Reply

Function: TypeAlias = Callable[[bytes], "list[tuple[int, int, bytes]]"]
"""From the handles of one control point: (number of the action, number of the next control point, its handles)."""

_ANYTHING: Final = bytes(range(256))


def without(codes: bytes) -> bytes:
    return bytes(set(_ANYTHING) - set(codes))


class _Code(Text):
    """A term about handles as Python. ``seen`` names those at the time of the reply; ``o`` are the ones before."""

    def __init__(self, const: Callable[[bytes], str], seen: str) -> None:
        self._const: Final = const
        self._seen: Final = seen

    def atom(self, atom: Atom, before: bool) -> str:
        """What is left after all other codes are deleted is empty."""
        assert isinstance(atom, NoneOf), atom
        assert before == (atom.scope is Scope.OWN), atom
        return f"(not {'o' if before else self._seen}.translate(None, {self._const(without(atom.kind.value))}))"


class _Writer:
    """Writes the function of one control point. Its constants go into ``space``."""

    def __init__(self, graph: Generated, control: Control) -> None:
        self.graph: Final = graph
        self.rules: Final = graph.rules
        self.ops: Final = graph.ops
        self.control: Final = control
        self.peers: Final = graph.bounds.peers
        self.first: Final = control.base * self.peers
        self.lines: list[str] = []
        self.depth = 1

    def write(self) -> str:
        self.line(f"o = h[{self.first}:]" if self.first else "o = h")
        self._finish()
        self._sends()
        self._call(Act.SEND_NOTHING)
        self._polls()
        for act in (Act.FAILURE_EXCEPTION, Act.ABORT, Act.CLEAR):
            self._call(act)
        self._open()
        self._sweeps()
        self.line("return r")
        return "\n".join(["def step(h):", "    r = []", *self.lines, ""])

    # -- pieces

    def line(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        self.line(f"{head}:")
        self.depth += 1
        yield
        self.depth -= 1

    def const(self, value: bytes) -> str:
        return self.graph.const(value)

    def op(self, *ops: Op) -> str:
        """One operation after the other, as one map."""
        table = _ANYTHING
        for op in ops:
            table = table.translate(self.ops[op])
        return self.const(table)

    def some(self, handles: str, codes: bytes) -> str:
        """That some of these handles have one of these codes."""
        return f"{handles}.translate(None, {self.const(without(codes))})"

    def begin(self) -> Call:
        """A call, with a map for the room's own handles."""
        return Call(self.rules, self.ops, self.control, _ANYTHING)

    def mapped(self, handles: str, call: Call) -> str:
        return handles if call.own == _ANYTHING else f"{handles}.translate({self.const(call.own)})"

    def old(self, own: str) -> str:
        """All handles, once the room's own are ``own``."""
        return f"h[:{self.first}] + {own}" if self.first else own

    def emit(self, action: Action, after: str, call: Call | None = None, seen: str = "b''") -> None:
        """One step, and what it breaks: decided as far as its control goes, then written as conditions on handles."""
        number = self.graph.action(action)
        control, reply = (self.control, Reply.NOTHING) if call is None else (call.control, call.reply)
        step = Step.of(self.rules, self.control, action, reply, control)
        if call is not None and call.broken:
            self.line(f"bad({call.broken!r}, {UNDECIDED!r}, h, {number})")
        code = _Code(self.const, seen)
        for rule in owed(step):
            self.line(f"if not {code.of(rule.term)}: bad({rule.name!r}, {rule.text!r}, h, {number})")
        self.line(f"r.append(({number}, {self.graph.number(control)}, {after}))")

    # -- the transport

    def _finish(self) -> None:
        for place in range(self.graph.bounds.handles):
            with self.block(f"if h[{place}] in {self.const(SILENT)}"):
                landed = f"h[{place}:{place + 1}].translate({self.op(Op.FINISHED)})"
                self.emit(Action(Act.FINISH, AtHandle(place)), f"h[:{place}] + {landed} + h[{place + 1}:]")

    # -- the caller

    def _sends(self) -> None:
        control, chunks = self.control, self.graph.bounds.chunks
        if control.closed or control.posted >= chunks or not self.rules.posts(control.logical):
            return
        for act in (Act.SEND, Act.SEND_LAST) if control.posted + 1 < chunks else (Act.SEND_LAST,):
            for at in (None, *map(AtPeer, range(self.peers))):
                self._send(Action(act, at))

    def _send(self, action: Action) -> None:
        call = self.begin()
        call.posted += 1
        if action.at is not None:
            call.blame()
        call.take(posting(action))
        start = (self.control.posted - self.control.base) * self.peers
        fresh = (
            chunk(self.ops, self.graph.bounds, action).translate(call.own)
            if call.adopted
            else bytes([STRAY] * self.peers)
        )
        before, behind = self.mapped(f"o[:{start}]", call), self.mapped(f"o[{start + self.peers}:]", call)
        self.line(f"t = {before} + {self.const(fresh)} + {behind}")
        self.emit(action, self.old("t"), call, "t")

    def _call(self, act: Act) -> None:
        call = self.begin()
        if act in BLAMED:
            call.blame()
        call.take(CALLS[act])
        self.line(f"t = {self.mapped('o', call)}")
        self.emit(Action(act), self.old("t"), call, "t")

    def _open(self) -> None:
        if self.control.cleared and self.control.posted < self.graph.bounds.chunks:
            call = self.begin()
            call.change(OPEN)
            self.emit(Action(Act.OPEN), self.mapped("h", call), call)

    # -- poll

    def _polls(self) -> None:
        if not self.rules.asks(self.control.logical):
            self.line("t = o")
            self._conclude(Action(Act.POLL))
            return
        self.line(f"a = o.translate({self.op(Op.ANSWERING)})")
        self.line("t = a")
        self._conclude(Action(Act.POLL))
        if self.rules.minds(self.control.logical):
            with self.block(f"if {self.some('o', IN_FLIGHT)}"):
                self.line("t = a")
                self._conclude(Action(Act.POLL, late=True))

        def poll(at: At) -> None:
            self._conclude(Action(Act.POLL, at))

        self._troubles("o", self.first, self.graph.bounds.handles, self.op(Op.FAILING), poll)

    def _troubles(self, source: str, first: int, end: int, fail: str, conclude: Callable[[At], None]) -> None:
        """What may raise in one look at ``source``; ``a`` is what the same look makes of it if nothing does."""
        for place in range(end - first):
            with self.block(f"if {source}[{place}] in {self.const(SILENT)}"):
                one = f"{source}[{place}:{place + 1}].translate({fail})"
                self.line(f"t = a[:{place}] + {one} + a[{place + 1}:]")
                conclude(AtHandle(first + place))
        # The first place of ``source`` is the first peer's: whole chunks were posted before it.
        shares = [f"{source}[{peer}::{self.peers}]" for peer in range(self.peers)]
        for peer, share in enumerate(shares):
            with self.block(f"if {self.some(share, SILENT)}"):
                self.line("x = bytearray(a)")
                self.line(f"x[{peer}::{self.peers}] = {share}.translate({fail})")
                self.line("t = bytes(x)")
                conclude(AtPeer(peer))
        if self.peers > 1:
            with self.block(f"if {' + '.join(f'bool({self.some(share, SILENT)})' for share in shares)} > 1"):
                self.line(f"t = {source}.translate({fail})")
                conclude(EVERYBODY)

    def _conclude(self, action: Action) -> None:
        """The handles ``t`` have been asked: what the room makes of it, and what the caller is told."""
        if not self.control.closed or not self.rules.asks(self.control.logical):
            self._observed(action, all_done=False)
            return
        with self.block(f"if not {self.some('t', Kind.UNDONE.value)}"):
            self._observed(action, all_done=True)
        with self.block("else"):
            self._observed(action, all_done=False)

    def _observed(self, action: Action, *, all_done: bool) -> None:
        call = self.begin()
        call.error_seen, call.all_done, call.deadline_passed = action.at is not None, all_done, action.late
        if call.holds(BLAMES):
            call.blame()
        call.take(Input.OBSERVE)
        self.line(f"u = {self.mapped('t', call)}")
        call.own = _ANYTHING
        if not any(row.guard is Guard.MAY_REPORT for row in self.rules.rows_for(call.logical, Input.ANSWER)):
            self._answered(action, call, may_report=False)
            return
        with self.block(f"if not {self.some('u', without(self.ops.settled))}"):
            self._answered(action, call, may_report=True)
        with self.block("else"):
            self._answered(action, call, may_report=False)
            self._answered(action._replace(drained=True), call, may_report=True)

    def _answered(self, action: Action, observed: Call, *, may_report: bool) -> None:
        call = copy(observed)
        call.may_report = may_report
        call.take(Input.ANSWER)
        self.line(f"v = {self.mapped('u', call)}")
        call.own = _ANYTHING
        call.returns()
        self.emit(action, self.old(self.mapped("v", call)), call, "v")

    # -- the system

    def _sweeps(self) -> None:
        swept = self.control.swept * self.peers
        if not swept:
            return
        self.line(f"s = h[:{swept}]")
        self.line(f"e = h[{swept}:]")
        with self.block(f"if {self.some('s', self.ops.due)}"):
            self.line(f"a = s.translate({self.op(Op.ANSWERING, Op.RELEASED, Op.FORGOTTEN)})")
            self.line("t = a")
            self._sweep(None)
            self._troubles("s", 0, swept, self.op(Op.FAILING, Op.RELEASED, Op.FORGOTTEN), self._sweep)

    def _sweep(self, at: At) -> None:
        self.emit(Action(Act.SWEEP, at), "t + e")


class Generated:
    """The graph of one set of rules at one bound. Functions are written when their control point is first reached."""

    def __init__(self, rules: Rules, bounds: Bounds) -> None:
        self.bounds: Final = bounds
        self.rules: Final = rules
        self.ops: Final = handle_ops(rules)
        self.controls: list[Control] = []
        self.actions: list[Action] = []
        self.broken: dict[str, tuple[str, int, bytes, int]] = {}
        """By clause: the text of the property, and the control point, handles and action of the first step."""
        self._steps: list[Function | None] = []
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

    def step(self, number: int) -> Function:
        """The function of one control point."""
        written = self._steps[number]
        if written is None:
            source = _Writer(self, self.controls[number]).write()

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
        for rule, never in NEVER_REACHED:
            if found.translate(None, without(never)):
                self.broken.setdefault(rule.name, (rule.text, control, handles, action))

    def follow(self, state: ModelState, action: Action) -> ModelState:
        """Where an action leads. Raises KeyError where it is not possible."""
        number = self.number(state.control)
        steps = {
            self.actions[taken]: self.state(to, handles) for taken, to, handles in self.step(number)(state.handles)
        }
        return steps[action]

    def state(self, number: int, handles: bytes) -> ModelState:
        return ModelState(self.controls[number], handles)
