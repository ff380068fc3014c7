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

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final, Generic, TypeAlias, TypeVar, assert_never

import z3

from kvsender_spec.formal.model.handles import (
    CREATED,
    DONE,
    IN_FLIGHT,
    NONE,
    SILENT,
    STRAY,
    UNSETTLED,
    handle_ops,
    name_of,
)
from kvsender_spec.formal.model.state import Act, Cause, Told
from kvsender_spec.formal.rules import Rules
from kvsender_spec.machine import Effect, Guard, Input, Reply, State

_E = TypeVar("_E", bound=Enum)


class Words(Generic[_E]):
    """A Python enum as a finite sort, with a constant for each member."""

    def __init__(self, enum: type[_E]) -> None:
        members = list(enum)
        self.sort, constants = z3.EnumSort(enum.__name__, [f"{enum.__name__}.{member.name}" for member in members])
        self._constants: Final = dict(zip(members, constants, strict=True))

    def __call__(self, member: _E) -> z3.DatatypeRef:
        return self._constants[member]

    def named(self, constant: z3.DatatypeRef) -> _E:
        """The member that a constant stands for, as in a solver's model."""
        return next(member for member, own in self._constants.items() if own.decl().name() == constant.decl().name())

    def one_of(self, term: z3.DatatypeRef, members: Iterable[_E]) -> z3.BoolRef:
        return either(term == self(member) for member in members)


def both(terms: Iterable[z3.BoolRef]) -> z3.BoolRef:
    return z3.And(z3.BoolVal(True), *terms)


def either(terms: Iterable[z3.BoolRef]) -> z3.BoolRef:
    return z3.Or(z3.BoolVal(False), *terms)


def total(terms: Iterable[z3.ArithRef]) -> z3.ArithRef:
    return z3.Sum([z3.IntVal(0), *terms])


LOGICAL: Final = Words(State)
CAUSE: Final = Words(Cause)
TOLD: Final = Words(Told)

Counters: TypeAlias = Mapping[int, z3.ArithRef]
"""How many handles there are, by code. NONE counts those whose place is free again."""
Term: TypeAlias = z3.BoolRef | z3.ArithRef | z3.DatatypeRef


@dataclass(frozen=True)
class Abstract:
    """``ModelState``, with counters for its handles and, for each of the two, how many have been made in all."""

    logical: z3.DatatypeRef
    cause: z3.DatatypeRef
    faulted: z3.BoolRef
    closed: z3.BoolRef
    cleared: z3.BoolRef
    quarantined: z3.BoolRef
    base: z3.ArithRef
    posted: z3.ArithRef
    said: z3.DatatypeRef
    told: z3.DatatypeRef
    made: z3.ArithRef
    """Own handles: the model's ``(posted - base) * peers``."""
    made_before: z3.ArithRef
    """The earlier incarnations': the model's ``base * peers``."""
    own: Counters
    old: Counters

    def terms(self) -> Iterator[tuple[str, Term]]:
        """Every component with its name, always in the same order."""
        yield "logical", self.logical
        yield "cause", self.cause
        yield "faulted", self.faulted
        yield "closed", self.closed
        yield "cleared", self.cleared
        yield "quarantined", self.quarantined
        yield "base", self.base
        yield "posted", self.posted
        yield "said", self.said
        yield "told", self.told
        yield "made", self.made
        yield "made_before", self.made_before
        yield from ((f"own {name_of(code)}", n) for code, n in self.own.items())
        yield from ((f"old {name_of(code)}", n) for code, n in self.old.items())

    @property
    def over(self) -> z3.BoolRef:
        """The system looks after the room's handles now."""
        return z3.Or(self.cleared, self.said != TOLD(Told.NOTHING))


def count(counters: Counters, codes: Iterable[int]) -> z3.ArithRef:
    """How many handles have one of these codes."""
    return total(counters[code] for code in codes if code in counters)


def translate(counters: Counters, table: bytes) -> Counters:
    """What ``bytes.translate`` does to listed handles."""
    return {code: total(n for source, n in counters.items() if table[source] == code) for code in counters}


@dataclass(frozen=True)
class Choice:
    """What the world decides within one step."""

    accepting: z3.ArithRef
    """The peers that accept before one rejects."""
    late: z3.BoolRef
    drained: z3.BoolRef
    raising: Counters
    """How many own handles raise, by the code that they have before. Only silent ones do."""
    raising_old: Counters


