"""The composed model, interpreted: slow and plain, and the yardstick of the explorer that generates code.

It takes the steps of ``model.steps`` one state at a time and looks at every handle by itself. It shares with the
generated explorer what a call does to the control of a room, and nothing of how handles are asked and steps are found.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, assert_never

from kvsender_spec.formal.explicit.owed import NEVER_REACHED, Step, owed
from kvsender_spec.formal.explicit.search import Exploration, Found, Tree
from kvsender_spec.formal.model.effects import BLAMES, OPEN
from kvsender_spec.formal.model.handles import IN_FLIGHT, SILENT, STRAY, Kind, Op, handle_ops
from kvsender_spec.formal.model.predicates import UNDECIDED
from kvsender_spec.formal.model.state import (
    EVERYBODY,
    Act,
    Action,
    At,
    AtHandle,
    AtPeer,
    Bounds,
    Everybody,
    ModelState,
    initial,
)
from kvsender_spec.formal.model.steps import BLAMED, CALLS, Call, chunk, posting
from kvsender_spec.formal.model.terms import TRUE, Atom, NoneOf, Scope, reduce
from kvsender_spec.formal.rules import Rules
from kvsender_spec.machine import Guard, Input, Reply


class Outcome(NamedTuple):
    """What one action came to."""

    reply: Reply
    after: ModelState
    seen: bytes = b""
    """The room's own handles at the time of the reply."""
    broken: str = ""
    """A clause that the step itself breaks: a forbidden input, or a second word to the peers."""


def victims(handles: Sequence[int], first: int, at: At, peers: int) -> frozenset[int]:
    """The places among ``handles`` (whose first one has the number ``first``) that raise when they are asked."""
    silent = frozenset(place for place, code in enumerate(handles) if code in SILENT)
    match at:
        case None:
            return frozenset()
        case AtHandle(number):
            return silent & {number - first}
        case AtPeer(peer):
            return frozenset(place for place in silent if (first + place) % peers == peer)
        case Everybody():
            return silent
        case _:
            assert_never(at)


def troubles(handles: Sequence[int], first: int, peers: int) -> tuple[At, ...]:
    """What may raise in one look at these handles: nothing, one handle, all of a peer's, all of every peer's."""
    silent = [first + place for place, code in enumerate(handles) if code in SILENT]
    lost = sorted({number % peers for number in silent})
    every = (EVERYBODY,) if len(lost) > 1 else ()
    return (None, *map(AtHandle, silent), *map(AtPeer, lost), *every)


