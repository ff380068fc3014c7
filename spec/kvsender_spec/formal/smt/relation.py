"""The composed model with handles counted instead of listed, as a transition relation in z3's language.

A room with any number of chunks and peers has, in this abstraction, finitely many facts about itself and two counters
for each kind of handle: one for its own handles and one for those of earlier incarnations of the room id. How many
chunks and peers there are is a symbol. Handles are made ``peers`` at a time, so no two symbols are ever multiplied.

A transition is a guard and, for each component, its value afterwards as a term over the values before and over what
the world chooses. It is lowered from the same tables and handle maps as the explicit model, one for each action and
each way through the rows. What the model says of one peer, this abstraction cannot: any number of handles may raise
in one look. So it admits all that the model does and some things more, and what it proves holds for both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Final

import z3

from kvsender_spec.formal.model.effects import BLAME, BLAMES, LEAVE, OPEN, SAY
from kvsender_spec.formal.model.handles import CREATED, IN_FLIGHT, NONE, SILENT, STRAY, Kind, Op, handle_ops, name_of
from kvsender_spec.formal.model.state import Act, Cause, Control
from kvsender_spec.formal.model.steps import BLAMED, CALLS
from kvsender_spec.formal.model.terms import CONTROL, Var
from kvsender_spec.formal.rules import Rules
from kvsender_spec.formal.smt.abstract import (
    CAUSE,
    LOGICAL,
    NO,
    TOLD,
    YES,
    Abstract,
    Choice,
    Counters,
    Term,
    Transition,
    both,
    count,
    literal,
    none_of,
    total,
    translate,
)
from kvsender_spec.formal.smt.call import Call, Taken
from kvsender_spec.machine import Guard, Input, State


class Relation:
    """The transitions of one set of rules, for every number of chunks and of peers."""

    def __init__(self, rules: Rules) -> None:
        self.rules: Final = rules
        self.ops: Final = handle_ops(rules)
        ops = self.ops
        own = self._closed_under_maps({NONE, STRAY, CREATED, ops.accepted, ops.rejected})
        old = self._closed_under_maps({ops[Op.FORGOTTEN][ops[Op.OVERDUE][code]] for code in own})
        self.chunks: Final = z3.Int("chunks")
        self.peers: Final = z3.Int("peers")
        self.before: Final = Abstract(
            logical=z3.Const("logical", LOGICAL.sort),
            cause=z3.Const("cause", CAUSE.sort),
            faulted=z3.Bool("faulted"),
            closed=z3.Bool("closed"),
            cleared=z3.Bool("cleared"),
            quarantined=z3.Bool("quarantined"),
            base=z3.Int("base"),
            posted=z3.Int("posted"),
            said=z3.Const("said", TOLD.sort),
            told=z3.Const("told", TOLD.sort),
            made=z3.Int("made"),
            made_before=z3.Int("made_before"),
            own={code: z3.Int(f"own {name_of(code)}") for code in own},
            old={code: z3.Int(f"old {name_of(code)}") for code in old},
        )
        self.choice: Final = Choice(
            accepting=z3.Int("accepting"),
            late=z3.Bool("late"),
            drained=z3.Bool("drained"),
            raising={code: z3.Int(f"raising own {name_of(code)}") for code in own if code in SILENT},
            raising_old={code: z3.Int(f"raising old {name_of(code)}") for code in old if code in SILENT},
        )
        zero = z3.IntVal(0)
        state = replace(
            self.before, made=zero, made_before=zero, own=dict.fromkeys(own, zero), old=dict.fromkeys(old, zero)
        )
        for which, value in zip(CONTROL, Control(), strict=True):
            state = state.having(which, literal(value))
        self.initial = state
        self.transitions = tuple(self._transitions())

    def _closed_under_maps(self, codes: set[int]) -> tuple[int, ...]:
        """The codes that can come of these: whatever a broken table leads to, and no others."""
        found = codes
        while codes:
            codes = {table[code] for table in self.ops.maps.values() for code in codes} - found
            found = found | codes
        return tuple(sorted(found))

    # -------------------------------------------------------------------------------------------- the actions

    def _transitions(self) -> Iterator[Transition]:
        """Every way through every action, in the order of ``Act``."""
        lower: Mapping[Act, Callable[[], Iterator[Transition]]] = {
            Act.FINISH: self._finishes,
            Act.SEND: lambda: self._sends(Act.SEND),
            Act.SEND_LAST: lambda: self._sends(Act.SEND_LAST),
            Act.POLL: self._polls,
            Act.OPEN: self._opens,
            Act.SWEEP: self._sweeps,
        }
        for act in Act:
            yield from lower[act]() if act in lower else self._calls(act)

    def _finishes(self) -> Iterator[Transition]:
        state = self.before
        for own, counters in ((True, state.own), (False, state.old)):
            for code in counters:
                if code not in SILENT:
                    continue
                landing = dict(counters)
                landing[code] = landing[code] - 1
                landing[self.ops[Op.FINISHED][code]] = landing[self.ops[Op.FINISHED][code]] + 1
                after = replace(state, own=landing) if own else replace(state, old=landing)
                path = f"{'own' if own else 'earlier'} {name_of(code)}"
                yield Transition(Act.FINISH, path, counters[code] > 0, after, own=own)

    def _sends(self, act: Act) -> Iterator[Transition]:
        last, state, peers = act is Act.SEND_LAST, self.before, self.peers
        accepting = self.choice.accepting
        for source in State:
            if not self.rules.posts(source):
                continue
            left = state.posted < self.chunks if last else state.posted + 1 < self.chunks
            can = both([self._is_in(source), z3.Not(state.closed), left])
            for rejected in (False, True):
                made: dict[int, list[z3.ArithRef]] = {code: [] for code in state.own}
                made[self.ops.accepted].append(accepting if rejected else peers)
                what, when = Input.SEND_LAST_ACCEPTED if last else Input.SEND_ACCEPTED, can
                call = self._call(source)
                if rejected:
                    # Every handle of the chunk is made before the first is posted; a rejection ends the posting.
                    made[self.ops.rejected].append(z3.IntVal(1))
                    made[CREATED].append(peers - accepting - 1)
                    what, when = Input.SEND_REJECTED, both([can, accepting >= 0, accepting < peers])
                    call = call.changed(BLAME)
                posted = replace(call.state, posted=state.posted + 1, made=state.made + peers)
                fresh = {code: total(terms) for code, terms in made.items()}
                for taken in replace(call, state=posted, fresh=fresh).taken(self.rules, what):
                    path = f"{source.value}, {what.value}"
                    send = self._transition(act, path, z3.And(when, taken.when), taken.call)
                    yield replace(send, troubled=YES if rejected else NO)

    def _calls(self, act: Act) -> Iterator[Transition]:
        for source in State:
            call = self._call(source).changed(BLAME if act in BLAMED else ())
            for taken in call.taken(self.rules, CALLS[act]):
                yield self._transition(act, source.value, z3.And(self._is_in(source), taken.when), taken.call)

    def _polls(self) -> Iterator[Transition]:
        for source in State:
            troubled = total(self.choice.raising.values()) > 0 if self.rules.asks(source) else NO
            for asked, observed in self._observed(source):
                room = observed.call
                settled = count(room.state.own, (code for code in room.state.own if code not in self.ops.settled)) == 0
                may_report = z3.Or(self.choice.drained, settled)
                for answered in room.having(Var.MAY_REPORT, may_report).taken(self.rules, Input.ANSWER):
                    when = both([self._is_in(source), asked, observed.when, answered.when])
                    path = [source.value, observed.row, f"then {room.logical.value}", answered.row]
                    returned = answered.call.changed(SAY).changed(LEAVE)
                    poll = self._transition(Act.POLL, ", ".join(word for word in path if word), when, returned)
                    seen, asks = answered.call.seen(), self.rules.asks(source)
                    yield replace(poll, seen=seen, asks=asks, troubled=troubled)

    def _observed(self, source: State) -> Iterator[tuple[z3.BoolRef, Taken]]:
        """The first half of a poll: what the handles may answer, and what the rows make of it."""
        call, choice, state = self._call(source), self.choice, self.before
        asked = z3.Not(choice.late)
        if self.rules.asks(source):
            raised = total(choice.raising.values())
            own = self._answered(state.own, choice.raising)
            facts: Mapping[Var, Term] = {
                Var.ERROR_SEEN: raised > 0,
                Var.ALL_DONE: z3.And(state.closed, none_of(own, Kind.UNDONE)),
                Var.DEADLINE_PASSED: choice.late,
            }
            call = replace(call, state=replace(state, own=own), known={**call.known, **facts})
            overdue = both([YES if self.rules.minds(source) else NO, raised == 0, count(state.own, IN_FLIGHT) > 0])
            asked = both([self._raises(state.own, choice.raising), z3.Implies(choice.late, overdue)])
        call = call.changed(BLAME, call.formula.of(BLAMES))
        for taken in call.taken(self.rules, Input.OBSERVE):
            yield asked, taken

    def _opens(self) -> Iterator[Transition]:
        before = self.before
        room = self._call(State.IDLE).changed(OPEN).frozen()
        old = {code: n + room.own[code] for code, n in room.old.items()}
        none = dict.fromkeys(room.own, z3.IntVal(0))
        after = replace(room, made=z3.IntVal(0), made_before=before.made_before + before.made, own=none, old=old)
        yield Transition(Act.OPEN, "", z3.And(before.cleared, before.posted < self.chunks), after)

    def _sweeps(self) -> Iterator[Transition]:
        state, choice = self.before, self.choice
        old = self._swept(state.old, choice.raising_old)
        only_old = both([z3.Not(state.over), self._raises(state.old, choice.raising_old), self._sweepable(state.old)])
        yield Transition(Act.SWEEP, "earlier handles", only_old, replace(state, old=old))
        every = both(
            [
                state.over,
                self._raises(state.old, choice.raising_old),
                self._raises(state.own, choice.raising),
                z3.Or(self._sweepable(state.old), self._sweepable(state.own)),
            ]
        )
        own = self._swept(state.own, choice.raising)
        yield Transition(Act.SWEEP, "every handle", every, replace(state, old=old, own=own))

    # -------------------------------------------------------------------------------------------- their parts

    def _call(self, source: State) -> Call:
        """A call begins in this state."""
        facts = {Var(guard.value): NO for guard in Guard}
        return Call(self.ops, source, self.before, {Var.CAUSE_NOW: CAUSE(Cause.NONE), Var.ADOPTED: NO, **facts})

    def _is_in(self, source: State) -> z3.BoolRef:
        return self.before.logical == LOGICAL(source)

    def _transition(self, act: Act, path: str, when: z3.BoolRef, call: Call) -> Transition:
        return Transition(act, path, when, call.frozen(), call.reply, call.seen(), call.broken)

    def _raises(self, counters: Counters, raising: Counters) -> z3.BoolRef:
        """Silent handles raise, and no more than there are."""
        return both(z3.And(n >= 0, n <= counters[code]) for code, n in raising.items())

    def _answered(self, counters: Counters, raising: Counters) -> Counters:
        """The handles are asked: those that raise fail, the others say what is so."""
        answers: dict[int, list[z3.ArithRef]] = {code: [] for code in counters}
        for code, n in counters.items():
            fails = raising.get(code, z3.IntVal(0))
            answers[self.ops[Op.ANSWERING][code]].append(n - fails)
            answers[self.ops[Op.FAILING][code]].append(fails)
        return {code: total(terms) for code, terms in answers.items()}

    def _swept(self, counters: Counters, raising: Counters) -> Counters:
        return translate(translate(self._answered(counters, raising), self.ops[Op.RELEASED]), self.ops[Op.FORGOTTEN])

    def _sweepable(self, counters: Counters) -> z3.BoolRef:
        """There is something that a sweep can ask or release."""
        return count(counters, self.ops.due) > 0