@dataclass(frozen=True)
class Transition:
    """One way through one action."""

    act: Act
    path: str
    """The rows, in words."""
    guard: z3.BoolRef
    after: Abstract
    reply: Reply = Reply.NOTHING
    seen: Counters | None = None
    """The room's own handles at the time of the reply; None where the owner gets none."""
    broken: z3.BoolRef = field(default_factory=lambda: z3.BoolVal(False))
    """The step itself breaks a clause: a forbidden input, or a second word to the peers."""
    asks: bool = False
    """It is a poll that asks the handles."""
    own: bool = False
    """It happens to the room's own handles (FINISH only)."""

    def __str__(self) -> str:
        return f"{self.act.name.lower()}: {self.path}" if self.path else self.act.name.lower()


@dataclass(frozen=True)
class _Call:
    """A room in the middle of a call of the owner. The logical state is known; everything else is a term."""

    logical: State
    state: Abstract
    fresh: Counters
    """Handles that this call has made and not yet adopted."""
    cause_now: z3.DatatypeRef
    """What a LATCH of this call latches."""
    broken: z3.BoolRef

    def blamed(self, when: z3.BoolRef) -> _Call:
        """Something goes wrong. If it is the first such thing in a room that is not over, the owner is owed it."""
        first = z3.And(self.state.said == TOLD(Told.NOTHING), z3.Not(self.state.faulted))
        now = z3.If(first, CAUSE(Cause.FIRST), CAUSE(Cause.LATER))
        faulted = z3.Or(self.state.faulted, z3.And(when, first))
        return replace(self, cause_now=z3.If(when, now, self.cause_now), state=replace(self.state, faulted=faulted))

    def frozen(self) -> Abstract:
        """The state that the call leaves: what it has not adopted is lost."""
        own = dict(self.state.own)
        own[STRAY] = own[STRAY] + total(self.fresh.values())
        return replace(self.state, logical=LOGICAL(self.logical), own=own)


@dataclass(frozen=True)
class _Taken:
    """An input, taken one way: when, what comes of it, and which row it was."""

    when: z3.BoolRef
    call: _Call
    reply: Reply
    row: str