class Model:
    """The steps of one set of rules at one bound."""

    def __init__(self, rules: Rules, bounds: Bounds) -> None:
        self.rules: Final = rules
        self.bounds: Final = bounds
        self.ops: Final = handle_ops(rules)

    def own(self, state: ModelState) -> bytes:
        """The handles of this incarnation of the room id."""
        return state.handles[state.control.base * self.bounds.peers :]

    def actions(self, state: ModelState) -> Iterator[Action]:
        """Everything that may happen next."""
        control = state.control
        for place, code in enumerate(state.handles):
            if code in SILENT:
                yield Action(Act.FINISH, AtHandle(place))
        # The caller has a chunk, and the sender hands it to the transport: otherwise send() asks for nothing.
        if not control.closed and control.posted < self.bounds.chunks and self.rules.posts(control.logical):
            ways = (None, *map(AtPeer, range(self.bounds.peers)))
            if control.posted + 1 < self.bounds.chunks:
                yield from (Action(Act.SEND, at) for at in ways)
            yield from (Action(Act.SEND_LAST, at) for at in ways)
        yield Action(Act.SEND_NOTHING)
        yield from self._polls(state)
        yield from (Action(act) for act in (Act.FAILURE_EXCEPTION, Act.ABORT, Act.CLEAR))
        if control.cleared and control.posted < self.bounds.chunks:
            yield Action(Act.OPEN)
        handles = state.handles[: control.swept * self.bounds.peers]
        if any(code in self.ops.due for code in handles):
            yield from (Action(Act.SWEEP, at) for at in troubles(handles, 0, self.bounds.peers))

    def _polls(self, state: ModelState) -> Iterator[Action]:
        """A deadline is tried where a row depends on it, a drain where the answer does."""
        own, logical = self.own(state), state.control.logical
        overdue = self.rules.minds(logical) and any(code in IN_FLIGHT for code in own)
        first = len(state.handles) - len(own)
        for at in troubles(own, first, self.bounds.peers) if self.rules.asks(logical) else (None,):
            for late in (False, True) if overdue and at is None else (False,):
                call = self._observed(state, Action(Act.POLL, at, late))
                rows = self.rules.rows_for(call.logical, Input.ANSWER)
                waits = any(row.guard is Guard.MAY_REPORT for row in rows) and not self._settled(call)
                yield from (Action(Act.POLL, at, late, drained) for drained in ((False, True) if waits else (False,)))

    def _settled(self, call: Call) -> bool:
        return not call.own.strip(self.ops.settled)

    def step(self, state: ModelState, action: Action) -> Outcome:
        """Take one action, which ``actions`` has named."""
        match action.act:
            case Act.FINISH:
                assert isinstance(action.at, AtHandle), action
                landing = bytearray(state.handles)
                landing[action.at.place] = self.ops[Op.FINISHED][landing[action.at.place]]
                return Outcome(Reply.NOTHING, state._replace(handles=bytes(landing)))
            case Act.SEND | Act.SEND_LAST:
                return self._send(state, action)
            case Act.POLL:
                call = self._observed(state, action)
                call.may_report = action.drained or self._settled(call)
                call.take(Input.ANSWER)
                return self._outcome(state, call, call.returns())
            case Act.SEND_NOTHING | Act.FAILURE_EXCEPTION | Act.ABORT | Act.CLEAR:
                call = self._call(state)
                if action.act in BLAMED:
                    call.blame()
                call.take(CALLS[action.act])
                return self._outcome(state, call, call.own)
            case Act.OPEN:
                call = Call(self.rules, self.ops, state.control, state.handles)
                call.change(OPEN)
                return Outcome(Reply.NOTHING, ModelState(call.control, call.own))
            case Act.SWEEP:
                swept = state.handles[: state.control.swept * self.bounds.peers]
                kept = self._asked(swept, 0, action).translate(self.ops[Op.RELEASED]).translate(self.ops[Op.FORGOTTEN])
                return Outcome(Reply.NOTHING, state._replace(handles=kept + state.handles[len(swept) :]))
            case _:
                assert_never(action.act)

    def _call(self, state: ModelState) -> Call:
        return Call(self.rules, self.ops, state.control, self.own(state))

    def _outcome(self, state: ModelState, call: Call, seen: bytes) -> Outcome:
        handles = state.handles[: len(state.handles) - len(seen)] + call.own
        return Outcome(call.reply, ModelState(call.control, handles), seen, call.broken)

    def _send(self, state: ModelState, action: Action) -> Outcome:
        call, peers = self._call(state), self.bounds.peers
        start = (call.posted - call.base) * peers
        own = bytearray(call.own)
        own[start : start + peers] = chunk(self.ops, self.bounds, action)
        call.own = bytes(own)
        call.posted += 1
        if action.at is not None:
            call.blame()
        call.take(posting(action))
        seen = call.own
        if not call.adopted:
            call.own = seen[:start] + bytes([STRAY] * peers) + seen[start + peers :]
        return self._outcome(state, call, seen)

    def _asked(self, handles: bytes, first: int, action: Action) -> bytes:
        """What these handles are once they have been asked, and those that the action names have raised."""
        raised = victims(handles, first, action.at, self.bounds.peers)
        return bytes(self.ops[Op.FAILING if n in raised else Op.ANSWERING][code] for n, code in enumerate(handles))

    def _observed(self, state: ModelState, action: Action) -> Call:
        """The first half of a poll: the handles are asked, and the room makes of it what the rows say."""
        call = self._call(state)
        if self.rules.asks(call.logical):
            call.own = self._asked(call.own, len(state.handles) - len(call.own), action)
            call.deadline_passed, call.error_seen = action.late, action.at is not None
            call.all_done = call.closed and not any(code in Kind.UNDONE.value for code in call.own)
        if call.holds(BLAMES):
            call.blame()
        call.take(Input.OBSERVE)
        return call


def broken_by(model: Model, state: ModelState, action: Action, outcome: Outcome) -> Iterator[tuple[str, str]]:
    """The clause and the text of each property that this step does not satisfy."""
    if outcome.broken:
        yield outcome.broken, UNDECIDED
    step = Step.of(model.rules, state.control, action, outcome.reply, outcome.after.control)
    handles = {(Scope.OWN, True): model.own(state), (Scope.REPLY, False): outcome.seen}

    def known(atom: Atom, before: bool) -> bool:
        assert isinstance(atom, NoneOf), atom
        return not any(code in atom.kind.value for code in handles[atom.scope, before])

    for rule in owed(step):
        if reduce(rule.term, known) is not TRUE:
            yield rule.name, rule.text
    for rule, never in NEVER_REACHED:
        if any(code in never for code in outcome.after.handles):
            yield rule.name, rule.text


def explore(rules: Rules, bounds: Bounds, *, first_only: bool = False) -> Exploration:
    """Search everything; with ``first_only`` end at the first violation."""
    model = Model(rules, bounds)
    result = Exploration(bounds)
    start = initial(bounds)
    numbers = {start: 0}
    tree = Tree([0], [None])
    todo = deque([start])
    known: set[str] = set()
    while todo:
        state = todo.popleft()
        number = numbers[state]
        for action in model.actions(state):
            outcome = model.step(state, action)
            result.transitions += 1
            for clause, text in broken_by(model, state, action, outcome):
                if clause not in known:
                    known.add(clause)
                    result.found.append(Found(clause, text, (*tree.way(number), action)))
            if first_only and result.found:
                result.states = len(numbers)
                return result
            if outcome.after not in numbers:
                numbers[outcome.after] = len(numbers)
                tree.parents.append(number)
                tree.actions.append(action)
                todo.append(outcome.after)
    result.states = len(numbers)
    return result