class Relation:
    """The transitions of one set of rules, for every number of chunks and of peers."""

    def __init__(self, rules: Rules) -> None:
        self.rules: Final = rules
        self.ops: Final = handle_ops(rules)
        ops = self.ops
        self._maps: Final = (ops.finish, ops.answer, ops.fail, ops.release, ops.overdue, ops.forget)
        own = self._closed_under_maps({NONE, STRAY, CREATED, ops.accepted, ops.rejected})
        old = self._closed_under_maps({ops.forget[ops.overdue[code]] for code in own})
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
        self.initial = self._fresh(z3.IntVal(0), z3.IntVal(0), {code: z3.IntVal(0) for code in old})
        self.transitions = tuple(self._transitions())

    def _closed_under_maps(self, codes: set[int]) -> tuple[int, ...]:
        """The codes that can come of these: whatever a broken table leads to, and no others."""
        found = codes
        while codes:
            codes = {table[code] for table in self._maps for code in codes} - found
            found = found | codes
        return tuple(sorted(found))

    def _fresh(self, posted: z3.ArithRef, made_before: z3.ArithRef, old: Counters) -> Abstract:
        """A room that has just been opened."""
        no, zero = z3.BoolVal(False), z3.IntVal(0)
        return Abstract(
            logical=LOGICAL(State.IDLE),
            cause=CAUSE(Cause.NONE),
            faulted=no,
            closed=no,
            cleared=no,
            quarantined=no,
            base=posted,
            posted=posted,
            said=TOLD(Told.NOTHING),
            told=TOLD(Told.NOTHING),
            made=zero,
            made_before=made_before,
            own={code: zero for code in self.before.own},
            old=old,
        )

    # ---------------------------------------------------------------------------------------------- one input

    def _call(self, source: State) -> _Call:
        nothing = {code: z3.IntVal(0) for code in self.before.own}
        return _Call(source, self.before, nothing, CAUSE(Cause.NONE), z3.BoolVal(False))

    def _take(self, call: _Call, what: Input, facts: Mapping[Guard, z3.BoolRef]) -> Iterator[_Taken]:
        """Every way in which an input can be decided: the first row whose guard holds."""
        source = call.logical
        if self.rules.breaks(source, what) is not None:
            yield _Taken(z3.BoolVal(True), replace(call, broken=z3.BoolVal(True)), Reply.NOTHING, "forbidden")
            return
        earlier: list[z3.BoolRef] = []
        for row in self.rules.rows_for(source, what):
            here = z3.BoolVal(True) if row.guard is None else facts.get(row.guard, z3.BoolVal(False))
            changed = call
            for effect in row.effects:
                changed = self._applied(changed, effect)
            dest = self.rules.destination(source, row.event)
            assert dest is not None, row  # the tables are well-formed
            if dest in (State.FAILED, State.STICKY_FAILED):
                changed = replace(changed, state=replace(changed.state, closed=z3.BoolVal(False)))
            when = both([*(z3.Not(guard) for guard in earlier), here])
            words = "otherwise" if row.guard is None and earlier else "" if row.guard is None else row.guard.value
            yield _Taken(when, replace(changed, logical=dest), row.reply, words)
            earlier.append(here)

    def _applied(self, call: _Call, effect: Effect) -> _Call:
        """One effect. Those of a row are applied one after the other, each to what the one before has left."""
        state = call.state
        match effect:
            case Effect.ADOPT:
                own = {code: state.own[code] + call.fresh[code] for code in state.own}
                return replace(call, state=replace(state, own=own), fresh={code: z3.IntVal(0) for code in call.fresh})
            case Effect.CLOSE:
                return replace(call, state=replace(state, closed=z3.BoolVal(True)))
            case Effect.LATCH:
                cause = z3.If(state.cause == CAUSE(Cause.NONE), call.cause_now, state.cause)
                return replace(call, state=replace(state, cause=cause))
            case Effect.RELEASE:
                return _mapped(call, self.ops.release)
            case Effect.QUARANTINE:
                return _mapped(replace(call, state=replace(state, quarantined=z3.BoolVal(True))), self.ops.overdue)
            case Effect.TELL_SUCCESS | Effect.TELL_FAILURE:
                word = TOLD(Told.SUCCESS if effect is Effect.TELL_SUCCESS else Told.FAILURE)
                again = z3.Or(call.broken, state.told != TOLD(Told.NOTHING))
                return replace(call, state=replace(state, told=word), broken=again)
            case Effect.FORGET:
                return replace(call, state=replace(state, cleared=z3.BoolVal(True)))
            case _:
                assert_never(effect)

    # -------------------------------------------------------------------------------------------- the actions

    def _transitions(self) -> Iterator[Transition]:
        """Every way through every action, in the order of ``Act``."""
        lower: Mapping[Act, Callable[[], Iterator[Transition]]] = {
            Act.FINISH: self._finishes,
            Act.SEND: lambda: self._sends(Act.SEND),
            Act.SEND_LAST: lambda: self._sends(Act.SEND_LAST),
            Act.SEND_NOTHING: lambda: self._calls(Act.SEND_NOTHING, Input.SEND_NOTHING, blames=False),
            Act.POLL: self._polls,
            Act.FAILURE_EXCEPTION: lambda: self._calls(Act.FAILURE_EXCEPTION, Input.FAILURE_EXCEPTION, blames=False),
            Act.ABORT: lambda: self._calls(Act.ABORT, Input.ABORT, blames=True),
            Act.CLEAR: lambda: self._calls(Act.CLEAR, Input.CLEAR, blames=True),
            Act.OPEN: self._opens,
            Act.SWEEP: self._sweeps,
        }
        for act in Act:
            yield from lower[act]()

    def _finishes(self) -> Iterator[Transition]:
        state = self.before
        for own, counters in ((True, state.own), (False, state.old)):
            for code in counters:
                if code not in SILENT:
                    continue
                landing = dict(counters)
                landing[code] = landing[code] - 1
                landing[self.ops.finish[code]] = landing[self.ops.finish[code]] + 1
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
                if rejected:
                    # Every handle of the chunk is made before the first is posted; a rejection ends the posting.
                    made[self.ops.rejected].append(z3.IntVal(1))
                    made[CREATED].append(peers - accepting - 1)
                    what = Input.SEND_REJECTED
                    when = both([can, accepting >= 0, accepting < peers])
                else:
                    what = Input.SEND_LAST_ACCEPTED if last else Input.SEND_ACCEPTED
                    when = can
                start = self._call(source)
                start = replace(
                    start,
                    state=replace(state, posted=state.posted + 1, made=state.made + peers),
                    fresh={code: total(terms) for code, terms in made.items()},
                ).blamed(z3.BoolVal(rejected))
                for taken in self._take(start, what, {}):
                    yield self._transition(act, f"{source.value}, {what.value}", z3.And(when, taken.when), taken)

    def _calls(self, act: Act, what: Input, *, blames: bool) -> Iterator[Transition]:
        for source in State:
            for taken in self._take(self._call(source).blamed(z3.BoolVal(blames)), what, {}):
                yield self._transition(act, source.value, z3.And(self._is_in(source), taken.when), taken)

    def _polls(self) -> Iterator[Transition]:
        for source in State:
            for asked, observed in self._observed(source):
                room = observed.call
                settled = count(room.state.own, (code for code in room.state.own if code not in self.ops.settled)) == 0
                may_report = {Guard.MAY_REPORT: z3.Or(self.choice.drained, settled)}
                for answered in self._take(room, Input.ANSWER, may_report):
                    when = both([self._is_in(source), asked, observed.when, answered.when])
                    path = [source.value, observed.row, f"then {room.logical.value}", answered.row]
                    poll = self._poll(", ".join(word for word in path if word), when, answered)
                    yield replace(poll, asks=self.rules.asks(source))

    def _poll(self, path: str, when: z3.BoolRef, answered: _Taken) -> Transition:
        """What is said is said once; what is settled and released needs no place after that."""
        state = answered.call.state
        word = {Reply.SUCCESS: Told.SUCCESS, Reply.FAILED: Told.FAILURE}.get(answered.reply)
        silent = state.said == TOLD(Told.NOTHING)
        said = state.said if word is None else z3.If(silent, TOLD(word), state.said)
        forgotten = translate(state.own, self.ops.forget)
        if word is None:
            own: Counters = {code: z3.If(silent, n, forgotten[code]) for code, n in state.own.items()}
        else:
            own = forgotten
        said_so = replace(answered, call=replace(answered.call, state=replace(state, said=said, own=own)))
        return replace(self._transition(Act.POLL, path, when, said_so), seen=state.own)

    def _observed(self, source: State) -> Iterator[tuple[z3.BoolRef, _Taken]]:
        """The first half of a poll: what the handles may answer, and what the rows make of it."""
        start, choice, state = self._call(source), self.choice, self.before
        if not self.rules.asks(source):
            for taken in self._take(start, Input.OBSERVE, {}):
                yield z3.Not(choice.late), taken
            return
        raised = total(choice.raising.values())
        own = self._answered(state.own, choice.raising)
        undone = count(own, (code for code in own if code not in DONE and code != NONE))
        facts = {
            Guard.ERROR_SEEN: raised > 0,
            Guard.ALL_DONE: z3.And(state.closed, undone == 0),
            Guard.DEADLINE_PASSED: choice.late,
        }
        minds = any(row.guard is Guard.DEADLINE_PASSED for row in self.rules.rows_for(source, Input.OBSERVE))
        overdue = both([z3.BoolVal(minds), raised == 0, count(state.own, IN_FLIGHT) > 0])
        asked = both([self._raises(state.own, choice.raising), z3.Implies(choice.late, overdue)])
        wrong = z3.Or(facts[Guard.ERROR_SEEN], z3.And(choice.late, z3.Not(facts[Guard.ALL_DONE])))
        start = replace(start, state=replace(state, own=own)).blamed(wrong)
        for taken in self._take(start, Input.OBSERVE, facts):
            yield asked, taken

    def _opens(self) -> Iterator[Transition]:
        state = self.before
        left = translate(translate(state.own, self.ops.overdue), self.ops.forget)
        over = translate(translate(state.old, self.ops.overdue), self.ops.forget)
        old = {code: over[code] + left[code] for code in over}
        after = self._fresh(state.posted, state.made_before + state.made, old)
        yield Transition(Act.OPEN, "", z3.And(state.cleared, state.posted < self.chunks), after)

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

    def _is_in(self, source: State) -> z3.BoolRef:
        return self.before.logical == LOGICAL(source)

    def _transition(self, act: Act, path: str, when: z3.BoolRef, taken: _Taken) -> Transition:
        call = taken.call
        seen = {code: n + call.fresh[code] for code, n in call.state.own.items()}
        return Transition(act, path, when, call.frozen(), taken.reply, seen, call.broken)

    def _raises(self, counters: Counters, raising: Counters) -> z3.BoolRef:
        """Silent handles raise, and no more than there are."""
        return both(z3.And(n >= 0, n <= counters[code]) for code, n in raising.items())

    def _answered(self, counters: Counters, raising: Counters) -> Counters:
        """The handles are asked: those that raise fail, the others say what is so."""
        answers: dict[int, list[z3.ArithRef]] = {code: [] for code in counters}
        for code, n in counters.items():
            fails = raising.get(code, z3.IntVal(0))
            answers[self.ops.answer[code]].append(n - fails)
            answers[self.ops.fail[code]].append(fails)
        return {code: total(terms) for code, terms in answers.items()}

    def _swept(self, counters: Counters, raising: Counters) -> Counters:
        return translate(translate(self._answered(counters, raising), self.ops.release), self.ops.forget)

    def _sweepable(self, counters: Counters) -> z3.BoolRef:
        """There is something that a sweep can ask or release."""
        return count(counters, (code for code in counters if code in UNSETTLED or self.ops.release[code] != code)) > 0


def _mapped(call: _Call, table: bytes) -> _Call:
    """The room's own handles change, those that this call has made among them."""
    own = translate(call.state.own, table)
    return replace(call, state=replace(call.state, own=own), fresh=translate(call.fresh, table))
